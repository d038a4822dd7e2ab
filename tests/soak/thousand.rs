//! A thousand agents: what they cost while nothing happens, how soon all have reported after the coordinator was killed, and
//! how soon a key that is on all of them is disabled everywhere, also in the midst of that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::estate::{Estate, PATIENCE};
use crate::figures::{Table, Times};
use crate::load::bytes;
use crate::process;

/// How big it is.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    pub agents: usize,
    /// Further keys, each on all of them.
    pub others: usize,
    /// How long nothing happens.
    pub idle: Duration,
    pub is_timed: bool,
}

/// Promises 2.7, L4 to L6.
const IDLE_PERCENT: f64 = 10.0;
const RSS_MIB: f64 = 300.0;
const REPORTED_S: f64 = 60.0;
const TRIES: usize = 3;
const EMERGENCY_MS: f64 = 2000.0;

/// Between looks by the API at a key that is on all of them.
const PAUSE: Duration = Duration::from_millis(50);

/// Before idleness is measured: what starting brought is over.
const CALM: Duration = Duration::from_secs(15);

struct Key {
    path: String,
    etag: String,
    cka_id: Vec<u8>,
}

/// How one change of the key went; times count from the request.
#[derive(Default)]
struct Spread {
    answered: Duration,
    effects: Times,
    confirmed: Times,
    /// From when a keystore had reported, if that was after the request: before that it cannot be reached.
    reachable: Times,
    /// From the start of the coordinator, if it was started: until the first and the last keystore had reported.
    reported: Vec<Duration>,
}

pub fn run(scale: Scale) {
    let began = Instant::now();
    let mut estate = Estate::start(scale.agents, |n| {
        vec![if n == 0 { "makers" } else { "all" }.to_owned()]
    });
    estate.template("all");
    for number in 0..scale.others {
        let (path, etag) = estate.key("all", &format!("other-{number}"));
        let at = format!("{path}/activate?wait=0");
        estate
            .rest
            .send("POST", &at, &etag, &Value::Null)
            .unwrap()
            .ok();
        estate.settled();
    }
    let (path, etag) = estate.key("all", "everywhere");
    let mut key = Key {
        cka_id: bytes(
            estate.rest.get(&path).body["status_in_keystores"][0]["key_id_in_keystore"]
                .as_str()
                .unwrap(),
        ),
        path,
        etag,
    };
    println!("furnished in {:.1} s", began.elapsed().as_secs_f64());
    let count = scale.agents;
    let mut table = Table::new(&format!(
        "{count} agents, {} keys on each",
        scale.others + 1
    ));
    let first = change(&estate, &mut key, "activate", None);
    tell(
        &mut table,
        &format!("activate on {count} for the first time (material travels)"),
        &first,
        None,
    );
    idle(&mut table, &estate, scale);
    let timed = scale.is_timed.then_some(EMERGENCY_MS);
    let calm = change(&estate, &mut key, "deactivate", None);
    tell(&mut table, "deactivate, all connected", &calm, timed);
    change(&estate, &mut key, "activate", None);
    restart(&mut table, &mut estate, &mut key, scale);
    let wrong = wrong(&estate, &key, false);
    table.bound(
        "tokens on which the key is not disabled",
        "",
        &wrong.to_string(),
        "0",
        wrong == 0,
    );
    let load = format!("{:.1}", process::machine_load());
    table.tell("machine: load over the last minute", "", &load);
    table.close();
}

fn idle(table: &mut Table, estate: &Estate, scale: Scale) {
    if scale.is_timed {
        std::thread::sleep(CALM);
    }
    let load = process::machine_load();
    let pids = [estate.coordinator_pid(), std::process::id()];
    let before = pids.map(process::read);
    std::thread::sleep(scale.idle);
    let after = pids.map(process::read);
    let percent =
        |of: usize| 100.0 * (after[of].cpu_s - before[of].cpu_s) / scale.idle.as_secs_f64();
    let what = format!(
        "idle for {} s (load {load:.1}): coordinator's CPU",
        scale.idle.as_secs()
    );
    let rss = after[0].rss_mib;
    if scale.is_timed {
        table.at_most(&what, "", percent(0), IDLE_PERCENT, "% of a core");
    } else {
        table.tell(&what, "", &format!("{:.1} % of a core", percent(0)));
    }
    table.at_most("coordinator: memory", "", rss, RSS_MIB, "MiB");
    let all = format!("{:.1} % of a core", percent(1));
    table.tell("idle: CPU of all agents", "", &all);
    let all = format!("{:.0} MiB", after[1].rss_mib);
    table.tell("memory of all agents", "", &all);
    let (allowed, most) = process::descriptors_allowed(pids[0]);
    let has = after[0].descriptors;
    let what = format!("coordinator: descriptors that it may have, beside its {has}");
    table.bound(&what, "", &allowed, &most, allowed == most);
}

