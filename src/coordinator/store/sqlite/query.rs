//! Queries, each run in a snapshot of its own by a reader thread.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::coordinator::store::bounds::{PAGE_LIMIT_MAX, key_order};
use crate::coordinator::store::encoded::{decode, from_number};
use crate::coordinator::store::sqlite::change::operation_find;
use crate::coordinator::store::sqlite::rows::uuid;
use crate::coordinator::store::{InstanceRow, KeyFilter, OperationRecord, Page, Paged, StoreError};
use crate::model::audit::AuditEntry;
use crate::model::desired::Instance;
use crate::model::ids::{KeyId, KeyVersionId, KeystoreId, TemplateId, VaultId};
use crate::model::key::ManagedKey;
use crate::model::keystore::KeystoreRecord;
use crate::model::live::LastSeen;
use crate::model::material::RepositoryCopy;
use crate::model::template::KeyTemplate;
use crate::model::vault::Vault;

pub(crate) fn operation(
    sql: &Connection,
    key: &str,
) -> Result<Option<OperationRecord>, StoreError> {
    operation_find(sql, key)
}

pub(crate) fn vault(sql: &Connection, id: VaultId) -> Result<Option<Vault>, StoreError> {
    one(
        sql,
        "SELECT record FROM vault WHERE id = ?1",
        vec![blob(id.uuid())],
    )
}

pub(crate) fn template(
    sql: &Connection,
    id: TemplateId,
) -> Result<Option<KeyTemplate>, StoreError> {
    one(
        sql,
        "SELECT record FROM template WHERE id = ?1",
        vec![blob(id.uuid())],
    )
}

pub(crate) fn template_by_name(
    sql: &Connection,
    vault: VaultId,
    name: &str,
) -> Result<Option<KeyTemplate>, StoreError> {
    one(
        sql,
        "SELECT record FROM template WHERE vault = ?1 AND name = ?2",
        vec![blob(vault.uuid()), text(name)],
    )
}

pub(crate) fn keystore(
    sql: &Connection,
    id: KeystoreId,
) -> Result<Option<KeystoreRecord>, StoreError> {
    one(
        sql,
        "SELECT record FROM keystore WHERE id = ?1",
        vec![blob(id.uuid())],
    )
}

pub(crate) fn key(sql: &Connection, id: KeyId) -> Result<Option<ManagedKey>, StoreError> {
    one(
        sql,
        "SELECT record FROM key WHERE id = ?1",
        vec![blob(id.uuid())],
    )
}

pub(crate) fn key_dated(
    sql: &Connection,
    (from, to): (Option<&str>, &str),
    after: Option<KeyId>,
    limit: u32,
) -> Result<Vec<ManagedKey>, StoreError> {
    all(
        sql,
        "SELECT record FROM key WHERE id > ?3 AND id IN (
             SELECT id FROM key WHERE state = 'pre_activation'
                 AND activation_open >= ?1 AND activation_open <= ?2
             UNION SELECT id FROM key WHERE state IN ('active', 'pre_activation')
                 AND expiration_open >= ?1 AND expiration_open <= ?2
             UNION SELECT id FROM key WHERE state = 'active'
                 AND rotation_date >= ?1 AND rotation_date <= ?2
             UNION SELECT id FROM key WHERE hold_until >= ?1 AND hold_until <= ?2
             UNION SELECT id FROM key WHERE coming IS NOT NULL
         ) ORDER BY id LIMIT ?4",
        vec![
            text(from.unwrap_or_default()),
            text(to),
            Value::Blob(after.map_or_else(Vec::new, |id| id.uuid().as_bytes().to_vec())),
            Value::Integer(i64::from(limit.min(PAGE_LIMIT_MAX))),
        ],
    )
}

pub(crate) fn vault_counts(sql: &Connection, id: VaultId) -> Result<[u64; 3], StoreError> {
    let counts: [i64; 3] = sql
        .prepare_cached(
            "SELECT (SELECT count(*) FROM key WHERE vault = ?1),
                    (SELECT count(*) FROM template WHERE vault = ?1),
                    (SELECT count(*) FROM keystore WHERE vault = ?1)",
        )?
        .query_row([id.uuid().as_bytes()], |row| {
            Ok([row.get(0)?, row.get(1)?, row.get(2)?])
        })?;
    let [keys, templates, keystores] = counts;
    Ok([
        from_number(keys)?,
        from_number(templates)?,
        from_number(keystores)?,
    ])
}

