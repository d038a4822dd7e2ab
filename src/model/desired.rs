//! What is wanted of one key version on one keystore: intents and their digests.

use serde::{Deserialize, Serialize};

use crate::model::adoption::Adoption;
use crate::model::canonical::Canonical;
use crate::model::capabilities::Strategy;
use crate::model::ids::{Digest, Generation, KeyVersionId, KeystoreId};
use crate::model::key::{DeactivatedUsage, KeySpec, UsageSet};
use crate::model::observed::{Fingerprint, ObjectClass, ObjectFacts};

/// Longest CKA_ID we handle; longer ones found on tokens are unmanaged and never ours.
pub const CKA_ID_BYTES_MAX: usize = 64;

/// What an instance should be. Ordered by restriction: what reduces use is greater (promises R11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// There and enabled.
    Active,
    /// There and disabled.
    Deactivated,
    /// Not there, for ever.
    Destroyed,
}

impl Want {
    /// The name in reports, API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Destroyed => "destroyed",
        }
    }
}

/// What the objects of an instance look like, whatever is wanted of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectPlan {
    /// CKA_ID: the key version's UUID for objects we made, else what was found when it was adopted.
    pub cka_id: Vec<u8>,
    /// CKA_LABEL.
    pub label: String,
    /// Algorithm and size.
    pub spec: KeySpec,
    /// Usage while active.
    pub usage: UsageSet,
    /// Usage while deactivated.
    pub deactivated_usage: DeactivatedUsage,
    /// The vault's salt for fingerprints.
    pub salt: Vec<u8>,
    /// The weakest strategy that will do; the agent takes a stronger one where its token needs it.
    #[serde(default)]
    pub strategy: Strategy,
}

impl ObjectPlan {
    /// Whether objects of it are on the token under a want that is carried out by a strategy.
    #[must_use]
    pub const fn is_present(want: Want, strategy: Strategy) -> bool {
        match (want, strategy) {
            (Want::Active, _) | (Want::Deactivated, Strategy::Flags | Strategy::Copy) => true,
            (Want::Deactivated, Strategy::Withdraw) | (Want::Destroyed, _) => false,
        }
    }

    /// Whether these are one object of each class, and no other.
    #[must_use]
    pub fn is_exactly<'a>(&self, objects: impl Iterator<Item = &'a ObjectFacts>) -> bool {
        let mut classes: Vec<ObjectClass> = objects.map(|facts| facts.class).collect();
        classes.sort_unstable();
        let mut expected = self.spec.class().objects().to_vec();
        expected.sort_unstable();
        classes == expected
    }

    /// Usage that an object of this class has under a want; nothing for `Destroyed`.
    #[must_use]
    pub fn usage_under(&self, want: Want, class: ObjectClass) -> UsageSet {
        let set = match (want, self.deactivated_usage) {
            (Want::Active, _) => self.usage,
            (Want::Deactivated, DeactivatedUsage::ProcessOnly) => self.usage.process_only(),
            (Want::Deactivated, DeactivatedUsage::None) | (Want::Destroyed, _) => UsageSet::NONE,
        };
        set.for_class(class)
    }
}

/// One wanted state of one instance, numbered. Its digest covers exactly these fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The key version.
    pub version: KeyVersionId,
    /// The keystore: in the digest, so that an intent for another keystore is refused (threats.md T4).
    pub keystore: KeystoreId,
    /// The fence.
    pub generation: Generation,
    /// What is wanted.
    pub want: Want,
    /// What the objects look like.
    pub object: ObjectPlan,
    /// Fingerprint of the right material, from the birth record.
    pub fingerprint: Fingerprint,
}

impl Intent {
    /// SHA-256 of the canonical bytes of all fields.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let object = &self.object;
        let deactivated = match object.deactivated_usage {
            DeactivatedUsage::None => "none",
            DeactivatedUsage::ProcessOnly => "process_only",
        };
        let canonical = Canonical::new("lockstep/intent/2")
            .bytes(self.version.uuid().as_bytes())
            .bytes(self.keystore.uuid().as_bytes())
            .number(self.generation.0)
            .text(self.want.name())
            .bytes(&object.cka_id)
            .text(&object.label);
        object
            .spec
            .write(canonical)
            .number(u64::from(object.usage.bits()))
            .text(deactivated)
            .bytes(&object.salt)
            .text(self.fingerprint.method.name())
            .bytes(&self.fingerprint.value.0)
            .text(object.strategy.name())
            .digest()
    }

    /// The short form that reports carry.
    #[must_use]
    pub fn applied(&self) -> Applied {
        Applied {
            generation: self.generation,
            want: self.want,
            digest: self.digest(),
        }
    }
}

/// Which intent a report speaks of: number and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Its generation.
    pub generation: Generation,
    /// What it wants.
    pub want: Want,
    /// The digest of all of it.
    pub digest: Digest,
}

/// One instance in the store: the intent in force, and whether the keystore is still a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The intent in force.
    pub intent: Intent,
    /// False after the keystore was removed from the key's targets: disabled, kept, no longer synced.
    pub is_target: bool,
    /// When the intent was written, Unix milliseconds.
    pub since: crate::model::vault::UnixMs,
    /// The key's revision that wrote it.
    pub revision: crate::model::ids::Revision,
    /// Of one that others made: what was found. Its objects keep their CKA_ID, label and usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Box<Adoption>>,
}
