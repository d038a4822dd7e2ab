//! Plans: what an action would cause, keystore by keystore. Nothing is changed.

use axum::Json;
use axum::extract::State;

use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{Api, key_actions, key_body, keystore_body};
use crate::coordinator::ops::plan::Proposal;
use crate::model::ids::KeyId;
use crate::model::lifecycle::Action;
use crate::rest::extension::{KeystorePlan, Plan, PlanAction, PlanRequest};

/// POST …/plan
pub(crate) async fn plan(
    State(api): State<Api>,
    mut incoming: Incoming,
) -> Result<Json<Plan>, Refusal> {
    incoming.done(&[])?;
    let asked: PlanRequest = incoming.body()?;
    let key: KeyId = asked.managed_key.id.parse().map_err(|_not_a_uuid| {
        Refusal::field("managed_key.id", "invalid_value", "must be a UUID")
    })?;
    if asked.keystores.is_some() != (asked.action == PlanAction::Targets) {
        return Err(Refusal::field(
            "keystores",
            "invalid_value",
            "keystores go with the action targets, and with no other",
        ));
    }
    let proposal = match asked.action {
        PlanAction::Activate => Proposal::Act(Action::Activate),
        PlanAction::Deactivate => Proposal::Act(Action::Deactivate),
        PlanAction::Compromise => Proposal::Act(Action::Compromise),
        PlanAction::Destroy => Proposal::Act(Action::Destroy),
        PlanAction::Sync => Proposal::Sync,
        PlanAction::UpdateFromTemplate => Proposal::UpdateFromTemplate,
        PlanAction::Targets => {
            let named = asked.keystores.as_deref().unwrap_or_default();
            Proposal::Targets(key_actions::keystores(named)?)
        }
    };
    let view = api.ops.key(&incoming.call, key).await?;
    incoming.check_vault(view.key.vault)?;
    let plan = api.ops.key_plan(&incoming.call, key, proposal).await?;
    Ok(Json(Plan {
        managed_key: key_body::reference(key, view.key.label.as_str()),
        action: name(asked.action).to_owned(),
        keystores: plan
            .keystores
            .into_iter()
            .map(|planned| KeystorePlan {
                keystore: keystore_body::reference(planned.keystore, &planned.name),
                version: planned.version,
                want: planned.want.map(|want| want.name().to_owned()),
                steps: planned.steps,
                refused: planned.refused,
            })
            .collect(),
    }))
}

const fn name(action: PlanAction) -> &'static str {
    match action {
        PlanAction::Activate => "activate",
        PlanAction::Deactivate => "deactivate",
        PlanAction::Compromise => "compromise",
        PlanAction::Destroy => "destroy",
        PlanAction::Sync => "sync",
        PlanAction::Targets => "targets",
        PlanAction::UpdateFromTemplate => "update_from_template",
    }
}
