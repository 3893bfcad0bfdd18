//! What the processes say to each other, a line of JSON each.

use std::io::{self, BufRead as _, Write as _};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use warp_blink::{Identity, NodeKey, PublicKey};

/// What a phone is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Order {
    /// Calls these, who are at these addresses.
    Call { who: Vec<(u32, String)> },
    /// Ends all calls.
    HangUp,
    /// Works on what it says as a phone on a table does, or not at all.
    Processing { on: bool },
    /// These are contacts from now on.
    Befriend { first: u32, count: u32 },
    /// Of a crowd: so many more.
    More { count: u32 },
    /// Tells its figures.
    Sample,
}

/// What passed in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// The figures of a process. Counters run from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Processor time.
    pub(crate) cpu_us: u64,
    /// Tasks of the runtime that have not ended.
    pub(crate) tasks: u64,
    /// Nodes that it is connected with.
    pub(crate) connected: u64,
    /// What it gave to gossip, and somebody took.
    pub(crate) published: Tally,
    /// Signals that it sent, by any way, and sent again because no acknowledgement came.
    pub(crate) sent: u64,
    pub(crate) resent: u64,
    /// Messages of gossip for it.
    pub(crate) heard_of: u64,
    /// Signals that it sent over links.
    pub(crate) over_links: Tally,
    /// Packets of sound that came, from all together.
    pub(crate) packets: u64,
    /// From how many.
    pub(crate) talkers: u64,
    /// Milliseconds of sound that were played, of all together, and that were made up.
    pub(crate) played_ms: u64,
    pub(crate) concealed_ms: u64,
}

/// Who has this number. Keys are far from each other, as keys are: a seed is hashed.
pub(crate) fn identity(number: u32) -> Identity {
    let mut seed = [0x5c; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    Identity::from_seed(seed)
}

pub(crate) fn key(number: u32) -> PublicKey {
    identity(number).public()
}

/// Where the phone of this number is, if this port leads to it.
pub(crate) fn multiaddr(number: u32, port: u16) -> String {
    let node = NodeKey::from(&identity(number)).node_id();
    format!("/ip4/127.0.0.1/tcp/{port}/p2p/{node}")
}

/// Says a line, in one piece and at once.
pub(crate) fn say(event: &str, mut line: Value) -> Result<(), String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    line["event"] = json!(event);
    line["t"] = json!(now.as_secs_f64());
    let text = format!("{line}\n");
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

/// What comes on standard input, until its end.
pub(crate) fn listen<T: DeserializeOwned + Send + 'static>() -> mpsc::Receiver<Result<T, String>> {
    let (orders, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let order = serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"));
            if orders.blocking_send(order).is_err() {
                return;
            }
        }
    });
    receiver
}
