//! What this process has learned of its token: capabilities, refusals, and handles of its own keys as hints.

use std::collections::BTreeMap;

use crate::keystore::pkcs11::failure::refused;
use crate::keystore::pkcs11::names::named;
use crate::keystore::pkcs11::object::{Object, class_number, matching};
use crate::keystore::pkcs11::raw::{Handle, Session};
use crate::keystore::pkcs11::template::Attribute;
use crate::keystore::pkcs11::trial::Learned;
use crate::model::capabilities::Capabilities;
use crate::model::job::TokenFailure;
use crate::model::kek::KekNumber;
use crate::model::key::{KeySpec, Usage};
use crate::model::observed::ObjectClass;

/// Learned since the start of this process.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// What works, once it was tried.
    pub(crate) capabilities: Option<Capabilities>,
    /// What the token answers with the usage on and off, per kind of key and usage.
    pub(crate) learned: BTreeMap<(KeySpec, Usage, ObjectClass), Learned>,
    /// Whether this process has seen a marker on the token.
    pub(crate) marker_seen: bool,
    /// Where the wrapping keys were last: checked before every use.
    pub(crate) keks: BTreeMap<KekNumber, Handle>,
    /// Where our other own keys were last: checked before every use.
    own: BTreeMap<(&'static str, ObjectClass), Handle>,
}

impl Known {
    /// The number of the wrapping key that was last found to be the newest.
    pub(crate) fn newest_kek(&self) -> KekNumber {
        self.keks.keys().next_back().copied().unwrap_or_default()
    }

    /// One of the agent's own keys.
    ///
    /// # Errors
    /// `Refused` if there are several, or what the module said.
    pub(crate) fn own_key(
        &mut self,
        session: &Session,
        name: &'static str,
        class: ObjectClass,
    ) -> Result<Option<Object>, TokenFailure> {
        let key = (name, class);
        let is_it = |object: &Object| {
            object.facts.class == class
                && object.facts.cka_id == name.as_bytes()
                && object.facts.label == name
        };
        if let Some(&hint) = self.own.get(&key)
            && let Ok(Some(object)) = Object::read(session, hint)
            && is_it(&object)
        {
            return Ok(Some(object));
        }
        let mut template = vec![Attribute::number(
            cryptoki_sys::CKA_CLASS,
            class_number(class),
        )];
        template.extend(named(name));
        let mut found = matching(session, template)?;
        found.retain(is_it);
        if found.len() > 1 {
            return Err(refused(
                "own key",
                format!("{} objects are named {name}", found.len()),
            ));
        }
        let found = found.pop();
        match &found {
            Some(object) => self.own.insert(key, object.facts.handle),
            None => self.own.remove(&key),
        };
        Ok(found)
    }
}
