//! What a process tells about itself. Names are those that Prometheus' clients have for them.

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::declaration::{Declaration, Kind, Label, counter, gauge};
use crate::admin::Health;
use crate::runtime::memory::{MemoryProbe, resident_bytes, virtual_bytes};

/// Kernel ticks per second in `/proc/self/stat`; 100 on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

crate::declare! {
    OF_PROCESS, "The process";
    BUILD = Declaration {
        kind: Kind::Info,
        ..gauge("rsky_build_info", "1", "The daemon and its version")
            .by(&[Label::configured("daemon", "its name"), Label::configured("version", "its version")])
    };
    READY = gauge("rsky_ready", "0 or 1", "1 while it is connected to what it needs, as /readyz says");
    RESIDENT = gauge("process_resident_memory_bytes", "bytes", "Resident memory");
    VIRTUAL = gauge("process_virtual_memory_bytes", "bytes", "Size of the address space");
    CPU = counter("process_cpu_seconds_total", "seconds", "User and system CPU time");
    STARTED = gauge("process_start_time_seconds", "seconds", "When it started, since the Unix epoch");
    OPEN_FILES = gauge("process_open_fds", "files", "Open files and sockets");
    MOST_FILES = gauge("process_max_fds", "files", "How many may be open").absent("without a limit");
    MEMORY_USED = gauge(
        "rsky_memory_used_bytes",
        "bytes",
        "Memory in use, without file cache, of the cgroup it is in, or of the machine"
    ).absent("where the system does not tell");
    MEMORY_LIMIT = gauge(
        "rsky_memory_limit_bytes",
        "bytes",
        "Memory there is, of the cgroup it is in, or of the machine"
    ).absent("where the system does not tell");
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn figure(number: u64) -> f64 {
    number as f64
}

pub(super) fn register(registry: &mut Registry, name: &'static str, version: &'static str, health: Health) {
    let build = Info::new(vec![("daemon", name), ("version", version)]);
    registry.register(BUILD.bare_name(), BUILD.help, build);
    READY.asked(registry, move || Some(if health.reasons().is_empty() { 1.0 } else { 0.0 }));
    RESIDENT.asked(registry, || resident_bytes(&read("/proc/self/status")).map(figure));
    VIRTUAL.asked(registry, || virtual_bytes(&read("/proc/self/status")).map(figure));
    CPU.asked(registry, || cpu_seconds(&read("/proc/self/stat")));
    STARTED.asked(registry, || started(&read("/proc/self/stat"), &read("/proc/stat")));
    OPEN_FILES.asked(registry, || Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as f64));
    MOST_FILES.asked(registry, || most_files(&read("/proc/self/limits")));
    let probe = MemoryProbe::detect();
    let usage = probe.clone();
    MEMORY_USED.asked(registry, move || Some(figure(usage.read()?.used)));
    MEMORY_LIMIT.asked(registry, move || Some(figure(probe.read()?.limit)));
}

/// A field of `/proc/self/stat` after the command, which in its parentheses may hold anything; state is field 3 (proc(5)).
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS)
}

/// Seconds since the epoch: the machine's start, from `/proc/stat`, and how long after it the process started.
fn started(stat: &str, machine: &str) -> Option<f64> {
    let booted: f64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + field(stat, 22)? / TICKS)
}

fn most_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a b) (c) S 1 7 7 0 -1 4194304 123 0 0 0 250 50 0 0 20 0 4 0 100 1000 5";

    #[test]
    fn reads_cpu_time_and_start_past_any_command_name() {
        assert_eq!(cpu_seconds(STAT), Some(3.0));
        assert_eq!(cpu_seconds("7 (x"), None);
        assert_eq!(started(STAT, "cpu 1\nbtime 1000\nprocesses 3\n"), Some(1001.0));
        assert_eq!(started(STAT, ""), None);
    }

    #[test]
    fn reads_the_limit_of_files() {
        let limits = "Max processes  7 7 processes\nMax open files            1024     4096    files\n";
        assert_eq!(most_files(limits), Some(1024.0));
        assert_eq!(most_files("Max open files   unlimited unlimited files"), None);
    }
}
