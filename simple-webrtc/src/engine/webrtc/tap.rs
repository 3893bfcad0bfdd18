//! What every interceptor of ours needs, so that each says only what is its own.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use rtc::interceptor::{Interceptor, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

/// Looks at the packets of a connection, and may change, drop or add some.
pub(super) trait Look: Send + Sync {
    /// A packet of the peer, on its way to the application. Whether it goes on.
    fn incoming(&mut self, _packet: &mut TaggedPacket) -> bool {
        true
    }

    /// A packet on its way to the peer. Whether it goes on.
    fn outgoing(&mut self, _packet: &mut TaggedPacket) -> bool {
        true
    }

    /// When `timeout` has something to do.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// What goes to the peer, if anything is due.
    fn timeout(&mut self, _now: Instant) -> Option<TaggedPacket> {
        None
    }

    fn sends(&mut self, _info: &StreamInfo) {}
    fn sends_no_more(&mut self, _info: &StreamInfo) {}
    fn receives(&mut self, _info: &StreamInfo) {}
    fn receives_no_more(&mut self, _info: &StreamInfo) {}
}

pub(super) fn is_audio(info: &StreamInfo) -> bool {
    info.mime_type.to_ascii_lowercase().starts_with("audio/")
}

pub(super) struct Tap<L> {
    look: L,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl<L: Look> Tap<L> {
    pub(super) fn new(look: L) -> Self {
        Self { look, read: VecDeque::new(), write: VecDeque::new() }
    }
}

impl<L> fmt::Debug for Tap<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap(..)")
    }
}

impl<L: Look> Protocol<TaggedPacket, TaggedPacket, ()> for Tap<L> {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut packet: TaggedPacket) -> Result<(), Error> {
        if self.look.incoming(&mut packet) {
            self.read.push_back(packet);
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, mut packet: TaggedPacket) -> Result<(), Error> {
        if self.look.outgoing(&mut packet) {
            self.write.push_back(packet);
        }
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.look.deadline().is_some_and(|deadline| now >= deadline)
            && let Some(packet) = self.look.timeout(now)
        {
            self.write.push_back(packet);
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.look.deadline()
    }
}

impl<L: Look> Interceptor for Tap<L> {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        self.look.sends(info);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.look.sends_no_more(info);
    }

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        self.look.receives(info);
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.look.receives_no_more(info);
    }
}
