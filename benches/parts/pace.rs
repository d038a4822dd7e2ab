//! How soon Lockstep sees what somebody else does to a token with many keys, what watching costs while nothing happens, and
//! how long it takes after a kill until every key is confirmed again: real processes, asked by the API.
//!
//! A time begins when the other program has ended, or the killed process is started again, and ends when the API shows it.
//! The bounds are those of promises R13, for 1,000 keys. The cheapest scan runs on the same token while its agent runs too.

use std::time::Duration;

use lockstep::clock::Monotonic;

use crate::parts::calls::{Bare, OF_ANY_KEY};
use crate::parts::estate::{Estate, Objects, TARGET, cpu_seconds, id_of};
use crate::parts::table::Table;
use crate::parts::tokens;
use crate::support::fleet::said;

/// First word of the arguments of the process that loads the module for the baseline.
pub const INSIDE: &str = "pace-inside";

const RUNS: u32 = 7;
const IDLE_WINDOWS: usize = 3;
const IDLE_WINDOW: Duration = Duration::from_secs(30);
const CATCH_UP_RUNS: usize = 3;
const ROTATION_RUNS: usize = 5;

/// Scans that the baseline takes: enough for a clock of 10 ms.
const BARE_SCANS: usize = 20;

/// Shortest time between the starts of two scans; what is done to the token is spread over it.
const SCAN: Duration = Duration::from_secs(2);

/// Prints the tables for so many keys.
pub fn run(keys: usize) {
    let estate = Estate::start(keys);
    let estate = catch_up(estate, keys);
    idle(&estate, keys);
    seen(&estate, keys);
    seen_in_rotation(&estate, keys);
}

fn catch_up(mut estate: Estate, keys: usize) -> Estate {
    let title = format!("(d) {keys} keys: from the start of a killed process to all confirmed");
    let mut table = Table::new(&title, "s");
    let bare = table.row("cheapest C calls: start, load, login, one scan", None);
    let coordinator = table.row("coordinator, kill -9", Some(bare));
    let agent = table.row("agent, kill -9", Some(bare));
    remembered_counts_for_nothing(&mut estate);
    for _ in 0..CATCH_UP_RUNS {
        table.note(bare, bare_scans(&estate, 1).0);
        estate.fleet.kill_coordinator();
        let started = Monotonic::now();
        estate.fleet.start_coordinator();
        estate.all_confirmed();
        table.note(coordinator, started.elapsed().as_secs_f64());
        estate.fleet.kill_agent(TARGET);
        estate.none_confirmed();
        let started = Monotonic::now();
        estate.fleet.start_agent(TARGET);
        estate.all_confirmed();
        table.note(agent, started.elapsed().as_secs_f64());
    }
    table.print();
    estate
}

/// A coordinator that has no agent to ask confirms no key: else the times below would say nothing.
fn remembered_counts_for_nothing(estate: &mut Estate) {
    estate.fleet.kill_agent(TARGET);
    estate.fleet.kill_coordinator();
    estate.fleet.start_coordinator();
    estate.none_confirmed();
    estate.fleet.start_agent(TARGET);
    estate.all_confirmed();
}

fn idle(estate: &Estate, keys: usize) {
    let title = format!("(d) {keys} keys: CPU time while nothing happens");
    let mut table = Table::new(&title, "% of a core");
    let bound = table.row("R13: below", None);
    let bare = table.row("cheapest C calls, one scan every 2 s", None);
    let agent = table.row("agent and its module host", Some(bound));
    let coordinator = table.row("coordinator", None);
    table.note(bound, 10.0);
    let (_, cpu) = bare_scans(estate, BARE_SCANS);
    let each = cpu / BARE_SCANS as f64;
    table.note(bare, 100.0 * each / SCAN.as_secs_f64());
    let pids = [
        estate.fleet.agent_pid(TARGET),
        estate.fleet.coordinator_pid(),
    ];
    for _ in 0..IDLE_WINDOWS {
        let before = pids.map(cpu_seconds);
        std::thread::sleep(IDLE_WINDOW);
        let after = pids.map(cpu_seconds);
        for (row, (before, after)) in [agent, coordinator].iter().zip(before.iter().zip(after)) {
            table.note(*row, 100.0 * (after - before) / IDLE_WINDOW.as_secs_f64());
        }
    }
    table.print();
}

