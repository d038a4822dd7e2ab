//! The audit log, newest first.

use axum::Json;
use axum::extract::{OriginalUri, State};

use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{Api, answer};
use crate::rest::extension::{AuditEntry, AuditList};

/// GET …/audit
pub(crate) async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    mut incoming: Incoming,
) -> Result<Json<AuditList>, Refusal> {
    let page = incoming.parameters.take_page()?;
    let subject = incoming.parameters.take("subject");
    incoming.done(&[])?;
    let found = api.ops.audit_list(&incoming.call, subject, page).await?;
    let page = answer::page_info(&uri, page, &found);
    let entries = found
        .items
        .iter()
        .map(|entry| AuditEntry {
            at: answer::time(entry.at),
            actor: entry.actor.clone(),
            action: entry.action.clone(),
            subject: entry.subject.clone(),
            operation: entry.operation.to_string(),
            intents: entry.intents.iter().map(ToString::to_string).collect(),
            detail: entry.detail.clone(),
            bulk_change: entry.bulk.map(|id| id.to_string()),
        })
        .collect();
    Ok(Json(AuditList { page, entries }))
}
