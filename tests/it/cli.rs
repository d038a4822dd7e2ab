//! The command line as a process, over a real coordinator's API on loopback; the agents are on paper.
//!
//! Scripts in, transcripts out: `tests/it/cli/*.txt` hold both. `LOCKSTEP_BLESS=1` writes the outputs anew.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lockstep::cli::authority::{self, Order};
use lockstep::clock::unix_ms;
use lockstep::coordinator::api::serve::{Scheme, serve};
use lockstep::coordinator::ops::bulk_run;
use lockstep::model::capabilities::FlagChange;
use lockstep::model::difference::Reason;
use lockstep::model::ids::{KeyVersionId, KeystoreId};
use lockstep::model::key::{Algorithm, Usage};
use lockstep::model::keystore::{Health, Variant};
use lockstep::model::observed::Observation;
use lockstep::tls::config::https_config;
use lockstep::tls::name::{PeerName, Role};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::rest::{ADMIN, Coordinator, READER};

const LOCKSTEP: &str = env!("CARGO_BIN_EXE_lockstep");

/// A coordinator that listens, and the files that its clients need.
struct Desk {
    coordinator: Coordinator,
    url: String,
    dir: TempDir,
    _stop: oneshot::Sender<()>,
    _ended: DropGuard,
}

impl Desk {
    async fn open() -> Self {
        Self::open_with("http", Scheme::Http).await
    }

    async fn open_with(kind: &str, scheme: Scheme) -> Self {
        let coordinator = Coordinator::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{kind}://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let router = coordinator.router.clone();
        tokio::spawn(serve(listener, router, scheme, async {
            let _either_way = stopped.await;
        }));
        let ended = CancellationToken::new();
        let ops = std::sync::Arc::clone(&coordinator.ops);
        tokio::spawn(bulk_run::run(ops, ended.clone()));
        let dir = tempfile::tempdir().unwrap();
        let desk = Self {
            _ended: ended.drop_guard(),
            coordinator,
            url,
            dir,
            _stop: stop,
        };
        desk.secret("token", ADMIN, 0o600);
        desk
    }

