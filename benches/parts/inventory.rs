//! A full inventory of one token: by the agent's module host, by the cheapest C calls, by `pkcs11-tool -O` and by
//! `p11tool --list-all`.
//!
//! The tools are timed beside a host that starts from nothing as they do. The cheapest calls run in this process, which is loaded and logged in: no pipe, nothing decoded, nothing kept. The host
//! is a child process that is loaded and logged in as well; its time ends when the inventory has arrived here, decoded.

use std::process::Output;

use lockstep::clock::Monotonic;
use lockstep::keystore::host::handle::HostHandle;
use lockstep::model::desired::ObjectPlan;
use lockstep::model::job::{Glance, SURVEY_PLANS_MAX, Slice, TokenAnswer, TokenJob};
use lockstep::model::observed::{Found, ObjectFacts};
use tokio::runtime::Runtime;

use crate::parts::calls::{Bare, OF_ANY_KEY, OF_SECRET_KEY};
use crate::parts::material::plan;
use crate::parts::table::Table;
use crate::parts::tokens;
use crate::support::softhsm::{SoftHsm, Token};

/// First word of the arguments of the process that measures.
pub const INSIDE: &str = "inventory-inside";

const LABEL: &str = "bench";
const RUNS: usize = 7;

/// Prints the table for a token with so many keys.
pub fn run(keys: usize) {
    let hsm = SoftHsm::new();
    let token = hsm.token(LABEL);
    let made = std::slice::from_ref(&token);
    let ended = tokens::command(INSIDE, made)
        .env(tokens::KEYS, keys.to_string())
        .status()
        .unwrap();
    assert!(ended.success());
    tools(&token, keys);
}

fn tools(token: &Token, keys: usize) {
    let title = format!("(b) inventory of {keys} AES keys, each time from nothing");
    let mut table = Table::new(&title, "ms");
    let opensc = table.row("pkcs11-tool -O", None);
    let gnutls = table.row("p11tool --list-all", None);
    let label = "module host: start, load, login, Scan";
    let ours = [opensc, gnutls].map(|tool| table.row(label, Some(tool)));
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    for _ in 0..if keys > 5_000 { 3 } else { 5 } {
        let listed = table.time(opensc, || token.pkcs11_tool(&["-O"]));
        assert_eq!(count(&listed, "label:"), keys);
        let listed = table.time(gnutls, || token.p11tool(&["--list-all"]));
        assert_eq!(count(&listed, "Label:"), keys);
        let host = tokens::host(&token.module, &token.into());
        let start = Monotonic::now();
        scan(&runtime, &host, keys);
        for row in ours {
            table.note(row, start.elapsed().as_secs_f64() * 1000.0);
        }
        tokens::stop(&runtime, &host);
    }
    table.print();
}

/// How many keys a tool has listed.
fn count(listed: &Output, before_label: &str) -> usize {
    assert!(listed.status.success(), "{listed:?}");
    let text = String::from_utf8_lossy(&listed.stdout);
    let is_key = |line: &&str| {
        let label = line.trim().strip_prefix(before_label);
        label.is_some_and(|label| label.contains("orders-production-"))
    };
    text.lines().filter(is_key).count()
}

/// The part that loads the module.
pub fn inside(words: &[String]) {
    let (module, told) = tokens::told(words);
    let token = &told[0];
    let keys = tokens::keys();
    let bare = Bare::open(&module, &told);
    bare.make_keys(keys);
    let runtime = Runtime::new().unwrap();
    let mut table = Table::new(&format!("(b) inventory of {keys} AES keys"), "ms");
    let any = table.row("cheapest C calls, what any key class has", None);
    let secret = table.row("cheapest C calls, what secret keys have", None);
    let ours = table.row("agent's module host: Scan", Some(any));
    let cpu = table.row("agent's module host: CPU time of its process", None);
    let one = table.row("agent's module host: Inspect of one key", None);
    let all = table.row("agent's module host: Surveys of all keys", Some(any));
    let enter = runtime.enter();
    let warm = tokens::host(&module, token);
    scan(&runtime, &warm, keys);
    for _ in 0..RUNS {
        assert_eq!(table.time(any, || bare.inventory(OF_ANY_KEY)), keys);
        let met = table.time(ours, || scan(&runtime, &warm, keys));
        table.note(cpu, met.cpu_us as f64 / 1000.0);
        table.time(one, || inspect(&runtime, &warm));
        table.time(all, || survey_all(&runtime, &warm, &met));
        assert_eq!(table.time(secret, || bare.inventory(OF_SECRET_KEY)), keys);
    }
    table.print();
    tokens::stop(&runtime, &warm);
    drop(enter);
    bare.close();
}

/// Looks at one key by a search.
fn inspect(runtime: &Runtime, host: &HostHandle) {
    let found = tokens::found(tokens::ask(runtime, host, TokenJob::Inspect(plan(0))));
    assert!(found.fingerprint.is_some());
}

/// Scans, in slices as the agent does.
fn scan(runtime: &Runtime, host: &HostHandle, keys: usize) -> Slice {
    let all = tokens::scan(runtime, host);
    assert_eq!((all.objects.len(), all.unreadable), (keys, 0));
    all
}

/// Looks at these as the agent does; gives how many there was time for. Each must be met, with its fingerprint.
fn survey(runtime: &Runtime, host: &HostHandle, glances: &[Glance]) -> usize {
    let job = TokenJob::Survey(glances.to_vec());
    let TokenAnswer::Surveyed(found) = tokens::ask(runtime, host, job) else {
        panic!("nothing was surveyed");
    };
    let is_known = |found: &Option<Found>| found.as_ref().unwrap().fingerprint.is_some();
    assert!(found.iter().all(is_known));
    found.len()
}

fn survey_all(runtime: &Runtime, host: &HostHandle, met: &Slice) {
    let glance = |facts: &ObjectFacts| Glance {
        object: ObjectPlan {
            cka_id: facts.cka_id.clone(),
            ..plan(0)
        },
        handles: vec![facts.handle],
    };
    let glances: Vec<Glance> = met.objects.iter().map(glance).collect();
    let mut rest = glances.as_slice();
    while !rest.is_empty() {
        let most = rest.len().min(SURVEY_PLANS_MAX);
        let reached = survey(runtime, host, &rest[..most]);
        rest = &rest[reached..];
    }
}
