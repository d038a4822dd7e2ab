//! The end of a run: faults stop, and within a bounded time everything is in sync or in a state that names what a person has
//! to do (I6). Then a person does what can be done by asking, and again.

use lockstep::coordinator::store::Store as _;
use lockstep::decide::difference::differences;
use lockstep::decide::status::status;
use lockstep::model::difference::Status;

use crate::plan::Request;
use crate::port::{at_once, lock};
use crate::world::{Event, Spoiled, World};

/// Longest time to settle after the last fault: the longest pauses are a minute, and one may follow another.
const SETTLE_MS: u64 = 200_000;

/// It has to stay so for this long.
const STAYS_MS: u64 = 30_000;

/// Between looks.
const LOOK_MS: u64 = 5_000;

impl World {
    pub(crate) fn heal(&mut self) {
        self.note("faults stop");
        self.healed = true;
        self.mend_network();
        for agent in &mut self.agents {
            agent.disk_full_until = 0;
            agent.slow_until = 0;
        }
        // Of two coordinators with a store each, the one that people do not talk to is shut down.
        for c in 0..self.coordinators.len() {
            if c != self.front {
                self.coordinator_crash(c);
            }
            self.coordinators[c].disk_full_until = 0;
            lock(&self.coordinators[c].desk).commit_fails = 0;
        }
        let front = self.front;
        self.after(10, Event::CoordinatorStart { c: front });
        for k in 0..self.agents.len() {
            self.after(20, Event::AgentStart { k });
        }
        let since = self.now;
        self.after(
            LOOK_MS,
            Event::Settle {
                until: since + SETTLE_MS,
                since,
                tidied: false,
            },
        );
    }

    /// Whether all is settled, and for long enough.
    pub(crate) fn settle(&mut self, until: u64, since: u64, tidied: bool) {
        let restless = self.unsettled().into_iter().find(|(k, _, status)| {
            let moves = matches!(status, Status::Pending { .. } | Status::Unknown { .. });
            moves && !self.is_excused(*k)
        });
        let since = if restless.is_some() { self.now } else { since };
        match restless {
            Some((k, what, status)) if self.now >= until => {
                self.fail(
                    "I6",
                    format!("{what} on {k} is {status:?} long after the last fault"),
                );
            }
            None if self.now >= since + STAYS_MS && tidied => self.after(0, Event::End),
            None if self.now >= since + STAYS_MS => self.tidy(),
            Some(_) | None => self.after(
                LOOK_MS,
                Event::Settle {
                    until,
                    since,
                    tidied,
                },
            ),
        }
    }

    fn tidy(&mut self) {
        self.note("people sync every key");
        let keys: Vec<usize> = self.keys.keys().copied().collect();
        self.healed = false;
        for key in keys {
            self.happens(crate::plan::Happening::Ask(Request::Sync { key }));
        }
        self.healed = true;
        let since = self.now;
        self.after(
            LOOK_MS,
            Event::Settle {
                until: since + SETTLE_MS,
                since,
                tidied: true,
            },
        );
    }

    /// Instances that are not in sync, in words.
    fn unsettled(&mut self) -> Vec<(usize, String, Status)> {
        let c = self.front;
        let store = self.coordinators[c].store.clone();
        let unix = self.unix(0);
        let terms = self.terms();
        let mut unsettled = Vec::new();
        for k in 0..self.agents.len() {
            let id = self.agents[k].id;
            let rows = at_once(store.keystore_instances(id)).unwrap_or_default();
            let desk = lock(&self.coordinators[c].desk);
            for row in rows {
                let instance = row.instance;
                let live = desk.keepers[&id]
                    .machine
                    .live(instance.intent.version, self.now);
                let status = status(&instance, &live, &terms);
                if !matches!(status, Status::InSync(_)) {
                    let reasons: Vec<&str> = differences(&instance, &live, &terms, unix, 60_000)
                        .iter()
                        .map(|d| d.reason.name())
                        .collect();
                    // A second copy at a keystore that was removed from the targets can be neither proved nor synced: left open.
                    let is_open = !instance.is_target && reasons.contains(&"unproved");
                    if is_open && self.spoiled.contains(&(k, Spoiled::Objects)) {
                        continue;
                    }
                    let what = format!(
                        "{} generation {} ({:?}, {})",
                        instance.intent.object.label,
                        instance.intent.generation,
                        instance.intent.want,
                        reasons.join(" ")
                    );
                    unsettled.push((k, what, status));
                }
            }
        }
        unsettled
    }

    /// Whether what is wrong on a keystore may be so after what was done to it. Keystore 0 holds the material of all.
    fn is_excused(&self, k: usize) -> bool {
        let is_gone = |k| self.spoiled.contains(&(k, Spoiled::Gone));
        self.past_rewritten || is_gone(k) || is_gone(0)
    }

    pub(crate) fn check_settled(&mut self) {
        for (k, what, status) in self.unsettled() {
            let spoiled = self.spoiled.contains(&(k, Spoiled::Objects))
                && matches!(status, Status::Drift | Status::Failed { .. });
            if !spoiled && !self.is_excused(k) {
                self.fail("I6", format!("{what} on {k} is {status:?} at the end"));
            }
        }
    }
}
