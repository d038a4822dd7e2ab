//! Several coordinators on one PostgreSQL: they share the keystores, take over from each other, and whichever people talk to
//! does what is asked.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::coordinator::Coordinator;
use crate::support::fleet::{Fleet, said};
use crate::support::postgres::Server;

/// The setting that these tests use: within it, keystores move.
const SETTING: Duration = Duration::from_secs(10);

/// Two coordinators, `one` and `two`, with three agents; people talk to `one`.
struct Pair {
    // Coordinators end first, then agents, then the server.
    one: Coordinator,
    two: Coordinator,
    fleet: Fleet,
    server: Server,
}

fn store(server: &Server) -> String {
    let (url, seconds) = (server.url(), SETTING.as_secs());
    format!("[store]\nurl = \"{url}\"\nlease_seconds = {seconds}\n")
}

impl Pair {
    /// With vault, keystores and a template; the keystores are shared out.
    fn start() -> (Self, String) {
        let server = Server::start();
        let mut fleet = Fleet::start_agents(&["home", "frankfurt", "dallas"]);
        let one = fleet.one_coordinator("one", &store(&server));
        fleet.url.clone_from(&one.url);
        let vault = fleet.furnish();
        fleet.template(&vault, "orders", "aes", 256);
        let two = fleet.one_coordinator("two", &store(&server));
        let pair = Self {
            one,
            two,
            fleet,
            server,
        };
        pair.fleet.until("the keystores are shared out", || {
            let shares = pair.shares();
            let mut counts: Vec<usize> = shares.values().copied().collect();
            counts.sort_unstable();
            (counts == [1, 2]).then_some(()).ok_or(json!(shares))
        });
        pair.is_well();
        (pair, vault)
    }

    /// How many keystores each holds, by its address.
    fn shares(&self) -> BTreeMap<String, usize> {
        let told = self.server.say(
            "SELECT coordinator.address FROM lockstep.coordinator_lease AS lease
                 JOIN lockstep.coordinator ON coordinator.id = lease.holder
             WHERE lease.expires > clock_timestamp()",
        );
        let mut shares = BTreeMap::new();
        for address in told.lines() {
            *shares.entry(address.to_owned()).or_default() += 1;
        }
        shares
    }

    /// From now on, people talk to that one.
    fn talk_to(&mut self, url: &str) {
        url.clone_into(&mut self.fleet.url);
    }

    /// Waits until the coordinator that people talk to says that all keystores are well.
    fn is_well(&self) {
        self.fleet.until("all keystores are well", || {
            let found = self.fleet.get("/api/v4/keystores");
            let all = found["keystores"].as_array().unwrap();
            let well = all
                .iter()
                .filter(|one| one["status"]["health_status"] == "ok");
            (well.count() == 3).then_some(()).ok_or(found)
        });
    }

    /// Waits until only that address holds keystores, all three; how long it took.
    fn all_at(&self, address: &str) -> Duration {
        let began = Instant::now();
        self.fleet.until("one has them all", || {
            let shares = self.shares();
            let is_so = shares.len() == 1 && shares.get(address) == Some(&3);
            is_so.then_some(()).ok_or(json!(shares))
        });
        began.elapsed()
    }
}

#[test]
fn either_does_what_is_asked_and_takes_over_from_a_dead_one() {
    let (mut pair, vault) = Pair::start();
    let (one, two) = (pair.one.url.clone(), pair.two.url.clone());
    let mut keys = Vec::new();
    for (url, label) in [(&one, "by-one"), (&two, "by-two")] {
        pair.talk_to(url);
        let key = pair.fleet.key(&vault, "orders", label);
        let activate = pair.fleet.change("POST", &key, "/activate", &Value::Null);
        activate.ok();
        pair.fleet.in_step(&key);
        keys.push(key);
    }
    // What one confirmed the other shows, whoever has the sessions.
    for url in [&one, &two] {
        pair.talk_to(url);
        for key in &keys {
            pair.fleet.in_step(key);
        }
        pair.is_well();
    }
    pair.talk_to(&two);
    pair.one.signal(Signal::KILL);
    let took = pair.all_at(&two);
    assert!(took < SETTING, "{took:?}");
    pair.is_well();
    for key in &keys {
        let deactivate = pair.fleet.change("POST", key, "/deactivate", &Value::Null);
        deactivate.ok();
        pair.fleet.in_step(key);
    }
}

