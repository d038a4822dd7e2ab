//! Why a message could not be read, and the readers of single fields that say so.

use uuid::Uuid;

use crate::model::ids::Digest;
use crate::model::vault::UnixMs;

/// A message that is not what the contract says. Nothing of it was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidMessage {
    /// The path of the field, such as `intent.object.usage` or `reports[3].progress`.
    pub field: String,
    /// What is wrong with it, for people.
    pub problem: String,
}

impl InvalidMessage {
    /// A problem with one field.
    #[must_use]
    pub fn new(field: &str, problem: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            problem: problem.into(),
        }
    }

    /// The same problem, seen from the message that holds the one with the field.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        let field = if self.field.is_empty() {
            outer.to_owned()
        } else {
            format!("{outer}.{}", self.field)
        };
        Self { field, ..self }
    }
}

impl From<InvalidMessage> for tonic::Status {
    fn from(invalid: InvalidMessage) -> Self {
        Self::invalid_argument(invalid.to_string())
    }
}

/// A message field that must be there.
pub(in crate::wire) fn required<T>(value: Option<T>, field: &str) -> Result<T, InvalidMessage> {
    value.ok_or_else(|| InvalidMessage::new(field, "is missing"))
}

/// A message field that must be there and must be readable.
pub(in crate::wire) fn message<T, U>(value: Option<T>, field: &str) -> Result<U, InvalidMessage>
where
    U: TryFrom<T, Error = InvalidMessage>,
{
    U::try_from(required(value, field)?).map_err(|invalid| invalid.within(field))
}

/// A message field that may be missing, but must be readable.
pub(in crate::wire) fn optional<T, U>(
    value: Option<T>,
    field: &str,
) -> Result<Option<U>, InvalidMessage>
where
    U: TryFrom<T, Error = InvalidMessage>,
{
    value
        .map(|value| U::try_from(value).map_err(|invalid| invalid.within(field)))
        .transpose()
}

/// A list with a named maximum.
pub(in crate::wire) fn list<T, U>(
    values: Vec<T>,
    max: usize,
    field: &str,
) -> Result<Vec<U>, InvalidMessage>
where
    U: TryFrom<T, Error = InvalidMessage>,
{
    if values.len() > max {
        let problem = format!("has {} items, more than {max}", values.len());
        return Err(InvalidMessage::new(field, problem));
    }
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| {
            U::try_from(value).map_err(|invalid| invalid.within(&format!("{field}[{index}]")))
        })
        .collect()
}

/// One of our words out of a protobuf enum; unknown and unset ones are refused, never guessed.
pub(in crate::wire) fn word<W, M>(value: i32, field: &str) -> Result<M, InvalidMessage>
where
    W: TryFrom<i32>,
    M: TryFrom<W, Error = InvalidMessage>,
{
    let word = W::try_from(value)
        .map_err(|_unknown| InvalidMessage::new(field, format!("unknown value {value}")))?;
    M::try_from(word).map_err(|invalid| invalid.within(field))
}

/// A case that has nothing to say but that it is so.
pub(in crate::wire) fn is_so(value: bool, field: &str) -> Result<(), InvalidMessage> {
    if value {
        Ok(())
    } else {
        Err(InvalidMessage::new(field, "is false, which says nothing"))
    }
}

/// A UUID of 16 bytes as the id that `make` makes of it.
pub(in crate::wire) fn id<T>(
    bytes: &[u8],
    make: fn(Uuid) -> T,
    field: &str,
) -> Result<T, InvalidMessage> {
    <[u8; 16]>::try_from(bytes)
        .map(|bytes| make(Uuid::from_bytes(bytes)))
        .map_err(|_length| wrong_length(field, bytes.len(), 16))
}

/// A UUID that may be missing.
pub(in crate::wire) fn optional_id<T>(
    bytes: Option<Vec<u8>>,
    make: fn(Uuid) -> T,
    field: &str,
) -> Result<Option<T>, InvalidMessage> {
    bytes.map(|bytes| id(&bytes, make, field)).transpose()
}

/// A SHA-256 value of 32 bytes.
pub(in crate::wire) fn digest(bytes: &[u8], field: &str) -> Result<Digest, InvalidMessage> {
    Digest::from_slice(bytes).ok_or_else(|| wrong_length(field, bytes.len(), 32))
}

/// Bytes of exactly one length.
pub(in crate::wire) fn exactly(
    bytes: Vec<u8>,
    length: usize,
    field: &str,
) -> Result<Vec<u8>, InvalidMessage> {
    if bytes.len() == length {
        Ok(bytes)
    } else {
        Err(wrong_length(field, bytes.len(), length))
    }
}

/// Bytes with a named maximum.
pub(in crate::wire) fn at_most(
    bytes: Vec<u8>,
    max: usize,
    field: &str,
) -> Result<Vec<u8>, InvalidMessage> {
    if bytes.len() > max {
        Err(too_long(field, bytes.len(), max))
    } else {
        Ok(bytes)
    }
}

/// Bytes that may be missing, with a named maximum.
pub(in crate::wire) fn optional_at_most(
    bytes: Option<Vec<u8>>,
    max: usize,
    field: &str,
) -> Result<Option<Vec<u8>>, InvalidMessage> {
    bytes.map(|bytes| at_most(bytes, max, field)).transpose()
}

/// Text with a named maximum in bytes.
pub(in crate::wire) fn text(
    text: String,
    max: usize,
    field: &str,
) -> Result<String, InvalidMessage> {
    if text.len() > max {
        Err(too_long(field, text.len(), max))
    } else {
        Ok(text)
    }
}

/// A time that is signed over: those before 1970 are refused, as their canonical bytes would be those of one after.
pub(in crate::wire) fn signed_time(at_ms: i64, field: &str) -> Result<UnixMs, InvalidMessage> {
    if at_ms < 0 {
        Err(InvalidMessage::new(field, "is before 1970"))
    } else {
        Ok(UnixMs(at_ms))
    }
}

fn wrong_length(field: &str, found: usize, wanted: usize) -> InvalidMessage {
    InvalidMessage::new(field, format!("has {found} bytes, not {wanted}"))
}

fn too_long(field: &str, found: usize, max: usize) -> InvalidMessage {
    InvalidMessage::new(field, format!("has {found} bytes, more than {max}"))
}
