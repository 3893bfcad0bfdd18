//! What the command line takes.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use warp_blink::{
    audio::{SinkSpec, SourceSpec},
    id::{NodeId, PublicKey},
};

/// Calls by public key, with no server in the middle.
#[derive(Debug, Parser)]
#[command(name = "blink", version, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print this identity, the key that others call
    Id(IdArguments),
    /// Wait for calls
    Answer(Box<AnswerArguments>),
    /// Call somebody, or several at once
    Call(Box<CallArguments>),
    /// List the microphones and speakers
    Devices(DevicesArguments),
    /// Make a whole call between two nodes on this machine, and write a report
    Demo(DemoArguments),
    /// Run a bootstrap and circuit relay node, until it is told to stop
    Relay(RelayArguments),
}

/// `blink id`
#[derive(Debug, Args)]
pub struct IdArguments {
    /// Identity; created if it is missing [default: a new one in memory]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Write JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `blink answer`
#[derive(Debug, Args)]
pub struct AnswerArguments {
    /// Whose calls to accept: all, none (ring, and wait), or keys with commas between [default: all; none with --reject]
    #[arg(long, value_name = "all|none|KEY,KEY", value_parser = accept)]
    pub accept: Option<Accept>,
    /// Decline the calls that --accept does not name
    #[arg(long)]
    pub reject: bool,
    /// Exit after one call
    #[arg(long)]
    pub once: bool,
    /// Wait so long before accepting or declining
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0")]
    pub answer_delay: Duration,
    /// What `call` takes too.
    #[command(flatten)]
    pub common: Common,
}

/// `blink call`
#[derive(Debug, Args)]
pub struct CallArguments {
    /// Whom to call: did:key:z6Mk... or the PeerId 12D3KooW...
    #[arg(required = true, value_name = "KEY")]
    pub keys: Vec<PublicKey>,
    /// What `answer` takes too.
    #[command(flatten)]
    pub common: Common,
}

/// `blink devices`
#[derive(Debug, Args)]
pub struct DevicesArguments {
    /// Write JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `blink demo`
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Folder of the report
    #[arg(long, value_name = "DIR", default_value = "demo")]
    pub out: PathBuf,
    /// How long the two talk [default: as long as the recordings]
    #[arg(long, value_name = "N", value_parser = seconds)]
    pub seconds: Option<Duration>,
}

/// `blink relay`
#[derive(Debug, Args)]
pub struct RelayArguments {
    /// Identity, by which others know the relay; created if it is missing [default: a new one in memory]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Address to listen on; repeatable [default: /ip4/0.0.0.0/tcp/0 and /ip4/0.0.0.0/udp/0/quic-v1, and the same of /ip6/:: where there is no IPv4]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub listen: Vec<String>,
    /// Address to tell others beside those, such as that of a router that forwards a port; repeatable
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub announce: Vec<String>,
    /// Serve TURN there over UDP and TCP, IP:PORT, for those whom --friends names
    #[arg(long, value_name = "ADDR", value_parser = udp, requires = "friends")]
    pub turn: Option<SocketAddr>,
    /// Under this IP others reach what --turn listens on, where that is another one
    #[arg(long, value_name = "IP", requires = "turn")]
    pub turn_public: Option<IpAddr>,
    /// Those whose calls --turn relays, with commas between
    #[arg(long, value_name = "KEY,KEY", value_delimiter = ',', requires = "turn")]
    pub friends: Vec<PublicKey>,
    /// Write JSON lines
    #[arg(long)]
    pub json: bool,
}

/// What `answer` and `call` share.
#[derive(Debug, Args)]
pub struct Common {
    /// Identity; created if it is missing [default: a new one in memory]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Address to listen on; repeatable [default: /ip4/0.0.0.0/tcp/0 and /ip4/0.0.0.0/udp/0/quic-v1, and the same of /ip6/:: where there is no IPv4]
    #[arg(long, value_name = "MULTIADDR", value_parser = address)]
    pub listen: Vec<String>,
    /// Node to connect to first, .../p2p/PEERID; repeatable
    #[arg(long, value_name = "MULTIADDR", value_parser = node_address)]
    pub peer: Vec<String>,
    /// Node to find peers through, .../p2p/PEERID; repeatable
    #[arg(long, value_name = "MULTIADDR", value_parser = node_address)]
    pub bootstrap: Vec<String>,
    /// Find peers on the local network, and be found there
    #[arg(long, value_name = "on|off", value_enum, default_value = "off", hide_possible_values = true)]
    pub mdns: Switch,
    /// Ask bootstrap nodes who is where, and answer others who ask
    #[arg(long, value_name = "on|off", value_enum, default_value = "on", hide_possible_values = true)]
    pub dht: Switch,
    /// Have bootstrap nodes tell where this node is
    #[arg(long, value_name = "on|off", value_enum, default_value = "on", hide_possible_values = true)]
    pub publish: Switch,
    /// Relay that keeps a place for this phone, .../p2p/PEERID; repeatable
    #[arg(long, value_name = "MULTIADDR", value_parser = node_address)]
    pub relay: Vec<String>,
    /// Ask the router for a port (UPnP)
    #[arg(long)]
    pub upnp: bool,
    /// From a relay to a straight connection where that is possible
    #[arg(long, value_name = "on|off", value_enum, default_value = "on", hide_possible_values = true)]
    pub hole_punching: Switch,
    /// Ask relays and bootstrap nodes to dial back
    #[arg(long, value_name = "on|off", value_enum, default_value = "on", hide_possible_values = true)]
    pub dial_back: Switch,
    /// Gather media addresses on this IP only; repeatable
    #[arg(long, value_name = "IP")]
    pub ice_ip: Vec<IpAddr>,
    /// STUN server, such as stun:HOST; repeatable
    #[arg(long, value_name = "URL")]
    pub stun: Vec<String>,
    /// TURN server, such as turn:HOST or turns:HOST; repeatable
    #[arg(long, value_name = "URL,USER,PASSWORD", value_parser = turn)]
    pub turn: Vec<Turn>,
    /// Friend who relays our calls (`blink relay --turn`); repeatable
    #[arg(long, value_name = "KEY")]
    pub turn_friend: Vec<PublicKey>,
    /// Show no address of this machine: only the relays and TURN servers that are named are used
    #[arg(long)]
    pub relay_only: bool,
    /// Microphone: default, a device id, FILE.wav, tone or silence
    #[arg(long, value_name = "SPEC", default_value = "default")]
    pub mic: SourceSpec,
    /// Speaker: default, a device id, FILE.wav or null
    #[arg(long, value_name = "SPEC", default_value = "default")]
    pub speaker: SinkSpec,
    /// Give up after ringing so long [default: 60]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub ring_timeout: Option<Duration>,
    /// Hang up so long after media starts
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Connect before the call is accepted
    #[arg(
        long,
        value_name = "always|never",
        value_enum,
        default_value = "always",
        hide_possible_values = true
    )]
    pub pre_connect: PreConnect,
    /// Somebody known: calls from there ring at once (repeat for several)
    #[arg(long, value_name = "KEY")]
    pub contact: Vec<PublicKey>,
    /// Who may ring; to all others this phone looks offline
    #[arg(
        long,
        value_name = "everyone|contacts",
        value_enum,
        default_value = "everyone",
        hide_possible_values = true
    )]
    pub admit: Admit,
    /// Protect signals from quantum computers: always, where the key is known, or never
    #[arg(
        long,
        value_name = "require|prefer|off",
        value_enum,
        default_value = "prefer",
        hide_possible_values = true
    )]
    pub post_quantum: PostQuantum,
    /// Folder of the persistent state; needs --key [default: memory]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Come back at once to a call of an earlier run, if there is one; needs --store
    #[arg(long)]
    pub resume: bool,
    /// Record every call into this folder
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// Read JSON commands from standard input, one a line
    #[arg(long)]
    pub control: bool,
    /// Most that the audio may take, in bits per second, 6000 to 510000 [default: 40000]
    #[arg(long, value_name = "BPS", value_parser = clap::value_parser!(u32).range(6000..=510_000))]
    pub bitrate: Option<u32>,
    /// Milliseconds of sound in a packet
    #[arg(long, value_name = "10|20|40|60", value_parser = frame_ms, default_value = "20")]
    pub frame_ms: u8,
    /// Echo, noise and gain processing [default: on for a microphone, off for a file, a tone and silence]
    #[arg(long, value_name = "on|off", value_enum, hide_possible_values = true)]
    pub processing: Option<Switch>,
    /// Leave silence out: fewer packets, and their rhythm shows who speaks when
    #[arg(long, value_name = "on|off", value_enum, default_value = "off", hide_possible_values = true)]
    pub dtx: Switch,
    /// Write JSON lines
    #[arg(long)]
    pub json: bool,
}

