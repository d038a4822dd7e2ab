//! A store whose process dies or may write no more. Each test starts itself again as that process.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep::coordinator::store::{Store, StoreError};
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};

use crate::store_contract::records::{audit, vault};
use crate::store_contract::sqlite::{insert, open, place};
use crate::store_contract::{ALL, Page};

/// Where the process that a test starts finds its store.
const PLACE: &str = "LOCKSTEP_TEST_STORE";

/// Callers at once in the process that is killed.
const CALLERS: usize = 16;

/// Answers after which it is killed.
const ACKNOWLEDGED: usize = 100;

/// How often it is killed, always with the same store.
const ROUNDS: usize = 6;

/// The store of this process, if a test started it.
fn started_for() -> Option<PathBuf> {
    std::env::var_os(PLACE).map(PathBuf::from)
}

/// Starts this very test again for a store; `before` are shell commands.
fn start(test: &str, store: &Path, before: &str) -> Child {
    Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{before} exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(PLACE, store)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A line of its own: the test harness leaves one unfinished.
fn say(word: &str, name: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{word} {name}").unwrap();
    out.flush().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_process_loses_nothing_acknowledged() {
    if let Some(path) = started_for() {
        write_until_killed(&path).await;
    }
    let (_directory, path) = place();
    let mut acknowledged = BTreeSet::new();
    for _ in 0..ROUNDS {
        let test = "store_contract::processes::killed_process_loses_nothing_acknowledged";
        let ended = start(test, &path, "").wait_with_output().unwrap();
        assert_eq!(ended.status.signal(), Some(Signal::KILL.as_raw()));
        let out = String::from_utf8(ended.stdout).unwrap();
        let told = out.lines().filter_map(|line| line.strip_prefix("ack "));
        acknowledged.extend(told.map(str::to_owned));
        let store = open(&path);
        let kept = names(&store).await;
        let lost: Vec<_> = acknowledged.difference(&kept).collect();
        assert!(lost.is_empty(), "{lost:?}");
        // What was under way when it was killed is there with its audit entry, or not at all.
        let audits = store.audit_list(None, ALL).await.unwrap().total;
        assert_eq!(audits, u64::try_from(kept.len()).unwrap());
    }
    assert!(acknowledged.len() >= ROUNDS * ACKNOWLEDGED);
}

async fn names(store: &dyn Store) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for offset in (0..).step_by(1000) {
        let page = Page {
            limit: 1000,
            offset,
        };
        let found = store.vault_list(None, page).await.unwrap();
        if found.items.is_empty() {
            break;
        }
        names.extend(found.items.into_iter().map(|vault| vault.name));
    }
    names
}

/// Kills itself the moment that a caller was answered: an answer before its COMMIT would be caught.
async fn write_until_killed(path: &Path) {
    let store = Arc::new(open(path));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (store, answered) = (Arc::clone(&store), Arc::clone(&answered));
        callers.spawn(async move {
            loop {
                let vault = vault("kept");
                let mut change = insert(&vault);
                change.audit.push(audit("vault", &vault.name));
                store.commit(change).await.unwrap();
                say("ack", &vault.name);
                if answered.fetch_add(1, Ordering::Relaxed) + 1 == ACKNOWLEDGED {
                    kill_process(getpid(), Signal::KILL).unwrap();
                }
            }
        });
    }
    callers.join_all().await;
}

#[tokio::test]
async fn process_that_may_write_no_more_loses_nothing_and_recovers() {
    if let Some(path) = started_for() {
        write_against_a_limit(&path).await;
        return;
    }
    let (_directory, path) = place();
    drop(open(&path));
    let test =
        "store_contract::processes::process_that_may_write_no_more_loses_nothing_and_recovers";
    // Files of at most 4000 blocks of 512 bytes; the signal that goes with it would end the process.
    let child = start(test, &path, "trap '' XFSZ; ulimit -S -f 4000;");
    let ended = child.wait_with_output().unwrap();
    let out = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{out}");
    let told = |word: &str| -> BTreeSet<String> {
        out.lines()
            .filter_map(|line| line.strip_prefix(word))
            .map(|name| name.trim().to_owned())
            .collect()
    };
    let (acknowledged, refused) = (told("ack "), told("refused "));
    assert!(acknowledged.len() > 50, "{out}");
    assert!(!refused.is_empty(), "{out}");
    let store = open(&path);
    assert_eq!(names(&store).await, acknowledged);
}

async fn write_against_a_limit(path: &Path) {
    let store = open(path);
    let mut refused = 0;
    while refused < 5 {
        let vault = vault("limited");
        match store.commit(insert(&vault)).await {
            Ok(_) => say("ack", &vault.name),
            Err(StoreError::Unavailable { .. } | StoreError::Full) => {
                refused += 1;
                say("refused", &vault.name);
            }
            Err(error) => panic!("{error}"),
        }
    }
    // Reading goes on, and as soon as there is room so does writing.
    store.vault_list(None, ALL).await.unwrap();
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    let lifted = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Fsize, lifted).unwrap();
    let vault = vault("recovered");
    store.commit(insert(&vault)).await.unwrap();
    say("ack", &vault.name);
}
