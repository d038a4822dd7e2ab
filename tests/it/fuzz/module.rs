//! A PKCS#11 module that answers what fuzzing says, below every job that there is.

use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use lockstep::keystore::Keystore;
use lockstep::keystore::pkcs11::token::{Pkcs11Config, Pkcs11Token};
use lockstep::model::ids::{Digest, KeyVersionId};
use lockstep::model::job::{
    Glance, RewrapJob, RunJob, TakeOverJob, TokenAnswer, TokenJob, TokenOutcome, Wrapped,
};
use lockstep::model::kek::{KekJob, KekNumber, RewrapCopyJob};
use lockstep::model::key::{Algorithm, KeySpec};
use lockstep::model::keystore::{OaepHash, Route, Wrapping};
use lockstep::model::observed::{Fingerprint, FingerprintMethod};
use lockstep::model::step::Step;
use lockstep::model::text::hex;
use uuid::Uuid;

use crate::host_faults::{GONE, MARKER, OFF, plan, run};
use crate::support::fuzz::Target;
use crate::support::module::build;

const FINGERPRINT: Fingerprint = Fingerprint {
    method: FingerprintMethod::DigestKey,
    value: Digest([0x11; 32]),
};

/// An EC public part, DER: lengths and bytes that a parser walks.
fn spki() -> Vec<u8> {
    let head = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
    ];
    [&head[..], &[0x5a; 64]].concat()
}

fn route(wrapping: Wrapping) -> Route {
    Route {
        wrapping,
        oaep_hash: OaepHash::Sha256,
    }
}

fn wrapped(wrapping: Wrapping, spki: Option<Vec<u8>>) -> Wrapped {
    Wrapped {
        route: route(wrapping),
        wrapped_kek: vec![1; 384],
        wrapped_key: vec![2; 40],
        spki,
    }
}

/// Every kind of job. What comes with it from the wire is `extra`.
fn jobs(extra: &[u8]) -> Vec<TokenJob> {
    let (spec, salt) = (plan().spec, vec![1; 32]);
    let pair = KeySpec::new(Algorithm::Ec, 256).unwrap();
    let generate = |spec| TokenJob::Generate {
        version: KeyVersionId::from_uuid(Uuid::from_u128(3)),
        spec,
        salt: vec![1; 32],
    };
    let rewrap = |spec, transport: Vec<u8>, spki| {
        TokenJob::Rewrap(Box::new(RewrapJob {
            spec,
            salt: vec![1; 32],
            fingerprint: FINGERPRINT,
            spki,
            blob: vec![7; 40],
            kek: KekNumber::FIRST,
            transport_spki: transport,
            route: route(Wrapping::Rfc5649),
        }))
    };
    let install = |wrapping, spec, spki| {
        let mut object = plan();
        object.cka_id = vec![0xbb];
        "other".clone_into(&mut object.label);
        object.spec = spec;
        TokenJob::Run(Box::new(RunJob {
            object,
            fingerprint: FINGERPRINT,
            steps: vec![Step::Install, Step::ProveDisabled, Step::ProveEnabled],
            envelope: Some(wrapped(wrapping, spki)),
            hints: Vec::new(),
        }))
    };
    vec![
        TokenJob::Identify,
        TokenJob::Scan,
        TokenJob::Inspect(plan()),
        TokenJob::Survey(vec![glance(&[1]), glance(&[2, 3])]),
        TokenJob::Bind(MARKER),
        generate(spec),
        generate(pair),
        install(Wrapping::Rfc5649, spec, None),
        install(Wrapping::CbcPad, spec, None),
        install(Wrapping::Direct, spec, None),
        install(Wrapping::Rfc5649, pair, Some(spki())),
        install(Wrapping::Rfc5649, pair, Some(extra.to_vec())),
        run(&[OFF, Step::ProveDisabled]),
        run(&[GONE]),
        rewrap(spec, extra.to_vec(), None),
        rewrap(pair, spki(), Some(extra.to_vec())),
        TokenJob::TakeOver(Box::new(TakeOverJob {
            spec,
            salt: salt.clone(),
            fingerprint: FINGERPRINT,
            wrapped: wrapped(Wrapping::Rfc5649, None),
        })),
        TokenJob::RewrapCopy(Box::new(RewrapCopyJob {
            spec,
            salt,
            fingerprint: FINGERPRINT,
            spki: None,
            blob: extra.to_vec(),
            kek: KekNumber::FIRST,
        })),
        TokenJob::Kek(KekJob::Look),
        TokenJob::Kek(KekJob::Make(KekNumber::FIRST)),
        TokenJob::Kek(KekJob::Destroy(KekNumber::FIRST)),
        TokenJob::Prepare { internal: true },
        TokenJob::Prepare { internal: false },
    ]
}

