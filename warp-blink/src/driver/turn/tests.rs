//! The server on loopback, with the client of the same crate and with requests by hand.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::UdpSocket;
use turn::client::{Client, ClientConfig};
use webrtc_util::Conn;

use super::{TurnConfig, TurnError, TurnServer, credentials::Secret};
use crate::{
    driver::clock,
    id::{CallId, Identity, PublicKey},
    proto::turn::{Refused, TurnLimits},
    wire::TurnPass,
};

mod tcp;

/// Only what hangs reaches it.
const STUCK: Duration = Duration::from_secs(20);

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn friend(n: u8) -> PublicKey {
    Identity::from_seed([n; 32]).public()
}

async fn server(limits: TurnLimits) -> TurnServer {
    TurnServer::start(TurnConfig::new(loopback()).limits(limits)).await.unwrap()
}

fn pass(server: &TurnServer, asking: u8, of: u8) -> TurnPass {
    server.desk().issue(CallId::from_bytes([asking; 16]), friend(of)).unwrap()
}

async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(STUCK, future).await.unwrap_or_else(|_| panic!("{what} takes for ever"))
}

/// Looks until it is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    bounded(what, async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn client(server: SocketAddr, name: &str, password: &str) -> Client {
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    let config = ClientConfig {
        stun_serv_addr: server.to_string(),
        turn_serv_addr: server.to_string(),
        username: name.to_owned(),
        password: password.to_owned(),
        realm: String::new(),
        software: String::new(),
        rto_in_ms: 0,
        conn: Arc::new(socket),
        vnet: None,
    };
    let client = Client::new(config).await.unwrap();
    client.listen().await.unwrap();
    client
}

async fn of(server: &TurnServer, pass: &TurnPass) -> Client {
    client(server.address(), pass.username(), pass.password()).await
}

/// Whether somebody with these credentials is given an allocation.
async fn is_given(server: &TurnServer, name: &str, password: &str) -> bool {
    let client = client(server.address(), name, password).await;
    let given = bounded("an answer", client.allocate()).await.is_ok();
    let _ = client.close().await;
    given
}

/// Sends until something arrives: the first ones may be lost while the other side allows nobody yet.
async fn meet(from: &impl Conn, to: &impl Conn) {
    let (a, b) = (from.local_addr().unwrap(), to.local_addr().unwrap());
    let mut buffer = [0; 64];
    let both = async {
        loop {
            to.send_to(b"back", a).await.unwrap();
            from.send_to(b"there", b).await.unwrap();
            let arrived = tokio::time::timeout(Duration::from_millis(200), to.recv_from(&mut buffer)).await;
            if let Ok(arrived) = arrived {
                let (len, sender) = arrived.unwrap();
                assert_eq!((&buffer[..len], sender), (&b"there"[..], a));
                break;
            }
        }
        let (len, sender) = from.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..len], sender), (&b"back"[..], b));
    };
    bounded("what one sends to the other", both).await;
}

#[tokio::test]
async fn two_friends_who_are_both_relayed_here_meet_and_are_counted() {
    let server = server(TurnLimits::default()).await;
    let (one, two) = (pass(&server, 1, 1), pass(&server, 2, 2));
    assert_eq!(one.addresses(), [server.address()]);
    let (a, b) = (of(&server, &one).await, of(&server, &two).await);
    let (at_a, at_b) = (a.allocate().await.unwrap(), b.allocate().await.unwrap());
    assert_eq!(server.desk().used(), (2, 0));
    meet(&at_a, &at_b).await;
    let (_, bytes) = server.desk().used();
    assert!(bytes >= 2 * 9, "each end counts what it carries: {bytes}");
}

#[tokio::test]
async fn the_same_asking_is_given_the_same_and_nobody_elses() {
    let server = server(TurnLimits::default()).await;
    let one = pass(&server, 1, 1);
    assert_eq!(pass(&server, 1, 1), one);
    assert_ne!(pass(&server, 2, 1).username(), one.username());
    assert_eq!(server.desk().issue(CallId::from_bytes([1; 16]), friend(2)), Err(Refused::Expired));
    server.desk().forget(&CallId::from_bytes([1; 16]));
    assert_ne!(pass(&server, 1, 1).username(), one.username());
}

#[tokio::test]
async fn wrong_foreign_and_expired_credentials_are_given_nothing() {
    let server = server(TurnLimits::default().with_life(Duration::from_secs(1))).await;
    let one = pass(&server, 1, 1);
    let two = pass(&server, 2, 2);
    assert!(!is_given(&server, one.username(), "wrong").await);
    assert!(!is_given(&server, one.username(), two.password()).await, "of somebody else");
    // Well made, and granted to nobody.
    let (until_then, _) = one.username().split_once(':').unwrap();
    assert!(!is_given(&server, &format!("{until_then}:0123456789abcdef"), one.password()).await);
    let elsewhere = super::tests::server(TurnLimits::default()).await;
    let foreign = pass(&elsewhere, 1, 1);
    assert!(!is_given(&server, foreign.username(), foreign.password()).await, "of another server");
    let fresh = pass(&server, 3, 1);
    assert!(is_given(&server, fresh.username(), fresh.password()).await);
    let desk = server.desk().clone();
    until("the end of the allocation", || desk.used().0 == 0).await;
    assert!(!is_given(&server, fresh.username(), fresh.password()).await, "a second later");
}

