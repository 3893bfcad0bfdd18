use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::error::FrameTooLarge;
use crate::queue::Queue;

/// The longest payload of one packet, in bytes. 1275: the longest Opus frame (RFC 6716 section 3.2.1), which with all
/// headers still fits into 1500.
pub const MAX_PAYLOAD_BYTES: usize = 1275;

/// Opus always uses this RTP clock (RFC 7587 section 4.1).
pub(crate) const AUDIO_CLOCK_RATE: u32 = 48_000;

/// Frames that may wait for one connection: 320 ms at 20 ms, beyond which late audio is of no use to the peer.
pub(crate) const OUT_QUEUE: usize = 16;

/// Pieces of pictures that may wait for one connection: two keyframes of 100 kB.
pub(crate) const VIDEO_QUEUE: usize = 160;

/// Videos that are sent at once. 4: cameras and screens of one machine.
pub(crate) const MAX_VIDEOS: usize = 4;

/// RFC 7741 section 4.1 and RFC 6184 section 5.1.
pub(crate) const VIDEO_CLOCK_RATE: u32 = 90_000;

/// Packets that may wait for the reader of a remote track: 2.5 s at 20 ms.
pub(crate) const IN_QUEUE: usize = 128;

/// The same of a video: 2.5 s at 2 Mbit/s.
pub(crate) const IN_VIDEO_QUEUE: usize = 512;

/// What a track carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TrackKind {
    /// Opus at 48 kHz.
    Audio,
    /// VP8 or H.264 at 90 kHz.
    Video,
}

/// How a video is encoded. Payloads pass through as they are: packets of RFC 7741, or of RFC 6184 in packetization mode 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VideoCodec {
    /// RFC 7741.
    Vp8,
    /// RFC 6184, constrained baseline profile.
    H264,
}

/// Names a track of a peer among those of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub(crate) u32);

impl fmt::Display for TrackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audio => f.write_str("audio"),
            Self::Video => f.write_str("video"),
        }
    }
}

/// One encoded frame of sound, or a piece of a picture: the payload of one RTP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The encoded frame, at most [`MAX_PAYLOAD_BYTES`].
    pub payload: Bytes,
    /// RTP timestamp in units of 1/48000 s, for video of 1/90000 s. Sent as it is, to every connection. It has to run on
    /// with the time also while nothing is written (muted, no camera): the receiver tells from it how long that was.
    pub timestamp: u32,
    /// Whether this is the first frame after silence (RFC 7587 section 4.2), or the last piece of a picture.
    pub marker: bool,
    /// Level in -dBov (0 is loudest, 127 silence; higher values count as 127) and whether there is voice, as in RFC
    /// 6464; sent if the peer takes it. Unlike the payload, it can be read by whoever sees the packet.
    pub audio_level: Option<(u8, bool)>,
}

/// What waits for one connection.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) frame: Frame,
    /// The same frame with earlier ones, ready to be sent (RFC 2198), for peers that take that.
    pub(crate) red: Option<Bytes>,
}

/// A source that is written once and heard by every connection. Clones are the same track.
#[derive(Clone)]
pub struct LocalTrack {
    inner: Arc<Inner>,
}

struct Inner {
    codec: Option<VideoCodec>,
    listeners: Mutex<Vec<(u64, Arc<Queue<Written>>)>>,
    next: AtomicU64,
}

impl LocalTrack {
    /// An audio track: Opus, 48 kHz clock, mono or stereo.
    pub fn audio() -> Self {
        Self::new(None)
    }

    /// A video track.
    pub fn video(codec: VideoCodec) -> Self {
        Self::new(Some(codec))
    }

    fn new(codec: Option<VideoCodec>) -> Self {
        let inner = Inner { codec, listeners: Mutex::new(Vec::new()), next: AtomicU64::new(0) };
        Self { inner: Arc::new(inner) }
    }

    /// What the track carries.
    pub fn kind(&self) -> TrackKind {
        match self.inner.codec {
            None => TrackKind::Audio,
            Some(_) => TrackKind::Video,
        }
    }

    /// How it is encoded, if it is a video.
    pub fn codec(&self) -> Option<VideoCodec> {
        self.inner.codec
    }

