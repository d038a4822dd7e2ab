//! What every [`Keystore`] must do, told by doing it: one suite, run on real tokens and on the in-memory one.
//!
//! Give it two empty tokens, one that may generate keys and one that only receives. It binds both and leaves nothing else
//! on them but the agents' own keys.

pub mod coverage;
mod kek;
mod repository;
pub mod scan;
mod strategies;
mod survey;

use uuid::Uuid;

use crate::keystore::Keystore;
use crate::keystore::contract::coverage::{Covered, Run};
use crate::model::capabilities::Strategy;
use crate::model::desired::{ObjectPlan, Want};
use crate::model::ids::{Epoch, KeyVersionId, KeystoreId};
use crate::model::job::{
    FailureKind, Generated, Prepared, Ran, RewrapJob, RunJob, TokenAnswer, TokenFailure,
    TokenIdentity, TokenJob, TokenOutcome, Wrapped,
};
use crate::model::key::{DeactivatedUsage, KeySpec, UsageSet};
use crate::model::keystore::{Marker, OaepHash, Route, Wrapping};
use crate::model::observed::{Found, ObjectClass, ProofKind};
use crate::model::step::Step;

/// Which clause was broken, and how.
#[derive(Debug, thiserror::Error)]
#[error("{clause}: {found}")]
pub struct Violation {
    /// What should be.
    pub clause: String,
    /// What was.
    pub found: String,
}

type Outcome<T = ()> = Result<T, Violation>;

/// Two tokens and what is known of them.
#[derive(Debug)]
struct Stage<'s, K: Keystore> {
    internal: &'s mut K,
    external: &'s mut K,
    home: Prepared,
    prepared: Prepared,
}

/// A key in the repository, and what it looks like on a token.
#[derive(Debug, Clone)]
struct Key {
    plan: ObjectPlan,
    born: Generated,
}

/// Runs the whole suite, for each kind of key that the two tokens can have together.
///
/// # Errors
/// The first [`Violation`].
pub fn check<K: Keystore>(internal: &mut K, external: &mut K, specs: &[KeySpec]) -> Outcome<Run> {
    identity_and_marker(internal)?;
    identity_and_marker(external)?;
    let (home, prepared) = preparing_is_idempotent(internal, external)?;
    let mut stage = Stage {
        internal,
        external,
        home,
        prepared,
    };
    let covered: Vec<Covered> = specs.iter().map(|spec| stage.covers(*spec)).collect();
    let specs: Vec<KeySpec> = covered
        .iter()
        .filter(|one| one.outcome.is_ok())
        .map(|one| one.spec)
        .collect();
    for (number, spec) in specs.iter().enumerate() {
        let key = stage.key(*spec, &format!("contract/{number}"))?;
        stage.life(&key)?;
        stage.process_only(&key)?;
        stage.installing_again_adopts(&key)?;
        stage.nothing_but_the_right_key(&key)?;
        stage.by_copy(&key)?;
        stage.by_withdrawal(&key)?;
    }
    if let [spec, ..] = specs.as_slice() {
        let key = stage.key(*spec, "contract/a")?;
        let other = stage.key(*spec, "contract/b")?;
        stage.labels_are_taken_once(&key)?;
        stage.hints_never_act(&key, &other)?;
        stage.surveys(&key, &other)?;
        stage.bad_material_leaves_nothing(&key)?;
        stage.refusals(&key)?;
    }
    if stage.prepared.capabilities.rfc5649.is_some() {
        // From here on the external one is internal too.
        stage.prepared = self::prepared(stage.external, true)?;
        for spec in &specs {
            stage.taken_over(*spec)?;
        }
    }
    for spec in specs {
        stage.rotated(spec)?;
    }
    let objects = scan::inventory(stage.external)?.1.objects;
    demand(
        "the suite leaves nothing behind",
        objects.is_empty(),
        &objects,
    )?;
    Ok(Run {
        covered,
        external: stage.prepared.capabilities,
    })
}

fn identity_and_marker<K: Keystore>(token: &mut K) -> Outcome {
    let before = identity(token)?;
    demand(
        "a new token has no marker",
        before.markers.is_empty(),
        &before,
    )?;
    let marker = Marker {
        keystore: KeystoreId::from_uuid(Uuid::from_u128(7)),
        epoch: Epoch(3),
    };
    let TokenAnswer::Bound = done(token, &TokenJob::Bind(marker))? else {
        return another("bind answers bound");
    };
    let after = identity(token)?;
    demand("the marker reads back", after.markers == [marker], &after)?;
    demand("a token says who it is", after.info == before.info, &after)?;
    let again = failed(token, &TokenJob::Bind(marker))?;
    let refused = again.kind == FailureKind::Refused;
    demand("a marker is written once", refused, &again)?;
    let (identity, _) = scan::inventory(token)?;
    demand("a scan tells identity", identity == after, &identity)?;
    let outcome = token.perform(&TokenJob::ScanOn);
    let refused = matches!(outcome, TokenOutcome::Failed(_));
    demand("what was not begun does not go on", refused, &outcome)
}

