//! The estate: simulated agents in this process, a real coordinator process on SQLite, mutual TLS between them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lockstep::cli::authority;
use lockstep::clock;
use lockstep::model::ids::{Digest, KeystoreId};
use lockstep::model::keystore::Variant;
use lockstep::tls::name::{PeerName, Role};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::agent::Agent;
use crate::rest::Rest;

const LOCKSTEP: &str = env!("CARGO_BIN_EXE_lockstep");

/// Longest wait for a state that has no bound of its own.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Requests side by side while the estate is furnished.
const FURNISHERS: usize = 8;

#[derive(Debug)]
pub struct Estate {
    /// The first one is internal, all others are external.
    pub agents: Vec<Agent>,
    pub runtime: Runtime,
    pub rest: Rest,
    pub vault: String,
    dir: PathBuf,
    coordinator: Option<Child>,
    token: String,
    _disk: TempDir,
    _memory: TempDir,
}

impl Estate {
    /// So many external keystores beside the one that makes the keys, all known to a running coordinator; each is in the
    /// groups that are named for its number.
    pub fn start(external: usize, groups: impl Fn(usize) -> Vec<String>) -> Self {
        let disk = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // Each agent would have a disk of its own; here a thousand would share the coordinator's.
        let shm = Path::new("/dev/shm");
        let memory = if shm.exists() {
            TempDir::new_in(shm).unwrap()
        } else {
            TempDir::new().unwrap()
        };
        let ca = disk.path().join("ca");
        authority::init(&ca, "soak", clock::unix_ms()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let agents = agents(memory.path(), &ca, external);
        let dir = coordinator_dir(disk.path(), &ca);
        let token = fs::read_to_string(dir.join("admin.token")).unwrap();
        let mut estate = Self {
            agents,
            runtime,
            rest: Rest::new("", ""),
            vault: String::new(),
            dir,
            coordinator: None,
            token,
            _disk: disk,
            _memory: memory,
        };
        for agent in &estate.agents {
            agent.start(estate.runtime.handle());
        }
        estate.start_coordinator();
        estate.furnish(&groups);
        estate
    }

    /// Starts it and waits until it listens; from the second time on where it did before.
    pub fn start_coordinator(&mut self) {
        let address = self.dir.join("state/listen.addr");
        let _may_be_missing = fs::remove_file(&address);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("coordinator.log"))
            .unwrap();
        let config = self.dir.join("coordinator.toml");
        let child = Command::new(LOCKSTEP)
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.coordinator = Some(child);
        let began = Instant::now();
        let bound = loop {
            match fs::read_to_string(&address) {
                Ok(text) if !text.is_empty() => break text.trim().to_owned(),
                _ => assert!(began.elapsed() < PATIENCE, "{}", self.said()),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("127.0.0.1:0", &bound)).unwrap();
        self.rest = Rest::new(&format!("http://{bound}"), &self.token);
    }

    /// SIGKILL.
    pub fn kill_coordinator(&mut self) {
        if let Some(mut child) = self.coordinator.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn coordinator_pid(&self) -> u32 {
        self.coordinator.as_ref().unwrap().id()
    }

    /// The end of what the coordinator logged.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(self.dir.join("coordinator.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Bytes of the store's file with that ending.
    pub fn store_bytes(&self, ending: &str) -> u64 {
        let path = self.dir.join(format!("state/store.sqlite{ending}"));
        fs::metadata(path).map_or(0, |of| of.len())
    }

    /// Bytes of all agents' journals.
    pub fn journal_bytes(&self) -> u64 {
        self.agents.iter().map(Agent::journal_bytes).sum()
    }

    fn furnish(&mut self, groups: &(impl Fn(usize) -> Vec<String> + ?Sized)) {
        let vault = self.rest.create("/api/v4/vaults", &json!({"name": "soak"}));
        self.vault = vault.body["id"].as_str().unwrap().to_owned();
        let bodies: Vec<Value> = self
            .agents
            .iter()
            .enumerate()
            .map(|(number, agent)| {
                json!({
                    "type": "pkcs11",
                    "vault": {"id": self.vault},
                    "name": agent.name,
                    "groups": groups(number),
                    "pkcs11_agent_endpoint": format!("https://{}", agent.address()),
                    "pkcs11_agent_identity": format!("spiffe://lockstep/agent/{}", agent.name),
                    "pkcs11_variant": if number == 0 { "internal" } else { "external" },
                })
            })
            .collect();
        side_by_side(FURNISHERS, &bodies, |body| {
            self.rest.create("/api/v4/keystores", body);
        });
    }

    /// A template for a group.
    pub fn template(&self, group: &str) {
        self.rest.create("/api/v4/templates", &json!({
            "vault": {"id": self.vault},
            "name": group,
            "key": {
                "algorithm": "aes", "size": "256", "state": "pre_activation",
                "activation_date": "P0D", "expiration_date": "P1Y", "deactivate_on_rotation": false,
            },
            "keystores": [{"group": group, "type": "pkcs11"}],
        }));
    }

    /// A key made from it: its path, and its ETag.
    pub fn key(&self, template: &str, label: &str) -> (String, String) {
        let body = json!({"template_name": template, "vault": {"id": self.vault}, "label": label});
        let made = self.rest.create("/api/v4/managed_keys", &body);
        let id = made.body["id"].as_str().unwrap();
        (format!("/api/v4/managed_keys/{id}"), made.etag)
    }

    /// How many instances are not as wanted now.
    pub fn differences(&self) -> u64 {
        let found = self.rest.get("/api/lockstep/v1/differences?limit=1");
        found.body["total_count"]
            .as_u64()
            .or_else(|| found.body["page"]["total_count"].as_u64())
            .unwrap_or_else(|| panic!("{:#}", found.body))
    }

    /// Waits until everything is as wanted; how long it took.
    pub fn settled(&self) -> Duration {
        let began = Instant::now();
        loop {
            let left = self.differences();
            if left == 0 {
                return began.elapsed();
            }
            let told = || self.rest.get("/api/lockstep/v1/differences?limit=3").body;
            assert!(began.elapsed() < PATIENCE, "{left} left: {:#}", told());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Estate {
    fn drop(&mut self) {
        if let Some(mut child) = self.coordinator.take() {
            let _may_have_ended = child.kill();
            let _status = child.wait();
        }
    }
}

fn agents(dir: &Path, ca: &Path, external: usize) -> Vec<Agent> {
    let make = |number: usize| {
        let variant = if number == 0 {
            Variant::Internal
        } else {
            Variant::External
        };
        let seed = u64::try_from(number).unwrap();
        Agent::make(dir, ca, &format!("a{number:04}"), variant, seed)
    };
    let agents: Vec<Agent> = (0..=external).map(make).collect();
    let known: BTreeMap<KeystoreId, Digest> = agents
        .iter()
        .map(|agent| (agent.keystore, agent.identity))
        .collect();
    let maker = agents[0].keystore;
    for agent in &agents {
        // The maker wraps for all; the others take keys from the maker alone.
        let is_maker = agent.keystore == maker;
        let listed = known
            .iter()
            .filter(|(of, _)| **of != agent.keystore && (is_maker || **of == maker));
        agent.list(listed);
    }
    agents
}

fn coordinator_dir(disk: &Path, ca: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = disk.join("coordinator");
    let order = authority::Order {
        name: &PeerName::new(Role::Coordinator, "soak").unwrap(),
        hosts: &[],
        days: authority::CERTIFICATE_DAYS,
        now: clock::unix_ms(),
    };
    authority::issue(ca, &order, &dir).unwrap();
    let token = dir.join("admin.token");
    fs::write(&token, format!("lks_{}", "5".repeat(64))).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let config = "listen = \"127.0.0.1:0\"\nstate_dir = \"state\"\nadmin_token_file = \"admin.token\"\n\
                  [fleet]\ncert = \"cert.pem\"\nkey = \"key.pem\"\nca = \"ca.pem\"\n";
    fs::write(dir.join("coordinator.toml"), config).unwrap();
    dir
}

/// Does all, so many side by side; gives what came of each, in order.
pub fn side_by_side<I: Sync, T: Send>(
    threads: usize,
    items: &[I],
    work: impl Fn(&I) -> T + Sync,
) -> Vec<T> {
    let share = items.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let parts: Vec<_> = items
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<T>>()))
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().unwrap())
            .collect()
    })
}
