//! Starts an engine for a call.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use host_media::{Controls, Direction, Engine, Format, FrameLength, SinkSpec, SourceSpec};

use super::{
    Sound, lock, send,
    state::{Asked, Ending, Ticket},
    stop,
};
use crate::{
    driver::media::Audio,
    event::{DeviceKind, Warning},
    id::CallId,
    ports::media::MediaError,
    proto::{MediaInput, signal::MediaFormat},
};

/// The format of a call in the engine's words.
pub(super) fn format(format: MediaFormat) -> Result<Format, MediaError> {
    let frame = FrameLength::from_ms(format.frame_ms)
        .ok_or_else(|| MediaError::Failed(format!("frames of {} ms are not possible", format.frame_ms)))?;
    Ok(Format::new(frame).channels(format.channels).max_bitrate(format.max_bitrate))
}

impl Sound {
    /// Starts an engine and puts it to work, unless the call has ended meanwhile. Tells where it is to be recorded.
    pub(super) fn start(self: &Arc<Self>, ticket: Ticket, format: Format) -> Option<(Controls, PathBuf)> {
        // What was named may be gone by now; then the system's default serves, and if that fails too, none.
        let (call, mut audio, asked) = {
            let state = lock(&self.state);
            (state.wanted()?, state.audio.clone(), state.asked)
        };
        for _ in 0..3 {
            let gate = Arc::new(AtomicBool::new(false));
            match self.engine((call, ticket), format, &audio, gate.clone()) {
                Ok(engine) => return self.install(Ending { engine, call, ticket }, gate, asked),
                Err(host_media::Error::NoSuchDevice { direction, id, available }) => {
                    let cause = host_media::Error::NoSuchDevice { direction, id: id.clone(), available };
                    send(
                        &self.events,
                        MediaInput::Warning(Warning::DeviceLost { device: cause.to_string() }),
                    );
                    match direction {
                        Direction::Microphone => audio.source = SourceSpec::Default,
                        Direction::Speaker => audio.sink = SinkSpec::Default,
                    }
                }
                Err(error) => {
                    // A file that could be used at the start and cannot now: nothing is heard on either side.
                    let cause = error.to_string();
                    send(&self.events, MediaInput::Warning(Warning::ListenOnly { cause: cause.clone() }));
                    send(&self.events, MediaInput::Warning(Warning::NoSpeaker { cause }));
                    return None;
                }
            }
        }
        None
    }

    fn engine(
        self: &Arc<Self>,
        (call, ticket): (CallId, Ticket),
        format: Format,
        audio: &Audio,
        gate: Arc<AtomicBool>,
    ) -> Result<Engine, host_media::Error> {
        let clock = self.clock;
        let mut offset = None;
        let (out, sound) = (self.out.clone(), Arc::downgrade(self));
        let mut builder = Engine::builder();
        if let Some(processing) = audio.processing {
            builder = builder.processing(processing);
        }
        builder
            .source(audio.source.clone())
            .sink(audio.sink.clone())
            .format(format)
            .bitrate(format.max_bitrate)
            .automute(audio.automute)
            .dtx(audio.dtx)
            .clock_error(audio.clock_error)
            // Whether the user is muted is known for certain when it is installed, and copies of frames outlive a frame.
            .muted(true)
            .on_frame(move |frame| {
                let offset = *offset.get_or_insert_with(|| clock.offset(frame.timestamp));
                // Nothing leaves before the engine is installed, and nothing after a hang-up.
                if gate.load(Ordering::Acquire) {
                    out(frame, offset);
                }
            })
            .on_event(move |event| {
                if let Some(sound) = sound.upgrade() {
                    sound.on_event(call, ticket, event);
                }
            })
            .start()
    }

    fn install(&self, ending: Ending, gate: Arc<AtomicBool>, asked: Asked) -> Option<(Controls, PathBuf)> {
        let mut state = lock(&self.state);
        if !state.wants(ending.ticket) {
            drop(state);
            stop(ending.engine);
            return None;
        }
        let (call, engine) = (ending.call, &ending.engine);
        // What the app has asked for while it was being started.
        if state.asked.source != asked.source {
            engine.set_source(state.audio.source.clone());
        }
        if state.asked.sink != asked.sink {
            engine.set_sink(state.audio.sink.clone());
        }
        engine.set_processing(state.audio.processing);
        engine.set_automute(state.audio.automute);
        for (kind, used) in [(DeviceKind::Microphone, engine.source()), (DeviceKind::Speaker, engine.sink())]
        {
            send(&self.events, MediaInput::Device { call, kind, name: used.map(|used| used.name) });
        }
        let (controls, ticket) = (engine.controls(), ending.ticket);
        state.run(ending, gate);
        let folder = state.audio.record.clone()?;
        state.begin_recording(ticket);
        Some((controls, folder))
    }
}
