//! Attacks on what tells lanes and suites apart.

use super::*;
use crate::{proto::signal::SUITE_HYBRID, wire::kem::CIPHERTEXT_LEN};

/// A door and a suite, and what a sender of message 1 chose for them.
struct Way {
    token: Option<ContactToken>,
    suite: u8,
    ciphertext: Vec<u8>,
    psk: [u8; 32],
}

fn token() -> ContactToken {
    ContactToken::from_bytes([0x70; 32])
}

/// All four, to Bob's own ML-KEM key and token.
fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for token in [None, Some(token())] {
        let (ciphertext, secret) = kem().public().encapsulate(&[0x71; 32]);
        ways.push(Way { token: token.clone(), suite: SUITE_CLASSICAL, ciphertext: vec![], psk: NO_PSK });
        ways.push(Way { token, suite: SUITE_HYBRID, ciphertext: ciphertext.to_vec(), psk: *secret });
    }
    ways
}

fn way(contacts: bool, suite: u8) -> Way {
    ways().into_iter().find(|way| way.token.is_some() == contacts && way.suite == suite).unwrap()
}

/// What people of both suites say.
fn modern() -> Hello {
    Hello { suites: vec![SUITE_HYBRID, SUITE_CLASSICAL], ..hello(alice().public()) }
}

impl Way {
    fn door(&self) -> Door<'_> {
        self.token.as_ref().map_or(Door::Strangers, Door::Contacts)
    }

    fn prologue(&self) -> [u8; 32] {
        noise::prologue(self.suite, &self.door().topic(&bob().public()), &self.ciphertext)
    }

    /// A sender of message 1, with any static key.
    fn initiator(&self, static_key: &Identity, callee: &PublicKey) -> snow::HandshakeState {
        let ephemeral = Ephemeral::default();
        ephemeral.give(&[8; 32]);
        let secret = static_key.x25519_secret();
        noise::initiator(&secret, &callee.to_x25519(), &self.prologue(), &self.psk, &ephemeral).unwrap()
    }

    /// The Noise message 1 of any static key, with any contents.
    fn noise(&self, static_key: &Identity, contents: &[u8]) -> Vec<u8> {
        let mut noise = vec![0; HELLO_NOISE];
        let padded = codec::pad(contents, &[HELLO_BUCKET], "").unwrap();
        let len = self.initiator(static_key, &bob().public()).write_message(&padded, &mut noise).unwrap();
        assert_eq!(len, HELLO_NOISE);
        noise
    }

    /// The honest Noise message 1.
    fn honest(&self) -> Vec<u8> {
        self.noise(&alice(), &codec::encode_hello(&modern(), &secrets()).unwrap())
    }

    /// What Bob makes of a frame with this ciphertext and Noise message, and the right MAC for the door where it
    /// arrives.
    fn open(&self, ciphertext: &[u8], noise: &[u8]) -> Result<Opened, OpenError> {
        let rest = [ciphertext, noise].concat();
        let header = [&[VERSION, FrameKind::Hello.byte(), self.suite][..], &[0; 8]].concat();
        let mac = self.door().mac(&bob().public(), &header, &rest);
        let frame = [&header[..], &mac, &rest].concat();
        Responder::open(&bob(), kem(), &self.door(), &frame)
    }

    /// Our own sender by this way.
    fn start(&self) -> Initiator {
        let (key, door) = (kem().public(), self.door());
        let key = (self.suite == SUITE_HYBRID).then_some((&key, [0x71; 32]));
        Initiator::start(&alice(), &bob().public(), &door, key, &modern(), &secrets(), [8; 32]).unwrap()
    }
}

#[test]
fn the_forgers_tools_make_what_we_make() {
    for way in ways() {
        let opened = way.open(&way.ciphertext, &way.honest()).unwrap();
        assert_eq!((opened.suite, opened.lane), (way.suite, way.door().lane()));
        let frame = way.start().frame([0; 8]);
        assert_eq!(frame[HELLO_HEADER..], [&way.ciphertext[..], &way.honest()].concat());
    }
}

