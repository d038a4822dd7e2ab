//! Keys on a token that others made: which objects are one key, what kind it is, whether it can be adopted as it is, and what
//! about it is weak.

use std::collections::BTreeMap;

use crate::model::adoption::{Adoption, AdoptionRecord, FoundKey};
use crate::model::desired::CKA_ID_BYTES_MAX;
use crate::model::finding::KeyFinding;
use crate::model::ids::KeystoreId;
use crate::model::key::{Algorithm, KeyClass, KeySpec, Usage, UsageSet};
use crate::model::observed::{Found, ObjectClass, ObjectFacts};
use crate::model::vault::UnixMs;

/// Longest label of a key that is adopted, bytes, after it was made printable: it travels and is kept with every intent.
pub const LABEL_BYTES_MAX: usize = 1024;

/// CKK_RSA (PKCS#11 v3.1, 4.2 and the header).
const CKK_RSA: u64 = 0x00;
/// CKK_EC.
const CKK_EC: u64 = 0x03;
/// CKK_GENERIC_SECRET.
const CKK_GENERIC_SECRET: u64 = 0x10;
/// CKK_DES3.
const CKK_DES3: u64 = 0x15;
/// CKK_AES.
const CKK_AES: u64 = 0x1f;

/// Why a key cannot be adopted as it is. Each is for a person to put right on the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unadoptable {
    /// Nothing to name it by.
    #[error("it has no CKA_ID, so it cannot be told from others: give it one on the token")]
    NoId,
    /// Too long to be handled.
    #[error("its CKA_ID has more than {CKA_ID_BYTES_MAX} bytes")]
    LongId,
    /// Longer than any label ought to be.
    #[error("its label has more than {LABEL_BYTES_MAX} bytes")]
    LongLabel,
    /// Several objects of one class.
    #[error("more than one {} has its CKA_ID: which one is meant cannot be told", .0.name())]
    Duplicated(ObjectClass),
    /// A secret key and a pair.
    #[error("a secret key and a {} share its CKA_ID: which one is meant cannot be told", .0.name())]
    Mixed(ObjectClass),
    /// A half is missing.
    #[error("half a pair: its {} is not on the token", .0.name())]
    HalfPair(ObjectClass),
    /// Not a kind that Lockstep manages, or the token does not tell enough.
    #[error("unknown kind of key: {0}")]
    UnknownKind(String),
    /// The halves have other names.
    #[error("the halves of the pair have different labels: give them one on the token")]
    LabelsDiffer,
    /// What is on cannot be kept as it is.
    #[error("its usage cannot be kept as it is: {0}")]
    UnevenUsage(String),
    /// It could never be disabled.
    #[error(
        "its {} can neither be changed nor copied (CKA_MODIFIABLE and CKA_COPYABLE are off), so it could never be disabled: \
         leave it to others, or replace it by a key of Lockstep's own",
        .0.name()
    )]
    NotModifiable(ObjectClass),
    /// The token gave no fingerprint.
    #[error("no fingerprint could be had, so nobody could say later that it is the same key: {0}")]
    NoFingerprint(String),
    /// Private and public half are of two keys.
    #[error("its private and public half do not belong together")]
    HalvesDiffer,
}

impl Unadoptable {
    /// For programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoId | Self::LongId => "unusable_cka_id",
            Self::LongLabel => "unusable_label",
            Self::Duplicated(_) | Self::Mixed(_) => "duplicated_cka_id",
            Self::HalfPair(_) => "half_pair",
            Self::UnknownKind(_) => "unknown_key_type",
            Self::LabelsDiffer => "labels_differ",
            Self::UnevenUsage(_) => "uneven_usage",
            Self::NotModifiable(_) => "not_modifiable",
            Self::NoFingerprint(_) => "no_fingerprint",
            Self::HalvesDiffer => "halves_differ",
        }
    }
}

/// The keys that these objects make up, by label and CKA_ID.
#[must_use]
pub fn found_keys(objects: &[ObjectFacts]) -> Vec<FoundKey> {
    let mut groups: BTreeMap<(&[u8], &str), Vec<ObjectFacts>> = BTreeMap::new();
    for facts in objects {
        let label = if facts.cka_id.is_empty() {
            facts.label.as_str()
        } else {
            ""
        };
        let group = groups.entry((&facts.cka_id, label)).or_default();
        group.push(facts.clone());
    }
    let mut keys: Vec<FoundKey> = groups.into_values().filter_map(FoundKey::of).collect();
    keys.sort_by(|a, b| (&a.label, &a.cka_id).cmp(&(&b.label, &b.cka_id)));
    keys
}

