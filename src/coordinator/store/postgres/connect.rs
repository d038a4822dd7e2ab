//! The lines to the database: where it is, how it is reached, what it must promise.
//!
//! No password is taken from the URL: it would be in process lists, logs and backups of configs.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr as _;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError,
    RecyclingMethod, Runtime, Timeouts,
};
use rustls::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::because;
use crate::coordinator::store::postgres::failure;
use crate::coordinator::store::postgres::schema::KNOWN;

/// What the server allows one statement, waiting for locks included.
pub(crate) const STATEMENT_WITHIN: Duration = Duration::from_secs(10);

/// A transaction whose coordinator fell silent is ended by the server after this, so that its locks are free.
const IDLE_WITHIN: Duration = Duration::from_secs(5);

/// Longest wait for a new line, and for the answer to whether an old one still works.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Longest wait for a line while all are in use.
const LINE_WITHIN: Duration = Duration::from_secs(10);

/// Bytes that nobody confirmed for this long: the other side is gone.
const UNCONFIRMED_WITHIN: Duration = Duration::from_secs(10);

/// Lines at most: one writes, one listens, the others read.
pub const LINES_MAX: usize = 8;

/// The oldest server whose SQL is used here.
const VERSION_MIN: i32 = 140_000;

/// How to reach the database.
#[derive(Clone)]
pub struct Settings {
    /// `postgresql://user@host:port/database`, or with `?host=/directory` of its socket. Without a password.
    pub url: String,
    /// The password, from a file.
    pub password: Option<SecretString>,
    /// TLS with the CA that vouches for the server. Without it the server must be on this machine.
    pub tls: Option<ClientConfig>,
    /// Where people's clients reach this coordinator.
    pub address: String,
    /// How long a lease lasts without renewal.
    pub lease: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("has_password", &self.password.is_some())
            .field("has_tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// Why the store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is not one. The text is not repeated: it may hold what it should not.
    #[error("the store's URL cannot be read: {problem}")]
    Url {
        /// What is wrong.
        problem: String,
    },
    /// A password in the URL.
    #[error(
        "the store's URL holds a password: take it out, and name a file that holds it (password_file)"
    )]
    PasswordInUrl,
    /// The server is elsewhere, and the line would be in the clear.
    #[error(
        "{host} is not on this machine: name the CA of its certificate (ca), so that the line is encrypted"
    )]
    NoTls {
        /// The host.
        host: String,
    },
    /// A later Lockstep made the schema.
    #[error(
        "the store has schema {found}, this program knows up to {known}: use the newer program, or a backup made before"
    )]
    NewerSchema {
        /// What the database says.
        found: i32,
        /// What this program knows.
        known: i32,
    },
    /// The server does not promise what keys need.
    #[error("the server has {setting} = {value}: {fix}")]
    Unsafe {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What to do.
        fix: &'static str,
    },
    /// The database refused or was not reached.
    #[error("{problem}")]
    Sql {
        /// What it said.
        problem: String,
    },
}

impl From<tokio_postgres::Error> for OpenError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql {
            problem: failure::text(&error),
        }
    }
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        because(&error.to_string())
    }
}

/// The URL with all that is added to it.
///
/// # Errors
/// [`OpenError::Url`], [`OpenError::PasswordInUrl`], [`OpenError::NoTls`].
pub(crate) fn config(settings: &Settings) -> Result<Config, OpenError> {
    // The library's own words may quote the URL.
    let mut config = Config::from_str(&settings.url).map_err(|_quotes_it| OpenError::Url {
        problem: "expected postgresql://user@host/database".to_owned(),
    })?;
    if config.get_password().is_some() {
        return Err(OpenError::PasswordInUrl);
    }
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        let problem = "it names no host (host=/run/postgresql for a socket)".to_owned();
        return Err(OpenError::Url { problem });
    }
    match &settings.tls {
        Some(_) => {
            config.ssl_mode(SslMode::Require);
        }
        None => {
            expect_local(&config)?;
            config.ssl_mode(SslMode::Disable);
        }
    }
    if let Some(password) = &settings.password {
        config.password(password.expose_secret());
    }
    let ms = |limit: Duration| limit.as_millis();
    let ours = format!(
        "-c search_path=lockstep -c statement_timeout={} -c lock_timeout={} \
         -c idle_in_transaction_session_timeout={} -c default_transaction_isolation=read\\ committed",
        ms(STATEMENT_WITHIN),
        ms(STATEMENT_WITHIN),
        ms(IDLE_WITHIN)
    );
    let options = match config.get_options() {
        Some(theirs) => format!("{theirs} {ours}"),
        None => ours,
    };
    config
        .options(options)
        .application_name("lockstep")
        .connect_timeout(CONNECT_WITHIN)
        .tcp_user_timeout(UNCONFIRMED_WITHIN)
        .keepalives_idle(UNCONFIRMED_WITHIN);
    Ok(config)
}

/// Without TLS every host must be this machine.
fn expect_local(config: &Config) -> Result<(), OpenError> {
    for host in config.get_hosts() {
        if let Host::Tcp(name) = host
            && name != "localhost"
            && !name
                .parse()
                .is_ok_and(|address: IpAddr| address.is_loopback())
        {
            return Err(OpenError::NoTls { host: name.clone() });
        }
    }
    for address in config.get_hostaddrs() {
        if !address.is_loopback() {
            let host = address.to_string();
            return Err(OpenError::NoTls { host });
        }
    }
    if config.get_ssl_mode() == SslMode::Require {
        let host = "a URL with sslmode=require".to_owned();
        return Err(OpenError::NoTls { host });
    }
    Ok(())
}

