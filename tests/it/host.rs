//! The module host with a scripted token (`examples/host_fixture.rs`): deadlines, deaths, restarts, PINs, bad bytes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lockstep::keystore::Keystore as _;
use lockstep::keystore::host::blocking::BlockingHost;
use lockstep::keystore::host::frame;
use lockstep::keystore::host::handle::{HostConfig, HostHandle, HostLimits, HostState, HostStatus};
use lockstep::keystore::host::protocol::{Answer, Pin, Request, Setup};
use lockstep::model::capabilities::Strategy;
use lockstep::model::desired::ObjectPlan;
use lockstep::model::ids::Digest;
use lockstep::model::job::{
    FailureKind, RunJob, TokenAnswer, TokenFailure, TokenJob, TokenOutcome,
};
use lockstep::model::key::{Algorithm, DeactivatedUsage, KeySpec, UsageSet};
use lockstep::model::keystore::Health;
use lockstep::model::observed::{Fingerprint, FingerprintMethod, ObjectClass};
use lockstep::model::step::Step;
use tokio::task::JoinSet;

use crate::support::example;
use crate::support::pin::TestPin;

/// Long enough that only a fault reaches it.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(150);

fn config(label: &str, pin: &Arc<TestPin>) -> HostConfig {
    HostConfig {
        program: example("host_fixture"),
        args: Vec::new(),
        env: BTreeMap::from([("LOCKSTEP_LOG".to_owned(), "error".to_owned())]),
        module: "/nowhere/module.so".into(),
        label: label.to_owned(),
        serial: String::new(),
        init_args: None,
        pin: pin.clone(),
        limits: HostLimits {
            pause_first: Duration::from_millis(20),
            write_grace: LONG,
            ..HostLimits::default()
        },
    }
}

fn home() -> HostConfig {
    config("home", &Arc::new(TestPin::of("1234")))
}

fn plan(script: &str) -> ObjectPlan {
    ObjectPlan {
        cka_id: vec![1],
        label: script.to_owned(),
        spec: KeySpec::new(Algorithm::Aes, 256).unwrap(),
        usage: UsageSet::NONE,
        deactivated_usage: DeactivatedUsage::None,
        salt: Vec::new(),
        strategy: Strategy::Flags,
    }
}

fn read(script: &str) -> TokenJob {
    TokenJob::Inspect(plan(script))
}

fn write(script: &str) -> TokenJob {
    TokenJob::Run(Box::new(RunJob {
        object: plan(script),
        fingerprint: Fingerprint {
            method: FingerprintMethod::Spki,
            value: Digest([0; 32]),
        },
        steps: vec![Step::Destroy {
            class: ObjectClass::Secret,
        }],
        envelope: None,
        hints: Vec::new(),
    }))
}

/// What the fixture sent back.
fn echo(outcome: &TokenOutcome) -> &str {
    let TokenOutcome::Done(answer) = outcome else {
        panic!("{outcome:?}");
    };
    let found = match answer {
        TokenAnswer::Found(found) => found,
        TokenAnswer::Ran(ran) => &ran.found,
        TokenAnswer::Identity(_)
        | TokenAnswer::Bound
        | TokenAnswer::Prepared(_)
        | TokenAnswer::Slice(_)
        | TokenAnswer::Inventory(_)
        | TokenAnswer::Surveyed(_)
        | TokenAnswer::Generated(_)
        | TokenAnswer::Rewrapped(_)
        | TokenAnswer::TakenOver(_)
        | TokenAnswer::Keks(_)
        | TokenAnswer::Stopping => panic!("{answer:?}"),
    };
    found.fingerprint_failure.as_deref().unwrap()
}

fn why(outcome: TokenOutcome) -> String {
    let TokenOutcome::Unknown { why } = outcome else {
        panic!("{outcome:?}");
    };
    why
}

fn failed(outcome: TokenOutcome) -> TokenFailure {
    let TokenOutcome::Failed(failure) = outcome else {
        panic!("{outcome:?}");
    };
    failure
}

