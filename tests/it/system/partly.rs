//! Three of five: one token refuses, one agent is away. API, command line, metrics and page say exactly that, and it is finished
//! later.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::fault::Faults;
use crate::support::fleet::{Fleet, said};
use crate::support::programs::lockstep;

/// CKR_ACTION_PROHIBITED.
const REFUSES: &str = "C_SetAttributeValue rv 0x1b";

fn fleet() -> (Fleet, Faults) {
    let names = ["home", "berlin", "dallas", "oslo", "tokyo", "lima"];
    let fleet = Fleet::start_faulty(&names, &["C_WaitForSlotEvent delay 0"]);
    let faults = Faults::new(&fleet.dir, Path::new(""));
    (fleet, faults)
}

/// What `--wait` ended with, and the last line that says how far the key is.
fn waited(fleet: &Fleet, args: &[&str]) -> (Option<i32>, String) {
    let done = lockstep(fleet, args);
    let told = String::from_utf8(done.stdout).unwrap();
    let first = told.lines().next().unwrap_or_default().to_owned();
    (done.status.code(), first)
}

fn metrics(fleet: &Fleet, lines: &[&str]) {
    fleet.until("metrics", || {
        let text = fleet.get("/metrics");
        let has = |line: &&str| text.as_str().unwrap().lines().any(|one| one == *line);
        if lines.iter().all(has) {
            Ok(())
        } else {
            Err(text)
        }
    });
}

/// The overview, as a signed-in person sees it.
fn page(fleet: &Fleet) -> String {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .max_redirects(0)
        .http_status_as_error(false)
        .build()
        .into();
    let token = std::fs::read_to_string(fleet.dir.join("admin.token")).unwrap();
    let signed_in = agent
        .post(format!("{}/sign-in", fleet.url))
        .header("sec-fetch-site", "same-origin")
        .send_form([("token", token.trim())])
        .unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let at = format!("{}/?live", fleet.url);
    let mut page = agent.get(at).header("cookie", cookie).call().unwrap();
    page.body_mut().read_to_string().unwrap()
}

#[test]
fn three_of_five_is_told_and_finished_later() {
    let (mut fleet, faults) = fleet();
    let vault = fleet.furnish();
    fleet.template(&vault, "aes", "aes", 256);
    let key = fleet.key(&vault, "aes", "k");
    assert_eq!(fleet.get(&key)["phase"], "in_step");

    // One is away: that may pass.
    fleet.kill_agent("oslo");
    let activate = ["key", "activate", "k", "--wait=5"];
    let (code, line) = waited(&fleet, &activate);
    assert_eq!(code, Some(75), "{line}");
    assert_eq!(
        line,
        "k: wanted active, UNKNOWN, 4 of 5 keystores confirmed"
    );

    // One refuses besides: that will not pass, and nobody waits for the one that is away.
    faults.set(&[REFUSES]);
    let (code, line) = waited(&fleet, &["key", "deactivate", "k", "--wait=60"]);
    assert_eq!(code, Some(3), "{line}");
    let partly = "k: wanted deactivated, OUT OF STEP, 3 of 5 keystores confirmed";
    assert_eq!(line, partly);
    told_by_the_api(&fleet, &key);
    let shown = said(&lockstep(&fleet, &["key", "status", "k"]));
    assert_eq!(shown.lines().next(), Some(partly), "{shown}");
    metrics(
        &fleet,
        &[
            "lockstep_key_phases{phase=\"out_of_step\"} 1",
            "lockstep_key_phases{phase=\"in_step\"} 0",
            "lockstep_instances{vault=\"test\",keystore=\"berlin\",status=\"in_sync\"} 1",
            "lockstep_instances{vault=\"test\",keystore=\"dallas\",status=\"in_sync\"} 1",
            "lockstep_instances{vault=\"test\",keystore=\"tokyo\",status=\"in_sync\"} 1",
            "lockstep_instances{vault=\"test\",keystore=\"lima\",status=\"failed\"} 1",
            "lockstep_instances{vault=\"test\",keystore=\"oslo\",status=\"unknown\"} 1",
            "lockstep_differences{vault=\"test\",keystore=\"oslo\",reason=\"unreachable\"} 1",
        ],
    );
    let page = page(&fleet);
    for words in [
        "3 of 5 confirmed",
        "Out of step",
        "Failed",
        "CKR_ACTION_PROHIBITED",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(page.contains("not reachable"), "{page}");

    // Who was away catches up by itself; what was refused waits for a person, and sync finishes it.
    fleet.start_agent("oslo");
    fleet.until("oslo", || {
        let now = fleet.get(&key);
        if now["confirmed"] == 4 {
            Ok(())
        } else {
            Err(now)
        }
    });
    faults.clear();
    let (code, line) = waited(&fleet, &["key", "sync", "k", "--wait=60"]);
    let whole = "k: deactivated, in step (5 of 5 keystores confirmed)";
    assert_eq!((code, line.as_str()), (Some(0), whole));
    let now = fleet.get(&key);
    let told = [
        &now["phase"],
        &now["confirmed"],
        &now["total"],
        &now["unconfirmed"],
    ];
    assert_eq!(told, [&json!("in_step"), &json!(5), &json!(5), &json!([])]);
    fleet.keeps_its_promises();
}

fn told_by_the_api(fleet: &Fleet, key: &str) {
    let now = fleet.get(key);
    let told = [
        &now["state"],
        &now["phase"],
        &now["confirmed"],
        &now["total"],
    ];
    let expected = [
        &json!("deactivated"),
        &json!("out_of_step"),
        &json!(3),
        &json!(5),
    ];
    assert_eq!(told, expected, "{now:#}");
    let unconfirmed = now["unconfirmed"].as_array().unwrap();
    let told: Vec<[&Value; 4]> = unconfirmed
        .iter()
        .map(|one| {
            [
                &one["keystore"]["name"],
                &one["version"],
                &one["sync_status"],
                &one["reason"],
            ]
        })
        .collect();
    let row = |row: [&str; 3]| [json!(row[0]), json!(1), json!(row[1]), json!(row[2])];
    let expected = [
        row(["lima", "failed", "failed"]),
        row(["oslo", "unknown", "unreachable"]),
    ];
    let expected: Vec<[&Value; 4]> = expected.iter().map(|row| row.each_ref()).collect();
    assert_eq!(told, expected, "{now:#}");
    for one in unconfirmed {
        let since = one["since"].as_str().unwrap_or_else(|| panic!("{one:#}"));
        since.parse::<jiff::Timestamp>().unwrap();
    }
    let lima = unconfirmed[0]["message"].as_str().unwrap();
    assert!(
        lima.contains("C_SetAttributeValue: CKR_ACTION_PROHIBITED"),
        "{lima}"
    );
}
