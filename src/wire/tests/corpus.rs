//! The corpus that the fuzzing of the messages begins with (`tests/corpus/wire`): every message as this or an earlier version
//! wrote it. `LOCKSTEP_BLESS=1` writes it anew.

use std::path::Path;

use proptest::prelude::Strategy;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message;

use crate::model::ids::SessionNumber;
use crate::wire::calls::TakeOverCall;
use crate::wire::tests::arbitrary as any;
use crate::wire::tests::{arbitrary_adoption, arbitrary_token};
use crate::wire::v1;

/// What the corpus holds of one message: a deterministic handful of different ones.
const EACH: usize = 4;

/// The same in every run.
fn several<S: Strategy>(strategy: S) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    let mut one = || strategy.new_tree(&mut runner).unwrap().current();
    (0..EACH).map(|_| one()).collect()
}

fn take_over() -> impl Strategy<Value = TakeOverCall> {
    any::envelope().prop_map(|envelope| TakeOverCall {
        session: SessionNumber(7),
        envelope,
    })
}

macro_rules! corpus {
    ($($message:ident from $strategy:expr;)+) => {
        fn blessed() -> Vec<(String, Vec<u8>)> {
            let mut all = Vec::new();
            $(
                for (index, value) in several($strategy).into_iter().enumerate() {
                    let name = format!("{}-{index}", stringify!($message));
                    all.push((name, v1::$message::from(value).encode_to_vec()));
                }
            )+
            all
        }

        fn decodes(name: &str, bytes: &[u8]) -> bool {
            match name.split('-').next().unwrap() {
                $(stringify!($message) => v1::$message::decode(bytes).is_ok(),)+
                // Found by fuzzing: no message of ours.
                name => name == "found",
            }
        }
    };
}

corpus! {
    AdoptionRecord from arbitrary_adoption::adoption();
    Capabilities from arbitrary_token::capabilities();
    DescribeResponse from arbitrary_token::description();
    Down from any::down();
    ExamineRequest from arbitrary_adoption::examine();
    ExamineResponse from arbitrary_adoption::examined();
    GenerateRequest from any::generate();
    GenerateResponse from any::copy();
    KekRequest from any::kek_call();
    KekResponse from any::keks();
    ProbeResponse from arbitrary_token::description();
    ProveRequest from any::prove();
    ProveResponse from any::report();
    RewrapCopyRequest from any::rewrap_copy();
    RewrapCopyResponse from any::copy();
    RewrapRequest from any::rewrap();
    RewrapResponse from any::envelope();
    TakeOverRequest from take_over();
    TakeOverResponse from any::copy();
    TransportKeyResponse from any::endorsement();
    Up from any::up();
}

#[test]
fn every_message_is_in_the_corpus_and_can_still_be_read() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/wire");
    if std::env::var_os("LOCKSTEP_BLESS").is_some() {
        std::fs::create_dir_all(&directory).unwrap();
        for (name, bytes) in blessed() {
            std::fs::write(directory.join(name), bytes).unwrap();
        }
    }
    for (name, _) in blessed() {
        assert!(
            directory.join(&name).exists(),
            "{name}: LOCKSTEP_BLESS=1 makes it"
        );
    }
    for entry in std::fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(
            decodes(&name, &std::fs::read(entry.path()).unwrap()),
            "{name}"
        );
    }
}
