//! Figures of many, and the table of what was wanted and what was measured.

use std::time::Duration;

/// Times, kept whole; a percentile is the value below which so many lie.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<f64>);

impl Times {
    pub fn note(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1000.0);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds; none measured: not a number, which meets no bound.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(rank.min(last)).copied().unwrap_or(f64::NAN)
    }
}

impl Extend<Self> for Times {
    fn extend<T: IntoIterator<Item = Self>>(&mut self, all: T) {
        for one in all {
            self.0.extend(one.0);
        }
    }
}

/// Rise per hour of a straight line through what was read at so many seconds (least squares).
pub fn slope_per_hour(readings: &[(f64, f64)]) -> f64 {
    let n = readings.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| readings.iter().map(of).sum::<f64>() / n;
    let (at, value) = (mean(&|one| one.0), mean(&|one| one.1));
    let across: f64 = readings
        .iter()
        .map(|one| (one.0 - at) * (one.1 - value))
        .sum();
    let along: f64 = readings.iter().map(|one| (one.0 - at).powi(2)).sum();
    if along == 0.0 {
        0.0
    } else {
        3600.0 * across / along
    }
}

#[derive(Debug)]
struct Row {
    what: String,
    before: String,
    measured: String,
    wanted: String,
    verdict: &'static str,
}

/// The table. A row whose bound is broken fails the run when the table is done.
#[derive(Debug, Default)]
pub struct Table {
    title: String,
    rows: Vec<Row>,
    broken: Vec<String>,
}

impl Table {
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            ..Self::default()
        }
    }

    /// A figure, with the one it is to be compared with, and no bound.
    pub fn tell(&mut self, what: &str, before: &str, measured: &str) {
        self.row(what, before, measured, "", "");
    }

    /// A figure that must be at most so much.
    pub fn at_most(&mut self, what: &str, before: &str, measured: f64, bound: f64, unit: &str) {
        let (measured_text, wanted) = (
            format!("{measured:.1} {unit}"),
            format!("at most {bound:.1} {unit}"),
        );
        self.bound(what, before, &measured_text, &wanted, measured <= bound);
    }

    /// Something that must be so.
    pub fn bound(&mut self, what: &str, before: &str, measured: &str, wanted: &str, holds: bool) {
        if !holds {
            self.broken
                .push(format!("{what}: {measured}, wanted {wanted}"));
        }
        let verdict = if holds { "holds" } else { "BROKEN" };
        self.row(what, before, measured, wanted, verdict);
    }

    fn row(
        &mut self,
        what: &str,
        before: &str,
        measured: &str,
        wanted: &str,
        verdict: &'static str,
    ) {
        self.rows.push(Row {
            what: what.to_owned(),
            before: before.to_owned(),
            measured: measured.to_owned(),
            wanted: wanted.to_owned(),
            verdict,
        });
    }

    /// Prints it as Markdown; fails if a bound was broken.
    pub fn close(self) {
        println!("\n### {}\n", self.title);
        println!("| figure | baseline | measured | wanted | verdict |\n|---|---|---|---|---|");
        for row in &self.rows {
            println!(
                "| {} | {} | {} | {} | {} |",
                row.what, row.before, row.measured, row.wanted, row.verdict
            );
        }
        println!();
        assert!(
            self.broken.is_empty(),
            "broken:\n{}",
            self.broken.join("\n")
        );
    }
}

#[test]
fn a_percentile_is_a_value_that_was_measured() {
    let mut times = Times::default();
    assert!(times.percentile(99).is_nan());
    for ms in (1..=200).rev() {
        times.note(Duration::from_millis(ms));
    }
    assert_eq!((times.percentile(50), times.percentile(99)), (100.0, 198.0));
    assert_eq!(times.percentile(100), 200.0);
}

#[test]
fn a_slope_is_per_hour() {
    let rising: Vec<(f64, f64)> = (0..10)
        .map(|n| (f64::from(n), f64::from(n) * 2.0))
        .collect();
    assert!((slope_per_hour(&rising) - 7200.0).abs() < 1e-6);
    assert_eq!(slope_per_hour(&[(1.0, 5.0)]), 0.0);
}

#[test]
fn a_broken_bound_is_kept_for_the_end() {
    let mut table = Table::new("t");
    table.at_most("in time", "", 2.0, 2.0, "ms");
    assert_eq!(table.broken, Vec::<String>::new());
    table.at_most("late", "", 3.0, 2.0, "ms");
    table.at_most("never measured", "", f64::NAN, 2.0, "ms");
    assert_eq!(
        table.broken,
        [
            "late: 3.0 ms, wanted at most 2.0 ms",
            "never measured: NaN ms, wanted at most 2.0 ms"
        ]
    );
}
