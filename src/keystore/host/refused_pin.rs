//! What is kept of a PIN that the token refused: enough to know it again, too little to learn it from.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};

const SALT_BYTES: usize = 32;
const TAG_BYTES: usize = 32;

/// HMAC-SHA-256 (RFC 2104) of a random salt, keyed with the PIN. That way round, the PIN is mixed with the pad before it gets
/// into any state that is moved about on the stack: a hash over the PIN leaves it there, as the test of memory has shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RefusedPin {
    salt: [u8; SALT_BYTES],
    tag: [u8; TAG_BYTES],
}

impl RefusedPin {
    /// Of this PIN.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn new(pin: &SecretString) -> Result<Self, Unspecified> {
        let mut salt = [0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt)?;
        let tag = tag(&salt, pin)?;
        Ok(Self { salt, tag })
    }

    /// As [`Self::bytes`] gave it; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (salt, tag) = bytes.split_first_chunk()?;
        Some(Self {
            salt: *salt,
            tag: tag.try_into().ok()?,
        })
    }

    /// To be kept.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [self.salt, self.tag].concat()
    }

    /// Whether it is this very PIN.
    #[must_use]
    pub fn is(&self, pin: &SecretString) -> bool {
        tag(&self.salt, pin).is_ok_and(|tag| verify_slices_are_equal(&tag, &self.tag).is_ok())
    }
}

impl fmt::Debug for RefusedPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefusedPin(..)")
    }
}

fn tag(salt: &[u8], pin: &SecretString) -> Result<[u8; TAG_BYTES], Unspecified> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, pin.expose_secret().as_bytes());
    let tag = hmac::sign(&key, salt);
    tag.as_ref().try_into().map_err(|_length| Unspecified)
}

#[cfg(test)]
mod tests {
    use crate::keystore::host::refused_pin::RefusedPin;

    #[test]
    fn knows_the_very_pin_again_and_keeps_it_not() {
        let refused = RefusedPin::new(&"123456".into()).unwrap();
        let kept = refused.bytes();
        let again = RefusedPin::from_bytes(&kept).unwrap();
        assert_eq!(again, refused);
        assert!(again.is(&"123456".into()));
        assert!(!again.is(&"1234567".into()));
        assert!(!kept.windows(6).any(|part| part == b"123456"));
        assert_ne!(RefusedPin::new(&"123456".into()).unwrap().bytes(), kept);
        for length in [0, 32, 63] {
            assert_eq!(RefusedPin::from_bytes(&kept[..length]), None);
        }
        assert_eq!(format!("{again:?}"), "RefusedPin(..)");
    }
}
