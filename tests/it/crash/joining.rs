//! The cases of enrolling: `init`, `bind` and the new keystore's record, each of which whoever did not see it end does again.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lockstep::failpoint::Point;
use rustix::process::Signal;
use serde_json::Value;

use crate::crash::case::{Case, Mode, Party, Place};
use crate::crash::rig::{Rig, is_well, repeat, signal, stopped};
use crate::crash::trial::STOP;
use crate::support::process::child_of;

/// From the last command to a keystore that is used: its token is tried first, and its transport pair made.
const IN_USE_WITHIN: Duration = Duration::from_secs(30);

/// Plays a case; how long it took from the restart until the keystore was in use.
pub(crate) fn run(rig: &mut Rig, case: &Case) -> Duration {
    rig.ready();
    let name = rig.name("joins");
    rig.fleet.one_more(&name, rig.kind);
    let command = if case.place == Place::At(Point::Received) {
        "init"
    } else {
        "bind"
    };
    if command == "bind" {
        rig.fleet.agent_ok(&name, "init");
    }
    if case.party == Party::New {
        strike(rig, case, &name, command);
        // The operator saw it fail, or not end: does it again.
        rig.fleet.agent_ok(&name, command);
    }
    if command == "init" || case.party == Party::Coordinator {
        rig.fleet.agent_ok(&name, "bind");
    }
    rig.fleet.start_agent(&name);
    let (body, key) = (rig.new_keystore(&name), rig.name("asked"));
    let ask = |client: &crate::support::client::Client| {
        let headers = [("idempotency-key", key.as_str())];
        client.send("POST", "/api/v4/keystores", &headers, &body)
    };
    if case.party == Party::Coordinator {
        rig.arm(case, "");
        let (client, asked, idempotency) = (rig.fleet.client(), body.clone(), key.clone());
        let asked = std::thread::spawn(move || {
            let headers = [("idempotency-key", idempotency.as_str())];
            client.send("POST", "/api/v4/keystores", &headers, &asked)
        });
        rig.wait_struck(case, "");
        if case.mode == Mode::Stop {
            rig.stopped(case, || std::thread::sleep(STOP));
        }
        rig.recover(case);
        rig.disarm(case, "");
        let _lost_or_not = asked.join().unwrap();
    }
    let began = Instant::now();
    let fleet = &rig.fleet;
    let made = repeat(|| fleet.client(), IN_USE_WITHIN, ask);
    let path = format!("/api/v4/keystores/{}", made.body["id"].as_str().unwrap());
    while !is_well(&fleet.get(&path)) {
        let told = || fleet.get(&path);
        assert!(began.elapsed() < IN_USE_WITHIN, "{case}: {:#}", told());
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = began.elapsed();
    let named = fleet.get(&format!("/api/v4/keystores?name={name}"));
    assert_eq!(named["keystores"].as_array().unwrap().len(), 1, "{case}");
    let subject = path.replace("/api/v4/keystores/", "keystore/");
    assert_eq!(rig.noted(&subject), 1, "{case}: audited once");
    fleet.keeps_its_promises();
    fleet.change("DELETE", &path, "", &Value::Null).ok();
    rig.fleet.kill_agent(&name);
    rig.fleet.agents.remove(&name);
    took
}

/// Runs a command of the new agent's that meets with the case.
fn strike(rig: &Rig, case: &Case, name: &str, command: &str) {
    rig.arm(case, name);
    let mut process = start(rig.fleet.agent_command(name, command));
    rig.wait_struck(case, name);
    match case.mode {
        Mode::Stop | Mode::LongStop => {
            let pid = match case.is_in_the_host() {
                true => child_of(process.id()).expect("a module host"),
                false => process.id(),
            };
            stopped(pid, || std::thread::sleep(STOP));
            let said = said(process);
            assert!(said.status.success(), "{case}: {said:?}");
        }
        Mode::Orphan => {
            signal(process.id(), Signal::KILL);
            process.wait().unwrap();
            rig.disarm(case, name);
        }
        Mode::Abort | Mode::Fail => {
            let said = said(process);
            assert!(!said.status.success(), "{case}: {said:?}");
        }
    }
    rig.disarm(case, name);
}

fn start(mut command: Command) -> Child {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn said(process: Child) -> Output {
    process.wait_with_output().unwrap()
}
