//! The calls outside the session, each with its deadline, and the frames of the session as they come.

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::coordinator::ops::fleet::FleetError;
use crate::failpoint::{self, Point};
use crate::model::adoption::{Candidate, Examined};
use crate::model::ids::{Generation, KeyVersionId, KeystoreId, SessionNumber};
use crate::model::kek::{KekJob, KekNumber};
use crate::model::key::KeySpec;
use crate::model::material::{Endorsement, Envelope, RepositoryCopy, Signed};
use crate::model::observed::Proof;
use crate::model::protocol::{Description, Report, Up};
use crate::tls::config::Identity;
use crate::tls::connect::connect;
use crate::tls::error::{TlsError, chain};
use crate::tls::name::PeerName;
use crate::wire::adoption::{ExamineAnswer, ExamineCall};
use crate::wire::calls::{GenerateCall, ProveCall, RewrapCall, TakeOverCall};
use crate::wire::kek::{KekCall, Keks, RewrapCopyCall};
use crate::wire::limits::MESSAGE_BYTES_MAX;
use crate::wire::v1;
use crate::wire::v1::agent_client::AgentClient;

/// The generated client on a mutually authenticated channel.
pub(crate) type Client = AgentClient<Channel>;

/// Longest wait for an agent's answer: a host may be in its long grace for a write (design §3).
pub(crate) const CALL_WITHIN: Duration = Duration::from_secs(150);

/// Longest wait for `Describe`, which touches no token.
const DESCRIBE_WITHIN: Duration = Duration::from_secs(10);

/// Connects and checks the agent's URI name.
pub(crate) async fn dial(
    endpoint: &str,
    agent: &str,
    tls: &Identity,
) -> Result<Client, FleetError> {
    let name: PeerName = agent.parse().map_err(|problem| FleetError::Identity {
        why: format!("{agent:?}: {problem}"),
    })?;
    match connect(endpoint, &name, tls).await {
        Ok(channel) => Ok(AgentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)),
        Err(error @ TlsError::Unreachable { .. }) => {
            Err(FleetError::Unreachable { why: chain(&error) })
        }
        Err(error) => Err(FleetError::Identity { why: chain(&error) }),
    }
}

pub(crate) async fn describe(client: &mut Client) -> Result<Description, FleetError> {
    let request = within(v1::DescribeRequest {}, DESCRIBE_WITHIN);
    let answer = body(client.describe(request).await)?;
    Description::try_from(answer).map_err(unreadable)
}

pub(crate) async fn generate(
    client: &mut Client,
    session: SessionNumber,
    keystore: KeystoreId,
    version: KeyVersionId,
    spec: KeySpec,
    salt: Vec<u8>,
) -> Result<RepositoryCopy, FleetError> {
    let call = GenerateCall {
        session,
        version,
        spec,
        salt,
    };
    let answer = body(client.generate(within(call.into(), CALL_WITHIN)).await)?;
    let copy = RepositoryCopy::try_from(answer).map_err(unreadable)?;
    if copy.keystore == keystore {
        Ok(copy)
    } else {
        let why = format!("the birth record is of keystore {}", copy.keystore);
        Err(FleetError::Identity { why })
    }
}

pub(crate) async fn transport_key(
    client: &mut Client,
    session: SessionNumber,
) -> Result<Signed<Endorsement>, FleetError> {
    let request = within(v1::TransportKeyRequest { session: session.0 }, CALL_WITHIN);
    let answer = body(client.transport_key(request).await)?;
    Signed::try_from(answer).map_err(unreadable)
}

pub(crate) async fn rewrap(
    client: &mut Client,
    session: SessionNumber,
    copy: &RepositoryCopy,
    target: Signed<Endorsement>,
    generation: Generation,
) -> Result<Signed<Envelope>, FleetError> {
    let (blob, birth) = (copy.blob.clone(), copy.birth.clone());
    let call = RewrapCall {
        session,
        blob,
        birth,
        target,
        generation,
        kek: copy.kek,
    };
    let answer = body(client.rewrap(within(call.into(), CALL_WITHIN)).await)?;
    Signed::try_from(answer).map_err(unreadable)
}

pub(crate) async fn take_over(
    client: &mut Client,
    session: SessionNumber,
    envelope: Signed<Envelope>,
) -> Result<RepositoryCopy, FleetError> {
    let call = TakeOverCall { session, envelope };
    let answer = body(client.take_over(within(call.into(), CALL_WITHIN)).await)?;
    RepositoryCopy::try_from(answer).map_err(unreadable)
}

