//! Which fault strikes a call, and the log of calls.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use cryptoki_sys::{CK_RV, CKR_OK};

/// A line of the file.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    line: String,
    kind: String,
    arguments: Vec<String>,
    selector: Selector,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Selector {
    Always,
    Once,
    Nth(u64),
    NthOnce(u64),
}

/// How often each line with `nth` was asked.
static ASKED: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

impl Fault {
    fn parse(line: &str, function: &str) -> Option<Self> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if words.first() != Some(&function) {
            return None;
        }
        let selector = match words.as_slice() {
            [.., "nth", n, "once"] => {
                let n = n.parse().expect("nth N");
                words.truncate(words.len() - 3);
                Selector::NthOnce(n)
            }
            [.., "once"] => {
                words.truncate(words.len() - 1);
                Selector::Once
            }
            [.., "nth", n] => {
                let n = n.parse().expect("nth N");
                words.truncate(words.len() - 2);
                Selector::Nth(n)
            }
            _ => Selector::Always,
        };
        let kind = words.get(1).expect("C_Function KIND");
        Some(Self {
            line: line.to_owned(),
            kind: (*kind).to_owned(),
            arguments: words[2..].iter().map(|word| (*word).to_owned()).collect(),
            selector,
        })
    }

    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// An argument as it stands.
    pub(crate) fn text(&self, index: usize) -> &str {
        self.arguments.get(index).expect("an argument")
    }

    /// An argument as a number.
    pub(crate) fn number(&self, index: usize) -> Option<u64> {
        let text = self.arguments.get(index)?;
        let number = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => text.parse(),
        };
        Some(number.expect("a number"))
    }

    fn strikes(&self) -> bool {
        match self.selector {
            Selector::Always => true,
            Selector::Once => {
                strike_out(&self.line);
                true
            }
            Selector::Nth(n) => self.asked() == n,
            Selector::NthOnce(n) => {
                let is_now = self.asked() == n;
                if is_now {
                    strike_out(&self.line);
                    // Who sets the same line again means the calls from then on.
                    ASKED.lock().expect("no call panics").remove(&self.line);
                }
                is_now
            }
        }
    }

    /// How often the line was asked by now.
    fn asked(&self) -> u64 {
        let mut asked = ASKED.lock().expect("no call panics");
        let times = asked.entry(self.line.clone()).or_default();
        *times += 1;
        *times
    }
}

fn lines() -> String {
    std::env::var_os("P11_FAULTS")
        .and_then(|path| std::fs::read_to_string(path).ok())
        .unwrap_or_default()
}

/// Takes a line out of the file, before it kills the process.
fn strike_out(line: &str) {
    let path = std::env::var("P11_FAULTS").expect("it was read");
    let rest: String = lines()
        .lines()
        .filter(|other| *other != line)
        .map(|other| format!("{other}\n"))
        .collect();
    let staged = format!("{path}.{}", std::process::id());
    std::fs::write(&staged, rest).expect("beside P11_FAULTS");
    std::fs::rename(&staged, &path).expect("P11_FAULTS");
}

/// The fault that strikes this call, if one does.
pub(crate) fn fault(function: &str) -> Option<Fault> {
    let text = lines();
    let mut faults = text.lines().filter_map(|line| Fault::parse(line, function));
    faults.find(Fault::strikes)
}

/// Calls, unless something else is to happen.
pub(crate) fn through(function: &str, call: impl FnOnce() -> CK_RV) -> CK_RV {
    lying(function, call, |_, rv| rv)
}

/// As [`through`]; `lie` changes what came back, where the fault is one of its own.
pub(crate) fn lying(
    function: &str,
    call: impl FnOnce() -> CK_RV,
    lie: impl FnOnce(&Fault, CK_RV) -> CK_RV,
) -> CK_RV {
    log(&format!("> {function}"));
    let rv = match fault(function) {
        None => call(),
        Some(fault) => {
            log(&format!("! {}", fault.line));
            strike(&fault, call, lie)
        }
    };
    log(&format!("< {function} {rv:#x}"));
    rv
}

fn strike(
    fault: &Fault,
    call: impl FnOnce() -> CK_RV,
    lie: impl FnOnce(&Fault, CK_RV) -> CK_RV,
) -> CK_RV {
    let code = || fault.number(0).expect("a CKR");
    match fault.kind.as_str() {
        "hang" => {
            while lines().lines().any(|line| line == fault.line) {
                std::thread::sleep(Duration::from_millis(5));
            }
            call()
        }
        // An address that no process has mapped; not null, which is checked for before it is written to.
        "segv" => unsafe {
            std::ptr::without_provenance_mut::<u8>(8).write_volatile(1);
            CKR_OK
        },
        "abort" => std::process::abort(),
        "abortafter" => {
            call();
            std::process::abort()
        }
        "stop" => {
            stop();
            call()
        }
        "stopafter" => {
            let rv = call();
            stop();
            rv
        }
        "delay" => {
            std::thread::sleep(Duration::from_millis(
                fault.number(0).expect("milliseconds"),
            ));
            call()
        }
        "rv" => code(),
        "rvafter" => {
            call();
            code()
        }
        "okwithout" => CKR_OK,
        _ => {
            let rv = call();
            lie(fault, rv)
        }
    }
}

unsafe extern "C" {
    fn raise(signal: i32) -> i32;
}

/// SIGSTOP: the call goes on when somebody sends SIGCONT.
fn stop() {
    const SIGSTOP: i32 = 19;
    unsafe { raise(SIGSTOP) };
}

/// Appends a line to the log of calls.
pub(crate) fn log(what: &str) {
    let Some(path) = std::env::var_os("P11_CALLS") else {
        return;
    };
    let line = format!("{} {what}\n", std::process::id());
    // A process may outlive its test, and the test's directory.
    if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path) {
        file.write_all(line.as_bytes())
            .expect("P11_CALLS can be written");
    }
}

/// Names of the variables that this process was given.
pub(crate) fn log_environment() {
    for (name, _) in std::env::vars_os() {
        log(&format!("env {}", name.display()));
    }
}
