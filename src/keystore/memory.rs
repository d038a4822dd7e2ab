//! A token in memory, for simulations: it keeps the contract of [`Keystore`], and breaks down when its script says so.
//!
//! Everything it draws comes from its seed, so that a run can be repeated. Keys are real bytes with real fingerprints, and
//! what is wrapped for one token opens on no other; but its pairs are only numbers of the right length: they sign nothing.
//! Clones are the same token: a simulation keeps one to script faults and to change things out of band.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::keystore::Keystore;
use crate::keystore::memory::material::{Entropy, Material};
use crate::keystore::pkcs11::names::check_plan;
use crate::model::capabilities::Capabilities;
use crate::model::desired::ObjectPlan;
use crate::model::job::{
    FailureKind, Generated, Prepared, Ran, RewrapJob, RunJob, SURVEY_PLANS_MAX, TakeOverJob,
    TokenAnswer, TokenFailure, TokenIdentity, TokenJob, TokenOutcome, Wrapped,
};
use crate::model::kek::KekNumber;
use crate::model::key::{KeySpec, UsageSet};
use crate::model::keystore::{Marker, TokenInfo};
use crate::model::observed::{Found, ObjectClass, ObjectFacts};

mod kek;
mod look;
pub(crate) mod material;
mod steps;

/// How the next jobs break down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This job goes well: the fault behind it waits.
    Pass,
    /// Fails before it does anything.
    Fails(TokenFailure),
    /// The host dies first: nothing was done, and nobody knows.
    LostBefore,
    /// The host dies last: all was done, and nobody knows.
    LostAfter,
    /// The host dies after this many steps of a run were done.
    LostAt(u32),
    /// A run fails at this step (from 0), after the ones before it were done.
    FailsAt(u32, TokenFailure),
    /// A scan or look does not see the objects with this CKA_ID, as happens beside other writers.
    Misses(Vec<u8>),
    /// Usage is accepted and not changed.
    KeepsUsage,
}

/// A token in memory.
#[derive(Debug, Clone)]
pub struct MemoryToken(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    label: String,
    markers: Vec<Marker>,
    objects: BTreeMap<u64, Object>,
    next_handle: u64,
    transport: Option<[u8; 32]>,
    keks: BTreeMap<KekNumber, [u8; 32]>,
    entropy: Entropy,
    faults: VecDeque<Fault>,
    jobs: u64,
    /// Most objects in one slice of a scan, where not all.
    slice_objects: Option<usize>,
    /// What the scan under way has not read yet.
    unscanned: VecDeque<u64>,
}

#[derive(Debug, Clone)]
struct Object {
    class: ObjectClass,
    cka_id: Vec<u8>,
    label: String,
    usage: UsageSet,
    material: Material,
}

type Outcome<T> = Result<T, TokenFailure>;

