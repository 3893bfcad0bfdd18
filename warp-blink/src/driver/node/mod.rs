//! Gossip over a real libp2p node, which rust-ipfs runs.
//!
//! [`BlinkBehaviour`] is the part that speaks: a gossipsub of our own, beside whatever else a node does. It sits in
//! the custom slot of an `IpfsBuilder`, of a node that this crate starts ([`NodeConfig::start`]) or of one that the
//! app runs ([`IpfsGossip::attach`]). Calls work between both kinds.
//!
//! ```no_run
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! use rust_ipfs::builder::IpfsBuilder;
//! use warp_blink::driver::node::{BlinkBehaviour, IpfsGossip};
//!
//! let (behaviour, link) = BlinkBehaviour::new();
//! let ipfs = IpfsBuilder::new().enable_tcp().with_custom_behaviour(move |_| Ok(behaviour)).start().await?;
//! let gossip = IpfsGossip::attach(ipfs.clone(), link).await?;
//! # Ok(()) }
//! ```
//!
//! # Beside an app's own gossipsub
//! The two do not mix: [`PROTOCOL`] is not the name under which gossipsub goes elsewhere, so each has its own stream,
//! its own peers and its own topics, and neither sees a message of the other.
//!
//! # Floods
//! What a connected peer sends passes a gate before gossipsub sees it (`gate.rs`): wrong shapes are held against the
//! peer that brought them and in the end silence it, everything else has a budget for each peer and topic. What arrives
//! waits for the reader in a queue that is bounded and fair by topic. So memory is bounded whatever arrives, and a
//! friend behind the same forwarder as a flooder still gets through, if he sends again.
//!
//! # What others learn
//! Messages are anonymous: no key, no signature and no counter of the sender is on them. A node that is connected sees
//! which topics this node subscribes to, and which connection a message came over.

mod address;
mod behaviour;
mod dial;
mod finding;
mod gate;
mod gossip;
mod link;
mod names;
mod own;
mod records;
mod relay_node;
mod renewal;
mod talk;
mod through;
mod tuning;

pub use self::{
    address::{AddressError, NodeAddress},
    behaviour::BlinkBehaviour,
    finding::{KADEMLIA, NodeFinding},
    gossip::{AttachError, IpfsGossip},
    link::NodeLink,
    own::{NodeConfig, NodeError},
    relay_node::{RelayConfig, RelayNode},
    through::RelayLimits,
    tuning::PROTOCOL,
};
