//! What stands where the module host is: takes the agent's jobs one by one to a token in memory, within their deadlines, and
//! notes what took effect, and when. A token that hangs answers nothing: then each job ends as a late host's would.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lockstep::keystore::Keystore as _;
use lockstep::keystore::host::handle::{HostHandle, HostState, HostStatus, QUEUE_JOBS_MAX};
use lockstep::keystore::host::supervisor::Ask;
use lockstep::keystore::memory::MemoryToken;
use lockstep::model::job::{TokenAnswer, TokenJob, TokenOutcome};
use lockstep::model::step::Step;
use tokio::sync::{mpsc, watch};

use crate::transport;

/// A key that was enabled or disabled on a token, and proved.
#[derive(Debug, Clone)]
pub struct Effect {
    pub cka_id: Vec<u8>,
    pub enabled: bool,
    pub at: Instant,
}

/// A token with its record. Clones are the same.
#[derive(Debug, Clone)]
pub struct Token {
    pub memory: MemoryToken,
    hangs: Arc<AtomicBool>,
    effects: Arc<Mutex<Vec<Effect>>>,
}

impl Token {
    pub fn new(label: &str, seed: u64) -> Self {
        Self {
            memory: MemoryToken::new(label, seed),
            hangs: Arc::default(),
            effects: Arc::default(),
        }
    }

    /// From now on it answers nothing, or does again.
    pub fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Relaxed);
    }

    /// What took effect since the last call.
    pub fn effects(&self) -> Vec<Effect> {
        std::mem::take(&mut *self.effects.lock().unwrap())
    }

    /// A handle for one run of an agent; called inside its runtime.
    pub fn host(&self) -> HostHandle {
        let (asks, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        let (told, status) = watch::channel(HostStatus {
            state: HostState::Running {
                pid: std::process::id(),
            },
            starts: 1,
            failures: 0,
        });
        let token = self.clone();
        tokio::spawn(async move {
            token.answer(queue).await;
            drop(told);
        });
        HostHandle::new(asks, status)
    }

    async fn answer(mut self, mut queue: mpsc::Receiver<Ask>) {
        while let Some(ask) = queue.recv().await {
            if ask.reply.is_closed() {
                continue;
            }
            if ask.job != TokenJob::Stop {
                let began = Instant::now();
                while self.hangs.load(Ordering::Relaxed) && began.elapsed() < ask.deadline {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                if began.elapsed() >= ask.deadline {
                    let why = "the module host did not answer in time".to_owned();
                    drop(ask.reply.send(TokenOutcome::Unknown { why }));
                    continue;
                }
            }
            let job = transport::job(ask.job);
            let outcome = self.memory.perform(&job);
            self.note(&job, &outcome);
            drop(ask.reply.send(transport::outcome(outcome)));
        }
    }

    fn note(&self, job: &TokenJob, outcome: &TokenOutcome) {
        let (TokenJob::Run(job), TokenOutcome::Done(TokenAnswer::Ran(ran))) = (job, outcome) else {
            return;
        };
        if ran.failure.is_some() {
            return;
        }
        let enabled = job.steps.contains(&Step::ProveEnabled);
        if enabled || job.steps.contains(&Step::ProveDisabled) {
            self.effects.lock().unwrap().push(Effect {
                cka_id: job.object.cka_id.clone(),
                enabled,
                at: Instant::now(),
            });
        }
    }
}
