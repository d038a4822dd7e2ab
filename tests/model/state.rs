//! What the model's world is made of: one key (a pair), a store, two coordinators, and for each target a token, its agent with
//! a durable journal, and a network between. Small numbers throughout: `real` turns them into our own types.

use std::collections::BTreeSet;

use lockstep::model::desired::Want;
use lockstep::model::lifecycle::ManagedState;
use lockstep::model::observed::ObjectClass;

/// An intent: its generation, what it wants, and (for the checks alone) the number of the person's order behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Order {
    pub(crate) generation: u8,
    pub(crate) want: Want,
    pub(crate) number: u8,
}

/// What a token holds under our CKA_ID: how many objects of each half, disabled and enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) private: [u8; 2],
    pub(crate) public: [u8; 2],
}

impl Token {
    pub(crate) fn half(&mut self, class: ObjectClass) -> &mut [u8; 2] {
        if class == ObjectClass::Private {
            &mut self.private
        } else {
            &mut self.public
        }
    }
}

/// One call that changes a token: a step of ours is one or two of them, and a crash comes between any two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Call {
    Add(ObjectClass),
    Set(ObjectClass, bool),
    Remove(ObjectClass),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Taken past the fence, and being written to the journal.
    Received,
    /// Durable: the look comes next.
    Journaled,
    /// Looked: these calls are left.
    Running(Vec<Call>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Report {
    /// The session that carries it.
    pub(crate) session: u8,
    pub(crate) seq: u8,
    pub(crate) applied: Option<Order>,
    pub(crate) is_done: bool,
    /// The agent lost its journal and says so.
    pub(crate) is_lost: bool,
    pub(crate) token: Token,
    /// How many edits by others it has seen.
    pub(crate) edits: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Agent {
    // Durable.
    pub(crate) journal: Option<Order>,
    pub(crate) is_done: bool,
    pub(crate) session: u8,
    /// Something stands in the way of what the journal holds.
    pub(crate) is_halted: bool,
    // Of this run.
    pub(crate) is_live: bool,
    pub(crate) is_lost: bool,
    pub(crate) seq: u8,
    pub(crate) work: Option<(Order, Phase)>,
}

/// One keystore, all around it, and what the checks remember of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The session that the coordinators count reports of; 0: none.
    pub(crate) joined: u8,
    pub(crate) last: Option<Report>,
    /// What each coordinator read last, however long ago.
    pub(crate) caches: [Option<Order>; 2],
    pub(crate) agent: Agent,
    pub(crate) token: Token,
    /// Orders under way, with the session of each: lost, doubled, late or out of order as it comes.
    pub(crate) downs: BTreeSet<(u8, Order)>,
    pub(crate) ups: BTreeSet<Report>,
    pub(crate) edits: u8,
    /// Of these, what reports that counted have shown.
    pub(crate) known_edits: u8,
    pub(crate) seen: Seen,
}

/// For the checks alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    /// Generation of the newest effect, since the journal was lost.
    pub(crate) newest: u8,
    /// Number of the newest order that restricted.
    pub(crate) restricted_by: u8,
    pub(crate) destroyed: bool,
    /// I1, I2, I3: found broken.
    pub(crate) went_back: bool,
    pub(crate) reactivated: bool,
    pub(crate) came_back: bool,
}

/// What a backup of the store holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) state: ManagedState,
    pub(crate) desired: Vec<Option<Order>>,
    /// Reports, by the mutant alone that trusts them after a restart.
    pub(crate) remembered: Vec<Option<Report>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Spent {
    pub(crate) orders: u8,
    pub(crate) syncs: u8,
    pub(crate) crashes: u8,
    pub(crate) restores: u8,
    pub(crate) losses: u8,
    pub(crate) edits: u8,
    pub(crate) reports: u8,
    pub(crate) takeovers: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) backup: Option<Store>,
    pub(crate) targets: Vec<Target>,
    pub(crate) spent: Spent,
}
