//! The load: changes of keys by REST, each at its time whatever became of those before, and how long they took.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::estate::{Estate, side_by_side};
use crate::figures::Times;
use crate::rest::Rest;
use crate::token::Effect;

/// Requests under way at most: more than the rate needs, so that a slow answer holds up nobody else's change.
const CLIENTS: usize = 64;

/// Every so many changes one is asked for as people ask, who are answered when all have confirmed, or after five seconds. The
/// others are answered when the change is durable (`wait=0`).
const WAITS_EVERY: usize = 10;

/// Every so many changes one is a sync, which asks all of the key's keystores once more.
const SYNC_EVERY: usize = 20;

/// Every so many changes one is watched by the API until it is confirmed.
const WATCH_EVERY: usize = 20;

/// Between looks at a key that is watched: no time is told finer than this.
const WATCH_PAUSE: Duration = Duration::from_millis(5);

/// A change that is not confirmed after this counts with this.
const WATCH_MAX: Duration = Duration::from_secs(30);

/// A key of the load, on the agents of these numbers.
#[derive(Debug)]
pub struct Key {
    pub path: String,
    pub cka_id: Vec<u8>,
    pub places: Vec<usize>,
    now: Mutex<State>,
}

#[derive(Debug)]
struct State {
    etag: String,
    active: bool,
}

/// A change that was asked for.
#[derive(Debug, Clone, Copy)]
struct Change {
    key: usize,
    active: bool,
    due: Instant,
}

/// What came of a phase.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From when a change was due to its answer.
    pub answers: Times,
    /// From when a change of a key that is on healthy keystores alone was due to its answer, where that was waited for.
    pub waited: Times,
    /// From when it was due to the proved effect on a healthy token, by the token's own record.
    pub effects: Times,
    /// From when it was due until the API said that the healthy keystores have confirmed; one change in twenty.
    pub confirmed: Times,
    /// Changes that had no effect on a healthy token.
    pub lost: usize,
    /// Changes that were answered, by second.
    pub rate: f64,
}

/// All keys, and those who change them.
#[derive(Debug)]
pub struct Load {
    pub keys: Vec<Key>,
    next: AtomicUsize,
}

impl Load {
    /// Makes keys, so many from each template, and enables them all. `places` gives the agents of a template's group.
    pub fn furnish(
        estate: &Estate,
        templates: &[String],
        each: usize,
        places: impl Fn(usize) -> Vec<usize> + Sync,
    ) -> Self {
        let wanted: Vec<(usize, usize)> = (0..each)
            .flat_map(|number| (0..templates.len()).map(move |of| (of, number)))
            .collect();
        let keys = side_by_side(8, &wanted, |&(of, number)| {
            let template = &templates[of];
            let (path, etag) = estate.key(template, &format!("{template}-{number}"));
            let made = estate.rest.get(&path);
            let statuses = &made.body["status_in_keystores"];
            let id = statuses[0]["key_id_in_keystore"].as_str();
            let id = id.unwrap_or_else(|| panic!("{:#}", made.body));
            Key {
                path,
                cka_id: bytes(id),
                places: places(of),
                now: Mutex::new(State {
                    etag,
                    active: false,
                }),
            }
        });
        let load = Self {
            keys,
            next: AtomicUsize::new(0),
        };
        side_by_side(8, &load.keys, |key| load.toggle(&estate.rest, key, false));
        load
    }

    /// Changes keys in turn, so many a second, for so long. What is sick must do nothing and is not counted.
    pub fn run(&self, estate: &Estate, rate: usize, lasts: Duration, sick: &[usize]) -> Outcome {
        for agent in &estate.agents {
            drop(agent.token.effects());
        }
        let began = Instant::now();
        let total = rate * usize::try_from(lasts.as_secs()).unwrap();
        let next = AtomicUsize::new(0);
        let healthy = |key: &Key| -> Vec<String> {
            let places = key.places.iter().filter(|at| !sick.contains(at));
            places.map(|at| estate.agents[*at].name.clone()).collect()
        };
        let clients: Vec<Client> = std::thread::scope(|scope| {
            let client = || {
                let mut done = Client::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= total {
                        return done;
                    }
                    let after = Duration::from_secs_f64(number as f64 / rate as f64);
                    self.change(&estate.rest, number, began + after, &healthy, &mut done);
                }
            };
            let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let took = began.elapsed().as_secs_f64();
        let settled = Instant::now() + Duration::from_secs(5);
        let mut outcome = Outcome {
            rate: total as f64 / took,
            ..Outcome::default()
        };
        let mut changes = Vec::new();
        for client in clients {
            outcome.answers.extend([client.answers]);
            outcome.confirmed.extend([client.confirmed]);
            outcome.waited.extend([client.waited]);
            changes.extend(client.changes);
        }
        // What was changed last may still be on its way.
        std::thread::sleep(settled.saturating_duration_since(Instant::now()));
        self.match_effects(estate, &changes, sick, &mut outcome);
        outcome
    }

    fn change(
        &self,
        rest: &Rest,
        number: usize,
        due: Instant,
        healthy: &(impl Fn(&Key) -> Vec<String> + ?Sized),
        done: &mut Client,
    ) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.keys.len();
        let key = &self.keys[index];
        if number.is_multiple_of(SYNC_EVERY) {
            let etag = key.now.lock().unwrap().etag.clone();
            let at = format!("{}/sync_status_in_keystores?wait=0", key.path);
            rest.send("POST", &at, &etag, &Value::Null).unwrap().ok();
            return done.answers.note(due.elapsed());
        }
        let waits = number % WAITS_EVERY == 2;
        let active = self.toggle(rest, key, waits);
        let healthy = healthy(key);
        if !waits {
            done.answers.note(due.elapsed());
        } else if healthy.len() == key.places.len() {
            done.waited.note(due.elapsed());
        }
        done.changes.push(Change {
            key: index,
            active,
            due,
        });
        if number % WATCH_EVERY == 1 {
            done.confirmed.note(watch(rest, key, active, due, &healthy));
        }
    }

