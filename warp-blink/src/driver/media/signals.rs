//! The signaling channels of links: what the driver seals goes out on them, and what comes is handed to it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use simple_webrtc::{Certificates, Channel, ChannelSender, Message};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

use crate::{
    ports::media::{MediaError, MediaEvent},
    proto::{LinkId, MediaInput, signal::Fingerprint},
};

/// Signals that are taken from one link in a second. 256, as gossip takes from one peer (`driver/node/gate.rs`); a call that is set up
/// has some thirty.
const MOST: u32 = 256;

const SECOND: Duration = Duration::from_secs(1);

/// Those that are open. There are no more than links.
#[derive(Debug, Default)]
pub(super) struct Signals(Mutex<BTreeMap<LinkId, Open>>);

#[derive(Debug)]
struct Open {
    certificates: Certificates,
    sender: Option<ChannelSender>,
}

impl Signals {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<LinkId, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handshake of that link is over.
    pub(super) fn secured(&self, link: LinkId, certificates: Certificates) {
        let mut all = self.lock();
        // One that was superseded says no more of itself.
        all.retain(|other, _| (other.call, other.peer) != (link.call, link.peer));
        all.insert(link, Open { certificates, sender: None });
    }

    /// Its channel is open. What is to be told before anything that comes over it.
    pub(super) fn open(&self, link: LinkId, channel: &Channel) -> Option<MediaInput> {
        let mut all = self.lock();
        let open = all.get_mut(&link)?;
        open.sender = Some(channel.sender());
        let Certificates { local, remote, .. } = open.certificates;
        let [own, remote] = [local, remote].map(|f| Fingerprint(*f.as_bytes()));
        Some(MediaInput::Secured { link, own, remote })
    }

    pub(super) fn send(&self, link: LinkId, frame: Bytes) -> Result<(), MediaError> {
        let sender = self.lock().get(&link).and_then(|open| open.sender.clone());
        let sender =
            sender.ok_or_else(|| MediaError::Failed("the link has no signaling channel".to_owned()))?;
        sender.try_send(Message::Binary(frame)).map_err(|error| MediaError::Failed(error.to_string()))
    }

    /// That link is over.
    pub(super) fn drop_link(&self, link: LinkId) {
        self.lock().remove(&link);
    }
}

/// Hands over what comes, until the channel ends. What is too much, or finds no room, waits in the channel, and then at the other side.
pub(super) async fn listen(link: LinkId, mut channel: Channel, events: mpsc::Sender<MediaEvent>) {
    let (mut since, mut taken) = (Instant::now(), 0);
    while let Some(message) = channel.recv().await {
        if since.elapsed() >= SECOND {
            (since, taken) = (Instant::now(), 0);
        } else if taken >= MOST {
            time::sleep_until(since + SECOND).await;
            (since, taken) = (Instant::now(), 0);
        }
        taken += 1;
        // Nothing of ours is text.
        let Message::Binary(frame) = message else { continue };
        if events.send(MediaEvent::Signal { link, frame }).await.is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use simple_webrtc::ChannelOptions;

    use super::*;
    use crate::id::{CallId, Identity};

    #[tokio::test(start_paused = true)]
    async fn hostile_flood_over_a_link_waits_and_nothing_of_it_is_lost() {
        let peer = Identity::from_seed([1; 32]).public();
        let link = LinkId { call: CallId::from_bytes([1; 16]), peer, generation: 1 };
        let (here, there) = Channel::pair(ChannelOptions::reliable("signaling")).unwrap();
        let (events, mut told) = mpsc::channel(4);
        let listener = tokio::spawn(listen(link, there, events));
        tokio::spawn(async move {
            here.send(Message::Text("nothing of ours".to_owned())).await.unwrap();
            for n in 0..3 * MOST {
                here.send(Message::Binary(Bytes::copy_from_slice(&n.to_be_bytes()))).await.unwrap();
            }
        });
        let begin = Instant::now();
        for n in 0..3 * MOST {
            let Some(MediaEvent::Signal { frame, .. }) = told.recv().await else { panic!("a signal") };
            assert_eq!(frame[..], n.to_be_bytes());
            // The text has taken one place.
            assert_eq!(begin.elapsed().as_secs(), u64::from((n + 1) / MOST), "{n}");
        }
        assert_eq!(told.recv().await, None, "it ends with the channel");
        listener.await.unwrap();
    }
}
