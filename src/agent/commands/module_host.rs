//! `module-host`: the child process. It alone loads the vendor's library.

use std::process::ExitCode;

use crate::keystore::Keystore;
use crate::keystore::host::child::child_main;
use crate::keystore::host::protocol::Setup;
use crate::keystore::pkcs11::token::{Pkcs11Config, Pkcs11Token};
use crate::model::job::TokenFailure;

/// All of the child's main.
#[must_use]
pub fn run() -> ExitCode {
    child_main(open)
}

fn open(setup: Setup) -> Result<Box<dyn Keystore>, TokenFailure> {
    let mut token = Pkcs11Token::open(&Pkcs11Config {
        module: setup.module,
        label: setup.label,
        serial: Some(setup.serial).filter(|serial| !serial.is_empty()),
        init_args: setup.init_args,
    })?;
    token.login(setup.pin.secret(), setup.unsure)?;
    Ok(Box::new(token))
}
