//! One activation across four keystores by Lockstep: from the API call to the answer that says "proved everywhere", with
//! real processes, mutual TLS, the store, and a token each.

use serde_json::Value;

use crate::parts::table::Table;
use crate::support::fleet::Fleet;

const RUNS: usize = 25;

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
        ours.act("activate");
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

    fn act(&self, action: &str) {
        self.post(action, self.etag().as_deref());
    }

    fn etag(&self) -> Option<String> {
        self.fleet
            .request("GET", &self.key, None, &Value::Null)
            .etag
    }

    fn post(&self, action: &str, etag: Option<&str>) {
        let at = format!("{}/{action}?wait=30", self.key);
        let body = self.fleet.request("POST", &at, etag, &Value::Null).ok();
        assert_eq!(body["phase"], "in_step", "{body:#}");
    }
}
