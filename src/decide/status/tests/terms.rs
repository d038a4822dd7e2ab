//! A strategy that is demanded anew, and what a token cannot do any more.

use std::sync::Arc;

use crate::decide::difference::differences;
use crate::decide::status::status;
use crate::decide::status::tests::adopted::adopted;
use crate::decide::status::tests::situations::*;
use crate::model::capabilities::{Capabilities, FlagChange, Strategy, Unwrap};
use crate::model::desired::{Instance, ObjectPlan, Want};
use crate::model::difference::Weight;
use crate::model::ids::Epoch;
use crate::model::key::Algorithm;
use crate::model::keystore::{Health, TokenInfo, Variant};
use crate::model::live::{Live, Terms};
use crate::model::observed::Observation;
use crate::model::protocol::{Description, Progress};
use crate::model::vault::UnixMs;

fn described(can: Capabilities, accepted: Option<Capabilities>) -> Option<Arc<Description>> {
    Some(Arc::new(Description {
        keystore: None,
        epoch: Epoch(1),
        version: String::new(),
        identity: crate::model::ids::Digest([0; 32]),
        variant: Variant::External,
        token: TokenInfo::default(),
        capabilities: Some(can),
        accepted,
        health: Health::Ok,
        journal_records: 0,
        clock: UnixMs(0),
    }))
}

/// An instance whose intent demanded a strategy, as an agent reports it that carried it out.
fn carried_out(mut instance: Instance, strategy: Strategy, can: &Capabilities) -> (Instance, Live) {
    instance.intent.object.strategy = strategy;
    let by = can.strategy(&instance.intent.object);
    let mut live = good(&instance);
    let report = live.report.as_mut().unwrap();
    report.strategy = by;
    if !ObjectPlan::is_present(instance.intent.want, by) {
        report.observation = Observation::Absent { same_label: vec![] };
        report.proof = None;
    }
    (instance, live)
}

/// `status: reason weight healed_by; ...`, without `status: ` alone.
fn told(instance: &Instance, live: &Live, terms: &Terms) -> String {
    let status = status(instance, live, terms);
    let all = differences(instance, live, terms, UnixMs(2_000), LATE_MS);
    let is_out = all.iter().any(|one| one.weight == Weight::OutOfSync);
    assert_eq!(is_out, status.name() != "in_sync", "{status:?} {all:#?}");
    let all = all.iter().map(|one| {
        let healed_by = serde_json::to_value(one.healed_by).unwrap();
        let healed_by = healed_by.as_str().unwrap();
        format!(" {} {} {healed_by}", one.reason.name(), one.weight.name())
    });
    format!("{}:{}", status.name(), all.collect::<Vec<_>>().join(","))
}

const AS_IT_IS: &str = "in_sync:";

#[track_caller]
fn check_demand(instance: Instance, was: Strategy, demanded: Strategy, expected: &str) {
    for can in [Some(Capabilities::best()), None] {
        let best = Capabilities::best();
        let (instance, live) = carried_out(instance.clone(), was, &best);
        let terms = Terms {
            strategy: Some(demanded),
            described: can.and_then(|can| described(can, None)),
        };
        let name = format!("{:?} {was:?} -> {demanded:?}", instance.intent.want);
        assert_eq!(told(&instance, &live, &terms), expected, "{name}");
    }
}

#[test]
fn a_key_that_follows_an_old_strategy_is_told() {
    use Strategy::{Copy, Flags, Withdraw};
    let out = "drift: strategy_outdated out_of_sync sync";
    let later = "in_sync: strategy_outdated warning sync";
    for make in [aes, ec] {
        for one in Strategy::ALL {
            for want in [Want::Active, Want::Deactivated] {
                check_demand(make(want), one, one, AS_IT_IS);
            }
            check_demand(make(Want::Destroyed), one, Flags, AS_IT_IS);
            check_demand(make(Want::Destroyed), Flags, one, AS_IT_IS);
        }
        for (was, demanded) in [
            (Flags, Withdraw),
            (Copy, Withdraw),
            (Withdraw, Flags),
            (Withdraw, Copy),
        ] {
            check_demand(make(Want::Deactivated), was, demanded, out);
            check_demand(make(Want::Active), was, demanded, later);
        }
        for (was, demanded) in [(Flags, Copy), (Copy, Flags)] {
            check_demand(make(Want::Deactivated), was, demanded, later);
            check_demand(make(Want::Active), was, demanded, later);
        }
    }
}

#[test]
fn a_keystore_that_is_no_target_owes_only_what_takes_the_key_away() {
    use Strategy::{Copy, Flags, Withdraw};
    let mut removed = aes(Want::Deactivated);
    removed.is_target = false;
    let check = |was, demanded, expected| check_demand(removed.clone(), was, demanded, expected);
    check(Flags, Withdraw, "drift: strategy_outdated out_of_sync sync");
    check(Copy, Withdraw, "drift: strategy_outdated out_of_sync sync");
    check(Withdraw, Flags, AS_IT_IS);
    check(Flags, Copy, AS_IT_IS);
}

