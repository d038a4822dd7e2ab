//! One task per keystore: connects, opens the session, carries frames between the stream and the machine.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::clock;
use crate::coordinator::ops::fleet::{FleetError, LiveKeystore, Waiting};
use crate::coordinator::reconcile::calls::{self, Client};
use crate::coordinator::reconcile::contest::Contest;
use crate::coordinator::reconcile::fleet::Shared;
use crate::coordinator::reconcile::guard;
use crate::coordinator::reconcile::inbox::{Inbox, Note};
use crate::coordinator::reconcile::lease::Lease;
use crate::coordinator::reconcile::material;
use crate::coordinator::reconcile::repository::{self, Taking};
use crate::coordinator::reconcile::reread;
use crate::coordinator::reconcile::rotation;
use crate::coordinator::reconcile::told::{self, Told, Unkept};
use crate::decide::coordinator::{Input, Machine, Moment, Output};
use crate::failpoint::{self, Point};
use crate::model::ids::{KeyVersionId, KeystoreId, SessionNumber, Term, VaultId};
use crate::model::keystore::{Health, KeystoreRecord, Variant};
use crate::model::live::{Connection, Differing, Live};
use crate::model::material::{Endorsement, Signed};
use crate::model::protocol::{Description, Down, Report};
use crate::tls::error::chain;
use crate::wire::v1;

/// Between looks at the clock: heartbeats, retries.
const TICK: Duration = Duration::from_millis(500);

/// Between reads of what is wanted when nobody gave a hint: a lost hint costs no more than this.
const REREAD_TICKS: u32 = 20;

/// Between tries to tell other coordinators what they were not told yet.
const TELL_TICKS: u32 = 4;

/// A line on which nothing came for this long is dead: three heartbeats.
const SILENT_FOR: Duration = Duration::from_secs(16);

/// First pause before dialling again; doubled up to [`RECONNECT_MAX`].
const RECONNECT_MIN: Duration = Duration::from_millis(200);

/// Longest pause before dialling again.
const RECONNECT_MAX: Duration = Duration::from_secs(5);

/// Frames that may wait for a slow agent.
const FRAMES_MAX: usize = 256;

/// One keystore's line and what is known through it.
#[derive(Debug)]
pub struct Keeper {
    keystore: KeystoreId,
    state: Mutex<State>,
    inbox: Inbox,
    /// Until when it may act, where others may come after it.
    lease: Option<Arc<Lease>>,
    stop: CancellationToken,
    ended: CancellationToken,
}

/// What is known through it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) machine: Machine,
    client: Option<Client>,
    /// Where frames go down, to see how many wait.
    frames: Option<mpsc::WeakSender<v1::Down>>,
    pub(crate) description: Option<Arc<Description>>,
    endorsement: Option<Signed<Endorsement>>,
    /// The vault whose repository it belongs to, if it is an internal keystore.
    pub(crate) repository: Option<VaultId>,
    taking: Taking,
    rotating: Taking,
    /// Whether there may be keys that it lacks.
    lacks: bool,
    /// The term of the session.
    pub(crate) term: Term,
    pub(crate) told: Told,
    pub(crate) unkept: Unkept,
}

/// How an attempt at a session ended.
struct Ended {
    why: String,
    worked: bool,
    raise: Option<(Term, bool)>,
    removed: bool,
}

