//! `serve`: everything together, until a signal.

use std::path::Path;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::agent::commands::check_files;
use crate::agent::commands::open::{self, Own};
use crate::agent::config::Config;
use crate::agent::driver::{Driver, Parts};
use crate::agent::durable;
use crate::agent::journal::file::{self, JournalFile};
use crate::agent::journal::rewriting::is_worth;
use crate::agent::journal::writer::JournalWriter;
use crate::agent::probes::Probes;
use crate::agent::service::endpoint::Shared;
use crate::agent::service::server;
use crate::clock::{self, Monotonic};
use crate::decide::agent::Machine;
use crate::decide::agent::io::{Pace, Setup};
use crate::decide::agent::record::JournalRecord;
use crate::keystore::host::handle::HostHandle;
use crate::model::ids::{BootId, Epoch};
use crate::model::keystore::{Marker, Variant};
use crate::tls;

/// Most connections at once: the coordinators of a fleet, their health checks, and people who look.
const CONNECTIONS_MAX: usize = 64;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting: config (exit code 78), state directory, journal, address.
pub fn serve(config: &Config, file: &Path) -> anyhow::Result<()> {
    let pin = check_files(config, file)?;
    let own = open::own(config)?;
    let _lock = own.state.lock()?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let stop = stop_on_signals()?;
            let host = open::host(config, &own.state, pin)?;
            run(config, own, host, stop).await
        })
}

/// All that is served beside one token, until `stop` is cancelled; whoever calls holds the lock of the state directory.
///
/// # Errors
/// What keeps it from starting: certificate, journal, address.
pub async fn run(
    config: &Config,
    own: Own,
    host: HostHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let started = Monotonic::now();
    let tls = tls::config::server_config(&open::tls_identity(config)?)?;
    let recovered = recover(config, &own, started)?;
    let listener = tls::serve::listen(config.listen).await?;
    tell_address(&own, &listener)?;
    let (journal, written) = JournalWriter::start(recovered.file)?;
    let (driver, messages, shown) = Driver::new(Parts {
        machine: recovered.machine,
        started,
        internal: config.variant == Variant::Internal,
        journal,
        written,
        journal_records: recovered.records,
        host,
        probes: Probes::new(own.state.capabilities()),
    });
    let driver = tokio::spawn(driver.run(stop.clone()));
    let shared = Shared {
        bound: recovered
            .bound
            .map(|marker| (marker.keystore, marker.epoch)),
        variant: config.variant,
        peers: own.peers(),
        identity: own.identity,
        messages,
        shown,
        streams: AtomicU64::new(1),
    };
    let incoming = tls::serve::incoming(listener, tls, CONNECTIONS_MAX);
    let served = server::run(shared, incoming, stop.clone()).await;
    // Whatever ended the server, the job under way is waited for.
    stop.cancel();
    driver.await.context("the driver failed")?;
    tracing::info!("stopped");
    served
}

struct Recovered {
    machine: Machine,
    file: JournalFile,
    records: u64,
    bound: Option<Marker>,
}

/// The machine as the journal left it; the journal is made shorter where that is worth it.
fn recover(config: &Config, own: &Own, started: Monotonic) -> anyhow::Result<Recovered> {
    let path = own.state.journal();
    let contents = file::load::<JournalRecord>(&path)?;
    if contents.torn_bytes > 0 {
        tracing::warn!(
            bytes = contents.torn_bytes,
            "the journal ends in an interrupted write; nothing rests on it"
        );
    }
    let bound = own.bound(&contents.records);
    let setup = Setup {
        // Also where the journal knows of no binding: the token's marker then says that it was lost.
        keystore: Some(own.keystore),
        epoch: bound.map_or(Epoch(1), |marker| marker.epoch),
        boot: BootId::from_uuid(Uuid::new_v4()),
        token_label: config.token.label.clone(),
        token_serial: config.token.serial.clone(),
        clock: clock::unix_ms(),
        pace: Pace::default(),
    };
    let machine = Machine::recover(setup, contents.records.clone(), started.elapsed_ms());
    let fewest = machine.records();
    let worth = is_worth(contents.records.len(), fewest.len());
    let file = if worth && own.bound(&fewest) == bound {
        tracing::info!(
            from = contents.records.len(),
            to = fewest.len(),
            "the journal is rewritten"
        );
        file::rewrite(&path, &fewest).or_else(|error| {
            tracing::warn!(%error, "the journal could not be rewritten; it is used as it is");
            file::open(&path, &contents)
        })?
    } else {
        file::open(&path, &contents)?
    };
    Ok(Recovered {
        machine,
        records: file.records(),
        file,
        bound,
    })
}

/// Writes the bound address where scripts find it, and removes what an earlier run left.
fn tell_address(own: &Own, listener: &TcpListener) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let path = own.state.listen_address();
    durable::replace(&path, format!("{address}\n").as_bytes())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    tracing::info!(%address, keystore = %own.keystore, identity = %own.identity.digest(), "listening");
    Ok(())
}

/// The first signal stops gracefully; a second one at once. The module host ends after its call either way.
fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    drop(tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if told.is_cancelled() {
                tracing::warn!("second signal: ending at once");
                std::process::exit(1);
            }
            tracing::info!("stopping");
            told.cancel();
        }
    }));
    Ok(stop)
}
