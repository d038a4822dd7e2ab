//! Agents in memory behind the port `Fleet`: they apply what the store wants, with fences, material and read-backs, and can be
//! cut off, tampered with and set ahead. They share no code with the real ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use tokio::sync::watch;

use lockstep::clock;
use lockstep::coordinator::ops::fleet::{Fleet, FleetError, LiveKeystore};
use lockstep::coordinator::store::Store;
use lockstep::decide::found::record;
use lockstep::model::adoption::{AdoptionRecord, Candidate, Examined};
use lockstep::model::canonical::sha256;
use lockstep::model::capabilities::Capabilities;
use lockstep::model::desired::{Applied, Instance, ObjectPlan, Want};
use lockstep::model::ids::{Epoch, Generation, KeyVersionId, KeystoreId};
use lockstep::model::kek::KekNumber;
use lockstep::model::key::{KeyClass, KeySpec};
use lockstep::model::keystore::{Health, OaepHash, TokenInfo, Variant};
use lockstep::model::live::{Connection, Differing, Live};
use lockstep::model::material::{BirthRecord, RepositoryCopy, Signed, Statement as _};
use lockstep::model::observed::{
    Fingerprint, FingerprintMethod, Found, ObjectClass, ObjectFacts, Observation, Proof, ProofKind,
};
use lockstep::model::protocol::{Description, Progress, Report};
use lockstep::model::vault::UnixMs;

/// One agent with its token.
pub(crate) struct Agent {
    pub(crate) id: Option<KeystoreId>,
    pub(crate) variant: Variant,
    pub is_up: bool,
    /// What it holds of each version.
    pub(crate) held: BTreeMap<KeyVersionId, Report>,
    /// Changes what it says of a new key before it is signed.
    pub(crate) birth: fn(&mut BirthRecord),
    pub(crate) capabilities: Capabilities,
    /// What its token could do, where it can do less.
    pub(crate) accepted: Option<Capabilities>,
    /// What its token loses while it is tried the next time.
    pub(crate) loses: fn(&mut Capabilities),
    /// Keys that others made on its token: the objects, and the material or why it does not show.
    pub(crate) strays: Vec<Stray>,
    /// Changes what it says of one before it is signed.
    pub(crate) examined: fn(&mut AdoptionRecord),
    /// Changes what it says of itself.
    pub(crate) described: fn(&mut Description),
    pub(crate) health: Health,
    identity: Ed25519KeyPair,
}

impl Agent {
    /// Tries the token again.
    pub(crate) fn probe(&mut self, accept: bool) {
        let could = self.accepted.take();
        let could = could.unwrap_or_else(|| self.capabilities.clone());
        (self.loses)(&mut self.capabilities);
        let is_less = !could.regressions(&self.capabilities).is_empty();
        self.accepted = (is_less && !accept).then_some(could);
        for report in self.held.values_mut() {
            report.strategy = report.strategy.max(self.capabilities.usual_strategy());
        }
    }
}