fn preparing_is_idempotent<K: Keystore>(
    internal: &mut K,
    external: &mut K,
) -> Outcome<(Prepared, Prepared)> {
    let first = prepared(internal, true)?;
    demand(
        "own keys are adopted",
        first == prepared(internal, true)?,
        &first,
    )?;
    let target = prepared(external, false)?;
    demand(
        "own keys are adopted",
        target == prepared(external, false)?,
        &target,
    )?;
    let apart = first.transport_spki != target.transport_spki;
    demand("each token has a transport key of its own", apart, &target)?;
    let objects = scan::inventory(internal)?.1.objects;
    demand(
        "own keys are not in the inventory",
        objects.is_empty(),
        &objects,
    )?;
    Ok((first, target))
}

impl<K: Keystore> Stage<'_, K> {
    fn key(&mut self, spec: KeySpec, label: &str) -> Outcome<Key> {
        let version = KeyVersionId::from_uuid(Uuid::new_v4());
        let salt = vec![5; 32];
        let plan = ObjectPlan {
            cka_id: version.uuid().as_bytes().to_vec(),
            label: label.to_owned(),
            spec,
            usage: spec.default_usage(),
            deactivated_usage: DeactivatedUsage::None,
            salt: salt.clone(),
            strategy: Strategy::Flags,
        };
        let job = TokenJob::Generate {
            version,
            spec,
            salt,
        };
        let TokenAnswer::Generated(born) = done(self.internal, &job)? else {
            return another("generate answers generated");
        };
        let objects = scan::inventory(self.internal)?.1.objects;
        demand(
            "a generated key is not on the token",
            objects.is_empty(),
            &objects,
        )?;
        Ok(Key { plan, born })
    }

    fn rewrap_job(&self, key: &Key) -> RewrapJob {
        RewrapJob {
            spec: key.plan.spec,
            salt: key.plan.salt.clone(),
            fingerprint: key.born.fingerprint,
            spki: key.born.spki.clone(),
            blob: key.born.blob.clone(),
            kek: key.born.kek,
            transport_spki: self.prepared.transport_spki.clone(),
            route: self.route(key.plan.spec).unwrap_or(Route {
                wrapping: Wrapping::Direct,
                oaep_hash: OaepHash::Sha1,
            }),
        }
    }

    fn envelope(&mut self, key: &Key) -> Outcome<Wrapped> {
        let job = self.rewrap_job(key);
        let TokenAnswer::Rewrapped(wrapped) =
            done(self.internal, &TokenJob::Rewrap(Box::new(job)))?
        else {
            return another("rewrap answers rewrapped");
        };
        Ok(wrapped)
    }

    fn job(&mut self, key: &Key, steps: Vec<Step>) -> Outcome<RunJob> {
        let envelope = if steps.iter().any(Step::needs_material) {
            Some(self.envelope(key)?)
        } else {
            None
        };
        Ok(RunJob {
            object: key.plan.clone(),
            fingerprint: key.born.fingerprint,
            steps,
            envelope,
            hints: Vec::new(),
        })
    }

    /// Runs steps that must all be done.
    fn run(&mut self, key: &Key, steps: Vec<Step>) -> Outcome<Ran> {
        let count = steps.len();
        let job = self.job(key, steps)?;
        let ran = ran(self.external, job)?;
        let all = ran.failure.is_none() && u32::try_from(count) == Ok(ran.done);
        demand("the steps are done", all, &ran)?;
        Ok(ran)
    }

    /// From nothing over enabled and disabled to nothing.
    fn life(&mut self, key: &Key) -> Outcome {
        let found = self.look(key)?;
        demand("nothing is there", found == Found::default(), &found)?;
        let ran = self.run(key, vec![Step::Install])?;
        self.is_as(key, &ran.found, UsageSet::NONE)?;
        let ran = self.run(key, enable(&key.plan))?;
        self.is_as(key, &ran.found, key.plan.usage)?;
        let tried = ran.proof.as_ref().is_some_and(|proof| {
            proof.kind == ProofKind::Tried
                && proof.answer == "CKR_OK"
                && !proof.operation.is_empty()
        });
        demand("an enabled key is tried and works", tried, &ran)?;
        self.run(key, vec![Step::ProveEnabled])?;
        let mut job = self.job(key, disable(&key.plan))?;
        job.hints = ran.found.objects;
        let ran = self::ran(self.external, job)?;
        self.is_as(key, &ran.found, UsageSet::NONE)?;
        let refused = ran.proof.as_ref().is_some_and(|proof| {
            proof.kind == ProofKind::Tried
                && proof.answer.starts_with("CKR_")
                && proof.answer != "CKR_OK"
        });
        demand("a disabled key is tried and refused", refused, &ran)?;
        let found = self.look(key)?;
        demand("a look says what the run said", found == ran.found, &found)?;
        let count = found.objects.len();
        let scanned = scan::inventory(self.external)?.1.objects;
        demand(
            "a scan finds the same",
            scanned == found.objects && count > 0,
            &scanned,
        )?;
        self.rename(key)?;
        let ran = self.run(key, destroy(&key.plan))?;
        demand("destroyed is gone", ran.found == Found::default(), &ran)?;
        self.run(key, destroy(&key.plan)).map(drop)
    }

    fn rename(&mut self, key: &Key) -> Outcome {
        let mut renamed = key.clone();
        renamed.plan.label.push_str(" renamed");
        let steps = classes(key).map(|class| Step::SetLabel { class }).collect();
        let ran = self.run(&renamed, steps)?;
        self.is_as(&renamed, &ran.found, UsageSet::NONE)
    }

    /// What a deactivated key may still do stays on, and the rest is proved off.
    fn process_only(&mut self, key: &Key) -> Outcome {
        let mut key = key.clone();
        key.plan.deactivated_usage = DeactivatedUsage::ProcessOnly;
        let mut steps = vec![Step::Install];
        steps.extend(enable(&key.plan));
        steps.extend(disable(&key.plan));
        let ran = self.run(&key, steps)?;
        self.is_as(&key, &ran.found, key.plan.usage.process_only())?;
        let tried = ran.proof.as_ref().map(|proof| proof.kind) == Some(ProofKind::Tried);
        demand("what is off is tried", tried, &ran)?;
        self.run(&key, destroy(&key.plan)).map(drop)
    }

    fn installing_again_adopts(&mut self, key: &Key) -> Outcome {
        let first = self.run(key, vec![Step::Install])?.found;
        let second = self.run(key, vec![Step::Install])?.found;
        demand("what is complete is adopted", first == second, &second)?;
        if let [class, _, ..] = key.plan.spec.class().objects() {
            self.run(key, vec![Step::Destroy { class: *class }])?;
            let again = self.run(key, vec![Step::Install])?.found;
            self.is_as(key, &again, UsageSet::NONE)?;
        }
        self.run(key, destroy(&key.plan)).map(drop)
    }

    /// Neither another key's envelope nor another key's fingerprint gets anything enabled.
    fn nothing_but_the_right_key(&mut self, key: &Key) -> Outcome {
        let other = self.key(key.plan.spec, "contract/other")?;
        let mut job = self.job(key, vec![Step::Install])?;
        job.envelope = Some(self.envelope(&other)?);
        self.stops(
            job,
            FailureKind::WrongKey,
            "another key's envelope is refused",
        )?;
        let found = self.look(key)?;
        demand("nothing is left of it", found == Found::default(), &found)?;
        self.run(key, vec![Step::Install])?;
        let mut job = self.job(key, enable(&key.plan))?;
        job.fingerprint = other.born.fingerprint;
        self.stops(job, FailureKind::WrongKey, "a wrong key is not enabled")?;
        let found = self.look(key)?;
        self.is_as(key, &found, UsageSet::NONE)?;
        self.run(key, destroy(&key.plan)).map(drop)
    }

    fn labels_are_taken_once(&mut self, key: &Key) -> Outcome {
        self.run(key, vec![Step::Install])?;
        let second = self.key(key.plan.spec, &key.plan.label)?;
        let job = self.job(&second, vec![Step::Install])?;
        self.stops(job, FailureKind::LabelTaken, "a label is one key's")?;
        let found = self.look(&second)?;
        let named = found.objects.is_empty() && !found.same_label.is_empty();
        demand("who has the label is told", named, &found)?;
        let holds = |of: &Key| {
            let mut namesakes = found.same_label.iter();
            namesakes.any(|facts| facts.holds(&of.born.fingerprint))
        };
        demand("and whose material it is", holds(key), &found)?;
        demand("not another's", !holds(&second), &found)?;
        self.run(key, destroy(&key.plan)).map(drop)
    }

    /// A handle that leads elsewhere changes nothing there.
    fn hints_never_act(&mut self, key: &Key, other: &Key) -> Outcome {
        let first = self.run(key, vec![Step::Install])?.found;
        let second = self.run(other, vec![Step::Install])?.found;
        let mut job = self.job(key, enable(&key.plan))?;
        job.hints = first.objects.clone();
        for (hint, elsewhere) in job.hints.iter_mut().zip(&second.objects) {
            hint.handle = elsewhere.handle;
        }
        let ran = ran(self.external, job)?;
        demand(
            "a wrong hint costs a search only",
            ran.failure.is_none(),
            &ran,
        )?;
        self.is_as(key, &ran.found, key.plan.usage)?;
        let found = self.look(other)?;
        self.is_as(other, &found, UsageSet::NONE)?;
        self.run(other, destroy(&other.plan))?;
        let mut job = self.job(key, disable(&key.plan))?;
        job.hints = second.objects;
        let ran = self::ran(self.external, job)?;
        self.is_as(key, &ran.found, UsageSet::NONE)?;
        self.run(key, destroy(&key.plan)).map(drop)
    }

    fn bad_material_leaves_nothing(&mut self, key: &Key) -> Outcome {
        let mut job = self.job(key, vec![Step::Install])?;
        if let Some(byte) = job
            .envelope
            .iter_mut()
            .find_map(|envelope| envelope.wrapped_key.last_mut())
        {
            *byte ^= 1;
        }
        // AES-CBC has no integrity of its own: there it is the fingerprint that tells.
        let ran = ran(self.external, job)?;
        let kind = ran.failure.as_ref().map(|failure| failure.kind);
        let told = matches!(
            kind,
            Some(FailureKind::Refused | FailureKind::NeedsMaterial | FailureKind::WrongKey)
        );
        demand("a changed envelope is refused", told, &ran)?;
        let mut job = self.job(key, vec![Step::Install])?;
        job.envelope = None;
        self.stops(
            job,
            FailureKind::NeedsMaterial,
            "an install needs its envelope",
        )?;
        let found = self.look(key)?;
        demand("nothing is left of it", found == Found::default(), &found)
    }

    fn refusals(&mut self, key: &Key) -> Outcome {
        let mut job = self.rewrap_job(key);
        job.fingerprint.value.0.reverse();
        let refused = failed(self.internal, &TokenJob::Rewrap(Box::new(job)))?;
        let wrong = refused.kind == FailureKind::WrongKey;
        demand("only the key of the record is wrapped", wrong, &refused)?;
        let mut job = self.rewrap_job(key);
        if let Some(byte) = job.blob.last_mut() {
            *byte ^= 1;
        }
        let refused = failed(self.internal, &TokenJob::Rewrap(Box::new(job)))?;
        let told = refused.kind == FailureKind::Refused;
        demand("a changed blob is refused", told, &refused)?;
        let generate = TokenJob::Generate {
            version: KeyVersionId::from_uuid(Uuid::from_u128(9)),
            spec: key.plan.spec,
            salt: vec![5; 32],
        };
        let refused = failed(self.external, &generate)?;
        let told = refused.kind == FailureKind::Refused;
        demand("an external keystore generates nothing", told, &refused)?;
        let missing = self.job(key, enable(&key.plan))?;
        self.stops(
            missing,
            FailureKind::Retry,
            "what is not there is not enabled",
        )?;
        let mut plan = key.plan.clone();
        plan.cka_id = b"lockstep-kek".to_vec();
        let refused = failed(self.internal, &TokenJob::Inspect(plan))?;
        let told = refused.kind == FailureKind::Refused;
        demand("the agent's own keys are nobody's", told, &refused)
    }

    /// Runs a job that must stop at its first step.
    fn stops(&mut self, job: RunJob, kind: FailureKind, clause: &str) -> Outcome {
        let ran = ran(self.external, job)?;
        let stopped = ran.failure.as_ref().map(|failure| failure.kind) == Some(kind);
        demand(clause, stopped && ran.done == 0, &ran)
    }

    fn look(&mut self, key: &Key) -> Outcome<Found> {
        let TokenAnswer::Found(found) = done(self.external, &TokenJob::Inspect(key.plan.clone()))?
        else {
            return another("inspect answers found");
        };
        Ok(found)
    }

    /// The right key, whole, hidden, and with this usage.
    fn is_as(&self, key: &Key, found: &Found, usage: UsageSet) -> Outcome {
        let right = found.fingerprint == Some(key.born.fingerprint);
        demand("the fingerprint is the birth record's", right, found)?;
        let whole = classes(key).all(|class| {
            let mut of_class = found.objects.iter().filter(|facts| facts.class == class);
            let facts = of_class.next();
            of_class.next().is_none()
                && facts.is_some_and(|facts| {
                    let open = class == ObjectClass::Public;
                    facts.usage == usage.for_class(class)
                        && facts.label == key.plan.label
                        && facts.cka_id == key.plan.cka_id
                        && (open || facts.sensitive == Some(true))
                        && (open || facts.extractable == Some(false))
                })
        });
        demand("each object is there once, as planned", whole, found)
    }
}

