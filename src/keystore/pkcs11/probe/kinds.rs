//! What works for keys of each algorithm: which sizes are made, what unwrapping makes of them, which usages can be barred.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::envelope;
use crate::keystore::pkcs11::failure::rv_name;
use crate::keystore::pkcs11::generate::{hidden_class, make};
use crate::keystore::pkcs11::mechanism::{self, session_key};
use crate::keystore::pkcs11::names::{SCRATCH, named};
use crate::keystore::pkcs11::object::{Object, attribute_of, discard};
use crate::keystore::pkcs11::probe::wrapping::Wrapper;
use crate::keystore::pkcs11::raw::{CallFailed, Session};
use crate::keystore::pkcs11::staged;
use crate::keystore::pkcs11::template::Attribute;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::keystore::pkcs11::trial::{Learned, Trial, make_usable, scratch_spec};
use crate::model::capabilities::{Capabilities, FlagChange, KindCapabilities, Unwrap, UsageTrial};
use crate::model::job::TokenFailure;
use crate::model::key::{Algorithm, KeySpec, Usage, UsageSet};
use crate::model::observed::ObjectClass;

/// Sizes that are tried, the one that everything else is tried with first.
const SIZES: [(Algorithm, &[u32]); 5] = [
    (Algorithm::Aes, &[256, 128, 192]),
    (Algorithm::Hmac, &[256, 160, 384, 512]),
    (Algorithm::Des, &[192]),
    (Algorithm::Ec, &[256, 384, 521]),
    (Algorithm::Rsa, &[2048, 3072, 4096]),
];

/// All algorithms of which the token makes keys.
pub(super) fn try_kinds(
    token: &mut Pkcs11Token,
    session: &Session,
    wrapper: &Wrapper,
    capabilities: &Capabilities,
) -> Result<Vec<KindCapabilities>, TokenFailure> {
    let mut kinds = Vec::new();
    for (algorithm, sizes) in SIZES {
        let specs: Vec<KeySpec> = sizes
            .iter()
            .filter_map(|bits| KeySpec::new(algorithm, *bits).ok())
            .collect();
        let Some(first) = specs.first() else { continue };
        let mut kind = KindCapabilities {
            algorithm,
            sizes: sizes_of(token, session, &specs),
            unwrap: Unwrap::Impossible,
            usages: Vec::new(),
        };
        if !kind.sizes.contains(&first.bits()) {
            continue;
        }
        kind.sizes.sort_unstable();
        kind.unwrap = unwrap(session, wrapper, *first);
        kind.usages = usages(token, session, *first, capabilities)?;
        kinds.push(kind);
    }
    Ok(kinds)
}

fn sizes_of(token: &Pkcs11Token, session: &Session, specs: &[KeySpec]) -> Vec<u32> {
    let works = |spec: &&KeySpec| {
        if scratch_spec(**spec) != **spec {
            // RSA keys take long to make.
            return token
                .mechanism_sizes(mechanism::generation(**spec).kind)
                .is_some_and(|(_, most)| most >= u64::from(spec.bits()));
        }
        let Ok(made) = make(session, **spec, UsageSet::NONE, false) else {
            return false;
        };
        let public = made.public.as_ref().map(|(handle, _)| *handle);
        for handle in public.into_iter().chain([made.key]) {
            let _dies_with_the_session: Result<(), CallFailed> =
                discard(session, handle, SCRATCH.as_bytes());
        }
        true
    };
    specs.iter().filter(works).map(|spec| spec.bits()).collect()
}

/// Wraps a key of the kind and unwraps it as an install does: hidden, and with all usage off.
fn unwrap(session: &Session, wrapper: &Wrapper, spec: KeySpec) -> Unwrap {
    let attempt = || -> Result<Unwrap, TokenFailure> {
        let Some(mechanism) = wrapper.mechanism() else {
            return Ok(Unwrap::Impossible);
        };
        let made = make(session, spec, UsageSet::NONE, true)?;
        let public = made.public.as_ref().map(|(_, part)| part);
        let blob = session.wrap(&mechanism, wrapper.key, made.key)?;
        let (class, kind) = (hidden_class(spec), mechanism::key_type(spec));
        let template = session_key(class, kind, UsageSet::NONE, false);
        let from = (template.as_slice(), public);
        let key = envelope::unwrap(session, &mechanism, wrapper.key, &blob, from)?;
        if staged::is_hidden(session, key)? {
            return Ok(Unwrap::Honest);
        }
        staged::put_right(session, key)?;
        // The scratch name stays, so that a crash here leaves nothing that the next trials do not clear.
        let copy = staged::copy_to_token(session, key, &named(SCRATCH))?;
        let is_hidden = staged::is_hidden(session, copy)?;
        discard(session, copy, SCRATCH.as_bytes())?;
        Ok(if is_hidden {
            Unwrap::Staged
        } else {
            Unwrap::Impossible
        })
    };
    attempt().unwrap_or(Unwrap::Impossible)
}

/// Makes a key with all usages on, and switches off one after the other.
fn usages(
    token: &mut Pkcs11Token,
    session: &Session,
    spec: KeySpec,
    capabilities: &Capabilities,
) -> Result<Vec<UsageTrial>, TokenFailure> {
    let Ok(made) = make_usable(session, spec) else {
        return Ok(Vec::new());
    };
    let public = made.public.as_ref().map(|(_, part)| part);
    let mut objects = vec![(hidden_class(spec), made.key)];
    objects.extend(
        made.public
            .as_ref()
            .map(|(handle, _)| (ObjectClass::Public, *handle)),
    );
    let mut trials = Vec::new();
    for (class, key) in objects {
        for usage in UsageSet::of(&Usage::ALL).for_class(class).iter() {
            let Some(object) = Object::read(session, key)? else {
                continue;
            };
            if !object.facts.usage.has(usage) {
                continue;
            }
            let trial = Trial::of(spec, usage, public, capabilities);
            trials.push(switch_off(
                token,
                session,
                &object,
                (spec, usage),
                trial.as_ref(),
            )?);
        }
    }
    Ok(trials)
}

fn switch_off(
    token: &mut Pkcs11Token,
    session: &Session,
    object: &Object,
    (spec, usage): (KeySpec, Usage),
    trial: Option<&Trial>,
) -> Result<UsageTrial, TokenFailure> {
    let (class, key) = (object.facts.class, object.facts.handle);
    let on = trial.map(|trial| trial.run(token, key)).transpose()?;
    let set = session.set(key, &[Attribute::flag(attribute_of(usage), false)]);
    let after = Object::read(session, key)?;
    let is_off = after.is_some_and(|object| !object.facts.usage.has(usage));
    let mut told = UsageTrial {
        class,
        usage,
        change: FlagChange::Refused,
        answer: String::new(),
    };
    if let Err(failed) = set {
        told.answer = rv_name(failed.rv);
    }
    if !is_off {
        return Ok(told);
    }
    told.change = FlagChange::ReadBack;
    if let (Some(trial), Some(on)) = (trial, on) {
        let off = trial.run(token, key)?;
        token
            .known
            .learned
            .insert((spec, usage, class), Learned { on, off });
        if on == sys::CKR_OK {
            told.answer = rv_name(off);
            told.change = if off == sys::CKR_OK {
                FlagChange::NotEnforced
            } else {
                FlagChange::Enforced
            };
        }
    }
    Ok(told)
}
