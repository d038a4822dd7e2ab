//! One record as a line: checksum, number, number of the first record of its batch, JSON.
//!
//! Batches tell a torn tail from damage: a batch is begun only after the one before it was durable, so a bad line is the
//! tail of an interrupted write exactly if no later line belongs to a batch begun after it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::canonical::sha256;

/// First line of the file: format and version.
pub const HEADER: &str = "lockstep-journal 1\n";

const CHECKSUM_CHARS: usize = 16;

/// A line that was read and whose checksum is right.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<R> {
    /// Its number, from 1, without gaps.
    pub number: u64,
    /// Number of the first record of its batch.
    pub batch: u64,
    /// What it says.
    pub record: R,
}

/// What the bytes of a journal hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents<R> {
    /// The records, in order.
    pub records: Vec<R>,
    /// Bytes up to the end of the last whole record.
    pub whole_bytes: usize,
    /// Bytes of an interrupted write at the end, which nothing rests on.
    pub torn_bytes: usize,
}

/// Damage that is no torn tail: nothing may be built on what is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Another format, or a newer version.
    #[error("the file does not begin with {:?}", HEADER.trim_end())]
    Header,
    /// A line in the midst is damaged or missing.
    #[error("record {number} is damaged or missing, and later ones are there")]
    Record {
        /// Its number.
        number: u64,
    },
    /// A line is whole, but this version cannot read what it says.
    #[error("record {number} cannot be read: {detail}")]
    Unknown {
        /// Its number.
        number: u64,
        /// Why.
        detail: String,
    },
}

/// The line of a record, with its newline.
///
/// # Errors
/// Only if the record cannot be put into JSON.
pub fn encode<R: Serialize>(number: u64, batch: u64, record: &R) -> serde_json::Result<String> {
    let body = format!("{number} {batch} {}", serde_json::to_string(record)?);
    Ok(format!("{} {body}\n", checksum(&body)))
}

/// Reads a whole journal. A torn tail is told, damage is refused.
///
/// # Errors
/// [`Damage`].
pub fn decode<R: DeserializeOwned>(bytes: &[u8]) -> Result<Contents<R>, Damage> {
    let mut records = Vec::new();
    if HEADER.as_bytes().starts_with(bytes) && bytes.len() < HEADER.len() {
        // The very first write was interrupted (or the file is empty): nothing was ever acknowledged.
        return Ok(Contents {
            records,
            whole_bytes: 0,
            torn_bytes: bytes.len(),
        });
    }
    let mut rest = bytes
        .strip_prefix(HEADER.as_bytes())
        .ok_or(Damage::Header)?;
    let mut number = 1;
    while !rest.is_empty() {
        let Some((raw, after)) = split_line(rest) else {
            break;
        };
        let Some((found, batch, json)) = parse(raw) else {
            break;
        };
        if found != number {
            return Err(Damage::Record { number });
        }
        let line = Line {
            number,
            batch,
            record: read(json, number)?,
        };
        records.push(line.record);
        number = number.saturating_add(1);
        rest = after;
    }
    if begun_after(rest, number) {
        return Err(Damage::Record { number });
    }
    Ok(Contents {
        records,
        whole_bytes: bytes.len().saturating_sub(rest.len()),
        torn_bytes: rest.len(),
    })
}

/// Whether some whole line in `rest` belongs to a batch that was begun after record `number`.
fn begun_after(rest: &[u8], number: u64) -> bool {
    rest.split(|&byte| byte == b'\n')
        .filter_map(parse)
        .any(|(_, batch, _)| batch > number)
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.get(1..)?))
}

fn parse(line: &[u8]) -> Option<(u64, u64, &str)> {
    let line = std::str::from_utf8(line).ok()?;
    let (found, body) = line.split_once(' ')?;
    if found != checksum(body) {
        return None;
    }
    let (number, body) = body.split_once(' ')?;
    let (batch, json) = body.split_once(' ')?;
    Some((number.parse().ok()?, batch.parse().ok()?, json))
}

fn read<R: DeserializeOwned>(json: &str, number: u64) -> Result<R, Damage> {
    serde_json::from_str(json).map_err(|error| Damage::Unknown {
        number,
        detail: error.to_string(),
    })
}

fn checksum(body: &str) -> String {
    let mut digest = sha256(body.as_bytes()).to_string();
    digest.truncate(CHECKSUM_CHARS);
    digest
}

#[cfg(test)]
mod tests {
    use crate::agent::journal::line::{Damage, HEADER, decode, encode};

    /// Batches of records 10, 20, ...; numbers run through.
    fn journal(batches: &[u64]) -> String {
        let mut text = HEADER.to_owned();
        let mut number = 1;
        for &size in batches {
            let batch = number;
            for _ in 0..size {
                text.push_str(&encode(number, batch, &(number * 10)).unwrap());
                number += 1;
            }
        }
        text
    }

    fn records(bytes: &[u8]) -> Result<(Vec<u64>, bool), Damage> {
        decode(bytes).map(|contents| (contents.records, contents.torn_bytes > 0))
    }

    #[test]
    fn every_cut_keeps_a_prefix() {
        let text = journal(&[1, 2, 1]);
        assert_eq!(
            records(text.as_bytes()).unwrap(),
            (vec![10, 20, 30, 40], false)
        );
        let mut seen = 0;
        for cut in 0..text.len() {
            let (read, torn) = records(&text.as_bytes()[..cut]).unwrap();
            assert!(read.len() >= seen && read.len() < 4);
            assert_eq!(torn, cut != 0 && !text[..cut].ends_with('\n'));
            seen = read.len();
        }
    }

    #[test]
    fn damage_before_a_later_batch_is_refused_and_within_the_last_batch_is_a_torn_tail() {
        let damaged = |batches: &[u64], line: usize| {
            let mut lines: Vec<String> = journal(batches).lines().map(str::to_owned).collect();
            lines[line] = lines[line].replace('0', "\0");
            records(format!("{}\n", lines.join("\n")).as_bytes())
        };
        assert_eq!(damaged(&[1, 1, 1], 1), Err(Damage::Record { number: 1 }));
        assert_eq!(damaged(&[1, 1, 1], 2), Err(Damage::Record { number: 2 }));
        assert_eq!(damaged(&[1, 1, 1], 3), Ok((vec![10, 20], true)));
        // A page of the last write is missing, a later page of it is there.
        assert_eq!(damaged(&[1, 3], 2), Ok((vec![10], true)));
        assert_eq!(damaged(&[1, 3, 1], 3), Err(Damage::Record { number: 3 }));
    }

    #[test]
    fn missing_lines_other_formats_and_unknown_records_are_refused() {
        let text = journal(&[1, 1, 1]);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.remove(2);
        let without = format!("{}\n", lines.join("\n"));
        assert_eq!(
            records(without.as_bytes()),
            Err(Damage::Record { number: 2 })
        );
        assert_eq!(records(b"lockstep-journal 2\n"), Err(Damage::Header));
        let unknown = format!("{HEADER}{}", encode(1, 1, &"text").unwrap());
        assert!(matches!(
            records(unknown.as_bytes()),
            Err(Damage::Unknown { number: 1, .. })
        ));
    }
}
