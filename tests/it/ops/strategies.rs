//! Demands that change, and tokens that lose what they could: which keys say so, and what a sync does about it.

use crate::ops::agents::Stray;
use crate::ops::{House, again, call, on, phase, row, rows};
use lockstep::coordinator::ops::differences::DifferenceQuery;
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::keys::KeyView;
use lockstep::coordinator::ops::keystores::KeystorePatch;
use lockstep::coordinator::ops::lists::Page;
use lockstep::coordinator::ops::plan::Proposal;
use lockstep::coordinator::ops::vaults::VaultPatch;
use lockstep::model::capabilities::{Capabilities, FlagChange, Strategy};
use lockstep::model::difference::{HealedBy, Reason, Weight};
use lockstep::model::lifecycle::Action;

impl House {
    pub(crate) async fn demand(&self, strategy: Strategy) {
        let revision = self
            .store
            .vault(self.vault)
            .await
            .unwrap()
            .unwrap()
            .revision;
        let patch = VaultPatch {
            strategy: Some(strategy),
            ..VaultPatch::default()
        };
        let call = call(Some(revision.0));
        self.ops
            .vault_update(&call, self.vault, patch)
            .await
            .unwrap();
    }

    pub(crate) async fn pin(&self, name: &str, strategy: Option<Strategy>) {
        let id = self.id(name).await;
        let revision = self.store.keystore(id).await.unwrap().unwrap().revision;
        let patch = KeystorePatch {
            strategy: Some(strategy),
            ..KeystorePatch::default()
        };
        let call = call(Some(revision.0));
        self.ops.keystore_update(&call, id, patch).await.unwrap();
    }

    async fn seen(&self, view: &KeyView) -> KeyView {
        self.ops.key(&call(None), view.key.id).await.unwrap()
    }

    async fn synced(&self, view: &KeyView) -> KeyView {
        let now = self.seen(view).await;
        self.ops.key_sync(&on(&now), now.key.id).await.unwrap();
        self.settled(now.key.id).await
    }

    /// Keys with such a difference, or any.
    async fn differing(&self, reason: Option<Reason>, weight: Option<Weight>) -> Vec<String> {
        let query = DifferenceQuery {
            reason,
            weight,
            ..DifferenceQuery::default()
        };
        let caller = call(None);
        let list = self.ops.difference_list(&caller, query, Page::LARGEST);
        let line = |view: &lockstep::coordinator::ops::differences::DifferenceView| {
            format!("{} on {}", view.label, view.in_keystore.name)
        };
        list.await.unwrap().items.iter().map(line).collect()
    }

    fn lose(&self, name: &str, lose: fn(&mut Capabilities)) {
        self.agents.with(name, |agent| {
            agent.loses = lose;
            agent.probe(false);
        });
    }
}

const FLAGS_GONE: fn(&mut Capabilities) = |can| {
    let trials = can.kinds.iter_mut().flat_map(|kind| &mut kind.usages);
    trials.for_each(|trial| trial.change = FlagChange::NotEnforced);
};

#[tokio::test]
async fn a_sync_takes_keys_to_the_strategy_that_is_demanded_now_and_back() {
    let house = House::furnished().await;
    let active = house.active("on").await;
    let off = house.active("off").await;
    let off = house.act(&off, Action::Deactivate).await.unwrap();
    let off = house.settled(off.key.id).await;
    house.demand(Strategy::Withdraw).await;
    assert_eq!(
        rows(&house.seen(&off).await),
        ["a", "b", "home"]
            .map(|name| format!("{name} drift not_active out_of_sync strategy_outdated"))
    );
    let on_now = house.seen(&active).await;
    assert_eq!(
        phase(&on_now),
        "in_step 3/3",
        "what is there now is as wanted"
    );
    assert_eq!(
        rows(&on_now),
        ["a", "b", "home"].map(|name| format!("{name} in_sync active ok strategy_outdated"))
    );
    let outdated = Some(Reason::StrategyOutdated);
    assert_eq!(house.differing(outdated, None).await.len(), 6);
    assert_eq!(house.differing(None, None).await.len(), 6);
    let out = house.differing(None, Some(Weight::OutOfSync)).await;
    assert_eq!(out, ["off on a", "off on b", "off on home"]);
    let plan = house
        .ops
        .key_plan(&call(None), off.key.id, Proposal::Sync)
        .await
        .unwrap();
    for planned in &plan.keystores {
        let withdrawn = ["withdraw the secret key (the repository keeps it)"];
        assert_eq!(planned.steps, withdrawn, "{planned:#?}");
    }
    let gone = house.synced(&off).await;
    assert_eq!(
        rows(&gone),
        ["a", "b", "home"].map(|name| format!("{name} in_sync not_present ok"))
    );
    assert_eq!(
        gone.key.revision, off.key.revision,
        "a sync is no change of the key"
    );
    house.synced(&active).await;
    assert_eq!(house.differing(None, None).await, Vec::<String>::new());
    // And back: the key is installed again, disabled.
    house.demand(Strategy::Flags).await;
    let told = house.seen(&off).await;
    assert_eq!(
        rows(&told),
        ["a", "b", "home"]
            .map(|name| format!("{name} drift not_present out_of_sync strategy_outdated"))
    );
    let plan = house
        .ops
        .key_plan(&call(None), off.key.id, Proposal::Sync)
        .await
        .unwrap();
    for planned in &plan.keystores {
        let steps = [
            "install the key, disabled, and check its fingerprint",
            "try the key: the token must refuse",
        ];
        assert_eq!(planned.steps, steps, "{planned:#?}");
    }
    let back = house.synced(&off).await;
    assert_eq!(
        rows(&back),
        ["a", "b", "home"].map(|name| format!("{name} in_sync not_active ok"))
    );
}

