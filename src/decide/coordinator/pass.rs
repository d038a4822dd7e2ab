//! The pass: which intents the last reports do not yet meet, restrictive ones first.

use crate::decide::coordinator::{Machine, Moment, Output};
use crate::model::desired::{Instance, Intent, Want};
use crate::model::ids::{Digest, Generation, KeyVersionId};
use crate::model::job::FailureKind;
use crate::model::live::Connection;
use crate::model::material::{Envelope, Signed};
use crate::model::observed::Observation;
use crate::model::protocol::{Down, Progress, Refusal, wanted_digest};

/// Between heartbeats: a silent line is found dead within three of them.
pub const HEARTBEAT_MS: u64 = 5_000;

/// After this long without a report an intent is sent again: sending twice is harmless.
pub const RESEND_MS: u64 = 10_000;

/// A failed try is repeated after this long at first, doubled up to [`RETRY_MAX_MS`].
pub const RETRY_MS: u64 = 2_000;

/// Longest pause between tries.
pub const RETRY_MAX_MS: u64 = 60_000;

/// Most envelopes asked for at once per keystore: bounds what waits in memory.
pub const FETCHES_MAX: usize = 16;

/// What was last done for an instance in this session.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    generation: Generation,
    act: Act,
    at_ms: u64,
    tries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Fetching,
    FetchFailed,
    Sent,
}

/// What an instance needs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Send,
    Material,
}

impl Machine {
    /// Puts out what is due.
    pub(crate) fn pass(&mut self, at: Moment, out: &mut Vec<Output>) {
        if !matches!(self.connection, Connection::Live) {
            return;
        }
        let mut due: Vec<(Want, KeyVersionId, Need)> = Vec::new();
        let mut met = Vec::new();
        for version in &self.unmet {
            match self.desired.get(version).map(|i| (i, self.need(i))) {
                None | Some((_, Need::Nothing)) => met.push(*version),
                Some((instance, need)) => {
                    let (need, want) = (self.due(instance, need, at.now_ms), instance.intent.want);
                    if need != Need::Nothing && !self.holds_back(want) {
                        due.push((want, *version, need));
                    }
                }
            }
        }
        for version in met {
            self.unmet.remove(&version);
        }
        due.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut fetching = self
            .unmet
            .iter()
            .filter_map(|version| self.sent.get(version))
            .filter(|sent| sent.act == Act::Fetching)
            .count();
        for (_, version, need) in due {
            let Some(intent) = self.desired.get(&version).map(|i| i.intent.clone()) else {
                continue;
            };
            if need == Need::Material {
                if fetching >= FETCHES_MAX {
                    continue;
                }
                fetching += 1;
                self.note(version, intent.generation, Act::Fetching, at.now_ms);
                out.push(Output::FetchMaterial {
                    version,
                    generation: intent.generation,
                });
            } else {
                self.note(version, intent.generation, Act::Sent, at.now_ms);
                let down = Down::Intent {
                    intent: Box::new(intent),
                    envelope: None,
                };
                out.push(Output::Send(Box::new(down)));
            }
        }
    }

    /// Whether such an intent waits until it is known that the store is no older than its agents.
    fn holds_back(&self, want: Want) -> bool {
        self.gathers && want == Want::Active
    }

    /// What an instance needs, sooner or later. Nothing: only news of it can change that.
    fn need(&self, instance: &Instance) -> Need {
        let intent = &instance.intent;
        let version = intent.version;
        let known = self.known();
        if let Some((generation, refusal)) = known.refused.get(&version)
            && *generation == intent.generation
            && refused_for_good(refusal)
        {
            return Need::Nothing;
        }
        let report = known.report_of(version);
        let applied = report.and_then(|report| report.applied);
        let is_applied = applied == Some(intent.applied());
        let ahead = applied.is_some_and(|applied| applied.generation > intent.generation);
        match report.map(|report| &report.progress) {
            _ if ahead => Need::Nothing,
            Some(Progress::Done) if is_applied => Need::Nothing,
            Some(Progress::Failed(failure)) if is_applied && failed_for_good(failure.kind) => {
                Need::Nothing
            }
            Some(Progress::NeedsMaterial) if is_applied => Need::Material,
            // Material came and was not taken, perhaps only for then: the same again without any would change nothing.
            Some(Progress::Failed(failure))
                if is_applied && failure.kind == FailureKind::NeedsMaterial =>
            {
                Need::Material
            }
            // Once sent, the agent's own word decides whether it lacks material.
            _ if applied.is_none() && self.is_bare(instance) && !self.was_sent(intent) => {
                Need::Material
            }
            _ => Need::Send,
        }
    }

    /// What of it is due now.
    fn due(&self, instance: &Instance, need: Need, now_ms: u64) -> Need {
        let intent = &instance.intent;
        let applied = self
            .known()
            .report_of(intent.version)
            .and_then(|report| report.applied);
        match self
            .sent
            .get(&intent.version)
            .filter(|sent| sent.generation == intent.generation)
        {
            Some(sent) if now_ms < sent.due_ms(need) => Need::Nothing,
            // Material could not be had: the agent journals the intent all the same.
            Some(sent) if sent.act == Act::FetchFailed && applied.is_none() => Need::Send,
            _ => need,
        }
    }

    fn was_sent(&self, intent: &Intent) -> bool {
        let sent = self.sent.get(&intent.version);
        sent.is_some_and(|sent| sent.generation == intent.generation && sent.act == Act::Sent)
    }

