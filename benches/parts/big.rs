//! A token that holds many keys, or takes long for each call: what a change waits for while its agent watches the token, and
//! how much memory watching takes.
//!
//! A change is timed from the API call to the answer that it is proved. Most changes meet no scan, so the median is what a
//! change takes on this token; whatever the slowest took above it, it waited. The foreign keys are made by the cheapest calls.

use std::path::Path;
use std::time::Duration;

use lockstep::agent::journal::file;
use lockstep::clock::Monotonic;
use lockstep::decide::agent::record::{JournalRecord, Phase, Record};
use lockstep::model::capabilities::Strategy;
use lockstep::model::desired::{Intent, ObjectPlan, Want};
use lockstep::model::ids::{Digest, Generation, KeyVersionId, KeystoreId};
use lockstep::model::key::{Algorithm, DeactivatedUsage, KeySpec, UsageSet};
use lockstep::model::observed::{Fingerprint, FingerprintMethod};
use serde_json::Value;
use uuid::Uuid;

use crate::parts::calls::{Bare, OF_ANY_KEY, key_id};
use crate::parts::estate::{TARGET, children, cpu_seconds};
use crate::parts::table::Table;
use crate::parts::tokens;
use crate::support::fault::{self, Faults};
use crate::support::fleet::{Fleet, said};

/// First word of the arguments of the process that loads the module: it makes keys, or measures itself.
pub const INSIDE: &str = "big-inside";

/// Tells that process not to make keys.
const ONLY_LOOK: &str = "LOCKSTEP_BENCH_ONLY_LOOK";

/// A slow token takes this long for each call that reads, finds, sets or tries.
const SLOW_CALLS: [&str; 6] = [
    "C_FindObjectsInit delay 2",
    "C_FindObjects delay 2",
    "C_GetAttributeValue delay 2",
    "C_SetAttributeValue delay 2",
    "C_EncryptInit delay 2",
    "C_OpenSession delay 2",
];

const PATIENCE: Duration = Duration::from_secs(600);

/// How long memory is watched.
const WATCHED: Duration = Duration::from_secs(60);

/// Prints the tables for so many keys on the token.
pub fn run(keys: usize) {
    let mut crowd = Crowd::start(keys);
    let (changes, bound) = if keys > 5_000 {
        (60, 1_000.0)
    } else {
        (150, 250.0)
    };
    crowd.waits(
        &format!("(e) a change on a token of {keys} keys"),
        changes,
        bound,
    );
    if keys <= 1_000 {
        crowd.slow_down();
        let title = format!("(e) a change on a token of {keys} keys that takes 2 ms for a call");
        crowd.waits(&title, changes, bound);
    } else {
        crowd.memory();
    }
}

/// A fleet with one key of its own, on a token with many of others.
struct Crowd {
    fleet: Fleet,
    key: String,
    keys: usize,
}

impl Crowd {
    fn start(keys: usize) -> Self {
        let fleet = Fleet::start(&["maker", TARGET]);
        let vault = fleet.furnish();
        fleet.template(&vault, "aes", "aes", 256);
        let key = fleet.key(&vault, "aes", "benched");
        let token = std::slice::from_ref(&fleet.agents[TARGET].token);
        let made = tokens::command(INSIDE, token)
            .env(tokens::KEYS, keys.to_string())
            .status()
            .unwrap();
        assert!(made.success());
        let crowd = Self { fleet, key, keys };
        crowd.all_seen();
        crowd
    }

