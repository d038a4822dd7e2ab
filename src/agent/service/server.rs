//! The server: our service with `grpc.health.v1` and reflection, until it is told to stop.

use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::agent::messages::Shown;
use crate::agent::service::endpoint::{AgentService, Shared};
use crate::model::keystore::Health;
use crate::tls::serve::Incoming;
use crate::wire::limits::MESSAGE_BYTES_MAX;
use crate::wire::v1::DESCRIPTORS;
use crate::wire::v1::agent_server::{AgentServer, SERVICE_NAME};

/// Most calls under way on one connection.
const CALLS_PER_CONNECTION_MAX: usize = 256;

/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How long connections may take to end once the streams have.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until `stop` is cancelled and the connections have ended, or were given time to.
///
/// # Errors
/// If the server cannot be built or fails.
pub async fn run(
    shared: Shared,
    incoming: Incoming,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let follow = tokio::spawn(follow_health(health, shared.shown.clone(), stop.clone()));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let service = AgentServer::new(AgentService::new(shared))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let drained = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = server => served.context("the server failed")?,
        () = drained => tracing::info!("some connections did not end in time"),
    }
    follow.abort();
    Ok(())
}

/// The overall status says that the process serves; the service's own, whether its token can be used.
async fn follow_health(
    health: HealthReporter,
    mut shown: watch::Receiver<Shown>,
    stop: CancellationToken,
) {
    loop {
        let well = shown.borrow_and_update().health == Some(Health::Ok);
        let status = if well {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        health.set_service_status(SERVICE_NAME, status).await;
        tokio::select! {
            changed = shown.changed() => if changed.is_err() { break },
            () = stop.cancelled() => break,
        }
    }
    for service in ["", SERVICE_NAME] {
        health
            .set_service_status(service, ServingStatus::NotServing)
            .await;
    }
}
