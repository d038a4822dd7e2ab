//! A whole fleet for one test: SoftHSM2 tokens, an agent process beside each, a coordinator process, all with mutual TLS.

mod rest;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::coordinator::Coordinator;
use crate::support::failpoints::{self, Points};
use crate::support::fault::{self, Faults};
use crate::support::kinds::{Kind, Shelf};
use crate::support::programs::Programs;
use crate::support::softhsm::Token;

const LOCKSTEP: &str = env!("CARGO_BIN_EXE_lockstep");
const AGENT: &str = env!("CARGO_BIN_EXE_lockstep-agent");

/// The coordinator, in the names of files.
const COORDINATOR: &str = "test";

/// Longest wait for a state: two busy cores and a scan or two.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One agent: its token and its process.
#[derive(Debug)]
pub struct Agent {
    pub token: Token,
    pub dir: PathBuf,
    pub keystore: String,
    /// What its module does wrong, where the fleet can crash.
    pub faults: Option<Faults>,
    process: Option<Child>,
}

/// The fleet. Dropping it ends its processes.
#[derive(Debug)]
pub struct Fleet {
    shelf: Shelf,
    pub dir: PathBuf,
    pub agents: BTreeMap<String, Agent>,
    pub url: String,
    coordinator: Option<Child>,
    token: String,
    log_filter: &'static str,
    programs: Programs,
    can_crash: bool,
}

/// What a fleet is made of.
#[derive(Debug, Clone, Copy)]
struct Plan<'p> {
    tokens: &'p [(&'p str, Kind)],
    /// How many of them, the first ones, are internal.
    internal: usize,
    log_filter: &'static str,
    /// What the last one's module does wrong, for the agent and for all others.
    faults: &'p [&'p str],
    /// Whether its processes have failpoints, and its agents' modules can do wrong.
    can_crash: bool,
}

impl<'p> Plan<'p> {
    const fn of(tokens: &'p [(&'p str, Kind)]) -> Self {
        Self {
            tokens,
            internal: 1,
            log_filter: "info",
            faults: &[],
            can_crash: false,
        }
    }
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
    String::from_utf8(output.stdout).unwrap()
}

impl Fleet {
    /// Starts agents of these names, the first one internal, and a coordinator that knows none of them yet.
    pub fn start(names: &[&str]) -> Self {
        Self::start_as(Plan::of(&softhsm(names)))
    }

    /// As [`Self::start`]; the processes log what that filter lets through.
    pub fn start_logging(names: &[&str], log_filter: &'static str) -> Self {
        let tokens = softhsm(names);
        Self::start_as(Plan {
            log_filter,
            ..Plan::of(&tokens)
        })
    }

    /// As [`Self::start`], the first two internal.
    pub fn start_double(names: &[&str]) -> Self {
        let tokens = softhsm(names);
        Self::start_as(Plan {
            internal: 2,
            ..Plan::of(&tokens)
        })
    }

    /// As [`Self::start`], on tokens of these makes; those that cannot be here are left out.
    pub fn start_on(tokens: &[(&str, Kind)]) -> Self {
        Self::start_as(Plan::of(tokens))
    }

    /// As [`Self::start`]; the last one's token is behind a module with these faults (`tests/modules/fault`), for the agent
    /// and for all others.
    pub fn start_faulty(names: &[&str], faults: &[&str]) -> Self {
        let tokens = softhsm(names);
        Self::start_as(Plan {
            faults,
            ..Plan::of(&tokens)
        })
    }

    /// As [`Self::start_on`], of programs with failpoints; every agent has its token behind a module that can do wrong, and
    /// nobody else has.
    pub fn start_crashing(tokens: &[(&str, Kind)]) -> Self {
        Self::start_as(Plan {
            can_crash: true,
            ..Plan::of(tokens)
        })
    }

    /// Where everything is kept.
    pub fn root(&self) -> &Path {
        self.shelf.dir()
    }

    /// As [`Self::start`], but no coordinator yet.
    pub fn start_agents(names: &[&str]) -> Self {
        Self::agents_as(Plan::of(&softhsm(names)))
    }

    fn start_as(plan: Plan<'_>) -> Self {
        let mut fleet = Self::agents_as(plan);
        fleet.issue("coordinator", COORDINATOR);
        fleet.start_coordinator();
        fleet
    }

