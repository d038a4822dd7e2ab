//! Keys that others made and that nothing could disable: not adopted; and what a refusal says can be done.

use crate::ops::adopting::{by_id, changed, code, secret};
use crate::ops::{House, call, phase};
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::plan::Proposal;
use lockstep::model::adoption::FoundState;
use lockstep::model::capabilities::{Capabilities, FlagChange, Strategy};
use lockstep::model::lifecycle::Action;
use lockstep::model::observed::{ObjectFacts, Observation};

#[tokio::test]
async fn what_could_never_be_disabled_is_not_adopted_and_what_a_copy_disables_is() {
    let house = House::furnished().await;
    let fixed = |o: &mut ObjectFacts| o.modifiable = Some(false);
    let stuck = |o: &mut ObjectFacts| (o.modifiable, o.copyable) = (Some(false), Some(false));
    let strays = [
        changed(secret(1, "fixed", "1"), fixed),
        changed(secret(2, "stuck", "2"), stuck),
    ];
    house.strays("a", &strays);
    house.strays("b", &[changed(secret(3, "fixed there", "3"), fixed)]);
    assert_eq!(code(house.adopt("a", &by_id(2)).await), "not_modifiable");
    let listed = house.found("a", &[FoundState::Unmanaged]).await;
    assert_eq!(
        listed,
        ["fixed unmanaged known", "stuck unmanaged not_modifiable"]
    );
    let key = house.adopted("a", &by_id(1)).await;
    house.agents.with("a", |agent| {
        let report = agent.held.get_mut(&key.key.version).unwrap();
        let Observation::Present(found) = &mut report.observation else {
            panic!("{report:?}");
        };
        found.objects.iter_mut().for_each(fixed);
    });
    let plan = Proposal::Act(Action::Deactivate);
    let plan = house
        .ops
        .key_plan(&call(None), key.key.id, plan)
        .await
        .unwrap();
    let copied = "put a disabled copy in the place of the secret key";
    assert_eq!(plan.keystores[0].steps[0], copied);
    house.act(&key, Action::Deactivate).await.unwrap();
    // A token that makes no changed copies of what is fixed, as SoftHSM2.
    house
        .agents
        .with("b", |agent| agent.capabilities.copy_fixed = false);
    assert_eq!(code(house.adopt("b", &by_id(3)).await), "not_modifiable");
}

#[tokio::test]
async fn a_refusal_for_want_of_a_copy_names_who_demands_and_the_way_out() {
    let house = House::furnished().await;
    house.strays("a", &[secret(1, "k", "m")]);
    let key = house.adopted("a", &by_id(1)).await;
    let reason = async |house: &House| {
        let refused = house.act(&key, Action::Deactivate).await;
        let Err(OpsError::Refused { code, reason }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(code, "no_repository_copy");
        reason
    };
    house.demand(Strategy::Withdraw).await;
    let told = reason(&house).await;
    assert!(
        told.contains("\"a\"") && told.contains("vault update --strategy flags"),
        "{told}"
    );
    assert!(!told.contains("keystore update"), "{told}");
    house.pin("a", Some(Strategy::Withdraw)).await;
    let told = reason(&house).await;
    assert!(
        told.contains("vault update") && told.contains("keystore update --strategy auto"),
        "{told}"
    );
    house.demand(Strategy::Flags).await;
    let told = reason(&house).await;
    assert!(!told.contains("vault update"), "{told}");
    // What the token needs nobody can unpin.
    house.agents.with("a", |agent| {
        let trials = agent
            .capabilities
            .kinds
            .iter_mut()
            .flat_map(|kind| &mut kind.usages);
        trials.for_each(|trial| trial.change = FlagChange::NotEnforced);
    });
    let told = reason(&house).await;
    assert!(
        told.contains("its token bars") && !told.contains("update"),
        "{told}"
    );
    house
        .agents
        .with("a", |agent| agent.capabilities = Capabilities::best());
    house.pin("a", None).await;
    let off = house.act(&key, Action::Deactivate).await.unwrap();
    assert_eq!(phase(&house.settled(off.key.id).await), "in_step 1/1");
}
