//! A fleet whose tokens are on paper: it reads what is wanted from the store and says that it is so, unless told to misbehave.
//! For tests of what stands above the fleet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use lockstep::clock::{self, Monotonic};
use lockstep::coordinator::ops::fleet::{Fleet, FleetError, LiveKeystore};
use lockstep::coordinator::store::Store;
use lockstep::model::adoption::{Candidate, Examined};
use lockstep::model::canonical::sha256;
use lockstep::model::capabilities::Capabilities;
use lockstep::model::desired::{Intent, ObjectPlan, Want};
use lockstep::model::difference::Reason;
use lockstep::model::ids::{Epoch, KeyVersionId, KeystoreId};
use lockstep::model::job::{FailureKind, TokenFailure};
use lockstep::model::kek::KekNumber;
use lockstep::model::key::{KeyClass, KeySpec};
use lockstep::model::keystore::{Health, OaepHash, TokenInfo, Variant};
use lockstep::model::live::{Connection, Differing, Live};
use lockstep::model::material::{BirthRecord, RepositoryCopy, Signed, Statement as _};
use lockstep::model::observed::{
    Fingerprint, FingerprintMethod, Found, ObjectFacts, Observation, Proof, ProofKind,
};
use lockstep::model::protocol::{Description, Progress, Report};
use lockstep::model::vault::UnixMs;
use tokio::sync::watch;
use uuid::Uuid;

#[derive(Debug, Clone)]
pub struct PaperFleet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    agents: Mutex<BTreeMap<KeystoreId, Agent>>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Agent {
    name: String,
    variant: Variant,
    identity: Ed25519KeyPair,
    is_up: bool,
    is_obedient: bool,
    /// Whether its token refuses every key for good: another object has the label.
    refuses: bool,
    health: Health,
    reports: BTreeMap<KeyVersionId, (Report, Monotonic)>,
    since: BTreeMap<KeyVersionId, Vec<(Reason, UnixMs)>>,
    unmanaged: Vec<ObjectFacts>,
    can: Capabilities,
    accepted: Option<Capabilities>,
}

impl PaperFleet {
    pub fn new(store: Arc<dyn Store>) -> Self {
        let changes = watch::Sender::new(0);
        Self(Arc::new(Inner {
            store,
            agents: Mutex::default(),
            changes,
        }))
    }

    /// A bound agent; its endpoint is `https://<name>.test:1`, its URI name `spiffe://lockstep/agent/<name>`.
    pub fn add(&self, name: &str, variant: Variant) -> KeystoreId {
        let id = KeystoreId::from_uuid(Uuid::new_v4());
        let agent = Agent {
            name: name.to_owned(),
            variant,
            identity: Ed25519KeyPair::generate().unwrap(),
            is_up: true,
            is_obedient: true,
            refuses: false,
            health: Health::Ok,
            reports: BTreeMap::new(),
            since: BTreeMap::new(),
            unmanaged: Vec::new(),
            can: Capabilities {
                rfc5649: Some(0x210a),
                oaep_hashes: vec![OaepHash::Sha1],
                ..Capabilities::best()
            },
            accepted: None,
        };
        self.0.agents.lock().unwrap().insert(id, agent);
        id
    }

    /// Whether the agent answers.
    pub fn set_up(&self, id: KeystoreId, is_up: bool) {
        self.with(id, |agent| agent.is_up = is_up);
        self.carry_out(id);
    }

    /// Whether the agent does what is wanted.
    pub fn set_obedient(&self, id: KeystoreId, is_obedient: bool) {
        self.with(id, |agent| agent.is_obedient = is_obedient);
        self.carry_out(id);
    }

    /// Whether its token refuses for good what is wanted from now on.
    pub fn set_refusing(&self, id: KeystoreId, refuses: bool) {
        self.with(id, |agent| agent.refuses = refuses);
    }

