//! How much of the memory we may use is used: of the cgroup (v2 or v1) if it has a limit, else of the host.
//!
//! The file cache that a kernel would drop under pressure is not counted as used, and that is all of it: pages that were
//! read twice are active and go as well, only later. A process that reads many files is not short of memory, and one that
//! waits until there is some must not wait for its own cache.

use std::path::{Path, PathBuf};

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUsage {
    /// In use and not reclaimable.
    pub used: u64,
    /// What there is.
    pub limit: u64,
}

impl MemoryUsage {
    /// Used part of the limit, 0 to 1 (or above, when a kernel reports more in use than the limit).
    pub fn fraction(self) -> f64 {
        if self.limit == 0 { 0.0 } else { self.used as f64 / self.limit as f64 }
    }
}

/// Where the figures are read.
#[derive(Clone, Debug)]
pub struct MemoryProbe {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    CgroupV2(PathBuf),
    CgroupV1(PathBuf),
    Host(PathBuf),
}

impl MemoryProbe {
    /// Finds the narrowest limit that holds for this process.
    pub fn detect() -> Self {
        Self::detect_below(Path::new("/"))
    }

    pub(super) fn detect_below(root: &Path) -> Self {
        let own = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let base = root.join("sys/fs/cgroup");
        // Within a container's own cgroup namespace the limit is at the root of the mount; elsewhere it is at our
        // path, or at one of its parents.
        let v2 = ancestors(&base, cgroup_path(&own, "")).into_iter().map(Source::CgroupV2);
        let v1 =
            ancestors(&base.join("memory"), cgroup_path(&own, "memory")).into_iter().map(Source::CgroupV1);
        let narrowest = v2
            .chain(v1)
            .filter_map(|source| Some((source.read()?.limit, source)))
            .min_by_key(|(limit, _)| *limit);
        Self {
            source: narrowest.map_or_else(|| Source::Host(root.join("proc/meminfo")), |(_, source)| source),
        }
    }

    /// The figures now; `None` when the system does not tell.
    pub fn read(&self) -> Option<MemoryUsage> {
        self.source.read()
    }

    /// Whether nothing narrower than the machine holds.
    pub(super) fn is_of_host(&self) -> bool {
        matches!(self.source, Source::Host(_))
    }

    /// Whose memory is measured, for logs and pages.
    pub fn describe(&self) -> &'static str {
        match self.source {
            Source::CgroupV2(_) => "cgroup v2",
            Source::CgroupV1(_) => "cgroup v1",
            Source::Host(_) => "host",
        }
    }
}

impl Source {
    fn read(&self) -> Option<MemoryUsage> {
        let text = |path: PathBuf| std::fs::read_to_string(path).ok();
        match self {
            Self::CgroupV2(directory) => from_cgroup(
                // Above `memory.high` the kernel slows a process down until it hardly moves: that is no room.
                &narrower(text(directory.join("memory.max"))?, text(directory.join("memory.high"))),
                &text(directory.join("memory.current"))?,
                &text(directory.join("memory.stat"))?,
                ["inactive_file", "active_file"],
            ),
            Self::CgroupV1(directory) => from_cgroup(
                &text(directory.join("memory.limit_in_bytes"))?,
                &text(directory.join("memory.usage_in_bytes"))?,
                &text(directory.join("memory.stat"))?,
                ["total_inactive_file", "total_active_file"],
            ),
            Self::Host(meminfo) => from_meminfo(&text(meminfo.clone())?),
        }
    }
}

/// The path of our cgroup in `/proc/self/cgroup`: of the v1 hierarchy with `controller`, of v2 for "".
fn cgroup_path<'a>(own: &'a str, controller: &str) -> &'a str {
    own.lines()
        .find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            controllers.split(',').any(|name| name == controller).then_some(path)
        })
        .unwrap_or("/")
}

/// `base` and every directory from there down to `path`.
fn ancestors(base: &Path, path: &str) -> Vec<PathBuf> {
    let mut directories = vec![base.to_owned()];
    let mut current = base.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != "..") {
        current.push(part);
        directories.push(current.clone());
    }
    directories
}

/// The smaller of two limits as the kernel writes them, where "max" is none.
fn narrower(max: String, high: Option<String>) -> String {
    let bytes = |text: &str| text.trim().parse::<u64>().unwrap_or(u64::MAX);
    high.filter(|high| bytes(high) < bytes(&max)).unwrap_or(max)
}

