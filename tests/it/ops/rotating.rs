//! Rotating keys: versions side by side, retired or not, and kept well enough before they are given out.

use crate::ops::{House, again, call, on, phase};
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::keys::{KeyPatch, KeyView};
use lockstep::coordinator::ops::templates::{TemplateNew, TemplatePatch};
use lockstep::coordinator::ops::vaults::VaultPatch;
use lockstep::coordinator::store::{Change, Page, Write};
use lockstep::model::desired::Want;
use lockstep::model::ids::{KeyId, TemplateId};
use lockstep::model::key::Algorithm;
use lockstep::model::keystore::Variant;
use lockstep::model::lifecycle::{Action, ManagedState};

async fn template(house: &House) -> TemplateId {
    let found = house.store.template_by_name(house.vault, "T").await;
    found.unwrap().unwrap().id
}

async fn patch(house: &House, patch: TemplatePatch) {
    let id = template(house).await;
    let now = house.ops.template(&call(None), id).await.unwrap();
    let at = call(Some(now.template.revision.0));
    house.ops.template_update(&at, id, patch).await.unwrap();
}

async fn retiring(house: &House) {
    let retires = TemplatePatch {
        deactivate_on_rotation: Some(true),
        ..TemplatePatch::default()
    };
    patch(house, retires).await;
}

async fn rotated(house: &House, view: &KeyView) -> KeyView {
    let done = house.ops.key_rotate(&on(view), view.key.id).await;
    done.unwrap();
    house.settled(view.key.id).await
}

/// `keystore version want label` of each instance, by keystore name.
async fn wanted(house: &House, id: KeyId) -> Vec<String> {
    let view = house.ops.key(&call(None), id).await.unwrap();
    let mut told: Vec<String> = view
        .all_rows()
        .filter_map(|(version, row)| {
            let intent = &row.instance.as_ref()?.intent;
            let (want, label) = (intent.want.name(), &intent.object.label);
            Some(format!("{} v{version} {want} {label}", row.name))
        })
        .collect();
    told.sort();
    told
}

#[tokio::test]
async fn a_rotated_key_has_a_new_version_beside_the_one_before() {
    let house = House::furnished().await;
    let first = house.active("K").await;
    assert!(first.not_rotatable.is_none());
    let second = rotated(&house, &first).await;
    assert_eq!(second.key.version_number, 2);
    assert_ne!(second.key.version, first.key.version);
    assert_ne!(second.key.fingerprint, first.key.fingerprint);
    assert_eq!(phase(&second), "in_step 3/3");
    let both = [
        "a v1 active K",
        "a v2 active K-v2",
        "b v1 active K",
        "b v2 active K-v2",
        "home v1 active K",
        "home v2 active K-v2",
    ];
    assert_eq!(wanted(&house, first.key.id).await, both);
    let at = Page {
        limit: 1,
        offset: 0,
    };
    let subject = Some(format!("key/{}", first.key.id));
    let newest = house.store.audit_list(subject, at).await.unwrap().items;
    let told = (newest[0].action.as_str(), newest[0].intents.len());
    assert_eq!(told, ("key.rotate", 3));
    assert!(newest[0].detail.contains("version 1 to 2"), "{newest:?}");

    // A new label is one of all versions; what is lost of an old one is synced as well.
    let renamed = KeyPatch {
        label: Some("L".to_owned()),
        ..KeyPatch::default()
    };
    let at = on(&second);
    let done = house.ops.key_update(&at, first.key.id, renamed);
    done.await.unwrap();
    let view = house.settled(first.key.id).await;
    assert_eq!(
        wanted(&house, first.key.id).await[..2],
        ["a v1 active L", "a v2 active L-v2"]
    );
    house.agents.with("a", |agent| {
        let report = agent.held.get_mut(&first.key.version).unwrap();
        report.observation = lockstep::model::observed::Observation::Absent { same_label: vec![] };
    });
    let view = house.ops.key(&call(None), view.key.id).await.unwrap();
    assert_eq!(phase(&view), "out_of_step 2/3", "an old version counts");
    house.ops.key_sync(&on(&view), view.key.id).await.unwrap();
    let view = house.settled(view.key.id).await;
    assert_eq!(phase(&view), "in_step 3/3");

    let versions = house
        .ops
        .key_versions(&call(None), view.key.id)
        .await
        .unwrap();
    let told: Vec<_> = versions
        .iter()
        .map(|one| (one.key.version_number, one.key.state, phase(one)))
        .collect();
    let active = ManagedState::Active;
    let three = || "in_step 3/3".to_owned();
    assert_eq!(told, [(2, active, three()), (1, active, three())]);
}

