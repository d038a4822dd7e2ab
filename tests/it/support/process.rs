//! Processes as the system shows them: whose child is whose, and what is in their memory.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;

/// State and parent of a process; none if there is no such process.
fn stat_of(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // pid (name) state parent ...; the name may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// The state of a process as `ps` shows it, such as `T` for one that was stopped.
pub fn state_of(pid: u32) -> Option<char> {
    stat_of(pid).map(|(state, _)| state)
}

/// The first child of a process that is not a zombie.
pub fn child_of(parent: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| stat_of(*pid).is_some_and(|(state, of)| of == parent && state != 'Z'))
}

/// All that a process can read of its own memory, mapping by mapping, each with its line of `/proc/PID/maps`. The process runs
/// on meanwhile; a mapping that went away since it was listed is left out.
///
/// # Errors
/// The system's: a process that is not dumpable can be read by root alone.
pub fn memory(pid: u32) -> io::Result<Vec<(String, Vec<u8>)>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut found = Vec::new();
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        // The kernel's own pages can be listed, but not read.
        if !rest.starts_with('r') || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let mut bytes = vec![0; usize::try_from(number(end) - number(start)).unwrap()];
        if memory.read_exact_at(&mut bytes, number(start)).is_ok() {
            found.push((line.to_owned(), bytes));
        }
    }
    Ok(found)
}
