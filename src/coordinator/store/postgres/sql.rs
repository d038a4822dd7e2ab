//! Statements and rows: each statement stays prepared on its connection.

use deadpool_postgres::ClientWrapper;
use serde::de::DeserializeOwned;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::{because, decode};
use crate::coordinator::store::postgres::failure::Problem;

/// A connection on which statements are kept prepared.
pub(crate) type Sql = ClientWrapper;

/// Values of a statement's places, `$1` first.
pub(crate) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Runs a statement; gives the number of rows it touched.
pub(crate) async fn execute(sql: &Sql, text: &str, values: Values<'_>) -> Result<u64, Error> {
    let statement = sql.prepare_cached(text).await?;
    sql.execute(&statement, values).await
}

/// All rows of a query.
pub(crate) async fn rows(sql: &Sql, text: &str, values: Values<'_>) -> Result<Vec<Row>, Error> {
    let statement = sql.prepare_cached(text).await?;
    sql.query(&statement, values).await
}

/// The first row of a query, if there is one.
pub(crate) async fn row(sql: &Sql, text: &str, values: Values<'_>) -> Result<Option<Row>, Error> {
    Ok(rows(sql, text, values).await?.into_iter().next())
}

/// The records in the only column of all rows.
pub(crate) async fn records<T: DeserializeOwned>(
    sql: &Sql,
    text: &str,
    values: Values<'_>,
) -> Result<Vec<T>, Problem> {
    let found = rows(sql, text, values).await?;
    let records: Result<Vec<T>, StoreError> = found.iter().map(|row| record(row, 0)).collect();
    Ok(records?)
}

/// The record in the only column of the only row.
pub(crate) async fn one<T: DeserializeOwned>(
    sql: &Sql,
    text: &str,
    values: Values<'_>,
) -> Result<Option<T>, Problem> {
    let found = row(sql, text, values).await?;
    Ok(found.map(|row| record(&row, 0)).transpose()?)
}

/// The record in a column.
pub(crate) fn record<T: DeserializeOwned>(row: &Row, column: usize) -> Result<T, StoreError> {
    let text: &str = row
        .try_get(column)
        .map_err(|error| because(&error.to_string()))?;
    decode(text)
}

/// The id in a column.
pub(crate) fn id(row: &Row, column: usize) -> Result<Uuid, Problem> {
    Ok(row.try_get(column)?)
}
