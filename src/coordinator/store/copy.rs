//! Moves a store from SQLite to PostgreSQL: every row of every table, in one transaction, compared before it is committed.
//!
//! Owns: which columns there are in both. Never: changes the source, or fills a store that holds anything.

use std::fmt;
use std::path::Path;
use std::pin::pin;

use rusqlite::types::Value;
use sha2::{Digest as _, Sha256};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};
use tokio_stream::StreamExt as _;
use uuid::Uuid;

use crate::coordinator::store::postgres::connect::{self, Settings};
use crate::coordinator::store::postgres::{self, schema};
use crate::coordinator::store::sqlite;

/// Rows that are sent at once.
const BATCH: usize = 500;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Id,
    Bytes,
    Text,
    Number,
    Truth,
}

use Kind::{Bytes, Id, Number, Text, Truth};

/// A table with its columns, in the order in which parents come before children, and what it is sorted by.
struct Table {
    source: &'static str,
    target: &'static str,
    columns: &'static [(&'static str, Kind)],
    order: &'static str,
}

const fn table(
    name: &'static str,
    columns: &'static [(&'static str, Kind)],
    order: &'static str,
) -> Table {
    Table {
        source: name,
        target: name,
        columns,
        order,
    }
}

const TABLES: [Table; 17] = [
    table(
        "vault",
        &[
            ("id", Id),
            ("name", Text),
            ("revision", Number),
            ("record", Text),
        ],
        "id",
    ),
    table(
        "template",
        &[
            ("id", Id),
            ("vault", Id),
            ("name", Text),
            ("archived", Truth),
            ("revision", Number),
            ("record", Text),
        ],
        "id",
    ),
    table(
        "keystore",
        &[
            ("id", Id),
            ("vault", Id),
            ("name", Text),
            ("revision", Number),
            ("record", Text),
        ],
        "id",
    ),
    table(
        "keystore_group",
        &[("name", Text), ("keystore", Id)],
        "name, keystore",
    ),
    table(
        "key",
        &[
            ("id", Id),
            ("vault", Id),
            ("template", Id),
            ("label", Text),
            ("algorithm", Text),
            ("bits", Number),
            ("state", Text),
            ("activation_date", Text),
            ("expiration_date", Text),
            ("created_at", Number),
            ("updated_at", Number),
            ("activation_open", Text),
            ("expiration_open", Text),
            ("rotation_date", Text),
            ("hold_until", Text),
            ("coming", Text),
            ("revision", Number),
            ("record", Text),
        ],
        "id",
    ),
    table(
        "key_version",
        &[("version", Id), ("key", Id), ("fingerprint", Text)],
        "version",
    ),
    table(
        "copy",
        &[
            ("version", Id),
            ("keystore", Id),
            ("kek", Number),
            ("record", Text),
        ],
        "version, keystore",
    ),
    table(
        "instance",
        &[
            ("keystore", Id),
            ("version", Id),
            ("key", Id),
            ("generation", Number),
            ("want", Text),
            ("adopted_id", Bytes),
            ("record", Text),
        ],
        "keystore, version",
    ),
    table(
        "ignored",
        &[
            ("keystore", Id),
            ("cka_id", Bytes),
            ("label", Text),
            ("record", Text),
        ],
        "keystore, cka_id, label",
    ),
    table(
        "kek_rotation",
        &[
            ("keystore", Id),
            ("revision", Number),
            ("demanded", Number),
            ("record", Text),
        ],
        "keystore",
    ),
    RECOVERY,
    table(
        "stranger",
        &[("keystore", Id), ("version", Id), ("record", Text)],
        "keystore, version",
    ),
    table(
        "seen",
        &[("version", Id), ("keystore", Id), ("record", Text)],
        "version, keystore",
    ),
    table(
        "operation",
        &[
            ("key", Text),
            ("id", Id),
            ("request", Bytes),
            ("status", Number),
            ("subject", Text),
            ("at", Number),
        ],
        "key",
    ),
    table(
        "bulk",
        &[
            ("id", Id),
            ("state", Text),
            ("wave", Number),
            ("created_at", Number),
            ("ended_at", Number),
            ("revision", Number),
            ("record", Text),
        ],
        "id",
    ),
    table(
        "bulk_key",
        &[
            ("bulk", Id),
            ("place", Number),
            ("wave", Number),
            ("outcome", Text),
            ("at", Number),
            ("record", Text),
        ],
        "bulk, place",
    ),
    table(
        "audit",
        &[("sequence", Number), ("subject", Text), ("record", Text)],
        "sequence",
    ),
];

