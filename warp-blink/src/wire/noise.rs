//! Noise_IKpsk0_25519_ChaChaPoly_SHA256 through `snow`, with one resolver of our own.
//!
//! The resolver brings what `snow` lacks: a Diffie-Hellman result of zero is refused (with the default resolver a
//! handshake with an all-zero key succeeds), secret keys and cipher keys are overwritten when dropped, and randomness
//! is injected, 32 bytes for one ephemeral key, once.
//!
//! What `snow` 0.10 itself does not overwrite, and we cannot reach: the chaining key and the handshake hash, its
//! copies of Diffie-Hellman and HKDF results on the stack, its copies of the psk (which in the hybrid suite is the
//! ML-KEM secret) and of public keys. Nor does `sha2` 0.10 overwrite the state of a hash. Somebody who can read this
//! process's freed memory may find keys of sessions there.

use std::sync::{Arc, Mutex};

use chacha20poly1305::{AeadInPlace, ChaCha20Poly1305, KeyInit};
use snow::{
    Builder, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{OpenError, Topic, frame::TAG_LEN, secret::labelled_hash};
use crate::proto::signal::VERSION;

const PATTERN: &str = "Noise_IKpsk0_25519_ChaChaPoly_SHA256";

/// The pre-shared key of [`SUITE_CLASSICAL`](crate::proto::signal::SUITE_CLASSICAL), which has none.
pub(super) const NO_PSK: [u8; 32] = [0; 32];

/// The ephemeral secret key of one side, given before the message that needs it and taken by it.
#[derive(Clone, Default)]
pub(super) struct Ephemeral(Arc<Mutex<Option<Zeroizing<[u8; 32]>>>>);

impl Ephemeral {
    /// Gives the 32 bytes of a cryptographic random source.
    pub(super) fn give(&self, bytes: &[u8; 32]) {
        // A poisoned lock leaves it empty, and the handshake then fails for want of randomness.
        if let Ok(mut slot) = self.0.lock() {
            *slot = Some(Zeroizing::new(*bytes));
        }
    }
}

impl Random for Ephemeral {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        let bytes = self.0.lock().ok().and_then(|mut slot| slot.take()).ok_or(snow::Error::Rng)?;
        if out.len() != bytes.len() {
            return Err(snow::Error::Rng);
        }
        out.copy_from_slice(bytes.as_ref());
        Ok(())
    }
}

/// What is hashed into the handshake before its first byte, so that a message re-addressed to another key, or told
/// to be of another version or suite, or to go with another ciphertext, does not verify. `ciphertext` is that of the
/// key encapsulation, and empty in the suite that has none.
pub(super) fn prologue(suite: u8, inbox: &Topic, ciphertext: &[u8]) -> [u8; 32] {
    let ciphertext = labelled_hash(b"warp-blink/1 encapsulation\0", &[ciphertext]);
    labelled_hash(b"warp-blink/1 handshake\0", &[&[VERSION, suite], inbox.as_bytes(), &ciphertext])
}

/// The caller's side, before message 1.
pub(super) fn initiator(
    secret: &[u8; 32],
    callee: &[u8; 32],
    prologue: &[u8; 32],
    psk: &[u8; 32],
    ephemeral: &Ephemeral,
) -> Result<HandshakeState, snow::Error> {
    builder(PATTERN, ephemeral)?
        .local_private_key(secret)?
        .remote_public_key(callee)?
        .prologue(prologue)?
        .psk(0, psk)?
        .build_initiator()
}

/// The callee's side, before message 1. `ephemeral` is needed for message 2 only.
pub(super) fn responder(
    secret: &[u8; 32],
    prologue: &[u8; 32],
    psk: &[u8; 32],
    ephemeral: &Ephemeral,
) -> Result<HandshakeState, snow::Error> {
    builder(PATTERN, ephemeral)?.local_private_key(secret)?.prologue(prologue)?.psk(0, psk)?.build_responder()
}

/// What a failure to read says of the message.
pub(super) fn open_error(error: snow::Error) -> OpenError {
    if error == snow::Error::Dh { OpenError::WeakKey } else { OpenError::Handshake }
}

fn builder<'a>(pattern: &str, ephemeral: &Ephemeral) -> Result<Builder<'a>, snow::Error> {
    Ok(Builder::with_resolver(pattern.parse()?, Box::new(Resolver { ephemeral: ephemeral.clone() })))
}

struct Resolver {
    ephemeral: Ephemeral,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(self.ephemeral.clone()))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519::new([0; 32]))),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        // SHA-256 of the same `sha2` as ours: there is nothing to add to it.
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(ChaChaPoly(Zeroizing::new([0; 32])))),
            CipherChoice::AESGCM => None,
        }
    }
}

/// X25519 (RFC 7748). `StaticSecret` overwrites itself when dropped or replaced.
struct X25519 {
    secret: StaticSecret,
    public: PublicKey,
}

