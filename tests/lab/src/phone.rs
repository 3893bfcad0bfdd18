//! A call between two `blink` commands, and what their ears heard.

use std::{
    env, iter,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{
    Error, Host, Lab, Process,
    sound::{self, Moment},
};

/// What a start, a connection or an end may take: ten times what they take on a busy machine with two cores.
const PATIENCE: Duration = Duration::from_secs(30);
/// What hanging up may take at both sides.
const END: Duration = Duration::from_secs(10);
/// Longer than any talk of the lab. Afterwards there is silence.
const SPEECH: u32 = 150;
/// The port of the nodes, so that who comes back with another address has the same one.
const PORT: u16 = 4001;

/// A `blink` command on a host.
#[derive(Debug)]
pub struct Phone {
    process: Process,
    /// What it says, at [`sound::RATE`].
    said: Vec<f32>,
    /// Where what it hears is written.
    ear: PathBuf,
    log: PathBuf,
}

/// The `blink` command: `BLINK_BIN`, or else the one that lies beside this test.
///
/// # Errors
/// If there is none.
pub fn blink() -> Result<PathBuf, Error> {
    let beside = || {
        let test = env::current_exe().ok()?;
        Some(test.parent()?.parent()?.join("blink"))
    };
    let path = env::var_os("BLINK_BIN").map(PathBuf::from).or_else(beside).filter(|path| path.exists());
    path.ok_or_else(|| {
        Error::Program("there is no `blink` to test: run `make test-lab`, or set BLINK_BIN to it".into())
    })
}

/// A key that is there before its phone is, so that others can be told of it.
#[derive(Debug)]
pub struct Key {
    file: PathBuf,
    did: String,
}

impl Key {
    /// Makes a new one.
    ///
    /// # Errors
    /// If `blink` makes none.
    pub fn new(lab: &Lab, name: &str) -> Result<Self, Error> {
        let file = lab.directory().join(format!("{name}.key"));
        let done = Command::new(blink()?).args(["id", "--json", "--key"]).arg(&file).output();
        let done = done.map_err(Error::io("blink id"))?;
        let line: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
        let did = line["did"].as_str().ok_or_else(|| {
            Error::Program(format!("`blink id` tells no key: {}", String::from_utf8_lossy(&done.stderr)))
        })?;
        Ok(Self { file, did: did.to_owned() })
    }

    /// What it is called by.
    #[must_use]
    pub fn did(&self) -> &str {
        &self.did
    }

    /// What a phone of this key is told.
    #[must_use]
    pub fn option(&self) -> [String; 2] {
        ["--key".into(), self.file.display().to_string()]
    }
}

/// This moment on the clock of the events: Unix time in seconds.
#[must_use]
pub fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Phone {
    /// Starts `blink` on a host with these arguments and those for its output and sound. What it says is another thing for each
    /// seed.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(lab: &Lab, host: &Host, name: &str, seed: u64, arguments: &[String]) -> Result<Self, Error> {
        let file = |end: &str| lab.directory().join(format!("{name}{end}"));
        let (mouth, ear, log) = (file("-mouth.wav"), file("-ear.wav"), file(".log"));
        let said = sound::speech(seed, SPEECH);
        sound::write(&mouth, &said)?;
        let text = |path: &Path| path.display().to_string();
        let mut all: Vec<String> = arguments.to_vec();
        all.extend(["--json", "--control", "--mic"].map(String::from));
        all.extend([text(&mouth), "--speaker".into(), text(&ear)]);
        let process = host.spawn(&blink()?, &all, &log)?;
        Ok(Self { process, said, ear, log })
    }

    /// Its process, and what it wrote.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Waits until it has ended, and returns its exit code. After `patience` it is told to end.
    pub fn end(&mut self, patience: Duration) -> Option<i32> {
        self.process.end(patience)
    }

    /// When it wrote the first line of this event, if it has.
    #[must_use]
    pub fn when(&self, event: &str) -> Option<f64> {
        self.process.lines().iter().find(|line| line["event"] == event).map(|line| number(line, "t"))
    }

    /// Waits until others can reach it: straight, or at a relay.
    ///
    /// # Errors
    /// If that does not come about.
    pub fn reachable(&self) -> Result<(), Error> {
        let wanted = |line: &Value| {
            line["event"] == "node" && [Some("public"), Some("relayed")].contains(&line["state"].as_str())
        };
        self.process.wait_until("reachable `node`", PATIENCE, wanted).map(drop)
    }

    /// Waits until others keep a record of where it is now.
    ///
    /// # Errors
    /// If that does not come about.
    pub fn published(&self) -> Result<(), Error> {
        self.process.wait_for_last("findable", PATIENCE, |line| line["state"] == "published").map(drop)
    }

    /// How it stands now in the network, as far as it has told.
    #[must_use]
    pub fn standing(&self) -> String {
        let lines = self.process.lines();
        let last = lines.iter().rev().find(|line| line["event"] == "node");
        last.and_then(|line| line["state"].as_str()).unwrap_or("unknown").to_owned()
    }

    /// What it told, but for its figures, each with its time: what a row of the table is explained by.
    fn told(&self) -> Vec<(f64, String)> {
        let lines = self.process.lines();
        let telling = lines.iter().filter(|line| line["event"] != "stats" && line["event"] != "summary");
        let text = |line: &Value| {
            let fields = ["event", "state", "via", "reason", "route", "kind", "cause", "failure"];
            fields.iter().filter_map(|field| line[*field].as_str()).collect::<Vec<_>>().join(" ")
        };
        telling.map(|line| (number(line, "t"), text(line))).collect()
    }

    /// The newest value of a field of `stats`.
    #[must_use]
    pub fn stat(&self, field: &str) -> Value {
        let lines = self.process.lines();
        lines
            .iter()
            .rev()
            .find(|line| line["event"] == "stats")
            .map_or(Value::Null, |line| line[field].clone())
    }

    /// What it heard of another one.
    fn heard(&self, of: &Self) -> Result<Vec<Moment>, Error> {
        let (own, other) = (self.process.wait_for("media_started", Duration::ZERO)?, of);
        let theirs = other.process.wait_for("media_started", Duration::ZERO)?;
        let ear = sound::read(&self.ear)?;
        Ok(sound::recognise(&other.said, number(&theirs, "mic_t"), &ear, number(&own, "speaker_t")))
    }
}

