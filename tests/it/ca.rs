//! The fleet's CA and what its certificates are good for: real handshakes over loopback.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep::cli::authority::{self, AuthorityError, Order};
use lockstep::clock::unix_ms;
use lockstep::model::vault::UnixMs;
use lockstep::tls::config::{Identity, client_config, provider, server_config};
use lockstep::tls::connect::{connect, explain};
use lockstep::tls::error::TlsError;
use lockstep::tls::name::{PeerName, Role};
use lockstep::tls::serve::{handshake, incoming, listen};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1000;

struct Fleet {
    dir: TempDir,
}

impl Fleet {
    fn new() -> Self {
        Self::named("test", unix_ms(), TempDir::new().unwrap())
    }

    fn named(name: &str, now: UnixMs, dir: TempDir) -> Self {
        authority::init(&dir.path().join("ca"), name, now).unwrap();
        Self { dir }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    fn issue(&self, name: &PeerName) -> PathBuf {
        self.issue_at(name, unix_ms())
    }

    fn issue_at(&self, name: &PeerName, now: UnixMs) -> PathBuf {
        let out = self.dir.path().join(name.name());
        let order = Order {
            name,
            hosts: &[],
            days: 30,
            now,
        };
        authority::issue(&self.ca(), &order, &out).unwrap();
        out
    }

    fn identity(&self, name: &PeerName) -> Identity {
        load(&self.issue(name), &self.ca())
    }
}

/// A machine's files, trusting a CA of choice.
fn load(files: &Path, ca: &Path) -> Identity {
    Identity::load(
        &files.join("cert.pem"),
        &files.join("key.pem"),
        &ca.join("ca.pem"),
    )
    .unwrap()
}

fn agent(name: &str) -> PeerName {
    PeerName::new(Role::Agent, name).unwrap()
}

fn coordinator() -> PeerName {
    PeerName::new(Role::Coordinator, "main").unwrap()
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// What the agent's side says to one connection: the caller's name, or why it was refused.
type Answer = oneshot::Receiver<Result<Option<PeerName>, String>>;

/// An agent that takes one connection.
async fn one_handshake(identity: &Identity) -> (SocketAddr, Answer) {
    let listener = listen(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(server_config(identity).unwrap());
    let (tell, answer) = oneshot::channel();
    tokio::spawn(async move {
        let (tcp, _from) = listener.accept().await.unwrap();
        let shaken = handshake(&acceptor, tcp).await;
        let _nobody_asks = tell.send(shaken.map(|(_stream, name)| name));
    });
    (address, answer)
}

/// Shakes hands as a client and reads: under TLS 1.3 a refusal of our certificate comes with the first read.
async fn call(address: SocketAddr, config: Arc<ClientConfig>) -> Result<(), String> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let host = address.ip().into();
    let mut stream = TlsConnector::from(config)
        .connect(host, tcp)
        .await
        .map_err(|error| explain(&error))?;
    let mut byte = [0];
    match stream.read(&mut byte).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(explain(&error)),
    }
}

#[tokio::test]
async fn a_coordinator_speaks_grpc_to_the_agent_it_means() {
    let fleet = Fleet::new();
    let listener = listen(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = server_config(&fleet.identity(&agent("frankfurt"))).unwrap();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(health)
            .serve_with_incoming_shutdown(incoming(listener, config, 4), async {
                let _either_way = stopped.await;
            }),
    );

    let caller = fleet.identity(&coordinator());
    let endpoint = format!("https://{address}");
    let channel = connect(&endpoint, &agent("frankfurt"), &caller)
        .await
        .unwrap();
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
    assert_eq!(answer.into_inner().status, 1);

    let refused = connect(&endpoint, &agent("dallas"), &caller)
        .await
        .unwrap_err();
    assert!(matches!(refused, TlsError::Peer { .. }));
    assert_eq!(
        refused.to_string(),
        format!(
            "{endpoint}: the agent's certificate is for spiffe://lockstep/agent/frankfurt, \
             expected spiffe://lockstep/agent/dallas"
        )
    );
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();

    let nobody = connect(&endpoint, &agent("frankfurt"), &caller)
        .await
        .unwrap_err();
    assert!(matches!(nobody, TlsError::Unreachable { .. }), "{nobody:?}");
}

#[tokio::test]
async fn the_agent_learns_who_calls() {
    let fleet = Fleet::new();
    let (address, answer) = one_handshake(&fleet.identity(&agent("frankfurt"))).await;
    let caller = fleet.identity(&coordinator());
    assert_eq!(caller.name(), &coordinator());
    let config = client_config(&caller, &agent("frankfurt")).unwrap();
    call(address, config).await.unwrap();
    assert_eq!(answer.await.unwrap(), Ok(Some(coordinator())));
}

#[tokio::test]
async fn an_agent_does_not_serve_agents() {
    let fleet = Fleet::new();
    let (address, answer) = one_handshake(&fleet.identity(&agent("frankfurt"))).await;
    let caller = fleet.identity(&agent("dallas"));
    let config = client_config(&caller, &agent("frankfurt")).unwrap();
    let told = call(address, config).await.unwrap_err();
    assert!(told.contains("did not take our certificate"), "{told}");
    assert!(answer.await.unwrap().is_err());
}

/// Even where a CA forgot to say what certificates are for, the name decides.
#[tokio::test]
async fn an_agent_name_is_refused_whatever_the_certificate_is_for() {
    let fleet = Fleet::new();
    let (address, answer) = one_handshake(&fleet.identity(&agent("frankfurt"))).await;
    let files = fleet.dir.path().join("any-purpose");
    std::fs::create_dir(&files).unwrap();
    let ca_key = std::fs::read_to_string(fleet.ca().join("ca.key")).unwrap();
    let ca_pem = std::fs::read_to_string(fleet.ca().join("ca.pem")).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&ca_key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ca_pem, ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let uri = agent("dallas").to_string();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri.as_str().try_into().unwrap())];
    let made = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(files.join("cert.pem"), made.pem()).unwrap();
    std::fs::write(files.join("key.pem"), key.serialize_pem()).unwrap();
    restrict(&files.join("key.pem"), 0o600);
    let caller = load(&files, &fleet.ca());
    let config = client_config(&caller, &agent("frankfurt")).unwrap();
    call(address, config).await.unwrap_err();
    assert_eq!(
        answer.await.unwrap(),
        Err(
            "the caller's certificate is for spiffe://lockstep/agent/dallas: \
             only coordinators are served"
                .to_owned()
        )
    );
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_caller_without_certificate_is_refused() {
    let fleet = Fleet::new();
    let (address, answer) = one_handshake(&fleet.identity(&agent("frankfurt"))).await;
    let caller = fleet.identity(&coordinator());
    let config = client_config(&caller, &agent("frankfurt")).unwrap();
    let mut config = Arc::unwrap_or_clone(config);
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    call(address, Arc::new(config)).await.unwrap_err();
    assert_eq!(
        answer.await.unwrap(),
        Err("the caller showed no certificate: only coordinators are served".to_owned())
    );
}

