//! Tables, fields and ages for people. What came from outside is made printable first.

use comfy_table::presets::NOTHING;

use crate::model::text::printable;
use crate::model::vault::UnixMs;

/// A table without lines: header, rows, two spaces between columns.
#[derive(Debug)]
pub struct Table {
    inner: comfy_table::Table,
}

impl Table {
    /// A table with these columns.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(NOTHING);
        inner.set_header(header.iter().copied());
        Self { inner }
    }

    /// Appends a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.inner.add_row(cells.iter().map(|cell| printable(cell)));
    }

    /// The lines, without spaces at either end.
    #[must_use]
    pub fn render(&self) -> String {
        let lines = self.inner.lines().map(|line| {
            let line = line.strip_prefix(' ').unwrap_or(&line);
            line.trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Names with values, one a line, the values under each other; fields without value are left out.
#[must_use]
pub fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = fields
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:width$}  {}", printable(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// `-` for nothing.
#[must_use]
pub fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

/// A name of the API as words.
#[must_use]
pub fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// How long ago a time (RFC 3339) was, in its largest unit; the text itself where it is no time.
#[must_use]
pub fn age(now: UnixMs, then: &str) -> String {
    let Ok(time) = then.parse::<jiff::Timestamp>() else {
        return then.to_owned();
    };
    let seconds = now.0.saturating_sub(time.as_millisecond()).max(0) / 1000;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::table::{Table, age, fields};
    use crate::model::vault::UnixMs;

    #[test]
    fn columns_stand_under_each_other() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(vec!["a".to_owned(), "active".to_owned()]);
        table.row(vec!["long-name".to_owned(), "x\u{202e}y".to_owned()]);
        let expected = "NAME       STATE\na          active\nlong-name  x\\u{202e}y";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn empty_fields_are_left_out() {
        let shown = fields(&[
            ("Name", "a".to_owned()),
            ("Description", String::new()),
            ("Id", "1".to_owned()),
        ]);
        assert_eq!(shown, "Name         a\nId           1");
    }

    #[test]
    fn ages_have_one_unit() {
        let check = |then: &str, expected: &str| {
            let now = "2026-11-23T12:00:00Z".parse::<jiff::Timestamp>().unwrap();
            assert_eq!(age(UnixMs(now.as_millisecond()), then), expected);
        };
        check("2026-11-23T11:59:59.500Z", "0 s");
        check("2026-11-23T11:58:01Z", "119 s");
        check("2026-11-23T11:00:00Z", "60 min");
        check("2026-11-23T00:00:00Z", "12 h");
        check("2026-11-01T00:00:00Z", "22 d");
        check("2026-11-24T00:00:00Z", "0 s");
        check("yesterday", "yesterday");
    }
}
