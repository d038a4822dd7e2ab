//! A token in one process: found by label and serial, logged in once, and the jobs that are done on it.

use std::path::PathBuf;
use std::sync::Arc;

use cryptoki_sys as sys;
use secrecy::{ExposeSecret as _, SecretString};

use crate::keystore::Keystore;
use crate::keystore::pkcs11::failure::{failure, refused};
use crate::keystore::pkcs11::known::Known;
use crate::keystore::pkcs11::raw::{Module, Session};
use crate::keystore::pkcs11::scan::Scanning;
use crate::keystore::pkcs11::{
    generate, identify, inspect, kek, prepare, rewrap, run, scan, survey, take_over,
};
use crate::model::job::{
    FailureKind, TokenAnswer, TokenFailure, TokenIdentity, TokenJob, TokenOutcome,
};
use crate::model::keystore::TokenInfo;
use crate::model::text::printable;

/// Which token of which module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pkcs11Config {
    /// The vendor's library.
    pub module: PathBuf,
    /// The token's label, without padding.
    pub label: String,
    /// Its serial number; needed where two tokens have one label.
    pub serial: Option<String>,
    /// Text for C_Initialize's pReserved, as NSS wants it.
    pub init_args: Option<String>,
}

/// A token, and what this process has learned of it. One thread only: SoftHSM2 loses objects with two.
#[derive(Debug)]
pub struct Pkcs11Token {
    module: Arc<Module>,
    slot: u64,
    /// Holds the login; never used for anything else, and never logged out.
    anchor: Option<Session>,
    pub(crate) known: Known,
    /// The scan that was begun and is not at its end.
    pub(crate) scanning: Option<Scanning>,
}

impl Pkcs11Token {
    /// Loads the module and finds the token.
    ///
    /// # Errors
    /// `NoToken` unless exactly one token matches; else what the module said.
    pub fn open(config: &Pkcs11Config) -> Result<Self, TokenFailure> {
        let module = Module::load(&config.module, config.init_args.as_deref())?;
        let slot = find_slot(&module, config)?;
        Ok(Self {
            module,
            slot,
            anchor: None,
            known: Known::default(),
            scanning: None,
        })
    }

    /// Logs in, with one try: a token that has one try left, or none, is not asked. Nor is one that saw a wrong PIN since the
    /// last login where a try of this PIN is `unsure`, so has no known end. A token that does not tell of wrong PINs is tried.
    ///
    /// # Errors
    /// `WrongPin` or `PinLocked`: do not come again before the PIN was changed. Else what the module said.
    pub fn login(&mut self, pin: &SecretString, unsure: bool) -> Result<(), TokenFailure> {
        let flags = self.module.token_info(self.slot)?.flags;
        if flags & (sys::CKF_USER_PIN_LOCKED | sys::CKF_USER_PIN_FINAL_TRY) != 0 {
            return Err(failure(
                FailureKind::PinLocked,
                "C_GetTokenInfo",
                "the PIN is locked or has one try left",
            ));
        }
        if unsure && flags & sys::CKF_USER_PIN_COUNT_LOW != 0 {
            return Err(failure(
                FailureKind::WrongPin,
                "C_GetTokenInfo",
                "the last try of this PIN was cut off, and the token was given a wrong PIN since its last login",
            ));
        }
        if flags & sys::CKF_USER_PIN_INITIALIZED == 0 {
            return Err(refused("C_GetTokenInfo", "the token has no user PIN yet"));
        }
        let anchor = self.module.open(self.slot)?;
        match anchor.login(pin.expose_secret()) {
            Err(failed) if failed.rv != sys::CKR_USER_ALREADY_LOGGED_IN => Err(failed.into()),
            Ok(()) | Err(_) => {
                self.anchor = Some(anchor);
                Ok(())
            }
        }
    }

    /// What token and library say of themselves.
    ///
    /// # Errors
    /// What the module said.
    pub fn info(&self) -> Result<TokenInfo, TokenFailure> {
        let token = self.module.token_info(self.slot).map_err(|failed| {
            let mut failure = TokenFailure::from(failed);
            // A token that cannot say who it is was lost; SoftHSM2 never finds it again in this process (facts G2).
            if failure.kind == FailureKind::Retry {
                failure.kind = FailureKind::Restart;
            }
            failure
        })?;
        let library = self.module.info()?;
        Ok(TokenInfo {
            label: text(&token.label),
            serial: text(&token.serialNumber),
            manufacturer: text(&token.manufacturerID),
            model: text(&token.model),
            hardware: version(token.hardwareVersion),
            firmware: version(token.firmwareVersion),
            library: format!(
                "{} {} {}",
                text(&library.manufacturerID),
                text(&library.libraryDescription),
                version(library.libraryVersion)
            ),
        })
    }