pub(crate) fn vault_list(
    sql: &Connection,
    name: Option<&str>,
    page: Page,
) -> Result<Paged<Vault>, StoreError> {
    let mut list = List::of("vault");
    if let Some(name) = name {
        list.prefix("name", name);
    }
    list.page(sql, "name, id", page)
}

pub(crate) fn template_list(
    sql: &Connection,
    vault: Option<VaultId>,
    name: Option<&str>,
    page: Page,
) -> Result<Paged<KeyTemplate>, StoreError> {
    let mut list = List::of("template");
    if let Some(vault) = vault {
        list.with("vault = ?", [blob(vault.uuid())]);
    }
    if let Some(name) = name {
        list.prefix("name", name);
    }
    list.page(sql, "name, id", page)
}

pub(crate) fn keystore_list(
    sql: &Connection,
    vault: Option<VaultId>,
    group: Option<&str>,
    page: Page,
) -> Result<Paged<KeystoreRecord>, StoreError> {
    let mut list = List::of("keystore");
    if let Some(vault) = vault {
        list.with("vault = ?", [blob(vault.uuid())]);
    }
    if let Some(group) = group {
        list.with(
            "id IN (SELECT keystore FROM keystore_group WHERE name = ?)",
            [text(group)],
        );
    }
    list.page(sql, "name, id", page)
}

pub(crate) fn key_list(
    sql: &Connection,
    filter: &KeyFilter,
    page: Page,
) -> Result<Paged<ManagedKey>, StoreError> {
    let mut list = List::of("key");
    if let Some(vault) = filter.vault {
        list.with("vault = ?", [blob(vault.uuid())]);
    }
    if !filter.states.is_empty() {
        let places = vec!["?"; filter.states.len()].join(", ");
        list.with(
            &format!("state IN ({places})"),
            filter.states.iter().map(|state| text(state.name())),
        );
    }
    if let Some(label) = &filter.label {
        list.with("label = ?", [text(label)]);
    }
    if let Some(template) = filter.template {
        list.with("template = ?", [blob(template.uuid())]);
    }
    if let Some(keystore) = filter.keystore {
        list.with(
            "EXISTS (SELECT 1 FROM instance WHERE instance.key = key.id AND instance.keystore = ?)",
            [blob(keystore.uuid())],
        );
    }
    list.page(sql, &order_by(&key_order(&filter.sort)?), page)
}

fn order_by(order: &[(&str, bool)]) -> String {
    let terms: Vec<String> = order
        .iter()
        .map(|(column, descending)| format!("{column}{}", if *descending { " DESC" } else { "" }))
        .collect();
    terms.join(", ")
}

pub(crate) fn key_of_version(
    sql: &Connection,
    version: KeyVersionId,
) -> Result<Option<KeyId>, StoreError> {
    let found: Option<Vec<u8>> = sql
        .prepare_cached("SELECT key FROM key_version WHERE version = ?1")?
        .query_row([version.uuid().as_bytes()], |row| row.get(0))
        .optional()?;
    found
        .map(|bytes| uuid(&bytes).map(KeyId::from_uuid))
        .transpose()
}

pub(crate) fn key_instances(sql: &Connection, id: KeyId) -> Result<Vec<Instance>, StoreError> {
    all(
        sql,
        "SELECT record FROM instance WHERE key = ?1 ORDER BY keystore, version",
        vec![blob(id.uuid())],
    )
}

