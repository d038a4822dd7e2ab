//! Records by id or by name. A name that several records have is told, never guessed.

use uuid::Uuid;

use crate::cli::client::{Answer, Client, ClientError};
use crate::cli::exit::Exit;
use crate::model::lifecycle::ManagedState;
use crate::rest::keystore::{Keystore, KeystoreList};
use crate::rest::managed_key::{ManagedKey, ManagedKeyList};
use crate::rest::template::{Template, TemplateList};
use crate::rest::vault::{Vault, VaultList};

/// Why a name leads to no record.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is none.
    #[error("there is no {kind} {name:?}")]
    None {
        /// What was looked for.
        kind: &'static str,
        /// By which name.
        name: String,
    },
    /// There are several.
    #[error("{} {kind}s are called {name:?}: give --vault, or one of the ids {}", ids.len(), ids.join(", "))]
    Several {
        /// What was looked for.
        kind: &'static str,
        /// By which name.
        name: String,
        /// Which there are.
        ids: Vec<String>,
    },
    /// The coordinator could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl FindError {
    /// How a command that met it ends.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::None { .. } => Exit::Refused,
            Self::Several { .. } => Exit::Usage,
            Self::Client(error) => error.exit(),
        }
    }
}

fn is_id(text: &str) -> bool {
    Uuid::try_parse(text).is_ok()
}

fn only(kind: &'static str, name: &str, mut ids: Vec<String>) -> Result<String, FindError> {
    match (ids.pop(), ids.is_empty()) {
        (None, _) => Err(FindError::None {
            kind,
            name: name.to_owned(),
        }),
        (Some(id), true) => Ok(id),
        (Some(id), false) => {
            ids.push(id);
            Err(FindError::Several {
                kind,
                name: name.to_owned(),
                ids,
            })
        }
    }
}

/// The path of a vault.
#[must_use]
pub fn vault_path(id: &str) -> String {
    format!("/api/v4/vaults/{id}")
}

/// The path of a keystore.
#[must_use]
pub fn keystore_path(id: &str) -> String {
    format!("/api/v4/keystores/{id}")
}

/// The path of a template.
#[must_use]
pub fn template_path(id: &str) -> String {
    format!("/api/v4/templates/{id}")
}

/// The path of a key.
#[must_use]
pub fn key_path(id: &str) -> String {
    format!("/api/v4/managed_keys/{id}")
}

/// A vault's id.
///
/// # Errors
/// [`FindError`].
pub fn vault_id(client: &Client, named: &str) -> Result<String, FindError> {
    if is_id(named) {
        return Ok(named.to_owned());
    }
    let found = client.all::<VaultList>("/api/v4/vaults", &[("name", named)])?;
    let fits = found.into_iter().filter(|vault| vault.name == named);
    only("vault", named, fits.map(|vault| vault.id).collect())
}

/// A vault as it is now.
///
/// # Errors
/// [`FindError`].
pub fn vault(client: &Client, named: &str) -> Result<Answer<Vault>, FindError> {
    Ok(client.one(&vault_path(&vault_id(client, named)?))?)
}

/// The query that narrows a list to a vault.
fn within(client: &Client, vault: Option<&str>) -> Result<Vec<(&'static str, String)>, FindError> {
    let id = vault.map(|named| vault_id(client, named)).transpose()?;
    Ok(id.map(|id| ("vault.id", id)).into_iter().collect())
}

/// A keystore's id.
///
/// # Errors
/// [`FindError`].
pub fn keystore_id(client: &Client, vault: Option<&str>, named: &str) -> Result<String, FindError> {
    if is_id(named) {
        return Ok(named.to_owned());
    }
    let narrow = within(client, vault)?;
    let mut query = vec![("name", named)];
    query.extend(narrow.iter().map(|(name, value)| (*name, value.as_str())));
    let found = client.all::<KeystoreList>("/api/v4/keystores", &query)?;
    let fits = found.into_iter().filter(|keystore| keystore.name == named);
    only(
        "keystore",
        named,
        fits.map(|keystore| keystore.id).collect(),
    )
}

/// A keystore as it is now.
///
/// # Errors
/// [`FindError`].
pub fn keystore(
    client: &Client,
    vault: Option<&str>,
    named: &str,
) -> Result<Answer<Keystore>, FindError> {
    Ok(client.one(&keystore_path(&keystore_id(client, vault, named)?))?)
}

/// A template as it is now.
///
/// # Errors
/// [`FindError`].
pub fn template(
    client: &Client,
    vault: Option<&str>,
    named: &str,
) -> Result<Answer<Template>, FindError> {
    let id = if is_id(named) {
        named.to_owned()
    } else {
        let narrow = within(client, vault)?;
        let mut query = vec![("name", named)];
        query.extend(narrow.iter().map(|(name, value)| (*name, value.as_str())));
        let found = client.all::<TemplateList>("/api/v4/templates", &query)?;
        let fits = found.into_iter().filter(|template| template.name == named);
        only(
            "template",
            named,
            fits.map(|template| template.id).collect(),
        )?
    };
    Ok(client.one(&template_path(&id))?)
}

/// A key as it is now: of those with that label the one that lives, else the one that was destroyed.
///
/// # Errors
/// [`FindError`].
pub fn key(
    client: &Client,
    vault: Option<&str>,
    named: &str,
) -> Result<Answer<ManagedKey>, FindError> {
    Ok(client.one(&key_path(&key_id(client, vault, named)?))?)
}

fn key_id(client: &Client, vault: Option<&str>, named: &str) -> Result<String, FindError> {
    if is_id(named) {
        return Ok(named.to_owned());
    }
    let narrow = within(client, vault)?;
    let of_states = |destroyed: bool| {
        let states: Vec<&str> = ManagedState::ALL
            .into_iter()
            .filter(|state| state.is_destroyed() == destroyed)
            .map(ManagedState::name)
            .collect();
        let states = states.join(",");
        let mut query = vec![("label", named), ("state", states.as_str())];
        query.extend(narrow.iter().map(|(name, value)| (*name, value.as_str())));
        let found = client.all::<ManagedKeyList>("/api/v4/managed_keys", &query)?;
        let fits = found.into_iter().filter(|key| key.label == named);
        Ok::<Vec<String>, FindError>(fits.map(|key| key.id).collect())
    };
    let mut ids = of_states(false)?;
    if ids.is_empty() {
        ids = of_states(true)?;
    }
    only("key", named, ids)
}

#[cfg(test)]
mod tests {
    use crate::cli::find::only;

    #[test]
    fn names_are_never_guessed_about() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(only("key", "k", ids(&["a"])).unwrap(), "a");
        let none = only("key", "k", ids(&[])).unwrap_err();
        assert_eq!(none.to_string(), "there is no key \"k\"");
        let several = only("key", "k", ids(&["a", "b"])).unwrap_err();
        assert_eq!(
            several.to_string(),
            "2 keys are called \"k\": give --vault, or one of the ids a, b"
        );
    }
}
