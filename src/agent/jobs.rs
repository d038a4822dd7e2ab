//! Whose job goes to the module host next, and the one that is there now.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use tokio::sync::oneshot;

use crate::agent::messages::CallFailure;
use crate::decide::agent::io::Ticket;
use crate::keystore::host::handle::HostHandle;
use crate::keystore::host::protocol::deadline;
use crate::model::ids::SessionNumber;
use crate::model::job::{TokenAnswer, TokenJob, TokenOutcome};

/// A waiting call is let through after this many jobs of the machine, which come first: what reduces use is among them. One
/// that only watches the token lets every other call through.
const MACHINE_JOBS_IN_A_ROW_MAX: u32 = 8;

/// Whether a job of the machine is part of its watch, which can wait.
const fn only_looks(job: &TokenJob) -> bool {
    matches!(job, TokenJob::Scan | TokenJob::ScanOn | TokenJob::Survey(_))
}

/// Where the answer to a call goes.
pub type Reply = oneshot::Sender<Result<TokenAnswer, CallFailure>>;

/// A job that waits.
#[derive(Debug)]
pub enum Job {
    /// The machine's.
    Machine {
        /// For the answer.
        ticket: Ticket,
        /// What.
        job: TokenJob,
    },
    /// A unary call's.
    Call {
        /// The session it belongs to.
        session: SessionNumber,
        /// What.
        job: TokenJob,
        /// For the answer.
        reply: Reply,
    },
}

/// Whose job is under way.
#[derive(Debug)]
pub enum Owner {
    /// The machine's.
    Machine(Ticket),
    /// A unary call's.
    Call(Reply),
    /// The loop's own.
    Prepare,
}

struct UnderWay {
    owner: Owner,
    outcome: Pin<Box<dyn Future<Output = TokenOutcome> + Send>>,
}

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnderWay({:?})", self.owner)
    }
}

/// The queue in front of the host.
#[derive(Debug)]
pub struct Jobs {
    host: HostHandle,
    machine: VecDeque<(Ticket, TokenJob)>,
    calls: VecDeque<(SessionNumber, TokenJob, Reply)>,
    calls_max: usize,
    in_a_row: u32,
    under_way: Option<UnderWay>,
}

impl Jobs {
    /// An empty queue.
    #[must_use]
    pub fn new(host: HostHandle, calls_max: usize) -> Self {
        Self {
            host,
            machine: VecDeque::new(),
            calls: VecDeque::new(),
            calls_max,
            in_a_row: 0,
            under_way: None,
        }
    }

    /// Whether the host has a job.
    #[must_use]
    pub const fn busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// The machine's next job; it has never more than one out.
    pub fn machine_wants(&mut self, ticket: Ticket, job: TokenJob) {
        self.machine.push_back((ticket, job));
    }

    /// A call's job, or its answer if too many wait.
    pub fn call(&mut self, session: SessionNumber, job: TokenJob, reply: Reply) {
        self.forget_gone();
        if self.calls.len() < self.calls_max {
            self.calls.push_back((session, job, reply));
        } else if reply.send(Err(CallFailure::TooMany)).is_err() {
            tracing::debug!("nobody waits for the answer any more");
        }
    }

    /// Calls whose callers have gone away take no place and no time.
    fn forget_gone(&mut self) {
        self.calls.retain(|(_, _, reply)| !reply.is_closed());
    }

    /// Takes the job that is to be started next.
    pub fn take_next(&mut self) -> Option<Job> {
        self.forget_gone();
        let looks = |(_, job): &(Ticket, TokenJob)| only_looks(job);
        let most = if self.machine.front().is_some_and(looks) {
            1
        } else {
            MACHINE_JOBS_IN_A_ROW_MAX
        };
        let call_first = self.in_a_row >= most && !self.calls.is_empty();
        if !call_first && let Some((ticket, job)) = self.machine.pop_front() {
            self.in_a_row = self.in_a_row.saturating_add(1);
            return Some(Job::Machine { ticket, job });
        }
        self.in_a_row = 0;
        let (session, job, reply) = self.calls.pop_front()?;
        Some(Job::Call {
            session,
            job,
            reply,
        })
    }

    /// Gives the host a job. The caller has seen that it has none.
    pub fn start(&mut self, owner: Owner, job: TokenJob) {
        let host = self.host.clone();
        let deadline = deadline(&job);
        self.under_way = Some(UnderWay {
            owner,
            outcome: Box::pin(async move { host.perform(job, deadline).await }),
        });
    }

    /// Gives the host the loop's own job.
    pub fn prepare(&mut self, internal: bool) {
        self.start(Owner::Prepare, TokenJob::Prepare { internal });
    }

    /// Waits for the job under way; for ever if there is none. May be dropped halfway without loss.
    pub async fn outcome(&mut self) -> (Owner, TokenOutcome) {
        let Some(under_way) = &mut self.under_way else {
            return std::future::pending().await;
        };
        let outcome = under_way.outcome.as_mut().await;
        match self.under_way.take() {
            Some(done) => (done.owner, outcome),
            None => std::future::pending().await,
        }
    }

    /// Gives the host back, to be stopped.
    #[must_use]
    pub fn into_host(self) -> HostHandle {
        self.host
    }
}
