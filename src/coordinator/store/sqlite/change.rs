//! Carries out one piece of work inside the writer's transaction. Every update is conditional, and its row count is checked.

use rusqlite::{Connection, OptionalExtension as _, Params, params};

use crate::coordinator::store::sqlite::delete;
use crate::coordinator::store::sqlite::failure::{Broken, because, uniqueness};
use crate::coordinator::store::sqlite::instance::instance_put;
use crate::coordinator::store::sqlite::rows::{OPERATION, encode, from_number, number, operation};
use crate::coordinator::store::sqlite::writer::{Answer, Work};
use crate::coordinator::store::{Change, OperationRecord, StoreError, Write};
use crate::model::audit::AuditEntry;
use crate::model::ids::{KeyVersionId, KeystoreId, Revision, Term};
use crate::model::key::ManagedKey;
use crate::model::keystore::KeystoreRecord;
use crate::model::live::LastSeen;
use crate::model::material::RepositoryCopy;
use crate::model::template::KeyTemplate;
use crate::model::vault::Vault;

/// Writes in one change: a destroyed key with ten thousand keystores fits several times.
pub const WRITES_MAX: usize = 65_536;

/// How long an operation is remembered, milliseconds: 30 days.
const OPERATION_AGE_MAX_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// Old operations that one new one removes: more than one, so that they get fewer; few, so that no change waits for it, and a
/// clock that jumps forgets little.
const PRUNED_MAX: u32 = 4;

/// A change with the texts of its records: callers encode them side by side, not the writer one by one.
#[derive(Debug)]
pub(crate) struct Encoded {
    change: Change,
    /// One for each write, empty where it has no record.
    writes: Vec<String>,
    /// One for each audit entry.
    audit: Vec<String>,
}

impl Encoded {
    /// Encodes the records of a change.
    pub(crate) fn new(change: Change) -> Result<Self, StoreError> {
        let count = change.writes.len();
        if count > WRITES_MAX {
            return Err(because(&format!(
                "{count} writes in one change; at most {WRITES_MAX}"
            )));
        }
        let writes: Result<_, _> = change.writes.iter().map(record_of).collect();
        let audit: Result<_, _> = change.audit.iter().map(encode).collect();
        Ok(Self {
            writes: writes?,
            audit: audit?,
            change,
        })
    }
}

fn record_of(write: &Write) -> Result<String, StoreError> {
    match write {
        Write::VaultInsert(record) | Write::VaultUpdate { record, .. } => encode(record),
        Write::TemplateInsert(record) | Write::TemplateUpdate { record, .. } => encode(record),
        Write::KeystoreInsert(record) | Write::KeystoreUpdate { record, .. } => encode(record),
        Write::KeyInsert(record) | Write::KeyUpdate { record, .. } => encode(record),
        Write::CopyInsert { copy, .. } => encode(copy),
        Write::InstancePut { instance, .. } => encode(instance),
        Write::VaultDelete { .. }
        | Write::TemplateDelete { .. }
        | Write::KeystoreDelete { .. }
        | Write::KeyDelete { .. }
        | Write::CopiesErase { .. } => Ok(String::new()),
    }
}

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

/// Runs a statement that stays prepared; gives the number of rows it touched.
pub(crate) fn execute(
    sql: &Connection,
    text: &str,
    values: impl Params,
) -> rusqlite::Result<usize> {
    sql.prepare_cached(text)?.execute(values)
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
    for (write, text) in change.writes.iter().zip(&encoded.writes) {
        write_one(sql, write, text)?;
    }
    for (entry, text) in change.audit.iter().zip(&encoded.audit) {
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
        Write::CopiesErase { version } => {
            let id = version.uuid();
            execute(
                sql,
                "DELETE FROM copy WHERE version = ?1",
                params![id.as_bytes()],
            )?;
            Ok(())
        }
        Write::InstancePut {
            key,
            instance,
            expected,
        } => instance_put(sql, *key, instance, *expected, text),
    }
}

/// What a record is called in errors.
struct Named<'a> {
    /// Such as `key/<id>`.
    what: String,
    /// The column that must be unique beside the id.
    field: &'static str,
    /// Its value.
    value: &'a str,
    /// What it belongs to, such as `vault/<id>`.
    parent: String,
}