pub(crate) fn keystore_instances(
    sql: &Connection,
    id: KeystoreId,
) -> Result<Vec<InstanceRow>, StoreError> {
    let mut statement = sql
        .prepare_cached("SELECT key, record FROM instance WHERE keystore = ?1 ORDER BY version")?;
    let mut rows = statement.query([id.uuid().as_bytes()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key = uuid(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
        found.push(InstanceRow {
            key: KeyId::from_uuid(key),
            instance: decode(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?,
        });
    }
    Ok(found)
}

pub(crate) fn instances_on(
    sql: &Connection,
    id: KeystoreId,
    mut versions: Vec<KeyVersionId>,
) -> Result<Vec<Instance>, StoreError> {
    versions.sort_unstable();
    versions.dedup();
    let mut found = Vec::with_capacity(versions.len());
    for version in versions {
        let select = "SELECT record FROM instance WHERE keystore = ?1 AND version = ?2";
        found.extend(one(
            sql,
            select,
            vec![blob(id.uuid()), blob(version.uuid())],
        )?);
    }
    Ok(found)
}

pub(crate) fn copies(
    sql: &Connection,
    version: KeyVersionId,
) -> Result<Vec<RepositoryCopy>, StoreError> {
    all(
        sql,
        "SELECT record FROM copy WHERE version = ?1 ORDER BY keystore",
        vec![blob(version.uuid())],
    )
}

pub(crate) fn copies_lacking(
    sql: &Connection,
    vault: VaultId,
    keystore: KeystoreId,
    after: Option<KeyVersionId>,
    limit: u32,
) -> Result<Vec<KeyVersionId>, StoreError> {
    let mut statement = sql.prepare_cached(
        "SELECT DISTINCT copy.version FROM copy
             JOIN key_version ON key_version.version = copy.version
             JOIN key ON key.id = key_version.key
         WHERE key.vault = ?1 AND copy.version > ?3
             AND NOT EXISTS (SELECT 1 FROM copy AS own WHERE own.version = copy.version AND own.keystore = ?2)
         ORDER BY copy.version LIMIT ?4",
    )?;
    let after = after.map_or_else(Vec::new, |version| version.uuid().as_bytes().to_vec());
    let (vault, keystore) = (vault.uuid(), keystore.uuid());
    let mut rows = statement.query(rusqlite::params![
        vault.as_bytes(),
        keystore.as_bytes(),
        after,
        limit
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let version = uuid(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
        found.push(KeyVersionId::from_uuid(version));
    }
    Ok(found)
}

pub(crate) fn seen(
    sql: &Connection,
    version: KeyVersionId,
) -> Result<Vec<(KeystoreId, LastSeen)>, StoreError> {
    let mut statement = sql
        .prepare_cached("SELECT keystore, record FROM seen WHERE version = ?1 ORDER BY keystore")?;
    let mut rows = statement.query([version.uuid().as_bytes()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let keystore = uuid(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
        let last = decode(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?;
        found.push((KeystoreId::from_uuid(keystore), last));
    }
    Ok(found)
}

pub(crate) fn audit_list(
    sql: &Connection,
    subject: Option<&str>,
    page: Page,
) -> Result<Paged<AuditEntry>, StoreError> {
    let mut list = List::of("audit");
    if let Some(subject) = subject {
        list.with("subject = ?", [text(subject)]);
    }
    list.page(sql, "sequence DESC", page)
}

/// A list that is put together of conditions. Values are bound in the order of their places, all of them plain `?`.
pub(crate) struct List {
    table: &'static str,
    condition: String,
    values: Vec<Value>,
}

impl List {
    pub(crate) fn of(table: &'static str) -> Self {
        Self {
            table,
            condition: "1".to_owned(),
            values: Vec::new(),
        }
    }

    pub(crate) fn with(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.condition.push_str(" AND ");
        self.condition.push_str(condition);
        self.values.extend(values);
    }

    /// LIKE would read `%` and `_` in names, and ignore case.
    fn prefix(&mut self, column: &str, prefix: &str) {
        self.with(
            &format!("substr({column}, 1, length(?)) = ?"),
            [text(prefix), text(prefix)],
        );
    }

    pub(crate) fn page<T: DeserializeOwned>(
        mut self,
        sql: &Connection,
        order: &str,
        page: Page,
    ) -> Result<Paged<T>, StoreError> {
        let (table, condition) = (self.table, &self.condition);
        let total: i64 = sql
            .prepare_cached(&format!("SELECT count(*) FROM {table} WHERE {condition}"))?
            .query_row(params_from_iter(&self.values), |row| row.get(0))?;
        let select = format!(
            "SELECT record FROM {table} WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?"
        );
        let limit = page.limit.min(PAGE_LIMIT_MAX);
        self.values.push(Value::Integer(limit.into()));
        self.values.push(Value::Integer(page.offset.into()));
        Ok(Paged {
            total: from_number(total)?,
            items: all(sql, &select, self.values)?,
        })
    }
}

/// An id to be bound.
pub(crate) fn blob(id: Uuid) -> Value {
    Value::Blob(id.as_bytes().to_vec())
}

/// Text to be bound.
pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// The record in the only column of the only row.
fn one<T: DeserializeOwned>(
    sql: &Connection,
    select: &str,
    values: Vec<Value>,
) -> Result<Option<T>, StoreError> {
    sql.prepare_cached(select)?
        .query_row(params_from_iter(values), |row| row.get::<_, String>(0))
        .optional()?
        .map(|record| decode(&record))
        .transpose()
}

/// The records in the only column of all rows.
pub(crate) fn all<T: DeserializeOwned>(
    sql: &Connection,
    select: &str,
    values: Vec<Value>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = sql.prepare_cached(select)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(decode(
            row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?,
        )?);
    }
    Ok(found)
}
