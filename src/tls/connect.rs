//! The dialling side: a gRPC channel to the one agent that is meant.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error as RustlsError};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::tls::config::{Identity, client_config};
use crate::tls::error::{TlsError, chain};
use crate::tls::name::PeerName;

/// Longest time to connect, TCP and TLS together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Pace of HTTP/2 pings on an open channel.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Longest wait for the answer to a ping: then the channel is taken for dead.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a connection was not made, as it comes out of the connector.
#[derive(Debug, Clone, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Peer(String),
}

/// Dials `https://host:port`, checks that the agent there is `expected`, and opens a channel that reconnects by itself
/// with the same checks.
///
/// # Errors
/// [`TlsError::Unreachable`]: try again. [`TlsError::Peer`]: somebody else is there, or certificates are not good.
/// Others: what was given cannot be used.
pub async fn connect(
    endpoint: &str,
    expected: &PeerName,
    identity: &Identity,
) -> Result<Channel, TlsError> {
    let address = Address::parse(endpoint)?;
    let config = client_config(identity, expected)?;
    let target = address.clone();
    let connector = tower::service_fn(move |_uri: Uri| {
        let (target, config) = (target.clone(), Arc::clone(&config));
        async move { target.dial(config).await.map(TokioIo::new) }
    });
    channel_settings(&address)?
        .connect_with_connector(connector)
        .await
        .map_err(|error| address.told(&error))
}

fn channel_settings(address: &Address) -> Result<Endpoint, TlsError> {
    let bad = |error: &dyn Error| TlsError::Endpoint {
        endpoint: address.given.clone(),
        problem: error.to_string(),
    };
    let origin: Uri = address.given.parse().map_err(|error| bad(&error))?;
    // tonic refuses to dial https unless it makes the TLS itself, so it is told http and the origin says what it is.
    let endpoint = Endpoint::from_shared(format!("http://{}", address.authority()))
        .map_err(|error| bad(&error))?;
    Ok(endpoint
        .origin(origin)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

#[derive(Debug, Clone)]
struct Address {
    given: String,
    host: String,
    port: u16,
}

impl Address {
    fn parse(endpoint: &str) -> Result<Self, TlsError> {
        let bad = |problem: &str| TlsError::Endpoint {
            endpoint: endpoint.chars().take(200).collect(),
            problem: problem.to_owned(),
        };
        let uri: Uri = endpoint.parse().map_err(|_no_uri| bad("not a URI"))?;
        if uri.scheme_str() != Some("https") {
            return Err(bad("it must begin with https://"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("nothing may follow the port"));
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match (host, uri.port_u16()) {
            ("", _) => Err(bad("no host")),
            (_, None) => Err(bad("no port")),
            (host, Some(port)) => Ok(Self {
                given: endpoint.trim_end_matches('/').to_owned(),
                host: host.to_owned(),
                port,
            }),
        }
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    async fn dial(&self, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, Failure> {
        let unreachable = |error: std::io::Error| Failure::Unreachable(error.to_string());
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| Failure::Unreachable(error.to_string()))?;
        TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .map_err(|error| match rustls_cause(&error) {
                Some(_) => Failure::Peer(explain(&error)),
                None => Failure::Unreachable(explain(&error)),
            })
    }

    fn told(&self, error: &tonic::transport::Error) -> TlsError {
        let endpoint = self.given.clone();
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            match error.downcast_ref::<Failure>() {
                Some(Failure::Peer(why)) => {
                    let why = why.clone();
                    return TlsError::Peer { endpoint, why };
                }
                Some(Failure::Unreachable(why)) => {
                    let why = why.clone();
                    return TlsError::Unreachable { endpoint, why };
                }
                None => cause = error.source(),
            }
        }
        TlsError::Unreachable {
            endpoint,
            why: chain(error),
        }
    }
}

fn rustls_cause(error: &std::io::Error) -> Option<&RustlsError> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Says in words that people understand why a handshake, or the first read after it, failed.
#[must_use]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "not our enum: its own words serve for the rest"
)]
pub fn explain(error: &std::io::Error) -> String {
    let Some(cause) = rustls_cause(error) else {
        return error.to_string();
    };
    match cause {
        RustlsError::Other(reason) => reason.0.to_string(),
        RustlsError::NoCertificatesPresented => {
            "the caller showed no certificate: only coordinators are served".to_owned()
        }
        // A CA of the same name with another key gives a bad signature.
        RustlsError::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "the other side's certificate is not signed by the fleet's CA".to_owned(),
        RustlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the other side's certificate has expired".to_owned(),
        RustlsError::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the other side's certificate is not valid yet: compare the clocks".to_owned(),
        RustlsError::AlertReceived(alert) => alert_received(*alert),
        other => other.to_string(),
    }
}

fn alert_received(alert: AlertDescription) -> String {
    let certificate = matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied
    );
    if certificate {
        format!("the other side did not take our certificate (alert {alert:?}); its log says why")
    } else {
        format!("the other side refused the handshake (alert {alert:?})")
    }
}

#[cfg(test)]
mod tests {
    use crate::tls::connect::Address;

    #[test]
    fn addresses_are_https_with_a_port() {
        let good = |text: &str, authority: &str| {
            assert_eq!(Address::parse(text).unwrap().authority(), authority);
        };
        good("https://127.0.0.1:7443", "127.0.0.1:7443");
        good("https://hsm.example:1/", "hsm.example:1");
        good("https://[::1]:7443", "[::1]:7443");
        let bad = |text: &str, problem: &str| {
            let told = Address::parse(text).unwrap_err().to_string();
            assert!(told.ends_with(problem), "{told}");
        };
        bad("http://127.0.0.1:7443", "it must begin with https://");
        bad("127.0.0.1:7443", "it must begin with https://");
        bad("https://127.0.0.1", "no port");
        bad("https://a:1/x", "nothing may follow the port");
        bad("not an address", "not a URI");
    }
}