#[test]
fn one_that_was_stopped_does_nothing_when_it_goes_on() {
    let (mut pair, vault) = Pair::start();
    let (one, two) = (pair.one.url.clone(), pair.two.url.clone());
    let key = pair.fleet.key(&vault, "orders", "stopped");
    let activate = pair.fleet.change("POST", &key, "/activate", &Value::Null);
    activate.ok();
    pair.fleet.in_step(&key);
    pair.one.signal(Signal::STOP);
    let took = pair.all_at(&two);
    assert!(took < SETTING, "{took:?}");
    pair.talk_to(&two);
    pair.is_well();
    let deactivate = pair.fleet.change("POST", &key, "/deactivate", &Value::Null);
    deactivate.ok();
    pair.fleet.in_step(&key);
    let generations = "SELECT string_agg(want || ' ' || generation, ', ' ORDER BY keystore) FROM lockstep.instance";
    let wanted = pair.server.say(generations);
    let changes = "SELECT count(*) FROM lockstep.audit WHERE record NOT LIKE '%reconciler%'";
    let audited = pair.server.say(changes);
    pair.one.signal(Signal::CONT);
    // It takes its share again, and says of all of it what the other said.
    pair.fleet.until("they share again", || {
        let shares = pair.shares();
        (shares.len() == 2).then_some(()).ok_or(json!(shares))
    });
    for url in [&one, &two] {
        pair.talk_to(url);
        pair.is_well();
        pair.fleet.in_step(&key);
        let found = pair.fleet.get(&key);
        assert_eq!(found["state"], "deactivated", "{found:#}");
    }
    assert_eq!(
        pair.server.say(generations),
        wanted,
        "nothing was asked anew"
    );
    assert_eq!(pair.server.say(changes), audited);
}

#[test]
fn what_was_answered_is_kept_when_the_database_dies() {
    let (mut pair, vault) = Pair::start();
    let urls = [pair.one.url.clone(), pair.two.url.clone()];
    let template = |name: &str| {
        json!({
            "vault": {"id": vault},
            "name": name,
            "key": {
                "algorithm": "aes", "size": "256", "state": "pre_activation",
                "activation_date": "P0D", "expiration_date": "P1Y", "deactivate_on_rotation": false,
            },
            "keystores": [{"group": "all", "type": "pkcs11"}],
        })
    };
    let (mut kept, mut open) = (Vec::new(), Vec::new());
    for number in 0..60 {
        pair.talk_to(&urls[number % 2]);
        if number % 20 == 10 {
            pair.server.kill();
        }
        if number % 20 == 15 {
            pair.server.restart();
        }
        let name = format!("made-{number}");
        let answer = pair
            .fleet
            .repeatable("POST", "/api/v4/templates", &name, &template(&name));
        match answer.status {
            201 => kept.push(name),
            503 => open.push(name),
            _ => panic!("{answer:#?}"),
        }
    }
    assert!(kept.len() >= 30 && open.len() >= 9, "{kept:?} {open:?}");
    // What was not answered is asked again, under the same key: it is made once.
    for name in &open {
        pair.fleet.until(&format!("{name} is made"), || {
            let again = pair
                .fleet
                .repeatable("POST", "/api/v4/templates", name, &template(name));
            if again.status == 503 {
                Err(again.body)
            } else {
                Ok(again.ok())
            }
        });
    }
    for name in kept.iter().chain(&open) {
        let found = pair.server.say(&format!(
            "SELECT count(*) FROM lockstep.template WHERE name = '{name}'"
        ));
        assert_eq!(found, "1", "{name}");
    }
    for url in &urls {
        pair.talk_to(url);
        pair.is_well();
    }
}

#[test]
fn one_that_ends_in_order_leaves_at_once() {
    let (pair, _vault) = Pair::start();
    let Pair {
        one,
        two,
        mut fleet,
        server,
    } = pair;
    fleet.url.clone_from(&two.url);
    one.stop();
    let left = server.say("SELECT count(*) FROM lockstep.coordinator");
    assert_eq!(left, "1");
    let began = Instant::now();
    fleet.until("the other has them all", || {
        let held = server.say(
            "SELECT count(*) FROM lockstep.coordinator_lease WHERE holder IS NOT NULL AND expires > clock_timestamp()",
        );
        (held == "3").then_some(()).ok_or(json!(held))
    });
    assert!(began.elapsed() < SETTING / 2, "{:?}", began.elapsed());
}

