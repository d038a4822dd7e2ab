//! The PIN latch: a PIN that the token refused is never tried again, across restarts too, until its source gives
//! another one (threats.md 9). Otherwise a restart loop would lock a real HSM within seconds. A try is written down before
//! it is made, so that one whose end nobody saw is known.

use std::io;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::agent::durable;
use crate::keystore::host::refused_pin::RefusedPin;

/// Two files with the bytes of a [`RefusedPin`] each: the PIN that was refused, and beside it the one that is being tried.
#[derive(Debug, Clone)]
pub struct PinLatch {
    refused: PathBuf,
    trying: PathBuf,
}

impl PinLatch {
    /// Names the file of the refused PIN.
    #[must_use]
    pub fn new(refused: &Path) -> Self {
        Self {
            refused: refused.to_owned(),
            trying: refused.with_extension("trying"),
        }
    }

    /// Whether the token refused this very PIN before.
    ///
    /// # Errors
    /// The system's: the caller then tries nothing.
    pub fn holds(&self, pin: &SecretString) -> io::Result<bool> {
        Ok(read(&self.refused)?.is_some_and(|refused| refused.is(pin)))
    }

    /// Remembers that this PIN is about to be tried. True: it was before, and nobody knows what the token said.
    ///
    /// # Errors
    /// The system's: the caller then tries nothing.
    pub fn begin(&self, pin: &SecretString) -> io::Result<bool> {
        let unsure = read(&self.trying)?.is_some_and(|tried| tried.is(pin));
        if !unsure {
            write(&self.trying, pin)?;
        }
        Ok(unsure)
    }

    /// Remembers that the token refused this PIN.
    ///
    /// # Errors
    /// The system's: the caller then keeps it in memory and stops trying.
    pub fn close(&self, pin: &SecretString) -> io::Result<()> {
        write(&self.refused, pin)?;
        remove(&self.trying)
    }

    /// Forgets: the token took a PIN.
    ///
    /// # Errors
    /// The system's.
    pub fn open(&self) -> io::Result<()> {
        remove(&self.refused)?;
        remove(&self.trying)
    }

    /// There was no try: the token was not even asked.
    ///
    /// # Errors
    /// The system's: the next try is then taken for an unsure one.
    pub fn unasked(&self) -> io::Result<()> {
        remove(&self.trying)
    }
}

fn read(path: &Path) -> io::Result<Option<RefusedPin>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = || {
        let why = format!(
            "the PIN latch {} is damaged; remove it once the PIN is known to be right",
            path.display()
        );
        io::Error::new(io::ErrorKind::InvalidData, why)
    };
    RefusedPin::from_bytes(&bytes).ok_or_else(damaged).map(Some)
}

fn write(path: &Path, pin: &SecretString) -> io::Result<()> {
    let kept =
        RefusedPin::new(pin).map_err(|_unspecified| io::Error::other("no random numbers"))?;
    durable::replace(path, &kept.bytes())
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
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

    #[test]
    fn knows_a_try_that_nobody_saw_the_end_of() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (SecretString::from("1111"), SecretString::from("2222"));
        let latch = PinLatch::new(&directory.path().join("pin-refused"));
        let again = || PinLatch::new(&directory.path().join("pin-refused"));
        assert!(!latch.begin(&one).unwrap());
        assert!(again().begin(&one).unwrap());
        assert!(!again().begin(&other).unwrap(), "another PIN");
        latch.close(&other).unwrap();
        assert!(!latch.begin(&other).unwrap(), "its end was seen");
        latch.open().unwrap();
        assert!(!latch.begin(&one).unwrap(), "so was that one's");
        latch.unasked().unwrap();
        assert!(!latch.begin(&one).unwrap(), "it was not tried");
    }
}
