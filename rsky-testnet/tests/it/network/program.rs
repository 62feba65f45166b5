//! The program: prints its address, serves, and stops on the signals.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use futures::StreamExt as _;
use rsky_testnet::network::corpus::recorded;
use rsky_testnet::network::frames::peek;
use rsky_testnet::network::load::FIRST_SEQ;
use tokio_tungstenite::connect_async;

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
