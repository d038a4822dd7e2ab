//! Two real agents and a coordinator with many keys: made on one token, active on the other, through the API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lockstep::clock::Monotonic;
use serde_json::{Value, json};

use crate::support::fleet::Fleet;
use crate::support::softhsm::Token;

/// The keystore that is watched.
pub const TARGET: &str = "target";

/// Requests at once: enough to keep two agents busy.
const CALLERS: usize = 16;

/// Between two questions to the API.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// For any state; ends a run that would never end.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// Files with what is in them.
pub type Objects = BTreeMap<PathBuf, Vec<u8>>;

/// The processes and the paths of the keys.
#[derive(Debug)]
pub struct Estate {
    pub fleet: Fleet,
    pub keys: Vec<String>,
}

impl Estate {
    /// Starts all and makes so many AES-256 keys, active on the target.
    pub fn start(count: usize) -> Self {
        let fleet = Fleet::start(&["maker", TARGET]);
        let vault = fleet.furnish();
        fleet.create(
            "/api/v4/templates",
            &json!({
                "vault": {"id": vault},
                "name": "aes",
                "key": {
                    "algorithm": "aes", "size": "256", "state": "active",
                    "activation_date": "P0D", "expiration_date": "P1Y", "deactivate_on_rotation": false,
                },
                "keystores": [{"group": "all", "type": "pkcs11"}],
            }),
        );
        let keys = make(&fleet, &vault, count);
        let estate = Self { fleet, keys };
        estate.all_confirmed();
        estate
    }

    pub fn token(&self) -> &Token {
        &self.fleet.agents[TARGET].token
    }

    /// Waits until the target confirms every key; gives the seconds.
    pub fn all_confirmed(&self) -> f64 {
        self.wait("all keys confirmed", || self.unconfirmed() == 0)
    }

    /// Waits until the target confirms no key; gives the seconds.
    pub fn none_confirmed(&self) -> f64 {
        let all = u64::try_from(self.keys.len()).unwrap();
        self.wait("no key confirmed", || self.unconfirmed() == all)
    }

    /// Instances of which the API does not say that they are as wanted.
    fn unconfirmed(&self) -> u64 {
        let body = self.fleet.get("/api/lockstep/v1/differences?limit=1");
        body["total_count"]
            .as_u64()
            .unwrap_or_else(|| panic!("{body:#}"))
    }

    /// The object files of both tokens.
    pub fn objects(&self) -> Objects {
        let tokens = std::fs::read_dir(&self.token().tokens).unwrap();
        tokens
            .flat_map(|token| std::fs::read_dir(token.unwrap().path()).unwrap())
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|name| name == "object"))
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    }

    /// Waits until the API says that a key is as wanted everywhere; gives the seconds.
    pub fn in_step(&self, key: &str) -> f64 {
        self.wait("in step", || self.fleet.get(key)["phase"] == "in_step")
    }

    /// Waits until the API tells that difference of a key; gives the seconds.
    pub fn told(&self, key: &str, reason: &str) -> f64 {
        self.wait(reason, || {
            let status = self.fleet.status(key, TARGET);
            let all = status["differences"].as_array();
            all.is_some_and(|all| all.iter().any(|one| one["reason"] == reason))
        })
    }

    fn wait(&self, what: &str, reached: impl Fn() -> bool) -> f64 {
        let start = Monotonic::now();
        while !reached() {
            assert!(start.elapsed() < PATIENCE, "never reached: {what}");
            std::thread::sleep(ASK_AGAIN);
        }
        start.elapsed().as_secs_f64()
    }
}

/// Makes the keys, several requests at once; gives their paths.
fn make(fleet: &Fleet, vault: &str, count: usize) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let one = || {
        let mut made = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return made;
            }
            made.push(fleet.key(vault, "aes", &format!("orders-production-{number:06}")));
        }
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(one)).collect();
        let made = callers
            .into_iter()
            .flat_map(|caller| caller.join().unwrap());
        made.collect()
    })
}

/// CPU time of a process and its children so far, seconds.
pub fn cpu_seconds(pid: u32) -> f64 {
    let ticks: u64 = children(pid).chain([pid]).flat_map(times).sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// The children of all its threads.
pub fn children(pid: u32) -> impl Iterator<Item = u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lists = threads.map(|thread| {
        let list = thread.unwrap().path().join("children");
        // A thread may have ended meanwhile.
        std::fs::read_to_string(list).unwrap_or_default()
    });
    let pids: Vec<u32> = lists
        .flat_map(|list| {
            let pids = list.split_whitespace().map(|pid| pid.parse().unwrap());
            pids.collect::<Vec<u32>>()
        })
        .collect();
    pids.into_iter()
}

/// USER_HZ, the same on all Linux platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// utime, stime, cutime, cstime (proc_pid_stat(5)).
fn times(pid: u32) -> [u64; 4] {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, after_name) = text.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = after_name.split(' ').collect();
    [11, 12, 13, 14].map(|field| fields[field].parse().unwrap())
}

/// A key's CKA_ID.
pub fn id_of(estate: &Estate, key: &str) -> String {
    let status: Value = estate.fleet.status(key, TARGET);
    let id = &status["key_id_in_keystore"];
    id.as_str()
        .unwrap_or_else(|| panic!("{status:#}"))
        .to_owned()
}
