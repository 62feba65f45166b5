//! Finds the server programs, and installs Debian's packages when they are missing and we may.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::process::{am_root, run};

/// Time for one apt command: a slow mirror and another apt that holds the lock included.
const APT_LIMIT: Duration = Duration::from_secs(600);

/// Where Debian's postgresql-common looks for the settings of the cluster it creates at installation.
const CREATECLUSTER_DIR: &str = "/etc/postgresql-common/createcluster.d";
/// What keeps Debian from starting services at installation, unless the machine has such a file already.
const POLICY_FILE: &str = "/usr/sbin/policy-rc.d";

/// The programs of one Postgres version.
#[derive(Clone, Debug)]
pub struct PostgresPrograms {
    /// Creates a cluster.
    pub initdb: PathBuf,
    /// The server.
    pub postgres: PathBuf,
    /// The command line client.
    pub psql: PathBuf,
}

/// The Redis server, from `PATH`; installed when it is missing and we are root on Debian.
///
/// # Errors
/// It is missing and cannot be installed; the message has the command to run.
pub fn redis_server() -> Result<PathBuf> {
    find_or_install(&["redis-server"], || find_in_path("redis-server"))
}

/// The newest Postgres that has all its programs; installed when there is none and we are root on Debian.
///
/// # Errors
/// As [`redis_server`].
pub fn postgres() -> Result<PostgresPrograms> {
    find_or_install(&["postgresql", "postgresql-contrib"], find_postgres)
}

/// The connection pooler, which tests put before Postgres; installed when it is missing and we are root on Debian.
///
/// # Errors
/// As [`redis_server`].
pub fn pgbouncer() -> Result<PathBuf> {
    find_or_install(&["pgbouncer"], || find_in_path("pgbouncer"))
}

/// Whatever `find` finds; `packages` are installed when it finds nothing and we are root on Debian.
///
/// # Errors
/// As [`redis_server`].
pub fn packages<T>(packages: &[&str], find: impl Fn() -> Option<T>) -> Result<T> {
    find_or_install(packages, find)
}

/// Finds or installs everything both servers need. The commands of xtask call this first, so that an installation
/// is over before anything is timed.
pub fn all() -> Result<()> {
    redis_server()?;
    postgres()?;
    Ok(())
}

/// The path of `program` in `PATH`, `/usr/sbin` and `/sbin` included, which users often lack.
pub fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories =
        std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/sbin".into(), "/sbin".into()]);
    directories.map(|directory| directory.join(program)).find(|candidate| candidate.is_file())
}

fn find_postgres() -> Option<PostgresPrograms> {
    newest_debian(Path::new("/usr/lib/postgresql")).or_else(|| {
        let real = find_in_path("initdb")?.canonicalize().ok()?;
        programs_in(real.parent()?)
    })
}

/// Debian keeps every major version in `<root>/<major>/bin`.
fn newest_debian(root: &Path) -> Option<PostgresPrograms> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(root)
        .ok()?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_unstable_by(|left, right| right.cmp(left));
    versions.iter().find_map(|(_, bin)| programs_in(bin))
}

fn programs_in(bin: &Path) -> Option<PostgresPrograms> {
    let program = |name: &str| Some(bin.join(name)).filter(|path| path.is_file());
    let psql = program("psql").or_else(|| find_in_path("psql"))?;
    Some(PostgresPrograms { initdb: program("initdb")?, postgres: program("postgres")?, psql })
}

fn find_or_install<T>(packages: &[&str], find: impl Fn() -> Option<T>) -> Result<T> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let advice =
        format!("apt-get update && apt-get install -y --no-install-recommends {}", packages.join(" "));
    if !am_root() || find_in_path("apt-get").is_none() || !Path::new("/etc/debian_version").is_file() {
        bail!("{} not found; as root on Debian run: {advice}", packages.join(" and "));
    }
    // One installation at a time: among the threads of this process, then among test binaries that run in parallel.
    static ONE: Mutex<()> = Mutex::new(());
    let _thread = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let lock = File::create(std::env::temp_dir().join("rsky-install.lock"))?;
    lock.lock()?;
    if let Some(found) = find() {
        return Ok(found);
    }
    install(packages).with_context(|| format!("install {}; by hand: {advice}", packages.join(" ")))?;
    find().with_context(|| {
        format!("{} installed, but the programs are not where Debian puts them", packages.join(" "))
    })
}

fn install(packages: &[&str]) -> Result<()> {
    let notice = format!("installing {} with apt-get\n", packages.join(" "));
    // Nobody reads the notice when there is no standard error; the installation goes on.
    drop(std::io::stderr().write_all(notice.as_bytes()));
    let _services = TemporaryFile::create(Path::new(POLICY_FILE), "#!/bin/sh\nexit 101\n", 0o755)?;
    let cluster = Path::new(CREATECLUSTER_DIR).join("rsky-no-main-cluster.conf");
    let _cluster = TemporaryFile::create(&cluster, "create_main_cluster = false\n", 0o644)?;
    run(apt(&["update"]), APT_LIMIT)?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    run(apt(&arguments), APT_LIMIT)?;
    Ok(())
}

fn apt(arguments: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

/// A file that exists for the time of an installation; one that is there already is left as it is.
struct TemporaryFile {
    created: Option<PathBuf>,
}

impl TemporaryFile {
    fn create(path: &Path, content: &str, mode: u32) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        if path.exists() {
            return Ok(Self { created: None });
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, content).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(Self { created: Some(path.to_owned()) })
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Some(path) = &self.created {
            drop(fs::remove_file(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_complete_version_wins() {
        let root = super::super::workdir::fresh("install-test", None).unwrap();
        for (version, programs) in [
            ("9", &["initdb", "postgres", "psql"][..]),
            ("15", &["initdb", "postgres", "psql"]),
            ("16", &["psql"]),
        ] {
            let bin = root.join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            for program in programs {
                fs::write(bin.join(program), "").unwrap();
            }
        }
        let found = newest_debian(&root).unwrap();
        assert_eq!(found.initdb, root.join("15/bin/initdb"));
        assert_eq!(found.psql, root.join("15/bin/psql"));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn temporary_file_spares_an_existing_one() {
        let root = super::super::workdir::fresh("install-test", None).unwrap();
        let (ours, theirs) = (root.join("a/ours"), root.join("theirs"));
        fs::write(&theirs, "kept").unwrap();
        {
            let _ours = TemporaryFile::create(&ours, "x", 0o644).unwrap();
            let _theirs = TemporaryFile::create(&theirs, "x", 0o644).unwrap();
            assert!(ours.exists());
        }
        assert!(!ours.exists());
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "kept");
        fs::remove_dir_all(&root).unwrap();
    }
}
