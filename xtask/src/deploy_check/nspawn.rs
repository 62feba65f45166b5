//! The units under a real systemd, in a machine of their own: `nspawn-check.sh` runs there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rsky_testnet::servers::install::{find_in_path, packages};

use super::layer::Layer;
use super::{Outcome, ours, place, root, run, units, words};

const CHECK: &str = include_str!("nspawn-check.sh");
const EVENT: &str = include_str!("event.json");
/// Runs the check and ends the machine.
const CHECK_UNIT: &str = "[Unit]\nAfter=basic.target dbus.service\n[Service]\nType=oneshot\nExecStart=/bin/sh /check.sh\n\
    StandardOutput=file:/check.log\nStandardError=file:/check.err\nTimeoutStartSec=300\n\
    ExecStopPost=/bin/systemctl --force poweroff\n";
/// So that nothing has to be waited for long, and a slow machine is in time nevertheless: of the unit that is waited for.
const QUICK: (&str, &str) = ("rsky-ingester.service", "[Service]\nTimeoutStartSec=5\nWatchdogSec=10\n");
const SETTINGS: &str = "REDIS_URL=redis://127.0.0.1:6379\nDATABASE_URL=postgres://bsky:check@127.0.0.1/bsky\n\
    INGESTER_RELAY_HOSTS=127.0.0.1:1\nINDEXER_HANDLE_CONCURRENCY=0\n";
/// Enters cgroups of its own in every hierarchy (the machine's PID 1 would take those of this one), boots, leaves them.
const BOOT: &str = r#"
set -u
base=/sys/fs/cgroup; name=rsky-deploy-check-$$
for folder in "$base" "$base"/*; do
    [ -e "$folder/cgroup.procs" ] && [ ! -L "$folder" ] || continue
    mkdir -p "$folder/$name" 2>/dev/null || continue
    for file in cpuset.cpus cpuset.mems; do
        [ -e "$folder/$file" ] && cat "$folder/$file" > "$folder/$name/$file"
    done
    echo $$ > "$folder/$name/cgroup.procs" 2>/dev/null || true
done
systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe --directory "$1" \
    --boot systemd.unit=rsky-check.target > "$2" 2>&1 < /dev/null
code=$?
for folder in "$base" "$base"/*; do
    [ -d "$folder/$name" ] || continue
    echo $$ > "$folder/cgroup.procs" 2>/dev/null || true
    find "$folder/$name" -depth -type d -exec rmdir {} + 2>/dev/null || true
done
exit $code
"#;

/// Boots, runs the check, and gives what it saw.
pub(super) fn booted(binaries: &Path) -> Result<Outcome> {
    let base = match root::root()? {
        Ok(base) => base,
        Err(why) => return Ok(Outcome::Skipped(why)),
    };
    packages(&["systemd-container"], || find_in_path("systemd-nspawn").map(drop))?;
    let layer = Layer::over(&base, "machine")?;
    let machine = &layer.root;
    furnish(machine, binaries)?;
    let console = place()?.join("machine.log");
    let mut boot = words(["/bin/sh", "-c", BOOT, "boot"]);
    boot.arg(machine).arg(&console);
    let booted = run(boot);
    let read = |name: &str| fs::read_to_string(machine.join(name)).unwrap_or_default();
    let (saw, errors) = (read("check.log"), read("check.err"));
    if saw.lines().last() != Some("done") {
        let tail = |text: &str| {
            text.lines().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        bail!(
            "inside: {saw}\n{errors}\nconsole: {}",
            tail(&fs::read_to_string(&console).unwrap_or_default())
        );
    }
    booted.context("systemd-nspawn")?;
    Ok(Outcome::Ran(saw.trim_end_matches("done\n").trim_end().replace('\n', "\n         ")))
}

fn furnish(machine: &Path, binaries: &Path) -> Result<()> {
    let write = |path: &str, text: &str| {
        let path = machine.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    for daemon in ["ingester", "backfiller", "indexer"] {
        fs::copy(binaries.join(daemon), machine.join("usr/bin").join(daemon))?;
    }
    for unit in units::UNITS {
        fs::copy(ours("deploy/systemd").join(unit), machine.join("etc/systemd/system").join(unit))?;
    }
    let (unit, quick) = QUICK;
    write(&format!("etc/systemd/system/{unit}.d/quick.conf"), quick)?;
    fs::create_dir_all(machine.join("etc/sysusers.d"))?;
    fs::copy(ours("deploy/sysusers.d/rsky.conf"), machine.join("etc/sysusers.d/rsky.conf"))?;
    fs::copy(ours("deploy/tmpfiles.d/rsky.conf"), machine.join("etc/tmpfiles.d/rsky.conf"))?;
    fs::create_dir_all(machine.join("migrations"))?;
    for file in fs::read_dir(ours("migrations-ref"))?.flatten().filter(|file| file.path().is_file()) {
        fs::copy(file.path(), machine.join("migrations").join(file.file_name()))?;
    }
    write("etc/rsky/rsky.env", SETTINGS)?;
    write("event.json", EVENT)?;
    write("check.sh", CHECK)?;
    fs::set_permissions(machine.join("check.sh"), fs::Permissions::from_mode(0o755))?;
    write("etc/systemd/system/rsky-check.service", CHECK_UNIT)?;
    write(
        "etc/systemd/system/rsky-check.target",
        "[Unit]\nRequires=basic.target rsky-check.service\nAfter=basic.target\n",
    )?;
    for unit in ["redis-server.service", "postgresql.service"] {
        let wanted = machine.join("etc/systemd/system/multi-user.target.wants").join(unit);
        drop(fs::remove_file(wanted));
    }
    // No name service, no network: whoever waits for it online would wait for ever.
    let mask = machine.join("etc/systemd/system/systemd-networkd-wait-online.service");
    drop(fs::remove_file(&mask));
    symlink("/dev/null", mask)?;
    Ok(())
}
