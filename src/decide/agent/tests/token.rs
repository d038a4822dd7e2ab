//! A tiny token: objects with usages and a material that is a number, markers, and faults that are asked for.

use std::cell::Cell;
use std::collections::VecDeque;

use crate::model::desired::Want;
use crate::model::ids::Digest;
use crate::model::job::{
    FailureKind, Glance, Inventory, Ran, RunJob, Slice, TokenAnswer, TokenFailure, TokenIdentity,
    TokenJob, TokenOutcome,
};
use crate::model::key::UsageSet;
use crate::model::keystore::{Marker, TokenInfo};
use crate::model::observed::{
    Fingerprint, FingerprintMethod, Found, ObjectClass, ObjectFacts, Proof, ProofKind,
};
use crate::model::step::Step;

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) handle: u64,
    pub(crate) class: ObjectClass,
    pub(crate) cka_id: Vec<u8>,
    pub(crate) label: String,
    pub(crate) usage: UsageSet,
    pub(crate) material: u8,
}

/// What goes wrong with the next job that is not an `Identify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// After so many steps the host dies: nobody is told what happened.
    LostAfter(usize),
    /// After so many steps the token says no.
    RefusesAfter(usize, FailureKind),
    /// It says yes to everything and changes nothing.
    Lies,
}

#[derive(Debug, Default)]
pub(crate) struct Token {
    pub(crate) objects: Vec<Object>,
    pub(crate) markers: Vec<Marker>,
    pub(crate) faults: VecDeque<Fault>,
    /// How the whole token fails, as long as it is set.
    pub(crate) broken: Option<FailureKind>,
    /// CKA_IDs that scans and looks miss, as a reader beside a busy writer does.
    pub(crate) hidden: Vec<Vec<u8>>,
    /// Jobs that were done, for people and checks.
    pub(crate) log: Vec<String>,
    pub(crate) handles: u64,
    /// How many plans a survey has time for, where not for all.
    pub(crate) surveyed_max: Option<usize>,
    /// How many objects a slice of a scan has time for, where not for all.
    pub(crate) sliced_max: Option<usize>,
    /// CPU time of each slice, microseconds.
    pub(crate) cpu_us: u64,
    /// Handles that the scan under way has not read.
    pub(crate) unscanned: VecDeque<u64>,
    /// So many looks more give no fingerprint.
    pub(crate) unprinted: Cell<u32>,
}

pub(crate) fn fingerprint(class: ObjectClass, material: u8) -> Fingerprint {
    let method = match class {
        ObjectClass::Secret => FingerprintMethod::DigestKey,
        ObjectClass::Private | ObjectClass::Public => FingerprintMethod::Spki,
    };
    Fingerprint {
        method,
        value: Digest([material; 32]),
    }
}

pub(crate) fn failure(kind: FailureKind) -> TokenFailure {
    TokenFailure {
        kind,
        function: "C_Test".to_owned(),
        rv: "CKR_TEST".to_owned(),
        detail: String::new(),
    }
}

impl Token {
    pub(crate) fn add(&mut self, class: ObjectClass, cka_id: &[u8], label: &str, material: u8) {
        self.handles += 1;
        self.objects.push(Object {
            handle: self.handles,
            class,
            cka_id: cka_id.to_vec(),
            label: label.to_owned(),
            usage: UsageSet::NONE,
            material,
        });
    }

