//! Keys that others made: what is known of one on a token, and the record under which it becomes a managed key's instance.

use serde::{Deserialize, Serialize};

use crate::model::canonical::Canonical;
use crate::model::ids::KeystoreId;
use crate::model::key::{KeySpec, UsageSet};
use crate::model::material::{Signed, Statement};
use crate::model::observed::{Fingerprint, ObjectClass, ObjectFacts};
use crate::model::vault::UnixMs;

/// Most keys that one `Examine` names: each costs the token a fingerprint.
pub const EXAMINE_KEYS_MAX: usize = 50;

/// Longest reason for ignoring a key, characters.
pub const REASON_CHARS_MAX: usize = 200;

/// One key on a token: all objects that share a CKA_ID. Objects without one share a label instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    /// CKA_ID; may be empty.
    pub cka_id: Vec<u8>,
    /// CKA_LABEL of what hides the key, else of its public half.
    pub label: String,
    /// Its objects: secret, private, public.
    pub objects: Vec<ObjectFacts>,
}

impl FoundKey {
    /// The key of these objects, which share a CKA_ID; none: there are none.
    #[must_use]
    pub fn of(mut objects: Vec<ObjectFacts>) -> Option<Self> {
        objects.sort_by(|a, b| (a.class, &a.label, a.handle).cmp(&(b.class, &b.label, b.handle)));
        let first = objects.first()?;
        Some(Self {
            cka_id: first.cka_id.clone(),
            label: first.label.clone(),
            objects,
        })
    }

    /// Usages that are on, of all its objects.
    #[must_use]
    pub fn usage(&self) -> UsageSet {
        let on = self.objects.iter().flat_map(|facts| facts.usage.iter());
        UsageSet::of(&on.collect::<Vec<_>>())
    }

    /// Whether CKA_SENSITIVE is on wherever the key hides; what the token does not tell counts as off. None: nothing hides.
    #[must_use]
    pub fn sensitive(&self) -> Option<bool> {
        self.hidden(|facts| facts.sensitive == Some(true))
    }

    /// Whether CKA_EXTRACTABLE is on anywhere; what the token does not tell counts as on. None: nothing hides.
    #[must_use]
    pub fn extractable(&self) -> Option<bool> {
        self.hidden(|facts| facts.extractable == Some(false))
            .map(|is_kept_in| !is_kept_in)
    }

    fn hidden(&self, test: impl Fn(&ObjectFacts) -> bool) -> Option<bool> {
        let mut hidden = self
            .objects
            .iter()
            .filter(|facts| facts.class != ObjectClass::Public)
            .peekable();
        hidden.peek()?;
        Some(hidden.all(test))
    }
}

/// Whose a key on a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundState {
    /// A managed key's.
    Managed,
    /// Nobody's that is known.
    Unmanaged,
    /// Left to others, on purpose.
    Ignored,
}

impl FoundState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Managed, Self::Unmanaged, Self::Ignored];

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The name in API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::Unmanaged => "unmanaged",
            Self::Ignored => "ignored",
        }
    }
}

/// A key on a token that an agent is asked to examine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// CKA_ID, 1 to 64 bytes.
    pub cka_id: Vec<u8>,
    /// CKA_LABEL of all its objects.
    pub label: String,
    /// Algorithm and size, as its objects tell.
    pub spec: KeySpec,
}

/// What an agent found out about one: its signed record, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Examined {
    /// What it is.
    Known(Box<Signed<AdoptionRecord>>),
    /// Why it cannot be said, for people.
    Unknown {
        /// Such as the C_ function and CKR that stood in the way of a fingerprint.
        why: String,
    },
}

/// Says which material a key is that was not made through Lockstep, and how it was found. Made by the agent beside its token; in
/// place of a birth record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptionRecord {
    /// The keystore it was found on.
    pub keystore: KeystoreId,
    /// Its CKA_ID, which it keeps.
    pub cka_id: Vec<u8>,
    /// Its CKA_LABEL, made printable, which it keeps.
    pub label: String,
    /// Algorithm and size.
    pub spec: KeySpec,
    /// Fingerprint of the material under `salt`.
    pub fingerprint: Fingerprint,
    /// The vault's salt.
    pub salt: Vec<u8>,
    /// Usages that were on, of both halves of a pair.
    pub usage: UsageSet,
    /// Whether CKA_SENSITIVE was on; what the token does not tell counts as off.
    pub sensitive: bool,
    /// Whether CKA_EXTRACTABLE was on; what the token does not tell counts as on.
    pub extractable: bool,
    /// When, by that agent's clock. For people.
    pub at: UnixMs,
}

impl Statement for AdoptionRecord {
    fn canonical(&self) -> Vec<u8> {
        let canonical = Canonical::new("lockstep/adoption/1")
            .bytes(self.keystore.uuid().as_bytes())
            .bytes(&self.cka_id)
            .text(&self.label);
        self.spec
            .write(canonical)
            .text(self.fingerprint.method.name())
            .bytes(&self.fingerprint.value.0)
            .bytes(&self.salt)
            .number(u64::from(self.usage.bits()))
            .number(u64::from(self.sensitive))
            .number(u64::from(self.extractable))
            .number(self.at.0.unsigned_abs())
            .finish()
    }
}

/// What makes an instance an adopted one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// What its agent said of it.
    pub record: Signed<AdoptionRecord>,
    /// Whether the repository had the key's material then: it can be installed again where it gets lost.
    pub in_repository: bool,
}

/// A key on a token that somebody decided to leave to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ignored {
    /// The keystore.
    pub keystore: KeystoreId,
    /// Its CKA_ID; may be empty.
    pub cka_id: Vec<u8>,
    /// Its CKA_LABEL, made printable.
    pub label: String,
    /// Why, for people; 1 to [`REASON_CHARS_MAX`] characters.
    pub reason: String,
    /// When.
    pub at: UnixMs,
    /// By whom.
    pub by: String,
}
