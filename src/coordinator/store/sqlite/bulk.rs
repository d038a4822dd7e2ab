//! Bulk changes and their keys.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::coordinator::store::bounds::{BULK_AGE_MAX_MS, PRUNED_MAX};
use crate::coordinator::store::encoded::{because, decode, encode, number};
use crate::coordinator::store::sqlite::query::{List, blob, text};
use crate::coordinator::store::sqlite::record::execute;
use crate::coordinator::store::{BulkCount, BulkKeyFilter, Page, Paged, StoreError};
use crate::model::bulk::{BulkChange, BulkKey, Outcome};
use crate::model::ids::{BulkId, Revision};
use crate::model::vault::UnixMs;

/// A new one with its keys; some that ended long ago go.
pub(crate) fn insert(
    sql: &Connection,
    bulk: &BulkChange,
    keys: &[BulkKey],
    record: &str,
) -> Result<(), StoreError> {
    let at = bulk.stamps.created_at.0;
    execute(
        sql,
        "DELETE FROM bulk WHERE id IN
             (SELECT id FROM bulk WHERE ended_at < ?1 ORDER BY ended_at LIMIT ?2)",
        params![at.saturating_sub(BULK_AGE_MAX_MS), PRUNED_MAX],
    )?;
    let id = bulk.id.uuid();
    execute(
        sql,
        "INSERT INTO bulk (id, state, wave, created_at, ended_at, revision, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            id.as_bytes(),
            bulk.state.name(),
            bulk.wave,
            at,
            bulk.ended_at.map(|at| at.0),
            number(bulk.revision.0)?,
            record
        ],
    )?;
    for row in keys {
        execute(
            sql,
            "INSERT INTO bulk_key (bulk, place, wave, outcome, at, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                id.as_bytes(),
                row.place,
                row.wave,
                row.outcome.name(),
                row.at.0,
                encode(row)?
            ],
        )?;
    }
    Ok(())
}

/// One, if its revision is still the expected one.
pub(crate) fn update(
    sql: &Connection,
    bulk: &BulkChange,
    expected: Revision,
    record: &str,
) -> Result<(), StoreError> {
    let touched = execute(
        sql,
        "UPDATE bulk SET state = ?2, wave = ?3, ended_at = ?4, revision = ?5, record = ?6
             WHERE id = ?1 AND revision = ?7",
        params![
            bulk.id.uuid().as_bytes(),
            bulk.state.name(),
            bulk.wave,
            bulk.ended_at.map(|at| at.0),
            number(bulk.revision.0)?,
            record,
            number(expected.0)?
        ],
    )?;
    expect_one(touched, bulk.id)
}

/// A key's row, if its outcome is still the expected one, and, unless it only says what came of a change that is on its way, the
/// bulk change runs and has come to its wave.
pub(crate) fn key_put(
    sql: &Connection,
    bulk: BulkId,
    row: &BulkKey,
    expected: Outcome,
    record: &str,
) -> Result<(), StoreError> {
    let touched = execute(
        sql,
        "UPDATE bulk_key SET outcome = ?3, at = ?4, record = ?5
             WHERE bulk = ?1 AND place = ?2 AND outcome = ?6 AND (?6 = 'changing' OR EXISTS
                 (SELECT 1 FROM bulk WHERE id = ?1 AND state = 'running' AND wave >= bulk_key.wave))",
        params![
            bulk.uuid().as_bytes(),
            row.place,
            row.outcome.name(),
            row.at.0,
            record,
            expected.name()
        ],
    )?;
    expect_one(touched, bulk)
}

fn expect_one(touched: usize, bulk: BulkId) -> Result<(), StoreError> {
    if touched == 1 {
        return Ok(());
    }
    Err(StoreError::Conflict {
        what: format!("bulk/{bulk}"),
    })
}

pub(crate) fn find(sql: &Connection, id: BulkId) -> Result<Option<BulkChange>, StoreError> {
    sql.prepare_cached("SELECT record FROM bulk WHERE id = ?1")?
        .query_row([id.uuid().as_bytes()], |row| row.get::<_, String>(0))
        .optional()?
        .map(|record| decode(&record))
        .transpose()
}

pub(crate) fn list(
    sql: &Connection,
    states: &[&'static str],
    page: Page,
) -> Result<Paged<BulkChange>, StoreError> {
    let mut list = List::of("bulk");
    if !states.is_empty() {
        let places = vec!["?"; states.len()].join(", ");
        let values = states.iter().map(|state| text(state));
        list.with(&format!("state IN ({places})"), values);
    }
    list.page(sql, "created_at DESC, id", page)
}

pub(crate) fn keys(
    sql: &Connection,
    bulk: BulkId,
    filter: &BulkKeyFilter,
    page: Page,
) -> Result<Paged<BulkKey>, StoreError> {
    let mut list = List::of("bulk_key");
    list.with("bulk = ?", [blob(bulk.uuid())]);
    if let Some(wave) = filter.wave {
        list.with("wave = ?", [rusqlite::types::Value::from(wave)]);
    }
    if !filter.outcomes.is_empty() {
        let places = vec!["?"; filter.outcomes.len()].join(", ");
        let values = filter.outcomes.iter().map(|outcome| text(outcome.name()));
        list.with(&format!("outcome IN ({places})"), values);
    }
    list.page(sql, "place", page)
}

pub(crate) fn key(
    sql: &Connection,
    bulk: BulkId,
    place: u32,
) -> Result<Option<BulkKey>, StoreError> {
    sql.prepare_cached("SELECT record FROM bulk_key WHERE bulk = ?1 AND place = ?2")?
        .query_row(params![bulk.uuid().as_bytes(), place], |row| {
            row.get::<_, String>(0)
        })
        .optional()?
        .map(|record| decode(&record))
        .transpose()
}

pub(crate) fn counts(sql: &Connection, bulk: BulkId) -> Result<Vec<BulkCount>, StoreError> {
    let mut statement = sql.prepare_cached(
        "SELECT wave, outcome, count(*), max(at) FROM bulk_key WHERE bulk = ?1
         GROUP BY wave, outcome ORDER BY wave, outcome",
    )?;
    let mut rows = statement.query([bulk.uuid().as_bytes()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let outcome = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        found.push(BulkCount {
            wave: row.get(0)?,
            outcome: Outcome::from_name(outcome)
                .ok_or_else(|| because("an outcome that nobody knows"))?,
            count: row.get(2)?,
            last: UnixMs(row.get(3)?),
        });
    }
    Ok(found)
}
