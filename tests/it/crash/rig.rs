//! A fleet whose processes can be made to crash: a coordinator, the agent `home` of an internal keystore, the agent `away` of a
//! target. It brings keys where a case wants them, arms, restarts what has ended, and looks for itself what the tokens hold.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::crash::case::{Case, Mode, Party, Place};
use crate::support::client::{Answer, Client};
use crate::support::failpoints::Points;
use crate::support::fault::Faults;
use crate::support::fleet::{Fleet, said};
use crate::support::kinds::Kind;
use crate::support::process::{child_of, state_of};
use crate::support::softhsm::Token;

/// Longest way to a point, on a machine that does much else.
const REACHED_WITHIN: Duration = Duration::from_secs(30);

/// How often a state is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// A hash to sign.
const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Hosts that died since their agent was started, after which it is started again: a host that dies again and again within a
/// minute is given ever longer pauses, which is right, and not what is tried here.
const HOST_DEATHS_MAX: u32 = 2;

/// The fleet.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) fleet: Fleet,
    pub(crate) kind: Kind,
    vault: String,
    next: u32,
    host_deaths: u32,
}

/// A key in a case.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) label: String,
    /// Its path; none before it is made.
    pub(crate) path: Option<String>,
}

impl Rig {
    /// Two tokens of that make.
    pub(crate) fn new(kind: Kind) -> Self {
        let fleet = Fleet::start_crashing(&[("home", kind), ("away", kind)]);
        let vault = fleet.furnish();
        fleet.template(&vault, "secret", "aes", 256);
        fleet.template(&vault, "pair", "ec", 256);
        let rig = Self {
            fleet,
            kind,
            vault,
            next: 0,
            host_deaths: 0,
        };
        rig.ready();
        rig
    }

    /// Waits until both keystores can be used: what a case did to one that it is not about is over.
    pub(crate) fn ready(&self) {
        self.fleet.until("keystores", || {
            let all = self.fleet.get("/api/v4/keystores");
            let well = all["keystores"].as_array().unwrap().iter();
            let count = well.filter(|one| is_well(one)).count();
            (count == 2).then_some(()).ok_or(all.clone())
        });
    }

    /// A name that was not there before.
    pub(crate) fn name(&mut self, of: &str) -> String {
        self.next += 1;
        format!("{of}-{}", self.next)
    }

    /// The body that makes a key.
    pub(crate) fn new_key(&self, template: &str, label: &str) -> Value {
        json!({"template_name": template, "vault": {"id": self.vault}, "label": label})
    }

    /// The body that makes a keystore.
    pub(crate) fn new_keystore(&self, name: &str) -> Value {
        json!({
            "type": "pkcs11", "vault": {"id": self.vault}, "name": name, "groups": ["joined"],
            "pkcs11_agent_endpoint": format!("https://{}", self.fleet.listens_at(name)),
            "pkcs11_agent_identity": format!("spiffe://lockstep/agent/{name}"),
            "pkcs11_variant": "external",
        })
    }

    /// The body that has a key on `away`, or nowhere.
    pub(crate) fn targets(&self, is_away: bool) -> Value {
        let away = json!({"id": self.fleet.agents["away"].keystore});
        json!({"keystores": if is_away { vec![away] } else { vec![] }})
    }

    /// A pair that was made, and is pre-active.
    pub(crate) fn made(&mut self) -> Subject {
        let label = self.name("key");
        let path = self.fleet.key(&self.vault, "pair", &label);
        Subject {
            label,
            path: Some(path),
        }
    }

    /// Does something with a key, and waits until it is confirmed.
    pub(crate) fn done(&self, method: &str, subject: &Subject, action: &str, body: &Value) {
        let path = subject.path.as_deref().unwrap();
        let at = action_path(path, action);
        let etag = self.fleet.request("GET", path, None, &Value::Null).etag;
        self.fleet.request(method, &at, etag.as_deref(), body).ok();
        self.fleet.in_step(path);
    }

