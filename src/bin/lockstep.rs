//! The coordinator and people's command line. Thin: joins the rooms and turns errors into exit codes.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use lockstep::cli;
use lockstep::cli::args::{CommandLine, CopyArgs, Own, RecoveryKeyArgs, RestoreArgs, ServeArgs};
use lockstep::cli::terminal::Terminal;
use lockstep::clock;
use lockstep::coordinator::api;
use lockstep::coordinator::api::serve::Scheme;
use lockstep::coordinator::config::{Config, InvalidConfig};
use lockstep::coordinator::console::{self, Line};
use lockstep::coordinator::ops::access::Rights;
use lockstep::coordinator::ops::auth::Auth;
use lockstep::coordinator::ops::entropy::SystemEntropy;
use lockstep::coordinator::ops::{Limits, Ops, bulk_run, drift, schedule};
use lockstep::coordinator::reconcile::fleet::Keepers;
use lockstep::coordinator::restore;
use lockstep::coordinator::store::postgres::PostgresStore;
use lockstep::coordinator::store::sqlite::{Settings, SqliteStore};
use lockstep::coordinator::store::{self, Store, postgres};
use lockstep::telemetry;
use lockstep::tls::config::{Identity, https_config, named_server_config, read_secret};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use secrecy::SecretString;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The store's file in the state directory.
const STORE: &str = "store.sqlite";

/// sysexits.h EX_CONFIG: the config must be mended first.
const EXIT_CONFIG: u8 = 78;

pub fn main() -> ExitCode {
    telemetry::abort_on_panic();
    let line = CommandLine::parse();
    match line.own() {
        Some(Own::Serve(args)) => return serve(args),
        Some(Own::Restore(args)) => return told(restored(args)),
        Some(Own::RecoveryKey(args)) => return told(recovery_key(args)),
        Some(Own::StoreCopy(args)) => return told(copied(args)),
        None => {}
    }
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut terminal = Terminal {
        out: &mut out,
        err: &mut err,
    };
    cli::run::run(line, &mut terminal).into()
}

/// `lockstep serve`: the coordinator, until SIGTERM or SIGINT.
fn serve(args: &ServeArgs) -> ExitCode {
    let served = telemetry::init()
        .map_err(anyhow::Error::from)
        .and_then(|()| {
            let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
            runtime.block_on(coordinator(args))
        });
    let Err(error) = served else {
        return ExitCode::SUCCESS;
    };
    tracing::error!(error = format!("{error:#}"), "cannot serve");
    if error.is::<InvalidConfig>() {
        ExitCode::from(EXIT_CONFIG)
    } else {
        ExitCode::FAILURE
    }
}

/// `lockstep store copy`.
fn copied(args: &CopyArgs) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let (password, ca) = (args.password_file.as_deref(), args.database_ca.as_deref());
    let settings = database(args.to.clone(), password, ca)?;
    let copied = runtime.block_on(store::copy::copy(&args.from, &settings))?;
    Ok(copied.to_string())
}

/// How to reach a database.
fn database(
    url: String,
    password_file: Option<&Path>,
    ca: Option<&Path>,
) -> anyhow::Result<postgres::connect::Settings> {
    let password = match password_file {
        None => None,
        Some(file) => {
            let bytes = read_secret(file).context("the database's password cannot be read")?;
            let text = std::str::from_utf8(&bytes)
                .ok()
                .with_context(|| format!("{} is not text", file.display()))?;
            Some(SecretString::from(text.trim_end_matches(['\r', '\n'])))
        }
    };
    Ok(postgres::connect::Settings {
        url,
        password,
        tls: ca.map(named_server_config).transpose()?,
        address: String::new(),
        lease: Duration::from_secs(10),
    })
}

/// The store that the config names.
async fn open_store(config: &Config, address: SocketAddr) -> anyhow::Result<Arc<dyn Store>> {
    let Some(of) = &config.store else {
        let file = config.state_dir.join(STORE);
        return Ok(Arc::new(SqliteStore::open(&file, Settings::default())?));
    };
    let scheme = if config.https.is_some() {
        "https"
    } else {
        "http"
    };
    let named = of.address.clone();
    let settings = postgres::connect::Settings {
        address: named.unwrap_or_else(|| format!("{scheme}://{address}")),
        // The rest is for whoever takes over: its next round, and a session with the agent.
        lease: Duration::from_secs(of.lease_seconds) * 3 / 5,
        ..database(
            of.url.clone(),
            of.password_file.as_deref(),
            of.ca.as_deref(),
        )?
    };
    Ok(Arc::new(PostgresStore::open(settings).await?))
}