/// An allocation ends with the credentials of its user, unless newer ones were asked for meanwhile.
#[tokio::test]
async fn an_allocation_lives_on_with_newer_credentials_and_no_longer() {
    let server = server(TurnLimits::default().with_life(Duration::from_secs(2))).await;
    let (one, two) = (pass(&server, 1, 1), pass(&server, 2, 2));
    let (a, b) = (of(&server, &one).await, of(&server, &two).await);
    let (at_a, at_b) = (a.allocate().await.unwrap(), b.allocate().await.unwrap());
    let begun = clock::now();
    let mut asking = 10;
    // Twice as long as any of the credentials holds.
    while clock::now().since(begun) < Duration::from_secs(4) {
        for of in [1, 2] {
            asking += 1;
            pass(&server, asking, of);
            server.desk().forget(&CallId::from_bytes([asking; 16]));
        }
        meet(&at_a, &at_b).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert_eq!(server.desk().used().0, 2);
    let desk = server.desk().clone();
    until("the end of both", || desk.used().0 == 0).await;
}

#[tokio::test]
async fn nobody_has_more_allocations_than_granted_and_they_come_back() {
    let server = server(TurnLimits::default().with_allocations(1, 8)).await;
    let one = pass(&server, 1, 1);
    let first = of(&server, &one).await;
    let relayed = first.allocate().await.unwrap();
    assert!(!is_given(&server, one.username(), one.password()).await);
    let two = pass(&server, 2, 2);
    assert!(is_given(&server, two.username(), two.password()).await, "somebody else");
    relayed.close().await.unwrap();
    let desk = server.desk().clone();
    // What the other one was given goes with its life of ten minutes only.
    until("the end of the first", || desk.used().0 == 1).await;
    assert!(is_given(&server, one.username(), one.password()).await);
}

#[tokio::test]
async fn who_has_used_up_what_was_granted_is_cut_off_and_others_go_on() {
    let server = server(TurnLimits::default().with_bytes(4000, 1 << 20)).await;
    let passes = [pass(&server, 1, 1), pass(&server, 2, 2), pass(&server, 3, 3)];
    let [a, b, c] = [&passes[0], &passes[1], &passes[2]];
    let (a, b, c) = (of(&server, a).await, of(&server, b).await, of(&server, c).await);
    let (at_a, at_b) = (a.allocate().await.unwrap(), b.allocate().await.unwrap());
    let _at_c = c.allocate().await.unwrap();
    meet(&at_a, &at_b).await;
    let to = at_b.local_addr().unwrap();
    let desk = server.desk().clone();
    let sent = async {
        while desk.used().0 == 3 {
            let _ = at_a.send_to(&[7; 500], to).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    bounded("the end of what is granted", sent).await;
    assert_eq!(desk.used().0, 2);
    assert_eq!(desk.issue(CallId::from_bytes([9; 16]), friend(1)), Err(Refused::Bytes));
    assert!(desk.issue(CallId::from_bytes([8; 16]), friend(3)).is_ok());
}

#[tokio::test]
async fn nothing_goes_to_this_machine_or_its_network() {
    let server = server(TurnLimits::default()).await;
    let (one, two) = (pass(&server, 1, 1), pass(&server, 2, 2));
    let (a, b) = (of(&server, &one).await, of(&server, &two).await);
    let (at_a, at_b) = (a.allocate().await.unwrap(), b.allocate().await.unwrap());
    // A service of this machine, at the address of the relay itself.
    let service = UdpSocket::bind(loopback()).await.unwrap();
    at_a.send_to(b"let me in", service.local_addr().unwrap()).await.unwrap();
    // It is the server, too.
    at_a.send_to(b"let me in", server.address()).await.unwrap();
    // Neither does it talk to anybody through the relay.
    service.send_to(b"come in", at_a.local_addr().unwrap()).await.unwrap();
    for forbidden in ["10.0.0.1:9", "192.168.1.1:9", "169.254.169.254:80", "224.0.0.251:5353", "127.0.0.2:9"]
    {
        let refused = bounded("a refusal", at_a.send_to(b"x", forbidden.parse().unwrap())).await;
        assert!(refused.is_err(), "{forbidden}");
    }
    // By now all of that would have arrived.
    meet(&at_a, &at_b).await;
    let mut buffer = [0; 64];
    assert!(service.try_recv_from(&mut buffer).is_err(), "something was relayed to this machine");
}

/// What a test allows explicitly does pass, so that the refusals above are those of the rule.
#[tokio::test]
async fn what_is_allowed_explicitly_passes() {
    let config = TurnConfig::new(loopback()).allow_target(loopback().ip());
    let server = TurnServer::start(config).await.unwrap();
    let one = pass(&server, 1, 1);
    let a = of(&server, &one).await;
    let at_a = a.allocate().await.unwrap();
    let service = UdpSocket::bind(loopback()).await.unwrap();
    let mut buffer = [0; 64];
    at_a.send_to(b"hello", service.local_addr().unwrap()).await.unwrap();
    let (len, from) = bounded("what is relayed", service.recv_from(&mut buffer)).await.unwrap();
    assert_eq!((&buffer[..len], from), (&b"hello"[..], at_a.local_addr().unwrap()));
}

#[tokio::test]
async fn a_shared_secret_is_that_of_coturn() {
    let secret = "a secret of some length";
    let config = TurnConfig::new(loopback()).shared_secret(secret);
    let server = TurnServer::start(config).await.unwrap();
    let password = |name: &str| Secret::new(secret.as_bytes()).password(name);
    let now = clock::unix().as_millis() / 1000;
    let name = format!("{}:alice", now + 60);
    assert!(is_given(&server, &name, &password(&name)).await);
    assert!(!is_given(&server, &name, "wrong").await);
    for none in [format!("{}:alice", now - 1), format!("{}", now + 60), "alice".to_owned()] {
        assert!(!is_given(&server, &none, &password(&none)).await, "{none}");
    }
    // Without the secret being shared, the same name is nobody's.
    let own = self::server(TurnLimits::default()).await;
    assert!(!is_given(&own, &name, &password(&name)).await);
}

#[tokio::test]
async fn strangers_and_nonsense_are_not_answered() {
    let server = server(TurnLimits::default()).await;
    let stranger = UdpSocket::bind(loopback()).await.unwrap();
    let header = |kind: u16| {
        let mut message = kind.to_be_bytes().to_vec();
        message.extend([0, 0, 0x21, 0x12, 0xa4, 0x42]);
        message.extend([7; 12]);
        message
    };
    // A check of one end of a call by the other, which demands more than a server does; what needs an allocation; data; and nothing at all.
    let mut check = header(1);
    check.extend([0, 6, 0, 4, b'a', b':', b'b', b'c']);
    check[3] = 8;
    for nonsense in
        [check, header(4), header(8), header(9), header(0x16), vec![0x40, 0, 0, 0], vec![], vec![0; 3]]
    {
        stranger.send_to(&nonsense, server.address()).await.unwrap();
    }
    // It lives, and answers what it should: this one, and none of those before.
    stranger.send_to(&header(3), server.address()).await.unwrap();
    let mut buffer = [0; 512];
    let (len, _) = bounded("an answer", stranger.recv_from(&mut buffer)).await.unwrap();
    assert_eq!(buffer[..2], [0x01, 0x13], "an error response to Allocate");
    assert!(len < 200, "{len}");
    assert!(stranger.try_recv_from(&mut buffer).is_err());
}

/// What STUN is for (RFC 8489), for everybody: so often, and not more bytes than it takes.
#[tokio::test]
async fn whoever_asks_is_told_under_which_address_it_is_seen_so_often_and_no_more() {
    let server = server(TurnLimits::default()).await;
    let stranger = UdpSocket::bind(loopback()).await.unwrap();
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    stranger.send_to(&request, server.address()).await.unwrap();
    let mut buffer = [0; 512];
    let (len, _) = bounded("an answer", stranger.recv_from(&mut buffer)).await.unwrap();
    assert_eq!((len, &buffer[..2]), (40, &[0x01, 0x01][..]), "20 bytes were asked");
    let SocketAddr::V4(own) = stranger.local_addr().unwrap() else { panic!("of IPv4") };
    let mut expected = vec![0, 0x20, 0, 8, 0, 1];
    expected.extend((own.port() ^ 0x2112).to_be_bytes());
    expected.extend((own.ip().to_bits() ^ 0x2112_a442).to_be_bytes());
    assert_eq!(buffer[20..32], expected);
    // A burst is 100, and what is asked beyond it takes nothing from those who come to be relayed.
    let mut answers = 0;
    for _ in 0..1000 {
        stranger.send_to(&request, server.address()).await.unwrap();
        // Both read in time, so that no more is lost than is refused.
        tokio::task::yield_now().await;
        answers += usize::from(stranger.try_recv_from(&mut buffer).is_ok());
    }
    let one = pass(&server, 1, 1);
    assert!(is_given(&server, one.username(), one.password()).await);
    while stranger.try_recv_from(&mut buffer).is_ok() {
        answers += 1;
    }
    assert!((1..500).contains(&answers), "{answers} of 1000");
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_the_start() {
    let start = |config: TurnConfig| async { TurnServer::start(config).await.map(drop) };
    let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
    assert_eq!(start(TurnConfig::new(any)).await, Err(TurnError::WhichAddress));
    let six = TurnConfig::new(any).public_address("2a00::1".parse().unwrap());
    assert_eq!(start(six).await, Err(TurnError::Family));
    let weak = TurnConfig::new(loopback()).shared_secret("short");
    assert_eq!(start(weak).await, Err(TurnError::WeakSecret));
    let taken = UdpSocket::bind(loopback()).await.unwrap();
    let there = start(TurnConfig::new(taken.local_addr().unwrap())).await;
    assert!(matches!(there, Err(TurnError::Listen { .. })), "{there:?}");
}
