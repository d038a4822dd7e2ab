//! Jobs: the coarse work that the agent asks of a token. Each opens and closes its own PKCS#11 session in the module host.

use serde::{Deserialize, Serialize};

use crate::model::bounded;
use crate::model::capabilities::Capabilities;
use crate::model::desired::ObjectPlan;
use crate::model::ids::KeyVersionId;
use crate::model::kek::{KekJob, KekNumber, RewrapCopyJob};
use crate::model::key::KeySpec;
use crate::model::keystore::{Marker, Route, TokenInfo};
use crate::model::observed::{Fingerprint, Found, ObjectFacts, Proof};
use crate::model::step::Step;

/// Most objects one inventory carries; a token with more is told as a failure, never cut.
pub const INVENTORY_OBJECTS_MAX: usize = 200_000;

/// Most plans of one survey: bounds its message.
pub const SURVEY_PLANS_MAX: usize = 1024;

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenJob {
    /// Read token info and marker. Cheap: comes before anything is believed about what is missing.
    Identify,
    /// Write the marker. Only when an operator binds the keystore; refused if there is one.
    Bind(Marker),
    /// Create or adopt the transport pair, and on an internal keystore the KEK; try out what works.
    Prepare {
        /// Whether the keystore may generate keys.
        internal: bool,
    },
    /// Read all objects of key classes, with token info and marker before and after: begins, and does a first slice. One that
    /// was begun before is given up.
    Scan,
    /// The next slice of the scan that was begun: other jobs may have been done in between.
    ScanOn,
    /// Find what is under a CKA_ID and take the fingerprint.
    Inspect(ObjectPlan),
    /// As `Inspect` for several, by handles that a scan met: a search for each is linear in the objects at many tokens.
    Survey(Vec<Glance>),
    /// Run steps in order, stop at the first that fails, then read back.
    Run(Box<RunJob>),
    /// Make a key as a session object, take its fingerprint, wrap it under the KEK, destroy it.
    Generate {
        /// Its id.
        version: KeyVersionId,
        /// Algorithm and size.
        spec: KeySpec,
        /// The vault's salt.
        salt: Vec<u8>,
    },
    /// Unwrap a repository blob to a session object, check its fingerprint, wrap it for a transport key, destroy it.
    Rewrap(Box<RewrapJob>),
    /// Unwrap a key from another internal keystore to a session object, check its fingerprint, wrap it under the own KEK,
    /// destroy it.
    TakeOver(Box<TakeOverJob>),
    /// Look at the wrapping keys, make one, or destroy one.
    Kek(KekJob),
    /// Unwrap a repository blob to a session object, check its fingerprint, wrap it under the newest wrapping key, destroy it.
    RewrapCopy(Box<RewrapCopyJob>),
    /// End after the calls under way: finalize and exit.
    Stop,
}

/// One instance of a survey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glance {
    /// Its objects.
    pub object: ObjectPlan,
    /// Where a scan met them: checked before anything is said of them.
    pub handles: Vec<u64>,
}

/// Steps on one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunJob {
    /// The instance's objects.
    pub object: ObjectPlan,
    /// Fingerprint of the right material.
    pub fingerprint: Fingerprint,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// For [`Step::Install`].
    pub envelope: Option<Wrapped>,
    /// What the last look found: handles that may save a search. Checked before use.
    pub hints: Vec<ObjectFacts>,
}

/// The wrapped parts of an envelope, for the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrapped {
    /// How the key is wrapped.
    pub route: Route,
    /// Ephemeral AES-256 key under RSA-OAEP; empty where the key itself is.
    pub wrapped_kek: Vec<u8>,
    /// The key, wrapped; for AES-CBC behind its initialization vector of 16 bytes.
    pub wrapped_key: Vec<u8>,
    /// Public part of a pair.
    pub spki: Option<Vec<u8>>,
}

/// A key to be wrapped for another keystore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrapJob {
    /// Algorithm and size.
    pub spec: KeySpec,
    /// The vault's salt.
    pub salt: Vec<u8>,
    /// What the key must be; else nothing is wrapped.
    pub fingerprint: Fingerprint,
    /// Public part of a pair.
    pub spki: Option<Vec<u8>>,
    /// The key under the KEK of that number.
    pub blob: Vec<u8>,
    /// Which KEK opens it.
    pub kek: KekNumber,
    /// The target's transport key, DER.
    pub transport_spki: Vec<u8>,
    /// How to wrap.
    pub route: Route,
}

