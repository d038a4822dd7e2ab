//! One activation across four keystores: what programs without Lockstep need for the same attribute changes.
//!
//! The bare loop goes through cryptoki: on each token in turn find the key by its CKA_ID, set all usages in one call, try
//! to encrypt. Warm: the module is loaded and logged in. Cold: a new process, timed inside it from loading the module on.
//! `pkcs11-tool` cannot change usages; what it is timed with is its nearest act, `--set-id` (to the id that it has): load,
//! log in, find, set one attribute, once for each token.

use lockstep::clock::Monotonic;

use crate::parts::calls::{Bare, key_id};
use crate::parts::ours::Ours;
use crate::parts::table::Table;
use crate::parts::tokens;
use crate::support::softhsm::{SoftHsm, Token};

/// First word of the arguments of the process that measures.
pub const INSIDE: &str = "activate-inside";
/// First word of the arguments of the process that is timed cold.
pub const COLD: &str = "activate-cold";

/// As in `make demo`.
const LABELS: [&str; 4] = ["home", "frankfurt", "dallas", "tokyo"];
const WARM_RUNS: usize = 25;
const COLD_RUNS: usize = 7;

/// Keys on each token: SoftHSM2 finds by CKA_ID in time linear in them.
const KEYS: [usize; 2] = [1, 1_000];

/// Prints the tables.
pub fn run() {
    for keys in KEYS {
        run_with(keys);
    }
}

fn run_with(keys: usize) {
    let hsm = SoftHsm::new();
    let made: Vec<Token> = LABELS.iter().map(|label| hsm.token(label)).collect();
    let ended = tokens::command(INSIDE, &made)
        .env(tokens::KEYS, keys.to_string())
        .status()
        .unwrap();
    assert!(ended.success());
    let title = format!("(a) one activation on 4 tokens of {keys} keys, each time from nothing");
    let mut table = Table::new(&title, "ms");
    let cold = table.row("bare cryptoki loop: load, login, find, set, try", None);
    let tool = table.row(
        "pkcs11-tool --set-id, one token after the other",
        Some(cold),
    );
    // SoftHSM2 finds in time linear in the objects, so Lockstep is measured where it stands: on tokens of its own.
    if keys == 1 {
        let row = table.row(
            "Lockstep: API call to proved everywhere, processes and all",
            Some(cold),
        );
        Ours::start(&LABELS).time(&mut table, row);
    }
    for _ in 0..COLD_RUNS {
        let out = tokens::command(COLD, &made).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        let ms = String::from_utf8(out.stdout).unwrap();
        table.note(cold, ms.trim().parse().unwrap());
        table.time(tool, || set_ids(&made));
    }
    table.print();
}

fn set_ids(made: &[Token]) {
    let id = lockstep::model::text::hex(&key_id(0));
    for token in made {
        let set = ["--type", "secrkey", "--id", &id, "--set-id", &id];
        let ended = token.pkcs11_tool(&set);
        assert!(ended.status.success(), "{ended:?}");
    }
}

/// Makes the keys and times the warm loop.
pub fn inside(words: &[String]) {
    let (module, told) = tokens::told(words);
    let bare = Bare::open(&module, &told);
    let keys = tokens::keys();
    bare.make_keys(keys);
    let title = format!("(a) one activation on 4 tokens of {keys} keys, warm");
    let mut table = Table::new(&title, "ms");
    let row = table.row("bare cryptoki loop: find, set, try", None);
    for _ in 0..WARM_RUNS {
        table.time(row, || bare.set_usage_everywhere(true));
        bare.set_usage_everywhere(false);
    }
    table.print();
    bare.close();
}

/// Loads, logs in and activates once; prints the milliseconds that took, and leaves the key disabled again.
pub fn cold(words: &[String]) {
    let (module, told) = tokens::told(words);
    let start = Monotonic::now();
    let bare = Bare::open(&module, &told);
    bare.set_usage_everywhere(true);
    println!("{}", start.elapsed().as_secs_f64() * 1000.0);
    bare.set_usage_everywhere(false);
    bare.close();
}