    /// Until the API tells of all foreign keys.
    fn all_seen(&self) {
        let keystore = &self.fleet.agents[TARGET].keystore;
        let at = format!("/api/lockstep/v1/keystores/{keystore}/unmanaged?limit=1");
        let start = Monotonic::now();
        loop {
            let answer = self.fleet.request("GET", &at, None, &Value::Null);
            let count = &answer.body["total_count"];
            if count.as_u64() == Some(self.keys as u64) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "never seen: {}", answer.body);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn waits(&self, title: &str, changes: usize, bound: f64) {
        let mut table = Table::new(title, "ms");
        let change = table.row(
            "API call to proved, no scan in the way: the quicker half",
            None,
        );
        let slowest = table.row("the slowest", Some(change));
        let most = table.row("wanted: behind a scan, at most", None);
        let waited = table.row("behind a scan: the slowest less the median", Some(most));
        let share = table.row("agent and host: % of a core meanwhile", None);
        table.note(most, bound);
        let mut took: Vec<f64> = Vec::new();
        let pid = self.fleet.agent_pid(TARGET);
        let (start, cpu) = (Monotonic::now(), cpu_seconds(pid));
        for number in 0..changes {
            // Scans begin at even distances: changes do not.
            std::thread::sleep(Duration::from_millis((number as u64 * 379) % 1_009));
            let action = if number % 2 == 0 {
                "activate"
            } else {
                "deactivate"
            };
            took.push(self.change(action));
        }
        let cores = (cpu_seconds(pid) - cpu) / start.elapsed().as_secs_f64();
        table.note(share, 100.0 * cores);
        took.sort_by(f64::total_cmp);
        let median = took[changes / 2];
        for one in &took[..changes / 2] {
            table.note(change, *one);
        }
        table.note(slowest, took[changes - 1]);
        table.note(waited, took[changes - 1] - median);
        table.print();
    }

    fn change(&self, action: &str) -> f64 {
        let answer = self.fleet.request("GET", &self.key, None, &Value::Null);
        let at = format!("{}/{action}?wait=60", self.key);
        let start = Monotonic::now();
        let done = self
            .fleet
            .request("POST", &at, answer.etag.as_deref(), &Value::Null);
        let took = start.elapsed().as_secs_f64() * 1000.0;
        let body = done.ok();
        assert_eq!(body["phase"], "in_step", "{body:#}");
        took
    }

    /// From now on a module stands before the token that lets each call wait.
    fn slow_down(&mut self) {
        self.fleet.kill_agent(TARGET);
        let dir = self.fleet.agent_dir(TARGET).to_owned();
        let token = &self.fleet.agents[TARGET].token;
        let faults = Faults::new(&dir, &token.module);
        let file = dir.join("agent.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        let real = token.module.display().to_string();
        let slow = fault::module().display().to_string();
        let named = faults
            .env()
            .into_iter()
            .map(|(name, value)| format!("{name} = {value:?}\n"));
        let env = named.fold("[env]\n".to_owned(), |all, one| all + &one);
        std::fs::write(&file, config.replace(&real, &slow).replace("[env]\n", &env)).unwrap();
        faults.set(&SLOW_CALLS);
        self.fleet.start_agent(TARGET);
        self.all_seen();
        self.fleet.in_step(&self.key);
    }

    /// The agent alone, with a journal of as many keys as there are: their objects become its own.
    fn memory(&mut self) {
        self.fleet.kill_coordinator();
        self.fleet.kill_agent(TARGET);
        let agent = &self.fleet.agents[TARGET];
        let keystore = KeystoreId::from_uuid(agent.keystore.parse::<Uuid>().unwrap());
        let journal = agent.dir.join("state/journal");
        let mut records = file::load::<JournalRecord>(&journal).unwrap().records;
        records.extend((0..self.keys).map(|number| record(keystore, number)));
        drop(file::rewrite(&journal, &records).unwrap());
        let bare = self.bare_memory();
        self.fleet.start_agent(TARGET);
        let title = format!("(e) memory for {} managed keys", self.keys);
        let mut table = Table::new(&title, "MiB");
        let module = table.row("cheapest C calls: a process after an inventory", None);
        let most = table.row("wanted: agent and host above that, at most", None);
        let ours = table.row(
            "agent and its module host above that, at their highest",
            Some(most),
        );
        table.note(module, bare);
        table.note(most, 64.0);
        let pid = self.fleet.agent_pid(TARGET);
        let (start, mut highest) = (Monotonic::now(), 0.0_f64);
        while start.elapsed() < WATCHED {
            highest = highest.max(children(pid).chain([pid]).map(resident).sum());
            std::thread::sleep(Duration::from_millis(50));
        }
        table.note(ours, highest - bare);
        table.print();
    }

    fn bare_memory(&self) -> f64 {
        let token = std::slice::from_ref(&self.fleet.agents[TARGET].token);
        let out = tokens::command(INSIDE, token)
            .env(ONLY_LOOK, "1")
            .output()
            .unwrap();
        said(&out).parse().unwrap()
    }
}

/// A key of others as if it had been installed, deactivated.
fn record(keystore: KeystoreId, number: usize) -> JournalRecord {
    let intent = Intent {
        version: KeyVersionId::from_uuid(Uuid::new_v4()),
        keystore,
        generation: Generation(1),
        want: Want::Deactivated,
        object: ObjectPlan {
            cka_id: key_id(number),
            label: format!("orders-production-{number:06}"),
            spec: KeySpec::new(Algorithm::Aes, 256).unwrap(),
            usage: UsageSet::NONE,
            deactivated_usage: DeactivatedUsage::None,
            salt: vec![7; 32],
            strategy: Strategy::Flags,
        },
        fingerprint: Fingerprint {
            method: FingerprintMethod::DigestKey,
            value: Digest([7; 32]),
        },
    };
    JournalRecord::V1(Record::Intent {
        intent: Box::new(intent),
        phase: Phase::Done { proof: None },
    })
}

/// Memory of a process that is its own, MiB: what it shares with others (libraries) is theirs as well.
fn resident(pid: u32) -> f64 {
    let file = format!("/proc/{pid}/smaps_rollup");
    // A process may have ended meanwhile.
    let text = std::fs::read_to_string(Path::new(&file)).unwrap_or_default();
    let kib: u64 = ["Private_Clean:", "Private_Dirty:"]
        .iter()
        .filter_map(|name| text.lines().find_map(|line| line.strip_prefix(name)))
        .filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    kib as f64 / 1024.0
}

/// The part that loads the module.
pub fn inside(words: &[String]) {
    let (module, told) = tokens::told(words);
    let bare = Bare::open(&module, &told);
    if std::env::var_os(ONLY_LOOK).is_some() {
        bare.inventory(OF_ANY_KEY);
        println!("{}", resident(std::process::id()));
    } else {
        bare.make_keys(tokens::keys());
    }
    bare.close();
}