    /// Hands a frame to every connected connection, from any thread and without waiting.
    ///
    /// Each connection has a queue of its own: one that is slow loses its oldest frames (counted in
    /// [`Sent::dropped`](crate::Sent)) and delays no other. Connections that are not connected, or that
    /// [`set_sending`](crate::Peers::set_sending) has silenced, get nothing.
    ///
    /// # Errors
    /// [`FrameTooLarge`], and nothing is sent, if the payload is longer than [`MAX_PAYLOAD_BYTES`].
    pub fn write(&self, frame: Frame) -> Result<(), FrameTooLarge> {
        self.push(Written { frame, red: None })
    }

    /// The same for sound that is sent with redundancy (RED, RFC 2198) where that was negotiated
    /// ([`Stats::redundancy`](crate::Stats)), and as it is where it was not. `red` is a whole payload: the headers of all
    /// blocks, earlier frames, and this frame last, all of Opus with payload type 111, which is changed where a connection
    /// has another one.
    ///
    /// # Errors
    /// [`FrameTooLarge`], and nothing is sent, if either payload is longer than [`MAX_PAYLOAD_BYTES`].
    pub fn write_redundant(&self, frame: Frame, red: Bytes) -> Result<(), FrameTooLarge> {
        self.push(Written { frame, red: Some(red) })
    }

    /// Whether any connection that hears this track sends redundancy. If none does, there is no need to make any.
    pub fn wants_redundancy(&self) -> bool {
        self.listeners().iter().any(|(_, listener)| listener.is_redundant())
    }

    fn push(&self, written: Written) -> Result<(), FrameTooLarge> {
        let len = written.frame.payload.len().max(written.red.as_ref().map_or(0, Bytes::len));
        if len > MAX_PAYLOAD_BYTES {
            return Err(FrameTooLarge { len, max: MAX_PAYLOAD_BYTES });
        }
        for (_, listener) in self.listeners().iter() {
            listener.push(written.clone());
        }
        Ok(())
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Every frame goes into this queue, too, until the subscription is dropped.
    pub(crate) fn subscribe(&self, queue: Arc<Queue<Written>>) -> Subscription {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.listeners().push((id, queue));
        Subscription { track: self.clone(), id }
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<(u64, Arc<Queue<Written>>)>> {
        self.inner.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LocalTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTrack")
            .field("kind", &self.kind())
            .field("listeners", &self.listeners().len())
            .finish()
    }
}

#[derive(Debug)]
pub(crate) struct Subscription {
    track: LocalTrack,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.track.listeners().retain(|(id, _)| *id != self.id);
    }
}

/// What the payload of a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadKind {
    /// One frame of Opus.
    #[default]
    Opus,
    /// Redundant sound (RFC 2198): earlier frames and this one, behind the headers of all. Only where
    /// [`redundancy`](crate::ConfigBuilder::redundancy) is on.
    Red,
    /// A piece of a picture.
    Video,
}

/// A received RTP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packet {
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP timestamp in units of 1/48000 s, for video of 1/90000 s.
    pub timestamp: u32,
    /// Whether this is the first frame after silence, or the last piece of a picture.
    pub marker: bool,
    /// RTP payload type.
    pub payload_type: u8,
    /// RTP synchronisation source.
    pub ssrc: u32,
    /// What the payload is.
    pub kind: PayloadKind,
    /// The encoded frame.
    pub payload: Bytes,
    /// Level and voice flag as in [`Frame::audio_level`], if the peer sent it.
    pub audio_level: Option<(u8, bool)>,
    /// When it came out of the engine, on tokio's clock.
    pub arrival: Instant,
}

/// A track of a peer.
///
/// Packets come as the network delivers them: out of order, twice, or not at all. Dropping it discards what comes.
#[derive(Debug)]
pub struct RemoteTrack {
    pub(crate) id: TrackId,
    pub(crate) codec: Option<VideoCodec>,
    pub(crate) queue: Arc<Queue<Packet>>,
    pub(crate) keyframe: Arc<Notify>,
}

impl RemoteTrack {
    /// Names it among the tracks of its connection.
    pub fn id(&self) -> TrackId {
        self.id
    }

    /// What the track carries.
    pub fn kind(&self) -> TrackKind {
        match self.codec {
            None => TrackKind::Audio,
            Some(_) => TrackKind::Video,
        }
    }

    /// How it is encoded, if it is a video.
    pub fn codec(&self) -> Option<VideoCodec> {
        self.codec
    }

    /// Asks the peer for a picture that needs no other one (RFC 4585 section 6.3.1). For video only.
    pub fn request_keyframe(&self) {
        self.keyframe.notify_one();
    }

