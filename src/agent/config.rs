//! The config file: read once, checked whole. Secrets are never in it, only the names of their files.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::model::keystore::Variant;
use crate::tls::name::{PeerName, Role};

/// Exit code for a config that cannot be used (EX_CONFIG of sysexits.h).
pub const EXIT_CODE: u8 = 78;

/// Everything that the agent is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The agent's name, the last part of the URI name in its certificate.
    pub name: String,
    /// Where to listen, `address:port`; port 0 takes a free one, told in `state_dir/listen.addr`.
    pub listen: SocketAddr,
    /// The directory that must not be lost.
    pub state_dir: PathBuf,
    /// Whether the keystore may generate keys.
    pub variant: Variant,
    /// The token.
    pub token: Token,
    /// Environment of the module host, and its only one, such as `SOFTHSM2_CONF`. No secrets: names that say so are refused.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Certificate of this agent.
    pub tls: Tls,
}

/// Which token, and how to open it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The vendor's PKCS#11 library.
    pub module: PathBuf,
    /// The token's label: slot numbers move.
    pub label: String,
    /// The token's serial number, where two tokens have one label.
    #[serde(default)]
    pub serial: String,
    /// File with the user PIN, readable by its owner alone.
    pub pin_file: Option<PathBuf>,
    /// Name of a systemd credential with the user PIN.
    pub pin_credential: Option<String>,
    /// Number of a descriptor that the agent is started with, from which the user PIN can be read to its end; 0 is standard
    /// input. A pipe or socket is read once, at the start; a file each time the PIN is needed.
    pub pin_fd: Option<u32>,
    /// What the library wants in `CK_C_INITIALIZE_ARGS.pReserved`, such as NSS's `configdir=...`.
    pub init_args: Option<String>,
}

impl Token {
    /// Which key of the config says where the PIN is.
    #[must_use]
    pub const fn pin_key(&self) -> &'static str {
        match (&self.pin_file, &self.pin_credential, self.pin_fd) {
            (None, Some(_), _) => "token.pin_credential",
            (None, None, Some(_)) => "token.pin_fd",
            (Some(_), _, _) | (None, None, None) => "token.pin_file",
        }
    }
}

/// Files in PEM.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// This agent's certificate, then what leads to the CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The fleet's CA.
    pub ca: PathBuf,
}

/// A config that cannot be used: which file, which key, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {key}: {problem}; {fix}", file.display())]
pub struct ConfigError {
    /// The config file.
    pub file: PathBuf,
    /// The key in it, or the line.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What makes it right.
    pub fix: String,
}

impl Config {
    /// Reads and checks the file. Relative paths in it start at its directory.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError {
            file: file.to_owned(),
            key: "file".to_owned(),
            problem: error.to_string(),
            fix: "give a readable file with --config".to_owned(),
        })?;
        let mut config: Self =
            toml::from_str(&text).map_err(|error| parse_error(file, &text, &error))?;
        config.resolve(file);
        match config.check() {
            Ok(()) => Ok(config),
            Err((key, problem, fix)) => Err(ConfigError {
                file: file.to_owned(),
                key: key.to_owned(),
                problem,
                fix: fix.to_owned(),
            }),
        }
    }

    fn resolve(&mut self, file: &Path) {
        let base = file.parent().unwrap_or_else(|| Path::new(""));
        // Absolute also where the base is not: the module host runs in another directory.
        let base = std::path::absolute(base).unwrap_or_else(|_empty| base.to_owned());
        let paths = [
            &mut self.state_dir,
            &mut self.token.module,
            &mut self.tls.cert,
            &mut self.tls.key,
            &mut self.tls.ca,
        ];
        for path in paths.into_iter().chain(self.token.pin_file.as_mut()) {
            *path = base.join(&*path);
        }
    }

    fn check(&self) -> Result<(), Fault> {
        PeerName::new(Role::Agent, &self.name).map_err(|invalid| {
            let fix = "use the name in the agent's certificate";
            ("name", invalid.to_string(), fix)
        })?;
        if self.token.label.is_empty() || self.token.label.len() > 32 {
            return Err((
                "token.label",
                "a token label has 1 to 32 bytes".to_owned(),
                "give the label that `pkcs11-tool --list-token-slots` shows",
            ));
        }
        let files = [
            ("token.module", &self.token.module),
            ("tls.cert", &self.tls.cert),
            ("tls.key", &self.tls.key),
            ("tls.ca", &self.tls.ca),
        ];
        for (key, path) in files {
            std::fs::File::open(path).map_err(|error| {
                let problem = format!("{}: {error}", path.display());
                (key, problem, "give a file that this user can read")
            })?;
        }
        check_env(&self.env)
    }
}

