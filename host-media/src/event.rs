//! What an engine tells while it runs.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use crate::{device::Direction, error::DeviceFault, format::PeerId, record::RecordingId};

/// Something that happened in an engine.
///
/// Events are given, in order, to the callback of [`Builder::on_event`](crate::Builder::on_event) on the engine's own
/// thread. The callback must return quickly: put the event into a queue of your own.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Sound flows. Comes once, as soon as both times are known.
    Started {
        /// Unix time at which sample 0 of the source was captured; none without a microphone.
        ///
        /// A block that is handed in at a tick was captured during the 10 ms before it, whatever the source is. So
        /// sample `n` of a WAV source is spoken at `microphone + n / rate`.
        microphone: Option<SystemTime>,
        /// Unix time at which sample 0 of the sink is played; none without a speaker.
        ///
        /// A block that is written at a tick is played during the 10 ms after it. So sample `n` of a WAV sink is heard
        /// at `speaker + n / rate`.
        speaker: Option<SystemTime>,
    },
    /// The first decoded frame of this peer is being played.
    FirstAudio {
        /// Who is heard.
        peer: PeerId,
    },
    /// There is no microphone: silence is sent, or nothing if there never was one; everything else works. Microphones
    /// are looked for all the time; [`Event::SourceChanged`] tells when one works.
    ListenOnly {
        /// Why.
        cause: DeviceFault,
    },
    /// There is no speaker: nothing is heard, everything else works. Speakers are looked for all the time;
    /// [`Event::SinkChanged`] tells when one works.
    NoSpeaker {
        /// Why.
        cause: DeviceFault,
    },
    /// The source has come to its end; silence follows.
    SourceEnded,
    /// The source file cannot be read any further; silence follows.
    SourceFailed {
        /// What and why.
        cause: String,
    },
    /// The sink file cannot be written any further; it holds what was played until now.
    SinkFailed {
        /// What and why.
        cause: String,
    },
    /// A device disappeared while it was in use, or its stream ended. [`Event::SourceChanged`] or
    /// [`Event::SinkChanged`] follows if another one works, else [`Event::ListenOnly`] or [`Event::NoSpeaker`].
    DeviceLost {
        /// The microphone or the speaker.
        direction: Direction,
        /// What the system said.
        cause: DeviceFault,
    },
    /// Another source is in use from now on.
    SourceChanged {
        /// The id of the microphone, or the text form of what else it is.
        id: String,
        /// Its name, to show to people.
        name: String,
        /// Why it was changed.
        reason: ChangeReason,
    },
    /// Another sink is in use from now on.
    SinkChanged {
        /// The id of the speaker, or the text form of what else it is.
        id: String,
        /// Its name, to show to people.
        name: String,
        /// Why it was changed.
        reason: ChangeReason,
    },
    /// What [`Controls::set_source`](crate::Controls::set_source) or [`set_sink`](crate::Controls::set_sink) asked for
    /// does not work. What was in use stays in use.
    SwitchFailed {
        /// Whether a source or a sink was asked for.
        direction: Direction,
        /// The text form of what was asked for.
        wanted: String,
        /// Why it does not work.
        cause: DeviceFault,
    },
    /// Somebody starts or stops to speak.
    Speaking {
        /// Who.
        who: Speaker,
        /// Whether they speak now.
        speaking: bool,
    },
    /// Automute has muted, or opens because somebody speaks; see
    /// [`Controls::set_automute`](crate::Controls::set_automute).
    Automuted {
        /// Whether silence is sent now.
        muted: bool,
    },
    /// The user speaks while muted, which nobody hears. Comes after 300 ms of speech, once in 10 s at most.
    SpeakingWhileMuted,
    /// Nothing but digital silence (below -90 dBov) has come from the source for 10 s, though it is not muted here: it is
    /// probably muted at the microphone or in the system. Comes once; [`Event::MicrophoneAudible`] ends it.
    MicrophoneSilent {
        /// Since when, as Unix time.
        since: SystemTime,
    },
    /// Something comes from the source again, after [`Event::MicrophoneSilent`].
    MicrophoneAudible,
    /// The encoder failed; frames are missing until it works again. Reported once per run of failures.
    EncodeFailed {
        /// What libopus said.
        cause: String,
    },
    /// A recording has begun with this tick.
    RecordingStarted {
        /// Which one: what [`Controls::record`](crate::Controls::record) gave.
        id: RecordingId,
        /// The files that were begun: of oneself, of everybody, and of each peer that is there. Peers that come later
        /// get theirs when they come.
        files: Vec<PathBuf>,
    },
    /// A file of a recording cannot be written any further, or not be begun. The call goes on, and so do other files.
    RecordingFailed {
        /// The recording to which the file belongs.
        id: RecordingId,
        /// The file; it holds what was written until now.
        file: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// A recording has ended: it was stopped, the engine was, or all its files have failed. Its files are closed, but on a
    /// disk that stands still while the engine stops.
    ///
    /// Told once for each recording that [`Controls::record`](crate::Controls::record) has begun. Closing takes as long as
    /// the disk takes, so another recording may have started in the meantime: `id` tells which one is over. One that was
    /// stopped before any tick began it has no [`Event::RecordingStarted`].
    RecordingStopped {
        /// Which one.
        id: RecordingId,
        /// All its files, in the order in which they were begun.
        files: Vec<PathBuf>,
        /// How long it is. All files have this length, but those that have failed.
        length: Duration,
    },
    /// A file that was played into the call has ended: it is over, it was stopped, another one took its place, perhaps
    /// before any of it was played, or the engine was stopped. Told once for each [`Controls::play`](crate::Controls::play).
    PlayingEnded {
        /// The file.
        file: PathBuf,
        /// Why it cannot be read any further, if that is why.
        cause: Option<String>,
    },
}

/// Why another source or sink is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeReason {
    /// The application asked for it.
    Requested,
    /// The system's default is another one now, and the default is wanted.
    DefaultMoved,
    /// The wanted one is gone or does not work.
    Fallback,
    /// The wanted one is back.
    Returned,
}

/// Somebody who can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Speaker {
    /// The user of this engine.
    Local,
    /// A remote peer.
    Peer(PeerId),
}
