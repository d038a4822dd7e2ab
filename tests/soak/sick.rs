//! 200 changes a second over 20 agents: first with all of them well, then with one that flaps and one whose token hangs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::estate::Estate;
use crate::figures::{Table, Times, slope_per_hour};
use crate::load::{Load, Outcome};
use crate::watch::{Moment, Readings, while_doing};

/// How big it is.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// External keystores.
    pub agents: usize,
    /// Keys from each of as many templates; each is on two keystores next to each other.
    pub keys_each: usize,
    /// Changes a second.
    pub rate: usize,
    /// With all well.
    pub baseline: Duration,
    /// With two that are sick.
    pub sick: Duration,
    /// Whether times count: on a busy machine they say nothing.
    pub is_timed: bool,
}

/// How long the agent that flaps is up, and how long it is gone.
const UP: Duration = Duration::from_secs(4);
const GONE: Duration = Duration::from_secs(2);

/// Promises 2.7, L1: 99 of 100 changes are durable, and confirmed, within; the coordinator's memory.
const ANSWER_MS: f64 = 25.0;
const CONFIRMED_MS: f64 = 1000.0;
const RSS_MIB: f64 = 400.0;

/// What a healthy keystore's 99th percentile may move by while others are sick: the noise of two shared cores.
const UNMOVED_FACTOR: f64 = 1.5;
const UNMOVED_MS: f64 = 5.0;

/// What memory may grow by from the middle of the run to its end.
const GROWTH: f64 = 1.05;
const GROWTH_MIB: f64 = 4.0;

/// SQLite empties its WAL of 4 MiB when no reader is in the way; readers are short.
const WAL_MIB: f64 = 16.0;

/// Journals are rewritten when they hold more than twice what is needed, or 1,000 records.
const JOURNAL_MIB_EACH: f64 = 2.0;

/// Connections that come and go with a flapping agent, and what SQLite opens for a moment.
const DESCRIPTORS: usize = 24;

/// Longest that what waits for one keystore's session may be: one frame for each key, and its own bound.
const SETTLED_S: f64 = 150.0;

pub fn run(scale: Scale) {
    let count = scale.agents;
    // Keystore n is in groups n and n - 1, in a ring: a key from template n is on keystores n and n + 1.
    let group = |n: usize| format!("pair-{}", n % count);
    let estate = Estate::start(count, |n| {
        if n == 0 {
            vec!["makers".to_owned()]
        } else {
            vec![group(n - 1), group(n + count - 2)]
        }
    });
    let templates: Vec<String> = (0..count).map(group).collect();
    for template in &templates {
        estate.template(template);
    }
    let load = Load::furnish(&estate, &templates, scale.keys_each, |of| {
        vec![of + 1, (of + 1) % count + 1]
    });
    estate.settled();
    println!(
        "{} keys on {count} keystores, {} instances; {} changes/s",
        load.keys.len(),
        2 * load.keys.len(),
        scale.rate
    );
    let (before, before_costs) = while_doing(&estate, || {
        load.run(&estate, scale.rate, scale.baseline, &[])
    });
    let (flaps, hangs) = (count - 1, count);
    let (after, costs) = while_doing(&estate, || with_sick(&estate, &load, scale, flaps, hangs));
    let settled = estate.settled();
    let mut table = Table::new(&format!(
        "{} changes/s over {count} agents for {} s; one flaps, one hangs",
        scale.rate,
        scale.sick.as_secs()
    ));
    times(&mut table, scale, &before, &after);
    bounded(&mut table, &estate, &before_costs, &costs);
    // Each keystore has those of two templates.
    queues(&mut table, &before_costs, &costs, 2 * scale.keys_each);
    let text = format!("{:.1} s", settled.as_secs_f64());
    let holds = settled.as_secs_f64() <= SETTLED_S;
    let wanted = format!("at most {SETTLED_S} s");
    table.bound(
        "all as wanted, once both are well",
        "",
        &text,
        &wanted,
        holds,
    );
    let wrong = load.wrong(&estate);
    table.bound(
        "keys whose token holds another state",
        "",
        &wrong.to_string(),
        "0",
        wrong == 0,
    );
    table.close();
}

fn with_sick(estate: &Estate, load: &Load, scale: Scale, flaps: usize, hangs: usize) -> Outcome {
    let stop = AtomicBool::new(false);
    let flapping = &estate.agents[flaps];
    estate.agents[hangs].token.hang(true);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            flapping.kill();
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(GONE);
                flapping.start_alone();
                std::thread::sleep(UP);
                flapping.kill();
            }
            flapping.start_alone();
        });
        let outcome = load.run(estate, scale.rate, scale.sick, &[flaps, hangs]);
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    estate.agents[hangs].token.hang(false);
    outcome
}