    pub fn set_health(&self, id: KeystoreId, health: Health) {
        self.with(id, |agent| agent.health = health);
    }

    pub fn set_unmanaged(&self, id: KeystoreId, unmanaged: Vec<ObjectFacts>) {
        self.with(id, |agent| agent.unmanaged = unmanaged);
    }

    /// The token can do less from now on, and its agent tells of its keys by that.
    pub fn lose(&self, id: KeystoreId, lose: impl FnOnce(&mut Capabilities)) {
        self.with(id, |agent| {
            agent.accepted = Some(agent.can.clone());
            lose(&mut agent.can);
        });
    }

    /// Changes what is on the token behind the agent's back.
    pub fn tamper(
        &self,
        id: KeystoreId,
        version: KeyVersionId,
        reason: Reason,
        change: impl FnOnce(&mut Observation),
    ) {
        self.with(id, |agent| {
            let (report, looked) = agent.reports.get_mut(&version).unwrap();
            change(&mut report.observation);
            *looked = Monotonic::now();
            let since = agent.since.entry(version).or_default();
            since.push((reason, clock::unix_ms()));
        });
    }

    fn with<T>(&self, id: KeystoreId, act: impl FnOnce(&mut Agent) -> T) -> T {
        let done = act(self.0.agents.lock().unwrap().get_mut(&id).unwrap());
        self.0.changes.send_modify(|n| *n += 1);
        done
    }

    fn carry_out(&self, id: KeystoreId) {
        let fleet = self.clone();
        tokio::spawn(async move {
            let rows = fleet.0.store.keystore_instances(id).await.unwrap();
            fleet.with(id, |agent| {
                if !agent.is_up || !agent.is_obedient {
                    return;
                }
                for row in rows {
                    let intent = &row.instance.intent;
                    let is_done = |(report, _): &(Report, Monotonic)| {
                        report.applied == Some(intent.applied())
                    };
                    if !agent.reports.get(&intent.version).is_some_and(is_done) {
                        let report = if agent.refuses {
                            refused(intent, &agent.can)
                        } else {
                            obeyed(intent, &agent.can)
                        };
                        let report = (report, Monotonic::now());
                        agent.reports.insert(intent.version, report);
                        agent.since.remove(&intent.version);
                    }
                }
            });
        });
    }
}

fn refused(intent: &Intent, can: &Capabilities) -> Report {
    Report {
        progress: Progress::Failed(TokenFailure {
            kind: FailureKind::LabelTaken,
            function: "effects".to_owned(),
            rv: String::new(),
            detail: "another secret key has the label already".to_owned(),
        }),
        observation: Observation::Absent {
            same_label: Vec::new(),
        },
        proof: None,
        ..obeyed(intent, can)
    }
}

fn obeyed(intent: &Intent, can: &Capabilities) -> Report {
    let strategy = can.strategy(&intent.object);
    let operation = if intent.object.spec.class() == KeyClass::Secret {
        "C_EncryptInit"
    } else {
        "C_SignInit"
    };
    let (observation, answer) = match intent.want {
        Want::Destroyed | Want::Deactivated if !ObjectPlan::is_present(intent.want, strategy) => (
            Observation::Absent {
                same_label: Vec::new(),
            },
            None,
        ),
        Want::Active => (holding(intent), Some("CKR_OK")),
        Want::Deactivated | Want::Destroyed => {
            (holding(intent), Some("CKR_KEY_FUNCTION_NOT_PERMITTED"))
        }
    };
    Report {
        version: intent.version,
        applied: Some(intent.applied()),
        progress: Progress::Done,
        observation,
        proof: answer.map(|answer| Proof {
            kind: ProofKind::Tried,
            operation: operation.to_owned(),
            answer: answer.to_owned(),
        }),
        proof_age_ms: 0,
        look_age_ms: 0,
        strategy,
    }
}