    /// Deactivates what is active, activates what is not; gives what it is now.
    fn toggle(&self, rest: &Rest, key: &Key, waits: bool) -> bool {
        let mut now = key.now.lock().unwrap();
        let action = if now.active { "deactivate" } else { "activate" };
        let wait = if waits { "" } else { "?wait=0" };
        let at = format!("{}/{action}{wait}", key.path);
        let answer = rest
            .send("POST", &at, &now.etag, &Value::Null)
            .unwrap()
            .ok();
        now.etag = answer.etag;
        now.active = !now.active;
        now.active
    }

    fn match_effects(
        &self,
        estate: &Estate,
        changes: &[Change],
        sick: &[usize],
        outcome: &mut Outcome,
    ) {
        let mut next: BTreeMap<usize, Vec<Instant>> = BTreeMap::new();
        for change in changes {
            next.entry(change.key).or_default().push(change.due);
        }
        for (at, agent) in estate.agents.iter().enumerate() {
            if sick.contains(&at) {
                continue;
            }
            let mut effects: BTreeMap<Vec<u8>, Vec<Effect>> = BTreeMap::new();
            for effect in agent.token.effects() {
                effects
                    .entry(effect.cka_id.clone())
                    .or_default()
                    .push(effect);
            }
            let here = |change: &&Change| self.keys[change.key].places.contains(&at);
            for change in changes.iter().filter(here) {
                let of_key = effects.get(&self.keys[change.key].cka_id);
                let until = next[&change.key]
                    .iter()
                    .filter(|due| **due > change.due)
                    .min();
                let found = of_key.into_iter().flatten().find(|effect| {
                    effect.enabled == change.active
                        && effect.at >= change.due
                        && until.is_none_or(|until| effect.at < *until)
                });
                match found {
                    Some(effect) => {
                        let took = effect.at - change.due;
                        outcome.effects.note(took);
                    }
                    None => outcome.lost += 1,
                }
            }
        }
    }

    /// Keys whose objects on any token are not what they are to be.
    pub fn wrong(&self, estate: &Estate) -> usize {
        let on: Vec<BTreeMap<Vec<u8>, bool>> = estate
            .agents
            .iter()
            .map(|agent| {
                let objects = agent.token.memory.objects().into_iter();
                objects
                    .map(|facts| (facts.cka_id, !facts.usage.is_empty()))
                    .collect()
            })
            .collect();
        let is_wrong = |key: &&Key| {
            let active = key.now.lock().unwrap().active;
            key.places
                .iter()
                .any(|at| on[*at].get(&key.cka_id) != Some(&active))
        };
        self.keys.iter().filter(is_wrong).count()
    }
}

/// What one client did.
#[derive(Debug, Default)]
struct Client {
    answers: Times,
    waited: Times,
    confirmed: Times,
    changes: Vec<Change>,
}

/// How long after it was due the API says that these keystores have confirmed a change.
fn watch(rest: &Rest, key: &Key, active: bool, due: Instant, names: &[String]) -> Duration {
    let wanted = if active { "active" } else { "deactivated" };
    loop {
        let found = rest.get(&format!("{}/status_in_keystores", key.path)).body;
        let took = due.elapsed();
        let statuses = found["status_in_keystores"].as_array().unwrap();
        let is_confirmed = |name: &String| {
            statuses.iter().any(|status| {
                status["keystore"]["name"] == *name
                    && status["sync_status"] == "in_sync"
                    && status["wanted"] == wanted
            })
        };
        if took > WATCH_MAX || names.iter().all(is_confirmed) {
            return took;
        }
        std::thread::sleep(WATCH_PAUSE);
    }
}

pub fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}
