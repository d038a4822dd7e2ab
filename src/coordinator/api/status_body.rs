//! Bodies that tell what is true of a key on its keystores.

use axum::http::StatusCode;

use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{answer, found_body, keystore_body};
use crate::coordinator::ops::keys::KeyView;
use crate::coordinator::ops::status::{InKeystore, Observed};
use crate::model::difference::{Seen, Status};
use crate::model::key::ManagedKey;
use crate::model::text::hex;
use crate::rest::error::ApiError;
use crate::rest::managed_key::VersionStatus;
use crate::rest::status as rest;

/// All keystores of a key.
pub(crate) fn all(view: &KeyView, trace: &str) -> rest::StatusInKeystores {
    rest::StatusInKeystores {
        progress: progress(view),
        status_in_keystores: items(view, trace),
    }
}

/// How far a key is.
pub(crate) fn progress(view: &KeyView) -> rest::Progress {
    let phase = &view.phase;
    let is_confirmed = |found: &InKeystore| matches!(found.status, Status::InSync(_));
    let unconfirmed = phase
        .unconfirmed
        .iter()
        .flat_map(|keystore| {
            let rows = view.all_rows();
            rows.filter(move |(_, found)| found.keystore == *keystore && !is_confirmed(found))
        })
        .map(|(version, found)| {
            let first = found.differences.first();
            let since = first.and_then(|first| first.since).or(found.pending_since);
            rest::Unconfirmed {
                keystore: keystore_body::reference(found.keystore, &found.name),
                version,
                sync_status: found.status.name().to_owned(),
                reason: first.map(|first| first.difference.reason),
                since: since.map(answer::time),
                message: found.message(),
            }
        })
        .collect();
    rest::Progress {
        phase: rest::Phase::from_name(phase.phase.name()).unwrap_or(rest::Phase::Unknown),
        confirmed: u64::try_from(phase.confirmed).unwrap_or(u64::MAX),
        total: u64::try_from(phase.total).unwrap_or(u64::MAX),
        unconfirmed,
    }
}

/// An item for each keystore.
pub(crate) fn items(view: &KeyView, trace: &str) -> Vec<rest::StatusInKeystore> {
    view.keystores
        .iter()
        .map(|found| item(view, &view.key, found, trace))
        .collect()
}

/// The versions before the one in use that are not everywhere as wanted.
pub(crate) fn unsettled(view: &KeyView, trace: &str) -> Vec<VersionStatus> {
    let is_confirmed = |found: &InKeystore| matches!(found.status, Status::InSync(_));
    view.past
        .iter()
        .filter(|past| !past.keystores.iter().all(is_confirmed))
        .map(|past| VersionStatus {
            version: past.key.version_number,
            state: past.key.state,
            status_in_keystores: past
                .keystores
                .iter()
                .map(|found| item(view, &past.key, found, trace))
                .collect(),
        })
        .collect()
}

/// Until when a destruction is held, in API v4's two fields.
fn hold(view: &KeyView) -> (String, String) {
    let Some(hold) = &view.key.hold else {
        return (String::new(), String::new());
    };
    (
        view.destruction_hold.clone(),
        format!("{}T00:00:00.000Z", hold.until),
    )
}

/// A held destruction that is as wanted has words of its own in API v4.
fn held(view: &KeyView, found: &InKeystore) -> Option<(rest::FoundStatus, rest::SyncFlagDetail)> {
    let is_held = view.key.hold.is_some() && matches!(found.status, Status::InSync(_));
    is_held.then_some(match found.seen {
        Seen::NotPresent => (
            rest::FoundStatus::NotPresent,
            rest::SyncFlagDetail::DestroyedPendingKeyIsNotPresentInKeystore,
        ),
        Seen::Unknown | Seen::Active | Seen::NotActive | Seen::WrongKey => (
            rest::FoundStatus::PendingDestruction,
            rest::SyncFlagDetail::DestroyedPendingKeyIsPendingDestructionInKeystore,
        ),
    })
}

fn item(
    view: &KeyView,
    key: &ManagedKey,
    found: &InKeystore,
    trace: &str,
) -> rest::StatusInKeystore {
    let instance = found.instance.as_ref();
    let object = instance.map(|instance| &instance.intent.object);
    let version = key.version;
    let (destruction_policy_duration, destruction_at) = hold(view);
    let held = held(view, found);
    let wanted = instance.map_or("absent", |instance| instance.intent.want.name());
    rest::StatusInKeystore {
        keystore: keystore_body::reference(found.keystore, &found.name),
        instance: rest::InstanceRef {
            id: instance
                .map_or(version, |instance| instance.intent.version)
                .to_string(),
        },
        status: held.map_or_else(
            || {
                rest::FoundStatus::from_name(found.uko_status.name())
                    .unwrap_or(rest::FoundStatus::Unknown)
            },
            |(status, _)| status,
        ),
        destruction_policy_duration,
        destruction_at,
        keystore_sync_flag: rest::SyncFlag::from_name(found.sync_flag.name())
            .unwrap_or(rest::SyncFlag::Error),
        keystore_sync_flag_detail: held.map_or_else(
            || {
                rest::SyncFlagDetail::from_name(found.sync_detail.name())
                    .unwrap_or(rest::SyncFlagDetail::Unknown)
            },
            |(_, detail)| detail,
        ),
        error: found
            .error
            .as_ref()
            .map(|why| embedded(&found.status, why, trace)),
        key_id_in_keystore: object.map_or_else(
            || hex(version.uuid().as_bytes()),
            |object| hex(&object.cka_id),
        ),
        label_in_keystore: object.map_or_else(|| key.object_label(), |object| object.label.clone()),
        is_target: found.is_target,
        wanted: wanted.to_owned(),
        sync_status: found.status.name().to_owned(),
        message: found.message(),
        differences: found.differences.iter().map(difference).collect(),
        findings: found_body::findings(&found.findings),
        adopted_at: instance
            .and_then(|instance| instance.adoption.as_ref())
            .map(|adoption| answer::time(adoption.record.body.at)),
        observed_at: found.observed_at.map(answer::time),
        proved_at: found.proved_at.map(answer::time),
        proof: found.proof.as_ref().map(|proof| rest::Proof {
            kind: proof.kind,
            operation: proof.operation.clone(),
            answer: proof.answer.clone(),
        }),
        pending_since: found.pending_since.map(answer::time),
    }
}

/// A difference for an answer.
pub(crate) fn difference(found: &Observed) -> rest::Difference {
    let difference = &found.difference;
    rest::Difference {
        reason: difference.reason,
        expected: difference.expected.clone(),
        found: difference.found.clone(),
        since: found.since.map(answer::time),
        since_revision: difference.since_revision.0,
        caused_by: difference.caused_by,
        message: found.message(),
        healed_by: difference.healed_by,
        weight: difference.weight,
    }
}

/// The error inside an item, while the request itself is a success.
fn embedded(status: &Status, why: &str, trace: &str) -> ApiError {
    let (http, code) = match status {
        Status::Unknown { .. } => (StatusCode::BAD_GATEWAY, "connection_error"),
        Status::Unavailable { .. } => (StatusCode::BAD_GATEWAY, "token_unavailable"),
        Status::Diverged => (StatusCode::CONFLICT, "diverged"),
        Status::Failed { .. } => (StatusCode::CONFLICT, "keystore_failed"),
        Status::Pending { .. } | Status::InSync(_) | Status::Drift => {
            (StatusCode::CONFLICT, "out_of_sync")
        }
    };
    Refusal::new(http, code, why).body(trace)
}
