//! Who may do what: asked in one place, before anything is read.

use crate::coordinator::ops::errors::OpsError;
use crate::model::ids::{Digest, Revision, VaultId};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The name of the token or person, as in audit entries.
    pub name: String,
    /// What it may do.
    pub rights: Rights,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everything, in all vaults: the administrator's token.
    All,
    /// Only look, in all vaults.
    Read,
}

/// A request's circumstances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who asks.
    pub principal: Principal,
    /// The revision in If-Match; required by every change of something that exists.
    pub if_match: Option<Revision>,
    /// The Idempotency-Key, if one was sent.
    pub idempotency: Option<Idempotency>,
}

/// Makes a request safe to repeat for 30 days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// As sent: 1 to 128 printable ASCII characters.
    pub key: String,
    /// SHA-256 of method, path and body.
    pub request: Digest,
}

/// What a request needs (names of api-v4 5.2 with our prefix).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Look at records and statuses.
    Read,
    /// Make and change vaults.
    VaultWrite,
    /// Make and change templates.
    TemplateWrite,
    /// Make and change keystores.
    KeystoreWrite,
    /// Make keys.
    KeyGenerate,
    /// Change what is written about a key.
    KeyWrite,
    /// Choose keystores, sync.
    KeyDistribute,
    /// Activate and reactivate.
    KeyActivate,
    /// Deactivate and compromise.
    KeyDeactivate,
    /// Destroy.
    KeyDestroy,
    /// Remove the record of a destroyed key.
    KeyRemove,
    /// Read the audit log.
    AuditRead,
    /// Copy the whole store.
    StoreBackup,
}

impl Permission {
    /// The name in refusals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "lockstep.read",
            Self::VaultWrite => "lockstep.vaults.write",
            Self::TemplateWrite => "lockstep.key-templates.write",
            Self::KeystoreWrite => "lockstep.target-keystores.write",
            Self::KeyGenerate => "lockstep.managed-keys.generate",
            Self::KeyWrite => "lockstep.managed-keys.write",
            Self::KeyDistribute => "lockstep.managed-keys.distribute",
            Self::KeyActivate => "lockstep.managed-keys.activate",
            Self::KeyDeactivate => "lockstep.managed-keys.deactivate",
            Self::KeyDestroy => "lockstep.managed-keys.destroy",
            Self::KeyRemove => "lockstep.managed-keys.destroyed-remove",
            Self::AuditRead => "lockstep.audit.read",
            Self::StoreBackup => "lockstep.store.backup",
        }
    }

    const fn only_looks(self) -> bool {
        matches!(self, Self::Read | Self::AuditRead)
    }
}

impl Call {
    /// A call that only looks.
    #[must_use]
    pub fn looking(principal: Principal) -> Self {
        Self {
            principal,
            if_match: None,
            idempotency: None,
        }
    }

    /// Refuses what the principal may not do. The vault is where roles per vault will be asked; none: all vaults.
    pub(crate) fn authorise(
        &self,
        permission: Permission,
        _vault: Option<VaultId>,
    ) -> Result<(), OpsError> {
        let allowed = match self.principal.rights {
            Rights::All => true,
            Rights::Read => permission.only_looks(),
        };
        if allowed {
            Ok(())
        } else {
            Err(OpsError::Forbidden {
                permission: permission.name().to_owned(),
            })
        }
    }

    /// Checks If-Match against a record's revision.
    pub(crate) fn check_revision(&self, current: Revision) -> Result<(), OpsError> {
        match self.if_match {
            None => Err(OpsError::PreconditionRequired { current }),
            Some(asked) if asked == current => Ok(()),
            Some(_other) => Err(OpsError::EtagMismatch { current }),
        }
    }
}
