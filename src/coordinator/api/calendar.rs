//! The calendar of dates that are to act.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{Api, key_body};
use crate::coordinator::ops::calendar::CalendarQuery;
use crate::rest::calendar as rest;

/// GET /api/lockstep/v1/calendar
pub(crate) async fn list(
    State(api): State<Api>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let parameters = &mut incoming.parameters;
    let query = CalendarQuery {
        from: parameters.take("from"),
        to: parameters.take("to"),
        vault: parameters.take_as("vault.id", "a vault's UUID", |id| id.parse().ok())?,
    };
    incoming.done(&[])?;
    let found = api.ops.calendar(&incoming.call, query).await?;
    let dates = found
        .into_iter()
        .map(|entry| rest::CalendarDate {
            date: entry.day,
            kind: entry.kind.name().to_owned(),
            managed_key: key_body::reference(entry.key, &entry.label),
            state: entry.state,
            overdue: entry.is_overdue,
            message: entry.message,
        })
        .collect();
    Ok(Json(rest::Calendar { dates }).into_response())
}
