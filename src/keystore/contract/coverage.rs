//! Which kinds of keys two tokens can have together, and which therefore the suite tries.

use crate::keystore::Keystore;
use crate::keystore::contract::Stage;
use crate::model::capabilities::{Capabilities, Unwrap};
use crate::model::job::Prepared;
use crate::model::key::KeySpec;
use crate::model::keystore::Route;

/// What the suite met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// By kind of key, in the order in which they were asked for.
    pub covered: Vec<Covered>,
    /// What the external token was found to do.
    pub external: Capabilities,
}

/// One kind of key on the two tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// Which.
    pub spec: KeySpec,
    /// How it came to the external one and stood every clause; or what is lacking, so that none was tried.
    pub outcome: Result<Route, Lacking>,
}

/// Why keys of a kind cannot be on the one token from the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// The internal one makes no such keys, or cannot wrap and unwrap them for the repository.
    Source,
    /// The external one takes no such keys.
    Target,
    /// No way of wrapping them that both have.
    Wrapping,
}

impl<K: Keystore> Stage<'_, K> {
    /// The best route that both tokens have; what none can, no agent asks for.
    pub(super) fn route(&self, spec: KeySpec) -> Option<Route> {
        let (ours, theirs) = (&self.home.capabilities, &self.prepared.capabilities);
        ours.routes().common(&theirs.routes(), spec.class())
    }

    /// Whether keys of a kind can be on both, and how they get from the one to the other.
    pub(super) fn covers(&self, spec: KeySpec) -> Covered {
        let has = |of: &Prepared| {
            let kind = of.capabilities.kind(spec.algorithm());
            of.capabilities.takes(spec)
                && kind.is_some_and(|kind| kind.unwrap != Unwrap::Impossible)
        };
        let outcome = if !has(&self.home) {
            Err(Lacking::Source)
        } else if !has(&self.prepared) {
            Err(Lacking::Target)
        } else {
            self.route(spec).ok_or(Lacking::Wrapping)
        };
        Covered { spec, outcome }
    }
}
