//! Keys that others made: found by their material, under the CKA_IDs they were adopted with, or left to others.

use rusqlite::{Connection, params};

use crate::coordinator::store::encoded::encode;
use crate::coordinator::store::sqlite::failure::{Broken, uniqueness};
use crate::coordinator::store::sqlite::query::{all, blob, text};
use crate::coordinator::store::sqlite::record::execute;
use crate::coordinator::store::sqlite::rows::uuid;
use crate::coordinator::store::{AdoptedId, StoreError};
use crate::model::adoption::Ignored;
use crate::model::ids::{KeyId, KeystoreId, VaultId};
use crate::model::key::ManagedKey;
use crate::model::observed::Fingerprint;

pub(crate) fn keys_of(
    sql: &Connection,
    vault: VaultId,
    material: Fingerprint,
) -> Result<Vec<ManagedKey>, StoreError> {
    let mut keys: Vec<ManagedKey> = all(
        sql,
        "SELECT record FROM key WHERE vault = ?1
             AND id IN (SELECT key FROM key_version WHERE fingerprint = ?2) ORDER BY id LIMIT 20",
        vec![blob(vault.uuid()), text(&encode(&material.value)?)],
    )?;
    // Only values of one method compare.
    keys.retain(|key| key.version_with(material).is_some());
    Ok(keys)
}

pub(crate) fn adopted(
    sql: &Connection,
    keystore: KeystoreId,
) -> Result<Vec<AdoptedId>, StoreError> {
    let mut statement = sql.prepare_cached(
        "SELECT adopted_id, key FROM instance
         WHERE keystore = ?1 AND adopted_id IS NOT NULL ORDER BY adopted_id",
    )?;
    let mut rows = statement.query([keystore.uuid().as_bytes()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key = uuid(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
        found.push(AdoptedId {
            cka_id: row.get(0)?,
            key: KeyId::from_uuid(key),
        });
    }
    Ok(found)
}

pub(crate) fn ignored(sql: &Connection, keystore: KeystoreId) -> Result<Vec<Ignored>, StoreError> {
    all(
        sql,
        "SELECT record FROM ignored WHERE keystore = ?1 ORDER BY cka_id, label",
        vec![blob(keystore.uuid())],
    )
}

/// Refuses a second key of one material.
///
/// # Errors
/// `Conflict` if another key of the vault, not a destroyed one, has it.
pub(crate) fn material_alone(
    sql: &Connection,
    vault: VaultId,
    material: Fingerprint,
    key: KeyId,
) -> Result<(), StoreError> {
    let mut keys = keys_of(sql, vault, material)?;
    keys.retain(|other| other.id != key && !other.state.is_destroyed());
    match keys.first() {
        None => Ok(()),
        Some(other) => Err(StoreError::Conflict {
            what: format!("key/{}", other.id),
        }),
    }
}

/// Notes that a key is left to others.
///
/// # Errors
/// `NotFound` if its keystore is gone.
pub(crate) fn ignore_put(
    sql: &Connection,
    ignored: &Ignored,
    record: &str,
) -> Result<(), StoreError> {
    let put = execute(
        sql,
        "INSERT INTO ignored (keystore, cka_id, label, record) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (keystore, cka_id, label) DO UPDATE SET record = excluded.record",
        params![
            ignored.keystore.uuid().as_bytes(),
            ignored.cka_id,
            ignored.label,
            record
        ],
    );
    match put {
        Ok(_one) => Ok(()),
        Err(error) => Err(match uniqueness(&error) {
            Some(Broken::Parent) => StoreError::NotFound {
                what: format!("keystore/{}", ignored.keystore),
            },
            Some(Broken::Id | Broken::Name) | None => error.into(),
        }),
    }
}

/// Notes that a key is not left to others any more.
///
/// # Errors
/// `Conflict` if it was not.
pub(crate) fn ignore_delete(
    sql: &Connection,
    keystore: KeystoreId,
    cka_id: &[u8],
    label: &str,
) -> Result<(), StoreError> {
    let touched = execute(
        sql,
        "DELETE FROM ignored WHERE keystore = ?1 AND cka_id = ?2 AND label = ?3",
        params![keystore.uuid().as_bytes(), cka_id, label],
    )?;
    if touched == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict {
            what: format!("what is ignored on keystore/{keystore}"),
        })
    }
}
