//! Figures and the table that shows them.

use lockstep::clock::Monotonic;

/// One row: a thing that was measured several times.
pub struct Row {
    what: String,
    runs: Vec<f64>,
    /// Index of the row that its ratio is taken against.
    against: Option<usize>,
}

/// A table of figures of one unit.
pub struct Table {
    title: String,
    unit: &'static str,
    rows: Vec<Row>,
}

impl Table {
    pub fn new(title: &str, unit: &'static str) -> Self {
        Self {
            title: title.to_owned(),
            unit,
            rows: Vec::new(),
        }
    }

    /// Adds a row; gives its index, to note runs and to be a baseline.
    pub fn row(&mut self, what: &str, against: Option<usize>) -> usize {
        self.rows.push(Row {
            what: what.to_owned(),
            runs: Vec::new(),
            against,
        });
        self.rows.len() - 1
    }

    pub fn note(&mut self, row: usize, value: f64) {
        self.rows[row].runs.push(value);
    }

    /// Runs something and notes its wall time in milliseconds.
    pub fn time<T>(&mut self, row: usize, work: impl FnOnce() -> T) -> T {
        let start = Monotonic::now();
        let result = work();
        self.note(row, start.elapsed().as_secs_f64() * 1000.0);
        result
    }

    pub fn print(&self) {
        println!("\n{} [{}]", self.title, self.unit);
        println!(
            "{:<64} {:>9} {:>9} {:>9} {:>5}  ratio of medians (of minima)",
            "", "min", "median", "max", "runs"
        );
        for row in &self.rows {
            let ratio = row.against.map_or_else(String::new, |index| {
                let base = &self.rows[index];
                format!(
                    "{:.2} ({:.2}) x {}",
                    row.median() / base.median(),
                    row.least() / base.least(),
                    base.what
                )
            });
            let most = row.runs.iter().copied().fold(f64::MIN, f64::max);
            println!(
                "{:<64} {:>9} {:>9} {:>9} {:>5}  {ratio}",
                row.what,
                figure(row.least()),
                figure(row.median()),
                figure(most),
                row.runs.len()
            );
        }
    }
}

impl Row {
    fn least(&self) -> f64 {
        self.runs.iter().copied().fold(f64::MAX, f64::min)
    }

    fn median(&self) -> f64 {
        let mut runs = self.runs.clone();
        runs.sort_by(f64::total_cmp);
        let middle = runs.len() / 2;
        if runs.len() % 2 == 1 {
            runs[middle]
        } else {
            f64::midpoint(runs[middle - 1], runs[middle])
        }
    }
}

fn figure(value: f64) -> String {
    if value >= 1000.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}
