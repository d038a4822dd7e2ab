//! Bulk changes and their keys.

use crate::coordinator::store::bounds::{BULK_AGE_MAX_MS, PRUNED_MAX};
use crate::coordinator::store::encoded::{because, encode, number};
use crate::coordinator::store::postgres::failure::Problem;
use crate::coordinator::store::postgres::query::List;
use crate::coordinator::store::postgres::sql::{Sql, execute, one, rows};
use crate::coordinator::store::{BulkCount, BulkKeyFilter, Page, Paged, StoreError};
use crate::model::bulk::{BulkChange, BulkKey, Outcome};
use crate::model::ids::{BulkId, Revision};
use crate::model::vault::UnixMs;

/// A new one with its keys; some that ended long ago go.
pub(crate) async fn insert(
    sql: &Sql,
    bulk: &BulkChange,
    keys: &[BulkKey],
    record: &str,
) -> Result<(), Problem> {
    let at = bulk.stamps.created_at.0;
    execute(
        sql,
        "DELETE FROM bulk WHERE id IN
             (SELECT id FROM bulk WHERE ended_at < $1 ORDER BY ended_at LIMIT $2)",
        &[&at.saturating_sub(BULK_AGE_MAX_MS), &i64::from(PRUNED_MAX)],
    )
    .await?;
    let id = bulk.id.uuid();
    execute(
        sql,
        "INSERT INTO bulk (id, state, wave, created_at, ended_at, revision, record)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            &id,
            &bulk.state.name(),
            &i64::from(bulk.wave),
            &at,
            &bulk.ended_at.map(|at| at.0),
            &number(bulk.revision.0)?,
            &record,
        ],
    )
    .await?;
    let places: Vec<i64> = keys.iter().map(|row| i64::from(row.place)).collect();
    let waves: Vec<i64> = keys.iter().map(|row| i64::from(row.wave)).collect();
    let outcomes: Vec<&str> = keys.iter().map(|row| row.outcome.name()).collect();
    let times: Vec<i64> = keys.iter().map(|row| row.at.0).collect();
    let records: Result<Vec<String>, StoreError> = keys.iter().map(encode).collect();
    execute(
        sql,
        "INSERT INTO bulk_key (bulk, place, wave, outcome, at, record)
             SELECT $1::uuid, row.* FROM
                 unnest($2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::text[]) AS row",
        &[&id, &places, &waves, &outcomes, &times, &records?],
    )
    .await?;
    Ok(())
}

/// One, if its revision is still the expected one.
pub(crate) async fn update(
    sql: &Sql,
    bulk: &BulkChange,
    expected: Revision,
    record: &str,
) -> Result<(), Problem> {
    let touched = execute(
        sql,
        "UPDATE bulk SET state = $2, wave = $3, ended_at = $4, revision = $5, record = $6
             WHERE id = $1 AND revision = $7",
        &[
            &bulk.id.uuid(),
            &bulk.state.name(),
            &i64::from(bulk.wave),
            &bulk.ended_at.map(|at| at.0),
            &number(bulk.revision.0)?,
            &record,
            &number(expected.0)?,
        ],
    )
    .await?;
    expect_one(touched, bulk.id)
}

/// A key's row, if its outcome is still the expected one, and, unless it only says what came of a change that is on its way, the
/// bulk change runs and has come to its wave.
pub(crate) async fn key_put(
    sql: &Sql,
    bulk: BulkId,
    row: &BulkKey,
    expected: Outcome,
    record: &str,
) -> Result<(), Problem> {
    let touched = execute(
        sql,
        "UPDATE bulk_key SET outcome = $3, at = $4, record = $5
             WHERE bulk = $1 AND place = $2 AND outcome = $6 AND ($6 = 'changing' OR EXISTS
                 (SELECT 1 FROM bulk WHERE id = $1 AND state = 'running' AND wave >= bulk_key.wave))",
        &[
            &bulk.uuid(),
            &i64::from(row.place),
            &row.outcome.name(),
            &row.at.0,
            &record,
            &expected.name(),
        ],
    )
    .await?;
    expect_one(touched, bulk)
}

fn expect_one(touched: u64, bulk: BulkId) -> Result<(), Problem> {
    if touched == 1 {
        return Ok(());
    }
    Err(Problem::Refused(StoreError::Conflict {
        what: format!("bulk/{bulk}"),
    }))
}

pub(crate) async fn find(sql: &Sql, id: BulkId) -> Result<Option<BulkChange>, Problem> {
    one(sql, "SELECT record FROM bulk WHERE id = $1", &[&id.uuid()]).await
}

pub(crate) async fn list(
    sql: &Sql,
    states: Vec<&'static str>,
    page: Page,
) -> Result<Paged<BulkChange>, Problem> {
    let mut list = List::of("bulk");
    if !states.is_empty() {
        list.with("state = ANY ($)", states);
    }
    list.page(sql, "created_at DESC, id", page).await
}

pub(crate) async fn keys(
    sql: &Sql,
    bulk: BulkId,
    filter: BulkKeyFilter,
    page: Page,
) -> Result<Paged<BulkKey>, Problem> {
    let mut list = List::of("bulk_key");
    list.with("bulk = $", bulk.uuid());
    if let Some(wave) = filter.wave {
        list.with("wave = $", i64::from(wave));
    }
    if !filter.outcomes.is_empty() {
        let outcomes: Vec<&str> = filter.outcomes.iter().map(|one| one.name()).collect();
        list.with("outcome = ANY ($)", outcomes);
    }
    list.page(sql, "place", page).await
}

pub(crate) async fn key(sql: &Sql, bulk: BulkId, place: u32) -> Result<Option<BulkKey>, Problem> {
    let text = "SELECT record FROM bulk_key WHERE bulk = $1 AND place = $2";
    one(sql, text, &[&bulk.uuid(), &i64::from(place)]).await
}

pub(crate) async fn counts(sql: &Sql, bulk: BulkId) -> Result<Vec<BulkCount>, Problem> {
    let counted = rows(
        sql,
        "SELECT wave, outcome, count(*), max(at) FROM bulk_key WHERE bulk = $1
         GROUP BY wave, outcome ORDER BY wave, outcome",
        &[&bulk.uuid()],
    )
    .await;
    let mut found = Vec::new();
    for row in counted? {
        let (wave, count): (i64, i64) = (row.try_get(0)?, row.try_get(2)?);
        let bounded = |number: i64| {
            u32::try_from(number).map_err(|error| because(&format!("number {number}: {error}")))
        };
        found.push(BulkCount {
            wave: bounded(wave)?,
            outcome: Outcome::from_name(row.try_get(1)?)
                .ok_or_else(|| because("an outcome that nobody knows"))?,
            count: bounded(count)?,
            last: UnixMs(row.try_get(3)?),
        });
    }
    Ok(found)
}
