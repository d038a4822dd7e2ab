//! A store that is older than its agents, an extension: GET shows what going on would do, POST goes on.

use axum::Json;
use axum::extract::State;

use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::keystore_body::reference;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{Api, answer, key_body};
use crate::coordinator::ops::recovery::{KeyRecovery, Recover, RecoveryView};
use crate::model::desired::Want;
use crate::model::keystore::KeystoreRecord;
use crate::model::observed::Observation;
use crate::model::protocol::Report;
use crate::model::recovery::{Evidence, Prefer};
use crate::rest::recovery as rest;
use crate::rest::status::KeystoreRef;

pub(crate) async fn look(
    State(api): State<Api>,
    mut incoming: Incoming,
) -> Result<Json<rest::Recovery>, Refusal> {
    let prefer =
        incoming
            .parameters
            .take_as("prefer", "restrict or agents", |text| match text {
                "restrict" => Some(Prefer::Restrict),
                "agents" => Some(Prefer::Agents),
                _ => None,
            })?;
    incoming.done(&[])?;
    let view = api
        .ops
        .recovery(&incoming.call, prefer.unwrap_or_default())
        .await?;
    Ok(Json(body(&api, &incoming, view).await?))
}

pub(crate) async fn go_on(
    State(api): State<Api>,
    mut incoming: Incoming,
) -> Result<Json<rest::Recovery>, Refusal> {
    incoming.done(&[])?;
    let asked: rest::Recover = incoming.body()?;
    let how = Recover {
        prefer: match asked.prefer {
            rest::Prefer::Restrict => Prefer::Restrict,
            rest::Prefer::Agents => Prefer::Agents,
        },
        without_missing: asked.without_missing,
    };
    let view = api.ops.recover(&incoming.call, how).await?;
    Ok(Json(body(&api, &incoming, view).await?))
}

async fn body(
    api: &Api,
    incoming: &Incoming,
    view: RecoveryView,
) -> Result<rest::Recovery, Refusal> {
    let names = Names(api.ops.keystore_names(&incoming.call).await?);
    let recovery = view.recovery.as_ref();
    let evidence = recovery.map_or(&[][..], |recovery| &recovery.evidence);
    Ok(rest::Recovery {
        is_behind: recovery.is_some(),
        noticed_at: recovery.map_or_else(String::new, |one| answer::time(one.noticed_at)),
        evidence: evidence.iter().map(|one| names.evidence(one)).collect(),
        managed_keys: view.keys.iter().map(|one| names.key(one)).collect(),
        strangers: view
            .strangers
            .iter()
            .map(|(keystore, report)| stranger(keystore, report))
            .collect(),
        missing_keystores: view
            .missing
            .into_iter()
            .map(|(keystore, why)| rest::MissingKeystore {
                keystore: reference(keystore.id, &keystore.name),
                why,
            })
            .collect(),
    })
}

struct Names(Vec<KeystoreRecord>);

impl Names {
    fn of(&self, id: crate::model::ids::KeystoreId) -> KeystoreRef {
        let found = self.0.iter().find(|keystore| keystore.id == id);
        // One that was removed meanwhile has no name any more.
        reference(id, found.map_or("", |keystore| keystore.name.as_str()))
    }

    fn evidence(&self, evidence: &Evidence) -> rest::Evidence {
        let keystore = match evidence {
            Evidence::Restored { .. } => None,
            Evidence::HigherTerm { keystore, .. }
            | Evidence::Ahead { keystore, .. }
            | Evidence::Stranger { keystore, .. } => Some(self.of(*keystore)),
        };
        rest::Evidence {
            keystore,
            message: evidence.to_string(),
        }
    }

    fn key(&self, one: &KeyRecovery) -> rest::KeyRecovery {
        let ahead = one.ahead.iter().map(|(name, want, applied)| rest::Ahead {
            keystore_name: name.clone(),
            store: want.map_or("", Want::name).to_owned(),
            agent: applied.want.name().to_owned(),
            generation: applied.generation.0,
        });
        let targets = one.settled.targets.iter().map(|&id| self.of(id));
        rest::KeyRecovery {
            managed_key: key_body::reference(one.key.id, one.key.label.as_str()),
            state: one.key.state.name().to_owned(),
            becomes: one.settled.state.name().to_owned(),
            target_keystores: targets.collect(),
            ahead: ahead.collect(),
        }
    }
}

fn stranger(keystore: &KeystoreRecord, report: &Report) -> rest::Stranger {
    let found = match &report.observation {
        Observation::Present(found) => found.objects.first(),
        Observation::Unknown { .. }
        | Observation::Absent { .. }
        | Observation::Suspected { .. } => None,
    };
    rest::Stranger {
        keystore: reference(keystore.id, &keystore.name),
        version: report.version.to_string(),
        label: found.map_or_else(String::new, |facts| facts.label.clone()),
        agent: report
            .applied
            .map_or_else(String::new, |applied| applied.want.name().to_owned()),
    }
}
