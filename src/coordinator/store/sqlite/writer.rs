//! The writer thread: drains its queue into one transaction, answers after COMMIT alone.
//!
//! ```text
//! wait for a job, take what else is queued; where several came together last time, give them a moment to come again
//!   BEGIN IMMEDIATE
//!     per job: SAVEPOINT, writes, RELEASE      refused: ROLLBACK TO, the others go on
//!   COMMIT, then all answers                   full or failed: ROLLBACK all, then each job alone
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::coordinator::store::encoded::{Encoded, because, unavailable};
use crate::coordinator::store::sqlite::lock::Lock;
use crate::coordinator::store::sqlite::{change, failure};
use crate::coordinator::store::{OperationRecord, StoreError};
use crate::model::ids::{KeyVersionId, KeystoreId, Term};
use crate::model::live::LastSeen;

/// Jobs that may wait; beyond it callers wait before they are let in.
const JOBS_MAX: usize = 4096;

/// Jobs that share one COMMIT: enough to hide its fsync, few enough to answer within milliseconds.
const BATCH_MAX: usize = 256;

/// How long the writer waits for the next of the callers that it answered together: they come back at once or not at all,
/// and without it the first to come would have a COMMIT of its own, again and again. A lone caller never waits.
const GATHER: Duration = Duration::from_micros(300);

/// Something to write.
#[derive(Debug)]
pub(crate) enum Work {
    /// A change of what is wanted.
    Commit(Encoded),
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

/// An answer, or why there is none.
pub(crate) type Outcome = Result<Answer, StoreError>;

#[derive(Debug)]
struct Job {
    work: Work,
    answer: oneshot::Sender<Outcome>,
    /// Its place in the queue, free for another when the job is done.
    _place: OwnedSemaphorePermit,
}

/// A job that is over, and what came of it: told when the queue has been looked at.
type Ended = (Job, Outcome);

/// The thread. Dropping waits until all that was queued is written.
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Job>>,
    places: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts it; it keeps the lock as long as it lives.
    pub(crate) fn start(connection: Connection, lock: Lock) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store-write".to_owned())
            .spawn(move || {
                serve(&connection, &jobs);
                // The connection empties the WAL as it closes; only then may another coordinator come.
                drop(connection);
                drop(lock);
            })?;
        Ok(Self {
            queue: Some(queue),
            places: Arc::new(Semaphore::new(JOBS_MAX)),
            thread: Some(thread),
        })
    }

    /// Jobs that are not done yet.
    pub(crate) fn waiting(&self) -> usize {
        JOBS_MAX.saturating_sub(self.places.available_permits())
    }

    /// Queues work and waits until it is durable or refused.
    pub(crate) async fn run(&self, work: Work) -> Result<Answer, StoreError> {
        let (answer, answered) = oneshot::channel();
        let Some(queue) = &self.queue else {
            return Err(because("the store is closing"));
        };
        let place = Arc::clone(&self.places).acquire_owned().await;
        let job = Job {
            work,
            answer,
            _place: place.map_err(|closed| unavailable(&closed))?,
        };
        queue
            .send(job)
            .map_err(|_gone| because("the store's writer has ended"))?;
        answered.await.map_err(|gone| unavailable(&gone))?
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

fn serve(connection: &Connection, jobs: &Receiver<Job>) {
    let mut lost: Option<StoreError> = None;
    let mut batch = Vec::new();
    let mut together = 1;
    loop {
        if batch.is_empty() {
            match jobs.recv() {
                Ok(job) => batch.push(job),
                Err(_no_callers_left) => return,
            }
        }
        gather(&mut batch, jobs, together);
        let ended = match &lost {
            None => run(connection, batch, &mut lost),
            Some(error) => refuse(batch, error),
        };
        // Who is queued by now did not wait for these answers: both may come together next time.
        batch = jobs.try_iter().take(BATCH_MAX).collect();
        together = ended.len().saturating_add(batch.len()).min(BATCH_MAX);
        for (job, outcome) in ended {
            let _caller_gone = job.answer.send(outcome);
        }
    }
}

/// Takes what is queued, and waits a moment for as many as came together last time.
fn gather(batch: &mut Vec<Job>, jobs: &Receiver<Job>, together: usize) {
    while batch.len() < BATCH_MAX {
        let next = jobs.try_recv().or_else(|_none_queued| {
            if batch.len() < together {
                jobs.recv_timeout(GATHER)
            } else {
                Err(RecvTimeoutError::Timeout)
            }
        });
        match next {
            Ok(job) => batch.push(job),
            Err(_late_or_gone) => return,
        }
    }
}

/// Writes a batch. `lost` is set to the error after which nothing may be written any more.
fn run(connection: &Connection, batch: Vec<Job>, lost: &mut Option<StoreError>) -> Vec<Ended> {
    match together(connection, &batch) {
        Ok(answers) => batch.into_iter().zip(answers).collect(),
        Err(Broken::Unsynced(error)) => {
            *lost = Some(error.clone());
            refuse(batch, &error)
        }
        Err(Broken::Failed(error)) if batch.len() == 1 => refuse(batch, &error),
        // One job may have been too big for what is left of the disk: it must not take the others with it.
        Err(Broken::Failed(_)) => {
            let mut ended = Vec::with_capacity(batch.len());
            for job in batch {
                ended.extend(match &*lost {
                    None => run(connection, vec![job], lost),
                    Some(error) => refuse(vec![job], error),
                });
            }
            ended
        }
    }
}

/// Writes one piece of work, for a caller that has the connection to itself.
pub(crate) fn alone(connection: &Connection, work: &Work) -> Outcome {
    let broken = |broken| match broken {
        Broken::Failed(error) | Broken::Unsynced(error) => error,
    };
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let outcome = in_savepoint(&transaction, work).map_err(broken)?;
    transaction.commit()?;
    outcome
}

fn refuse(batch: Vec<Job>, error: &StoreError) -> Vec<Ended> {
    let refused = |job| (job, Err(error.clone()));
    batch.into_iter().map(refused).collect()
}

fn together(connection: &Connection, batch: &[Job]) -> Result<Vec<Outcome>, Broken> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let mut answers = Vec::with_capacity(batch.len());
    for job in batch {
        answers.push(in_savepoint(&transaction, &job.work)?);
    }
    transaction.commit()?;
    Ok(answers)
}

fn in_savepoint(sql: &Connection, work: &Work) -> Result<Outcome, Broken> {
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