/// At most one row: its key is another in each store, and is left to the schema.
const RECOVERY: Table = table(
    "recovery",
    &[("revision", Number), ("record", Text)],
    "revision",
);

/// Terms: whoever comes after the copy takes a higher one, so that no agent keeps to an earlier coordinator.
const TERMS: Table = Table {
    source: "lease",
    target: "coordinator_lease",
    columns: &[("keystore", Id), ("term", Number)],
    order: "keystore",
};

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source does not open, such as because a coordinator uses it.
    #[error("the SQLite store")]
    Source(#[from] sqlite::OpenError),
    /// There is no such file: an empty one is not made.
    #[error("there is no {0}")]
    NoSource(String),
    /// The target does not open.
    #[error("the PostgreSQL store")]
    Target(#[from] connect::OpenError),
    /// The target is somebody's already.
    #[error("the target is not empty: its table {table} has rows; copy into a new database")]
    NotEmpty {
        /// The first table with rows.
        table: &'static str,
    },
    /// A row cannot be read or written, for people.
    #[error("table {table}: {problem}")]
    Row {
        /// Where.
        table: &'static str,
        /// What.
        problem: String,
    },
    /// What was written is not what was read.
    #[error("table {table} differs after the copy: nothing was committed")]
    Differs {
        /// Which.
        table: &'static str,
    },
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Rows of each table.
    pub rows: Vec<(&'static str, u64)>,
    /// SHA-256 over all of them, the same on both sides, hexadecimal.
    pub digest: String,
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (table, rows) in &self.rows {
            writeln!(f, "{rows:>10} {table}")?;
        }
        write!(f, "compared row by row, SHA-256 {}", self.digest)
    }
}

/// What a table holds: how many rows, and a digest of them in their order.
#[derive(Debug, Default)]
struct Content {
    rows: u64,
    hash: Sha256,
}

impl Content {
    fn add(&mut self, row: &[Value]) {
        self.rows = self.rows.saturating_add(1);
        for value in row {
            let (tag, bytes): (u8, &[u8]) = match value {
                Value::Null => (0, &[]),
                Value::Integer(number) => {
                    self.hash.update([1]);
                    self.hash.update(number.to_be_bytes());
                    continue;
                }
                Value::Real(_) => (2, &[]),
                Value::Text(text) => (3, text.as_bytes()),
                Value::Blob(bytes) => (4, bytes),
            };
            self.hash.update([tag]);
            self.hash.update(bytes.len().to_be_bytes());
            self.hash.update(bytes);
        }
    }
}

/// Copies all of a store. The source is locked meanwhile, as by a coordinator; the target must be empty.
///
/// # Errors
/// [`CopyError`]: nothing was copied.
pub async fn copy(from: &Path, to: &Settings) -> Result<Copied, CopyError> {
    if !from.exists() {
        return Err(CopyError::NoSource(from.display().to_string()));
    }
    let (source, _lock) = sqlite::open_alone(from)?;
    let config = connect::config(to)?;
    let mut client = connect::alone(&config, to.tls.as_ref(), drop).await?;
    connect::promises(&client).await?;
    schema::migrate(&mut client).await?;
    let target = client.transaction().await.map_err(postgres_error("head"))?;
    // From here to COMMIT no coordinator changes anything.
    target
        .execute("SELECT FROM head FOR UPDATE", &[])
        .await
        .map_err(postgres_error("head"))?;
    expect_empty(&target).await?;
    let mut copied = Copied {
        rows: Vec::new(),
        digest: String::new(),
    };
    let mut whole = Sha256::new();
    for table in TABLES.iter().chain([&TERMS]) {
        let sent = send(&source, &target, table).await?;
        let found = read_back(&target, table).await?;
        let (sent_rows, digest) = (sent.rows, sent.hash.finalize());
        if (sent_rows, digest) != (found.rows, found.hash.finalize()) {
            return Err(CopyError::Differs {
                table: table.source,
            });
        }
        whole.update(digest);
        copied.rows.push((table.source, sent_rows));
    }
    let after = "UPDATE head SET sequence = (SELECT coalesce(max(sequence), 0) FROM audit)";
    let moved = target.execute(after, &[]).await;
    moved.map_err(postgres_error("head"))?;
    let committed = target.commit().await;
    committed.map_err(postgres_error("head"))?;
    copied.digest = crate::model::text::hex(&whole.finalize());
    Ok(copied)
}

fn postgres_error(table: &'static str) -> impl Fn(tokio_postgres::Error) -> CopyError {
    move |error| CopyError::Row {
        table,
        problem: postgres::failure::text(&error),
    }
}

async fn expect_empty(target: &Transaction<'_>) -> Result<(), CopyError> {
    for table in TABLES.iter().chain([&TERMS]) {
        let text = format!("SELECT 1 FROM {} LIMIT 1", table.target);
        let found = target.query_opt(&text, &[]).await;
        if found.map_err(postgres_error(table.target))?.is_some() {
            return Err(CopyError::NotEmpty {
                table: table.target,
            });
        }
    }
    Ok(())
}

fn names(table: &Table) -> String {
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Sends all rows of a table; what was sent.
async fn send(
    source: &rusqlite::Connection,
    target: &Transaction<'_>,
    table: &Table,
) -> Result<Content, CopyError> {
    let problem = |error: rusqlite::Error| CopyError::Row {
        table: table.source,
        problem: error.to_string(),
    };
    let text = format!(
        "SELECT {} FROM {} ORDER BY {}",
        names(table),
        table.source,
        table.order
    );
    let insert = target
        .prepare(&insert(table))
        .await
        .map_err(postgres_error(table.target))?;
    let mut statement = source.prepare(&text).map_err(problem)?;
    let mut rows = statement.query([]).map_err(problem)?;
    let mut content = Content::default();
    let mut batch: Vec<Vec<Value>> = vec![Vec::new(); table.columns.len()];
    loop {
        let row = rows.next().map_err(problem)?;
        let is_last = row.is_none();
        if let Some(row) = row {
            let mut values = Vec::with_capacity(table.columns.len());
            for index in 0..table.columns.len() {
                values.push(row.get::<_, Value>(index).map_err(problem)?);
            }
            content.add(&values);
            for (column, value) in batch.iter_mut().zip(values) {
                column.push(value);
            }
        }
        let waiting = batch.first().map_or(0, Vec::len);
        if waiting >= BATCH || (is_last && waiting > 0) {
            let columns: Result<Vec<Column>, CopyError> = table
                .columns
                .iter()
                .zip(&mut batch)
                .map(|((_, kind), values)| column(table, *kind, std::mem::take(values)))
                .collect();
            let columns = columns?;
            let values: Vec<&(dyn ToSql + Sync)> = columns.iter().map(AsRef::as_ref).collect();
            let sent = target.execute(&insert, &values).await;
            sent.map_err(postgres_error(table.target))?;
        }
        if is_last {
            return Ok(content);
        }
    }
}

fn insert(table: &Table) -> String {
    let arrays: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .map(|(index, (_, kind))| {
            let of = match kind {
                Id => "uuid",
                Bytes => "bytea",
                Text => "text",
                Number => "bigint",
                Truth => "boolean",
            };
            format!("${}::{of}[]", index + 1)
        })
        .collect();
    // Nobody holds a lease that was copied.
    let (column, of) = if table.target == TERMS.target {
        (", expires", ", now()")
    } else {
        ("", "")
    };
    format!(
        "INSERT INTO {} ({}{column}) SELECT told.*{of} FROM unnest({}) AS told",
        table.target,
        names(table),
        arrays.join(", ")
    )
}

/// One column of a batch, as PostgreSQL takes it.
type Column = Box<dyn ToSql + Sync>;

fn column(table: &Table, kind: Kind, values: Vec<Value>) -> Result<Column, CopyError> {
    Ok(match kind {
        Id => Box::new(all(table, values, |value| {
            Uuid::from_slice(&blob(value)?).ok()
        })?),
        Bytes => Box::new(all(table, values, blob)?),
        Text => Box::new(all(table, values, text)?),
        Number => Box::new(all(table, values, integer)?),
        Truth => Box::new(all(table, values, |value| {
            integer(value).map(|number| number != 0)
        })?),
    })
}

fn blob(value: Value) -> Option<Vec<u8>> {
    if let Value::Blob(bytes) = value {
        return Some(bytes);
    }
    None
}

fn text(value: Value) -> Option<String> {
    if let Value::Text(text) = value {
        return Some(text);
    }
    None
}

fn integer(value: Value) -> Option<i64> {
    if let Value::Integer(number) = value {
        return Some(number);
    }
    None
}

fn all<T>(
    table: &Table,
    values: Vec<Value>,
    read: fn(Value) -> Option<T>,
) -> Result<Vec<Option<T>>, CopyError> {
    let mut found = Vec::with_capacity(values.len());
    for value in values {
        if value == Value::Null {
            found.push(None);
            continue;
        }
        let value = read(value).ok_or_else(|| CopyError::Row {
            table: table.source,
            problem: "a value is of another kind than its column".to_owned(),
        })?;
        found.push(Some(value));
    }
    Ok(found)
}

/// Reads all rows of a table back, within the transaction that wrote them.
async fn read_back(target: &Transaction<'_>, table: &Table) -> Result<Content, CopyError> {
    let problem = postgres_error(table.target);
    let selected = |(name, kind): &(&str, Kind)| match kind {
        Number => format!("{name}::bigint"),
        Id | Bytes | Text | Truth => (*name).to_owned(),
    };
    let columns: Vec<String> = table.columns.iter().map(selected).collect();
    let text = format!(
        "SELECT {} FROM {} ORDER BY {}",
        columns.join(", "),
        table.target,
        table.order
    );
    let none: [&(dyn ToSql + Sync); 0] = [];
    let rows = target.query_raw(&text, none).await.map_err(&problem)?;
    let mut rows = pin!(rows);
    let mut content = Content::default();
    while let Some(row) = rows.next().await {
        let row = row.map_err(&problem)?;
        let mut values = Vec::with_capacity(table.columns.len());
        for (index, (_, kind)) in table.columns.iter().enumerate() {
            values.push(value(&row, index, *kind).map_err(&problem)?);
        }
        content.add(&values);
    }
    Ok(content)
}

/// A value of PostgreSQL's as SQLite has it.
fn value(row: &Row, index: usize, kind: Kind) -> Result<Value, tokio_postgres::Error> {
    let found = match kind {
        Id => {
            let id: Option<Uuid> = row.try_get(index)?;
            id.map(|id| Value::Blob(id.as_bytes().to_vec()))
        }
        Bytes => row.try_get::<_, Option<Vec<u8>>>(index)?.map(Value::Blob),
        Text => row.try_get::<_, Option<String>>(index)?.map(Value::Text),
        Number => row.try_get::<_, Option<i64>>(index)?.map(Value::Integer),
        Truth => {
            let truth: Option<bool> = row.try_get(index)?;
            truth.map(|truth| Value::Integer(truth.into()))
        }
    };
    Ok(found.unwrap_or(Value::Null))
}
