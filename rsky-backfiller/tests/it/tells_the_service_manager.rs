//! What systemd is told: ready once the stages run, what it does, alive, stopping.

use std::path::Path;
use std::time::Duration;

use rsky_testnet::servers::Redis;
use rsky_testnet::service_manager::ServiceManager;

use crate::hosts::Hosts;
use crate::support::Backfiller;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_start_to_the_stop() {
    let redis = Redis::start().unwrap();
    let hosts = Hosts::start().await;
    let manager = ServiceManager::open(Path::new("/tmp"), "rsky-backfiller");
    let environment = manager.environment(Duration::from_secs(1));
    let settings = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut backfiller = Backfiller::start(&redis.url(), &hosts.url(), &settings);
    manager.wait_for("READY=1");
    let said = manager.wait_for("STATUS=0 repositories in work, 0 waiting, 0 done");
    assert!(said.iter().any(|line| line == "WATCHDOG=1"), "{said:?}");
    assert_eq!(backfiller.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(backfiller.terminate(), Some(0));
    let said = manager.wait_for("STOPPING=1");
    assert!(!said.iter().any(|line| line == "READY=1"), "once: {said:?}");
    // What the drain may take, and a little more.
    assert!(said.iter().any(|line| line == "EXTEND_TIMEOUT_USEC=13000000"), "{said:?}");
}
