//! Queries. Each is one statement, or runs in a snapshot of its own.

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::coordinator::store::bounds::{PAGE_LIMIT_MAX, key_order};
use crate::coordinator::store::encoded::{because, from_number};
use crate::coordinator::store::postgres::failure::Problem;
use crate::coordinator::store::postgres::sql::{Sql, id, one, record, records, row, rows};
use crate::coordinator::store::{InstanceRow, KeyFilter, OperationRecord, Page, Paged};
use crate::model::audit::AuditEntry;
use crate::model::desired::Instance;
use crate::model::ids::{
    Digest, KeyId, KeyVersionId, KeystoreId, OperationId, TemplateId, VaultId,
};
use crate::model::key::ManagedKey;
use crate::model::keystore::KeystoreRecord;
use crate::model::live::LastSeen;
use crate::model::material::RepositoryCopy;
use crate::model::template::KeyTemplate;
use crate::model::vault::{UnixMs, Vault};

/// The operation under a key, if it is still remembered.
pub(crate) async fn operation(sql: &Sql, key: &str) -> Result<Option<OperationRecord>, Problem> {
    let found = row(
        sql,
        "SELECT key, id, request, status, subject, at FROM operation WHERE key = $1",
        &[&key],
    )
    .await;
    let Some(row) = found? else {
        return Ok(None);
    };
    let (request, status): (&[u8], i32) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Some(OperationRecord {
        key: row.try_get(0)?,
        id: OperationId::from_uuid(id(&row, 1)?),
        request: Digest::from_slice(request)
            .ok_or_else(|| because("an operation's digest is not 32 bytes"))?,
        status: u16::try_from(status)
            .map_err(|error| because(&format!("an operation's status: {error}")))?,
        subject: row.try_get(4)?,
        at: UnixMs(row.try_get(5)?),
    }))
}

pub(crate) async fn vault(sql: &Sql, id: VaultId) -> Result<Option<Vault>, Problem> {
    one(sql, "SELECT record FROM vault WHERE id = $1", &[&id.uuid()]).await
}

pub(crate) async fn template(sql: &Sql, id: TemplateId) -> Result<Option<KeyTemplate>, Problem> {
    let text = "SELECT record FROM template WHERE id = $1";
    one(sql, text, &[&id.uuid()]).await
}

pub(crate) async fn template_by_name(
    sql: &Sql,
    vault: VaultId,
    name: &str,
) -> Result<Option<KeyTemplate>, Problem> {
    let text = "SELECT record FROM template WHERE vault = $1 AND name = $2";
    one(sql, text, &[&vault.uuid(), &name]).await
}

pub(crate) async fn keystore(sql: &Sql, id: KeystoreId) -> Result<Option<KeystoreRecord>, Problem> {
    let text = "SELECT record FROM keystore WHERE id = $1";
    one(sql, text, &[&id.uuid()]).await
}

pub(crate) async fn key(sql: &Sql, id: KeyId) -> Result<Option<ManagedKey>, Problem> {
    one(sql, "SELECT record FROM key WHERE id = $1", &[&id.uuid()]).await
}

pub(crate) async fn vault_counts(sql: &Sql, id: VaultId) -> Result<[u64; 3], Problem> {
    let counts = row(
        sql,
        "SELECT (SELECT count(*) FROM key WHERE vault = $1),
                (SELECT count(*) FROM template WHERE vault = $1),
                (SELECT count(*) FROM keystore WHERE vault = $1)",
        &[&id.uuid()],
    )
    .await;
    let counts = counts?.ok_or_else(|| because("no counts"))?;
    Ok([
        from_number(counts.try_get(0)?)?,
        from_number(counts.try_get(1)?)?,
        from_number(counts.try_get(2)?)?,
    ])
}

pub(crate) async fn vault_list(
    sql: &Sql,
    name: Option<String>,
    page: Page,
) -> Result<Paged<Vault>, Problem> {
    let mut list = List::of("vault");
    if let Some(name) = name {
        list.with("starts_with(name, $)", name);
    }
    list.page(sql, "name, id", page).await
}

pub(crate) async fn template_list(
    sql: &Sql,
    vault: Option<VaultId>,
    name: Option<String>,
    page: Page,
) -> Result<Paged<KeyTemplate>, Problem> {
    let mut list = List::of("template");
    if let Some(vault) = vault {
        list.with("vault = $", vault.uuid());
    }
    if let Some(name) = name {
        list.with("starts_with(name, $)", name);
    }
    list.page(sql, "name, id", page).await
}

