//! Calls by public key, with no server in the middle.
//!
#![cfg_attr(feature = "node", doc = "```no_run")]
#![cfg_attr(not(feature = "node"), doc = "```ignore")]
//! use warp_blink::{Audio, Blink, Event, Identity, PublicKey};
//!
//! # async fn example(identity: Identity, bob: PublicKey) -> Result<(), Box<dyn std::error::Error>> {
//! let blink = Blink::builder(identity).media(Audio::devices()).spawn().await?;
//! let mut events = blink.events();
//! blink.offer([bob]).await?;
//! while let Some(event) = events.next().await {
//!     match event {
//!         Event::Incoming { call, .. } => blink.answer(call).await?,
//!         Event::Ended { reason, .. } => {
//!             println!("{reason}");
//!             break;
//!         }
//!         _ => {}
//!     }
//! }
//! blink.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Signals travel encrypted over IPFS gossip topics, media over WebRTC straight between the peers, sound comes from and
//! goes to real devices. [`Blink`] is the handle; [`Event`] tells what happens, [`Snapshot`] what is.
//!
//! Features: `node` (default) brings the handle and everything with I/O; without it there are only the pure rooms
//! ([`proto`], [`wire`], [`reach`]). `devices` (default) brings microphones and speakers.

pub mod config;
pub mod error;
pub mod event;
pub mod id;
pub mod proto;
pub mod reach;
pub mod select;
pub mod stats;
pub mod time;
pub mod wire;

#[cfg(feature = "node")]
mod blink;
#[cfg(feature = "node")]
pub mod driver;
#[cfg(feature = "node")]
pub mod ports;

#[cfg(feature = "node")]
#[doc(hidden)]
pub use blink::Outside;
#[cfg(feature = "node")]
pub use blink::{Audio, Blink, Builder, Call, Caller, Events, Failed, Memory, Watch};
pub use config::{Admission, Config, PostQuantum, PreConnect, TurnFor, WhenBusy};
#[cfg(feature = "node")]
pub use driver::{
    node::{BlinkBehaviour, NodeError, NodeLink, RelayConfig, RelayLimits, RelayNode},
    store::{FileStore, MemoryStore},
    turn::{TurnConfig, TurnError, TurnServer},
};
/// Data channels beside a call's sound: see [`Blink::open_channel`].
#[cfg(feature = "node")]
pub mod channel {
    pub use simple_webrtc::{
        Channel, ChannelOptions, ChannelSender, MAX_CHANNEL_NAME_BYTES, MAX_MESSAGE_BYTES, Message,
        Reliability, SendError,
    };
}
pub use error::{Error, ImportError, Rejected};
pub use event::{EndReason, Event, Snapshot};
/// Sources, sinks, and measuring what was heard.
#[cfg(feature = "node")]
pub use host_media as audio;
pub use id::{CallId, Identity, NodeId, NodeKey, PublicKey};
pub use proto::{
    Other,
    signal::{AppData, MayInvite, MediaFormat},
};
#[cfg(feature = "node")]
#[doc(hidden)]
pub use simple_webrtc::Faults;
/// A STUN or TURN server: see [`Builder::ice_server`].
#[cfg(feature = "node")]
pub use simple_webrtc::IceServer;
