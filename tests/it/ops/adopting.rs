//! Keys that others made: listed, adopted as they are, refused where they would have to change, left to others.

use std::time::Duration;

use crate::ops::agents::Stray;
use crate::ops::{House, again, call, on, phase, row};
use lockstep::coordinator::ops::adopt::{Adopt, AdoptionResult, AdoptionView};
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::found::{FoundQuery, Select};
use lockstep::coordinator::ops::keys::{KeyPatch, KeyView};
use lockstep::coordinator::ops::lists::Page;
use lockstep::coordinator::ops::plan::Proposal;
use lockstep::coordinator::store::Page as StorePage;
use lockstep::model::adoption::FoundState;
use lockstep::model::capabilities::Strategy;
use lockstep::model::desired::Want;
use lockstep::model::ids::KeystoreId;
use lockstep::model::key::{Algorithm, DeactivatedUsage, Usage, UsageSet};
use lockstep::model::lifecycle::{Action, ManagedState};
use lockstep::model::observed::{ObjectClass, ObjectFacts, Observation};

const WAIT: Duration = Duration::from_secs(30);

/// An AES-256 key with encrypt and decrypt on.
pub(crate) fn secret(id: u8, label: &str, material: &'static str) -> Stray {
    Stray {
        objects: vec![ObjectFacts {
            handle: u64::from(id),
            class: ObjectClass::Secret,
            key_type: Some(0x1f),
            cka_id: vec![id],
            label: label.to_owned(),
            usage: UsageSet::of(&[Usage::Encrypt, Usage::Decrypt]),
            sensitive: Some(true),
            extractable: Some(false),
            modifiable: Some(true),
            copyable: Some(true),
            bits: Some(256),
            public_digest: None,
            fingerprint: None,
        }],
        material: Ok(material),
    }
}

pub(crate) fn changed(mut stray: Stray, change: impl Fn(&mut ObjectFacts)) -> Stray {
    stray.objects.iter_mut().for_each(change);
    stray
}

pub(crate) fn by_id(id: u8) -> Adopt {
    Adopt {
        select: Select {
            cka_id: Some(vec![id]),
            ..Select::default()
        },
        template_name: "T".to_owned(),
        ..Adopt::default()
    }
}

fn all() -> Adopt {
    Adopt {
        template_name: "T".to_owned(),
        ..Adopt::default()
    }
}

impl House {
    pub(crate) fn strays(&self, name: &str, strays: &[Stray]) {
        self.agents
            .with(name, |agent| agent.strays = strays.to_vec());
    }

    pub(crate) async fn id(&self, name: &str) -> KeystoreId {
        let found = self.store.keystore_list(None, None, ALL).await.unwrap();
        let record = found.items.into_iter().find(|record| record.name == name);
        record.unwrap().id
    }

    pub(crate) async fn adopt(&self, name: &str, new: &Adopt) -> Result<AdoptionView, OpsError> {
        let id = self.id(name).await;
        let done = self
            .ops
            .keystore_adopt(&call(None), id, new, false, WAIT)
            .await;
        done.map(|done| done.value)
    }

    /// The managed key that the only outcome speaks of.
    pub(crate) async fn adopted(&self, name: &str, new: &Adopt) -> KeyView {
        let view = self.adopt(name, new).await.unwrap();
        let [outcome] = view.outcomes.as_slice() else {
            panic!("{view:#?}");
        };
        match &outcome.result {
            AdoptionResult::Adopted(key)
            | AdoptionResult::Joined(key)
            | AdoptionResult::Managed(key) => self.settled(key.id).await,
            AdoptionResult::Refused(why) => panic!("{why}"),
        }
    }