    fn secret(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Runs one command; words are split at spaces, except within single quotes.
    async fn run(&self, line: &str) -> Output {
        self.run_as(line, &self.dir.path().join("token")).await
    }

    async fn run_as(&self, line: &str, token: &Path) -> Output {
        let mut command = Command::new(LOCKSTEP);
        command
            .args(split(line))
            .env_clear()
            .env("LOCKSTEP_URL", &self.url)
            .env("LOCKSTEP_TOKEN_FILE", token)
            .stdin(std::process::Stdio::null());
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    async fn id(&self, keystore: &str) -> KeystoreId {
        let shown = self
            .run(&format!("keystore show {keystore} --output json"))
            .await;
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        shown["id"].as_str().unwrap().parse().unwrap()
    }

    async fn version(&self, key: &str) -> KeyVersionId {
        let shown = self.run(&format!("key show {key} --output json")).await;
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        shown["instances"][0]["id"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// The newest bulk change.
    async fn bulk(&self) -> String {
        let listed = self.run("bulk list --output json").await;
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        listed[0]["id"].as_str().unwrap().to_owned()
    }

    /// What happens outside: `agent NAME`, `internal NAME`, `down NAME`, `up NAME`, `refuse NAME`, `relent NAME`,
    /// `lose KEY NAME`, `regress NAME`: its token loses a wrapping, and what keeps AES keys from encrypting.
    async fn happens(&self, line: &str) {
        let fleet = &self.coordinator.fleet;
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["agent", name] => {
                fleet.add(name, Variant::External);
            }
            ["internal", name] => {
                fleet.add(name, Variant::Internal);
            }
            ["down", name] => fleet.set_up(self.id(name).await, false),
            ["up", name] => fleet.set_up(self.id(name).await, true),
            ["refuse", name] => fleet.set_refusing(self.id(name).await, true),
            ["relent", name] => fleet.set_refusing(self.id(name).await, false),
            ["wrong-pin", name] => fleet.set_health(self.id(name).await, Health::WrongPin),
            ["well", name] => fleet.set_health(self.id(name).await, Health::Ok),
            ["lose", key, name] => {
                let (id, version) = (self.id(name).await, self.version(key).await);
                fleet.tamper(id, version, Reason::Missing, |observation| {
                    *observation = Observation::Absent { same_label: vec![] };
                });
            }
            ["regress", name] => fleet.lose(self.id(name).await, |can| {
                can.cbc_pad = false;
                let aes = can
                    .kinds
                    .iter_mut()
                    .filter(|kind| kind.algorithm == Algorithm::Aes);
                let mut trials = aes.flat_map(|kind| &mut kind.usages);
                let encrypt = trials.find(|trial| trial.usage == Usage::Encrypt);
                encrypt.unwrap().change = FlagChange::NotEnforced;
            }),
            other => panic!("nobody knows {other:?}"),
        }
    }
}

fn split(line: &str) -> Vec<String> {
    let mut words = vec![];
    for (place, part) in line.split('\'').enumerate() {
        if place % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// What one command wrote, and its exit code unless 0. Lines of progress depend on the pace and are left out.
fn told(output: &Output) -> String {
    let mut lines: Vec<String> = Vec::new();
    let err = String::from_utf8_lossy(&output.stderr);
    lines.extend(
        err.lines()
            .filter(|line| !line.starts_with("  "))
            .map(steady),
    );
    lines.extend(String::from_utf8_lossy(&output.stdout).lines().map(steady));
    match output.status.code() {
        Some(0) => {}
        code => lines.push(format!("(exit {})", code.unwrap())),
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A line without what differs from run to run: ids, digests, times and ages.
fn steady(line: &str) -> String {
    let words: Vec<String> = line.split(' ').map(steady_word).collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    for place in 1..words.len() {
        let unit = words[place].trim_end_matches([',', ')']);
        if matches!(unit, "s" | "min") && words[place - 1].chars().all(|c| c.is_ascii_digit()) {
            words[place - 1] = "N";
        }
    }
    words.join(" ")
}

fn steady_word(word: &str) -> String {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let hex = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = bare.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let is_id = lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| hex(part));
    let is_time = bare.parse::<jiff::Timestamp>().is_ok();
    let is_date = bare.parse::<jiff::civil::Date>().is_ok();
    if let Some((before, id)) = bare.split_once('/') {
        return word.replace(bare, &format!("{before}/{}", steady_word(id)));
    }
    match () {
        () if bare.is_empty() => word.to_owned(),
        () if is_id => word.replace(bare, "<id>"),
        () if is_time => word.replace(bare, "<time>"),
        () if is_date => word.replace(bare, "<date>"),
        () if hex(bare) && bare.len() >= 16 => word.replace(bare, "<hex>"),
        () => word.to_owned(),
    }
}

/// Plays `tests/it/cli/<name>.txt`: `$` runs a command, `$$` too, with the newest bulk change for
/// BULK, `!` makes something happen, `#` is prose; all else is output.
async fn play(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/cli/{name}.txt"));
    let script = std::fs::read_to_string(&path).unwrap();
    let desk = Desk::open().await;
    let mut transcript = String::new();
    for line in script.lines() {
        match line.split_at_checked(2) {
            Some(("$ ", command)) => {
                transcript += &format!("{line}\n");
                let command = command.strip_prefix("lockstep ").unwrap();
                transcript += &told(&desk.run(command).await);
            }
            Some(("$$", command)) => {
                transcript += &format!("{line}\n");
                let command = command.trim().strip_prefix("lockstep ").unwrap();
                let command = command.replace("BULK", &desk.bulk().await);
                transcript += &told(&desk.run(&command).await);
            }
            Some(("! ", event)) => {
                transcript += &format!("{line}\n");
                desk.happens(event).await;
            }
            Some(("# ", _)) => transcript += &format!("\n{line}\n"),
            _ => {}
        }
    }
    let transcript = transcript.trim_start().to_owned();
    if std::env::var_os("LOCKSTEP_BLESS").is_some() {
        std::fs::write(&path, &transcript).unwrap();
    }
    assert!(transcript == script, "{}:\n{transcript}", path.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_key() {
    play("life").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_success_is_told() {
    play("partly").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_change_stops_at_its_canary() {
    play("bulk").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_dates() {
    play("time").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told() {
    play("refusals").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hold_any_more_is_told() {
    play("losses").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_so() {
    let desk = Desk::open().await;
    let reader = desk.secret("reader", READER, 0o600);
    let refused = desk.run_as("vault create --name a", &reader).await;
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let open = desk.secret("open", ADMIN, 0o644);
    let refused = desk.run_as("vault list", &open).await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("chmod 600"), "{said}");
    assert!(!said.contains(ADMIN));
    let wrong = desk.secret("wrong", "lks_0000000000000000000000000000000000", 0o600);
    let refused = desk.run_as("vault list", &wrong).await;
    assert_eq!(refused.status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_temporary() {
    let desk = Desk::open().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    let refused = desk.run(&format!("vault list --url http://{free}")).await;
    assert_eq!(refused.status.code(), Some(75), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("does not answer"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_for_programs() {
    let desk = Desk::open().await;
    let made = desk.run("vault create --name a --output json").await;
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let listed = desk.run("vault list --output json").await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["id"], made["id"]);
    let gone = desk.run("vault delete a --output json").await;
    assert_eq!(gone.status.code(), Some(0));
    assert!(gone.stdout.is_empty(), "only answers go to standard output");
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_checked_against_the_ca_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let name = PeerName::new(Role::Coordinator, "main").unwrap();
    for (ca, out) in [("ca", "coordinator"), ("other-ca", "stranger")] {
        authority::init(&dir.path().join(ca), ca, unix_ms()).unwrap();
        let order = Order {
            name: &name,
            hosts: &["127.0.0.1".to_owned()],
            days: 1,
            now: unix_ms(),
        };
        authority::issue(&dir.path().join(ca), &order, &dir.path().join(out)).unwrap();
    }
    let files = dir.path().join("coordinator");
    let config = https_config(&files.join("cert.pem"), &files.join("key.pem")).unwrap();
    let desk = Desk::open_with("https", Scheme::Https(config)).await;
    let list = async |ca: &str| {
        let ca = dir.path().join(ca).join("ca.pem");
        desk.run(&format!("vault list --ca {}", ca.display())).await
    };
    let right = list("ca").await;
    assert_eq!(right.status.code(), Some(0), "{right:?}");
    let wrong = list("other-ca").await;
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("--ca names the CA to trust"), "{said}");
    let elsewhere = desk.url.replace("127.0.0.1", "localhost");
    let ca = dir.path().join("ca/ca.pem");
    let line = format!("vault list --url {elsewhere} --ca {}", ca.display());
    let not_named = desk.run(&line).await;
    assert_eq!(not_named.status.code(), Some(1), "{not_named:?}");
}
