//! Versions of a managed key: one material each. The record of a key holds the version in use; the others are kept beside it,
//! and every rule about a key is applied to each version by looking at the key as if it had only that one.

use serde::{Deserialize, Serialize};

use crate::model::desired::Want;
use crate::model::ids::KeyVersionId;
use crate::model::key::ManagedKey;
use crate::model::lifecycle::ManagedState;
use crate::model::observed::Fingerprint;
use crate::model::vault::UnixMs;

/// Versions that one key can have: a rotation a day for almost three years, and still a record that is read at once.
pub const VERSIONS_MAX: u32 = 1000;

/// One material of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyVersion {
    /// Its id, and the CKA_ID of its objects.
    pub id: KeyVersionId,
    /// Its number, from 1.
    pub number: u32,
    /// Fingerprint of the material, from the birth record.
    pub fingerprint: Option<Fingerprint>,
    /// Public part of a pair, SubjectPublicKeyInfo in DER.
    pub spki: Option<Vec<u8>>,
    /// Since when keys of this version have been given out; none before.
    pub in_use_since: Option<UnixMs>,
    /// Whether the rotation that replaced it deactivated it: then no activation of the key brings it back.
    pub is_retired: bool,
}

/// A destruction that waits: until then the key is disabled and kept, and can be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The day at whose 00:00 UTC the material is erased, `YYYY-MM-DD`.
    pub until: String,
    /// The state to go back to.
    pub from: ManagedState,
}

/// The dates that were carried out already, by people or by the schedule: each acts once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acted {
    /// The activation date that needs nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<String>,
    /// The expiration date that needs nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<String>,
}

impl ManagedKey {
    /// The version in use.
    #[must_use]
    pub fn current(&self) -> KeyVersion {
        KeyVersion {
            id: self.version,
            number: self.version_number,
            fingerprint: self.fingerprint,
            spki: self.spki.clone(),
            in_use_since: self.in_use_since,
            is_retired: false,
        }
    }

    /// The key as if it had only this version.
    #[must_use]
    pub fn as_version(&self, version: &KeyVersion) -> Self {
        let state = if self.state == ManagedState::Active && version.is_retired {
            ManagedState::Deactivated
        } else {
            self.state
        };
        Self {
            state,
            version: version.id,
            version_number: version.number,
            fingerprint: version.fingerprint,
            spki: version.spki.clone(),
            in_use_since: version.in_use_since,
            past: Vec::new(),
            coming: None,
            ..self.clone()
        }
    }

    /// The key as each of its versions that may be on a token, the one in use first, then newest first.
    #[must_use]
    pub fn by_version(&self) -> Vec<Self> {
        std::iter::once(self.as_version(&self.current()))
            .chain(self.past.iter().rev().map(|past| self.as_version(past)))
            .collect()
    }

    /// Ids of all versions that have material, the coming one too.
    #[must_use]
    pub fn version_ids(&self) -> Vec<KeyVersionId> {
        let coming = self.coming.iter().map(|version| version.id);
        let past = self.past.iter().map(|version| version.id);
        std::iter::once(self.version)
            .chain(past)
            .chain(coming)
            .collect()
    }

    /// The number of the version with this material; only values of one method compare.
    #[must_use]
    pub fn version_with(&self, material: Fingerprint) -> Option<u32> {
        let current = (self.version_number, self.fingerprint);
        let others = self.past.iter().chain(self.coming.as_deref());
        std::iter::once(current)
            .chain(others.map(|version| (version.number, version.fingerprint)))
            .find(|(_, fingerprint)| *fingerprint == Some(material))
            .map(|(number, _)| number)
    }

    /// CKA_LABEL of the objects of the version in use: the key's label, from version 2 on with the version behind it, so that
    /// no two versions on one token have the same.
    #[must_use]
    pub fn object_label(&self) -> String {
        match self.version_number {
            0 | 1 => self.label.as_str().to_owned(),
            number => format!("{}-v{number}", self.label),
        }
    }

    /// Makes a version the one in use; the one before is kept, and retired where that is asked for.
    pub fn replace_version(&mut self, next: KeyVersion, retires: bool, at: UnixMs) {
        let mut before = self.current();
        before.is_retired = retires;
        self.past.push(before);
        self.version = next.id;
        self.version_number = next.number;
        self.fingerprint = next.fingerprint;
        self.spki = next.spki;
        self.in_use_since = Some(at);
        self.coming = None;
    }

    /// Whether the material is to be gone now: destroyed, and not held.
    #[must_use]
    pub const fn is_erased(&self) -> bool {
        self.state.is_destroyed() && self.hold.is_none()
    }

    /// What is wanted of an instance on a keystore: a destruction that is held only disables.
    #[must_use]
    pub const fn want(&self, is_target: bool) -> Option<Want> {
        match self.state.want(is_target) {
            Some(Want::Destroyed) if self.hold.is_some() => Some(Want::Deactivated),
            want => want,
        }
    }
}
