//! The secret half of an identity, and the key of a node.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use zeroize::{Zeroize, Zeroizing};

use super::{Label, NodeId, PublicKey, Signature};

/// The secret that makes somebody reachable: the seed of an Ed25519 key (RFC 8032).
///
/// Whoever has it can call and answer in its owner's name. It is overwritten when the last copy is dropped, and
/// `Debug` shows the public half only.
#[derive(Clone)]
pub struct Identity {
    // Overwrites its secret when dropped (feature `zeroize` of ed25519-dalek).
    key: SigningKey,
    public: PublicKey,
}

impl Identity {
    /// A new identity. `entropy` is its seed: 32 bytes of a cryptographic random source, used for nothing else.
    pub fn generate(entropy: [u8; 32]) -> Self {
        Self::from_seed(entropy)
    }

    /// The identity of this seed (RFC 8032, section 5.1.5). The argument is overwritten; copies that the caller
    /// holds are the caller's to overwrite.
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&seed);
        seed.zeroize();
        let public = PublicKey::from_derived(key.verifying_key().to_bytes());
        Self { key, public }
    }

    /// What others call.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs `message` for one purpose. A signature for one label says nothing under another.
    pub fn sign(&self, label: Label, message: &[u8]) -> Signature {
        Signature::from_bytes(self.key.sign(&label.prefixed(message)).to_bytes())
    }

    /// The seed, to be stored. Handle it as the secret that it is.
    pub fn expose_seed(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The X25519 secret of the handshake: the lower half of SHA-512 of the seed, which X25519 clamps (the map of
    /// RFC 8032 and RFC 7748). Its public half is [`PublicKey::to_x25519`].
    pub(crate) fn x25519_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_scalar_bytes())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("public", &self.public).finish_non_exhaustive()
    }
}

/// The secret of a libp2p node: an Ed25519 seed of a type of its own.
///
/// By default a node uses the identity's key. An embedded node or a second device has another, since two libp2p
/// nodes with one PeerId cannot live side by side.
#[derive(Clone)]
pub struct NodeKey {
    seed: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl NodeKey {
    /// The node key of this seed: 32 bytes of a cryptographic random source.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        Self { seed, public }
    }

    /// The node's name.
    pub fn node_id(&self) -> NodeId {
        NodeId::of_ed25519(&self.public)
    }

    /// The seed, for the network stack that runs the node. Handle it as the secret that it is.
    pub fn expose_seed(&self) -> &[u8; 32] {
        &self.seed
    }
}

impl From<&Identity> for NodeKey {
    /// The identity's own key: the default.
    fn from(identity: &Identity) -> Self {
        Self::from_seed(*identity.expose_seed())
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("node_id", &self.node_id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_seed() {
        let (id, node) = (Identity::from_seed([0xab; 32]), NodeKey::from_seed([0xab; 32]));
        for text in [format!("{id:?}"), format!("{node:?}"), format!("{id:#?}")] {
            assert!(!text.contains("abab") && !text.contains("171"), "{text}");
        }
    }

    #[test]
    fn the_default_node_key_names_the_same_key_as_the_identity() {
        let id = Identity::from_seed([9; 32]);
        assert_eq!(NodeKey::from(&id).node_id(), NodeId::from(id.public()));
        assert_eq!(NodeKey::from(&id).expose_seed(), id.expose_seed());
    }
}
