//! Backups, an extension: POST answers with the store, sealed for the recovery key that the request names.

use std::fs::File;
use std::io::{self, Write};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::coordinator::api::Api;
use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::seal::{self, PublicKey};
use crate::rest::backup::BackupRequest;

/// Pieces that wait for a slow client.
const PIECES_MAX: usize = 8;

/// POST …/backup
pub(crate) async fn make(
    State(api): State<Api>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    incoming.done(&[])?;
    let asked: BackupRequest = incoming.body()?;
    let to = PublicKey::read(&asked.recovery_key)
        .map_err(|error| Refusal::field("recovery_key", "invalid_value", error.to_string()))?;
    let copy = api.ops.backup(&incoming.call).await?;
    let (pieces, body) = mpsc::channel(PIECES_MAX);
    tokio::task::spawn_blocking(move || send(copy, &to, pieces));
    let headers = [
        (CONTENT_TYPE, "application/octet-stream"),
        (
            CONTENT_DISPOSITION,
            "attachment; filename=\"store.lockstep-backup\"",
        ),
    ];
    Ok((headers, Body::from_stream(ReceiverStream::new(body))).into_response())
}

type Piece = Result<Bytes, io::Error>;

/// A client that sees the body end in an error has no backup; one that was cut off has none that opens.
fn send(mut copy: File, to: &PublicKey, pieces: mpsc::Sender<Piece>) {
    let mut into = Pieces(pieces);
    if let Err(error) = seal::seal(to, &mut copy, &mut into) {
        tracing::warn!(error = %error, "a backup was not made");
        let _client_gone = into
            .0
            .blocking_send(Err(io::Error::other("sealing failed")));
    }
}

struct Pieces(mpsc::Sender<Piece>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        match self.0.blocking_send(Ok(piece)) {
            Ok(()) => Ok(bytes.len()),
            Err(_client_gone) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
