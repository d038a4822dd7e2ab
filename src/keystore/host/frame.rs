//! Frames: a length (four bytes, big endian), then that many bytes of postcard. Nothing is cut, nothing is guessed.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use zeroize::Zeroizing;

/// Longest frame: an inventory of 200,000 objects at 300 bytes each fits; anything longer is garbage.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Room for a first message: a path, two names, a PIN and the library's own arguments.
const SETUP_BYTES_MAX: usize = 64 * 1024;

const LENGTH_BYTES: usize = 4;

/// What is wrong with a frame. The stream cannot be used any further.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The pipe.
    #[error("the pipe to the module host failed")]
    Pipe(#[source] io::Error),
    /// More than [`FRAME_BYTES_MAX`].
    #[error("a frame of {bytes} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLong {
        /// How long it says it is.
        bytes: usize,
    },
    /// Not one whole message and nothing else.
    #[error("a frame does not hold a message")]
    Garbage,
}

/// The frame of a message without secrets.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let body = postcard::to_stdvec(message).map_err(|_no_message| FrameError::Garbage)?;
    let mut frame = Vec::with_capacity(body.len().saturating_add(LENGTH_BYTES));
    frame.extend_from_slice(&length_of(body.len())?);
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The frame of a message with a secret: in one buffer that is never moved while it grows, and wiped.
///
/// # Errors
/// [`FrameError::TooLong`] beyond 64 KiB.
pub fn encode_secret(message: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    let mut room = Zeroizing::new(vec![0_u8; SETUP_BYTES_MAX]);
    let too_long = FrameError::TooLong {
        bytes: SETUP_BYTES_MAX,
    };
    let Ok(body) = postcard::to_slice(message, &mut room) else {
        return Err(too_long);
    };
    let mut frame = Zeroizing::new(Vec::with_capacity(body.len().saturating_add(LENGTH_BYTES)));
    frame.extend_from_slice(&length_of(body.len())?);
    frame.extend_from_slice(body);
    Ok(frame)
}

fn length_of(bytes: usize) -> Result<[u8; LENGTH_BYTES], FrameError> {
    match u32::try_from(bytes) {
        Ok(length) if bytes <= FRAME_BYTES_MAX => Ok(length.to_be_bytes()),
        Ok(_) | Err(_) => Err(FrameError::TooLong { bytes }),
    }
}

fn length_in(header: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(header);
    match usize::try_from(length) {
        Ok(bytes) if bytes <= FRAME_BYTES_MAX => Ok(bytes),
        Ok(bytes) => Err(FrameError::TooLong { bytes }),
        Err(_) => Err(FrameError::TooLong { bytes: usize::MAX }),
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(FrameError::Garbage),
    }
}

/// Writes one message.
///
/// # Errors
/// [`FrameError`].
pub fn write(pipe: &mut impl Write, message: &impl Serialize) -> Result<(), FrameError> {
    pipe.write_all(&encode(message)?).map_err(FrameError::Pipe)
}

/// Reads one message; `None` at the end of the stream. The bytes are wiped: they may hold a PIN.
///
/// # Errors
/// [`FrameError`]; an end in the midst of a frame is one.
pub fn read<T: DeserializeOwned>(pipe: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut header = [0_u8; LENGTH_BYTES];
    let begun = loop {
        match pipe.read(&mut header) {
            Ok(bytes) => break bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Pipe(error)),
        }
    };
    if begun == 0 {
        return Ok(None);
    }
    if let Some(rest) = header.get_mut(begun..) {
        pipe.read_exact(rest).map_err(FrameError::Pipe)?;
    }
    let length = length_in(header)?;
    let mut body = Zeroizing::new(Vec::with_capacity(length.min(SETUP_BYTES_MAX)));
    let mut rest = pipe.take(u64::try_from(length).unwrap_or(u64::MAX));
    whole(rest.read_to_end(&mut body), length)?;
    decode(&body).map(Some)
}

/// As [`read`], from a pipe of the parent. Not to be dropped halfway: what was read would be lost.
///
/// # Errors
/// [`FrameError`]; an end in the midst of a frame is one.
pub async fn receive<T: DeserializeOwned>(
    pipe: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, FrameError> {
    let mut header = [0_u8; LENGTH_BYTES];
    let begun = pipe.read(&mut header).await.map_err(FrameError::Pipe)?;
    if begun == 0 {
        return Ok(None);
    }
    if let Some(rest) = header.get_mut(begun..) {
        pipe.read_exact(rest).await.map_err(FrameError::Pipe)?;
    }
    let length = length_in(header)?;
    let mut body = Vec::with_capacity(length.min(SETUP_BYTES_MAX));
    let mut rest = pipe.take(u64::try_from(length).unwrap_or(u64::MAX));
    whole(rest.read_to_end(&mut body).await, length)?;
    decode(&body).map(Some)
}

/// A body grows with what comes, not with what its length says. One with a PIN fits the room that it begins with, so that it
/// is never moved.
fn whole(came: io::Result<usize>, length: usize) -> Result<(), FrameError> {
    match came {
        Ok(bytes) if bytes == length => Ok(()),
        Ok(_) => Err(FrameError::Pipe(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(FrameError::Pipe(error)),
    }
}

#[cfg(test)]
mod tests {
    use crate::keystore::host::frame::{self, FrameError};
    use crate::keystore::host::protocol::{Pin, Request, Setup};
    use crate::model::job::TokenJob;

    fn refused(bytes: &[u8]) -> FrameError {
        frame::read::<Request>(&mut &*bytes).unwrap_err()
    }

    #[test]
    fn messages_come_back_whole_and_one_by_one() {
        let mut bytes = frame::encode_secret(&Request::Setup(Setup {
            module: "/lib/module.so".into(),
            label: "home".to_owned(),
            serial: String::new(),
            init_args: None,
            pin: Pin::new("1234".into()),
            unsure: false,
        }))
        .unwrap()
        .to_vec();
        let job = Request::Job {
            id: 7,
            job: TokenJob::Scan,
        };
        bytes.extend(frame::encode(&job).unwrap());
        let mut pipe = bytes.as_slice();
        let first: Option<Request> = frame::read(&mut pipe).unwrap();
        let Some(Request::Setup(setup)) = first else {
            panic!("{first:?}");
        };
        assert_eq!(setup.label, "home");
        assert!(!format!("{setup:?}").contains("1234"));
        let second: Option<Request> = frame::read(&mut pipe).unwrap();
        assert!(matches!(
            second,
            Some(Request::Job {
                id: 7,
                job: TokenJob::Scan
            })
        ));
        assert!(frame::read::<Request>(&mut pipe).unwrap().is_none());
    }

    #[test]
    fn garbage_is_refused_and_named() {
        assert!(matches!(
            refused(b"Hello, I am your HSM"),
            FrameError::TooLong { .. }
        ));
        assert!(matches!(refused(&[0, 0]), FrameError::Pipe(_)));
        assert!(matches!(refused(&[0, 0, 0, 2, 1]), FrameError::Pipe(_)));
        assert!(matches!(refused(&[0, 0, 0, 1, 99]), FrameError::Garbage));
        let mut longer = frame::encode(&Request::Job {
            id: 1,
            job: TokenJob::Stop,
        })
        .unwrap();
        longer.push(0);
        longer[3] += 1;
        assert!(matches!(refused(&longer), FrameError::Garbage));
    }
}