/// Kills and starts the coordinator twice: once to see all report, once with an emergency in the midst of it.
fn restart(table: &mut Table, estate: &mut Estate, key: &mut Key, scale: Scale) {
    let sessions = |estate: &Estate| -> Vec<usize> {
        estate
            .agents
            .iter()
            .map(crate::agent::Agent::sessions)
            .collect()
    };
    let before = sessions(estate);
    estate.kill_coordinator();
    let started = Instant::now();
    estate.start_coordinator();
    let mut reported = BTreeMap::new();
    while reported.len() < scale.agents {
        look(
            estate,
            key,
            "active",
            started,
            &mut reported,
            &mut BTreeMap::new(),
        );
        assert!(started.elapsed() < PATIENCE, "{} reported", reported.len());
        std::thread::sleep(PAUSE);
    }
    let (p50, last) = spread_s(&reported.into_values().collect::<Vec<_>>());
    let tries = sessions(estate)
        .iter()
        .zip(&before)
        .map(|(now, was)| now - was)
        .max();
    let what = "killed and started: all have reported";
    table.at_most(what, &format!("p50 {p50:.1} s"), last, REPORTED_S, "s");
    let tries = tries.unwrap();
    let holds = (1..=TRIES).contains(&tries);
    table.bound(
        "sessions that one agent began",
        "",
        &tries.to_string(),
        "1 to 3",
        holds,
    );

    estate.kill_coordinator();
    let started = Instant::now();
    estate.start_coordinator();
    let emergency = change(estate, key, "deactivate", Some(started));
    let (p50, last) = spread_s(&emergency.reported);
    let text = format!("p50 {p50:.1} s, last {last:.1} s");
    table.tell("killed and started with an emergency: reported", "", &text);
    let timed = scale.is_timed.then_some(EMERGENCY_MS);
    tell(table, "deactivate at once after a start", &emergency, timed);
}

/// Median and last, seconds.
fn spread_s(all: &[Duration]) -> (f64, f64) {
    let mut times = Times::default();
    for one in all {
        times.note(*one);
    }
    (
        times.percentile(50) / 1000.0,
        times.percentile(100) / 1000.0,
    )
}

fn tell(table: &mut Table, what: &str, spread: &Spread, bound: Option<f64>) {
    let answered = format!("{:.0} ms", spread.answered.as_secs_f64() * 1000.0);
    table.tell(&format!("{what}: request to answer"), "", &answered);
    for (how, times) in [
        ("request to effect on the token", &spread.effects),
        ("request to confirmed by the API", &spread.confirmed),
        (
            "reachable and asked to confirmed, as the API saw both",
            &spread.reachable,
        ),
    ] {
        let what = format!("{what}: {how}, p99 of {}", times.count());
        let p50 = format!("p50 {:.0} ms", times.percentile(50));
        match bound {
            Some(bound) => table.at_most(&what, &p50, times.percentile(99), bound, "ms"),
            None => table.tell(&what, &p50, &format!("{:.0} ms", times.percentile(99))),
        }
    }
}

/// Changes the key, and watches until all have confirmed.
fn change(estate: &Estate, key: &mut Key, action: &str, started: Option<Instant>) -> Spread {
    for agent in &estate.agents {
        drop(agent.token.effects());
    }
    let asked = Instant::now();
    let at = format!("{}/{action}?wait=0", key.path);
    let answer = estate
        .rest
        .send("POST", &at, &key.etag, &Value::Null)
        .unwrap()
        .ok();
    let answered = Instant::now();
    key.etag = answer.etag;
    let enabled = action == "activate";
    let wanted = if enabled { "active" } else { "deactivated" };
    let all = estate.agents.len() - 1;
    let (mut confirmed, mut reported) = (BTreeMap::new(), BTreeMap::new());
    while confirmed.len() < all {
        let since = started.unwrap_or(asked);
        look(estate, key, wanted, since, &mut reported, &mut confirmed);
        assert!(
            asked.elapsed() < PATIENCE,
            "{} of {all} confirmed: {:#}\n{}",
            confirmed.len(),
            estate
                .rest
                .get(&format!("{}/status_in_keystores", key.path))
                .body["status_in_keystores"][0],
            estate.said()
        );
        std::thread::sleep(PAUSE);
    }
    let mut spread = Spread {
        answered: answered - asked,
        reported: reported.values().copied().collect(),
        ..Spread::default()
    };
    let lead = started.map_or(Duration::ZERO, |started| asked - started);
    for (name, took) in confirmed {
        let could = reported[&name].max(lead);
        spread.reachable.note(took.saturating_sub(could));
        spread.confirmed.note(took.saturating_sub(lead));
    }
    for agent in &estate.agents[1..] {
        let effects = agent.token.effects();
        let found = effects
            .iter()
            .find(|effect| effect.cka_id == key.cka_id && effect.enabled == enabled);
        let found = found.unwrap_or_else(|| panic!("{} has done nothing", agent.name));
        spread
            .effects
            .note(found.at.saturating_duration_since(asked));
    }
    spread
}

/// Notes, since a moment, who has reported and who has confirmed, by keystore.
fn look(
    estate: &Estate,
    key: &Key,
    wanted: &str,
    since: Instant,
    reported: &mut BTreeMap<String, Duration>,
    confirmed: &mut BTreeMap<String, Duration>,
) {
    let found = estate
        .rest
        .get(&format!("{}/status_in_keystores", key.path))
        .body;
    let took = since.elapsed();
    for status in found["status_in_keystores"].as_array().unwrap() {
        let name = || status["keystore"]["name"].as_str().unwrap().to_owned();
        if status["sync_status"] != "unknown" {
            reported.entry(name()).or_insert(took);
        }
        if status["sync_status"] == "in_sync" && status["wanted"] == wanted {
            confirmed.entry(name()).or_insert(took);
        }
    }
}

/// Tokens that do not hold the key as it is to be.
fn wrong(estate: &Estate, key: &Key, enabled: bool) -> usize {
    let is_right = |agent: &&crate::agent::Agent| {
        let objects = agent.token.memory.objects();
        let mut of_key = objects.iter().filter(|facts| facts.cka_id == key.cka_id);
        of_key
            .next()
            .is_some_and(|facts| facts.usage.is_empty() != enabled)
    };
    let agents = estate.agents[1..].iter();
    agents.filter(|agent| !is_right(agent)).count()
}
