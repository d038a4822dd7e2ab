//! What can go wrong with TLS, told so that a person knows what to do.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::tls::name::InvalidName;

/// A failure of this room, by what to do next.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {problem}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Others can read a secret.
    #[error("{path} holds a secret and others can read it (mode {mode:04o}): chmod 600 it")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Certificate and key do not go together, or rustls wants neither.
    #[error("certificate and key cannot be used")]
    Identity(#[source] rustls::Error),
    /// The trust anchors cannot be used.
    #[error("the CA's certificate cannot be used: {problem}")]
    Roots {
        /// Why.
        problem: String,
    },
    /// A name that is not one of ours.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// An address that is not `https://host:port`.
    #[error("{endpoint:?} is not an address such as https://host:port: {problem}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// Why.
        problem: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No connection.
    #[error("{endpoint} cannot be reached: {why}")]
    Unreachable {
        /// Who was called.
        endpoint: String,
        /// Why, for people.
        why: String,
    },
    /// The other side is not who it should be, or did not take us for who we are.
    #[error("{endpoint}: {why}")]
    Peer {
        /// Who was called.
        endpoint: String,
        /// Why, for people.
        why: String,
    },
}

/// An error with all its causes in one line, outermost first; each is said once.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}
