//! One instance as the agent knows it: the durable intent, how far it is, and what was seen on the token.

use crate::decide::agent::record::{Phase, Proved};
use crate::model::desired::{Applied, Intent, Want};
use crate::model::job::{TokenFailure, Wrapped};
use crate::model::observed::{Found, ObjectClass, ObjectFacts, Observation, Proof};
use crate::model::protocol::Progress;
use crate::model::vault::UnixMs;

/// One instance.
#[derive(Debug)]
pub(crate) struct Instance {
    /// The intent in the journal.
    pub(crate) intent: Intent,
    /// Its short form.
    pub(crate) applied: Applied,
    /// How far it is.
    pub(crate) state: State,
    /// The proof of the last effect, while the token still holds what it proved.
    pub(crate) proof: Option<Kept>,
    /// What was seen.
    pub(crate) sight: Sight,
    /// Sequence number of the last report; 0: never told in this run.
    pub(crate) told: u64,
}

/// A proof and when it was had, by the wall clock.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) proof: Proof,
    pub(crate) at: UnixMs,
}

impl Kept {
    /// For the journal.
    pub(crate) fn proved(&self) -> Proved {
        Proved {
            proof: self.proof.clone(),
            at: self.at,
        }
    }

    /// Milliseconds since, at a time of the wall clock.
    pub(crate) fn age_ms(&self, wall: UnixMs) -> u64 {
        u64::try_from(wall.0.saturating_sub(self.at.0)).unwrap_or(0)
    }
}

/// How far an intent is.
#[derive(Debug)]
pub(crate) enum State {
    /// Carried out, read back, and durable as such.
    Done,
    /// In the journal, not done.
    Open(Box<Carrying>),
}

/// An intent that is being carried out.
#[derive(Debug, Default)]
pub(crate) struct Carrying {
    /// Material for exactly this generation.
    pub(crate) material: Option<Wrapped>,
    /// Why the last envelope was not taken.
    pub(crate) envelope_refused: Option<String>,
    /// What stands in the way; none: under way.
    pub(crate) trouble: Option<Trouble>,
    /// Tries that went wrong in a row: the pause grows with them.
    pub(crate) tries: u32,
    /// A destroyed key was not found once; it counts when it is not found twice.
    pub(crate) gone: Option<Gone>,
    /// The record that says done is being written.
    pub(crate) finishing: bool,
}

/// The first look that did not find a key that is to be destroyed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone {
    /// When.
    pub(crate) at_ms: u64,
    /// Whether our own step destroyed it: then the second look need not wait.
    pub(crate) by_us: bool,
}

/// Why an intent is not under way.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// Waits for an envelope.
    NeedsMaterial,
    /// Waits for the coordinator to send the intent again.
    Failed(TokenFailure),
    /// Failed and is tried again after a pause.
    Again(TokenFailure),
    /// Nobody knows what happened; looked at again after a pause.
    Unknown(String),
}

/// What was seen of an instance in this run.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// The last look that is believed.
    pub(crate) last: Option<Seen>,
    /// A look missed something, or met it twice; a later one decides.
    pub(crate) suspicion: Option<Suspicion>,
    /// Why nothing is known, where something was tried.
    pub(crate) why_unknown: Option<String>,
    /// A proof was tried for what is seen, whatever came of it.
    pub(crate) proof_tried: bool,
    /// Where its objects were met last.
    pub(crate) handles: Vec<u64>,
}

/// What a look saw that is not believed yet: a second one that sees just the same confirms it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suspicion {
    /// Since when, milliseconds.
    pub(crate) since: u64,
    /// How many objects of each class were met.
    met: [usize; 3],
}

/// A look that is believed.
#[derive(Debug)]
pub(crate) struct Seen {
    /// What was found.
    pub(crate) found: Found,
    /// When its objects were last read.
    pub(crate) at_ms: u64,
    /// When the fingerprint was last taken.
    pub(crate) fingerprint_at_ms: u64,
}

impl Instance {
    /// An instance of which nothing was seen.
    pub(crate) fn new(intent: Intent, phase: Phase) -> Self {
        let applied = intent.applied();
        let (state, proof) = match phase {
            Phase::Intent => (State::Open(Box::default()), None),
            Phase::Done { proof } => {
                let kept = proof.map(|Proved { proof, at }| Kept { proof, at });
                (State::Done, kept)
            }
        };
        Self {
            intent,
            applied,
            state,
            proof,
            sight: Sight::default(),
            told: 0,
        }
    }

    pub(crate) const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether nothing of ours is under way on it: it is done, or waits for the coordinator.
    pub(crate) const fn is_resting(&self) -> bool {
        match &self.state {
            State::Done => true,
            State::Open(carrying) => matches!(
                carrying.trouble,
                Some(Trouble::NeedsMaterial | Trouble::Failed(_))
            ),
        }
    }

    /// The intent under way, if it is not done.
    pub(crate) const fn carrying(&mut self) -> Option<&mut Carrying> {
        match &mut self.state {
            State::Done => None,
            State::Open(carrying) => Some(carrying),
        }
    }