    pub(crate) fn perform(&mut self, job: &TokenJob) -> TokenOutcome {
        if let Some(kind) = self.broken {
            return TokenOutcome::Failed(failure(kind));
        }
        let fault = match job {
            TokenJob::Identify => None,
            TokenJob::Bind(_)
            | TokenJob::Prepare { .. }
            | TokenJob::Scan
            | TokenJob::ScanOn
            | TokenJob::Inspect(_)
            | TokenJob::Survey(_)
            | TokenJob::Run(_)
            | TokenJob::Generate { .. }
            | TokenJob::Rewrap(_)
            | TokenJob::TakeOver(_)
            | TokenJob::Kek(_)
            | TokenJob::RewrapCopy(_)
            | TokenJob::Stop => self.faults.pop_front(),
        };
        if !matches!(job, TokenJob::Run(_)) {
            match fault {
                None | Some(Fault::Lies) => {}
                Some(Fault::LostAfter(_)) => {
                    return TokenOutcome::Unknown {
                        why: "host died".to_owned(),
                    };
                }
                Some(Fault::RefusesAfter(_, kind)) => return TokenOutcome::Failed(failure(kind)),
            }
        }
        match job {
            TokenJob::Identify => {
                self.log.push("identify".to_owned());
                TokenOutcome::Done(TokenAnswer::Identity(self.identity()))
            }
            TokenJob::Scan => {
                self.log.push("scan".to_owned());
                self.unscanned = self.visible().map(|object| object.handle).collect();
                self.slice()
            }
            TokenJob::ScanOn => {
                self.log.push("scan on".to_owned());
                assert!(!self.unscanned.is_empty(), "no scan was begun");
                self.slice()
            }
            TokenJob::Inspect(plan) => {
                self.log.push("inspect".to_owned());
                let found = self.find(&plan.cka_id, &plan.label);
                TokenOutcome::Done(TokenAnswer::Found(found))
            }
            TokenJob::Survey(glances) => {
                self.log.push("survey".to_owned());
                let found = glances.iter().map(|Glance { object, handles }| {
                    let found = self.find(&object.cka_id, &object.label);
                    let there = found.objects.iter().map(|facts| facts.handle);
                    (there.eq(handles.iter().copied()) && !handles.is_empty()).then_some(found)
                });
                let found = found.take(self.surveyed_max.unwrap_or(usize::MAX));
                TokenOutcome::Done(TokenAnswer::Surveyed(found.collect()))
            }
            TokenJob::Run(run) => self.run(run, fault),
            TokenJob::Bind(_)
            | TokenJob::Prepare { .. }
            | TokenJob::Generate { .. }
            | TokenJob::Rewrap(_)
            | TokenJob::TakeOver(_)
            | TokenJob::Kek(_)
            | TokenJob::RewrapCopy(_)
            | TokenJob::Stop => panic!("not the machine's to ask: {job:?}"),
        }
    }

    fn slice(&mut self) -> TokenOutcome {
        let most = self
            .sliced_max
            .unwrap_or(usize::MAX)
            .min(self.unscanned.len());
        let now: Vec<u64> = self.unscanned.drain(..most).collect();
        let read = self.visible().filter(|object| now.contains(&object.handle));
        let slice = Slice {
            objects: read.map(facts).collect(),
            unreadable: 0,
            cpu_us: self.cpu_us.max(1_000),
        };
        TokenOutcome::Done(if self.unscanned.is_empty() {
            TokenAnswer::Inventory(Inventory {
                identity: self.identity(),
                rest: slice,
            })
        } else {
            TokenAnswer::Slice(slice)
        })
    }

    fn identity(&self) -> TokenIdentity {
        TokenIdentity {
            info: TokenInfo::default(),
            markers: self.markers.clone(),
        }
    }

    fn visible(&self) -> impl Iterator<Item = &Object> {
        self.objects
            .iter()
            .filter(|object| !self.hidden.contains(&object.cka_id))
    }

    pub(crate) fn find(&self, cka_id: &[u8], label: &str) -> Found {
        let ours: Vec<&Object> = self.visible().filter(|o| o.cka_id == cka_id).collect();
        let same_label = self
            .visible()
            .filter(|o| o.cka_id != cka_id && o.label == label)
            .map(facts)
            .collect();
        let known = ours.iter().find(|o| o.class != ObjectClass::Private);
        let agreed = known.filter(|k| ours.iter().all(|o| o.material == k.material));
        let fails = !ours.is_empty() && self.unprinted.get() > 0;
        if fails {
            self.unprinted.update(|looks| looks - 1);
        }
        Found {
            objects: ours.iter().map(|o| facts(o)).collect(),
            fingerprint: agreed
                .filter(|_| !fails)
                .map(|o| fingerprint(o.class, o.material)),
            same_label,
            fingerprint_failure: fails.then(|| "CKR_TEST".to_owned()),
        }
    }

