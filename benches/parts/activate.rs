//! One activation across four keystores: what programs without Lockstep need for the same attribute changes.
//!
//! The bare loop goes through cryptoki: on each token in turn find the key by its CKA_ID, set all usages in one call, try
//! to encrypt. Warm: the module is loaded and logged in. Cold: a new process, timed inside it from loading the module on.
//! `pkcs11-tool` cannot change usages; what it is timed with is its nearest act, `--set-id` (to the id that it has): load,
//! log in, find, set one attribute, once for each token.

use lockstep::clock::Monotonic;

use crate::parts::calls::{Bare, key_id};
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

/// Prints the table.
pub fn run() {
    let hsm = SoftHsm::new();
    let made: Vec<Token> = LABELS.iter().map(|label| hsm.token(label)).collect();
    let ended = tokens::command(INSIDE, &made).status().unwrap();
    assert!(ended.success());
    let mut table = Table::new("(a) one activation on 4 tokens, cold", "ms");
    let row = table.row("bare cryptoki loop: load, login, find, set, try", None);
    for _ in 0..COLD_RUNS {
        let out = tokens::command(COLD, &made).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        let ms = String::from_utf8(out.stdout).unwrap();
        table.note(row, ms.trim().parse().unwrap());
    }
    table.print();
    tool(&made);
}

fn tool(made: &[Token]) {
    let title = "(a) one attribute of one key on 4 tokens by pkcs11-tool --set-id";
    let mut table = Table::new(title, "ms");
    let row = table.row("pkcs11-tool, one token after the other", None);
    let id = lockstep::model::text::hex(&key_id(0));
    for _ in 0..COLD_RUNS {
        table.time(row, || {
            for token in made {
                let set = ["--type", "secrkey", "--id", &id, "--set-id", &id];
                let ended = token.pkcs11_tool(&set);
                assert!(ended.status.success(), "{ended:?}");
            }
        });
    }
    table.print();
}

/// Makes the key and times the warm loop.
pub fn inside(words: &[String]) {
    let (module, told) = tokens::told(words);
    let bare = Bare::open(&module, &told);
    bare.make_keys(1);
    let mut table = Table::new("(a) one activation on 4 tokens, warm", "ms");
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
