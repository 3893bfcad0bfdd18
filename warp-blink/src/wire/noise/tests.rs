use std::collections::BTreeMap;

use snow::resolvers::FallbackResolver;

use super::*;

fn hex(s: &str) -> Vec<u8> {
    (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect()
}

fn key(s: &str) -> [u8; 32] {
    hex(s).try_into().unwrap()
}

fn ephemeral(bytes: [u8; 32]) -> Ephemeral {
    let ephemeral = Ephemeral::default();
    ephemeral.give(&bytes);
    ephemeral
}

/// One published vector.
#[derive(Default)]
struct Vector {
    pattern: &'static str,
    keys: BTreeMap<&'static str, Vec<u8>>,
    psks: Vec<[u8; 32]>,
    messages: Vec<(Vec<u8>, Vec<u8>)>,
}

fn published() -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for line in include_str!("../../../tests/golden/noise.txt").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match (words[..].split_first(), vectors.last_mut()) {
            (Some((&"vector", [pattern, _])), _) => {
                vectors.push(Vector { pattern, ..Vector::default() });
            }
            (Some((&"psk", [psk])), Some(vector)) => vector.psks.push(key(psk)),
            (Some((&"message", [plain, sealed])), Some(vector)) => {
                vector.messages.push((hex(plain), hex(sealed)));
            }
            (Some((name, [value])), Some(vector)) => drop(vector.keys.insert(name, hex(value))),
            _ => assert!(line.is_empty() || line.starts_with('#'), "{line}"),
        }
    }
    vectors
}

impl Vector {
    fn key(&self, name: &str) -> Option<[u8; 32]> {
        self.keys.get(name).map(|key| key[..].try_into().unwrap())
    }

    /// One side of the handshake, named as in the file.
    fn side(&self, side: &str) -> HandshakeState {
        let ephemeral = self.key(&format!("{side}_ephemeral")).map(ephemeral).unwrap_or_default();
        let (secret, remote) =
            (self.key(&format!("{side}_static")), self.key(&format!("{side}_remote_static")));
        let mut builder =
            builder(self.pattern, &ephemeral).unwrap().prologue(&self.keys["prologue"]).unwrap();
        if let Some(secret) = &secret {
            builder = builder.local_private_key(secret).unwrap();
        }
        if let Some(remote) = &remote {
            builder = builder.remote_public_key(remote).unwrap();
        }
        let places = self.pattern.match_indices("psk").map(|(at, _)| {
            u8::try_from(self.pattern[at + 3..].chars().next().unwrap().to_digit(10).unwrap()).unwrap()
        });
        for (place, psk) in places.zip(&self.psks) {
            builder = builder.psk(place, psk).unwrap();
        }
        if side == "init" { builder.build_initiator() } else { builder.build_responder() }.unwrap()
    }
}

/// Seven vectors that the authors of other implementations publish. They run every primitive of our resolver, injected
/// ephemerals included, psk0 in IK, and the pattern without psk.
#[test]
fn the_resolver_makes_the_published_vectors() {
    let vectors = published();
    assert_eq!(vectors.len(), 7);
    for vector in vectors {
        let pattern = vector.pattern;
        let (mut a, mut b) = (vector.side("init"), vector.side("resp"));
        let (mut message, mut payload) = ([0; 512], [0; 512]);
        let (handshake, transport) = vector.messages.split_at(2);
        for (at, (plain, sealed)) in handshake.iter().enumerate() {
            let (from, to) = if at == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
            let n = from.write_message(plain, &mut message).unwrap();
            assert_eq!(message[..n], sealed[..], "{pattern} message {at}");
            let n = to.read_message(&message[..n], &mut payload).unwrap();
            assert_eq!(payload[..n], plain[..], "{pattern} message {at}");
        }
        assert!(a.is_handshake_finished() && b.is_handshake_finished(), "{pattern}");
        for state in [&a, &b] {
            if let Some(hash) = vector.keys.get("handshake_hash") {
                assert_eq!(state.get_handshake_hash(), hash, "{pattern}");
            }
        }
        let (a, b) = (a.into_stateless_transport_mode().unwrap(), b.into_stateless_transport_mode().unwrap());
        assert!(transport.len() >= 2, "{pattern}");
        for (at, (plain, sealed)) in transport.iter().enumerate() {
            let (from, to) = if at % 2 == 0 { (&a, &b) } else { (&b, &a) };
            let nonce = at as u64 / 2;
            let n = from.write_message(nonce, plain, &mut message).unwrap();
            assert_eq!(message[..n], sealed[..], "{pattern} transport {at}");
            let n = to.read_message(nonce, &message[..n], &mut payload).unwrap();
            assert_eq!(payload[..n], plain[..], "{pattern} transport {at}");
        }
    }
}

