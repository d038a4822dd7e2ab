//! A source of PINs for module hosts under test.

use std::path::PathBuf;
use std::sync::Mutex;

use lockstep::keystore::host::handle::{PinSource, PinToTry};
use lockstep::model::job::TokenFailure;
use secrecy::{ExposeSecret as _, SecretString};

/// A PIN that tests change, and what the host said of it.
#[derive(Default)]
pub struct TestPin {
    pin: Mutex<String>,
    said: Mutex<Vec<String>>,
}

impl TestPin {
    pub fn of(pin: &str) -> Self {
        let source = Self::default();
        source.set(pin);
        source
    }

    pub fn of_file(path: &PathBuf) -> Self {
        Self::of(std::fs::read_to_string(path).unwrap().trim())
    }

    pub fn set(&self, pin: &str) {
        pin.clone_into(&mut self.pin.lock().unwrap());
    }

    /// `refused ...` or `taken ...`, in order.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    fn say(&self, what: &str, pin: &SecretString) {
        let said = format!("{what} {}", pin.expose_secret());
        self.said.lock().unwrap().push(said);
    }
}

impl PinSource for TestPin {
    fn pin(&self) -> Result<PinToTry, TokenFailure> {
        Ok(PinToTry {
            pin: self.pin.lock().unwrap().as_str().into(),
            unsure: false,
        })
    }

    fn refused(&self, pin: &SecretString) {
        self.say("refused", pin);
    }

    fn unasked(&self) {}

    fn taken(&self, pin: &SecretString) {
        self.say("taken", pin);
    }
}