    /// `label state`, or `label code`, of each key in one of these states.
    pub(crate) async fn found(&self, name: &str, states: &[FoundState]) -> Vec<String> {
        let query = FoundQuery {
            states: states.to_vec(),
            fingerprints: true,
            ..FoundQuery::default()
        };
        let id = self.id(name).await;
        let found = self
            .ops
            .keystore_found(&call(None), id, &query, Page::LARGEST)
            .await;
        let line = |view: &lockstep::coordinator::ops::found::FoundView| {
            let known = match (&view.obstacle, &view.fingerprint) {
                (Some((code, _)), _) => code.clone(),
                (None, Some(_)) => "known".to_owned(),
                (None, None) => "unknown".to_owned(),
            };
            format!("{} {} {known}", view.key.label, view.state.name())
        };
        found.unwrap().items.iter().map(line).collect()
    }
}

const ALL: StorePage = StorePage {
    limit: 1000,
    offset: 0,
};

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, OpsError>) -> String {
    let error = result.unwrap_err();
    if let OpsError::Refused { code, .. } = error {
        code
    } else if let OpsError::Invalid { field, code, .. } = error {
        format!("{field} {code}")
    } else if let OpsError::Taken { field, .. } = error {
        format!("{field} taken")
    } else {
        format!("{error:?}")
    }
}

#[tokio::test]
async fn the_same_key_on_two_keystores_is_one_managed_key() {
    let house = House::furnished().await;
    house.strays("a", &[secret(1, "card data", "m")]);
    house.strays("b", &[secret(9, "other name", "m")]);
    let first = house.adopted("a", &by_id(1)).await;
    assert_eq!(first.key.label.as_str(), "card data");
    assert_eq!(first.key.state, ManagedState::Active);
    assert_eq!(phase(&first), "in_step 1/1");
    assert!(!first.is_aligned, "it does not follow the group");
    assert_eq!(first.copies.held, 0);
    let both = house.adopted("b", &by_id(9)).await;
    assert_eq!(both.key.id, first.key.id);
    assert_eq!(phase(&both), "in_step 2/2");
    // Each keeps what it has, whatever the key is called.
    let patch = KeyPatch {
        label: Some("cards".to_owned()),
        ..KeyPatch::default()
    };
    let done = house.ops.key_update(&on(&both), both.key.id, patch).await;
    let renamed = done.unwrap().value;
    for (name, id, label) in [("a", 1, "card data"), ("b", 9, "other name")] {
        let instance = row(&renamed, name).instance.clone().unwrap();
        let object = &instance.intent.object;
        assert_eq!((&object.cka_id, object.label.as_str()), (&vec![id], label));
        let record = &instance.adoption.as_ref().unwrap().record.body;
        assert_eq!(record.fingerprint, first.key.fingerprint.unwrap());
        assert_eq!(instance.intent.generation.0, 1, "nothing to be done");
    }
    // The ordinary verbs reach both.
    let off = house.act(&renamed, Action::Deactivate).await.unwrap();
    let off = house.settled(off.key.id).await;
    assert_eq!(phase(&off), "in_step 2/2");
    let instance = row(&off, "b").instance.as_ref().unwrap();
    assert_eq!(instance.intent.want, Want::Deactivated);
    assert_eq!(instance.intent.object.cka_id, [9]);
    let back = house.act(&off, Action::Activate).await.unwrap();
    let back = house.settled(back.key.id).await;
    let off = house.act(&back, Action::Deactivate).await.unwrap();
    house.act(&off, Action::Destroy).await.unwrap();
    assert_eq!(phase(&house.settled(off.key.id).await), "in_step 2/2");
    let subject = format!("key/{}", first.key.id);
    let audit = house.store.audit_list(Some(subject), ALL).await.unwrap();
    let adoptions = audit.items.iter().filter(|e| e.action == "key.adopt");
    assert_eq!(adoptions.clone().count(), 2);
    assert!(adoptions.into_iter().all(|entry| entry.intents.len() == 1));
}

