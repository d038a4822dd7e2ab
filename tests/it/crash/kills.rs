//! SIGKILL at random points, while changes run on real tokens.
//!
//! Rounds: clerks change keys of their own, each change repeated with its Idempotency-Key until it is taken; meanwhile processes
//! are killed and started again. Then the clerks rest, and everything must be as the last change of each that was taken says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::crash::rig::{Asked, Rig, Subject, action_path, repeat, signal, signs};
use crate::crash::{is_whole, seed};
use crate::support::client::{Answer, Client};
use crate::support::kinds::Kind;
use crate::support::process::child_of;
use crate::support::softhsm::Token;

/// Kills of each kind of process.
const KILLS: u32 = 8;
const KILLS_WHOLE: u32 = 100;

/// Kills in a round.
const ROUND: usize = 10;

/// Keys that a clerk takes on into the next round.
const KEPT: usize = 2;

/// Who changes keys side by side.
const CLERKS: u32 = 3;

/// Longest pause between two kills, milliseconds.
const PAUSE_MS_MAX: u64 = 300;

/// A change is taken within this: several kills may come on its way.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// From the last restart to all in step. A module host that was killed twice within a minute is given a pause first.
const IN_STEP_WITHIN: Duration = Duration::from_secs(10);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Coordinator,
    Agent(&'static str),
    Host(&'static str),
}

/// Any process at any time: this token survives it.
#[test]
fn all_processes_on_kryoptic() {
    use Victim::{Agent, Coordinator, Host};
    let victims = [
        Coordinator,
        Agent("home"),
        Agent("away"),
        Host("home"),
        Host("away"),
    ];
    play(Kind::Kryoptic, &victims);
}

/// All but module hosts, which end their calls when their agents are gone: SoftHSM2 loses objects otherwise.
#[test]
fn servers_on_softhsm() {
    use Victim::{Agent, Coordinator};
    play(Kind::SoftHsm, &[Coordinator, Agent("home"), Agent("away")]);
}

/// A key of a clerk's, as the last change that was taken left it.
#[derive(Debug, Clone)]
struct Kept {
    subject: Subject,
    state: &'static str,
    is_pair: bool,
}

fn play(kind: Kind, victims: &[Victim]) {
    let times = if is_whole() { KILLS_WHOLE } else { KILLS };
    let mut rng = Rng::with_seed(seed());
    let mut deaths: Vec<Victim> = Vec::new();
    for _ in 0..times {
        let mut turn = victims.to_vec();
        rng.shuffle(&mut turn);
        deaths.extend(turn);
    }
    let mut rig = Rig::new(kind);
    let at = Arc::new(Mutex::new(rig.fleet.client()));
    let mut books: Vec<Vec<Kept>> = vec![Vec::new(); usize::try_from(CLERKS).unwrap()];
    let (mut changes, mut slowest) = (0, Duration::ZERO);
    for (round, deaths) in deaths.chunks(ROUND).enumerate() {
        let rest = Arc::new(AtomicBool::new(false));
        let clerks: Vec<_> = std::mem::take(&mut books)
            .into_iter()
            .enumerate()
            .map(|(number, book)| {
                let clerk = Clerk {
                    name: format!("r{round}-c{number}"),
                    at: Arc::clone(&at),
                    rest: Arc::clone(&rest),
                    rng: Rng::with_seed(rng.u64(..)),
                    bodies: Bodies::of(&rig),
                    // Others beside its host would have SoftHSM2 miss objects.
                    looks_at: (kind == Kind::Kryoptic).then(|| rig.away()),
                    book,
                    asked: 0,
                };
                thread::spawn(|| clerk.work())
            })
            .collect();
        for victim in deaths {
            thread::sleep(Duration::from_millis(rng.u64(..PAUSE_MS_MAX)));
            kill(&mut rig, *victim);
            *at.lock().unwrap() = rig.fleet.client();
        }
        rest.store(true, Ordering::SeqCst);
        for clerk in clerks {
            let (book, asked) = clerk.join().unwrap();
            books.push(book);
            changes += asked;
        }
        let began = Instant::now();
        for kept in books.iter().flatten() {
            settled(&rig, kept, began);
        }
        slowest = slowest.max(began.elapsed());
        for kept in books.iter().flatten() {
            check(&rig, kept);
        }
        rig.fleet.keeps_its_promises();
        // The newest of each clerk's are taken on into the next round. Tokens that grow would be what is measured at last.
        for book in &mut books {
            let older = book.len().saturating_sub(KEPT);
            book.drain(..older).for_each(|kept| destroy(&rig, &kept));
        }
    }
    let mut counts: BTreeMap<Victim, u32> = BTreeMap::new();
    for victim in &deaths {
        *counts.entry(*victim).or_default() += 1;
    }
    println!(
        "{}: killed {counts:?} while {changes} changes ran; in step again after {} ms at most",
        kind.name(),
        slowest.as_millis()
    );
}

/// Kills a process and starts it again, as a service manager does; a module host's agent does that itself.
fn kill(rig: &mut Rig, victim: Victim) {
    match victim {
        Victim::Coordinator => {
            rig.fleet.kill_coordinator();
            rig.fleet.start_coordinator();
        }
        Victim::Agent(name) => {
            rig.fleet.kill_agent(name);
            rig.fleet.start_agent(name);
        }
        // There may be none just now.
        Victim::Host(name) => {
            if let Some(host) = child_of(rig.fleet.agent_pid(name)) {
                signal(host, Signal::KILL);
            }
        }
    }
}

fn settled(rig: &Rig, kept: &Kept, began: Instant) {
    let path = kept.subject.path.as_deref().unwrap();
    loop {
        let told = rig.fleet.get(path);
        if told["phase"] == "in_step" {
            assert_eq!(told["state"], kept.state, "{kept:?}: {told:#}");
            return;
        }
        if began.elapsed() > IN_STEP_WITHIN {
            rig.fleet.tell_logs();
            let status = rig.fleet.get(&format!("{path}/status_in_keystores"));
            panic!("{kept:?}: not in step: {told:#}\n{status:#}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn destroy(rig: &Rig, kept: &Kept) {
    let actions: &[&str] = match kept.state {
        "active" => &["/deactivate", "/destroy"],
        "destroyed" => &[],
        _ => &["/destroy"],
    };
    for action in actions {
        rig.done("POST", &kept.subject, action, &Value::Null);
    }
}

/// What the token holds of it, as somebody sees it who knows nothing of Lockstep.
fn check(rig: &Rig, kept: &Kept) {
    let there = matches!(kept.state, "active" | "deactivated");
    let set = if kept.is_pair { 2 } else { 1 };
    let objects = rig.objects(&kept.subject.label);
    assert_eq!(objects, if there { set } else { 0 }, "{kept:?}: one set");
    if there && kept.is_pair {
        let id = rig.fleet.cka_id(kept.subject.path.as_deref().unwrap());
        assert_eq!(rig.signs(&id), kept.state == "active", "{kept:?}");
    }
}

/// Bodies of requests.
#[derive(Debug, Clone)]
struct Bodies {
    secret: Value,
    pair: Value,
    away: Value,
    nowhere: Value,
}

impl Bodies {
    fn of(rig: &Rig) -> Self {
        Self {
            secret: rig.new_key("secret", ""),
            pair: rig.new_key("pair", ""),
            away: rig.targets(true),
            nowhere: rig.targets(false),
        }
    }
}

/// Somebody who changes keys.
struct Clerk {
    name: String,
    at: Arc<Mutex<Client>>,
    rest: Arc<AtomicBool>,
    rng: Rng,
    bodies: Bodies,
    /// The token on which it tries keys that are said to be deactivated.
    looks_at: Option<Token>,
    book: Vec<Kept>,
    asked: u32,
}

impl Clerk {
    /// Changes one key after the other until it is time to rest; what it keeps, and how many changes were taken.
    fn work(mut self) -> (Vec<Kept>, u32) {
        while !self.rest.load(Ordering::SeqCst) {
            match self.rng.u32(..4) {
                0 => self.make(),
                _ => self.change(),
            }
        }
        (self.book, self.asked)
    }

    fn make(&mut self) {
        let is_pair = self.rng.bool();
        let label = format!("{}-{}", self.name, self.asked);
        let kind = if is_pair {
            &self.bodies.pair
        } else {
            &self.bodies.secret
        };
        let mut body = kind.clone();
        body["label"] = json!(label);
        let made = self.ask("POST", "/api/v4/managed_keys", None, &body);
        let id = made.body["id"].as_str().unwrap();
        let path = Some(format!("/api/v4/managed_keys/{id}"));
        self.book.push(Kept {
            subject: Subject { label, path },
            state: "pre_activation",
            is_pair,
        });
    }

    fn change(&mut self) {
        if self.book.is_empty() {
            return self.make();
        }
        let index = self.rng.usize(..self.book.len());
        let kept = self.book[index].clone();
        let (action, state) = match (kept.state, self.rng.u32(..4)) {
            ("active", 0) => return self.move_about(&kept),
            ("active", _) => ("/deactivate", "deactivated"),
            ("deactivated", 0) => ("/destroy", "destroyed"),
            ("pre_activation" | "deactivated", _) => ("/activate", "active"),
            _ => return self.make(),
        };
        let path = kept.subject.path.clone().unwrap();
        let etag = self.etag(&path);
        self.ask(
            "POST",
            &format!("{path}{action}"),
            Some(&etag),
            &Value::Null,
        );
        self.book[index].state = state;
        if state == "deactivated" && kept.is_pair {
            self.try_deactivated(&path);
        }
    }

    /// As soon as it is said to be deactivated everywhere, nobody can use it.
    fn try_deactivated(&self, path: &str) {
        let Some(token) = &self.looks_at else {
            return;
        };
        let read = |at: &str| self.until_taken(|client| client.send("GET", at, &[], &Value::Null));
        while read(path).body["phase"] != "in_step" {
            if self.rest.load(Ordering::SeqCst) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let statuses = read(&format!("{path}/status_in_keystores"));
        // Not there is not usable either: it was moved away before it was ever installed.
        if let Some(id) = statuses.body["status_in_keystores"][0]["key_id_in_keystore"].as_str() {
            assert!(!signs(token, id), "{path}: usable, and called deactivated");
        }
    }

    /// Takes a key off its target and puts it there again.
    fn move_about(&mut self, kept: &Kept) {
        let path = kept.subject.path.as_deref().unwrap();
        for body in [self.bodies.nowhere.clone(), self.bodies.away.clone()] {
            let etag = self.etag(path);
            self.ask("PUT", &action_path(path, "/targets"), Some(&etag), &body);
        }
    }

    fn etag(&self, path: &str) -> String {
        let read = self.until_taken(|client| client.send("GET", path, &[], &Value::Null));
        read.etag.unwrap()
    }

    fn ask(&mut self, method: &str, at: &str, etag: Option<&str>, body: &Value) -> Answer {
        self.asked += 1;
        let key = format!("{}-{}", self.name, self.asked);
        let mut headers = vec![("idempotency-key", key.as_str())];
        headers.extend(etag.map(|etag| ("if-match", etag)));
        self.until_taken(|client| client.send(method, at, &headers, body))
    }

    fn until_taken(&self, ask: impl Fn(&Client) -> Asked) -> Answer {
        repeat(|| self.at.lock().unwrap().clone(), TAKEN_WITHIN, ask)
    }
}
