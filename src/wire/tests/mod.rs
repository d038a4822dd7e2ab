//! What is written is read back the same; what is not in the contract is refused with the name of its field; nothing panics.

pub(crate) mod arbitrary;
mod arbitrary_adoption;
mod arbitrary_token;
mod corpus;

use proptest::prelude::*;
use prost::Message;
use uuid::Uuid;

use crate::model::adoption::{AdoptionRecord, EXAMINE_KEYS_MAX};
use crate::model::capabilities::Capabilities;
use crate::model::desired::{Applied, Intent};
use crate::model::ids::{KeystoreId, Term};
use crate::model::job::TokenFailure;
use crate::model::keystore::{Health, TokenInfo};
use crate::model::material::{BirthRecord, Endorsement, Envelope, RepositoryCopy, Signed};
use crate::model::observed::{ObjectFacts, Observation};
use crate::model::protocol::{Description, Down, Report, Up};
use crate::wire::adoption::{ExamineAnswer, ExamineCall};
use crate::wire::calls::{GenerateCall, ProveCall, RewrapCall};
use crate::wire::invalid::InvalidMessage;
use crate::wire::kek::{KekCall, Keks, RewrapCopyCall};
use crate::wire::limits::{FOUND_OBJECTS_MAX, OBSERVATION_DEPTH_MAX, UNMANAGED_OBJECTS_MAX};
use crate::wire::tests::arbitrary as any;
use crate::wire::v1;

/// model -> v1 -> bytes -> v1 -> model.
fn round<M, W>(value: M) -> Result<M, InvalidMessage>
where
    W: Message + Default + From<M>,
    M: TryFrom<W, Error = InvalidMessage>,
{
    let bytes = W::from(value).encode_to_vec();
    M::try_from(W::decode(bytes.as_slice()).unwrap())
}

macro_rules! round_trips {
    ($($name:ident: $model:ty, $wire:ty, $strategy:expr;)+) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            $(
                #[test]
                fn $name(value in $strategy) {
                    prop_assert_eq!(round::<$model, $wire>(value.clone()), Ok(value));
                }
            )+
        }
    };
}

round_trips! {
    intent_comes_back: Intent, v1::Intent, any::intent();
    applied_comes_back: Applied, v1::Applied, any::applied();
    birth_comes_back: Signed<BirthRecord>, v1::BirthRecord, any::birth();
    endorsement_comes_back: Signed<Endorsement>, v1::Endorsement, any::endorsement();
    envelope_comes_back: Signed<Envelope>, v1::Envelope, any::envelope();
    token_info_comes_back: TokenInfo, v1::TokenInfo, any::token_info();
    capabilities_come_back: Capabilities, v1::Capabilities, arbitrary_token::capabilities();
    health_comes_back: Health, v1::Health, any::health();
    description_comes_back: Description, v1::DescribeResponse, arbitrary_token::description();
    facts_come_back: ObjectFacts, v1::ObjectFacts, any::facts();
    observation_comes_back: Observation, v1::Observation, any::observation();
    failure_comes_back: TokenFailure, v1::TokenFailure, any::failure();
    report_comes_back: Report, v1::Report, any::report();
    proved_report_comes_back: Report, v1::ProveResponse, any::report();
    down_comes_back: Down, v1::Down, any::down();
    up_comes_back: Up, v1::Up, any::up();
    generate_comes_back: GenerateCall, v1::GenerateRequest, any::generate();
    copy_comes_back: RepositoryCopy, v1::GenerateResponse, any::copy();
    kek_comes_back: KekCall, v1::KekRequest, any::kek_call();
    keks_come_back: Keks, v1::KekResponse, any::keks();
    rewrap_copy_comes_back: RewrapCopyCall, v1::RewrapCopyRequest, any::rewrap_copy();
    copy_wrapped_again_comes_back: RepositoryCopy, v1::RewrapCopyResponse, any::copy();
    rewrap_comes_back: RewrapCall, v1::RewrapRequest, any::rewrap();
    rewrapped_comes_back: Signed<Envelope>, v1::RewrapResponse, any::envelope();
    transport_key_comes_back: Signed<Endorsement>, v1::TransportKeyResponse, any::endorsement();
    examine_comes_back: ExamineCall, v1::ExamineRequest, arbitrary_adoption::examine();
    examined_comes_back: ExamineAnswer, v1::ExamineResponse, arbitrary_adoption::examined();
    adoption_comes_back: Signed<AdoptionRecord>, v1::AdoptionRecord, arbitrary_adoption::adoption();
    prove_comes_back: ProveCall, v1::ProveRequest, any::prove();
}

