//! Rotations of wrapping keys, and which copies are under which.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::{decode, from_number, number};
use crate::coordinator::store::sqlite::record::execute;
use crate::coordinator::store::sqlite::rows::uuid;
use crate::model::ids::{KeyVersionId, KeystoreId, Revision};
use crate::model::kek::{KekNumber, KekRotation};
use crate::model::material::RepositoryCopy;

/// Puts a rotation, if the one that is there has still the expected revision; `None`: there must be none yet.
pub(crate) fn put(
    sql: &Connection,
    record: &KekRotation,
    expected: Option<Revision>,
    text: &str,
) -> Result<(), StoreError> {
    let keystore = record.keystore.uuid();
    let demanded = record.demanded().map_or(0, KekNumber::get);
    let revision = number(record.revision.0)?;
    let touched = match expected {
        None => execute(
            sql,
            "INSERT INTO kek_rotation (keystore, revision, demanded, record)
                 SELECT id, ?2, ?3, ?4 FROM keystore WHERE id = ?1
             ON CONFLICT (keystore) DO NOTHING",
            params![keystore.as_bytes(), revision, demanded, text],
        )?,
        Some(expected) => execute(
            sql,
            "UPDATE kek_rotation SET revision = ?2, demanded = ?3, record = ?4
                 WHERE keystore = ?1 AND revision = ?5",
            params![
                keystore.as_bytes(),
                revision,
                demanded,
                text,
                number(expected.0)?
            ],
        )?,
    };
    if touched == 1 {
        return Ok(());
    }
    Err(StoreError::Conflict {
        what: format!("kek_rotation/{}", record.keystore),
    })
}

/// Refuses a copy under a wrapping key that is being retired, or was: whoever wrapped it had not heard of the new one yet.
pub(crate) fn check_copy(sql: &Connection, copy: &RepositoryCopy) -> Result<(), StoreError> {
    let keystore = copy.keystore.uuid();
    let demanded: Option<u32> = sql
        .prepare_cached("SELECT demanded FROM kek_rotation WHERE keystore = ?1")?
        .query_row([keystore.as_bytes()], |row| row.get(0))
        .optional()?;
    match demanded {
        Some(demanded) if copy.kek.get() < demanded => Err(StoreError::Conflict {
            what: format!("kek_rotation/{}", copy.keystore),
        }),
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn find(
    sql: &Connection,
    keystore: KeystoreId,
) -> Result<Option<KekRotation>, StoreError> {
    sql.prepare_cached("SELECT record FROM kek_rotation WHERE keystore = ?1")?
        .query_row([keystore.uuid().as_bytes()], |row| row.get::<_, String>(0))
        .optional()?
        .map(|record| decode(&record))
        .transpose()
}

pub(crate) fn copies_below(
    sql: &Connection,
    keystore: KeystoreId,
    kek: KekNumber,
    after: Option<KeyVersionId>,
    limit: u32,
) -> Result<Vec<(KeyVersionId, RepositoryCopy)>, StoreError> {
    let mut statement = sql.prepare_cached(
        "SELECT version, record FROM copy WHERE keystore = ?1 AND kek < ?2 AND version > ?3
         ORDER BY version LIMIT ?4",
    )?;
    let after = after.map_or_else(Vec::new, |version| version.uuid().as_bytes().to_vec());
    let mut rows = statement.query(params![keystore.uuid().as_bytes(), kek.get(), after, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let version = uuid(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
        let copy = decode(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?;
        found.push((KeyVersionId::from_uuid(version), copy));
    }
    Ok(found)
}

pub(crate) fn copies_below_count(
    sql: &Connection,
    keystore: KeystoreId,
    kek: KekNumber,
) -> Result<u64, StoreError> {
    let count: i64 = sql
        .prepare_cached("SELECT count(*) FROM copy WHERE keystore = ?1 AND kek < ?2")?
        .query_row(params![keystore.uuid().as_bytes(), kek.get()], |row| {
            row.get(0)
        })?;
    from_number(count)
}