/// A receiver that knows a message 1 by its name must not take another for it, which alone would not open.
#[test]
fn hostile_ciphertext_under_a_known_name() {
    let way = way(false, SUITE_HYBRID);
    let name = |rest: &[u8]| {
        let header = [&[VERSION, FrameKind::Hello.byte(), way.suite][..], &[0; 8]].concat();
        let mac = way.door().mac(&bob().public(), &header, rest);
        let frame = [&header[..], &mac, rest].concat();
        Responder::screen(&bob().public(), &way.door(), &frame).unwrap()
    };
    let good = [&way.ciphertext[..], &way.honest()].concat();
    assert_eq!(name(&good), way.start().id());
    for at in [0, CIPHERTEXT_LEN - 1, CIPHERTEXT_LEN, good.len() - 1] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert_ne!(name(&changed), name(&good), "byte {at}");
    }
    // Nor do the Noise bytes alone name it in the other suite.
    let noise = way.honest();
    let cut = [&[VERSION, FrameKind::Hello.byte(), SUITE_CLASSICAL][..], &[0; 8]].concat();
    let mac = way.door().mac(&bob().public(), &cut, &noise);
    let frame = [&cut[..], &mac, &noise].concat();
    assert_ne!(Responder::screen(&bob().public(), &way.door(), &frame), Ok(name(&good)));
}

#[test]
fn hostile_lanes_are_swapped() {
    for suite in [SUITE_CLASSICAL, SUITE_HYBRID] {
        for contacts in [false, true] {
            let (from, to) = (way(contacts, suite), way(!contacts, suite));
            // As it is: it does not even cost a Diffie-Hellman.
            let frame = from.start().frame([0; 8]);
            let seen = Responder::screen(&bob().public(), &to.door(), &frame);
            assert_eq!(seen, Err(OpenError::Mac));
            assert_eq!(Responder::open(&bob(), kem(), &to.door(), &frame).unwrap_err(), OpenError::Mac);
            // By somebody who can make the other door's MAC, which at the open inbox everybody can.
            assert_eq!(to.open(&from.ciphertext, &from.honest()).unwrap_err(), OpenError::Handshake);
        }
    }
}

#[test]
fn hostile_token_of_somebody_else_or_of_yesterday() {
    for suite in [SUITE_CLASSICAL, SUITE_HYBRID] {
        let now = way(true, suite);
        for other in [[0x6f; 32], [0; 32], *bob().public().as_bytes()].map(ContactToken::from_bytes) {
            let stranger = Way { token: Some(other), ..way(true, suite) };
            let frame = stranger.start().frame([0; 8]);
            assert_ne!(stranger.door().topic(&bob().public()), now.door().topic(&bob().public()));
            assert_eq!(Responder::screen(&bob().public(), &now.door(), &frame), Err(OpenError::Mac));
            // A contact who has the new token forwards what was sent under the old one.
            assert_eq!(now.open(&stranger.ciphertext, &stranger.honest()).unwrap_err(), OpenError::Handshake);
        }
    }
}

#[test]
fn hostile_sender_claims_another_key_by_each_way() {
    for way in ways() {
        let contents = codec::encode_hello(&modern(), &secrets()).unwrap();
        let noise = way.noise(&mallory(), &contents);
        assert_eq!(way.open(&way.ciphertext, &noise).unwrap_err(), OpenError::Impostor);
        let twin = Hello { from: twin(&alice().public()), ..modern() };
        let noise = way.noise(&mallory(), &codec::encode_hello(&twin, &secrets()).unwrap());
        assert_eq!(way.open(&way.ciphertext, &noise).unwrap_err(), OpenError::Impostor);
    }
}

#[test]
fn hostile_key_of_zero_by_each_way() {
    for way in ways() {
        let mut noise = way.honest();
        noise[..32].fill(0);
        assert_eq!(way.open(&way.ciphertext, &noise).unwrap_err(), OpenError::WeakKey);
    }
}