#[test]
fn a_demand_that_the_token_meets_anyway_changes_nothing() {
    let mut can = Capabilities::best();
    refuse(&mut can, FlagChange::Refused);
    for demanded in [Strategy::Flags, Strategy::Copy] {
        let (instance, live) = carried_out(aes(Want::Deactivated), Strategy::Flags, &can);
        assert_eq!(live.report.as_ref().unwrap().strategy, Strategy::Copy);
        let terms = Terms {
            strategy: Some(demanded),
            described: described(can.clone(), None),
        };
        assert_eq!(told(&instance, &live, &terms), AS_IT_IS, "{demanded:?}");
    }
}

#[test]
fn nothing_is_told_of_a_strategy_while_the_last_intent_is_on_its_way() {
    let (instance, mut live) = carried_out(
        aes(Want::Deactivated),
        Strategy::Flags,
        &Capabilities::best(),
    );
    live.report.as_mut().unwrap().progress = Progress::Busy;
    let terms = Terms {
        strategy: Some(Strategy::Withdraw),
        described: None,
    };
    assert_eq!(
        told(&instance, &live, &terms),
        "pending: pending out_of_sync waiting"
    );
}

#[test]
fn an_adopted_key_that_no_repository_holds_needs_a_person() {
    let (mut instance, found) = adopted(true, false);
    instance.intent.want = Want::Deactivated;
    let mut found = found;
    found
        .objects
        .iter_mut()
        .for_each(|one| one.usage = crate::model::key::UsageSet::NONE);
    let terms = Terms {
        strategy: Some(Strategy::Withdraw),
        described: None,
    };
    let told_of = |instance: &Instance| {
        told(
            instance,
            &live(instance, Observation::Present(found.clone())),
            &terms,
        )
    };
    assert_eq!(
        told_of(&instance),
        "drift: strategy_outdated out_of_sync operator"
    );
    instance.adoption.as_mut().unwrap().in_repository = true;
    assert_eq!(
        told_of(&instance),
        "drift: strategy_outdated out_of_sync sync"
    );
}

/// Switching any usage off does this now.
fn refuse(can: &mut Capabilities, change: FlagChange) {
    let trials = can.kinds.iter_mut().flat_map(|kind| &mut kind.usages);
    trials.for_each(|trial| trial.change = change);
}

/// What is told of a key by a strategy once its token lost something.
#[track_caller]
fn check_loss(
    instance: Instance,
    strategy: Strategy,
    lose: impl Fn(&mut Capabilities),
    expected: &str,
) {
    let could = Capabilities::best();
    let (instance, mut live) = carried_out(instance, strategy, &could);
    let mut can = could.clone();
    lose(&mut can);
    // An agent tells by which strategy it would go now.
    live.report.as_mut().unwrap().strategy = can.strategy(&instance.intent.object);
    let terms = |accepted| Terms {
        strategy: Some(strategy),
        described: described(can.clone(), accepted),
    };
    assert_eq!(
        told(&instance, &live, &terms(Some(could.clone()))),
        expected
    );
    // Back again, or never there: nothing is told.
    live.report.as_mut().unwrap().strategy = could.strategy(&instance.intent.object);
    let back = Terms {
        strategy: Some(strategy),
        described: described(could, None),
    };
    assert_eq!(told(&instance, &live, &back), AS_IT_IS);
}

#[test]
fn a_disabled_key_is_out_of_sync_where_nothing_bars_it_any_more() {
    use Strategy::{Copy, Flags, Withdraw};
    let gone = |can: &mut Capabilities| refuse(can, FlagChange::NotEnforced);
    let out = "drift: capability_lost out_of_sync sync";
    let later = "in_sync: capability_lost warning operator";
    for make in [aes, ec] {
        check_loss(make(Want::Deactivated), Flags, gone, out);
        check_loss(make(Want::Deactivated), Copy, gone, out);
        check_loss(make(Want::Deactivated), Withdraw, gone, AS_IT_IS);
        check_loss(make(Want::Active), Flags, gone, later);
        check_loss(make(Want::Destroyed), Flags, gone, AS_IT_IS);
    }
    let refused = |can: &mut Capabilities| refuse(can, FlagChange::Refused);
    check_loss(aes(Want::Deactivated), Flags, refused, later);
    check_loss(aes(Want::Deactivated), Copy, refused, AS_IT_IS);
}

#[test]
fn only_the_usages_that_a_key_has_matter_to_it() {
    let lose = |can: &mut Capabilities| {
        let of = |kind: &&mut crate::model::capabilities::KindCapabilities| {
            kind.algorithm == Algorithm::Rsa
        };
        let kinds = can.kinds.iter_mut().filter(of);
        kinds
            .flat_map(|kind| &mut kind.usages)
            .for_each(|trial| trial.change = FlagChange::NotEnforced);
    };
    check_loss(aes(Want::Deactivated), Strategy::Flags, lose, AS_IT_IS);
    let out = "drift: capability_lost out_of_sync sync";
    let rsa = instance(Algorithm::Rsa, 2048, Want::Deactivated);
    check_loss(rsa, Strategy::Flags, lose, out);
}