    /// The next packet; `None` once the peer has removed the track or the connection has ended. Cancel safe.
    ///
    /// Up to 128 packets (512 of a video) wait to be read; beyond that the oldest is dropped and counted.
    pub async fn recv(&mut self) -> Option<Packet> {
        self.queue.pop().await
    }

    /// How many packets were dropped because they were not read in time.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(timestamp: u32) -> Frame {
        Frame { payload: Bytes::from_static(b"opus"), timestamp, marker: false, audio_level: None }
    }

    #[tokio::test]
    async fn a_connection_that_does_not_read_delays_no_other() {
        let track = LocalTrack::audio();
        let (fast, stuck) = (Arc::new(Queue::new(OUT_QUEUE)), Arc::new(Queue::new(OUT_QUEUE)));
        let _fast = track.subscribe(fast.clone());
        let subscription = track.subscribe(stuck.clone());
        for n in 0..100 {
            track.clone().write(frame(n)).expect("fits");
            assert_eq!(fast.pop().await.expect("at once").frame.timestamp, n);
        }
        assert_eq!((fast.dropped(), stuck.dropped()), (0, 100 - OUT_QUEUE as u64));
        assert_eq!(stuck.pop().await.expect("the newest are kept").frame.timestamp, 100 - OUT_QUEUE as u32);

        drop(subscription);
        stuck.close();
        stuck.clear();
        track.write(frame(100)).expect("fits");
        assert!(stuck.pop().await.is_none(), "no frame after the subscription ended");
        assert_eq!(fast.pop().await.expect("still listening").frame.timestamp, 100);
    }

    #[tokio::test]
    async fn a_connection_that_is_sent_nothing_gets_no_frame_from_before_or_meanwhile() {
        let track = LocalTrack::audio();
        let (heard, held) = (Arc::new(Queue::new(OUT_QUEUE)), Arc::new(Queue::new(OUT_QUEUE)));
        let _heard = track.subscribe(heard.clone());
        let _held = track.subscribe(held.clone());
        let write = |numbers: std::ops::Range<u32>| {
            for n in numbers {
                track.write(frame(n)).expect("fits");
            }
        };
        write(0..3);
        held.set_taking(true);
        assert_eq!(held.pop().await.expect("on it was before: nothing is lost").frame.timestamp, 0);
        // 1 and 2 wait when it is switched off, the others come later: more than there is room for.
        held.set_taking(false);
        write(3..14);
        held.set_taking(false);
        write(14..16);
        for n in 0..16 {
            assert_eq!(heard.pop().await.expect("hears everything").frame.timestamp, n);
        }
        let reader = tokio::spawn({
            let held = held.clone();
            async move { [held.pop().await, held.pop().await].map(|written| written.map(|w| w.frame.timestamp)) }
        });
        tokio::task::yield_now().await;
        write(16..40);
        held.set_taking(true);
        write(40..42);
        assert_eq!(reader.await.expect("reader"), [Some(40), Some(41)]);
        assert_eq!(held.dropped(), 0, "it was not too slow for what it was not to send");
    }

    #[test]
    fn a_frame_that_needs_two_packets_is_refused() {
        let track = LocalTrack::audio();
        let queue = Arc::new(Queue::new(1));
        let _subscription = track.subscribe(queue.clone());
        let mut big = frame(0);
        big.payload = Bytes::from(vec![0; MAX_PAYLOAD_BYTES + 1]);
        assert_eq!(
            track.write(big),
            Err(FrameTooLarge { len: MAX_PAYLOAD_BYTES + 1, max: MAX_PAYLOAD_BYTES })
        );
        let mut fits = frame(0);
        fits.payload = Bytes::from(vec![0; MAX_PAYLOAD_BYTES]);
        assert_eq!(track.write(fits), Ok(()));
        queue.push(Written { frame: frame(1), red: None });
        assert_eq!(queue.dropped(), 1, "only the frame that fits was queued");
        let red = Bytes::from(vec![0; MAX_PAYLOAD_BYTES + 1]);
        let too_large = FrameTooLarge { len: MAX_PAYLOAD_BYTES + 1, max: MAX_PAYLOAD_BYTES };
        assert_eq!(track.write_redundant(frame(2), red), Err(too_large));
        assert_eq!(queue.dropped(), 1);
    }
}