fn classes(key: &Key) -> impl Iterator<Item = ObjectClass> {
    key.plan.spec.class().objects().iter().copied()
}

fn enable(plan: &ObjectPlan) -> Vec<Step> {
    // Of a pair, the public half first.
    let classes = plan.spec.class().objects().iter().rev();
    let usage = |class| plan.usage_under(Want::Active, class);
    let mut steps: Vec<Step> = classes
        .map(|&class| Step::SetUsage {
            class,
            usage: usage(class),
        })
        .collect();
    steps.push(Step::ProveEnabled);
    steps
}

fn disable(plan: &ObjectPlan) -> Vec<Step> {
    let classes = plan.spec.class().objects().iter();
    let usage = |class| plan.usage_under(Want::Deactivated, class);
    let mut steps: Vec<Step> = classes
        .map(|&class| Step::SetUsage {
            class,
            usage: usage(class),
        })
        .collect();
    steps.push(Step::ProveDisabled);
    steps
}

fn destroy(plan: &ObjectPlan) -> Vec<Step> {
    let classes = plan.spec.class().objects().iter();
    classes.map(|&class| Step::Destroy { class }).collect()
}

fn done<K: Keystore>(token: &mut K, job: &TokenJob) -> Outcome<TokenAnswer> {
    match token.perform(job) {
        TokenOutcome::Done(answer) => Ok(answer),
        other @ (TokenOutcome::Failed(_) | TokenOutcome::Unknown { .. }) => {
            odd(&format!("{} is done", name(job)), &other)
        }
    }
}