/// Each agent and each client is a descriptor, and a thousand agents are all that systems give by default (1,024): takes as
/// many as are allowed.
fn take_descriptors() {
    let allowed = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: allowed,
        maximum: allowed,
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

async fn coordinator(args: &ServeArgs) -> anyhow::Result<()> {
    let stop = stopped()?;
    take_descriptors();
    let config = Config::read(&args.config)?;
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("cannot make {}", config.state_dir.display()))?;
    let fleet = &config.fleet;
    let identity = Identity::load(&fleet.cert, &fleet.key, &fleet.ca)
        .context("the coordinator's certificate cannot be used")?;
    let auth = admin(&config)?;
    let scheme = match &config.https {
        None => Scheme::Http,
        Some(https) => Scheme::Https(https_config(&https.cert, &https.key)?),
    };
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let store = open_store(&config, address).await?;
    let keepers = Keepers::start(Arc::clone(&store), identity).await?;
    let fleet = Arc::new(keepers.clone());
    let ops = Ops::new(store, fleet, Arc::new(SystemEntropy), Limits::default());
    write_address(&config, &address.to_string())?;
    tracing::info!(%address, "serving");
    let line = match &config.https {
        None => Line::LoopbackHttp,
        Some(_) => Line::Https,
    };
    let ops = Arc::new(ops);
    let chores = [
        (
            "the schedule",
            tokio::spawn(schedule::run(Arc::clone(&ops), stop.clone())),
        ),
        (
            "what mends drift",
            tokio::spawn(drift::run(Arc::clone(&ops), stop.clone())),
        ),
        (
            "bulk changes",
            tokio::spawn(bulk_run::run(Arc::clone(&ops), stop.clone())),
        ),
    ];
    let router =
        api::router(Arc::clone(&ops), auth.clone()).merge(console::router(ops, auth, line));
    api::serve::serve(listener, router, scheme, stop.cancelled_owned()).await?;
    for (what, chore) in chores {
        chore.await.with_context(|| format!("{what} broke off"))?;
    }
    keepers.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// A sentence on standard output, or why not on standard error.
fn told(done: anyhow::Result<String>) -> ExitCode {
    match done {
        Ok(sentence) => {
            // Nobody is left to tell when standard output is closed.
            let _told = writeln!(io::stdout(), "{sentence}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _told = writeln!(io::stderr(), "lockstep: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `lockstep recovery-key`.
fn recovery_key(args: &RecoveryKeyArgs) -> anyhow::Result<String> {
    let public = restore::recovery_key(&args.out)?;
    Ok(public.text())
}

/// `lockstep restore`.
fn restored(args: &RestoreArgs) -> anyhow::Result<String> {
    let config = Config::read(&args.config)?;
    anyhow::ensure!(
        config.store.is_none(),
        "the store of this coordinator is PostgreSQL: restore it by the database's own tools"
    );
    let store = config.state_dir.join(STORE);
    let (kept, made_at) = restore::restore(&args.from, &args.key, &store, clock::unix_ms())?;
    let made = made_at.map_or_else(String::new, |at| {
        let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
        format!(" as of {at:.0}")
    });
    let kept = kept.map_or_else(String::new, |kept| {
        format!("; the store that was there is kept as {}", kept.display())
    });
    Ok(format!(
        "restored {}{made}{kept}\nnothing is enabled until `lockstep recover` has been looked at",
        store.display()
    ))
}

/// The token with all rights, from its file.
fn admin(config: &Config) -> anyhow::Result<Auth> {
    let file = &config.admin_token_file;
    let token = read_secret(file).context("the administrator's token cannot be read")?;
    let token = std::str::from_utf8(&token)
        .ok()
        .with_context(|| format!("{} is not text", file.display()))?;
    Auth::default()
        .with_token("admin", token, Rights::All)
        .with_context(|| format!("{}", file.display()))
}

/// Writes where the API listens, so that port 0 can be used; whole or not at all.
fn write_address(config: &Config, address: &str) -> anyhow::Result<()> {
    let path = config.state_dir.join("listen.addr");
    let draft = config.state_dir.join("listen.addr.new");
    std::fs::write(&draft, address)
        .and_then(|()| std::fs::rename(&draft, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Cancelled by SIGTERM or SIGINT; a second one ends the process at once.
fn stopped() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let cancel = token.clone();
    tokio::spawn(async move {
        either(&mut term, &mut int).await;
        cancel.cancel();
        either(&mut term, &mut int).await;
        std::process::exit(1);
    });
    Ok(token)
}

async fn either(term: &mut Signal, int: &mut Signal) {
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
}
