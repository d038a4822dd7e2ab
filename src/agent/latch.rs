//! The PIN latch: a PIN that the token refused is never tried again, across restarts too, until its source gives
//! another one (threats.md 9). Otherwise a restart loop would lock a real HSM within seconds.

use std::io;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::agent::durable;
use crate::keystore::host::refused_pin::RefusedPin;

/// The latch file: the bytes of a [`RefusedPin`]. No file: nothing was refused.
#[derive(Debug, Clone)]
pub struct PinLatch {
    path: PathBuf,
}

impl PinLatch {
    /// Names the file.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Whether the token refused this very PIN before.
    ///
    /// # Errors
    /// The system's: the caller then tries nothing.
    pub fn holds(&self, pin: &SecretString) -> io::Result<bool> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let refused = RefusedPin::from_bytes(&bytes).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the PIN latch is damaged; remove it once the PIN is known to be right",
            )
        })?;
        Ok(refused.is(pin))
    }

    /// Remembers that the token refused this PIN.
    ///
    /// # Errors
    /// The system's: the caller then keeps it in memory and stops trying.
    pub fn close(&self, pin: &SecretString) -> io::Result<()> {
        let refused =
            RefusedPin::new(pin).map_err(|_unspecified| io::Error::other("no random numbers"))?;
        durable::replace(&self.path, &refused.bytes())
    }

    /// Forgets: the token took a PIN.
    ///
    /// # Errors
    /// The system's.
    pub fn open(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use crate::agent::latch::PinLatch;

    #[test]
    fn holds_exactly_the_refused_pin_until_one_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin-refused");
        let (wrong, right) = (SecretString::from("1111"), SecretString::from("2222"));
        let latch = PinLatch::new(&path);
        assert!(!latch.holds(&wrong).unwrap());
        latch.close(&wrong).unwrap();
        let again = PinLatch::new(&path);
        assert!(again.holds(&wrong).unwrap());
        assert!(!again.holds(&right).unwrap());
        assert!(
            !std::fs::read(&path)
                .unwrap()
                .windows(4)
                .any(|w| w == b"1111")
        );
        again.open().unwrap();
        again.open().unwrap();
        assert!(!latch.holds(&wrong).unwrap());
        std::fs::write(&path, "short").unwrap();
        latch.holds(&right).unwrap_err();
    }
}
