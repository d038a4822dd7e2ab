//! Naming schemes: a template's text with `<TAG>` places, filled when a key is made (api-v4 2.4).

use jiff::civil::Date;

use crate::coordinator::ops::errors::OpsError;
use crate::model::text::Label;

/// Longest scheme, characters.
const SCHEME_CHARS_MAX: usize = 255;

/// Shortest value of a tag, characters.
const VALUE_CHARS_MIN: usize = 2;

/// A scheme that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scheme {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Tag(String),
    Time(TimeTag),
}

/// Tags that are filled from dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeTag {
    LastActiveYear,
    LastActiveYearShort,
    LastActiveMonth,
    Year,
    YearShort,
    Month,
}

impl TimeTag {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "lastActiveYear" | "lay" | "lay/yyyy" | "lay/4" => Some(Self::LastActiveYear),
            "lastActiveYear/yy" | "lay/2" => Some(Self::LastActiveYearShort),
            "lastActiveMonth" | "lam" => Some(Self::LastActiveMonth),
            "yyyy" => Some(Self::Year),
            "yy" => Some(Self::YearShort),
            "mm" => Some(Self::Month),
            _ => None,
        }
    }

    fn text(self, today: Date, last_active: Date) -> String {
        match self {
            Self::LastActiveYear => format!("{:04}", last_active.year()),
            Self::LastActiveYearShort => format!("{:02}", last_active.year().rem_euclid(100)),
            Self::LastActiveMonth => format!("{:02}", last_active.month()),
            Self::Year => format!("{:04}", today.year()),
            Self::YearShort => format!("{:02}", today.year().rem_euclid(100)),
            Self::Month => format!("{:02}", today.month()),
        }
    }
}

/// Names that API v4 keeps for itself and that are not ours to fill.
const RESERVED: [&str; 10] = [
    "seqno",
    "sqn",
    "SEQUENCENUMBER",
    "hierarchy",
    "h",
    "hier",
    "keyType",
    "kt",
    "institutionId",
    "iid",
];

impl Scheme {
    /// Reads a scheme.
    pub(crate) fn parse(text: &str) -> Result<Self, OpsError> {
        let invalid =
            |message: String| OpsError::invalid("naming_scheme", "invalid_naming_scheme", message);
        if text.is_empty() || text.chars().count() > SCHEME_CHARS_MAX {
            return Err(invalid(format!("1 to {SCHEME_CHARS_MAX} characters")));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (fixed, after) = rest.split_once('<').unwrap_or((rest, ""));
            if !fixed.is_empty() {
                Label::new(fixed).map_err(|error| invalid(error.to_string()))?;
                parts.push(Part::Text(fixed.to_owned()));
            }
            if fixed.len() == rest.len() {
                break;
            }
            let Some((name, behind)) = after.split_once('>') else {
                return Err(invalid("a < has no >".to_owned()));
            };
            parts.push(tag(name).map_err(invalid)?);
            rest = behind;
        }
        Ok(Self { parts })
    }

    /// Whether a date is part of the labels it makes.
    pub(crate) fn is_dated(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Time(_)))
    }

    /// The label for these values; every tag needs one, and each value a tag.
    pub(crate) fn fill(
        &self,
        values: &[(String, String)],
        today: Date,
        last_active: Date,
    ) -> Result<Label, OpsError> {
        let is_known = |name: &str| {
            self.parts
                .iter()
                .any(|part| matches!(part, Part::Tag(tag) if tag == name))
        };
        if let Some((name, _)) = values.iter().find(|(name, _)| !is_known(name)) {
            let message = format!("the naming scheme has no tag {name:?}");
            return Err(OpsError::invalid("label_tags", "unknown_tag", message));
        }
        let mut label = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => label.push_str(text),
                Part::Time(time) => label.push_str(&time.text(today, last_active)),
                Part::Tag(tag) => label.push_str(value(tag, values)?),
            }
        }
        Label::new(label)
            .map_err(|error| OpsError::invalid("label_tags", "invalid_label", error.to_string()))
    }

    /// The values that give this label; none where no values do.
    pub(crate) fn values(
        &self,
        label: &str,
        today: Date,
        last_active: Date,
    ) -> Option<Vec<(String, String)>> {
        let mut values = Vec::new();
        fits(&self.parts, label, today, last_active, &mut values).then_some(values)
    }
}

