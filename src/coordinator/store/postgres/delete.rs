//! Deletes: refused with those that still depend on the record, told by name.

use uuid::Uuid;

use crate::coordinator::store::StoreError;
use crate::coordinator::store::bounds::BLOCKERS_MAX;
use crate::coordinator::store::encoded::{from_number, number};
use crate::coordinator::store::postgres::failure::Problem;
use crate::coordinator::store::postgres::record::expect_one;
use crate::coordinator::store::postgres::sql::{Sql, execute, id, row, rows};
use crate::model::ids::{KeyId, KeystoreId, Revision, TemplateId, VaultId};

/// Deletes a vault without keys, keystores and templates in use. Archived templates go with it (API v4).
pub(crate) async fn vault(sql: &Sql, vault: VaultId, expected: Revision) -> Result<(), Problem> {
    let (what, id) = (format!("vault/{vault}"), vault.uuid());
    expect_revision(sql, "vault", &what, id, expected).await?;
    expect_no_blockers(
        sql,
        "SELECT 'keystore' AS kind, id, name FROM keystore WHERE vault = $1
         UNION ALL SELECT 'template', id, name FROM template WHERE vault = $1 AND NOT archived
         UNION ALL SELECT 'key', id, label FROM key WHERE vault = $1",
        id,
    )
    .await?;
    execute(
        sql,
        "DELETE FROM template WHERE vault = $1 AND archived",
        &[&id],
    )
    .await?;
    delete(sql, "vault", &what, id, expected).await
}

/// Deletes a template that no key refers to.
pub(crate) async fn template(
    sql: &Sql,
    template: TemplateId,
    expected: Revision,
) -> Result<(), Problem> {
    let (what, id) = (format!("template/{template}"), template.uuid());
    expect_revision(sql, "template", &what, id, expected).await?;
    expect_no_blockers(
        sql,
        "SELECT 'key' AS kind, id, label AS name FROM key WHERE template = $1",
        id,
    )
    .await?;
    delete(sql, "template", &what, id, expected).await
}

/// Deletes a keystore that holds no instance but destroyed ones, and no repository copy.
pub(crate) async fn keystore(
    sql: &Sql,
    keystore: KeystoreId,
    expected: Revision,
) -> Result<(), Problem> {
    let (what, id) = (format!("keystore/{keystore}"), keystore.uuid());
    expect_revision(sql, "keystore", &what, id, expected).await?;
    expect_no_blockers(
        sql,
        "SELECT 'key' AS kind, key.id, key.label AS name FROM instance
             JOIN key ON key.id = instance.key
             WHERE instance.keystore = $1 AND instance.want <> 'destroyed'
         UNION SELECT CASE WHEN key.id IS NULL THEN 'version' ELSE 'key' END,
                 coalesce(key.id, copy.version), coalesce(key.label, '') FROM copy
             LEFT JOIN key_version ON key_version.version = copy.version
             LEFT JOIN key ON key.id = key_version.key
             WHERE copy.keystore = $1",
        id,
    )
    .await?;
    execute(sql, "DELETE FROM seen WHERE keystore = $1", &[&id]).await?;
    delete(sql, "keystore", &what, id, expected).await
}

/// Deletes a key's record with its instances and what was last seen of them. Its repository copies must be erased before.
pub(crate) async fn key(sql: &Sql, key: KeyId, expected: Revision) -> Result<(), Problem> {
    let (what, id) = (format!("key/{key}"), key.uuid());
    expect_revision(sql, "key", &what, id, expected).await?;
    expect_no_blockers(
        sql,
        "SELECT 'copy' AS kind, copy.keystore AS id, keystore.name FROM key_version
             JOIN copy ON copy.version = key_version.version
             JOIN keystore ON keystore.id = copy.keystore
             WHERE key_version.key = $1",
        id,
    )
    .await?;
    execute(
        sql,
        "DELETE FROM seen WHERE version IN
             (SELECT version FROM key_version WHERE key = $1
              UNION SELECT version FROM instance WHERE key = $1)",
        &[&id],
    )
    .await?;
    // Instances and versions go by ON DELETE CASCADE.
    delete(sql, "key", &what, id, expected).await
}

async fn delete(
    sql: &Sql,
    table: &str,
    what: &str,
    id: Uuid,
    expected: Revision,
) -> Result<(), Problem> {
    let text = format!("DELETE FROM {table} WHERE id = $1 AND revision = $2");
    let touched = execute(sql, &text, &[&id, &number(expected.0)?]).await?;
    let exists = format!("SELECT 1 FROM {table} WHERE id = $1");
    expect_one(sql, touched, what, &exists, id).await
}

/// Looks at the revision first, so that a stale caller hears of that and not of blockers.
async fn expect_revision(
    sql: &Sql,
    table: &str,
    what: &str,
    id: Uuid,
    expected: Revision,
) -> Result<(), Problem> {
    let text = format!("SELECT 1 FROM {table} WHERE id = $1 AND revision = $2");
    let current = row(sql, &text, &[&id, &number(expected.0)?]).await?;
    let exists = format!("SELECT 1 FROM {table} WHERE id = $1");
    expect_one(sql, u64::from(current.is_some()), what, &exists, id).await
}

/// Refuses if the query (columns kind, id, name) finds anything.
async fn expect_no_blockers(sql: &Sql, query: &str, of: Uuid) -> Result<(), Problem> {
    let text = format!(
        "SELECT kind, id, name, count(*) OVER () FROM ({query}) AS blocker
         ORDER BY kind, name, id LIMIT $2"
    );
    let mut blockers = Vec::new();
    let mut count = 0;
    for row in rows(sql, &text, &[&of, &i64::from(BLOCKERS_MAX)]).await? {
        let (kind, name): (&str, &str) = (row.try_get(0)?, row.try_get(2)?);
        let blocker = format!("{kind}/{} {name}", id(&row, 1)?);
        blockers.push(blocker.trim_end().to_owned());
        count = from_number(row.try_get(3)?)?;
    }
    if blockers.is_empty() {
        Ok(())
    } else {
        Err(Problem::Refused(StoreError::InUse { blockers, count }))
    }
}
