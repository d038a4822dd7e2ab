//! What happened, event by event, as a simulation or a model sees it from above: I1 to I4, I7 to I9, I11, I12, I14.
//!
//! Owns: [`Event`] and [`Watch`], which takes events in the order in which they happened and says what each one breaks. Never:
//! looks at a token itself: whoever watches tells what an effect changed ([`Change::between`] helps).

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::check::{Invariant, Violation};
use crate::model::desired::{Applied, Intent, Want};
use crate::model::ids::{Digest, Generation, KeyVersionId, KeystoreId, SessionNumber};
use crate::model::observed::ObjectFacts;

/// One key version on one keystore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The keystore.
    pub keystore: KeystoreId,
    /// The key version.
    pub version: KeyVersionId,
}

impl Place {
    /// Where an intent belongs.
    #[must_use]
    pub const fn of(intent: &Intent) -> Self {
        Self {
            keystore: intent.keystore,
            version: intent.version,
        }
    }
}

/// What one effect changed on the token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Change {
    /// An object came to be.
    pub added: bool,
    /// An object got a usage that the key has while it is active only, or came to be with one.
    pub enabled: bool,
}

impl Change {
    /// From what is under the intent's CKA_ID before and after; handles tell the objects apart.
    #[must_use]
    pub fn between(intent: &Intent, before: &[ObjectFacts], after: &[ObjectFacts]) -> Self {
        let mut change = Self::default();
        for object in after {
            let was = before.iter().find(|facts| facts.handle == object.handle);
            change.added |= was.is_none();
            let kept = intent.object.usage_under(Want::Deactivated, object.class);
            // A copy in the place of an object gives nothing that the class did not have.
            let had = |usage| {
                before
                    .iter()
                    .any(|facts| facts.class == object.class && facts.usage.has(usage))
            };
            change.enabled |= object
                .usage
                .iter()
                .any(|usage| !kept.has(usage) && !had(usage));
        }
        change
    }
}

/// How many must have agreed to what is done, and who did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approvals {
    /// Who asked.
    pub requester: String,
    /// Who approved exactly these intents.
    pub approvers: Vec<String>,
    /// How many distinct others are needed.
    pub needed: usize,
}

/// For what a source wrapped a key, and for what its signed envelope says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    /// Key version and target.
    pub place: Place,
    /// Which intent.
    pub generation: Generation,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An intent was committed with its audit entry.
    Committed {
        /// Where.
        place: Place,
        /// Which.
        applied: Applied,
        /// The number of the order of a person (or date) that it goes back to: one that is issued again keeps it.
        order: u64,
        /// Who agreed.
        approvals: Approvals,
    },
    /// An agent accepted a session.
    Accepted {
        /// Whose.
        keystore: KeystoreId,
        /// Its number.
        session: SessionNumber,
    },
    /// An agent took an intent past its fence, to journal it.
    Taken {
        /// Where.
        place: Place,
        /// The session that it came on.
        session: SessionNumber,
        /// Which.
        applied: Applied,
    },
    /// A journal record of an intent became durable.
    Journaled {
        /// Where.
        place: Place,
        /// Which.
        applied: Applied,
        /// None: taken. Else: done, and whether the read-back was as the intent wants.
        done: Option<bool>,
    },
    /// The journal is not what it was: lost, or put back from a copy that holds these (place, intent, done).
    JournalRestored {
        /// Whose.
        keystore: KeystoreId,
        /// What it holds now.
        holds: Vec<(Place, Applied, bool)>,
    },
    /// The token was changed by us.
    Effect {
        /// Where.
        place: Place,
        /// For which intent.
        applied: Applied,
        /// How.
        change: Change,
    },
    /// An agent reported.
    Reported {
        /// Where.
        place: Place,
        /// Which intent.
        applied: Applied,
        /// Whether it called it done.
        done: bool,
    },
    /// A coordinator saw a session accepted.
    Joined {
        /// Which coordinator.
        coordinator: u64,
        /// Of which keystore.
        keystore: KeystoreId,
        /// The number.
        session: SessionNumber,
    },
    /// A coordinator let a report count.
    Counted {
        /// Which coordinator.
        coordinator: u64,
        /// Of which keystore.
        keystore: KeystoreId,
        /// The session that carried it.
        session: SessionNumber,
    },
    /// A source wrapped a key.
    Wrapped {
        /// The source.
        source: KeystoreId,
        /// Whether the target's identity is in the source's own list.
        is_listed: bool,
        /// What was asked for.
        asked: Purpose,
        /// What the signed envelope names.
        signed: Purpose,
    },
    /// A PIN was given to a token: a digest tells one from another.
    Login {
        /// Which.
        keystore: KeystoreId,
        /// SHA-256 of the PIN.
        pin: Digest,
        /// Whether it was refused.
        refused: bool,
    },
}