/// Whose calls are accepted without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Everybody's.
    All,
    /// Nobody's.
    None,
    /// Theirs.
    Keys(Vec<PublicKey>),
}

impl Accept {
    /// Whether a call from there is accepted.
    pub fn covers(&self, key: &PublicKey) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Keys(keys) => keys.contains(key),
        }
    }
}

/// For whom ICE may start before the user accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PreConnect {
    /// For everybody.
    Always,
    /// For nobody.
    Never,
}

/// Who may ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Admit {
    /// Everybody.
    Everyone,
    /// Those named with `--contact`.
    Contacts,
}

/// Whether calls are set up with a post-quantum key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PostQuantum {
    /// Or not at all.
    Require,
    /// Where the key is known.
    Prefer,
    /// They are not.
    Off,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// The longest time that an option takes, in seconds: a month. Longer ones are slips.
const MAX_SECONDS: f64 = 31.0 * 86_400.0;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.0..=MAX_SECONDS).contains(&s) => Ok(Duration::from_secs_f64(s)),
        Ok(_) => Err("give seconds from 0 to a month".to_owned()),
        Err(_) => Err("give seconds as a number, such as 2.5".to_owned()),
    }
}

fn frame_ms(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(ms @ (10 | 20 | 40 | 60)) => Ok(ms),
        _ => Err("give 10, 20, 40 or 60".to_owned()),
    }
}

