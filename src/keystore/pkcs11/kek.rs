//! The wrapping keys of an internal keystore: one, or two while it is rotated. Label and CKA_ID say the number, so that a look
//! tells them apart, and an interrupted rotation goes on where it was. They cannot share a CKA_ID, by which one search would
//! find them all: NSS takes a second secret key of one CKA_ID in the place of the first, without a word.

use std::collections::BTreeMap;

use cryptoki_sys as sys;

use crate::keystore::pkcs11::failure::{blob_failure, failure, refused};
use crate::keystore::pkcs11::fingerprint;
use crate::keystore::pkcs11::generate::{repository_kek, unwrap_blob};
use crate::keystore::pkcs11::names::{SCRATCH, kek_label, kek_number, named};
use crate::keystore::pkcs11::object::{Object, class_number, discard, find};
use crate::keystore::pkcs11::prepare::{check_own, own_object, strictest};
use crate::keystore::pkcs11::raw::{Handle, Session};
use crate::keystore::pkcs11::rewrap::public_part;
use crate::keystore::pkcs11::spki::PublicPart;
use crate::keystore::pkcs11::template::{Attribute, Mechanism};
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::job::{FailureKind, Generated, INVENTORY_OBJECTS_MAX, TokenFailure};
use crate::model::kek::{KekJob, KekNumber, RewrapCopyJob};
use crate::model::key::{KeySpec, Usage, UsageSet};
use crate::model::material::WRAPPED_BYTES_MAX;
use crate::model::observed::{Fingerprint, ObjectClass};

/// Looks at the wrapping keys, makes one, or destroys one: which there are afterwards.
pub(crate) fn perform(
    token: &mut Pkcs11Token,
    job: KekJob,
) -> Result<Vec<KekNumber>, TokenFailure> {
    let session = token.session()?;
    let there = all(token, &session)?;
    match job {
        KekJob::Look => {}
        KekJob::Make(number) if there.contains_key(&number) => {}
        KekJob::Make(number) => {
            let follows = there.last_key_value().and_then(|(last, _)| last.next());
            if follows != Some(number) {
                return Err(out_of_turn(number, &there));
            }
            make(&session, number)?;
        }
        KekJob::Destroy(number) => {
            let newest = there.last_key_value().map(|(last, _)| *last);
            if newest.is_none_or(|newest| newest <= number) {
                return Err(out_of_turn(number, &there));
            }
            if let Some(kek) = there.get(&number) {
                session.destroy(kek.facts.handle)?;
            }
        }
    }
    Ok(all(token, &session)?.into_keys().collect())
}

fn out_of_turn(number: KekNumber, there: &BTreeMap<KekNumber, Object>) -> TokenFailure {
    let there: Vec<String> = there.keys().map(ToString::to_string).collect();
    let detail = format!(
        "wrapping key {number} is not the one to begin or to end: the token has {}",
        there.join(", ")
    );
    refused("own key", detail)
}

/// The newest wrapping key, made if the token never had one. It never leaves the token.
pub(crate) fn prepare(token: &mut Pkcs11Token, session: &Session) -> Result<Object, TokenFailure> {
    if all(token, session)?.is_empty() {
        make(session, KekNumber::FIRST)?;
    }
    let mut there = all(token, session)?;
    let newest = there.pop_last().map(|(_, kek)| kek);
    newest.ok_or_else(|| refused("prepare", "the wrapping key was made and is not there"))
}

/// The newest wrapping key: what is wrapped from now on is wrapped under it.
pub(crate) fn newest(
    token: &mut Pkcs11Token,
    session: &Session,
) -> Result<Option<(KekNumber, Handle)>, TokenFailure> {
    let newest = token.known.keks.keys().next_back().copied();
    if let Some(number) = newest
        && let Some(handle) = hinted(token, session, number)?
    {
        return Ok(Some((number, handle)));
    }
    let mut there = all(token, session)?;
    Ok(there
        .pop_last()
        .map(|(number, kek)| (number, kek.facts.handle)))
}