#[derive(Debug, Clone)]
struct Committed {
    order: u64,
    approvals: Approvals,
}

#[derive(Debug, Clone, Default)]
struct Instance {
    committed: BTreeMap<Digest, Committed>,
    durable: BTreeMap<Digest, Option<bool>>,
    newest_effect: Generation,
    /// The highest order that restricted.
    restricted_by: Option<u64>,
    destroyed: bool,
}

/// Takes events and finds what they break.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    instances: BTreeMap<Place, Instance>,
    accepted: BTreeMap<KeystoreId, SessionNumber>,
    joined: BTreeMap<(u64, KeystoreId), SessionNumber>,
    refused_pins: BTreeSet<(KeystoreId, Digest)>,
}

impl Watch {
    /// Takes one event, and appends what it breaks.
    pub fn see(&mut self, event: &Event, broken: &mut Vec<Violation>) {
        match event {
            Event::Committed {
                place,
                applied,
                order,
                approvals,
            } => self.committed(*place, applied, *order, approvals),
            Event::Journaled {
                place,
                applied,
                done,
            } => {
                let durable = &mut self.instances.entry(*place).or_default().durable;
                durable.insert(applied.digest, *done);
            }
            Event::JournalRestored { keystore, holds } => self.journal_restored(*keystore, holds),
            Event::Effect {
                place,
                applied,
                change,
            } => self.effect(*place, applied, *change, broken),
            Event::Reported {
                place,
                applied,
                done,
            } => self.reported(*place, applied, *done, broken),
            Event::Accepted { .. }
            | Event::Taken { .. }
            | Event::Joined { .. }
            | Event::Counted { .. } => self.session(event, broken),
            Event::Wrapped {
                source,
                is_listed,
                asked,
                signed,
            } => wrapped(*source, *is_listed, asked, signed, broken),
            Event::Login {
                keystore,
                pin,
                refused,
            } => self.login(*keystore, *pin, *refused, broken),
        }
    }

    fn committed(&mut self, place: Place, applied: &Applied, order: u64, approvals: &Approvals) {
        let approvals = approvals.clone();
        self.instances
            .entry(place)
            .or_default()
            .committed
            .insert(applied.digest, Committed { order, approvals });
    }

    fn journal_restored(&mut self, keystore: KeystoreId, holds: &[(Place, Applied, bool)]) {
        // Sessions are numbered on from what the journal says now.
        self.accepted.remove(&keystore);
        for (place, instance) in &mut self.instances {
            if place.keystore == keystore {
                instance.durable.clear();
            }
        }
        for (place, applied, done) in holds {
            let durable = &mut self.instances.entry(*place).or_default().durable;
            durable.insert(applied.digest, done.then_some(true));
        }
    }

    fn effect(
        &mut self,
        place: Place,
        applied: &Applied,
        change: Change,
        broken: &mut Vec<Violation>,
    ) {
        let instance = self.instances.entry(place).or_default();
        let told = told(place, applied);
        let mut find = |invariant, what: String| {
            broken.push(Violation::new(invariant, format!("{told}: {what}")));
        };
        if applied.generation < instance.newest_effect {
            let newest = instance.newest_effect;
            find(
                Invariant::MonotoneEffects,
                format!("an effect after one of generation {newest}"),
            );
        }
        instance.newest_effect = instance.newest_effect.max(applied.generation);
        if instance.destroyed && change.added {
            find(
                Invariant::Terminal,
                "an object was made after its destruction began".to_owned(),
            );
        }
        if change.enabled && applied.want != Want::Active {
            find(
                Invariant::Uniqueness,
                "an object became usable by an order that does not enable".to_owned(),
            );
        }
        if !instance.durable.contains_key(&applied.digest) {
            find(
                Invariant::IntentFirst,
                "an effect before its intent was in the journal".to_owned(),
            );
        }
        match instance.committed.get(&applied.digest) {
            None => find(
                Invariant::IntentFirst,
                "an effect without an audit entry".to_owned(),
            ),
            Some(committed) => {
                if let Some(lack) = lack(&committed.approvals) {
                    find(Invariant::FourEyes, lack);
                }
                let order = committed.order;
                let newest = instance.restricted_by;
                if change.enabled && newest.is_some_and(|restricted| order < restricted) {
                    find(
                        Invariant::NoStaleReactivation,
                        format!("enabled by order {order}, restricted by {newest:?}"),
                    );
                }
                if applied.want != Want::Active {
                    instance.restricted_by = newest.max(Some(order));
                }
            }
        }
        instance.destroyed |= applied.want == Want::Destroyed;
    }