type Fault = (&'static str, String, &'static str);

fn check_env(env: &BTreeMap<String, String>) -> Result<(), Fault> {
    let name_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let bad = env.iter().find(|(name, value)| {
        name.is_empty() || !name.chars().all(name_char) || value.contains('\0')
    });
    if let Some((name, _)) = bad {
        return Err((
            "env",
            format!("{name:?} is no variable, or its value cannot be one"),
            "use names of A-Z a-z 0-9 _",
        ));
    }
    match env.keys().find(|name| names_a_secret(name)) {
        None => Ok(()),
        Some(name) => Err((
            "env",
            format!("{name} is the name of a secret, and an environment keeps none"),
            "give the PIN with token.pin_file, token.pin_credential or token.pin_fd",
        )),
    }
}

/// Whether a word of the name says that its value is secret. What a library wants there, such as `CLOUDHSM_PIN`, would stand
/// in this file and in the environment of a process.
fn names_a_secret(name: &str) -> bool {
    const SECRETS: [&str; 7] = [
        "PIN",
        "PASSWORD",
        "PASSWD",
        "PASS",
        "PASSPHRASE",
        "SECRET",
        "CREDENTIAL",
    ];
    name.to_ascii_uppercase()
        .split('_')
        .any(|word| SECRETS.contains(&word))
}

fn parse_error(file: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map_or(0, |span| {
        let before = text.get(..span.start).unwrap_or_default();
        before.matches('\n').count().saturating_add(1)
    });
    ConfigError {
        file: file.to_owned(),
        key: format!("line {line}"),
        problem: error.message().to_owned(),
        fix: "see `lockstep-agent check-config --help` for what can be said".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::agent::config::{Config, ConfigError};

    const GOOD: &str = r#"
name = "home"
listen = "127.0.0.1:0"
state_dir = "state"
variant = "internal"

[token]
module = "here"
label = "home"
pin_file = "pin"

[env]
SOFTHSM2_CONF = "/etc/softhsm2.conf"

[tls]
cert = "here"
key = "here"
ca = "here"
"#;

    fn load(directory: &Path, text: &str) -> Result<Config, ConfigError> {
        let file = directory.join("agent.toml");
        std::fs::write(directory.join("here"), "").unwrap();
        std::fs::write(&file, text).unwrap();
        Config::load(&file)
    }

    #[test]
    fn paths_start_at_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let config = load(directory.path(), GOOD).unwrap();
        assert_eq!(config.state_dir, directory.path().join("state"));
        assert_eq!(config.token.pin_file, Some(directory.path().join("pin")));
        assert_eq!(config.token.serial, "");
    }

    #[test]
    fn errors_name_key_and_fix() {
        let directory = tempfile::tempdir().unwrap();
        let cases = [
            ("name = \"home\"", "name = \"ho me\"", "name: "),
            ("label = \"home\"", "label = \"\"", "token.label: "),
            ("cert = \"here\"", "cert = \"gone\"", "tls.cert: "),
            ("SOFTHSM2_CONF", "\"A=B\"", "env: "),
            ("SOFTHSM2_CONF", "CLOUDHSM_PIN", "env: CLOUDHSM_PIN is"),
            ("SOFTHSM2_CONF", "token_password", "env: token_password is"),
            (
                "[tls]",
                "[tls]\npassword = \"x\"",
                "unknown field `password`",
            ),
            ("\"internal\"", "\"both\"", "line 5: unknown variant `both`"),
            ("127.0.0.1:0", "here", "line 3: invalid socket address"),
            ("key = \"here\"", "", "missing field `key`"),
        ];
        for (from, to, expected) in cases {
            let error = load(directory.path(), &GOOD.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.to_string().contains("agent.toml"), "{error}");
        }
    }
}