/// What is done, with the words for the outsider, the difference that tells it, and the bound in seconds.
const DONE: [(&str, &[&str], &str, f64); 3] = [
    (
        "usage changed",
        &["set-usage", "--class", "secret", "--on", "wrap"],
        "usage_changed",
        3.0,
    ),
    ("key destroyed", &["destroy"], "missing", 6.0),
    ("key replaced", &["swap"], "wrong_key", 30.0),
];

fn seen(estate: &Estate, keys: usize) {
    let title = format!("(d) {keys} keys: from what somebody else did to the API that shows it");
    let mut table = Table::new(&title, "s");
    let mut fresh = estate.keys.iter();
    for (what, words, reason, bound) in DONE {
        let most = table.row(&format!("R13: {what}, at most"), None);
        table.note(most, bound);
        let row = table.row(&format!("{what}: {reason}"), Some(most));
        for number in 0..RUNS {
            let key = fresh.next().unwrap();
            let id = id_of(estate, key);
            std::thread::sleep(SCAN * number / RUNS);
            let args = [words, &["--id", &id]].concat();
            estate.token().outsider_ok(&args);
            table.note(row, estate.told(key, reason));
        }
    }
    table.print();
}

/// A key whose material changes while its object and all it tells stay the same: no handle hints at it. No program can do
/// that through SoftHSM2, so its files are edited: the key is swapped, and then the right one put into the new object.
fn seen_in_rotation(estate: &Estate, keys: usize) {
    let title =
        format!("(d) {keys} keys: from other material in the same object to the API that shows it");
    let mut table = Table::new(&title, "s");
    let most = table.row("R13: key replaced, at most", None);
    table.note(most, 30.0);
    let row = table.row(
        "key replaced: nothing but its fingerprint tells",
        Some(most),
    );
    for key in estate.keys.iter().rev().take(ROTATION_RUNS) {
        let before = estate.objects();
        let id = id_of(estate, key);
        estate.token().outsider_ok(&["swap", "--id", &id]);
        estate.told(key, "wrong_key");
        let after = estate.objects();
        let only_in = |one: &Objects, other: &Objects| {
            let found = one.iter().find(|(path, _)| !other.contains_key(*path));
            found
                .map(|(path, bytes)| (path.clone(), bytes.clone()))
                .unwrap()
        };
        let (_, right) = only_in(&before, &after);
        let (object, wrong) = only_in(&after, &before);
        std::fs::write(object, with_next_generation(right, &wrong)).unwrap();
        table.note(row, estate.in_step(key));
    }
    table.print();
}

/// SoftHSM2 reads an object file again when the number at its head is another one.
fn with_next_generation(mut object: Vec<u8>, before: &[u8]) -> Vec<u8> {
    let number = u64::from_be_bytes(before[..8].try_into().unwrap());
    object[..8].copy_from_slice(&(number + 1).to_be_bytes());
    object
}

/// Scans by the cheapest calls in a process of its own: the seconds with its start, and the CPU seconds of the scans.
fn bare_scans(estate: &Estate, scans: usize) -> (f64, f64) {
    let start = Monotonic::now();
    let out = tokens::command(INSIDE, std::slice::from_ref(estate.token()))
        .env(tokens::KEYS, scans.to_string())
        .output()
        .unwrap();
    let took = start.elapsed().as_secs_f64();
    let cpu = said(&out).parse().unwrap();
    (took, cpu)
}

/// The part that loads the module.
pub fn inside(words: &[String]) {
    let (module, told) = tokens::told(words);
    let bare = Bare::open(&module, &told);
    let before = cpu_seconds(std::process::id());
    for _ in 0..tokens::keys() {
        bare.inventory(OF_ANY_KEY);
    }
    println!("{}", cpu_seconds(std::process::id()) - before);
    bare.close();
}