impl Keeper {
    pub(crate) fn new(keystore: KeystoreId, lease: Option<Arc<Lease>>) -> Self {
        let state = State {
            machine: Machine::new(keystore),
            client: None,
            frames: None,
            description: None,
            endorsement: None,
            repository: None,
            taking: Taking::Idle,
            rotating: Taking::Idle,
            lacks: false,
            term: Term::default(),
            told: Told::default(),
            unkept: Unkept::default(),
        };
        Self {
            keystore,
            state: Mutex::new(state),
            inbox: Inbox::default(),
            lease,
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Which keystore it keeps.
    pub(crate) const fn keystore(&self) -> KeystoreId {
        self.keystore
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its task still runs.
    pub(crate) fn is_kept(&self) -> bool {
        !self.ended.is_cancelled()
    }

    pub(crate) fn wake(&self) {
        self.inbox.wake();
    }

    /// Something else is wanted of an instance.
    pub(crate) fn wanted(&self, version: KeyVersionId) {
        self.inbox.wanted(version);
    }

    /// What waits on the way to its agent.
    pub(crate) fn waiting(&self) -> Waiting {
        let frames = self.lock().frames.as_ref().and_then(|down| down.upgrade());
        Waiting {
            notes: self.inbox.len(),
            frames: frames.map_or(0, |down| FRAMES_MAX.saturating_sub(down.capacity())),
        }
    }

    /// Ends its task.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until its task has ended.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether it may act: another coordinator may have come where the lease ran out.
    fn expect_lease(&self) -> Result<(), FleetError> {
        if self.lease.as_ref().is_none_or(|lease| lease.holds()) {
            return Ok(());
        }
        Err(FleetError::Unreachable {
            why: "the lease ran out".to_owned(),
        })
    }

    /// The client and the number of the live session.
    pub(crate) fn line(&self) -> Result<(Client, SessionNumber), FleetError> {
        self.expect_lease()?;
        let state = self.lock();
        match (&state.client, state.machine.known().session) {
            (Some(client), Some(session)) => Ok((client.clone(), session)),
            (Some(_) | None, _) => Err(FleetError::Unreachable {
                why: state.machine.connection().to_string(),
            }),
        }
    }

    /// The target's endorsed transport key, asked for once a session.
    pub(crate) async fn endorsement(&self) -> Result<Signed<Endorsement>, FleetError> {
        if let Some(known) = self.lock().endorsement.clone() {
            return Ok(known);
        }
        let (mut client, session) = self.line()?;
        let endorsement = calls::transport_key(&mut client, session).await?;
        self.lock().endorsement = Some(endorsement.clone());
        Ok(endorsement)
    }

    /// Begins to take keys over, if it is internal, well, and does not yet: the vault they are of.
    pub(crate) fn begin_taking(&self) -> Option<VaultId> {
        let mut state = self.lock();
        let vault = state.repository?;
        if state.machine.known().health != Some(Health::Ok) {
            return None;
        }
        let begun = state.taking.begin();
        state.lacks &= !begun;
        begun.then_some(vault)
    }

    /// Whether there may be more to take over now; else it is over, and what was left is tried again later.
    pub(crate) fn take_again(&self, left: bool) -> bool {
        let mut state = self.lock();
        state.lacks |= left;
        state.taking.again()
    }

    /// Begins to rotate the wrapping key, if it is internal, well, and does not yet.
    pub(crate) fn begin_rotating(&self) -> bool {
        let mut state = self.lock();
        let well = state.machine.known().health == Some(Health::Ok);
        state.repository.is_some() && well && state.rotating.begin()
    }

    /// Whether there may be more to do for a rotation.
    pub(crate) fn rotate_again(&self) -> bool {
        self.lock().rotating.again()
    }

    /// Whether there may be keys that it lacks.
    pub(crate) fn lacks(&self) -> bool {
        self.lock().lacks
    }

    /// What the agent says of itself now. True if that is news of what its token can do.
    pub(crate) fn describe_as(&self, description: Description) -> bool {
        let mut state = self.lock();
        let before = state.description.as_ref();
        let is_news = before.is_none_or(|before| {
            before.capabilities != description.capabilities
                || before.accepted != description.accepted
        });
        state.description = Some(Arc::new(description));
        is_news
    }

    /// Whom to ask what the token can do now: always where it was not told yet.
    pub(crate) fn undescribed(&self, is_due: bool) -> Option<Client> {
        let state = self.lock();
        let described = state.description.as_ref();
        if !is_due && described.is_some_and(|of| of.capabilities.is_some()) {
            return None;
        }
        state.client.clone()
    }

    /// What the agent last said of itself.
    pub(crate) fn description(&self) -> Option<Arc<Description>> {
        self.lock().description.clone()
    }

    pub(crate) fn ask_look(&self, version: Option<KeyVersionId>) -> Result<(), FleetError> {
        self.line()?;
        self.inbox.look(version);
        Ok(())
    }

    /// Whether a look at the token began after `asked_at`, as far as reports tell.
    pub(crate) fn looked_since(
        &self,
        version: Option<KeyVersionId>,
        asked_at: u64,
        now_ms: u64,
    ) -> bool {
        let state = self.lock();
        let age = match version {
            Some(version) => Some(state.machine.live(version, now_ms).look_age_ms),
            None => state.machine.known().scan_age_ms(now_ms),
        };
        age.is_some_and(|age| now_ms.saturating_sub(age) >= asked_at)
    }

    pub(crate) fn scan_age_ms(&self, now_ms: u64) -> Option<u64> {
        self.lock().machine.known().scan_age_ms(now_ms)
    }

    pub(crate) fn live(&self, version: KeyVersionId, now_ms: u64) -> Live {
        self.lock().machine.live(version, now_ms)
    }

    pub(crate) fn differing(&self) -> Differing {
        self.lock().machine.differing()
    }

    pub(crate) fn strangers(&self) -> Vec<Report> {
        self.lock().machine.strangers().cloned().collect()
    }

    pub(crate) fn live_keystore(&self, now_ms: u64) -> LiveKeystore {
        let state = self.lock();
        let known = state.machine.known();
        LiveKeystore {
            connection: state.machine.connection().clone(),
            health: known.health.clone(),
            description: state.description.clone(),
            unmanaged: known.unmanaged.clone(),
            scan_age_ms: known.scan_age_ms(now_ms),
        }
    }
}

/// Keeps one keystore until the process stops or its record is gone.
pub(crate) async fn run(shared: Arc<Shared>, keeper: Arc<Keeper>) {
    let _tells_that_it_ended = keeper.ended.clone().drop_guard();
    let mut pause = RECONNECT_MIN;
    let mut contest = Contest::default();
    loop {
        let ended = tokio::select! {
            () = shared.stop.cancelled() => None,
            // What is another coordinator's now, it keeps.
            () = keeper.stop.cancelled() => return forget_line(&keeper),
            ended = attempt(&shared, &keeper, &mut contest) => Some(ended),
        };
        told::keep_seen(&shared, &keeper).await;
        let Some(ended) = ended else {
            return forget_line(&keeper);
        };
        if let Some((highest, by_rival)) = ended.raise {
            contest.lost(highest, by_rival);
        }
        // A line that is gone has nothing to send; that all changed is told below.
        let _nobody_to_send_to = step(
            &shared,
            &keeper,
            Input::Gone {
                why: ended.why.clone(),
            },
        );
        forget_line(&keeper);
        told::tell(&shared, &keeper, &[]).await;
        shared.changed();
        if shared.guard.tried(keeper.keystore) {
            shared.wake_all();
        }
        if ended.removed {
            return;
        }
        tracing::info!(keystore = %keeper.keystore, why = ended.why, "session ended");
        pause = if ended.worked {
            RECONNECT_MIN
        } else {
            (pause * 2).min(RECONNECT_MAX)
        };
        // No two keepers dial in step: the id's own bits spread them.
        let spread = u64::from(keeper.keystore.uuid().as_fields().0 % 100);
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = keeper.stop.cancelled() => return,
            () = sleep(pause + pause / 100 * u32::try_from(spread).unwrap_or(0)) => {}
        }
    }
}

fn forget_line(keeper: &Keeper) {
    let mut state = keeper.lock();
    state.client = None;
    state.frames = None;
    state.endorsement = None;
}

/// Dials, opens a session and serves it until it ends.
async fn attempt(shared: &Arc<Shared>, keeper: &Arc<Keeper>, contest: &mut Contest) -> Ended {
    let failed = |why: String| Ended {
        why,
        worked: false,
        raise: None,
        removed: false,
    };
    if let Err(why) = contest.turn(shared.now_ms(), shared.guard.is_behind()) {
        return failed(why);
    }
    let record = match shared.store.keystore(keeper.keystore).await {
        Ok(Some(record)) => record,
        Ok(None) => {
            return Ended {
                removed: true,
                ..failed("the keystore was removed".to_owned())
            };
        }
        Err(error) => return failed(chain(&error)),
    };
    let opened = shared.turns.take(open(shared, keeper, &record, contest));
    let (down, mut up) = match opened.await {
        Ok(stream) => stream,
        Err(error) => return failed(chain(&error)),
    };
    serve(shared, keeper, &down, &mut up).await
}

async fn open(
    shared: &Arc<Shared>,
    keeper: &Arc<Keeper>,
    record: &KeystoreRecord,
    contest: &Contest,
) -> Result<(mpsc::Sender<v1::Down>, Streaming<v1::Up>), FleetError> {
    let mut client = calls::dial(&record.endpoint, &record.agent_name, &shared.tls).await?;
    let description = calls::describe(&mut client).await?;
    if description.identity != record.identity {
        return Err(FleetError::Identity {
            why: format!(
                "the agent's identity key is {}, this keystore was added with {}",
                description.identity, record.identity
            ),
        });
    }
    let store = |error| FleetError::Unreachable { why: chain(&error) };
    let term = guard::lease(shared, record.id, contest.above(), contest.has_rival())
        .await
        .map_err(store)?;
    let desired = shared
        .store
        .keystore_instances(record.id)
        .await
        .map_err(store)?;
    let (down, frames) = mpsc::channel(FRAMES_MAX);
    let mut outputs = Vec::new();
    {
        let mut state = keeper.lock();
        let at = moment(shared);
        let desired = desired.into_iter().map(|row| row.instance).collect();
        state
            .machine
            .step(at, Input::Desired(desired), &mut outputs);
        state
            .machine
            .step(at, Input::Connected { term }, &mut outputs);
        state.lacks = true;
        state.repository = (record.variant == Variant::Internal).then_some(record.vault);
        state.client = Some(client.clone());
        state.frames = Some(down.downgrade());
        state.description = Some(Arc::new(description));
        state.term = term;
    }
    for output in outputs {
        if let Output::Send(frame) = output {
            let _receiver_is_ours = down.send((*frame).into()).await;
        }
    }
    let up = client
        .session(ReceiverStream::new(frames))
        .await
        .map_err(|status| FleetError::Unreachable {
            why: status.message().to_owned(),
        })?;
    Ok((down, up.into_inner()))
}

async fn serve(
    shared: &Arc<Shared>,
    keeper: &Arc<Keeper>,
    down: &mpsc::Sender<v1::Down>,
    up: &mut Streaming<v1::Up>,
) -> Ended {
    let mut ended = Ended {
        why: String::new(),
        worked: false,
        raise: None,
        removed: false,
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since_read = 0;
    let mut heard = clock::Monotonic::now();
    loop {
        let outputs = tokio::select! {
            frame = up.message() => match calls::received(frame) {
                Err(why) => return Ended { why, ..ended },
                Ok(frame) => {
                    ended.worked = true;
                    heard = clock::Monotonic::now();
                    step(shared, keeper, Input::Up(frame))
                }
            },
            note = keeper.inbox.next() => match note {
                Note::Wake => {
                    since_read = 0;
                    repository::wake(shared, keeper);
                    rotation::wake(shared, keeper);
                    reread::wanted(shared, keeper).await
                }
                Note::Wanted(versions) => reread::some(shared, keeper, versions).await,
                Note::Look(version) => {
                    vec![Output::Send(Box::new(Down::Look { version }))]
                }
                Note::Material(version, generation, envelope) => {
                    step(shared, keeper, Input::Material { version, generation, envelope })
                }
            },
            _ = ticks.tick() => {
                if heard.elapsed() > SILENT_FOR {
                    return Ended { why: "the agent fell silent".to_owned(), ..ended };
                }
                since_read += 1;
                told::keep_seen_soon(shared, keeper);
                if since_read % TELL_TICKS == 0 {
                    told::tell(shared, keeper, &[]).await;
                }
                reread::description(shared, keeper, since_read >= REREAD_TICKS);
                let mut outputs = step(shared, keeper, Input::Tick);
                if since_read >= REREAD_TICKS {
                    since_read = 0;
                    if keeper.lacks() {
                        repository::wake(shared, keeper);
                    }
                    rotation::wake(shared, keeper);
                    outputs.extend(reread::wanted(shared, keeper).await);
                }
                outputs
            }
        };
        if let Err(why) = carry_out(shared, keeper, down, outputs, &mut ended.raise).await {
            return Ended { why, ..ended };
        }
    }
}

fn moment(shared: &Shared) -> Moment {
    Moment {
        now_ms: shared.now_ms(),
        unix: clock::unix_ms(),
    }
}

pub(crate) fn step(shared: &Shared, keeper: &Keeper, input: Input) -> Vec<Output> {
    let mut outputs = Vec::new();
    let mut state = keeper.lock();
    let at = moment(shared);
    // What is put out below is held back as soon as any agent shows that the store is old.
    let gathers = Input::Gather(shared.guard.gathers());
    state.machine.step(at, gathers, &mut outputs);
    state.machine.step(at, input, &mut outputs);
    let is_live = matches!(state.machine.connection(), Connection::Live);
    drop(state);
    if is_live && shared.guard.tried(keeper.keystore) {
        shared.wake_all();
    }
    outputs
}

async fn carry_out(
    shared: &Arc<Shared>,
    keeper: &Arc<Keeper>,
    down: &mpsc::Sender<v1::Down>,
    outputs: Vec<Output>,
    raise: &mut Option<(Term, bool)>,
) -> Result<(), String> {
    for output in outputs {
        match output {
            Output::Send(frame) => {
                keeper.expect_lease().map_err(|error| error.to_string())?;
                let is_intent = matches!(*frame, Down::Intent { .. });
                let sent = timeout(SILENT_FOR, down.send((*frame).into())).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return Err("the agent takes no frames".to_owned());
                }
                if is_intent && failpoint::fails(Point::Sent) {
                    return Err("the line broke".to_owned());
                }
            }
            Output::FetchMaterial {
                version,
                generation,
            } => {
                let (shared, keeper) = (Arc::clone(shared), Arc::clone(keeper));
                let tasks = shared.tasks.clone();
                tasks.spawn(async move {
                    let envelope = material::fetch(&shared, &keeper, version, generation).await;
                    keeper.inbox.material(version, generation, envelope);
                });
            }
            Output::Changed(versions) => {
                keeper.lock().unkept.add(&versions);
                if versions.is_empty() {
                    material::may_come(shared, keeper);
                }
                told::tell(shared, keeper, &versions).await;
                shared.changed();
            }
            Output::Evidence(evidence) => guard::note(shared, *evidence).await,
            Output::RaiseLease { highest, by_rival } => *raise = Some((highest, by_rival)),
            Output::Close { why } => return Err(why),
        }
    }
    Ok(())
}
