//! What was seen on a token.

use crate::model::observed::{Fingerprint, Found, ObjectFacts, Observation, Proof};
use crate::wire::invalid::{
    InvalidMessage, at_most, digest, list, message, optional, required, text, word,
};
use crate::wire::key::usage;
use crate::wire::limits::{
    ATTRIBUTE_BYTES_MAX, FOUND_OBJECTS_MAX, LABEL_BYTES_MAX, OBSERVATION_DEPTH_MAX, TEXT_BYTES_MAX,
};
use crate::wire::v1;

impl From<Fingerprint> for v1::Fingerprint {
    fn from(fingerprint: Fingerprint) -> Self {
        Self {
            method: v1::FingerprintMethod::from(fingerprint.method).into(),
            value: fingerprint.value.0.to_vec(),
        }
    }
}

impl TryFrom<v1::Fingerprint> for Fingerprint {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Fingerprint) -> Result<Self, InvalidMessage> {
        Ok(Self {
            method: word::<v1::FingerprintMethod, _>(raw.method, "method")?,
            value: digest(&raw.value, "value")?,
        })
    }
}

impl From<Proof> for v1::Proof {
    fn from(proof: Proof) -> Self {
        Self {
            kind: v1::ProofKind::from(proof.kind).into(),
            operation: proof.operation,
            answer: proof.answer,
        }
    }
}

impl TryFrom<v1::Proof> for Proof {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Proof) -> Result<Self, InvalidMessage> {
        Ok(Self {
            kind: word::<v1::ProofKind, _>(raw.kind, "kind")?,
            operation: text(raw.operation, TEXT_BYTES_MAX, "operation")?,
            answer: text(raw.answer, TEXT_BYTES_MAX, "answer")?,
        })
    }
}

impl From<ObjectFacts> for v1::ObjectFacts {
    fn from(facts: ObjectFacts) -> Self {
        Self {
            handle: facts.handle,
            class: v1::ObjectClass::from(facts.class).into(),
            key_type: facts.key_type,
            cka_id: facts.cka_id,
            label: facts.label,
            usage: u32::from(facts.usage.bits()),
            sensitive: facts.sensitive,
            extractable: facts.extractable,
            modifiable: facts.modifiable,
            copyable: facts.copyable,
            bits: facts.bits,
            public_digest: facts.public_digest.map(|digest| digest.0.to_vec()),
            fingerprint: facts.fingerprint.map(Into::into),
        }
    }
}

impl TryFrom<v1::ObjectFacts> for ObjectFacts {
    type Error = InvalidMessage;

    fn try_from(raw: v1::ObjectFacts) -> Result<Self, InvalidMessage> {
        Ok(Self {
            handle: raw.handle,
            class: word::<v1::ObjectClass, _>(raw.class, "class")?,
            key_type: raw.key_type,
            cka_id: at_most(raw.cka_id, ATTRIBUTE_BYTES_MAX, "cka_id")?,
            label: text(raw.label, LABEL_BYTES_MAX, "label")?,
            usage: usage(raw.usage, "usage")?,
            sensitive: raw.sensitive,
            extractable: raw.extractable,
            modifiable: raw.modifiable,
            copyable: raw.copyable,
            bits: raw.bits,
            public_digest: raw
                .public_digest
                .map(|bytes| digest(&bytes, "public_digest"))
                .transpose()?,
            fingerprint: optional(raw.fingerprint, "fingerprint")?,
        })
    }
}

fn objects(facts: Vec<ObjectFacts>) -> Vec<v1::ObjectFacts> {
    facts.into_iter().map(Into::into).collect()
}

impl From<Found> for v1::Found {
    fn from(found: Found) -> Self {
        Self {
            objects: objects(found.objects),
            fingerprint: found.fingerprint.map(Into::into),
            same_label: objects(found.same_label),
            fingerprint_failure: found.fingerprint_failure,
        }
    }
}

impl TryFrom<v1::Found> for Found {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Found) -> Result<Self, InvalidMessage> {
        Ok(Self {
            objects: list(raw.objects, FOUND_OBJECTS_MAX, "objects")?,
            fingerprint: optional(raw.fingerprint, "fingerprint")?,
            same_label: list(raw.same_label, FOUND_OBJECTS_MAX, "same_label")?,
            fingerprint_failure: raw
                .fingerprint_failure
                .map(|why| text(why, TEXT_BYTES_MAX, "fingerprint_failure"))
                .transpose()?,
        })
    }
}

impl From<Observation> for v1::Observation {
    fn from(observation: Observation) -> Self {
        use v1::observation::State;
        let state = match observation {
            Observation::Unknown { why } => State::Unknown(why),
            Observation::Absent { same_label } => State::Absent(v1::Absent {
                same_label: objects(same_label),
            }),
            Observation::Present(found) => State::Present(found.into()),
            Observation::Suspected { last } => State::SuspectedLast(Box::new((*last).into())),
        };
        Self { state: Some(state) }
    }
}

impl TryFrom<v1::Observation> for Observation {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Observation) -> Result<Self, InvalidMessage> {
        observation(raw, OBSERVATION_DEPTH_MAX)
    }
}

fn observation(raw: v1::Observation, deeper: usize) -> Result<Observation, InvalidMessage> {
    use v1::observation::State;
    match required(raw.state, "state")? {
        State::Unknown(why) => Ok(Observation::Unknown {
            why: text(why, TEXT_BYTES_MAX, "unknown")?,
        }),
        State::Absent(raw) => Ok(Observation::Absent {
            same_label: list(raw.same_label, FOUND_OBJECTS_MAX, "absent.same_label")?,
        }),
        State::Present(found) => message(Some(found), "present").map(Observation::Present),
        State::SuspectedLast(raw) => {
            let Some(deeper) = deeper.checked_sub(1) else {
                let problem = format!("is nested deeper than {OBSERVATION_DEPTH_MAX}");
                return Err(InvalidMessage::new("suspected_last", problem));
            };
            let last = observation(*raw, deeper).map_err(|e| e.within("suspected_last"))?;
            Ok(Observation::Suspected {
                last: Box::new(last),
            })
        }
    }
}
