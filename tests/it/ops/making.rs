//! Making templates and keys: what is taken, and what is refused.

use crate::ops::{House, call, phase};
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::keys::{KeyNew, KeyPatch, KeyView};
use lockstep::coordinator::ops::lists::Page;
use lockstep::coordinator::ops::templates::{TemplateNew, TemplatePatch, TemplateQuery};
use lockstep::model::canonical::sha256;
use lockstep::model::ids::KeyVersionId;
use lockstep::model::key::{Algorithm, KeySpec, Usage, UsageSet};
use lockstep::model::keystore::Variant;
use lockstep::model::lifecycle::ManagedState;
use lockstep::model::material::BirthRecord;
use uuid::Uuid;

#[tokio::test]
async fn a_key_needs_an_internal_keystore_that_answers() {
    let house = House::empty().await;
    house.keystore("a", Variant::External, &["prod"]).await;
    house.template("T", Algorithm::Aes, 256).await;
    let none = house.ops.key_create(&call(None), house.key_new("K")).await;
    assert_eq!(none.unwrap_err(), OpsError::NoInternalKeystore);
    house.keystore("home", Variant::Internal, &[]).await;
    house.agents.cut("home");
    let away = house.ops.key_create(&call(None), house.key_new("K")).await;
    let away = away.unwrap_err();
    let OpsError::AgentUnreachable { keystore, .. } = &away else {
        panic!("{away}")
    };
    assert_eq!(keystore, "home");
    house.keystore("spare", Variant::Internal, &[]).await;
    assert_eq!(
        house.key("K").await.copies.held,
        1,
        "any internal keystore will do"
    );
}

#[tokio::test]
async fn a_birth_record_that_is_not_what_was_asked_leaves_nothing() {
    type Tamper = fn(&mut BirthRecord);
    let cases: [(&str, Tamper); 4] = [
        ("signature", |birth| {
            birth.fingerprint.value = sha256(b"another")
        }),
        ("key version", |birth| {
            birth.version = KeyVersionId::from_uuid(Uuid::nil())
        }),
        ("salt", |birth| birth.salt = vec![0; 32]),
        ("blob", |birth| birth.blob = sha256(b"another")),
    ];
    let house = House::furnished().await;
    for (what, tamper) in cases {
        house.agents.with("home", |agent| agent.birth = tamper);
        let made = house.ops.key_create(&call(None), house.key_new("K")).await;
        let refused = made.unwrap_err();
        let OpsError::Refused { code, reason } = &refused else {
            panic!("{refused}")
        };
        assert!(code == "birth_record" && reason.contains(what), "{reason}");
    }
    house.agents.with("home", |agent| agent.birth = |_| {});
    house.key("K").await;
}

#[tokio::test]
async fn a_template_may_make_active_keys_and_pairs() {
    let house = House::furnished().await;
    let new = TemplateNew {
        initial_state: ManagedState::Active,
        ..house.template_new("Pair", Algorithm::Ec, 256)
    };
    house.ops.template_create(&call(None), new).await.unwrap();
    let new = KeyNew {
        template_name: "Pair".to_owned(),
        ..house.key_new("P")
    };
    let made = house.ops.key_create(&call(None), new).await.unwrap().value;
    assert_eq!(made.key.state, ManagedState::Active);
    assert!(made.key.spki.is_some());
    let settled = house.settled(made.key.id).await;
    assert_eq!(phase(&settled), "in_step 3/3");
}