/// The module keeps one tape for the whole process.
static MODULE: LazyLock<Mutex<PathBuf>> =
    LazyLock::new(|| Mutex::new(build("hostile", "libhostile.so")));

/// Opens the token and does one job, which the first byte names, with the rest as the module's tape.
fn perform(bytes: &[u8]) -> Option<TokenOutcome> {
    let (first, tape) = bytes.split_first()?;
    let extra = tape.get(..91).unwrap_or(tape);
    let mut jobs = jobs(extra);
    let job = jobs.swap_remove(usize::from(*first) % jobs.len());
    let module = MODULE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut token = Pkcs11Token::open(&Pkcs11Config {
        module: module.clone(),
        label: "home".to_owned(),
        serial: None,
        init_args: Some(hex(tape)),
    })
    .ok()?;
    token.login(&"1234".into(), false).ok()?;
    Some(token.perform(&job))
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn check(bytes: &[u8]) {
    match perform(bytes) {
        Some(TokenOutcome::Done(TokenAnswer::Identity(identity))) => {
            let info = identity.info;
            for text in [
                info.label,
                info.serial,
                info.model,
                info.manufacturer,
                info.library,
            ] {
                assert!(is_printable(&text), "{text:?}");
            }
        }
        Some(TokenOutcome::Done(TokenAnswer::Inventory(inventory))) => {
            for object in inventory.rest.objects {
                assert!(is_printable(&object.label), "{object:?}");
                assert!(object.cka_id.len() <= 64 * 1024);
            }
        }
        Some(_) | None => {}
    }
}

fn glance(handles: &[u64]) -> Glance {
    Glance {
        object: plan(),
        handles: handles.to_vec(),
    }
}

#[test]
fn whatever_a_module_answers_is_an_outcome() {
    let seeds = (0..jobs(&[]).len()).map(|job| {
        let mut seed = vec![0; 3000];
        seed[0] = u8::try_from(job).unwrap();
        seed
    });
    let mut seeds: Vec<Vec<u8>> = seeds.collect();
    // Each lie now and then, at every place of every job.
    for job in 0..jobs(&[]).len() {
        let job = u8::try_from(job).unwrap();
        for every in [3, 17, 61] {
            let lie = |at: usize| at.is_multiple_of(every).then_some((at * 31 % 256) as u8);
            let tape = (0..1500).map(|at| lie(at).unwrap_or(0));
            seeds.push([job].into_iter().chain(tape).collect());
        }
    }
    Target::new("module", seeds, check).cases(1500).run();
}

/// A module that tells the truth gets far: otherwise the lies would be tried at the door only.
#[test]
fn an_honest_tape_gets_through_the_jobs() {
    let done = |job: usize| {
        let mut tape = vec![0; 60_000];
        tape[0] = u8::try_from(job).unwrap();
        let outcome = perform(&tape);
        println!("{job}: {outcome:?}");
        matches!(outcome, Some(TokenOutcome::Done(_)))
    };
    let through: Vec<usize> = (0..jobs(&[]).len()).filter(|job| done(*job)).collect();
    assert!(through.len() >= 10, "{through:?}");
}
