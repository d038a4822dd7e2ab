//! Install: from the envelope to token objects that nobody can use yet; straight, or by a session object first where
//! unwrapping is not honest (`staged`).

use cryptoki_sys as sys;

use crate::keystore::pkcs11::envelope;
use crate::keystore::pkcs11::failure::{failure, refused};
use crate::keystore::pkcs11::fingerprint;
use crate::keystore::pkcs11::generate::hidden_class;
use crate::keystore::pkcs11::inspect::{is_complete, namesakes, objects_of};
use crate::keystore::pkcs11::mechanism;
use crate::keystore::pkcs11::names::{SCRATCH, named};
use crate::keystore::pkcs11::object::{Object, class_number, discard, usage_attributes};
use crate::keystore::pkcs11::raw::{Handle, Session};
use crate::keystore::pkcs11::rewrap::public_part;
use crate::keystore::pkcs11::spki::PublicPart;
use crate::keystore::pkcs11::staged;
use crate::keystore::pkcs11::template::Attribute;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::canonical::sha256;
use crate::model::capabilities::{Capabilities, Strategy, Unwrap};
use crate::model::desired::{ObjectPlan, Want};
use crate::model::job::{FailureKind, RunJob, TokenFailure, Wrapped};
use crate::model::key::{Usage, UsageSet};
use crate::model::observed::{Fingerprint, FingerprintMethod, ObjectClass};

/// What an install leaves: proved, and found by a search after the last change.
#[derive(Debug)]
pub(crate) struct Installed {
    /// The objects.
    pub(crate) objects: Vec<Object>,
    /// Whether that search told nothing else under the CKA_ID: then it is as good as a read-back.
    pub(crate) is_all: bool,
}

impl Installed {
    fn adopted(there: Vec<Object>) -> Self {
        Self {
            objects: there,
            is_all: true,
        }
    }
}

/// Makes the objects, or adopts what an earlier try left complete (promises R14).
pub(crate) fn install(
    token: &mut Pkcs11Token,
    session: &Session,
    job: &RunJob,
) -> Result<Installed, TokenFailure> {
    let plan = &job.object;
    let there = objects_of(session, plan)?;
    if let Some(adopted) = settle(token, session, job, there)? {
        return Ok(Installed::adopted(adopted));
    }
    free_label(session, job)?;
    let wrapped = material(job)?;
    let public = checked_public(job, wrapped)?;
    let capabilities = token.capabilities(session)?;
    let mut made = Vec::new();
    let making = Making {
        plan,
        wrapped,
        public: public.as_ref(),
        capabilities: &capabilities,
    };
    let outcome = make(token, session, &making, Shape::Disabled, &mut made)
        .and_then(|()| verify(token, session, job, &made, Shape::Disabled));
    if outcome.is_err() {
        // Nothing of ours may stay that is not proved. What cannot be destroyed now is inert, and found by the next look.
        for handle in made {
            let _destroyed_or_gone = discard(session, handle, &plan.cka_id);
        }
    }
    outcome
}

fn free_label(session: &Session, job: &RunJob) -> Result<(), TokenFailure> {
    match namesakes(session, &job.object)?.first() {
        None => Ok(()),
        Some(other) => Err(failure(
            FailureKind::LabelTaken,
            "install",
            format!("another {} has the label", other.facts.class.name()),
        )),
    }
}

fn material(job: &RunJob) -> Result<&Wrapped, TokenFailure> {
    job.envelope
        .as_ref()
        .ok_or_else(|| failure(FailureKind::NeedsMaterial, "install", "no envelope came"))
}

/// What is there already: `Some` if it is the key; `None` once there is nothing.
fn settle(
    token: &Pkcs11Token,
    session: &Session,
    job: &RunJob,
    there: Vec<Object>,
) -> Result<Option<Vec<Object>>, TokenFailure> {
    if there.is_empty() {
        return Ok(None);
    }
    let plan = &job.object;
    let one_of_each = there.len() == plan.spec.class().objects().len() && is_complete(&there, plan);
    if one_of_each
        && fingerprint::of_objects(token, &there, plan.spec, &plan.salt)
            .is_ok_and(|found| found == job.fingerprint)
    {
        return Ok(Some(there));
    }
    let ours = |object: &Object| object.is_inert() && object.facts.label == plan.label;
    if !there.iter().all(ours) {
        return Err(refused(
            "install",
            "objects with the CKA_ID are there that we did not leave",
        ));
    }
    for object in there {
        session.destroy(object.facts.handle)?;
    }
    Ok(None)
}

/// The public half is known before anything is unwrapped.
fn checked_public(job: &RunJob, wrapped: &Wrapped) -> Result<Option<PublicPart>, TokenFailure> {
    let public = public_part(job.object.spec, wrapped.spki.as_deref())?;
    if let Some(spki) = &wrapped.spki {
        let told = Fingerprint {
            method: FingerprintMethod::Spki,
            value: sha256(spki),
        };
        if told != job.fingerprint {
            return Err(wrong_key("the envelope's public part is another key's"));
        }
    }
    Ok(public)
}

