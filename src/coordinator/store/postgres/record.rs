//! Inserts and updates of records. Every update is conditional, and its row count is checked.

use uuid::Uuid;

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::{encode, number};
use crate::coordinator::store::postgres::failure::{Broken, Problem, rule};
use crate::coordinator::store::postgres::rotation;
use crate::coordinator::store::postgres::sql::{Sql, Values, execute, row};
use crate::model::ids::{KeyVersionId, Revision};
use crate::model::key::ManagedKey;
use crate::model::keystore::KeystoreRecord;
use crate::model::material::RepositoryCopy;
use crate::model::observed::Fingerprint;
use crate::model::template::KeyTemplate;
use crate::model::vault::Vault;

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
    fn refuse(&self, error: tokio_postgres::Error) -> Problem {
        let refused = match rule(&error) {
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
            None => return error.into(),
        };
        Problem::Refused(refused)
    }

    async fn insert(&self, sql: &Sql, text: &str, values: Values<'_>) -> Result<(), Problem> {
        match execute(sql, text, values).await {
            Ok(_one) => Ok(()),
            Err(error) => Err(self.refuse(error)),
        }
    }

    /// An update that must touch one row; with none, somebody was faster or the record is gone.
    async fn update(
        &self,
        sql: &Sql,
        text: &str,
        values: Values<'_>,
        exists: &str,
        id: Uuid,
    ) -> Result<(), Problem> {
        let touched = execute(sql, text, values).await;
        let touched = touched.map_err(|error| self.refuse(error))?;
        expect_one(sql, touched, &self.what, exists, id).await
    }
}

/// Tells a changed record from one that is gone where a conditional statement touched no row.
pub(crate) async fn expect_one(
    sql: &Sql,
    touched: u64,
    what: &str,
    exists: &str,
    id: Uuid,
) -> Result<(), Problem> {
    if touched == 1 {
        return Ok(());
    }
    let what = what.to_owned();
    Err(Problem::Refused(match row(sql, exists, &[&id]).await? {
        Some(_) => StoreError::Conflict { what },
        None => StoreError::NotFound { what },
    }))
}

fn vault_named(vault: &Vault) -> Named<'_> {
    Named {
        what: format!("vault/{}", vault.id),
        field: "name",
        value: &vault.name,
        parent: String::new(),
    }
}

pub(crate) async fn vault_insert(sql: &Sql, vault: &Vault, text: &str) -> Result<(), Problem> {
    let named = vault_named(vault);
    named
        .insert(
            sql,
            "INSERT INTO vault (id, name, revision, record) VALUES ($1, $2, $3, $4)",
            &[
                &vault.id.uuid(),
                &vault.name,
                &number(vault.revision.0)?,
                &text,
            ],
        )
        .await
}

pub(crate) async fn vault_update(
    sql: &Sql,
    vault: &Vault,
    expected: Revision,
    text: &str,
) -> Result<(), Problem> {
    let (named, id) = (vault_named(vault), vault.id.uuid());
    named
        .update(
            sql,
            "UPDATE vault SET name = $3, revision = $4, record = $5 WHERE id = $1 AND revision = $2",
            &[
                &id,
                &number(expected.0)?,
                &vault.name,
                &number(vault.revision.0)?,
                &text,
            ],
            "SELECT 1 FROM vault WHERE id = $1",
            id,
        )
        .await
}

fn template_named(template: &KeyTemplate) -> Named<'_> {
    Named {
        what: format!("template/{}", template.id),
        field: "name",
        value: &template.name,
        parent: format!("vault/{}", template.vault),
    }
}

pub(crate) async fn template_insert(
    sql: &Sql,
    template: &KeyTemplate,
    text: &str,
) -> Result<(), Problem> {
    template_named(template)
        .insert(
            sql,
            "INSERT INTO template (id, vault, name, archived, revision, record)
             VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                &template.id.uuid(),
                &template.vault.uuid(),
                &template.name,
                &template.archived,
                &number(template.revision.0)?,
                &text,
            ],
        )
        .await
}

