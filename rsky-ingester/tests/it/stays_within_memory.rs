//! The daemon as a process stays within the memory it says it takes, whatever it is sent and however long it waits.

use bytes::Bytes;
use rsky_testnet::network::cbor_out::Cbor;
use rsky_testnet::network::{Network, RunningNetwork, Script, frames, hostile};
use rsky_testnet::servers::Redis;

use crate::support::{Ingester, get, length, like, wait_until};

/// The number of the last frame of each host.
const LAST: u64 = 1_000;

fn settings(network: &RunningNetwork) -> Vec<(&'static str, String)> {
    vec![
        ("INGESTER_RELAY_HOSTS", network.url()),
        ("INGESTER_LABELER_HOSTS", network.url()),
        ("INGESTER_HIGH_WATER_MARK", "1".to_owned()),
        // Set by hand, or the plan would lower it in a limited address space.
        ("INGESTER_QUEUE_BYTES", "16MiB".to_owned()),
        // The frames are sent once a connection.
        ("INGESTER_PAUSE_CLOSE_MS", "3600000".to_owned()),
        ("INGESTER_IDLE_TIMEOUT", "off".to_owned()),
    ]
}

async fn network(relay: Vec<Bytes>, labeler: Vec<Bytes>) -> RunningNetwork {
    Network::builder()
        .relay(Script::unnumbered(relay))
        .labeler(Script::unnumbered(labeler))
        .start()
        .await
        .unwrap()
}

/// Address space that is no memory (code, stacks, what the allocator sets aside), and the bound on memory it prints.
async fn overhead_and_bound() -> (u64, u64) {
    let network = network(Vec::new(), Vec::new()).await;
    let redis = Redis::start().unwrap();
    let settings = settings(&network);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut ingester = Ingester::start(&redis.url(), &settings);
    wait_until("it listens", || ingester.get("/readyz").0 == 200);
    let bound = ingester.metric("ingester_memory_bound_bytes", "").unwrap() as u64;
    assert!(ingester.log().contains(&format!("memory is bounded by {} MiB", bound >> 20)));
    let (space, memory) = (ingester.peak_address_space(), ingester.peak_memory());
    println!(
        "idle: {} MiB of address space, {} MiB of memory; bound {} MiB",
        space >> 20,
        memory >> 20,
        bound >> 20
    );
    assert_eq!(ingester.terminate(), Some(0));
    (space - memory, bound)
}

/// As many frames are decoded at a time as the machine has cores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_frames_before_shut_gates() {
    pass_hostile_frames(None).await;
}

/// Fewer are, where the plan finds that many too many; and nothing takes more for a moment than is seen afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_frames_before_shut_gates_in_the_address_space_of_the_bound() {
    let (overhead, bound) = overhead_and_bound().await;
    pass_hostile_frames(Some(overhead + bound)).await;
}

/// Sends them to a daemon in so many bytes of address space, and looks at the memory it took for them.
async fn pass_hostile_frames(space: Option<u64>) {
    let mut commits: Vec<Bytes> = hostile::commits().into_iter().map(|(_, frame)| frame).collect();
    let mut labels: Vec<Bytes> = hostile::labels().into_iter().map(|(_, frame)| frame).collect();
    commits.push(like(LAST));
    labels.push(frames::labels(LAST, vec![Cbor::Map(Vec::new())]));
    let network = network(commits, labels).await;
    let redis = Redis::start().unwrap();
    let streams = ["firehose_live", "label_live"];
    for stream in streams {
        redis.command(&["XADD", stream, "*", "event", "{}"]).unwrap();
    }
    let settings = settings(&network);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut ingester = match space {
        Some(bytes) => Ingester::start_within(bytes, &redis.url(), &settings),
        None => Ingester::start(&redis.url(), &settings),
    };
    for stream in streams {
        wait_until("the gate is shut", || {
            ingester.metric("ingester_backpressure_active", stream) == Some(1.0)
        });
    }
    wait_until("the queues are full", || ingester.metric("ingester_events_in_memory", "").unwrap() >= 8.0);
    for stream in streams {
        let key = format!("{stream}:cursor:{}", network.addr());
        let is_done = || get(&redis, &key) == Some(LAST.to_string());
        let mut seen = None;
        while !is_done() {
            wait_until("another frame", || {
                assert!(ingester.is_running(), "{}", ingester.log());
                streams.iter().for_each(|stream| drop(redis.command(&["DEL", stream]).unwrap()));
                let letters = length(&redis, &format!("{stream}_dlq"));
                let now = Some((letters, ingester.metric("ingester_frames_total", stream)));
                std::mem::replace(&mut seen, now) != now || is_done()
            });
        }
    }
    let bound = ingester.metric("ingester_memory_bound_bytes", "").unwrap() as u64;
    println!(
        "peak {} MiB of memory, bound {} MiB; {} MiB of address space, limit {:?} MiB",
        ingester.peak_memory() >> 20,
        bound >> 20,
        ingester.peak_address_space() >> 20,
        space.map(|bytes| bytes >> 20)
    );
    assert!(ingester.peak_memory() <= bound, "{}", ingester.peak_memory());
    assert_eq!(ingester.terminate(), Some(0));
}
