//! Whether the store is older than its agents, and the keys that they keep and it does not know.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::{decode, number};
use crate::coordinator::store::sqlite::record::execute;
use crate::model::ids::{KeystoreId, Revision};
use crate::model::recovery::{Recovery, Stranger};

/// Puts or ends it, if what is there has still the expected revision; `None`: there must be nothing yet.
pub(crate) fn put(
    sql: &Connection,
    record: Option<&Recovery>,
    expected: Option<Revision>,
    text: &str,
) -> Result<(), StoreError> {
    let touched = match (record, expected) {
        (None, None) => 0,
        (None, Some(expected)) => execute(
            sql,
            "DELETE FROM recovery WHERE id = 1 AND revision = ?1",
            params![number(expected.0)?],
        )?,
        (Some(record), None) => execute(
            sql,
            "INSERT INTO recovery (id, revision, record) VALUES (1, ?1, ?2)
             ON CONFLICT (id) DO NOTHING",
            params![number(record.revision.0)?, text],
        )?,
        (Some(record), Some(expected)) => execute(
            sql,
            "UPDATE recovery SET revision = ?1, record = ?2 WHERE id = 1 AND revision = ?3",
            params![number(record.revision.0)?, text, number(expected.0)?],
        )?,
    };
    if touched == 1 {
        return Ok(());
    }
    Err(StoreError::Conflict {
        what: "recovery".to_owned(),
    })
}

pub(crate) fn stranger_put(
    sql: &Connection,
    stranger: &Stranger,
    text: &str,
) -> Result<(), StoreError> {
    execute(
        sql,
        "INSERT INTO stranger (keystore, version, record) VALUES (?1, ?2, ?3)
         ON CONFLICT (keystore, version) DO UPDATE SET record = excluded.record",
        params![
            stranger.keystore.uuid().as_bytes(),
            stranger.version.uuid().as_bytes(),
            text
        ],
    )?;
    Ok(())
}

pub(crate) fn find(sql: &Connection) -> Result<Option<Recovery>, StoreError> {
    sql.prepare_cached("SELECT record FROM recovery WHERE id = 1")?
        .query_row([], |row| row.get::<_, String>(0))
        .optional()?
        .map(|record| decode(&record))
        .transpose()
}

pub(crate) fn strangers(
    sql: &Connection,
    keystore: KeystoreId,
) -> Result<Vec<Stranger>, StoreError> {
    let mut statement =
        sql.prepare_cached("SELECT record FROM stranger WHERE keystore = ?1 ORDER BY version")?;
    let mut rows = statement.query([keystore.uuid().as_bytes()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(decode(
            row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?,
        )?);
    }
    Ok(found)
}