fn tag(name: &str) -> Result<Part, String> {
    if let Some(time) = TimeTag::from_name(name) {
        return Ok(Part::Time(time));
    }
    let base = name.split('/').next().unwrap_or(name);
    if RESERVED.contains(&base) {
        return Err(format!("the system tag <{name}> is not supported"));
    }
    let fits = (1..=20).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric());
    if fits {
        Ok(Part::Tag(name.to_owned()))
    } else {
        Err(format!(
            "a tag has 1 to 20 letters and digits, unlike <{name}>"
        ))
    }
}

fn value<'a>(tag: &str, values: &'a [(String, String)]) -> Result<&'a str, OpsError> {
    let mut given = values.iter().filter(|(name, _)| name == tag);
    let (Some((_, value)), None) = (given.next(), given.next()) else {
        let message = format!("the naming scheme needs exactly one value of {tag}");
        return Err(OpsError::invalid("label_tags", "missing_tag", message));
    };
    if value.chars().count() < VALUE_CHARS_MIN {
        let message = format!("the value of {tag} needs at least {VALUE_CHARS_MIN} characters");
        return Err(OpsError::invalid("label_tags", "too_short", message));
    }
    Ok(value)
}

/// Matches parts against text, the shortest value first; one tag has one value wherever it stands.
fn fits(
    parts: &[Part],
    text: &str,
    today: Date,
    last_active: Date,
    values: &mut Vec<(String, String)>,
) -> bool {
    let Some((first, rest)) = parts.split_first() else {
        return text.is_empty();
    };
    let fixed = match first {
        Part::Text(fixed) => Some(fixed.clone()),
        Part::Time(time) => Some(time.text(today, last_active)),
        Part::Tag(tag) => values
            .iter()
            .find(|(name, _)| name == tag)
            .map(|(_, value)| value.clone()),
    };
    if let Some(fixed) = fixed {
        return text
            .strip_prefix(fixed.as_str())
            .is_some_and(|behind| fits(rest, behind, today, last_active, values));
    }
    let Part::Tag(tag) = first else {
        return false;
    };
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    for end in ends.skip(VALUE_CHARS_MIN - 1) {
        let (value, behind) = text.split_at(end);
        values.push((tag.clone(), value.to_owned()));
        if fits(rest, behind, today, last_active, values) {
            return true;
        }
        values.pop();
    }
    false
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use crate::coordinator::ops::naming::Scheme;

    fn check(scheme: &str, values: &[(&str, &str)], expected: Result<&str, &str>) {
        let values: Vec<(String, String)> = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let (today, last) = (date(2026, 3, 1), date(2027, 11, 1));
        let label = Scheme::parse(scheme).and_then(|scheme| scheme.fill(&values, today, last));
        let told = label.as_ref().map(|label| label.as_str());
        match (told, expected) {
            (Ok(label), expected) => {
                assert_eq!(Ok(label), expected);
                let back = Scheme::parse(scheme).unwrap().values(label, today, last);
                assert_eq!(back, Some(values), "the label gives its values back");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (Err(error), Ok(label)) => panic!("{error} instead of {label}"),
        }
    }

    #[test]
    fn labels_from_schemes() {
        let two = [("APP", "PAY"), ("ENV", "PROD")];
        check("A-<APP>-AES256-<ENV>", &two, Ok("A-PAY-AES256-PROD"));
        check("K-<yyyy>-<mm>-<lay>-<lam>", &[], Ok("K-2026-03-2027-11"));
        check("<yy><lay/2>", &[], Ok("2627"));
        check("<APP>/<APP>", &[("APP", "PAY")], Ok("PAY/PAY"));
        check("A-<APP>", &[], Err("exactly one value of APP"));
        check("A-<APP>", &[("APP", "X")], Err("at least 2"));
        check("A", &[("APP", "PAY")], Err("no tag \"APP\""));
        check("A-<APP>", &[("APP", "a*b")], Err("may hold"));
        check("A-<APP", &[], Err("has no >"));
        check("A-<seqno/5>", &[], Err("not supported"));
        check("A-<a b>", &[], Err("1 to 20 letters"));
        check("", &[], Err("1 to 255"));
    }
}
