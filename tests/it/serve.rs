//! The listener.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use lockstep::coordinator::api::serve::{Scheme, ServeError, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn plain_http_stays_on_loopback() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let never = std::future::pending();
    let refused = serve(listener, Router::new(), Scheme::Http, never).await;
    assert!(
        matches!(refused, Err(ServeError::PlainHttp { .. })),
        "{refused:?}"
    );
}

async fn exchange(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn requests_under_way_end_and_large_heads_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (begun, stop, go) = <(Arc<Notify>, Arc<Notify>, Arc<Notify>)>::default();
    let (has_begun, may_go) = (Arc::clone(&begun), Arc::clone(&go));
    let slow = move || {
        let (begun, go) = (Arc::clone(&has_begun), Arc::clone(&may_go));
        async move {
            begun.notify_one();
            go.notified().await;
            "done"
        }
    };
    let router = Router::new()
        .route("/quick", get(async || "quick"))
        .route("/slow", get(slow));
    let stopped = Arc::clone(&stop);
    let server =
        tokio::spawn(
            async move { serve(listener, router, Scheme::Http, stopped.notified()).await },
        );
    let connect = async || TcpStream::connect(address).await.unwrap();

    let quick = b"GET /quick HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(
        exchange(&mut connect().await, quick)
            .await
            .ends_with("quick")
    );
    let filler = "x".repeat(20 * 1024);
    let large = format!("GET /quick HTTP/1.1\r\nHost: x\r\nX-Filler: {filler}\r\n\r\n");
    let answer = exchange(&mut connect().await, large.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");

    let mut stream = connect().await;
    let asking = tokio::spawn(async move {
        exchange(&mut stream, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await
    });
    tokio::time::timeout(PATIENCE, begun.notified())
        .await
        .unwrap();
    stop.notify_one();
    go.notify_one();
    assert!(asking.await.unwrap().ends_with("done"));
    tokio::time::timeout(PATIENCE, server)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
