//! The writer task: what came in together shares one transaction, and is answered after COMMIT alone.
//!
//! ```text
//! wait for a job, take what else is queued
//!   BEGIN; lock the head            all changes of all coordinators run one after the other from here to COMMIT
//!     per job: SAVEPOINT, writes, RELEASE      refused: ROLLBACK TO, the others go on
//!   COMMIT, then all answers                   met another, line broke before COMMIT: all again, a few times
//! ```
//!
//! Behind one lock READ COMMITTED is as good as SERIALIZABLE: every statement sees all that was committed before the lock was
//! given, and nobody writes beside it. What it spares is the retries of whoever changes the same rows.

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::coordinator::store::encoded::{Encoded, because, unavailable};
use crate::coordinator::store::postgres::change;
use crate::coordinator::store::postgres::connect::{STATEMENT_WITHIN, line};
use crate::coordinator::store::postgres::failure::{Problem, text};
use crate::coordinator::store::postgres::schema::KNOWN;
use crate::coordinator::store::postgres::sql::{Sql, execute, row};
use crate::coordinator::store::{OperationRecord, StoreError};

/// Jobs that may wait; beyond it callers wait before they are let in.
const JOBS_MAX: usize = 4096;

/// Jobs that share one COMMIT: enough to hide its way to the disk, few enough to answer within some tens of milliseconds.
const BATCH_MAX: usize = 64;

/// How often a batch is tried that met another transaction, or whose line broke before COMMIT was sent.
const TRIES: u32 = 5;

/// Pause before the second try; doubled each time.
const PAUSE: Duration = Duration::from_millis(20);

/// Longest time from BEGIN to the answer to COMMIT: above what the server allows a single statement.
const BATCH_WITHIN: Duration = STATEMENT_WITHIN.saturating_mul(2);

/// What nobody can know once COMMIT was sent and no answer came.
const UNKNOWN: &str =
    "the outcome is not known: ask again under the same idempotency key to learn it";

/// Something to write.
#[derive(Debug)]
pub(crate) enum Work {
    /// A change of what is wanted.
    Commit(Box<Encoded>),
    /// Nothing, durably.
    Ping,
}

/// The operation that had been carried out before, if it had.
type Outcome = Result<Option<OperationRecord>, StoreError>;

#[derive(Debug)]
struct Job {
    work: Work,
    answer: oneshot::Sender<Outcome>,
}

/// The task's queue. The task ends when it is dropped, after what was queued is written.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Job>,
}

impl Writer {
    pub(crate) fn start(pool: Pool) -> Self {
        let (queue, jobs) = mpsc::channel(JOBS_MAX);
        let _runs_until_the_queue_ends = tokio::spawn(serve(pool, jobs));
        Self { queue }
    }

    /// Queues work and waits until it is durable or refused.
    pub(crate) async fn run(&self, work: Work) -> Outcome {
        let (answer, answered) = oneshot::channel();
        self.queue
            .send(Job { work, answer })
            .await
            .map_err(|_gone| because("the store's writer has ended"))?;
        answered.await.map_err(|gone| unavailable(&gone))?
    }
}

async fn serve(pool: Pool, mut jobs: mpsc::Receiver<Job>) {
    let mut lines = Lines { pool, own: None };
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while jobs.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let outcomes = lines.run(&batch).await;
        for (job, outcome) in batch.drain(..).zip(outcomes) {
            let _caller_gone = job.answer.send(outcome);
        }
    }
}

/// The writer's own line, kept while all goes well. One on which anything went wrong is closed, so nothing of it stays open.
struct Lines {
    pool: Pool,
    own: Option<Sql>,
}

/// Why nothing of a batch is known to be written.
enum Lost {
    /// Nothing was written, and it may go well at once.
    Again(StoreError),
    /// Nothing was written: the database is there and cannot do it.
    Tried(StoreError),
    /// The database is not there, or it was lost after COMMIT was sent.
    Down(StoreError),
}