impl X25519 {
    fn new(secret: [u8; 32]) -> Self {
        let secret = StaticSecret::from(secret);
        Self { public: PublicKey::from(&secret), secret }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        // `snow` hands on what our own callers gave it, which is 32 bytes; anything else becomes the key zero,
        // whose handshakes nobody can complete with us.
        *self = Self::new(secret.try_into().unwrap_or_default());
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        random.try_fill_bytes(secret.as_mut())?;
        *self = Self::new(*secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        // `snow` keeps public keys in longer arrays.
        let public: [u8; 32] = *public.first_chunk().ok_or(snow::Error::Dh)?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(public));
        if !shared.was_contributory() {
            return Err(snow::Error::Dh);
        }
        out.get_mut(..32).ok_or(snow::Error::Dh)?.copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

/// ChaCha20-Poly1305 (RFC 8439) with the nonce of the Noise specification, section 12.3.
struct ChaChaPoly(Zeroizing<[u8; 32]>);

impl ChaChaPoly {
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.0).into())
    }

    fn nonce(counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        nonce
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0.copy_from_slice(key);
    }

    fn encrypt(&self, nonce: u64, associated: &[u8], plain: &[u8], out: &mut [u8]) -> usize {
        let (text, rest) = out.split_at_mut(plain.len());
        text.copy_from_slice(plain);
        let tag = self
            .cipher()
            .encrypt_in_place_detached(&Self::nonce(nonce).into(), associated, text)
            .expect("a Noise message has at most 65,535 bytes, the cipher takes 256 GiB");
        rest[..TAG_LEN].copy_from_slice(&tag);
        plain.len() + TAG_LEN
    }

    fn decrypt(
        &self,
        nonce: u64,
        associated: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let (sealed, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(snow::Error::Decrypt)?;
        let text = out.get_mut(..sealed.len()).ok_or(snow::Error::Decrypt)?;
        text.copy_from_slice(sealed);
        self.cipher()
            .decrypt_in_place_detached(&Self::nonce(nonce).into(), associated, text, tag.into())
            .map_err(|_| snow::Error::Decrypt)?;
        Ok(text.len())
    }
}

#[cfg(test)]
mod tests {
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

    /// The vector for Noise_IKpsk1_25519_ChaChaPoly_SHA256 that the cacophony project publishes for implementations of
    /// Noise; it has none for psk0. It runs every primitive of our resolver, injected ephemerals included.
    #[test]
    fn the_resolver_makes_the_published_vector() {
        let psk = key("54686973206973206d7920417573747269616e20706572737065637469766521");
        let initiator_secret = key("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1");
        let responder_secret = key("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893");
        let responder_public = key("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62");
        let e1 = ephemeral(key("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a"));
        let e2 = ephemeral(key("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b"));
        let pattern = "Noise_IKpsk1_25519_ChaChaPoly_SHA256";
        let mut a = builder(pattern, &e1)
            .and_then(|b| b.local_private_key(&initiator_secret))
            .and_then(|b| b.remote_public_key(&responder_public))
            .and_then(|b| b.prologue(b"John Galt"))
            .and_then(|b| b.psk(1, &psk))
            .and_then(Builder::build_initiator)
            .unwrap();
        let mut b = builder(pattern, &e2)
            .and_then(|b| b.local_private_key(&responder_secret))
            .and_then(|b| b.prologue(b"John Galt"))
            .and_then(|b| b.psk(1, &psk))
            .and_then(Builder::build_responder)
            .unwrap();

        let (mut message, mut payload) = ([0; 512], [0; 512]);
        let n = a.write_message(b"Ludwig von Mises", &mut message).unwrap();
        assert_eq!(
            message[..n],
            hex(
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944ac58a6c31948ce200911c5b27b67f1c4d1be\
                 d490532dd94ed17164fcc5784d3730fc302b70cc0f19beedaeb56bd974c0e57d747d11534c746eb2a32ac3fde3e4cdf6c3a4\
                 705762a6c6ca664b3bc89490"
            )
        );
        b.read_message(&message[..n], &mut payload).unwrap();
        let n = b.write_message(b"Murray Rothbard", &mut message).unwrap();
        assert_eq!(
            message[..n],
            hex(
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843846a944a0652fb390d213d0700d5ae8fef7a\
                 ad0ecc79a9216d15de5d7f3ee4"
            )
        );
        a.read_message(&message[..n], &mut payload).unwrap();
        assert_eq!(
            a.get_handshake_hash(),
            hex("3ad252ed6f724c52da3450383b7d8b806c183e1ef157bbe0465ad24997ec4717")
        );
        let (a, b) = (a.into_stateless_transport_mode().unwrap(), b.into_stateless_transport_mode().unwrap());
        let n = a.write_message(0, b"F. A. Hayek", &mut message).unwrap();
        assert_eq!(message[..n], hex("5d872673f64813a47a00369b15c8da92691605ad71ba019de8e718"));
        let n = b.read_message(0, &message[..n], &mut payload).unwrap();
        assert_eq!(&payload[..n], b"F. A. Hayek");
        let n = b.write_message(0, b"Carl Menger", &mut message).unwrap();
        assert_eq!(message[..n], hex("2045266a750b6af2547f7eb1391058196b742d0aac4b3a1bcc1913"));
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
}
