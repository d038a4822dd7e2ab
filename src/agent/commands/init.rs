//! `init` and `identity`.

use crate::agent::commands::{open, say};
use crate::agent::config::Config;
use crate::agent::identity::Identity;
use crate::agent::state_dir::StateDir;
use crate::failpoint::{self, Point};
use crate::model::ids::{Digest, KeystoreId};

/// Makes what is not there yet, and prints who the agent is.
///
/// # Errors
/// Names the file and what to do.
pub fn init(config: &Config) -> anyhow::Result<()> {
    let state = StateDir::new(&config.state_dir);
    state.create()?;
    let _lock = state.lock()?;
    let identity = Identity::load_or_new(&state.identity())?;
    failpoint::reach(Point::Received);
    print(state.keystore_or_new()?, identity.digest())
}

/// Prints who the agent is: `KEYSTORE IDENTITY`, as `peer add` wants them on other agents.
///
/// # Errors
/// Before `init`.
pub fn identity(config: &Config) -> anyhow::Result<()> {
    let own = open::own(config)?;
    print(own.keystore, own.identity.digest())
}

fn print(keystore: KeystoreId, identity: Digest) -> anyhow::Result<()> {
    say(&format!("{keystore} {identity}"))
}