fn number(line: &Value, field: &str) -> f64 {
    line[field].as_f64().unwrap_or_default()
}

/// How the nodes reach each other. Media are always over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signals {
    /// TCP: what is done to UDP is then done to media, and to nothing else.
    Tcp,
    /// TCP over IPv6: what is done to addresses of IPv4 is then done to media alone.
    Tcp6,
    /// QUIC.
    Quic,
}

impl Signals {
    /// Where the node of a host is with its first address, or on any.
    pub(crate) fn multiaddr(self, host: Option<&Host>) -> String {
        let v4 = host.map_or(Ipv4Addr::UNSPECIFIED, |host| host.v4(1));
        match self {
            Self::Tcp => format!("/ip4/{v4}/tcp/{PORT}"),
            Self::Quic => format!("/ip4/{v4}/udp/{PORT}/quic-v1"),
            Self::Tcp6 => {
                format!("/ip6/{}/tcp/{PORT}", host.map_or(Ipv6Addr::UNSPECIFIED, |host| host.v6(1)))
            }
        }
    }
}

/// A call that runs.
#[derive(Debug)]
pub struct Talk {
    /// Who called, and who answered.
    pub phones: [Phone; 2],
}

/// A call that is over.
#[derive(Debug)]
pub struct Heard {
    /// What was heard: by the caller, and by the callee.
    pub moments: [Vec<Moment>; 2],
    /// When the caller hung up.
    pub until: f64,
    /// What was wrong with the end, or `None`.
    pub fault: Option<String>,
}

impl Talk {
    /// The first host calls the second, which answers at once. Returns when both hear each other. `more` is what each is
    /// told besides.
    ///
    /// # Errors
    /// If the call does not come about.
    pub fn begin(
        lab: &Lab,
        hosts: [&Host; 2],
        signals: Signals,
        more: [&[String]; 2],
    ) -> Result<Self, Error> {
        let listen = ["--listen".to_owned(), signals.multiaddr(None)];
        let answer: Vec<_> = listen.iter().chain(more[1]).cloned().collect();
        let callee = Self::callee(lab, hosts[1], &answer)?;
        let ready = callee.process.wait_for("ready", PATIENCE)?;
        let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
        let node = format!("{}/p2p/{}", signals.multiaddr(Some(hosts[1])), text("peer_id"));
        let mut call = vec!["--peer".into(), node];
        call.extend(listen.iter().chain(more[0]).cloned());
        let talk = Self::call(lab, hosts[0], callee, &call)?;
        talk.heard()?;
        Ok(talk)
    }

