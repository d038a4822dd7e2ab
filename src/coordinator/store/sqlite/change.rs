//! Carries out one piece of work inside the writer's transaction.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::coordinator::store::bounds::{OPERATION_AGE_MAX_MS, PRUNED_MAX};
use crate::coordinator::store::encoded::{Encoded, encode, from_number, number};
use crate::coordinator::store::sqlite::adoption;
use crate::coordinator::store::sqlite::bulk;
use crate::coordinator::store::sqlite::delete;
use crate::coordinator::store::sqlite::instance::instance_put;
use crate::coordinator::store::sqlite::record::{
    copy_add, copy_insert, execute, key_insert, key_update, keystore_insert, keystore_update,
    template_insert, template_update, vault_insert, vault_update,
};
use crate::coordinator::store::sqlite::recovery;
use crate::coordinator::store::sqlite::rotation;
use crate::coordinator::store::sqlite::rows::{OPERATION, operation};
use crate::coordinator::store::sqlite::writer::{Answer, Work};
use crate::coordinator::store::{OperationRecord, StoreError, Write};
use crate::model::audit::AuditEntry;
use crate::model::ids::{KeyVersionId, KeystoreId, Term};
use crate::model::live::LastSeen;

/// Carries out the work; on an error the caller rolls back to before it.
pub(crate) fn write(sql: &Connection, work: &Work) -> Result<Answer, StoreError> {
    match work {
        Work::Commit(change) => commit(sql, change),
        Work::Seen { keystore, seen } => seen_put(sql, *keystore, seen),
        Work::Lease { keystore, above } => lease_take(sql, *keystore, *above),
        Work::Ping => {
            execute(sql, "UPDATE ping SET count = count + 1 WHERE id = 1", [])?;
            Ok(Answer::Done)
        }
    }
}

fn commit(sql: &Connection, encoded: &Encoded) -> Result<Answer, StoreError> {
    let change = &encoded.change;
    if let Some(wanted) = &change.operation {
        if let Some(earlier) = operation_find(sql, &wanted.key)? {
            return if earlier.request == wanted.request {
                Ok(Answer::Earlier(earlier))
            } else {
                Err(StoreError::OperationReused)
            };
        }
        operation_insert(sql, wanted)?;
    }
    for (write, text) in encoded.writes() {
        write_one(sql, write, text)?;
    }
    for (entry, text) in encoded.audit() {
        audit_append(sql, entry, text)?;
    }
    Ok(Answer::Done)
}

fn write_one(sql: &Connection, write: &Write, text: &str) -> Result<(), StoreError> {
    match write {
        Write::VaultInsert(vault) => vault_insert(sql, vault, text),
        Write::VaultUpdate { record, expected } => vault_update(sql, record, *expected, text),
        Write::VaultDelete { id, expected } => delete::vault(sql, *id, *expected),
        Write::TemplateInsert(template) => template_insert(sql, template, text),
        Write::TemplateUpdate { record, expected } => template_update(sql, record, *expected, text),
        Write::TemplateDelete { id, expected } => delete::template(sql, *id, *expected),
        Write::KeystoreInsert(keystore) => keystore_insert(sql, keystore, text),
        Write::KeystoreUpdate { record, expected } => keystore_update(sql, record, *expected, text),
        Write::KeystoreDelete { id, expected } => delete::keystore(sql, *id, *expected),
        Write::KeyInsert(key) => key_insert(sql, key, text),
        Write::KeyUpdate { record, expected } => key_update(sql, record, *expected, text),
        Write::KeyDelete { id, expected } => delete::key(sql, *id, *expected),
        Write::CopyInsert { version, copy } => copy_insert(sql, *version, copy, text),
        Write::CopyAdd { version, copy } => copy_add(sql, *version, copy, text),
        Write::CopiesErase { version } => {
            let id = version.uuid();
            execute(
                sql,
                "DELETE FROM copy WHERE version = ?1",
                params![id.as_bytes()],
            )?;
            Ok(())
        }
        Write::KekRotationPut { record, expected } => rotation::put(sql, record, *expected, text),
        Write::RecoveryPut { record, expected } => {
            recovery::put(sql, record.as_ref(), *expected, text)
        }
        Write::StrangerPut(stranger) => recovery::stranger_put(sql, stranger, text),
        Write::InstancePut {
            key,
            instance,
            expected,
        } => instance_put(sql, *key, instance, *expected, text),
        Write::MaterialAlone {
            vault,
            material,
            key,
        } => adoption::material_alone(sql, *vault, *material, *key),
        Write::IgnorePut(ignored) => adoption::ignore_put(sql, ignored, text),
        Write::IgnoreDelete {
            keystore,
            cka_id,
            label,
        } => adoption::ignore_delete(sql, *keystore, cka_id, label),
        Write::BulkInsert { record, keys } => bulk::insert(sql, record, keys, text),
        Write::BulkUpdate { record, expected } => bulk::update(sql, record, *expected, text),
        Write::BulkKeyPut {
            bulk,
            row,
            expected,
        } => bulk::key_put(sql, *bulk, row, *expected, text),
    }
}

