//! A phone as the soak sees it: a process that says lines, is told lines, and takes memory and files.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr},
    process::{self, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

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
    process: process::Child,
    input: Option<ChildStdin>,
    said: Arc<Said>,
    /// Where its node listens.
    pub(crate) address: SocketAddr,
}

#[derive(Debug, Default)]
struct Said {
    /// Lines that nobody has forgotten, and whether it has ended.
    lines: Mutex<(Vec<Value>, bool)>,
    more: Condvar,
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, (Vec<Value>, bool)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let mut process = Command::new(soak)
            .args(["phone", "--seed", &seed.to_string(), "--luck", &luck.to_string()])
            .args(["--fast", &fast.to_string()])
            .args(peers.iter().flat_map(|peer| ["--peer", peer.as_str()]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        let said = Arc::new(Said::default());
        let (input, output, into) = (process.stdin.take(), process.stdout.take(), said.clone());
        thread::spawn(move || {
            for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()) {
                let Ok(line) = line else { break };
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                into.lock().0.push(value);
                into.more.notify_all();
            }
            into.lock().1 = true;
            into.more.notify_all();
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut child = Self { name, seed, process, input, said, address };
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
        self.said.lock().0.clear();
    }

    /// The first line of this event, as soon as it is there.
    pub(crate) fn wait(&self, event: &str) -> Result<Value, String> {
        self.wait_for(event, PATIENCE, |line| line["event"] == event)
    }

    /// The link is in this state, now or soon.
    pub(crate) fn link(&self, state: &str, patience: Duration) -> Result<Value, String> {
        self.wait_for(&format!("link {state}"), patience, |line| {
            line["event"] == "link" && line["state"]["state"] == state
        })
    }

    /// Whether it has told that nothing comes.
    pub(crate) fn tells_of_silence(&self) -> bool {
        self.link("reconnecting", Duration::ZERO).is_ok()
    }

    fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, String> {
        let until = Instant::now() + patience;
        let mut lines = self.said.lock();
        loop {
            if let Some(line) = lines.0.iter().find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if lines.1 || left.is_zero() {
                let said: Vec<_> = lines.0.iter().map(|line| format!("\n    {line}")).collect();
                let why = if lines.1 { "it has ended" } else { "time is over" };
                return Err(format!("{}: no {what}: {why}; it said{}", self.name, said.concat()));
            }
            lines = self.said.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Has it do something.
    pub(crate) fn tell(&mut self, order: &Value) -> Result<(), String> {
        let Some(input) = &mut self.input else { return Ok(()) };
        writeln!(input, "{order}").and_then(|()| input.flush()).map_err(|e| format!("{}: {e}", self.name))
    }

    /// What it tells of itself.
    pub(crate) fn sample(&mut self) -> Result<Value, String> {
        self.said.lock().0.retain(|line| line["event"] != "sample");
        self.tell(&json!({"do": "sample"}))?;
        self.wait("sample")
    }

    /// What it takes.
    pub(crate) fn figures(&mut self) -> Result<Figures, String> {
        let sample = self.sample()?;
        let number = |field: &str| sample[field].as_f64().unwrap_or(f64::NAN);
        let of = format!("/proc/{}", self.process.id());
        let failed = |error: std::io::Error| format!("{}: {error}", self.name);
        let status = fs::read_to_string(format!("{of}/status")).map_err(failed)?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        let (mut files, mut sockets) = (0.0, 0.0);
        for file in fs::read_dir(format!("{of}/fd")).map_err(failed)?.flatten() {
            files += 1.0;
            // One that was closed meanwhile is none.
            let to = fs::read_link(file.path()).unwrap_or_default();
            sockets += f64::from(u8::from(to.to_string_lossy().starts_with("socket:")));
        }
        let rss = rss.ok_or_else(|| format!("{}: /proc tells no memory", self.name))?;
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
        // One that has ended already is as dead.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