fn holding(intent: &Intent) -> Observation {
    let object = &intent.object;
    let facts = object.spec.class().objects().iter().map(|&class| {
        let is_public = class == lockstep::model::observed::ObjectClass::Public;
        ObjectFacts {
            handle: 1,
            class,
            key_type: Some(0x1f),
            cka_id: object.cka_id.clone(),
            label: object.label.clone(),
            usage: object.usage_under(intent.want, class),
            sensitive: (!is_public).then_some(true),
            extractable: (!is_public).then_some(false),
            modifiable: Some(true),
            copyable: Some(true),
            bits: Some(object.spec.bits()),
            public_digest: None,
            fingerprint: None,
        }
    });
    Observation::Present(Found {
        objects: facts.collect(),
        fingerprint: Some(intent.fingerprint),
        same_label: Vec::new(),
        fingerprint_failure: None,
    })
}

impl Agent {
    fn description(&self, id: KeystoreId) -> Description {
        Description {
            keystore: Some(id),
            epoch: Epoch(1),
            version: "0".to_owned(),
            identity: sha256(self.identity.public_key().as_ref()),
            variant: self.variant,
            token: TokenInfo {
                label: self.name.clone(),
                serial: "0815".to_owned(),
                manufacturer: "Paper".to_owned(),
                model: "A4".to_owned(),
                ..TokenInfo::default()
            },
            capabilities: Some(self.can.clone()),
            accepted: self.accepted.clone(),
            health: self.health.clone(),
            journal_records: 0,
            clock: clock::unix_ms(),
        }
    }

    fn connection(&self) -> Connection {
        if self.is_up {
            Connection::Live
        } else {
            Connection::Down {
                why: "connection refused".to_owned(),
                since: clock::unix_ms(),
            }
        }
    }
}

fn down() -> FleetError {
    FleetError::Unreachable {
        why: "connection refused".to_owned(),
    }
}

#[async_trait]
impl Fleet for PaperFleet {
    async fn describe(&self, endpoint: &str, _name: &str) -> Result<Description, FleetError> {
        let agents = self.0.agents.lock().unwrap();
        let (id, agent) = agents
            .iter()
            .find(|(_, agent)| agent.is_up && endpoint == format!("https://{}.test:1", agent.name))
            .ok_or_else(down)?;
        Ok(agent.description(*id))
    }

    async fn generate(
        &self,
        keystore: KeystoreId,
        version: KeyVersionId,
        spec: KeySpec,
        salt: Vec<u8>,
    ) -> Result<RepositoryCopy, FleetError> {
        let agents = self.0.agents.lock().unwrap();
        let agent = agents
            .get(&keystore)
            .filter(|agent| agent.is_up)
            .ok_or_else(down)?;
        let blob = version.uuid().as_bytes().to_vec();
        let spki = (spec.class() == KeyClass::Pair).then(|| blob.clone());
        let method = match spec.class() {
            KeyClass::Secret => FingerprintMethod::DigestKey,
            KeyClass::Pair => FingerprintMethod::Spki,
        };
        let body = BirthRecord {
            version,
            spec,
            fingerprint: Fingerprint {
                method,
                value: sha256(&blob),
            },
            salt,
            spki,
            blob: sha256(&blob),
            keystore,
            at: clock::unix_ms(),
        };
        let signature = agent.identity.sign(&body.canonical()).as_ref().to_vec();
        Ok(RepositoryCopy {
            keystore,
            blob,
            kek: KekNumber::FIRST,
            birth: Signed {
                body,
                signer: agent.identity.public_key().as_ref().to_vec(),
                signature,
            },
        })
    }

    async fn look(
        &self,
        keystore: KeystoreId,
        version: Option<KeyVersionId>,
    ) -> Result<(), FleetError> {
        self.with(keystore, |agent| {
            if !agent.is_up {
                return Err(down());
            }
            for (id, (_, looked)) in &mut agent.reports {
                if version.is_none_or(|version| version == *id) {
                    *looked = Monotonic::now();
                }
            }
            Ok(())
        })
    }

