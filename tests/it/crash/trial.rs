//! One case from its beginning to its end: the key where it is to be, the strike, the restart, and then what must hold.

use std::thread;
use std::time::{Duration, Instant};

use lockstep::failpoint::Point;
use serde_json::Value;

use crate::crash::case::{Case, Mode, Operation, Party, Place};
use crate::crash::rig::{Asked, Rig, Subject, action_path, repeat};
use crate::support::client::Client;
use crate::support::kinds::Kind;

/// From the restart to all in step (promises 2.2).
pub(crate) const IN_STEP_WITHIN: Duration = Duration::from_secs(10);

/// A stop that nobody notices.
pub(crate) const STOP: Duration = Duration::from_millis(400);

/// Longer than the 16 s after which a line is taken for dead.
pub(crate) const LONG_STOP: Duration = Duration::from_secs(18);

/// What is asked for.
#[derive(Debug, Clone)]
struct Request {
    method: &'static str,
    at: String,
    key: String,
    etag: Option<String>,
    body: Value,
}

impl Request {
    fn send(&self, client: &Client) -> Asked {
        let mut headers = vec![("idempotency-key", self.key.as_str())];
        headers.extend(self.etag.as_deref().map(|etag| ("if-match", etag)));
        client.send(self.method, &self.at, &headers, &self.body)
    }
}

/// Plays a case of a key; how long it took from the restart until all was in step.
pub(crate) fn run(rig: &mut Rig, case: &Case) -> Duration {
    rig.spare_hosts();
    rig.ready();
    let mut subject = before(rig, case.operation);
    let request = request(rig, case.operation, &subject);
    let noted = subject
        .path
        .as_deref()
        .map_or(0, |path| rig.noted(&audit_subject(path)));
    rig.arm(case, "");
    let (client, asked) = (rig.fleet.client(), request.clone());
    let asked = thread::spawn(move || asked.send(&client));
    rig.wait_struck(case, "");
    if matches!(case.mode, Mode::Stop | Mode::LongStop) {
        rig.stopped(case, || stand(rig, case, &subject));
    }
    rig.recover(case);
    rig.disarm(case, "");
    let began = Instant::now();
    let first = asked.join().unwrap();
    // Whoever got no answer asks again with the same key; whoever did may, too, and changes nothing.
    let fleet = &rig.fleet;
    let patience = IN_STEP_WITHIN;
    let answer = repeat(|| fleet.client(), patience, |client| request.send(client));
    if let Ok(first) = first.as_ref()
        && first.is_ok()
    {
        assert_eq!(
            first.body["id"], answer.body["id"],
            "{case}: answered twice, differently"
        );
    }
    if subject.path.is_none() {
        let id = answer.body["id"].as_str().unwrap();
        subject.path = Some(format!("/api/v4/managed_keys/{id}"));
    }
    let path = subject.path.clone().unwrap();
    in_step(rig, case, &path, began);
    let took = began.elapsed();
    check(rig, case, &subject);
    assert_eq!(
        rig.noted(&audit_subject(&path)),
        noted + 1,
        "{case}: audited once"
    );
    rig.fleet.keeps_its_promises();
    clean_up(rig, case, &subject);
    took
}

/// A key as it is before the operation.
fn before(rig: &mut Rig, operation: Operation) -> Subject {
    match operation {
        Operation::CreateSecret | Operation::CreatePair => {
            let label = rig.name("key");
            Subject { label, path: None }
        }
        Operation::Activate => rig.made(),
        Operation::Deactivate => {
            let subject = rig.made();
            rig.done("POST", &subject, "/activate", &Value::Null);
            subject
        }
        Operation::Destroy => {
            let subject = before(rig, Operation::Deactivate);
            rig.done("POST", &subject, "/deactivate", &Value::Null);
            subject
        }
        Operation::Transfer => {
            let subject = rig.made();
            rig.done("PUT", &subject, "/targets", &rig.targets(false));
            rig.done("POST", &subject, "/activate", &Value::Null);
            subject
        }
        Operation::Enrol => panic!("not about a key"),
    }
}

fn request(rig: &mut Rig, operation: Operation, subject: &Subject) -> Request {
    let (method, action, body) = match operation {
        Operation::CreateSecret => ("POST", "", rig.new_key("secret", &subject.label)),
        Operation::CreatePair => ("POST", "", rig.new_key("pair", &subject.label)),
        Operation::Activate => ("POST", "/activate", Value::Null),
        Operation::Deactivate => ("POST", "/deactivate", Value::Null),
        Operation::Destroy => ("POST", "/destroy", Value::Null),
        Operation::Transfer => ("PUT", "/targets", rig.targets(true)),
        Operation::Enrol => panic!("not about a key"),
    };
    let key = rig.name("asked");
    match &subject.path {
        None => Request {
            method,
            at: "/api/v4/managed_keys".to_owned(),
            key,
            etag: None,
            body,
        },
        Some(path) => Request {
            method,
            at: action_path(path, action),
            key,
            etag: rig.fleet.request("GET", path, None, &Value::Null).etag,
            body,
        },
    }
}