    /// A session for one job, or for one operation that may leave it stuck.
    pub(crate) fn session(&self) -> Result<Session, TokenFailure> {
        if self.anchor.is_none() {
            return Err(failure(FailureKind::Restart, "login", "not logged in"));
        }
        Ok(self.module.open(self.slot)?)
    }

    /// The mechanism numbers that the token lists; none where it does not say.
    pub(crate) fn mechanisms(&self) -> Vec<u64> {
        self.module.mechanisms(self.slot).unwrap_or_default()
    }

    /// Least and greatest key size that the token states for a mechanism.
    pub(crate) fn mechanism_sizes(&self, mechanism: u64) -> Option<(u64, u64)> {
        self.module.mechanism_sizes(self.slot, mechanism).ok()
    }

    /// SoftHSM2 shows an empty token for ever once its directory was away for a moment: a marker that this process saw and
    /// sees no more is for a new process to miss.
    fn check_marker(&mut self, identity: &TokenIdentity) -> Result<(), TokenFailure> {
        if !identity.markers.is_empty() {
            self.known.marker_seen = true;
            return Ok(());
        }
        if self.known.marker_seen {
            return Err(failure(
                FailureKind::Restart,
                "marker",
                "the marker was there and is gone: a new process looks again",
            ));
        }
        Ok(())
    }

    fn scanned(&mut self, answer: TokenAnswer) -> Result<TokenAnswer, TokenFailure> {
        if let TokenAnswer::Inventory(inventory) = &answer {
            self.check_marker(&inventory.identity)?;
        }
        Ok(answer)
    }

    fn answer(&mut self, job: &TokenJob) -> Result<TokenAnswer, TokenFailure> {
        match job {
            TokenJob::Identify => {
                let identity = identify::identify(self)?;
                self.check_marker(&identity)?;
                Ok(TokenAnswer::Identity(identity))
            }
            TokenJob::Bind(marker) => identify::bind(self, *marker).map(|()| TokenAnswer::Bound),
            TokenJob::Prepare { internal } => {
                prepare::prepare(self, *internal).map(TokenAnswer::Prepared)
            }
            TokenJob::Scan => scan::begin(self).and_then(|answer| self.scanned(answer)),
            TokenJob::ScanOn => scan::next(self).and_then(|answer| self.scanned(answer)),
            TokenJob::Inspect(plan) => inspect::inspect(self, plan).map(TokenAnswer::Found),
            TokenJob::Survey(plans) => survey::survey(self, plans).map(TokenAnswer::Surveyed),
            TokenJob::Run(job) => run::run(self, job).map(|ran| TokenAnswer::Ran(Box::new(ran))),
            TokenJob::Generate { spec, salt, .. } => {
                generate::generate(self, *spec, salt).map(TokenAnswer::Generated)
            }
            TokenJob::Rewrap(job) => rewrap::rewrap(self, job).map(TokenAnswer::Rewrapped),
            TokenJob::TakeOver(job) => take_over::take_over(self, job).map(TokenAnswer::TakenOver),
            TokenJob::Kek(job) => kek::perform(self, *job).map(TokenAnswer::Keks),
            TokenJob::RewrapCopy(job) => kek::rewrap_copy(self, job).map(TokenAnswer::TakenOver),
            TokenJob::Stop => {
                self.scanning = None;
                self.anchor = None;
                self.module.finalize()?;
                Ok(TokenAnswer::Stopping)
            }
        }
    }
}

impl Keystore for Pkcs11Token {
    fn perform(&mut self, job: &TokenJob) -> TokenOutcome {
        match self.answer(job) {
            Ok(answer) => TokenOutcome::Done(answer),
            Err(failure) => TokenOutcome::Failed(failure),
        }
    }
}

fn find_slot(module: &Module, config: &Pkcs11Config) -> Result<u64, TokenFailure> {
    let matches = |slot: &u64| {
        // A slot that cannot be read is not ours: one odd token must not hide all others.
        module.token_info(*slot).is_ok_and(|info| {
            text(&info.label) == config.label
                && config
                    .serial
                    .as_ref()
                    .is_none_or(|serial| text(&info.serialNumber) == *serial)
        })
    };
    let slots: Vec<u64> = module.slots()?.into_iter().filter(matches).collect();
    match slots.as_slice() {
        [slot] => Ok(*slot),
        [] => Err(failure(
            FailureKind::NoToken,
            "C_GetSlotList",
            format!("no token has label {:?}", config.label),
        )),
        several => Err(failure(
            FailureKind::NoToken,
            "C_GetSlotList",
            format!(
                "{} tokens have label {:?}: name the serial number",
                several.len(),
                config.label
            ),
        )),
    }
}

/// Padded text of CK_INFO and CK_TOKEN_INFO.
fn text(padded: &[u8]) -> String {
    printable(String::from_utf8_lossy(padded).trim_end_matches([' ', '\0']))
}

fn version(version: sys::CK_VERSION) -> String {
    format!("{}.{}", version.major, version.minor)
}