/// Whatever arrives is read or refused.
fn reads<M, W>(bytes: &[u8])
where
    W: Message + Default,
    M: TryFrom<W, Error = InvalidMessage>,
{
    if let Ok(message) = W::decode(bytes) {
        let _read_or_refused = M::try_from(message).is_ok();
    }
}

fn reads_all(bytes: &[u8]) {
    reads::<Down, v1::Down>(bytes);
    reads::<Up, v1::Up>(bytes);
    reads::<Description, v1::DescribeResponse>(bytes);
    reads::<GenerateCall, v1::GenerateRequest>(bytes);
    reads::<RepositoryCopy, v1::GenerateResponse>(bytes);
    reads::<RewrapCall, v1::RewrapRequest>(bytes);
    reads::<Signed<Envelope>, v1::RewrapResponse>(bytes);
    reads::<Signed<Endorsement>, v1::TransportKeyResponse>(bytes);
    reads::<Report, v1::ProveResponse>(bytes);
    reads::<ExamineCall, v1::ExamineRequest>(bytes);
    reads::<ExamineAnswer, v1::ExamineResponse>(bytes);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        reads_all(&bytes);
    }

    /// Bytes that are nearly right get further than random ones.
    #[test]
    fn a_changed_byte_is_read_or_refused(
        up in any::up(),
        down in any::down(),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        for mut bytes in [v1::Up::from(up).encode_to_vec(), v1::Down::from(down).encode_to_vec()] {
            let index = at.index(bytes.len());
            bytes[index] = to;
            reads_all(&bytes);
            bytes.truncate(index);
            reads_all(&bytes);
        }
    }

    /// No field of an intent can change on the way without being noticed.
    #[test]
    fn a_changed_intent_is_refused(intent in any::intent(), other in any::intent()) {
        prop_assume!(intent != other);
        let mut raw = v1::Intent::from(other);
        raw.digest = intent.digest().0.to_vec();
        let refused = Intent::try_from(raw).unwrap_err();
        prop_assert_eq!(refused.field, "digest");
    }
}

/// Changes a good message and tells which field its reader complains of.
fn complaint<M, W>(good: M, spoil: impl FnOnce(&mut W)) -> String
where
    W: From<M>,
    M: TryFrom<W, Error = InvalidMessage> + std::fmt::Debug,
{
    let mut raw = W::from(good);
    spoil(&mut raw);
    M::try_from(raw).unwrap_err().field
}

#[test]
fn bad_fields_of_an_intent_are_named() {
    let check = |spoil: fn(&mut v1::Intent), field: &str| {
        assert_eq!(complaint(any::one(any::intent()), spoil), field);
    };
    check(|raw| raw.version.truncate(15), "version");
    check(|raw| raw.keystore.push(0), "keystore");
    check(|raw| raw.want = 0, "want");
    check(|raw| raw.want = 9, "want");
    check(|raw| raw.digest.clear(), "digest");
    check(|raw| raw.generation ^= 1, "digest");
    check(|raw| raw.object = None, "object");
    check(|raw| raw.fingerprint = None, "fingerprint");
    check(
        |raw| raw.fingerprint.as_mut().unwrap().value.truncate(31),
        "fingerprint.value",
    );
    let object = |spoil: fn(&mut v1::ObjectPlan), field: &str| {
        let change = |raw: &mut v1::Intent| spoil(raw.object.as_mut().unwrap());
        assert_eq!(complaint(any::one(any::intent()), change), field);
    };
    object(|raw| raw.usage = 512, "object.usage");
    object(|raw| raw.usage = 1 << 20, "object.usage");
    object(|raw| raw.cka_id = vec![1; 65], "object.cka_id");
    object(|raw| raw.cka_id.clear(), "object.cka_id");
    object(|raw| raw.salt = vec![1; 65], "object.salt");
    object(|raw| raw.deactivated_usage = 3, "object.deactivated_usage");
    object(
        |raw| raw.spec.as_mut().unwrap().bits = 7,
        "object.spec.bits",
    );
    object(
        |raw| raw.spec.as_mut().unwrap().algorithm = 99,
        "object.spec.algorithm",
    );
}

