//! One change, one commit: record, intents, audit entry and operation together, then a wake.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::store::{Change, OperationRecord, StoreError, Write};
use crate::failpoint::{self, Point};
use crate::model::audit::AuditEntry;
use crate::model::desired::Instance;
use crate::model::ids::{Digest, KeyVersionId, KeystoreId, OperationId};
use crate::model::vault::UnixMs;

/// An answer to a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done<T> {
    /// What it is about, as it is now.
    pub value: T,
    /// For the `operation-id` header: the Idempotency-Key, else a UUID v7.
    pub operation: String,
    /// Whether this very request was carried out before.
    pub replayed: bool,
}

/// A change in the making.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Such as `key.activate`.
    pub(crate) action: &'static str,
    /// Such as `key/<id>`.
    pub(crate) subject: String,
    /// The HTTP status it will get.
    pub(crate) status: u16,
    /// For people.
    pub(crate) detail: String,
    /// The writes, in order.
    pub(crate) writes: Vec<Write>,
    /// Keystores on which something is to be done, beside the instances among the writes.
    pub(crate) wake: Vec<KeystoreId>,
    /// What else is noted, each about its own subject: a change of many keys at once is found at each of them.
    pub(crate) also: Vec<AlsoNoted>,
}

/// One more audit entry of a change.
#[derive(Debug)]
pub(crate) struct AlsoNoted {
    /// Such as `key.adopt`.
    pub(crate) action: &'static str,
    /// Such as `key/<id>`.
    pub(crate) subject: String,
    /// For people.
    pub(crate) detail: String,
    /// The intents that belong to it.
    pub(crate) intents: Vec<Digest>,
}

impl Draft {
    pub(crate) fn new(action: &'static str, subject: String, detail: String) -> Self {
        Self {
            action,
            subject,
            status: 200,
            detail,
            writes: Vec::new(),
            wake: Vec::new(),
            also: Vec::new(),
        }
    }

    /// Digests of the intents among the writes.
    fn intents(&self) -> Vec<Digest> {
        let instances = self.writes.iter().filter_map(instance);
        instances.map(|instance| instance.intent.digest()).collect()
    }

    /// The instances among the writes.
    fn wanted(&self) -> Vec<(KeystoreId, KeyVersionId)> {
        let instances = self.writes.iter().filter_map(instance);
        instances
            .map(|instance| (instance.intent.keystore, instance.intent.version))
            .collect()
    }
}

const fn instance(write: &Write) -> Option<&Instance> {
    match write {
        Write::InstancePut { instance, .. } => Some(instance),
        Write::VaultInsert(_)
        | Write::VaultUpdate { .. }
        | Write::VaultDelete { .. }
        | Write::TemplateInsert(_)
        | Write::TemplateUpdate { .. }
        | Write::TemplateDelete { .. }
        | Write::KeystoreInsert(_)
        | Write::KeystoreUpdate { .. }
        | Write::KeystoreDelete { .. }
        | Write::KeyInsert(_)
        | Write::KeyUpdate { .. }
        | Write::KeyDelete { .. }
        | Write::CopyInsert { .. }
        | Write::CopyAdd { .. }
        | Write::CopiesErase { .. }
        | Write::KekRotationPut { .. }
        | Write::RecoveryPut { .. }
        | Write::StrangerPut(_)
        | Write::MaterialAlone { .. }
        | Write::IgnorePut(_)
        | Write::IgnoreDelete { .. }
        | Write::BulkInsert { .. }
        | Write::BulkUpdate { .. }
        | Write::BulkKeyPut { .. } => None,
    }
}

/// What a commit gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    /// For the `operation-id` header.
    pub(crate) operation: String,
    /// The subject of the earlier request, if this one was carried out before.
    pub(crate) earlier: Option<String>,
}

impl Committed {
    /// The id in the earlier request's subject, which must be of this kind (`vault/`, `key/`, ...).
    pub(crate) fn subject_id<T: std::str::FromStr>(&self, kind: &str) -> Result<T, OpsError> {
        self.earlier
            .as_deref()
            .and_then(|subject| subject.strip_prefix(kind))
            .and_then(|id| id.parse().ok())
            .ok_or(OpsError::IdempotencyReused)
    }

    pub(crate) fn done<T>(self, value: T) -> Done<T> {
        Done {
            value,
            operation: self.operation,
            replayed: self.earlier.is_some(),
        }
    }
}