pub(crate) async fn template_update(
    sql: &Sql,
    template: &KeyTemplate,
    expected: Revision,
    text: &str,
) -> Result<(), Problem> {
    let id = template.id.uuid();
    template_named(template)
        .update(
            sql,
            "UPDATE template SET name = $4, archived = $5, revision = $6, record = $7
             WHERE id = $1 AND vault = $2 AND revision = $3",
            &[
                &id,
                &template.vault.uuid(),
                &number(expected.0)?,
                &template.name,
                &template.archived,
                &number(template.revision.0)?,
                &text,
            ],
            "SELECT 1 FROM template WHERE id = $1",
            id,
        )
        .await
}

fn keystore_named(keystore: &KeystoreRecord) -> Named<'_> {
    Named {
        what: format!("keystore/{}", keystore.id),
        field: "name",
        value: &keystore.name,
        parent: format!("vault/{}", keystore.vault),
    }
}

pub(crate) async fn keystore_insert(
    sql: &Sql,
    keystore: &KeystoreRecord,
    text: &str,
) -> Result<(), Problem> {
    keystore_named(keystore)
        .insert(
            sql,
            "INSERT INTO keystore (id, vault, name, revision, record) VALUES ($1, $2, $3, $4, $5)",
            &[
                &keystore.id.uuid(),
                &keystore.vault.uuid(),
                &keystore.name,
                &number(keystore.revision.0)?,
                &text,
            ],
        )
        .await?;
    groups_insert(sql, keystore).await
}

pub(crate) async fn keystore_update(
    sql: &Sql,
    keystore: &KeystoreRecord,
    expected: Revision,
    text: &str,
) -> Result<(), Problem> {
    let id = keystore.id.uuid();
    keystore_named(keystore)
        .update(
            sql,
            "UPDATE keystore SET name = $4, revision = $5, record = $6
             WHERE id = $1 AND vault = $2 AND revision = $3",
            &[
                &id,
                &keystore.vault.uuid(),
                &number(expected.0)?,
                &keystore.name,
                &number(keystore.revision.0)?,
                &text,
            ],
            "SELECT 1 FROM keystore WHERE id = $1",
            id,
        )
        .await?;
    execute(
        sql,
        "DELETE FROM keystore_group WHERE keystore = $1",
        &[&id],
    )
    .await?;
    groups_insert(sql, keystore).await
}

async fn groups_insert(sql: &Sql, keystore: &KeystoreRecord) -> Result<(), Problem> {
    for group in &keystore.groups {
        execute(
            sql,
            "INSERT INTO keystore_group (name, keystore) VALUES ($1, $2)",
            &[group, &keystore.id.uuid()],
        )
        .await?;
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

/// The columns by which a key is found when a date is to act.
struct Dates<'a> {
    activation: Option<&'a str>,
    expiration: Option<&'a str>,
    rotation: Option<&'a str>,
    hold: Option<&'a str>,
    coming: Option<String>,
}

impl<'a> Dates<'a> {
    fn of(key: &'a ManagedKey) -> Self {
        let open = |date: &'a Option<String>, acted: &Option<String>| {
            if date == acted { None } else { date.as_deref() }
        };
        Self {
            activation: open(&key.activation_date, &key.acted.activation),
            expiration: open(&key.expiration_date, &key.acted.expiration),
            rotation: key.rotation_date.as_deref(),
            hold: key.hold.as_ref().map(|hold| hold.until.as_str()),
            coming: key.coming.as_ref().map(|coming| coming.id.to_string()),
        }
    }
}

pub(crate) async fn key_insert(sql: &Sql, key: &ManagedKey, text: &str) -> Result<(), Problem> {
    let dates = Dates::of(key);
    key_named(key)
        .insert(
            sql,
            "INSERT INTO key (id, vault, template, label, algorithm, bits, state, activation_date,
                 expiration_date, created_at, updated_at, revision, record, activation_open,
                 expiration_open, rotation_date, hold_until, coming)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
            &[
                &key.id.uuid(),
                &key.vault.uuid(),
                &key.template.uuid(),
                &key.label.as_str(),
                &key.spec.algorithm().name(),
                &i64::from(key.spec.bits()),
                &key.state.name(),
                &key.activation_date,
                &key.expiration_date,
                &key.stamps.created_at.0,
                &key.stamps.updated_at.0,
                &number(key.revision.0)?,
                &text,
                &dates.activation,
                &dates.expiration,
                &dates.rotation,
                &dates.hold,
                &dates.coming,
            ],
        )
        .await?;
    version_insert(sql, key).await
}

