//! Everything on any keystore that is not as wanted.

use axum::Json;
use axum::extract::{OriginalUri, State};

use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{Api, answer, key_body, keystore_body, status_body};
use crate::coordinator::ops::differences::DifferenceQuery;
use crate::model::difference::{Reason, Weight};
use crate::rest::extension::{DifferenceList, EstateDifference};

/// GET …/differences: pages count instances; each brings all its differences.
pub(crate) async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    mut incoming: Incoming,
) -> Result<Json<DifferenceList>, Refusal> {
    let parameters = &mut incoming.parameters;
    let page = parameters.take_page()?;
    let query = DifferenceQuery {
        vault: parameters.take_as("vault.id", "a vault's UUID", |id| id.parse().ok())?,
        keystore: parameters.take_as("keystore.id", "a keystore's UUID", |id| id.parse().ok())?,
        reason: parameters.take_as("reason", "a reason such as wrong_key", reason_named)?,
        weight: parameters.take_as("weight", "out_of_sync or warning", Weight::from_name)?,
    };
    incoming.done(&["age_min"])?;
    let found = api.ops.difference_list(&incoming.call, query, page).await?;
    let page = answer::page_info(&uri, page, &found);
    let differences = found
        .items
        .iter()
        .flat_map(|view| {
            let place = &view.in_keystore;
            place.differences.iter().map(|observed| EstateDifference {
                managed_key: key_body::reference(view.key, &view.label),
                keystore: keystore_body::reference(place.keystore, &place.name),
                difference: status_body::difference(observed),
            })
        })
        .collect();
    Ok(Json(DifferenceList { page, differences }))
}

fn reason_named(name: &str) -> Option<Reason> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}
