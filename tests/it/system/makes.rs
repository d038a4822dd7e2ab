//! One key on tokens of several makes at once: usable on each, and deactivated on each, as programs that are not ours see it.
//!
//! What the story tells is the transcript in docs/tokens.md; `LOCKSTEP_BLESS=1` writes it anew.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::fleet::{Fleet, refused, said};
use crate::support::kinds::Kind;
use crate::support::programs::{encrypts, lockstep};

/// One fleet; of opencryptoki each test has a token of its own.
fn start(opencryptoki: &str) -> Fleet {
    Fleet::start_on(&[
        ("home", Kind::SoftHsm),
        ("frankfurt", Kind::Kryoptic),
        ("dallas", Kind::Nss),
        (opencryptoki, Kind::OpenCryptoki),
    ])
}

const BLOCK: &str = "00112233445566778899aabbccddeeff";
const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// What was typed and told, without what is another one in each run.
struct Transcript<'f> {
    fleet: &'f Fleet,
    text: String,
}

impl Transcript<'_> {
    /// Progress is another in each run: only what is typed, and the last line that is told.
    fn lockstep(&mut self, words: &[&str]) {
        let done = lockstep(self.fleet, words);
        let err = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{words:?}: {err}");
        let told = String::from_utf8(done.stdout).unwrap();
        let last = told.lines().last().unwrap_or_default();
        writeln!(self.text, "$ lockstep {}\n{last}", words.join(" ")).unwrap();
    }

    /// What a program that is not ours says of the key on one token.
    fn told(&mut self, keystore: &str, program: &str, told: &str) {
        writeln!(self.text, "{keystore:<10} {program:<12} {told}").unwrap();
    }

    /// Ages are another in each run, and lines are what people compare.
    fn check(&self, docs: &Path) {
        let written = std::fs::read_to_string(docs).unwrap();
        let (head, rest) = written.split_once("```console\n").unwrap();
        let (block, tail) = rest.split_once("```").unwrap();
        let told = self.text.trim_end().to_owned() + "\n";
        if std::env::var_os("LOCKSTEP_BLESS").is_some() {
            std::fs::write(docs, format!("{head}```console\n{told}```{tail}")).unwrap();
        } else {
            assert_eq!(
                block,
                told,
                "LOCKSTEP_BLESS=1 writes {} anew",
                docs.display()
            );
        }
    }
}

/// The C_ function and the CKR in what a program printed, or that it went well.
fn outcome(done: &Output) -> String {
    let out = String::from_utf8_lossy(&done.stdout);
    if done.status.success() {
        "works".to_owned()
    } else {
        out.trim().to_owned()
    }
}

/// By `pkcs11-tool` where it can be told how to start the module, which for NSS it cannot.
fn tried(fleet: &Fleet, keystore: &str, id: &str) -> (&'static str, String) {
    if fleet.agents[keystore].token.init_args.is_some() {
        let done = fleet.outsider(keystore, "encrypt", &["--id", id, "--data", BLOCK]);
        return ("outsider", outcome(&done));
    }
    let told = match encrypts(fleet, keystore, id) {
        Ok(_) => "works".to_owned(),
        Err(told) => told
            .lines()
            .find(|line| line.contains("CKR_"))
            .map_or(told.clone(), str::to_owned),
    };
    ("pkcs11-tool", told)
}

