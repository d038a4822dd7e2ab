//! What every store must do: one suite over `&dyn Store`. What only one of them must do is in `sqlite` and `postgres`.

mod adoption;
mod bulk;
mod changes;
mod copying;
mod keys;
pub(crate) mod postgres;
mod processes;
mod records;
mod recoveries;
mod rotations;
mod sqlite;
mod vaults;

use std::sync::Arc;

use crate::store_contract::records::{change, key, keystore, template, vault};
use lockstep::coordinator::store::{Page, Store, StoreError, Write};
use lockstep::model::key::ManagedKey;
use lockstep::model::keystore::KeystoreRecord;
use lockstep::model::template::KeyTemplate;
use lockstep::model::vault::Vault;

/// Takes back what the fourth schema brought.
pub(crate) const BEFORE_TIME: &str = "
    DROP TABLE bulk_key; DROP TABLE bulk;
    DROP INDEX key_version_fingerprint; ALTER TABLE key_version DROP COLUMN fingerprint;
    DROP INDEX key_activation; ALTER TABLE key DROP COLUMN activation_open;
    DROP INDEX key_expiration; ALTER TABLE key DROP COLUMN expiration_open;
    DROP INDEX key_rotation; ALTER TABLE key DROP COLUMN rotation_date;
    DROP INDEX key_hold; ALTER TABLE key DROP COLUMN hold_until;
    DROP INDEX key_coming; ALTER TABLE key DROP COLUMN coming;
    CREATE INDEX key_fingerprint ON key (vault, fingerprint);
    PRAGMA user_version = 3;";

const ALL: Page = Page {
    limit: 1000,
    offset: 0,
};

/// The suite. Each part makes a vault of its own, so the store may hold other things.
pub(crate) async fn contract(store: Arc<dyn Store>) {
    vaults::vaults(&*store).await;
    vaults::names(&*store).await;
    vaults::templates(&*store).await;
    vaults::template_changes(&*store).await;
    vaults::keystores(&*store).await;
    vaults::keystore_in_use(&*store).await;
    keys::keys(&*store).await;
    keys::key_lists(&*store).await;
    keys::key_sorting(&*store).await;
    keys::key_dates(&*store).await;
    keys::key_versions(&*store).await;
    keys::key_deletion(&*store).await;
    keys::instances(&*store).await;
    keys::repository_copies(&*store).await;
    rotations::rotations(&*store).await;
    recoveries::recoveries(&*store).await;
    bulk::bulk_changes(&*store).await;
    adoption::material(&*store).await;
    adoption::ids(&*store).await;
    adoption::ignored(&*store).await;
    changes::atomicity(&*store).await;
    changes::operations(&*store).await;
    changes::pruning(&*store).await;
    changes::auditing(&*store).await;
    changes::last_seen(&*store).await;
    changes::leases(&*store).await;
    store.ping().await.unwrap();
    changes::one_winner_per_generation(store).await;
}

/// A vault with a template, two keystores and a key.
struct Estate {
    vault: Vault,
    template: KeyTemplate,
    home: KeystoreRecord,
    away: KeystoreRecord,
    key: ManagedKey,
}

async fn estate(store: &dyn Store) -> Estate {
    let vault = vault("estate");
    let template = template(vault.id, "orders");
    let home = keystore(vault.id, "home", &["production", "berlin"]);
    let away = keystore(vault.id, "away", &["production"]);
    let key = key(&template, "orders-1");
    store
        .commit(change(vec![
            Write::VaultInsert(vault.clone()),
            Write::TemplateInsert(template.clone()),
            Write::KeystoreInsert(home.clone()),
            Write::KeystoreInsert(away.clone()),
            Write::KeyInsert(Box::new(key.clone())),
        ]))
        .await
        .unwrap();
    Estate {
        vault,
        template,
        home,
        away,
        key,
    }
}

async fn try_one(store: &dyn Store, write: Write) -> Result<(), StoreError> {
    store
        .commit(change(vec![write]))
        .await
        .map(|earlier| assert_eq!(earlier, None))
}

fn conflict(what: &str, id: impl std::fmt::Display) -> StoreError {
    StoreError::Conflict {
        what: format!("{what}/{id}"),
    }
}

fn not_found(what: &str, id: impl std::fmt::Display) -> StoreError {
    StoreError::NotFound {
        what: format!("{what}/{id}"),
    }
}

fn taken(field: &str, value: &str) -> StoreError {
    StoreError::Taken {
        field: field.to_owned(),
        value: value.to_owned(),
    }
}
