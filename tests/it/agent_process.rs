//! The agent as a process, on real SoftHSM2 tokens, called over mTLS as a coordinator would.

use std::os::unix::fs::PermissionsExt as _;

use lockstep::model::canonical::sha256;
use lockstep::model::capabilities::Strategy;
use lockstep::model::desired::{Intent, ObjectPlan, Want};
use lockstep::model::ids::{Generation, KeyVersionId, KeystoreId, SessionNumber, Term};
use lockstep::model::key::{Algorithm, DeactivatedUsage, KeySpec, UsageSet};
use lockstep::model::keystore::{Health, Variant};
use lockstep::model::material::{Endorsement, Envelope, RepositoryCopy, Signed};
use lockstep::model::observed::{Fingerprint, FingerprintMethod, Observation, ProofKind};
use lockstep::model::protocol::{
    Description, Down, Progress, Refusal, Report, SessionRefusal, Up, UpBody,
};
use lockstep::wire::calls::{GenerateCall, ProveCall, RewrapCall};
use lockstep::wire::v1;
use lockstep::wire::v1::agent_client::AgentClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use uuid::Uuid;

use crate::support::agent::{Agent, Fleet, send_signal};

/// The coordinator's end of a session.
struct Session {
    client: AgentClient<Channel>,
    down: mpsc::Sender<v1::Down>,
    up: Streaming<v1::Up>,
    number: SessionNumber,
}

impl Session {
    /// Opens a stream; the first frame that came back.
    async fn dial(fleet: &Fleet, agent: &Agent, keystore: KeystoreId, term: u64) -> (Self, UpBody) {
        let mut client = fleet.client(agent).await;
        let (down, frames) = mpsc::channel(16);
        let open = Down::Open {
            term: Term(term),
            keystore,
            cursor: None,
        };
        down.send(open.into()).await.unwrap();
        let up = client.session(ReceiverStream::new(frames)).await.unwrap();
        let mut session = Self {
            client,
            down,
            up: up.into_inner(),
            number: SessionNumber(0),
        };
        let first = session.next().await.unwrap();
        (session, first)
    }

    async fn open(fleet: &Fleet, agent: &Agent, term: u64) -> Self {
        let (mut session, first) = Self::dial(fleet, agent, agent.keystore(), term).await;
        let UpBody::Accepted {
            session: number, ..
        } = first
        else {
            panic!("{first:?}");
        };
        session.number = number;
        session
    }

    /// The next frame; none at the end of the stream.
    async fn next(&mut self) -> Option<UpBody> {
        let raw = self.up.message().await.unwrap()?;
        Some(Up::try_from(raw).unwrap().body)
    }

    async fn intend(&self, intent: &Intent) {
        self.intend_with(intent, None).await;
    }

    async fn intend_with(&self, intent: &Intent, envelope: Option<Signed<Envelope>>) {
        let frame = Down::Intent {
            intent: Box::new(intent.clone()),
            envelope: envelope.map(Box::new),
        };
        self.down.send(frame.into()).await.unwrap();
    }

    /// Reads frames until one of them gives a value.
    async fn until<T>(&mut self, mut wanted: impl FnMut(UpBody) -> Option<T>) -> T {
        loop {
            let frame = self.next().await.unwrap();
            if let Some(found) = wanted(frame) {
                return found;
            }
        }
    }

    async fn generate(&mut self, spec: KeySpec) -> Result<RepositoryCopy, Status> {
        let call = GenerateCall {
            session: self.number,
            version: KeyVersionId::from_uuid(Uuid::new_v4()),
            spec,
            salt: vec![7; 32],
        };
        let made = self
            .client
            .generate(v1::GenerateRequest::from(call))
            .await?;
        Ok(RepositoryCopy::try_from(made.into_inner()).unwrap())
    }

    async fn transport_key(&mut self) -> Signed<Endorsement> {
        let request = v1::TransportKeyRequest {
            session: self.number.0,
        };
        let answer = self.client.transport_key(request).await.unwrap();
        answer.into_inner().try_into().unwrap()
    }

    async fn prove(&mut self, version: KeyVersionId) -> Result<Report, Status> {
        let call = ProveCall {
            session: self.number,
            version,
        };
        let answer = self.client.prove(v1::ProveRequest::from(call)).await?;
        Ok(answer.into_inner().try_into().unwrap())
    }