impl Named<'_> {
    fn refuse(&self, error: rusqlite::Error) -> StoreError {
        match uniqueness(&error) {
            Some(Broken::Id) => StoreError::Taken {
                field: "id".to_owned(),
                value: self.what.clone(),
            },
            Some(Broken::Name) => StoreError::Taken {
                field: self.field.to_owned(),
                value: self.value.to_owned(),
            },
            Some(Broken::Parent) => StoreError::NotFound {
                what: self.parent.clone(),
            },
            None => error.into(),
        }
    }

    fn insert(&self, sql: &Connection, text: &str, values: impl Params) -> Result<(), StoreError> {
        execute(sql, text, values)
            .map(|_one| ())
            .map_err(|error| self.refuse(error))
    }

    /// An update that must touch one row; with none, somebody was faster or the record is gone.
    fn update(
        &self,
        sql: &Connection,
        text: &str,
        values: impl Params,
        exists: &str,
        id: &[u8; 16],
    ) -> Result<(), StoreError> {
        let touched = execute(sql, text, values).map_err(|error| self.refuse(error))?;
        expect_one(sql, touched, &self.what, exists, id)
    }
}

/// Tells a changed record from one that is gone where a conditional statement touched no row.
pub(crate) fn expect_one(
    sql: &Connection,
    touched: usize,
    what: &str,
    exists: &str,
    id: &[u8; 16],
) -> Result<(), StoreError> {
    if touched == 1 {
        return Ok(());
    }
    let what = what.to_owned();
    if sql.prepare_cached(exists)?.exists([id])? {
        Err(StoreError::Conflict { what })
    } else {
        Err(StoreError::NotFound { what })
    }
}

fn vault_named(vault: &Vault) -> Named<'_> {
    Named {
        what: format!("vault/{}", vault.id),
        field: "name",
        value: &vault.name,
        parent: String::new(),
    }
}

fn vault_insert(sql: &Connection, vault: &Vault, text: &str) -> Result<(), StoreError> {
    vault_named(vault).insert(
        sql,
        "INSERT INTO vault (id, name, revision, record) VALUES (?1, ?2, ?3, ?4)",
        params![
            vault.id.uuid().as_bytes(),
            vault.name,
            number(vault.revision.0)?,
            text
        ],
    )
}

fn vault_update(
    sql: &Connection,
    vault: &Vault,
    expected: Revision,
    text: &str,
) -> Result<(), StoreError> {
    let id = vault.id.uuid();
    vault_named(vault).update(
        sql,
        "UPDATE vault SET name = ?3, revision = ?4, record = ?5 WHERE id = ?1 AND revision = ?2",
        params![
            id.as_bytes(),
            number(expected.0)?,
            vault.name,
            number(vault.revision.0)?,
            text
        ],
        "SELECT 1 FROM vault WHERE id = ?1",
        id.as_bytes(),
    )
}

fn template_named(template: &KeyTemplate) -> Named<'_> {
    Named {
        what: format!("template/{}", template.id),
        field: "name",
        value: &template.name,
        parent: format!("vault/{}", template.vault),
    }
}

fn template_insert(sql: &Connection, template: &KeyTemplate, text: &str) -> Result<(), StoreError> {
    template_named(template).insert(
        sql,
        "INSERT INTO template (id, vault, name, archived, revision, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            template.id.uuid().as_bytes(),
            template.vault.uuid().as_bytes(),
            template.name,
            template.archived,
            number(template.revision.0)?,
            text
        ],
    )
}

fn template_update(
    sql: &Connection,
    template: &KeyTemplate,
    expected: Revision,
    text: &str,
) -> Result<(), StoreError> {
    let id = template.id.uuid();
    template_named(template).update(
        sql,
        "UPDATE template SET name = ?4, archived = ?5, revision = ?6, record = ?7
         WHERE id = ?1 AND vault = ?2 AND revision = ?3",
        params![
            id.as_bytes(),
            template.vault.uuid().as_bytes(),
            number(expected.0)?,
            template.name,
            template.archived,
            number(template.revision.0)?,
            text
        ],
        "SELECT 1 FROM template WHERE id = ?1",
        id.as_bytes(),
    )
}

fn keystore_named(keystore: &KeystoreRecord) -> Named<'_> {
    Named {
        what: format!("keystore/{}", keystore.id),
        field: "name",
        value: &keystore.name,
        parent: format!("vault/{}", keystore.vault),
    }
}

fn keystore_insert(
    sql: &Connection,
    keystore: &KeystoreRecord,
    text: &str,
) -> Result<(), StoreError> {
    keystore_named(keystore).insert(
        sql,
        "INSERT INTO keystore (id, vault, name, revision, record) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            keystore.id.uuid().as_bytes(),
            keystore.vault.uuid().as_bytes(),
            keystore.name,
            number(keystore.revision.0)?,
            text
        ],
    )?;
    groups_insert(sql, keystore)
}

