//! Carries out one change inside the writer's transaction.

use crate::coordinator::store::bounds::{OPERATION_AGE_MAX_MS, PRUNED_MAX};
use crate::coordinator::store::encoded::{Encoded, encode};
use crate::coordinator::store::postgres::failure::Problem;
use crate::coordinator::store::postgres::instance::instance_put;
use crate::coordinator::store::postgres::record::{
    copy_add, copy_insert, key_insert, key_update, keystore_insert, keystore_update,
    template_insert, template_update, vault_insert, vault_update,
};
use crate::coordinator::store::postgres::sql::{Sql, execute};
use crate::coordinator::store::postgres::{adoption, bulk, delete, query, recovery, rotation};
use crate::coordinator::store::{OperationRecord, StoreError, Write};
use crate::model::ids::{KeyVersionId, KeystoreId};
use crate::model::live::LastSeen;

/// Carries out a change; on an error the caller rolls back to before it. An operation that was carried out before comes back.
pub(crate) async fn commit(
    sql: &Sql,
    encoded: &Encoded,
) -> Result<Option<OperationRecord>, Problem> {
    if let Some(wanted) = &encoded.change.operation {
        if let Some(earlier) = query::operation(sql, &wanted.key).await? {
            return if earlier.request == wanted.request {
                Ok(Some(earlier))
            } else {
                Err(Problem::Refused(StoreError::OperationReused))
            };
        }
        operation_insert(sql, wanted).await?;
    }
    for (write, text) in encoded.writes() {
        write_one(sql, write, text).await?;
    }
    for (entry, text) in encoded.audit() {
        // The head is locked: numbers are given in the order of the commits, and go back with a rollback.
        execute(
            sql,
            "WITH head AS (UPDATE head SET sequence = sequence + 1 RETURNING sequence)
             INSERT INTO audit (sequence, subject, record)
                 SELECT head.sequence, $1::text, $2::text FROM head",
            &[&entry.subject, &text],
        )
        .await?;
    }
    Ok(None)
}

async fn write_one(sql: &Sql, write: &Write, text: &str) -> Result<(), Problem> {
    match write {
        Write::VaultInsert(vault) => vault_insert(sql, vault, text).await,
        Write::VaultUpdate { record, expected } => vault_update(sql, record, *expected, text).await,
        Write::VaultDelete { id, expected } => delete::vault(sql, *id, *expected).await,
        Write::TemplateInsert(template) => template_insert(sql, template, text).await,
        Write::TemplateUpdate { record, expected } => {
            template_update(sql, record, *expected, text).await
        }
        Write::TemplateDelete { id, expected } => delete::template(sql, *id, *expected).await,
        Write::KeystoreInsert(keystore) => keystore_insert(sql, keystore, text).await,
        Write::KeystoreUpdate { record, expected } => {
            keystore_update(sql, record, *expected, text).await
        }
        Write::KeystoreDelete { id, expected } => delete::keystore(sql, *id, *expected).await,
        Write::KeyInsert(key) => key_insert(sql, key, text).await,
        Write::KeyUpdate { record, expected } => key_update(sql, record, *expected, text).await,
        Write::KeyDelete { id, expected } => delete::key(sql, *id, *expected).await,
        Write::CopyInsert { version, copy } => copy_insert(sql, *version, copy, text).await,
        Write::CopyAdd { version, copy } => copy_add(sql, *version, copy, text).await,
        Write::CopiesErase { version } => {
            let text = "DELETE FROM copy WHERE version = $1";
            execute(sql, text, &[&version.uuid()]).await?;
            Ok(())
        }
        Write::KekRotationPut { record, expected } => {
            rotation::put(sql, record, *expected, text).await
        }
        Write::RecoveryPut { record, expected } => {
            recovery::put(sql, record.as_ref(), *expected, text).await
        }
        Write::StrangerPut(stranger) => recovery::stranger_put(sql, stranger, text).await,
        Write::InstancePut {
            key,
            instance,
            expected,
        } => instance_put(sql, *key, instance, *expected, text).await,
        Write::MaterialAlone {
            vault,
            material,
            key,
        } => adoption::material_alone(sql, *vault, *material, *key).await,
        Write::IgnorePut(ignored) => adoption::ignore_put(sql, ignored, text).await,
        Write::IgnoreDelete {
            keystore,
            cka_id,
            label,
        } => adoption::ignore_delete(sql, *keystore, cka_id, label).await,
        Write::BulkInsert { record, keys } => bulk::insert(sql, record, keys, text).await,
        Write::BulkUpdate { record, expected } => bulk::update(sql, record, *expected, text).await,
        Write::BulkKeyPut {
            bulk,
            row,
            expected,
        } => bulk::key_put(sql, *bulk, row, *expected, text).await,
    }
}

async fn operation_insert(sql: &Sql, record: &OperationRecord) -> Result<(), Problem> {
    execute(
        sql,
        "DELETE FROM operation WHERE key IN
             (SELECT key FROM operation WHERE at < $1 ORDER BY at LIMIT $2)",
        &[
            &record.at.0.saturating_sub(OPERATION_AGE_MAX_MS),
            &i64::from(PRUNED_MAX),
        ],
    )
    .await?;
    execute(
        sql,
        "INSERT INTO operation (key, id, request, status, subject, at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            &record.key,
            &record.id.uuid(),
            &record.request.0.as_slice(),
            &i32::from(record.status),
            &record.subject,
            &record.at.0,
        ],
    )
    .await?;
    Ok(())
}

/// Notes what was last seen, in one statement.
pub(crate) async fn seen_put(
    sql: &Sql,
    keystore: KeystoreId,
    seen: &[(KeyVersionId, LastSeen)],
) -> Result<(), Problem> {
    let versions: Vec<_> = seen.iter().map(|(version, _)| version.uuid()).collect();
    let texts: Result<Vec<String>, StoreError> =
        seen.iter().map(|(_, last)| encode(last)).collect();
    // A keystore or version that was deleted meanwhile leaves nothing behind. In the order of ids, so that two never wait for
    // each other; of two looks at one version in one call, the later one counts.
    execute(
        sql,
        "INSERT INTO seen (version, keystore, record)
         SELECT DISTINCT ON (told.version) told.version, instance.keystore, told.record
         FROM unnest($2::uuid[], $3::text[]) WITH ORDINALITY AS told (version, record, place)
             JOIN instance ON instance.keystore = $1 AND instance.version = told.version
         ORDER BY told.version, told.place DESC
         ON CONFLICT (version, keystore) DO UPDATE SET record = excluded.record",
        &[&keystore.uuid(), &versions, &texts?],
    )
    .await?;
    Ok(())
}
