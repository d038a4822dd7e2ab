//! Intents: what is wanted, with the digest that the reader makes again.

use crate::model::desired::{Applied, CKA_ID_BYTES_MAX, Intent, ObjectPlan};
use crate::model::ids::{Generation, KeyVersionId, KeystoreId};
use crate::wire::invalid::{InvalidMessage, at_most, digest, id, message, text, word};
use crate::wire::key::usage;
use crate::wire::limits::{LABEL_BYTES_MAX, SALT_BYTES_MAX};
use crate::wire::v1;

impl From<ObjectPlan> for v1::ObjectPlan {
    fn from(plan: ObjectPlan) -> Self {
        Self {
            cka_id: plan.cka_id,
            label: plan.label,
            spec: Some(plan.spec.into()),
            usage: u32::from(plan.usage.bits()),
            deactivated_usage: v1::DeactivatedUsage::from(plan.deactivated_usage).into(),
            salt: plan.salt,
            strategy: v1::Strategy::from(plan.strategy).into(),
        }
    }
}

impl TryFrom<v1::ObjectPlan> for ObjectPlan {
    type Error = InvalidMessage;

    fn try_from(raw: v1::ObjectPlan) -> Result<Self, InvalidMessage> {
        if raw.cka_id.is_empty() {
            return Err(InvalidMessage::new("cka_id", "is empty"));
        }
        Ok(Self {
            cka_id: at_most(raw.cka_id, CKA_ID_BYTES_MAX, "cka_id")?,
            label: text(raw.label, LABEL_BYTES_MAX, "label")?,
            spec: message(raw.spec, "spec")?,
            usage: usage(raw.usage, "usage")?,
            deactivated_usage: word::<v1::DeactivatedUsage, _>(
                raw.deactivated_usage,
                "deactivated_usage",
            )?,
            salt: at_most(raw.salt, SALT_BYTES_MAX, "salt")?,
            strategy: word::<v1::Strategy, _>(raw.strategy, "strategy")?,
        })
    }
}

impl From<Intent> for v1::Intent {
    fn from(intent: Intent) -> Self {
        let digest = intent.digest().0.to_vec();
        Self {
            version: intent.version.uuid().as_bytes().to_vec(),
            keystore: intent.keystore.uuid().as_bytes().to_vec(),
            generation: intent.generation.0,
            want: v1::Want::from(intent.want).into(),
            object: Some(intent.object.into()),
            fingerprint: Some(intent.fingerprint.into()),
            digest,
        }
    }
}

impl TryFrom<v1::Intent> for Intent {
    type Error = InvalidMessage;

    /// The digest that came along must be the one of what was read.
    fn try_from(raw: v1::Intent) -> Result<Self, InvalidMessage> {
        let claimed = digest(&raw.digest, "digest")?;
        let intent = Self {
            version: id(&raw.version, KeyVersionId::from_uuid, "version")?,
            keystore: id(&raw.keystore, KeystoreId::from_uuid, "keystore")?,
            generation: Generation(raw.generation),
            want: word::<v1::Want, _>(raw.want, "want")?,
            object: message(raw.object, "object")?,
            fingerprint: message(raw.fingerprint, "fingerprint")?,
        };
        let made = intent.digest();
        if made == claimed {
            Ok(intent)
        } else {
            let problem = format!("is {claimed}, but the fields give {made}");
            Err(InvalidMessage::new("digest", problem))
        }
    }
}

impl From<Applied> for v1::Applied {
    fn from(applied: Applied) -> Self {
        Self {
            generation: applied.generation.0,
            want: v1::Want::from(applied.want).into(),
            digest: applied.digest.0.to_vec(),
        }
    }
}

impl TryFrom<v1::Applied> for Applied {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Applied) -> Result<Self, InvalidMessage> {
        Ok(Self {
            generation: Generation(raw.generation),
            want: word::<v1::Want, _>(raw.want, "want")?,
            digest: digest(&raw.digest, "digest")?,
        })
    }
}