    fn run(&mut self, job: &RunJob, fault: Option<Fault>) -> TokenOutcome {
        let (limit, end) = match fault {
            None | Some(Fault::Lies) => (usize::MAX, None),
            Some(Fault::LostAfter(steps)) => (steps, None),
            Some(Fault::RefusesAfter(steps, kind)) => (steps, Some(failure(kind))),
        };
        let mut stopped = None;
        let mut proof = None;
        let mut done = 0_u32;
        for (at, step) in job.steps.iter().enumerate() {
            if at == limit {
                stopped = end.clone();
                break;
            }
            self.log.push(step.describe());
            if fault == Some(Fault::Lies) {
                continue;
            }
            match self.step(job, step) {
                Ok(some) => proof = some.or(proof),
                Err(failure) => {
                    stopped = Some(failure);
                    break;
                }
            }
            done += 1;
        }
        if matches!(fault, Some(Fault::LostAfter(_))) {
            return TokenOutcome::Unknown {
                why: "host died".to_owned(),
            };
        }
        TokenOutcome::Done(TokenAnswer::Ran(Box::new(Ran {
            done,
            failure: stopped.or(end.filter(|_| limit >= job.steps.len())),
            proof,
            found: self.find(&job.object.cka_id, &job.object.label),
        })))
    }

    fn step(&mut self, job: &RunJob, step: &Step) -> Result<Option<Proof>, TokenFailure> {
        let id = &job.object.cka_id;
        match step {
            Step::Install | Step::InstallEnabled => {
                assert!(
                    !self.objects.iter().any(|o| &o.cka_id == id),
                    "installed over something"
                );
                let envelope = job.envelope.as_ref().expect("an install without material");
                let material = envelope.wrapped_key[0];
                let classes = job.object.spec.class().objects();
                if fingerprint(classes[0], material) != job.fingerprint {
                    return Err(failure(FailureKind::WrongKey));
                }
                for &class in classes {
                    self.add(class, id, &job.object.label, material);
                }
                if *step == Step::InstallEnabled {
                    for o in self.objects.iter_mut().filter(|o| &o.cka_id == id) {
                        o.usage = job.object.usage_under(Want::Active, o.class);
                    }
                }
            }
            Step::SetUsage { class, usage } => {
                for o in self.of(id, *class) {
                    o.usage = *usage;
                }
            }
            Step::SetLabel { class } => {
                for o in self.of(id, *class) {
                    o.label.clone_from(&job.object.label);
                }
            }
            Step::Replace { class, usage } => {
                let right = |o: &Object| fingerprint(o.class, o.material) == job.fingerprint;
                let private = *class == ObjectClass::Private;
                if !self.of(id, *class).all(|o| private || right(o)) {
                    return Err(failure(FailureKind::WrongKey));
                }
                let first = self.of(id, *class).next().cloned();
                let Some(first) = first else {
                    return Err(failure(FailureKind::Retry));
                };
                self.objects
                    .retain(|o| o.class != *class || &o.cka_id != id);
                let label = job.object.label.clone();
                self.objects.push(Object {
                    usage: *usage,
                    label,
                    ..first
                });
            }
            Step::Destroy { class } | Step::Withdraw { class } => {
                assert!(
                    job.envelope.is_some() || !step.needs_material(),
                    "withdrawn without a copy in the repository"
                );
                self.objects
                    .retain(|o| o.class != *class || &o.cka_id != id);
            }
            Step::ProveEnabled => return self.prove(id, true).map(Some),
            Step::ProveDisabled => return self.prove(id, false).map(Some),
        }
        Ok(None)
    }

    fn of(&mut self, id: &[u8], class: ObjectClass) -> impl Iterator<Item = &mut Object> {
        self.objects
            .iter_mut()
            .filter(move |o| o.cka_id == id && o.class == class)
    }

    fn prove(&self, id: &[u8], enabled: bool) -> Result<Proof, TokenFailure> {
        let mut ours = self.objects.iter().filter(|o| o.cka_id == id);
        let works = ours.any(|o| o.class != ObjectClass::Public && !o.usage.is_empty());
        if works != enabled {
            return Err(failure(FailureKind::Refused));
        }
        Ok(Proof {
            kind: ProofKind::Tried,
            operation: "C_SignInit".to_owned(),
            answer: String::new(),
        })
    }
}

pub(crate) fn facts(object: &Object) -> ObjectFacts {
    ObjectFacts {
        handle: object.handle,
        class: object.class,
        key_type: None,
        cka_id: object.cka_id.clone(),
        label: object.label.clone(),
        usage: object.usage,
        sensitive: Some(true),
        extractable: Some(false),
        modifiable: Some(true),
        copyable: Some(true),
        bits: None,
        public_digest: None,
        fingerprint: None,
    }
}