/// The wrapping key that opens what is under that number.
pub(crate) fn opening(
    token: &mut Pkcs11Token,
    session: &Session,
    number: KekNumber,
) -> Result<Handle, TokenFailure> {
    if let Some(handle) = hinted(token, session, number)? {
        return Ok(handle);
    }
    let there = all(token, session)?;
    let kek = there.get(&number).ok_or_else(|| {
        // A rotation may just have come to its end: the copy is under the newer key by now.
        let detail = format!("there is no wrapping key {number} on the token");
        failure(FailureKind::Retry, "own key", detail)
    })?;
    Ok(kek.facts.handle)
}

fn hinted(
    token: &Pkcs11Token,
    session: &Session,
    number: KekNumber,
) -> Result<Option<Handle>, TokenFailure> {
    let Some(&hint) = token.known.keks.get(&number) else {
        return Ok(None);
    };
    let Ok(Some(object)) = Object::read(session, hint) else {
        return Ok(None);
    };
    if number_of(&object) != Some(number) {
        return Ok(None);
    }
    check(&object)?;
    Ok(Some(object.facts.handle))
}

/// All of them, each as we make it and once only.
fn all(
    token: &mut Pkcs11Token,
    session: &Session,
) -> Result<BTreeMap<KekNumber, Object>, TokenFailure> {
    let mut there = BTreeMap::new();
    let handles = session.find(&search(), INVENTORY_OBJECTS_MAX)?;
    if handles.len() > INVENTORY_OBJECTS_MAX {
        let detail = format!("the token holds more than {INVENTORY_OBJECTS_MAX} secret keys");
        return Err(refused("own key", detail));
    }
    for handle in handles {
        let Some(object) = named_kek(session, handle)? else {
            continue;
        };
        let Some(number) = number_of(&object) else {
            continue;
        };
        check(&object)?;
        if there.insert(number, object).is_some() {
            let detail = format!("there are several wrapping keys {number}");
            return Err(refused("own key", detail));
        }
    }
    let hints = there
        .iter()
        .map(|(number, kek)| (*number, kek.facts.handle));
    token.known.keks = hints.collect();
    Ok(there)
}

/// All secret keys: no token searches for the beginning of a label.
fn search() -> [Attribute; 2] {
    [
        Attribute::number(sys::CKA_CLASS, class_number(ObjectClass::Secret)),
        Attribute::flag(sys::CKA_TOKEN, true),
    ]
}

/// The object, if its label is a wrapping key's: of the others nothing more is read.
fn named_kek(session: &Session, handle: Handle) -> Result<Option<Object>, TokenFailure> {
    // An object that cannot be read is what a crash left of somebody's key (promises 1.7): it must not hide all others.
    let Ok(values) = session.read(handle, &[(sys::CKA_LABEL, 64)]) else {
        return Ok(None);
    };
    let label = values.bytes(sys::CKA_LABEL).unwrap_or_default();
    let is_one = std::str::from_utf8(label).is_ok_and(|label| kek_number(label).is_some());
    if is_one {
        Ok(Object::read(session, handle)?)
    } else {
        Ok(None)
    }
}

fn number_of(object: &Object) -> Option<KekNumber> {
    let facts = &object.facts;
    let is_one = facts.class == ObjectClass::Secret && facts.cka_id == facts.label.as_bytes();
    kek_number(&facts.label).filter(|_| is_one)
}

fn usage() -> UsageSet {
    UsageSet::of(&[Usage::Wrap, Usage::Unwrap])
}

fn check(kek: &Object) -> Result<(), TokenFailure> {
    if kek.facts.key_type != Some(sys::CKK_AES) {
        return Err(refused("own key", "the wrapping key is not AES"));
    }
    check_own(kek, usage())
}

