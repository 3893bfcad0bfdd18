//! Tells of requests for keyframes, which the engine keeps to itself otherwise.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

use super::{Outbox, Signal};

/// Between two requests for one video. 250 ms: a keyframe takes about as long to make and to send, and a peer could ask for
/// each packet anew.
const INTERVAL: Duration = Duration::from_millis(250);

/// Looks at what comes in, and changes nothing.
pub(super) struct Keyframes {
    outbox: Outbox,
    /// What we send, and when it was last asked for.
    streams: Vec<(u32, Option<Instant>)>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Keyframes {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self { outbox, streams: Vec::new(), read: VecDeque::new(), write: VecDeque::new() }
    }

    fn wanted(&mut self, now: Instant, ssrc: u32) {
        let Some((_, last)) = self.streams.iter_mut().find(|(stream, _)| *stream == ssrc) else { return };
        if last.is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL) {
            *last = Some(now);
            self.outbox.put(Signal::KeyframeWanted { ssrc });
        }
    }
}

impl fmt::Debug for Keyframes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyframes(..)")
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Keyframes {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtcp(packets) = &message.message.packet {
            for packet in packets {
                let packet = packet.as_any();
                if let Some(request) = packet.downcast_ref::<PictureLossIndication>() {
                    self.wanted(message.now, request.media_ssrc);
                } else if let Some(request) = packet.downcast_ref::<FullIntraRequest>() {
                    for entry in &request.fir {
                        self.wanted(message.now, entry.ssrc);
                    }
                }
            }
        }
        self.read.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<Self::Rout> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Self::Error> {
        self.write.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<Self::Wout> {
        self.write.pop_front()
    }
}

impl Interceptor for Keyframes {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        self.unbind_local_stream(info);
        self.streams.push((info.ssrc, None));
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.streams.retain(|(ssrc, _)| *ssrc != info.ssrc);
    }

    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}
