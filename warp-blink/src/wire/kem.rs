//! ML-KEM-768 (FIPS 203) through the crate `ml-kem`: the second secret of a handshake in the hybrid suite, which a
//! quantum computer does not find.
//!
//! It protects what was recorded: whoever breaks X25519 later still cannot read it. Who somebody is still rests on
//! X25519 and Ed25519 alone. Opening a wrong ciphertext gives another secret and no error (implicit rejection), so
//! what was changed on its way ends where the handshake does not verify.
//!
//! Secrets that are ours are overwritten when dropped, and so is the key that `ml-kem` keeps. What `ml-kem` 0.3 does
//! not overwrite, and we cannot reach: its intermediate values on the stack (the message and the randomness of an
//! encapsulation, the noise of a key generation) and the state of its hashes.

use std::fmt;

use ml_kem::{
    B32, Ciphertext, Decapsulate, DecapsulationKey768, EncapsulationKey768, KeyExport, MlKem768, Seed,
};
use zeroize::{Zeroize, Zeroizing};

use super::secret::labelled_hash;
use crate::id::Identity;

/// The bytes of a [`KemKey`] (FIPS 203, table 3).
pub const KEM_KEY_LEN: usize = 1184;

/// The bytes of what is encapsulated to one (FIPS 203, table 3).
pub(super) const CIPHERTEXT_LEN: usize = 1088;

/// Both sides' secret.
pub(super) type SharedSecret = Zeroizing<[u8; 32]>;

/// Somebody's ML-KEM-768 key, to which callers encapsulate. It is public, but only a confirmed session or a signed
/// record says whose it is.
#[derive(Clone)]
pub struct KemKey {
    bytes: Box<[u8; KEM_KEY_LEN]>,
    key: EncapsulationKey768,
}

impl KemKey {
    /// Takes the bytes of an encapsulation key, checked as FIPS 203, section 7.2 demands: their number, and that every
    /// coefficient is below the modulus.
    ///
    /// # Errors
    /// [`KemKeyError`] if they are no encapsulation key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KemKeyError> {
        let bytes: Box<[u8; KEM_KEY_LEN]> =
            bytes.to_vec().into_boxed_slice().try_into().map_err(|_| KemKeyError)?;
        let key = EncapsulationKey768::new(&(*bytes).into()).map_err(|_| KemKeyError)?;
        Ok(Self { bytes, key })
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; KEM_KEY_LEN] {
        &self.bytes
    }

    /// Names the key in a few bytes: what a record says of it.
    pub fn hash(&self) -> KemHash {
        KemHash(labelled_hash(b"warp-blink/1 kem-hash\0", &[&*self.bytes]))
    }

    /// Makes a secret and its ciphertext. `entropy` is 32 bytes of a cryptographic random source, used for nothing
    /// else.
    pub(super) fn encapsulate(&self, entropy: &[u8; 32]) -> (Box<[u8; CIPHERTEXT_LEN]>, SharedSecret) {
        let mut message = B32::from(*entropy);
        let (ciphertext, secret) = self.key.encapsulate_deterministic(&message);
        message.as_mut_slice().zeroize();
        (Box::new(ciphertext.0), taken(secret))
    }
}

impl PartialEq for KemKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for KemKey {}

impl fmt::Debug for KemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = *self.bytes;
        write!(f, "KemKey({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// The hash of a [`KemKey`], by which somebody who is given one can tell that it is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KemHash(pub [u8; 32]);

/// Something that is no ML-KEM-768 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ML-KEM-768 key: it has {KEM_KEY_LEN} bytes, with every coefficient below 3329 (FIPS 203)")]
pub struct KemKeyError;

/// The secret half, which follows from an identity: a backup of one is a backup of both.
///
/// Making it costs as much as several Diffie-Hellman results: make it once and keep it. It is overwritten when dropped.
pub struct KemSecret {
    // Overwrites itself when dropped (feature `zeroize` of `ml-kem`), and lives in boxes (feature `alloc`).
    key: DecapsulationKey768,
}

impl KemSecret {
    /// The secret of this identity. The two seeds of FIPS 203, section 6.1, are hashes of the identity's own, each
    /// under a label: neither tells anything of it, nor of the other.
    pub fn of(identity: &Identity) -> Self {
        let seed = identity.expose_seed();
        let d = Zeroizing::new(labelled_hash(b"warp-blink/1 kem-d\0", &[seed]));
        let z = Zeroizing::new(labelled_hash(b"warp-blink/1 kem-z\0", &[seed]));
        Self::generate(&d, &z)
    }

    /// Key generation of FIPS 203, section 6.1.
    fn generate(d: &[u8; 32], z: &[u8; 32]) -> Self {
        let mut seed = Seed::default();
        seed[..32].copy_from_slice(d);
        seed[32..].copy_from_slice(z);
        let key = DecapsulationKey768::from_seed(seed);
        seed.as_mut_slice().zeroize();
        Self { key }
    }

    /// The public half, to be given to contacts.
    pub fn public(&self) -> KemKey {
        let key = self.key.encapsulation_key().clone();
        KemKey { bytes: Box::new(key.to_bytes().0), key }
    }

    /// The secret in a ciphertext, or another one if it was not made for this key.
    pub(super) fn decapsulate(&self, ciphertext: &[u8; CIPHERTEXT_LEN]) -> SharedSecret {
        taken(self.key.decapsulate(&Ciphertext::<MlKem768>::from(*ciphertext)))
    }
}

impl fmt::Debug for KemSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KemSecret(..)")
    }
}

fn taken(mut secret: B32) -> SharedSecret {
    let taken = Zeroizing::new(secret.0);
    secret.as_mut_slice().zeroize();
    taken
}

#[cfg(test)]
mod tests;
