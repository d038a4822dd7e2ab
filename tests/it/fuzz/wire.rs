//! The messages of the gRPC calls: what the agent reads of a coordinator, and the coordinator of an agent.

use std::fmt::Debug;

use lockstep::model::keystore::Health;
use lockstep::model::material::{Endorsement, Envelope, RepositoryCopy, Signed};
use lockstep::model::protocol::{Description, Down, Report, Up};
use lockstep::wire::adoption::{ExamineAnswer, ExamineCall};
use lockstep::wire::calls::{GenerateCall, ProveCall, RewrapCall, TakeOverCall};
use lockstep::wire::codec;
use lockstep::wire::invalid::InvalidMessage;
use lockstep::wire::kek::{KekCall, Keks, RewrapCopyCall};
use lockstep::wire::v1;
use prost::Message;
use prost::encoding::{decode_varint, encode_varint};

use crate::support::fuzz::Target;

/// What was read is written and read again as the same.
fn reads<M, W>(bytes: &[u8])
where
    W: Message + Default + From<M>,
    M: TryFrom<W, Error = InvalidMessage> + Clone + PartialEq + Debug,
{
    let Ok(message) = codec::read::<W>(bytes) else {
        return;
    };
    match M::try_from(message) {
        Err(refused) => assert!(!refused.to_string().is_empty()),
        Ok(value) => {
            let again = W::from(value.clone()).encode_to_vec();
            assert_eq!(M::try_from(W::decode(again.as_slice()).unwrap()), Ok(value));
        }
    }
}

/// A change in some field, at whatever depth, with the lengths around it put right.
fn edit(bytes: &mut Vec<u8>, place: u64, change: &mut dyn FnMut(&mut Vec<u8>)) {
    let Some(mut fields) = fields(bytes) else {
        return change(bytes);
    };
    let nested: Vec<usize> = (0..fields.len())
        .filter(|at| fields[*at].1.is_some())
        .collect();
    let choices = nested.len() as u64 + 1;
    match nested.get((place % choices) as usize) {
        None => return change(bytes),
        Some(at) => {
            let value = fields[*at].1.as_mut().unwrap();
            edit(value, place / choices, change);
        }
    }
    bytes.clear();
    for (head, value) in fields {
        bytes.extend(head);
        if let Some(value) = value {
            encode_varint(value.len() as u64, bytes);
            bytes.extend(value);
        }
    }
}

/// A field: its key and, where it has a length, what is behind that; else all of it.
type Field = (Vec<u8>, Option<Vec<u8>>);

fn fields(bytes: &[u8]) -> Option<Vec<Field>> {
    let (mut fields, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let start = rest;
        let key = decode_varint(&mut rest).ok()?;
        let length = match key & 7 {
            0 => decode_varint(&mut rest).ok().map(|_| 0)?,
            1 => 8,
            5 => 4,
            2 => {
                let head = start[..start.len() - rest.len()].to_vec();
                let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                let (value, after) = rest.split_at_checked(length)?;
                fields.push((head, Some(value.to_vec())));
                rest = after;
                continue;
            }
            _ => return None,
        };
        rest = rest.get(length..)?;
        fields.push((start[..start.len() - rest.len()].to_vec(), None));
    }
    Some(fields)
}

#[test]
fn what_an_agent_reads_of_a_coordinator() {
    Target::new("wire", Vec::new(), |bytes| {
        reads::<Down, v1::Down>(bytes);
        reads::<GenerateCall, v1::GenerateRequest>(bytes);
        reads::<RewrapCall, v1::RewrapRequest>(bytes);
        reads::<TakeOverCall, v1::TakeOverRequest>(bytes);
        reads::<KekCall, v1::KekRequest>(bytes);
        reads::<RewrapCopyCall, v1::RewrapCopyRequest>(bytes);
        reads::<ProveCall, v1::ProveRequest>(bytes);
        reads::<ExamineCall, v1::ExamineRequest>(bytes);
    })
    .editing(edit)
    .cases(2000)
    .run();
}

#[test]
fn what_a_coordinator_reads_of_an_agent() {
    Target::new("wire", Vec::new(), |bytes| {
        reads::<Up, v1::Up>(bytes);
        reads::<Description, v1::DescribeResponse>(bytes);
        reads::<Description, v1::ProbeResponse>(bytes);
        reads::<RepositoryCopy, v1::GenerateResponse>(bytes);
        reads::<Signed<Envelope>, v1::RewrapResponse>(bytes);
        reads::<Signed<Endorsement>, v1::TransportKeyResponse>(bytes);
        reads::<RepositoryCopy, v1::TakeOverResponse>(bytes);
        reads::<Keks, v1::KekResponse>(bytes);
        reads::<RepositoryCopy, v1::RewrapCopyResponse>(bytes);
        reads::<Report, v1::ProveResponse>(bytes);
        reads::<ExamineAnswer, v1::ExamineResponse>(bytes);
        reads::<Health, v1::Health>(bytes);
    })
    .editing(edit)
    .cases(2000)
    .run();
}
