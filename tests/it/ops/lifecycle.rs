//! A key's life, from pre-active to removed.

use crate::ops::agents::ahead;
use crate::ops::{House, call, on, phase, row, rows};
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::lists::Page;
use lockstep::coordinator::ops::plan::Proposal;
use lockstep::model::desired::Want;
use lockstep::model::ids::Revision;
use lockstep::model::lifecycle::{Action, ManagedState};
use lockstep::model::observed::{Found, Observation};

#[tokio::test]
async fn from_pre_active_to_removed() {
    let house = House::furnished().await;
    let key = house.key("K").await;
    assert_eq!(key.key.state, ManagedState::PreActivation);
    assert_eq!(key.copies.held, 1);
    let nowhere = ["a", "b", "home"].map(|name| format!("{name} in_sync not_present ok"));
    assert_eq!(rows(&key), nowhere);
    assert!(
        house
            .store
            .key_instances(key.key.id)
            .await
            .unwrap()
            .is_empty()
    );

    let asked = house.act(&key, Action::Activate).await.unwrap();
    assert_eq!(
        asked.key.state,
        ManagedState::Active,
        "the wanted state, at once"
    );
    let active = house.settled(key.key.id).await;
    assert_eq!(phase(&active), "in_step 3/3");
    let usable = ["a", "b", "home"].map(|name| format!("{name} in_sync active ok"));
    assert_eq!(rows(&active), usable);

    house.act(&active, Action::Deactivate).await.unwrap();
    let deactivated = house.settled(key.key.id).await;
    let disabled = ["a", "b", "home"].map(|name| format!("{name} in_sync not_active ok"));
    assert_eq!(rows(&deactivated), disabled);

    house.act(&deactivated, Action::Destroy).await.unwrap();
    let destroyed = house.settled(key.key.id).await;
    assert_eq!(phase(&destroyed), "in_step 3/3");
    assert_eq!(rows(&destroyed), nowhere);
    assert_eq!(
        destroyed.copies.held, 0,
        "the repository copy went in the same commit"
    );

    let removed = house
        .ops
        .key_remove(&on(&destroyed), key.key.id, false)
        .await;
    removed.unwrap();
    let gone = house.ops.key(&call(None), key.key.id).await;
    assert!(matches!(gone, Err(OpsError::NotFound { .. })));
}