/// While a process stands still, nobody says that what it has not said is so.
fn stand(rig: &Rig, case: &Case, subject: &Subject) {
    let pause = if case.mode == Mode::LongStop {
        LONG_STOP
    } else {
        STOP
    };
    let until = Instant::now() + pause;
    let is_unsaid = case.party == Party::Away && case.place != Place::At(Point::AfterReport);
    while Instant::now() < until {
        if let Some(path) = &subject.path
            && is_unsaid
        {
            let told = rig.fleet.get(path);
            assert_ne!(told["phase"], "in_step", "{case}: {told:#}");
        }
        thread::sleep(STOP / 4);
    }
}

fn in_step(rig: &Rig, case: &Case, path: &str, began: Instant) {
    loop {
        let told = rig.fleet.get(path);
        if told["phase"] == "in_step" {
            return;
        }
        let status = || rig.fleet.get(&format!("{path}/status_in_keystores"));
        let late = began.elapsed() > IN_STEP_WITHIN;
        assert!(!late, "{case}: not in step: {told:#}\n{:#}", status());
        thread::sleep(Duration::from_millis(20));
    }
}

/// What the token holds, as somebody sees it who knows nothing of Lockstep, and what is said of the key.
fn check(rig: &Rig, case: &Case, subject: &Subject) {
    let path = subject.path.as_deref().unwrap();
    let (state, objects, is_usable) = match case.operation {
        Operation::CreateSecret | Operation::CreatePair => ("pre_activation", 0, false),
        Operation::Activate | Operation::Transfer => ("active", 2, true),
        Operation::Deactivate => ("deactivated", 2, false),
        Operation::Destroy => ("destroyed", 0, false),
        Operation::Enrol => panic!("not about a key"),
    };
    let told = rig.fleet.get(path);
    assert_eq!(told["state"], state, "{case}: {told:#}");
    assert_eq!(rig.objects(&subject.label), objects, "{case}: one set");
    if objects > 0 {
        assert_eq!(rig.signs(&rig.fleet.cka_id(path)), is_usable, "{case}");
    }
    if case.operation == Operation::Destroy {
        // Its label is free again.
        return;
    }
    let same = rig
        .fleet
        .get(&format!("/api/v4/managed_keys?label={}", subject.label));
    let count = same["managed_keys"].as_array().unwrap().len();
    assert_eq!(count, 1, "{case}: one key of that label: {same:#}");
}

/// The token is as it was: what is left of a hundred cases would slow the next down.
fn clean_up(rig: &Rig, case: &Case, subject: &Subject) {
    let actions: &[&str] = match case.operation {
        Operation::CreateSecret | Operation::CreatePair | Operation::Deactivate => &["/destroy"],
        Operation::Activate | Operation::Transfer => &["/deactivate", "/destroy"],
        Operation::Destroy | Operation::Enrol => &[],
    };
    for action in actions {
        rig.done("POST", subject, action, &Value::Null);
    }
    assert_eq!(rig.objects(&subject.label), 0, "{case}: destroyed");
}

fn audit_subject(path: &str) -> String {
    format!("key/{}", path.rsplit('/').next().unwrap())
}

/// Calls of a host that change its token or make an object.
const WRITES: [&str; 7] = [
    "C_GenerateKey",
    "C_GenerateKeyPair",
    "C_UnwrapKey",
    "C_CreateObject",
    "C_CopyObject",
    "C_SetAttributeValue",
    "C_DestroyObject",
];

/// What hosts call in an operation that nothing befalls: agent, function, how often.
fn calls_of(rig: &mut Rig, operation: Operation) -> Vec<(Party, &'static str, u32)> {
    let subject = before(rig, operation);
    let request = request(rig, operation, &subject);
    for party in [Party::Home, Party::Away] {
        rig.faults(party, "").forget();
    }
    request.send(&rig.fleet.client()).unwrap().ok();
    if let Some(path) = &subject.path {
        rig.fleet.in_step(path);
    }
    let mut made = Vec::new();
    for party in [Party::Home, Party::Away] {
        for function in WRITES {
            let times = rig.faults(party, "").calls(function);
            if times > 0 {
                made.push((party, function, u32::try_from(times).unwrap()));
            }
        }
    }
    made
}

#[test]
fn the_calls_of_the_matrix_are_those_that_are_made() {
    let mut rig = Rig::new(Kind::Kryoptic);
    for operation in Operation::ALL {
        if operation == Operation::Enrol {
            continue;
        }
        let mut expected = operation.calls().to_vec();
        expected.sort_unstable();
        let mut made = Vec::new();
        // What a token answers to is learned at the first time, and a look at another key may come between.
        for _ in 0..4 {
            made = calls_of(&mut rig, operation);
            // The source's part of an activation is that of a transfer.
            made.retain(|(party, ..)| operation != Operation::Activate || *party == Party::Away);
            made.sort_unstable();
            if made == expected {
                break;
            }
        }
        assert_eq!(made, expected, "{operation:?}");
    }
}
