//! A tap on the lines between the coordinator and its agents. It holds the certificates of both sides, ends TLS on each, hands
//! every byte on unchanged, and keeps what it handed on.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep::tls::config::{Identity, client_config, server_config};
use lockstep::tls::serve::{self, Accepted, Incoming};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use crate::support::fleet::Fleet;

/// What went over one connection. The coordinator calls, so what it says goes down.
#[derive(Debug, Clone)]
pub struct Line {
    /// The agent's name.
    pub agent: String,
    /// All that the coordinator sent, without TLS.
    pub down: Vec<u8>,
    /// All that the agent sent.
    pub up: Vec<u8>,
}

type Kept = Arc<Mutex<Vec<u8>>>;

#[derive(Debug)]
struct Connection {
    agent: String,
    down: Kept,
    up: Kept,
}

/// The tap. Keystores whose endpoint is its address are tapped.
#[derive(Debug)]
pub struct Tap {
    runtime: Runtime,
    addresses: BTreeMap<String, SocketAddr>,
    connections: Arc<Mutex<Vec<Connection>>>,
}

impl Tap {
    /// Listens before every agent of the fleet.
    pub fn before(fleet: &Fleet) -> Self {
        let runtime = Runtime::new().unwrap();
        let connections = Arc::default();
        let mut addresses = BTreeMap::new();
        let coordinator = Arc::new(identity(&fleet.dir, "test"));
        for name in fleet.agents.keys() {
            let agent = identity(&fleet.dir, name);
            let listening = runtime.block_on(serve::listen((Ipv4Addr::LOCALHOST, 0).into()));
            let listener = listening.unwrap();
            addresses.insert(name.clone(), listener.local_addr().unwrap());
            let config = server_config(&agent).unwrap();
            let beyond = Beyond {
                agent: name.clone(),
                address: fleet.listens_at(name),
                connector: client_config(&coordinator, agent.name()).unwrap().into(),
            };
            let _entered = runtime.enter();
            let incoming = serve::incoming(listener, config, 16);
            runtime.spawn(carry_all(incoming, beyond, Arc::clone(&connections)));
        }
        Self {
            runtime,
            addresses,
            connections,
        }
    }

    /// Where the coordinator is to look for the agent.
    pub fn address(&self, agent: &str) -> String {
        self.addresses[agent].to_string()
    }

    /// Cuts all lines; gives what went over them.
    pub fn end(self) -> Vec<Line> {
        self.runtime.shutdown_timeout(Duration::from_secs(10));
        let kept = |bytes: &Kept| bytes.lock().unwrap().clone();
        let connections = self.connections.lock().unwrap();
        connections
            .iter()
            .map(|connection| Line {
                agent: connection.agent.clone(),
                down: kept(&connection.down),
                up: kept(&connection.up),
            })
            .collect()
    }
}

fn identity(fleet: &Path, name: &str) -> Identity {
    let (of, ca) = (fleet.join(name), fleet.join("ca/ca.pem"));
    Identity::load(&of.join("cert.pem"), &of.join("key.pem"), &ca).unwrap()
}

/// The agent behind the tap.
#[derive(Clone)]
struct Beyond {
    agent: String,
    address: String,
    connector: TlsConnector,
}

async fn carry_all(
    mut incoming: Incoming,
    beyond: Beyond,
    connections: Arc<Mutex<Vec<Connection>>>,
) {
    while let Some(accepted) = incoming.accept().await {
        let (down, up) = (Kept::default(), Kept::default());
        connections.lock().unwrap().push(Connection {
            agent: beyond.agent.clone(),
            down: Arc::clone(&down),
            up: Arc::clone(&up),
        });
        tokio::spawn(carry(accepted, beyond.clone(), down, up));
    }
}

/// An agent that cannot be reached closes the line, as it would without the tap.
async fn carry(caller: Accepted, beyond: Beyond, down: Kept, up: Kept) -> std::io::Result<()> {
    let tcp = TcpStream::connect(&beyond.address).await?;
    tcp.set_nodelay(true)?;
    // The URI name counts, and the host in the address does not.
    let host = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
    let agent = beyond.connector.connect(host, tcp).await?;
    let (from_caller, to_caller) = tokio::io::split(caller);
    let (from_agent, to_agent) = tokio::io::split(agent);
    tokio::try_join!(
        copy(from_caller, to_agent, down),
        copy(from_agent, to_caller, up)
    )?;
    Ok(())
}

/// Keeps bytes before they go on, so that nothing has crossed that was not kept.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    kept: Kept,
) -> std::io::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        kept.lock().unwrap().extend_from_slice(&chunk[..count]);
        to.write_all(&chunk[..count]).await?;
        to.flush().await?;
    }
}