    fn agents_as(plan: Plan<'_>) -> Self {
        let shelf = Shelf::new();
        let dir = shelf.dir().join("fleet");
        fs::create_dir_all(&dir).unwrap();
        let ca = dir.join("ca");
        run(LOCKSTEP, &["ca", "init", "--dir", path(&ca)]);
        let token = format!("lks_{}", "5".repeat(64));
        secret(&dir.join("admin.token"), &token);
        let mut fleet = Self {
            shelf,
            dir,
            agents: BTreeMap::new(),
            url: String::new(),
            coordinator: None,
            token,
            log_filter: plan.log_filter,
            programs: if plan.can_crash {
                failpoints::programs()
            } else {
                Programs::ordinary()
            },
            can_crash: plan.can_crash,
        };
        let mut names = Vec::new();
        for (index, &(name, kind)) in plan.tokens.iter().enumerate() {
            if let Some(mut token) = fleet.shelf.any(kind, name) {
                if !plan.faults.is_empty() && index + 1 == plan.tokens.len() {
                    let files = Faults::new(&fleet.dir, &token.module);
                    files.set(plan.faults);
                    token.module = fault::module();
                    token.env.extend(files.env());
                }
                fleet.furnish_agent(name, token, index < plan.internal);
                fleet.agent_ok(name, "init");
                fleet.agent_ok(name, "bind");
                names.push(name);
            }
        }
        fleet.list_peers(&names);
        for name in names {
            fleet.start_agent(name);
        }
        fleet
    }

    fn issue(&self, role: &str, name: &str) {
        let (ca, out) = (self.dir.join("ca"), self.dir.join(name));
        fs::create_dir_all(&out).unwrap();
        let args = [
            "ca",
            "issue",
            "--dir",
            path(&ca),
            "--role",
            role,
            "--name",
            name,
        ];
        run(LOCKSTEP, &[&args[..], &["--out", path(&out)]].concat());
    }

    /// An agent's certificate and config; nothing was run with them yet.
    fn furnish_agent(&mut self, name: &str, token: Token, is_internal: bool) {
        self.issue("agent", name);
        let dir = self.dir.join(name);
        let variant = if is_internal { "internal" } else { "external" };
        let mut seen = token.clone();
        let faults = self.can_crash.then(|| {
            let faults = Faults::new(&dir, &token.module);
            seen.module = fault::module();
            seen.env.extend(faults.env());
            let points = self.points(name).dir().display().to_string();
            seen.env.insert(failpoints::VARIABLE.to_owned(), points);
            faults
        });
        let config = format!(
            "name = \"{name}\"\nlisten = \"127.0.0.1:0\"\nstate_dir = \"state\"\n\
             variant = \"{variant}\"\n[token]\nmodule = \"{}\"\nlabel = \"{}\"\n\
             serial = \"{}\"\npin_file = \"{}\"\n{}[env]\n{}[tls]\n\
             cert = \"cert.pem\"\nkey = \"key.pem\"\nca = \"{}\"\n",
            path(&seen.module),
            seen.label,
            seen.serial,
            path(&seen.pin_file),
            seen.init_args
                .iter()
                .map(|words| format!("init_args = {words:?}\n"))
                .collect::<String>(),
            seen.env
                .iter()
                .map(|(name, value)| format!("{name} = {value:?}\n"))
                .collect::<String>(),
            path(&self.dir.join("ca/ca.pem")),
        );
        fs::write(dir.join("agent.toml"), config).unwrap();
        let agent = Agent {
            token,
            dir,
            keystore: String::new(),
            faults,
            process: None,
        };
        self.agents.insert(name.to_owned(), agent);
    }

    /// One more agent on a token of its own, external; nothing was run with its config yet.
    pub fn one_more(&mut self, name: &str, kind: Kind) {
        let token = self.shelf.any(kind, name).unwrap();
        self.furnish_agent(name, token, false);
    }

    /// The agent's program with its config and a command.
    pub fn agent_command(&self, name: &str, command: &str) -> Command {
        let config = self.agents[name].dir.join("agent.toml");
        let mut program = Command::new(&self.programs.agent);
        program.args([command, "--config", path(&config)]);
        if self.can_crash {
            program.env(failpoints::VARIABLE, self.points(name).dir());
        }
        program
    }

    /// As [`Self::agent_command`], to its end, which must be good; what it said.
    pub fn agent_ok(&self, name: &str, command: &str) -> String {
        said(&self.agent_command(name, command).output().unwrap())
    }

    /// Failpoints of an agent and its module host, or of the coordinator.
    pub fn points(&self, name: &str) -> Points {
        Points::new(&self.dir.join("points").join(name))
    }

