//! The listener: HTTPS, or HTTP on loopback addresses only.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// Most connections at once; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 512;

/// Largest head of a request, bytes.
const HEAD_BYTES_MAX: u32 = 16 * 1024;

/// Longest time for a TLS handshake and for a head to come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time that requests under way may still take at a shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Rest after a failed accept (such as too many open files), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How to speak to clients.
#[derive(Clone)]
pub enum Scheme {
    /// Plain HTTP: loopback addresses only.
    Http,
    /// HTTPS with this configuration.
    Https(Arc<rustls::ServerConfig>),
}

impl std::fmt::Debug for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "Http",
            Self::Https(_) => "Https",
        })
    }
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Tokens would cross a network in the clear.
    #[error("{address} is not a loopback address: plain HTTP is served on loopback only; use TLS")]
    PlainHttp {
        /// Where it would have listened.
        address: SocketAddr,
    },
    /// The listener has no address.
    #[error("the listener cannot be used")]
    Listener(#[source] std::io::Error),
}

/// Serves until `shutdown` is done, then lets requests under way end.
///
/// # Errors
/// [`ServeError`], before anything is served.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    scheme: Scheme,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    let acceptor = match scheme {
        Scheme::Http if !address.ip().is_loopback() => {
            return Err(ServeError::PlainHttp { address });
        }
        Scheme::Http => None,
        Scheme::Https(config) => Some(TlsAcceptor::from(config)),
    };
    let connections = TaskTracker::new();
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopped) = watch::channel(());
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &seats) => accepted,
        };
        let Some((stream, seat)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (router, acceptor, stopped) = (router.clone(), acceptor.clone(), stopped.clone());
        connections.spawn(async move {
            converse(stream, acceptor, router, stopped).await;
            drop(seat);
        });
    }
    drop(listener);
    drop(stop);
    connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!("requests were still under way at the end");
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    seats: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let seat = Arc::clone(seats).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _peer)) => Some((stream, seat)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            None
        }
    }
}

async fn converse(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    stopped: watch::Receiver<()>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection could not be set up");
    }
    let Some(acceptor) = acceptor else {
        return talk(stream, router, stopped).await;
    };
    match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => talk(stream, router, stopped).await,
        Ok(Err(error)) => tracing::debug!(%error, "a tls handshake failed"),
        Err(_elapsed) => tracing::debug!("a tls handshake was late"),
    }
}

async fn talk<S>(stream: S, router: Router, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(usize::try_from(HEAD_BYTES_MAX).unwrap_or(usize::MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_concurrent_streams(32)
        .keep_alive_interval(Some(Duration::from_secs(20)));
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // The sender is only ever dropped: that is the sign to end.
        _dropped = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
