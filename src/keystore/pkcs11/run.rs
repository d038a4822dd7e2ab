//! Run: the steps of one instance, in order, up to the first that fails; then what is there.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::failure::{failure, refused};
use crate::keystore::pkcs11::identify::check_absence;
use crate::keystore::pkcs11::inspect::{
    fingerprint_of, found, is_complete, objects_of, same_label,
};
use crate::keystore::pkcs11::install::{Installed, bring, install};
use crate::keystore::pkcs11::names::check_plan;
use crate::keystore::pkcs11::object::{Object, usage_attributes};
use crate::keystore::pkcs11::prove;
use crate::keystore::pkcs11::raw::{Handle, Session};
use crate::keystore::pkcs11::replace::replace;
use crate::keystore::pkcs11::template::Attribute;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::job::{FailureKind, Ran, RunJob, TokenFailure};
use crate::model::key::{Usage, UsageSet};
use crate::model::observed::{Fingerprint, Found, ObjectClass, Proof};
use crate::model::step::Step;

/// Runs the steps and reads back.
pub(crate) fn run(token: &mut Pkcs11Token, job: &RunJob) -> Result<Ran, TokenFailure> {
    check_plan(&job.object)?;
    let mut running = Running {
        session: token.session()?,
        token,
        job,
        objects: None,
        found_all: false,
        proved: None,
        proof: None,
    };
    let mut done = 0;
    let mut stopped = None;
    for step in &job.steps {
        if let Err(failure) = running.step(step) {
            stopped = Some(failure);
            break;
        }
        done += 1;
    }
    if stopped.is_some() {
        // A call that failed may have left its operation open.
        running.session = running.token.session()?;
        running.found_all = false;
    }
    let found = running.read_back()?;
    Ok(Ran {
        done,
        failure: stopped,
        proof: running.proof,
        found,
    })
}

struct Running<'r> {
    token: &'r mut Pkcs11Token,
    session: Session,
    job: &'r RunJob,
    /// The instance's objects as last read in this job.
    objects: Option<Vec<Object>>,
    /// Whether they are all that a search found after the last change: no other read-back is needed then.
    found_all: bool,
    /// The fingerprint of exactly these objects, had in this job.
    proved: Option<(Vec<Handle>, Fingerprint)>,
    proof: Option<Proof>,
}

