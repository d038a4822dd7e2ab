//! What the steps do to the objects of the in-memory token.

use crate::keystore::memory::material::Material;
use crate::keystore::memory::{Fault, Object, Outcome, State, failure, material};
use crate::model::desired::{ObjectPlan, Want};
use crate::model::job::{FailureKind, RunJob};
use crate::model::key::{Usage, UsageSet};
use crate::model::observed::{ObjectClass, ObjectFacts, Proof, ProofKind};
use crate::model::step::Step;

impl State {
    pub(super) fn step(
        &mut self,
        job: &RunJob,
        step: &Step,
        fault: &Fault,
    ) -> Outcome<Option<Proof>> {
        let plan = &job.object;
        match step {
            Step::Install => self.install(job)?,
            Step::InstallEnabled => self.install_enabled(job)?,
            Step::SetUsage { class, usage } => self.usage(job, *class, *usage, fault)?,
            Step::Replace { class, usage } => self.replace(job, *class, *usage)?,
            Step::SetLabel { class } => {
                for object in self.of_class(plan, *class)? {
                    object.label.clone_from(&plan.label);
                }
            }
            Step::Withdraw { .. } if job.envelope.is_none() => {
                let detail = "no envelope came: nothing shows that the repository holds the key";
                return Err(failure(FailureKind::NeedsMaterial, "withdraw", detail));
            }
            Step::Destroy { class } | Step::Withdraw { class } => {
                let gone = |o: &Object| o.cka_id == plan.cka_id && o.class == *class;
                self.objects.retain(|_, object| !gone(object));
            }
            Step::ProveEnabled => return self.prove(plan, Want::Active).map(Some),
            Step::ProveDisabled => return self.prove(plan, Want::Deactivated).map(Some),
        }
        Ok(None)
    }

    fn usage(
        &mut self,
        job: &RunJob,
        class: ObjectClass,
        usage: UsageSet,
        fault: &Fault,
    ) -> Outcome<()> {
        let usage = usage.for_class(class);
        let mut of_class = self.of_class(&job.object, class)?;
        let adds = of_class.any(|object| !object.usage.contains(usage));
        drop(of_class);
        let fingerprint = self.look(&job.object, &Fault::Pass).fingerprint;
        if adds && fingerprint != Some(job.fingerprint) {
            let detail = "another key is under the CKA_ID: it is not enabled";
            return Err(failure(FailureKind::WrongKey, "fingerprint", detail));
        }
        for object in self.of_class(&job.object, class)? {
            if *fault == Fault::KeepsUsage && object.usage != usage {
                let detail = "the token kept the usage";
                return Err(failure(FailureKind::Refused, "C_SetAttributeValue", detail));
            }
            object.usage = usage;
        }
        Ok(())
    }

    /// One copy with other usages takes the place of all.
    fn replace(&mut self, job: &RunJob, class: ObjectClass, usage: UsageSet) -> Outcome<()> {
        let plan = &job.object;
        let right =
            |object: &Object| object.material.fingerprint(plan.spec, &plan.salt) == job.fingerprint;
        if !self.of_class(plan, class)?.all(|object| right(object)) {
            let detail = "another key is under the CKA_ID: it is left as it is";
            return Err(failure(FailureKind::WrongKey, "fingerprint", detail));
        }
        let Some(first) = self.of_class(plan, class)?.next().cloned() else {
            return Ok(());
        };
        let old = |o: &Object| o.cka_id == plan.cka_id && o.class == class;
        self.objects.retain(|_, object| !old(object));
        self.insert(Object {
            usage: usage.for_class(class),
            label: plan.label.clone(),
            ..first
        });
        Ok(())
    }

    fn install_enabled(&mut self, job: &RunJob) -> Outcome<()> {
        self.install(job)?;
        let plan = &job.object;
        for class in plan.spec.class().objects() {
            let usage = plan.usage_under(Want::Active, *class);
            for object in self.of_class(plan, *class)? {
                object.usage = usage;
            }
        }
        Ok(())
    }

    fn install(&mut self, job: &RunJob) -> Outcome<()> {
        let plan = &job.object;
        let refused = |detail: &str| failure(FailureKind::Refused, "install", detail);
        let there = self.look(plan, &Fault::Pass);
        let one_of_each = there.objects.len() == plan.spec.class().objects().len();
        if one_of_each && there.fingerprint == Some(job.fingerprint) {
            return Ok(());
        }
        let ours = |facts: &ObjectFacts| facts.usage.is_empty() && facts.label == plan.label;
        if !there.objects.iter().all(ours) {
            return Err(refused(
                "objects with the CKA_ID are there that we did not leave",
            ));
        }
        for facts in &there.objects {
            self.objects.remove(&facts.handle);
        }
        if !self.same_label(plan).is_empty() {
            let detail = "another object has the label";
            return Err(failure(FailureKind::LabelTaken, "install", detail));
        }
        let wrong = || failure(FailureKind::WrongKey, "install", "the material is another");
        let wrapped = job
            .envelope
            .as_ref()
            .ok_or_else(|| failure(FailureKind::NeedsMaterial, "install", "no envelope came"))?;
        let transport = self.transport.ok_or_else(|| refused("prepare first"))?;
        let ephemeral = material::open(&transport, &wrapped.wrapped_kek)?;
        let made = Material::unwrap(plan.spec, &ephemeral, &wrapped.wrapped_key)?;
        if made.fingerprint(plan.spec, &plan.salt) != job.fingerprint || made.spki() != wrapped.spki
        {
            return Err(wrong());
        }
        for class in plan.spec.class().objects() {
            self.insert(Object {
                class: *class,
                cka_id: plan.cka_id.clone(),
                label: plan.label.clone(),
                usage: UsageSet::NONE,
                material: made.clone(),
            });
        }
        Ok(())
    }

    fn prove(&mut self, plan: &ObjectPlan, want: Want) -> Outcome<Proof> {
        let mut answer = None;
        for class in plan.spec.class().objects() {
            let planned = plan.usage_under(want, *class);
            let mut objects = self.of_class(plan, *class)?;
            if !objects.all(|object| object.usage == planned) {
                let detail = "the usage is not as planned";
                return Err(failure(FailureKind::Retry, "prove", detail));
            }
            let mut usages = plan.usage_under(Want::Active, *class);
            if want != Want::Active {
                let off = usages.iter().filter(|usage| !planned.has(*usage));
                usages = UsageSet::of(&off.collect::<Vec<Usage>>());
            }
            answer = answer.or(usages.iter().next());
        }
        let Some(usage) = answer else {
            return Ok(Proof {
                kind: ProofKind::ReadBack,
                operation: String::new(),
                answer: String::new(),
            });
        };
        let refused = "CKR_KEY_FUNCTION_NOT_PERMITTED";
        Ok(Proof {
            kind: ProofKind::Tried,
            operation: function_of(usage).to_owned(),
            answer: if want == Want::Active {
                "CKR_OK"
            } else {
                refused
            }
            .to_owned(),
        })
    }
}

const fn function_of(usage: Usage) -> &'static str {
    match usage {
        Usage::Encrypt => "C_EncryptInit",
        Usage::Decrypt => "C_DecryptInit",
        Usage::Sign => "C_SignInit",
        Usage::SignRecover => "C_SignRecoverInit",
        Usage::Verify => "C_VerifyInit",
        Usage::VerifyRecover => "C_VerifyRecoverInit",
        Usage::Wrap => "C_WrapKey",
        Usage::Unwrap => "C_UnwrapKey",
        Usage::Derive => "C_DeriveKey",
    }
}