    /// Somebody who answers one call, at once.
    ///
    /// # Errors
    /// If the phone cannot be started.
    pub fn callee(lab: &Lab, host: &Host, more: &[String]) -> Result<Phone, Error> {
        let answer = ["answer", "--once"].map(String::from).into_iter().chain(more.iter().cloned());
        Phone::start(lab, host, "callee", 2, &answer.collect::<Vec<_>>())
    }

    /// Somebody on this host calls that phone by its key, and knows of it what `more` tells. Returns before they are connected.
    ///
    /// # Errors
    /// If the callee is not ready, or the phone cannot be started.
    pub fn call(lab: &Lab, host: &Host, callee: Phone, more: &[String]) -> Result<Self, Error> {
        let ready = callee.process.wait_for("ready", PATIENCE)?;
        let key = ready["did"].as_str().unwrap_or_default();
        let call = ["call", key].map(String::from).into_iter().chain(more.iter().cloned());
        let caller = Phone::start(lab, host, "caller", 1, &call.collect::<Vec<_>>())?;
        Ok(Self { phones: [caller, callee] })
    }

    /// Waits until both hear each other.
    ///
    /// # Errors
    /// If they do not.
    pub fn heard(&self) -> Result<(), Error> {
        for event in ["media_started", "first_audio"] {
            for phone in &self.phones {
                phone.process.wait_for(event, PATIENCE)?;
            }
        }
        Ok(())
    }

    /// Fails if either side says that the call is over.
    ///
    /// # Errors
    /// With what it said.
    pub fn goes_on(&self) -> Result<(), Error> {
        for phone in &self.phones {
            if let Some(line) = phone.process.lines().iter().find(|line| line["event"] == "ended") {
                return Err(Error::Program(format!("the call has ended: {line}")));
            }
        }
        Ok(())
    }

    /// Has the caller tell the callee something that changes no sound, so that [`Talk::signalled`] can say when that came.
    ///
    /// # Errors
    /// If the caller is gone.
    pub fn signal(&mut self) -> Result<(), Error> {
        self.phones[0].process.tell(r#"{"do":"camera"}"#)
    }

    /// When the callee was told.
    #[must_use]
    pub fn signalled(&self) -> Option<f64> {
        let lines = self.phones[1].process.lines();
        lines.iter().find(|line| line["camera"] == true).map(|line| number(line, "t"))
    }

    /// The caller hangs up, and what was heard is listened to.
    ///
    /// # Errors
    /// If there is nothing to listen to.
    pub fn hang_up(&mut self) -> Result<Heard, Error> {
        let mut fault = self.goes_on().err().map(|error| error.to_string());
        let until = unix(SystemTime::now());
        // Who is gone already has said why, which is a fault.
        let _ = self.phones[0].process.tell(r#"{"do":"hangup"}"#);
        for (name, phone) in iter::zip(["caller", "callee"], &mut self.phones) {
            // The callee hears of it by the link at the latest, which is told at once, or by a signal.
            let ended = phone.process.wait_for("ended", END);
            let code = phone.process.end(END);
            let reason = ended.map(|line| line["reason"].to_string()).unwrap_or_else(|_| "no `ended`".into());
            if reason != r#""hung_up""# || code != Some(0) {
                fault.get_or_insert(format!("the {name} ends with code {code:?} after {reason}"));
            }
        }
        let [caller, callee] = &self.phones;
        Ok(Heard { moments: [caller.heard(callee)?, callee.heard(caller)?], until, fault })
    }

    /// What both have written since a moment, for somebody who wants to know what happened.
    #[must_use]
    pub fn story(&self, since: f64) -> String {
        let mut out = String::new();
        for (name, phone) in iter::zip(["caller", "callee"], &self.phones) {
            for (at, what) in phone.told().into_iter().filter(|(at, _)| *at >= since) {
                out += &format!("  {name} {:+8.3} s  {what}\n", at - since);
            }
            let log = std::fs::read_to_string(&phone.log).unwrap_or_default();
            for line in log.lines() {
                out += &format!("  {name} log: {line}\n");
            }
        }
        out
    }
}