#[test]
fn bad_fields_of_material_are_named() {
    let check = |spoil: fn(&mut v1::Envelope), field: &str| {
        assert_eq!(complaint(any::one(any::envelope()), spoil), field);
    };
    check(|raw| raw.signer.truncate(31), "signer");
    check(|raw| raw.signature.push(1), "signature");
    check(
        |raw| raw.wrapped_key = vec![0; 16 * 1024 + 1],
        "wrapped_key",
    );
    check(
        |raw| raw.wrapped_kek = vec![0; 16 * 1024 + 1],
        "wrapped_kek",
    );
    check(|raw| raw.spki = Some(vec![0; 4097]), "spki");
    check(|raw| raw.transport_digest.clear(), "transport_digest");
    check(|raw| raw.at_ms = -1, "at_ms");
    check(|raw| raw.target.clear(), "target");
    let check = |spoil: &dyn Fn(&mut v1::ExamineRequest), field: &str| {
        let good = any::one(arbitrary_adoption::examine());
        assert_eq!(complaint::<ExamineCall, _>(good, spoil), field);
    };
    let nobody = vec![v1::Candidate::default()];
    let too_many = vec![v1::Candidate::default(); EXAMINE_KEYS_MAX + 1];
    check(&|raw| raw.keys.clone_from(&nobody), "keys[0].cka_id");
    check(&|raw| raw.keys.clone_from(&too_many), "keys");
    check(&|raw| raw.salt = vec![0; 65], "salt");
    let other_blob = |raw: &mut v1::GenerateResponse| raw.blob.push(1);
    assert_eq!(complaint(any::one(any::copy()), other_blob), "blob");
}

#[test]
fn bad_fields_of_frames_are_named() {
    let report = || any::one(any::report());
    let check = |spoil: fn(&mut v1::Report), field: &str| {
        assert_eq!(complaint(report(), spoil), field);
    };
    check(|raw| raw.progress = None, "progress");
    check(
        |raw| raw.progress.as_mut().unwrap().state = None,
        "progress.state",
    );
    check(
        |raw| {
            let done_not = v1::progress::State::Done(false);
            raw.progress.as_mut().unwrap().state = Some(done_not);
        },
        "progress.done",
    );
    check(|raw| raw.observation = None, "observation");

    let fault = |body| Up::try_from(v1::Up { seq: 1, body }).unwrap_err().field;
    assert_eq!(fault(None), "body");
    let good = v1::Report::from(report());
    let mut bad = good.clone();
    bad.version.clear();
    let frame = |reports| Some(v1::up::Body::Reports(v1::Reports { reports }));
    assert_eq!(fault(frame(vec![good.clone(), bad])), "reports[1].version");
    assert_eq!(fault(frame(vec![good; 201])), "reports");
    let object = v1::ObjectFacts::from(any::one(any::facts()));
    let objects = vec![object.clone(); UNMANAGED_OBJECTS_MAX + 1];
    let frame = v1::up::Body::Unmanaged(v1::Unmanaged { objects });
    assert_eq!(fault(Some(frame)), "unmanaged");
    let absent = v1::Observation {
        state: Some(v1::observation::State::Absent(v1::Absent {
            same_label: vec![object; FOUND_OBJECTS_MAX + 1],
        })),
    };
    let refused = Observation::try_from(absent).unwrap_err();
    assert_eq!(refused.field, "absent.same_label");
    assert_eq!(
        refused.to_string(),
        "absent.same_label: has 1001 items, more than 1000"
    );
    assert!(Down::try_from(v1::Down { body: None }).is_err());
}

#[test]
fn deep_observations_are_refused() {
    let nested = |depth: usize| {
        (0..depth).fold(
            Observation::Unknown { why: String::new() },
            |last, _level| Observation::Suspected {
                last: Box::new(last),
            },
        )
    };
    let deepest = nested(OBSERVATION_DEPTH_MAX);
    assert_eq!(round::<_, v1::Observation>(deepest.clone()), Ok(deepest));
    assert!(round::<_, v1::Observation>(nested(OBSERVATION_DEPTH_MAX + 1)).is_err());
}

/// The bytes of an `Open` by hand from the protobuf encoding rules: field numbers may not move.
#[test]
fn the_contract_is_what_it_was() {
    let open = Down::Open {
        term: Term(3),
        keystore: KeystoreId::from_uuid(Uuid::from_bytes([7; 16])),
        cursor: None,
    };
    let mut expected = vec![0x0a, 20, 0x08, 3, 0x12, 16];
    expected.extend([7; 16]);
    assert_eq!(v1::Down::from(open).encode_to_vec(), expected);
}

#[test]
fn a_refusal_becomes_an_invalid_argument() {
    let status = tonic::Status::from(InvalidMessage::new("want", "unknown value 9").within("x"));
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert_eq!(status.message(), "x.want: unknown value 9");
}
