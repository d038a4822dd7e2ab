//! Where the user PIN comes from: a file of its owner alone, or a systemd credential. Read anew at each start of the module
//! host, kept nowhere.

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::agent::config::Token;

/// Longest PIN; PKCS#11 gives no bound, tokens stop far below.
const PIN_BYTES_MAX: u64 = 1024;

/// Why there is no PIN.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Neither or both sources are given.
    #[error("token.pin_file or token.pin_credential must be given, and not both")]
    NoSource,
    /// The credential's directory is not there.
    #[error(
        "token.pin_credential: CREDENTIALS_DIRECTORY is not set; start the agent from a systemd unit with LoadCredential=, or \
         use token.pin_file"
    )]
    NoCredentials,
    /// Cannot be read.
    #[error("{}: the PIN cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could read it.
    #[error("{}: group or others may read the PIN; run `chmod 600` on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// Empty, too long, or no text.
    #[error("{}: holds no PIN: one line of at most {PIN_BYTES_MAX} bytes is expected", path.display())]
    NoPin {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the PIN; one newline at its end is not part of it.
///
/// # Errors
/// [`PinError`].
pub fn read(token: &Token) -> Result<SecretString, PinError> {
    let path = source(token)?;
    let unreadable = |source| PinError::Unreadable {
        path: path.clone(),
        source,
    };
    let file = std::fs::File::open(&path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(PinError::Exposed { path });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(2048));
    file.take(PIN_BYTES_MAX.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let pin = text.strip_suffix('\n').unwrap_or(text);
    let too_long = u64::try_from(bytes.len()).is_ok_and(|length| length > PIN_BYTES_MAX);
    if pin.is_empty() || too_long || pin.contains(['\n', '\0']) {
        return Err(PinError::NoPin { path });
    }
    Ok(SecretString::from(pin))
}

fn source(token: &Token) -> Result<PathBuf, PinError> {
    match (&token.pin_file, &token.pin_credential) {
        (Some(path), None) => Ok(path.clone()),
        (None, Some(name)) => {
            let directory =
                std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(PinError::NoCredentials)?;
            Ok(Path::new(&directory).join(name))
        }
        (None, None) | (Some(_), Some(_)) => Err(PinError::NoSource),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use secrecy::ExposeSecret as _;

    use crate::agent::config::Token;
    use crate::agent::pin::{PinError, read};

    fn token(pin_file: Option<&Path>) -> Token {
        Token {
            module: "module".into(),
            label: "home".to_owned(),
            serial: String::new(),
            pin_file: pin_file.map(Path::to_owned),
            pin_credential: None,
            init_args: None,
        }
    }

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn one_line_of_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        write(&path, "12 34\n", 0o600);
        assert_eq!(read(&token(Some(&path))).unwrap().expose_secret(), "12 34");
        write(&path, "1234", 0o400);
        assert_eq!(read(&token(Some(&path))).unwrap().expose_secret(), "1234");
        for mode in [0o640, 0o604, 0o660] {
            write(&path, "1234\n", mode);
            assert!(matches!(
                read(&token(Some(&path))),
                Err(PinError::Exposed { .. })
            ));
        }
        for bad in ["", "\n", "1\n2\n", &"1".repeat(1025)] {
            write(&path, bad, 0o600);
            let error = read(&token(Some(&path))).unwrap_err();
            assert!(matches!(error, PinError::NoPin { .. }));
        }
        assert!(matches!(read(&token(None)), Err(PinError::NoSource)));
    }
}
