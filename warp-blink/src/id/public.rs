//! The public half of an identity.

use std::{fmt, str::FromStr};

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::traits::IsIdentity;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use super::NodeId;

/// The prefix of the text form: the did:key method with base58btc.
const DID_PREFIX: &str = "did:key:z";

/// The multicodec of an Ed25519 public key, as an unsigned varint (multicodec table, 0xed).
const MULTICODEC: [u8; 2] = [0xed, 0x01];

/// Above this many bytes a text is refused before any of it is decoded: the did:key form has 56, a PeerId 52.
const MAX_TEXT: usize = 64;

/// What people call: an Ed25519 public key (RFC 8032), always canonical, in the prime-order group and not its
/// neutral element.
///
/// Written `did:key:z6Mk...`; the PeerId of an Ed25519 libp2p key (`12D3KooW...`) is read too. The order is that of
/// the bytes.
///
/// A key and its mirror image (the same point with the other sign) have one X25519 form and one owner. They are two
/// identities here: an app that blocks somebody for good may compare [`PublicKey::to_x25519`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Takes the 32 bytes of RFC 8032.
    ///
    /// # Errors
    /// [`KeyError::NotAPoint`] if no point has these bytes, [`KeyError::NotCanonical`] if they are not the one
    /// encoding of their point, and [`KeyError::Torsion`] if the point is outside the prime-order group or its
    /// neutral element: with such keys two different texts would name one owner, or nobody.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let compressed = CompressedEdwardsY(bytes);
        let point = compressed.decompress().ok_or(KeyError::NotAPoint)?;
        if point.compress() != compressed {
            return Err(KeyError::NotCanonical);
        }
        if point.is_identity() || !point.is_torsion_free() {
            return Err(KeyError::Torsion);
        }
        Ok(Self(bytes))
    }

    /// For keys that this process derived from a secret, which are well formed by construction.
    pub(super) const fn from_derived(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of RFC 8032.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The X25519 form (RFC 7748): the standard birational map.
    pub fn to_x25519(&self) -> [u8; 32] {
        self.point().map_or([0; 32], |point| point.to_montgomery().to_bytes())
    }

    /// The PeerId text of a libp2p node that uses this key: `12D3KooW...`.
    pub fn to_peer_id_string(&self) -> String {
        NodeId::from(*self).to_string()
    }

    /// Checks a signature of [`Identity::sign`](super::Identity::sign) strictly (RFC 8032, canonical, without
    /// cofactor).
    ///
    /// # Errors
    /// [`SignatureError`] if it was not made by this key over this label and message.
    pub fn verify(&self, label: Label, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&label.prefixed(message), &signature).map_err(|_| SignatureError)
    }

    fn point(&self) -> Option<EdwardsPoint> {
        CompressedEdwardsY(self.0).decompress()
    }
}

impl<C> minicbor::Encode<C> for PublicKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for PublicKey {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?.try_into().map_err(|_| minicbor::decode::Error::message("not 32 bytes"))?;
        Self::from_bytes(bytes).map_err(|_| minicbor::decode::Error::message("not a public key"))
    }
}