impl Running<'_> {
    fn step(&mut self, step: &Step) -> Result<(), TokenFailure> {
        self.found_all &= matches!(step, Step::ProveEnabled | Step::ProveDisabled);
        match step {
            Step::Install => {
                let installed = install(self.token, &self.session, self.job)?;
                self.installed(installed);
                Ok(())
            }
            Step::InstallEnabled => {
                let installed = bring(self.token, &self.session, self.job)?;
                self.installed(installed);
                Ok(())
            }
            Step::SetUsage { class, usage } => self.set_usage(*class, usage.for_class(*class)),
            Step::Replace { class, usage } => {
                let usage = usage.for_class(*class);
                replace(self.token, &self.session, self.job, *class, usage)?;
                self.objects = None;
                self.proved = None;
                Ok(())
            }
            Step::Withdraw { .. } if self.job.envelope.is_none() => Err(failure(
                FailureKind::NeedsMaterial,
                "withdraw",
                "no envelope came: nothing shows that the repository holds the key",
            )),
            Step::SetLabel { class } => self.set_label(*class),
            Step::Destroy { class } | Step::Withdraw { class } => self.destroy(*class),
            Step::ProveEnabled => {
                let objects = self.objects()?;
                let plan = &self.job.object;
                self.proof = Some(prove::enabled(self.token, &self.session, &objects, plan)?);
                Ok(())
            }
            Step::ProveDisabled => {
                let objects = self.objects()?;
                let plan = &self.job.object;
                self.proof = Some(prove::disabled(self.token, &self.session, &objects, plan)?);
                Ok(())
            }
        }
    }

    fn installed(&mut self, installed: Installed) {
        self.proved = Some((handles(&installed.objects), self.job.fingerprint));
        self.objects = Some(installed.objects);
        self.found_all = installed.is_all;
    }

    /// The objects: from the hints where each still is what it was, else by a search.
    fn objects(&mut self) -> Result<Vec<Object>, TokenFailure> {
        if let Some(objects) = &self.objects {
            return Ok(objects.clone());
        }
        let objects = match self.hinted() {
            Some(objects) => objects,
            None => objects_of(&self.session, &self.job.object)?,
        };
        self.objects = Some(objects.clone());
        Ok(objects)
    }

    fn hinted(&self) -> Option<Vec<Object>> {
        let plan = &self.job.object;
        let mut objects = Vec::with_capacity(self.job.hints.len());
        for hint in &self.job.hints {
            let object = Object::read(&self.session, hint.handle).ok()??;
            let same = object.facts.class == hint.class
                && object.facts.cka_id == plan.cka_id
                && object.facts.label == hint.label;
            if !same {
                return None;
            }
            objects.push(object);
        }
        let one_of_each = objects.len() == plan.spec.class().objects().len();
        (one_of_each && is_complete(&objects, plan)).then_some(objects)
    }

    fn of_class(&mut self, class: ObjectClass) -> Result<Vec<Object>, TokenFailure> {
        let mut objects = self.objects()?;
        objects.retain(|object| object.facts.class == class);
        if objects.is_empty() {
            return Err(failure(
                FailureKind::Retry,
                "run",
                format!("there is no {}", class.name()),
            ));
        }
        Ok(objects)
    }

    fn set_usage(&mut self, class: ObjectClass, usage: UsageSet) -> Result<(), TokenFailure> {
        for object in self.of_class(class)? {
            if object.facts.usage == usage {
                continue;
            }
            if !object.facts.usage.contains(usage) {
                self.check_right_key()?;
            }
            self.session
                .set(object.facts.handle, &usage_change(&object, usage))?;
            let after = self.reread(&object)?;
            if after.facts.usage != usage {
                return Err(refused(
                    "C_SetAttributeValue",
                    format!("the token kept usage {}", after.facts.usage),
                ));
            }
        }
        Ok(())
    }

    fn set_label(&mut self, class: ObjectClass) -> Result<(), TokenFailure> {
        let label = self.job.object.label.as_str();
        for object in self.of_class(class)? {
            if object.facts.label == label {
                continue;
            }
            self.session.set(
                object.facts.handle,
                &[Attribute::bytes(sys::CKA_LABEL, label)],
            )?;
            if self.reread(&object)?.facts.label != label {
                return Err(refused("C_SetAttributeValue", "the token kept the label"));
            }
        }
        Ok(())
    }

    /// All of them: hints know nothing of duplicates, so this always searches.
    fn destroy(&mut self, class: ObjectClass) -> Result<(), TokenFailure> {
        let objects = objects_of(&self.session, &self.job.object)?;
        let (gone, rest): (Vec<Object>, Vec<Object>) = objects
            .into_iter()
            .partition(|object| object.facts.class == class);
        for object in gone {
            self.session.destroy(object.facts.handle)?;
        }
        self.objects = Some(rest);
        self.proved = None;
        Ok(())
    }

    /// Reads an object again after a change, and remembers it so.
    fn reread(&mut self, object: &Object) -> Result<Object, TokenFailure> {
        let after = Object::read(&self.session, object.facts.handle)?
            .ok_or_else(|| refused("run", "the object is no key any more"))?;
        for known in self.objects.iter_mut().flatten() {
            if known.facts.handle == after.facts.handle {
                *known = after.clone();
            }
        }
        Ok(after)
    }

    /// Nothing is ever enabled that is not proved to be the right key, in this very job.
    fn check_right_key(&mut self) -> Result<(), TokenFailure> {
        let objects = self.objects()?;
        if let Some((of, _)) = &self.proved
            && *of == handles(&objects)
        {
            return Ok(());
        }
        let plan = &self.job.object;
        let found = fingerprint_of(self.token, &objects, plan)
            .ok_or_else(|| failure(FailureKind::Retry, "fingerprint", "nothing is there"))??;
        if found != self.job.fingerprint {
            return Err(failure(
                FailureKind::WrongKey,
                "fingerprint",
                "another key is under the CKA_ID: it is not enabled",
            ));
        }
        self.proved = Some((handles(&objects), found));
        Ok(())
    }

    /// From a search after the last change.
    fn read_back(&mut self) -> Result<Found, TokenFailure> {
        let plan = &self.job.object;
        let objects = match self.objects.take() {
            Some(objects) if self.found_all => objects,
            Some(_) | None => objects_of(&self.session, plan)?,
        };
        if objects.is_empty() {
            check_absence(self.token, &self.session)?;
        }
        let destroying = |step: &Step| matches!(step, Step::Destroy { .. } | Step::Withdraw { .. });
        let labels = !is_complete(&objects, plan) && !self.job.steps.iter().any(destroying);
        let same_label = if labels {
            same_label(self.token, &self.session, plan)?
        } else {
            Vec::new()
        };
        let fingerprint = match &self.proved {
            Some((of, fingerprint)) if *of == handles(&objects) => Some(Ok(*fingerprint)),
            Some(_) | None => fingerprint_of(self.token, &objects, plan),
        };
        Ok(found(objects, fingerprint, same_label))
    }
}

fn handles(objects: &[Object]) -> Vec<Handle> {
    let mut handles: Vec<Handle> = objects.iter().map(|object| object.facts.handle).collect();
    handles.sort_unstable();
    handles
}

/// All usage attributes that the object has, and those to be turned on in any case.
fn usage_change(object: &Object, usage: UsageSet) -> Vec<Attribute> {
    let said: Vec<u64> = Usage::ALL
        .into_iter()
        .filter(|one| object.has.has(*one) || usage.has(*one))
        .map(crate::keystore::pkcs11::object::attribute_of)
        .collect();
    usage_attributes(object.facts.class, usage)
        .into_iter()
        .filter(|attribute| said.contains(&attribute.kind()))
        .collect()
}