/// A key that others made.
#[derive(Debug, Clone)]
pub(crate) struct Stray {
    pub(crate) objects: Vec<ObjectFacts>,
    pub(crate) material: Result<&'static str, &'static str>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// All agents, by the host in their endpoint.
#[derive(Debug)]
pub(crate) struct Agents {
    store: Arc<dyn Store>,
    known: Arc<Mutex<BTreeMap<String, Agent>>>,
    changes: watch::Sender<u64>,
    pub(crate) woken: Mutex<Vec<KeystoreId>>,
}

impl Agents {
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            known: Arc::default(),
            changes: watch::channel(0).0,
            woken: Mutex::default(),
        })
    }

    pub(crate) fn add(&self, name: &str, id: Option<KeystoreId>, variant: Variant) {
        let agent = Agent {
            id,
            variant,
            is_up: true,
            held: BTreeMap::new(),
            birth: |_| {},
            capabilities: Capabilities {
                rfc5649: Some(0x210a),
                oaep_hashes: vec![OaepHash::Sha1],
                ..Capabilities::best()
            },
            accepted: None,
            loses: |_| {},
            strays: Vec::new(),
            examined: |_| {},
            described: |_| {},
            health: Health::Ok,
            identity: Ed25519KeyPair::generate().unwrap(),
        };
        self.known.lock().unwrap().insert(name.to_owned(), agent);
    }

    /// Does something to an agent or its token, then says that things changed.
    pub(crate) fn with<T>(&self, name: &str, act: impl FnOnce(&mut Agent) -> T) -> T {
        let done = act(self.known.lock().unwrap().get_mut(name).unwrap());
        self.changes.send_modify(|n| *n += 1);
        done
    }

    /// Cuts an agent off.
    pub(crate) fn cut(&self, name: &str) {
        self.with(name, |agent| agent.is_up = false);
    }

    /// Lets it be reached again: it is told what is wanted.
    pub(crate) fn mend(&self, name: &str) {
        let id = self.with(name, |agent| {
            agent.is_up = true;
            agent.id.unwrap()
        });
        self.wake(&[id]);
    }

    fn of<T>(&self, id: KeystoreId, read: impl FnOnce(&Agent) -> T) -> Option<T> {
        let known = self.known.lock().unwrap();
        known.values().find(|agent| agent.id == Some(id)).map(read)
    }
}

#[async_trait]
impl Fleet for Agents {
    async fn describe(&self, endpoint: &str, _name: &str) -> Result<Description, FleetError> {
        let known = self.known.lock().unwrap();
        let agent = known
            .iter()
            .find(|(name, agent)| endpoint.contains(&format!("//{name}:")) && agent.is_up)
            .map(|(_, agent)| agent);
        agent.map(describe).ok_or(FleetError::Unreachable {
            why: "connection refused".to_owned(),
        })
    }

    async fn generate(
        &self,
        keystore: KeystoreId,
        version: KeyVersionId,
        spec: KeySpec,
        salt: Vec<u8>,
    ) -> Result<RepositoryCopy, FleetError> {
        self.of(keystore, |agent| {
            generate(agent, keystore, version, spec, salt)
        })
        .ok_or(FleetError::Late)
    }

    async fn look(&self, k: KeystoreId, _version: Option<KeyVersionId>) -> Result<(), FleetError> {
        self.of(k, |agent| agent.is_up)
            .filter(|is_up| *is_up)
            .map(|_| ())
            .ok_or(FleetError::Late)
    }

    async fn prove(&self, k: KeystoreId, version: KeyVersionId) -> Result<Proof, FleetError> {
        let proof = self.of(k, |agent| {
            let held = agent.held.get(&version).filter(|_| agent.is_up)?;
            held.proof.clone()
        });
        proof.flatten().ok_or(FleetError::Late)
    }

    async fn probe(&self, keystore: KeystoreId, accept: bool) -> Result<(), FleetError> {
        let mut known = self.known.lock().unwrap();
        let agent = known.values_mut().find(|agent| agent.id == Some(keystore));
        let agent = agent.filter(|agent| agent.is_up).ok_or(FleetError::Late)?;
        agent.probe(accept);
        Ok(())
    }

    async fn examine(
        &self,
        keystore: KeystoreId,
        salt: Vec<u8>,
        keys: Vec<Candidate>,
    ) -> Result<Vec<Examined>, FleetError> {
        let examined = self.of(keystore, |agent| {
            let one = |key: &Candidate| examine(agent, keystore, &salt, key);
            agent.is_up.then(|| keys.iter().map(one).collect())
        });
        examined.flatten().ok_or(FleetError::Late)
    }

    fn wake(&self, keystores: &[KeystoreId]) {
        self.woken.lock().unwrap().extend(keystores);
        for &id in keystores {
            let (store, known, changes) =
                (self.store.clone(), self.known.clone(), self.changes.clone());
            tokio::spawn(async move {
                let mut wanted = Vec::new();
                for row in store.keystore_instances(id).await.unwrap() {
                    let version = row.instance.intent.version;
                    let has_copy = !store.copies(version).await.unwrap().is_empty();
                    wanted.push((row.instance, has_copy));
                }
                let mut known = known.lock().unwrap();
                let agent = known.values_mut().find(|agent| agent.id == Some(id));
                if let Some(agent) = agent.filter(|agent| agent.is_up) {
                    for (instance, has_copy) in wanted {
                        apply(agent, &instance, has_copy);
                    }
                }
                drop(known);
                changes.send_modify(|n| *n += 1);
            });
        }
    }