#[tokio::test]
async fn another_fleet_is_refused_by_both_sides() {
    let same_name = Fleet::new();
    let other_name = Fleet::named("other", unix_ms(), TempDir::new().unwrap());
    for theirs in [same_name, other_name] {
        refused_by_both_sides(&Fleet::new(), &theirs).await;
    }
}

async fn refused_by_both_sides(ours: &Fleet, theirs: &Fleet) {
    let server = ours.identity(&agent("frankfurt"));
    let files = theirs.issue(&coordinator());

    let (address, answer) = one_handshake(&server).await;
    let suspicious = load(&files, &theirs.ca());
    let config = client_config(&suspicious, &agent("frankfurt")).unwrap();
    let not_ours = "the other side's certificate is not signed by the fleet's CA";
    assert_eq!(call(address, config).await.unwrap_err(), not_ours);
    assert!(answer.await.unwrap().is_err());

    let (address, answer) = one_handshake(&server).await;
    let credulous = load(&files, &ours.ca());
    let config = client_config(&credulous, &agent("frankfurt")).unwrap();
    call(address, config).await.unwrap_err();
    assert_eq!(answer.await.unwrap(), Err(not_ours.to_owned()));
}

#[tokio::test]
async fn expired_certificates_are_refused() {
    let fleet = Fleet::new();
    let server = fleet.identity(&agent("frankfurt"));
    let (address, answer) = one_handshake(&server).await;
    let old = fleet.issue_at(&coordinator(), UnixMs(unix_ms().0 - YEAR_MS));
    let caller = load(&old, &fleet.ca());
    let config = client_config(&caller, &agent("frankfurt")).unwrap();
    call(address, config).await.unwrap_err();
    assert_eq!(
        answer.await.unwrap(),
        Err("the other side's certificate has expired".to_owned())
    );
}