impl MemoryToken {
    /// An empty token. Tokens of one seed draw the same numbers.
    #[must_use]
    pub fn new(label: &str, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            label: label.to_owned(),
            markers: Vec::new(),
            objects: BTreeMap::new(),
            next_handle: 1,
            transport: None,
            keks: BTreeMap::new(),
            entropy: Entropy::new(label, seed),
            faults: VecDeque::new(),
            jobs: 0,
            slice_objects: None,
            unscanned: VecDeque::new(),
        })))
    }

    /// Appends to the script: each job takes one fault from its front.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// From now on a scan reads no more objects at once.
    pub fn scan_in_slices(&self, objects: usize) {
        self.state().slice_objects = Some(objects.max(1));
    }

    /// How many jobs were asked for so far.
    #[must_use]
    pub fn jobs(&self) -> u64 {
        self.state().jobs
    }

    /// Out of band: sets the usage of all objects with the CKA_ID.
    pub fn set_usage(&self, cka_id: &[u8], usage: UsageSet) {
        for object in self.state().under(cka_id) {
            object.usage = usage.for_class(object.class);
        }
    }

    /// Out of band: sets the label of all objects with the CKA_ID.
    pub fn set_label(&self, cka_id: &[u8], label: &str) {
        for object in self.state().under(cka_id) {
            label.clone_into(&mut object.label);
        }
    }

    /// Out of band: gives all objects with the CKA_ID another one.
    pub fn set_id(&self, cka_id: &[u8], to: &[u8]) {
        for object in self.state().under(cka_id) {
            object.cka_id = to.to_vec();
        }
    }

    /// Out of band: another key takes the place of the one with the CKA_ID, alike in everything else.
    pub fn swap_material(&self, cka_id: &[u8]) {
        let mut state = self.state();
        let seed = state.entropy.draw();
        for object in state.under(cka_id) {
            object.material = object.material.another(seed);
        }
    }

    /// Out of band: destroys the objects of the class with the CKA_ID.
    pub fn destroy(&self, cka_id: &[u8], class: ObjectClass) {
        let gone = |object: &Object| object.cka_id == cka_id && object.class == class;
        self.state().objects.retain(|_, object| !gone(object));
    }

    /// Out of band: a second copy of each object with the CKA_ID.
    pub fn duplicate(&self, cka_id: &[u8]) {
        let mut state = self.state();
        let copies: Vec<Object> = state.under(cka_id).map(|object| object.clone()).collect();
        for copy in copies {
            state.insert(copy);
        }
    }

    /// Out of band: the token is initialised again. Nothing is left, the marker neither.
    pub fn reinitialise(&self) {
        let mut state = self.state();
        state.objects.clear();
        state.markers.clear();
        state.transport = None;
        state.keks.clear();
    }

    /// What is on it, for invariants.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectFacts> {
        self.state().facts(|_| true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keystore for MemoryToken {
    fn perform(&mut self, job: &TokenJob) -> TokenOutcome {
        let mut state = self.state();
        state.jobs = state.jobs.saturating_add(1);
        let fault = state.faults.pop_front().unwrap_or(Fault::Pass);
        let lost = || TokenOutcome::Unknown {
            why: "the module host died".to_owned(),
        };
        match &fault {
            Fault::Fails(failure) => return TokenOutcome::Failed(failure.clone()),
            Fault::LostBefore => return lost(),
            Fault::Pass
            | Fault::LostAfter
            | Fault::LostAt(_)
            | Fault::FailsAt(..)
            | Fault::Misses(_)
            | Fault::KeepsUsage => {}
        }
        let answer = state.answer(job, &fault);
        match fault {
            Fault::LostAfter | Fault::LostAt(_) => lost(),
            Fault::Pass
            | Fault::Fails(_)
            | Fault::LostBefore
            | Fault::FailsAt(..)
            | Fault::Misses(_)
            | Fault::KeepsUsage => match answer {
                Ok(answer) => TokenOutcome::Done(answer),
                Err(failure) => TokenOutcome::Failed(failure),
            },
        }
    }
}

impl State {
    fn answer(&mut self, job: &TokenJob, fault: &Fault) -> Outcome<TokenAnswer> {
        match job {
            TokenJob::Identify => Ok(TokenAnswer::Identity(self.identity())),
            TokenJob::Bind(marker) => {
                if !self.markers.is_empty() {
                    return Err(failure(FailureKind::Refused, "bind", "there is a marker"));
                }
                self.markers.push(*marker);
                Ok(TokenAnswer::Bound)
            }
            TokenJob::Prepare { internal } => Ok(TokenAnswer::Prepared(self.prepare(*internal))),
            TokenJob::Scan => {
                self.unscanned = self.objects.keys().copied().collect();
                Ok(self.slice(fault))
            }
            TokenJob::ScanOn if self.unscanned.is_empty() => {
                Err(failure(FailureKind::Retry, "scan", "no scan was begun"))
            }
            TokenJob::ScanOn => Ok(self.slice(fault)),
            TokenJob::Inspect(plan) => {
                check_plan(plan)?;
                Ok(TokenAnswer::Found(self.look(plan, fault)))
            }
            TokenJob::Survey(glances) => {
                if glances.len() > SURVEY_PLANS_MAX {
                    let detail = "more plans than one survey has";
                    return Err(failure(FailureKind::Refused, "survey", detail));
                }
                let all = glances.iter().map(|one| self.glance(one, fault));
                Ok(TokenAnswer::Surveyed(all.collect()))
            }
            TokenJob::Run(job) => {
                check_plan(&job.object)?;
                Ok(TokenAnswer::Ran(Box::new(self.run(job, fault))))
            }
            TokenJob::Generate { spec, salt, .. } => {
                self.generate(*spec, salt).map(TokenAnswer::Generated)
            }
            TokenJob::Rewrap(job) => self.rewrap(job).map(TokenAnswer::Rewrapped),
            TokenJob::TakeOver(job) => self.take_over(job).map(TokenAnswer::TakenOver),
            TokenJob::Kek(job) => self.turn_kek(*job).map(TokenAnswer::Keks),
            TokenJob::RewrapCopy(job) => self.rewrap_copy(job).map(TokenAnswer::TakenOver),
            TokenJob::Stop => Ok(TokenAnswer::Stopping),
        }
    }

    fn identity(&self) -> TokenIdentity {
        TokenIdentity {
            info: TokenInfo {
                label: self.label.clone(),
                serial: "0".to_owned(),
                manufacturer: "Lockstep".to_owned(),
                model: "memory".to_owned(),
                ..TokenInfo::default()
            },
            markers: self.markers.clone(),
        }
    }

    fn prepare(&mut self, internal: bool) -> Prepared {
        if internal && self.keks.is_empty() {
            let first = self.entropy.draw();
            self.keks.insert(KekNumber::FIRST, first);
        }
        let transport = match self.transport {
            Some(transport) => transport,
            None => *self.transport.insert(self.entropy.draw()),
        };
        Prepared {
            transport_spki: material::transport_spki(&transport),
            capabilities: Capabilities::best(),
        }
    }

    fn generate(&mut self, spec: KeySpec, salt: &[u8]) -> Outcome<Generated> {
        let (number, kek) = self.newest_kek()?;
        let made = Material::generate(spec, self.entropy.draw());
        Ok(Generated {
            blob: made.wrap(&kek)?,
            kek: number,
            spki: made.spki(),
            fingerprint: made.fingerprint(spec, salt),
        })
    }

    fn rewrap(&mut self, job: &RewrapJob) -> Outcome<Wrapped> {
        let made = Material::unwrap(job.spec, &self.opening_kek(job.kek)?, &job.blob)?;
        if made.fingerprint(job.spec, &job.salt) != job.fingerprint || made.spki() != job.spki {
            let detail = "the repository's copy is not the key of the birth record";
            return Err(failure(FailureKind::WrongKey, "rewrap", detail));
        }
        let ephemeral = self.entropy.draw();
        let sender = self.entropy.draw();
        Ok(Wrapped {
            route: job.route,
            wrapped_kek: material::seal(&job.transport_spki, &sender, &ephemeral)?,
            wrapped_key: made.wrap(&ephemeral)?,
            spki: made.spki(),
        })
    }

    fn take_over(&self, job: &TakeOverJob) -> Outcome<Generated> {
        let (number, kek) = self.newest_kek()?;
        let missing = || failure(FailureKind::Refused, "own key", "prepare first");
        let transport = self.transport.ok_or_else(missing)?;
        let ephemeral = material::open(&transport, &job.wrapped.wrapped_kek)?;
        let made = Material::unwrap(job.spec, &ephemeral, &job.wrapped.wrapped_key)?;
        let fingerprint = made.fingerprint(job.spec, &job.salt);
        if fingerprint != job.fingerprint || made.spki() != job.wrapped.spki {
            let detail = "the key in the envelope is not the one that it says";
            return Err(failure(FailureKind::WrongKey, "take over", detail));
        }
        Ok(Generated {
            blob: made.wrap(&kek)?,
            kek: number,
            spki: made.spki(),
            fingerprint,
        })
    }

    fn run(&mut self, job: &RunJob, fault: &Fault) -> Ran {
        let mut ran = Ran {
            done: 0,
            failure: None,
            proof: None,
            found: Found::default(),
        };
        for step in &job.steps {
            let outcome = match fault {
                Fault::FailsAt(at, failure) if *at == ran.done => Err(failure.clone()),
                Fault::LostAt(at) if *at == ran.done => break,
                Fault::FailsAt(..)
                | Fault::LostAt(_)
                | Fault::Pass
                | Fault::Fails(_)
                | Fault::LostBefore
                | Fault::LostAfter
                | Fault::Misses(_)
                | Fault::KeepsUsage => self.step(job, step, fault),
            };
            match outcome {
                Ok(proof) => ran.proof = proof.or(ran.proof),
                Err(failure) => {
                    ran.failure = Some(failure);
                    break;
                }
            }
            ran.done = ran.done.saturating_add(1);
        }
        ran.found = self.look(&job.object, fault);
        ran
    }

    fn facts(&self, of: impl Fn(&Object) -> bool) -> Vec<ObjectFacts> {
        let those = self.objects.iter().filter(|(_, object)| of(object));
        those
            .map(|(handle, object)| ObjectFacts {
                handle: *handle,
                class: object.class,
                key_type: Some(object.material.key_type()),
                cka_id: object.cka_id.clone(),
                label: object.label.clone(),
                usage: object.usage,
                sensitive: (object.class != ObjectClass::Public).then_some(true),
                extractable: (object.class != ObjectClass::Public).then_some(false),
                modifiable: Some(true),
                copyable: Some(true),
                bits: Some(object.material.bits()),
                public_digest: object.material.public_digest(object.class),
                fingerprint: None,
            })
            .collect()
    }

    fn under(&mut self, cka_id: &[u8]) -> impl Iterator<Item = &mut Object> {
        self.objects
            .values_mut()
            .filter(move |object| object.cka_id == cka_id)
    }

    fn of_class(
        &mut self,
        plan: &ObjectPlan,
        class: ObjectClass,
    ) -> Outcome<impl Iterator<Item = &mut Object>> {
        let is = move |object: &Object| object.cka_id == plan.cka_id && object.class == class;
        if self.objects.values().any(is) {
            Ok(self.objects.values_mut().filter(move |object| is(object)))
        } else {
            let detail = format!("there is no {}", class.name());
            Err(failure(FailureKind::Retry, "run", &detail))
        }
    }

    fn insert(&mut self, object: Object) {
        self.objects.insert(self.next_handle, object);
        self.next_handle = self.next_handle.saturating_add(1);
    }
}

fn missed(fault: &Fault, object: &Object) -> bool {
    matches!(fault, Fault::Misses(cka_id) if *cka_id == object.cka_id)
}

fn failure(kind: FailureKind, function: &str, detail: &str) -> TokenFailure {
    TokenFailure {
        kind,
        function: function.to_owned(),
        rv: String::new(),
        detail: detail.to_owned(),
    }
}
