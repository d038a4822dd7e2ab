//! The pipe between agent and module host: what the child reads of its parent, and the parent of a child with somebody's
//! library in it.

use std::fmt::Debug;

use lockstep::keystore::host::frame;
use lockstep::keystore::host::protocol::{Answer, Pin, Request, Setup};
use lockstep::model::capabilities::Capabilities;
use lockstep::model::ids::{Digest, Epoch, KeyVersionId, KeystoreId};
use lockstep::model::job::{
    FailureKind, Generated, Glance, Inventory, Prepared, Ran, Slice, TokenAnswer, TokenFailure,
    TokenIdentity, TokenJob, TokenOutcome,
};
use lockstep::model::kek::{KekJob, KekNumber};
use lockstep::model::keystore::{Marker, TokenInfo};
use lockstep::model::observed::{
    Fingerprint, FingerprintMethod, Found, ObjectClass, ObjectFacts, Proof, ProofKind,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::host_faults::{GONE, OFF, plan, run};
use crate::support::fuzz::{Target, peak_kib};

fn facts() -> ObjectFacts {
    ObjectFacts {
        handle: 7,
        class: ObjectClass::Private,
        key_type: Some(3),
        cka_id: vec![0xaa; 16],
        label: "made".to_owned(),
        usage: plan().usage,
        sensitive: Some(true),
        extractable: None,
        bits: Some(256),
        public_digest: Some(Digest([3; 32])),
        fingerprint: Some(fingerprint()),
        modifiable: Some(true),
        copyable: None,
    }
}

fn slice() -> Slice {
    Slice {
        objects: vec![facts(), facts()],
        unreadable: 1,
        cpu_us: 7,
    }
}

fn glance() -> Glance {
    Glance {
        object: plan(),
        handles: vec![7],
    }
}

fn fingerprint() -> Fingerprint {
    Fingerprint {
        method: FingerprintMethod::Spki,
        value: Digest([4; 32]),
    }
}

fn found() -> Found {
    Found {
        objects: vec![facts(), facts()],
        fingerprint: Some(fingerprint()),
        same_label: vec![facts()],
        fingerprint_failure: Some("why".to_owned()),
    }
}

fn identity() -> TokenIdentity {
    let text = || "SoftHSM".to_owned();
    TokenIdentity {
        info: TokenInfo {
            label: text(),
            serial: text(),
            manufacturer: text(),
            model: text(),
            hardware: text(),
            firmware: text(),
            library: text(),
        },
        markers: vec![Marker {
            keystore: KeystoreId::from_uuid(Uuid::from_u128(7)),
            epoch: Epoch(1),
        }],
    }
}

fn answers() -> Vec<Vec<u8>> {
    let failure = TokenFailure {
        kind: FailureKind::Retry,
        function: "C_Sign".to_owned(),
        rv: "CKR_DEVICE_ERROR".to_owned(),
        detail: String::new(),
    };
    let done = [
        TokenAnswer::Identity(identity()),
        TokenAnswer::Bound,
        TokenAnswer::Prepared(Prepared {
            transport_spki: vec![1; 400],
            capabilities: Capabilities::best(),
        }),
        TokenAnswer::Inventory(Inventory {
            identity: identity(),
            rest: slice(),
        }),
        TokenAnswer::Slice(slice()),
        TokenAnswer::Found(found()),
        TokenAnswer::Surveyed(vec![None, Some(found()), None]),
        TokenAnswer::Ran(Box::new(Ran {
            done: 1,
            failure: Some(failure.clone()),
            proof: Some(Proof {
                kind: ProofKind::Tried,
                operation: "encrypt".to_owned(),
                answer: "CKR_OK".to_owned(),
            }),
            found: found(),
        })),
        TokenAnswer::Generated(Generated {
            blob: vec![1; 40],
            kek: KekNumber::FIRST,
            spki: Some(vec![2; 91]),
            fingerprint: fingerprint(),
        }),
        TokenAnswer::Keks(vec![KekNumber::FIRST]),
        TokenAnswer::Stopping,
    ];
    let why = "late".to_owned();
    let outcomes = done.into_iter().map(TokenOutcome::Done).chain([
        TokenOutcome::Failed(failure.clone()),
        TokenOutcome::Unknown { why },
    ]);
    let mut answers = vec![Answer::Opened, Answer::NotOpened(failure)];
    answers.extend(outcomes.map(|outcome| Answer::Outcome { id: 9, outcome }));
    answers
        .iter()
        .map(|one| frame::encode(one).unwrap())
        .collect()
}

fn requests() -> Vec<Vec<u8>> {
    let setup = Request::Setup(Setup {
        module: "/lib/module.so".into(),
        label: "home".to_owned(),
        serial: "0815".to_owned(),
        init_args: Some("configdir='sql:/x'".to_owned()),
        pin: Pin::new("1234".into()),
        unsure: false,
    });
    let generate = TokenJob::Generate {
        version: KeyVersionId::from_uuid(Uuid::from_u128(3)),
        spec: plan().spec,
        salt: vec![1; 32],
    };
    let jobs = [
        TokenJob::Identify,
        TokenJob::ScanOn,
        TokenJob::Survey(vec![glance(), glance()]),
        run(&[OFF, GONE]),
        generate,
        TokenJob::Kek(KekJob::Look),
        TokenJob::Stop,
    ];
    let mut requests = vec![setup];
    requests.extend(jobs.map(|job| Request::Job { id: 1, job }));
    requests
        .iter()
        .map(|one| frame::encode(one).unwrap())
        .collect()
}

/// All frames of a pipe, each written again as it was read.
fn reads<M: DeserializeOwned + Serialize + Debug>(mut pipe: &[u8]) {
    while let Ok(Some(message)) = frame::read::<M>(&mut pipe) {
        let written = frame::encode(&message).unwrap();
        let again = frame::read::<M>(&mut written.as_slice()).unwrap().unwrap();
        assert_eq!(frame::encode(&again).unwrap(), written);
    }
}

/// A change in the first frame's body, with its length put right.
fn edit(bytes: &mut Vec<u8>, _anywhere: u64, change: &mut dyn FnMut(&mut Vec<u8>)) {
    let mut body = bytes.split_off(bytes.len().min(4));
    change(&mut body);
    *bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend(body);
}

#[test]
fn what_the_agent_reads_of_a_module_host() {
    Target::new("answers", answers(), reads::<Answer>)
        .editing(edit)
        .cases(4000)
        .run();
}

#[test]
fn what_a_module_host_reads_of_the_agent() {
    Target::new("requests", requests(), reads::<Request>)
        .editing(edit)
        .cases(4000)
        .run();
}

/// One byte stands for a whole item that is not there.
#[test]
fn a_long_list_of_nothing_takes_no_memory() {
    let empty = Answer::Outcome {
        id: 9,
        outcome: TokenOutcome::Done(TokenAnswer::Surveyed(Vec::new())),
    };
    let mut body = frame::encode(&empty).unwrap()[4..].to_vec();
    assert_eq!(body.pop(), Some(0), "the length of the list");
    let items = frame::FRAME_BYTES_MAX - 64;
    let mut rest = items;
    while rest >= 0x80 {
        body.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    body.push(rest as u8);
    body.resize(body.len() + items, 0);
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(body);
    let before = peak_kib();
    reads::<Answer>(&bytes);
    let grown = peak_kib() - before;
    assert!(grown < 100 * 1024, "{grown} KiB more");
}
