//! The contract of `keystore::Keystore`, on SoftHSM2 and on the in-memory token.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use lockstep::keystore::Keystore as _;
use lockstep::keystore::contract;
use lockstep::keystore::memory::MemoryToken;
use lockstep::keystore::pkcs11::token::{Pkcs11Config, Pkcs11Token};
use lockstep::model::capabilities::{Duplicates, FlagChange, SESSIONS_TRIED, Strategy, Unwrap};
use lockstep::model::desired::ObjectPlan;
use lockstep::model::ids::{Epoch, KeyVersionId, KeystoreId};
use lockstep::model::job::{
    FailureKind, Generated, Ran, RewrapJob, RunJob, TokenAnswer, TokenJob, TokenOutcome,
};
use lockstep::model::key::{Algorithm, DeactivatedUsage, KeySpec, Usage, UsageSet};
use lockstep::model::keystore::{Marker, OaepHash, Route, Wrapping};
use lockstep::model::observed::{Found, ObjectClass};
use lockstep::model::step::Step;
use lockstep::model::text::hex;
use secrecy::SecretString;
use uuid::Uuid;

use crate::support::softhsm::{SoftHsm, Token};

/// Where a test's own process finds its tokens.
const CHILD: &str = "LOCKSTEP_TEST_CHILD";

/// Runs the named test again in a process of its own, with tokens of its own: SoftHSM2 reads its configuration from the
/// environment, once a process. True in that process; the tokens go when it has ended.
fn in_own_process(test: &str, labels: &[&str]) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let hsm = SoftHsm::new();
    let tokens: Vec<Token> = labels.iter().map(|label| hsm.token(label)).collect();
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            &format!("keystore_contract::{test}"),
            "--exact",
            "--nocapture",
        ])
        .env("SOFTHSM2_CONF", &tokens[0].conf)
        .env("LOCKSTEP_TEST_MODULE", &tokens[0].module)
        .env(CHILD, hsm.dir())
        .status()
        .unwrap();
    assert!(status.success(), "{test}: {status}");
    false
}

fn file(name: &str) -> PathBuf {
    Path::new(&std::env::var_os(CHILD).unwrap()).join(name)
}

fn config(label: &str) -> Pkcs11Config {
    Pkcs11Config {
        module: std::env::var_os("LOCKSTEP_TEST_MODULE").unwrap().into(),
        label: label.to_owned(),
        serial: None,
        init_args: None,
    }
}

fn open(label: &str) -> Pkcs11Token {
    let mut token = Pkcs11Token::open(&config(label)).unwrap();
    let pin = std::fs::read_to_string(file(&format!("{label}.pin"))).unwrap();
    token.login(&pin.into(), false).unwrap();
    token
}

