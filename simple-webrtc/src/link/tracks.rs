//! What is sent and what is heard on a connection.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::drive::Live;
use super::{End, Link, Probe};
use crate::description::Description;
use crate::engine::{Incoming, VideoSlot};
use crate::event::{EventKind, Step};
use crate::queue::Queue;
use crate::sink::Sink;
use crate::track::{LocalTrack, Subscription, TrackKind, VideoCodec, Written};

/// Sources of the peer that are read. 8: its sound and four videos, and some whose source has changed.
const MAX_TRACKS: usize = 8;

/// A source of the peer.
pub(super) struct Heard {
    name: String,
    /// Whether the peer's descriptions name their tracks. Of one that does not, everything is heard.
    named: bool,
    pub(super) sink: Arc<Sink>,
}

/// Sections of our descriptions in which we send videos.
#[derive(Default)]
pub(super) struct Videos {
    places: Vec<Place>,
    /// What cannot be sent on this connection, so that it is not tried for ever.
    refused: Vec<LocalTrack>,
}

struct Place {
    slot: Arc<dyn VideoSlot>,
    codec: VideoCodec,
    /// What is sent there, if anything is.
    track: Option<LocalTrack>,
    told: Told,
    sending: Option<Sending>,
}

/// What the peer knows of a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    /// An offer is on its way.
    Offered,
    Accepted,
}

struct Sending {
    queue: Arc<Queue<Written>>,
    writer: JoinHandle<()>,
    _subscription: Subscription,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.queue.clear();
        self.queue.close();
    }
}

impl Videos {
    /// The track with this source.
    pub(super) fn of(&self, ssrc: u32) -> Option<LocalTrack> {
        self.places.iter().find(|place| place.slot.ssrc() == ssrc)?.track.clone()
    }

    /// Whether there are places for any, so that a description has to tell of them.
    pub(super) fn are_any(&self) -> bool {
        !self.places.is_empty()
    }

    pub(super) fn offered(&mut self) {
        for place in &mut self.places {
            if place.told == Told::Nothing {
                place.told = Told::Offered;
            }
        }
    }

    pub(super) fn accepted(&mut self) {
        for place in &mut self.places {
            if place.told == Told::Offered {
                place.told = Told::Accepted;
            }
        }
    }

    pub(super) fn rolled_back(&mut self) {
        for place in &mut self.places {
            if place.told == Told::Offered {
                place.told = Told::Nothing;
            }
        }
    }

    /// The tasks that were sending, to be waited for.
    pub(super) fn end(&mut self) -> Vec<JoinHandle<()>> {
        let sending = self.places.iter_mut().filter_map(|place| place.sending.take());
        sending.map(|mut sending| std::mem::replace(&mut sending.writer, tokio::spawn(async {}))).collect()
    }

    /// Begins to send what the peer knows of, and ends what is not to be sent any more.
    fn send(&mut self, probe: &Probe) {
        for place in &mut self.places {
            let wanted = place.track.as_ref().filter(|_| place.told == Told::Accepted);
            match (wanted, &place.sending) {
                (Some(track), None) => {
                    let queue = probe.add_video();
                    let writer = place.slot.write_from(queue.clone(), probe.video_counters.clone());
                    let subscription = track.subscribe(queue.clone());
                    place.sending = Some(Sending { queue, writer, _subscription: subscription });
                }
                (None, Some(_)) => place.sending = None,
                _ => {}
            }
        }
    }
}