impl Ops {
    /// The earlier answer's subject, if this very request was carried out before. Asked before If-Match, which a
    /// repeated request cannot meet any more.
    pub(crate) async fn earlier(&self, call: &Call) -> Result<Option<Committed>, OpsError> {
        let Some(idempotency) = &call.idempotency else {
            return Ok(None);
        };
        let key_fits = (1..=128).contains(&idempotency.key.len())
            && idempotency.key.chars().all(|c| c.is_ascii_graphic());
        if !key_fits {
            return Err(OpsError::invalid(
                "Idempotency-Key",
                "invalid_header",
                "1 to 128 printable ASCII characters without spaces",
            ));
        }
        match self.store.operation(&idempotency.key).await? {
            None => Ok(None),
            Some(record) if record.request == idempotency.request => Ok(Some(Committed {
                operation: record.key,
                earlier: Some(record.subject),
            })),
            Some(_other) => Err(OpsError::IdempotencyReused),
        }
    }

    /// Commits a draft, then wakes.
    ///
    /// # Errors
    /// `Refused` with `restored_from_backup` where it would enable something and the store is older than its agents.
    pub(crate) async fn commit(&self, call: &Call, draft: Draft) -> Result<Committed, OpsError> {
        self.check_behind(&draft.writes)?;
        self.commit_unguarded(call, draft).await
    }

    /// As [`Ops::commit`], for the operator's own word about a store that is older than its agents.
    pub(crate) async fn commit_unguarded(
        &self,
        call: &Call,
        mut draft: Draft,
    ) -> Result<Committed, OpsError> {
        let at = self.now();
        let id = OperationId::from_uuid(self.entropy.uuid_at(at));
        let operation = operation_record(call, &draft, id, at);
        let key = operation
            .as_ref()
            .map_or_else(|| id.to_string(), |record| record.key.clone());
        let wanted = draft.wanted();
        let audit = AuditEntry {
            at,
            actor: call.principal.name.clone(),
            action: draft.action.to_owned(),
            subject: draft.subject.clone(),
            operation: id,
            intents: draft.intents(),
            detail: draft.detail,
            bulk: self.riding.as_ref().map(|riding| riding.bulk),
        };
        let also = draft.also.into_iter().map(|noted| AuditEntry {
            at,
            actor: call.principal.name.clone(),
            action: noted.action.to_owned(),
            subject: noted.subject,
            operation: id,
            intents: noted.intents,
            detail: noted.detail,
            bulk: None,
        });
        // With all the others or not at all: so a bulk change counts each key once, whoever carries it on.
        let row = self.riding.iter().map(|riding| riding.row());
        draft.writes.extend(row);
        if failpoint::fails(Point::BeforeCommit) {
            return Err(lost("the connection").into());
        }
        let change = Change {
            operation,
            writes: draft.writes,
            audit: std::iter::once(audit).chain(also).collect(),
        };
        let mut committed = self.store.commit(change).await;
        if failpoint::fails(Point::AfterCommit) {
            committed = Err(lost("the answer to COMMIT"));
        }
        // It may be durable where no answer says so; who is woken for nothing finds nothing.
        if matches!(committed, Ok(None) | Err(StoreError::Unavailable { .. })) {
            self.fleet.wanted(&wanted);
            self.fleet.wake(&draft.wake);
        }
        let earlier = committed?;
        Ok(Committed {
            operation: key,
            earlier: earlier.map(|record| record.subject),
        })
    }

    /// What a request that changes nothing answers.
    pub(crate) fn unchanged(&self, call: &Call) -> Committed {
        let operation = call.idempotency.as_ref().map_or_else(
            || self.entropy.uuid_at(self.now()).to_string(),
            |idempotency| idempotency.key.clone(),
        );
        Committed {
            operation,
            earlier: None,
        }
    }
}

/// What a store says that could not be reached, or could not answer.
fn lost(what: &str) -> StoreError {
    StoreError::Unavailable {
        detail: format!("{what} was lost"),
    }
}

fn operation_record(
    call: &Call,
    draft: &Draft,
    id: OperationId,
    at: UnixMs,
) -> Option<OperationRecord> {
    let idempotency = call.idempotency.as_ref()?;
    Some(OperationRecord {
        key: idempotency.key.clone(),
        id,
        request: idempotency.request,
        status: draft.status,
        subject: draft.subject.clone(),
        at,
    })
}
