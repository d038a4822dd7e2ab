//! A full inventory of one token: by the agent's module host, by the cheapest C calls, by `pkcs11-tool -O`.
//!
//! The cheapest calls run in this process, which is loaded and logged in: no pipe, nothing decoded, nothing kept. The host
//! is a child process that is loaded and logged in as well; its time ends when the inventory has arrived here, decoded.

use lockstep::keystore::host::handle::HostHandle;
use lockstep::keystore::host::protocol::deadline;
use lockstep::model::capabilities::Strategy;
use lockstep::model::desired::ObjectPlan;
use lockstep::model::job::{Glance, SURVEY_PLANS_MAX, Slice, TokenAnswer, TokenJob, TokenOutcome};
use lockstep::model::key::{Algorithm, DeactivatedUsage, KeySpec, UsageSet};
use lockstep::model::observed::{Found, ObjectFacts};
use tokio::runtime::Runtime;

use crate::parts::calls::{Bare, OF_ANY_KEY, OF_SECRET_KEY, key_id};
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
    tool(&token, keys);
}

fn tool(token: &Token, keys: usize) {
    let title = format!("(b) {keys} keys by pkcs11-tool -O, process and all");
    let mut table = Table::new(&title, "ms");
    let row = table.row("pkcs11-tool -O", None);
    for _ in 0..if keys > 5_000 { 2 } else { 4 } {
        let listed = table.time(row, || token.pkcs11_tool(&["-O"]));
        let text = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(text.matches("orders-production-").count(), keys);
    }
    table.print();
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
    let cold = table.row("module host from nothing: start, load, login, Scan", None);
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
    for _ in 0..3 {
        let host = tokens::host(&module, token);
        table.time(cold, || scan(&runtime, &host, keys));
        stop(&runtime, &host);
    }
    table.print();
    stop(&runtime, &warm);
    drop(enter);
    bare.close();
}

/// Scans, in slices as the agent does.
fn scan(runtime: &Runtime, host: &HostHandle, keys: usize) -> Slice {
    let mut all = Slice::default();
    let mut job = TokenJob::Scan;
    loop {
        let limit = deadline(&job);
        let outcome = runtime.block_on(host.perform(job, limit));
        job = TokenJob::ScanOn;
        if let TokenOutcome::Done(TokenAnswer::Inventory(inventory)) = outcome {
            all.add(inventory.rest);
            assert_eq!((all.objects.len(), all.unreadable), (keys, 0));
            return all;
        }
        let TokenOutcome::Done(TokenAnswer::Slice(slice)) = outcome else {
            panic!("{outcome:?}");
        };
        all.add(slice);
    }
}

/// Looks at one key by a search.
fn inspect(runtime: &Runtime, host: &HostHandle) {
    let job = TokenJob::Inspect(plan(0));
    let limit = deadline(&job);
    let outcome = runtime.block_on(host.perform(job, limit));
    let TokenOutcome::Done(TokenAnswer::Found(found)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(found.fingerprint.is_some());
}

/// Looks at these as the agent does; gives how many there was time for. Each must be met, with its fingerprint.
fn survey(runtime: &Runtime, host: &HostHandle, glances: &[Glance]) -> usize {
    let job = TokenJob::Survey(glances.to_vec());
    let limit = deadline(&job);
    let outcome = runtime.block_on(host.perform(job, limit));
    let TokenOutcome::Done(TokenAnswer::Surveyed(found)) = outcome else {
        panic!("{outcome:?}");
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

fn plan(number: usize) -> ObjectPlan {
    ObjectPlan {
        cka_id: key_id(number),
        label: format!("orders-production-{number:06}"),
        spec: KeySpec::new(Algorithm::Aes, 256).unwrap(),
        usage: UsageSet::NONE,
        deactivated_usage: DeactivatedUsage::None,
        salt: vec![7; 32],
        strategy: Strategy::Flags,
    }
}

fn stop(runtime: &Runtime, host: &HostHandle) {
    let limit = deadline(&TokenJob::Stop);
    let stopped = runtime.block_on(host.perform(TokenJob::Stop, limit));
    assert_eq!(stopped, TokenOutcome::Done(TokenAnswer::Stopping));
}
