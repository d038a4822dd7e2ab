//! What sessions know, told to the other coordinators; and errands between them. Nothing here is wanted or proved by anybody:
//! all of it may be lost.

use std::time::Duration;

use tokio_postgres::Row;
use uuid::Uuid;

use crate::coordinator::store::encoded::{because, from_number, number};
use crate::coordinator::store::postgres::failure::Problem;
use crate::coordinator::store::postgres::lease::Member;
use crate::coordinator::store::postgres::sql::{Sql, execute, id, row, rows};
use crate::coordinator::store::sharing::{Errand, InstanceNews, Line, News, Telling};
use crate::model::ids::{KeyVersionId, KeystoreId, Term};

/// How far [`news`] looks back: rows bear the time of their statement, and are seen when it is committed.
const LOOK_BACK_MS: i64 = 11_000;

/// Errands given to a coordinator at once.
const ERRANDS_MAX: i64 = 64;

/// Tells what a session knows, if the lease is still this coordinator's and has still that term.
pub(crate) async fn tell(
    sql: &Sql,
    member: &Member,
    keystore: KeystoreId,
    telling: &Telling,
) -> Result<(), Problem> {
    // First the instances: where the line says that all was told, it was.
    if !telling.instances.is_empty() {
        let told = telling.instances.iter();
        let versions: Vec<Uuid> = told.clone().map(|(version, _)| version.uuid()).collect();
        let records: Vec<&str> = told.map(|(_, record)| record.as_str()).collect();
        execute(
            sql,
            "INSERT INTO live_instance (keystore, version, term, told, record)
                 SELECT DISTINCT ON (told.version) lease.keystore, told.version, lease.term,
                     clock_timestamp(), told.record
                 FROM unnest($4::uuid[], $5::text[]) WITH ORDINALITY AS told (version, record, place)
                     JOIN coordinator_lease AS lease
                     ON lease.keystore = $1 AND lease.holder = $2 AND lease.term = $3
                 ORDER BY told.version, told.place DESC
             ON CONFLICT (keystore, version) DO UPDATE
                 SET term = excluded.term, told = excluded.told, record = excluded.record",
            &[
                &keystore.uuid(),
                &member.id,
                &number(telling.term.0)?,
                &versions,
                &records,
            ],
        )
        .await?;
    }
    let scanned = telling.scan_age_ms.map(|age| number(age).map(ms_s));
    execute(
        sql,
        "INSERT INTO live_keystore AS live (keystore, term, told, changed, scanned, record)
             SELECT keystore, term, clock_timestamp(), clock_timestamp(),
                 clock_timestamp() - make_interval(secs => $5::float8), coalesce($4::text, '')
             FROM coordinator_lease WHERE keystore = $1 AND holder = $2 AND term = $3
         ON CONFLICT (keystore) DO UPDATE SET term = excluded.term, told = excluded.told,
             scanned = excluded.scanned,
             changed = CASE WHEN $4::text IS NULL THEN live.changed ELSE excluded.changed END,
             record = coalesce($4::text, live.record)",
        &[
            &keystore.uuid(),
            &member.id,
            &number(telling.term.0)?,
            &telling.line,
            &scanned.transpose()?,
        ],
    )
    .await?;
    Ok(())
}

fn ms_s(ms: i64) -> f64 {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).as_secs_f64()
}

