//! The schema: forward-only numbered migrations, all of them in one transaction and under a lock.
//!
//! Columns are what is queried, sorted or made unique; `record` is the whole record as JSON of its model type. Text sorts by
//! its bytes, as in SQLite: what a list gives must not hang on where the database was made.

use tokio_postgres::Client;

use crate::coordinator::store::postgres::connect::OpenError;

/// Each entry takes the schema from its index to the next number. Never edited, only appended to.
const MIGRATIONS: [&str; 2] = [FIRST, BULK];

/// What this program knows.
pub(crate) const KNOWN: i32 = 2;

/// The advisory lock of migrations: "lockstep" in ASCII.
const MIGRATING: i64 = 0x6c6f_636b_7374_6570;

const FIRST: &str = r#"
-- The one row is what every change locks first: so changes run one after the other, on whichever coordinator they came in.
CREATE TABLE head (
    one BOOLEAN NOT NULL PRIMARY KEY CHECK (one),
    schema INTEGER NOT NULL,
    sequence BIGINT NOT NULL,
    pings BIGINT NOT NULL
);
INSERT INTO head (one, schema, sequence, pings) VALUES (true, 0, 0, 0);

CREATE TABLE vault (
    id UUID NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    record TEXT NOT NULL,
    CONSTRAINT vault_name UNIQUE (name)
);

CREATE TABLE template (
    id UUID NOT NULL PRIMARY KEY,
    vault UUID NOT NULL REFERENCES vault (id),
    name TEXT COLLATE "C" NOT NULL,
    archived BOOLEAN NOT NULL,
    revision BIGINT NOT NULL,
    record TEXT NOT NULL,
    CONSTRAINT template_name UNIQUE (vault, name)
);

CREATE TABLE keystore (
    id UUID NOT NULL PRIMARY KEY,
    vault UUID NOT NULL REFERENCES vault (id),
    name TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    record TEXT NOT NULL,
    CONSTRAINT keystore_name UNIQUE (vault, name)
);

CREATE TABLE keystore_group (
    name TEXT COLLATE "C" NOT NULL,
    keystore UUID NOT NULL REFERENCES keystore (id) ON DELETE CASCADE,
    PRIMARY KEY (name, keystore)
);
CREATE INDEX keystore_group_keystore ON keystore_group (keystore);

CREATE TABLE key (
    id UUID NOT NULL PRIMARY KEY,
    vault UUID NOT NULL REFERENCES vault (id),
    template UUID NOT NULL REFERENCES template (id),
    label TEXT COLLATE "C" NOT NULL,
    algorithm TEXT COLLATE "C" NOT NULL,
    bits BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    activation_date TEXT COLLATE "C",
    expiration_date TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- Dates that are still to act.
    activation_open TEXT COLLATE "C",
    expiration_open TEXT COLLATE "C",
    rotation_date TEXT COLLATE "C",
    hold_until TEXT COLLATE "C",
    coming TEXT COLLATE "C",
    revision BIGINT NOT NULL,
    record TEXT NOT NULL,
    CONSTRAINT key_label UNIQUE (vault, label)
);
CREATE INDEX key_template ON key (template);
CREATE INDEX key_by_label ON key (label);
CREATE INDEX key_activation ON key (activation_open) WHERE state = 'pre_activation';
CREATE INDEX key_expiration ON key (expiration_open) WHERE state IN ('active', 'pre_activation');
CREATE INDEX key_rotation ON key (rotation_date) WHERE state = 'active';
CREATE INDEX key_hold ON key (hold_until) WHERE hold_until IS NOT NULL;
CREATE INDEX key_coming ON key (coming) WHERE coming IS NOT NULL;

-- `fingerprint`: what a version is made of; a key is found by the material of each of its versions.
CREATE TABLE key_version (
    version UUID NOT NULL PRIMARY KEY,
    key UUID NOT NULL REFERENCES key (id) ON DELETE CASCADE,
    fingerprint TEXT COLLATE "C"
);
CREATE INDEX key_version_fingerprint ON key_version (fingerprint);
CREATE INDEX key_version_key ON key_version (key);

-- A repository copy outlives its key's record never: deleting the key is refused while there is one. `kek`: which of its
-- keystore's wrapping keys it is under.
CREATE TABLE copy (
    version UUID NOT NULL,
    keystore UUID NOT NULL REFERENCES keystore (id),
    kek BIGINT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (version, keystore)
);
CREATE INDEX copy_kek ON copy (keystore, kek, version);

-- No reference to keystore: the tombstones of a keystore that was removed stay with their key. `adopted_id`: CKA_ID of an
-- adopted instance; of ours it is the version.
CREATE TABLE instance (
    keystore UUID NOT NULL,
    version UUID NOT NULL,
    key UUID NOT NULL REFERENCES key (id) ON DELETE CASCADE,
    generation BIGINT NOT NULL,
    want TEXT NOT NULL,
    adopted_id BYTEA,
    record TEXT NOT NULL,
    PRIMARY KEY (keystore, version)
);
CREATE INDEX instance_key ON instance (key, keystore);
CREATE UNIQUE INDEX instance_adopted ON instance (keystore, adopted_id) WHERE adopted_id IS NOT NULL;

CREATE TABLE ignored (
    keystore UUID NOT NULL REFERENCES keystore (id) ON DELETE CASCADE,
    cka_id BYTEA NOT NULL,
    label TEXT COLLATE "C" NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (keystore, cka_id, label)
);

