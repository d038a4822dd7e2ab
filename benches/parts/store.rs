//! Durable changes per second: the store, a bare rusqlite loop of the same SQL, and the disk alone.
//!
//! One change is what activating a key on one keystore writes: the operation (looked up, old ones pruned), the key, its
//! instance, an audit entry. The bare loop has its values ready; the store also encodes records and checks row counts.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lockstep::clock::Monotonic;
use lockstep::coordinator::store::sqlite::{Settings, SqliteStore};
use lockstep::coordinator::store::{Change, Store, Write};
use lockstep::model::desired::Want;
use lockstep::model::ids::Revision;
use lockstep::model::key::ManagedKey;
use lockstep::model::keystore::KeystoreRecord;
use rusqlite::{Connection, params};
use tokio::runtime::Runtime;

use crate::parts::table::Table;
use crate::records;

const RUNS: usize = 5;
const RUN_TIME: Duration = Duration::from_secs(1);
const CALLERS: [usize; 3] = [1, 8, 64];
const KEYS: usize = 64;
const APPEND_BYTES: usize = 4096;

/// Prints the table.
pub fn run() {
    let directory = tempfile::Builder::new()
        .prefix("bench-store-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let runtime = Runtime::new().unwrap();
    let mut ours = Ours::new(&runtime, &directory.path().join("ours.db"));
    let mut bare = Bare::new(&runtime, &directory.path().join("bare.db"));
    let mut file = File::create(directory.path().join("append")).unwrap();
    let mut table = Table::new("(c) durable changes of the store", "changes/s");
    let append = table.row("4 KiB append + fdatasync", None);
    let rows = CALLERS.map(|callers| {
        let name = format!("bare rusqlite, synchronous=FULL, {callers} a COMMIT");
        let bare = table.row(&name, None);
        let against = if callers == 1 { append } else { bare };
        let name = format!("store, {callers} callers");
        (callers, bare, table.row(&name, Some(against)))
    });
    let alone = rows[0].1;
    let first = table.row("store, 1 caller, again", Some(alone));
    for _ in 0..RUNS {
        table.note(append, per_second(|| append_once(&mut file)));
        for (callers, bare_row, our_row) in rows {
            table.note(bare_row, per_second(|| bare.commit(callers)));
            let speed = runtime.block_on(ours.speed(callers));
            table.note(our_row, speed);
        }
        let speed = runtime.block_on(ours.speed(1));
        table.note(first, speed);
    }
    table.print();
}

/// Repeats work that says how much it did.
fn per_second(mut work: impl FnMut() -> usize) -> f64 {
    let start = Monotonic::now();
    let mut done = 0;
    while start.elapsed() < RUN_TIME {
        done += work();
    }
    done as f64 / start.elapsed().as_secs_f64()
}

fn append_once(file: &mut File) -> usize {
    file.write_all(&[0x5a; APPEND_BYTES]).unwrap();
    file.sync_data().unwrap();
    1
}

/// A store with a key for each caller, wanted on one keystore.
fn furnish(runtime: &Runtime, path: &Path) -> (SqliteStore, KeystoreRecord, Vec<ManagedKey>) {
    let store = SqliteStore::open(path, Settings::default()).unwrap();
    let vault = records::vault("bench");
    let template = records::template(vault.id, "bench");
    let keystore = records::keystore(vault.id, "home", &["production"]);
    let mut writes = vec![
        Write::VaultInsert(vault),
        Write::TemplateInsert(template.clone()),
        Write::KeystoreInsert(keystore.clone()),
    ];
    let keys: Vec<ManagedKey> = (0..KEYS)
        .map(|number| records::key(&template, &format!("key-{number}")))
        .collect();
    for key in &keys {
        writes.push(Write::KeyInsert(Box::new(key.clone())));
        writes.push(records::put(key, keystore.id, 1, Want::Active, None));
    }
    runtime
        .block_on(store.commit(records::change(writes)))
        .unwrap();
    (store, keystore, keys)
}

struct Ours {
    store: Arc<SqliteStore>,
    keystore: KeystoreRecord,
    keys: Vec<ManagedKey>,
}

impl Ours {
    fn new(runtime: &Runtime, path: &Path) -> Self {
        let (store, keystore, keys) = furnish(runtime, path);
        Self {
            store: Arc::new(store),
            keystore,
            keys,
        }
    }

    async fn speed(&mut self, callers: usize) -> f64 {
        let start = Monotonic::now();
        let mut running = tokio::task::JoinSet::new();
        for key in self.keys.drain(..callers) {
            let (store, keystore) = (Arc::clone(&self.store), self.keystore.id);
            running.spawn(async move {
                let mut key = key;
                let mut done = 0_usize;
                while start.elapsed() < RUN_TIME {
                    let current = key.revision;
                    key.revision = current.next();
                    let name = format!("{}-{}", key.id, key.revision);
                    let change = Change {
                        operation: Some(records::operation(&name, "POST", 1)),
                        writes: vec![
                            Write::KeyUpdate {
                                record: Box::new(key.clone()),
                                expected: current,
                            },
                            records::put(
                                &key,
                                keystore,
                                key.revision.0,
                                Want::Active,
                                Some(current.0),
                            ),
                        ],
                        audit: vec![records::audit(&name, "activated")],
                    };
                    store.commit(change).await.unwrap();
                    done += 1;
                }
                (key, done)
            });
        }
        let mut all = 0;
        for (key, done) in running.join_all().await {
            self.keys.push(key);
            all += done;
        }
        all as f64 / start.elapsed().as_secs_f64()
    }
}

struct Bare {
    sql: Connection,
    keystore: Vec<u8>,
    keys: Vec<BareKey>,
    operations: u64,
}

struct BareKey {
    key: ManagedKey,
    record: String,
    instance: String,
    audit: String,
    revision: i64,
}

impl Bare {
    fn new(runtime: &Runtime, path: &Path) -> Self {
        let (store, keystore, keys) = furnish(runtime, path);
        drop(store);
        let sql = Connection::open(path).unwrap();
        sql.pragma_update(None, "synchronous", "FULL").unwrap();
        sql.pragma_update(None, "foreign_keys", true).unwrap();
        sql.set_prepared_statement_cache_capacity(64);
        let keys = keys
            .into_iter()
            .map(|key| {
                assert_eq!(key.revision, Revision(1));
                let instance = records::instance(&key, keystore.id, 1, Want::Active);
                BareKey {
                    record: serde_json::to_string(&key).unwrap(),
                    instance: serde_json::to_string(&instance).unwrap(),
                    audit: serde_json::to_string(&records::audit("key", "activated")).unwrap(),
                    revision: 1,
                    key,
                }
            })
            .collect();
        Self {
            sql,
            keystore: keystore.id.uuid().as_bytes().to_vec(),
            keys,
            operations: 0,
        }
    }

    /// One transaction with a change of so many keys.
    fn commit(&mut self, changes: usize) -> usize {
        self.sql.execute_batch("BEGIN IMMEDIATE").unwrap();
        for index in 0..changes {
            self.change(index);
        }
        self.sql.execute_batch("COMMIT").unwrap();
        changes
    }

    fn change(&mut self, index: usize) {
        self.operations += 1;
        let name = format!("operation-{}", self.operations);
        let (sql, BareKey { key, revision, .. }) = (&self.sql, &self.keys[index]);
        let (id, version) = (key.id.uuid().into_bytes(), key.version.uuid().into_bytes());
        let run = |text: &str, values: &[&dyn rusqlite::ToSql]| {
            sql.prepare_cached(text).unwrap().execute(values).unwrap()
        };
        let found = sql
            .prepare_cached("SELECT status FROM operation WHERE key = ?1")
            .unwrap()
            .exists([&name])
            .unwrap();
        assert!(!found);
        run(
            "DELETE FROM operation WHERE key IN
                 (SELECT key FROM operation WHERE at < ?1 ORDER BY at LIMIT ?2)",
            params![-1, 4],
        );
        run(
            "INSERT INTO operation (key, id, request, status, subject, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![name, id, [7_u8; 32], 200, "key/1", 1],
        );
        run(
            "UPDATE key SET template = ?4, label = ?5, algorithm = ?6, bits = ?7, state = ?8,
                 activation_date = ?9, expiration_date = ?10, created_at = ?11, updated_at = ?12,
                 revision = ?13, record = ?14
             WHERE id = ?1 AND vault = ?2 AND revision = ?3",
            params![
                id,
                key.vault.uuid().into_bytes(),
                revision,
                key.template.uuid().into_bytes(),
                key.label.as_str(),
                "aes",
                256,
                "active",
                key.activation_date,
                key.expiration_date,
                1,
                1,
                revision + 1,
                self.keys[index].record
            ],
        );
        run(
            "INSERT OR IGNORE INTO key_version (version, key) VALUES (?1, ?2)",
            params![version, id],
        );
        let touched = run(
            "UPDATE instance SET generation = ?5, want = ?6, record = ?7
             WHERE keystore = ?1 AND version = ?2 AND key = ?3 AND generation = ?4",
            params![
                self.keystore,
                version,
                id,
                revision,
                revision + 1,
                "active",
                self.keys[index].instance
            ],
        );
        assert_eq!(touched, 1);
        run(
            "INSERT INTO audit (subject, record) VALUES (?1, ?2)",
            params![name, self.keys[index].audit],
        );
        self.keys[index].revision += 1;
    }
}