pub(crate) async fn key_update(
    sql: &Sql,
    key: &ManagedKey,
    expected: Revision,
    text: &str,
) -> Result<(), Problem> {
    let (id, dates) = (key.id.uuid(), Dates::of(key));
    key_named(key)
        .update(
            sql,
            "UPDATE key SET template = $4, label = $5, algorithm = $6, bits = $7, state = $8,
                 activation_date = $9, expiration_date = $10, created_at = $11, updated_at = $12,
                 revision = $13, record = $14, activation_open = $15, expiration_open = $16,
                 rotation_date = $17, hold_until = $18, coming = $19
             WHERE id = $1 AND vault = $2 AND revision = $3",
            &[
                &id,
                &key.vault.uuid(),
                &number(expected.0)?,
                &key.template.uuid(),
                &key.label.as_str(),
                &key.spec.algorithm().name(),
                &i64::from(key.spec.bits()),
                &key.state.name(),
                &key.activation_date,
                &key.expiration_date,
                &key.stamps.created_at.0,
                &key.stamps.updated_at.0,
                &number(key.revision.0)?,
                &text,
                &dates.activation,
                &dates.expiration,
                &dates.rotation,
                &dates.hold,
                &dates.coming,
            ],
            "SELECT 1 FROM key WHERE id = $1",
            id,
        )
        .await?;
    version_insert(sql, key).await
}

/// Notes whose the versions are, and of what; a version never changes its key. Those before the one in use were noted when they
/// were made.
async fn version_insert(sql: &Sql, key: &ManagedKey) -> Result<(), Problem> {
    one_version(sql, key, key.version, key.fingerprint).await?;
    match &key.coming {
        Some(coming) => one_version(sql, key, coming.id, coming.fingerprint).await,
        None => Ok(()),
    }
}

async fn one_version(
    sql: &Sql,
    key: &ManagedKey,
    version: KeyVersionId,
    material: Option<Fingerprint>,
) -> Result<(), Problem> {
    // The value alone: its method is compared in the record.
    let material = material.map(|of| encode(&of.value)).transpose()?;
    let ours = execute(
        sql,
        "INSERT INTO key_version (version, key, fingerprint) VALUES ($1, $2, $3)
         ON CONFLICT (version) DO UPDATE SET fingerprint = excluded.fingerprint
             WHERE key_version.key = excluded.key",
        &[&version.uuid(), &key.id.uuid(), &material],
    )
    .await?;
    if ours == 1 {
        return Ok(());
    }
    Err(Problem::Refused(StoreError::Taken {
        field: "version".to_owned(),
        value: version.to_string(),
    }))
}

pub(crate) async fn copy_insert(
    sql: &Sql,
    version: KeyVersionId,
    copy: &RepositoryCopy,
    text: &str,
) -> Result<(), Problem> {
    rotation::check_copy(sql, copy).await?;
    let named = Named {
        what: format!("copy/{version} on keystore/{}", copy.keystore),
        field: "copy",
        value: "",
        parent: format!("keystore/{}", copy.keystore),
    };
    named
        .insert(
            sql,
            "INSERT INTO copy (version, keystore, record, kek) VALUES ($1, $2, $3, $4)",
            &[
                &version.uuid(),
                &copy.keystore.uuid(),
                &text,
                &i64::from(copy.kek.get()),
            ],
        )
        .await
}

pub(crate) async fn copy_add(
    sql: &Sql,
    version: KeyVersionId,
    copy: &RepositoryCopy,
    text: &str,
) -> Result<(), Problem> {
    rotation::check_copy(sql, copy).await?;
    let added = execute(
        sql,
        "INSERT INTO copy (version, keystore, record, kek)
             SELECT $1::uuid, keystore.id, $3::text, $4::bigint FROM keystore
             WHERE keystore.id = $2 AND EXISTS (SELECT 1 FROM copy WHERE version = $1)
         ON CONFLICT (version, keystore) DO UPDATE SET record = excluded.record, kek = excluded.kek",
        &[
            &version.uuid(),
            &copy.keystore.uuid(),
            &text,
            &i64::from(copy.kek.get()),
        ],
    )
    .await?;
    if added == 0 {
        let what = format!("copies of {version}");
        return Err(Problem::Refused(StoreError::Conflict { what }));
    }
    Ok(())
}