#[test]
fn hostile_offer_is_readdressed_by_each_way() {
    let (mallory, kem) = (mallory(), KemSecret::of(&mallory()));
    for way in ways() {
        // Mallory is called under the same token, and Alice encapsulated to a key of which Mallory has the secret.
        let (ciphertext, psk) = kem.public().encapsulate(&[0x71; 32]);
        let way = match way.suite {
            SUITE_HYBRID => Way { ciphertext: ciphertext.to_vec(), psk: *psk, ..way },
            _ => way,
        };
        let rest = [&way.ciphertext[..], &way.honest()].concat();
        let header = [&[VERSION, FrameKind::Hello.byte(), way.suite][..], &[0; 8]].concat();
        let mac = way.door().mac(&mallory.public(), &header, &rest);
        let frame = [&header[..], &mac, &rest].concat();
        let opened = Responder::open(&mallory, &kem, &way.door(), &frame);
        assert_eq!(opened.unwrap_err(), OpenError::Handshake);
    }
}

#[test]
fn hostile_reflection_to_the_author_by_each_way() {
    let (alice, kem) = (alice(), KemSecret::of(&alice()));
    for way in ways() {
        // At Alice's own door, be it under the same token.
        let frame = way.start().frame([0; 8]);
        let opened = Responder::open(&alice, &kem, &way.door(), &frame).unwrap_err();
        let mac = way.door().mac(&alice.public(), &frame[..11], &frame[HELLO_HEADER..]);
        let addressed = [&frame[..11], &mac, &frame[HELLO_HEADER..]].concat();
        let readdressed = Responder::open(&alice, &kem, &way.door(), &addressed).unwrap_err();
        // The MAC of a token says nothing of the callee: the handshake does.
        let first = if way.token.is_some() { OpenError::Handshake } else { OpenError::Mac };
        assert_eq!((opened, readdressed), (first, OpenError::Handshake));
    }
}

#[test]
fn hostile_change_anywhere_in_a_hybrid_message_1() {
    for contacts in [false, true] {
        let way = way(contacts, SUITE_HYBRID);
        let rest = [&way.ciphertext[..], &way.honest()].concat();
        for at in 0..rest.len() {
            let mut changed = rest.clone();
            changed[at] ^= 1 << (at % 8);
            let (ciphertext, noise) = changed.split_at(CIPHERTEXT_LEN);
            assert_eq!(way.open(ciphertext, noise).unwrap_err(), OpenError::Handshake, "byte {at}");
        }
    }
}

#[test]
fn hostile_suite_byte_is_flipped() {
    for contacts in [false, true] {
        let (classical, hybrid) = (way(contacts, SUITE_CLASSICAL), way(contacts, SUITE_HYBRID));
        for (from, to) in [(&classical, &hybrid), (&hybrid, &classical)] {
            // Alone, it gives a frame that no node takes.
            let mut frame = from.start().frame([0; 8]);
            frame[2] = to.suite;
            let seen = Responder::screen(&bob().public(), &to.door(), &frame);
            assert_eq!(seen, Err(OpenError::Frame(FrameError::Length)));
        }
        // With the ciphertext cut off, or one put there, and the MAC made anew.
        assert_eq!(classical.open(&[], &hybrid.honest()).unwrap_err(), OpenError::Handshake);
        let opened = hybrid.open(&hybrid.ciphertext, &classical.honest());
        assert_eq!(opened.unwrap_err(), OpenError::Handshake);
    }
}

#[test]
fn hostile_ciphertext_is_swapped() {
    let way = way(false, SUITE_HYBRID);
    let noise = way.honest();
    // For another valid one, made for Bob; for one made for somebody else; for one that nobody made.
    let (valid, secret) = kem().public().encapsulate(&[0x72; 32]);
    let (foreign, _) = KemSecret::of(&mallory()).public().encapsulate(&[0x71; 32]);
    for ciphertext in [&valid[..], &foreign[..], &[0; CIPHERTEXT_LEN], &[0xff; CIPHERTEXT_LEN]] {
        assert_eq!(way.open(ciphertext, &noise).unwrap_err(), OpenError::Handshake);
    }
    // The secret alone is not enough: the ciphertext itself is bound.
    let bound = Way { psk: *secret, ..way };
    assert_eq!(bound.open(&valid[..], &bound.honest()).unwrap_err(), OpenError::Handshake);
}

