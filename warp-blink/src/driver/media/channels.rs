//! Data channels that are open, until the app asks for them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use simple_webrtc::Channel;

use crate::{event::ChannelId, proto::LinkId};

/// The most channels that wait for the app. Beyond that the oldest is closed. A connection has room for 16: those of four people
/// who opened all they can.
const MAX_WAITING: usize = 64;

/// Channels that the app was told of and has not asked for.
#[derive(Debug, Default)]
pub(in crate::driver) struct Channels(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    channels: BTreeMap<ChannelId, (LinkId, Channel)>,
}

impl Channels {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a channel, and names it.
    pub(in crate::driver) fn keep(&self, link: LinkId, channel: Channel) -> ChannelId {
        let mut waiting = self.lock();
        waiting.last += 1;
        let id = ChannelId(waiting.last);
        waiting.channels.insert(id, (link, channel));
        if waiting.channels.len() > MAX_WAITING {
            tracing::warn!("a data channel that nobody asked for is closed");
            waiting.channels.pop_first();
        }
        id
    }

    pub(in crate::driver) fn take(&self, id: ChannelId) -> Option<Channel> {
        self.lock().channels.remove(&id).map(|(_, channel)| channel)
    }

    /// That link is over, and its channels with it.
    pub(in crate::driver) fn drop_link(&self, link: LinkId) {
        self.lock().channels.retain(|_, (of, _)| *of != link);
    }
}

#[cfg(test)]
mod tests {
    use simple_webrtc::ChannelOptions;

    use super::*;
    use crate::id::{CallId, Identity};

    #[test]
    fn a_channel_is_given_once_and_those_that_nobody_wants_are_bounded() {
        let channels = Channels::default();
        let peer = Identity::from_seed([1; 32]).public();
        let link = |generation| LinkId { call: CallId::from_bytes([1; 16]), peer, generation };
        let make = || Channel::pair(ChannelOptions::reliable("chat")).expect("a name");
        let ids: Vec<ChannelId> =
            (0..=MAX_WAITING as u32).map(|n| channels.keep(link(n % 2), make().0)).collect();
        assert!(channels.take(ids[0]).is_none(), "the oldest made room");
        assert!(channels.take(ids[1]).is_some() && channels.take(ids[1]).is_none());
        channels.drop_link(link(0));
        assert!(channels.take(ids[2]).is_none() && channels.take(ids[3]).is_some());
    }
}
