//! The codec of the gRPC calls: protobuf as everybody writes it, with one more bound on what is read.
//!
//! A limit on bytes bounds no memory: an empty message inside a list is two bytes on the wire and hundreds as a value, and
//! lists are only counted once they are decoded. So the parts of a message are counted before.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::Buf as _;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

use crate::wire::limits::PARTS_MAX;

/// Deepest nesting that prost decodes.
const DEPTH_MAX: usize = 100;

/// Encodes `T`, decodes `U`.
#[derive(Debug, Clone)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// Decodes `U`.
#[derive(Debug, Clone)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = source.copy_to_bytes(source.remaining());
        read(&bytes).map(Some)
    }
}

/// Decodes a message that arrived.
///
/// # Errors
/// `invalid_argument` for more than [`PARTS_MAX`] parts, before any of them takes memory; `internal` for what is no such
/// message.
pub fn read<U: Message + Default>(bytes: &[u8]) -> Result<U, Status> {
    let mut left = PARTS_MAX;
    count(bytes, &mut left, DEPTH_MAX);
    if left == 0 {
        let told = format!("the message has more than {PARTS_MAX} parts");
        return Err(Status::invalid_argument(told));
    }
    U::decode(bytes).map_err(|error| Status::internal(error.to_string()))
}

/// Counts length-delimited fields down to 0, in every field that could be a message: which ones are is not known here, and a
/// text that looks like one costs little. Stops where prost does: at the first byte that is no field.
fn count(mut rest: &[u8], left: &mut usize, depth: usize) {
    while *left > 0 {
        let Some((key, after)) = varint(rest) else {
            return;
        };
        let wire_type = key & 7;
        let value = match wire_type {
            0 => varint(after).map(|(_, after)| (0, after)),
            1 => Some((8, after)),
            2 => varint(after),
            5 => Some((4, after)),
            // Begin and end of groups, which nobody writes any more: keys without a value.
            _ => Some((0, after)),
        };
        let Some((value, after)) = value.and_then(|(length, after)| {
            let length = usize::try_from(length).ok()?;
            after.split_at_checked(length)
        }) else {
            return;
        };
        if wire_type == 2 {
            *left = left.saturating_sub(1);
            if let Some(depth) = depth.checked_sub(1) {
                count(value, left, depth);
            }
        }
        rest = after;
    }
}

/// A varint of at most ten bytes, and what is behind it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        let shift = u32::try_from(index).ok()?.checked_mul(7)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index.checked_add(1)?..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use tonic::Code;

    use crate::wire::codec::{PARTS_MAX, count, read};
    use crate::wire::limits::MESSAGE_BYTES_MAX;
    use crate::wire::tests::arbitrary as any;
    use crate::wire::v1;

    fn parts(bytes: &[u8]) -> usize {
        let mut left = PARTS_MAX;
        count(bytes, &mut left, 100);
        PARTS_MAX - left
    }

    #[test]
    fn empty_items_are_counted_before_they_take_memory() {
        let items = (MESSAGE_BYTES_MAX - 16) / 2;
        let list = [0x0a, 0].repeat(items);
        let length = u32::try_from(list.len()).unwrap();
        let mut varint = Vec::new();
        prost::encoding::encode_varint(u64::from(length), &mut varint);
        // Reports, and a list of objects: fields 4 and 5 of `Up`.
        for key in [0x22, 0x2a] {
            let bytes = [&[key][..], &varint, &list].concat();
            assert!(bytes.len() <= MESSAGE_BYTES_MAX);
            assert_eq!(
                read::<v1::Up>(&bytes).unwrap_err().code(),
                Code::InvalidArgument
            );
        }
        let largest = [
            size_of::<v1::Report>(),
            size_of::<v1::ObjectFacts>(),
            size_of::<v1::UsageTrial>(),
            size_of::<v1::Candidate>(),
            size_of::<v1::Examined>(),
        ];
        let most = PARTS_MAX * largest.into_iter().max().unwrap();
        assert!(most < 256 << 20, "{most} bytes");
    }

    #[test]
    fn the_largest_inventory_is_far_from_the_bound() {
        let object = v1::ObjectFacts::from(any::one(any::facts()));
        let objects = vec![object; crate::wire::limits::UNMANAGED_OBJECTS_MAX];
        let body = Some(v1::up::Body::Unmanaged(v1::Unmanaged { objects }));
        let bytes = v1::Up { seq: 1, body }.encode_to_vec();
        assert!(parts(&bytes) < PARTS_MAX / 2, "{}", parts(&bytes));
        read::<v1::Up>(&bytes).unwrap();
    }

    proptest! {
        #[test]
        fn no_part_is_overlooked(reports in proptest::collection::vec(any::report(), 0..5)) {
            let reports: Vec<_> = reports.into_iter().map(v1::Report::from).collect();
            let least = 1 + 2 * reports.len();
            let body = Some(v1::up::Body::Reports(v1::Reports { reports }));
            let message = v1::Up { seq: 7, body };
            let bytes = message.encode_to_vec();
            prop_assert!(parts(&bytes) >= least);
            prop_assert_eq!(read::<v1::Up>(&bytes).unwrap(), message);
        }
    }
}