fn accept(text: &str) -> Result<Accept, String> {
    match text {
        "all" => Ok(Accept::All),
        "none" => Ok(Accept::None),
        keys => keys
            .split(',')
            .map(|key| key.trim().parse().map_err(|e| format!("{key:?}: {e}")))
            .collect::<Result<_, _>>()
            .map(Accept::Keys),
    }
}

fn udp(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "give an IP and a port, such as 203.0.113.7:3478 or [2001:db8::7]:3478".to_owned())
}

fn address(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.len() > 1 {
        Ok(text.to_owned())
    } else {
        Err("not a multiaddr: one looks like /ip4/0.0.0.0/tcp/4001".to_owned())
    }
}

fn node_address(text: &str) -> Result<String, String> {
    const EXAMPLE: &str = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW...";
    address(text).map_err(|_| format!("not a multiaddr: one looks like {EXAMPLE}"))?;
    match text.rsplit_once("/p2p/") {
        None => Err(format!("it does not say which node is there: it must end in /p2p/PEERID, as {EXAMPLE}")),
        Some((_, node)) => match node.parse::<NodeId>() {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(format!("after /p2p/: {error}")),
        },
    }
}

/// A TURN server as it is given. `Debug` shows no password.
#[derive(Clone)]
pub struct Turn {
    /// Where it is.
    pub url: String,
    /// Who asks.
    pub user: String,
    /// And proves it with.
    pub password: String,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A password may hold commas; neither of the others does.
fn turn(text: &str) -> Result<Turn, String> {
    let mut parts = text.splitn(3, ',').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(url), Some(user), Some(password)) => Ok(Turn { url, user, password }),
        _ => Err("give URL,USER,PASSWORD, such as turn:relay.example.org,alice,secret".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn key() -> PublicKey {
        warp_blink::Identity::from_seed([9; 32]).public()
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn addresses_need_their_node() {
        assert!(node_address(&format!("/ip4/127.0.0.1/tcp/1/p2p/{}", key().to_peer_id_string())).is_ok());
        for bad in
            ["", "127.0.0.1:4001", "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1/p2p/", "/ip4/1/tcp/1/p2p/x"]
        {
            assert!(node_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seconds_are_finite_and_not_negative() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        for bad in ["-1", "nan", "inf", "1e300", "", "2 s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn accept_takes_words_and_lists() {
        assert_eq!(accept("all"), Ok(Accept::All));
        assert_eq!(accept("none"), Ok(Accept::None));
        let both = format!("{},{}", key().to_peer_id_string(), key());
        assert_eq!(accept(&both), Ok(Accept::Keys(vec![key(), key()])));
        assert!(accept("alle").is_err());
        assert!(accept("").is_err());
    }
}