fn audit_append(sql: &Connection, entry: &AuditEntry, text: &str) -> Result<(), StoreError> {
    execute(
        sql,
        "INSERT INTO audit (subject, record) VALUES (?1, ?2)",
        params![entry.subject, text],
    )?;
    Ok(())
}

/// The operation under a key, if it is still remembered.
pub(crate) fn operation_find(
    sql: &Connection,
    key: &str,
) -> Result<Option<OperationRecord>, StoreError> {
    sql.prepare_cached(&format!("SELECT {OPERATION} FROM operation WHERE key = ?1"))?
        .query_row([key], |row| Ok(operation(row)))
        .optional()?
        .transpose()
}

fn operation_insert(sql: &Connection, record: &OperationRecord) -> Result<(), StoreError> {
    execute(
        sql,
        "DELETE FROM operation WHERE key IN
             (SELECT key FROM operation WHERE at < ?1 ORDER BY at LIMIT ?2)",
        params![record.at.0.saturating_sub(OPERATION_AGE_MAX_MS), PRUNED_MAX],
    )?;
    execute(
        sql,
        "INSERT INTO operation (key, id, request, status, subject, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            record.key,
            record.id.uuid().as_bytes(),
            record.request.0,
            record.status,
            record.subject,
            record.at.0
        ],
    )?;
    Ok(())
}

fn seen_put(
    sql: &Connection,
    keystore: KeystoreId,
    seen: &[(KeyVersionId, LastSeen)],
) -> Result<Answer, StoreError> {
    // A keystore or version that was deleted meanwhile leaves nothing behind.
    for (version, last) in seen {
        execute(
            sql,
            "INSERT INTO seen (version, keystore, record)
             SELECT version, keystore, ?3 FROM instance WHERE keystore = ?2 AND version = ?1
             ON CONFLICT (version, keystore) DO UPDATE SET record = excluded.record",
            params![
                version.uuid().as_bytes(),
                keystore.uuid().as_bytes(),
                encode(last)?
            ],
        )?;
    }
    Ok(Answer::Done)
}

fn lease_take(sql: &Connection, keystore: KeystoreId, above: Term) -> Result<Answer, StoreError> {
    let term: i64 = sql
        .prepare_cached(
            "INSERT INTO lease (keystore, term) VALUES (?1, max(?2, 1))
             ON CONFLICT (keystore) DO UPDATE SET term = max(term + 1, excluded.term)
             RETURNING term",
        )?
        .query_row(
            params![keystore.uuid().as_bytes(), number(above.0)?],
            |row| row.get(0),
        )?;
    Ok(Answer::Term(Term(from_number(term)?)))
}
