//! What only the PostgreSQL store must do: refuse what cannot be trusted, come back when the server does, serve several.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep::coordinator::store::postgres::PostgresStore;
use lockstep::coordinator::store::postgres::connect::{OpenError, Settings};
use lockstep::coordinator::store::{Store, StoreError, Write};
use lockstep::model::ids::{KeystoreId, Term};
use lockstep::model::vault::Vault;
use lockstep::tls::config::named_server_config;
use secrecy::SecretString;
use uuid::Uuid;

use crate::store_contract::records::{audit, change, vault};
use crate::store_contract::{ALL, contract, estate};
use crate::support::postgres::Server;

/// How long the leases of these tests last.
const LEASE: Duration = Duration::from_secs(2);

pub(crate) fn settings(server: &Server) -> Settings {
    Settings {
        url: server.url(),
        password: None,
        tls: None,
        address: "http://127.0.0.1:1".to_owned(),
        lease: LEASE,
    }
}

pub(crate) async fn open(server: &Server) -> PostgresStore {
    PostgresStore::open(settings(server)).await.unwrap()
}

fn is_unavailable<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn meets_the_contract() {
    let server = Server::start();
    contract(Arc::new(open(&server).await)).await;
}

#[tokio::test]
async fn unsafe_servers_are_refused() {
    for setting in ["fsync=off", "full_page_writes=off"] {
        let server = Server::start_with(&[setting]);
        let refused = PostgresStore::open(settings(&server)).await.unwrap_err();
        assert!(
            refused
                .to_string()
                .contains(setting.split('=').next().unwrap())
        );
        assert!(matches!(refused, OpenError::Unsafe { .. }), "{refused}");
        let made = server.say("SELECT count(*) FROM pg_namespace WHERE nspname = 'lockstep'");
        assert_eq!(made, "0", "nothing was made");
    }
}

#[tokio::test]
async fn lazy_commits_are_overruled() {
    let server = Server::start_with(&["synchronous_commit=off"]);
    let store = open(&server).await;
    store.ping().await.unwrap();
    // Whoever writes waits for the disk all the same: the write-ahead log is flushed up to where it was written.
    let written = "SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()";
    for number in 0..20 {
        let record = vault(&number.to_string());
        let insert = change(vec![Write::VaultInsert(record)]);
        store.commit(insert).await.unwrap();
        assert_eq!(server.say(written), "t");
    }
}

