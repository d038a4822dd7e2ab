//! The writer thread: drains its queue into one transaction, answers after COMMIT alone.
//!
//! ```text
//! wait for a job, take what else is queued
//!   BEGIN IMMEDIATE
//!     per job: SAVEPOINT, writes, RELEASE      refused: ROLLBACK TO, the others go on
//!   COMMIT, then all answers                   full or failed: ROLLBACK all, then each job alone
//! ```

use std::fmt;
use std::thread::JoinHandle;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::coordinator::store::sqlite::lock::Lock;
use crate::coordinator::store::sqlite::{change, failure};
use crate::coordinator::store::{Change, OperationRecord, StoreError};
use crate::model::ids::{KeyVersionId, KeystoreId, Term};
use crate::model::live::LastSeen;

/// Jobs that may wait; beyond it callers wait before they are let in.
const JOBS_MAX: usize = 4096;

/// Jobs that share one COMMIT: enough to hide its fsync, few enough to answer within milliseconds.
const BATCH_MAX: usize = 256;

/// Something to write.
#[derive(Debug)]
pub(crate) enum Work {
    /// A change of what is wanted.
    Commit(Change),
    /// What was last seen.
    Seen {
        /// Where.
        keystore: KeystoreId,
        /// What.
        seen: Vec<(KeyVersionId, LastSeen)>,
    },
    /// A lease.
    Lease {
        /// Of which keystore.
        keystore: KeystoreId,
        /// At least this.
        above: Term,
    },
    /// Nothing, durably.
    Ping,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is durable.
    Done,
    /// It had been done before.
    Earlier(OperationRecord),
    /// The new term, durable.
    Term(Term),
}

#[derive(Debug)]
struct Job {
    work: Work,
    answer: oneshot::Sender<Result<Answer, StoreError>>,
}

/// The thread. Dropping waits until all that was queued is written.
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts it; it keeps the lock as long as it lives.
    pub(crate) fn start(connection: Connection, lock: Lock) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(JOBS_MAX);
        let thread = std::thread::Builder::new()
            .name("store-write".to_owned())
            .spawn(move || {
                serve(&connection, jobs);
                // The connection empties the WAL as it closes; only then may another coordinator come.
                drop(connection);
                drop(lock);
            })?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Queues work and waits until it is durable or refused.
    pub(crate) async fn run(&self, work: Work) -> Result<Answer, StoreError> {
        let (answer, answered) = oneshot::channel();
        let Some(queue) = &self.queue else {
            return Err(failure::because("the store is closing"));
        };
        queue
            .send(Job { work, answer })
            .await
            .map_err(|_gone| failure::because("the store's writer has ended"))?;
        answered.await.map_err(|gone| failure::unavailable(&gone))?
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Why a whole batch was rolled back.
enum Broken {
    /// Each job may be tried alone.
    Failed(StoreError),
    /// The disk did not confirm: nothing more is written until the store is opened afresh.
    Unsynced(StoreError),
}

impl From<rusqlite::Error> for Broken {
    fn from(error: rusqlite::Error) -> Self {
        if failure::is_sync_failure(&error) {
            Self::Unsynced(error.into())
        } else {
            Self::Failed(error.into())
        }
    }
}

fn serve(connection: &Connection, mut jobs: mpsc::Receiver<Job>) {
    let mut lost: Option<StoreError> = None;
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        if lost.is_none() {
            lost = run(connection, batch);
        } else if let Some(error) = &lost {
            refuse(batch, error);
        }
    }
}

/// Writes a batch; gives the error after which nothing may be written any more.
fn run(connection: &Connection, batch: Vec<Job>) -> Option<StoreError> {
    match together(connection, &batch) {
        Ok(answers) => {
            for (job, answer) in batch.into_iter().zip(answers) {
                let _caller_gone = job.answer.send(answer);
            }
            None
        }
        Err(Broken::Unsynced(error)) => {
            refuse(batch, &error);
            Some(error)
        }
        Err(Broken::Failed(error)) if batch.len() == 1 => {
            refuse(batch, &error);
            None
        }
        // One job may have been too big for what is left of the disk: it must not take the others with it.
        Err(Broken::Failed(_)) => alone(connection, batch),
    }
}

fn alone(connection: &Connection, batch: Vec<Job>) -> Option<StoreError> {
    let mut lost = None;
    for job in batch {
        match &lost {
            None => lost = run(connection, vec![job]),
            Some(error) => refuse(vec![job], error),
        }
    }
    lost
}

fn refuse(batch: Vec<Job>, error: &StoreError) {
    for job in batch {
        let _caller_gone = job.answer.send(Err(error.clone()));
    }
}

fn together(
    connection: &Connection,
    batch: &[Job],
) -> Result<Vec<Result<Answer, StoreError>>, Broken> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let mut answers = Vec::with_capacity(batch.len());
    for job in batch {
        answers.push(in_savepoint(&transaction, &job.work)?);
    }
    transaction.commit()?;
    Ok(answers)
}

fn in_savepoint(sql: &Connection, work: &Work) -> Result<Result<Answer, StoreError>, Broken> {
    sql.prepare_cached("SAVEPOINT change")?.execute([])?;
    let answer = match change::write(sql, work) {
        Ok(answer) => Ok(answer),
        Err(error @ (StoreError::Full | StoreError::Unavailable { .. })) => {
            return Err(Broken::Failed(error));
        }
        Err(
            refused @ (StoreError::Conflict { .. }
            | StoreError::NotFound { .. }
            | StoreError::Taken { .. }
            | StoreError::InUse { .. }
            | StoreError::OperationReused),
        ) => {
            sql.prepare_cached("ROLLBACK TO change")?.execute([])?;
            Err(refused)
        }
    };
    sql.prepare_cached("RELEASE change")?.execute([])?;
    Ok(answer)
}
