//! What several commands open first: state directory, identity, module host, TLS.

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::{Context as _, ensure};

use crate::agent::config::Config;
use crate::agent::identity::Identity;
use crate::agent::latch::PinLatch;
use crate::agent::peers::Peers;
use crate::agent::pin::Source;
use crate::agent::pin_source::LatchedPin;
use crate::agent::state_dir::StateDir;
use crate::decide::agent::record::{JournalRecord, Record};
use crate::keystore::host::handle::{HostConfig, HostHandle, HostLimits};
use crate::model::ids::KeystoreId;
use crate::model::keystore::Marker;
use crate::telemetry;
use crate::tls::config as tls;
use crate::tls::name::{PeerName, Role};

/// What `init` made.
#[derive(Debug)]
pub struct Own {
    /// The directory.
    pub state: StateDir,
    /// The keystore it is for.
    pub keystore: KeystoreId,
    /// The identity key.
    pub identity: Identity,
}

/// Opens what `init` made.
///
/// # Errors
/// Names the file and what to do.
pub fn own(config: &Config) -> anyhow::Result<Own> {
    let state = StateDir::new(&config.state_dir);
    Ok(Own {
        keystore: state.keystore()?,
        identity: Identity::load(&state.identity())?,
        state,
    })
}

impl Own {
    /// Whom this agent believes.
    #[must_use]
    pub fn peers(&self) -> Peers {
        Peers::new(&self.state.peers(), self.keystore, self.identity.digest())
    }

    /// The binding that the journal holds for this directory's keystore.
    #[must_use]
    pub fn bound(&self, records: &[JournalRecord]) -> Option<Marker> {
        records.iter().rev().find_map(|record| match record {
            JournalRecord::V1(Record::Bound(marker)) if marker.keystore == self.keystore => {
                Some(*marker)
            }
            JournalRecord::V1(
                Record::Bound(_) | Record::Session { .. } | Record::Intent { .. },
            ) => None,
        })
    }
}

/// A module host for the configured token. The first job starts it. Called inside a tokio runtime.
///
/// # Errors
/// If the path of this program is not known.
pub fn host(config: &Config, state: &StateDir, pin: Source) -> anyhow::Result<HostHandle> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let mut env = config.env.clone();
    for variable in [telemetry::FILTER_VARIABLE, telemetry::FORMAT_VARIABLE] {
        if let Ok(value) = std::env::var(variable) {
            env.entry(variable.to_owned()).or_insert(value);
        }
    }
    let latch = PinLatch::new(&state.latch());
    Ok(HostHandle::start(HostConfig {
        program,
        args: vec![OsString::from("module-host")],
        env,
        module: config.token.module.clone(),
        label: config.token.label.clone(),
        serial: config.token.serial.clone(),
        init_args: config.token.init_args.clone(),
        pin: Arc::new(LatchedPin::new(pin, latch)),
        limits: HostLimits::default(),
    }))
}

/// This agent's certificate, which must carry its name.
///
/// # Errors
/// What is wrong with it.
pub fn tls_identity(config: &Config) -> anyhow::Result<tls::Identity> {
    let files = &config.tls;
    let identity = tls::Identity::load(&files.cert, &files.key, &files.ca)?;
    let expected = PeerName::new(Role::Agent, &config.name)?;
    ensure!(
        *identity.name() == expected,
        "the certificate is {}'s, not {expected}'s",
        identity.name()
    );
    Ok(identity)
}