impl FoundKey {
    fn only(&self, class: ObjectClass) -> Option<&ObjectFacts> {
        self.objects.iter().find(|facts| facts.class == class)
    }

    fn count(&self, class: ObjectClass) -> usize {
        self.objects.iter().filter(|o| o.class == class).count()
    }

    /// Algorithm and size, as far as its objects tell.
    ///
    /// # Errors
    /// [`Unadoptable::UnknownKind`] says what is not known.
    pub fn spec(&self) -> Result<KeySpec, Unadoptable> {
        let unknown = |why: String| Unadoptable::UnknownKind(why);
        let first = self.objects.first();
        let first = first.ok_or_else(|| unknown("it is not on the token".to_owned()))?;
        let number = first
            .key_type
            .ok_or_else(|| unknown("the token does not tell CKA_KEY_TYPE".to_owned()))?;
        let algorithm = match (number, first.class) {
            (CKK_RSA, ObjectClass::Private | ObjectClass::Public) => Algorithm::Rsa,
            (CKK_EC, ObjectClass::Private | ObjectClass::Public) => Algorithm::Ec,
            (CKK_GENERIC_SECRET, ObjectClass::Secret) => Algorithm::Hmac,
            (CKK_DES3, ObjectClass::Secret) => Algorithm::Des,
            (CKK_AES, ObjectClass::Secret) => Algorithm::Aes,
            (other, class) => {
                let what = format!("CKA_KEY_TYPE {other:#x} of a {}", class.name());
                return Err(unknown(what));
            }
        };
        // DES3 has one size, and CKA_VALUE_LEN is no attribute of it. Of a pair the public half tells.
        let told = self.objects.iter().rev().find_map(|facts| facts.bits);
        let bits = match algorithm {
            Algorithm::Des => 192,
            Algorithm::Aes | Algorithm::Hmac | Algorithm::Ec | Algorithm::Rsa => {
                told.ok_or_else(|| {
                    unknown(format!(
                        "the token does not tell the size or curve of the {} key",
                        algorithm.name()
                    ))
                })?
            }
        };
        KeySpec::new(algorithm, bits).map_err(|invalid| unknown(invalid.to_string()))
    }

    /// Whether it can be adopted without changing anything on the token, as far as its attributes tell; its kind if so.
    ///
    /// # Errors
    /// [`Unadoptable`] says what stands in the way.
    pub fn adoptable(&self) -> Result<KeySpec, Unadoptable> {
        if self.cka_id.is_empty() {
            return Err(Unadoptable::NoId);
        }
        if self.cka_id.len() > CKA_ID_BYTES_MAX {
            return Err(Unadoptable::LongId);
        }
        if self.label.len() > LABEL_BYTES_MAX {
            return Err(Unadoptable::LongLabel);
        }
        self.check_number()?;
        let spec = self.spec()?;
        if self.objects.iter().any(|facts| facts.label != self.label) {
            return Err(Unadoptable::LabelsDiffer);
        }
        self.check_usage()?;
        let is_stuck =
            |facts: &&ObjectFacts| facts.modifiable == Some(false) && facts.copyable == Some(false);
        match self.objects.iter().find(is_stuck) {
            Some(facts) => Err(Unadoptable::NotModifiable(facts.class)),
            None => Ok(spec),
        }
    }

    /// One object of each class, and a pair whole.
    fn check_number(&self) -> Result<(), Unadoptable> {
        use ObjectClass::{Private, Public, Secret};
        let doubled = [Secret, Private, Public]
            .into_iter()
            .find(|class| self.count(*class) > 1);
        if let Some(class) = doubled {
            return Err(Unadoptable::Duplicated(class));
        }
        match (self.count(Secret), self.count(Private), self.count(Public)) {
            (1, 0, 0) | (0, 1, 1) => Ok(()),
            (1, 1, _) => Err(Unadoptable::Mixed(Private)),
            (1, 0, _) => Err(Unadoptable::Mixed(Public)),
            (_, 1, _) => Err(Unadoptable::HalfPair(Public)),
            (_, _, 1) => Err(Unadoptable::HalfPair(Private)),
            _ => Err(Unadoptable::UnknownKind(
                "it is not on the token".to_owned(),
            )),
        }
    }

