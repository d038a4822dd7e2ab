//! Keys that others made: found by their material, under the CKA_IDs they were adopted with, or left to others.

use crate::coordinator::store::encoded::encode;
use crate::coordinator::store::postgres::failure::{Broken, Problem, rule};
use crate::coordinator::store::postgres::sql::{Sql, execute, id, records, rows};
use crate::coordinator::store::{AdoptedId, StoreError};
use crate::model::adoption::Ignored;
use crate::model::ids::{KeyId, KeystoreId, VaultId};
use crate::model::key::ManagedKey;
use crate::model::observed::Fingerprint;

pub(crate) async fn keys_of(
    sql: &Sql,
    vault: VaultId,
    material: Fingerprint,
) -> Result<Vec<ManagedKey>, Problem> {
    let mut keys: Vec<ManagedKey> = records(
        sql,
        "SELECT record FROM key WHERE vault = $1
             AND id IN (SELECT key FROM key_version WHERE fingerprint = $2) ORDER BY id LIMIT 20",
        &[&vault.uuid(), &encode(&material.value)?],
    )
    .await?;
    // Only values of one method compare.
    keys.retain(|key| key.version_with(material).is_some());
    Ok(keys)
}

pub(crate) async fn adopted(sql: &Sql, keystore: KeystoreId) -> Result<Vec<AdoptedId>, Problem> {
    let found = rows(
        sql,
        "SELECT adopted_id, key FROM instance
         WHERE keystore = $1 AND adopted_id IS NOT NULL ORDER BY adopted_id",
        &[&keystore.uuid()],
    )
    .await;
    let mut adopted = Vec::new();
    for row in found? {
        adopted.push(AdoptedId {
            cka_id: row.try_get(0)?,
            key: KeyId::from_uuid(id(&row, 1)?),
        });
    }
    Ok(adopted)
}

pub(crate) async fn ignored(sql: &Sql, keystore: KeystoreId) -> Result<Vec<Ignored>, Problem> {
    records(
        sql,
        "SELECT record FROM ignored WHERE keystore = $1 ORDER BY cka_id, label",
        &[&keystore.uuid()],
    )
    .await
}

/// Refuses a second key of one material.
///
/// # Errors
/// `Conflict` if another key of the vault, not a destroyed one, has it.
pub(crate) async fn material_alone(
    sql: &Sql,
    vault: VaultId,
    material: Fingerprint,
    key: KeyId,
) -> Result<(), Problem> {
    let mut keys = keys_of(sql, vault, material).await?;
    keys.retain(|other| other.id != key && !other.state.is_destroyed());
    match keys.first() {
        None => Ok(()),
        Some(other) => Err(Problem::Refused(StoreError::Conflict {
            what: format!("key/{}", other.id),
        })),
    }
}

/// Notes that a key is left to others.
///
/// # Errors
/// `NotFound` if its keystore is gone.
pub(crate) async fn ignore_put(sql: &Sql, ignored: &Ignored, record: &str) -> Result<(), Problem> {
    let put = execute(
        sql,
        "INSERT INTO ignored (keystore, cka_id, label, record) VALUES ($1, $2, $3, $4)
         ON CONFLICT (keystore, cka_id, label) DO UPDATE SET record = excluded.record",
        &[
            &ignored.keystore.uuid(),
            &ignored.cka_id,
            &ignored.label,
            &record,
        ],
    )
    .await;
    let Err(error) = put else { return Ok(()) };
    Err(match rule(&error) {
        Some(Broken::Parent) => Problem::Refused(StoreError::NotFound {
            what: format!("keystore/{}", ignored.keystore),
        }),
        Some(Broken::Id | Broken::Name) | None => error.into(),
    })
}

/// Notes that a key is not left to others any more.
///
/// # Errors
/// `Conflict` if it was not.
pub(crate) async fn ignore_delete(
    sql: &Sql,
    keystore: KeystoreId,
    cka_id: &[u8],
    label: &str,
) -> Result<(), Problem> {
    let touched = execute(
        sql,
        "DELETE FROM ignored WHERE keystore = $1 AND cka_id = $2 AND label = $3",
        &[&keystore.uuid(), &cka_id, &label],
    )
    .await;
    if touched? == 1 {
        Ok(())
    } else {
        Err(Problem::Refused(StoreError::Conflict {
            what: format!("what is ignored on keystore/{keystore}"),
        }))
    }
}
