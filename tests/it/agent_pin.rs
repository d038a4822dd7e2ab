//! The PIN as an agent's operator meets it: a pipe that is gone when the module host starts again, and a PIN that was changed on
//! the token.

use lockstep::model::keystore::{Health, Variant};
use lockstep::model::protocol::Description;

use crate::support::agent::{Agent, Fleet, send_signal};
use crate::support::process::memory;
use crate::support::secrets::Secrets;

/// The config says that the PIN comes through standard input.
fn by_pipe(agent: &mut Agent) {
    let file = agent.dir.join("agent.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let line = format!("pin_file = {:?}", agent.token.pin_file);
    assert!(config.contains(&line), "{config}");
    std::fs::write(&file, config.replace(&line, "pin_fd = 0")).unwrap();
    agent.pin_by_pipe = true;
}

/// Kills the module host and waits for another one.
fn replace_host(agent: &mut Agent) {
    let before = agent.module_host().unwrap();
    send_signal(before, "KILL");
    agent.wait(|agent| agent.module_host().is_some_and(|now| now != before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_came_through_a_pipe_outlives_the_module_host_and_not_in_memory() {
    let fleet = Fleet::new();
    let mut agent = fleet.agent("home", Variant::External);
    agent.ok(&["bind"]);
    by_pipe(&mut agent);
    // Nothing is at its standard input here: said, with the key of the config, before anything is started.
    let (code, said) = agent.fails(&["serve"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("token.pin_fd: "), "{said}");
    agent.start();
    fleet.ready(&agent).await;
    for _respawn in 0..2 {
        replace_host(&mut agent);
        fleet.ready(&agent).await;
    }
    for pid in [agent.pid(), agent.module_host().unwrap()] {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core"));
        let words: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert!(
            words.contains(&"0") && !words.contains(&"unlimited"),
            "{core:?}"
        );
        let locked = limits
            .lines()
            .find(|line| line.starts_with("Max locked memory"));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let held = status
            .lines()
            .find(|line| line.starts_with("VmLck:"))
            .unwrap();
        if locked.unwrap().contains("unlimited") {
            assert!(!held.contains(" 0 kB"), "{held}");
        } else {
            assert!(
                agent.log().contains("memory may be swapped"),
                "{}",
                agent.log()
            );
        }
    }
    let mut wanted = Secrets::default();
    let pin = std::fs::read(&agent.token.pin_file).unwrap();
    wanted.add("PIN", &pin);
    match memory(agent.pid()) {
        Ok(maps) => {
            let found = |(map, bytes): &(String, Vec<u8>)| {
                let found = wanted.found_in_memory(bytes);
                (!found.is_empty()).then(|| format!("{found:?}: {map}"))
            };
            let leaks: Vec<String> = maps.iter().filter_map(found).collect();
            assert!(leaks.is_empty(), "{leaks:#?}");
        }
        Err(error) => println!("skipped: the agent's memory cannot be read: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_changed_on_the_token_is_tried_once_and_the_new_one_is_noticed() {
    let tries = |agent: &Agent| agent.log().matches("the token was not opened").count();
    let fleet = Fleet::new();
    let mut agent = fleet.running("home", Variant::External);
    fleet.ready(&agent).await;
    let new = "another-pin-of-0123456789";
    let changed = agent.token.pkcs11_tool(&["--change-pin", "--new-pin", new]);
    assert!(changed.status.success(), "{changed:?}");
    let before = agent.module_host().unwrap();
    send_signal(before, "KILL");
    let wrong = |seen: &Description| seen.health == Health::WrongPin;
    fleet.described(&agent, wrong).await;
    assert_eq!(tries(&agent), 1, "{}", agent.log());
    for _start in 0..2 {
        assert_eq!(agent.end("KILL"), None);
        agent.start();
        fleet.described(&agent, wrong).await;
    }
    assert_eq!(tries(&agent), 1, "{}", agent.log());

    std::fs::write(&agent.token.pin_file, new).unwrap();
    fleet.ready(&agent).await;
    assert_eq!(tries(&agent), 1, "{}", agent.log());
    assert!(!agent.log().contains(new), "{}", agent.log());
}