pub(crate) async fn keystore_list(
    sql: &Sql,
    vault: Option<VaultId>,
    group: Option<String>,
    page: Page,
) -> Result<Paged<KeystoreRecord>, Problem> {
    let mut list = List::of("keystore");
    if let Some(vault) = vault {
        list.with("vault = $", vault.uuid());
    }
    if let Some(group) = group {
        let within = "id IN (SELECT keystore FROM keystore_group WHERE name = $)";
        list.with(within, group);
    }
    list.page(sql, "name, id", page).await
}

pub(crate) async fn key_list(
    sql: &Sql,
    filter: KeyFilter,
    page: Page,
) -> Result<Paged<ManagedKey>, Problem> {
    let mut list = List::of("key");
    if let Some(vault) = filter.vault {
        list.with("vault = $", vault.uuid());
    }
    if !filter.states.is_empty() {
        let states: Vec<&str> = filter.states.iter().map(|state| state.name()).collect();
        list.with("state = ANY ($)", states);
    }
    if let Some(label) = filter.label {
        list.with("label = $", label);
    }
    if let Some(template) = filter.template {
        list.with("template = $", template.uuid());
    }
    if let Some(keystore) = filter.keystore {
        let within =
            "EXISTS (SELECT 1 FROM instance WHERE instance.key = key.id AND instance.keystore = $)";
        list.with(within, keystore.uuid());
    }
    list.page(sql, &order_by(&key_order(&filter.sort)?), page)
        .await
}

/// What has no value comes first, and last where the order is turned round: as in SQLite.
fn order_by(order: &[(&str, bool)]) -> String {
    let term = |(column, descending): &(&str, bool)| {
        let direction = if *descending {
            "DESC NULLS LAST"
        } else {
            "ASC NULLS FIRST"
        };
        format!("{column} {direction}")
    };
    let terms: Vec<String> = order.iter().map(term).collect();
    terms.join(", ")
}

/// Keys with a date that is still to act, and those with a version that waits to be given out.
pub(crate) async fn key_dated(
    sql: &Sql,
    (from, to): (Option<String>, String),
    after: Option<KeyId>,
    limit: u32,
) -> Result<Vec<ManagedKey>, Problem> {
    // No key has the nil id.
    let after = after.map_or(Uuid::nil(), |id| id.uuid());
    let text = "SELECT record FROM key WHERE id > $3 AND id IN (
             SELECT id FROM key WHERE state = 'pre_activation'
                 AND activation_open >= $1 AND activation_open <= $2
             UNION SELECT id FROM key WHERE state IN ('active', 'pre_activation')
                 AND expiration_open >= $1 AND expiration_open <= $2
             UNION SELECT id FROM key WHERE state = 'active'
                 AND rotation_date >= $1 AND rotation_date <= $2
             UNION SELECT id FROM key WHERE hold_until >= $1 AND hold_until <= $2
             UNION SELECT id FROM key WHERE coming IS NOT NULL
         ) ORDER BY id LIMIT $4";
    let limit = i64::from(limit.min(PAGE_LIMIT_MAX));
    records(sql, text, &[&from.unwrap_or_default(), &to, &after, &limit]).await
}

pub(crate) async fn key_of_version(
    sql: &Sql,
    version: KeyVersionId,
) -> Result<Option<KeyId>, Problem> {
    let text = "SELECT key FROM key_version WHERE version = $1";
    let found = row(sql, text, &[&version.uuid()]).await?;
    found
        .map(|row| id(&row, 0).map(KeyId::from_uuid))
        .transpose()
}

pub(crate) async fn key_instances(sql: &Sql, id: KeyId) -> Result<Vec<Instance>, Problem> {
    let text = "SELECT record FROM instance WHERE key = $1 ORDER BY keystore, version";
    records(sql, text, &[&id.uuid()]).await
}

pub(crate) async fn keystore_instances(
    sql: &Sql,
    keystore: KeystoreId,
) -> Result<Vec<InstanceRow>, Problem> {
    let text = "SELECT key, record FROM instance WHERE keystore = $1 ORDER BY version";
    let mut found = Vec::new();
    for row in rows(sql, text, &[&keystore.uuid()]).await? {
        found.push(InstanceRow {
            key: KeyId::from_uuid(id(&row, 0)?),
            instance: record(&row, 1)?,
        });
    }
    Ok(found)
}

pub(crate) async fn instances_on(
    sql: &Sql,
    keystore: KeystoreId,
    versions: &[KeyVersionId],
) -> Result<Vec<Instance>, Problem> {
    let text =
        "SELECT record FROM instance WHERE keystore = $1 AND version = ANY ($2) ORDER BY version";
    let versions: Vec<Uuid> = versions.iter().map(|version| version.uuid()).collect();
    records(sql, text, &[&keystore.uuid(), &versions]).await
}