/// What is made, and of what.
struct Making<'m> {
    plan: &'m ObjectPlan,
    wrapped: &'m Wrapped,
    public: Option<&'m PublicPart>,
    capabilities: &'m Capabilities,
}

fn make(
    token: &mut Pkcs11Token,
    session: &Session,
    making: &Making<'_>,
    shape: Shape,
    made: &mut Vec<Handle>,
) -> Result<(), TokenFailure> {
    let Making {
        plan,
        wrapped,
        public,
        capabilities,
    } = *making;
    let kind = capabilities.kind(plan.spec.algorithm());
    let is_staged = kind.is_some_and(|kind| kind.unwrap == Unwrap::Staged);
    if is_staged && shape != Shape::Session {
        made.push(stage(token, session, making, shape)?);
    } else {
        let template = hidden_template(plan, capabilities, shape);
        let from = (template.as_slice(), public);
        made.push(envelope::open(token, session, wrapped, capabilities, from)?);
    }
    if let Some(part) = public
        && shape != Shape::Session
    {
        let template = public_template(plan, part, capabilities, shape);
        made.push(session.create(&template)?);
    }
    Ok(())
}

/// Unwraps to a session object, puts it right, and copies it to the token.
fn stage(
    token: &mut Pkcs11Token,
    session: &Session,
    making: &Making<'_>,
    shape: Shape,
) -> Result<Handle, TokenFailure> {
    let Making {
        plan,
        wrapped,
        public,
        capabilities,
    } = *making;
    let template = hidden_template(plan, capabilities, Shape::Session);
    let from = (template.as_slice(), public);
    let key = envelope::open(token, session, wrapped, capabilities, from)?;
    staged::put_right(session, key)?;
    let class = hidden_class(plan.spec);
    let mut more = shape.name(plan);
    more.extend(usage_attributes(class, shape.usage(plan, class)));
    fix(&mut more, capabilities, shape);
    let copy = staged::copy_to_token(session, key, &more)?;
    discard(session, key, SCRATCH.as_bytes())?;
    Ok(copy)
}

/// Every flag reads back as asked, and the material is the right one.
fn verify(
    token: &Pkcs11Token,
    session: &Session,
    job: &RunJob,
    made: &[Handle],
    shape: Shape,
) -> Result<Installed, TokenFailure> {
    let plan = &job.object;
    let mut objects = Vec::with_capacity(made.len());
    for handle in made {
        objects.extend(Object::read(session, *handle)?);
    }
    let as_asked = |object: &Object| {
        object.is_hidden()
            && object.facts.usage == shape.usage(plan, object.facts.class)
            && object.facts.label == plan.label
            && object.facts.cka_id == plan.cka_id
            && object.facts.key_type == Some(mechanism::key_type(plan.spec))
    };
    if objects.len() != made.len() || !objects.iter().all(as_asked) {
        return Err(refused(
            "install",
            "the token did not make the objects as they were asked for",
        ));
    }
    let found = fingerprint::of_objects(token, &objects, plan.spec, &plan.salt)?;
    if found != job.fingerprint {
        return Err(wrong_key(
            "the unwrapped key is another one; it was destroyed",
        ));
    }
    listed(session, plan, made)
}

/// The objects that were made, as a search tells them: a token that shows an old inventory would be given the same key
/// again and again.
fn listed(
    session: &Session,
    plan: &ObjectPlan,
    made: &[Handle],
) -> Result<Installed, TokenFailure> {
    let listed = objects_of(session, plan)?;
    let (objects, others): (Vec<Object>, Vec<Object>) = listed
        .into_iter()
        .partition(|object| made.contains(&object.facts.handle));
    if objects.len() == made.len() {
        return Ok(Installed {
            objects,
            is_all: others.is_empty(),
        });
    }
    Err(failure(
        FailureKind::Retry,
        "install",
        "the token does not list what it made; it was destroyed",
    ))
}

fn wrong_key(detail: &str) -> TokenFailure {
    failure(FailureKind::WrongKey, "install", detail)
}

/// What an unwrapped key becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A session object without usage: to be proved.
    Session,
    /// On the token, without usage.
    Disabled,
    /// On the token, with its usage for good.
    Enabled,
}

impl Shape {
    fn usage(self, plan: &ObjectPlan, class: ObjectClass) -> UsageSet {
        match self {
            Self::Session | Self::Disabled => UsageSet::NONE,
            Self::Enabled => plan.usage_under(Want::Active, class),
        }
    }