#[tokio::test]
async fn a_retired_version_never_comes_back_and_all_of_them_go_together() {
    let house = House::furnished().await;
    retiring(&house).await;
    let first = house.active("K").await;
    let second = rotated(&house, &first).await;
    let third = rotated(&house, &second).await;
    assert_eq!(phase(&third), "in_step 3/3");
    let id = first.key.id;
    let of_a = |told: Vec<String>| told.into_iter().take(3).collect::<Vec<_>>();
    let apart = [
        "a v1 deactivated K",
        "a v2 deactivated K-v2",
        "a v3 active K-v3",
    ];
    assert_eq!(of_a(wanted(&house, id).await), apart);

    house.act(&third, Action::Deactivate).await.unwrap();
    let off = house.settled(id).await;
    let all_off = [
        "a v1 deactivated K",
        "a v2 deactivated K-v2",
        "a v3 deactivated K-v3",
    ];
    assert_eq!(of_a(wanted(&house, id).await), all_off);
    house.act(&off, Action::Activate).await.unwrap();
    let on_again = house.settled(id).await;
    assert_eq!(of_a(wanted(&house, id).await), apart, "as before");

    house.act(&on_again, Action::Deactivate).await.unwrap();
    let off = house.settled(id).await;
    house.agents.cut("b");
    house.act(&off, Action::Destroy).await.unwrap();
    let gone = house.settled(id).await;
    assert_eq!(phase(&gone), "unknown 2/3");
    let instances = house.store.key_instances(id).await.unwrap();
    assert_eq!(instances.len(), 9);
    assert!(
        instances
            .iter()
            .all(|one| one.intent.want == Want::Destroyed)
    );
    for version in gone.key.version_ids() {
        assert!(house.store.copies(version).await.unwrap().is_empty());
    }
    let early = house.ops.key_remove(&on(&gone), id, false).await;
    assert!(matches!(early, Err(OpsError::Refused { .. })), "{early:?}");
    house.agents.mend("b");
}

#[tokio::test]
async fn deactivated_is_not_said_while_an_old_version_may_be_usable() {
    let house = House::furnished().await;
    let first = house.active("K").await;
    let second = rotated(&house, &first).await;
    house.act(&second, Action::Deactivate).await.unwrap();
    let off = house.settled(first.key.id).await;
    assert_eq!(phase(&off), "in_step 3/3");
    // Somebody switches the old version on again at the token.
    house.agents.with("a", |agent| {
        let usage = first.key.usage;
        let report = agent.held.get_mut(&first.key.version).unwrap();
        if let lockstep::model::observed::Observation::Present(found) = &mut report.observation {
            found.objects[0].usage = usage;
        }
    });
    let view = house.ops.key(&call(None), first.key.id).await.unwrap();
    assert_eq!(phase(&view), "out_of_step 2/3");
}

#[tokio::test]
async fn a_new_target_gets_the_versions_that_can_do_something() {
    let house = House::furnished().await;
    let first = house.active("K").await;
    let second = rotated(&house, &first).await;
    retiring(&house).await;
    let third = rotated(&house, &second).await;
    let keystores = house
        .store
        .keystore_list(
            None,
            None,
            Page {
                limit: 9,
                offset: 0,
            },
        )
        .await;
    let c = keystores
        .unwrap()
        .items
        .into_iter()
        .find(|one| one.name == "c");
    let id = first.key.id;
    let done = house.ops.key_assign(&on(&third), id, c.unwrap().id).await;
    done.unwrap();
    house.settled(id).await;
    let told = wanted(&house, id).await;
    let there: Vec<_> = told.iter().filter(|one| one.starts_with("c ")).collect();
    assert_eq!(
        there,
        ["c v1 active K", "c v3 active K-v3"],
        "v2 is retired"
    );
}