impl<K: Clone + Ord + Send + Sync + 'static> Link<K> {
    /// From here on, what is written to the shared tracks is heard on this connection.
    pub(super) fn start_sending(&mut self, live: &mut Live) {
        live.sending = true;
        let writer = live.connection.write_from(self.probe.outgoing.clone(), self.probe.counters.clone());
        live.tasks.push(writer);
        self.hear_tracks(live);
    }

    /// Sends what can be sent without the peer being told.
    pub(super) fn hear_tracks(&mut self, live: &mut Live) {
        let tracks = self.tracks.borrow_and_update().clone();
        if !live.sending {
            return;
        }
        let audio = tracks.iter().find(|track| track.kind() == TrackKind::Audio);
        live.subscription = audio.map(|track| track.subscribe(self.probe.outgoing.clone()));
        for place in &mut live.videos.places {
            // Not a frame more of a track that was removed; what its place is used for next has to be offered first.
            if place.track.as_ref().is_some_and(|own| !tracks.iter().any(|track| track.is(own))) {
                place.sending = None;
            }
        }
        live.videos.send(&self.probe);
    }

    /// Gives each video its place, so that the next offer tells of it. Nothing moves while an offer is on its way.
    pub(super) async fn arrange_videos(&mut self, live: &mut Live) -> Result<(), End> {
        if live.negotiation.is_pending() {
            return Ok(());
        }
        let mut wanted = self.tracks.borrow().clone();
        live.videos.refused.retain(|refused| wanted.iter().any(|track| track.is(refused)));
        let refused = |track: &LocalTrack| live.videos.refused.iter().any(|refused| refused.is(track));
        wanted.retain(|track| track.kind() == TrackKind::Video && !refused(track));
        let step = live.steps.step();
        let mut changed = false;
        for at in 0..live.videos.places.len() {
            let place = &mut live.videos.places[at];
            let Some(own) = &place.track else { continue };
            let before = wanted.len();
            wanted.retain(|track| !track.is(own));
            if wanted.len() == before {
                (place.track, place.sending, place.told) = (None, None, Told::Nothing);
                changed = true;
            }
        }
        for track in wanted {
            let Some(codec) = track.codec() else { continue };
            let free =
                live.videos.places.iter().position(|place| place.track.is_none() && place.codec == codec);
            match free {
                Some(at) => {
                    let place = &mut live.videos.places[at];
                    (place.track, place.told) = (Some(track), Told::Nothing);
                }
                None => {
                    let connection = live.connection.clone();
                    match self.ask(step, connection.add_video(codec)).await? {
                        Ok(slot) => {
                            let told = Told::Nothing;
                            live.videos.places.push(Place {
                                slot,
                                codec,
                                track: Some(track),
                                told,
                                sending: None,
                            });
                        }
                        Err(error) => {
                            tracing::warn!(?error, "a video cannot be sent on this connection");
                            live.videos.refused.push(track);
                            continue;
                        }
                    }
                }
            }
            changed = true;
        }
        if changed {
            live.negotiation.want_change();
        }
        Ok(())
    }

    /// What each section is for, said anew: an answer that has no use for a section makes the engine forget what we want.
    pub(super) async fn direct_videos(&mut self, live: &mut Live) -> Result<(), End> {
        for at in 0..live.videos.places.len() {
            let place = &live.videos.places[at];
            let (slot, active) = (place.slot.clone(), place.track.is_some());
            self.set_active(live.steps.step(), &*slot, active).await?;
        }
        Ok(())
    }

    async fn set_active(&mut self, step: Step, slot: &dyn VideoSlot, active: bool) -> Result<(), End> {
        if let Err(error) = self.ask(step, slot.set_active(active)).await? {
            tracing::warn!(?error, active, "a video does not go on or off");
        }
        Ok(())
    }

    /// The peer has described itself: it may have removed tracks, or added them again.
    pub(super) async fn on_described(
        &mut self,
        live: &mut Live,
        description: &Description,
    ) -> Result<(), End> {
        live.described = Some(description.clone());
        let sends = |heard: &Heard| description.sends(&heard.name).unwrap_or(!heard.named);
        let ended: Vec<_> = live.heard.iter().filter_map(|heard| heard.sink.set_open(sends(heard))).collect();
        for id in ended {
            self.emit(EventKind::RemoteTrackEnded(id)).await?;
        }
        Ok(())
    }

    /// A source of the peer that was not heard before.
    pub(super) async fn on_track(&mut self, live: &mut Live, track: Box<dyn Incoming>) -> Result<(), End> {
        if live.heard.len() >= MAX_TRACKS {
            tracing::debug!(limit = MAX_TRACKS, "further track of the peer ignored");
            return Ok(());
        }
        let (name, codec) = self.ask(live.steps.step(), track.about()).await?;
        let sends = live.described.as_ref().and_then(|description| description.sends(&name));
        let open = sends.unwrap_or(true);
        let sink = Arc::new(Sink::new(codec, open, live.track_ids.clone(), live.inbox.sender()));
        let counters = if codec.is_some() { &self.probe.video_counters } else { &self.probe.counters };
        live.tasks.push(track.read_into(sink.clone(), counters.clone()));
        live.heard.push(Heard { name, named: sends.is_some(), sink });
        Ok(())
    }
}