#[tokio::test]
async fn agents_of_an_expired_certificate_are_refused() {
    let fleet = Fleet::new();
    let old = fleet.issue_at(&agent("frankfurt"), UnixMs(unix_ms().0 - YEAR_MS));
    let (address, _answer) = one_handshake(&load(&old, &fleet.ca())).await;
    let caller = fleet.identity(&coordinator());
    let config = client_config(&caller, &agent("frankfurt")).unwrap();
    let told = call(address, config).await.unwrap_err();
    assert_eq!(told, "the other side's certificate has expired");
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let fleet = Fleet::new();
    let (address, answer) = one_handshake(&fleet.identity(&agent("frankfurt"))).await;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let told = call(address, Arc::new(config)).await.unwrap_err();
    assert!(told.contains("ProtocolVersion"), "{told}");
    assert!(answer.await.unwrap().is_err());
}

#[test]
fn nothing_is_overwritten_and_keys_are_private() {
    let fleet = Fleet::new();
    let again = authority::init(&fleet.ca(), "test", unix_ms()).unwrap_err();
    assert!(matches!(again, AuthorityError::Exists { .. }));
    let files = fleet.issue(&agent("frankfurt"));
    let name = agent("frankfurt");
    let order = Order {
        name: &name,
        hosts: &[],
        days: 1,
        now: unix_ms(),
    };
    let again = authority::issue(&fleet.ca(), &order, &files).unwrap_err();
    assert!(again.to_string().ends_with("nothing is overwritten"));
    for key in [fleet.ca().join("ca.key"), files.join("key.pem")] {
        let mode = std::fs::metadata(key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    restrict(&files.join("key.pem"), 0o640);
    let exposed = Identity::load(
        &files.join("cert.pem"),
        &files.join("key.pem"),
        &files.join("ca.pem"),
    );
    let told = exposed.unwrap_err().to_string();
    assert!(told.ends_with("(mode 0640): chmod 600 it"), "{told}");
}

#[test]
fn a_stranger_key_is_noticed() {
    let (one, other) = (Fleet::new(), Fleet::new());
    std::fs::copy(other.ca().join("ca.key"), one.ca().join("ca.key")).unwrap();
    let name = agent("frankfurt");
    let order = Order {
        name: &name,
        hosts: &[],
        days: 1,
        now: unix_ms(),
    };
    let out = one.dir.path().join("out");
    let refused = authority::issue(&one.ca(), &order, &out).unwrap_err();
    assert!(matches!(refused, AuthorityError::Strangers(_)));
    assert!(!out.exists());
}

#[test]
fn hosts_are_for_https() {
    let fleet = Fleet::new();
    let name = coordinator();
    let issue = |hosts: &[&str], out: &str| {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let order = Order {
            name: &name,
            hosts: &hosts,
            days: 1,
            now: unix_ms(),
        };
        let out = fleet.dir.path().join(out);
        authority::issue(&fleet.ca(), &order, &out).map(|()| out)
    };
    let files = issue(&["localhost", "127.0.0.1", "::1"], "https").unwrap();
    let chain = lockstep::tls::config::certificates(&files.join("cert.pem")).unwrap();
    assert_eq!(PeerName::of_certificate(&chain[0]), Ok(name.clone()));
    lockstep::tls::config::https_config(&files.join("cert.pem"), &files.join("key.pem")).unwrap();
    for bad in ["not a host", "", "https://localhost"] {
        assert!(matches!(
            issue(&[bad], "bad"),
            Err(AuthorityError::Host { .. })
        ));
    }
}

fn restrict(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