/// `None` without a limit: "max" in v2, a number near 2⁶³ in v1.
fn from_cgroup(limit: &str, current: &str, stat: &str, cache_keys: [&str; 2]) -> Option<MemoryUsage> {
    const UNLIMITED: u64 = 1 << 60;
    let limit: u64 = limit.trim().parse().ok()?;
    let current: u64 = current.trim().parse().ok()?;
    let cache = |key: &str| -> Option<u64> {
        stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
    };
    let cache = cache_keys.into_iter().filter_map(cache).fold(0, u64::saturating_add);
    (limit < UNLIMITED).then(|| MemoryUsage { used: current.saturating_sub(cache), limit })
}

fn from_meminfo(text: &str) -> Option<MemoryUsage> {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let (limit, available) = (field("MemTotal")?, field("MemAvailable")?);
    Some(MemoryUsage { used: limit.saturating_sub(available), limit })
}

/// Bytes for people: whole mebibytes.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Resident memory of this process in bytes, from `/proc/self/status` text.
pub(crate) fn resident_bytes(status: &str) -> Option<u64> {
    kibibytes(status, "VmRSS:")
}

/// Size of its address space in bytes, from the same.
pub(crate) fn virtual_bytes(status: &str) -> Option<u64> {
    kibibytes(status, "VmSize:")
}

fn kibibytes(status: &str, field: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       1000 kB\nMemFree:         10 kB\nMemAvailable:    250 kB\n";

    pub(in crate::runtime) fn tree(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("rsky-memory-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn takes_the_narrowest_cgroup_v2_limit_without_file_cache() {
        let root = tree(
            "v2",
            &[
                ("proc/self/cgroup", "0::/system.slice/ingester.service\n"),
                ("proc/meminfo", MEMINFO),
                ("sys/fs/cgroup/memory.stat", "inactive_file 0\n"),
                ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
                ("sys/fs/cgroup/system.slice/memory.current", "500\n"),
                ("sys/fs/cgroup/system.slice/memory.stat", "inactive_file 0\n"),
                ("sys/fs/cgroup/system.slice/ingester.service/memory.max", "1000\n"),
                ("sys/fs/cgroup/system.slice/ingester.service/memory.current", "500\n"),
                (
                    "sys/fs/cgroup/system.slice/ingester.service/memory.stat",
                    "anon 1\ninactive_file 100\nactive_file 250\n",
                ),
            ],
        );
        let probe = MemoryProbe::detect_below(&root);
        assert_eq!(probe.describe(), "cgroup v2");
        assert_eq!(probe.read().unwrap(), MemoryUsage { used: 150, limit: 1000 });
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_mark_above_which_the_kernel_slows_us_down_is_a_limit() {
        assert_eq!(narrower("max\n".to_owned(), Some("100\n".to_owned())), "100\n");
        assert_eq!(narrower("90".to_owned(), Some("100".to_owned())), "90");
        assert_eq!(narrower("90".to_owned(), Some("max".to_owned())), "90");
        assert_eq!(narrower("max".to_owned(), None), "max");
    }

    #[test]
    fn reads_cgroup_v1() {
        let root = tree(
            "v1",
            &[
                ("proc/self/cgroup", "12:cpu,cpuacct:/\n5:memory:/docker/abc\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1800\n"),
                (
                    "sys/fs/cgroup/memory/memory.stat",
                    "inactive_file 7\ntotal_inactive_file 300\ntotal_active_file 500\n",
                ),
            ],
        );
        let probe = MemoryProbe::detect_below(&root);
        assert_eq!(probe.describe(), "cgroup v1");
        assert_eq!(probe.read().unwrap(), MemoryUsage { used: 1000, limit: 2000 });
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn falls_back_to_the_host_when_nothing_is_limited() {
        let root = tree(
            "host",
            &[
                ("proc/self/cgroup", "0::/\n"),
                ("proc/meminfo", MEMINFO),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1800\n"),
                ("sys/fs/cgroup/memory/memory.stat", "\n"),
            ],
        );
        let probe = MemoryProbe::detect_below(&root);
        assert_eq!(probe.describe(), "host");
        let usage = probe.read().unwrap();
        assert_eq!(usage, MemoryUsage { used: 750 * 1024, limit: 1000 * 1024 });
        assert!((usage.fraction() - 0.75).abs() < 1e-9);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn malformed_files_give_no_figure() {
        assert_eq!(from_cgroup("max", "1", "", ["inactive_file", "active_file"]), None);
        assert_eq!(from_cgroup("10", "", "", ["inactive_file", "active_file"]), None);
        assert_eq!(from_meminfo("MemTotal: 1 kB\n"), None);
        assert_eq!(resident_bytes("VmPeak: 1 kB\nVmRSS:\t     12 kB\n"), Some(12 * 1024));
        assert_eq!(resident_bytes(""), None);
    }

    #[test]
    fn the_machine_it_runs_on_can_be_read() {
        let usage = MemoryProbe::detect().read().unwrap();
        assert!(usage.used > 0 && usage.limit > usage.used / 2);
    }
}