impl From<PublicKey> for NodeId {
    fn from(key: PublicKey) -> Self {
        Self::of_ed25519(&key.0)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&MULTICODEC);
        bytes[2..].copy_from_slice(&self.0);
        write!(f, "{DID_PREFIX}{}", bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for PublicKey {
    /// Enough to tell keys apart in a log, not enough to call them: eight hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "PublicKey({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads `did:key:z6Mk...` or `12D3KooW...`, and nothing else: no blanks around it, no other multibase, no URL.
    fn from_str(s: &str) -> Result<Self, KeyError> {
        if s.len() > MAX_TEXT {
            return Err(KeyError::Text);
        }
        let key = if let Some(base58) = s.strip_prefix(DID_PREFIX) {
            let bytes = bs58::decode(base58).into_vec().map_err(|_| KeyError::Text)?;
            let key = bytes.strip_prefix(&MULTICODEC).ok_or(KeyError::NotEd25519)?;
            Self::from_bytes(key.try_into().map_err(|_| KeyError::Text)?)?
        } else {
            let node: NodeId = s.parse().map_err(|_| KeyError::Text)?;
            Self::from_bytes(*node.ed25519().ok_or(KeyError::NotEd25519)?)?
        };
        Ok(key)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;
    fn try_from(s: String) -> Result<Self, KeyError> {
        s.parse()
    }
}

/// Why something is no key to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is neither of the two forms.
    #[error(
        "not a key: one looks like did:key:z6Mk... (56 characters) or like the PeerId 12D3KooW... (52 characters)"
    )]
    Text,
    /// The text names a key of another kind.
    #[error("a key of another kind: only Ed25519 keys can be called (did:key:z6Mk... or 12D3KooW...)")]
    NotEd25519,
    /// No point of the curve has these bytes.
    #[error("not an Ed25519 key: its bytes are no point of the curve; check that it was copied whole")]
    NotAPoint,
    /// The bytes are not the one encoding of their point.
    #[error("not an Ed25519 key that is safe to call: its encoding is not the canonical one (RFC 8032)")]
    NotCanonical,
    /// The point is outside the prime-order group.
    #[error(
        "not an Ed25519 key that is safe to call: it has a small-order part, which no honest software makes"
    )]
    Torsion,
}

/// What a signature is for. Each purpose has its own prefix, so that a signature made for one is void for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Label {
    /// A message to all participants, under the call key.
    CallMessage,
    /// How a call came to be.
    Create,
    /// A word about somebody's place in a call.
    Record,
    /// Where somebody is reached: which nodes, at which addresses.
    NodeRecord,
}

impl Label {
    /// Every label, for tests of uniqueness.
    #[cfg(test)]
    const ALL: [Self; 4] = [Self::CallMessage, Self::Create, Self::Record, Self::NodeRecord];

    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::CallMessage => b"warp-blink/1 call-message\0",
            Self::Create => b"warp-blink/1 create\0",
            Self::Record => b"warp-blink/1 record\0",
            Self::NodeRecord => b"warp-blink/1 node-record\0",
        }
    }

    /// What is signed: the label, then the message.
    pub(super) fn prefixed(self, message: &[u8]) -> Vec<u8> {
        [self.prefix(), message].concat()
    }
}

/// An Ed25519 signature: the 64 bytes of RFC 8032.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// A signature of these bytes, which [`PublicKey::verify`] judges.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

/// A signature that the key did not make over this label and message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not this key's over this message: drop the message")]
pub struct SignatureError;

#[cfg(test)]
mod tests {
    use curve25519_dalek::{constants::EIGHT_TORSION, edwards::CompressedEdwardsY, traits::Identity as _};

    use super::*;
    use crate::id::Identity;

