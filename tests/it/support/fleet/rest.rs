//! What a fleet's administrator asks of its coordinator.

use std::fs;

use serde_json::{Value, json};

use crate::support::client::{Answer, Client};
use crate::support::fleet::Fleet;

impl Fleet {
    /// One request.
    pub fn request(&self, method: &str, at: &str, etag: Option<&str>, body: &Value) -> Answer {
        self.send(method, at, etag.map(|etag| ("if-match", etag)), body)
    }

    /// A request that may be sent again.
    pub fn repeatable(&self, method: &str, at: &str, key: &str, body: &Value) -> Answer {
        self.send(method, at, Some(("idempotency-key", key)), body)
    }

    fn send(&self, method: &str, at: &str, header: Option<(&str, &str)>, body: &Value) -> Answer {
        let headers: Vec<(&str, &str)> = header.into_iter().collect();
        self.client().send(method, at, &headers, body).unwrap()
    }

    /// Who asks.
    pub fn client(&self) -> Client {
        Client {
            url: self.url.clone(),
            token: self.token.clone(),
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
}