    /// Whether the last look got no fingerprint of what is there, for the first time while its intent is carried out: that may
    /// pass, and what cannot be enabled without one is looked at once more before that is said.
    pub(crate) fn is_unprinted_at_first(&mut self) -> bool {
        let last = self.sight.last.as_ref();
        let is_unprinted = last.is_some_and(|seen| seen.found.fingerprint_failure.is_some());
        let Some(carrying) = self.carrying().filter(|carrying| carrying.tries == 0) else {
            return false;
        };
        if is_unprinted {
            carrying.tries = 1;
        }
        is_unprinted
    }

    pub(crate) fn progress(&self) -> Progress {
        match &self.state {
            State::Done => Progress::Done,
            State::Open(carrying) => match &carrying.trouble {
                None => Progress::Busy,
                Some(Trouble::NeedsMaterial) => Progress::NeedsMaterial,
                Some(Trouble::Failed(failure) | Trouble::Again(failure)) => {
                    Progress::Failed(failure.clone())
                }
                Some(Trouble::Unknown(why)) => Progress::Unknown { why: why.clone() },
            },
        }
    }

    /// How many objects of a class are expected by what was seen, or, where nothing was, by what was done.
    pub(crate) fn expected(&self, class: ObjectClass) -> usize {
        match &self.sight.last {
            Some(seen) => count(&seen.found.objects, class),
            None if self.is_done() && self.intent.want != Want::Destroyed => {
                usize::from(self.intent.object.spec.class().objects().contains(&class))
            }
            None => 0,
        }
    }

    /// Whether something is missing or doubled that was not before: never believed at once (promises R13).
    pub(crate) fn is_suspicious(&self, objects: &[ObjectFacts]) -> bool {
        CLASSES.into_iter().any(|class| {
            let (before, now) = (self.expected(class), count(objects, class));
            now < before || (now > 1 && now > before)
        })
    }
}

impl Sight {
    /// Suspects what a look met: from now on, or, where another one met the same before, since then.
    pub(crate) fn suspect(&mut self, now: u64, objects: &[ObjectFacts]) -> u64 {
        let met = CLASSES.map(|class| count(objects, class));
        let same = self.suspicion.filter(|suspicion| suspicion.met == met);
        let since = same.map_or(now, |suspicion| suspicion.since);
        self.suspicion = Some(Suspicion { since, met });
        since
    }

    /// What is said of it.
    pub(crate) fn observation(&self) -> Observation {
        let last = match &self.last {
            None => Observation::Unknown {
                why: self
                    .why_unknown
                    .clone()
                    .unwrap_or_else(|| "not looked at since the agent started".to_owned()),
            },
            Some(seen) if seen.found.objects.is_empty() => Observation::Absent {
                same_label: seen.found.same_label.clone(),
            },
            Some(seen) => Observation::Present(seen.found.clone()),
        };
        match self.suspicion {
            None => last,
            Some(_) => Observation::Suspected {
                last: Box::new(last),
            },
        }
    }

    /// Whether anything can be said of it.
    pub(crate) const fn is_something(&self) -> bool {
        self.last.is_some() || self.suspicion.is_some() || self.why_unknown.is_some()
    }
}

const CLASSES: [ObjectClass; 3] = [
    ObjectClass::Secret,
    ObjectClass::Private,
    ObjectClass::Public,
];

/// How many objects of the class there are.
pub(crate) fn count(objects: &[ObjectFacts], class: ObjectClass) -> usize {
    objects
        .iter()
        .filter(|object| object.class == class)
        .count()
}

/// Whether two looks saw the same objects, whatever their handles and their order.
pub(crate) fn same_objects(before: &[ObjectFacts], now: &[ObjectFacts]) -> bool {
    let sorted = |objects: &[ObjectFacts]| {
        let mut keys: Vec<_> = objects
            .iter()
            .map(|o| {
                let flags = (o.sensitive, o.extractable, o.modifiable, o.copyable);
                (o.class, o.cka_id.clone(), o.label.clone(), o.usage, flags)
            })
            .collect();
        keys.sort_unstable();
        keys
    };
    before.len() == now.len() && sorted(before) == sorted(now) && same_material(before, now)
}

/// Whether what both looks could read of the material is the same; what one of them did not read says nothing.
fn same_material(before: &[ObjectFacts], now: &[ObjectFacts]) -> bool {
    now.iter().all(|new| {
        before.iter().any(|old| {
            old.class == new.class
                && agree(old.key_type, new.key_type)
                && agree(old.bits, new.bits)
                && agree(old.public_digest, new.public_digest)
                && agree(old.fingerprint, new.fingerprint)
        })
    })
}

fn agree<T: PartialEq>(before: Option<T>, now: Option<T>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => before == now,
        (None, _) | (_, None) => true,
    }
}

/// The handles of the objects, in ascending order.
pub(crate) fn handles_of(objects: &[ObjectFacts]) -> Vec<u64> {
    let mut handles: Vec<u64> = objects.iter().map(|object| object.handle).collect();
    handles.sort_unstable();
    handles
}
