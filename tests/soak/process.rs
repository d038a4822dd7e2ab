//! What the system says of a process.

use std::fs;

/// USER_HZ: the unit of the times in /proc/PID/stat.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    pub cpu_s: f64,
    pub rss_mib: f64,
    pub descriptors: usize,
    pub threads: usize,
}

pub fn read(pid: u32) -> Reading {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // pid (name) state ...; the name may hold anything. utime and stime are the 14th and 15th field.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.split_whitespace().next())
        .unwrap()
        .parse()
        .unwrap();
    Reading {
        cpu_s: ticks as f64 / TICKS_PER_SECOND,
        rss_mib: kib / 1024.0,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        threads: fields[17].parse().unwrap(),
    }
}

/// How many descriptors it may have, and how many it might take itself.
pub fn descriptors_allowed(pid: u32) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let mut words = line.unwrap().split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

/// The load of the machine over the last minute.
pub fn machine_load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}