pub(crate) async fn kek(
    client: &mut Client,
    session: SessionNumber,
    job: KekJob,
) -> Result<Vec<KekNumber>, FleetError> {
    let call = KekCall { session, job };
    let answer = body(client.kek(within(call.into(), CALL_WITHIN)).await)?;
    let Keks(there) = Keks::try_from(answer).map_err(unreadable)?;
    Ok(there)
}

pub(crate) async fn rewrap_copy(
    client: &mut Client,
    session: SessionNumber,
    copy: &RepositoryCopy,
) -> Result<RepositoryCopy, FleetError> {
    let call = RewrapCopyCall {
        session,
        blob: copy.blob.clone(),
        kek: copy.kek,
        birth: copy.birth.clone(),
    };
    let answer = body(client.rewrap_copy(within(call.into(), CALL_WITHIN)).await)?;
    RepositoryCopy::try_from(answer).map_err(unreadable)
}

pub(crate) async fn prove(
    client: &mut Client,
    session: SessionNumber,
    version: KeyVersionId,
) -> Result<Proof, FleetError> {
    let call = ProveCall { session, version };
    let answer = body(client.prove(within(call.into(), CALL_WITHIN)).await)?;
    let report = Report::try_from(answer).map_err(unreadable)?;
    report.proof.ok_or_else(|| FleetError::Refused {
        code: "not_proved".to_owned(),
        reason: "the agent could not prove the key's state".to_owned(),
    })
}

pub(crate) async fn probe(
    client: &mut Client,
    session: SessionNumber,
    accept: bool,
) -> Result<Description, FleetError> {
    let session = session.0;
    let request = within(v1::ProbeRequest { session, accept }, CALL_WITHIN);
    let answer = body(client.probe(request).await)?;
    Description::try_from(answer).map_err(unreadable)
}

pub(crate) async fn examine(
    client: &mut Client,
    session: SessionNumber,
    salt: Vec<u8>,
    keys: Vec<Candidate>,
) -> Result<Vec<Examined>, FleetError> {
    let asked = keys.len();
    let call = ExamineCall {
        session,
        salt,
        keys,
    };
    let answer = body(client.examine(within(call.into(), CALL_WITHIN)).await)?;
    let ExamineAnswer(examined) = ExamineAnswer::try_from(answer).map_err(unreadable)?;
    if examined.len() == asked {
        Ok(examined)
    } else {
        Err(unreadable(format!(
            "{} answers to {asked} questions",
            examined.len()
        )))
    }
}

/// A frame of the session, or why there is none.
pub(crate) fn received(frame: Result<Option<v1::Up>, Status>) -> Result<Box<Up>, String> {
    let frame = match frame {
        Err(status) => return Err(format!("the line broke: {}", status.message())),
        Ok(None) => return Err("the agent ended the session".to_owned()),
        Ok(Some(frame)) => Up::try_from(frame).map_err(|problem| problem.to_string())?,
    };
    if frame.tells_of_done() && failpoint::fails(Point::ReportReceived) {
        return Err("the line broke".to_owned());
    }
    Ok(Box::new(frame))
}

fn within<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

fn body<T>(answer: Result<Response<T>, Status>) -> Result<T, FleetError> {
    answer
        .map(Response::into_inner)
        .map_err(|status| refused(&status))
}

/// An agent's refusals begin with a short code and a colon: `peer_not_listed: ...`.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "tonic's codes: all others are refusals"
)]
fn refused(status: &Status) -> FleetError {
    let message = status.message();
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Internal => FleetError::Unreachable {
            why: message.to_owned(),
        },
        Code::DeadlineExceeded | Code::Cancelled => FleetError::Late,
        Code::Unimplemented => FleetError::Refused {
            code: "agent_too_old".to_owned(),
            reason: "the agent does not know this call: bring it up to date".to_owned(),
        },
        _ => {
            let (code, reason) = message.split_once(':').unwrap_or(("refused", message));
            FleetError::Refused {
                code: code.trim().to_owned(),
                reason: reason.trim().to_owned(),
            }
        }
    }
}

fn unreadable(problem: impl std::fmt::Display) -> FleetError {
    FleetError::Unreachable {
        why: format!("the agent's answer cannot be read: {problem}"),
    }
}
