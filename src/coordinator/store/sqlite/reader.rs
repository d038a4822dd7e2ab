//! Reader threads: each has a read-only connection, and each query sees one snapshot.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::{because, unavailable};
use crate::coordinator::store::sqlite::connect_reading;

/// Threads that read. SQLite's readers do not wait for its writer; more would only share the same cores.
const READERS: usize = 3;

/// Queries that may wait; beyond it callers wait before they are let in.
const QUERIES_MAX: usize = 1024;

type Query = Box<dyn FnOnce(&Connection) + Send>;

/// The threads. Dropping waits until they have answered what they took.
pub(crate) struct Readers {
    queue: Option<mpsc::Sender<Query>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts them on a file that has its schema.
    pub(crate) fn start(path: &Path) -> std::io::Result<Self> {
        let (queue, queries) = mpsc::channel(QUERIES_MAX);
        let queries = Arc::new(Mutex::new(queries));
        let mut threads = Vec::with_capacity(READERS);
        for index in 0..READERS {
            let connection = connect_reading(path).map_err(std::io::Error::other)?;
            let queries = Arc::clone(&queries);
            let thread = std::thread::Builder::new()
                .name(format!("store-read-{index}"))
                .spawn(move || serve(&connection, &queries))?;
            threads.push(thread);
        }
        Ok(Self {
            queue: Some(queue),
            threads,
        })
    }

    /// Queries that no thread has taken yet.
    pub(crate) fn waiting(&self) -> usize {
        let free = self.queue.as_ref().map(mpsc::Sender::capacity);
        QUERIES_MAX.saturating_sub(free.unwrap_or(QUERIES_MAX))
    }

    /// Runs a query in a snapshot of its own.
    pub(crate) async fn run<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Query = Box::new(move |connection| {
            let _caller_gone = answer.send(in_snapshot(connection, query));
        });
        let Some(queue) = &self.queue else {
            return Err(because("the store is closing"));
        };
        queue.send(job).await.map_err(|gone| unavailable(&gone))?;
        answered.await.map_err(|gone| unavailable(&gone))?
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers")
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

fn serve(connection: &Connection, queries: &Mutex<mpsc::Receiver<Query>>) {
    loop {
        // Whoever waits for a query holds the lock; the others wait for the lock instead.
        let next = queries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv();
        match next {
            Some(query) => query(connection),
            None => return,
        }
    }
}

/// Runs a query in a snapshot of its own.
pub(crate) fn in_snapshot<T>(
    connection: &Connection,
    query: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Deferred)?;
    let found = query(&transaction)?;
    transaction.commit()?;
    Ok(found)
}
