//! Canonical bytes of what is digested or signed: one encoding per value, and no two values with one encoding.
//!
//! Each field is written with its length (or as a fixed-width number), in a fixed order, after a domain string.

use sha2::{Digest as _, Sha256};

use crate::model::ids::Digest;

/// Builds canonical bytes.
#[derive(Debug, Clone)]
pub struct Canonical {
    bytes: Vec<u8>,
}

impl Canonical {
    /// Starts with a domain such as `lockstep/intent/1`, which keeps kinds of records apart.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        Self { bytes: Vec::new() }.text(domain)
    }

    /// Appends bytes with their length in front (u64, big endian).
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends text as UTF-8 with its length in front.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Appends a number, eight bytes, big endian.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.bytes.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Appends a value that may be missing: a 0, or a 1 and the bytes.
    #[must_use]
    pub fn optional(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            None => self.number(0),
            Some(bytes) => self.number(1).bytes(bytes),
        }
    }

    /// The bytes: what a signature covers.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// SHA-256 of the bytes.
    #[must_use]
    pub fn digest(self) -> Digest {
        sha256(&self.bytes)
    }
}

/// SHA-256 (FIPS 180-4).
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}
