//! The coordinator's config file: read once, checked wholly, every error with file, key and fix.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// `coordinator.toml`. Secrets are never in it: only the names of files that hold them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where REST API and console listen, such as `127.0.0.1:8420`. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the store and the address file are kept.
    pub state_dir: PathBuf,
    /// File with the bearer token that has all rights; mode 0600.
    pub admin_token_file: PathBuf,
    /// Who the coordinator is towards agents.
    pub fleet: FleetFiles,
    /// Certificate and key for HTTPS; without it the API listens on loopback only, in plain HTTP.
    #[serde(default)]
    pub https: Option<HttpsFiles>,
    /// The PostgreSQL database that several coordinators share; without it the store is an SQLite file in `state_dir`.
    #[serde(default)]
    pub store: Option<Database>,
}

/// A PostgreSQL database.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgresql://user@host/database`, without a password.
    pub url: String,
    /// File with the password; mode 0600.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The CA of the server's certificate, PEM. Needed where the server is not on this machine.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// How long the keystores of a coordinator that fell silent wait for another one, seconds, 3 to 300.
    #[serde(default = "lease_s")]
    pub lease_seconds: u64,
    /// Where people reach this coordinator, if not at `listen`: told by the others.
    #[serde(default)]
    pub address: Option<String>,
}

const fn lease_s() -> u64 {
    10
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold what it should not.
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

/// The coordinator's certificate in the fleet, PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetFiles {
    /// Certificate chain with the URI name `spiffe://<fleet>/coordinator/<name>`.
    pub cert: PathBuf,
    /// Its key; mode 0600.
    pub key: PathBuf,
    /// The fleet's CA.
    pub ca: PathBuf,
}

/// A server certificate for people's clients, PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Its key; mode 0600.
    pub key: PathBuf,
}

/// Why the config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// The file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what it should be; the library's text has line and column.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What, where and what was expected.
        problem: String,
    },
    /// Plain HTTP beyond this machine.
    #[error(
        "{}: listen = \"{listen}\" is not a loopback address: give [https] cert and key, or listen on 127.0.0.1",
        path.display()
    )]
    PlainHttp {
        /// The file.
        path: PathBuf,
        /// The address.
        listen: SocketAddr,
    },
}

impl Config {
    /// Reads and checks the file. Relative paths in it are relative to its directory.
    ///
    /// # Errors
    /// [`InvalidConfig`] names file and key.
    pub fn read(path: &Path) -> Result<Self, InvalidConfig> {
        let text = std::fs::read_to_string(path).map_err(|source| InvalidConfig::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| InvalidConfig::Malformed {
            path: path.to_owned(),
            problem: error.to_string(),
        })?;
        if config.https.is_none() && !config.listen.ip().is_loopback() {
            let listen = config.listen;
            return Err(InvalidConfig::PlainHttp {
                path: path.to_owned(),
                listen,
            });
        }
        if let Some(store) = &config.store
            && !(3..=300).contains(&store.lease_seconds)
        {
            return Err(InvalidConfig::Malformed {
                path: path.to_owned(),
                problem: format!(
                    "[store] lease_seconds = {}: expected 3 to 300",
                    store.lease_seconds
                ),
            });
        }
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        let files = [
            &mut config.state_dir,
            &mut config.admin_token_file,
            &mut config.fleet.cert,
            &mut config.fleet.key,
            &mut config.fleet.ca,
        ];
        for file in files {
            *file = base.join(&*file);
        }
        if let Some(https) = &mut config.https {
            https.cert = base.join(&https.cert);
            https.key = base.join(&https.key);
        }
        if let Some(store) = &mut config.store {
            for file in [&mut store.password_file, &mut store.ca] {
                *file = file.as_ref().map(|file| base.join(file));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use crate::coordinator::config::{Config, InvalidConfig};
    use std::path::Path;

    fn read(text: &str) -> Result<Config, InvalidConfig> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coordinator.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    fn text(listen: &str, extra: &str) -> String {
        format!(
            "listen = \"{listen}\"\nstate_dir = \"state\"\nadmin_token_file = \"t\"\n{extra}\n\
             [fleet]\ncert = \"c\"\nkey = \"k\"\nca = \"/a\"\n"
        )
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = read(&text("127.0.0.1:0", "")).unwrap();
        assert!(config.state_dir.is_absolute() && config.state_dir.ends_with("state"));
        assert_eq!(config.fleet.ca, Path::new("/a"));
    }

    #[test]
    fn errors_name_what_to_mend() {
        let error = |text: &str| read(text).unwrap_err().to_string();
        assert!(error(&text("0.0.0.0:80", "")).contains("not a loopback address"));
        assert!(error(&text("127.0.0.1:0", "lisen = 1")).contains("lisen"));
        assert!(error("listen = \"127.0.0.1:0\"").contains("state_dir"));
        assert!(error(&text("nonsense", "")).contains("listen"));
        let store = |extra: &str| {
            format!(
                "{}[store]\nurl = \"postgresql://u@/d\"\n{extra}",
                text("127.0.0.1:0", "")
            )
        };
        assert!(error(&store("lease_seconds = 2")).contains("expected 3 to 300"));
        assert!(error(&store("password = \"p\"")).contains("password_file"));
        let found = read(&store("password_file = \"p\""))
            .unwrap()
            .store
            .unwrap();
        assert_eq!(found.lease_seconds, 10);
        assert!(found.password_file.unwrap().is_absolute());
    }
}