    /// A managed key has one set of usages, of which each half has those that its class can have. What is on otherwise would be
    /// changed by the first activation.
    fn check_usage(&self) -> Result<(), Unadoptable> {
        let all = self.usage();
        let uneven = self
            .objects
            .iter()
            .find(|facts| facts.usage != all.for_class(facts.class) && !all.is_empty());
        match uneven {
            None => Ok(()),
            Some(facts) => Err(Unadoptable::UnevenUsage(format!(
                "the {} has {} where {} belongs to the whole key",
                facts.class.name(),
                facts.usage,
                all.for_class(facts.class)
            ))),
        }
    }

    /// What is weak about it.
    #[must_use]
    pub fn findings(&self) -> Vec<KeyFinding> {
        findings(
            self.usage(),
            self.sensitive().unwrap_or(true),
            self.extractable().unwrap_or(false),
        )
    }
}

/// The record of a key that an agent looked at under its CKA_ID, not yet signed.
///
/// # Errors
/// [`Unadoptable`] says why there can be none.
pub fn record(
    keystore: KeystoreId,
    found: Found,
    salt: Vec<u8>,
    at: UnixMs,
) -> Result<AdoptionRecord, Unadoptable> {
    let gone = || Unadoptable::UnknownKind("it is not on the token any more".to_owned());
    let key = FoundKey::of(found.objects).ok_or_else(gone)?;
    let spec = key.adoptable()?;
    let fingerprint = found.fingerprint.ok_or_else(|| {
        let why = found.fingerprint_failure.unwrap_or_default();
        Unadoptable::NoFingerprint(why)
    })?;
    let public = key.only(ObjectClass::Public);
    let told = public.and_then(|facts| facts.public_digest);
    if spec.class() == KeyClass::Pair && told.is_some_and(|told| told != fingerprint.value) {
        return Err(Unadoptable::HalvesDiffer);
    }
    Ok(AdoptionRecord {
        keystore,
        spec,
        fingerprint,
        salt,
        usage: key.usage(),
        sensitive: key.sensitive().unwrap_or(false),
        extractable: key.extractable().unwrap_or(true),
        at,
        cka_id: key.cka_id,
        label: key.label,
    })
}

/// What is weak about a key with these usages and this protection.
#[must_use]
pub fn findings(usage: UsageSet, sensitive: bool, extractable: bool) -> Vec<KeyFinding> {
    let both = |one, other| usage.has(one) && usage.has(other);
    [
        (
            KeyFinding::WrapAndDecrypt,
            both(Usage::Wrap, Usage::Decrypt),
        ),
        (
            KeyFinding::SignAndDecrypt,
            both(Usage::Sign, Usage::Decrypt),
        ),
        (KeyFinding::NotSensitive, !sensitive),
        (KeyFinding::Extractable, extractable),
    ]
    .into_iter()
    .filter_map(|(finding, is_so)| is_so.then_some(finding))
    .collect()
}

/// What is weak about an adopted instance: as it is now where that is known, else as it was adopted. Of one that is disabled
/// the usages count that it gets back.
#[must_use]
pub fn findings_of(adoption: &Adoption, usage: UsageSet, now: Option<&Found>) -> Vec<KeyFinding> {
    let record = &adoption.record.body;
    let now = now.and_then(|found| FoundKey::of(found.objects.clone()));
    let sensitive = now.as_ref().and_then(FoundKey::sensitive);
    let extractable = now.as_ref().and_then(FoundKey::extractable);
    findings(
        usage,
        sensitive.unwrap_or(record.sensitive),
        extractable.unwrap_or(record.extractable),
    )
}

/// Whether an adopted key is protected less than when it was adopted.
#[must_use]
pub fn is_weakened(adoption: &Adoption, now: &Found) -> bool {
    let record = &adoption.record.body;
    let Some(key) = FoundKey::of(now.objects.clone()) else {
        return false;
    };
    (record.sensitive && key.sensitive() == Some(false))
        || (!record.extractable && key.extractable() == Some(true))
}

/// Whether a label fits a pattern, in which `*` stands for any characters, and everything else for itself.
#[must_use]
pub fn fits_pattern(label: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| label.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        // No star at all.
        return rest.is_empty();
    };
    let mut rest = rest;
    for part in middle {
        match rest.split_once(part) {
            Some((_before, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests;
