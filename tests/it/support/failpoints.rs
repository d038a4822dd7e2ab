//! Programs with failpoints (`src/failpoint.rs`), and how to arm them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lockstep::failpoint::Point;

use crate::support::programs::Programs;

/// Where a process with failpoints looks for what is armed.
pub const VARIABLE: &str = "LOCKSTEP_FAILPOINTS";

/// Builds them, if they are not built yet: beside the ordinary programs and of the same dependencies.
pub fn programs() -> Programs {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let names = ["lockstep-failpoints", "lockstep-agent-failpoints"];
    let built = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--features", "failpoints"])
        .args(names.iter().flat_map(|name| ["--bin", name]))
        .arg("--target-dir")
        .arg(profile.parent().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{told}");
    Programs {
        lockstep: profile.join(names[0]),
        agent: profile.join(names[1]),
    }
}

/// What one process finds armed.
#[derive(Debug, Clone)]
pub struct Points {
    dir: PathBuf,
}

impl Points {
    /// In a directory of its own.
    pub fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The next process that reaches the point does this.
    pub fn arm(&self, point: Point, action: &str) {
        self.disarm();
        let staged = self.dir.join("staged");
        fs::write(&staged, format!("{} {action}", point.name())).unwrap();
        fs::rename(&staged, self.dir.join("armed")).unwrap();
    }

    /// Whether what was armed last has struck.
    pub fn struck(&self) -> bool {
        self.dir.join("struck").exists()
    }

    /// Nothing is armed any more, and nothing has struck.
    pub fn disarm(&self) {
        for file in ["armed", "struck"] {
            let _may_be_missing = fs::remove_file(self.dir.join(file));
        }
    }
}

#[test]
fn what_people_get_has_no_failpoints() {
    let knows = |program: &Path| {
        let bytes = fs::read(program).unwrap();
        let mut windows = bytes.windows(VARIABLE.len());
        windows.any(|window| window == VARIABLE.as_bytes())
    };
    let (with, without) = (programs(), Programs::ordinary());
    for (with, without) in [
        (with.lockstep, without.lockstep),
        (with.agent, without.agent),
    ] {
        assert!(knows(&with), "{}", with.display());
        assert!(!knows(&without), "{}", without.display());
    }
}
