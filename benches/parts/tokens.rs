//! Tokens with keys, the agent's own layer and its module host on one, and this program started again with the tokens'
//! settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lockstep::keystore::host::handle::{HostConfig, HostHandle, HostLimits, PinSource, PinToTry};
use lockstep::keystore::host::protocol::deadline;
use lockstep::keystore::pkcs11::token::{Pkcs11Config, Pkcs11Token};
use lockstep::model::job::{Inventory, Slice, TokenAnswer, TokenFailure, TokenJob, TokenOutcome};
use lockstep::model::observed::Found;
use secrecy::SecretString;
use tokio::runtime::Runtime;

use crate::support::softhsm::Token;

/// The settings that SoftHSM2 reads.
pub const CONF: &str = "SOFTHSM2_CONF";

/// Tells a process that was started again how many keys to make.
pub const KEYS: &str = "LOCKSTEP_BENCH_KEYS";

/// How many keys to make.
pub fn keys() -> usize {
    std::env::var(KEYS).unwrap().parse().unwrap()
}

struct PinFile(PathBuf);

impl PinSource for PinFile {
    fn pin(&self) -> Result<PinToTry, TokenFailure> {
        Ok(PinToTry {
            pin: std::fs::read_to_string(&self.0).unwrap().into(),
            unsure: false,
        })
    }

    fn refused(&self, _pin: &SecretString) {
        panic!("the token refused its PIN");
    }

    fn unasked(&self) {}

    fn taken(&self, _pin: &SecretString) {}
}

/// The module host of a token: the agent's own program. Inside a runtime.
pub fn host(module: &Path, token: &Told) -> HostHandle {
    HostHandle::start(HostConfig {
        program: env!("CARGO_BIN_EXE_lockstep-agent").into(),
        args: vec!["module-host".into()],
        env: BTreeMap::from([(CONF.to_owned(), token.conf.display().to_string())]),
        module: module.to_owned(),
        label: token.label.clone(),
        serial: String::new(),
        init_args: None,
        pin: Arc::new(PinFile(token.pin_file.clone())),
        limits: HostLimits::default(),
    })
}

/// The same token in this process, opened as the module host opens it.
pub fn here(module: &Path, token: &Told) -> Pkcs11Token {
    let mut opened = Pkcs11Token::open(&Pkcs11Config {
        module: module.to_owned(),
        label: token.label.clone(),
        serial: None,
        init_args: None,
    })
    .unwrap();
    opened.login(&token.pin().into(), false).unwrap();
    opened
}

/// What a job gave; it must be done.
pub fn done(outcome: TokenOutcome) -> TokenAnswer {
    match outcome {
        TokenOutcome::Done(answer) => answer,
        other @ (TokenOutcome::Failed(_) | TokenOutcome::Unknown { .. }) => panic!("{other:?}"),
    }
}

/// Has the module host do a job.
pub fn ask(runtime: &Runtime, host: &HostHandle, job: TokenJob) -> TokenAnswer {
    let limit = deadline(&job);
    done(runtime.block_on(host.perform(job, limit)))
}

/// A whole scan, in slices as the agent does it.
pub fn scan(runtime: &Runtime, host: &HostHandle) -> Slice {
    let mut all = Slice::default();
    let mut job = TokenJob::Scan;
    loop {
        let answer = ask(runtime, host, job);
        job = TokenJob::ScanOn;
        if let TokenAnswer::Inventory(Inventory { rest, .. }) = answer {
            all.add(rest);
            return all;
        }
        let TokenAnswer::Slice(slice) = answer else {
            panic!("{answer:?}");
        };
        all.add(slice);
    }
}

/// The answer to a look at one key.
pub fn found(answer: TokenAnswer) -> Found {
    let TokenAnswer::Found(found) = answer else {
        panic!("{answer:?}");
    };
    found
}

/// The answer to steps; each must have been done, the last of them a proof.
pub fn ran(answer: TokenAnswer) {
    let TokenAnswer::Ran(ran) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(ran.failure, None);
    assert!(ran.proof.is_some() && ran.found.fingerprint.is_some());
}

/// Ends the module host.
pub fn stop(runtime: &Runtime, host: &HostHandle) {
    assert_eq!(ask(runtime, host, TokenJob::Stop), TokenAnswer::Stopping);
}

/// A token as a process that was started again is told of it.
pub struct Told {
    pub conf: PathBuf,
    pub label: String,
    pub pin_file: PathBuf,
}

impl From<&Token> for Told {
    fn from(token: &Token) -> Self {
        Self {
            conf: token.conf.clone(),
            label: token.label.clone(),
            pin_file: token.pin_file.clone(),
        }
    }
}

impl Told {
    pub fn pin(&self) -> String {
        std::fs::read_to_string(&self.pin_file).unwrap()
    }
}

/// This program again, told of some tokens of one configuration: a module reads its settings when it is loaded, and a
/// running program cannot change its environment soundly.
pub fn command(word: &str, made: &[Token]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg(word)
        .arg(&made[0].module)
        .env(CONF, &made[0].conf);
    for token in made {
        command.arg(&token.label).arg(&token.pin_file);
    }
    command
}

/// The arguments of [`command`] read back: module and tokens.
pub fn told(words: &[String]) -> (PathBuf, Vec<Told>) {
    let tokens = words[1..]
        .chunks_exact(2)
        .map(|pair| Told {
            conf: std::env::var_os(CONF).unwrap().into(),
            label: pair[0].clone(),
            pin_file: PathBuf::from(&pair[1]),
        })
        .collect();
    (PathBuf::from(&words[0]), tokens)
}