fn keystore_update(
    sql: &Connection,
    keystore: &KeystoreRecord,
    expected: Revision,
    text: &str,
) -> Result<(), StoreError> {
    let id = keystore.id.uuid();
    keystore_named(keystore).update(
        sql,
        "UPDATE keystore SET name = ?4, revision = ?5, record = ?6
         WHERE id = ?1 AND vault = ?2 AND revision = ?3",
        params![
            id.as_bytes(),
            keystore.vault.uuid().as_bytes(),
            number(expected.0)?,
            keystore.name,
            number(keystore.revision.0)?,
            text
        ],
        "SELECT 1 FROM keystore WHERE id = ?1",
        id.as_bytes(),
    )?;
    execute(
        sql,
        "DELETE FROM keystore_group WHERE keystore = ?1",
        [id.as_bytes()],
    )?;
    groups_insert(sql, keystore)
}

fn groups_insert(sql: &Connection, keystore: &KeystoreRecord) -> Result<(), StoreError> {
    for group in &keystore.groups {
        execute(
            sql,
            "INSERT INTO keystore_group (name, keystore) VALUES (?1, ?2)",
            params![group, keystore.id.uuid().as_bytes()],
        )?;
    }
    Ok(())
}

fn key_named(key: &ManagedKey) -> Named<'_> {
    Named {
        what: format!("key/{}", key.id),
        field: "label",
        value: key.label.as_str(),
        parent: format!("vault/{} or template/{}", key.vault, key.template),
    }
}

fn key_insert(sql: &Connection, key: &ManagedKey, text: &str) -> Result<(), StoreError> {
    key_named(key).insert(
        sql,
        "INSERT INTO key (id, vault, template, label, algorithm, bits, state, activation_date,
             expiration_date, created_at, updated_at, revision, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            key.id.uuid().as_bytes(),
            key.vault.uuid().as_bytes(),
            key.template.uuid().as_bytes(),
            key.label.as_str(),
            key.spec.algorithm().name(),
            key.spec.bits(),
            key.state.name(),
            key.activation_date,
            key.expiration_date,
            key.stamps.created_at.0,
            key.stamps.updated_at.0,
            number(key.revision.0)?,
            text
        ],
    )?;
    version_insert(sql, key)
}

fn key_update(
    sql: &Connection,
    key: &ManagedKey,
    expected: Revision,
    text: &str,
) -> Result<(), StoreError> {
    let id = key.id.uuid();
    key_named(key).update(
        sql,
        "UPDATE key SET template = ?4, label = ?5, algorithm = ?6, bits = ?7, state = ?8,
             activation_date = ?9, expiration_date = ?10, created_at = ?11, updated_at = ?12,
             revision = ?13, record = ?14
         WHERE id = ?1 AND vault = ?2 AND revision = ?3",
        params![
            id.as_bytes(),
            key.vault.uuid().as_bytes(),
            number(expected.0)?,
            key.template.uuid().as_bytes(),
            key.label.as_str(),
            key.spec.algorithm().name(),
            key.spec.bits(),
            key.state.name(),
            key.activation_date,
            key.expiration_date,
            key.stamps.created_at.0,
            key.stamps.updated_at.0,
            number(key.revision.0)?,
            text
        ],
        "SELECT 1 FROM key WHERE id = ?1",
        id.as_bytes(),
    )?;
    version_insert(sql, key)
}

/// Notes whose a version is; a version never changes its key.
fn version_insert(sql: &Connection, key: &ManagedKey) -> Result<(), StoreError> {
    let (version, id) = (key.version.uuid(), key.id.uuid());
    execute(
        sql,
        "INSERT OR IGNORE INTO key_version (version, key) VALUES (?1, ?2)",
        params![version.as_bytes(), id.as_bytes()],
    )?;
    let ours = sql
        .prepare_cached("SELECT 1 FROM key_version WHERE version = ?1 AND key = ?2")?
        .exists(params![version.as_bytes(), id.as_bytes()])?;
    if ours {
        Ok(())
    } else {
        Err(StoreError::Taken {
            field: "version".to_owned(),
            value: key.version.to_string(),
        })
    }
}

fn copy_insert(
    sql: &Connection,
    version: KeyVersionId,
    copy: &RepositoryCopy,
    text: &str,
) -> Result<(), StoreError> {
    let named = Named {
        what: format!("copy/{version} on keystore/{}", copy.keystore),
        field: "copy",
        value: "",
        parent: format!("keystore/{}", copy.keystore),
    };
    named.insert(
        sql,
        "INSERT INTO copy (version, keystore, record) VALUES (?1, ?2, ?3)",
        params![
            version.uuid().as_bytes(),
            copy.keystore.uuid().as_bytes(),
            text
        ],
    )
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
