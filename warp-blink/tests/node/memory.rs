//! How much memory one flooding peer takes. Run by hand, because it takes minutes and gives figures, not a verdict:
//!
//! `cargo test --workspace --locked --test node -- --ignored --exact --nocapture memory::measure_small_frames`
//!
//! One at a time, since what a process has given back to its allocator still counts as its own. On two cores, flooder
//! and node on one machine, before there was a gate: 460 MiB with small frames, 790 MiB with large ones. With it: 7 MiB with either.

use std::process::{Child, Command};

use super::*;

/// How the second process knows where to flood, and with what.
const TARGET: &str = "WARP_BLINK_FLOOD_TARGET";
const LARGE: &str = "WARP_BLINK_FLOOD_LARGE";

/// How long it floods: longer than gossipsub remembers a message.
const FLOOD: Duration = Duration::from_secs(75);

/// Memory of this process that is not shared, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Distinct frames of the right shape, as fast as the node takes them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the second process of the measurement"]
async fn flooder() {
    let Ok(target) = std::env::var(TARGET) else { return };
    let large = std::env::var(LARGE).is_ok();
    let (_, peer) = target.rsplit_once('/').unwrap();
    let mut node = Node::start(TCP).await;
    node.gossip.connect(&peer.parse().unwrap(), std::slice::from_ref(&target)).await.unwrap();
    node.publish(topic(1), frame_of(0, large)).await;
    let mut sent = 1_u64;
    loop {
        let mut frame = frame_of(0, large).to_vec();
        frame[20..28].copy_from_slice(&sent.to_be_bytes());
        sent += 1;
        // What finds the queues full counts as sent all the same.
        match node.gossip.publish(topic(1), frame.into()).await {
            Ok(()) => {}
            Err(PublishError::QueueFull { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn spawn(target: &str, large: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "memory::flooder"]).env(TARGET, target);
    if large {
        command.env(LARGE, "1");
    }
    command.stdout(std::process::Stdio::null()).spawn().unwrap()
}

async fn measure(large: bool) {
    let node = Node::start(TCP).await;
    // What is handed on is kept longest.
    node.gossip.subscribe(topic(1)).await.unwrap();
    node.gossip.forward(topic(1)).await.unwrap();
    let target = node.gossip.listening().remove(0);
    let before = resident();
    let mut flooder = spawn(&target, large);
    let mut peak = 0;
    let began = std::time::Instant::now();
    while began.elapsed() < FLOOD {
        tokio::time::sleep(Duration::from_millis(500)).await;
        peak = peak.max(resident());
    }
    let counters = node.gossip.counters();
    flooder.kill().unwrap();
    flooder.wait().unwrap();
    println!(
        "large frames: {large}; memory before {before} KiB, at most {peak} KiB, after {} KiB; {counters:?}",
        resident()
    );
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, run by hand"]
async fn measure_small_frames() {
    measure(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, run by hand"]
async fn measure_large_frames() {
    measure(true).await;
}