#[tokio::test]
async fn a_pin_concerns_its_keystore_alone_and_only_where_it_changes_something() {
    let house = House::furnished().await;
    let off = house.active("off").await;
    let off = house.act(&off, Action::Deactivate).await.unwrap();
    let off = house.settled(off.key.id).await;
    house.pin("a", Some(Strategy::Flags)).await;
    assert_eq!(house.differing(None, None).await, Vec::<String>::new());
    house.pin("a", Some(Strategy::Copy)).await;
    assert_eq!(house.differing(None, None).await, ["off on a"]);
    let seen = house.seen(&off).await;
    assert_eq!(phase(&seen), "in_step 3/3");
    let [difference] = row(&seen, "a").differences.as_slice() else {
        panic!("{seen:#?}");
    };
    assert_eq!(difference.difference.healed_by, HealedBy::Sync);
    assert_eq!(
        difference.message(),
        "the key follows a strategy that is not demanded any more (expected disabled by copy, as is demanded now, \
         found disabled by flags, as was demanded); sync puts it right"
    );
    house.synced(&off).await;
    assert_eq!(house.differing(None, None).await, Vec::<String>::new());
    // The vault's demand is stronger: the pin says nothing more.
    house.demand(Strategy::Withdraw).await;
    house.synced(&off).await;
    house.pin("a", None).await;
    assert_eq!(house.differing(None, None).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_removed_target_is_withdrawn_by_a_new_demand_and_never_brought_back() {
    let house = House::furnished().await;
    let key = house.active("moved").await;
    let left = [house.id("a").await, house.id("home").await].into();
    let moved = house
        .ops
        .key_targets_put(&on(&key), key.key.id, left)
        .await
        .unwrap()
        .value;
    let moved = house.settled(moved.key.id).await;
    house.demand(Strategy::Withdraw).await;
    let told = house.seen(&moved).await;
    let reasons = rows(&told);
    assert!(
        reasons[1].starts_with("b drift not_active out_of_sync strategy_outdated"),
        "{reasons:?}"
    );
    let synced = house.synced(&moved).await;
    assert_eq!(rows(&synced)[1], "b in_sync not_present ok");
    house.demand(Strategy::Flags).await;
    assert_eq!(
        rows(&house.seen(&moved).await)[1],
        "b in_sync not_present ok"
    );
    assert_eq!(
        rows(&house.synced(&moved).await)[1],
        "b in_sync not_present ok"
    );
}

#[tokio::test]
async fn an_adopted_key_does_not_hold_up_the_others() {
    let house = House::furnished().await;
    let stray: Stray = crate::ops::adopting::secret(1, "theirs", "m");
    house.strays("a", &[stray]);
    let key = house.adopted("a", &crate::ops::adopting::by_id(1)).await;
    let off = house.act(&key, Action::Deactivate).await.unwrap();
    let off = house.settled(off.key.id).await;
    house.demand(Strategy::Withdraw).await;
    let told = house.seen(&off).await;
    let [difference] = row(&told, "a").differences.as_slice() else {
        panic!("{told:#?}");
    };
    assert_eq!(difference.difference.healed_by, HealedBy::Operator);
    assert!(
        difference.message().contains("destroy the key"),
        "{}",
        difference.message()
    );
    let refused = house
        .ops
        .key_sync(&on(&told), told.key.id)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, OpsError::Refused { ref code, .. } if code == "no_repository_copy"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_a_token_lost_is_told_at_the_keystore_and_at_each_key_it_matters_to() {
    let house = House::furnished().await;
    let active = house.active("on").await;
    let off = house.active("off").await;
    let off = house.act(&off, Action::Deactivate).await.unwrap();
    let off = house.settled(off.key.id).await;
    house.lose("a", FLAGS_GONE);
    let keystore = house
        .ops
        .keystore(&call(None), house.id("a").await)
        .await
        .unwrap();
    assert!(!keystore.differences.is_empty());
    for observed in &keystore.differences {
        let difference = &observed.difference;
        assert_eq!(difference.reason, Reason::CapabilityLost);
        assert_eq!(difference.weight, Weight::Warning);
        assert!(
            observed.message().contains("keystore probe --accept"),
            "{}",
            observed.message()
        );
    }
    assert_eq!(
        rows(&house.seen(&off).await)[0],
        "a drift not_active out_of_sync capability_lost"
    );
    assert_eq!(
        rows(&house.seen(&off).await)[1],
        "b in_sync not_active ok",
        "the others have it still"
    );
    assert_eq!(
        rows(&house.seen(&active).await)[0],
        "a in_sync active ok capability_lost"
    );
    let lost = Some(Reason::CapabilityLost);
    assert_eq!(house.differing(lost, None).await, ["off on a", "on on a"]);
    assert_eq!(
        house.differing(lost, Some(Weight::OutOfSync)).await,
        ["off on a"]
    );
    // A sync goes the way that is left.
    let synced = house.synced(&off).await;
    assert_eq!(rows(&synced)[0], "a in_sync not_present ok");
}

#[tokio::test]
async fn what_is_back_is_told_no_more() {
    let house = House::furnished().await;
    let off = house.active("off").await;
    let off = house.act(&off, Action::Deactivate).await.unwrap();
    let off = house.settled(off.key.id).await;
    house.lose("a", |can| can.unextractable = Some(false));
    let told = house.seen(&off).await;
    assert_eq!(
        rows(&told)[0],
        "a drift not_active out_of_sync capability_lost"
    );
    assert_eq!(
        row(&told, "a").differences[0].difference.healed_by,
        HealedBy::Operator
    );
    house.lose("a", |can| can.unextractable = Some(true));
    assert_eq!(rows(&house.seen(&off).await)[0], "a in_sync not_active ok");
    let keystore = house
        .ops
        .keystore(&call(None), house.id("a").await)
        .await
        .unwrap();
    assert_eq!(keystore.differences, []);
}

#[tokio::test]
async fn a_loss_is_accepted_by_somebody_and_only_the_one_that_was_shown() {
    let house = House::furnished().await;
    let id = house.id("a").await;
    house.active("on").await;
    let nothing = house.ops.keystore_accept(&call(None), id).await.unwrap();
    assert_eq!(nothing.value.differences, []);
    house.lose("a", |can| can.cbc_pad = false);
    // While it is tried again, more is gone.
    house
        .agents
        .with("a", |agent| agent.loses = |can| can.digest_key = false);
    let refused = house
        .ops
        .keystore_accept(&call(None), id)
        .await
        .unwrap_err();
    let OpsError::Refused { code, reason } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(code, "lost_more");
    assert!(reason.contains("C_DigestKey"), "{reason}");
    assert_eq!(house.differing(None, None).await, ["on on a"]);
    let done = house
        .ops
        .keystore_accept(&again("k", "accept"), id)
        .await
        .unwrap();
    assert_eq!(done.value.differences, []);
    assert_eq!(house.differing(None, None).await, Vec::<String>::new());
    let repeated = house
        .ops
        .keystore_accept(&again("k", "accept"), id)
        .await
        .unwrap();
    assert!(repeated.replayed);
    let audit = house
        .ops
        .audit_list(&call(None), None, Page::LARGEST)
        .await
        .unwrap();
    let accepts: Vec<_> = audit
        .items
        .iter()
        .filter(|entry| entry.action == "keystore.accept")
        .collect();
    let [accept] = accepts.as_slice() else {
        panic!("{accepts:#?}");
    };
    assert_eq!(
        accept.detail,
        "a: AES-CBC-PAD key wrapping; fingerprints by C_DigestKey"
    );
    assert_eq!(accept.actor, "admin");
}
