//! PeerConnections and tracks, keyed by whatever names a peer.
//!
//! [`Peers`] holds at most one live connection for each key. Descriptions and candidates come out of one ordered
//! stream ([`Events`]) and go in through [`Peers::accept`] and [`Peers::apply`]; how they travel is the caller's
//! business. A [`LocalTrack`] is written once and heard by every connection.
//!
//! ```no_run
//! use simple_webrtc::{Config, EventKind, Frame, Generation, LocalTrack, Peers};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let (peers, mut events) = Peers::<String>::new(Config::default())?;
//! let microphone = LocalTrack::audio();
//! peers.add_track(&microphone)?;
//! peers.dial("bob".to_owned(), Generation(1))?;
//! while let Some(event) = events.recv().await {
//!     match event.kind {
//!         EventKind::LocalDescription(description) => { /* send it to event.peer */ }
//!         EventKind::LocalCandidate(candidate) => { /* send it too */ }
//!         EventKind::RemoteTrack(mut track) => {
//!             tokio::spawn(async move { while let Some(packet) = track.recv().await { /* play it */ } });
//!         }
//!         EventKind::State(state) => println!("{state}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Rules
//! - A connection is never reused: each dial or accept of a peer carries a higher [`Generation`], closes the connection
//!   before it, and makes every event of the older one fall.
//! - Each connection ends with exactly one [`LinkState::Failed`] or [`LinkState::Closed`], sent once its sockets and
//!   tasks are gone; a superseded connection ends silently.
//! - A connection outlives a change of network: [`Peers::restart`] looks for another path, and [`EventKind::AddressChanged`]
//!   says when there is a reason to. When to restart is the caller's decision; offers and answers then travel as at the
//!   start, through [`Remote::Offer`] and [`Remote::Answer`], and may cross.
//! - The same goes for a video that is added or removed, and for servers that are replaced ([`Peers::set_ice_servers`]).
//! - Beside media, each connection carries [`Channel`]s: one for signaling from the start, others that either side opens.
//! - Lost sound is asked for and sent again where both sides know of that. How a call sounds at both ends, and what its
//!   encoder should know, is judged once a second, and what is urgent at once: [`EventKind::Quality`], [`EventKind::Advice`], [`Stats`].
//! - Every queue is bounded. Media queues drop their oldest entry and count it; a connection whose events nobody reads
//!   fails with [`FailReason::Overloaded`].
//! - Descriptions, candidates and addresses are in no log above trace and in no `Debug` of this crate. The engine below
//!   does log addresses, also as errors and through the `log` crate, under targets that begin with `webrtc` and `rtc`:
//!   an app that collects those should filter them (`webrtc=off,rtc=off`), or ask a [`LogLimit`] about each.

mod addresses;
mod advice;
mod cause;
mod certificate;
mod channel;
mod config;
mod congestion;
mod description;
mod engine;
mod error;
mod event;
mod faults;
mod link;
mod log_limit;
mod loss;
mod meter;
#[cfg(test)]
mod narrow_tests;
mod parking;
mod peers;
mod pool;
mod quality;
mod queue;
mod rate;
mod reception;
mod sink;
mod standing;
mod stats;
mod steps;
mod track;
mod trend;

pub use advice::Advice;
pub use certificate::{Certificates, Fingerprint};
pub use channel::{
    Channel, ChannelOptions, ChannelSender, MAX_CHANNEL_NAME_BYTES, MAX_MESSAGE_BYTES, Message, Reliability,
    SendError,
};
pub use config::{Config, ConfigBuilder, ConfigError, IceServer, MAX_ICE_SERVERS, Timeouts};
pub use description::{
    Candidate, CandidateError, CandidateKind, Description, DescriptionError, DescriptionKind,
    MAX_CANDIDATE_BYTES, MAX_DESCRIPTION_BYTES,
};
pub use error::{Error, FrameTooLarge};
pub use event::{Event, EventKind, Events, FailReason, Generation, LinkState, ServerProblem, Step};
#[doc(hidden)]
pub use faults::Faults;
pub use log_limit::{LogLimit, LogVerdict};
pub use peers::{Peers, Remote};
pub use quality::{Conditions, PoorSide, Quality, Rating};
pub use stats::{
    Family, PairState, PairStats, Protocol, Received, Repairs, Reported, Route, Security, Sent, Stats,
};
pub use track::{
    Frame, LocalTrack, MAX_PAYLOAD_BYTES, Packet, PayloadKind, RemoteTrack, TrackId, TrackKind, VideoCodec,
};
