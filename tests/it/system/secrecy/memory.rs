//! The memory of the processes after work: neither PIN nor key. `/proc/PID/mem` of a process that is not dumpable is root's
//! alone; whoever is not root is told so and tests nothing here.
//!
//! What is promised of each process, and why more cannot be:
//! - The agent's server handles a PIN for the length of a start of its module host, and never a key: it must hold neither.
//! - The module host has the vendor's library in it. What is ours there (the frame that the PIN came in, the PIN itself, blobs,
//!   templates) is wiped or holds no secret. What is the library's is its own. SoftHSM2 2.6.1 masks the token's master key while it
//!   is not in use (`SecureDataManager::remask`) and wipes what it frees (`SecureAllocator`); with it, nothing is found after
//!   work, and the test holds that. Another library may keep a key's value for as long as it has the object, and no process of
//!   ours can do anything about it: therefore the library is in a process of its own, which is not dumpable, dumps no core,
//!   and has no network.

use std::fs;

use serde_json::Value;

use crate::support::agent::send_signal;
use crate::support::fleet::Fleet;
use crate::support::process::{child_of, memory};
use crate::support::secrets::Secrets;
use crate::system::secrecy::known::Known;
use crate::system::secrecy::secrets;

/// Never the PIN of any token, and tried on one.
const WRONG_PIN: &[u8] = b"wrong-pin-0f2a55c3d1e9";

/// What a process had in memory, mapping by mapping.
type Dump = (String, Vec<(String, Vec<u8>)>);

#[test]
fn no_pin_and_no_key_stays_in_memory() {
    let mut fleet = Fleet::start(&["home", "frankfurt"]);
    let vault = fleet.furnish();
    let distributed = [("aes", 256), ("ec", 256)].map(|(kind, size)| {
        fleet.template(&vault, kind, kind, size);
        let key = fleet.key(&vault, kind, &format!("{kind}-1"));
        fleet.change("POST", &key, "/activate", &Value::Null).ok();
        fleet.in_step(&key);
        (kind, key.clone(), fleet.cka_id(&key))
    });
    // A wrong PIN is kept from the token from now on, so the right one is compared with it at each start of a host.
    let pin_file = fleet.agents["frankfurt"].token.pin_file.clone();
    let right = fs::read(&pin_file).unwrap();
    fs::write(&pin_file, WRONG_PIN).unwrap();
    let before = host_of(&fleet, "frankfurt").unwrap();
    send_signal(before, "KILL");
    let log = fleet.agent_dir("frankfurt").join("agent.log");
    fleet.until("a wrong PIN", || {
        let log = fs::read_to_string(&log).unwrap();
        let refused = log.contains("the token refused the PIN");
        refused.then_some(()).ok_or_else(|| Value::from(log))
    });
    fs::write(&pin_file, right).unwrap();
    fleet.until("a new module host that reports", || {
        let now = host_of(&fleet, "frankfurt");
        let statuses = distributed.each_ref().map(|(_, key, _)| fleet.get(key));
        let all = statuses.iter().all(|key| key["phase"] == "in_step");
        let is_new = now.is_some_and(|now| now != before);
        (all && is_new)
            .then_some(())
            .ok_or_else(|| Value::from(statuses.to_vec()))
    });

    let Some(dumps) = dumps(&fleet) else { return };
    fleet.kill_coordinator();
    for name in ["home", "frankfurt"] {
        fleet.kill_agent(name);
    }
    let known = distributed.map(|(kind, _, id)| Known::of(&fleet, kind, &id));
    known.iter().for_each(Known::check_value);
    let mut wanted = secrets(&fleet, &known);
    wanted.add("a wrong PIN", WRONG_PIN);
    let mut public = Secrets::default();
    public.add("label of the transport key", b"lockstep-transport");
    for (process, maps) in &dumps {
        let bytes: usize = maps.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes > 8 << 20, "{process}: only {bytes} bytes were read");
        let search = |wanted: &Secrets| -> Vec<String> {
            let found = maps.iter().flat_map(|(map, bytes)| {
                let found = wanted.found_in_memory(bytes).into_iter();
                found.map(move |found| format!("{process}: {found}: {map}"))
            });
            found.collect()
        };
        let leaks: Vec<String> = search(&wanted)
            .into_iter()
            // People's requests are in the buffers of the one process that they are sent to.
            .filter(|leak| !leak.starts_with("coordinator: API token"))
            .collect();
        assert!(leaks.is_empty(), "{leaks:#?}");
        // The search sees: the agent's program has this name in it, in the server as in the host.
        let sees = process == "coordinator" || !search(&public).is_empty();
        assert!(sees, "{process}: the search is blind");
    }
}

fn host_of(fleet: &Fleet, name: &str) -> Option<u32> {
    child_of(fleet.agent_pid(name))
}

/// Of all processes; none, with a line that says so, where the system does not let us.
fn dumps(fleet: &Fleet) -> Option<Vec<Dump>> {
    let mut processes = vec![("coordinator".to_owned(), fleet.coordinator_pid())];
    for name in ["home", "frankfurt"] {
        processes.push((format!("agent {name}"), fleet.agent_pid(name)));
        processes.push((format!("host of {name}"), host_of(fleet, name).unwrap()));
    }
    let mut dumps = Vec::new();
    for (process, pid) in processes {
        match memory(pid) {
            Ok(maps) => dumps.push((process, maps)),
            Err(error) => {
                println!(
                    "skipped: the memory of {process} cannot be read: {error}; run it as root"
                );
                return None;
            }
        }
    }
    Some(dumps)
}