fn make(session: &Session, number: KekNumber) -> Result<(), TokenFailure> {
    // A second look, by name: SoftHSM2 lists too little beside a busy writer, and a second key would make both useless.
    let class = Attribute::number(sys::CKA_CLASS, class_number(ObjectClass::Secret));
    let mut same = named(&kek_label(number));
    same.push(class);
    if !find(session, &same)?.is_empty() {
        let detail = format!("wrapping key {number} was overlooked at first: look again");
        return Err(failure(FailureKind::Retry, "own key", detail));
    }
    let mechanism = Mechanism::plain(sys::CKM_AES_KEY_GEN);
    strictest(template(number), bound(), |template| {
        session.generate(&mechanism, template).map(drop)
    })
}

/// What a wrapping key is made as.
pub(crate) fn template(number: KekNumber) -> Vec<Attribute> {
    let name = kek_label(number);
    let mut template = own_object(&name, ObjectClass::Secret, sys::CKK_AES, usage());
    template.push(Attribute::number(sys::CKA_VALUE_LEN, 32));
    template
}

/// What it binds the keys to that it unwraps.
pub(crate) fn bound() -> Vec<Attribute> {
    vec![Attribute::flag(sys::CKA_SENSITIVE, true)]
}

/// Wraps a copy of the repository under the newest wrapping key.
pub(crate) fn rewrap_copy(
    token: &mut Pkcs11Token,
    job: &RewrapCopyJob,
) -> Result<Generated, TokenFailure> {
    let session = token.session()?;
    let old = opening(token, &session, job.kek)?;
    let (_newest, rfc5649) = repository_kek(token, &session)?;
    let public = public_part(job.spec, job.spki.as_deref())?;
    let part = public.as_ref();
    let key = unwrap_blob(&session, (old, &rfc5649), &job.blob, job.spec, part)?;
    let wanted = Wanted {
        spec: job.spec,
        salt: &job.salt,
        public: part,
        fingerprint: job.fingerprint,
    };
    let found = wanted.fingerprint_of(token, &session, key)?;
    if found != job.fingerprint {
        let detail = "the repository's copy is not the key of the birth record";
        return Err(failure(FailureKind::WrongKey, "rewrap", detail));
    }
    let (blob, kek) = keep(token, &session, key, &wanted)?;
    Ok(Generated {
        blob,
        spki: job.spki.clone(),
        fingerprint: found,
        kek,
    })
}

/// A key that is to be kept in the repository.
#[derive(Debug)]
pub(crate) struct Wanted<'w> {
    pub(crate) spec: KeySpec,
    pub(crate) salt: &'w [u8],
    pub(crate) public: Option<&'w PublicPart>,
    pub(crate) fingerprint: Fingerprint,
}

impl Wanted<'_> {
    fn fingerprint_of(
        &self,
        token: &Pkcs11Token,
        session: &Session,
        key: Handle,
    ) -> Result<Fingerprint, TokenFailure> {
        fingerprint::of_session_object(token, session, key, self.public, self.spec, self.salt)
    }
}

/// Wraps a session object under the newest wrapping key, destroys it, and opens the blob again before anybody relies on it.
pub(crate) fn keep(
    token: &mut Pkcs11Token,
    session: &Session,
    key: Handle,
    wanted: &Wanted<'_>,
) -> Result<(Vec<u8>, KekNumber), TokenFailure> {
    let (kek, rfc5649) = repository_kek(token, session)?;
    let number = token.known.newest_kek();
    let blob = session
        .wrap(&rfc5649, kek, key)
        .map_err(|failed| blob_failure(session, failed, kek))?;
    if blob.len() > WRAPPED_BYTES_MAX {
        return Err(refused("C_WrapKey", "the wrapped key is too long"));
    }
    discard(session, key, SCRATCH.as_bytes())?;
    let again = unwrap_blob(session, (kek, &rfc5649), &blob, wanted.spec, wanted.public)?;
    let proved = wanted.fingerprint_of(token, session, again)?;
    discard(session, again, SCRATCH.as_bytes())?;
    if proved != wanted.fingerprint {
        let detail = "the wrapped key does not unwrap to itself";
        return Err(failure(FailureKind::WrongKey, "keep", detail));
    }
    Ok((blob, number))
}