/// A line of its own, outside the pool: for migrations and for listening.
///
/// # Errors
/// [`OpenError::Sql`].
pub(crate) async fn alone(
    config: &Config,
    tls: Option<&ClientConfig>,
    notices: impl FnMut(tokio_postgres::AsyncMessage) + Send + 'static,
) -> Result<Client, OpenError> {
    match tls {
        Some(tls) => {
            let tls = MakeRustlsConnect::new(tls.clone());
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(drive(connection, notices));
            Ok(client)
        }
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(drive(connection, notices));
            Ok(client)
        }
    }
}

async fn drive<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    mut notices: impl FnMut(tokio_postgres::AsyncMessage),
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
        notices(message);
    }
}

/// The pool. Each new line is looked over before it is used: a server may come back with other settings.
///
/// # Errors
/// [`OpenError::Sql`].
pub(crate) fn pool(config: Config, tls: Option<&ClientConfig>) -> Result<Pool, OpenError> {
    let how = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match tls {
        Some(tls) => Manager::from_config(config, MakeRustlsConnect::new(tls.clone()), how),
        None => Manager::from_config(config, NoTls, how),
    };
    let check = Hook::async_fn(|line: &mut ClientWrapper, _metrics| {
        Box::pin(async move {
            let checked = look_over(line).await;
            checked.map_err(|error| HookError::message(error.to_string()))
        })
    });
    Pool::builder(manager)
        .max_size(LINES_MAX)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts {
            wait: Some(LINE_WITHIN),
            create: Some(CONNECT_WITHIN),
            recycle: Some(CONNECT_WITHIN),
        })
        .post_create(check)
        .build()
        .map_err(|error| OpenError::Sql {
            problem: error.to_string(),
        })
}

/// Looks over what the server promises and which schema is there; what can be had for one line is set.
///
/// # Errors
/// [`OpenError::Unsafe`], [`OpenError::NewerSchema`], [`OpenError::Sql`].
pub(crate) async fn look_over(line: &Client) -> Result<(), OpenError> {
    promises(line).await?;
    let found: i32 = line
        .query_one("SELECT schema FROM lockstep.head", &[])
        .await?
        .try_get(0)?;
    if found > KNOWN {
        let known = KNOWN;
        return Err(OpenError::NewerSchema { found, known });
    }
    Ok(())
}

/// What the server promises.
pub(crate) async fn promises(line: &Client) -> Result<(), OpenError> {
    let row = line
        .query_one(
            "SELECT current_setting('server_version_num')::integer, current_setting('fsync'),
                 current_setting('full_page_writes'), current_setting('synchronous_commit'),
                 current_setting('server_encoding')",
            &[],
        )
        .await?;
    let version: i32 = row.try_get(0)?;
    let refuse = |setting, value: &str, fix| {
        let value = value.to_owned();
        Err(OpenError::Unsafe {
            setting,
            value,
            fix,
        })
    };
    if version < VERSION_MIN {
        let value = version.to_string();
        return refuse("server_version_num", &value, "use PostgreSQL 14 or later");
    }
    for (column, setting) in [(1, "fsync"), (2, "full_page_writes")] {
        let value: &str = row.try_get(column)?;
        if value != "on" {
            return refuse(
                setting,
                value,
                "a crash of its machine could lose or tear keys; turn it on",
            );
        }
    }
    let encoding: &str = row.try_get(4)?;
    if encoding != "UTF8" {
        return refuse("server_encoding", encoding, "make the database with UTF8");
    }
    if row.try_get::<_, &str>(3)? == "off" {
        tracing::warn!(
            "the database has synchronous_commit = off; the store turns it on for its own changes"
        );
        line.batch_execute("SET synchronous_commit = on").await?;
    }
    Ok(())
}

/// A line from the pool.
///
/// # Errors
/// `Unavailable`.
pub(crate) async fn line(pool: &Pool) -> Result<Object, StoreError> {
    pool.get().await.map_err(|error| {
        because(&match error {
            PoolError::Backend(error) => failure::text(&error),
            PoolError::Timeout(_)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_) => format!("PostgreSQL: {error}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::coordinator::store::postgres::connect::{OpenError, Settings, config};

    fn tried(url: &str) -> Result<(), OpenError> {
        let settings = Settings {
            url: url.to_owned(),
            password: None,
            tls: None,
            address: String::new(),
            lease: Duration::from_secs(10),
        };
        config(&settings).map(|_config| ())
    }

    #[test]
    fn only_this_machine_is_reached_in_the_clear() {
        for url in [
            "postgresql:///lockstep?host=/run/postgresql",
            "postgresql://u@localhost/d",
            "postgresql://u@127.0.0.1:5433/d",
            "postgresql://u@[::1]/d",
        ] {
            tried(url).unwrap();
        }
        for url in [
            "postgresql://u@db.example/d",
            "postgresql://u@localhost,db.example/d",
            "postgresql://u@10.0.0.1/d",
            "postgresql://u@localhost/d?hostaddr=10.0.0.1",
            "postgresql://u@localhost/d?sslmode=require",
        ] {
            let refused = tried(url).unwrap_err();
            assert!(
                matches!(refused, OpenError::NoTls { .. }),
                "{url} {refused}"
            );
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_never_repeated() {
        let refused = tried("postgresql://u:s3cret@localhost/d").unwrap_err();
        assert!(matches!(refused, OpenError::PasswordInUrl), "{refused}");
        for url in ["s3cret nonsense", "postgresql://u:s3cret@localhost:port/d"] {
            let refused = tried(url).unwrap_err();
            assert!(!format!("{refused} {refused:?}").contains("s3cret"));
        }
        let refused = tried("postgresql:///d").unwrap_err();
        assert!(refused.to_string().contains("no host"), "{refused}");
    }
}
