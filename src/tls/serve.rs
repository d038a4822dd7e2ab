//! The accepting side: connections with the handshake done, as a stream for tonic or one by one for others.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::tls::connect::explain;
use crate::tls::error::TlsError;
use crate::tls::name::PeerName;

/// Longest handshake; who is slower is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed accept, such as when file descriptors ran out: else the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Handshaken connections that nobody has taken yet.
const WAITING_MAX: usize = 16;

/// Who is at the other end of an accepted connection: an extension of every request that tonic hands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// By its certificate, which was checked; none where no client certificates are asked for.
    pub name: Option<PeerName>,
    /// Where it calls from.
    pub address: SocketAddr,
}

/// A connection with the handshake done. Counts against the maximum until it is dropped.
#[derive(Debug)]
pub struct Accepted {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
}

impl Accepted {
    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// The connections of one listener. Dropping it closes the listener.
#[derive(Debug)]
pub struct Incoming {
    accepted: mpsc::Receiver<Accepted>,
}

impl Incoming {
    /// The next connection; none after the listener has ended.
    pub async fn accept(&mut self) -> Option<Accepted> {
        self.accepted.recv().await
    }
}

impl Stream for Incoming {
    type Item = std::io::Result<Accepted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.accepted.poll_recv(cx).map(|next| next.map(Ok))
    }
}

/// Listens on an address; port 0 takes a free one.
///
/// # Errors
/// [`TlsError::Listen`].
pub async fn listen(address: SocketAddr) -> Result<TcpListener, TlsError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| TlsError::Listen { address, source })
}

/// Accepts connections and does their handshakes side by side, at most `connections_max` alive at once; further ones
/// wait in the system's backlog. Needs a tokio runtime.
#[must_use]
pub fn incoming(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    connections_max: usize,
) -> Incoming {
    let (sender, accepted) = mpsc::channel(WAITING_MAX);
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(accept_all(listener, acceptor, connections_max, sender));
    Incoming { accepted }
}

async fn accept_all(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections_max: usize,
    sender: mpsc::Sender<Accepted>,
) {
    let places = Arc::new(Semaphore::new(connections_max));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = sender.closed() => return,
            next = next => next,
        };
        match (place, accepted) {
            (Ok(place), Ok((tcp, address))) => {
                tokio::spawn(hand_over(
                    acceptor.clone(),
                    tcp,
                    address,
                    place,
                    sender.clone(),
                ));
            }
            (Ok(_place), Err(error)) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Err(_closed), _) => return,
        }
    }
}

async fn hand_over(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
    sender: mpsc::Sender<Accepted>,
) {
    let shaken = tokio::select! {
        () = sender.closed() => return,
        shaken = handshake(&acceptor, tcp) => shaken,
    };
    match shaken {
        Ok((stream, name)) => {
            let connection = Accepted {
                stream,
                peer: Peer { name, address },
                _permit: place,
            };
            if sender.send(connection).await.is_err() {
                tracing::debug!(%address, "connection came while shutting down");
            }
        }
        Err(why) => tracing::warn!(%address, why, "connection refused"),
    }
}

/// Does one handshake, within [`HANDSHAKE_TIMEOUT`]; gives the stream and the name in the peer's certificate.
///
/// # Errors
/// Why not, for people.
pub async fn handshake(
    acceptor: &TlsAcceptor,
    tcp: TcpStream,
) -> Result<(TlsStream<TcpStream>, Option<PeerName>), String> {
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp))
        .await
        .map_err(|_elapsed| format!("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs()))?
        .map_err(|error| explain(&error))?;
    let (_tcp, connection) = stream.get_ref();
    let name = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(PeerName::of_certificate)
        .transpose()
        .map_err(|invalid| invalid.to_string())?;
    Ok((stream, name))
}

impl Connected for Accepted {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
