//! Where the user PIN comes from: a file of its owner alone, a systemd credential, or a descriptor that the agent was started
//! with. Read anew at each start of the module host, kept nowhere in this process.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::agent::config::Token;
use crate::agent::descriptor;

/// Longest PIN; PKCS#11 gives no bound, tokens stop far below.
const PIN_BYTES_MAX: u64 = 1024;

/// Why there is no PIN.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// None, or several sources are given.
    #[error(
        "one of token.pin_file, token.pin_credential and token.pin_fd must be given, and no other"
    )]
    NoSource,
    /// The credential's directory is not there.
    #[error(
        "token.pin_credential: CREDENTIALS_DIRECTORY is not set; start the agent from a systemd unit with LoadCredential=, or \
         use token.pin_file"
    )]
    NoCredentials,
    /// Cannot be read.
    #[error("{place}: the PIN cannot be read")]
    Unreadable {
        /// File or descriptor.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could read it.
    #[error("{place}: group or others may read the PIN; run `chmod 600` on it")]
    Exposed {
        /// File or descriptor.
        place: String,
    },
    /// Empty, too long, or no text.
    #[error("{place}: holds no PIN: one line of at most {PIN_BYTES_MAX} bytes is expected")]
    NoPin {
        /// File or descriptor.
        place: String,
    },
}

/// An opened source of the PIN.
#[derive(Debug)]
pub enum Source {
    /// A file, opened at each reading: another file of that name is another PIN.
    File(PathBuf),
    /// A descriptor that can be read from its start again and again.
    Descriptor {
        /// As the config says.
        number: u32,
        /// Our own duplicate.
        file: File,
    },
}

impl Source {
    /// Finds what the config names. A descriptor is taken once: what comes from a pipe is moved to an anonymous file of the
    /// kernel's, since the module host may be started again long after the pipe was closed.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn open(token: &Token) -> Result<Self, PinError> {
        match (&token.pin_file, &token.pin_credential, token.pin_fd) {
            (Some(path), None, None) => Ok(Self::File(path.clone())),
            (None, Some(name), None) => {
                let directory =
                    std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(PinError::NoCredentials)?;
                Ok(Self::File(Path::new(&directory).join(name)))
            }
            (None, None, Some(number)) => {
                let file = descriptor::take(number, PIN_BYTES_MAX).map_err(|source| {
                    let place = format!("token.pin_fd: descriptor {number}");
                    PinError::Unreadable { place, source }
                })?;
                Ok(Self::Descriptor { number, file })
            }
            _none_or_several => Err(PinError::NoSource),
        }
    }

    /// Reads the PIN; one newline at its end is not part of it.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn read(&self) -> Result<SecretString, PinError> {
        let unreadable = |source| PinError::Unreadable {
            place: self.place(),
            source,
        };
        let file = self.file().map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        // What has no name any more cannot be opened by others, whatever its mode.
        if metadata.mode() & 0o077 != 0 && metadata.nlink() > 0 {
            return Err(PinError::Exposed {
                place: self.place(),
            });
        }
        // Room for all of it: a buffer that grew would leave its beginning behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2048));
        file.take(PIN_BYTES_MAX.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let pin = text.strip_suffix('\n').unwrap_or(text);
        let too_long = u64::try_from(bytes.len()).is_ok_and(|length| length > PIN_BYTES_MAX);
        if pin.is_empty() || too_long || pin.contains(['\n', '\0']) {
            return Err(PinError::NoPin {
                place: self.place(),
            });
        }
        Ok(SecretString::from(pin))
    }

    fn file(&self) -> io::Result<File> {
        match self {
            Self::File(path) => File::open(path),
            Self::Descriptor { file, .. } => {
                let mut again = file.try_clone()?;
                again.rewind()?;
                Ok(again)
            }
        }
    }

    fn place(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Descriptor { number, .. } => format!("token.pin_fd: descriptor {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Seek as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use secrecy::{ExposeSecret as _, SecretString};

    use crate::agent::config::Token;
    use crate::agent::pin::{PinError, Source};

    fn token(pin_file: Option<&Path>, pin_fd: Option<u32>) -> Token {
        Token {
            module: "module".into(),
            label: "home".to_owned(),
            serial: String::new(),
            pin_file: pin_file.map(Path::to_owned),
            pin_credential: None,
            pin_fd,
            init_args: None,
        }
    }

    fn read(token: &Token) -> Result<SecretString, PinError> {
        Source::open(token)?.read()
    }

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn number(file: &impl std::os::fd::AsRawFd) -> Option<u32> {
        Some(u32::try_from(file.as_raw_fd()).unwrap())
    }

    #[test]
    fn one_line_of_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        let from_file = token(Some(&path), None);
        write(&path, "12 34\n", 0o600);
        assert_eq!(read(&from_file).unwrap().expose_secret(), "12 34");
        write(&path, "1234", 0o400);
        assert_eq!(read(&from_file).unwrap().expose_secret(), "1234");
        for mode in [0o640, 0o604, 0o660] {
            write(&path, "1234\n", mode);
            let open = File::open(&path).unwrap();
            for source in [&from_file, &token(None, number(&open))] {
                assert!(matches!(read(source), Err(PinError::Exposed { .. })));
            }
        }
        for bad in ["", "\n", "1\n2\n", &"1".repeat(1025)] {
            write(&path, bad, 0o600);
            let error = read(&from_file).unwrap_err();
            assert!(matches!(error, PinError::NoPin { .. }));
        }
        assert!(matches!(read(&token(None, None)), Err(PinError::NoSource)));
        assert!(matches!(
            read(&token(Some(&path), Some(0))),
            Err(PinError::NoSource)
        ));
    }

    #[test]
    fn a_file_that_was_handed_over_is_read_anew() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"1234\n").unwrap();
        let source = Source::open(&token(None, number(&file))).unwrap();
        for _again in 0..2 {
            assert_eq!(source.read().unwrap().expose_secret(), "1234");
        }
        file.rewind().unwrap();
        file.write_all(b"5678\n").unwrap();
        assert_eq!(source.read().unwrap().expose_secret(), "5678");
    }

    #[test]
    fn what_came_through_a_pipe_can_be_read_again() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"1234\n").unwrap();
        drop(writer);
        let source = Source::open(&token(None, number(&reader))).unwrap();
        drop(reader);
        for _again in 0..2 {
            assert_eq!(source.read().unwrap().expose_secret(), "1234");
        }

        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&[b'1'; 1025]).unwrap();
        drop(writer);
        let source = Source::open(&token(None, number(&reader))).unwrap();
        assert!(matches!(source.read(), Err(PinError::NoPin { .. })));
    }

    #[test]
    fn a_descriptor_that_is_not_there_or_no_source_is_told() {
        let told = |number| {
            let error = Source::open(&token(None, Some(number))).unwrap_err();
            assert!(matches!(error, PinError::Unreadable { .. }), "{error}");
            let source = std::error::Error::source(&error).unwrap();
            format!("{error}: {source}")
        };
        assert!(told(900).contains("descriptor 900"), "{}", told(900));
        assert!(told(900).contains("not open"), "{}", told(900));
        assert!(told(u32::MAX).contains("not open"), "{}", told(u32::MAX));
        let device = File::open("/dev/zero").unwrap();
        let device = told(number(&device).unwrap());
        assert!(device.contains("a device"), "{device}");
    }
}
