//! One agent, whole but for its module host: its own directory, identity, peers, journal, certificate, port and gRPC server.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use lockstep::agent::commands::{open, serve};
use lockstep::agent::config::{Config, Tls, Token as TokenConfig};
use lockstep::agent::identity::Identity;
use lockstep::agent::journal::file;
use lockstep::agent::state_dir::StateDir;
use lockstep::cli::authority;
use lockstep::clock;
use lockstep::decide::agent::record::{JournalRecord, Record};
use lockstep::keystore::Keystore as _;
use lockstep::model::ids::{Digest, Epoch, KeystoreId};
use lockstep::model::job::{TokenJob, TokenOutcome};
use lockstep::model::keystore::{Marker, Variant};
use lockstep::tls::name::{PeerName, Role};
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::token::Token;

/// Longest wait for an agent to listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Agent {
    pub name: String,
    pub keystore: KeystoreId,
    pub identity: Digest,
    pub token: Token,
    listens_at: OnceLock<SocketAddr>,
    config: Config,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
enum Running {
    /// In the runtime of all.
    Among(CancellationToken, JoinHandle<anyhow::Result<()>>),
    /// In one of its own, which can be dropped with all that it holds, as a process is when it is killed.
    Alone(Runtime),
}

impl Agent {
    /// What `init`, `bind` and an operator make, below `dir`; nothing runs yet.
    pub fn make(dir: &Path, ca: &Path, name: &str, variant: Variant, seed: u64) -> Self {
        let dir = dir.join(name);
        let peer = PeerName::new(Role::Agent, name).unwrap();
        let order = authority::Order {
            name: &peer,
            hosts: &[],
            days: authority::CERTIFICATE_DAYS,
            now: clock::unix_ms(),
        };
        authority::issue(ca, &order, &dir).unwrap();
        let state = StateDir::new(&dir.join("state"));
        state.create().unwrap();
        let identity = Identity::load_or_new(&state.identity()).unwrap().digest();
        let keystore = state.keystore_or_new().unwrap();
        let marker = Marker {
            keystore,
            epoch: Epoch(1),
        };
        let bound = [JournalRecord::V1(Record::Bound(marker))];
        drop(file::rewrite(&state.journal(), &bound).unwrap());
        let mut token = Token::new(name, seed);
        let written = token.memory.perform(&TokenJob::Bind(marker));
        assert!(matches!(written, TokenOutcome::Done(_)), "{written:?}");
        Self {
            name: name.to_owned(),
            keystore,
            identity,
            token,
            listens_at: OnceLock::new(),
            config: config(&dir, name, variant),
            running: Mutex::default(),
        }
    }

    /// Makes these known to it, as `peer add` does.
    pub fn list<'a>(&self, peers: impl Iterator<Item = (&'a KeystoreId, &'a Digest)>) {
        let lines: String = peers
            .map(|(keystore, identity)| format!("\"{keystore}\" = \"{identity}\"\n"))
            .collect();
        let path = StateDir::new(&self.config.state_dir).peers();
        fs::write(&path, format!("[peers]\n{lines}")).unwrap();
        set_private(&path);
    }

    /// Serves in the runtime of all.
    pub fn start(&self, among: &Handle) {
        let (stop, work) = self.work();
        *self.running.lock().unwrap() = Some(Running::Among(stop, among.spawn(work)));
        self.listening();
    }

    /// Serves in a runtime of its own.
    pub fn start_alone(&self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (_stop, work) = self.work();
        drop(runtime.spawn(work));
        *self.running.lock().unwrap() = Some(Running::Alone(runtime));
        self.listening();
    }

    fn work(
        &self,
    ) -> (
        CancellationToken,
        impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let address = StateDir::new(&self.config.state_dir).listen_address();
        let _may_be_missing = fs::remove_file(address);
        let stop = CancellationToken::new();
        let (mut config, token, stopped) = (self.config.clone(), self.token.clone(), stop.clone());
        // From the second time on where it was before.
        if let Some(address) = self.listens_at.get() {
            config.listen = *address;
        }
        let work = async move {
            let own = open::own(&config)?;
            let host = token.host();
            serve::run(&config, own, host, stopped).await
        };
        (stop, work)
    }

    /// Waits until it listens.
    fn listening(&self) {
        let path = StateDir::new(&self.config.state_dir).listen_address();
        let began = Instant::now();
        let address = loop {
            match fs::read_to_string(&path) {
                Ok(text) if text.ends_with('\n') => break text.trim().parse().unwrap(),
                _ => assert!(began.elapsed() < LISTENS_WITHIN, "{} is silent", self.name),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert_eq!(*self.listens_at.get_or_init(|| address), address);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        *self.listens_at.get().unwrap()
    }

    /// Ends at once, as a killed process does: connections, listener and all that was in memory are gone.
    pub fn kill(&self) {
        let running = self.running.lock().unwrap().take();
        match running {
            // What blocks is the journal's thread; it ends when nobody can ask it any more.
            Some(Running::Alone(runtime)) => runtime.shutdown_timeout(Duration::from_secs(5)),
            Some(Running::Among(stop, task)) => {
                stop.cancel();
                drop(task);
            }
            None => {}
        }
    }

    /// Sessions that it has begun, by its journal.
    pub fn sessions(&self) -> usize {
        let is_session = |record: &&JournalRecord| {
            let JournalRecord::V1(record) = record;
            matches!(record, Record::Session { .. })
        };
        let journal = file::load::<JournalRecord>(&self.journal()).unwrap();
        journal.records.iter().filter(is_session).count()
    }

    /// Bytes in its journal.
    pub fn journal_bytes(&self) -> u64 {
        fs::metadata(self.journal()).map_or(0, |of| of.len())
    }

    fn journal(&self) -> PathBuf {
        StateDir::new(&self.config.state_dir).journal()
    }
}

fn config(dir: &Path, name: &str, variant: Variant) -> Config {
    Config {
        name: name.to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        state_dir: dir.join("state"),
        variant,
        token: TokenConfig {
            module: PathBuf::from("/nowhere"),
            label: name.to_owned(),
            serial: String::new(),
            pin_file: None,
            pin_credential: None,
            pin_fd: None,
            init_args: None,
        },
        env: std::collections::BTreeMap::new(),
        tls: Tls {
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
            ca: dir.join("ca.pem"),
        },
    }
}

fn set_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