    async fn rewrap(
        &mut self,
        copy: &RepositoryCopy,
        target: &Signed<Endorsement>,
    ) -> Result<Signed<Envelope>, Status> {
        let call = RewrapCall {
            session: self.number,
            blob: copy.blob.clone(),
            birth: copy.birth.clone(),
            target: target.clone(),
            generation: Generation(1),
            kek: copy.kek,
        };
        let answer = self.client.rewrap(v1::RewrapRequest::from(call)).await?;
        Ok(answer.into_inner().try_into().unwrap())
    }
}

/// The first intent of a key version that never was on the token: that it shall never be.
fn never(keystore: KeystoreId) -> Intent {
    let version = KeyVersionId::from_uuid(Uuid::new_v4());
    Intent {
        version,
        keystore,
        generation: Generation(1),
        want: Want::Destroyed,
        object: ObjectPlan {
            cka_id: version.uuid().as_bytes().to_vec(),
            label: "never".to_owned(),
            spec: aes(),
            usage: UsageSet::NONE,
            deactivated_usage: DeactivatedUsage::None,
            salt: vec![7; 32],
            strategy: Strategy::Flags,
        },
        fingerprint: Fingerprint {
            method: FingerprintMethod::DigestKey,
            value: sha256(b"never"),
        },
    }
}

/// Takes a report of an instance that says its intent was carried out.
fn done(version: KeyVersionId) -> impl FnMut(UpBody) -> Option<Report> {
    move |frame| {
        let UpBody::Reports(reports) = frame else {
            return None;
        };
        let wanted =
            |report: &Report| report.version == version && report.progress == Progress::Done;
        reports.into_iter().find(wanted)
    }
}

/// Sets how large files of a process may become; none: as large as they like.
fn limit_files(pid: u32, bytes: Option<u64>) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap());
    let limit = rustix::process::Rlimit {
        current: bytes,
        maximum: None,
    };
    rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).unwrap();
}

/// The file that every SoftHSM2 process locks when it looks whether another one has changed the token.
fn generation_file(agent: &Agent) -> std::fs::File {
    let mut tokens = std::fs::read_dir(&agent.token.tokens).unwrap();
    let token = tokens.next().unwrap().unwrap().path();
    let mut options = std::fs::File::options();
    options.read(true).write(true);
    options.open(token.join("generation")).unwrap()
}

/// Whether a process waits for a file lock.
fn waits_for_a_lock(pid: u32) -> bool {
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let waits = |line: &str| line.contains(" -> ") && line.contains(&format!(" {pid} "));
    locks.lines().any(waits)
}

fn aes() -> KeySpec {
    KeySpec::new(Algorithm::Aes, 256).unwrap()
}

fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, word: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(
        status.message().starts_with(&format!("{word}: ")),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn says_who_it_is_and_how_well() {
    let fleet = Fleet::new();
    let agent = fleet.running("home", Variant::Internal);
    let seen = fleet.ready(&agent).await;
    assert_eq!(seen.keystore, Some(agent.keystore()));
    assert_eq!(seen.epoch.0, 1);
    assert_eq!(seen.identity, agent.identity());
    assert_eq!(seen.variant, Variant::Internal);
    assert_eq!(seen.token.label, "home");
    assert_eq!(seen.token.serial, agent.token.serial);
    assert!(seen.capabilities.unwrap().rfc5649.is_some());
    assert_eq!(seen.version, env!("CARGO_PKG_VERSION"));

    let mut health = HealthClient::new(fleet.channel(&agent).await);
    for service in ["", "lockstep.agent.v1.Agent"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
    }

    let mut reflection = ServerReflectionClient::new(fleet.channel(&agent).await);
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(
            "lockstep.agent.v1.Agent".to_owned(),
        )),
    };
    let answers = reflection.server_reflection_info(tokio_stream::once(question));
    let mut answers = answers.await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::FileDescriptorResponse(files)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(files.file_descriptor_proto.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_is_tried_once_across_restarts() {
    let tries = |agent: &Agent| agent.log().matches("the token was not opened").count();
    let fleet = Fleet::new();
    let mut agent = fleet.agent("home", Variant::External);
    agent.ok(&["bind"]);
    let right = std::fs::read(&agent.token.pin_file).unwrap();
    std::fs::write(&agent.token.pin_file, "000000").unwrap();
    for _start in 0..3 {
        agent.start();
        let wrong = |seen: &Description| seen.health == Health::WrongPin;
        fleet.described(&agent, wrong).await;
        assert_eq!(tries(&agent), 1, "{}", agent.log());
        assert_eq!(agent.end("KILL"), None);
    }
    // `bind` does not spend a try either.
    let (code, said) = agent.fails(&["bind"]);
    assert_eq!(code, 1);
    assert!(said.contains("not tried again"), "{said}");

    // Another wrong one is tried once, the right one opens the token without a restart.
    agent.start();
    std::fs::write(&agent.token.pin_file, "111111").unwrap();
    agent.wait(|agent| tries(agent) == 2);
    std::fs::write(&agent.token.pin_file, right).unwrap();
    fleet.ready(&agent).await;
    assert_eq!(tries(&agent), 2, "{}", agent.log());
    assert!(!agent.log().contains("000000"));
}

#[test]
fn a_pin_that_others_can_read_is_refused() {
    let fleet = Fleet::new();
    let agent = fleet.agent("home", Variant::External);
    let pin = &agent.token.pin_file;
    std::fs::set_permissions(pin, std::fs::Permissions::from_mode(0o640)).unwrap();
    for command in ["serve", "check-config"] {
        let (code, said) = agent.fails(&[command]);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("token.pin_file"), "{said}");
        assert!(said.contains("group or others may read the PIN"), "{said}");
    }
    std::fs::set_permissions(pin, std::fs::Permissions::from_mode(0o600)).unwrap();
    agent.ok(&["check-config"]);
}