    /// Failpoints of the coordinator.
    pub fn coordinator_points(&self) -> Points {
        self.points(COORDINATOR)
    }

    /// All list each other.
    fn list_peers(&mut self, names: &[&str]) {
        let mut known = BTreeMap::new();
        for name in names {
            let agent = self.agents.get_mut(*name).unwrap();
            let config = agent.dir.join("agent.toml");
            let said = run(AGENT, &["identity", "--config", path(&config)]);
            let (keystore, identity) = said.trim().split_once(' ').unwrap();
            agent.keystore = keystore.to_owned();
            known.insert(*name, (keystore.to_owned(), identity.to_owned()));
        }
        for at in names {
            for of in names.iter().filter(|of| *of != at) {
                let config = self.agents[*at].dir.join("agent.toml");
                let (keystore, identity) = &known[*of];
                let peer = ["--keystore", keystore, "--identity", identity];
                let args = ["peer", "add", "--config", path(&config)];
                run(AGENT, &[&args[..], &peer[..]].concat());
            }
        }
    }

    /// Starts the agent's process and waits until it listens; from the second start on at the same address.
    pub fn start_agent(&mut self, name: &str) {
        let dir = self.agents[name].dir.clone();
        let address = dir.join("state/listen.addr");
        let _may_be_missing = fs::remove_file(&address);
        let child = self
            .agent_command(name, "serve")
            .env("LOCKSTEP_LOG", self.log_filter)
            .stdin(Stdio::null())
            .stderr(log(&dir.join("agent.log")))
            .spawn()
            .unwrap();
        self.agents.get_mut(name).unwrap().process = Some(child);
        let bound = self.file(&address, &format!("{name}/agent.log"));
        let config = dir.join("agent.toml");
        let text = fs::read_to_string(&config).unwrap();
        let text = text.replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{bound}\""));
        fs::write(&config, text).unwrap();
    }

    /// Starts the coordinator and waits until it listens.
    pub fn start_coordinator(&mut self) {
        let (child, url) = self.run_coordinator(COORDINATOR, "");
        self.coordinator = Some(child);
        self.url = url;
    }

    /// One of several coordinators, with the store that its config is to name.
    pub fn one_coordinator(&self, name: &str, store: &str) -> Coordinator {
        if !self.dir.join(name).exists() {
            self.issue("coordinator", name);
        }
        let (process, url) = self.run_coordinator(name, store);
        let log = self.dir.join(name).join("coordinator.log");
        Coordinator { process, url, log }
    }

    fn run_coordinator(&self, name: &str, store: &str) -> (Child, String) {
        let dir = self.dir.join(name);
        let config = dir.join("coordinator.toml");
        let text = format!(
            "listen = \"127.0.0.1:0\"\nstate_dir = \"state\"\nadmin_token_file = \"{}\"\n[fleet]\n\
             cert = \"cert.pem\"\nkey = \"key.pem\"\nca = \"{}\"\n{store}",
            path(&self.dir.join("admin.token")),
            path(&self.dir.join("ca/ca.pem")),
        );
        fs::write(&config, text).unwrap();
        let address = dir.join("state/listen.addr");
        let _may_be_missing = fs::remove_file(&address);
        let mut program = Command::new(&self.programs.lockstep);
        if self.can_crash {
            program.env(failpoints::VARIABLE, self.points(name).dir());
        }
        let child = program
            .args(["serve", "--config", path(&config)])
            .env("LOCKSTEP_LOG", self.log_filter)
            .stdin(Stdio::null())
            .stderr(log(&dir.join("coordinator.log")))
            .spawn()
            .unwrap();
        let log = format!("{name}/coordinator.log");
        (child, format!("http://{}", self.file(&address, &log)))
    }

    fn file(&self, file: &Path, log: &str) -> String {
        let began = Instant::now();
        loop {
            match fs::read_to_string(file) {
                Ok(text) if !text.is_empty() => return text.trim().to_owned(),
                _ if began.elapsed() > PATIENCE => {
                    let said = fs::read_to_string(self.dir.join(log)).unwrap_or_default();
                    panic!("nothing at {}: {said}", file.display());
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// SIGKILL.
    pub fn kill_agent(&mut self, name: &str) {
        end(self.agents.get_mut(name).unwrap().process.take());
    }

    /// SIGKILL.
    pub fn kill_coordinator(&mut self) {
        end(self.coordinator.take());
    }

    /// Waits until an agent has ended by itself.
    pub fn wait_agent(&mut self, name: &str) {
        ended(self.agents.get_mut(name).unwrap().process.take());
    }

    /// Waits until the coordinator has ended by itself.
    pub fn wait_coordinator(&mut self) {
        ended(self.coordinator.take());
    }

    /// Where an agent has its config and state.
    pub fn agent_dir(&self, name: &str) -> &Path {
        &self.agents[name].dir
    }

    /// Process id of an agent.
    pub fn agent_pid(&self, name: &str) -> u32 {
        self.agents[name].process.as_ref().unwrap().id()
    }

    /// Process id of the coordinator.
    pub fn coordinator_pid(&self) -> u32 {
        self.coordinator.as_ref().unwrap().id()
    }

    /// Waits until all keystores confirm the key's state.
    pub fn in_step(&self, key: &str) {
        self.until(&format!("{key} in step"), || {
            let found = self.get(key);
            (found["phase"] == "in_step").then_some(()).ok_or(found)
        });
    }

    /// The doctor finds no promise broken, by the command line, in words and for programs; gives what it told.
    pub fn keeps_its_promises(&self) -> Value {
        let doctor = |form: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
            let told = command.args(["--url", &self.url, "--token-file"]);
            let told = told.arg(self.dir.join("admin.token")).arg("doctor");
            said(&told.args(form).output().unwrap())
        };
        let words = doctor(&[]);
        assert!(words.starts_with("CHECK"), "{words}");
        assert!(!words.contains("violated"), "{words}");
        let told: Value = serde_json::from_str(&doctor(&["--json"])).unwrap();
        assert!(told["checks"].as_array().unwrap().len() >= 20, "{told:#}");
        told
    }

    /// Waits until a difference with that reason is told; gives the status.
    pub fn difference(&self, key: &str, keystore: &str, reason: &str) -> Value {
        self.until(&format!("{reason} on {keystore}"), || {
            let status = self.status(key, keystore);
            let is_there = status["differences"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["reason"] == reason));
            if is_there { Ok(status) } else { Err(status) }
        })
    }

    /// Prints the ends of all logs.
    pub fn tell_logs(&self) {
        for (name, agent) in &self.agents {
            eprintln!("{name}: {}", tail(&agent.dir.join("agent.log")));
        }
        let log = self.dir.join(COORDINATOR).join("coordinator.log");
        eprintln!("coordinator: {}", tail(&log));
    }

    /// Waits for a state.
    pub fn until<T>(&self, what: &str, mut state: impl FnMut() -> Result<T, Value>) -> T {
        let began = Instant::now();
        loop {
            match state() {
                Ok(reached) => return reached,
                Err(last) if began.elapsed() > PATIENCE => {
                    self.tell_logs();
                    panic!("never reached: {what}; last seen {last:#}");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// A program that knows nothing of Lockstep, on one token.
    pub fn outsider(&self, keystore: &str, command: &str, args: &[&str]) -> Output {
        let token = &self.agents[keystore].token;
        token.outsider(&[&[command], args].concat())
    }
}

fn softhsm<'n>(names: &[&'n str]) -> Vec<(&'n str, Kind)> {
    names.iter().map(|name| (*name, Kind::SoftHsm)).collect()
}

/// What a program printed, if it succeeded.
pub fn said(output: &Output) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "failed: {err}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The token refused, with this error.
pub fn refused(output: &Output, rv: &str) {
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "not refused: {out}{err}");
    assert!(
        out.contains(rv) || err.contains(rv),
        "refused otherwise: {out}{err}"
    );
}

impl Drop for Fleet {
    fn drop(&mut self) {
        end(self.coordinator.take());
        for agent in self.agents.values_mut() {
            end(agent.process.take());
        }
    }
}

fn end(process: Option<Child>) {
    if let Some(mut child) = process {
        let _may_have_ended = child.kill();
        let _status = child.wait();
    }
}

fn ended(process: Option<Child>) {
    let mut child = process.unwrap();
    let until = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "{} did not end", child.id());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn secret(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

fn log(file: &Path) -> Stdio {
    let options = fs::OpenOptions::new().create(true).append(true).open(file);
    options.unwrap().into()
}

fn tail(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().rev().take(15);
    // What a token can do fills a page.
    let mut short: Vec<String> = lines.map(|line| line.chars().take(400).collect()).collect();
    short.reverse();
    short.join("\n")
}
