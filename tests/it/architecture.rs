//! The shape of the house, held: who may import whom, where the fenced things are, how long files may be.
//!
//! Every check is a function from sources to faults, tried here on a bad sample too: a check that cannot fail holds nothing.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::architecture::source::Source;

const LINES_MAX: usize = 600;

/// All `.rs` files below the given directories.
fn sources(dirs: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found: Vec<Source> = dirs
        .iter()
        .flat_map(|dir| source::below(root, &root.join(dir)))
        .collect();
    assert!(!found.is_empty(), "no sources in {dirs:?}");
    found
}

fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

// ---- who may import whom ----

/// The table of `src/lib.rs`: a room, and the prefixes of paths it may import.
type Table = BTreeMap<String, BTreeSet<String>>;

fn table(lib: &str) -> Table {
    let rows: Vec<(Vec<&str>, Vec<&str>)> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `"))
        .filter_map(|row| {
            let cells: Vec<&str> = row.split('|').collect();
            let [rooms, _owns, may, _end] = cells.as_slice() else {
                return None;
            };
            Some((words(rooms), words(may)))
        })
        .collect();
    let rooms: BTreeSet<&str> = rows.iter().flat_map(|(rooms, _)| rooms.clone()).collect();
    let full = |name: &str| {
        let top = name.split("::").next().unwrap();
        if rooms.contains(top) || top == "coordinator" {
            name.to_owned()
        } else {
            format!("coordinator::{name}")
        }
    };
    let mut table = Table::new();
    for (rooms, may) in &rows {
        for room in rooms {
            let may = may.iter().filter(|name| **name != "nothing");
            table.insert((*room).to_owned(), may.map(|name| full(name)).collect());
        }
    }
    table
}

fn words(cell: &str) -> Vec<&str> {
    cell.split([' ', '`', '|'])
        .filter(|word| !word.is_empty())
        .collect()
}

/// The room a file is in: `model`, `coordinator::store`, `tls`; none for `lib.rs`, the mains and `coordinator/mod.rs`.
fn room(path: &str) -> Option<String> {
    let inside = path.strip_prefix("src/")?.trim_end_matches(".rs");
    let parts: Vec<&str> = inside.split('/').collect();
    match parts.as_slice() {
        ["lib"] | ["bin", ..] | ["coordinator", "mod"] => None,
        ["coordinator", room, ..] => Some(format!("coordinator::{room}")),
        [room, ..] => Some((*room).to_owned()),
        [] => None,
    }
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn import_faults(table: &Table, sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let Some(room) = room(&source.path) else {
            continue;
        };
        let Some(allowed) = table.get(&room) else {
            faults.push(format!("{}: room {room} is not in the table", source.path));
            continue;
        };
        for (line, path) in source.crate_paths() {
            let fits = is_below(&path, &room) || allowed.iter().any(|may| is_below(&path, may));
            if !fits {
                let place = format!("{}:{line}", source.path);
                faults.push(format!("{place}: {room} may not import {path}"));
            }
        }
    }
    faults
}

#[test]
fn rooms_import_what_the_table_allows() {
    let sources = sources(&["src"]);
    let lib = sources.iter().find(|s| s.path == "src/lib.rs").unwrap();
    let table = table(&lib.text);
    assert!(table.len() >= 14, "the table was not found: {table:?}");
    assert_none(import_faults(&table, &sources));
}

#[test]
fn a_forbidden_import_is_found() {
    let table = table(
        "//! | room | owns | may import |\n//! | `model` | nouns | nothing |\n//! | `agent` | x | `model clock` |\n\
         //! | `coordinator::ops` | x | `model` |\n//! | `coordinator::reconcile` | x | `model ops::fleet` |\n\
         //! | `clock` `tls` | leaves | `model` |\n",
    );
    let check = |path: &str, text: &str, expected: &[&str]| {
        let faults = import_faults(&table, &[Source::new(path, text)]);
        assert_eq!(faults, expected, "{text}");
    };
    check(
        "src/agent/a.rs",
        "use crate::model::ids::X; use crate::agent::b;",
        &[],
    );
    check(
        "src/tls.rs",
        "use crate::model::ids; use crate::tls::name;",
        &[],
    );
    check(
        "src/agent/a.rs",
        "// use crate::tls;\nfn f() { crate::coordinator::ops::run(\"crate::tls\") }",
        &["src/agent/a.rs:2: agent may not import coordinator::ops::run"],
    );
    check(
        "src/agent/a.rs",
        "use crate::{model::{ids::A, key}, tls::{self, name::B as C}};",
        &[
            "src/agent/a.rs:1: agent may not import tls",
            "src/agent/a.rs:1: agent may not import tls::name::B",
        ],
    );
    check(
        "src/coordinator/reconcile/pass.rs",
        "use crate::coordinator::ops::fleet::Fleet;\nuse crate::coordinator::ops::key;",
        &[
            "src/coordinator/reconcile/pass.rs:2: coordinator::reconcile may not import coordinator::ops::key",
        ],
    );
    check(
        "src/other/a.rs",
        "",
        &["src/other/a.rs: room other is not in the table"],
    );
    // A name that merely begins like an allowed one.
    check(
        "src/tls/a.rs",
        "use crate::models::X;",
        &["src/tls/a.rs:1: tls may not import models::X"],
    );
}

