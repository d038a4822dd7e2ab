//! `peer add` and `peer list`: whom this agent trusts about keys. A running agent sees a change at once.

use crate::agent::commands::{open, say};
use crate::agent::config::Config;
use crate::model::ids::{Digest, KeystoreId};

/// Lists one more.
///
/// # Errors
/// If another identity is listed for that keystore, or the file cannot be written.
pub fn add(config: &Config, keystore: KeystoreId, identity: Digest) -> anyhow::Result<()> {
    Ok(open::own(config)?.peers().add(keystore, identity)?)
}

/// Prints `KEYSTORE IDENTITY`, one a line.
///
/// # Errors
/// If the file cannot be read.
pub fn list(config: &Config) -> anyhow::Result<()> {
    let list = open::own(config)?.peers().list()?;
    list.iter()
        .try_for_each(|(keystore, identity)| say(&format!("{keystore} {identity}")))
}
