//! Writes instances: every one conditional on the generation it replaces.

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::number;
use crate::coordinator::store::postgres::failure::{Broken, Problem, rule};
use crate::coordinator::store::postgres::sql::{Sql, execute, row};
use crate::model::desired::Instance;
use crate::model::ids::{Generation, KeyId};

/// Writes an instance's intent; `expected` is the generation it replaces, none: there was no instance.
///
/// # Errors
/// `Conflict` if another generation is there, `NotFound` if key or keystore are gone.
pub(crate) async fn instance_put(
    sql: &Sql,
    key: KeyId,
    instance: &Instance,
    expected: Option<Generation>,
    text: &str,
) -> Result<(), Problem> {
    let intent = &instance.intent;
    let what = format!("instance of key/{key} on keystore/{}", intent.keystore);
    match expected {
        None => instance_insert(sql, key, instance, text, what).await,
        // The fence never goes back, whoever asks.
        Some(expected) if intent.generation < expected => {
            Err(Problem::Refused(StoreError::Conflict { what }))
        }
        Some(expected) => instance_update(sql, key, instance, expected, text, what).await,
    }
}

async fn instance_insert(
    sql: &Sql,
    key: KeyId,
    instance: &Instance,
    text: &str,
    what: String,
) -> Result<(), Problem> {
    let intent = &instance.intent;
    let keystore = intent.keystore.uuid();
    let there = row(sql, "SELECT 1 FROM keystore WHERE id = $1", &[&keystore]).await;
    if there?.is_none() {
        let what = format!("keystore/{}", intent.keystore);
        return Err(Problem::Refused(StoreError::NotFound { what }));
    }
    let inserted = execute(
        sql,
        "INSERT INTO instance (keystore, version, key, generation, want, record, adopted_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            &keystore,
            &intent.version.uuid(),
            &key.uuid(),
            &number(intent.generation.0)?,
            &intent.want.name(),
            &text,
            &instance.adoption.as_ref().map(|_| &intent.object.cka_id),
        ],
    )
    .await;
    let Err(error) = inserted else {
        return Ok(());
    };
    Err(match rule(&error) {
        Some(Broken::Id | Broken::Name) => Problem::Refused(StoreError::Conflict { what }),
        Some(Broken::Parent) => Problem::Refused(StoreError::NotFound {
            what: format!("key/{key}"),
        }),
        None => error.into(),
    })
}

async fn instance_update(
    sql: &Sql,
    key: KeyId,
    instance: &Instance,
    expected: Generation,
    text: &str,
    what: String,
) -> Result<(), Problem> {
    let intent = &instance.intent;
    let touched = execute(
        sql,
        "UPDATE instance SET generation = $5, want = $6, record = $7
         WHERE keystore = $1 AND version = $2 AND key = $3 AND generation = $4",
        &[
            &intent.keystore.uuid(),
            &intent.version.uuid(),
            &key.uuid(),
            &number(expected.0)?,
            &number(intent.generation.0)?,
            &intent.want.name(),
            &text,
        ],
    )
    .await?;
    if touched == 1 {
        Ok(())
    } else {
        Err(Problem::Refused(StoreError::Conflict { what }))
    }
}