    /// RFC 8032, section 7.1, test 1.
    const RFC8032_SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const RFC8032_PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn hex(s: &str) -> [u8; 32] {
        let bytes: Vec<u8> =
            (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect();
        bytes.try_into().unwrap()
    }

    fn key(n: u8) -> PublicKey {
        Identity::from_seed([n; 32]).public()
    }

    #[test]
    fn the_key_is_that_of_rfc_8032() {
        assert_eq!(Identity::from_seed(hex(RFC8032_SEED)).public().as_bytes(), &hex(RFC8032_PUBLIC));
    }

    #[test]
    fn both_texts_name_the_same_key() {
        // The example key of the did:key specification, and the PeerId text that libp2p makes of the same bytes.
        let key: PublicKey = "did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH".parse().unwrap();
        assert_eq!(key.to_string(), "did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH");
        let peer_id = key.to_peer_id_string();
        assert!(peer_id.starts_with("12D3KooW") && peer_id.len() == 52, "{peer_id}");
        assert_eq!(peer_id.parse::<PublicKey>(), Ok(key));
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{key}\""));
        assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), key);
    }

    #[test]
    fn the_x25519_form_is_the_one_whose_secret_the_identity_has() {
        let id = Identity::from_seed([7; 32]);
        let secret = x25519_dalek::StaticSecret::from(*id.x25519_secret());
        assert_eq!(x25519_dalek::PublicKey::from(&secret).to_bytes(), id.public().to_x25519());
    }

    #[test]
    fn other_texts_are_refused() {
        let good = key(1).to_string();
        for bad in [
            "",
            "did:key:",
            "did:key:z",
            "z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH",
            &format!(" {good}"),
            &format!("{good} "),
            &format!("{good}1"),
            &good[..good.len() - 1],
            &good.to_uppercase(),
            &format!("{good}#key-1"),
            &good.replacen("did:key:z", "did:key:m", 1),
            // A secp256k1 did:key and a sha2-256 PeerId: well formed, of another kind.
            "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
            &"1".repeat(100_000),
        ] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad:.80}");
        }
        assert_eq!(
            "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme".parse::<PublicKey>(),
            Err(KeyError::NotEd25519)
        );
    }

    #[test]
    fn hostile_small_order_parts_are_refused() {
        let honest = key(3);
        let point = CompressedEdwardsY(*honest.as_bytes()).decompress().unwrap();
        for torsion in EIGHT_TORSION {
            assert_eq!(PublicKey::from_bytes(torsion.compress().0), Err(KeyError::Torsion));
            let mixed = (point + torsion).compress().0;
            let expected =
                if torsion == EdwardsPoint::identity() { Ok(honest) } else { Err(KeyError::Torsion) };
            assert_eq!(PublicKey::from_bytes(mixed), expected);
        }
    }

    #[test]
    fn hostile_second_encodings_are_refused() {
        // y = p + 1 is y = 1, the neutral element, written a second way; and "minus zero" in x.
        let mut high = [0xff; 32];
        high[0] = 0xee;
        high[31] = 0x7f;
        assert_eq!(PublicKey::from_bytes(high), Err(KeyError::NotCanonical));
        let mut minus = [0; 32];
        minus[0] = 1;
        minus[31] = 0x80;
        assert_eq!(PublicKey::from_bytes(minus), Err(KeyError::NotCanonical));
    }

    #[test]
    fn bytes_without_a_point_are_refused() {
        let refused =
            (0..=255u8).filter(|n| PublicKey::from_bytes([*n; 32]) == Err(KeyError::NotAPoint)).count();
        assert!(refused > 64, "about half of all strings are no point, not {refused} of 256");
    }

    #[test]
    fn hostile_signatures_are_refused() {
        let (id, other) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let signature = id.sign(Label::CallMessage, b"hello");
        assert_eq!(id.public().verify(Label::CallMessage, b"hello", &signature), Ok(()));
        assert_eq!(id.public().verify(Label::CallMessage, b"hellp", &signature), Err(SignatureError));
        assert_eq!(other.public().verify(Label::CallMessage, b"hello", &signature), Err(SignatureError));
        for bit in 0..512 {
            let mut bytes = *signature.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let forged = Signature::from_bytes(bytes);
            assert_eq!(id.public().verify(Label::CallMessage, b"hello", &forged), Err(SignatureError));
        }
    }

    #[test]
    fn labels_are_unique_and_none_is_the_start_of_another() {
        for a in Label::ALL {
            assert!(a.prefix().starts_with(b"warp-blink/1 ") && a.prefix().ends_with(b"\0"));
            assert_eq!(Label::ALL.iter().filter(|b| b.prefix().starts_with(a.prefix())).count(), 1);
        }
    }

    #[test]
    fn hostile_signatures_made_for_something_else() {
        let id = Identity::from_seed([1; 32]);
        for label in Label::ALL {
            let signature = id.sign(label, b"the same text");
            for other in Label::ALL {
                let verified = id.public().verify(other, b"the same text", &signature);
                assert_eq!(verified.is_ok(), label == other, "{label:?} as {other:?}");
            }
            // The purpose is part of what is signed: as text under another label it is another text.
            let whole = label.prefixed(b"the same text");
            for other in Label::ALL {
                assert_eq!(id.public().verify(other, &whole, &signature), Err(SignatureError));
            }
        }
    }

    #[test]
    fn debug_shows_eight_digits() {
        assert_eq!(format!("{:?}", Identity::from_seed(hex(RFC8032_SEED)).public()), "PublicKey(d75a9801..)");
    }
}