// ---- ways around the table ----

fn bypass_faults(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        for line in source.lines_of(&["super", "::"]) {
            faults.push(format!("{}:{line}: super:: path", source.path));
        }
        let is_index = source.path.ends_with("/mod.rs") || source.path == "src/lib.rs";
        if is_index {
            let visible = source.lines_of(&["pub", "use"]);
            let restricted = source.lines_of(&[")", "use"]);
            for line in visible.into_iter().chain(restricted) {
                faults.push(format!("{}:{line}: re-export", source.path));
            }
            if !source.text.starts_with("//!") {
                faults.push(format!("{}:1: does not open with //!", source.path));
            }
        }
    }
    faults
}

#[test]
fn nothing_slips_past_the_table() {
    assert_none(bypass_faults(&sources(&["src", "tests", "examples"])));
}

#[test]
fn a_way_around_the_table_is_found() {
    let check = |path: &str, text: &str, expected: &[&str]| {
        assert_eq!(bypass_faults(&[Source::new(path, text)]), expected);
    };
    check(
        "src/a/b.rs",
        "//! x\nuse super::c;",
        &["src/a/b.rs:2: super:: path"],
    );
    check(
        "src/a/b.rs",
        "// use super::c;\npub use crate::model::ids;",
        &[],
    );
    check(
        "src/a/mod.rs",
        "//! x\npub use crate::model::ids;",
        &["src/a/mod.rs:2: re-export"],
    );
    check(
        "src/a/mod.rs",
        "//! x\npub(crate) use crate::a::b;",
        &["src/a/mod.rs:2: re-export"],
    );
    check(
        "src/a/mod.rs",
        "pub mod b;",
        &["src/a/mod.rs:1: does not open with //!"],
    );
}

// ---- sizes ----

fn size_faults(sources: &[Source]) -> Vec<String> {
    let long = |source: &&Source| source.text.lines().count() > LINES_MAX;
    let fault = |source: &Source| {
        let lines = source.text.lines().count();
        format!("{}: {lines} lines, more than {LINES_MAX}", source.path)
    };
    sources.iter().filter(long).map(fault).collect()
}

#[test]
fn files_are_short() {
    assert_none(size_faults(&sources(&["src", "tests", "examples"])));
}

#[test]
fn a_long_file_is_found() {
    let long = Source::new("src/a.rs", &"x\n".repeat(601));
    assert_eq!(size_faults(&[long]), ["src/a.rs: 601 lines, more than 600"]);
    let short = Source::new("src/a.rs", &"x\n".repeat(600));
    assert_eq!(size_faults(&[short]), Vec::<String>::new());
}

// ---- fences ----

/// Words that may stand in the named places only.
struct Fence {
    words: &'static [&'static str],
    places: &'static [&'static str],
}

const FENCES: [Fence; 10] = [
    Fence {
        words: &["cryptoki"],
        places: &["src/keystore/pkcs11/", "examples/outsider"],
    },
    Fence {
        words: &["cryptoki_sys"],
        places: &["src/keystore/pkcs11/", "examples/outsider"],
    },
    Fence {
        words: &["rusqlite"],
        places: &["src/coordinator/store/"],
    },
    Fence {
        words: &["tokio_postgres"],
        places: &["src/coordinator/store/"],
    },
    Fence {
        words: &["deadpool_postgres"],
        places: &["src/coordinator/store/postgres/"],
    },
    Fence {
        words: &["wire", "::", "v1"],
        places: &[
            "src/wire/",
            "src/agent/service",
            "src/coordinator/reconcile/",
        ],
    },
    Fence {
        words: &["axum"],
        places: &[
            "src/coordinator/api/",
            "src/coordinator/console/",
            "src/bin/",
        ],
    },
    Fence {
        words: &["unsafe"],
        places: &["src/keystore/pkcs11/raw.rs", "examples/outsider"],
    },
    Fence {
        words: &["Timestamp", "::", "now"],
        places: &["src/clock.rs"],
    },
    Fence {
        words: &["Zoned", "::", "now"],
        places: &["src/clock.rs"],
    },
];

