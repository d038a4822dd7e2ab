//! The module host over real SoftHSM2 tokens: the contract, and tokens that go away, come back, or are made anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lockstep::keystore::Keystore as _;
use lockstep::keystore::contract;
use lockstep::keystore::host::blocking::BlockingHost;
use lockstep::keystore::host::handle::{HostConfig, HostLimits};
use lockstep::model::ids::{Epoch, KeystoreId};
use lockstep::model::job::{FailureKind, TokenAnswer, TokenFailure, TokenJob, TokenOutcome};
use lockstep::model::key::{Algorithm, KeySpec};
use lockstep::model::keystore::Marker;
use uuid::Uuid;

use crate::support::example;
use crate::support::pin::TestPin;
use crate::support::softhsm::{SoftHsm, Token};

const MARKER: Marker = Marker {
    keystore: KeystoreId::from_uuid(Uuid::from_u128(7)),
    epoch: Epoch(1),
};

fn host(token: &Token, pin: &Arc<TestPin>) -> BlockingHost {
    let conf = token.conf.display().to_string();
    BlockingHost::start(HostConfig {
        program: example("host_fixture"),
        args: Vec::new(),
        env: BTreeMap::from([
            ("LOCKSTEP_LOG".to_owned(), "error".to_owned()),
            ("SOFTHSM2_CONF".to_owned(), conf),
        ]),
        module: token.module.clone(),
        label: token.label.clone(),
        serial: token.serial.clone(),
        init_args: None,
        pin: pin.clone(),
        limits: HostLimits {
            pause_first: Duration::from_millis(20),
            failures_max: 100,
            pause_max: Duration::from_millis(100),
            ..HostLimits::default()
        },
    })
    .unwrap()
}

fn opened(token: &Token) -> BlockingHost {
    host(token, &Arc::new(TestPin::of_file(&token.pin_file)))
}

/// The directory of the one token of a fixture.
fn directory_of(token: &Token) -> PathBuf {
    let mut inside = std::fs::read_dir(&token.tokens).unwrap();
    let directory = inside.next().unwrap().unwrap().path();
    assert!(inside.next().is_none(), "one token");
    directory
}

fn markers(host: &mut BlockingHost) -> Result<Vec<Marker>, TokenFailure> {
    match host.perform(&TokenJob::Identify) {
        TokenOutcome::Done(TokenAnswer::Identity(identity)) => Ok(identity.markers),
        TokenOutcome::Failed(failure) => Err(failure),
        TokenOutcome::Done(other) => panic!("{other:?}"),
        TokenOutcome::Unknown { why } => panic!("{why}"),
    }
}

/// Asks until the token says that it is ours; every answer on the way must be a failure, never an empty token.
fn until_ours(host: &mut BlockingHost) -> Vec<FailureKind> {
    let mut failures = Vec::new();
    for _try in 0..50 {
        match markers(host) {
            Ok(markers) => {
                assert_eq!(markers, [MARKER], "an empty token is never believed");
                return failures;
            }
            Err(failure) => failures.push(failure.kind),
        }
    }
    panic!("{failures:?}");
}

#[test]
fn the_contract_holds_over_the_host() {
    let hsm = SoftHsm::new();
    let (home, away) = (hsm.token("home"), hsm.token("away"));
    let kinds = [
        KeySpec::new(Algorithm::Aes, 256).unwrap(),
        KeySpec::new(Algorithm::Ec, 256).unwrap(),
    ];
    let (mut home, mut away) = (opened(&home), opened(&away));
    if let Err(violation) = contract::check(&mut home, &mut away, &kinds) {
        panic!("{violation}");
    }
    assert_eq!(home.handle().status().failures, 0);
}

#[test]
fn a_token_that_was_away_is_found_again_by_a_new_process() {
    let hsm = SoftHsm::new();
    let token = hsm.token("home");
    let mut host = opened(&token);
    assert_eq!(
        host.perform(&TokenJob::Bind(MARKER)),
        TokenOutcome::Done(TokenAnswer::Bound)
    );
    assert_eq!(markers(&mut host).unwrap(), [MARKER]);
    let directory = directory_of(&token);
    let elsewhere = hsm.dir().join("elsewhere");

    std::fs::rename(&directory, &elsewhere).unwrap();
    let gone = markers(&mut host).unwrap_err();
    assert_eq!(gone.kind, FailureKind::Restart, "{gone}");
    let gone = markers(&mut host).unwrap_err();
    assert_eq!(gone.kind, FailureKind::NoToken, "{gone}");
    std::fs::rename(&elsewhere, &directory).unwrap();
    until_ours(&mut host);

    // SoftHSM2 lists no objects now: a scan must not take that for an empty token.
    std::fs::rename(&directory, &elsewhere).unwrap();
    let blind = host.perform(&TokenJob::Scan);
    assert!(matches!(blind, TokenOutcome::Failed(_)), "{blind:?}");
    std::fs::rename(&elsewhere, &directory).unwrap();
    until_ours(&mut host);
    let (identity, _) = contract::scan::inventory(&mut host).unwrap();
    assert_eq!(identity.markers, [MARKER]);
}

#[test]
fn a_token_made_anew_has_no_marker_and_refuses_the_old_pin_once() {
    let hsm = SoftHsm::new();
    let token = hsm.token("home");
    let pin = Arc::new(TestPin::of_file(&token.pin_file));
    let mut host = host(&token, &pin);
    host.perform(&TokenJob::Bind(MARKER));
    assert_eq!(markers(&mut host).unwrap(), [MARKER]);
    initialise_again(&token, "another-pin");
    let kinds: Vec<FailureKind> = (0..10)
        .map(|_| markers(&mut host).unwrap_err().kind)
        .collect();
    assert_eq!(
        kinds[0],
        FailureKind::Restart,
        "the marker is missed: {kinds:?}"
    );
    assert!(
        kinds[1..].iter().all(|kind| *kind == FailureKind::WrongPin),
        "{kinds:?}"
    );
    let said = pin.said();
    let refused = said.iter().filter(|said| said.starts_with("refused"));
    assert_eq!(refused.count(), 1, "{said:?}");
    pin.set("another-pin");
    assert_eq!(markers(&mut host).unwrap(), []);
}

fn initialise_again(token: &Token, pin: &str) {
    let so_pin = std::fs::read_to_string(&token.so_pin_file).unwrap();
    let done = Command::new("softhsm2-util")
        .args(["--init-token", "--serial", &token.serial])
        .args(["--label", &token.label, "--pin", pin])
        .args(["--so-pin", so_pin.trim()])
        .env("SOFTHSM2_CONF", &token.conf)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn a_module_that_is_none_is_named() {
    let hsm = SoftHsm::new();
    let mut token = hsm.token("home");
    token.module = Path::new("/dev/null").to_owned();
    let failure = markers(&mut opened(&token)).unwrap_err();
    assert_eq!(failure.function, "load module", "{failure}");
}

#[test]
fn a_killed_host_leaves_the_token_as_it_was() {
    let hsm = SoftHsm::new();
    let token = hsm.token("home");
    let mut host = opened(&token);
    host.perform(&TokenJob::Bind(MARKER));
    for round in 1..=3 {
        assert_eq!(markers(&mut host).unwrap(), [MARKER]);
        let status = host.handle().status();
        assert_eq!(status.starts, round);
        let pid = status.pid().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args(["-9", &pid])
                .status()
                .unwrap()
                .success()
        );
        // Until the death is seen a job may still be put into the dead process: unknown, and nothing else.
        while host.handle().status().pid().is_some() {
            std::thread::yield_now();
        }
    }
}