/// As an operator does it: stop, copy, start on the database.
#[test]
fn a_fleet_moves_from_sqlite_with_its_keys() {
    let server = Server::start();
    let mut fleet = Fleet::start(&["home", "frankfurt"]);
    let vault = fleet.furnish();
    fleet.template(&vault, "orders", "aes", 256);
    let key = fleet.key(&vault, "orders", "moved");
    let activate = fleet.change("POST", &key, "/activate", &Value::Null);
    activate.ok();
    fleet.in_step(&key);
    let file = fleet.dir.join("test/state/store.sqlite");
    let copy = || {
        Command::new(env!("CARGO_BIN_EXE_lockstep"))
            .args(["store", "copy", "--to", &server.url(), "--from"])
            .arg(&file)
            .output()
            .unwrap()
    };
    let too_early = copy();
    let told = String::from_utf8(too_early.stderr).unwrap();
    assert!(!too_early.status.success());
    assert!(told.contains("another coordinator uses"), "{told}");
    fleet.kill_coordinator();
    let told = said(&copy());
    assert!(told.contains("compared row by row"), "{told}");
    let again = copy();
    let told = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success());
    assert!(told.contains("not empty"), "{told}");
    let moved = fleet.one_coordinator("test", &store(&server));
    fleet.url.clone_from(&moved.url);
    fleet.in_step(&key);
    let deactivate = fleet.change("POST", &key, "/deactivate", &Value::Null);
    deactivate.ok();
    fleet.in_step(&key);
}

#[test]
fn a_database_that_forgot_is_noticed_by_all_and_each_can_go_on() {
    const RECOVERY: &str = "/api/lockstep/v1/recovery";
    let (mut pair, vault) = Pair::start();
    let (one, two) = (pair.one.url.clone(), pair.two.url.clone());
    let idle = pair.fleet.key(&vault, "orders", "idle");
    let lost = pair.fleet.key(&vault, "orders", "lost");
    let activate = pair.fleet.change("POST", &lost, "/activate", &Value::Null);
    activate.ok();
    pair.fleet.in_step(&lost);
    // As a failover to a server that lacks the last commits leaves it.
    let id = lost.rsplit('/').next().unwrap();
    pair.server.say(&format!(
        "DELETE FROM lockstep.copy WHERE version IN
             (SELECT version FROM lockstep.key_version WHERE key = '{id}');
         DELETE FROM lockstep.key WHERE id = '{id}'"
    ));
    pair.one.signal(Signal::KILL);
    pair.talk_to(&two);
    pair.all_at(&two);
    let third = pair.fleet.one_coordinator("third", &store(&pair.server));
    let all = |pair: &Pair, is_behind: bool| {
        pair.fleet
            .until("all is told, wherever the sessions are", || {
                let told = pair.fleet.get(RECOVERY);
                let is_all = told["is_behind"] == is_behind
                    && told["missing_keystores"] == json!([])
                    && (!is_behind || told["strangers"].as_array().unwrap().len() == 2);
                is_all.then_some(()).ok_or(told)
            });
    };
    let refused = |pair: &Pair| {
        let asked = pair.fleet.change("POST", &idle, "/activate", &Value::Null);
        assert_eq!((asked.status, asked.code()), (409, "restored_from_backup"));
    };
    all(&pair, true);
    refused(&pair);
    assert_ne!(one, third.url);
    pair.talk_to(&third.url);
    pair.fleet.until("they are shared out again", || {
        let shares = pair.shares();
        (shares.len() == 2).then_some(()).ok_or(json!(shares))
    });
    all(&pair, true);
    refused(&pair);
    let go_on = pair
        .fleet
        .request("POST", RECOVERY, None, &json!({"prefer": "restrict"}));
    go_on.ok();
    // The other one hears of it with its next round.
    pair.talk_to(&two);
    pair.fleet.until("all go on", || {
        let asked = pair.fleet.change("POST", &idle, "/activate", &Value::Null);
        let is_on = (200..300).contains(&asked.status);
        is_on.then_some(()).ok_or(asked.body)
    });
    pair.fleet.in_step(&idle);
    // New sessions show the same keys: they are no news.
    third.stop();
    pair.all_at(&two);
    pair.is_well();
    all(&pair, false);
}