#[test]
fn one_key_lives_on_every_make_of_token_at_once() {
    let fleet = start("tokyo");
    let vault = fleet.furnish();
    fleet.template(&vault, "card-data", "aes", 256);
    let key = fleet.key(&vault, "card-data", "card-data-1");
    let told_of = ["home", "frankfurt", "dallas"];
    put_on(&fleet, &key, &told_of).ok();
    let mut story = Transcript {
        fleet: &fleet,
        text: String::new(),
    };
    for (action, wanted) in [("activate", "works"), ("deactivate", "CKR_")] {
        story.lockstep(&["key", action, "card-data-1", "--wait"]);
        fleet.in_step(&key);
        let id = fleet.cka_id(&key);
        for keystore in told_of {
            let (program, outcome) = tried(&fleet, keystore, &id);
            assert!(outcome.contains(wanted), "{keystore}: {outcome}");
            story.told(keystore, program, &outcome);
        }
    }
    story.check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tokens.md"));

    let all: Vec<&str> = fleet.agents.keys().map(String::as_str).collect();
    put_on(&fleet, &key, &all).ok();
    fleet.change("POST", &key, "/activate", &Value::Null).ok();
    fleet.in_step(&key);
    let id = fleet.cka_id(&key);
    for keystore in &all {
        assert_eq!(tried(&fleet, keystore, &id).1, "works", "{keystore}");
    }
    let crypt = |at: &str, what: &str, data: &str| {
        said(&fleet.outsider(at, what, &["--id", &id, "--data", data]))
    };
    let cipher = crypt("home", "encrypt", BLOCK);
    for keystore in told_of {
        assert_eq!(crypt(keystore, "decrypt", &cipher), BLOCK, "{keystore}");
    }
    fleet.change("POST", &key, "/deactivate", &Value::Null).ok();
    fleet.in_step(&key);
    for keystore in &all {
        assert!(
            tried(&fleet, keystore, &id).1.contains("CKR_"),
            "{keystore}"
        );
    }
    fleet.change("POST", &key, "/destroy", &Value::Null).ok();
    fleet.in_step(&key);
    for keystore in told_of {
        let listed = said(&fleet.outsider(keystore, "list", &[]));
        assert!(!listed.contains("card-data"), "{keystore}: {listed}");
    }
}

#[test]
fn a_key_pair_goes_where_it_can_and_is_refused_where_it_cannot() {
    let fleet = start("lisbon");
    let vault = fleet.furnish();
    fleet.template(&vault, "seals", "ec", 256);
    let key = fleet.key(&vault, "seals", "seal-1");
    put_on(&fleet, &key, &["home", "frankfurt", "dallas"]).ok();
    if fleet.agents.contains_key("lisbon") {
        let refused = put_on(&fleet, &key, &["home", "lisbon"]);
        let told = refused.body["errors"][0]["message"]
            .as_str()
            .unwrap_or_default();
        assert_eq!(
            (refused.status, refused.code()),
            (409, "not_supported_by_token")
        );
        assert!(told.contains("takes no ec keys"), "{told}");
    }
    let all = ["home", "frankfurt", "dallas"];
    put_on(&fleet, &key, &all).ok();
    fleet.change("POST", &key, "/activate", &Value::Null).ok();
    fleet.in_step(&key);
    let id = fleet.cka_id(&key);
    let sign = |at: &str| fleet.outsider(at, "sign", &["--id", &id, "--data", HASH]);
    for (at, other) in [
        ("home", "dallas"),
        ("dallas", "frankfurt"),
        ("frankfurt", "home"),
    ] {
        let signature = said(&sign(at));
        let verify = ["--id", &id, "--data", HASH, "--signature", &signature];
        said(&fleet.outsider(other, "verify", &verify));
    }
    fleet.change("POST", &key, "/deactivate", &Value::Null).ok();
    fleet.in_step(&key);
    refused(&sign("home"), "CKR_KEY_FUNCTION_NOT_PERMITTED");
    refused(&sign("frankfurt"), "CKR_KEY_FUNCTION_NOT_PERMITTED");
    refused(&sign("dallas"), "CKR_KEY_TYPE_INCONSISTENT");
}

/// Puts the key on exactly these keystores, by hand.
fn put_on(fleet: &Fleet, key: &str, names: &[&str]) -> Answer {
    let of = key.replace("/api/v4/", "/api/lockstep/v1/");
    let id = |name: &&str| json!({"id": fleet.agents[*name].keystore});
    let ids: Vec<Value> = names.iter().map(id).collect();
    let etag = fleet.request("GET", key, None, &Value::Null).etag;
    let body = json!({ "keystores": ids });
    fleet.request("PUT", &format!("{of}/targets"), etag.as_deref(), &body)
}
