//! Bodies of keys found on tokens: from requests, and for answers.

use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{answer, key_body, keystore_body};
use crate::coordinator::ops::adopt::{
    Adopt, AdoptedKey, AdoptionOutcome, AdoptionResult, AdoptionView,
};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::found::{FoundView, Select};
use crate::model::adoption::FoundKey;
use crate::model::finding::KeyFinding;
use crate::model::key::{Algorithm, KeySpec};
use crate::model::observed::{Fingerprint, ObjectFacts};
use crate::model::text::{from_hex, hex};
use crate::rest::found as rest;
use crate::rest::managed_key::VerificationPattern;
use crate::rest::status::Phase;

/// Longest pattern of a label, bytes.
pub(crate) const PATTERN_BYTES_MAX: usize = 1024;

/// Which keys a request means. Saying nothing means none, never all.
pub(crate) fn select(
    cka_id: Option<&str>,
    label: Option<&str>,
    algorithm: Option<Algorithm>,
    all: Option<bool>,
) -> Result<Select, Refusal> {
    let field = "key_id_in_keystore";
    let filters = label.is_some() || algorithm.is_some();
    let ways = [cka_id.is_some(), filters, all == Some(true)];
    if ways.into_iter().filter(|way| *way).count() != 1 {
        let must = "say which keys by key_id_in_keystore, or by label_in_keystore and algorithm, or by all: true";
        return Err(Refusal::field(field, "missing_field", must));
    }
    if label.is_some_and(|pattern| pattern.len() > PATTERN_BYTES_MAX) {
        let must = format!("at most {PATTERN_BYTES_MAX} bytes");
        return Err(Refusal::field("label_in_keystore", "too_long", must));
    }
    let cka_id = cka_id.map(from_hex).map(|id| {
        id.filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| Refusal::field(field, "invalid_value", "a CKA_ID in hex, such as 0a1b"))
    });
    Ok(Select {
        cka_id: cka_id.transpose()?,
        label: label.map(str::to_owned),
        algorithm,
    })
}

/// What a request to adopt means.
pub(crate) fn adopt(asked: rest::Adopt) -> Result<Adopt, Refusal> {
    Ok(Adopt {
        select: select(
            asked.key_id_in_keystore.as_deref(),
            asked.label_in_keystore.as_deref(),
            asked.algorithm,
            asked.all,
        )?,
        template_name: asked.template_name,
        label: asked.label,
        description: asked.description.unwrap_or_default(),
    })
}

/// A key on a token.
pub(crate) fn found(view: &FoundView) -> rest::FoundKey {
    rest::FoundKey {
        key_id_in_keystore: hex(&view.key.cka_id),
        label_in_keystore: view.key.label.clone(),
        state: view.state,
        algorithm: view.spec.map(KeySpec::algorithm),
        size: view.spec.map(size),
        usage: view.key.usage().iter().collect(),
        sensitive: view.key.sensitive(),
        extractable: view.key.extractable(),
        fingerprint: view.fingerprint.as_ref().map(pattern),
        obstacle: view
            .obstacle
            .as_ref()
            .map(|(code, message)| rest::Obstacle {
                code: code.clone(),
                message: message.clone(),
                field: None,
            }),
        findings: findings(&view.findings),
        managed_key: view
            .managed
            .as_ref()
            .map(|(id, label)| key_body::reference(*id, label)),
        ignored: view.ignored.as_ref().map(|ignored| rest::IgnoredBecause {
            reason: ignored.reason.clone(),
            at: answer::time(ignored.at),
            by: ignored.by.clone(),
        }),
        objects: view.key.objects.iter().map(object).collect(),
    }
}

fn object(facts: &ObjectFacts) -> rest::FoundObject {
    rest::FoundObject {
        kind: keystore_body::class(facts.class).to_owned(),
        key_type: facts.key_type.map(|number| format!("{number:#x}")),
        label_in_keystore: facts.label.clone(),
        usage: facts.usage.iter().collect(),
        size: facts.bits,
        sensitive: facts.sensitive,
        extractable: facts.extractable,
    }
}

/// What is weak about a key.
pub(crate) fn findings(found: &[KeyFinding]) -> Vec<rest::Finding> {
    let one = |finding: &KeyFinding| rest::Finding {
        code: finding.name().to_owned(),
        severity: finding.severity(),
        message: finding.message().to_owned(),
    };
    found.iter().map(one).collect()
}

/// What came of a request to adopt.
pub(crate) fn adopted(view: &AdoptionView, dry_run: bool) -> rest::Adopted {
    rest::Adopted {
        keystore: keystore_body::reference(view.keystore, &view.name),
        dry_run,
        results: view.outcomes.iter().map(outcome).collect(),
    }
}

fn outcome(outcome: &AdoptionOutcome) -> rest::AdoptedKey {
    let (result, key, refused) = match &outcome.result {
        AdoptionResult::Adopted(key) => (rest::AdoptResult::Adopted, Some(key), None),
        AdoptionResult::Joined(key) => (rest::AdoptResult::Joined, Some(key), None),
        AdoptionResult::Managed(key) => (rest::AdoptResult::Managed, Some(key), None),
        AdoptionResult::Refused(error) => (rest::AdoptResult::Refused, None, Some(error)),
    };
    rest::AdoptedKey {
        key_id_in_keystore: hex(&outcome.key.cka_id),
        label_in_keystore: outcome.key.label.clone(),
        result,
        algorithm: outcome.spec.map(KeySpec::algorithm),
        size: outcome.spec.map(size),
        fingerprint: outcome.fingerprint.as_ref().map(pattern),
        findings: findings(&outcome.findings),
        managed_key: key.map(|key| key_body::reference(key.id, &key.label)),
        state: key.map(|key| key.state),
        phase: key.and_then(phase),
        refused: refused.map(obstacle),
    }
}

fn phase(key: &AdoptedKey) -> Option<Phase> {
    let phase = key.phase.as_ref()?;
    Phase::from_name(phase.phase.name())
}

/// The same as the request would have been refused with, had it been about this key alone.
fn obstacle(error: &OpsError) -> rest::Obstacle {
    let refusal = Refusal::from(error.clone());
    let target = refusal
        .body("")
        .errors
        .into_iter()
        .find_map(|item| item.target);
    rest::Obstacle {
        code: refusal.code().to_owned(),
        message: refusal.message().to_owned(),
        field: target.map(|target| target.name),
    }
}

/// The keys that were left to others, or taken back.
pub(crate) fn named(keys: &[FoundKey]) -> Vec<rest::NamedKey> {
    let one = |key: &FoundKey| rest::NamedKey {
        key_id_in_keystore: hex(&key.cka_id),
        label_in_keystore: key.label.clone(),
    };
    keys.iter().map(one).collect()
}

fn pattern(fingerprint: &Fingerprint) -> VerificationPattern {
    VerificationPattern {
        method: fingerprint.method.name().to_owned(),
        value: fingerprint.short(),
    }
}

fn size(spec: KeySpec) -> String {
    spec.bits().to_string()
}
