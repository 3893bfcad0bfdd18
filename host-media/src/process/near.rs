//! All that happens to the microphone between the source and the encoder, and what is learnt from it.

use std::time::Duration;

use super::{Processing, Processor, Voice, VoiceStats, automute::AutoMute, hints::Hints};
use crate::{Block, level::SpeechGate};

pub(crate) use super::hints::Hint;

/// The near end: processing, voice detection, automute, hints.
pub(crate) struct Near {
    processor: Processor,
    voice: Voice,
    gate: SpeechGate,
    automute: AutoMute,
    hints: Hints,
    /// What was told last.
    speaking: bool,
}

/// What the application wants, at this tick.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) processing: Processing,
    pub(crate) muted: bool,
    pub(crate) automute: bool,
    /// Whether the source is one that should be heard: not silence by choice and not at its end.
    pub(crate) alive: bool,
}

/// What a block brought.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Heard {
    /// Nothing may be sent, by the application's wish or by automute.
    pub(crate) mute: bool,
    /// The block holds a voice that is sent.
    pub(crate) voice: bool,
    /// The user has just begun or ceased to speak, audibly for the others.
    pub(crate) speaking: Option<bool>,
    /// Automute has just muted or unmuted.
    pub(crate) automuted: Option<bool>,
    pub(crate) hint: Option<Hint>,
}

impl Near {
    pub(crate) fn new() -> Self {
        Self {
            processor: Processor::default(),
            voice: Voice::new(),
            gate: SpeechGate::new(),
            automute: AutoMute::default(),
            hints: Hints::default(),
            speaking: false,
        }
    }

    /// Processes the next block of the source, in place.
    pub(crate) fn process(&mut self, block: &mut Block, wanted: Wanted) -> Heard {
        self.processor.set(wanted.processing);
        let mut heard =
            Heard { hint: self.hints.source(block, wanted.muted, wanted.alive), ..Heard::default() };
        self.processor.clean(block);
        let always = self.processor.wants_voice();
        let voice = &mut self.voice;
        let probability = self.gate.feed(block, always, |block| voice.probability(block));
        self.processor.amplify(block, probability);
        heard.automuted = self.automute.feed(wanted.automute, self.gate.loud(), self.gate.speaking());
        heard.mute = wanted.muted || self.automute.muted();
        heard.voice = self.gate.speaking() && !heard.mute;
        if heard.voice != self.speaking {
            self.speaking = heard.voice;
            heard.speaking = Some(heard.voice);
        }
        heard.hint = heard.hint.or(self.hints.voice(self.gate.speaking(), wanted.muted));
        heard
    }

    /// Takes what is being played: the mix behind its limiter, once the sink has taken it.
    pub(crate) fn reference(&mut self, block: &Block) {
        self.processor.reference(block);
    }

    /// Tells the delay of speaker and microphone together as far as it is known.
    pub(crate) fn device_delay(&mut self, delay: Duration) {
        self.processor.device_delay(delay);
    }

    pub(crate) fn stats(&self) -> VoiceStats {
        VoiceStats { automuted: self.automute.muted(), ..self.processor.stats() }
    }
}
