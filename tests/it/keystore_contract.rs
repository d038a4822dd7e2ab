//! The contract of `keystore::Keystore`, on SoftHSM2 and on the in-memory token.

use std::path::PathBuf;
use std::process::Command;

use lockstep::keystore::Keystore;
use lockstep::keystore::pkcs11::token::{Pkcs11Config, Pkcs11Token};
use lockstep::model::desired::ObjectPlan;
use lockstep::model::ids::{Epoch, KeyVersionId, KeystoreId};
use lockstep::model::job::*;
use lockstep::model::key::*;
use lockstep::model::keystore::Marker;
use lockstep::model::observed::*;
use lockstep::model::step::Step;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "1234";

/// Runs the named test again in a process of its own, with tokens of its own: SoftHSM2 reads its configuration from the
/// environment, once a process. True in that process; the tokens go when it has ended.
fn in_own_process(test: &str, tokens: &[&str]) -> bool {
    if std::env::var_os("LOCKSTEP_TEST_CHILD").is_some() {
        return true;
    }
    let base = PathBuf::from("/dev/shm");
    let base = if base.is_dir() {
        base
    } else {
        std::env::temp_dir()
    };
    let dir = tempfile::tempdir_in(base).unwrap();
    let conf = dir.path().join("softhsm2.conf");
    let store = dir.path().join("tokens");
    std::fs::create_dir(&store).unwrap();
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        store.display()
    );
    std::fs::write(&conf, text).unwrap();
    for token in tokens {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", token])
            .args(["--so-pin", "12345678", "--pin", PIN])
            .env("SOFTHSM2_CONF", &conf)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let name = format!("keystore_contract::{test}");
    let status = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture"])
        .env("SOFTHSM2_CONF", &conf)
        .env("LOCKSTEP_TEST_CHILD", "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test}: {status}");
    false
}

fn open(label: &str) -> Pkcs11Token {
    let mut token = Pkcs11Token::open(&Pkcs11Config {
        module: MODULE.into(),
        label: label.to_owned(),
        serial: None,
        init_args: None,
    })
    .unwrap();
    token.login(&PIN.into()).unwrap();
    token
}

fn done(token: &mut dyn Keystore, job: TokenJob) -> TokenAnswer {
    match token.perform(&job) {
        TokenOutcome::Done(answer) => answer,
        other @ (TokenOutcome::Failed(_) | TokenOutcome::Unknown { .. }) => {
            panic!("{job:?}: {other:?}")
        }
    }
}

#[test]
fn softhsm_end_to_end() {
    if !in_own_process("softhsm_end_to_end", &["home"]) {
        return;
    }
    let mut home = open("home");
    let home: &mut dyn Keystore = &mut home;
    println!("{:?}", done(home, TokenJob::Identify));
    let marker = Marker {
        keystore: KeystoreId::from_uuid(uuid::Uuid::new_v4()),
        epoch: Epoch(1),
    };
    done(home, TokenJob::Bind(marker));
    assert!(matches!(
        home.perform(&TokenJob::Bind(marker)),
        TokenOutcome::Failed(_)
    ));
    println!("{:?}", done(home, TokenJob::Identify));
    let TokenAnswer::Prepared(prepared) = done(home, TokenJob::Prepare { internal: true }) else {
        panic!()
    };
    println!("{:?}", prepared.capabilities);
    for (algorithm, bits) in [
        (Algorithm::Aes, 128),
        (Algorithm::Aes, 256),
        (Algorithm::Hmac, 512),
        (Algorithm::Des, 192),
        (Algorithm::Ec, 256),
        (Algorithm::Ec, 384),
        (Algorithm::Ec, 521),
        (Algorithm::Rsa, 2048),
    ] {
        let spec = KeySpec::new(algorithm, bits).unwrap();
        cycle(home, &prepared, spec);
    }
}

#[expect(clippy::too_many_lines, reason = "one story")]
fn cycle(home: &mut dyn Keystore, prepared: &Prepared, spec: KeySpec) {
    println!("== {spec}");
    let version = KeyVersionId::from_uuid(uuid::Uuid::new_v4());
    let salt = vec![7; 32];
    let TokenAnswer::Generated(generated) = done(
        home,
        TokenJob::Generate {
            version,
            spec,
            salt: salt.clone(),
        },
    ) else {
        panic!()
    };
    let TokenAnswer::Rewrapped(envelope) = done(
        home,
        TokenJob::Rewrap(Box::new(RewrapJob {
            spec,
            salt: salt.clone(),
            fingerprint: generated.fingerprint,
            spki: generated.spki.clone(),
            blob: generated.blob.clone(),
            transport_spki: prepared.transport_spki.clone(),
            oaep_hash: prepared.capabilities.oaep_hash,
        })),
    ) else {
        panic!()
    };
    let plan = ObjectPlan {
        cka_id: version.uuid().as_bytes().to_vec(),
        label: format!("test/{spec}"),
        spec,
        usage: spec.default_usage(),
        deactivated_usage: DeactivatedUsage::None,
        salt,
    };
    let mut job = RunJob {
        object: plan.clone(),
        fingerprint: generated.fingerprint,
        steps: vec![Step::Install],
        envelope: Some(envelope),
        hints: vec![],
    };
    let classes = spec.class().objects();
    for class in classes {
        job.steps.push(Step::SetUsage {
            class: *class,
            usage: plan.usage,
        });
    }
    job.steps.push(Step::ProveEnabled);
    let TokenAnswer::Ran(ran) = done(home, TokenJob::Run(Box::new(job.clone()))) else {
        panic!()
    };
    println!("{ran:?}");
    assert_eq!(ran.failure, None);
    job.hints = ran.found.objects;
    job.steps = classes
        .iter()
        .map(|class| Step::SetUsage {
            class: *class,
            usage: UsageSet::NONE,
        })
        .collect();
    job.steps.push(Step::ProveDisabled);
    let TokenAnswer::Ran(ran) = done(home, TokenJob::Run(Box::new(job.clone()))) else {
        panic!()
    };
    println!("{:?} {:?}", ran.proof, ran.failure);
    assert_eq!(ran.failure, None);
    assert_eq!(ran.proof.unwrap().kind, ProofKind::Tried);
    println!("{:?}", done(home, TokenJob::Inspect(plan)));
    let TokenAnswer::Inventory(inventory) = done(home, TokenJob::Scan) else {
        panic!()
    };
    assert_eq!(inventory.objects.len(), classes.len());
    assert_eq!(inventory.identity.markers.len(), 1);
    job.steps = classes
        .iter()
        .map(|class| Step::Destroy { class: *class })
        .collect();
    let TokenAnswer::Ran(ran) = done(home, TokenJob::Run(Box::new(job))) else {
        panic!()
    };
    assert_eq!(ran.failure, None);
    assert_eq!(ran.found, Found::default());
}
