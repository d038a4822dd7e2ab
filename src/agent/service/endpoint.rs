//! The calls as tonic wants them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::agent::identity::Identity;
use crate::agent::messages::{CallFailure, Message, Shown};
use crate::agent::peers::Peers;
use crate::agent::service::refusal::{later, refused};
use crate::agent::service::{examine, kek, material, session};
use crate::clock;
use crate::decide::agent::io::StreamId;
use crate::model::ids::{Epoch, KeystoreId, SessionNumber};
use crate::model::job::{Prepared, TokenAnswer, TokenJob};
use crate::model::keystore::{Health, Variant};
use crate::model::protocol::Description;
use crate::wire::adoption::ExamineCall;
use crate::wire::calls::{GenerateCall, ProveCall, RewrapCall, TakeOverCall};
use crate::wire::kek::{KekCall, RewrapCopyCall};
use crate::wire::v1;
use crate::wire::v1::agent_server::Agent;

/// How long a call waits for a token that is being prepared.
const PREPARE_WAIT: Duration = Duration::from_secs(10);

/// The service. Clones share everything.
#[derive(Debug, Clone)]
pub struct AgentService {
    shared: Arc<Shared>,
}

/// What all calls share.
#[derive(Debug)]
pub struct Shared {
    /// The keystore and its binding; none before `bind`.
    pub bound: Option<(KeystoreId, Epoch)>,
    /// Internal or external.
    pub variant: Variant,
    /// Signs what this agent says about keys.
    pub identity: Identity,
    /// Whom it believes.
    pub peers: Peers,
    /// The way to the driver.
    pub messages: mpsc::Sender<Message>,
    /// What the driver shows.
    pub shown: watch::Receiver<Shown>,
    /// Number of the next stream.
    pub streams: AtomicU64,
}

impl Shared {
    /// A number for a new stream.
    pub fn next_stream(&self) -> StreamId {
        StreamId(self.streams.fetch_add(1, Ordering::Relaxed))
    }

    /// Tells the driver.
    ///
    /// # Errors
    /// `unavailable` while the agent stops.
    pub async fn tell(&self, message: Message) -> Result<(), Status> {
        let told = self.messages.send(message).await;
        told.map_err(|_closed| later("stopping", "the agent is stopping"))
    }

    /// Waits for the transport key and the capabilities, which are known shortly after the token is opened.
    ///
    /// # Errors
    /// `unavailable` if they are not known in time, with the reason.
    pub async fn prepared(&self) -> Result<Prepared, Status> {
        let mut shown = self.shown.clone();
        let ready = |shown: &Shown| {
            let waiting = matches!(shown.health, None | Some(Health::Ok | Health::Starting));
            shown.prepared.is_some() || shown.prepare_failure.is_some() || !waiting
        };
        let waited = tokio::time::timeout(PREPARE_WAIT, shown.wait_for(ready)).await;
        let now = match waited {
            Ok(Ok(now)) => now.clone(),
            Ok(Err(_)) => return Err(later("stopping", "the agent is stopping")),
            Err(_late) => return Err(later("not_ready", "the token is still being prepared")),
        };
        match (now.prepared, now.prepare_failure, now.health) {
            (Some(prepared), _, _) => Ok(prepared),
            (None, Some(why), _) => Err(later("not_ready", &why)),
            (None, None, Some(health)) => Err(CallFailure::Unhealthy(health).into()),
            (None, None, None) => Err(later("not_ready", "the token is still being opened")),
        }
    }

    /// Has the token do a job for a call.
    ///
    /// # Errors
    /// A status with its word.
    pub async fn perform(
        &self,
        session: SessionNumber,
        job: TokenJob,
    ) -> Result<TokenAnswer, Status> {
        Ok(self.ask(session, job).await??)
    }

    /// As [`Self::perform`], for calls to which the token's no is an answer.
    ///
    /// # Errors
    /// `unavailable` while the agent stops.
    pub async fn ask(
        &self,
        session: SessionNumber,
        job: TokenJob,
    ) -> Result<Result<TokenAnswer, CallFailure>, Status> {
        let (reply, answer) = oneshot::channel();
        self.tell(Message::Call {
            session,
            job,
            reply,
        })
        .await?;
        answer.await.map_err(stopping)
    }

    /// The keystore that this agent is bound to.
    ///
    /// # Errors
    /// `failed_precondition` before `bind`.
    pub fn bound(&self) -> Result<(KeystoreId, Epoch), Status> {
        let why = "this agent's token was not bound; run `lockstep-agent bind --config FILE`";
        self.bound.ok_or_else(|| refused("not_bound", why))
    }

