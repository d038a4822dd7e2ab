//! Steps: one fully specified, idempotent act on the token each. The executor chooses nothing.

use serde::{Deserialize, Serialize};

use crate::model::key::UsageSet;
use crate::model::observed::ObjectClass;

/// One act on the objects of one instance (all objects with its CKA_ID).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Unwrap the envelope to token objects with all usage off, sensitive, not extractable; prove the fingerprint; destroy
    /// at once what does not match. Needs the job to carry the envelope. Refuses if objects with the CKA_ID are there.
    Install,
    /// Set all usage attributes of the class to exactly these.
    SetUsage {
        /// Which object.
        class: ObjectClass,
        /// The usages that are on afterwards; all others are off.
        usage: UsageSet,
    },
    /// Put a copy with exactly these usages and the planned label in the place of the object (`copy`): copied, compared, and
    /// all others of the class with the CKA_ID destroyed. Finds what an earlier try left.
    Replace {
        /// Which object.
        class: ObjectClass,
        /// The usages that are on afterwards; all others are off.
        usage: UsageSet,
    },
    /// Prove the key in the envelope as a session object, then unwrap it to the token with the planned usage on, never to be
    /// changed (`withdraw`). Needs the job to carry the envelope. Refuses if objects with the CKA_ID are there.
    InstallEnabled,
    /// Destroy all objects of the class with the CKA_ID, while the envelope shows that the repository holds the key
    /// (`withdraw`). Needs the job to carry the envelope.
    Withdraw {
        /// Which object.
        class: ObjectClass,
    },
    /// Set CKA_LABEL to the planned one.
    SetLabel {
        /// Which object.
        class: ObjectClass,
    },
    /// Destroy all objects of the class with the CKA_ID.
    Destroy {
        /// Which object.
        class: ObjectClass,
    },
    /// Try an operation that the planned usage allows: it must work.
    ProveEnabled,
    /// Try an operation that the planned usage allows: it must be refused.
    ProveDisabled,
}

impl Step {
    /// Whether the job has to carry an envelope.
    #[must_use]
    pub const fn needs_material(&self) -> bool {
        match self {
            Self::Install | Self::InstallEnabled | Self::Withdraw { .. } => true,
            Self::SetUsage { .. }
            | Self::Replace { .. }
            | Self::SetLabel { .. }
            | Self::Destroy { .. }
            | Self::ProveEnabled
            | Self::ProveDisabled => false,
        }
    }

    /// For plans that people confirm.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Install => "install the key, disabled, and check its fingerprint".to_owned(),
            Self::SetUsage { class, usage } if usage.is_empty() => {
                format!("disable the {}", class.name())
            }
            Self::SetUsage { class, usage } => format!("enable the {} for {usage}", class.name()),
            Self::Replace { class, usage } if usage.is_empty() => {
                format!("put a disabled copy in the place of the {}", class.name())
            }
            Self::Replace { class, usage } => format!(
                "put a copy enabled for {usage} in the place of the {}",
                class.name()
            ),
            Self::InstallEnabled => {
                "check the key as a session object, then install it, enabled".to_owned()
            }
            Self::Withdraw { class } => {
                format!("withdraw the {} (the repository keeps it)", class.name())
            }
            Self::SetLabel { class } => format!("set the label of the {}", class.name()),
            Self::Destroy { class } => format!("destroy the {}", class.name()),
            Self::ProveEnabled => "try the key: it must work".to_owned(),
            Self::ProveDisabled => "try the key: the token must refuse".to_owned(),
        }
    }
}
