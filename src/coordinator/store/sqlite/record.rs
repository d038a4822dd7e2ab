//! Inserts and updates of records. Every update is conditional, and its row count is checked.

use rusqlite::{Connection, Params, params};

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::{encode, number};
use crate::coordinator::store::sqlite::failure::{Broken, uniqueness};
use crate::coordinator::store::sqlite::rotation;
use crate::model::ids::{KeyVersionId, Revision};
use crate::model::key::ManagedKey;
use crate::model::keystore::KeystoreRecord;
use crate::model::material::RepositoryCopy;
use crate::model::observed::Fingerprint;
use crate::model::template::KeyTemplate;
use crate::model::vault::Vault;

/// Runs a statement that stays prepared; gives the number of rows it touched.
pub(crate) fn execute(
    sql: &Connection,
    text: &str,
    values: impl Params,
) -> rusqlite::Result<usize> {
    sql.prepare_cached(text)?.execute(values)
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

pub(crate) fn vault_insert(sql: &Connection, vault: &Vault, text: &str) -> Result<(), StoreError> {
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

pub(crate) fn vault_update(
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

pub(crate) fn template_insert(
    sql: &Connection,
    template: &KeyTemplate,
    text: &str,
) -> Result<(), StoreError> {
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

pub(crate) fn template_update(
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

pub(crate) fn keystore_insert(
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

pub(crate) fn keystore_update(
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

pub(crate) fn key_insert(sql: &Connection, key: &ManagedKey, text: &str) -> Result<(), StoreError> {
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

pub(crate) fn key_update(
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

/// Notes whose the versions are, and of what; a version never changes its key. Those before the one in use were noted when they
/// were made.
fn version_insert(sql: &Connection, key: &ManagedKey) -> Result<(), StoreError> {
    one_version(sql, key, key.version, key.fingerprint)?;
    match &key.coming {
        Some(coming) => one_version(sql, key, coming.id, coming.fingerprint),
        None => Ok(()),
    }
}

fn one_version(
    sql: &Connection,
    key: &ManagedKey,
    version: KeyVersionId,
    material: Option<Fingerprint>,
) -> Result<(), StoreError> {
    let (id, key) = (version.uuid(), key.id.uuid());
    let material = material.map(|of| encode(&of.value)).transpose()?;
    let ours = execute(
        sql,
        "INSERT INTO key_version (version, key, fingerprint) VALUES (?1, ?2, ?3)
         ON CONFLICT (version) DO UPDATE SET fingerprint = excluded.fingerprint
             WHERE key_version.key = excluded.key",
        params![id.as_bytes(), key.as_bytes(), material],
    )?;
    if ours == 1 {
        Ok(())
    } else {
        Err(StoreError::Taken {
            field: "version".to_owned(),
            value: version.to_string(),
        })
    }
}

pub(crate) fn copy_insert(
    sql: &Connection,
    version: KeyVersionId,
    copy: &RepositoryCopy,
    text: &str,
) -> Result<(), StoreError> {
    rotation::check_copy(sql, copy)?;
    let named = Named {
        what: format!("copy/{version} on keystore/{}", copy.keystore),
        field: "copy",
        value: "",
        parent: format!("keystore/{}", copy.keystore),
    };
    named.insert(
        sql,
        "INSERT INTO copy (version, keystore, record, kek) VALUES (?1, ?2, ?3, ?4)",
        params![
            version.uuid().as_bytes(),
            copy.keystore.uuid().as_bytes(),
            text,
            copy.kek.get()
        ],
    )
}

pub(crate) fn copy_add(
    sql: &Connection,
    version: KeyVersionId,
    copy: &RepositoryCopy,
    text: &str,
) -> Result<(), StoreError> {
    rotation::check_copy(sql, copy)?;
    let added = execute(
        sql,
        "INSERT INTO copy (version, keystore, record, kek)
             SELECT ?1, keystore.id, ?3, ?4 FROM keystore
             WHERE keystore.id = ?2 AND EXISTS (SELECT 1 FROM copy WHERE version = ?1)
         ON CONFLICT (version, keystore) DO UPDATE SET record = excluded.record, kek = excluded.kek",
        params![
            version.uuid().as_bytes(),
            copy.keystore.uuid().as_bytes(),
            text,
            copy.kek.get()
        ],
    )?;
    if added == 0 {
        let what = format!("copies of {version}");
        return Err(StoreError::Conflict { what });
    }
    Ok(())
}
