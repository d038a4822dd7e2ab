//! One type per kind of id and number, so that they cannot be mixed up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An id that was not a UUID in its usual text form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID: {text}")]
pub struct InvalidId {
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID drawn elsewhere: this room draws none.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID as it is.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_not_a_uuid| InvalidId { text: text.chars().take(64).collect() })
            }
        }
    };
}

id!(
    /// A vault.
    VaultId
);
id!(
    /// A key template.
    TemplateId
);
id!(
    /// A keystore: made by the agent when it is bound, and the same in marker, store and API.
    KeystoreId
);
id!(
    /// A managed key, through all its versions.
    KeyId
);
id!(
    /// One version of a managed key: one material. Its 16 bytes are the CKA_ID of the objects we make.
    KeyVersionId
);
id!(
    /// A bulk change.
    BulkId
);
id!(
    /// One change asked for by somebody; the Idempotency-Key where it is a UUID.
    OperationId
);
id!(
    /// One run of an agent process.
    BootId
);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number after this one; stays at the last one rather than wrap.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Strictly increasing per key instance: the fence (promises R1, R3). 0 is before the first intent.
    Generation
);
number!(
    /// Counter of a record, +1 by a person or a date; it is the ETag.
    Revision
);
number!(
    /// Number of a keystore's lease.
    Term
);
number!(
    /// Number of a token's binding, in marker and record.
    Epoch
);
number!(
    /// Number of one live stream from a coordinator to an agent, given by the agent.
    SessionNumber
);

/// A SHA-256 value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// From bytes of any length: `None` unless there are exactly 32.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId {
            text: text.chars().take(80).collect(),
        };
        let bytes = crate::model::text::from_hex(text).ok_or_else(invalid)?;
        Self::from_slice(&bytes).ok_or_else(invalid)
    }
}
