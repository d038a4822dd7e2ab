//! Whether the store is older than its agents, and the keys that they keep and it does not know.

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::number;
use crate::coordinator::store::postgres::failure::Problem;
use crate::coordinator::store::postgres::sql::{Sql, execute, one, records};
use crate::model::ids::{KeystoreId, Revision};
use crate::model::recovery::{Recovery, Stranger};

/// Puts or ends it, if what is there has still the expected revision; `None`: there must be nothing yet.
pub(crate) async fn put(
    sql: &Sql,
    record: Option<&Recovery>,
    expected: Option<Revision>,
    text: &str,
) -> Result<(), Problem> {
    let revision = number(record.map_or(0, |record| record.revision.0))?;
    let before = number(expected.map_or(0, |expected| expected.0))?;
    let touched = match (record, expected) {
        (None, None) => 0,
        (None, Some(_)) => {
            let end = "DELETE FROM recovery WHERE one AND revision = $1";
            execute(sql, end, &[&before]).await?
        }
        (Some(_), None) => {
            let insert = "INSERT INTO recovery (one, revision, record) VALUES (true, $1, $2)
                 ON CONFLICT (one) DO NOTHING";
            execute(sql, insert, &[&revision, &text]).await?
        }
        (Some(_), Some(_)) => {
            let update =
                "UPDATE recovery SET revision = $1, record = $2 WHERE one AND revision = $3";
            execute(sql, update, &[&revision, &text, &before]).await?
        }
    };
    if touched == 1 {
        return Ok(());
    }
    Err(Problem::Refused(StoreError::Conflict {
        what: "recovery".to_owned(),
    }))
}

pub(crate) async fn stranger_put(
    sql: &Sql,
    stranger: &Stranger,
    text: &str,
) -> Result<(), Problem> {
    execute(
        sql,
        "INSERT INTO stranger (keystore, version, record) VALUES ($1, $2, $3)
         ON CONFLICT (keystore, version) DO UPDATE SET record = excluded.record",
        &[&stranger.keystore.uuid(), &stranger.version.uuid(), &text],
    )
    .await?;
    Ok(())
}

pub(crate) async fn find(sql: &Sql) -> Result<Option<Recovery>, Problem> {
    one(sql, "SELECT record FROM recovery WHERE one", &[]).await
}

pub(crate) async fn strangers(sql: &Sql, keystore: KeystoreId) -> Result<Vec<Stranger>, Problem> {
    records(
        sql,
        "SELECT record FROM stranger WHERE keystore = $1 ORDER BY version",
        &[&keystore.uuid()],
    )
    .await
}