fn times(table: &mut Table, scale: Scale, before: &Outcome, after: &Outcome) {
    type Of = fn(&Outcome) -> &Times;
    let all: [(&str, Of, f64); 4] = [
        ("request to answer (committed)", |of| &of.answers, ANSWER_MS),
        (
            "request to answer that waited, healthy keystores",
            |of| &of.waited,
            CONFIRMED_MS,
        ),
        (
            "request to effect on a healthy token",
            |of| &of.effects,
            CONFIRMED_MS,
        ),
        (
            "request to confirmed by the API, healthy keystores",
            |of| &of.confirmed,
            CONFIRMED_MS,
        ),
    ];
    for (what, of, bound) in all {
        let (was, is) = (of(before), of(after));
        let figure = |of: &Times, percent| format!("{:.1} ms", of.percentile(percent));
        table.tell(&format!("{what}: p50"), &figure(was, 50), &figure(is, 50));
        let what = format!("{what}: p99 of {}", is.count());
        let (was, is) = (was.percentile(99), is.percentile(99));
        let bound = bound.min(was * UNMOVED_FACTOR + UNMOVED_MS);
        if scale.is_timed {
            table.at_most(&what, &format!("{was:.1} ms"), is, bound, "ms");
        } else {
            table.tell(&what, &format!("{was:.1} ms"), &format!("{is:.1} ms"));
        }
    }
    let rate = |of: &Outcome| format!("{:.1}/s", of.rate);
    let enough = !scale.is_timed || after.rate >= 0.99 * scale.rate as f64;
    let wanted = format!("{}/s", scale.rate);
    table.bound(
        "changes answered",
        &rate(before),
        &rate(after),
        &wanted,
        enough,
    );
    let lost = before.lost + after.lost;
    table.bound(
        "changes without effect on a healthy token",
        "",
        &lost.to_string(),
        "0",
        lost == 0,
    );
}

fn bounded(table: &mut Table, estate: &Estate, before: &Readings, now: &Readings) {
    let rss = |one: &Moment| one.coordinator.rss_mib;
    let was = format!("{:.1} MiB", before.most(rss));
    table.at_most(
        "coordinator: memory, most",
        &was,
        now.most(rss),
        RSS_MIB,
        "MiB",
    );
    let late = now.late(rss);
    let (first, last) = late.split_at(late.len() / 2);
    let most = |part: &[(f64, f64)]| part.iter().map(|one| one.1).fold(0.0, f64::max);
    table.at_most(
        "coordinator: memory in the last quarter, against the third",
        &format!("{:.1} MiB", most(first)),
        most(last),
        most(first) * GROWTH + GROWTH_MIB,
        "MiB",
    );
    let slope = format!("{:.1} MiB/h", slope_per_hour(&late));
    table.tell("coordinator: rise of memory in the later half", "", &slope);
    let open = |one: &Moment| one.coordinator.descriptors as f64;
    let was = before.most(open);
    let bound = was + DESCRIPTORS as f64;
    table.at_most(
        "coordinator: descriptors, most",
        &format!("{was:.0}"),
        now.most(open),
        bound,
        "",
    );
    let threads = |one: &Moment| one.coordinator.threads as f64;
    let most = |of: &Readings| format!("{:.0}", of.most(threads));
    table.tell("coordinator: threads, most", &most(before), &most(now));
    let wal = |one: &Moment| one.wal_mib;
    let was = format!("{:.1} MiB", before.most(wal));
    table.at_most("store: WAL, most", &was, now.most(wal), WAL_MIB, "MiB");
    let size = |of: &Readings| format!("{:.1} MiB", of.most(|one| one.store_mib));
    table.tell(
        "store: file (each change adds an audit entry)",
        &size(before),
        &size(now),
    );
    let journals = |one: &Moment| one.journals_mib;
    let was = format!("{:.1} MiB", before.most(journals));
    let bound = JOURNAL_MIB_EACH * estate.agents.len() as f64;
    table.at_most(
        "all agents' journals, most",
        &was,
        now.most(journals),
        bound,
        "MiB",
    );
    let cpu = |of: &Readings| format!("{:.0} % of a core", of.cores(|one| one.coordinator.cpu_s));
    table.tell("coordinator: CPU", &cpu(before), &cpu(now));
    let cpu = |of: &Readings| format!("{:.0} % of a core", of.cores(|one| one.here.cpu_s));
    table.tell("agents and clients: CPU", &cpu(before), &cpu(now));
    let load = |of: &Readings| format!("{:.1}", of.most(|one| one.load));
    table.tell("machine: load, most", &load(before), &load(now));
}

fn queues(table: &mut Table, before: &Readings, now: &Readings, keys: usize) {
    assert!(
        now.queues.len() >= 4,
        "the metrics do not tell what waits: {:?}",
        now.queues
    );
    for (name, most) in &now.queues {
        let was = before.queues.iter().find(|(known, _)| known == name);
        let was = was.map_or_else(String::new, |(_, most)| most.to_string());
        let bound = crate::watch::bound_of(name, keys);
        table.at_most(&format!("`{name}`, most"), &was, *most, bound, "");
    }
}
