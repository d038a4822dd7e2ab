//! The promises as code: each invariant of promises 1.5 with its name, and the checkers that find it broken.
//!
//! Owns: [`Invariant`], [`Violation`], and pure checkers over model types. `history` watches what happened, event by event;
//! `moment` looks at one instant. Never: repairs, decides, or shares a line of logic with what it checks: an oracle that calls
//! `effects` or `status` would find them right whatever they say.
//!
//! Where each is checked. *watch*: `history::Watch` sees it in the simulation and in the model; *moment*: a function of
//! `moment`, for a snapshot of a simulation, of a test with real processes or of production; *doctor*: `lockstep doctor` checks
//! it, as far as one coordinator can see it.
//!
//! | | invariant | watch | moment | doctor |
//! |---|---|---|---|---|
//! | I1 | monotone effects | yes | | no agent behind what it has shown: seen as I17 or as a difference |
//! | I2 | no stale reactivation | yes | | |
//! | I3 | terminal | yes | `terminal` | a destroyed key's record and intents agree; nothing of it on a token |
//! | I4 | uniqueness | born inactive | `unique` | reports name one object of each class |
//! | I5 | truth | | `truth` | each "in sync" against the report it is said of |
//! | I6 | convergence | | `settled` | nothing is late |
//! | I7 | intent first | yes | `recorded` | each intent in force, and each that an agent applied, is in the audit log |
//! | I8 | no acknowledgement before durability | yes | | |
//! | I9 | session | yes | | |
//! | I10 | honest partial | | `honest` | each "in step" key against the reports on all its keystores |
//! | I11 | wrap binding | yes | | agents alone see it |
//! | I12 | four eyes | yes | | |
//! | I13 | log | | `prefixes` | the log's numbers have no gap |
//! | I14 | PIN | yes | | agents alone see it |
//! | I15 | isolation | | `isolated` | |
//! | I16 | bounded | | `bounded` | |
//! | I17 | acknowledged, so kept | | `kept` | each operation is in the audit log; no agent is ahead of the store |

pub mod history;
pub mod moment;

use std::fmt;

/// What must hold at every moment, in the order of promises 1.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// I1.
    MonotoneEffects,
    /// I2.
    NoStaleReactivation,
    /// I3.
    Terminal,
    /// I4.
    Uniqueness,
    /// I5.
    Truth,
    /// I6.
    Convergence,
    /// I7.
    IntentFirst,
    /// I8.
    DurableBeforeDone,
    /// I9.
    Session,
    /// I10.
    HonestPartial,
    /// I11.
    WrapBinding,
    /// I12.
    FourEyes,
    /// I13.
    Log,
    /// I14.
    Pin,
    /// I15.
    Isolation,
    /// I16.
    Bounded,
    /// I17.
    AcknowledgedKept,
}

impl Invariant {
    /// All of them, in order.
    pub const ALL: [Self; 17] = [
        Self::MonotoneEffects,
        Self::NoStaleReactivation,
        Self::Terminal,
        Self::Uniqueness,
        Self::Truth,
        Self::Convergence,
        Self::IntentFirst,
        Self::DurableBeforeDone,
        Self::Session,
        Self::HonestPartial,
        Self::WrapBinding,
        Self::FourEyes,
        Self::Log,
        Self::Pin,
        Self::Isolation,
        Self::Bounded,
        Self::AcknowledgedKept,
    ];

    /// Its number in promises 1.5.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::MonotoneEffects => "I1",
            Self::NoStaleReactivation => "I2",
            Self::Terminal => "I3",
            Self::Uniqueness => "I4",
            Self::Truth => "I5",
            Self::Convergence => "I6",
            Self::IntentFirst => "I7",
            Self::DurableBeforeDone => "I8",
            Self::Session => "I9",
            Self::HonestPartial => "I10",
            Self::WrapBinding => "I11",
            Self::FourEyes => "I12",
            Self::Log => "I13",
            Self::Pin => "I14",
            Self::Isolation => "I15",
            Self::Bounded => "I16",
            Self::AcknowledgedKept => "I17",
        }
    }

    /// Its name in reports, API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MonotoneEffects => "monotone_effects",
            Self::NoStaleReactivation => "no_stale_reactivation",
            Self::Terminal => "terminal",
            Self::Uniqueness => "uniqueness",
            Self::Truth => "truth",
            Self::Convergence => "convergence",
            Self::IntentFirst => "intent_first",
            Self::DurableBeforeDone => "durable_before_done",
            Self::Session => "session",
            Self::HonestPartial => "honest_partial",
            Self::WrapBinding => "wrap_binding",
            Self::FourEyes => "four_eyes",
            Self::Log => "log",
            Self::Pin => "pin",
            Self::Isolation => "isolation",
            Self::Bounded => "bounded",
            Self::AcknowledgedKept => "acknowledged_kept",
        }
    }

    /// In one line, for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::MonotoneEffects => {
                "effects on a key of a keystore never go back to an older generation"
            }
            Self::NoStaleReactivation => {
                "no key is enabled by an order older than its newest deactivation"
            }
            Self::Terminal => "a destroyed key never comes back by our doing",
            Self::Uniqueness => {
                "a key is on a keystore once, and is enabled by an order to enable it only"
            }
            Self::Truth => "what is called in sync is so on the token",
            Self::Convergence => {
                "when faults stop, every key settles, or names what a person has to do"
            }
            Self::IntentFirst => "nothing is done to a token that was not written down before",
            Self::DurableBeforeDone => {
                "nothing is called done before that is durable and was read back"
            }
            Self::Session => "what an ended session carried changes nothing",
            Self::HonestPartial => {
                "no key is called deactivated or destroyed while a part of it can be used"
            }
            Self::WrapBinding => {
                "a key is wrapped only for a keystore that the source itself trusts, and for one purpose"
            }
            Self::FourEyes => {
                "what needs approvals is done only with enough of them, by others than who asked"
            }
            Self::Log => "what was once shown of the audit log never changes",
            Self::Pin => "a refused PIN is never tried again",
            Self::Isolation => "one module's death changes nothing elsewhere and loses no promise",
            Self::Bounded => "queues never hold more than there are keys",
            Self::AcknowledgedKept => "what was acknowledged is kept",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id(), self.name())
    }
}

/// An invariant that was found broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was seen, with the ids it is about, for people.
    pub what: String,
}

impl Violation {
    /// One of them.
    #[must_use]
    pub const fn new(invariant: Invariant, what: String) -> Self {
        Self { invariant, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

#[cfg(test)]
mod tests;
