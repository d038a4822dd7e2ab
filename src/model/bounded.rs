//! Lists that are read with a bound: one more item than that is an error, and takes no memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

/// For `deserialize_with`: a list of at most `MOST` items.
///
/// # Errors
/// The deserializer's, and one for a longer list.
pub fn list<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(List::<T, MOST>(PhantomData))
}

struct List<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MOST {
                return Err(A::Error::invalid_length(MOST.saturating_add(1), &self));
            }
            list.push(item);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use crate::model::bounded;

    #[derive(Deserialize)]
    struct Three(#[serde(deserialize_with = "bounded::list::<_, _, 3>")] Vec<Option<[u64; 9]>>);

    #[test]
    fn a_longer_list_is_refused() {
        let read = |bytes: &[u8]| postcard::from_bytes::<Three>(bytes).map(|three| three.0.len());
        assert_eq!(read(&[3, 0, 0, 0]), Ok(3));
        read(&[4, 0, 0, 0, 0]).unwrap_err();
        // Items that are said to be there and are not.
        read(&[3, 0, 0]).unwrap_err();
    }
}
