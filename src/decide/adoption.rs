//! Adopting: what a key that others made becomes, and whether it is one that is managed already. Nothing on the token is
//! changed by it, so what does not fit as it is does not fit.

use crate::decide::effects::effects;
use crate::model::adoption::AdoptionRecord;
use crate::model::capabilities::Strategy;
use crate::model::desired::{Instance, Intent, Want};
use crate::model::key::{DeactivatedUsage, ManagedKey};
use crate::model::lifecycle::ManagedState;
use crate::model::observed::{Found, ObjectClass, ObjectFacts};
use crate::model::step::Step;
use crate::model::template::KeyTemplate;

/// The state of a key that is adopted for the first time: active while anything can be done with it, else deactivated. Never
/// pre-active: that says that it is on no keystore, and in the repository only (design 5).
#[must_use]
pub const fn state_of(record: &AdoptionRecord) -> ManagedState {
    if record.usage.is_empty() {
        ManagedState::Deactivated
    } else {
        ManagedState::Active
    }
}

/// What it may do while deactivated. One that is found with everything off stays so: what its template leaves on would have to
/// be switched on first.
#[must_use]
pub const fn deactivated_usage(
    record: &AdoptionRecord,
    template: &KeyTemplate,
) -> DeactivatedUsage {
    if record.usage.is_empty() {
        DeactivatedUsage::None
    } else {
        template.deactivated_usage
    }
}

/// Why a found key cannot be one more instance of the managed key that has its material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unjoinable {
    /// The material was destroyed.
    #[error(
        "its material is that of {label:?}, which is {}: destroy it on the token, or remove that key's record first",
        state.name()
    )]
    Destroyed {
        /// The key's label.
        label: String,
        /// Its state.
        state: ManagedState,
    },
    /// The key is on the keystore already.
    #[error(
        "the same key is managed as {label:?} and is on this keystore already, under CKA_ID {cka_id}"
    )]
    There {
        /// The key's label.
        label: String,
        /// The CKA_ID there, in hex.
        cka_id: String,
    },
    /// Taking it over would change it.
    #[error(
        "the same key is managed as {label:?} and is {}, while this one is {found}: adopting changes nothing on a token, so \
         bring them together first",
        state.name()
    )]
    StateDiffers {
        /// The key's label.
        label: String,
        /// Its state.
        state: ManagedState,
        /// What was found: `enabled` or `disabled`.
        found: &'static str,
    },
    /// Several keys have the material.
    #[error(
        "{count} managed keys have its material, such as {label:?}: which one is meant cannot be told"
    )]
    Several {
        /// How many.
        count: usize,
        /// The first one's label.
        label: String,
    },
}

impl Unjoinable {
    /// For programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Destroyed { .. } => "material_destroyed",
            Self::There { .. } => "already_on_keystore",
            Self::StateDiffers { .. } => "state_differs",
            Self::Several { .. } => "several_keys",
        }
    }
}

/// The managed key of which the found one is one more instance, among those with its material; none: it is a new one.
///
/// # Errors
/// [`Unjoinable`].
pub fn same_key<'k>(
    record: &AdoptionRecord,
    keys: &'k [ManagedKey],
) -> Result<Option<&'k ManagedKey>, Unjoinable> {
    let mut alive = keys.iter().filter(|key| !key.state.is_destroyed());
    let (key, others) = match (alive.next(), alive.count(), keys.first()) {
        (None, _, None) => return Ok(None),
        (None, _, Some(gone)) => {
            return Err(Unjoinable::Destroyed {
                label: gone.label.to_string(),
                state: gone.state,
            });
        }
        (Some(key), others, _) => (key, others),
    };
    if others > 0 {
        return Err(Unjoinable::Several {
            count: others.saturating_add(1),
            label: key.label.to_string(),
        });
    }
    let is_enabled = !record.usage.is_empty();
    let fits = match key.state {
        ManagedState::Active => is_enabled,
        ManagedState::Deactivated | ManagedState::Compromised => {
            !is_enabled && key.deactivated_usage == DeactivatedUsage::None
        }
        ManagedState::PreActivation
        | ManagedState::Destroyed
        | ManagedState::DestroyedCompromised => false,
    };
    if fits {
        Ok(Some(key))
    } else {
        Err(Unjoinable::StateDiffers {
            label: key.label.to_string(),
            state: key.state,
            found: if is_enabled { "enabled" } else { "disabled" },
        })
    }
}

/// Why a found key cannot be managed by a strategy as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmanageable {
    /// Managing it would change it at once.
    #[error(
        "adopting changes nothing on a token, and managing this key by {} would at once {steps}: bring it to that first, or let \
         it be another strategy there",
        .strategy.name()
    )]
    WouldChange {
        /// By which strategy.
        strategy: Strategy,
        /// The steps, for people.
        steps: String,
    },
    /// Its attributes cannot be changed, and the token makes no copies.
    #[error(
        "its {} cannot be changed (CKA_MODIFIABLE is off) and its token makes no changed copies of such, so it could never be \
         disabled",
        .0.name()
    )]
    NotModifiable(ObjectClass),
    /// Disabling it would take what nobody has.
    #[error("it could be disabled by withdrawing it only")]
    Withdrawn,
}

/// Whether a found key can be managed as it is: the intent that adopts it changes nothing, and one that disables it needs
/// only what there is.
///
/// # Errors
/// [`Unmanageable`].
pub fn manageable(
    intent: &Intent,
    objects: &[ObjectFacts],
    strategy: Strategy,
    can_copy_fixed: bool,
    in_repository: bool,
) -> Result<(), Unmanageable> {
    let found = Found {
        objects: objects.to_vec(),
        fingerprint: Some(intent.fingerprint),
        ..Found::default()
    };
    let steps = |want| {
        let intent = Intent {
            want,
            ..intent.clone()
        };
        // What bars all steps is told by other checks.
        effects(&intent, &found, strategy).unwrap_or_default()
    };
    let disable = steps(Want::Deactivated);
    if !in_repository && disable.iter().any(Step::needs_material) {
        return Err(Unmanageable::Withdrawn);
    }
    if !can_copy_fixed
        && let Some(class) = disable.iter().chain(&steps(Want::Active)).find_map(copied)
        && objects
            .iter()
            .any(|facts| facts.class == class && facts.modifiable == Some(false))
    {
        return Err(Unmanageable::NotModifiable(class));
    }
    let proves = |step: &&Step| matches!(step, Step::ProveEnabled | Step::ProveDisabled);
    let now = steps(intent.want);
    let changes: Vec<String> = now
        .iter()
        .filter(|step| !proves(step))
        .map(Step::describe)
        .collect();
    if changes.is_empty() {
        Ok(())
    } else {
        let steps = changes.join("; ");
        Err(Unmanageable::WouldChange { strategy, steps })
    }
}

const fn copied(step: &Step) -> Option<ObjectClass> {
    if let Step::Replace { class, .. } = step {
        Some(*class)
    } else {
        None
    }
}

/// Refuses a second instance on one keystore.
///
/// # Errors
/// [`Unjoinable::There`].
pub fn not_there(
    record: &AdoptionRecord,
    key: &ManagedKey,
    instances: &[Instance],
) -> Result<(), Unjoinable> {
    let there = instances
        .iter()
        .find(|instance| instance.intent.keystore == record.keystore);
    match there {
        None => Ok(()),
        Some(instance) => Err(Unjoinable::There {
            label: key.label.to_string(),
            cka_id: crate::model::text::hex(&instance.intent.object.cka_id),
        }),
    }
}

#[cfg(test)]
mod tests;