    fn reported(&self, place: Place, applied: &Applied, done: bool, broken: &mut Vec<Violation>) {
        let durable = self
            .instances
            .get(&place)
            .and_then(|instance| instance.durable.get(&applied.digest));
        let what = match durable {
            Some(Some(true)) => return,
            _ if !done => return,
            Some(Some(false)) => "called done although the read-back denied it",
            Some(None) | None => "called done before the journal says so",
        };
        let told = told(place, applied);
        let what = format!("{told}: {what}");
        broken.push(Violation::new(Invariant::DurableBeforeDone, what));
    }

    fn session(&mut self, event: &Event, broken: &mut Vec<Violation>) {
        match event {
            Event::Accepted { keystore, session } => {
                let newest = self.accepted.entry(*keystore).or_default();
                if *session <= *newest {
                    let what = format!("{keystore}: session {session} after {newest}");
                    broken.push(Violation::new(Invariant::Session, what));
                }
                *newest = (*newest).max(*session);
            }
            Event::Taken {
                place,
                session,
                applied,
            } => {
                let newest = self.accepted.get(&place.keystore).copied();
                if newest.is_some_and(|newest| *session < newest) {
                    let told = told(*place, applied);
                    let what = format!("{told}: taken on session {session} after {newest:?}");
                    broken.push(Violation::new(Invariant::Session, what));
                }
            }
            Event::Joined {
                coordinator,
                keystore,
                session,
            } => {
                let newest = self.joined.entry((*coordinator, *keystore)).or_default();
                *newest = (*newest).max(*session);
            }
            Event::Counted {
                coordinator,
                keystore,
                session,
            } => {
                let newest = self.joined.get(&(*coordinator, *keystore)).copied();
                if newest.is_some_and(|newest| *session < newest) {
                    let what = format!(
                        "coordinator {coordinator} let a report of {keystore}'s session {session} count after {newest:?}"
                    );
                    broken.push(Violation::new(Invariant::Session, what));
                }
            }
            Event::Committed { .. }
            | Event::Journaled { .. }
            | Event::JournalRestored { .. }
            | Event::Effect { .. }
            | Event::Reported { .. }
            | Event::Wrapped { .. }
            | Event::Login { .. } => {}
        }
    }

    fn login(
        &mut self,
        keystore: KeystoreId,
        pin: Digest,
        refused: bool,
        broken: &mut Vec<Violation>,
    ) {
        if self.refused_pins.contains(&(keystore, pin)) {
            let what = format!("{keystore}: a PIN that was refused was tried again");
            broken.push(Violation::new(Invariant::Pin, what));
        }
        if refused {
            self.refused_pins.insert((keystore, pin));
        }
    }
}

fn told(place: Place, applied: &Applied) -> String {
    let Place { keystore, version } = place;
    let (want, generation) = (applied.want.name(), applied.generation);
    format!("key version {version} on {keystore}, {want} of generation {generation}")
}

/// What approvals lack; none where there are enough.
fn lack(approvals: &Approvals) -> Option<String> {
    let others: BTreeSet<&String> = approvals
        .approvers
        .iter()
        .filter(|approver| **approver != approvals.requester)
        .collect();
    let (needed, got) = (approvals.needed, others.len());
    (got < needed).then(|| format!("done with {got} of {needed} approvals by others"))
}

fn wrapped(
    source: KeystoreId,
    is_listed: bool,
    asked: &Purpose,
    signed: &Purpose,
    broken: &mut Vec<Violation>,
) {
    let Place { keystore, version } = asked.place;
    let told = format!("{source} wrapped key version {version} for {keystore}");
    if !is_listed {
        let what = format!("{told}, which is not in its list");
        broken.push(Violation::new(Invariant::WrapBinding, what));
    }
    if asked != signed {
        let what = format!("{told}, and signed another purpose");
        broken.push(Violation::new(Invariant::WrapBinding, what));
    }
}
