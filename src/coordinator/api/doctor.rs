//! The doctor: all checks over store and fleet. Changes nothing.

use axum::Json;
use axum::extract::State;

use crate::coordinator::api::Api;
use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::ops::doctor::{Check, Verdict};
use crate::rest::doctor;

/// GET …/doctor
pub(crate) async fn all(
    State(api): State<Api>,
    mut incoming: Incoming,
) -> Result<Json<doctor::Doctor>, Refusal> {
    incoming.done(&[])?;
    let checks = api.ops.doctor(&incoming.call).await?;
    let worst = checks.iter().map(|check| check.verdict).max();
    Ok(Json(doctor::Doctor {
        verdict: verdict(worst.unwrap_or(Verdict::Ok)),
        checks: checks.into_iter().map(body).collect(),
    }))
}

const fn verdict(verdict: Verdict) -> doctor::Verdict {
    match verdict {
        Verdict::Ok => doctor::Verdict::Ok,
        Verdict::Warning => doctor::Verdict::Warning,
        Verdict::Violated => doctor::Verdict::Violated,
    }
}

fn body(check: Check) -> doctor::Check {
    doctor::Check {
        name: check.name.to_owned(),
        invariant: check.invariant.map(|one| one.id().to_owned()),
        verdict: verdict(check.verdict),
        found: check.found,
        count: u64::try_from(check.count).unwrap_or(u64::MAX),
        meaning: check.meaning.to_owned(),
        advice: check.advice.to_owned(),
    }
}
