//! Real agents on real tokens: the `lockstep-agent` binary with certificates of a CA of its own.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lockstep::cli::authority::{self, Order};
use lockstep::clock::unix_ms;
use lockstep::model::ids::{Digest, KeystoreId};
use lockstep::model::keystore::{Health, Variant};
use lockstep::model::protocol::Description;
use lockstep::tls::config::Identity;
use lockstep::tls::connect::connect;
use lockstep::tls::name::{PeerName, Role};
use lockstep::wire::v1;
use lockstep::wire::v1::agent_client::AgentClient;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::support::process::child_of;
use crate::support::softhsm::{SoftHsm, Token};

/// Long enough that only a fault reaches it, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at a state that is waited for.
pub const PAUSE: Duration = Duration::from_millis(20);

/// A CA, tokens, and a coordinator's certificate.
#[derive(Debug)]
pub struct Fleet {
    dir: TempDir,
    hsm: SoftHsm,
}

/// One agent: config, state directory and, once started, process.
#[derive(Debug)]
pub struct Agent {
    /// Its name in certificate and config.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Its token.
    pub token: Token,
    /// What it logs.
    pub log_filter: String,
    /// Whether the PIN comes through a pipe at standard input instead of from its file.
    pub pin_by_pipe: bool,
    child: Option<Child>,
}

impl Fleet {
    /// A new CA with a coordinator.
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        authority::init(&dir.path().join("ca"), "test", unix_ms()).unwrap();
        let fleet = Self {
            dir,
            hsm: SoftHsm::new(),
        };
        fleet.issue(Role::Coordinator, "main");
        fleet
    }

    /// The CA's directory, the coordinator's files are beside it in `main`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn issue(&self, role: Role, name: &str) -> PathBuf {
        let out = self.dir.path().join(name);
        let name = PeerName::new(role, name).unwrap();
        let order = Order {
            name: &name,
            hosts: &[],
            days: 30,
            now: unix_ms(),
        };
        authority::issue(&self.dir.path().join("ca"), &order, &out).unwrap();
        out
    }

    /// The coordinator's certificate and key.
    pub fn coordinator(&self) -> Identity {
        let dir = self.dir.path().join("main");
        Identity::load(
            &dir.join("cert.pem"),
            &dir.join("key.pem"),
            &dir.join("ca.pem"),
        )
        .unwrap()
    }

    /// An agent on a token of its own name, after `init`.
    pub fn agent(&self, name: &str, variant: Variant) -> Agent {
        self.agent_on(name, variant, self.hsm.token(name))
    }

    /// An agent on a token that may have another agent already, after `init`.
    pub fn agent_on(&self, name: &str, variant: Variant, token: Token) -> Agent {
        let dir = self.issue(Role::Agent, name);
        let config = format!(
            "name = {name:?}\nlisten = \"127.0.0.1:0\"\nstate_dir = \"state\"\nvariant = {:?}\n\
             [token]\nmodule = {:?}\nlabel = {:?}\nserial = {:?}\npin_file = {:?}\n\
             [env]\nSOFTHSM2_CONF = {:?}\n\
             [tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\nca = \"ca.pem\"\n",
            variant.name(),
            token.module,
            token.label,
            token.serial,
            token.pin_file,
            token.conf
        );
        std::fs::write(dir.join("agent.toml"), config).unwrap();
        let agent = Agent {
            name: name.to_owned(),
            dir,
            token,
            log_filter: "lockstep=debug".to_owned(),
            pin_by_pipe: false,
            child: None,
        };
        agent.ok(&["init"]);
        agent
    }

    /// An agent on a token of its own name, bound and started.
    pub fn running(&self, name: &str, variant: Variant) -> Agent {
        let mut agent = self.agent(name, variant);
        agent.ok(&["bind"]);
        agent.start();
        agent
    }

    /// A client with the coordinator's certificate.
    pub async fn client(&self, agent: &Agent) -> AgentClient<Channel> {
        AgentClient::new(self.channel(agent).await)
    }

    /// A connection with the coordinator's certificate.
    pub async fn channel(&self, agent: &Agent) -> Channel {
        let name = PeerName::new(Role::Agent, &agent.name).unwrap();
        let endpoint = format!("https://{}", agent.address());
        connect(&endpoint, &name, &self.coordinator())
            .await
            .unwrap()
    }

    /// Asks until the agent's description is as wanted.
    pub async fn described(
        &self,
        agent: &Agent,
        wanted: impl Fn(&Description) -> bool,
    ) -> Description {
        let mut client = self.client(agent).await;
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = client.describe(v1::DescribeRequest {}).await.unwrap();
            let description = Description::try_from(answer.into_inner()).unwrap();
            if wanted(&description) {
                return description;
            }
            assert!(Instant::now() < until, "{description:?}\n{}", agent.log());
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until the agent's token is open and prepared.
    pub async fn ready(&self, agent: &Agent) -> Description {
        let ready = |seen: &Description| seen.health == Health::Ok && seen.capabilities.is_some();
        self.described(agent, ready).await
    }
}

