//! Deletes: refused with those that still depend on the record, told by name.

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::coordinator::store::StoreError;
use crate::coordinator::store::bounds::BLOCKERS_MAX;
use crate::coordinator::store::encoded::{from_number, number};
use crate::coordinator::store::sqlite::record::{execute, expect_one};
use crate::coordinator::store::sqlite::rows::uuid;
use crate::model::ids::{KeyId, KeystoreId, Revision, TemplateId, VaultId};

/// Deletes a vault without keys, keystores and templates in use. Archived templates go with it (API v4).
pub(crate) fn vault(sql: &Connection, id: VaultId, expected: Revision) -> Result<(), StoreError> {
    let what = format!("vault/{id}");
    let exists = "SELECT 1 FROM vault WHERE id = ?1";
    expect_revision(sql, "vault", &what, id.uuid(), expected)?;
    expect_no_blockers(
        sql,
        "SELECT 'keystore' AS kind, id, name FROM keystore WHERE vault = ?1
         UNION ALL SELECT 'template', id, name FROM template WHERE vault = ?1 AND archived = 0
         UNION ALL SELECT 'key', id, label FROM key WHERE vault = ?1",
        id.uuid(),
    )?;
    execute(
        sql,
        "DELETE FROM template WHERE vault = ?1 AND archived = 1",
        [id.uuid().as_bytes()],
    )?;
    let touched = execute(
        sql,
        "DELETE FROM vault WHERE id = ?1 AND revision = ?2",
        params![id.uuid().as_bytes(), number(expected.0)?],
    )?;
    expect_one(sql, touched, &what, exists, id.uuid().as_bytes())
}

/// Deletes a template that no key refers to.
pub(crate) fn template(
    sql: &Connection,
    id: TemplateId,
    expected: Revision,
) -> Result<(), StoreError> {
    let what = format!("template/{id}");
    expect_revision(sql, "template", &what, id.uuid(), expected)?;
    expect_no_blockers(
        sql,
        "SELECT 'key' AS kind, id, label AS name FROM key WHERE template = ?1",
        id.uuid(),
    )?;
    let touched = execute(
        sql,
        "DELETE FROM template WHERE id = ?1 AND revision = ?2",
        params![id.uuid().as_bytes(), number(expected.0)?],
    )?;
    let exists = "SELECT 1 FROM template WHERE id = ?1";
    expect_one(sql, touched, &what, exists, id.uuid().as_bytes())
}

/// Deletes a keystore that holds no instance but destroyed ones, and no repository copy.
pub(crate) fn keystore(
    sql: &Connection,
    id: KeystoreId,
    expected: Revision,
) -> Result<(), StoreError> {
    let what = format!("keystore/{id}");
    expect_revision(sql, "keystore", &what, id.uuid(), expected)?;
    expect_no_blockers(
        sql,
        "SELECT 'key' AS kind, key.id, key.label AS name FROM instance
             JOIN key ON key.id = instance.key
             WHERE instance.keystore = ?1 AND instance.want <> 'destroyed'
         UNION SELECT CASE WHEN key.id IS NULL THEN 'version' ELSE 'key' END,
                 coalesce(key.id, copy.version), coalesce(key.label, '') FROM copy
             LEFT JOIN key_version ON key_version.version = copy.version
             LEFT JOIN key ON key.id = key_version.key
             WHERE copy.keystore = ?1",
        id.uuid(),
    )?;
    execute(
        sql,
        "DELETE FROM seen WHERE keystore = ?1",
        [id.uuid().as_bytes()],
    )?;
    let touched = execute(
        sql,
        "DELETE FROM keystore WHERE id = ?1 AND revision = ?2",
        params![id.uuid().as_bytes(), number(expected.0)?],
    )?;
    let exists = "SELECT 1 FROM keystore WHERE id = ?1";
    expect_one(sql, touched, &what, exists, id.uuid().as_bytes())
}

/// Deletes a key's record with its instances and what was last seen of them. Its repository copies must be erased before.
pub(crate) fn key(sql: &Connection, id: KeyId, expected: Revision) -> Result<(), StoreError> {
    let what = format!("key/{id}");
    expect_revision(sql, "key", &what, id.uuid(), expected)?;
    expect_no_blockers(
        sql,
        "SELECT 'copy' AS kind, copy.keystore AS id, keystore.name FROM key_version
             JOIN copy ON copy.version = key_version.version
             JOIN keystore ON keystore.id = copy.keystore
             WHERE key_version.key = ?1",
        id.uuid(),
    )?;
    execute(
        sql,
        "DELETE FROM seen WHERE version IN
             (SELECT version FROM key_version WHERE key = ?1
              UNION SELECT version FROM instance WHERE key = ?1)",
        [id.uuid().as_bytes()],
    )?;
    // Instances and versions go by ON DELETE CASCADE.
    let touched = execute(
        sql,
        "DELETE FROM key WHERE id = ?1 AND revision = ?2",
        params![id.uuid().as_bytes(), number(expected.0)?],
    )?;
    let exists = "SELECT 1 FROM key WHERE id = ?1";
    expect_one(sql, touched, &what, exists, id.uuid().as_bytes())
}

/// Looks at the revision first, so that a stale caller hears of that and not of blockers.
fn expect_revision(
    sql: &Connection,
    table: &str,
    what: &str,
    id: Uuid,
    expected: Revision,
) -> Result<(), StoreError> {
    let current = sql
        .prepare_cached(&format!(
            "SELECT 1 FROM {table} WHERE id = ?1 AND revision = ?2"
        ))?
        .exists(params![id.as_bytes(), number(expected.0)?])?;
    let exists = format!("SELECT 1 FROM {table} WHERE id = ?1");
    expect_one(sql, usize::from(current), what, &exists, id.as_bytes())
}

/// Refuses if the query (columns kind, id, name) finds anything.
fn expect_no_blockers(sql: &Connection, query: &str, id: Uuid) -> Result<(), StoreError> {
    let text = format!(
        "SELECT kind, id, name, count(*) OVER () FROM ({query}) ORDER BY kind, name, id LIMIT ?2"
    );
    let mut statement = sql.prepare_cached(&text)?;
    let mut rows = statement.query(params![id.as_bytes(), BLOCKERS_MAX])?;
    let mut blockers = Vec::new();
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let (kind, id, name): (String, Vec<u8>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        blockers.push(
            format!("{kind}/{} {name}", uuid(&id)?)
                .trim_end()
                .to_owned(),
        );
        count = from_number(row.get(3)?)?;
    }
    if blockers.is_empty() {
        Ok(())
    } else {
        Err(StoreError::InUse { blockers, count })
    }
}
