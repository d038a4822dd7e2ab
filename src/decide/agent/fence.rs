//! The fence (promises R3): whether an intent may be taken, whatever sent it and however late.

use crate::model::desired::{Applied, Intent, Want};
use crate::model::ids::{Generation, KeystoreId};
use crate::model::keystore::Health;
use crate::model::material::Envelope;
use crate::model::protocol::{GENERATION_JUMP_MAX, Refusal};

/// What is to be done with an intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// New: journal it.
    Take,
    /// The very one in the journal: report, or go on with it.
    Again,
    /// Told, and nothing else happens.
    Refuse(Refusal),
}

/// Compares an intent with the newest one taken for its instance.
#[must_use]
pub fn fence(keystore: Option<KeystoreId>, newest: Option<&Applied>, intent: &Intent) -> Verdict {
    if keystore != Some(intent.keystore) {
        return Verdict::Refuse(Refusal::WrongKeystore {
            wanted: intent.keystore,
        });
    }
    let last = newest.map_or(Generation(0), |applied| applied.generation);
    if let Some(&applied) = newest {
        if intent.generation < last {
            return Verdict::Refuse(Refusal::Stale(applied));
        }
        if intent.generation == last {
            return if intent.digest() == applied.digest {
                Verdict::Again
            } else {
                Verdict::Refuse(Refusal::Conflict(applied))
            };
        }
    }
    // Generation 0 is before the first intent: nobody gives it.
    if intent.generation == Generation(0)
        || intent.generation.0.saturating_sub(last.0) > GENERATION_JUMP_MAX
    {
        return Verdict::Refuse(Refusal::Jump { last });
    }
    match newest {
        Some(&applied) if applied.want == Want::Destroyed && intent.want != Want::Destroyed => {
            Verdict::Refuse(Refusal::Tombstone(applied))
        }
        Some(_) | None => Verdict::Take,
    }
}

/// Whether an intent is taken while the token is in this state. What restricts is taken, and carried out later, wherever the
/// token may still be ours; nothing is taken for a token that is known to be another.
#[must_use]
pub const fn admits(health: &Health, want: Want) -> bool {
    match health {
        Health::Ok
        | Health::Starting
        | Health::ModuleFailed { .. }
        | Health::JournalFailed { .. } => true,
        Health::JournalLost
        | Health::TokenNotFound { .. }
        | Health::WrongPin
        | Health::PinLocked => !matches!(want, Want::Active),
        Health::MarkerMissing | Health::BelongsTo(_) | Health::OtherEpoch(_) => false,
    }
}

/// Checks that an envelope is for this very intent; signature, signer and transport key were checked before.
///
/// # Errors
/// The name of the first field that differs.
pub(crate) fn fits(envelope: &Envelope, intent: &Intent) -> Result<(), String> {
    let object = &intent.object;
    let differs = [
        ("version", envelope.version != intent.version),
        ("target", envelope.target != intent.keystore),
        ("generation", envelope.generation != intent.generation),
        ("fingerprint", envelope.fingerprint != intent.fingerprint),
        ("spec", envelope.spec != object.spec),
        ("salt", envelope.salt != object.salt),
    ];
    match differs.into_iter().find(|&(_, differs)| differs) {
        Some((field, _)) => Err(format!("{field}_differs")),
        None => Ok(()),
    }
}
