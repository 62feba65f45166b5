//! Memory and CPU time of processes, from /proc.

use std::fs;

/// Ticks per second of the times in /proc/PID/stat; Linux shows 100 to user space on every architecture it runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Largest resident memory it ever had, in KiB (VmHWM).
    pub(crate) peak_kib: u64,
    /// User and system time, in seconds.
    pub(crate) cpu_seconds: f64,
}

/// Resident memory now, in KiB; `None` when the process is gone.
pub(crate) fn resident_kib(pid: u32) -> Option<u64> {
    status_kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

/// Usage of one process alone.
pub(crate) fn usage(pid: u32) -> Usage {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let [user, system, ..] = times(&stat).unwrap_or_default();
    Usage { peak_kib: status_kib(&status, "VmHWM:").unwrap_or(0), cpu_seconds: seconds(user + system) }
}

/// Usage of a process with its children, living and ended: CPU time of all, memory of the largest (Postgres' share
/// most of theirs, so that a sum would count it many times).
pub(crate) fn usage_with_children(pid: u32) -> Usage {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut total = usage(pid);
    let [_, _, ended_user, ended_system] = times(&stat).unwrap_or_default();
    total.cpu_seconds += seconds(ended_user + ended_system);
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|word| word.parse().ok()) {
        let child = usage(child);
        total.cpu_seconds += child.cpu_seconds;
        total.peak_kib = total.peak_kib.max(child.peak_kib);
    }
    total
}

fn status_kib(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().trim_end_matches("kB").trim().parse().ok()
}

/// User and system time of a process, then of its ended children, in ticks. The program's name, in parentheses, may
/// hold blanks and parentheses itself; the numbers are counted from its end.
fn times(stat: &str) -> Option<[u64; 4]> {
    let mut numbers = stat.rsplit_once(')')?.1.split_whitespace().skip(11).map(|word| word.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()??])
}

#[expect(clippy::cast_precision_loss, reason = "ticks of a process are far below 2^53")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_behind_a_hostile_name() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 30 20 20 0 1";
        assert_eq!(times(stat), Some([150, 50, 30, 20]));
        assert_eq!(times(""), None);
    }

    #[test]
    fn knows_our_own_memory() {
        let us = std::process::id();
        assert!(resident_kib(us).unwrap() > 500);
        assert!(usage(us).peak_kib >= resident_kib(us).unwrap() / 2);
        assert_eq!(status_kib("VmHWM:\t  1234 kB\n", "VmHWM:"), Some(1234));
    }
}
