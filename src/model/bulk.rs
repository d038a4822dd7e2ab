//! Bulk changes: one action on many keys, wave by wave, until somebody or something stops it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::ids::{BulkId, Digest, KeyId, KeystoreId, Revision, TemplateId, VaultId};
use crate::model::lifecycle::{Action, ManagedState};
use crate::model::vault::{Stamps, UnixMs};

/// Keys of one bulk change: their plan is one answer, and their rows are written in one transaction.
pub const KEYS_MAX: usize = 10_000;

/// Waves of one bulk change.
pub const WAVES_MAX: usize = 20;

/// Bulk changes that are running or paused at once.
pub const OPEN_MAX: u64 = 100;

/// How long a wave may take to be confirmed after its last key where nobody says, seconds.
pub const CONFIRM_WITHIN_S: u32 = 600;

/// The longest that can be asked for, seconds: a week.
pub const CONFIRM_WITHIN_S_MAX: u32 = 7 * 24 * 60 * 60;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$about])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in API, CLI and store.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The one of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}

named! {
    /// What is done to each key.
    BulkAction {
        /// Activate, or reactivate.
        Activate = "activate",
        /// Deactivate.
        Deactivate = "deactivate",
        /// Say that the material is known to others.
        Compromise = "compromise",
        /// Erase the material everywhere.
        Destroy = "destroy",
        /// Carry out again what is wanted.
        Sync = "sync",
        /// Make the next version.
        Rotate = "rotate",
        /// Follow the template again.
        UpdateFromTemplate = "update_from_template",
    }
}

impl BulkAction {
    /// The transition; none where the state stays.
    #[must_use]
    pub const fn transition(self) -> Option<Action> {
        match self {
            Self::Activate => Some(Action::Activate),
            Self::Deactivate => Some(Action::Deactivate),
            Self::Compromise => Some(Action::Compromise),
            Self::Destroy => Some(Action::Destroy),
            Self::Sync | Self::Rotate | Self::UpdateFromTemplate => None,
        }
    }

    /// Whether it only takes use away, and that can be taken back: never held back unless somebody asks for it.
    #[must_use]
    pub const fn reduces_use(self) -> bool {
        matches!(self, Self::Deactivate | Self::Compromise)
    }
}

named! {
    /// What stops a bulk change by itself.
    StopOn {
        /// A key that is refused, or is not as wanted anywhere.
        OutOfStep = "out_of_step",
        /// A key that is refused, by the coordinator or for good by a keystore.
        Refusal = "refusal",
        /// Nothing.
        Never = "never",
    }
}

named! {
    /// What happens when a wave is not confirmed in time.
    Late {
        /// It is paused, until a person says to go on.
        Pause = "pause",
        /// The next wave begins.
        GoOn = "go_on",
    }
}

named! {
    /// How far one key is.
    Outcome {
        /// Not its turn yet.
        Pending = "pending",
        /// Its change is written, and not yet confirmed by all keystores.
        Changing = "changing",
        /// All keystores have confirmed.
        Done = "done",
        /// The coordinator or a keystore refused, or a keystore is not as wanted.
        Refused = "refused",
        /// Not touched: nothing to do, refused already by the plan, or changed by somebody else meanwhile.
        Skipped = "skipped",
    }
}

named! {
    /// Why it is paused.
    PauseReason {
        /// Somebody asked for it.
        Person = "person",
        /// A key was refused.
        Refused = "refused",
        /// A key is out of step.
        OutOfStep = "out_of_step",
        /// A wave was not confirmed in time.
        NotConfirmed = "not_confirmed",
        /// The store was restored from a backup: nobody knows what became of it since.
        Restored = "restored",
    }
}

/// How many keys a wave takes, of those that no wave before it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum WaveSize {
    /// So many.
    Keys(u32),
    /// So much of all keys that are to change, rounded up.
    Percent(u8),
    /// Those whose target keystores are all in this group.
    Group(String),
    /// All that are left.
    Rest,
}

/// A size that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a wave is a number of keys (1), a part of all (10%), group:NAME or rest, not {0:?}")]
pub struct InvalidSize(String);

impl fmt::Display for WaveSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) => write!(f, "{keys}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Group(group) => write!(f, "group:{group}"),
            Self::Rest => f.write_str("rest"),
        }
    }
}

impl FromStr for WaveSize {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let invalid = || InvalidSize(text.chars().take(64).collect());
        if text == "rest" {
            return Ok(Self::Rest);
        }
        if let Some(group) = text.strip_prefix("group:") {
            let fits = (1..=100).contains(&group.len());
            return fits
                .then(|| Self::Group(group.to_owned()))
                .ok_or_else(invalid);
        }
        let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.parse().ok().filter(|_| is_number(percent));
            let percent = percent.filter(|percent| (1..=100).contains(percent));
            return percent.map(Self::Percent).ok_or_else(invalid);
        }
        let keys = text.parse().ok().filter(|_| is_number(text));
        keys.filter(|keys| *keys > 0)
            .map(Self::Keys)
            .ok_or_else(invalid)
    }
}

impl From<WaveSize> for String {
    fn from(size: WaveSize) -> Self {
        size.to_string()
    }
}

impl TryFrom<String> for WaveSize {
    type Error = InvalidSize;