    /// Whether an install surely lies ahead, so that the envelope may travel with the intent at once.
    fn is_bare(&self, instance: &Instance) -> bool {
        let there = match self.known().report_of(instance.intent.version) {
            None => false,
            Some(report) => match &report.observation {
                Observation::Present(_) | Observation::Suspected { .. } => true,
                Observation::Absent { .. } | Observation::Unknown { .. } => false,
            },
        };
        !there && instance.intent.want != Want::Destroyed
    }

    /// The agent can again: what it refused because it could not, such as with a full disk, need not wait for its resend.
    pub(crate) fn forget_refused_while_unwell(&mut self) -> Vec<KeyVersionId> {
        let mut forgotten = Vec::new();
        self.known.refused.retain(|version, (_, refusal)| {
            let is_over = matches!(refusal, Refusal::Unhealthy(_) | Refusal::Journal { .. });
            if is_over {
                forgotten.push(*version);
            }
            !is_over
        });
        for version in &forgotten {
            self.sent.remove(version);
        }
        forgotten
    }

    /// What kept material away may be over: the next pass asks for it. True if any is missing.
    pub fn forget_missing_material(&mut self) -> bool {
        let missing = &self.known.material_failures;
        self.sent
            .retain(|version, sent| sent.act == Act::Fetching || !missing.contains_key(version));
        !missing.is_empty()
    }

    fn note(&mut self, version: KeyVersionId, generation: Generation, act: Act, at_ms: u64) {
        let before = self
            .sent
            .get(&version)
            .filter(|sent| sent.generation == generation);
        let tries = match (before, act) {
            // An intent that goes without material is no second try at material.
            (Some(sent), Act::Sent) if sent.act == Act::FetchFailed => sent.tries,
            (Some(sent), Act::FetchFailed | Act::Sent) => sent.tries.saturating_add(1),
            (Some(sent), Act::Fetching) => sent.tries,
            (None, _) => 0,
        };
        self.sent.insert(
            version,
            Sent {
                generation,
                act,
                at_ms,
                tries,
            },
        );
    }

    pub(crate) fn material(
        &mut self,
        at: Moment,
        version: KeyVersionId,
        generation: Generation,
        envelope: Result<Box<Signed<Envelope>>, String>,
        out: &mut Vec<Output>,
    ) {
        let asked = self
            .sent
            .get(&version)
            .is_some_and(|sent| sent.generation == generation && sent.act == Act::Fetching);
        let intent = self
            .desired
            .get(&version)
            .map(|instance| instance.intent.clone());
        let is_due = |intent: &Intent| {
            asked && intent.generation == generation && !self.holds_back(intent.want)
        };
        let Some(intent) = intent.filter(is_due) else {
            return;
        };
        match envelope {
            Ok(envelope) => {
                self.known.material_failures.remove(&version);
                self.note(version, generation, Act::Sent, at.now_ms);
                let intent = Box::new(intent);
                out.push(Output::Send(Box::new(Down::Intent {
                    intent,
                    envelope: Some(envelope),
                })));
            }
            Err(why) => {
                self.known
                    .material_failures
                    .insert(version, (generation, why));
                self.note(version, generation, Act::FetchFailed, at.now_ms);
                out.push(Output::Changed(vec![version]));
            }
        }
        self.pass(at, out);
    }

    pub(crate) fn heartbeat(&mut self, at: Moment, out: &mut Vec<Output>) {
        let open = matches!(self.connection, Connection::CatchingUp | Connection::Live);
        if !open || at.now_ms < self.heartbeat_due_ms {
            return;
        }
        self.heartbeat_due_ms = at.now_ms.saturating_add(HEARTBEAT_MS);
        out.push(Output::Send(Box::new(Down::Heartbeat {
            wanted: self.wanted_digest(),
        })));
    }

    /// The digest of what is wanted, which the agent compares with its journal's (threats.md T3).
    #[must_use]
    pub fn wanted_digest(&self) -> Digest {
        let intents = self.desired.values().map(|instance| &instance.intent);
        wanted_digest(intents.map(|intent| (intent.version, intent.generation, intent.want)))
    }
}

impl Sent {
    /// Until when nothing more is done about it.
    fn due_ms(&self, wanted: Need) -> u64 {
        // The first try again is at once, the second after the shortest pause.
        let retry = RETRY_MS
            .saturating_mul(1 << self.tries.saturating_sub(2).min(5))
            .min(RETRY_MAX_MS);
        let pause = match (self.act, wanted) {
            (Act::Fetching, _) => RETRY_MAX_MS,
            (Act::FetchFailed, Need::Send) => 0,
            (Act::FetchFailed, Need::Material | Need::Nothing) if self.tries <= 1 => 0,
            (Act::FetchFailed, Need::Material | Need::Nothing) => retry,
            // The agent took the intent and asks for material: at once, then ever slower.
            (Act::Sent, Need::Material) if self.tries <= 1 => 0,
            (Act::Sent, Need::Material) => retry,
            (Act::Sent, Need::Send | Need::Nothing) => RESEND_MS.max(retry),
        };
        self.at_ms.saturating_add(pause)
    }
}

const fn failed_for_good(kind: FailureKind) -> bool {
    match kind {
        FailureKind::Retry | FailureKind::Restart | FailureKind::NeedsMaterial => false,
        FailureKind::Refused
        | FailureKind::WrongKey
        | FailureKind::LabelTaken
        | FailureKind::WrongPin
        | FailureKind::PinLocked
        | FailureKind::NoToken => true,
    }
}

const fn refused_for_good(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Stale(_)
        | Refusal::Conflict(_)
        | Refusal::Jump { .. }
        | Refusal::Tombstone(_)
        | Refusal::WrongKeystore { .. } => true,
        Refusal::Envelope { .. } | Refusal::Unhealthy(_) | Refusal::Journal { .. } => false,
    }
}
