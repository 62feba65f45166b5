//! What systemd is told: more time while Redis is waited for, ready once, alive, stopping; and what `healthcheck` answers.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rsky_testnet::network::{Network, Script};
use rsky_testnet::servers::Redis;
use rsky_testnet::service_manager::ServiceManager;

use crate::support::{Ingester, length, like, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn from_the_start_without_redis_to_the_stop() {
    let network = Network::builder().relay(Script::frames([like(1)])).start().await.unwrap();
    let mut redis = Redis::start().unwrap();
    redis.stop().unwrap();
    let manager = ServiceManager::open(Path::new("/tmp"), "rsky-ingester");
    let [socket, watchdog] = manager.environment(Duration::from_secs(1));
    let url = network.url();
    let settings = [
        ("INGESTER_RELAY_HOSTS", url.as_str()),
        ("INGESTER_MODE", "firehose"),
        (socket.0, &socket.1),
        (watchdog.0, &watchdog.1),
    ];
    let mut ingester = Ingester::start(&redis.url(), &settings);
    // Waiting is a reason, so it is alive; and it is not ready, so it asks for time.
    let mut said = manager.wait_for("STATUS=waits: redis");
    said.extend(manager.wait_for("WATCHDOG=1"));
    assert!(said.iter().any(|line| line == "EXTEND_TIMEOUT_USEC=30000000"), "{said:?}");
    assert!(!said.iter().any(|line| line == "READY=1"), "{said:?}");
    // Alive, and not connected to what it needs.
    assert_eq!(healthcheck(&ingester, &[]).0, Some(0));
    let (code, said) = healthcheck(&ingester, &["--ready"]);
    assert!(code == Some(1) && said.contains("redis"), "{code:?} {said}");

    redis.restart().unwrap();
    manager.wait_for("READY=1");
    wait_until("an event", || length(&redis, "firehose_live") == 1);
    let said = manager.wait_for("STATUS=0 frames");
    assert!(!said.iter().any(|line| line == "READY=1"), "once: {said:?}");
    wait_until("it is ready", || healthcheck(&ingester, &["--ready"]) == (Some(0), "ready".to_owned()));
    assert_eq!(ingester.terminate(), Some(0));
    let said = manager.wait_for("STOPPING=1");
    assert!(said.iter().any(|line| line == "EXTEND_TIMEOUT_USEC=13000000"), "{said:?}");
    let (code, said) = healthcheck_at("1", &[]);
    assert!(code == Some(1) && said.contains("connect to 127.0.0.1:1"), "{code:?} {said}");
    assert_eq!(healthcheck_at("0", &[]).0, Some(64));
}

fn healthcheck(ingester: &Ingester, arguments: &[&str]) -> (Option<i32>, String) {
    // Waits for the port.
    ingester.get("/healthz");
    let log = ingester.log();
    let address = log.split("admin pages on http://127.0.0.1:").nth(1).unwrap();
    healthcheck_at(address.split_whitespace().next().unwrap(), arguments)
}

fn healthcheck_at(port: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingester"));
    let output =
        command.env_clear().env("METRICS_PORT", port).arg("healthcheck").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap().trim().to_owned())
}
