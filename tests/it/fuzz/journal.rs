//! The agent's journal: the file as it is, and records with checksums that fit, as after an update or a restore.

use lockstep::agent::journal::line::{HEADER, decode, encode};
use lockstep::decide::agent::Machine;
use lockstep::decide::agent::io::{Input, Pace, Setup};
use lockstep::decide::agent::record::{JournalRecord, Phase, Proved, Record};
use lockstep::model::desired::{Intent, Want};
use lockstep::model::ids::{
    BootId, Digest, Epoch, Generation, KeyVersionId, KeystoreId, SessionNumber, Term,
};
use lockstep::model::observed::{Fingerprint, FingerprintMethod, Proof, ProofKind};
use lockstep::model::vault::UnixMs;
use serde_json::Value;
use uuid::Uuid;

use crate::host_faults::{MARKER, plan};
use crate::support::fuzz::Target;

fn records() -> Vec<JournalRecord> {
    let intent = |generation, want| Intent {
        version: KeyVersionId::from_uuid(Uuid::from_u128(5)),
        keystore: MARKER.keystore,
        generation: Generation(generation),
        want,
        object: plan(),
        fingerprint: Fingerprint {
            method: FingerprintMethod::DigestKey,
            value: Digest([9; 32]),
        },
    };
    let proof = Some(Proved {
        proof: Proof {
            kind: ProofKind::Tried,
            operation: "encrypt".to_owned(),
            answer: "CKR_OK".to_owned(),
        },
        at: UnixMs(1_700_000_000_000),
    });
    let record = |generation, want, phase| Record::Intent {
        intent: Box::new(intent(generation, want)),
        phase,
    };
    let records = [
        Record::Bound(MARKER),
        Record::Session {
            number: SessionNumber(3),
            highest: Term(2),
        },
        record(1, Want::Active, Phase::Intent),
        record(1, Want::Active, Phase::Done { proof }),
        record(2, Want::Destroyed, Phase::Intent),
    ];
    records.map(JournalRecord::V1).to_vec()
}

/// A machine that begins with these records, and puts them out again.
fn recover(records: Vec<JournalRecord>) {
    let setup = Setup {
        keystore: Some(KeystoreId::from_uuid(Uuid::from_u128(7))),
        epoch: Epoch(1),
        boot: BootId::from_uuid(Uuid::from_u128(8)),
        token_label: "home".to_owned(),
        token_serial: String::new(),
        clock: UnixMs(1_700_000_000_000),
        pace: Pace::default(),
    };
    let mut machine = Machine::recover(setup.clone(), records, 0);
    machine.step(0, Input::Tick, &mut Vec::new());
    let kept = machine.records();
    assert_eq!(Machine::recover(setup, kept.clone(), 0).records(), kept);
}

#[test]
fn the_file_is_read_or_refused() {
    let mut seed = HEADER.to_owned();
    for (number, record) in (1..).zip(records()) {
        seed.push_str(&encode(number, number.min(3), &record).unwrap());
    }
    Target::new("journal", vec![seed.into_bytes()], |bytes| {
        let Ok(contents) = decode::<JournalRecord>(bytes) else {
            return;
        };
        assert_eq!(contents.whole_bytes + contents.torn_bytes, bytes.len());
        recover(contents.records);
    })
    .run();
}

/// A change in one value of one record, which stays JSON.
fn edit(bytes: &mut Vec<u8>, place: u64, change: &mut dyn FnMut(&mut Vec<u8>)) {
    let mut lines: Vec<Vec<u8>> = bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let count = lines.len() as u64;
    let line = &mut lines[(place % count) as usize];
    match serde_json::from_slice::<Value>(line) {
        Err(_) => change(line),
        Ok(mut value) => {
            edit_value(&mut value, place / count, change);
            *line = serde_json::to_vec(&value).unwrap();
        }
    }
    *bytes = lines.join(&b'\n');
}

fn edit_value(value: &mut Value, place: u64, change: &mut dyn FnMut(&mut Vec<u8>)) {
    let mut inner: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let count = inner.len() as u64;
    if count > 0 {
        return edit_value(inner[(place % count) as usize], place / count, change);
    }
    let mut bytes = match value {
        Value::Number(number) => number.as_u64().unwrap_or(0).to_be_bytes().to_vec(),
        Value::String(text) => text.clone().into_bytes(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Vec::new(),
    };
    change(&mut bytes);
    *value = match value {
        Value::Number(_) => {
            let number = bytes
                .iter()
                .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            number.into()
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            String::from_utf8_lossy(&bytes).into()
        }
    };
}

#[test]
fn records_with_checksums_that_fit_are_taken_or_refused() {
    let lines: Vec<Vec<u8>> = records()
        .iter()
        .map(|record| serde_json::to_vec(record).unwrap())
        .collect();
    let mut seeds = vec![lines.join(&b'\n')];
    seeds.extend(lines);
    Target::new("journal-records", seeds, |bytes| {
        let mut text = HEADER.to_owned();
        let values = bytes.split(|byte| *byte == b'\n');
        let values = values.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        for (number, value) in (1..).zip(values) {
            text.push_str(&encode(number, number, &value).unwrap());
        }
        if let Ok(contents) = decode::<JournalRecord>(text.as_bytes()) {
            recover(contents.records);
        }
    })
    .editing(edit)
    .cases(4000)
    .run();
}
