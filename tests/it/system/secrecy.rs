//! No clear key: every byte that crosses gRPC, and every byte that is written anywhere, is read for keys whose values the test
//! knows. It knows them because the PIN of an internal keystore allows it to open the repository's copies.

mod known;
mod memory;
mod wrapping;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::fleet::Fleet;
use crate::support::http2::{messages, take_apart};
use crate::support::secrets::Secrets;
use crate::support::tap::{Line, Tap};
use crate::system::secrecy::known::Known;
use crate::system::secrecy::wrapping::check_wrapping_keys;

const KINDS: [(&str, u32); 4] = [("aes", 256), ("hmac", 256), ("ec", 256), ("rsa", 2048)];

/// Calls that `home` gets.
const METHODS: [&str; 4] = ["Describe", "Session", "Generate", "Rewrap"];

/// The names of what may be seen begin so.
const PUBLIC: &str = "public";

/// Bytes and where they were found.
pub(crate) type Place = (String, Vec<u8>);

/// What was found where.
#[derive(Debug)]
struct Sight {
    what: String,
    place: String,
}

#[test]
fn no_clear_key_crosses_grpc_or_is_written_anywhere() {
    let mut fleet = Fleet::start_logging(&["home", "frankfurt"], "trace");
    let tap = Tap::before(&fleet);
    let vault = fleet.furnish_at(|name| tap.address(name));
    let mut shown = Vec::new();
    let distributed = KINDS.map(|(kind, size)| {
        fleet.template(&vault, kind, kind, size);
        let key = fleet.key(&vault, kind, &format!("{kind}-1"));
        fleet.change("POST", &key, "/activate", &Value::Null).ok();
        fleet.in_step(&key);
        for of in ["", "/status_in_keystores"] {
            let body = fleet.get(&format!("{key}{of}")).to_string();
            shown.push((format!("GET of {kind}{of}"), body.into_bytes()));
        }
        (kind, fleet.cka_id(&key))
    });
    let audit = fleet.get("/api/lockstep/v1/audit").to_string();
    shown.push(("GET of audit".to_owned(), audit.into_bytes()));
    // Killed, so that the WAL is left as it was.
    fleet.kill_coordinator();
    let lines = tap.end();
    for name in ["home", "frankfurt"] {
        fleet.kill_agent(name);
    }
    let mut written = files(fleet.root());
    let known = distributed.map(|(kind, id)| Known::of(&fleet, kind, &id));
    // And once more after it was opened, so that the WAL has gone into the file.
    written.extend(files(&fleet.dir.join("test/state")));

    known.iter().for_each(Known::check_value);
    let crossed: Vec<Place> = lines.iter().flat_map(crossed).collect();
    let mut wanted = secrets(&fleet, &known);
    add_public(&mut wanted, &known);
    let places = crossed.iter().chain(&written).chain(&shown);
    let seen: Vec<Sight> = places
        .flat_map(|(place, bytes)| {
            let found = wanted.found_in(bytes).into_iter();
            found.map(|what| Sight {
                what,
                place: place.clone(),
            })
        })
        .collect();
    check_sight(&known, &seen);
    let is_secret = |sight: &&Sight| !sight.what.starts_with(PUBLIC);
    let leaks: Vec<&Sight> = seen.iter().filter(is_secret).collect();
    assert!(leaks.is_empty(), "in the clear: {leaks:#?}");
    check_wrapping_keys(&known, &lines, &crossed, &written);
}

/// Every reading of what crossed in both directions: raw, and without the frames of HTTP/2 and gRPC.
fn crossed(line: &Line) -> Vec<Place> {
    let mut places = Vec::new();
    for (way, bytes) in [("to", &line.down), ("from", &line.up)] {
        let name = format!("gRPC {way} {}", line.agent);
        let taken = take_apart(bytes);
        for (number, stream) in &taken.streams {
            for (compressed, message) in messages(stream) {
                assert_eq!(compressed, 0, "{name} is compressed");
                places.push((format!("{name}, a message"), message.to_vec()));
            }
            places.push((format!("{name}, stream {number}"), stream.clone()));
        }
        places.push((format!("{name}, headers"), taken.headers.join(&b'\n')));
        places.push((name, bytes.clone()));
    }
    places
}

/// All files below, but those that hold a PIN or a token by right.
fn files(below: &Path) -> Vec<Place> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if path.is_dir() {
            found.extend(files(&path));
        } else if !matches!(ending, Some("pin" | "so-pin" | "token")) {
            let bytes = fs::read(&path).unwrap();
            found.push((path.display().to_string(), bytes));
        }
    }
    found
}

/// What may be seen, so that a search which finds no secret is known to see.
fn add_public(wanted: &mut Secrets, known: &[Known]) {
    for key in known {
        let mut add = |what: &str, bytes: &[u8]| {
            wanted.add(&format!("{PUBLIC} {} {what}", key.kind), bytes);
        };
        add("blob", &key.copy.blob);
        add("fingerprint", &key.copy.birth.body.fingerprint.value.0);
        add("version", key.version.uuid().as_bytes());
    }
    for method in METHODS {
        let path = format!("/lockstep.agent.v1.Agent/{method}");
        wanted.add(&format!("{PUBLIC} call of {method}"), path.as_bytes());
    }
    // No level of logging but the most talkative one writes it.
    wanted.add(&format!("{PUBLIC} trace"), b"TRACE Connection{peer=");
}

/// Every kind of place was looked into: what may be seen there was.
fn check_sight(known: &[Known], seen: &[Sight]) {
    let check = |what: &str, place: &str| {
        let what = format!("{PUBLIC} {what},");
        let is_it = |sight: &Sight| sight.what.starts_with(&what) && sight.place.contains(place);
        assert!(seen.iter().any(is_it), "{what} not seen: {place}");
    };
    for key in known {
        let of_key = |what: &str, places: &[&str]| {
            for place in places {
                check(&format!("{} {what}", key.kind), place);
            }
        };
        of_key("blob", &["from home, a message", "to home, a message"]);
        of_key("blob", &["store.sqlite", "store.sqlite-wal"]);
        of_key(
            "fingerprint",
            &["to frankfurt, a message", "from frankfurt, a message"],
        );
        of_key(
            "version",
            &["to frankfurt, stream", "from frankfurt, stream"],
        );
        of_key(
            "version",
            &[
                "frankfurt/state/journal",
                "home/agent.log",
                "/status_in_keystores",
            ],
        );
    }
    for method in METHODS {
        check(&format!("call of {method}"), "to home, headers");
    }
    for log in [
        "home/agent.log",
        "frankfurt/agent.log",
        "test/coordinator.log",
    ] {
        check("trace", log);
    }
}

/// What must not be seen.
fn secrets(fleet: &Fleet, known: &[Known]) -> Secrets {
    let mut secrets = Secrets::default();
    for key in known {
        for number in key.secret_numbers() {
            secrets.add(key.kind, &number);
        }
    }
    let text = |path: &Path| fs::read_to_string(path).unwrap().trim().to_owned();
    for (name, agent) in &fleet.agents {
        for (what, file) in [
            ("PIN", &agent.token.pin_file),
            ("SO PIN", &agent.token.so_pin_file),
        ] {
            secrets.add(&format!("{what} of {name}"), text(file).as_bytes());
        }
    }
    secrets.add("API token", text(&fleet.dir.join("admin.token")).as_bytes());
    secrets
}
