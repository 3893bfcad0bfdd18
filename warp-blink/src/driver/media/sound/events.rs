//! What the engine says of sound, in the machine's words.

use host_media::{Event, Speaker};

use super::{Sound, lock, micros, send, state::Ticket};
use crate::{
    event::{DeviceKind, Warning},
    id::CallId,
    proto::MediaInput,
};

impl Sound {
    pub(super) fn on_event(&self, call: CallId, ticket: Ticket, event: Event) {
        let input = match event {
            Event::Started { microphone, speaker } => {
                MediaInput::Started { call, mic_us: microphone.map(micros), speaker_us: speaker.map(micros) }
            }
            Event::FirstAudio { peer } => {
                let state = lock(&self.state);
                let Some(playing) = state.links.values().find(|p| p.id == peer) else { return };
                MediaInput::FirstAudio { link: playing.link }
            }
            Event::SourceChanged { name, .. } => device(call, DeviceKind::Microphone, Some(name)),
            Event::SinkChanged { name, .. } => device(call, DeviceKind::Speaker, Some(name)),
            Event::SwitchFailed { wanted, cause, .. } => {
                MediaInput::Warning(Warning::DeviceRefused { cause: format!("{wanted}: {cause}") })
            }
            Event::ListenOnly { cause } => {
                send(&self.events, device(call, DeviceKind::Microphone, None));
                MediaInput::Warning(Warning::ListenOnly { cause: cause.to_string() })
            }
            Event::NoSpeaker { cause } => {
                send(&self.events, device(call, DeviceKind::Speaker, None));
                MediaInput::Warning(Warning::NoSpeaker { cause: cause.to_string() })
            }
            Event::SourceFailed { cause } => MediaInput::Warning(Warning::ListenOnly { cause }),
            Event::SinkFailed { cause } => MediaInput::Warning(Warning::NoSpeaker { cause }),
            Event::DeviceLost { cause, .. } => {
                MediaInput::Warning(Warning::DeviceLost { device: cause.to_string() })
            }
            Event::RecordingStarted { id, files } => {
                return self.recording((call, (ticket, id)), true, files);
            }
            Event::RecordingStopped { id, files, .. } => {
                return self.recording((call, (ticket, id)), false, files);
            }
            Event::RecordingFailed { file, cause, .. } => MediaInput::Warning(Warning::RecordingFailed {
                cause: format!("{}: {cause}", file.display()),
            }),
            Event::PlayingEnded { cause, .. } => MediaInput::Played { call, cause },
            Event::SpeakingWhileMuted => MediaInput::Warning(Warning::SpeakingWhileMuted),
            Event::MicrophoneSilent { .. } => MediaInput::Warning(Warning::MicrophoneSilent),
            Event::Speaking { who: Speaker::Local, speaking } => MediaInput::Speaking { call, speaking },
            // That a peer speaks is shown with the statistics of the sound; the rest is for the log.
            other => {
                tracing::debug!(?other, "audio engine");
                return;
            }
        };
        send(&self.events, input);
    }
}

fn device(call: CallId, kind: DeviceKind, name: Option<String>) -> MediaInput {
    MediaInput::Device { call, kind, name }
}