#[tokio::test]
async fn a_key_of_ours_that_was_copied_by_others_gets_one_more_target() {
    let house = House::furnished().await;
    house.strays("a", &[secret(1, "theirs", "m")]);
    let theirs = house.adopted("a", &by_id(1)).await;
    // Not its id, and not on a keystore where the key is already.
    house.strays("a", &[secret(1, "theirs", "m"), secret(2, "copy", "m")]);
    assert_eq!(
        code(house.adopt("a", &by_id(2)).await),
        "already_on_keystore"
    );
    let again = house.adopted("a", &by_id(1)).await;
    assert_eq!(again.key, theirs.key, "adopting again changes nothing");
    // Two of one material in one request: one of them.
    house.strays("c", &[secret(3, "x", "n"), secret(4, "y", "n")]);
    let view = house.adopt("c", &all()).await.unwrap();
    let results: Vec<bool> = view
        .outcomes
        .iter()
        .map(|o| matches!(o.result, AdoptionResult::Adopted(_)))
        .collect();
    assert_eq!(results, [true, false]);
}

#[tokio::test]
async fn what_is_on_the_token_says_the_state() {
    let house = House::furnished().await;
    let off = |o: &mut ObjectFacts| o.usage = UsageSet::NONE;
    let mixed = |o: &mut ObjectFacts| o.usage = UsageSet::of(&[Usage::Decrypt, Usage::Wrap]);
    house.strays(
        "a",
        &[
            changed(secret(1, "off", "1"), off),
            changed(secret(2, "mixed", "2"), mixed),
        ],
    );
    let key = house.adopted("a", &by_id(1)).await;
    assert_eq!(key.key.state, ManagedState::Deactivated);
    assert_eq!(key.key.deactivated_usage, DeactivatedUsage::None);
    assert_eq!(
        key.key.usage,
        UsageSet::of(&[Usage::Encrypt, Usage::Decrypt])
    );
    assert_eq!(phase(&key), "in_step 1/1");
    let key = house.adopted("a", &by_id(2)).await;
    assert_eq!(key.key.state, ManagedState::Active);
    assert_eq!(key.key.usage, UsageSet::of(&[Usage::Decrypt, Usage::Wrap]));
    let findings: Vec<&str> = row(&key, "a").findings.iter().map(|f| f.name()).collect();
    assert_eq!(findings, ["wrap_and_decrypt"]);
    assert_eq!(phase(&key), "in_step 1/1", "a finding is no drift");
    // Nothing is changed by adopting, so a key that is off does not join one that is on.
    house.strays("b", &[changed(secret(3, "off there", "2"), off)]);
    assert_eq!(code(house.adopt("b", &by_id(3)).await), "state_differs");
}

/// One key of each trouble, and a good one, on `a`.
async fn troubled() -> House {
    let house = House::furnished().await;
    house.key("taken").await;
    let silent = Stray {
        material: Err("C_DigestKey: CKR_KEY_INDIGESTIBLE"),
        ..secret(4, "silent", "")
    };
    let small = |o: &mut ObjectFacts| o.bits = Some(128);
    let odd = |o: &mut ObjectFacts| o.key_type = Some(0x2b);
    let half = |o: &mut ObjectFacts| (o.class, o.key_type) = (ObjectClass::Public, Some(3));
    let mut twice = secret(6, "twice", "t");
    twice.objects.push(twice.objects[0].clone());
    house.strays(
        "a",
        &[
            secret(1, "taken", "1"),
            secret(2, "good", "2"),
            changed(secret(3, "small", "3"), small),
            silent,
            changed(secret(5, "odd", "5"), odd),
            twice,
            changed(secret(7, "half", "7"), half),
            secret(8, "what?", "8"),
        ],
    );
    house
}