    fn describe(&self) -> Description {
        let shown = self.shown.borrow();
        Description {
            keystore: self.bound.map(|(keystore, _)| keystore),
            epoch: self.bound.map_or(Epoch(0), |(_, epoch)| epoch),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            identity: self.identity.digest(),
            variant: self.variant,
            token: shown.token.clone(),
            capabilities: shown
                .prepared
                .as_ref()
                .map(|prepared| prepared.capabilities.clone()),
            accepted: shown.accepted.clone(),
            health: shown.health.clone().unwrap_or(Health::Starting),
            journal_records: shown.journal_records,
            clock: clock::unix_ms(),
        }
    }
}

fn stopping(_dropped: oneshot::error::RecvError) -> Status {
    later("stopping", "the agent is stopping")
}

impl AgentService {
    /// A service over these.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
        }
    }
}

#[tonic::async_trait]
impl Agent for AgentService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::Up, Status>> + Send>>;

    async fn describe(
        &self,
        _request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeResponse>, Status> {
        Ok(Response::new(self.shared.describe().into()))
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::Down>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let frames = session::open(Arc::clone(&self.shared), request.into_inner()).await?;
        Ok(Response::new(Box::pin(frames)))
    }

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        let call = GenerateCall::try_from(request.into_inner())?;
        let copy = material::generate(&self.shared, call).await?;
        Ok(Response::new(copy.into()))
    }

    async fn rewrap(
        &self,
        request: Request<v1::RewrapRequest>,
    ) -> Result<Response<v1::RewrapResponse>, Status> {
        let call = RewrapCall::try_from(request.into_inner())?;
        let envelope = material::rewrap(&self.shared, call).await?;
        Ok(Response::new(envelope.into()))
    }

    async fn take_over(
        &self,
        request: Request<v1::TakeOverRequest>,
    ) -> Result<Response<v1::TakeOverResponse>, Status> {
        let call = TakeOverCall::try_from(request.into_inner())?;
        let copy = material::take_over(&self.shared, call).await?;
        Ok(Response::new(copy.into()))
    }

    async fn kek(
        &self,
        request: Request<v1::KekRequest>,
    ) -> Result<Response<v1::KekResponse>, Status> {
        let call = KekCall::try_from(request.into_inner())?;
        let keks = kek::kek(&self.shared, call).await?;
        Ok(Response::new(keks.into()))
    }

    async fn rewrap_copy(
        &self,
        request: Request<v1::RewrapCopyRequest>,
    ) -> Result<Response<v1::RewrapCopyResponse>, Status> {
        let call = RewrapCopyCall::try_from(request.into_inner())?;
        let copy = kek::rewrap_copy(&self.shared, call).await?;
        Ok(Response::new(copy.into()))
    }

    async fn transport_key(
        &self,
        request: Request<v1::TransportKeyRequest>,
    ) -> Result<Response<v1::TransportKeyResponse>, Status> {
        let session = SessionNumber(request.into_inner().session);
        let endorsement = material::transport_key(&self.shared, session).await?;
        Ok(Response::new(endorsement.into()))
    }

    async fn prove(
        &self,
        request: Request<v1::ProveRequest>,
    ) -> Result<Response<v1::ProveResponse>, Status> {
        let call = ProveCall::try_from(request.into_inner())?;
        let (reply, answer) = oneshot::channel();
        self.shared
            .tell(Message::Prove {
                session: call.session,
                version: call.version,
                reply,
            })
            .await?;
        let report = answer.await.map_err(stopping)??;
        Ok(Response::new((*report).into()))
    }

    async fn probe(
        &self,
        request: Request<v1::ProbeRequest>,
    ) -> Result<Response<v1::ProbeResponse>, Status> {
        let asked = request.into_inner();
        let session = SessionNumber(asked.session);
        let internal = self.shared.variant == Variant::Internal;
        self.shared
            .perform(session, TokenJob::Prepare { internal })
            .await?;
        if asked.accept {
            tracing::info!("what the token can do now is accepted");
            let (reply, done) = oneshot::channel();
            self.shared.tell(Message::Accept { reply }).await?;
            done.await.map_err(stopping)?;
        }
        Ok(Response::new(self.shared.describe().into()))
    }

    async fn examine(
        &self,
        request: Request<v1::ExamineRequest>,
    ) -> Result<Response<v1::ExamineResponse>, Status> {
        let call = ExamineCall::try_from(request.into_inner())?;
        let answer = examine::examine(&self.shared, call).await?;
        Ok(Response::new(answer.into()))
    }
}