fn pin() -> SecretString {
    std::fs::read_to_string(file("home.pin")).unwrap().into()
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
    away.scan_in_slices(1);
    away.reinitialise();
    let mut home = MemoryToken::new("home", 2);
    if let Err(violation) = contract::check(&mut home, &mut away, &kinds) {
        panic!("in slices: {violation}");
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

#[test]
fn a_wrong_pin_is_told_as_such() {
    if !in_own_process("a_wrong_pin_is_told_as_such", &["home"]) {
        return;
    }
    let missing = Pkcs11Token::open(&config("elsewhere")).unwrap_err();
    assert_eq!(missing.kind, FailureKind::NoToken);
    let mut token = Pkcs11Token::open(&config("home")).unwrap();
    let TokenOutcome::Failed(_) = token.perform(&TokenJob::Scan) else {
        panic!("a token was read without login");
    };
    let refused = token.login(&"not the PIN".into(), false).unwrap_err();
    assert_eq!(refused.kind, FailureKind::WrongPin, "{refused}");
    assert!(!refused.to_string().contains("not the PIN"));
    // Not even the right one, where nobody knows how the last try of it ended and the token saw a wrong one.
    let held = token.login(&pin(), true).unwrap_err();
    assert_eq!(
        (held.kind, &*held.function),
        (FailureKind::WrongPin, "C_GetTokenInfo"),
        "{held}"
    );
    token.login(&pin(), false).unwrap();
    Pkcs11Token::open(&config("home"))
        .unwrap()
        .login(&pin(), true)
        .unwrap();
}

const MARKER: Marker = Marker {
    keystore: KeystoreId::from_uuid(Uuid::from_u128(7)),
    epoch: Epoch(1),
};

/// A key of ours on a token where somebody else is at work too.
struct Stage {
    home: Pkcs11Token,
    outsider: Token,
    job: RunJob,
}

impl Stage {
    fn new(spec: KeySpec) -> Self {
        let mut home = open("home");
        done(&mut home, &TokenJob::Bind(MARKER));
        let TokenAnswer::Prepared(own) = done(&mut home, &TokenJob::Prepare { internal: true })
        else {
            panic!("no answer to prepare");
        };
        let version = KeyVersionId::from_uuid(Uuid::new_v4());
        let salt = vec![3; 32];
        let generate = TokenJob::Generate {
            version,
            spec,
            salt: salt.clone(),
        };
        let TokenAnswer::Generated(Generated {
            blob,
            spki,
            fingerprint,
            kek,
        }) = done(&mut home, &generate)
        else {
            panic!("no answer to generate");
        };
        let rewrap = TokenJob::Rewrap(Box::new(RewrapJob {
            spec,
            salt: salt.clone(),
            fingerprint,
            spki,
            blob,
            kek,
            transport_spki: own.transport_spki,
            route: Route {
                wrapping: Wrapping::Rfc5649,
                oaep_hash: OaepHash::Sha1,
            },
        }));
        let TokenAnswer::Rewrapped(envelope) = done(&mut home, &rewrap) else {
            panic!("no answer to rewrap");
        };
        let object = ObjectPlan {
            cka_id: version.uuid().as_bytes().to_vec(),
            label: format!("drift {spec}"),
            spec,
            usage: spec.default_usage(),
            deactivated_usage: DeactivatedUsage::None,
            salt,
            strategy: Strategy::Flags,
        };
        let mut stage = Self {
            home,
            outsider: outsider(),
            job: RunJob {
                object,
                fingerprint,
                steps: Vec::new(),
                envelope: Some(envelope),
                hints: Vec::new(),
            },
        };
        stage.reinstall();
        stage
    }

    fn run(&mut self, steps: Vec<Step>) -> Ran {
        self.job.steps = steps;
        let TokenAnswer::Ran(ran) =
            done(&mut self.home, &TokenJob::Run(Box::new(self.job.clone())))
        else {
            panic!("no answer to run");
        };
        *ran
    }

    /// Destroys what is there and installs and enables the key anew.
    fn reinstall(&mut self) {
        let classes = self.job.object.spec.class().objects();
        let mut steps: Vec<Step> = classes
            .iter()
            .map(|&class| Step::Destroy { class })
            .collect();
        steps.push(Step::Install);
        steps.extend(self.enable());
        let ran = self.run(steps);
        assert_eq!(ran.failure, None);
        assert_eq!(ran.found.fingerprint, Some(self.job.fingerprint));
    }

    fn enable(&self) -> Vec<Step> {
        let usage = self.job.object.usage;
        let classes = self.job.object.spec.class().objects().iter();
        classes
            .map(|&class| Step::SetUsage { class, usage })
            .collect()
    }

    fn look(&mut self) -> Found {
        let plan = self.job.object.clone();
        let TokenAnswer::Found(found) = done(&mut self.home, &TokenJob::Inspect(plan)) else {
            panic!("no answer to inspect");
        };
        found
    }

    /// Somebody else does this to the key.
    fn outsider(&self, verb: &str, args: &[&str]) {
        let id = hex(&self.job.object.cka_id);
        self.outsider
            .outsider_ok(&[&[verb, "--id", &id], args].concat());
    }
}

/// The token as somebody else sees it.
fn outsider() -> Token {
    Token {
        module: config("home").module,
        conf: file("softhsm2.conf"),
        env: BTreeMap::from([(
            "SOFTHSM2_CONF".to_owned(),
            file("softhsm2.conf").display().to_string(),
        )]),
        init_args: None,
        tokens: file("tokens"),
        label: "home".to_owned(),
        serial: String::new(),
        pin_file: file("home.pin"),
        so_pin_file: file("home.so-pin"),
    }
}

fn done(token: &mut Pkcs11Token, job: &TokenJob) -> TokenAnswer {
    match token.perform(job) {
        TokenOutcome::Done(answer) => answer,
        other @ (TokenOutcome::Failed(_) | TokenOutcome::Unknown { .. }) => panic!("{other:?}"),
    }
}

#[test]
fn what_others_do_to_a_secret_key_is_seen() {
    if !in_own_process("what_others_do_to_a_secret_key_is_seen", &["home"]) {
        return;
    }
    let mut stage = Stage::new(KeySpec::new(Algorithm::Aes, 256).unwrap());

    stage.outsider("set-usage", &["--class", "secret", "--off", "encrypt"]);
    assert_eq!(
        stage.look().objects[0].usage,
        UsageSet::of(&[Usage::Decrypt])
    );

    stage.reinstall();
    stage.outsider("swap", &[]);
    let found = stage.look();
    assert!(
        found
            .fingerprint
            .is_some_and(|other| other != stage.job.fingerprint)
    );
    let off = Step::SetUsage {
        class: ObjectClass::Secret,
        usage: UsageSet::NONE,
    };
    assert_eq!(
        stage.run(vec![off]).failure,
        None,
        "a wrong key may always be disabled"
    );
    let steps = stage.enable();
    let ran = stage.run(steps);
    assert_eq!(
        ran.failure.map(|failure| failure.kind),
        Some(FailureKind::WrongKey)
    );
    assert_eq!(ran.found.objects[0].usage, UsageSet::NONE);

    stage.outsider("destroy", &[]);
    assert_eq!(stage.look(), Found::default());
}

#[test]
fn what_others_do_to_a_pair_is_seen() {
    if !in_own_process("what_others_do_to_a_pair_is_seen", &["home"]) {
        return;
    }
    let mut stage = Stage::new(KeySpec::new(Algorithm::Ec, 256).unwrap());

    stage.outsider("destroy", &["--class", "public"]);
    let found = stage.look();
    assert_eq!(found.objects.len(), 1);
    assert_eq!(found.fingerprint, None, "half a pair proves nothing");
    assert!(found.fingerprint_failure.is_some());

    stage.reinstall();
    stage.outsider("duplicate", &["--class", "private"]);
    let found = stage.look();
    assert_eq!(found.objects.len(), 3);
    assert_eq!(found.fingerprint, None);

    stage.reinstall();
    stage.outsider("swap", &[]);
    let found = stage.look();
    assert!(
        found
            .fingerprint
            .is_some_and(|other| other != stage.job.fingerprint)
    );
}

/// SoftHSM2 as it was measured by hand: a probe that finds something else is wrong, or the token has changed.
#[test]
fn the_probe_finds_what_softhsm_can_do() {
    if !in_own_process("the_probe_finds_what_softhsm_can_do", &["probed"]) {
        return;
    }
    let mut token = open("probed");
    let before = objects(&mut token);
    let outcome = token.perform(&TokenJob::Prepare { internal: true });
    let TokenOutcome::Done(TokenAnswer::Prepared(prepared)) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(objects(&mut token), before, "trials leave nothing behind");
    let found = prepared.capabilities;
    assert!(
        found.mechanisms.contains(&0x210a),
        "{:x?}",
        found.mechanisms
    );
    assert_eq!((found.rfc5649, found.cbc_pad), (Some(0x210a), false));
    assert_eq!(found.oaep_hashes, [OaepHash::Sha1]);
    assert!(found.copyable && found.modifiable && found.digest_key && found.copy);
    assert_eq!(found.unextractable, Some(true));
    assert_eq!(found.duplicates, Duplicates::Allowed);
    assert!(found.atomic_set);
    assert_eq!(found.label_chars, 255);
    assert_eq!(found.sessions, SESSIONS_TRIED);
    for kind in &found.kinds {
        assert_eq!(kind.unwrap, Unwrap::Honest, "{kind:?}");
        for trial in &kind.usages {
            assert!(trial.change.holds(), "{:?} {trial:?}", kind.algorithm);
        }
    }
    let kinds: Vec<_> = found.kinds.iter().map(|kind| kind.algorithm).collect();
    let all = [
        Algorithm::Aes,
        Algorithm::Hmac,
        Algorithm::Des,
        Algorithm::Ec,
        Algorithm::Rsa,
    ];
    assert_eq!(kinds, all);
    let trial = |algorithm, class, usage| {
        let kind = found.kind(algorithm).unwrap();
        let mut trials = kind.usages.iter();
        trials
            .find(|one| (one.class, one.usage) == (class, usage))
            .unwrap()
            .clone()
    };
    for (algorithm, class, usage) in [
        (Algorithm::Aes, ObjectClass::Secret, Usage::Encrypt),
        (Algorithm::Aes, ObjectClass::Secret, Usage::Wrap),
        (Algorithm::Hmac, ObjectClass::Secret, Usage::Sign),
        (Algorithm::Ec, ObjectClass::Private, Usage::Sign),
        (Algorithm::Ec, ObjectClass::Private, Usage::Derive),
        (Algorithm::Ec, ObjectClass::Public, Usage::Verify),
        (Algorithm::Rsa, ObjectClass::Private, Usage::Decrypt),
    ] {
        let one = trial(algorithm, class, usage);
        assert_eq!(one.change, FlagChange::Enforced, "{one:?}");
        assert_eq!(one.answer, "CKR_KEY_FUNCTION_NOT_PERMITTED", "{one:?}");
    }
    let again = token.perform(&TokenJob::Prepare { internal: true });
    let TokenOutcome::Done(TokenAnswer::Prepared(again)) = again else {
        panic!("{again:?}");
    };
    assert_eq!(again.capabilities, found, "a probe finds the same again");
    assert_eq!(found.regressions(&again.capabilities), []);
}

fn objects(token: &mut Pkcs11Token) -> usize {
    let (_, all) = contract::scan::inventory(token).unwrap();
    all.objects.len()
}
