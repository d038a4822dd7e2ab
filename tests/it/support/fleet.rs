//! A whole fleet for one test: SoftHSM2 tokens, an agent process beside each, a coordinator process, all with mutual TLS.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::coordinator::Coordinator;
use crate::support::fault::{self, Faults};
use crate::support::kinds::{Kind, Shelf};
use crate::support::softhsm::Token;

const LOCKSTEP: &str = env!("CARGO_BIN_EXE_lockstep");
const AGENT: &str = env!("CARGO_BIN_EXE_lockstep-agent");

/// Longest wait for a state: two busy cores and a scan or two.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One agent: its token and its process.
#[derive(Debug)]
pub struct Agent {
    pub token: Token,
    pub dir: PathBuf,
    pub keystore: String,
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
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub etag: Option<String>,
    pub body: Value,
}

impl Answer {
    /// The body, if all went well.
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "refused: {self:#?}");
        self.body
    }

    /// Code of the first error.
    pub fn code(&self) -> &str {
        self.body["errors"][0]["code"].as_str().unwrap_or_default()
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
        Self::start_with(&softhsm(names), 1, "info", &[])
    }

    /// As [`Self::start`]; the processes log what that filter lets through.
    pub fn start_logging(names: &[&str], log_filter: &'static str) -> Self {
        Self::start_with(&softhsm(names), 1, log_filter, &[])
    }

    /// As [`Self::start`], the first two internal.
    pub fn start_double(names: &[&str]) -> Self {
        Self::start_with(&softhsm(names), 2, "info", &[])
    }

    /// As [`Self::start`], on tokens of these makes; those that cannot be here are left out.
    pub fn start_on(tokens: &[(&str, Kind)]) -> Self {
        Self::start_with(tokens, 1, "info", &[])
    }

    /// As [`Self::start`]; the last one's token is behind a module with these faults (`tests/modules/fault`), for the agent
    /// and for all others.
    pub fn start_faulty(names: &[&str], faults: &[&str]) -> Self {
        Self::start_with(&softhsm(names), 1, "info", faults)
    }

    /// Where everything is kept.
    pub fn root(&self) -> &Path {
        self.shelf.dir()
    }

    /// As [`Self::start`], but no coordinator yet.
    pub fn start_agents(names: &[&str]) -> Self {
        Self::agents_with(&softhsm(names), 1, "info", &[])
    }

    fn start_with(
        tokens: &[(&str, Kind)],
        internal: usize,
        log_filter: &'static str,
        faults: &[&str],
    ) -> Self {
        let mut fleet = Self::agents_with(tokens, internal, log_filter, faults);
        fleet.issue("coordinator", "test");
        fleet.start_coordinator();
        fleet
    }

    fn agents_with(
        tokens: &[(&str, Kind)],
        internal: usize,
        log_filter: &'static str,
        faults: &[&str],
    ) -> Self {
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
            log_filter,
        };
        let mut names = Vec::new();
        for (index, &(name, kind)) in tokens.iter().enumerate() {
            if let Some(mut token) = fleet.shelf.any(kind, name) {
                if !faults.is_empty() && index + 1 == tokens.len() {
                    let files = Faults::new(&fleet.dir, &token.module);
                    files.set(faults);
                    token.module = fault::module();
                    token.env.extend(files.env());
                }
                fleet.make_agent(name, token, index < internal);
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

    fn make_agent(&mut self, name: &str, token: Token, is_internal: bool) {
        self.issue("agent", name);
        let dir = self.dir.join(name);
        let variant = if is_internal { "internal" } else { "external" };
        let config = format!(
            "name = \"{name}\"\nlisten = \"127.0.0.1:0\"\nstate_dir = \"state\"\n\
             variant = \"{variant}\"\n[token]\nmodule = \"{}\"\nlabel = \"{}\"\n\
             serial = \"{}\"\npin_file = \"{}\"\n{}[env]\n{}[tls]\n\
             cert = \"cert.pem\"\nkey = \"key.pem\"\nca = \"{}\"\n",
            path(&token.module),
            token.label,
            token.serial,
            path(&token.pin_file),
            token
                .init_args
                .iter()
                .map(|words| format!("init_args = {words:?}\n"))
                .collect::<String>(),
            token
                .env
                .iter()
                .map(|(name, value)| format!("{name} = {value:?}\n"))
                .collect::<String>(),
            path(&self.dir.join("ca/ca.pem")),
        );
        let file = dir.join("agent.toml");
        fs::write(&file, config).unwrap();
        run(AGENT, &["init", "--config", path(&file)]);
        run(AGENT, &["bind", "--config", path(&file)]);
        let agent = Agent {
            token,
            dir,
            keystore: String::new(),
            process: None,
        };
        self.agents.insert(name.to_owned(), agent);
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
        let agent = self.agents.get_mut(name).unwrap();
        let address = agent.dir.join("state/listen.addr");
        let _may_be_missing = fs::remove_file(&address);
        let log = log(&agent.dir.join("agent.log"));
        let child = Command::new(AGENT)
            .args(["serve", "--config", path(&agent.dir.join("agent.toml"))])
            .env("LOCKSTEP_LOG", self.log_filter)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        agent.process = Some(child);
        let bound = self.file(&address, &format!("{name}/agent.log"));
        let config = self.agents[name].dir.join("agent.toml");
        let text = fs::read_to_string(&config).unwrap();
        let text = text.replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{bound}\""));
        fs::write(&config, text).unwrap();
    }

    /// Starts the coordinator and waits until it listens.
    pub fn start_coordinator(&mut self) {
        let (child, url) = self.run_coordinator("test", "");
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
        let child = Command::new(LOCKSTEP)
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

    /// One request.
    pub fn request(&self, method: &str, at: &str, etag: Option<&str>, body: &Value) -> Answer {
        self.send(method, at, etag.map(|etag| ("if-match", etag)), body)
    }

    /// A request that may be sent again.
    pub fn repeatable(&self, method: &str, at: &str, key: &str, body: &Value) -> Answer {
        self.send(method, at, Some(("idempotency-key", key)), body)
    }

    fn send(&self, method: &str, at: &str, header: Option<(&str, &str)>, body: &Value) -> Answer {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(90)))
            .build()
            .into();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{at}", self.url))
            .header("authorization", format!("Bearer {}", self.token));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let has_body = !body.is_null();
        if has_body {
            request = request.header("content-type", "application/json");
        }
        let sent = if has_body {
            body.to_string()
        } else {
            String::new()
        };
        let mut answer = agent.run(request.body(sent).unwrap()).unwrap();
        let etag = answer
            .headers()
            .get("etag")
            .map(|tag| tag.to_str().unwrap().to_owned());
        let text = answer.body_mut().read_to_string().unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer {
            status: answer.status().as_u16(),
            etag,
            body,
        }
    }

    /// GET.
    pub fn get(&self, at: &str) -> Value {
        self.request("GET", at, None, &Value::Null).ok()
    }

    /// POST of something new.
    pub fn create(&self, at: &str, body: &Value) -> Value {
        self.request("POST", at, None, body).ok()
    }

    /// A change of something that is there, with the ETag it has now.
    pub fn change(&self, method: &str, of: &str, action: &str, body: &Value) -> Answer {
        let etag = self.request("GET", of, None, &Value::Null).etag;
        self.request(method, &format!("{of}{action}"), etag.as_deref(), body)
    }

    /// Vault, keystores (all in group `all` but the first) and a template of that kind; gives vault id.
    pub fn furnish(&self) -> String {
        self.furnish_at(|name| self.listens_at(name))
    }

    /// Where an agent listens, `host:port`.
    pub fn listens_at(&self, name: &str) -> String {
        let text = fs::read_to_string(self.agents[name].dir.join("state/listen.addr")).unwrap();
        text.trim().to_owned()
    }

    /// As [`Self::furnish`]; each keystore's agent is told to be at that address, `host:port`.
    pub fn furnish_at(&self, address: impl Fn(&str) -> String) -> String {
        let vault = self.create("/api/v4/vaults", &json!({"name": "test"}));
        let vault = vault["id"].as_str().unwrap().to_owned();
        let mut names: Vec<&String> = self.agents.keys().collect();
        names.sort();
        for name in names {
            let text = fs::read_to_string(self.agents[name].dir.join("agent.toml")).unwrap();
            let is_internal = text.contains("\"internal\"");
            self.create(
                "/api/v4/keystores",
                &json!({
                    "type": "pkcs11",
                    "vault": {"id": vault},
                    "name": name,
                    "groups": if is_internal { vec!["makers"] } else { vec!["all"] },
                    "pkcs11_agent_endpoint": format!("https://{}", address(name)),
                    "pkcs11_agent_identity": format!("spiffe://lockstep/agent/{name}"),
                    "pkcs11_variant": if is_internal { "internal" } else { "external" },
                }),
            );
        }
        vault
    }

    /// A template for the group `all`.
    pub fn template(&self, vault: &str, name: &str, algorithm: &str, size: u32) {
        self.create("/api/v4/templates", &json!({
            "vault": {"id": vault},
            "name": name,
            "key": {
                "algorithm": algorithm, "size": size.to_string(), "state": "pre_activation",
                "activation_date": "P0D", "expiration_date": "P1Y", "deactivate_on_rotation": false,
            },
            "keystores": [{"group": "all", "type": "pkcs11"}],
        }));
    }

    /// A key made from it; gives its path.
    pub fn key(&self, vault: &str, template: &str, label: &str) -> String {
        let body = json!({"template_name": template, "vault": {"id": vault}, "label": label});
        let key = self.create("/api/v4/managed_keys", &body);
        format!("/api/v4/managed_keys/{}", key["id"].as_str().unwrap())
    }

    /// CKA_ID of a key, from where it is.
    pub fn cka_id(&self, key: &str) -> String {
        let statuses = self.get(&format!("{key}/status_in_keystores"));
        let first = &statuses["status_in_keystores"][0]["key_id_in_keystore"];
        first
            .as_str()
            .unwrap_or_else(|| panic!("{statuses:#}"))
            .to_owned()
    }

    /// The status of a key on one keystore; null where there is none.
    pub fn status(&self, key: &str, keystore: &str) -> Value {
        let statuses = self.get(&format!("{key}/status_in_keystores"));
        let all = statuses["status_in_keystores"].as_array().unwrap();
        let found = all
            .iter()
            .find(|status| status["keystore"]["name"] == keystore);
        found.cloned().unwrap_or(Value::Null)
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

    /// Waits for a state.
    pub fn until<T>(&self, what: &str, mut state: impl FnMut() -> Result<T, Value>) -> T {
        let began = Instant::now();
        loop {
            match state() {
                Ok(reached) => return reached,
                Err(last) if began.elapsed() > PATIENCE => {
                    for name in self.agents.keys() {
                        let log = self.agents[name].dir.join("agent.log");
                        eprintln!("{name}: {}", tail(&log));
                    }
                    eprintln!(
                        "coordinator: {}",
                        tail(&self.dir.join("test/coordinator.log"))
                    );
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
    let lines: Vec<&str> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