    /// Failpoints of a process.
    pub(crate) fn points(&self, party: Party, new: &str) -> Points {
        match party {
            Party::Coordinator => self.fleet.coordinator_points(),
            Party::Home => self.fleet.points("home"),
            Party::Away => self.fleet.points("away"),
            Party::New => self.fleet.points(new),
        }
    }

    /// The module of an agent.
    pub(crate) fn faults(&self, party: Party, new: &str) -> &Faults {
        let name = agent_of(party, new).expect("a coordinator has no module");
        self.fleet.agents[name].faults.as_ref().unwrap()
    }

    /// The next time that the case's place is reached, it strikes.
    pub(crate) fn arm(&self, case: &Case, new: &str) {
        let action = match case.mode {
            Mode::Abort => "abort",
            Mode::Stop | Mode::LongStop => "stop",
            Mode::Fail => "fail",
            Mode::Orphan => "hang",
        };
        if let Place::At(point) = case.place {
            return self.points(case.party, new).arm(point, action);
        }
        let faults = self.faults(case.party, new);
        faults.forget();
        faults.set(&[&fault_line(case)]);
    }

    /// Whether it struck.
    pub(crate) fn has_struck(&self, case: &Case, new: &str) -> bool {
        match case.place {
            Place::At(_) => self.points(case.party, new).struck(),
            Place::Before(..) | Place::After(..) => {
                self.faults(case.party, new).strikes(&fault_line(case)) > 0
            }
        }
    }

    /// Waits until it struck.
    pub(crate) fn wait_struck(&self, case: &Case, new: &str) {
        let until = Instant::now() + REACHED_WITHIN;
        while !self.has_struck(case, new) {
            assert!(Instant::now() < until, "{case}: never reached");
            std::thread::sleep(PAUSE);
        }
    }

    /// Nothing strikes any more.
    pub(crate) fn disarm(&self, case: &Case, new: &str) {
        match case.place {
            Place::At(_) => self.points(case.party, new).disarm(),
            Place::Before(..) | Place::After(..) => self.faults(case.party, new).clear(),
        }
    }

    /// The process that a case strikes.
    fn victim(&self, case: &Case) -> u32 {
        let server = match agent_of(case.party, "") {
            None => return self.fleet.coordinator_pid(),
            Some(name) => self.fleet.agent_pid(name),
        };
        if case.is_in_the_host() {
            child_of(server).expect("a module host")
        } else {
            server
        }
    }

    /// What has ended is started again, as a service manager does.
    pub(crate) fn recover(&mut self, case: &Case) {
        match case.mode {
            Mode::Abort if !case.is_in_the_host() => self.start_again(case.party),
            Mode::Abort => self.host_deaths += 1,
            Mode::Orphan => {
                let name = agent_of(case.party, "").unwrap();
                self.fleet.kill_agent(name);
                self.faults(case.party, "").clear();
                self.fleet.start_agent(name);
            }
            Mode::Fail if case.is_in_the_host() => self.host_deaths += 1,
            Mode::Stop | Mode::LongStop | Mode::Fail => {}
        }
    }

    /// Starts a process that ends, or has ended.
    pub(crate) fn start_again(&mut self, party: Party) {
        match agent_of(party, "") {
            None => {
                self.fleet.wait_coordinator();
                self.fleet.start_coordinator();
            }
            Some(name) => {
                self.fleet.wait_agent(name);
                self.fleet.start_agent(name);
            }
        }
    }

    /// Waits until the struck process stands still, does something meanwhile, and lets it go on.
    pub(crate) fn stopped(&self, case: &Case, meanwhile: impl FnOnce()) {
        let pid = self.victim(case);
        stopped(pid, meanwhile);
    }

    /// An agent whose host died more than once in a short time is started again.
    pub(crate) fn spare_hosts(&mut self) {
        if self.host_deaths < HOST_DEATHS_MAX {
            return;
        }
        self.host_deaths = 0;
        for name in ["home", "away"] {
            self.fleet.kill_agent(name);
            self.fleet.start_agent(name);
        }
    }

    /// How many objects with that label are on `away`.
    pub(crate) fn objects(&self, label: &str) -> usize {
        let listed = said(&self.fleet.outsider("away", "list", &[]));
        let label = format!("label={label:?}");
        let is_it = |line: &&str| line.split(' ').any(|word| word == label);
        listed.lines().filter(is_it).count()
    }

