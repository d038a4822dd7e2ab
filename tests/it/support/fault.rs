//! The fault-injecting module of `tests/modules/fault`, between the agent and a real token.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::support::agent::{PATIENCE, PAUSE};
use crate::support::module::build;

/// The module.
pub fn module() -> PathBuf {
    build("fault", "libfault.so")
}

/// The faults of one module host, and what it called.
#[derive(Debug, Clone)]
pub struct Faults {
    real: PathBuf,
    faults: PathBuf,
    calls: PathBuf,
}

impl Faults {
    /// No faults yet; files are kept in this directory.
    pub fn new(dir: &Path, real: &Path) -> Self {
        Self {
            real: real.to_owned(),
            faults: dir.join("faults"),
            calls: dir.join("calls"),
        }
    }

    /// What the module must find in its environment.
    pub fn env(&self) -> BTreeMap<String, String> {
        let text = |path: &Path| path.display().to_string();
        BTreeMap::from([
            ("P11_REAL".to_owned(), text(&self.real)),
            ("P11_FAULTS".to_owned(), text(&self.faults)),
            ("P11_CALLS".to_owned(), text(&self.calls)),
        ])
    }

    /// These faults from the next call on, and no others.
    pub fn set(&self, lines: &[&str]) {
        let staged = self.faults.with_extension("new");
        std::fs::write(&staged, lines.join("\n") + "\n").unwrap();
        std::fs::rename(&staged, &self.faults).unwrap();
    }

    /// No faults any more. What hangs goes on.
    pub fn clear(&self) {
        self.set(&[]);
    }

    /// Whether the fault of that line is still to come; `once` takes it out.
    pub fn is_set(&self, line: &str) -> bool {
        let text = std::fs::read_to_string(&self.faults).unwrap_or_default();
        text.lines().any(|other| other == line)
    }

    /// All that was called, line by line.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.calls).unwrap_or_default()
    }

    /// Forgets what was called.
    pub fn forget(&self) {
        std::fs::write(&self.calls, "").unwrap();
    }

    /// How often a function was called, by whatever process.
    pub fn calls(&self, function: &str) -> usize {
        let called = format!("> {function}");
        let log = self.log();
        log.lines().filter(|line| line.ends_with(&called)).count()
    }

    /// How often a fault struck.
    pub fn strikes(&self, line: &str) -> usize {
        let struck = format!("! {line}");
        let log = self.log();
        log.lines().filter(|line| line.ends_with(&struck)).count()
    }

    /// Waits until a fault strikes.
    pub fn wait_for(&self, line: &str) {
        let until = Instant::now() + PATIENCE;
        while self.strikes(line) == 0 {
            assert!(Instant::now() < until, "{line}: not struck\n{}", self.log());
            std::thread::sleep(PAUSE);
        }
    }
}
