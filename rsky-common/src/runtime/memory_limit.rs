//! How much memory a process may plan with: what of the limits it finds itself under is the narrowest.
//!
//! A plan keeps away from the limit itself. In a cgroup the kernel's buffers for sockets and files count as well, and the
//! gates shut at four fifths. An address space also holds what is only reserved: stacks of threads, the allocator's
//! arenas. And on a machine without limits, Redis, Postgres and the other daemons may live, too.

use std::fmt;
use std::path::Path;

use super::memory::{MemoryProbe, mebibytes};

/// What holds a process back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// `memory.max` or `memory.high` (v2), or `memory.limit_in_bytes` (v1), of its cgroup or one above.
    Cgroup(&'static str),
    /// `RLIMIT_AS`.
    AddressSpace,
    /// The memory of the machine.
    Host,
}

/// A limit on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit itself, in bytes.
    pub bytes: u64,
    /// What it is a limit of.
    pub boundary: Boundary,
}

impl MemoryLimit {
    /// The limit that leaves least to plan with; `None` when the system does not tell of any.
    pub fn detect() -> Option<Self> {
        Self::detect_below(Path::new("/"))
    }

    pub(super) fn detect_below(root: &Path) -> Option<Self> {
        let probe = MemoryProbe::detect_below(root);
        let boundary = if probe.is_of_host() { Boundary::Host } else { Boundary::Cgroup(probe.describe()) };
        let memory = probe.read().map(|usage| Self { bytes: usage.limit, boundary });
        let limits = std::fs::read_to_string(root.join("proc/self/limits")).unwrap_or_default();
        let space = address_space(&limits).map(|bytes| Self { bytes, boundary: Boundary::AddressSpace });
        memory.into_iter().chain(space).min_by_key(|limit| limit.usable())
    }

    /// Bytes that may be planned with.
    pub fn usable(self) -> u64 {
        self.bytes / 100 * self.percent()
    }

    fn percent(self) -> u64 {
        match self.boundary {
            Boundary::Cgroup(_) => 70,
            Boundary::AddressSpace | Boundary::Host => 50,
        }
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.boundary {
            Boundary::Cgroup(version) => version,
            Boundary::AddressSpace => "address space, RLIMIT_AS",
            Boundary::Host => "the machine's memory",
        };
        write!(f, "{} ({} % of {}, {of})", mebibytes(self.usable()), self.percent(), mebibytes(self.bytes))
    }
}

/// The soft limit of the address space in `/proc/self/limits`; `None`: unlimited, or not told.
fn address_space(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::memory::tests::tree;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max cpu time              unlimited            unlimited            seconds   \n\
                          Max address space         536870912            unlimited            bytes     \n";

    #[test]
    fn the_soft_limit_of_the_address_space_counts() {
        assert_eq!(address_space(LIMITS), Some(512 << 20));
        assert_eq!(address_space(&LIMITS.replace("536870912", "unlimited")), None);
        assert_eq!(address_space("Max address space"), None);
        assert_eq!(address_space(""), None);
    }

    #[test]
    fn the_limit_that_leaves_least_is_taken() {
        let cgroup = |limit: &str, limits: &str| {
            let root = tree(
                &format!("limit-{limit}-{}", limits.len()),
                &[
                    ("proc/self/cgroup", "0::/\n"),
                    ("proc/self/limits", limits),
                    ("proc/meminfo", "MemTotal: 4194304 kB\nMemAvailable: 250 kB\n"),
                    ("sys/fs/cgroup/memory.max", limit),
                    ("sys/fs/cgroup/memory.current", "500\n"),
                    ("sys/fs/cgroup/memory.stat", "\n"),
                ],
            );
            let limit = MemoryLimit::detect_below(&root).unwrap();
            std::fs::remove_dir_all(root).unwrap();
            limit
        };
        let narrow = cgroup("268435456", LIMITS);
        assert_eq!(narrow, MemoryLimit { bytes: 256 << 20, boundary: Boundary::Cgroup("cgroup v2") });
        assert_eq!(narrow.to_string(), "179 MiB (70 % of 256 MiB, cgroup v2)");
        assert_eq!(cgroup("1073741824", LIMITS).boundary, Boundary::AddressSpace);
        let host = cgroup("max", "");
        assert_eq!((host.bytes, host.usable() >> 20), (4 << 30, 2047));
    }

    #[test]
    fn a_system_that_tells_nothing_has_no_limit() {
        assert_eq!(MemoryLimit::detect_below(Path::new("/nowhere")), None);
    }
}