    async fn prove(
        &self,
        keystore: KeystoreId,
        version: KeyVersionId,
    ) -> Result<Proof, FleetError> {
        self.with(keystore, |agent| {
            let proof = agent
                .reports
                .get(&version)
                .and_then(|(report, _)| report.proof.clone());
            proof.filter(|_| agent.is_up).ok_or_else(down)
        })
    }

    async fn probe(&self, keystore: KeystoreId, accept: bool) -> Result<(), FleetError> {
        self.with(keystore, |agent| {
            if accept {
                agent.accepted = None;
            }
            agent.is_up.then_some(()).ok_or_else(down)
        })
    }

    async fn examine(
        &self,
        keystore: KeystoreId,
        _salt: Vec<u8>,
        keys: Vec<Candidate>,
    ) -> Result<Vec<Examined>, FleetError> {
        self.with(keystore, |agent| agent.is_up.then_some(()).ok_or_else(down))?;
        let why = "paper has no fingerprint".to_owned();
        Ok(vec![Examined::Unknown { why }; keys.len()])
    }

    fn wake(&self, keystores: &[KeystoreId]) {
        for id in keystores {
            self.carry_out(*id);
        }
    }

    fn live(&self, keystore: KeystoreId, version: KeyVersionId) -> Live {
        let agents = self.0.agents.lock().unwrap();
        let agent = &agents[&keystore];
        let known = agent.reports.get(&version).filter(|_| agent.is_up);
        Live {
            connection: agent.connection(),
            health: agent.is_up.then(|| agent.health.clone()),
            report: known.map(|(report, looked)| Report {
                strategy: report.strategy.max(agent.can.usual_strategy()),
                look_age_ms: looked.elapsed_ms(),
                proof_age_ms: looked.elapsed_ms(),
                ..report.clone()
            }),
            look_age_ms: known.map_or(0, |(_, looked)| looked.elapsed_ms()),
            fresh_for_ms: u64::try_from(Duration::from_secs(3600).as_millis()).unwrap(),
            refused: None,
            material_failure: None,
            since: agent.since.get(&version).cloned().unwrap_or_default(),
        }
    }

    fn differing(&self, keystore: KeystoreId) -> Differing {
        let agents = self.0.agents.lock().unwrap();
        let Some(agent) = agents.get(&keystore) else {
            return Differing::default();
        };
        let reasons = |dated: &Vec<(Reason, UnixMs)>| dated.iter().map(|(one, _)| *one).collect();
        let differing = agent.since.iter().filter(|(_, dated)| !dated.is_empty());
        Differing {
            of: agent.reports.len(),
            instances: differing
                .map(|(version, dated)| (*version, reasons(dated)))
                .collect(),
        }
    }

    fn keeps(&self, _keystore: KeystoreId) -> bool {
        true
    }

    fn description(&self, keystore: KeystoreId) -> Option<Arc<Description>> {
        self.live_keystore(keystore).description
    }

    fn live_keystore(&self, keystore: KeystoreId) -> LiveKeystore {
        let agents = self.0.agents.lock().unwrap();
        let Some(agent) = agents.get(&keystore) else {
            return LiveKeystore {
                connection: Connection::Never {
                    why: "no such agent".to_owned(),
                },
                health: None,
                description: None,
                unmanaged: Vec::new(),
                scan_age_ms: None,
            };
        };
        LiveKeystore {
            connection: agent.connection(),
            health: agent.is_up.then(|| agent.health.clone()),
            description: agent.is_up.then(|| Arc::new(agent.description(keystore))),
            unmanaged: agent.unmanaged.clone(),
            scan_age_ms: agent.is_up.then_some(40),
        }
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn strangers(&self, _keystore: KeystoreId) -> Vec<Report> {
        Vec::new()
    }

    fn recovered(&self) {}

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}
