//! The program: prints its address, serves, and stops on the signals.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use futures::StreamExt as _;
use rsky_testnet::network::corpus::recorded;
use rsky_testnet::network::frames::peek;
use rsky_testnet::network::load::FIRST_SEQ;
use rsky_testnet::network::world::{Serving, WorldNetwork, WorldOptions};
use tokio_tungstenite::connect_async;

use super::client::get;

/// Killed when a test fails.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts the program, asserts that the first frame has `first` as seq, and stops it with a signal.
async fn run(arguments: &[&str], first: u64, signal: &str) {
    let program = env!("CARGO_BIN_EXE_rsky-testnet");
    let mut program = Program(Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(program.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let host = line.trim_end().strip_prefix("http://127.0.0.1:").expect("the address");
    let url = format!("ws://127.0.0.1:{host}/xrpc/com.atproto.sync.subscribeRepos");
    let (mut socket, _) = connect_async(url).await.unwrap();
    let frame = socket.next().await.unwrap().unwrap().into_data();
    assert_eq!(peek(&frame).seq, Some(first));
    let kill =
        Command::new("sh").args(["-c", &format!("kill -{signal} {}", program.0.id())]).status().unwrap();
    assert!(kill.success());
    assert!(program.0.wait().unwrap().success());
}

#[tokio::test]
async fn replay_serves_a_folder_until_sigterm() {
    run(&["replay", recorded().to_str().unwrap(), "--rate", "100"], 1, "TERM").await;
}

#[tokio::test]
async fn load_makes_frames_until_ctrl_c() {
    run(&["load", "--seed", "7", "--dids", "50", "--ring", "100", "--frames", "10"], FIRST_SEQ, "INT").await;
}

/// The members of a world find each other by the name that others reach it by.
#[tokio::test]
async fn a_world_has_the_name_it_is_given() {
    let address = "0.0.0.0".parse().unwrap();
    let serving = Serving { address, name: Some("localhost".to_owned()), ..Serving::default() };
    let options = WorldOptions { accounts: 4, history: 20, live: 1, ..WorldOptions::default() };
    let network = WorldNetwork::start(options, serving).await.unwrap();
    let relay = network.relays().first().unwrap();
    assert_eq!(relay.url(), format!("http://localhost:{}", relay.addr().port()));
    let page = get(relay, "/xrpc/com.atproto.sync.listRepos", None).await.json();
    let did = page.pointer("/repos/0/did").and_then(|did| did.as_str()).unwrap();
    let document = get(relay, &format!("/{did}"), None).await.json();
    let host = document.pointer("/service/0/serviceEndpoint").and_then(|url| url.as_str()).unwrap();
    assert!(
        network.hosts().iter().any(|known| known.url() == host && host.starts_with("http://localhost:")),
        "{host}"
    );
    network.stop().await.unwrap();
}