/// Our pattern, against the resolver of `snow`, with one ephemeral fixed by `snow` and the same one injected.
#[test]
fn the_resolver_agrees_with_the_one_of_snow() {
    let (secret, callee) = (key(&"11".repeat(32)), StaticSecret::from([0x22; 32]));
    let callee_public = PublicKey::from(&callee).to_bytes();
    let (prologue, psk) = ([7; 32], [8; 32]);
    let mut ours = initiator(&secret, &callee_public, &prologue, &psk, &ephemeral([0x33; 32])).unwrap();
    // The default resolver has no random source without its feature; with a fixed ephemeral none is used.
    let theirs = FallbackResolver::new(
        Box::new(DefaultResolver),
        Box::new(Resolver { ephemeral: Ephemeral::default() }),
    );
    let mut theirs = Builder::with_resolver(PATTERN.parse().unwrap(), Box::new(theirs))
        .local_private_key(&secret)
        .and_then(|b| b.remote_public_key(&callee_public))
        .and_then(|b| b.prologue(&prologue))
        .and_then(|b| b.psk(0, &psk))
        .map(|b| b.fixed_ephemeral_key_for_testing_only(&[0x33; 32]))
        .and_then(Builder::build_initiator)
        .unwrap();
    let (mut a, mut b) = ([0; 256], [0; 256]);
    assert_eq!(ours.write_message(b"payload", &mut a), theirs.write_message(b"payload", &mut b));
    assert_eq!(a, b);
    assert_eq!(ours.get_handshake_hash(), theirs.get_handshake_hash());

    let mut answer = responder(callee.as_bytes(), &prologue, &psk, &ephemeral([0x44; 32])).unwrap();
    let mut payload = [0; 256];
    let n = answer.read_message(&a[..32 + 48 + 7 + 16], &mut payload).unwrap();
    assert_eq!(&payload[..n], b"payload");
    let n = answer.write_message(b"answer", &mut a).unwrap();
    assert_eq!(ours.read_message(&a[..n], &mut payload), Ok(6));
    assert_eq!(theirs.read_message(&a[..n], &mut payload), Ok(6));
    assert_eq!(ours.get_handshake_hash(), theirs.get_handshake_hash());
}

#[test]
fn hostile_keys_of_small_order_are_refused() {
    // All encodings of points of small order on the curve and its twist (RFC 7748, section 6.1, asks to check
    // for the zero that each of them yields).
    let low = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for public in low.map(key) {
        let dh = X25519::new([9; 32]);
        assert_eq!(dh.dh(&public, &mut [0; 56]), Err(snow::Error::Dh));
        let mut caller = initiator(&[1; 32], &public, &[0; 32], &NO_PSK, &ephemeral([2; 32])).unwrap();
        assert_eq!(caller.write_message(b"", &mut [0; 256]), Err(snow::Error::Dh));
    }
}

/// What the resolver gives to `snow` is overwritten when `snow` drops it.
#[test]
fn keys_are_overwritten_when_dropped() {
    const fn wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
    let X25519 { secret, public: _ } = X25519::new([1; 32]);
    let ChaChaPoly(key) = ChaChaPoly(Zeroizing::new([2; 32]));
    let Ephemeral(slot) = ephemeral([3; 32]);
    // It has what the marker promises (`zeroize(drop)`) but not the marker: without its feature it drops nothing.
    const fn wipes<T: zeroize::Zeroize>(_: &T) -> bool {
        std::mem::needs_drop::<T>()
    }
    assert!(wipes(&secret));
    wiped(&key);
    wiped(slot.lock().unwrap().as_ref().unwrap());
}

#[test]
fn an_ephemeral_key_is_taken_once() {
    let mut source = ephemeral([5; 32]);
    let mut out = [0; 32];
    assert_eq!(source.try_fill_bytes(&mut out), Ok(()));
    assert_eq!(out, [5; 32]);
    assert_eq!(source.try_fill_bytes(&mut out), Err(snow::Error::Rng));
}

#[test]
fn the_prologue_binds_suite_inbox_and_ciphertext() {
    let inboxes = [1, 2].map(|n| Topic::inbox(&crate::id::Identity::from_seed([n; 32]).public()));
    let base = prologue(1, &inboxes[0], b"");
    assert_ne!(base, prologue(2, &inboxes[0], b""));
    assert_ne!(base, prologue(1, &inboxes[1], b""));
    assert_ne!(base, prologue(1, &inboxes[0], b"\0"));
}
