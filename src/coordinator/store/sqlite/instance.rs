//! Writes instances: every one conditional on the generation it replaces.

use rusqlite::{Connection, params};

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::number;
use crate::coordinator::store::sqlite::failure::{Broken, uniqueness};
use crate::coordinator::store::sqlite::record::execute;
use crate::model::desired::Instance;
use crate::model::ids::{Generation, KeyId};

/// Writes an instance's intent; `expected` is the generation it replaces, none: there was no instance.
///
/// # Errors
/// `Conflict` if another generation is there, `NotFound` if key or keystore are gone.
pub(crate) fn instance_put(
    sql: &Connection,
    key: KeyId,
    instance: &Instance,
    expected: Option<Generation>,
    text: &str,
) -> Result<(), StoreError> {
    let intent = &instance.intent;
    let what = format!("instance of key/{key} on keystore/{}", intent.keystore);
    match expected {
        None => instance_insert(sql, key, instance, text, what),
        // The fence never goes back, whoever asks.
        Some(expected) if intent.generation < expected => Err(StoreError::Conflict { what }),
        Some(expected) => instance_update(sql, key, instance, expected, text, what),
    }
}

fn instance_insert(
    sql: &Connection,
    key: KeyId,
    instance: &Instance,
    text: &str,
    what: String,
) -> Result<(), StoreError> {
    let intent = &instance.intent;
    let keystore = intent.keystore.uuid();
    if !sql
        .prepare_cached("SELECT 1 FROM keystore WHERE id = ?1")?
        .exists([keystore.as_bytes()])?
    {
        let what = format!("keystore/{}", intent.keystore);
        return Err(StoreError::NotFound { what });
    }
    let inserted = execute(
        sql,
        "INSERT INTO instance (keystore, version, key, generation, want, record, adopted_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            keystore.as_bytes(),
            intent.version.uuid().as_bytes(),
            key.uuid().as_bytes(),
            number(intent.generation.0)?,
            intent.want.name(),
            text,
            instance.adoption.as_ref().map(|_| &intent.object.cka_id)
        ],
    );
    match inserted {
        Ok(_one) => Ok(()),
        Err(error) => Err(match uniqueness(&error) {
            Some(Broken::Id | Broken::Name) => StoreError::Conflict { what },
            Some(Broken::Parent) => StoreError::NotFound {
                what: format!("key/{key}"),
            },
            None => error.into(),
        }),
    }
}

fn instance_update(
    sql: &Connection,
    key: KeyId,
    instance: &Instance,
    expected: Generation,
    text: &str,
    what: String,
) -> Result<(), StoreError> {
    let intent = &instance.intent;
    let touched = execute(
        sql,
        "UPDATE instance SET generation = ?5, want = ?6, record = ?7
         WHERE keystore = ?1 AND version = ?2 AND key = ?3 AND generation = ?4",
        params![
            intent.keystore.uuid().as_bytes(),
            intent.version.uuid().as_bytes(),
            key.uuid().as_bytes(),
            number(expected.0)?,
            number(intent.generation.0)?,
            intent.want.name(),
            text
        ],
    )?;
    if touched == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict { what })
    }
}