impl Agent {
    /// Runs a command of the binary with this agent's config.
    pub fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lockstep-agent"))
            .args(args)
            .arg("--config")
            .arg(self.dir.join("agent.toml"))
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail; its exit code and what it said.
    pub fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code().unwrap();
        assert_ne!(code, 0, "{args:?}: {said}");
        (code, said)
    }

    /// What `identity` prints.
    fn said(&self) -> (String, String) {
        let printed = self.ok(&["identity"]);
        let (keystore, identity) = printed.trim().split_once(' ').unwrap();
        (keystore.to_owned(), identity.to_owned())
    }

    /// The keystore id.
    pub fn keystore(&self) -> KeystoreId {
        self.said().0.parse().unwrap()
    }

    /// SHA-256 of the identity key.
    pub fn identity(&self) -> Digest {
        self.said().1.parse().unwrap()
    }

    /// Lists another agent as trusted.
    pub fn trust(&self, other: &Self) {
        let (keystore, identity) = other.said();
        let peer = ["--keystore", &keystore, "--identity", &identity];
        self.ok(&[&["peer", "add"][..], &peer[..]].concat());
    }

    /// Starts the process and waits until it listens.
    pub fn start(&mut self) {
        self.spawn();
        self.wait_listening();
    }

    /// Starts the process. What would exceed a file size limit fails there, instead of killing it.
    pub fn spawn(&mut self) {
        drop(std::fs::remove_file(self.told()));
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .unwrap();
        let stdin = if self.pin_by_pipe {
            let (reader, mut writer) = std::io::pipe().unwrap();
            let pin = std::fs::read(&self.token.pin_file).unwrap();
            writer.write_all(&pin).unwrap();
            Stdio::from(reader)
        } else {
            Stdio::null()
        };
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" serve --config \"$1\""])
            .arg(env!("CARGO_BIN_EXE_lockstep-agent"))
            .arg(self.dir.join("agent.toml"))
            .env("LOCKSTEP_LOG", &self.log_filter)
            .stdin(stdin)
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits until it listens.
    pub fn wait_listening(&mut self) {
        self.wait(|agent| {
            let ended = agent.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}\n{}", agent.log());
            agent.told().exists()
        });
    }

    /// Where it tells its address.
    pub fn told(&self) -> PathBuf {
        self.dir.join("state/listen.addr")
    }

    /// Waits for a state.
    pub fn wait(&mut self, reached: impl Fn(&mut Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !reached(self) {
            assert!(Instant::now() < until, "not reached\n{}", self.log());
            std::thread::sleep(PAUSE);
        }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        let told = std::fs::read_to_string(self.told()).unwrap();
        told.trim().to_owned()
    }

    /// All that it and its module hosts logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Its module host, if one is running.
    pub fn module_host(&self) -> Option<u32> {
        child_of(self.pid())
    }

    /// Ends the process with a signal (its name for `kill`) and waits for it; its exit code.
    pub fn end(&mut self, signal: &str) -> Option<i32> {
        send_signal(self.pid(), signal);
        let mut child = self.child.take().unwrap();
        child.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
            if std::thread::panicking() {
                eprintln!("log of agent {}:\n{}", self.name, self.log());
            }
        }
    }
}

/// Sends a signal to a process that a test has started.
pub fn send_signal(pid: u32, signal: &str) {
    let sent = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success(), "kill -{signal} {pid}");
}