#[tokio::test]
async fn labels_come_from_the_scheme_or_fit_it() {
    let house = House::furnished().await;
    let new = TemplateNew {
        naming_scheme: Some("A-<APP>-<ENV>".to_owned()),
        ..house.template_new("Named", Algorithm::Aes, 128)
    };
    house.ops.template_create(&call(None), new).await.unwrap();
    let key = |label: Option<&str>, tags: &[(&str, &str)]| KeyNew {
        template_name: "Named".to_owned(),
        label: label.map(str::to_owned),
        label_tags: tags
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        ..house.key_new("")
    };
    let made = |new: KeyNew| {
        let ops = house.ops.clone();
        async move {
            ops.key_create(&call(None), new)
                .await
                .map(|done| done.value)
        }
    };
    let told = |view: KeyView| (view.key.label.to_string(), view.key.label_tags);
    let tags = [("APP", "PAY"), ("ENV", "PROD")];
    let (label, _) = told(made(key(None, &tags)).await.unwrap());
    assert_eq!(label, "A-PAY-PROD");
    let (_, values) = told(made(key(Some("A-WEB-TEST"), &[])).await.unwrap());
    assert_eq!(
        values,
        [
            ("APP".to_owned(), "WEB".to_owned()),
            ("ENV".to_owned(), "TEST".to_owned())
        ]
    );
    for (bad, field) in [
        (key(Some("B-WEB-TEST"), &[]), "label"),
        (key(None, &[("APP", "PAY")]), "label_tags"),
        (key(Some("A-X1-Y1"), &tags), "label_tags"),
        (house.key_new("bad*label"), "label"),
        (
            KeyNew {
                label: None,
                ..house.key_new("")
            },
            "label",
        ),
        (
            KeyNew {
                template_name: "None".to_owned(),
                ..house.key_new("K")
            },
            "template_name",
        ),
    ] {
        let refused = made(bad).await.unwrap_err();
        assert!(
            matches!(&refused, OpsError::Invalid { field: told, .. } if told == field),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn templates_are_checked_field_by_field() {
    let house = House::empty().await;
    let check = |field: &'static str, edit: fn(&mut TemplateNew)| {
        let (ops, mut new) = (
            house.ops.clone(),
            house.template_new("T", Algorithm::Aes, 256),
        );
        edit(&mut new);
        async move {
            let refused = ops.template_create(&call(None), new).await.unwrap_err();
            let is_named =
                matches!(&refused, OpsError::Invalid { field: told, .. } if told == field);
            assert!(is_named, "{field}: {refused}");
        }
    };
    check("name", |new| new.name = "9".to_owned()).await;
    check("name", |new| new.name = "T".repeat(31)).await;
    check("keystores[].group", |new| new.group = String::new()).await;
    check("pkcs11_usage", |new| new.usage = Some(mixed())).await;
    check("pkcs11_usage", |new| new.usage = Some(UsageSet::NONE)).await;
    check("key.state", |new| {
        new.initial_state = ManagedState::Destroyed
    })
    .await;
    check("key.expiration_date", |new| {
        new.expiration_period = "1Y".to_owned()
    })
    .await;
    check("key.activation_date", |new| {
        new.activation_period = "PT1H".to_owned()
    })
    .await;
    check("naming_scheme", |new| {
        new.naming_scheme = Some("<".to_owned())
    })
    .await;
    check("description", |new| new.description = "x".repeat(201)).await;
    // An EC key encrypts nothing.
    check("pkcs11_usage", |new| {
        new.spec = KeySpec::new(Algorithm::Ec, 256).unwrap();
        new.usage = Some(UsageSet::of(&[Usage::Encrypt]));
    })
    .await;
}

fn mixed() -> UsageSet {
    UsageSet::of(&[Usage::Wrap, Usage::Decrypt])
}

#[tokio::test]
async fn usages_that_undo_each_other_can_be_meant_and_names_are_taken_once() {
    let house = House::empty().await;
    let meant = TemplateNew {
        usage: Some(mixed()),
        allow_mixed_usage: true,
        ..house.template_new("T", Algorithm::Aes, 256)
    };
    house.ops.template_create(&call(None), meant).await.unwrap();
    let again = house.template_new("T", Algorithm::Aes, 128);
    let again = house.ops.template_create(&call(None), again).await;
    assert!(matches!(again, Err(OpsError::Taken { field, .. }) if field == "name"));
}

#[tokio::test]
async fn a_changed_template_unaligns_its_keys_and_archived_ones_make_none() {
    let house = House::furnished().await;
    let key = house.key("K").await;
    assert!(key.is_aligned);
    let page = Page {
        limit: 10,
        offset: 0,
    };
    let found = house
        .ops
        .template_list(&call(None), TemplateQuery::default(), page)
        .await;
    let template = found.unwrap().items.remove(0);
    assert_eq!(template.keys_count, 1);
    let id = template.template.id;
    let patch = TemplatePatch {
        description: Some("new".to_owned()),
        ..TemplatePatch::default()
    };
    let changed = house
        .ops
        .template_update(&call(Some(1)), id, patch)
        .await
        .unwrap()
        .value;
    assert_eq!(
        (changed.template.version, changed.template.revision.0),
        (2, 2)
    );
    assert!(!house.settled(key.key.id).await.is_aligned);
    house
        .ops
        .template_archive(&call(Some(2)), id, true)
        .await
        .unwrap();
    let none = house.ops.key_create(&call(None), house.key_new("L")).await;
    assert!(matches!(none, Err(OpsError::Refused { code, .. }) if code == "template_archived"));
    let used = house.ops.template_delete(&call(Some(3)), id).await;
    assert!(matches!(used, Err(OpsError::InUse { count: 1, .. })));
}

#[tokio::test]
async fn a_new_label_renames_the_objects() {
    let house = House::furnished().await;
    let key = house.active("K").await;
    let rename = KeyPatch {
        label: Some("Renamed".to_owned()),
        expiration_date: Some("2030-01-31".to_owned()),
        ..KeyPatch::default()
    };
    let caller = crate::ops::on(&key);
    house
        .ops
        .key_update(&caller, key.key.id, rename)
        .await
        .unwrap();
    let renamed = house.settled(key.key.id).await;
    assert_eq!(phase(&renamed), "in_step 3/3");
    assert_eq!(renamed.key.expiration_date.as_deref(), Some("2030-01-31"));
    for row in &renamed.keystores {
        let intent = &row.instance.as_ref().unwrap().intent;
        assert_eq!(
            (intent.object.label.as_str(), intent.generation.0),
            ("Renamed", 2)
        );
    }
    let bad = KeyPatch {
        activation_date: Some("2030-02-30".to_owned()),
        ..KeyPatch::default()
    };
    let caller = crate::ops::on(&renamed);
    let refused = house.ops.key_update(&caller, key.key.id, bad).await;
    assert!(matches!(refused, Err(OpsError::Invalid { field, .. }) if field == "activation_date"));
}