/// What the others told. Rows that were written while the last call read are given again: it is looked back by more
/// than any statement lasts.
pub(crate) async fn news(sql: &Sql, member: &Member, cursor: i64) -> Result<News, Problem> {
    let now = row(
        sql,
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
        &[],
    );
    let now = now.await?.ok_or_else(|| because("no time"))?;
    let mut news = News {
        cursor: now.try_get(0)?,
        ..News::default()
    };
    let since = ms_s(cursor.saturating_sub(LOOK_BACK_MS).max(0));
    let lines = rows(
        sql,
        "SELECT live.keystore, live.term,
             (extract(epoch FROM clock_timestamp() - live.told) * 1000)::bigint,
             (extract(epoch FROM clock_timestamp() - live.scanned) * 1000)::bigint,
             CASE WHEN live.changed >= to_timestamp($2::float8) THEN live.record END
         FROM live_keystore AS live JOIN coordinator_lease AS lease
             ON lease.keystore = live.keystore AND lease.term = live.term
         WHERE lease.holder <> $1 AND lease.expires > clock_timestamp()",
        &[&member.id, &since],
    )
    .await?;
    for row in lines {
        news.lines.push(Line {
            keystore: KeystoreId::from_uuid(id(&row, 0)?),
            term: Term(from_number(row.try_get(1)?)?),
            age_ms: age(&row, 2)?.unwrap_or(u64::MAX),
            scan_age_ms: age(&row, 3)?,
            record: row.try_get(4)?,
        });
    }
    let instances = rows(
        sql,
        "SELECT live.keystore, live.version, live.term,
             (extract(epoch FROM clock_timestamp() - live.told) * 1000)::bigint, live.record
         FROM live_instance AS live JOIN coordinator_lease AS lease
             ON lease.keystore = live.keystore AND lease.term = live.term
         WHERE live.told >= to_timestamp($2::float8) AND lease.holder <> $1",
        &[&member.id, &since],
    )
    .await?;
    for row in instances {
        news.instances.push(InstanceNews {
            keystore: KeystoreId::from_uuid(id(&row, 0)?),
            version: KeyVersionId::from_uuid(id(&row, 1)?),
            term: Term(from_number(row.try_get(2)?)?),
            age_ms: age(&row, 3)?.unwrap_or(u64::MAX),
            record: row.try_get(4)?,
        });
    }
    Ok(news)
}

fn age(row: &Row, column: usize) -> Result<Option<u64>, Problem> {
    let age: Option<i64> = row.try_get(column)?;
    Ok(age.map(|age| u64::try_from(age).unwrap_or(0)))
}

pub(crate) async fn errand_put(
    sql: &Sql,
    errand: &Errand,
    within: Duration,
) -> Result<(), Problem> {
    let text = "DELETE FROM errand WHERE expires < clock_timestamp()";
    execute(sql, text, &[]).await?;
    execute(
        sql,
        "INSERT INTO errand (id, keystore, request, expires)
         VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4::float8))",
        &[
            &errand.id,
            &errand.keystore.uuid(),
            &errand.request,
            &within.as_secs_f64(),
        ],
    )
    .await?;
    Ok(())
}

pub(crate) async fn errand_answer(sql: &Sql, id: Uuid) -> Result<Option<String>, Problem> {
    let text = "DELETE FROM errand WHERE id = $1 AND answer IS NOT NULL RETURNING answer";
    let answered = row(sql, text, &[&id]).await?;
    Ok(answered.map(|row| row.try_get(0)).transpose()?)
}

pub(crate) async fn errands(sql: &Sql, member: &Member) -> Result<Vec<Errand>, Problem> {
    let taken = rows(
        sql,
        "UPDATE errand SET taken = true WHERE id IN
             (SELECT errand.id FROM errand
                  JOIN coordinator_lease AS lease ON lease.keystore = errand.keystore
              WHERE lease.holder = $1 AND lease.expires > clock_timestamp()
                  AND NOT errand.taken AND errand.expires > clock_timestamp()
              LIMIT $2 FOR UPDATE OF errand SKIP LOCKED)
         RETURNING id, keystore, request",
        &[&member.id, &ERRANDS_MAX],
    )
    .await?;
    let mut errands = Vec::new();
    for row in taken {
        errands.push(Errand {
            id: id(&row, 0)?,
            keystore: KeystoreId::from_uuid(id(&row, 1)?),
            request: row.try_get(2)?,
        });
    }
    Ok(errands)
}

pub(crate) async fn errand_done(sql: &Sql, id: Uuid, answer: &str) -> Result<(), Problem> {
    let text = "UPDATE errand SET answer = $2 WHERE id = $1";
    execute(sql, text, &[&id, &answer]).await?;
    Ok(())
}

pub(crate) async fn notify(sql: &Sql, text: &str) -> Result<(), Problem> {
    execute(sql, "SELECT pg_notify('lockstep', $1)", &[&text]).await?;
    Ok(())
}
