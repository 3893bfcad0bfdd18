//! Frames that were encoded before, in place of a microphone: whoever talks like this encodes, decodes and mixes nothing, so that many
//! of them fit into the process that talks to one who is measured.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use simple_webrtc::Frame;
use tokio::{sync::mpsc, task::AbortHandle, time};

use super::rtp::RtpClock;
use crate::{id::CallId, ports::media::MediaEvent, proto::MediaInput};

/// What a frame holds.
const FRAME: Duration = Duration::from_millis(20);

/// The same by the RTP clock of Opus.
const SAMPLES: u32 = 960;

/// As loud as somebody who talks (RFC 6464).
const LEVEL: u8 = 26;

/// Where frames go.
pub(super) type Out = Arc<dyn Fn(Frame) + Send + Sync>;

pub(super) struct Script {
    frames: Arc<[Bytes]>,
    out: Out,
    clock: RtpClock,
    events: mpsc::Sender<MediaEvent>,
    playing: Mutex<Option<(CallId, AbortHandle)>>,
}

impl Script {
    pub(super) fn new(
        frames: Arc<[Bytes]>,
        out: Out,
        clock: RtpClock,
        events: mpsc::Sender<MediaEvent>,
    ) -> Self {
        Self { frames, out, clock, events, playing: Mutex::default() }
    }

    /// Talks in this call, and in no other one.
    pub(super) fn open(&self, call: CallId) {
        let (frames, out, events) = (self.frames.clone(), self.out.clone(), self.events.clone());
        let mut timestamp = self.clock.offset(0);
        let task = tokio::spawn(async move {
            // Without a driver nobody talks.
            let started = MediaInput::Started { call, mic_us: None, speaker_us: None };
            if events.send(started.into()).await.is_err() {
                return;
            }
            let mut ticks = time::interval(FRAME);
            for payload in frames.iter().cycle() {
                ticks.tick().await;
                let audio_level = Some((LEVEL, true));
                out(Frame { payload: payload.clone(), timestamp, marker: false, audio_level });
                timestamp = timestamp.wrapping_add(SAMPLES);
            }
        });
        self.put(Some((call, task.abort_handle())));
    }

    /// Talks there no more; in any call if none is named.
    pub(super) fn close(&self, call: Option<CallId>) {
        let open =
            self.playing.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(call, _)| *call);
        if call.is_none() || call == open {
            self.put(None);
        }
    }

    fn put(&self, playing: Option<(CallId, AbortHandle)>) {
        let mut present = self.playing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, task)) = std::mem::replace(&mut *present, playing) {
            task.abort();
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.put(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn frames_go_round_in_their_time_until_their_call_is_closed() {
        let said: Arc<Mutex<Vec<Frame>>> = Arc::default();
        let (into, (events, mut told)) = (said.clone(), mpsc::channel(4));
        let out: Out = Arc::new(move |frame| into.lock().unwrap().push(frame));
        let frames: Arc<[Bytes]> = [b"one".as_slice(), b"two", b"three"].map(Bytes::from_static).into();
        let script = Script::new(frames, out, RtpClock::new(7), events);
        let call = CallId::from_bytes([1; 16]);
        script.open(call);
        time::sleep(Duration::from_millis(990)).await;
        let Some(MediaEvent::Input(MediaInput::Started { call: of, .. })) = told.recv().await else {
            panic!("it has started")
        };
        assert_eq!(of, call);
        {
            let said = said.lock().unwrap();
            assert_eq!(said.len(), 50);
            assert_eq!((&said[3].payload[..], &said[4].payload[..]), (&b"one"[..], &b"two"[..]));
            assert!(said.windows(2).all(|two| two[1].timestamp.wrapping_sub(two[0].timestamp) == SAMPLES));
        }
        // Another call's end is nothing to it; its own is at once.
        script.close(Some(CallId::from_bytes([2; 16])));
        time::sleep(FRAME).await;
        script.close(Some(call));
        let until = said.lock().unwrap().len();
        assert_eq!(until, 51);
        time::sleep(10 * FRAME).await;
        assert_eq!(said.lock().unwrap().len(), until);
    }
}
