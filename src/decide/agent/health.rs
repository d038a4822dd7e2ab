//! Whose token it is and how well it is. Nothing is believed of a token that is not known to be ours.

use crate::decide::agent::instance::Sight;
use crate::decide::agent::io::{Output, ProveFailure};
use crate::decide::agent::{Machine, Turn};
use crate::model::ids::KeyVersionId;
use crate::model::job::{FailureKind, TokenFailure, TokenIdentity};
use crate::model::keystore::{Health, Marker};

/// First pause after the module failed, milliseconds; it doubles up to [`PAUSE_MS_MAX`].
const PAUSE_MS: u64 = 500;

/// Longest pause, milliseconds.
const PAUSE_MS_MAX: u64 = 30_000;

/// A token that is not there, not ours or not open is asked again after this, milliseconds. It costs one call; a refused
/// PIN is not tried again by it.
const ASK_AGAIN_MS: u64 = 5_000;

/// The pause after this many failures in a row, milliseconds.
pub(crate) const fn pause_ms(failures: u32) -> u64 {
    let doublings = if failures > 6 { 6 } else { failures };
    let pause = PAUSE_MS << doublings;
    if pause > PAUSE_MS_MAX {
        PAUSE_MS_MAX
    } else {
        pause
    }
}

impl Machine {
    /// Whether jobs on instances may be put out.
    pub(crate) const fn is_workable(&self) -> bool {
        matches!(self.token_health, Health::Ok | Health::JournalLost)
    }

    /// What markers and token info say.
    pub(crate) fn judge(&self, identity: &TokenIdentity) -> Health {
        let Some(keystore) = self.setup.keystore else {
            return match identity.markers.first() {
                None => Health::MarkerMissing,
                Some(&marker) => Health::BelongsTo(marker),
            };
        };
        let ours = Marker {
            keystore,
            epoch: self.setup.epoch,
        };
        // One strange marker is enough: which of two is right is not guessed.
        let strange = identity.markers.iter().find(|&&marker| marker != ours);
        match strange {
            _ if identity.markers.is_empty() => Health::MarkerMissing,
            Some(&marker) if marker.keystore != keystore => Health::BelongsTo(marker),
            Some(&marker) => Health::OtherEpoch(marker),
            None if self.bound == Some(ours) => Health::Ok,
            None => Health::JournalLost,
        }
    }

    /// The token said who it is.
    pub(crate) fn identified(&mut self, turn: &mut Turn<'_>, identity: &TokenIdentity) {
        let health = self.judge(identity);
        self.set_health(turn, health);
        if self.is_workable() {
            self.watch.identity_at = Some(turn.now);
            self.watch.identity_wanted = false;
        } else {
            self.watch.identify_at = turn.now.saturating_add(ASK_AGAIN_MS);
        }
    }

    /// The token could not be asked; `None`: nobody knows why.
    pub(crate) fn token_failed(&mut self, turn: &mut Turn<'_>, failure: &TokenFailure) {
        let health = match failure.kind {
            FailureKind::WrongPin => Health::WrongPin,
            FailureKind::PinLocked => Health::PinLocked,
            FailureKind::NoToken => Health::TokenNotFound {
                label: self.setup.token_label.clone(),
                serial: self.setup.token_serial.clone(),
            },
            FailureKind::Retry
            | FailureKind::Restart
            | FailureKind::Refused
            | FailureKind::NeedsMaterial
            | FailureKind::WrongKey
            | FailureKind::LabelTaken => {
                return self.module_failed(turn, failure.to_string());
            }
        };
        self.watch.identify_at = turn.now.saturating_add(ASK_AGAIN_MS);
        self.set_health(turn, health);
    }

    /// The module or its host failed: ask who the token is before anything else, after a pause.
    pub(crate) fn module_failed(&mut self, turn: &mut Turn<'_>, detail: String) {
        self.watch.identify_at = turn.now.saturating_add(pause_ms(self.watch.failures));
        self.watch.failures = self.watch.failures.saturating_add(1);
        // What was begun in a module host that died does not go on in another one.
        self.watch.scan = None;
        self.set_health(turn, Health::ModuleFailed { detail });
    }

    fn set_health(&mut self, turn: &mut Turn<'_>, health: Health) {
        if self.token_health == health {
            return;
        }
        self.token_health = health;
        if self.is_workable() {
            return;
        }
        for instance in self.instances.values_mut() {
            if let Some(carrying) = instance.carrying() {
                carrying.gone = None;
            }
        }
        self.give_up_proofs(turn);
        match self.token_health {
            // The token is still the one it was, as far as anybody knows: what was seen of it stays, and ages.
            Health::Ok
            | Health::Starting
            | Health::JournalLost
            | Health::JournalFailed { .. }
            | Health::ModuleFailed { .. } => self.explain_blindness(),
            Health::TokenNotFound { .. }
            | Health::WrongPin
            | Health::PinLocked
            | Health::MarkerMissing
            | Health::BelongsTo(_)
            | Health::OtherEpoch(_) => self.forget_looks(turn.now),
        }
    }

    /// What was not seen yet cannot be seen for now: that is said, and why.
    fn explain_blindness(&mut self) {
        let why = self.token_health.to_string();
        for (&version, instance) in &mut self.instances {
            if !instance.sight.is_something() {
                instance.sight.why_unknown = Some(why.clone());
                self.telling.dirty.insert(version);
            }
        }
    }

    /// Everything is unknown, nothing is absent.
    fn forget_looks(&mut self, now: u64) {
        let why = self.token_health.to_string();
        for instance in self.instances.values_mut() {
            instance.sight = Sight {
                why_unknown: Some(why.clone()),
                ..Sight::default()
            };
        }
        self.telling.dirty.extend(self.instances.keys().copied());
        self.watch.forget(now);
        self.set_unmanaged(Vec::new());
    }

    fn give_up_proofs(&mut self, turn: &mut Turn<'_>) {
        let waiting: Vec<(KeyVersionId, Vec<u64>)> =
            std::mem::take(&mut self.proving).into_iter().collect();
        for request in waiting.into_iter().flat_map(|(_, requests)| requests) {
            turn.out.push(Output::Proved {
                request,
                result: Err(ProveFailure::Unhealthy(self.token_health.clone())),
            });
        }
    }
}
