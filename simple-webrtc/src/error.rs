use crate::event::Generation;
use crate::track::TrackKind;

/// Why a command to [`Peers`](crate::Peers) was refused. Nothing has changed when one is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A connection with this generation or a later one exists for the peer.
    #[error("the peer already has a connection of generation {have}: dial or accept with a higher one")]
    StaleGeneration {
        /// The generation of the connection that exists.
        have: Generation,
    },
    /// No connection of this generation: it was never made, has ended, or was replaced.
    #[error(
        "the peer has no connection of that generation: dial or accept first, or drop the message as stale"
    )]
    NoLink,
    /// An offer is wanted here.
    #[error(
        "this description is an answer: `accept` and `Remote::Offer` take the peer's offer, `Remote::Answer` its answer"
    )]
    NotAnOffer,
    /// `Remote::Answer` with an offer in it, or for a connection that made no offer.
    #[error("no answer is expected here: this connection made no offer, or the description is an offer")]
    UnexpectedDescription,
    /// The connection has not yet worked off what was applied before.
    #[error("the connection has too many unprocessed messages: apply this one again later")]
    Busy,
    /// The configured number of connections exists (those still closing count).
    #[error("{limit} connections exist, which is the configured limit: hang one up or raise `max_links`")]
    TooManyLinks {
        /// The configured limit.
        limit: usize,
    },
    /// Another track of this kind is already sent.
    #[error("another {kind} track is already being sent: remove it first")]
    TrackKindTaken {
        /// The kind that is taken.
        kind: TrackKind,
    },
    /// As many videos are sent as may be.
    #[error("{limit} videos are being sent already: remove one first")]
    TooManyVideos {
        /// How many may be.
        limit: usize,
    },
    /// A channel's name is empty, or longer than [`MAX_CHANNEL_NAME_BYTES`](crate::MAX_CHANNEL_NAME_BYTES).
    #[error("a channel's name must have 1 to {} bytes, not {len}", crate::MAX_CHANNEL_NAME_BYTES)]
    ChannelName {
        /// Bytes in the name.
        len: usize,
    },
    /// `shutdown` was called.
    #[error("this `Peers` was shut down: make a new one")]
    ShutDown,
    /// There is no tokio runtime to run connections on.
    #[error("no tokio runtime: call this from within one, with its time and I/O drivers enabled")]
    NoRuntime,
}

/// A frame that does not fit into one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a frame of {len} bytes does not fit into one packet: at most {max}; lower the encoder's bitrate or frame length"
)]
pub struct FrameTooLarge {
    /// Bytes in the frame.
    pub len: usize,
    /// Bytes that fit.
    pub max: usize,
}