#[tokio::test]
async fn a_version_is_given_out_when_enough_internal_keystores_hold_it() {
    let house = House::empty().await;
    house.keystore("home", Variant::Internal, &[]).await;
    house.keystore("a", Variant::External, &["prod"]).await;
    house.template("T", Algorithm::Aes, 256).await;
    let first = house.active("K").await;
    let spare = house.keystore("spare", Variant::Internal, &[]).await;
    let vault = house.ops.vault(&call(None), house.vault).await.unwrap();
    let two = VaultPatch {
        min_copies: Some(2),
        ..VaultPatch::default()
    };
    let at = call(Some(vault.vault.revision.0));
    house.ops.vault_update(&at, house.vault, two).await.unwrap();

    let id = first.key.id;
    let asked = house.ops.key_rotate(&on(&first), id).await.unwrap().value;
    assert_eq!(
        (asked.key.version_number, phase(&asked)),
        (1, "changing 1/1".to_owned())
    );
    let coming = asked.key.coming.clone().unwrap();
    assert_eq!(wanted(&house, id).await, ["a v1 active K"]);
    let more = house.ops.key_rotate(&on(&asked), id).await.unwrap().value;
    assert_eq!(more.key.coming, asked.key.coming, "one at a time");
    let now = lockstep::clock::unix_ms();
    let passed = house.pass_at(now).await;
    let why = passed.refused.get(&id).unwrap();
    assert!(why.contains("1 of 2 internal keystores"), "{why}");

    let lacking = house
        .store
        .copies_lacking(house.vault, spare, None, 9)
        .await
        .unwrap();
    assert!(lacking.contains(&coming.id), "it can be taken over");
    let mut copy = house.store.copies(coming.id).await.unwrap().remove(0);
    copy.keystore = spare;
    let version = coming.id;
    let taken = Change {
        writes: vec![Write::CopyAdd { version, copy }],
        ..Change::default()
    };
    house.store.commit(taken).await.unwrap();
    assert_eq!(house.pass_at(now).await.done, 1);
    let view = house.settled(id).await;
    assert_eq!(
        (view.key.version_number, phase(&view)),
        (2, "in_step 1/1".to_owned())
    );
    assert_eq!(
        wanted(&house, id).await,
        ["a v1 active K", "a v2 active K-v2"]
    );
    assert_eq!(house.pass_at(now).await.done, 0, "once");
}

#[tokio::test]
async fn what_cannot_be_rotated_is_refused_and_nothing_is_made_twice() {
    let house = House::furnished().await;
    let key = house.key("K").await;
    let early = house.ops.key_rotate(&on(&key), key.key.id).await;
    let Err(OpsError::StateConflict { message, .. }) = early else {
        panic!("{early:?}")
    };
    assert!(message.contains("only an active key"), "{message}");

    let key = house.active("L").await;
    let id = key.key.id;
    let stale = house.ops.key_rotate(&call(Some(1)), id).await;
    assert!(matches!(stale, Err(OpsError::EtagMismatch { .. })));
    house.key("L-v2").await;
    let taken = house.ops.key_rotate(&on(&key), id).await;
    assert!(matches!(taken, Err(OpsError::Taken { .. })), "{taken:?}");

    let key = house.active("M").await;
    let id = key.key.id;
    house
        .agents
        .with("a", |agent| agent.capabilities.oaep_hashes.clear());
    let no_way = house.ops.key_rotate(&on(&key), id).await;
    // The new version has no source yet, so only what the token cannot take at all is known before: it is said afterwards.
    assert!(no_way.is_ok(), "{no_way:?}");
    house
        .agents
        .with("a", |agent| agent.capabilities.kinds.clear());
    let now = house.ops.key(&call(None), id).await.unwrap();
    let no_way = house.ops.key_rotate(&on(&now), id).await;
    let Err(OpsError::Refused { code, .. }) = no_way else {
        panic!("{no_way:?}")
    };
    assert_eq!(code, "not_supported_by_token");

    let dated = TemplateNew {
        naming_scheme: Some("D-<yyyy>".to_owned()),
        initial_state: ManagedState::Active,
        ..house.template_new("D", Algorithm::Aes, 256)
    };
    house.ops.template_create(&call(None), dated).await.unwrap();
    let mut new = house.key_new("x");
    (new.template_name, new.label) = ("D".to_owned(), None);
    let dated = house.ops.key_create(&call(None), new).await.unwrap().value;
    let refused = house.ops.key_rotate(&on(&dated), dated.key.id).await;
    let Err(OpsError::Refused { code, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(code, "not_rotatable");
}

#[tokio::test]
async fn the_same_request_twice_makes_one_version() {
    let house = House::furnished().await;
    let key = house.active("K").await;
    let id = key.key.id;
    let mut asked = again("rotate", "1");
    asked.if_match = on(&key).if_match;
    let once = house.ops.key_rotate(&asked, id).await.unwrap();
    let twice = house.ops.key_rotate(&asked, id).await.unwrap();
    assert_eq!((once.replayed, twice.replayed), (false, true));
    assert_eq!(twice.value.key.version_number, 2);
    // Two at once: one wins, the other is told.
    let now = house.settled(id).await;
    let at = on(&now);
    let (one, two) = tokio::join!(house.ops.key_rotate(&at, id), house.ops.key_rotate(&at, id));
    let lost = [one, two].into_iter().filter(Result::is_err).count();
    let view = house.settled(id).await;
    assert_eq!((lost, view.key.version_number), (1, 3));
    assert_eq!(view.key.past.len(), 2);
}
