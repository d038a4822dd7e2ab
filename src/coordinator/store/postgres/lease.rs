//! Which coordinator bothers with which keystore. Times are the database's, so no coordinator's clock matters to another.
//!
//! Leases choose who acts, and no more: what keeps the old from undoing the new is the agent's fence (promises R16).

use std::time::Duration;

use uuid::Uuid;

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::{from_number, number};
use crate::coordinator::store::postgres::failure::Problem;
use crate::coordinator::store::postgres::sql::{Sql, row};
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
