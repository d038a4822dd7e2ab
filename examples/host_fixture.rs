//! A module host for the tests of the host alone. With a module that is there it opens the real token; without one it plays
//! a scripted token that hangs, dies and babbles on demand.
//!
//! The token's label says how opening goes: `home` opens with the PIN 1234, `missing` is not there, `crash` aborts. Each
//! login is noted as a line in the file that the init args name. The label of an `Inspect` or `Run` job is what the job
//! does: `hang`, `abort`, `exit`, `babble` on stdout, `sleep MILLISECONDS`; anything else comes back as it is.
#![expect(
    clippy::print_stdout,
    reason = "a library that writes to stdout is what is played here"
)]

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use lockstep::keystore::Keystore;
use lockstep::keystore::host::child::child_main;
use lockstep::keystore::host::protocol::Setup;
use lockstep::keystore::pkcs11::token::{Pkcs11Config, Pkcs11Token};
use lockstep::model::job::{FailureKind, Ran, TokenAnswer, TokenFailure, TokenJob, TokenOutcome};
use lockstep::model::observed::Found;
use secrecy::ExposeSecret as _;

fn main() -> ExitCode {
    if let Err(error) = lockstep::telemetry::init() {
        tracing::error!(%error, "no logs");
    }
    child_main(open)
}

fn open(setup: Setup) -> Result<Box<dyn Keystore>, TokenFailure> {
    println!("a banner that vendors print");
    if setup.module.exists() {
        let mut token = Pkcs11Token::open(&Pkcs11Config {
            module: setup.module,
            label: setup.label,
            serial: Some(setup.serial).filter(|serial| !serial.is_empty()),
            init_args: setup.init_args,
        })?;
        token.login(setup.pin.secret(), setup.unsure)?;
        return Ok(Box::new(token));
    }
    if setup.label == "crash" {
        std::process::abort();
    }
    if setup.label == "missing" {
        return Err(failure(FailureKind::NoToken, "C_GetSlotList", ""));
    }
    note_login(&setup)?;
    if setup.pin.secret().expose_secret() == "1234" {
        Ok(Box::new(Scripted))
    } else {
        Err(failure(
            FailureKind::WrongPin,
            "C_Login",
            "CKR_PIN_INCORRECT",
        ))
    }
}

fn failure(kind: FailureKind, function: &str, rv: &str) -> TokenFailure {
    TokenFailure {
        kind,
        function: function.to_owned(),
        rv: rv.to_owned(),
        detail: String::new(),
    }
}

fn note_login(setup: &Setup) -> Result<(), TokenFailure> {
    let Some(path) = &setup.init_args else {
        return Ok(());
    };
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(b"login\n"))
        .map_err(|error| failure(FailureKind::Restart, "note_login", &error.to_string()))
}

struct Scripted;

impl Keystore for Scripted {
    fn perform(&mut self, job: &TokenJob) -> TokenOutcome {
        match job {
            TokenJob::Inspect(plan) => TokenOutcome::Done(TokenAnswer::Found(act(&plan.label))),
            TokenJob::Run(run) => {
                let found = act(&run.object.label);
                TokenOutcome::Done(TokenAnswer::Ran(Box::new(Ran {
                    done: u32::try_from(run.steps.len()).unwrap_or(u32::MAX),
                    failure: None,
                    proof: None,
                    found,
                })))
            }
            TokenJob::Stop => TokenOutcome::Done(TokenAnswer::Stopping),
            TokenJob::Identify
            | TokenJob::Bind(_)
            | TokenJob::Prepare { .. }
            | TokenJob::Scan
            | TokenJob::ScanOn
            | TokenJob::Survey(_)
            | TokenJob::Generate { .. }
            | TokenJob::Rewrap(_)
            | TokenJob::TakeOver(_)
            | TokenJob::Kek(_)
            | TokenJob::RewrapCopy(_) => {
                TokenOutcome::Failed(failure(FailureKind::Refused, "fixture", ""))
            }
        }
    }
}

fn act(script: &str) -> Found {
    match script.split_once(' ') {
        None if script == "hang" => loop {
            std::thread::park();
        },
        None if script == "abort" => std::process::abort(),
        None if script == "exit" => std::process::exit(3),
        None if script == "babble" => println!("{}", "library says hello ".repeat(1000)),
        Some(("sleep", ms)) => std::thread::sleep(Duration::from_millis(ms.parse().unwrap_or(0))),
        Some(("touch", path)) => {
            std::thread::sleep(Duration::from_millis(300));
            if std::fs::write(path, "done").is_err() {
                std::process::exit(4);
            }
        }
        None | Some(_) => {}
    }
    Found {
        fingerprint_failure: Some(script.to_owned()),
        ..Found::default()
    }
}
