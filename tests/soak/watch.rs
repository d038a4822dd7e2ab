//! Somebody who reads, every other second, what the run costs, and the metrics, as a Prometheus does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::estate::Estate;
use crate::process::{self, Reading};

const PAUSE: Duration = Duration::from_secs(2);

/// All at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub at_s: f64,
    pub coordinator: Reading,
    pub here: Reading,
    pub wal_mib: f64,
    pub store_mib: f64,
    pub journals_mib: f64,
    pub load: f64,
}

/// What was read in a phase.
#[derive(Debug, Default)]
pub struct Readings {
    pub moments: Vec<Moment>,
    /// The longest that each queue was seen, by the name of its metric.
    pub queues: Vec<(String, f64)>,
}

impl Readings {
    pub fn most(&self, of: impl Fn(&Moment) -> f64) -> f64 {
        self.moments.iter().map(of).fold(0.0, f64::max)
    }

    /// Seconds and values, of the later half.
    pub fn late(&self, of: impl Fn(&Moment) -> f64) -> Vec<(f64, f64)> {
        let from = self.moments.len() / 2;
        self.moments[from..]
            .iter()
            .map(|one| (one.at_s, of(one)))
            .collect()
    }

    /// Percent of a core that was used on average.
    pub fn cores(&self, of: impl Fn(&Moment) -> f64) -> f64 {
        let (Some(first), Some(last)) = (self.moments.first(), self.moments.last()) else {
            return 0.0;
        };
        100.0 * (of(last) - of(first)) / (last.at_s - first.at_s).max(0.001)
    }
}

/// Reads while something is done.
pub fn while_doing<T>(estate: &Estate, work: impl FnOnce() -> T) -> (T, Readings) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(estate, &stop));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        (done, reader.join().unwrap())
    })
}

fn read(estate: &Estate, stop: &AtomicBool) -> Readings {
    let began = Instant::now();
    let mut readings = Readings::default();
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        readings.moments.push(moment(estate, began));
        queues(estate, &mut readings.queues);
        turn += 1;
        let next = began + PAUSE * turn;
        while Instant::now() < next && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    readings.moments.push(moment(estate, began));
    queues(estate, &mut readings.queues);
    readings
}

fn moment(estate: &Estate, began: Instant) -> Moment {
    let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
    Moment {
        at_s: began.elapsed().as_secs_f64(),
        coordinator: process::read(estate.coordinator_pid()),
        here: process::read(std::process::id()),
        wal_mib: mib(estate.store_bytes("-wal")),
        store_mib: mib(estate.store_bytes("")),
        journals_mib: mib(estate.journal_bytes()),
        load: process::machine_load(),
    }
}

/// Keeps the highest of each gauge that counts what waits.
fn queues(estate: &Estate, seen: &mut Vec<(String, f64)>) {
    let text = estate.rest.get("/metrics").body;
    let told = text.as_str().unwrap().lines();
    for line in told.filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let name = name.split('{').next().unwrap();
        if !name.ends_with("_waiting") {
            continue;
        }
        let value: f64 = value.parse().unwrap();
        match seen.iter_mut().find(|(known, _)| known == name) {
            Some((_, most)) => *most = most.max(value),
            None => seen.push((name.to_owned(), value)),
        }
    }
}

/// The most that a queue may hold, by the name of its metric; `keys` are those of one keystore.
pub fn bound_of(name: &str, keys: usize) -> f64 {
    match name {
        "lockstep_store_writes_waiting" | "lockstep_store_reads_waiting" => 1024.0,
        // One for each key, with one for everything and what was fetched.
        "lockstep_keystore_notes_waiting" => keys as f64 + 32.0,
        "lockstep_keystore_frames_waiting" => 256.0,
        other => panic!("{other} has no bound here"),
    }
}
