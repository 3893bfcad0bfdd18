//! The name of a libp2p node.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Multihash code and length of an identity hash of a 36-byte protobuf, then that protobuf's type (Ed25519) and
/// length (libp2p peer-ids specification).
const ED25519_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The longest digest of an identity multihash that libp2p takes (libp2p peer-ids specification).
const MAX_IDENTITY_DIGEST: usize = 42;

/// The most bytes of a PeerId: two of header and such a digest; with sha2-256 it has 34.
const MAX: usize = 2 + MAX_IDENTITY_DIGEST;

/// Above this many characters a text is refused before any of it is decoded; 44 bytes make at most 61.
const MAX_TEXT: usize = 64;

/// The name of a libp2p node: the multihash that its PeerId is.
///
/// An identity and the node that speaks for it are different things; see [`PublicKey`](super::PublicKey). The order
/// is that of the bytes, shorter first among equal beginnings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NodeId {
    // Zero after `len`, so that the derived order and equality are those of the slices.
    bytes: [u8; MAX],
    len: u8,
}

impl NodeId {
    /// Takes the bytes of a PeerId: a sha2-256 multihash, or an identity multihash of at most 42 bytes.
    ///
    /// # Errors
    /// [`NodeIdError`] if libp2p would not take them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NodeIdError> {
        let (&[code, len], digest) = bytes.split_first_chunk().ok_or(NodeIdError)?;
        let fits = match code {
            0x12 => digest.len() == 32,
            0x00 => (1..=MAX_IDENTITY_DIGEST).contains(&digest.len()),
            _ => false,
        };
        if !fits || usize::from(len) != digest.len() {
            return Err(NodeIdError);
        }
        Ok(Self::copied(bytes))
    }

    /// The multihash: at most 44 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The node whose key is this Ed25519 key.
    pub(super) fn of_ed25519(key: &[u8; 32]) -> Self {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&ED25519_PREFIX);
        bytes[6..].copy_from_slice(key);
        Self::copied(&bytes)
    }

    /// The Ed25519 key inside, where the node has one.
    pub(super) fn ed25519(&self) -> Option<&[u8; 32]> {
        self.as_bytes().strip_prefix(&ED25519_PREFIX)?.try_into().ok()
    }

    /// `from` has at most [`MAX`] bytes: both callers know its length.
    fn copied(from: &[u8]) -> Self {
        let mut bytes = [0; MAX];
        let len = from.len().min(MAX);
        bytes[..len].copy_from_slice(&from[..len]);
        Self { bytes, len: u8::try_from(len).unwrap_or(0) }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.as_bytes()).into_string())
    }
}

impl fmt::Debug for NodeId {
    /// The last eight characters: those of all Ed25519 nodes begin alike.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        write!(f, "NodeId(..{})", &text[text.len().saturating_sub(8)..])
    }
}

/// Something that is no PeerId.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a libp2p PeerId: one looks like 12D3KooW... or Qm..., in base58")]
pub struct NodeIdError;

impl FromStr for NodeId {
    type Err = NodeIdError;
    fn from_str(s: &str) -> Result<Self, NodeIdError> {
        if s.len() > MAX_TEXT {
            return Err(NodeIdError);
        }
        Self::from_bytes(&bs58::decode(s).into_vec().map_err(|_| NodeIdError)?)
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for NodeId {
    type Error = NodeIdError;
    fn try_from(s: String) -> Result<Self, NodeIdError> {
        s.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    #[test]
    fn texts_of_both_kinds_survive_a_round_trip() {
        // A PeerId of each kind from the libp2p peer-ids specification.
        for text in [
            "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        ] {
            let id: NodeId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(NodeId::from_bytes(id.as_bytes()), Ok(id));
            assert_eq!(serde_json::from_str::<NodeId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        }
    }

    #[test]
    fn bytes_that_libp2p_refuses_are_refused() {
        let good = NodeId::from(Identity::from_seed([1; 32]).public());
        assert_eq!(good.as_bytes().len(), 38);
        for cut in 0..38 {
            assert_eq!(NodeId::from_bytes(&good.as_bytes()[..cut]), Err(NodeIdError), "{cut}");
        }
        assert_eq!(NodeId::from_bytes(&[good.as_bytes(), &[0]].concat()), Err(NodeIdError));
        assert_eq!(NodeId::from_bytes(&[&[0x13, 0x20][..], &[0; 32]].concat()), Err(NodeIdError));
        assert_eq!(NodeId::from_bytes(&[&[0x00, 43][..], &[0; 43]].concat()), Err(NodeIdError));
        assert_eq!(NodeId::from_bytes(&[0x00, 0x00]), Err(NodeIdError));
        assert_eq!(NodeId::from_bytes(&[&[0x00, 0x80][..], &[0; 128]].concat()), Err(NodeIdError));
        assert!("".parse::<NodeId>().is_err());
        assert!("1".repeat(1 << 20).parse::<NodeId>().is_err());
    }

    #[test]
    fn order_is_that_of_the_bytes() {
        let a = NodeId::from_bytes(&[0, 1, 5]).unwrap();
        let b = NodeId::from_bytes(&[0, 2, 0, 0]).unwrap();
        assert!(a < b && a.as_bytes() < b.as_bytes());
    }
}
