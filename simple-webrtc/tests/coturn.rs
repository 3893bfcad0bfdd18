//! Relayed paths through a real coturn on loopback, over UDP, TCP and TLS. Run by `make test-turn`, which installs it; they are
//! ignored otherwise, since not every machine has it.

mod support;

use std::fmt::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use simple_webrtc::{
    CandidateKind, ConfigBuilder, EventKind, FailReason, IceServer, LinkState, RemoteTrack, ServerProblem,
    Timeouts,
};
use support::*;

use LinkState::{Connected, Failed};

/// A server with one user, on ports of its own.
struct Coturn {
    process: Child,
    directory: PathBuf,
    port: u16,
    tls_port: u16,
}

impl Coturn {
    /// `certificate` is made with openssl, which coturn's package depends on.
    async fn start(name: &str, credential: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("simple-webrtc-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
        run(Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
            // One that may sign others would be refused as that of a server.
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate));
        run(Command::new("openssl")
            .args(["x509", "-outform", "der", "-in"])
            .arg(&certificate)
            .arg("-out")
            .arg(directory.join("certificate.der")));
        let (port, tls_port) = (free_port(), free_port());
        let mut config = String::new();
        for line in [
            "listening-ip=127.0.0.1",
            "relay-ip=127.0.0.1",
            "allow-loopback-peers",
            "lt-cred-mech",
            "realm=home",
            "no-cli",
            "no-stdout-log",
            "cli-password=unused",
            "min-port=49152",
            "max-port=65535",
        ] {
            writeln!(config, "{line}").expect("a string");
        }
        writeln!(config, "listening-port={port}\ntls-listening-port={tls_port}\nuser=user:{credential}")
            .expect("a string");
        for (setting, path) in [
            ("cert", certificate),
            ("pkey", key),
            ("userdb", directory.join("users.db")),
            ("log-file", directory.join("log")),
            ("pidfile", directory.join("pid")),
        ] {
            writeln!(config, "{setting}={}", path.display()).expect("a string");
        }
        let path = directory.join("turnserver.conf");
        std::fs::write(&path, config).expect("written");
        let process = Command::new("turnserver")
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("coturn is not installed here: `make test-turn` installs it on Debian and Ubuntu");
        let started = async {
            // It opens them one after the other, with a gap between on a busy machine.
            for port in [port, tls_port] {
                while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::time::timeout(PATIENCE, started).await.expect("coturn listens");
        Self { process, directory, port, tls_port }
    }

    fn root(&self) -> Vec<u8> {
        std::fs::read(self.directory.join("certificate.der")).expect("a certificate")
    }

    fn urls(&self) -> [String; 3] {
        let (port, tls_port) = (self.port, self.tls_port);
        [
            format!("turn:127.0.0.1:{port}"),
            format!("turn:127.0.0.1:{port}?transport=tcp"),
            format!("turns:127.0.0.1:{tls_port}"),
        ]
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all::<&Path>(&self.directory);
    }
}

fn run(command: &mut Command) {
    let done = command.stderr(Stdio::null()).status().expect("openssl is installed with coturn");
    assert!(done.success(), "{command:?}");
}

/// For UDP and TCP both.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = tcp.local_addr().expect("bound").port();
        // Not one that coturn could give to a relay.
        if port < 49152 && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn relayed(server: IceServer) -> ConfigBuilder {
    loopback().ice_server(server).relay_only(true)
}

/// Carries one offer of `a` and its answer.
async fn exchange(a: &mut Side, b: &mut Side) {
    let mut answered = false;
    while !answered {
        tokio::select! {
            event = a.next() => drop(carry("a", event, b)),
            event = b.next() => {
                answered = matches!(event.kind, EventKind::LocalDescription(_));
                drop(carry("b", event, a));
            }
        }
    }
}

/// The middle of the times that frames take which leave every 20 ms.
async fn one_way(a: &Side, at_b: &mut RemoteTrack) -> Duration {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut times = Vec::new();
    for n in 200_000..200_050 {
        tick.tick().await;
        let sent = Instant::now();
        a.track.write(frame(n)).expect("fits");
        while let Ok(Some(packet)) = tokio::time::timeout(Duration::from_millis(19), at_b.recv()).await {
            if packet.timestamp == frame(n).timestamp {
                times.push(packet.arrival.duration_since(sent));
                break;
            }
        }
    }
    times.sort();
    assert!(times.len() > 25, "{} of 50 arrive before the next one leaves", times.len());
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs coturn: run by `make test-turn`"]
async fn sound_goes_through_a_relay_over_udp_tcp_and_tls() {
    let coturn = Coturn::start("transports", "secret").await;
    for url in coturn.urls() {
        let server = || IceServer::turn(&url, "user", "secret").with_root(coturn.root());
        let mut a = Side::new(relayed(server()).build().expect("valid"));
        let mut b = Side::new(relayed(server()).build().expect("valid"));
        let start = Instant::now();
        a.peers.dial("b", FIRST).expect("dial");
        connect(&mut a, &mut b, Connected).await;
        let up = start.elapsed();
        let mut at_b = first_track(&a.track, &mut b).await;
        let way = one_way(&a, &mut at_b).await;
        println!("{url}: connected after {up:?}, one way {way:?}");
        for (side, peer) in [(&a, "b"), (&b, "a")] {
            let stats = side.peers.stats(&peer).await.expect("connected");
            let route = stats.route.expect("a path");
            assert!(route.is_relayed() && route.local == CandidateKind::Relay, "{route:?}");
        }
        // The path goes on with the credentials renewed in place, and a restart finds another one.
        a.peers.set_ice_servers(vec![server()]).expect("valid");
        exchange(&mut a, &mut b).await;
        one_way(&a, &mut at_b).await;
        a.peers.restart(&"b", FIRST).expect("restart");
        connect(&mut a, &mut b, Connected).await;
        one_way(&a, &mut at_b).await;
        a.peers.shutdown().await;
        b.peers.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs coturn: run by `make test-turn`"]
async fn what_is_wrong_with_a_server_is_told() {
    let coturn = Coturn::start("problems", "secret").await;
    let [udp, tcp, tls] = coturn.urls();
    let nobody = free_port();
    for (server, problem) in [
        (IceServer::turn(&udp, "user", "wrong"), ServerProblem::WrongCredentials),
        (IceServer::turn(&tcp, "user", "wrong"), ServerProblem::WrongCredentials),
        (IceServer::turn(&tls, "user", "wrong").with_root(coturn.root()), ServerProblem::WrongCredentials),
        (IceServer::turn(&udp, "nobody", "secret"), ServerProblem::WrongCredentials),
        // Its certificate is signed by nobody that is trusted.
        (IceServer::turn(&tls, "user", "secret"), ServerProblem::Tls),
        (IceServer::turn(format!("turn:127.0.0.1:{nobody}"), "user", "secret"), ServerProblem::Unreachable),
        (
            IceServer::turn(format!("turn:127.0.0.1:{nobody}?transport=tcp"), "user", "secret"),
            ServerProblem::Unreachable,
        ),
        (IceServer::turn("turn:nobody.invalid", "user", "secret"), ServerProblem::Unresolved),
    ] {
        let mut timeouts = Timeouts::default();
        timeouts.gathering = Duration::from_secs(1);
        let mut side = Side::new(relayed(server.clone()).timeouts(timeouts).build().expect("valid"));
        side.peers.dial("b", FIRST).expect("dial");
        let mut told = Vec::new();
        let end = loop {
            match side.next().await.kind {
                EventKind::ServerFailed { problem, .. } => told.push(problem),
                EventKind::State(state) if state.is_final() => break state,
                _ => {}
            }
        };
        assert_eq!(told, [problem], "{server:?}");
        assert!(
            matches!(end, Failed { reason: FailReason::NoRelay { problem: found }, .. } if found == problem),
            "{server:?}: {end:?}"
        );
    }
}

/// Of several servers one that works is enough, and does not wait for those that do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs coturn: run by `make test-turn`"]
async fn a_server_that_works_is_enough() {
    // Two machines: of one that relays over another transport nothing would be told.
    let (refuses, works) =
        (Coturn::start("refuses", "another").await, Coturn::start("works", "secret").await);
    let ([udp, ..], [_, tcp, _]) = (refuses.urls(), works.urls());
    let dead = format!("turn:127.0.0.1:{}", free_port());
    let config = || {
        let mut timeouts = Timeouts::default();
        // Long enough for a busy machine to find the working server before the dead one is given up.
        timeouts.gathering = Duration::from_secs(5);
        relayed(IceServer::turn(&dead, "user", "secret"))
            .ice_server(IceServer::turn(&udp, "user", "secret"))
            .ice_server(IceServer::turn(&tcp, "user", "secret"))
            .timeouts(timeouts)
            .build()
            .expect("valid")
    };
    let (mut a, mut b) = (Side::new(config()), Side::new(config()));
    a.peers.dial("b", FIRST).expect("dial");
    let (mut told, mut up) = (Vec::new(), 0);
    while told.len() < 2 || up < 2 {
        let (left, is_a) = tokio::select! {
            event = a.next() => (carry("a", event, &b), true),
            event = b.next() => (carry("b", event, &a), false),
        };
        // Shown where it fails.
        println!("caller {is_a}, {up} connected: {left:?}");
        match left.map(|event| event.kind) {
            Some(EventKind::ServerFailed { url, problem }) if is_a => told.push((url, problem, up)),
            Some(EventKind::State(Connected)) => up += 1,
            Some(EventKind::State(state)) if state.is_final() => {
                panic!("ended as {state:?} (the caller: {is_a}), {up} connected, told {told:?}")
            }
            _ => {}
        }
    }
    told.sort_by_key(|(url, ..)| *url == dead);
    assert_eq!((&told[0].0, told[0].1), (&udp, ServerProblem::WrongCredentials));
    assert_eq!(told[1], (dead, ServerProblem::Unreachable, 2), "connected before that one was given up");
    a.peers.shutdown().await;
    b.peers.shutdown().await;
}
