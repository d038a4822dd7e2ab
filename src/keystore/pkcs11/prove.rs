//! Proof that a key is enabled or disabled: the operation is tried (design.md 5).

use cryptoki_sys as sys;

use crate::keystore::pkcs11::failure::{failure, kind_of, rv_name};
use crate::keystore::pkcs11::object::Object;
use crate::keystore::pkcs11::raw::Session;
use crate::keystore::pkcs11::spki::PublicPart;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::keystore::pkcs11::trial::{Trial, learn};
use crate::model::desired::{ObjectPlan, Want};
use crate::model::job::{FailureKind, TokenFailure};
use crate::model::key::Usage;
use crate::model::observed::{ObjectClass, Proof, ProofKind};

/// Tries the first usage that is wanted and can be tried: it must work.
pub(crate) fn enabled(
    token: &mut Pkcs11Token,
    session: &Session,
    objects: &[Object],
    plan: &ObjectPlan,
) -> Result<Proof, TokenFailure> {
    check_flags(objects, plan, Want::Active)?;
    let capabilities = token.capabilities(session)?;
    for (object, usage) in candidates(objects, plan, Want::Active) {
        let Some(trial) = Trial::of(plan.spec, usage, public_of(objects), &capabilities) else {
            continue;
        };
        let rv = trial.run(token, object.facts.handle)?;
        if rv == sys::CKR_OK {
            return Ok(tried(&trial, rv));
        }
        // Perhaps the token has no such mechanism at all: then this usage proves nothing either way.
        let class = object.facts.class;
        let learned = learn(token, plan.spec, usage, class, &capabilities)?;
        if learned.is_some_and(|learned| learned.on == sys::CKR_OK) {
            return Err(not_as(&trial, rv, "the key is enabled and does not work"));
        }
    }
    Ok(read_back())
}

/// Tries the first usage that is off and can be tried: it must be refused, as it is on a scratch key.
pub(crate) fn disabled(
    token: &mut Pkcs11Token,
    session: &Session,
    objects: &[Object],
    plan: &ObjectPlan,
) -> Result<Proof, TokenFailure> {
    check_flags(objects, plan, Want::Deactivated)?;
    let capabilities = token.capabilities(session)?;
    for (object, usage) in candidates(objects, plan, Want::Deactivated) {
        let class = object.facts.class;
        let Some(learned) = learn(token, plan.spec, usage, class, &capabilities)? else {
            continue;
        };
        let public = public_of(objects);
        let Some(trial) = Trial::of(plan.spec, usage, public, &capabilities) else {
            continue;
        };
        if !learned.tells() {
            continue;
        }
        let rv = trial.run(token, object.facts.handle)?;
        if rv == learned.off {
            return Ok(tried(&trial, rv));
        }
        if rv == sys::CKR_OK {
            return Err(not_as(&trial, rv, "the key is disabled and still works"));
        }
        let expected = format!("a disabled key is refused with {}", rv_name(learned.off));
        return Err(not_as(&trial, rv, &expected));
    }
    Ok(read_back())
}

/// Objects with the usages to try: of what hides the key first, then of the public half.
fn candidates<'o>(
    objects: &'o [Object],
    plan: &ObjectPlan,
    want: Want,
) -> Vec<(&'o Object, Usage)> {
    let order = [
        ObjectClass::Secret,
        ObjectClass::Private,
        ObjectClass::Public,
    ];
    let mut candidates = Vec::new();
    for class in order {
        let kept = plan.usage_under(want, class);
        for object in objects.iter().filter(|object| object.facts.class == class) {
            let usages = plan.usage_under(Want::Active, class);
            let usages = usages.iter().filter(|usage| match want {
                Want::Active => true,
                Want::Deactivated | Want::Destroyed => !kept.has(*usage),
            });
            candidates.extend(usages.map(|usage| (object, usage)));
        }
    }
    candidates
}

fn public_of(objects: &[Object]) -> Option<&PublicPart> {
    let of = |class| {
        objects
            .iter()
            .filter(move |object| object.facts.class == class)
            .find_map(|object| object.public.as_ref())
    };
    of(ObjectClass::Public).or_else(|| of(ObjectClass::Private))
}

/// A proof is about an instance whose attributes are as planned: the whole of it.
fn check_flags(objects: &[Object], plan: &ObjectPlan, want: Want) -> Result<(), TokenFailure> {
    let classes = plan.spec.class().objects();
    for class in classes {
        let planned = plan.usage_under(want, *class);
        let mut there = objects.iter().filter(|object| object.facts.class == *class);
        let first = there.next();
        let right = first.is_some_and(|object| object.facts.usage == planned)
            && there.all(|object| object.facts.usage == planned);
        if !right {
            return Err(failure(
                FailureKind::Retry,
                "prove",
                format!("the {} is not there with usage {planned}", class.name()),
            ));
        }
    }
    Ok(())
}

fn tried(trial: &Trial, rv: u64) -> Proof {
    Proof {
        kind: ProofKind::Tried,
        operation: trial.function().to_owned(),
        answer: rv_name(rv),
    }
}

/// Nothing could be tried: what the attributes say is all there is.
const fn read_back() -> Proof {
    Proof {
        kind: ProofKind::ReadBack,
        operation: String::new(),
        answer: String::new(),
    }
}

fn not_as(trial: &Trial, rv: u64, detail: &str) -> TokenFailure {
    TokenFailure {
        // A token that failed in the midst of the trial has not answered it.
        kind: kind_of(rv),
        function: trial.function().to_owned(),
        rv: rv_name(rv),
        detail: detail.to_owned(),
    }
}