/// Words that the pure rooms do not know.
const IMPURE: [&str; 10] = [
    "async",
    "await",
    "HashMap",
    "HashSet",
    "rand",
    "SystemTime",
    "Instant",
    "tokio",
    "tracing",
    "now_v7",
];

fn fence_faults(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let outside = |fence: &&Fence| !fence.places.iter().any(|at| source.path.starts_with(at));
        for fence in FENCES.iter().filter(outside) {
            for line in source.lines_of(fence.words) {
                let word = fence.words.concat();
                faults.push(format!("{}:{line}: {word} is fenced in", source.path));
            }
        }
        let is_pure = ["src/decide/", "src/model/"]
            .iter()
            .any(|at| source.path.starts_with(at));
        for word in IMPURE.iter().filter(|_| is_pure) {
            for line in source.lines_of(&[word]) {
                faults.push(format!("{}:{line}: {word} in a pure room", source.path));
            }
        }
    }
    faults
}

#[test]
fn fences_hold() {
    assert_none(fence_faults(&sources(&["src", "examples"])));
}

#[test]
fn a_hole_in_a_fence_is_found() {
    let check = |path: &str, text: &str, expected: &[&str]| {
        assert_eq!(fence_faults(&[Source::new(path, text)]), expected, "{text}");
    };
    for fence in FENCES {
        let text = fence.words.concat();
        let found = fence_faults(&[Source::new("src/elsewhere.rs", &text)]);
        assert_eq!(found, [format!("src/elsewhere.rs:1: {text} is fenced in")]);
        let place = format!("{}x.rs", fence.places[0]);
        assert_eq!(
            fence_faults(&[Source::new(&place, &text)]),
            Vec::<String>::new()
        );
    }
    check(
        "src/agent/a.rs",
        "#[expect(unsafe_code)] // unsafe, rusqlite",
        &[],
    );
    check(
        "src/agent/a.rs",
        "let s = \"unsafe\"; let r = r#\"rusqlite\"#; let c = '\"';",
        &[],
    );
    check(
        "src/agent/a.rs",
        "let c = '\"';\nlet l: &'a str; unsafe {}",
        &["src/agent/a.rs:2: unsafe is fenced in"],
    );
    check(
        "src/decide/a.rs",
        "use std::collections::HashMap;\nasync fn f() {}",
        &[
            "src/decide/a.rs:2: async in a pure room",
            "src/decide/a.rs:1: HashMap in a pure room",
        ],
    );
}

// ---- what is in the agent ----

/// Crates that have no business beside an HSM.
const NOT_IN_THE_AGENT: [&str; 7] = [
    "rusqlite",
    "libsqlite3-sys",
    "askama",
    "comfy-table",
    "ureq",
    "rcgen",
    "tokio-postgres",
];

fn cargo_tree(features: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--offline", "-e", "normal", "--prefix", "none"])
        .args(features)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect()
}

fn misplaced(crates: &BTreeSet<String>) -> Vec<&'static str> {
    let there = |name: &&str| crates.contains(*name);
    NOT_IN_THE_AGENT.into_iter().filter(there).collect()
}

#[test]
fn the_agent_holds_no_sql_and_no_pages() {
    let agent = cargo_tree(&["--no-default-features", "--features", "agent"]);
    assert!(
        agent.contains("cryptoki"),
        "not the agent's tree: {agent:?}"
    );
    assert_eq!(misplaced(&agent), Vec::<&str>::new());
}

#[test]
fn the_coordinator_would_be_noticed() {
    let all = misplaced(&cargo_tree(&[]));
    for name in ["rusqlite", "askama", "comfy-table", "ureq", "rcgen"] {
        assert!(
            all.contains(&name),
            "{name} is in no tree: the check is blind"
        );
    }
}
