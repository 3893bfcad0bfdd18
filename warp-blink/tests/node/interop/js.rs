//! One process of `tests/interop/peer.mjs`: it is told what to do line by line, and tells what happens.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use warp_blink::{driver::node::PROTOCOL, id::NodeId, wire::Topic};

use crate::STUCK;

/// Where `make test-interop` has put it with what it needs.
const WHERE: &str = "BLINK_INTEROP";

pub(super) struct Js {
    process: Child,
    /// `None`: it is to end.
    orders: Option<ChildStdin>,
    told: mpsc::UnboundedReceiver<Value>,
    /// What was told while something else was waited for.
    later: Vec<Value>,
    peer: String,
    addresses: Vec<String>,
}

/// A message as js-libp2p saw it.
pub(super) struct Heard {
    /// The neighbour that handed it over.
    pub(super) bearer: String,
    /// Whether that neighbour's key signed the words.
    pub(super) by_bearer: bool,
    /// The author that stands on it.
    pub(super) author: Option<String>,
    pub(super) topic: String,
    pub(super) data: Bytes,
}

impl Js {
    /// A node that speaks as ours does: under our name, and without signatures.
    pub(super) fn start() -> Self {
        Self::of("StrictNoSign", &[PROTOCOL])
    }

    /// One that signs each message, as gossipsub does by default.
    pub(super) fn signing() -> Self {
        Self::of("StrictSign", &[PROTOCOL])
    }

    /// One of the public network.
    pub(super) fn of_everybody() -> Self {
        Self::of("StrictSign", &["/meshsub/1.1.0", "/meshsub/1.0.0"])
    }

    fn of(sign: &str, protocols: &[&str]) -> Self {
        let home =
            std::env::var_os(WHERE).unwrap_or_else(|| panic!("{WHERE} is not set: run `make test-interop`"));
        let wish = json!({ "listen": true, "sign": sign, "protocols": protocols });
        let mut process = Command::new("node")
            .arg(Path::new(&home).join("peer.mjs"))
            .arg(wish.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is Node.js");
        let (orders, lines) = (process.stdin.take(), process.stdout.take().expect("it is piped"));
        let (tell, told) = mpsc::unbounded_channel();
        // Ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).expect("each line is a value"));
            }
        });
        let mut js =
            Self { process, orders, told, later: Vec::new(), peer: String::new(), addresses: Vec::new() };
        let ready = js.ready();
        js.peer = text(&ready["peer"]);
        js.addresses = texts(&ready["addresses"]);
        js
    }

    /// Its first words. Node.js takes a second to read js-libp2p.
    fn ready(&mut self) -> Value {
        let since = std::time::Instant::now();
        loop {
            match self.told.try_recv() {
                Ok(value) => return value,
                Err(mpsc::error::TryRecvError::Empty) if since.elapsed() < STUCK => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("js-libp2p does not start: {error}"),
            }
        }
    }

    pub(super) fn node(&self) -> NodeId {
        self.peer.parse().expect("a name of libp2p")
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    fn order(&mut self, order: &Value) {
        let orders = self.orders.as_mut().expect("it is not told to end");
        writeln!(orders, "{order}").expect("js-libp2p runs");
    }

    /// The first that fits; the others wait for who asks for them.
    async fn until<T>(&mut self, what: &str, fits: impl Fn(&Value) -> Option<T>) -> T {
        let found = async {
            if let Some((at, found)) = self.later.iter().enumerate().find_map(|(at, v)| Some((at, fits(v)?)))
            {
                self.later.remove(at);
                return found;
            }
            while let Some(value) = self.told.recv().await {
                match fits(&value) {
                    Some(found) => return found,
                    None => self.later.push(value),
                }
            }
            panic!("js-libp2p has ended before {what}");
        };
        match tokio::time::timeout(STUCK, found).await {
            Ok(found) => found,
            Err(_) => panic!("not seen in time: {what}; seen: {:?}", self.later),
        }
    }

    pub(super) fn dial(&mut self, address: &str) {
        self.order(&json!({ "do": "dial", "address": address }));
    }

    pub(super) async fn hang_up(&mut self) {
        self.order(&json!({ "do": "hang_up" }));
        self.lost().await;
    }

    /// It is connected with somebody no longer.
    pub(super) async fn lost(&mut self) {
        self.until("the end of a connection", |v| (v["is"] == "disconnected").then_some(())).await;
    }

    pub(super) fn subscribe(&mut self, topic: Topic) {
        self.order(&json!({ "do": "subscribe", "topic": topic.to_string() }));
    }

    /// It knows that this node subscribes to the topic.
    pub(super) async fn subscribed(&mut self, node: &str, topic: Topic) {
        let told = json!({ "is": "subscribed", "peer": node, "topic": topic.to_string() });
        self.until("a subscription", |v| (*v == told).then_some(())).await;
    }

    /// Publishes these words with its signature behind them, and says to whom it sent them.
    pub(super) async fn say(&mut self, topic: Topic, words: &[u8]) -> Vec<String> {
        self.order(&json!({ "do": "say", "topic": topic.to_string(), "data": hex(words) }));
        self.published().await
    }

    /// Publishes this as it is.
    pub(super) async fn publish(&mut self, topic: Topic, data: &[u8]) -> Vec<String> {
        self.order(&json!({ "do": "publish", "topic": topic.to_string(), "data": hex(data) }));
        self.published().await
    }

    pub(super) async fn publish_refused(&mut self, topic: Topic, data: &[u8], why: &str) {
        self.order(&json!({ "do": "publish", "topic": topic.to_string(), "data": hex(data) }));
        let said = self.until("a failure", |v| (v["is"] == "failed").then(|| text(&v["why"]))).await;
        assert!(said.contains(why), "{said}");
    }

    async fn published(&mut self) -> Vec<String> {
        self.until("a message sent", |v| match text(&v["is"]).as_str() {
            "published" => Some(texts(&v["to"])),
            "failed" => panic!("{v}"),
            _ => None,
        })
        .await
    }

    pub(super) async fn message(&mut self) -> Heard {
        self.until("a message", heard).await
    }

    pub(super) async fn message_within(&mut self, limit: Duration) -> Option<Heard> {
        tokio::time::timeout(limit, self.message()).await.ok()
    }
}

fn heard(value: &Value) -> Option<Heard> {
    (value["is"] == "message").then(|| Heard {
        bearer: text(&value["bearer"]),
        by_bearer: value["by_bearer"] == true,
        author: value["author"].as_str().map(str::to_owned),
        topic: text(&value["topic"]),
        data: unhex(&text(&value["data"])),
    })
}

impl Drop for Js {
    /// It ends with its input; this one process is ended if it does not.
    fn drop(&mut self) {
        drop(self.orders.take());
        for _ in 0..100 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("two digits");
    (0..text.len()).step_by(2).map(digits).collect()
}
