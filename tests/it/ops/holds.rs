//! Destructions that are held: disabled and kept until their day, and taken back until then.

use crate::ops::{House, call, on, phase, row};
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::plan::Proposal;
use lockstep::coordinator::ops::vaults::VaultPatch;
use lockstep::model::desired::Want;
use lockstep::model::lifecycle::{Action, ManagedState};
use lockstep::model::vault::UnixMs;

async fn holding(house: &House, period: &str) -> Result<(), OpsError> {
    let vault = house.ops.vault(&call(None), house.vault).await.unwrap();
    let patch = VaultPatch {
        destruction_hold: Some(period.to_owned()),
        ..VaultPatch::default()
    };
    let at = call(Some(vault.vault.revision.0));
    house.ops.vault_update(&at, house.vault, patch).await?;
    Ok(())
}

fn midnight_of(day: &str) -> UnixMs {
    let at: jiff::Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
    UnixMs(at.as_millisecond())
}

#[tokio::test]
async fn a_held_destruction_disables_waits_and_then_erases() {
    let house = House::furnished().await;
    for bad in ["P91D", "P1M", "a week"] {
        assert!(holding(&house, bad).await.is_err(), "{bad}");
    }
    holding(&house, "P7D").await.unwrap();
    let active = house.active("K").await;
    let id = active.key.id;
    house.act(&active, Action::Deactivate).await.unwrap();
    let off = house.settled(id).await;
    let plan = Proposal::Act(Action::Destroy);
    let plan = house.ops.key_plan(&call(None), id, plan).await.unwrap();
    assert_eq!(plan.keystores, [], "nothing is done on a token yet");

    house.act(&off, Action::Destroy).await.unwrap();
    let held = house.settled(id).await;
    assert_eq!(held.key.state, ManagedState::Destroyed);
    let until = held.key.hold.clone().unwrap().until;
    let instance = row(&held, "a").instance.clone().unwrap();
    assert_eq!(instance.intent.want, Want::Deactivated);
    assert_eq!(
        (phase(&held).as_str(), held.copies.held),
        ("in_step 3/3", 1)
    );
    let removed = house.ops.key_remove(&on(&held), id, true).await;
    let Err(OpsError::Refused { code, .. }) = removed else {
        panic!("{removed:?}")
    };
    assert_eq!(code, "destruction_held");
    // Asking again does not begin anew.
    let same = house.act(&held, Action::Destroy).await.unwrap();
    assert_eq!(same.key, held.key);

    let end = midnight_of(&until);
    assert!(end.0 - lockstep::clock::unix_ms().0 >= 7 * 86_400_000 - 60_000);
    let early = house.pass_at(UnixMs(end.0 - 1)).await;
    assert_eq!(early.done, 0);
    assert_eq!(house.pass_at(end).await.done, 1);
    let gone = house.settled(id).await;
    assert_eq!(
        (phase(&gone).as_str(), gone.copies.held),
        ("in_step 3/3", 0)
    );
    let instance = row(&gone, "a").instance.clone().unwrap();
    assert_eq!(instance.intent.want, Want::Destroyed);
    let late = house.ops.key_cancel_destruction(&on(&gone), id).await;
    assert!(matches!(late, Err(OpsError::StateConflict { .. })));
    house.ops.key_remove(&on(&gone), id, false).await.unwrap();
}

#[tokio::test]
async fn a_held_destruction_can_be_taken_back() {
    let house = House::furnished().await;
    holding(&house, "P30D").await.unwrap();
    let active = house.active("K").await;
    let id = active.key.id;
    house.act(&active, Action::Deactivate).await.unwrap();
    let off = house.settled(id).await;
    let held = house.act(&off, Action::Destroy).await.unwrap();
    let until = midnight_of(&held.key.hold.clone().unwrap().until);
    let back = house.ops.key_cancel_destruction(&on(&held), id).await;
    assert_eq!(back.unwrap().value.key.state, ManagedState::Deactivated);
    assert_eq!(house.pass_at(until).await.done, 0);
    let view = house.settled(id).await;
    house.act(&view, Action::Activate).await.unwrap();
    let view = house.settled(id).await;
    assert_eq!(phase(&view), "in_step 3/3");
    // A pre-active key is on no keystore, and is not sent anywhere to be held there.
    let early = house.key("L").await;
    let held = house.act(&early, Action::Destroy).await.unwrap();
    assert!(held.key.hold.is_some());
    assert_eq!(house.store.key_instances(held.key.id).await.unwrap(), []);
    let back = house
        .ops
        .key_cancel_destruction(&on(&held), held.key.id)
        .await;
    assert_eq!(back.unwrap().value.key.state, ManagedState::PreActivation);
    // A vault that holds nothing any more: what is held keeps its day, what comes is erased at once.
    let held = house.settled(early.key.id).await;
    let held = house.act(&held, Action::Destroy).await.unwrap();
    holding(&house, "P0D").await.unwrap();
    assert!(house.settled(held.key.id).await.key.hold.is_some());
    let other = house.key("M").await;
    let gone = house.act(&other, Action::Destroy).await.unwrap();
    assert_eq!((gone.key.hold, gone.copies.held), (None, 0));
}
