//! One activation across four keystores by Lockstep: from the API call to the answer that says "proved everywhere", with
//! real processes, mutual TLS, the store, and a token each.

use std::time::Duration;

use lockstep::clock::Monotonic;
use serde_json::Value;

use crate::parts::table::Table;
use crate::support::fleet::Fleet;

const RUNS: usize = 25;

/// Between two questions to the API.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// For the first activation; ends a run that would never end.
const PATIENCE: Duration = Duration::from_secs(600);

/// A fleet with one key on four keystores; the fifth makes it.
#[derive(Debug)]
pub struct Ours {
    fleet: Fleet,
    key: String,
}

impl Ours {
    /// Starts it and installs the key, enabled.
    pub fn start(labels: &[&str]) -> Self {
        let names: Vec<&str> = ["maker"].iter().chain(labels).copied().collect();
        let fleet = Fleet::start(&names);
        let vault = fleet.furnish();
        fleet.template(&vault, "aes", "aes", 256);
        let key = fleet.key(&vault, "aes", "benched");
        let ours = Self { fleet, key };
        ours.post_unseen("activate", ours.etag().as_deref());
        ours.wait_until_in_step();
        ours
    }

    /// Activates again and again, each time from disabled, and notes how long each took.
    pub fn time(&self, table: &mut Table, row: usize) {
        for _ in 0..RUNS {
            self.act("deactivate");
            let etag = self.etag();
            table.time(row, || self.post("activate", etag.as_deref()));
        }
    }

    /// For as long as it takes: tokens are tried out first, and that is slow on a busy machine.
    fn wait_until_in_step(&self) {
        let start = Monotonic::now();
        while self.fleet.get(&self.key)["phase"] != "in_step" {
            assert!(start.elapsed() < PATIENCE, "never in step");
            std::thread::sleep(ASK_AGAIN);
        }
    }

    fn act(&self, action: &str) {
        self.post(action, self.etag().as_deref());
    }

    fn etag(&self) -> Option<String> {
        self.fleet
            .request("GET", &self.key, None, &Value::Null)
            .etag
    }

    fn post(&self, action: &str, etag: Option<&str>) {
        let body = self.post_unseen(action, etag);
        assert_eq!(body["phase"], "in_step", "{body:#}");
    }

    fn post_unseen(&self, action: &str, etag: Option<&str>) -> Value {
        let at = format!("{}/{action}?wait=30", self.key);
        self.fleet.request("POST", &at, etag, &Value::Null).ok()
    }
}