#[test]
fn a_config_that_cannot_be_used_exits_with_78() {
    let fleet = Fleet::new();
    let agent = fleet.agent("home", Variant::External);
    let file = agent.dir.join("agent.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let cases = [
        (good.replace("label =", "lable ="), "unknown field `lable`"),
        (
            good.replace("name = \"home\"", "name = \"away\""),
            "agent/home",
        ),
        (good.replace("cert.pem", "gone.pem"), "tls.cert: "),
    ];
    for (config, expected) in cases {
        std::fs::write(&file, config).unwrap();
        let (code, said) = agent.fails(&["serve"]);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_module_host_comes_back_by_itself() {
    let fleet = Fleet::new();
    let mut agent = fleet.running("home", Variant::External);
    fleet.ready(&agent).await;
    let before = agent.module_host().unwrap();
    send_signal(before, "KILL");
    agent.wait(|agent| agent.module_host().is_some_and(|now| now != before));
    fleet.ready(&agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_host_that_outlives_its_agent_is_waited_for() {
    let fleet = Fleet::new();
    let mut agent = fleet.running("home", Variant::External);
    fleet.ready(&agent).await;
    let orphan = agent.module_host().unwrap();
    // SoftHSM2 waits for this lock within the next call.
    let locked = generation_file(&agent);
    rustix::fs::fcntl_lock(&locked, rustix::fs::FlockOperation::LockExclusive).unwrap();
    agent.wait(|_| waits_for_a_lock(orphan));
    agent.end("KILL");
    agent.spawn();
    agent.wait(|agent| agent.log().contains("waiting for the module host"));
    assert!(!agent.told().exists());
    assert_eq!(agent.module_host(), None);
    drop(locked);
    agent.wait_listening();
    fleet.ready(&agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_nothing_is_lost() {
    let fleet = Fleet::new();
    let mut agent = fleet.agent("home", Variant::External);
    agent.ok(&["bind"]);
    // Its log shares the limit.
    agent.log_filter = "off".to_owned();
    agent.start();
    fleet.ready(&agent).await;
    let mut session = Session::open(&fleet, &agent, 1).await;
    let intent = never(agent.keystore());
    let journal = agent.dir.join("state/journal");
    let before = std::fs::read(&journal).unwrap();
    let full = u64::try_from(before.len()).unwrap() + 7;
    limit_files(agent.pid(), Some(full));
    session.intend(&intent).await;
    let refused = |frame| {
        let UpBody::Refused {
            version, refusal, ..
        } = frame
        else {
            return None;
        };
        (version == intent.version).then_some(refusal)
    };
    let refusal = session.until(refused).await;
    assert!(matches!(refusal, Refusal::Journal { .. }), "{refusal:?}");
    assert_eq!(std::fs::read(&journal).unwrap(), before);
    let failed = |seen: &Description| matches!(seen.health, Health::JournalFailed { .. });
    fleet.described(&agent, failed).await;

    // There is room again: it notices by itself, and the same intent is taken.
    limit_files(agent.pid(), None);
    fleet.ready(&agent).await;
    session.intend(&intent).await;
    let report = session.until(done(intent.version)).await;
    assert_eq!(report.applied, Some(intent.applied()));
    assert!(matches!(report.observation, Observation::Absent { .. }));

    // After a kill the journal still knows it.
    drop(session);
    agent.end("KILL");
    agent.start();
    fleet.ready(&agent).await;
    let mut session = Session::open(&fleet, &agent, 1).await;
    let report = session.until(done(intent.version)).await;
    assert_eq!(report.applied, Some(intent.applied()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_dir_has_one_agent_and_stops_when_told() {
    let fleet = Fleet::new();
    let mut agent = fleet.running("home", Variant::External);
    fleet.ready(&agent).await;
    for command in ["serve", "bind"] {
        let (code, said) = agent.fails(&[command]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("another lockstep-agent is running"), "{said}");
    }
    let session = Session::open(&fleet, &agent, 1).await;
    let host = agent.module_host().unwrap();
    assert_eq!(agent.end("TERM"), Some(0), "{}", agent.log());
    assert!(!std::path::Path::new(&format!("/proc/{host}")).exists());
    drop(session);
    // It comes back with the same journal.
    agent.start();
    fleet.ready(&agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_on_a_token_is_told_whose_it_is() {
    let fleet = Fleet::new();
    let first = fleet.agent("home", Variant::External);
    first.ok(&["bind"]);
    first.ok(&["bind"]);
    let mut second = fleet.agent_on("other", Variant::External, first.token.clone());
    let (code, said) = second.fails(&["bind"]);
    assert_eq!(code, 1, "{said}");
    let owner = first.keystore();
    assert!(said.contains("token_belongs_to: "), "{said}");
    assert!(said.contains(&owner.to_string()), "{said}");

    second.start();
    let told = fleet
        .described(&second, |seen| matches!(seen.health, Health::BelongsTo(_)))
        .await;
    assert_eq!(told.keystore, None);
    assert!(matches!(told.health, Health::BelongsTo(marker) if marker.keystore == owner));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_lives_and_calls_name_it() {
    let fleet = Fleet::new();
    let agent = fleet.running("home", Variant::Internal);
    fleet.ready(&agent).await;
    let mut first = Session::open(&fleet, &agent, 1).await;
    first.generate(aes()).await.unwrap();
    let mut second = Session::open(&fleet, &agent, 1).await;
    assert!(second.number > first.number);
    assert_refused(first.generate(aes()).await, "stale_session");
    while first.next().await.is_some() {}
    second.generate(aes()).await.unwrap();

    let (_, refused) = Session::dial(&fleet, &agent, agent.keystore(), 0).await;
    let stale = SessionRefusal::StaleTerm { highest: Term(1) };
    assert_eq!(refused, UpBody::Rejected(stale));
    let other = KeystoreId::from_uuid(Uuid::new_v4());
    let (_, refused) = Session::dial(&fleet, &agent, other, 2).await;
    let actual = Some(agent.keystore());
    let wrong = SessionRefusal::WrongKeystore { actual };
    assert_eq!(refused, UpBody::Rejected(wrong));
    drop(second.down);
}

#[tokio::test(flavor = "multi_thread")]
async fn material_goes_to_listed_peers_only() {
    let fleet = Fleet::new();
    let home = fleet.running("home", Variant::Internal);
    let away = fleet.running("away", Variant::External);
    fleet.ready(&home).await;
    fleet.ready(&away).await;
    let mut source = Session::open(&fleet, &home, 1).await;
    let mut target = Session::open(&fleet, &away, 1).await;
    assert_refused(target.generate(aes()).await, "not_internal");

    let copy = source.generate(aes()).await.unwrap();
    assert_eq!(copy.keystore, home.keystore());
    assert_eq!(copy.birth.signer_digest(), home.identity());
    let endorsement = target.transport_key().await;
    assert_eq!(endorsement.body.keystore, away.keystore());
    assert_eq!(endorsement.signer_digest(), away.identity());

    assert_refused(source.rewrap(&copy, &endorsement).await, "peer_not_listed");
    home.trust(&away);
    let envelope = source.rewrap(&copy, &endorsement).await.unwrap();
    assert_eq!(envelope.body.source, home.keystore());
    assert_eq!(envelope.body.target, away.keystore());
    assert_eq!(envelope.body.fingerprint, copy.birth.body.fingerprint);
    assert_eq!(envelope.body.transport, sha256(&endorsement.body.spki));

    let mut other_key = endorsement.clone();
    other_key.body.spki = source.transport_key().await.body.spki;
    assert_refused(source.rewrap(&copy, &other_key).await, "bad_signature");
    let mut other_blob = copy.clone();
    other_blob.blob = source.generate(aes()).await.unwrap().blob;
    assert_refused(
        source.rewrap(&other_blob, &endorsement).await,
        "blob_mismatch",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_from_one_token_to_another_if_its_source_is_listed() {
    let fleet = Fleet::new();
    let home = fleet.running("home", Variant::Internal);
    let away = fleet.running("away", Variant::External);
    fleet.ready(&home).await;
    fleet.ready(&away).await;
    home.trust(&away);
    let mut source = Session::open(&fleet, &home, 1).await;
    let mut target = Session::open(&fleet, &away, 1).await;
    let copy = source.generate(aes()).await.unwrap();
    let endorsement = target.transport_key().await;
    let envelope = source.rewrap(&copy, &endorsement).await.unwrap();
    let birth = &copy.birth.body;
    let intent = Intent {
        version: birth.version,
        want: Want::Active,
        object: ObjectPlan {
            cka_id: birth.version.uuid().as_bytes().to_vec(),
            label: "travelled".to_owned(),
            spec: birth.spec,
            usage: birth.spec.default_usage(),
            deactivated_usage: DeactivatedUsage::None,
            salt: birth.salt.clone(),
            strategy: Strategy::Flags,
        },
        fingerprint: birth.fingerprint,
        ..never(away.keystore())
    };

    target.intend_with(&intent, Some(envelope.clone())).await;
    let refused = |frame| match frame {
        UpBody::Refused { refusal, .. } => Some(refusal),
        UpBody::Accepted { .. }
        | UpBody::Rejected(_)
        | UpBody::Reports(_)
        | UpBody::Unmanaged(_)
        | UpBody::CaughtUp { .. }
        | UpBody::Health(_)
        | UpBody::Heartbeat { .. } => None,
    };
    let Refusal::Envelope { reason } = target.until(refused).await else {
        panic!("refused for another reason");
    };
    assert!(reason.starts_with("peer_not_listed: "), "{reason}");
    let listed = away
        .token
        .pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(!listed.contains("travelled"), "{listed}");

    away.trust(&home);
    target.intend_with(&intent, Some(envelope)).await;
    let report = target.until(done(intent.version)).await;
    assert_eq!(report.applied, Some(intent.applied()));
    let Observation::Present(found) = &report.observation else {
        panic!("{report:?}");
    };
    assert_eq!(found.fingerprint, Some(intent.fingerprint));
    assert_eq!(found.objects[0].usage, intent.object.usage);
    assert_eq!(found.objects[0].sensitive, Some(true));
    assert_eq!(found.objects[0].extractable, Some(false));
    assert_eq!(report.proof.unwrap().kind, ProofKind::Tried);
    let proved = target.prove(intent.version).await.unwrap();
    assert_eq!(proved.proof.unwrap().kind, ProofKind::Tried);
    let listed = away
        .token
        .pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("travelled"), "{listed}");
    let unknown = KeyVersionId::from_uuid(Uuid::new_v4());
    assert_refused(target.prove(unknown).await, "not_proved");
}
