//! Programs that people run beside a fleet.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::fleet::Fleet;

const LOCKSTEP: &str = env!("CARGO_BIN_EXE_lockstep");

/// The two programs of ours.
#[derive(Debug, Clone)]
pub struct Programs {
    pub lockstep: PathBuf,
    pub agent: PathBuf,
}

impl Programs {
    /// As people get them.
    pub fn ordinary() -> Self {
        Self {
            lockstep: LOCKSTEP.into(),
            agent: env!("CARGO_BIN_EXE_lockstep-agent").into(),
        }
    }
}

/// Runs `lockstep` as an administrator.
pub fn lockstep(fleet: &Fleet, args: &[&str]) -> Output {
    Command::new(LOCKSTEP)
        .args(args)
        .env("LOCKSTEP_URL", &fleet.url)
        .env("LOCKSTEP_TOKEN_FILE", fleet.dir.join("admin.token"))
        .output()
        .unwrap()
}

/// What `pkcs11-tool` says when it encrypts: nothing if it may.
pub fn encrypts(fleet: &Fleet, keystore: &str, id: &str) -> Result<Vec<u8>, String> {
    let (plain, cipher) = (fleet.dir.join("plain"), fleet.dir.join("cipher"));
    std::fs::write(&plain, [7; 32]).unwrap();
    let _none_yet = std::fs::remove_file(&cipher);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let done = fleet.agents[keystore].token.pkcs11_tool(&[
        "--encrypt",
        "--mechanism",
        "AES-ECB",
        "--id",
        id,
        "--input-file",
        &path(&plain),
        "--output-file",
        &path(&cipher),
    ]);
    if done.status.success() {
        Ok(std::fs::read(&cipher).unwrap())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}