#[test]
fn hostile_ciphertext_that_bob_cannot_open_is_rejected_implicitly() {
    let (ciphertext, psk) = KemSecret::of(&mallory()).public().encapsulate(&[0x71; 32]);
    for psk in [*psk, NO_PSK, [0xff; 32]] {
        let way = Way { token: None, suite: SUITE_HYBRID, ciphertext: ciphertext.to_vec(), psk };
        assert_eq!(way.open(&way.ciphertext, &way.honest()).unwrap_err(), OpenError::Handshake);
    }
}

#[test]
fn hostile_hello_does_not_list_its_suite() {
    for way in ways() {
        let other = 3 - way.suite;
        for suites in [vec![], vec![other], vec![other, 0, 3, 255]] {
            let hello = Hello { suites, ..modern() };
            let noise = way.noise(&alice(), &codec::encode_hello(&hello, &secrets()).unwrap());
            assert_eq!(way.open(&way.ciphertext, &noise).unwrap_err(), OpenError::Downgrade);
        }
    }
}

#[test]
fn hostile_welcome_names_another_suite() {
    use Status::{Busy, Cancelled, Incompatible, Open};
    for way in ways() {
        let mut initiator = way.start();
        let mut answer_with = |suite, status| {
            let (welcome, secrets) = welcome();
            let welcome = Welcome { suite, status, ..welcome };
            let contents = codec::encode_welcome(&welcome, &secrets).unwrap();
            let ephemeral = Ephemeral::default();
            let secret = bob().x25519_secret();
            let mut state = noise::responder(&secret, &way.prologue(), &way.psk, &ephemeral).unwrap();
            state.read_message(&way.honest(), &mut vec![0; HELLO_NOISE]).unwrap();
            ephemeral.give(&[suite ^ status as u8; 32]);
            let mut noise = vec![0; WELCOME_NOISE];
            let padded = codec::pad(&contents, &[256], "").unwrap();
            assert_eq!(state.write_message(&padded, &mut noise), Ok(WELCOME_NOISE));
            let frame = answer(&initiator, &noise);
            initiator.finish(&frame).map(|(_, read, _)| assert_eq!(read, welcome))
        };
        for other in [0, 3 - way.suite, 3, 255] {
            for status in [Open, Busy, Cancelled] {
                assert_eq!(answer_with(other, status), Err(OpenError::Downgrade), "{status:?} {other}");
            }
        }
        // Who refuses names what it would rather have.
        for status in [Incompatible, Status::Version, Status::Suite] {
            assert_eq!(answer_with(3 - way.suite, status), Ok(()), "{status:?}");
        }
        assert_eq!(answer_with(way.suite, Open), Ok(()), "the lies before used nothing up");
    }
}

#[test]
fn we_do_not_lie_about_the_suite() {
    for way in ways() {
        let (key, suites) = (kem().public(), vec![3 - way.suite]);
        let key = (way.suite == SUITE_HYBRID).then_some((&key, [0x71; 32]));
        let hello = Hello { suites, ..modern() };
        let (to, door) = (bob().public(), way.door());
        let started = Initiator::start(&alice(), &to, &door, key, &hello, &secrets(), [8; 32]);
        assert_eq!(started.unwrap_err(), SealError::Suite { suite: way.suite });
        let opened = way.open(&way.ciphertext, &way.honest()).unwrap();
        let (welcome, secrets) = welcome();
        let welcome = Welcome { suite: 3 - way.suite, ..welcome };
        let answered = opened.respond(&welcome, &secrets, [9; 32]).map(drop);
        assert_eq!(answered, Err(SealError::Suite { suite: way.suite }));
    }
}