    /// Whether anybody with the PIN can sign with it on `away`.
    pub(crate) fn signs(&self, id: &str) -> bool {
        signs(&self.away(), id)
    }

    /// The token of `away`.
    pub(crate) fn away(&self) -> Token {
        self.fleet.agents["away"].token.clone()
    }

    /// Audit entries about something, but for our own acts.
    pub(crate) fn noted(&self, subject: &str) -> usize {
        let at = format!("/api/lockstep/v1/audit?subject={subject}&limit=100");
        let told = self.fleet.get(&at);
        let entries = told["entries"].as_array().unwrap().iter();
        entries
            .filter(|entry| entry["actor"] != "reconciler")
            .count()
    }
}

/// Whether a keystore is connected, well, and known for what it can do.
pub(crate) fn is_well(keystore: &Value) -> bool {
    keystore["status"]["health_status"] == "ok" && keystore["pkcs11_capabilities"].is_object()
}

/// Whether anybody with the PIN can sign with it on a token.
pub(crate) fn signs(token: &Token, id: &str) -> bool {
    let tried = token.outsider(&["sign", "--id", id, "--data", HASH]);
    match tried.status.code() {
        Some(0) => true,
        Some(3 | 4) => false,
        _ => panic!("{tried:?}"),
    }
}

/// Where an action of a key is asked for.
pub(crate) fn action_path(key: &str, action: &str) -> String {
    match action {
        "/targets" => format!("{}{action}", key.replace("/api/v4/", "/api/lockstep/v1/")),
        _ => format!("{key}{action}"),
    }
}

/// Waits until a process stands still, does something meanwhile, and lets it go on.
pub(crate) fn stopped(pid: u32, meanwhile: impl FnOnce()) {
    let until = Instant::now() + REACHED_WITHIN;
    while state_of(pid) != Some('T') {
        assert!(Instant::now() < until, "{pid}: {:?}", state_of(pid));
        std::thread::sleep(PAUSE);
    }
    meanwhile();
    signal(pid, Signal::CONT);
}

/// Sends a signal to a process that a test has started.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended of itself.
    let _sent = kill_process(pid, signal);
}

/// Asks again and again, with the same key, until the answer is good. Only what says "not now" is asked again.
pub(crate) fn repeat(
    client: impl Fn() -> Client,
    within: Duration,
    ask: impl Fn(&Client) -> Asked,
) -> Answer {
    let until = Instant::now() + within;
    loop {
        let last = ask(&client());
        match &last {
            Ok(answer) if answer.is_ok() => return answer.clone(),
            Ok(answer) => assert!(answer.status >= 500, "refused: {answer:#?}"),
            Err(_no_answer) => {}
        }
        assert!(Instant::now() < until, "not taken: {last:#?}");
        std::thread::sleep(PAUSE);
    }
}

/// What came back.
pub(crate) type Asked = Result<Answer, ureq::Error>;

const fn agent_of(party: Party, new: &str) -> Option<&str> {
    match party {
        Party::Coordinator => None,
        Party::Home => Some("home"),
        Party::Away => Some("away"),
        Party::New => Some(new),
    }
}

fn fault_line(case: &Case) -> String {
    let (call, n, is_after) = match case.place {
        Place::Before(call, n) => (call, n, false),
        Place::After(call, n) => (call, n, true),
        Place::At(point) => panic!("{point:?} is no call"),
    };
    let what = match (case.mode, is_after) {
        (Mode::Abort, false) => "abort",
        (Mode::Abort, true) => "abortafter",
        (Mode::Stop | Mode::LongStop, false) => "stop",
        (Mode::Stop | Mode::LongStop, true) => "stopafter",
        // CKR_DEVICE_ERROR
        (Mode::Fail, false) => "rv 0x30",
        (Mode::Fail, true) => "rvafter 0x30",
        // Until the line is gone.
        (Mode::Orphan, _) => return format!("{call} hang nth {n}"),
    };
    format!("{call} {what} nth {n} once")
}
