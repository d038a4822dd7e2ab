//! Names of machines, as URIs in their certificates (the shape of SPIFFE ids).

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What every URI name begins with.
const PREFIX: &str = "spiffe://lockstep/";

/// Longest last part of a name, characters.
pub const NAME_CHARS_MAX: usize = 64;

/// What a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves one keystore.
    Agent,
    /// Calls agents.
    Coordinator,
}

impl Role {
    /// The name in URIs and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Coordinator => "coordinator",
        }
    }
}

impl FromStr for Role {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        [Self::Agent, Self::Coordinator]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| InvalidName::Role {
                text: text.chars().take(NAME_CHARS_MAX).collect(),
            })
    }
}

/// A machine: `spiffe://lockstep/<role>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerName {
    role: Role,
    name: String,
}

/// Why text or a certificate gives no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not a URI of ours.
    #[error("{text:?} is not a name such as spiffe://lockstep/agent/NAME")]
    Uri {
        /// What was given.
        text: String,
    },
    /// Neither agent nor coordinator.
    #[error("{text:?} is neither agent nor coordinator")]
    Role {
        /// What was given.
        text: String,
    },
    /// The last part.
    #[error(
        "a machine's name has 1 to {NAME_CHARS_MAX} characters of a-z A-Z 0-9 . _ - and begins with a letter or digit, not {text:?}"
    )]
    Name {
        /// What was given.
        text: String,
    },
    /// The certificate has none, or several.
    #[error("the certificate carries {found} URI names, not exactly one")]
    Count {
        /// How many.
        found: usize,
    },
    /// The certificate cannot be read.
    #[error("the certificate cannot be read")]
    Certificate,
}

impl PeerName {
    /// Checks the last part and makes the name.
    ///
    /// # Errors
    /// [`InvalidName::Name`].
    pub fn new(role: Role, name: &str) -> Result<Self, InvalidName> {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins && name.chars().all(inside) && name.len() <= NAME_CHARS_MAX {
            Ok(Self {
                role,
                name: name.to_owned(),
            })
        } else {
            Err(InvalidName::Name {
                text: name.chars().take(NAME_CHARS_MAX).collect(),
            })
        }
    }

    /// The one URI name of a certificate. Does not check who signed it.
    ///
    /// # Errors
    /// [`InvalidName`] says what is wrong with the certificate or the name.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, InvalidName> {
        let (_rest, parsed) = X509Certificate::from_der(certificate)
            .map_err(|_unreadable| InvalidName::Certificate)?;
        let alternatives = parsed
            .subject_alternative_name()
            .map_err(|_unreadable| InvalidName::Certificate)?;
        let names = alternatives.map_or(&[][..], |extension| &extension.value.general_names);
        let uris: Vec<&str> = names.iter().filter_map(uri).collect();
        match uris.as_slice() {
            [uri] => uri.parse(),
            uris => Err(InvalidName::Count { found: uris.len() }),
        }
    }

    /// What it is.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The last part.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn uri<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    if let GeneralName::URI(uri) = name {
        Some(uri)
    } else {
        None
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.role.name(), self.name)
    }
}

impl FromStr for PeerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parts = text
            .strip_prefix(PREFIX)
            .and_then(|path| path.split_once('/'));
        match parts {
            Some((role, name)) => Self::new(role.parse()?, name),
            None => Err(InvalidName::Uri {
                text: text.chars().take(120).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tls::name::{InvalidName, PeerName, Role};

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = PeerName::new(Role::Agent, "frankfurt-2.hsm_a").unwrap();
        let text = "spiffe://lockstep/agent/frankfurt-2.hsm_a";
        assert_eq!(name.to_string(), text);
        assert_eq!(text.parse(), Ok(name));
    }

    #[test]
    fn other_names_are_refused() {
        let check = |text: &str, expected: &str| {
            let refused = text.parse::<PeerName>().unwrap_err();
            assert_eq!(refused.to_string(), expected);
        };
        check(
            "spiffe://other/agent/a",
            "\"spiffe://other/agent/a\" is not a name such as spiffe://lockstep/agent/NAME",
        );
        check(
            "spiffe://lockstep/admin/a",
            "\"admin\" is neither agent nor coordinator",
        );
        for bad in ["", "a/b", "-a", "a b", "ä", "a%2f"] {
            let uri = format!("spiffe://lockstep/agent/{bad}");
            let refused = uri.parse::<PeerName>().unwrap_err();
            assert!(matches!(refused, InvalidName::Name { .. }), "{bad}");
        }
        assert!(PeerName::new(Role::Agent, &"a".repeat(64)).is_ok());
        assert!(PeerName::new(Role::Agent, &"a".repeat(65)).is_err());
    }
}
