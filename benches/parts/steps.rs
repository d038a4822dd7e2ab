//! Steps through the module host against the same steps in this process: what the child process and its pipe cost.
//!
//! Two tokens of equal content, since SoftHSM2 loses objects when two processes write to one. Both sides do the same jobs
//! in turns, one each, so that whatever else the machine does meets both; the host is asked from a task of the runtime, as
//! the agent's driver does.

use lockstep::clock::Monotonic;
use lockstep::keystore::Keystore as _;
use lockstep::keystore::host::handle::HostHandle;
use lockstep::keystore::host::protocol::deadline;
use lockstep::keystore::pkcs11::token::Pkcs11Token;
use lockstep::model::job::{Generated, RunJob, TokenAnswer, TokenJob};
use lockstep::model::key::UsageSet;
use lockstep::model::observed::{ObjectClass, ObjectFacts};
use lockstep::model::step::Step;
use tokio::runtime::Runtime;

use crate::parts::material::{self, Maker, plan};
use crate::parts::table::Table;
use crate::parts::tokens;
use crate::support::softhsm::{SoftHsm, Token};

/// First word of the arguments of the process that measures.
pub const INSIDE: &str = "steps-inside";

/// Wanted: a step through the host takes at most so many times as long.
const TIMES_MAX: f64 = 1.1;

/// How often each kind is done to each key.
const ROUNDS: usize = 20;
/// Keys that are activated, deactivated and inspected.
const CHANGED: usize = 10;

/// Prints the tables for tokens with so many keys.
pub fn run(keys: usize) {
    let hsm = SoftHsm::new();
    let made: Vec<Token> = ["maker", "here", "there"].map(|of| hsm.token(of)).into();
    let ended = tokens::command(INSIDE, &made)
        .env(tokens::KEYS, keys.to_string())
        .status()
        .unwrap();
    assert!(ended.success());
}

/// The part that loads the module.
pub fn inside(words: &[String]) {
    let (module, told) = tokens::told(words);
    let keys = tokens::keys().max(CHANGED);
    let runtime = Runtime::new().unwrap();
    let entered = runtime.enter();
    let mut maker = Maker::open(&module, &told[0]);
    let mut pair = Pair {
        here: tokens::here(&module, &told[1]),
        there: tokens::host(&module, &told[2]),
        runtime: &runtime,
    };
    pair.both(&material::marker());
    let [here, there] = pair.both(&material::PREPARE).map(material::transport);
    let born: Vec<Generated> = (0..keys).map(|number| maker.generate(number)).collect();
    let mut figures = Figures::new(keys);
    for (number, born) in born.iter().enumerate() {
        let jobs = [&here, &there]
            .map(|transport| material::install(number, born, maker.envelope(born, transport)));
        figures.note("install", &mut pair, jobs);
    }
    let mut objects: Vec<[Vec<ObjectFacts>; 2]> = Vec::new();
    for number in 0..CHANGED {
        objects.push(pair.both(&TokenJob::Inspect(plan(number))).map(facts));
    }
    for _ in 0..ROUNDS {
        for (number, hints) in objects.iter().enumerate() {
            for (what, active) in [("activate", true), ("deactivate", false)] {
                let jobs = [0, 1].map(|side| change(number, &born[number], active, &hints[side]));
                figures.note(what, &mut pair, jobs);
            }
            let looks = [(); 2].map(|()| TokenJob::Inspect(plan(number)));
            figures.note("inspect", &mut pair, looks);
        }
    }
    figures.print();
    tokens::stop(&runtime, &pair.there);
    drop(entered);
}

fn facts(answer: TokenAnswer) -> Vec<ObjectFacts> {
    let found = tokens::found(answer);
    assert!(found.fingerprint.is_some());
    found.objects
}

/// What an agent asks of a token to activate a key or to deactivate it.
fn change(number: usize, born: &Generated, active: bool, hints: &[ObjectFacts]) -> TokenJob {
    let object = plan(number);
    let (usage, proof) = if active {
        (object.usage, Step::ProveEnabled)
    } else {
        (UsageSet::NONE, Step::ProveDisabled)
    };
    let class = ObjectClass::Secret;
    TokenJob::Run(Box::new(RunJob {
        object,
        fingerprint: born.fingerprint,
        steps: vec![Step::SetUsage { class, usage }, proof],
        envelope: None,
        hints: hints.to_vec(),
    }))
}

/// The two sides.
struct Pair<'r> {
    here: Pkcs11Token,
    there: HostHandle,
    runtime: &'r Runtime,
}

impl Pair<'_> {
    fn both(&mut self, job: &TokenJob) -> [TokenAnswer; 2] {
        let here = tokens::done(self.here.perform(job));
        [here, tokens::ask(self.runtime, &self.there, job.clone())]
    }

    /// Does the job in this process; gives the seconds.
    fn here(&mut self, job: &TokenJob) -> f64 {
        let start = Monotonic::now();
        check(tokens::done(self.here.perform(job)));
        start.elapsed().as_secs_f64()
    }

    /// Does the job through the host; gives the seconds.
    fn there(&self, job: TokenJob) -> f64 {
        let host = self.there.clone();
        let task = self.runtime.spawn(async move {
            let start = Monotonic::now();
            let limit = deadline(&job);
            check(tokens::done(host.perform(job, limit).await));
            start.elapsed().as_secs_f64()
        });
        self.runtime.block_on(task).unwrap()
    }
}

/// The job did all that it was to do.
fn check(answer: TokenAnswer) {
    if matches!(answer, TokenAnswer::Ran(_)) {
        tokens::ran(answer);
    } else {
        assert_eq!(facts(answer).len(), 1);
    }
}

const KINDS: [&str; 4] = ["install", "activate", "deactivate", "inspect"];

/// Jobs per second on both sides, and how the two compare job by job.
struct Figures {
    speeds: Table,
    /// Of each kind: here, there.
    rows: [(usize, usize); 4],
    pairs: Table,
    most: usize,
    pairs_done: usize,
}

impl Figures {
    fn new(keys: usize) -> Self {
        let title = format!("(e) steps on tokens of {keys} keys, one caller");
        let mut speeds = Table::new(&title, "jobs/s");
        let rows = KINDS.map(|kind| {
            let here = speeds.row(&format!("{kind}: in this process"), None);
            let name = format!("{kind}: through the module host");
            (here, speeds.row(&name, Some(here)))
        });
        let title = format!("(e) {keys} keys: module host against in-process, job by job");
        let mut pairs = Table::new(&title, "times as long");
        let most = pairs.row("wanted: at most", None);
        pairs.note(most, TIMES_MAX);
        for kind in KINDS {
            pairs.row(kind, Some(most));
        }
        Self {
            speeds,
            rows,
            pairs,
            most,
            pairs_done: 0,
        }
    }

    /// Does a job on both sides, in the other order each time.
    fn note(&mut self, kind: &str, pair: &mut Pair<'_>, [for_here, for_there]: [TokenJob; 2]) {
        self.pairs_done += 1;
        let (here, there) = if self.pairs_done.is_multiple_of(2) {
            let here = pair.here(&for_here);
            (here, pair.there(for_there))
        } else {
            let there = pair.there(for_there);
            (pair.here(&for_here), there)
        };
        let number = KINDS.iter().position(|known| *known == kind).unwrap();
        let rows = self.rows[number];
        self.speeds.note(rows.0, 1.0 / here);
        self.speeds.note(rows.1, 1.0 / there);
        self.pairs.note(self.most + 1 + number, there / here);
    }

    fn print(&self) {
        self.speeds.print();
        self.pairs.print();
    }
}