-- The last rotation of each keystore. No copy under a key below `demanded` is taken in; 0 demands nothing.
CREATE TABLE kek_rotation (
    keystore UUID NOT NULL PRIMARY KEY REFERENCES keystore (id) ON DELETE CASCADE,
    revision BIGINT NOT NULL,
    demanded BIGINT NOT NULL,
    record TEXT NOT NULL
);

-- Whether the store was found to be older than its agents, and which keys it does not know. No reference to keystore: one that
-- is removed and comes back brings the same keys.
CREATE TABLE recovery (
    one BOOLEAN NOT NULL DEFAULT true PRIMARY KEY CHECK (one),
    revision BIGINT NOT NULL,
    record TEXT NOT NULL
);
CREATE TABLE stranger (
    keystore UUID NOT NULL,
    version UUID NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (keystore, version)
);

CREATE TABLE seen (
    version UUID NOT NULL,
    keystore UUID NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (version, keystore)
);
CREATE INDEX seen_keystore ON seen (keystore);

CREATE TABLE operation (
    key TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    id UUID NOT NULL,
    request BYTEA NOT NULL,
    status INTEGER NOT NULL,
    subject TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX operation_at ON operation (at);

-- Numbers are given in the order of the transactions, without gaps, and never twice.
CREATE TABLE audit (
    sequence BIGINT NOT NULL PRIMARY KEY,
    subject TEXT COLLATE "C" NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX audit_subject ON audit (subject, sequence);

-- Coordinators, each process under an id of its own. Times are the database's.
CREATE TABLE coordinator (
    id UUID NOT NULL PRIMARY KEY,
    address TEXT NOT NULL,
    expires TIMESTAMPTZ NOT NULL
);

-- Terms outlive the keystore's record: it may come back, and its agent remembers.
CREATE TABLE coordinator_lease (
    keystore UUID NOT NULL PRIMARY KEY,
    term BIGINT NOT NULL,
    holder UUID,
    expires TIMESTAMPTZ NOT NULL
);
CREATE INDEX coordinator_lease_holder ON coordinator_lease (holder);

-- What the holder of a lease knows through its session, for the other coordinators: of the line and the token, and of each
-- instance. Counts only under the lease's own term and while it has not expired.
CREATE TABLE live_keystore (
    keystore UUID NOT NULL PRIMARY KEY,
    term BIGINT NOT NULL,
    told TIMESTAMPTZ NOT NULL,
    changed TIMESTAMPTZ NOT NULL,
    scanned TIMESTAMPTZ,
    record TEXT NOT NULL
);
CREATE TABLE live_instance (
    keystore UUID NOT NULL,
    version UUID NOT NULL,
    term BIGINT NOT NULL,
    told TIMESTAMPTZ NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (keystore, version)
);
CREATE INDEX live_instance_told ON live_instance (told);

-- What a coordinator asks the holder of a keystore to do for it.
CREATE TABLE errand (
    id UUID NOT NULL PRIMARY KEY,
    keystore UUID NOT NULL,
    request TEXT NOT NULL,
    taken BOOLEAN NOT NULL DEFAULT false,
    answer TEXT,
    expires TIMESTAMPTZ NOT NULL
);
CREATE INDEX errand_keystore ON errand (keystore);
"#;

/// One action on many keys, in waves.
const BULK: &str = r#"
CREATE TABLE bulk (
    id UUID NOT NULL PRIMARY KEY,
    state TEXT COLLATE "C" NOT NULL,
    wave BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    revision BIGINT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX bulk_state ON bulk (state, created_at);
CREATE INDEX bulk_ended ON bulk (ended_at) WHERE ended_at IS NOT NULL;

-- No reference to key: a record that is removed stays in the account of what was done.
CREATE TABLE bulk_key (
    bulk UUID NOT NULL REFERENCES bulk (id) ON DELETE CASCADE,
    place BIGINT NOT NULL,
    wave BIGINT NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (bulk, place)
);
CREATE INDEX bulk_key_outcome ON bulk_key (bulk, outcome, wave, place);
"#;

/// Brings the schema up to date.
///
/// # Errors
/// [`OpenError::NewerSchema`] where a later program made it; then nothing is touched.
pub(crate) async fn migrate(client: &mut Client) -> Result<(), OpenError> {
    let transaction = client.transaction().await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATING])
        .await?;
    transaction
        .batch_execute("CREATE SCHEMA IF NOT EXISTS lockstep; SET LOCAL search_path = lockstep")
        .await?;
    let there = transaction
        .query_one("SELECT to_regclass('lockstep.head') IS NOT NULL", &[])
        .await?;
    let found: i32 = if there.try_get::<_, bool>(0)? {
        let head = transaction.query_one("SELECT schema FROM lockstep.head", &[]);
        head.await?.try_get(0)?
    } else {
        0
    };
    if found > KNOWN {
        return Err(OpenError::NewerSchema {
            found,
            known: KNOWN,
        });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.batch_execute(migration).await?;
    }
    if found < KNOWN {
        transaction
            .execute("UPDATE lockstep.head SET schema = $1", &[&KNOWN])
            .await?;
    }
    Ok(transaction.commit().await?)
}

#[cfg(test)]
mod tests {
    use crate::coordinator::store::postgres::schema::{KNOWN, MIGRATIONS};

    #[test]
    fn what_is_known_is_what_can_be_made() {
        assert_eq!(usize::try_from(KNOWN).unwrap(), MIGRATIONS.len());
    }
}