    fn live(&self, keystore: KeystoreId, version: KeyVersionId) -> Live {
        let report = self.of(keystore, |agent| {
            let health = agent.is_up.then(|| agent.health.clone());
            (health, agent.held.get(&version).cloned())
        });
        let (health, report) = report.unwrap_or((None, None));
        let is_up = health.is_some();
        Live {
            connection: line(is_up),
            health,
            report: report.filter(|_| is_up),
            look_age_ms: 1,
            fresh_for_ms: 34_000,
            refused: None,
            material_failure: None,
            since: Vec::new(),
        }
    }

    fn differing(&self, _keystore: KeystoreId) -> Differing {
        Differing::default()
    }

    fn keeps(&self, _keystore: KeystoreId) -> bool {
        true
    }

    fn description(&self, keystore: KeystoreId) -> Option<Arc<Description>> {
        self.of(keystore, |agent| Arc::new(describe(agent)))
    }

    fn live_keystore(&self, keystore: KeystoreId) -> LiveKeystore {
        let told = self.of(keystore, |agent| (agent.is_up, describe(agent)));
        let is_up = told.as_ref().is_some_and(|(is_up, _)| *is_up);
        let strays = self.of(keystore, |agent| agent.strays.clone());
        let strays = strays.into_iter().flatten();
        LiveKeystore {
            connection: line(is_up),
            health: self
                .of(keystore, |agent| agent.health.clone())
                .filter(|_| is_up),
            description: told.map(|(_, description)| Arc::new(description)),
            // An agent that has not scanned since an adoption still tells of it: so do these, always.
            unmanaged: strays.flat_map(|stray| stray.objects).collect(),
            scan_age_ms: is_up.then_some(1),
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
        self.changes.subscribe()
    }
}

fn line(is_up: bool) -> Connection {
    if is_up {
        Connection::Live
    } else {
        Connection::Down {
            why: "connection reset".to_owned(),
            since: UnixMs(1),
        }
    }
}

fn describe(agent: &Agent) -> Description {
    let mut description = Description {
        keystore: agent.id,
        epoch: Epoch(1),
        version: "0".to_owned(),
        identity: sha256(agent.identity.public_key().as_ref()),
        variant: agent.variant,
        token: TokenInfo {
            label: "token".to_owned(),
            ..TokenInfo::default()
        },
        capabilities: Some(agent.capabilities.clone()),
        accepted: agent.accepted.clone(),
        health: Health::Ok,
        journal_records: 0,
        clock: clock::unix_ms(),
    };
    (agent.described)(&mut description);
    description
}

fn generate(
    agent: &Agent,
    keystore: KeystoreId,
    version: KeyVersionId,
    spec: KeySpec,
    salt: Vec<u8>,
) -> RepositoryCopy {
    let blob = version.uuid().as_bytes().repeat(2);
    let spki = (spec.class() == KeyClass::Pair).then(|| blob.repeat(3));
    let fingerprint = match &spki {
        None => Fingerprint {
            method: FingerprintMethod::DigestKey,
            value: sha256(&blob),
        },
        Some(spki) => Fingerprint {
            method: FingerprintMethod::Spki,
            value: sha256(spki),
        },
    };
    let mut body = BirthRecord {
        version,
        spec,
        fingerprint,
        salt,
        spki,
        blob: sha256(&blob),
        keystore,
        at: UnixMs(1),
    };
    let signature = agent.identity.sign(&body.canonical()).as_ref().to_vec();
    (agent.birth)(&mut body);
    RepositoryCopy {
        keystore,
        blob,
        kek: KekNumber::FIRST,
        birth: Signed {
            body,
            signer: agent.identity.public_key().as_ref().to_vec(),
            signature,
        },
    }
}

fn examine(agent: &Agent, keystore: KeystoreId, salt: &[u8], key: &Candidate) -> Examined {
    let stray = agent.strays.iter().find(|stray| {
        let mut objects = stray.objects.iter();
        objects.any(|facts| facts.cka_id == key.cka_id)
    });
    let stray = stray.unwrap();
    let method = match key.spec.class() {
        KeyClass::Secret => FingerprintMethod::DigestKey,
        KeyClass::Pair => FingerprintMethod::Spki,
    };
    let found = Found {
        objects: stray.objects.clone(),
        fingerprint: stray.material.ok().map(|material| Fingerprint {
            method,
            value: sha256(&[salt, material.as_bytes()].concat()),
        }),
        same_label: vec![],
        fingerprint_failure: stray.material.err().map(str::to_owned),
    };
    match record(keystore, found, salt.to_vec(), UnixMs(1)) {
        Ok(mut body) => {
            let signature = agent.identity.sign(&body.canonical()).as_ref().to_vec();
            (agent.examined)(&mut body);
            Examined::Known(Box::new(Signed {
                body,
                signer: agent.identity.public_key().as_ref().to_vec(),
                signature,
            }))
        }
        Err(why) => Examined::Unknown {
            why: why.to_string(),
        },
    }
}

/// Takes an intent, carries it out on the token, and reads back.
fn apply(agent: &mut Agent, instance: &Instance, has_copy: bool) {
    let intent = &instance.intent;
    let before = agent.held.get(&intent.version);
    let last = before.and_then(|report| report.applied);
    let is_taken = last
        .is_some_and(|last| last.generation >= intent.generation || last.want == Want::Destroyed);
    if is_taken {
        return;
    }
    let present = before.is_some_and(|report| {
        matches!(&report.observation, Observation::Present(found) if !found.objects.is_empty())
    }) || (before.is_none() && instance.adoption.is_some());
    let strategy = agent.capabilities.strategy(&intent.object);
    let is_wanted = ObjectPlan::is_present(intent.want, strategy);
    let is_stuck = is_wanted && !present && !has_copy;
    let observation = if is_stuck || !is_wanted {
        Observation::Absent { same_label: vec![] }
    } else {
        Observation::Present(objects(instance))
    };
    let report = Report {
        version: intent.version,
        applied: Some(intent.applied()),
        progress: if is_stuck {
            Progress::NeedsMaterial
        } else {
            Progress::Done
        },
        observation,
        proof: Some(Proof {
            kind: ProofKind::Tried,
            operation: "C_EncryptInit".to_owned(),
            answer: "as it must".to_owned(),
        }),
        proof_age_ms: 0,
        look_age_ms: 0,
        strategy,
    };
    agent.held.insert(intent.version, report);
}

/// An instance's objects exactly as wanted.
pub(crate) fn objects(instance: &Instance) -> Found {
    let intent = &instance.intent;
    let facts = |class: ObjectClass| ObjectFacts {
        handle: 1,
        class,
        key_type: Some(0x1f),
        cka_id: intent.object.cka_id.clone(),
        label: intent.object.label.clone(),
        usage: intent.object.usage_under(intent.want, class),
        sensitive: (class != ObjectClass::Public).then_some(true),
        extractable: (class != ObjectClass::Public).then_some(false),
        modifiable: Some(true),
        copyable: Some(true),
        bits: None,
        public_digest: None,
        fingerprint: None,
    };
    let classes = intent.object.spec.class().objects();
    Found {
        objects: classes.iter().map(|&class| facts(class)).collect(),
        fingerprint: Some(intent.fingerprint),
        same_label: vec![],
        fingerprint_failure: None,
    }
}

/// What an agent would say that holds an intent of this generation.
pub(crate) fn ahead(generation: u64, want: Want) -> Applied {
    Applied {
        generation: Generation(generation),
        want,
        digest: sha256(b"another intent"),
    }
}
