//! The two-way stream: frames down become inputs of the machine, its frames go up.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::agent::driver::FRAMES_MAX;
use crate::agent::messages::Message;
use crate::agent::service::endpoint::Shared;
use crate::agent::service::trust;
use crate::decide::agent::io::{Input, StreamId};
use crate::model::desired::Intent;
use crate::model::material::{Envelope, Signed};
use crate::model::protocol::{Down, Up};
use crate::wire::v1;

/// Registers the stream with the driver and begins to read it.
///
/// # Errors
/// `unavailable` while the agent stops.
pub async fn open(
    shared: Arc<Shared>,
    down: Streaming<v1::Down>,
) -> Result<impl Stream<Item = Result<v1::Up, Status>> + Send, Status> {
    let stream = shared.next_stream();
    let (frames, up) = mpsc::channel::<Up>(FRAMES_MAX);
    let closed = CancellationToken::new();
    shared
        .tell(Message::Stream {
            stream,
            frames,
            closed: closed.clone().drop_guard(),
        })
        .await?;
    let (end, ended) = mpsc::channel(1);
    drop(tokio::spawn(async move {
        tokio::select! {
            () = closed.cancelled() => {}
            read = read(&shared, stream, down) => if let Err(status) = read {
                tracing::warn!(stream = stream.0, why = status.message(), "a stream ended badly");
                // Full or gone: the coordinator is told by the end of the stream alone.
                drop(end.try_send(status));
            }
        }
        let gone = Message::Input(Input::StreamGone { stream });
        if shared.tell(gone).await.is_err() {
            tracing::debug!("a stream ended while the agent stops");
        }
    }));
    let up = ReceiverStream::new(up).map(|up| Ok(up.into()));
    let ended = ReceiverStream::new(ended).map(Err);
    Ok(up.chain(ended))
}

/// Reads until the stream ends.
async fn read(
    shared: &Shared,
    stream: StreamId,
    mut down: Streaming<v1::Down>,
) -> Result<(), Status> {
    let mut first = true;
    while let Some(raw) = down.message().await? {
        let frame = Down::try_from(raw)?;
        if first != matches!(frame, Down::Open { .. }) {
            return Err(Status::invalid_argument(
                "protocol: the first frame, and only the first, is open",
            ));
        }
        first = false;
        let input = input(shared, stream, frame).await;
        shared.tell(Message::Input(input)).await?;
    }
    Ok(())
}

async fn input(shared: &Shared, stream: StreamId, frame: Down) -> Input {
    match frame {
        Down::Open {
            term,
            keystore,
            cursor,
        } => Input::Open {
            stream,
            term,
            keystore,
            cursor,
        },
        Down::Intent { intent, envelope } => intent_input(shared, stream, intent, envelope).await,
        Down::Look { version } => Input::Look { stream, version },
        Down::Heartbeat { wanted } => Input::Heartbeat { stream, wanted },
    }
}

async fn intent_input(
    shared: &Shared,
    stream: StreamId,
    intent: Box<Intent>,
    envelope: Option<Box<Signed<Envelope>>>,
) -> Input {
    let envelope = match envelope {
        None => None,
        Some(envelope) => Some(check(shared, *envelope).await),
    };
    Input::Intent {
        stream,
        intent,
        envelope,
    }
}

/// The envelope without its signature, if this agent believes it; else the word and why.
async fn check(shared: &Shared, envelope: Signed<Envelope>) -> Result<Box<Envelope>, String> {
    let status = |status: Status| status.message().to_owned();
    let (keystore, _epoch) = shared.bound().map_err(status)?;
    let spki = shared.prepared().await.map_err(status)?.transport_spki;
    match trust::check_envelope(&shared.peers, keystore, &spki, &envelope) {
        Ok(()) => Ok(Box::new(envelope.body)),
        Err(untrusted) => {
            tracing::warn!(
                version = %envelope.body.version,
                source = %envelope.body.source,
                why = %untrusted,
                "an envelope was not believed"
            );
            Err(untrusted.to_string())
        }
    }
}