#[tokio::test]
async fn every_change_is_in_the_audit_with_the_digests_of_its_intents() {
    let house = House::furnished().await;
    let key = house.active("K").await;
    let subject = Some(format!("key/{}", key.key.id));
    let page = Page {
        limit: 10,
        offset: 0,
    };
    let log = house
        .ops
        .audit_list(&call(None), subject, page)
        .await
        .unwrap();
    let told: Vec<_> = log
        .items
        .iter()
        .map(|entry| {
            (
                entry.action.as_str(),
                entry.actor.as_str(),
                entry.intents.len(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("key.activate", "admin", 3), ("key.create", "admin", 0)]
    );
    for row in &key.keystores {
        let digest = row.instance.as_ref().unwrap().intent.digest();
        assert!(log.items[0].intents.contains(&digest));
    }
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_with_what_is() {
    let house = House::furnished().await;
    let key = house.key("K").await;
    let refused = house.act(&key, Action::Deactivate).await.unwrap_err();
    let OpsError::StateConflict {
        state,
        allowed,
        current,
        ..
    } = refused
    else {
        panic!("{refused}")
    };
    assert_eq!(state, ManagedState::PreActivation);
    assert_eq!(allowed, [Action::Activate, Action::Destroy]);
    assert_eq!(current, Some(Revision(1)));

    let active = house.active("L").await;
    let refused = house.act(&active, Action::Destroy).await.unwrap_err();
    assert!(
        matches!(refused, OpsError::StateConflict { .. }),
        "{refused}"
    );
    let kept = house
        .ops
        .key_remove(&on(&active), active.key.id, true)
        .await;
    assert!(matches!(kept, Err(OpsError::StateConflict { .. })));
}

#[tokio::test]
async fn the_state_already_there_changes_nothing() {
    let house = House::furnished().await;
    let active = house.active("K").await;
    let same = house.act(&active, Action::Activate).await.unwrap();
    assert_eq!(same.key, active.key);
    let instances = house.store.key_instances(active.key.id).await.unwrap();
    assert!(
        instances
            .iter()
            .all(|instance| instance.intent.generation.0 == 1)
    );
}

#[tokio::test]
async fn a_compromised_key_is_never_active_again() {
    let house = House::furnished().await;
    let active = house.active("K").await;
    house.act(&active, Action::Compromise).await.unwrap();
    let compromised = house.settled(active.key.id).await;
    assert_eq!(phase(&compromised), "in_step 3/3");
    assert_eq!(row(&compromised, "a").uko_status.name(), "not_active");
    let refused = house.act(&compromised, Action::Activate).await;
    assert!(matches!(refused, Err(OpsError::StateConflict { .. })));
    let destroyed = house.act(&compromised, Action::Destroy).await.unwrap();
    assert_eq!(destroyed.key.state, ManagedState::DestroyedCompromised);
}

#[tokio::test]
async fn an_agent_that_is_away_is_unknown_and_gets_it_when_it_is_back() {
    let house = House::furnished().await;
    let active = house.active("K").await;
    house.agents.cut("b");
    house.act(&active, Action::Deactivate).await.unwrap();
    let partly = house.settled(active.key.id).await;
    assert_eq!(phase(&partly), "unknown 2/3");
    assert_eq!(rows(&partly)[1], "b unknown unknown error unreachable");
    assert_eq!(partly.phase.unconfirmed, [row(&partly, "b").keystore]);

    house.act(&partly, Action::Destroy).await.unwrap();
    let partly = house.settled(active.key.id).await;
    let early = house
        .ops
        .key_remove(&on(&partly), active.key.id, false)
        .await;
    assert!(
        matches!(early, Err(OpsError::Refused { code, .. }) if code == "destruction_unconfirmed")
    );
    house.agents.mend("b");
    let longest = std::time::Duration::from_secs(30);
    let mut changes = lockstep::coordinator::ops::fleet::Fleet::changes(&*house.agents);
    let all = async {
        loop {
            let view = house.settled(active.key.id).await;
            if phase(&view) == "in_step 3/3" {
                return;
            }
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(longest, all).await.unwrap();
}

#[tokio::test]
async fn a_new_generation_is_above_what_the_agent_already_has() {
    let house = House::furnished().await;
    let active = house.active("K").await;
    house.agents.with("a", |agent| {
        let report = agent.held.get_mut(&active.key.version).unwrap();
        report.applied = Some(ahead(41, Want::Deactivated));
    });
    let view = house.settled(active.key.id).await;
    assert_eq!(rows(&view)[0], "a diverged error error diverged");
    house.act(&view, Action::Deactivate).await.unwrap();
    let view = house.settled(active.key.id).await;
    let generation = |name| {
        row(&view, name)
            .instance
            .as_ref()
            .unwrap()
            .intent
            .generation
            .0
    };
    assert_eq!((generation("a"), generation("b")), (42, 2));
    assert_eq!(phase(&view), "in_step 3/3");
}

#[tokio::test]
async fn a_plan_says_what_would_happen_and_changes_nothing() {
    let house = House::furnished().await;
    let key = house.key("K").await;
    house
        .agents
        .with("a", |agent| agent.capabilities.oaep_hashes.clear());
    house.agents.cut("b");
    let activate = Proposal::Act(Action::Activate);
    let plan = house
        .ops
        .key_plan(&call(None), key.key.id, activate)
        .await
        .unwrap();
    assert_eq!(plan.state, ManagedState::Active);
    let told: Vec<_> = plan
        .keystores
        .iter()
        .map(|planned| {
            (
                planned.name.as_str(),
                planned.steps.len(),
                planned.refused.clone(),
            )
        })
        .collect();
    let [("a", 3, Some(a)), ("b", 0, Some(b)), ("home", 3, None)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert!(a.starts_with("no_common_wrapping"), "{a}");
    assert!(b.starts_with("not now: connection reset"), "{b}");
    assert_eq!(house.settled(key.key.id).await.key, key.key);
    assert!(
        house
            .store
            .key_instances(key.key.id)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn drift_is_told_synced_and_leaves_the_etag() {
    let house = House::furnished().await;
    let active = house.active("K").await;
    house.agents.with("a", |agent| {
        let report = agent.held.get_mut(&active.key.version).unwrap();
        report.observation = Observation::Absent { same_label: vec![] };
    });
    house.agents.with("b", |agent| {
        let report = agent.held.get_mut(&active.key.version).unwrap();
        let Observation::Present(Found { objects, .. }) = &mut report.observation else {
            panic!()
        };
        objects[0].usage = lockstep::model::key::UsageSet::NONE;
    });
    let view = house.settled(active.key.id).await;
    let drifted = [
        "a drift not_present out_of_sync missing",
        "b drift not_active out_of_sync disabled_unexpectedly",
        "home in_sync active ok",
    ];
    assert_eq!(rows(&view), drifted);
    assert_eq!(phase(&view), "out_of_step 1/3");
    let synced = house.ops.key_sync(&on(&view), active.key.id).await.unwrap();
    assert_eq!(synced.value.key.revision, active.key.revision);
    let view = house.settled(active.key.id).await;
    assert_eq!(phase(&view), "in_step 3/3");
    let generation = |name| {
        row(&view, name)
            .instance
            .as_ref()
            .unwrap()
            .intent
            .generation
            .0
    };
    assert_eq!(
        [generation("a"), generation("b"), generation("home")],
        [2, 2, 1]
    );
    let stale = house.ops.key_sync(&call(Some(1)), active.key.id).await;
    assert!(matches!(
        stale,
        Err(OpsError::EtagMismatch {
            current: Revision(2)
        })
    ));
}

/// An agent that is away may know of a later word than an old store has: no number of syncs may overtake it.
#[tokio::test]
async fn a_sync_gives_no_new_number_to_what_enables_where_nobody_hears_the_agent() {
    let house = House::furnished().await;
    let active = house.active("K").await;
    house.agents.cut("a");
    for _ in 0..2 {
        let view = house.settled(active.key.id).await;
        house.ops.key_sync(&on(&view), active.key.id).await.unwrap();
    }
    let generation = async || {
        let view = house.settled(active.key.id).await;
        let instance = row(&view, "a").instance.as_ref().unwrap();
        instance.intent.generation.0
    };
    assert_eq!(generation().await, 1);
    let view = house.settled(active.key.id).await;
    let view = house.act(&view, Action::Deactivate).await.unwrap();
    assert_eq!(generation().await, 2);
    house.ops.key_sync(&on(&view), active.key.id).await.unwrap();
    assert_eq!(generation().await, 3, "what restricts is pushed again");
}
