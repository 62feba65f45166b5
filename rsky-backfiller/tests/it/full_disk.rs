//! Temporary files on a disk that is full, and one that holds just what they may take. The disk is a small file system
//! that only the test's own process sees.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rsky_testnet::servers::Redis;

use crate::hosts::{Host, Hosts, counts, did};
use crate::namespaces::run_in_own;
use crate::support::{Backfiller, dead, left, queue, wait_until};
use crate::synthetic;

const RECORDS: usize = 900;

/// Repositories of a mebibyte.
fn add_large(hosts: &Hosts, accounts: usize) -> Vec<String> {
    let car = |number| synthetic::car(&did(number), RECORDS, 1000, &synthetic::key(1)).into();
    (0..accounts).map(|number| hosts.add(number, Host::Car(car(number)), 1)).collect()
}

fn small_disk(kib: u32) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).arg(&folder);
    assert!(mount.status().unwrap().success());
    folder
}

fn within_its_own_mounts(name: &str, test: impl AsyncFnOnce()) {
    // That it can be mounted is seen by mounting it.
    let script = "mount -t tmpfs tmpfs /mnt && umount /mnt && exec \"$@\"";
    run_in_own(&["--mount"], script, &format!("full_disk::{name}"), test);
}

async fn start() -> (Arc<Hosts>, Redis) {
    (Hosts::start().await, Redis::start().unwrap())
}

#[test]
fn a_full_disk_is_waited_out() {
    within_its_own_mounts("a_full_disk_is_waited_out", async || {
        let (hosts, redis) = start().await;
        let folder = small_disk(8 << 10);
        // Room for a part of a repository.
        std::fs::write(folder.join("ballast"), vec![1; (7 << 20) + (1 << 19)]).unwrap();
        let large = add_large(&hosts, 4);
        let small = hosts.add(10, Host::Car(synthetic::car(&did(10), 3, 20, &synthetic::key(1)).into()), 1);
        queue(&redis, &hosts.url(), large.iter().chain([&small]));
        let own = [
            ("BACKFILLER_TEMP_DIR", folder.to_str().unwrap()),
            ("BACKFILLER_MEMORY_PER_REPO", "64KiB"),
            ("MAX_ATTEMPTS", "1"),
        ];
        let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
        wait_until("all have been tried again", || backfiller.class("local_failure") >= 12.0);
        wait_until("the small one is queued", || counts(&redis).contains_key(&small));
        assert_eq!((left(&redis), dead(&redis).len()), (4, 0));
        wait_until("readiness says so", || {
            let (ready, said) = backfiller.get("/readyz");
            ready == 503 && said.contains("BACKFILLER_TEMP_DIR") && said.contains("No space left")
        });
        std::fs::remove_file(folder.join("ballast")).unwrap();
        wait_until("all are queued", || left(&redis) == 0);
        assert!(large.iter().all(|did| counts(&redis)[did] == (RECORDS, 1)));
        assert_eq!(dead(&redis).len(), 0);
        wait_until("readiness says so", || backfiller.get("/readyz").0 == 200);
        assert_eq!(backfiller.terminate(), Some(0));
    });
}

/// While nothing is taken from the output, repositories keep their files. The disk has room for what all of them may take
/// and for what the last pages of 24 files are not full; if they took more, writing would fail.
#[test]
fn all_files_together_take_no_more_than_they_may() {
    within_its_own_mounts("all_files_together_take_no_more_than_they_may", async || {
        let (hosts, redis) = start().await;
        let folder = small_disk((3 << 10) + 24 * 4);
        let large = add_large(&hosts, 12);
        queue(&redis, &hosts.url(), &large);
        let own = [
            ("BACKFILLER_TEMP_DIR", folder.to_str().unwrap()),
            ("BACKFILLER_DISK_BYTES", "3MiB"),
            ("BACKFILLER_MEMORY_PER_REPO", "64KiB"),
            ("BACKFILLER_CONCURRENCY", "8"),
            ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "1000"),
        ];
        let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
        wait_until("one finds no room", || backfiller.class("no_disk") >= 1.0);
        wait_until("all are settled", || {
            redis.command(&["DEL", "firehose_backfill"]).unwrap();
            left(&redis) == 0
        });
        backfiller.assert_class("queued", 12.0);
        backfiller.assert_class("local_failure", 0.0);
        assert_eq!(dead(&redis).len(), 0);
    });
}