#[test]
fn copies_that_cannot_be_made_matter_to_keys_that_are_disabled_by_them() {
    let lose = |can: &mut Capabilities| can.copy = false;
    check_loss(aes(Want::Deactivated), Strategy::Flags, lose, AS_IT_IS);
    check_loss(aes(Want::Deactivated), Strategy::Withdraw, lose, AS_IT_IS);
    // Pinned only: the token's flags still hold, and nothing was ever copied for want of them.
    check_loss(aes(Want::Deactivated), Strategy::Copy, lose, AS_IT_IS);
    let mut could = Capabilities::best();
    refuse(&mut could, FlagChange::Refused);
    let (instance, mut live) = carried_out(aes(Want::Deactivated), Strategy::Flags, &could);
    let mut can = could.clone();
    can.copy = false;
    live.report.as_mut().unwrap().strategy = Strategy::Withdraw;
    let terms = Terms {
        strategy: Some(Strategy::Flags),
        described: described(can, Some(could)),
    };
    let out = "drift: capability_lost out_of_sync sync";
    assert_eq!(told(&instance, &live, &terms), out);
}

#[test]
fn material_that_the_token_would_hand_out_is_out_of_sync_wherever_it_is() {
    let lose = |can: &mut Capabilities| can.unextractable = Some(false);
    let out = "drift: capability_lost out_of_sync operator";
    for want in [Want::Active, Want::Deactivated] {
        check_loss(aes(want), Strategy::Flags, lose, out);
        check_loss(ec(want), Strategy::Flags, lose, out);
    }
    check_loss(aes(Want::Deactivated), Strategy::Withdraw, lose, AS_IT_IS);
    check_loss(
        aes(Want::Active),
        Strategy::Flags,
        |can| can.unextractable = None,
        out,
    );
}

#[test]
fn what_only_a_later_change_rests_on_is_a_warning() {
    use Strategy::{Flags, Withdraw};
    let later = "in_sync: capability_lost warning operator";
    let of_kind = |algorithm| {
        move |can: &mut Capabilities| can.kinds.retain(|kind| kind.algorithm != algorithm)
    };
    check_loss(ec(Want::Active), Flags, of_kind(Algorithm::Aes), AS_IT_IS);
    check_loss(aes(Want::Active), Flags, of_kind(Algorithm::Aes), later);
    let size = |can: &mut Capabilities| {
        can.kinds
            .iter_mut()
            .for_each(|kind| kind.sizes.retain(|bits| *bits != 256))
    };
    check_loss(aes(Want::Active), Flags, size, later);
    check_loss(
        instance(Algorithm::Aes, 128, Want::Active),
        Flags,
        size,
        AS_IT_IS,
    );
    let unwrap =
        |to| move |can: &mut Capabilities| can.kinds.iter_mut().for_each(|kind| kind.unwrap = to);
    check_loss(aes(Want::Active), Flags, unwrap(Unwrap::Impossible), later);
    check_loss(aes(Want::Active), Flags, unwrap(Unwrap::Staged), AS_IT_IS);
    let digest = |can: &mut Capabilities| can.digest_key = false;
    check_loss(aes(Want::Active), Flags, digest, later);
    check_loss(ec(Want::Active), Flags, digest, AS_IT_IS);
    let copyable = |can: &mut Capabilities| can.copyable = false;
    check_loss(aes(Want::Deactivated), Flags, copyable, later);
    check_loss(ec(Want::Deactivated), Flags, copyable, AS_IT_IS);
    let modifiable = |can: &mut Capabilities| can.modifiable = false;
    check_loss(aes(Want::Active), Withdraw, modifiable, later);
    check_loss(aes(Want::Active), Flags, modifiable, AS_IT_IS);
}

#[test]
fn what_matters_to_no_key_is_told_of_the_keystore_alone() {
    let lose = |can: &mut Capabilities| {
        can.rfc5649 = None;
        can.cbc_pad = false;
        can.oaep_hashes.clear();
        can.atomic_set = false;
        can.duplicates = crate::model::capabilities::Duplicates::Overwrites;
    };
    check_loss(aes(Want::Active), Strategy::Flags, lose, AS_IT_IS);
    let mut can = Capabilities::best();
    lose(&mut can);
    assert_eq!(Capabilities::best().regressions(&can).len(), 5);
}

#[test]
fn a_withdrawal_that_the_token_needs_is_nobodys_doing() {
    let mut can = Capabilities::best();
    refuse(&mut can, FlagChange::NotEnforced);
    let (instance, mut live) = carried_out(
        aes(Want::Deactivated),
        Strategy::Flags,
        &Capabilities::best(),
    );
    live.report.as_mut().unwrap().strategy = Strategy::Withdraw;
    // Accepted: then it is what it is, and a sync withdraws the key.
    let terms = Terms {
        strategy: Some(Strategy::Flags),
        described: described(can, None),
    };
    assert_eq!(
        told(&instance, &live, &terms),
        "drift: not_withdrawn out_of_sync sync"
    );
    let all = differences(&instance, &live, &terms, UnixMs(2_000), LATE_MS);
    assert_eq!(
        all[0].caused_by,
        crate::model::difference::CausedBy::Unknown
    );
}