impl From<Problem> for Lost {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Again(error) => Self::Again(error),
            Problem::Refused(error) | Problem::Broken(error) => Self::Tried(error),
        }
    }
}

impl Lines {
    /// Writes a batch; one outcome for each job. One that the database cannot do must not take the others with it.
    async fn run(&mut self, batch: &[Job]) -> Vec<Outcome> {
        match self.with_retries(batch).await {
            Ok(outcomes) => outcomes,
            Err(Lost::Tried(_)) if batch.len() > 1 => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for job in batch.chunks(1) {
                    outcomes.extend(match self.with_retries(job).await {
                        Ok(outcomes) => outcomes,
                        Err(Lost::Again(error) | Lost::Tried(error) | Lost::Down(error)) => {
                            vec![Err(error)]
                        }
                    });
                }
                outcomes
            }
            Err(Lost::Again(error) | Lost::Tried(error) | Lost::Down(error)) => {
                batch.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    async fn with_retries(&mut self, batch: &[Job]) -> Result<Vec<Outcome>, Lost> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.within(batch).await {
                Err(Lost::Again(_)) => sleep(pause).await,
                ended => return ended,
            }
            pause = pause.saturating_mul(2);
        }
        self.within(batch).await
    }

    async fn within(&mut self, batch: &[Job]) -> Result<Vec<Outcome>, Lost> {
        let ended = timeout(BATCH_WITHIN, self.once(batch)).await;
        ended.unwrap_or_else(|_elapsed| Err(Lost::Down(because(UNKNOWN))))
    }

    /// One transaction.
    async fn once(&mut self, batch: &[Job]) -> Result<Vec<Outcome>, Lost> {
        let sql = match self.own.take().filter(|own| !own.is_closed()) {
            Some(own) => own,
            None => Object::take(line(&self.pool).await.map_err(Lost::Down)?),
        };
        let outcomes = together(&sql, batch).await?;
        match sql.batch_execute("COMMIT").await {
            Ok(()) => {
                self.own = Some(sql);
                Ok(outcomes)
            }
            Err(error) => Err(Lost::Down(because(&format!("{UNKNOWN}: {}", text(&error))))),
        }
    }
}

async fn together(sql: &Sql, batch: &[Job]) -> Result<Vec<Outcome>, Lost> {
    lock_head(sql).await.map_err(|problem| match problem {
        // Each alone would wait as long for the same lock.
        Problem::Broken(error) => Lost::Down(error),
        Problem::Again(_) | Problem::Refused(_) => problem.into(),
    })?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for job in batch {
        outcomes.push(in_savepoint(sql, &job.work).await?);
    }
    Ok(outcomes)
}

async fn lock_head(sql: &Sql) -> Result<(), Problem> {
    sql.batch_execute("BEGIN").await?;
    let head = row(sql, "SELECT schema FROM head FOR UPDATE", &[]).await?;
    let schema: i32 = match head {
        Some(head) => head.try_get(0)?,
        None => return Err(because("the store's head is gone").into()),
    };
    if schema != KNOWN {
        let told = format!("the store has schema {schema} now, this program knows {KNOWN}");
        return Err(because(&told).into());
    }
    Ok(())
}

async fn in_savepoint(sql: &Sql, work: &Work) -> Result<Outcome, Problem> {
    sql.batch_execute("SAVEPOINT change").await?;
    let done = match work {
        Work::Commit(encoded) => change::commit(sql, encoded).await,
        Work::Ping => execute(sql, "UPDATE head SET pings = pings + 1", &[])
            .await
            .map(|_one| None)
            .map_err(Problem::from),
    };
    match done {
        Ok(earlier) => {
            sql.batch_execute("RELEASE change").await?;
            Ok(Ok(earlier))
        }
        Err(Problem::Refused(error)) => {
            sql.batch_execute("ROLLBACK TO change; RELEASE change")
                .await?;
            Ok(Err(error))
        }
        Err(problem) => Err(problem),
    }
}
