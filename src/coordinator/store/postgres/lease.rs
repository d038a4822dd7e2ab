//! Which coordinator bothers with which keystore. Times are the database's, so no coordinator's clock matters to another.
//!
//! Leases choose who acts, and no more: what keeps the old from undoing the new is the agent's fence (promises R16).

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::Row;
use uuid::Uuid;

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::{because, from_number, number};
use crate::coordinator::store::postgres::failure::Problem;
use crate::coordinator::store::postgres::sql::{Sql, Values, execute, id, row};
use crate::coordinator::store::sharing::Round;
use crate::model::ids::{KeystoreId, Term};

/// This process among the coordinators.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// New with every start: what an earlier process held is not ours.
    pub(crate) id: Uuid,
    /// Where people's clients reach it, told by the others when they cannot do something themselves.
    pub(crate) address: String,
    /// How long a lease lasts without renewal.
    pub(crate) lasts: Duration,
}

impl Member {
    fn lasts_s(&self) -> f64 {
        self.lasts.as_secs_f64()
    }
}

/// Takes or goes on with a keystore's lease: a term above every earlier one and at least `above`.
///
/// # Errors
/// `Conflict` while another coordinator holds it.
pub(crate) async fn take(
    sql: &Sql,
    member: &Member,
    keystore: KeystoreId,
    above: Term,
) -> Result<Term, Problem> {
    let taken = row(
        sql,
        "INSERT INTO coordinator_lease AS lease (keystore, term, holder, expires)
         VALUES ($1, greatest($2::bigint, 1), $3, clock_timestamp() + make_interval(secs => $4::float8))
         ON CONFLICT (keystore) DO UPDATE
             SET term = greatest(lease.term + 1, excluded.term), holder = excluded.holder, expires = excluded.expires
             WHERE lease.holder IS NULL OR lease.holder = excluded.holder OR lease.expires < clock_timestamp()
         RETURNING term",
        &[
            &keystore.uuid(),
            &number(above.0)?,
            &member.id,
            &member.lasts_s(),
        ],
    ).await;
    match taken? {
        Some(taken) => Ok(Term(from_number(taken.try_get(0)?)?)),
        None => Err(Problem::Refused(StoreError::Conflict {
            what: format!("lease of keystore/{keystore}"),
        })),
    }
}

/// What was told of these keystores is what is known still; their last scans are so old.
const CONFIRM: &str = "
    UPDATE live_keystore AS live SET told = clock_timestamp(),
        scanned = clock_timestamp() - make_interval(secs => scan.age)
    FROM unnest($2::uuid[], $3::float8[]) AS scan (keystore, age)
        JOIN coordinator_lease AS lease ON lease.keystore = scan.keystore AND lease.holder = $1
    WHERE live.keystore = scan.keystore AND live.term = lease.term";

/// Takes up to $3 keystores that nobody holds, but none of $4.
const CLAIM: &str = "
    INSERT INTO coordinator_lease AS lease (keystore, term, holder, expires)
        SELECT keystore.id, 0, $1, clock_timestamp() + make_interval(secs => $2::float8)
        FROM keystore LEFT JOIN coordinator_lease AS taken ON taken.keystore = keystore.id
        WHERE (taken.holder IS NULL OR taken.expires < clock_timestamp())
            AND NOT keystore.id = ANY ($4)
        ORDER BY keystore.id LIMIT $3
    ON CONFLICT (keystore) DO UPDATE
        SET term = lease.term + 1, holder = excluded.holder, expires = excluded.expires
        WHERE lease.holder IS NULL OR lease.expires < clock_timestamp()
    RETURNING keystore";

/// Renews what is held, lets these go, takes what nobody holds up to a fair share: in one transaction.
pub(crate) async fn round(
    sql: &mut Sql,
    member: &Member,
    let_go: &[KeystoreId],
    scans: &[(KeystoreId, Option<u64>)],
) -> Result<Round, Problem> {
    let transaction = sql.transaction().await?;
    let (me, lasts) = (member.id, member.lasts_s());
    let let_go: Vec<Uuid> = let_go.iter().map(|keystore| keystore.uuid()).collect();
    let run = async |text: &str, values: Values<'_>| {
        let statement = transaction.prepare_cached(text).await?;
        transaction.query(&statement, values).await
    };
    run(
        "INSERT INTO coordinator (id, address, expires)
         VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3::float8))
         ON CONFLICT (id) DO UPDATE SET expires = excluded.expires",
        &[&me, &member.address, &lasts],
    )
    .await?;
    run(
        "UPDATE coordinator_lease SET holder = NULL, expires = clock_timestamp()
         WHERE holder = $1 AND (keystore = ANY ($2) OR NOT EXISTS
             (SELECT 1 FROM keystore WHERE keystore.id = coordinator_lease.keystore))",
        &[&me, &let_go],
    )
    .await?;
    let renewed = run(
        "UPDATE coordinator_lease SET expires = clock_timestamp() + make_interval(secs => $2::float8)
         WHERE holder = $1 RETURNING keystore",
        &[&me, &lasts],
    )
    .await?;
    let mut held = keystores(&renewed)?;
    let (of, ages) = scan_ages(scans);
    run(CONFIRM, &[&me, &of, &ages]).await?;
    let counted = run(
        "SELECT (SELECT count(*) FROM keystore),
                (SELECT count(*) FROM coordinator WHERE expires > clock_timestamp())",
        &[],
    )
    .await?;
    let counted = counted.first().ok_or_else(|| because("no counts"))?;
    let (all, among): (i64, i64) = (counted.try_get(0)?, counted.try_get(1)?);
    let share = usize::try_from(all.saturating_add(among - 1) / among.max(1)).unwrap_or(0);
    let free = i64::try_from(share.saturating_sub(held.len())).unwrap_or(0);
    let claimed = run(CLAIM, &[&me, &lasts, &free, &let_go]).await?;
    held.extend(keystores(&claimed)?);
    let others = run(
        "SELECT lease.keystore, coordinator.address FROM coordinator_lease AS lease
             JOIN coordinator ON coordinator.id = lease.holder
         WHERE lease.holder <> $1 AND lease.expires > clock_timestamp()",
        &[&me],
    )
    .await?;
    let mut round = Round {
        surplus: held.iter().skip(share).copied().collect(),
        held,
        ..Round::default()
    };
    for row in others {
        let keystore = KeystoreId::from_uuid(id(&row, 0)?);
        round.others.insert(keystore, row.try_get(1)?);
    }
    transaction.commit().await?;
    Ok(round)
}

type Ages = (Vec<Uuid>, Vec<Option<f64>>);

fn scan_ages(scans: &[(KeystoreId, Option<u64>)]) -> Ages {
    let of = scans.iter().map(|(keystore, _)| keystore.uuid()).collect();
    let ages = scans
        .iter()
        .map(|(_, age)| age.map(|age| Duration::from_millis(age).as_secs_f64()));
    (of, ages.collect())
}

fn keystores(rows: &[Row]) -> Result<BTreeSet<KeystoreId>, Problem> {
    let ids = rows.iter().map(|row| id(row, 0).map(KeystoreId::from_uuid));
    ids.collect()
}

/// Lets all go.
pub(crate) async fn leave(sql: &Sql, member: &Member) -> Result<(), Problem> {
    execute(
        sql,
        "UPDATE coordinator_lease SET holder = NULL, expires = clock_timestamp() WHERE holder = $1",
        &[&member.id],
    )
    .await?;
    let text =
        "DELETE FROM coordinator WHERE id = $1 OR expires < clock_timestamp() - interval '1 day'";
    execute(sql, text, &[&member.id]).await?;
    Ok(())
}
