//! A phone as the soak sees it: a process that says lines, is told lines, and takes memory and files.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    thread,
    time::Duration,
};

use blink_tests::{e2e::Spoken, held::Held};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use warp_blink::{NodeKey, PublicKey};

use crate::phone;

/// Far above what anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A phone that runs. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) name: &'static str,
    seed: u8,
    process: Spoken,
    /// Where its node listens.
    pub(crate) address: SocketAddr,
}

/// What a process takes at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Resident memory, in kilobytes.
    pub(crate) rss: f64,
    /// What is allocated, in kilobytes.
    pub(crate) heap: f64,
    /// Open files of all kinds.
    pub(crate) files: f64,
    /// Of these, sockets.
    pub(crate) sockets: f64,
    /// Tasks of the runtime that have not ended.
    pub(crate) tasks: f64,
}

/// Whom one calls to reach the phone of this seed.
fn key(seed: u8) -> PublicKey {
    phone::identity(seed).public()
}

/// Where the phone of this seed is, if this port leads to it.
pub(crate) fn multiaddr(seed: u8, port: u16) -> String {
    let node = NodeKey::from(&phone::identity(seed)).node_id();
    format!("/ip4/127.0.0.1/tcp/{port}/p2p/{node}")
}

impl Child {
    /// Starts a phone that knows where these are, and waits until it is ready.
    pub(crate) fn start(
        name: &'static str,
        seed: u8,
        luck: u64,
        fast: i32,
        peers: &[String],
    ) -> Result<Self, String> {
        let soak = env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(soak);
        command
            .args(["phone", "--seed", &seed.to_string(), "--luck", &luck.to_string()])
            .args(["--fast", &fast.to_string()])
            .args(peers.iter().flat_map(|peer| ["--peer", peer.as_str()]));
        let process = Spoken::start(name, &mut command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut child = Self { name, seed, process, address };
        let ready = child.wait("ready")?;
        let listens = ready["addresses"][0].as_str().unwrap_or_default();
        let port = listens.split('/').nth(4).and_then(|port| port.parse().ok());
        child.address.set_port(port.ok_or_else(|| format!("{name} listens at {listens:?}"))?);
        Ok(child)
    }

    /// Whom one calls to reach it.
    pub(crate) fn key(&self) -> String {
        key(self.seed).to_string()
    }

    /// What it has said so far is not waited for any more.
    pub(crate) fn forget(&self) {
        self.process.forget();
    }

    /// The first line of this event, as soon as it is there.
    pub(crate) fn wait(&self, event: &str) -> Result<Value, String> {
        self.process.wait(event, PATIENCE, |line| line["event"] == event)
    }

    /// The link is in this state, now or soon.
    pub(crate) fn link(&self, state: &str, patience: Duration) -> Result<Value, String> {
        self.process.wait(&format!("link {state}"), patience, |line| {
            line["event"] == "link" && line["state"]["state"] == state
        })
    }

    /// Whether it has told that nothing comes.
    pub(crate) fn tells_of_silence(&self) -> bool {
        self.link("reconnecting", Duration::ZERO).is_ok()
    }

    /// Has it do something.
    pub(crate) fn tell(&mut self, order: &Value) -> Result<(), String> {
        self.process.tell(order)
    }

    /// What it tells of itself.
    pub(crate) fn sample(&mut self) -> Result<Value, String> {
        self.process.ask(&json!({"do": "sample"}), "sample", PATIENCE)
    }

    /// What it takes.
    pub(crate) fn figures(&mut self) -> Result<Figures, String> {
        let sample = self.sample()?;
        let number = |field: &str| sample[field].as_f64().unwrap_or(f64::NAN);
        let held = Held::of(self.process.id()).map_err(|error| format!("{}: {error}", self.name))?;
        let [rss, files, sockets] = [held.rss_kb, held.files, held.sockets].map(|number| number as f64);
        Ok(Figures { rss, heap: number("heap") / 1024.0, files, sockets, tasks: number("tasks") })
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| format!("{} has no id", self.name))?;
        // It has not been waited for, so the number is still its own.
        kill_process(id, signal).map_err(|error| format!("{}: {error}", self.name))
    }

    /// It stands still, as under a debugger or on a machine that pages, for so long.
    pub(crate) fn stop_for(&self, time: Duration) -> Result<(), String> {
        self.signal(Signal::STOP)?;
        thread::sleep(time);
        self.signal(Signal::CONT)
    }

    /// It is gone at once, and says goodbye to nobody.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }
}
