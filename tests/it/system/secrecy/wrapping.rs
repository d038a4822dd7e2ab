//! Wrapping keys: one in the clear would open what is wrapped beside it. Their values are nobody's to know, so everything that
//! could be one is tried.

use std::collections::BTreeSet;

use aws_lc_rs::key_wrap::{AES_256, KeyEncryptionKey, KeyWrapPadded as _};
use lockstep::wire::v1::RewrapResponse;
use prost::Message as _;

use crate::support::http2::{messages, take_apart};
use crate::support::secrets::readings;
use crate::support::tap::Line;
use crate::system::secrecy::Place;
use crate::system::secrecy::known::{Known, unwrapped};

/// Nothing that crossed or that the store has opens a wrapped key: neither the repository's key nor an ephemeral one is there.
pub(crate) fn check_wrapping_keys(
    known: &[Known],
    lines: &[Line],
    crossed: &[Place],
    written: &[Place],
) {
    // All under one key: the shortest will do.
    let blobs = known.iter().map(|key| &key.copy.blob);
    let mut wrapped = vec![blobs.min_by_key(|blob| blob.len()).unwrap().clone()];
    for line in lines.iter().filter(|line| line.agent == "home") {
        for stream in take_apart(&line.up).streams.values() {
            let answers = messages(stream).into_iter();
            let answers = answers.filter_map(|(_, message)| RewrapResponse::decode(message).ok());
            let keys = answers.filter_map(|answer| Some(answer.envelope?.wrapped_key));
            wrapped.extend(keys.filter(|key| !key.is_empty()));
        }
    }
    assert!(wrapped.len() > known.len(), "envelopes were not seen");
    let messages = crossed
        .iter()
        .filter(|(place, _)| place.ends_with("a message"));
    let store = written
        .iter()
        .filter(|(place, _)| place.contains("store.sqlite"));
    let mut all = BTreeSet::new();
    for (_, bytes) in messages.chain(store) {
        all.extend(candidates(bytes));
    }
    assert!(!opens(&all, &wrapped), "a wrapping key is in the clear");

    let (own, mut room): (Vec<u8>, _) = ((0..32).collect(), [0; 64]);
    let kek = KeyEncryptionKey::new(&AES_256, &own).unwrap();
    let blob = kek.wrap_with_padding(b"a key", &mut room).unwrap().to_vec();
    let there = candidates(format!("[{own:?}]").as_bytes());
    assert!(
        opens(&there, &[blob]),
        "the search for wrapping keys is blind"
    );
}

/// All that may be a random key of 32 bytes: such a one has hardly ever fewer than 20 different bytes.
fn candidates(bytes: &[u8]) -> BTreeSet<[u8; 32]> {
    let read = readings(bytes);
    let windows = read.iter().flat_map(|(_, bytes)| bytes.windows(32));
    windows
        .filter(|window| different(window) >= 20)
        .map(|window| window.try_into().unwrap())
        .collect()
}

fn different(bytes: &[u8]) -> u32 {
    let mut met = [0_u128; 2];
    for byte in bytes {
        met[usize::from(byte >> 7)] |= 1 << (byte & 0x7f);
    }
    met[0].count_ones() + met[1].count_ones()
}

fn opens(keks: &BTreeSet<[u8; 32]>, wrapped: &[Vec<u8>]) -> bool {
    keks.iter().any(|kek| {
        wrapped
            .iter()
            .any(|wrapped| unwrapped(kek, wrapped).is_some())
    })
}
