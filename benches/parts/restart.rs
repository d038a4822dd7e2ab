//! How soon a token is served again after its module host was killed, beside the token's own start.
//!
//! The time begins with the SIGKILL and ends with the first answer to a job that is asked over and over: a job that was in
//! the host, or on its way, has an unknown outcome and is no answer. The baselines are those of a bare program, timed inside
//! it from loading the module on: to the login, what nobody can save; and to the first key that it finds, what the answer
//! needs at least.

use lockstep::clock::Monotonic;
use lockstep::keystore::host::handle::HostHandle;
use lockstep::keystore::host::protocol::deadline;
use lockstep::model::job::{TokenAnswer, TokenJob, TokenOutcome};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use crate::parts::calls::Bare;
use crate::parts::material::plan;
use crate::parts::table::Table;
use crate::parts::tokens;
use crate::support::fleet::said;
use crate::support::softhsm::{SoftHsm, Token};

/// First word of the arguments of the process that makes the keys.
pub const MAKE: &str = "restart-make";
/// First word of the arguments of the bare program.
pub const BARE: &str = "restart-bare";

const RUNS: usize = 9;

/// Wanted: so many milliseconds beyond the token's own start, at most.
const BEYOND_MAX_MS: f64 = 1_000.0;

/// Prints the table for a token with so many keys.
pub fn run(keys: usize) {
    let hsm = SoftHsm::new();
    let token = hsm.token("killed");
    let made = tokens::command(MAKE, std::slice::from_ref(&token))
        .env(tokens::KEYS, keys.to_string())
        .status()
        .unwrap();
    assert!(made.success());
    let title = format!("(f) kill -9 of the module host of a token of {keys} keys");
    let mut table = Table::new(&title, "ms");
    let bare = table.row("bare program: load, C_Initialize, session, login", None);
    let found = table.row("bare program: the same, and find a key by its id", None);
    let ours = table.row("kill -9 to the next answer (Inspect of a key)", Some(found));
    let most = table.row("wanted beyond the token's own start: at most", None);
    let beyond = table.row("beyond the token's own start, pair by pair", Some(most));
    table.note(most, BEYOND_MAX_MS);
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    for _ in 0..RUNS {
        let [start_ms, found_ms] = started(&token);
        let back_ms = killed(&runtime, &token);
        table.note(bare, start_ms);
        table.note(found, found_ms);
        table.note(ours, back_ms);
        table.note(beyond, back_ms - start_ms);
    }
    table.print();
}

/// Milliseconds of a bare program to its login, and to the first key.
fn started(token: &Token) -> [f64; 2] {
    let out = tokens::command(BARE, std::slice::from_ref(token)).output();
    let text = said(&out.unwrap());
    let (login, found) = text.split_once(' ').unwrap();
    [login, found].map(|ms| ms.parse().unwrap())
}

/// Kills a host that is at its work; gives the milliseconds until there is an answer again.
fn killed(runtime: &Runtime, token: &Token) -> f64 {
    let host = tokens::host(&token.module, &token.into());
    assert!(answers(runtime, &host));
    let before = host.status();
    let pid = i32::try_from(before.pid().unwrap()).unwrap();
    let start = Monotonic::now();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    loop {
        // An answer that was under way when the process died comes from the old one.
        let answered = answers(runtime, &host);
        if answered && host.status().starts > before.starts {
            break;
        }
    }
    let back_ms = start.elapsed().as_secs_f64() * 1000.0;
    tokens::stop(runtime, &host);
    back_ms
}

fn answers(runtime: &Runtime, host: &HostHandle) -> bool {
    let job = TokenJob::Inspect(plan(0));
    let limit = deadline(&job);
    match runtime.block_on(host.perform(job, limit)) {
        TokenOutcome::Done(TokenAnswer::Found(found)) => {
            assert!(found.fingerprint.is_some());
            true
        }
        TokenOutcome::Unknown { .. } => false,
        other @ (TokenOutcome::Done(_) | TokenOutcome::Failed(_)) => panic!("{other:?}"),
    }
}

/// Makes the keys.
pub fn make(words: &[String]) {
    let (module, told) = tokens::told(words);
    let bare = Bare::open(&module, &told);
    bare.make_keys(tokens::keys());
    bare.close();
}

/// Loads, logs in and finds a key; prints after how many milliseconds it had done the last two.
pub fn bare(words: &[String]) {
    let (module, told) = tokens::told(words);
    let start = Monotonic::now();
    let bare = Bare::open(&module, &told);
    let login = start.elapsed();
    bare.find(0);
    let found = start.elapsed();
    let [login, found] = [login, found].map(|took| took.as_secs_f64() * 1000.0);
    println!("{login} {found}");
    bare.close();
}
