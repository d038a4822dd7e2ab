//! What only the SQLite store must do.

use std::path::Path;
use std::sync::Arc;

use lockstep::coordinator::store::sqlite::{Settings, SqliteStore};

use crate::store_contract::contract;

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Settings::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn meets_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    contract(Arc::new(store)).await;
}
