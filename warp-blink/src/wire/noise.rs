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

use std::sync::{Arc, Mutex, OnceLock};

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
    /// Made when it is asked for: `snow` makes two keys in each handshake only to replace them.
    public: OnceLock<PublicKey>,
}

impl X25519 {
    fn new(secret: [u8; 32]) -> Self {
        Self { secret: StaticSecret::from(secret), public: OnceLock::new() }
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
        self.public.get_or_init(|| PublicKey::from(&self.secret)).as_bytes()
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
mod tests;
