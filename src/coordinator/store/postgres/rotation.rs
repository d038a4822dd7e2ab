//! Rotations of wrapping keys, and which copies are under which.

use uuid::Uuid;

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::{from_number, number};
use crate::coordinator::store::postgres::failure::Problem;
use crate::coordinator::store::postgres::sql::{Sql, execute, id, one, record, row, rows};
use crate::model::ids::{KeyVersionId, KeystoreId, Revision};
use crate::model::kek::{KekNumber, KekRotation};
use crate::model::material::RepositoryCopy;

/// Puts a rotation, if the one that is there has still the expected revision; `None`: there must be none yet.
pub(crate) async fn put(
    sql: &Sql,
    rotation: &KekRotation,
    expected: Option<Revision>,
    text: &str,
) -> Result<(), Problem> {
    let keystore = rotation.keystore.uuid();
    let demanded = i64::from(rotation.demanded().map_or(0, KekNumber::get));
    let revision = number(rotation.revision.0)?;
    let touched = match expected {
        None => {
            let insert = execute(
                sql,
                "INSERT INTO kek_rotation (keystore, revision, demanded, record)
                     SELECT id, $2::bigint, $3::bigint, $4::text FROM keystore WHERE id = $1
                 ON CONFLICT (keystore) DO NOTHING",
                &[&keystore, &revision, &demanded, &text],
            )
            .await;
            insert?
        }
        Some(expected) => {
            let update = "UPDATE kek_rotation SET revision = $2, demanded = $3, record = $4
                 WHERE keystore = $1 AND revision = $5";
            let expected = number(expected.0)?;
            execute(
                sql,
                update,
                &[&keystore, &revision, &demanded, &text, &expected],
            )
            .await?
        }
    };
    if touched == 1 {
        return Ok(());
    }
    Err(Problem::Refused(changed(rotation.keystore)))
}

fn changed(keystore: KeystoreId) -> StoreError {
    StoreError::Conflict {
        what: format!("kek_rotation/{keystore}"),
    }
}

/// Refuses a copy under a wrapping key that is being retired, or was: whoever wrapped it had not heard of the new one yet.
pub(crate) async fn check_copy(sql: &Sql, copy: &RepositoryCopy) -> Result<(), Problem> {
    let found = row(
        sql,
        "SELECT demanded FROM kek_rotation WHERE keystore = $1",
        &[&copy.keystore.uuid()],
    )
    .await;
    let Some(found) = found? else {
        return Ok(());
    };
    if i64::from(copy.kek.get()) < found.try_get(0)? {
        return Err(Problem::Refused(changed(copy.keystore)));
    }
    Ok(())
}

pub(crate) async fn find(sql: &Sql, keystore: KeystoreId) -> Result<Option<KekRotation>, Problem> {
    one(
        sql,
        "SELECT record FROM kek_rotation WHERE keystore = $1",
        &[&keystore.uuid()],
    )
    .await
}

pub(crate) async fn copies_below(
    sql: &Sql,
    keystore: KeystoreId,
    kek: KekNumber,
    after: Option<KeyVersionId>,
    limit: u32,
) -> Result<Vec<(KeyVersionId, RepositoryCopy)>, Problem> {
    // No version has the nil id.
    let after = after.map_or(Uuid::nil(), |version| version.uuid());
    let below = rows(
        sql,
        "SELECT version, record FROM copy WHERE keystore = $1 AND kek < $2 AND version > $3
         ORDER BY version LIMIT $4",
        &[
            &keystore.uuid(),
            &i64::from(kek.get()),
            &after,
            &i64::from(limit),
        ],
    )
    .await;
    let mut found = Vec::new();
    for row in below? {
        found.push((KeyVersionId::from_uuid(id(&row, 0)?), record(&row, 1)?));
    }
    Ok(found)
}

pub(crate) async fn copies_below_count(
    sql: &Sql,
    keystore: KeystoreId,
    kek: KekNumber,
) -> Result<u64, Problem> {
    let found = row(
        sql,
        "SELECT count(*) FROM copy WHERE keystore = $1 AND kek < $2",
        &[&keystore.uuid(), &i64::from(kek.get())],
    )
    .await;
    match found? {
        Some(row) => Ok(from_number(row.try_get(0)?)?),
        None => Ok(0),
    }
}