pub(crate) async fn copies(
    sql: &Sql,
    version: KeyVersionId,
) -> Result<Vec<RepositoryCopy>, Problem> {
    let text = "SELECT record FROM copy WHERE version = $1 ORDER BY keystore";
    records(sql, text, &[&version.uuid()]).await
}

pub(crate) async fn copies_lacking(
    sql: &Sql,
    vault: VaultId,
    keystore: KeystoreId,
    after: Option<KeyVersionId>,
    limit: u32,
) -> Result<Vec<KeyVersionId>, Problem> {
    // No version has the nil id.
    let after = after.map_or(Uuid::nil(), |version| version.uuid());
    let lacking = rows(
        sql,
        "SELECT DISTINCT copy.version FROM copy
             JOIN key_version ON key_version.version = copy.version
             JOIN key ON key.id = key_version.key
         WHERE key.vault = $1 AND copy.version > $3
             AND NOT EXISTS (SELECT 1 FROM copy AS own WHERE own.version = copy.version AND own.keystore = $2)
         ORDER BY copy.version LIMIT $4",
        &[&vault.uuid(), &keystore.uuid(), &after, &i64::from(limit)],
    ).await;
    let mut found = Vec::new();
    for row in lacking? {
        found.push(KeyVersionId::from_uuid(id(&row, 0)?));
    }
    Ok(found)
}

pub(crate) async fn seen(
    sql: &Sql,
    version: KeyVersionId,
) -> Result<Vec<(KeystoreId, LastSeen)>, Problem> {
    let text = "SELECT keystore, record FROM seen WHERE version = $1 ORDER BY keystore";
    let mut found = Vec::new();
    for row in rows(sql, text, &[&version.uuid()]).await? {
        found.push((KeystoreId::from_uuid(id(&row, 0)?), record(&row, 1)?));
    }
    Ok(found)
}

pub(crate) async fn audit_list(
    sql: &Sql,
    subject: Option<String>,
    page: Page,
) -> Result<Paged<AuditEntry>, Problem> {
    let mut list = List::of("audit");
    if let Some(subject) = subject {
        list.with("subject = $", subject);
    }
    list.page(sql, "sequence DESC", page).await
}

/// A list that is put together of conditions, each with one value, whose place is a bare `$`.
pub(crate) struct List {
    table: &'static str,
    condition: String,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl List {
    pub(crate) fn of(table: &'static str) -> Self {
        Self {
            table,
            condition: "true".to_owned(),
            values: Vec::new(),
        }
    }

    pub(crate) fn with(&mut self, condition: &str, value: impl ToSql + Sync + Send + 'static) {
        self.values.push(Box::new(value));
        let place = format!("${}", self.values.len());
        self.condition.push_str(" AND ");
        self.condition.push_str(&condition.replace('$', &place));
    }

    /// Total and page of one snapshot: both come from one statement.
    pub(crate) async fn page<T: serde::de::DeserializeOwned>(
        mut self,
        sql: &Sql,
        order: &str,
        page: Page,
    ) -> Result<Paged<T>, Problem> {
        let (table, condition) = (self.table, &self.condition);
        let (limit, offset) = (self.values.len() + 1, self.values.len() + 2);
        // The outer join gives the total also where the page is empty.
        let text = format!(
            "WITH page AS MATERIALIZED (SELECT row_number() OVER (ORDER BY {order}) AS place, record
                 FROM {table} WHERE {condition} ORDER BY {order} LIMIT ${limit} OFFSET ${offset})
             SELECT total.count, page.record
             FROM (SELECT count(*) FROM {table} WHERE {condition}) AS total
             LEFT JOIN page ON true ORDER BY page.place"
        );
        self.values
            .push(Box::new(i64::from(page.limit.min(PAGE_LIMIT_MAX))));
        self.values.push(Box::new(i64::from(page.offset)));
        let values: Vec<&(dyn ToSql + Sync)> = self
            .values
            .iter()
            .map(|value| {
                let value: &(dyn ToSql + Sync) = value.as_ref();
                value
            })
            .collect();
        let mut paged = Paged {
            total: 0,
            items: Vec::new(),
        };
        for row in rows(sql, &text, &values).await? {
            paged.total = from_number(row.try_get(0)?)?;
            if row.try_get::<_, Option<&str>>(1)?.is_some() {
                paged.items.push(record(&row, 1)?);
            }
        }
        Ok(paged)
    }
}