async fn wait_for(host: &HostHandle, wanted: impl FnMut(&HostStatus) -> bool) -> HostStatus {
    let mut watch = host.watch();
    let reached = tokio::time::timeout(LONG, watch.wait_for(wanted)).await;
    reached.expect("in time").expect("a host").clone()
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_at_once_each_get_their_own_answer_from_one_process() {
    let host = HostHandle::start(home());
    assert_eq!(host.status().state, HostState::Idle);
    let mut callers = JoinSet::new();
    for number in 0..2000 {
        let host = host.clone();
        callers.spawn(async move {
            let script = format!("caller-{number}");
            let outcome = host.perform(read(&script), LONG).await;
            assert_eq!(echo(&outcome), script);
        });
    }
    assert_eq!(callers.join_all().await.len(), 2000);
    let status = host.status();
    assert_eq!((status.starts, status.failures), (1, 0));
    assert!(is_there(status.pid().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_read_is_unknown_and_its_host_is_killed_and_replaced() {
    let host = HostHandle::start(home());
    host.perform(read("warm"), LONG).await;
    let first = host.status().pid().unwrap();
    let late = host.perform(read("hang"), SHORT).await;
    assert!(why(late).contains("within 150ms"));
    let down = wait_for(&host, |status| status.pid().is_none()).await;
    assert!(
        matches!(&down.state, HostState::Down { why } if why.contains("signal: 9")),
        "{down:?}"
    );
    assert!(matches!(down.health(&home()), Health::ModuleFailed { .. }));
    assert!(!is_there(first), "killed and reaped");
    let outcome = host.perform(read("again"), LONG).await;
    assert_eq!(echo(&outcome), "again");
    let status = host.status();
    assert_eq!((status.starts, status.failures), (2, 1));
    assert_ne!(status.pid().unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_is_unknown_at_once_but_may_end_in_its_grace() {
    let directory = tempfile::tempdir().unwrap();
    let done = directory.path().join("done");
    let host = HostHandle::start(home());
    let script = format!("touch {}", done.display());
    let late = host
        .perform(write(&script), Duration::from_millis(50))
        .await;
    assert!(why(late).contains("within 50ms"));
    assert!(!done.exists(), "told before the end");
    let next = host.perform(read("next"), LONG).await;
    assert_eq!(
        echo(&next),
        "next",
        "the late answer is not taken for this one"
    );
    assert!(done.exists(), "not killed in the midst of the write");
    assert_eq!(host.status().starts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_outlives_its_grace_is_killed() {
    let mut config = home();
    config.limits.write_grace = SHORT;
    let host = HostHandle::start(config);
    let late = host.perform(write("hang"), SHORT).await;
    why(late);
    let down = wait_for(&host, |status| {
        matches!(status.state, HostState::Down { .. })
    })
    .await;
    assert_eq!(down.failures, 1);
    assert_eq!(echo(&host.perform(write("next"), LONG).await), "next");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_makes_the_job_in_it_unknown_and_no_other() {
    let host = HostHandle::start(home());
    let jobs = ["one", "abort", "two", "exit", "three"];
    let mut callers = JoinSet::new();
    for script in jobs {
        let host = host.clone();
        callers.spawn(async move { (script, host.perform(read(script), LONG).await) });
    }
    for (script, outcome) in callers.join_all().await {
        match script {
            "abort" => assert!(why(outcome).contains("signal: 6")),
            "exit" => assert!(why(outcome).contains("exit status: 3")),
            _ => assert_eq!(echo(&outcome), script),
        }
    }
    assert!(host.status().starts >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_died_idle_is_seen_and_costs_no_job() {
    let host = HostHandle::start(home());
    for round in 1..=3 {
        assert_eq!(echo(&host.perform(read("job"), LONG).await), "job");
        let status = host.status();
        assert_eq!(status.starts, round);
        let killed = Command::new("kill")
            .args(["-9", &status.pid().unwrap().to_string()])
            .status();
        assert!(killed.unwrap().success());
        let down = wait_for(&host, |status| status.pid().is_none()).await;
        assert!(matches!(&down.state, HostState::Down { why } if why.contains("signal: 9")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_repeated_deaths_jobs_fail_at_once_until_the_pause_is_over() {
    let mut config = config("crash", &Arc::new(TestPin::of("1234")));
    config.limits.failures_max = 3;
    config.limits.pause_max = LONG;
    let host = HostHandle::start(config);
    for start in 1..=3 {
        let failure = failed(host.perform(read("job"), LONG).await);
        assert_eq!(failure.kind, FailureKind::Restart);
        assert!(failure.detail.contains("signal: 6"), "{failure}");
        assert_eq!(host.status().starts, start);
    }
    for _ in 0..50 {
        let failure = failed(host.perform(read("job"), LONG).await);
        assert!(failure.detail.contains("3 times in a row"), "{failure}");
    }
    assert_eq!(host.status().starts, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_pin_is_tried_once_and_another_one_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let logins = directory.path().join("logins");
    let pin = Arc::new(TestPin::of("9999"));
    let mut config = config("home", &pin);
    config.init_args = Some(logins.display().to_string());
    let host = HostHandle::start(config.clone());
    for _ in 0..20 {
        let failure = failed(host.perform(read("job"), LONG).await);
        assert_eq!(failure.kind, FailureKind::WrongPin);
    }
    assert_eq!(std::fs::read_to_string(&logins).unwrap(), "login\n");
    assert_eq!(host.status().health(&config), Health::WrongPin);
    assert_eq!(pin.said(), ["refused 9999"]);
    pin.set("1234");
    assert_eq!(echo(&host.perform(read("job"), LONG).await), "job");
    assert_eq!(std::fs::read_to_string(&logins).unwrap(), "login\nlogin\n");
    assert_eq!(pin.said(), ["refused 9999", "taken 1234"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_token_is_told_as_such() {
    let config = config("missing", &Arc::new(TestPin::of("1234")));
    let host = HostHandle::start(config.clone());
    let failure = failed(host.perform(read("job"), LONG).await);
    assert_eq!(failure.kind, FailureKind::NoToken);
    assert!(matches!(
        host.status().health(&config),
        Health::TokenNotFound { .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_that_prints_does_not_disturb_the_answers() {
    let host = HostHandle::start(home());
    for _ in 0..3 {
        assert_eq!(echo(&host.perform(read("babble"), LONG).await), "babble");
    }
    assert_eq!(host.status().failures, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_speaks_another_language_is_ended_and_named() {
    let mut config = home();
    config.program = "/bin/sh".into();
    config.args = vec!["-c".into(), "echo hello, I am no module host; cat".into()];
    let host = HostHandle::start(config);
    let failure = failed(host.perform(read("job"), LONG).await);
    assert_eq!(failure.kind, FailureKind::Restart);
    assert!(failure.detail.contains("longer than"), "{failure}");
    assert_eq!(host.status().pid(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_the_process_and_a_later_job_starts_another() {
    let host = HostHandle::start(home());
    let not_running = host.perform(TokenJob::Stop, LONG).await;
    assert_eq!(not_running, TokenOutcome::Done(TokenAnswer::Stopping));
    assert_eq!(host.status().starts, 0, "none is started to be stopped");
    host.perform(read("job"), LONG).await;
    let pid = host.status().pid().unwrap();
    let stopped = host.perform(TokenJob::Stop, LONG).await;
    assert_eq!(stopped, TokenOutcome::Done(TokenAnswer::Stopping));
    assert!(!is_there(pid));
    assert_eq!(host.status().state, HostState::Idle);
    assert_eq!(echo(&host.perform(read("more"), LONG).await), "more");
    let status = host.status();
    assert_eq!((status.starts, status.failures), (2, 0));
}

#[test]
fn the_blocking_host_is_a_keystore() {
    let mut host = BlockingHost::start(home()).unwrap();
    assert_eq!(echo(&host.perform(&read("job"))), "job");
    assert_eq!(echo(&host.perform(&write("job"))), "job");
    assert!(matches!(
        host.perform(&TokenJob::Scan),
        TokenOutcome::Failed(_)
    ));
}

/// The child alone, spoken to by hand.
struct Alone {
    child: Child,
    requests: ChildStdin,
    answers: ChildStdout,
}

fn alone() -> Alone {
    let mut child = Command::new(example("host_fixture"))
        .env("LOCKSTEP_LOG", "off")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut requests = child.stdin.take().unwrap();
    let mut answers = child.stdout.take().unwrap();
    let setup = Request::Setup(Setup {
        module: "/nowhere/module.so".into(),
        label: "home".to_owned(),
        serial: String::new(),
        init_args: None,
        pin: Pin::new("1234".into()),
        unsure: false,
    });
    frame::write(&mut requests, &setup).unwrap();
    let opened: Option<Answer> = frame::read(&mut answers).unwrap();
    assert!(matches!(opened, Some(Answer::Opened)));
    Alone {
        child,
        requests,
        answers,
    }
}

#[test]
fn an_orphan_finishes_the_call_under_way_and_begins_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["first", "second", "third"].map(|name| directory.path().join(name));
    let mut host = alone();
    for (id, path) in (1..).zip(&paths) {
        let job = write(&format!("touch {}", path.display()));
        frame::write(&mut host.requests, &Request::Job { id, job }).unwrap();
    }
    let answer: Option<Answer> = frame::read(&mut host.answers).unwrap();
    assert!(matches!(answer, Some(Answer::Outcome { id: 1, .. })));
    // The second is under way now: the main thread takes it as soon as it has answered the first.
    drop(host.requests);
    let status = host.child.wait().unwrap();
    assert!(paths[0].exists());
    assert!(!paths[2].exists(), "begun although nobody was there");
    // It ended by itself, or, if the second had begun, when its answer found nobody.
    assert!(status.code().is_some(), "{status}");
}

#[test]
fn signals_to_the_group_do_not_reach_a_call() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("done");
    let mut host = alone();
    let job = write(&format!("touch {}", path.display()));
    frame::write(&mut host.requests, &Request::Job { id: 1, job }).unwrap();
    for signal in ["-TERM", "-INT", "-HUP", "-QUIT"] {
        let pid = host.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }
    let answer: Option<Answer> = frame::read(&mut host.answers).unwrap();
    assert!(matches!(answer, Some(Answer::Outcome { id: 1, .. })));
    assert!(path.exists());
    drop(host.requests);
    assert!(host.child.wait().unwrap().success());
}

#[test]
fn bytes_that_are_no_frame_end_the_child() {
    let mut host = alone();
    host.requests
        .write_all(b"\xff\xff\xff\xff garbage")
        .unwrap();
    assert_eq!(host.child.wait().unwrap().code(), Some(76));
}

#[test]
fn the_child_dumps_no_core() {
    let mut host = alone();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", host.child.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core"))
        .unwrap();
    let words: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"]);
    drop(host.requests);
    assert!(host.child.wait().unwrap().success());
}
