//! The REST API over a real SQLite store and a fleet on paper, asked without a network.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use lockstep::coordinator::ops::access::Rights;
use lockstep::coordinator::ops::auth::Auth;
use lockstep::coordinator::ops::entropy::SystemEntropy;
use lockstep::coordinator::ops::{Limits, Ops};
use lockstep::coordinator::store::Store;
use lockstep::coordinator::store::sqlite::{Settings, SqliteStore};
use lockstep::coordinator::{api, console};
use lockstep::model::ids::KeystoreId;
use lockstep::model::keystore::Variant;
use lockstep::rest::error::{ApiError, ErrorItem};
use lockstep::rest::keystore::Keystore;
use lockstep::rest::managed_key::ManagedKey;
use lockstep::rest::template::Template;
use lockstep::rest::vault::Vault;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::support::paper::PaperFleet;

pub const ADMIN: &str = "admin-token-0123456789abcdef0123456789";
pub const READER: &str = "reader-token-0123456789abcdef012345678";

pub struct Coordinator {
    pub router: Router,
    pub ops: Arc<Ops>,
    pub fleet: PaperFleet,
    _directory: TempDir,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn etag(&self) -> String {
        self.header("etag").unwrap().to_owned()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The body of a success.
    pub fn read<T: DeserializeOwned>(&self) -> T {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text());
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// The one error of a refusal with this status.
    pub fn refused(&self, status: u16) -> ErrorItem {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        let error: ApiError = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(error.status_code, status);
        assert_eq!(Some(error.trace.as_str()), self.header("correlation-id"));
        error.errors.into_iter().next().unwrap()
    }

    /// Code and target of a refusal with this status.
    pub fn refusal(&self, status: u16) -> (String, Option<String>) {
        let item = self.refused(status);
        (item.code, item.target.map(|target| target.name))
    }
}

impl Coordinator {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lockstep.db");
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&path, Settings::default()).unwrap());
        let fleet = PaperFleet::new(Arc::clone(&store));
        let ops = Arc::new(Ops::new(
            store,
            Arc::new(fleet.clone()),
            Arc::new(SystemEntropy),
            Limits::default(),
        ));
        let auth = Auth::default()
            .with_token("admin", ADMIN, Rights::All)
            .unwrap()
            .with_token("reader", READER, Rights::Read)
            .unwrap();
        let pages = console::router(Arc::clone(&ops), auth.clone(), console::Line::LoopbackHttp);
        Self {
            router: api::router(Arc::clone(&ops), auth).merge(pages),
            ops,
            fleet,
            _directory: directory,
        }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: to_bytes(body, usize::MAX).await.unwrap().to_vec(),
        }
    }

    /// A request of the administrator's with these headers.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {ADMIN}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            None => Body::empty(),
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
        };
        self.send(request.body(body).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, &[], Some(body)).await
    }

    /// A POST without a body on the state that the ETag names.
    pub async fn act(&self, path: &str, etag: &str) -> Answer {
        self.ask("POST", path, &[("if-match", etag)], None).await
    }

    pub async fn vault(&self, name: &str) -> Vault {
        self.post("/api/v4/vaults", json!({"name": name}))
            .await
            .read()
    }

    /// An agent with its keystore in the group `g`.
    pub async fn keystore(&self, vault: &Vault, name: &str, variant: Variant) -> KeystoreId {
        let id = self.fleet.add(name, variant);
        let body = json!({
            "type": "pkcs11", "vault": {"id": vault.id}, "name": name, "groups": ["group"],
            "pkcs11_agent_endpoint": format!("https://{name}.test:1"),
            "pkcs11_agent_identity": format!("spiffe://lockstep/agent/{name}"),
            "pkcs11_variant": variant.name(),
        });
        let made: Keystore = self.post("/api/v4/keystores", body).await.read();
        assert_eq!(made.id, id.to_string());
        id
    }

    pub async fn template(&self, vault: &Vault, name: &str, key: Value) -> Template {
        let mut properties = json!({
            "size": "256", "algorithm": "aes", "state": "pre_activation",
            "activation_date": "P0D", "expiration_date": "P1Y",
        });
        properties
            .as_object_mut()
            .unwrap()
            .extend(key.as_object().unwrap().clone());
        let body = json!({
            "vault": {"id": vault.id}, "name": name, "key": properties,
            "keystores": [{"group": "group", "type": "pkcs11"}],
        });
        self.post("/api/v4/templates", body).await.read()
    }

    pub async fn key(
        &self,
        vault: &Vault,
        template: &Template,
        label: &str,
    ) -> (ManagedKey, String) {
        let body = json!({
            "template_name": template.name, "vault": {"id": vault.id}, "label": label,
        });
        let answer = self.post("/api/v4/managed_keys", body).await;
        (answer.read(), answer.etag())
    }
}