    fn try_from(text: String) -> Result<Self, InvalidSize> {
        text.parse()
    }
}

/// Which keys were asked for, where they were not named one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkFilter {
    /// Of this vault.
    pub vault: Option<VaultId>,
    /// Of one of these states; empty: all that are not destroyed.
    pub states: Vec<ManagedState>,
    /// With exactly this label.
    pub label: Option<String>,
    /// Made from this template.
    pub template: Option<TemplateId>,
    /// With an instance on this keystore.
    pub keystore: Option<KeystoreId>,
}

/// How far a bulk change is.
///
/// ```text
/// Running ── the last wave is confirmed ──▶ Done
///    │ ▲
///    │ └─ resume ── Paused ◀── a person, a refusal, out of step, not confirmed in time, a restored store
///    └── cancel (from Paused too) ──▶ Cancelled
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum BulkState {
    /// Any coordinator carries it on.
    Running,
    /// Nothing is changed until somebody says so.
    Paused {
        /// Why.
        reason: PauseReason,
        /// For people.
        message: String,
        /// Since when.
        since: UnixMs,
    },
    /// Nothing more is changed. What was changed stays.
    Cancelled,
    /// All waves were carried out.
    Done,
}

impl BulkState {
    /// The name in API, CLI and store.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused { .. } => "paused",
            Self::Cancelled => "cancelled",
            Self::Done => "done",
        }
    }

    /// All names.
    pub const NAMES: [&'static str; 4] = ["running", "paused", "cancelled", "done"];

    /// Whether something may still change.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        match self {
            Self::Running | Self::Paused { .. } => true,
            Self::Cancelled | Self::Done => false,
        }
    }
}

/// A bulk change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkChange {
    /// Its id.
    pub id: BulkId,
    /// +1 by a person, and with each wave and stop.
    pub revision: Revision,
    /// What is done to each key.
    pub action: BulkAction,
    /// Which keys were asked for; none: they were named. Which they are was settled when it was made.
    pub filter: Option<BulkFilter>,
    /// The waves, in order.
    pub sizes: Vec<WaveSize>,
    /// What stops it.
    pub stop_on: StopOn,
    /// How long a wave may take to be confirmed after its last key, seconds.
    pub confirm_within_s: u32,
    /// What happens then.
    pub late: Late,
    /// Of the plan that it carries out.
    pub digest: Digest,
    /// How many keys there are.
    pub keys: u32,
    /// The wave that is carried out now, from 1.
    pub wave: u32,
    /// Since when, or since it was resumed.
    pub wave_since: UnixMs,
    /// How far it is.
    pub state: BulkState,
    /// When it ended.
    pub ended_at: Option<UnixMs>,
    /// Who made it and when.
    pub stamps: Stamps,
}

/// Why a key was refused or skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// A short code such as `state_conflict`, `already`, or the reason of a difference.
    pub code: String,
    /// For people.
    pub message: String,
}

/// One key of a bulk change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkKey {
    /// Its place in the order, from 0.
    pub place: u32,
    /// The key.
    pub key: KeyId,
    /// Its label when the bulk change was made.
    pub label: String,
    /// Its state then: who changed it since knew better.
    pub state: ManagedState,
    /// Number of its version then.
    pub version: u32,
    /// Its wave, from 1; 0: in none, for nothing is to be done.
    pub wave: u32,
    /// How far it is.
    pub outcome: Outcome,
    /// Why it was refused or skipped.
    pub why: Option<Why>,
    /// How often it was tried again after a refusal.
    pub retries: u32,
    /// When its outcome was written.
    pub at: UnixMs,
}

/// How many keys of one wave are how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Not begun.
    pub pending: u32,
    /// Not confirmed.
    pub changing: u32,
    /// Confirmed.
    pub done: u32,
    /// Refused.
    pub refused: u32,
    /// Not touched.
    pub skipped: u32,
    /// When the last of them was begun that is not confirmed.
    pub last_begun: Option<UnixMs>,
}

impl Tally {
    /// All of them.
    #[must_use]
    pub fn keys(&self) -> u32 {
        let all = [
            self.pending,
            self.changing,
            self.done,
            self.refused,
            self.skipped,
        ];
        all.into_iter().fold(0, u32::saturating_add)
    }

    /// Counts so many more.
    pub fn add(&mut self, outcome: Outcome, count: u32, last: UnixMs) {
        let place = match outcome {
            Outcome::Pending => &mut self.pending,
            Outcome::Changing => {
                self.last_begun = self.last_begun.max(Some(last));
                &mut self.changing
            }
            Outcome::Done => &mut self.done,
            Outcome::Refused => &mut self.refused,
            Outcome::Skipped => &mut self.skipped,
        };
        *place = place.saturating_add(count);
    }
}

#[cfg(test)]
mod tests {
    use crate::model::bulk::WaveSize;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for good in ["1", "250", "10%", "100%", "group:canary tokens", "rest"] {
            assert_eq!(good.parse::<WaveSize>().unwrap().to_string(), good);
        }
        for bad in [
            "", "0", "-1", "+1", "1.5", "0%", "101%", "%", "group:", "all", "1 ", "+5%",
        ] {
            assert!(bad.parse::<WaveSize>().is_err(), "{bad:?}");
        }
    }
}