/// A key that another internal keystore sent, for the own repository copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOverJob {
    /// Algorithm and size.
    pub spec: KeySpec,
    /// The vault's salt.
    pub salt: Vec<u8>,
    /// What the key must be; else nothing is kept.
    pub fingerprint: Fingerprint,
    /// The key, wrapped for this keystore's transport key.
    pub wrapped: Wrapped,
}

/// What a job gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenAnswer {
    /// To `Identify`.
    Identity(TokenIdentity),
    /// To `Bind`.
    Bound,
    /// To `Prepare`.
    Prepared(Prepared),
    /// To `Scan` and `ScanOn`, where there was no time for all: `ScanOn` goes on.
    Slice(Slice),
    /// To `Scan` and `ScanOn`, at the end.
    Inventory(Inventory),
    /// To `Inspect`.
    Found(Found),
    /// To `Survey`: in the order of the plans, at least the first and as many as there was time for. None: not exactly the
    /// plan's objects were met, or the plan was refused; such a one is to be inspected.
    Surveyed(
        #[serde(deserialize_with = "bounded::list::<_, _, SURVEY_PLANS_MAX>")] Vec<Option<Found>>,
    ),
    /// To `Run`.
    Ran(Box<Ran>),
    /// To `Generate`.
    Generated(Generated),
    /// To `Rewrap`.
    Rewrapped(Wrapped),
    /// To `TakeOver` and `RewrapCopy`.
    TakenOver(Generated),
    /// To `Kek`: the numbers of the wrapping keys that are there, ascending.
    Keks(Vec<KekNumber>),
    /// To `Stop`.
    Stopping,
}

/// Who the token is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenIdentity {
    /// What it says of itself.
    pub info: TokenInfo,
    /// The markers on it; more than one is told, never guessed about.
    pub markers: Vec<Marker>,
}

/// The agent's own keys, and what works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The transport key's public part, DER.
    pub transport_spki: Vec<u8>,
    /// What was tried and works.
    pub capabilities: Capabilities,
}

/// Some of the objects on the token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Objects of key classes, but the agent's own.
    #[serde(deserialize_with = "bounded::list::<_, _, INVENTORY_OBJECTS_MAX>")]
    pub objects: Vec<ObjectFacts>,
    /// Objects whose attributes could not be read.
    pub unreadable: u32,
    /// CPU time of the job in microseconds: paces the next scan.
    pub cpu_us: u64,
}

impl Slice {
    /// Takes what another slice of the same scan met.
    pub fn add(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.unreadable = self.unreadable.saturating_add(other.unreadable);
        self.cpu_us = self.cpu_us.saturating_add(other.cpu_us);
    }
}

/// The last slice of a scan: with those before it, all objects on the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The token, the same when the scan was begun and now.
    pub identity: TokenIdentity,
    /// What none of the slices before it met.
    pub rest: Slice,
}

/// How a run ended, and what is there now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// How many steps were done.
    pub done: u32,
    /// What stopped it.
    pub failure: Option<TokenFailure>,
    /// The proof, if the steps asked for one.
    pub proof: Option<Proof>,
    /// The read-back: from a fresh search after the last step that changed anything.
    pub found: Found,
}

/// A new key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// The key under the newest KEK, RFC 5649.
    pub blob: Vec<u8>,
    /// Which KEK that is.
    pub kek: KekNumber,
    /// Public part of a pair, DER.
    pub spki: Option<Vec<u8>>,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
}

/// What the token (or the module host) answered to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenOutcome {
    /// Done; the answer belongs to the job's kind.
    Done(TokenAnswer),
    /// Refused or failed before any effect that matters, or with effects that a look will show.
    Failed(TokenFailure),
    /// Nobody knows: deadline passed, host died. Look before anything else (promises R7).
    Unknown {
        /// For people.
        why: String,
    },
}

/// A failure on the token, by what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{function}: {rv}{}", if detail.is_empty() { String::new() } else { format!(" ({detail})") })]
pub struct TokenFailure {
    /// What to do next.
    pub kind: FailureKind,
    /// The C_ function, or the name of our own check.
    pub function: String,
    /// The CKR by name, such as `CKR_DEVICE_ERROR`, or empty for our own checks.
    pub rv: String,
    /// For people.
    pub detail: String,
}

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Look again, then try again.
    Retry,
    /// Start the host again, then look.
    Restart,
    /// Permanent for this request: tell it.
    Refused,
    /// The envelope is needed, or another one.
    NeedsMaterial,
    /// The material is not what it should be.
    WrongKey,
    /// Another object has that class and label.
    LabelTaken,
    /// The PIN was refused: never again with this PIN.
    WrongPin,
    /// The PIN is locked or one try is left: nothing was tried.
    PinLocked,
    /// No such token.
    NoToken,
}