    fn name(self, plan: &ObjectPlan) -> Vec<Attribute> {
        match self {
            Self::Session => named(SCRATCH),
            Self::Disabled | Self::Enabled => vec![
                Attribute::bytes(sys::CKA_LABEL, plan.label.as_str()),
                Attribute::bytes(sys::CKA_ID, plan.cka_id.as_slice()),
            ],
        }
    }

    /// Whether nobody may copy it: a private key that cannot sign itself needs a copy that may, for its fingerprint.
    fn is_bound(self, plan: &ObjectPlan, class: ObjectClass, capabilities: &Capabilities) -> bool {
        let proves_itself = match class {
            ObjectClass::Secret => capabilities.digest_key,
            ObjectClass::Private => {
                self == Self::Enabled && plan.usage_under(Want::Active, class).has(Usage::Sign)
            }
            ObjectClass::Public => false,
        };
        let is_copied = capabilities.strategy(plan) == Strategy::Copy;
        self != Self::Session && capabilities.copyable && proves_itself && !is_copied
    }
}

/// The secret or private key. CKA_VALUE_LEN is not said: SoftHSM2 refuses it when unwrapping.
fn hidden_template(plan: &ObjectPlan, capabilities: &Capabilities, shape: Shape) -> Vec<Attribute> {
    let class = hidden_class(plan.spec);
    let mut template = vec![
        Attribute::number(sys::CKA_CLASS, class_number(class)),
        Attribute::number(sys::CKA_KEY_TYPE, mechanism::key_type(plan.spec)),
        Attribute::flag(sys::CKA_TOKEN, shape != Shape::Session),
        Attribute::flag(sys::CKA_PRIVATE, true),
        Attribute::flag(sys::CKA_SENSITIVE, true),
        Attribute::flag(sys::CKA_EXTRACTABLE, false),
    ];
    template.extend(shape.name(plan));
    template.extend(usage_attributes(class, shape.usage(plan, class)));
    if shape.is_bound(plan, class, capabilities) {
        template.push(Attribute::flag(sys::CKA_COPYABLE, false));
    }
    fix(&mut template, capabilities, shape);
    template
}

/// CKA_MODIFIABLE stands last: SoftHSM2 reads templates in order and lets nothing follow it.
fn fix(template: &mut Vec<Attribute>, capabilities: &Capabilities, shape: Shape) {
    if shape == Shape::Enabled && capabilities.modifiable {
        template.push(Attribute::flag(sys::CKA_MODIFIABLE, false));
    }
}

fn public_template(
    plan: &ObjectPlan,
    part: &PublicPart,
    capabilities: &Capabilities,
    shape: Shape,
) -> Vec<Attribute> {
    let class = ObjectClass::Public;
    let mut template = vec![
        Attribute::number(sys::CKA_CLASS, class_number(class)),
        Attribute::flag(sys::CKA_TOKEN, true),
        Attribute::flag(sys::CKA_PRIVATE, false),
    ];
    template.extend(shape.name(plan));
    template.extend(part.attributes());
    template.extend(usage_attributes(class, shape.usage(plan, class)));
    fix(&mut template, capabilities, shape);
    template
}

/// Installs a key with its usage on (`withdraw`): only after it was proved as a session object.
pub(crate) fn bring(
    token: &mut Pkcs11Token,
    session: &Session,
    job: &RunJob,
) -> Result<Installed, TokenFailure> {
    let plan = &job.object;
    let there = objects_of(session, plan)?;
    if !there.is_empty() {
        // An earlier try may have come to its end unheard.
        let usable = |object: &Object| {
            object.facts.usage == plan.usage_under(Want::Active, object.facts.class)
        };
        let right = fingerprint::of_objects(token, &there, plan.spec, &plan.salt)
            .is_ok_and(|found| found == job.fingerprint);
        if right && there.iter().all(usable) {
            return Ok(Installed::adopted(there));
        }
        return Err(refused("install", "objects with the CKA_ID are there"));
    }
    free_label(session, job)?;
    let wrapped = material(job)?;
    let public = checked_public(job, wrapped)?;
    let capabilities = token.capabilities(session)?;
    let mut made = Vec::new();
    let making = Making {
        plan,
        wrapped,
        public: public.as_ref(),
        capabilities: &capabilities,
    };
    make(token, session, &making, Shape::Session, &mut made)?;
    for key in made.drain(..) {
        let (spec, salt) = (plan.spec, plan.salt.as_slice());
        let found =
            fingerprint::of_session_object(token, session, key, public.as_ref(), spec, salt)?;
        discard(session, key, SCRATCH.as_bytes())?;
        if found != job.fingerprint {
            return Err(wrong_key("the unwrapped key is another one"));
        }
    }
    let outcome = make(token, session, &making, Shape::Enabled, &mut made)
        .and_then(|()| verify(token, session, job, &made, Shape::Enabled));
    if outcome.is_err() {
        for handle in made {
            let _destroyed_or_gone = discard(session, handle, &plan.cka_id);
        }
    }
    outcome
}