fn failed<K: Keystore>(token: &mut K, job: &TokenJob) -> Outcome<TokenFailure> {
    match token.perform(job) {
        TokenOutcome::Failed(failure) => Ok(failure),
        other @ (TokenOutcome::Done(_) | TokenOutcome::Unknown { .. }) => {
            odd(&format!("{} is refused", name(job)), &other)
        }
    }
}

fn ran<K: Keystore>(token: &mut K, job: RunJob) -> Outcome<Ran> {
    let TokenAnswer::Ran(ran) = done(token, &TokenJob::Run(Box::new(job)))? else {
        return another("run answers ran");
    };
    Ok(*ran)
}

fn identity<K: Keystore>(token: &mut K) -> Outcome<TokenIdentity> {
    let TokenAnswer::Identity(identity) = done(token, &TokenJob::Identify)? else {
        return another("identify answers identity");
    };
    Ok(identity)
}

fn prepared<K: Keystore>(token: &mut K, internal: bool) -> Outcome<Prepared> {
    let TokenAnswer::Prepared(prepared) = done(token, &TokenJob::Prepare { internal })? else {
        return another("prepare answers prepared");
    };
    Ok(prepared)
}

/// Never the job itself: it may carry material.
const fn name(job: &TokenJob) -> &'static str {
    match job {
        TokenJob::Identify => "identify",
        TokenJob::Bind(_) => "bind",
        TokenJob::Prepare { .. } => "prepare",
        TokenJob::Scan | TokenJob::ScanOn => "scan",
        TokenJob::Inspect(_) => "inspect",
        TokenJob::Survey(_) => "survey",
        TokenJob::Run(_) => "run",
        TokenJob::Generate { .. } => "generate",
        TokenJob::Rewrap(_) => "rewrap",
        TokenJob::TakeOver(_) => "take over",
        TokenJob::Kek(_) => "kek",
        TokenJob::RewrapCopy(_) => "rewrap a copy",
        TokenJob::Stop => "stop",
    }
}

fn demand(clause: &str, held: bool, found: &impl std::fmt::Debug) -> Outcome {
    if held { Ok(()) } else { odd(clause, found) }
}

fn another<T>(clause: &str) -> Outcome<T> {
    odd(clause, &"an answer to another job")
}

fn odd<T>(clause: &str, found: &impl std::fmt::Debug) -> Outcome<T> {
    Err(Violation {
        clause: clause.to_owned(),
        found: format!("{found:?}"),
    })
}
