//! Settings that are missing or malformed stop the start with one message that names them all.

use std::process::Command;

use rsky_testnet::network::{Network, Script};
use rsky_testnet::servers::Redis;

use crate::support::{Ingester, length, like, wait_until};

fn ingester() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingester"));
    command.env_clear();
    command
}

#[test]
fn every_fault_in_one_message_without_secrets() {
    let output = ingester()
        .env("REDIS_URL", "http://user:hunter2@host")
        .env("INGESTER_MODE", "sideways")
        .env("INGESTER_HIGH_WATER_MARK", "lots")
        .env("RUST_LOG", "=!=")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    for name in [
        "REDIS_URL",
        "INGESTER_RELAY_HOSTS",
        "INGESTER_MODE",
        "INGESTER_HIGH_WATER_MARK",
        "RUST_LOG",
        "expected",
    ] {
        assert!(said.contains(name), "{name}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn two_names_of_one_setting_must_agree() {
    let output = ingester()
        .env("REDIS_URL", "redis://a:1")
        .env("REDIS_HOST", "b:2")
        .env("INGESTER_RELAY_HOSTS", "a")
        .env("INGESTER_HOSTS", "b")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("REDIS_HOST") && said.contains("INGESTER_HOSTS"), "{said}");
}

#[test]
fn help_lists_every_variable_and_version_tells() {
    let help = String::from_utf8(ingester().arg("--help").output().unwrap().stdout).unwrap();
    for variable in rsky_ingester::variables::all() {
        assert!(help.contains(variable.name), "{}", variable.name);
    }
    let version = String::from_utf8(ingester().arg("--version").output().unwrap().stdout).unwrap();
    assert_eq!(version.trim(), format!("ingester {}", env!("CARGO_PKG_VERSION")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slip_of_the_keyboard_is_pointed_out_and_the_admin_port_must_be_free() {
    let network = Network::builder().relay(Script::frames([like(1)])).start().await.unwrap();
    let redis = Redis::start().unwrap();
    let url = network.url();
    let settings = [
        ("INGESTER_RELAY_HOSTS", url.as_str()),
        ("INGESTER_MODE", "firehose"),
        ("INGESTER_HIGH_WATERMARK", "5"),
    ];
    let mut ingester = Ingester::start(&redis.url(), &settings);
    wait_until("an event", || length(&redis, "firehose_live") == 1);
    assert!(ingester.log().contains("did you mean INGESTER_HIGH_WATER_MARK"), "{}", ingester.log());
    assert_eq!(ingester.terminate(), Some(0));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut ingester = Ingester::start(&redis.url(), &[settings[0], ("METRICS_PORT", port.as_str())]);
    assert_eq!(ingester.exit_code(), Some(1));
    assert!(ingester.log().contains("METRICS_PORT"), "{}", ingester.log());
}