#[tokio::test]
async fn what_cannot_be_adopted_says_why() {
    let house = troubled().await;
    for (id, expected) in [
        (1, "label taken"),
        (3, "template_mismatch"),
        (4, "no_fingerprint"),
        (5, "unknown_key_type"),
        (6, "duplicated_cka_id"),
        (7, "half_pair"),
        (8, "label invalid_label"),
        (99, "key_id_in_keystore not_found"),
    ] {
        assert_eq!(code(house.adopt("a", &by_id(id)).await), expected, "{id}");
    }
    let listed = house.found("a", &[FoundState::Unmanaged]).await;
    let expected = [
        "good unmanaged known",
        "half unmanaged half_pair",
        "odd unmanaged unknown_key_type",
        "silent unmanaged no_fingerprint",
        "small unmanaged known",
        "taken unmanaged known",
        "twice unmanaged duplicated_cka_id",
        "what? unmanaged known",
    ];
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn of_several_keys_each_has_its_own_outcome() {
    let house = troubled().await;
    // A dry run tells the same and stores nothing.
    let id = house.id("a").await;
    let dry = house
        .ops
        .keystore_adopt(&call(None), id, &all(), true, WAIT)
        .await
        .unwrap();
    assert_eq!(house.found("a", &[FoundState::Managed]).await.len(), 0);
    let done = house.adopt("a", &all()).await.unwrap();
    for view in [dry.value, done] {
        let adopted: Vec<&str> = view
            .outcomes
            .iter()
            .filter(|o| matches!(o.result, AdoptionResult::Adopted(_)))
            .map(|o| o.key.label.as_str())
            .collect();
        assert_eq!((adopted, view.outcomes.len()), (vec!["good"], 8));
    }
    assert_eq!(house.found("a", &[FoundState::Managed]).await.len(), 1);
    let named = Adopt {
        label: Some("renamed".to_owned()),
        ..by_id(1)
    };
    let key = house.adopted("a", &named).await;
    assert_eq!(key.key.label.as_str(), "renamed");
    let several = Adopt {
        label: Some("x".to_owned()),
        ..all()
    };
    assert_eq!(code(house.adopt("a", &several).await), "label only_for_one");
    house.agents.cut("a");
    let gone = house.adopt("a", &all()).await;
    assert!(
        matches!(gone, Err(OpsError::AgentUnreachable { .. })),
        "{gone:?}"
    );
}

#[tokio::test]
async fn a_record_that_its_agent_did_not_sign_so_is_not_believed() {
    let house = House::furnished().await;
    house.strays("a", &[secret(1, "k", "m")]);
    let lies: [fn(&mut lockstep::model::adoption::AdoptionRecord); 3] = [
        |record| record.fingerprint.value.0[0] ^= 1,
        |record| record.cka_id.push(1),
        |record| record.sensitive = false,
    ];
    for lie in lies {
        house.agents.with("a", |agent| agent.examined = lie);
        assert_eq!(code(house.adopt("a", &by_id(1)).await), "adoption_record");
    }
    assert_eq!(house.found("a", &[FoundState::Managed]).await.len(), 0);
}

#[tokio::test]
async fn an_adopted_key_stays_where_it_is() {
    let house = House::furnished().await;
    house.strays("a", &[secret(1, "kept in", "1")]);
    let open = |o: &mut ObjectFacts| o.extractable = Some(true);
    house.strays("b", &[changed(secret(2, "open", "2"), open)]);
    let key = house.adopted("a", &by_id(1)).await;
    let b = house.id("b").await;
    let refused = house.ops.key_assign(&on(&key), key.key.id, b).await;
    let Err(OpsError::Refused { code: why, reason }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(why, "no_repository_copy");
    assert!(reason.contains("not extractable"), "{reason}");
    let targets = [house.id("a").await, b].into();
    let call_on = on(&key);
    let put = house.ops.key_targets_put(&call_on, key.key.id, targets);
    assert_eq!(code(put.await), "no_repository_copy");
    let follow = house
        .ops
        .key_update_from_template(&call_on, key.key.id, false);
    assert_eq!(code(follow.await), "no_repository_copy");
    let plan = Proposal::Targets([b].into());
    let plan = house.ops.key_plan(&call(None), key.key.id, plan).await;
    let there = plan.unwrap().keystores;
    let there = there.iter().find(|planned| planned.keystore == b).unwrap();
    assert!(
        there
            .refused
            .as_ref()
            .unwrap()
            .starts_with("no_repository_copy")
    );
    let open = house.adopted("b", &by_id(2)).await;
    let a = house.id("a").await;
    let refused = house.ops.key_assign(&on(&open), open.key.id, a).await;
    let Err(OpsError::Refused { reason, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("is extractable"), "{reason}");
    // Where it was, it still is: taken out and in again.
    let a = house.id("a").await;
    let out = house.ops.key_unassign(&on(&key), key.key.id, a).await;
    let out = out.unwrap().value;
    let out = house.settled(out.key.id).await;
    let back = house.ops.key_assign(&on(&out), key.key.id, a).await;
    back.unwrap();
    assert_eq!(phase(&house.settled(key.key.id).await), "in_step 1/1");
}

#[tokio::test]
async fn a_key_that_is_nowhere_else_is_never_withdrawn() {
    let house = House::furnished().await;
    house.strays("a", &[secret(1, "k", "m"), secret(2, "later", "n")]);
    let key = house.adopted("a", &by_id(1)).await;
    let a = house.id("a").await;
    let record = house.store.keystore(a).await.unwrap().unwrap();
    let patch = lockstep::coordinator::ops::keystores::KeystorePatch {
        strategy: Some(Some(Strategy::Withdraw)),
        ..Default::default()
    };
    let etag = call(Some(record.revision.0));
    house.ops.keystore_update(&etag, a, patch).await.unwrap();
    let refused = house.act(&key, Action::Deactivate).await;
    assert_eq!(code(refused), "no_repository_copy");
    assert_eq!(
        code(house.adopt("a", &by_id(2)).await),
        "no_repository_copy"
    );
}

#[tokio::test]
async fn what_is_lost_is_not_pending_for_ever() {
    let house = House::furnished().await;
    house.strays("a", &[secret(1, "k", "m")]);
    let key = house.adopted("a", &by_id(1)).await;
    house.agents.with("a", |agent| {
        let report = agent.held.get_mut(&key.key.version).unwrap();
        report.observation = Observation::Absent { same_label: vec![] };
    });
    let lost = house.settled(key.key.id).await;
    let told = &row(&lost, "a").differences[0].difference;
    assert_eq!(
        (told.reason.name(), told.healed_by),
        ("missing", lockstep::model::difference::HealedBy::Operator)
    );
    let sync = house.ops.key_sync(&on(&lost), key.key.id).await;
    assert_eq!(code(sync), "no_repository_copy");
}

#[tokio::test]
async fn the_material_of_a_destroyed_key_is_not_adopted() {
    let house = House::furnished().await;
    house.strays("a", &[secret(1, "k", "m")]);
    let key = house.adopted("a", &by_id(1)).await;
    let off = house.act(&key, Action::Deactivate).await.unwrap();
    house.act(&off, Action::Destroy).await.unwrap();
    house.settled(key.key.id).await;
    house.strays("b", &[secret(2, "k again", "m")]);
    assert_eq!(
        code(house.adopt("b", &by_id(2)).await),
        "material_destroyed"
    );
}

#[tokio::test]
async fn a_request_that_is_sent_again_changes_nothing() {
    let house = House::furnished().await;
    house.strays("a", &[secret(1, "k", "m"), secret(2, "l", "n")]);
    let id = house.id("a").await;
    let adopt = || async {
        let call = again("once", "adopt");
        let new = all();
        let done = house.ops.keystore_adopt(&call, id, &new, false, WAIT);
        done.await.unwrap()
    };
    let first = adopt().await;
    let second = adopt().await;
    assert!(!first.replayed && second.replayed);
    assert_eq!(second.value.outcomes.len(), 2);
    let again = second.value.outcomes.iter();
    assert!(
        again
            .into_iter()
            .all(|o| matches!(o.result, AdoptionResult::Managed(_)))
    );
}

#[tokio::test]
async fn ignored_keys_are_adopted_by_nobody() {
    let house = House::furnished().await;
    house.strays("a", &[secret(1, "k", "m"), secret(2, "l", "n")]);
    let id = house.id("a").await;
    let one = by_id(1).select;
    let ignored = house
        .ops
        .keystore_ignore(&call(None), id, &one, "the database's own")
        .await;
    assert_eq!(ignored.unwrap().value.len(), 1);
    assert_eq!(code(house.adopt("a", &by_id(1)).await), "ignored");
    house.adopted("a", &all()).await;
    let states = [FoundState::Ignored, FoundState::Unmanaged];
    assert_eq!(house.found("a", &states).await, ["k ignored known"]);
    let view = house.ops.keystore(&call(None), id).await.unwrap();
    assert_eq!(view.unmanaged, 0);
    // It is ignored under this very name.
    house.strays("a", &[secret(1, "renamed", "m")]);
    let told = house.found("a", &states).await;
    assert_eq!(told, ["k ignored unknown", "renamed unmanaged known"]);
    let back = house.ops.keystore_unignore(&call(None), id, &one).await;
    assert_eq!(back.unwrap().value.len(), 1);
    house.strays("a", &[secret(1, "k", "m")]);
    house.template("H", Algorithm::Hmac, 256).await;
    house.adopted("a", &by_id(1)).await;
}

#[tokio::test]
async fn whoever_is_slower_finds_it_managed_or_joins() {
    for _ in 0..20 {
        let house = House::furnished().await;
        house.strays("a", &[secret(1, "one name", "m")]);
        house.strays("b", &[secret(2, "other name", "m")]);
        let (first, again, there) = (by_id(1), by_id(1), by_id(2));
        let (a, also_a, b) = tokio::join!(
            house.adopt("a", &first),
            house.adopt("a", &again),
            house.adopt("b", &there)
        );
        let mut keys = std::collections::BTreeSet::new();
        let mut made = 0;
        for view in [a, also_a, b] {
            match &view.unwrap().outcomes[0].result {
                AdoptionResult::Adopted(key) => {
                    made += 1;
                    keys.insert(key.id);
                }
                AdoptionResult::Joined(key) | AdoptionResult::Managed(key) => {
                    keys.insert(key.id);
                }
                AdoptionResult::Refused(why) => panic!("{why}"),
            }
        }
        assert_eq!((keys.len(), made), (1, 1), "one key, made once");
        let id = *keys.iter().next().unwrap();
        assert_eq!(phase(&house.settled(id).await), "in_step 2/2");
    }
}

#[tokio::test]
async fn an_adopted_key_is_rotated_to_one_of_ours() {
    let house = House::furnished().await;
    house.strays("a", &[secret(7, "legacy", "old")]);
    house.strays("b", &[secret(8, "legacy", "old")]);
    let key = house.adopted("a", &by_id(7)).await;
    let id = key.key.id;
    house.ops.key_rotate(&on(&key), id).await.unwrap();
    let view = house.settled(id).await;
    assert_eq!(
        (view.key.version_number, phase(&view)),
        (2, "in_step 1/1".to_owned())
    );
    assert_eq!(view.copies.held, 1, "ours is in the repository");
    let label = |view: &KeyView, place: usize| {
        let (_, row) = view.all_rows().nth(place).unwrap();
        let object = row.instance.as_ref().unwrap().intent.object.clone();
        (object.label, object.cka_id.len())
    };
    assert_eq!(label(&view, 0), ("legacy-v2".to_owned(), 16));
    assert_eq!(label(&view, 1), ("legacy".to_owned(), 1), "as it was found");
    // What was made elsewhere stays where it is; the new version goes where the key is wanted.
    let c = house.id("c").await;
    house.ops.key_assign(&on(&view), id, c).await.unwrap();
    let view = house.settled(id).await;
    assert_eq!(phase(&view), "in_step 2/2");
    let there = view.all_rows().filter(|(_, row)| row.keystore == c);
    assert_eq!(there.map(|(version, _)| version).collect::<Vec<_>>(), [2]);
    // The old material elsewhere is no key of its own.
    let refused = house.adopt("b", &by_id(8)).await;
    assert_eq!(code(refused), "other_version");
}