#[tokio::test]
async fn newer_schema_is_refused_and_left_alone() {
    let server = Server::start();
    let store = open(&server).await;
    let before = vault("before");
    let insert = |vault| change(vec![Write::VaultInsert(vault)]);
    store.commit(insert(before.clone())).await.unwrap();
    server.say("UPDATE lockstep.head SET schema = 99");
    let refused = PostgresStore::open(settings(&server)).await.unwrap_err();
    let OpenError::NewerSchema { found: 99, .. } = refused else {
        panic!("{refused}");
    };
    // Who was there before the newer program came changes nothing any more.
    let late = store.commit(insert(vault("late"))).await;
    assert!(is_unavailable(&late), "{late:?}");
    assert_eq!(server.say("SELECT count(*) FROM lockstep.vault"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_come_to_an_empty_database_at_once() {
    let server = Server::start();
    let mut coming = tokio::task::JoinSet::new();
    for _ in 0..4 {
        coming.spawn(PostgresStore::open(settings(&server)));
    }
    let mut stores = Vec::new();
    for came in coming.join_all().await {
        stores.push(came.unwrap());
    }
    // What one commits the others read at once.
    for (writer, number) in stores.iter().zip(1..) {
        let record = vault("shared");
        let insert = change(vec![Write::VaultInsert(record.clone())]);
        writer.commit(insert).await.unwrap();
        for reader in &stores {
            let found = reader.vault_list(None, ALL).await.unwrap();
            assert_eq!(found.total, number);
            assert_eq!(reader.vault(record.id).await.unwrap(), Some(record.clone()));
        }
    }
}

/// The audit log's numbers are given in the order of the commits, without gaps, whoever writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_writers_leave_one_log_without_gaps() {
    const CHANGES: usize = 50;
    let server = Server::start();
    let mut writing = tokio::task::JoinSet::new();
    for writer in 0..3 {
        let store = open(&server).await;
        let taken = vault("taken");
        store
            .commit(change(vec![Write::VaultInsert(taken.clone())]))
            .await
            .unwrap();
        writing.spawn(async move {
            for number in 0..CHANGES {
                let mut noted = change(vec![Write::VaultInsert(vault(&number.to_string()))]);
                noted
                    .audit
                    .push(audit("vault", &format!("{writer} {number}")));
                store.commit(noted).await.unwrap();
                // One that is refused takes its number back.
                let mut twin = vault("twin");
                twin.name.clone_from(&taken.name);
                let mut refused = change(vec![Write::VaultInsert(twin)]);
                refused.audit.push(audit("vault", "never"));
                let refused = store.commit(refused).await.unwrap_err();
                assert!(matches!(refused, StoreError::Taken { .. }), "{refused}");
            }
        });
    }
    writing.join_all().await;
    let told = server.say("SELECT count(*), min(sequence), max(sequence) FROM lockstep.audit");
    let expected = 3 * CHANGES;
    assert_eq!(told, format!("{expected}|1|{expected}"));
    assert_eq!(
        server.say("SELECT count(*) FROM lockstep.audit WHERE record LIKE '%never%'"),
        "0"
    );
}

/// 2xx means kept: the server is killed in the middle of changes, again and again, and the store comes back by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing_acknowledged() {
    let mut server = Server::start();
    let store = Arc::new(open(&server).await);
    let kept: Arc<Mutex<Vec<Vault>>> = Arc::default();
    for round in 1..=3 {
        let mut writing = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (store, kept) = (Arc::clone(&store), Arc::clone(&kept));
            writing.spawn(async move {
                loop {
                    let record = vault("kept");
                    match store
                        .commit(change(vec![Write::VaultInsert(record.clone())]))
                        .await
                    {
                        Ok(_) => kept.lock().unwrap().push(record),
                        Err(StoreError::Unavailable { detail }) => return detail,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        let enough = round * 100;
        while kept.lock().unwrap().len() < enough {
            tokio::task::yield_now().await;
        }
        tokio::task::block_in_place(|| server.kill());
        let told = writing.join_all().await;
        assert!(!told.is_empty());
        assert!(is_unavailable(&store.vault(vault("x").id).await));
        tokio::task::block_in_place(|| server.restart());
        // Nothing was opened anew by the test.
        let records = kept.lock().unwrap().clone();
        for record in records {
            assert_eq!(store.vault(record.id).await.unwrap(), Some(record));
        }
        store.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_lease_is_one_coordinators_until_it_ends() {
    let server = Server::start();
    let (first, second) = (open(&server).await, open(&server).await);
    let keystore = KeystoreId::from_uuid(Uuid::new_v4());
    let term = first.lease_take(keystore, Term(7)).await.unwrap();
    assert_eq!(term, Term(7));
    let held = second.lease_take(keystore, Term(100)).await;
    assert!(matches!(held, Err(StoreError::Conflict { .. })), "{held:?}");
    // The holder may begin a new session as often as it likes.
    let again = first.lease_take(keystore, Term(0)).await.unwrap();
    assert_eq!(again, Term(8));
    server.say("UPDATE lockstep.coordinator_lease SET expires = now() - interval '1 ms'");
    assert_eq!(second.lease_take(keystore, Term(0)).await, Ok(Term(9)));
    let gone = first.lease_take(keystore, Term(100)).await;
    assert!(matches!(gone, Err(StoreError::Conflict { .. })), "{gone:?}");
}

/// A CA, and a certificate by it for a host name, with its key: PEM.
fn certificates(host: &str) -> (String, String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new([host.to_owned()]).unwrap();
    let certificate = params.signed_by(&own, &issuer).unwrap();
    (ca.pem(), certificate.pem(), own.serialize_pem())
}

#[tokio::test]
async fn a_line_that_is_encrypted_goes_to_the_named_server_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let trusting = |server: &Server, ca: &str| {
        std::fs::write(&file, ca).unwrap();
        Settings {
            url: server.tcp_url(),
            tls: Some(named_server_config(&file).unwrap()),
            ..settings(server)
        }
    };
    let (ca, certificate, key) = certificates("localhost");
    let server = Server::start_encrypted(&certificate, &key);
    let store = PostgresStore::open(trusting(&server, &ca)).await.unwrap();
    store.ping().await.unwrap();
    // Who listens has a line of its own, opened in its own time.
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'lockstep' AND NOT ssl";
    let lines = "SELECT count(*) > 1 FROM pg_stat_activity WHERE application_name = 'lockstep'";
    server.until(lines, "t");
    assert_eq!(server.say(encrypted), "0");
    let (other_ca, ..) = certificates("localhost");
    let refused = PostgresStore::open(trusting(&server, &other_ca)).await;
    assert!(matches!(refused, Err(OpenError::Sql { .. })), "{refused:?}");
    let (ca, certificate, key) = certificates("db.example");
    let other = Server::start_encrypted(&certificate, &key);
    let refused = PostgresStore::open(trusting(&other, &ca)).await;
    assert!(matches!(refused, Err(OpenError::Sql { .. })), "{refused:?}");
}

/// Everything in a database that is not this store's is left alone.
#[tokio::test]
async fn a_shared_database_keeps_what_else_is_in_it() {
    let server = Server::start();
    server.say("CREATE TABLE public.vault (mine INTEGER); INSERT INTO vault VALUES (1)");
    let store = open(&server).await;
    estate(&store).await;
    assert_eq!(server.say("SELECT mine FROM public.vault"), "1");
}

#[tokio::test]
async fn a_password_is_shown_to_the_server_and_to_nobody_else() {
    let server = Server::start();
    server.say("ALTER USER lockstep PASSWORD 's3cret'");
    let rules = server.say("SHOW hba_file");
    std::fs::write(rules, "local all all scram-sha-256\n").unwrap();
    server.say("SELECT pg_reload_conf()");
    let with = |password: Option<&str>| Settings {
        password: password.map(SecretString::from),
        ..settings(&server)
    };
    // The server reads its rules a moment after it said so.
    let began = std::time::Instant::now();
    while PostgresStore::open(with(None)).await.is_ok() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "no password is asked for"
        );
    }
    let wrong = PostgresStore::open(with(Some("gu3ss"))).await.unwrap_err();
    assert!(matches!(wrong, OpenError::Sql { .. }), "{wrong}");
    assert!(!format!("{wrong:?} {:?}", with(Some("gu3ss"))).contains("gu3ss"));
    let store = PostgresStore::open(with(Some("s3cret"))).await.unwrap();
    assert!(!format!("{store:?}").contains("s3cret"));
    store.ping().await.unwrap();
}
