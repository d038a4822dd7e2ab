//! The contract of `keystore::Keystore`, on SoftHSM2 and on the in-memory token.

use std::path::PathBuf;
use std::process::Command;

use lockstep::keystore::Keystore as _;
use lockstep::keystore::contract;
use lockstep::keystore::memory::MemoryToken;
use lockstep::keystore::pkcs11::token::{Pkcs11Config, Pkcs11Token};
use lockstep::model::ids::KeyVersionId;
use lockstep::model::job::{FailureKind, TokenJob, TokenOutcome};
use lockstep::model::key::{Algorithm, KeySpec};
use uuid::Uuid;

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

fn specs(kinds: &[(Algorithm, u32)]) -> Vec<KeySpec> {
    kinds
        .iter()
        .map(|&(algorithm, bits)| KeySpec::new(algorithm, bits).unwrap())
        .collect()
}

#[test]
fn memory_keeps_the_contract() {
    let kinds = specs(&[
        (Algorithm::Aes, 128),
        (Algorithm::Aes, 192),
        (Algorithm::Aes, 256),
        (Algorithm::Hmac, 160),
        (Algorithm::Hmac, 512),
        (Algorithm::Des, 192),
        (Algorithm::Ec, 256),
        (Algorithm::Ec, 384),
        (Algorithm::Ec, 521),
        (Algorithm::Rsa, 2048),
        (Algorithm::Rsa, 4096),
    ]);
    let mut home = MemoryToken::new("home", 1);
    let mut away = MemoryToken::new("away", 1);
    if let Err(violation) = contract::check(&mut home, &mut away, &kinds) {
        panic!("{violation}");
    }
}

#[test]
fn softhsm_keeps_the_contract() {
    if !in_own_process("softhsm_keeps_the_contract", &["home", "away"]) {
        return;
    }
    let kinds = specs(&[
        (Algorithm::Aes, 128),
        (Algorithm::Aes, 192),
        (Algorithm::Aes, 256),
        (Algorithm::Hmac, 256),
        (Algorithm::Hmac, 512),
        (Algorithm::Des, 192),
        (Algorithm::Ec, 256),
        (Algorithm::Ec, 384),
        (Algorithm::Ec, 521),
        (Algorithm::Rsa, 2048),
    ]);
    let mut home = open("home");
    let mut away = open("away");
    if let Err(violation) = contract::check(&mut home, &mut away, &kinds) {
        panic!("{violation}");
    }
    // SoftHSM2 fills keys of other lengths up with zeros when it wraps them: told, and never believed.
    let odd = TokenJob::Generate {
        version: KeyVersionId::from_uuid(Uuid::from_u128(1)),
        spec: KeySpec::new(Algorithm::Hmac, 160).unwrap(),
        salt: vec![1; 32],
    };
    let TokenOutcome::Failed(failure) = home.perform(&odd) else {
        panic!("a changed key was taken for good");
    };
    assert_eq!(failure.kind, FailureKind::Refused);
}
