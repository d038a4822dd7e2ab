//! The schema: forward-only numbered migrations, all of them in one transaction.
//!
//! Columns are what is queried, sorted or made unique; `record` is the whole record as JSON of its model type.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::coordinator::store::sqlite::OpenError;

/// Each entry takes the schema from its index to the next number (`PRAGMA user_version`). Never edited, only appended to.
const MIGRATIONS: [&str; 6] = [FIRST, ADOPTION, KEK_ROTATION, RECOVERY, TIME, BULK];

const FIRST: &str = "
CREATE TABLE vault (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name TEXT NOT NULL UNIQUE,
    revision INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE template (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    vault BLOB NOT NULL REFERENCES vault (id),
    name TEXT NOT NULL,
    archived INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    record TEXT NOT NULL,
    UNIQUE (vault, name)
) STRICT;

CREATE TABLE keystore (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    vault BLOB NOT NULL REFERENCES vault (id),
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    record TEXT NOT NULL,
    UNIQUE (vault, name)
) STRICT;

CREATE TABLE keystore_group (
    name TEXT NOT NULL,
    keystore BLOB NOT NULL REFERENCES keystore (id) ON DELETE CASCADE,
    PRIMARY KEY (name, keystore)
) STRICT, WITHOUT ROWID;
CREATE INDEX keystore_group_keystore ON keystore_group (keystore);

CREATE TABLE key (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    vault BLOB NOT NULL REFERENCES vault (id),
    template BLOB NOT NULL REFERENCES template (id),
    label TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    bits INTEGER NOT NULL,
    state TEXT NOT NULL,
    activation_date TEXT,
    expiration_date TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    record TEXT NOT NULL,
    UNIQUE (vault, label)
) STRICT;
CREATE INDEX key_template ON key (template);
CREATE INDEX key_label ON key (label);

CREATE TABLE key_version (
    version BLOB NOT NULL PRIMARY KEY CHECK (length(version) = 16),
    key BLOB NOT NULL REFERENCES key (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX key_version_key ON key_version (key);

-- A repository copy outlives its key's record never: deleting the key is refused while there is one.
CREATE TABLE copy (
    version BLOB NOT NULL CHECK (length(version) = 16),
    keystore BLOB NOT NULL REFERENCES keystore (id),
    record TEXT NOT NULL,
    PRIMARY KEY (version, keystore)
) STRICT;
CREATE INDEX copy_keystore ON copy (keystore);

-- No reference to keystore: the tombstones of a keystore that was removed stay with their key.
CREATE TABLE instance (
    keystore BLOB NOT NULL CHECK (length(keystore) = 16),
    version BLOB NOT NULL CHECK (length(version) = 16),
    key BLOB NOT NULL REFERENCES key (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    want TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (keystore, version)
) STRICT;
CREATE INDEX instance_key ON instance (key, keystore);

CREATE TABLE seen (
    version BLOB NOT NULL,
    keystore BLOB NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (version, keystore)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_keystore ON seen (keystore);

CREATE TABLE operation (
    key TEXT NOT NULL PRIMARY KEY,
    id BLOB NOT NULL,
    request BLOB NOT NULL,
    status INTEGER NOT NULL,
    subject TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX operation_at ON operation (at);

-- Numbers are given in the order of the transactions, without gaps, and never twice.
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX audit_subject ON audit (subject, sequence);

-- Terms outlive the keystore's record: it may come back, and its agent remembers.
CREATE TABLE lease (
    keystore BLOB NOT NULL PRIMARY KEY CHECK (length(keystore) = 16),
    term INTEGER NOT NULL
) STRICT;

CREATE TABLE ping (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    count INTEGER NOT NULL
) STRICT;
INSERT INTO ping (id, count) VALUES (1, 0);
";

/// Keys that others made: found again by their material, adopted once each, or left to others.
const ADOPTION: &str = "
ALTER TABLE key ADD COLUMN fingerprint TEXT
    GENERATED ALWAYS AS (json_extract(record, '$.fingerprint.value')) VIRTUAL;
CREATE INDEX key_fingerprint ON key (vault, fingerprint);

-- CKA_ID of an adopted instance; of ours it is the version.
ALTER TABLE instance ADD COLUMN adopted_id BLOB;
CREATE UNIQUE INDEX instance_adopted ON instance (keystore, adopted_id) WHERE adopted_id IS NOT NULL;

CREATE TABLE ignored (
    keystore BLOB NOT NULL REFERENCES keystore (id) ON DELETE CASCADE,
    cka_id BLOB NOT NULL,
    label TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (keystore, cka_id, label)
) STRICT, WITHOUT ROWID;
";

/// Wrapping keys have numbers, and can be rotated.
const KEK_ROTATION: &str = "
-- Which of its keystore's wrapping keys a copy is under.
ALTER TABLE copy ADD COLUMN kek INTEGER NOT NULL DEFAULT 1;
CREATE INDEX copy_kek ON copy (keystore, kek, version);

-- The last rotation of each keystore. No copy under a key below `demanded` is taken in; 0 demands nothing.
CREATE TABLE kek_rotation (
    keystore BLOB NOT NULL PRIMARY KEY REFERENCES keystore (id) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    demanded INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;
";

/// Whether the store was found to be older than its agents, and which keys it does not know.
const RECOVERY: &str = "
CREATE TABLE recovery (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;

-- No reference to keystore: one that is removed and comes back brings the same keys.
CREATE TABLE stranger (
    keystore BLOB NOT NULL CHECK (length(keystore) = 16),
    version BLOB NOT NULL CHECK (length(version) = 16),
    record TEXT NOT NULL,
    PRIMARY KEY (keystore, version)
) STRICT, WITHOUT ROWID;
";

/// Keys have versions, and dates that act.
const TIME: &str = "
-- What a version is made of: a key is found by the material of each of its versions.
ALTER TABLE key_version ADD COLUMN fingerprint TEXT;
UPDATE key_version SET fingerprint =
    (SELECT key.fingerprint FROM key WHERE key.id = key_version.key);
CREATE INDEX key_version_fingerprint ON key_version (fingerprint);
DROP INDEX key_fingerprint;

-- Dates that are still to act, each under an index of its own.
ALTER TABLE key ADD COLUMN activation_open TEXT GENERATED ALWAYS AS
    (CASE WHEN json_extract(record, '$.acted.activation') IS activation_date THEN NULL
     ELSE activation_date END) VIRTUAL;
ALTER TABLE key ADD COLUMN expiration_open TEXT GENERATED ALWAYS AS
    (CASE WHEN json_extract(record, '$.acted.expiration') IS expiration_date THEN NULL
     ELSE expiration_date END) VIRTUAL;
ALTER TABLE key ADD COLUMN rotation_date TEXT
    GENERATED ALWAYS AS (json_extract(record, '$.rotation_date')) VIRTUAL;
ALTER TABLE key ADD COLUMN hold_until TEXT
    GENERATED ALWAYS AS (json_extract(record, '$.hold.until')) VIRTUAL;
ALTER TABLE key ADD COLUMN coming TEXT
    GENERATED ALWAYS AS (json_extract(record, '$.coming.id')) VIRTUAL;
CREATE INDEX key_activation ON key (activation_open) WHERE state = 'pre_activation';
CREATE INDEX key_expiration ON key (expiration_open) WHERE state IN ('active', 'pre_activation');
CREATE INDEX key_rotation ON key (rotation_date) WHERE state = 'active';
CREATE INDEX key_hold ON key (hold_until) WHERE hold_until IS NOT NULL;
CREATE INDEX key_coming ON key (coming) WHERE coming IS NOT NULL;
";

/// One action on many keys, in waves.
const BULK: &str = "
CREATE TABLE bulk (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    state TEXT NOT NULL,
    wave INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at INTEGER,
    revision INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX bulk_state ON bulk (state, created_at);
CREATE INDEX bulk_ended ON bulk (ended_at) WHERE ended_at IS NOT NULL;

-- No reference to key: a record that is removed stays in the account of what was done.
CREATE TABLE bulk_key (
    bulk BLOB NOT NULL REFERENCES bulk (id) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    wave INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    at INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (bulk, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX bulk_key_outcome ON bulk_key (bulk, outcome, wave, place);
";

/// Looks the file over.
///
/// # Errors
/// [`OpenError::Damaged`] with SQLite's first complaint.
pub fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let damaged = |detail| OpenError::Damaged {
        path: path.to_owned(),
        detail,
    };
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| damaged(error.to_string()))?;
    if found == "ok" {
        Ok(())
    } else {
        Err(damaged(found))
    }
}

/// Brings the schema up to date.
///
/// # Errors
/// [`OpenError::NewerSchema`] where a later program wrote the file; then nothing is touched.
pub fn migrate(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let sql = |source| OpenError::Sql {
        path: path.to_owned(),
        source,
    };
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let transaction =
        Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(sql)?;
    let found: i64 = transaction
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(sql)?;
    if found > known {
        return Err(OpenError::NewerSchema {
            path: path.to_owned(),
            found,
            known,
        });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration).map_err(sql)?;
    }
    if found < known {
        transaction
            .pragma_update(None, "user_version", known)
            .map_err(sql)?;
    }
    transaction.commit().map_err(sql)
}
