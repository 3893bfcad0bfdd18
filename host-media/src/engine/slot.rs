//! The source and the sink in use, and how another one takes its place: the old one runs until the new one delivers, then
//! one fades into the other within a tick.

use std::sync::Arc;

use super::{
    desk::{Delivery, Post},
    kind::{Sinks, Sources},
};
use crate::{
    BLOCK, Block, SILENT, TICK,
    device::Direction,
    error::DeviceFault,
    event::Event,
    sink::{Sink, Write},
    source::{Gauge, Nature, Origin, Read, Source},
};

/// A fade over a block: raised cosine, both gains add up to one, since two microphones of one room hear the same.
fn rise(i: usize) -> f32 {
    let x = (i + 1) as f32 / BLOCK as f32;
    0.5 - 0.5 * (x * std::f32::consts::PI).cos()
}

fn lost(direction: Direction, cause: &DeviceFault, tell: &mut impl FnMut(Event)) {
    tracing::warn!(%direction, %cause, "device lost");
    tell(Event::DeviceLost { direction, cause: cause.clone() });
}

/// The source in use.
pub(super) struct SourceSlot {
    current: Option<Box<dyn Source>>,
    next: Option<Delivery<Sources>>,
    post: Arc<Post<Sources>>,
    /// Whether anything was ever read: from then on there is sound or silence, and no end.
    begun: bool,
    /// It came to its end, or failed.
    ended: bool,
    /// Faults of those that were in use before.
    xruns: u64,
}

impl SourceSlot {
    pub(super) fn new(current: Option<Box<dyn Source>>, post: Arc<Post<Sources>>) -> Self {
        Self { current, next: None, post, begun: false, ended: false, xruns: 0 }
    }

    pub(super) fn present(&self) -> bool {
        self.current.is_some()
    }

    fn nature(&self) -> Option<Nature> {
        self.current.as_ref().map(|source| source.nature())
    }

    /// Whether it is a microphone, which is processed unless the application says otherwise.
    pub(super) fn is_microphone(&self) -> bool {
        self.nature() == Some(Nature::Microphone)
    }

    /// Whether it should be heard: it is there, not silence by choice, and has not ended.
    pub(super) fn is_alive(&self) -> bool {
        !self.ended && self.nature().is_some_and(|nature| nature != Nature::Silence)
    }

    /// For tests of what goes on without a microphone.
    #[cfg(test)]
    pub(super) fn remove(&mut self) {
        self.current = None;
    }

    /// Reads the next 10 ms; false if there never was a source, so that nothing is to be sent.
    pub(super) fn read(&mut self, out: &mut Block, mut tell: impl FnMut(Event)) -> bool {
        if let Some(delivery) = self.post.collect(&mut tell)
            && let Some(old) = self.next.replace(delivery)
        {
            self.post.retire(old.it);
        }
        match self.current.as_mut().map(|source| source.read(out)) {
            None => out.fill(0.0),
            Some(Read::Lost(cause)) => {
                lost(Direction::Microphone, &cause, &mut tell);
                self.remember();
                if let Some(it) = self.current.take() {
                    self.post.lost(cause, it);
                }
            }
            Some(read) => self.said(read, &mut tell),
        }
        self.take_over(out, tell);
        self.begun |= self.current.is_some();
        self.begun
    }

    fn take_over(&mut self, out: &mut Block, mut tell: impl FnMut(Event)) {
        let Some(next) = &mut self.next else { return };
        let mut block = SILENT;
        let read = next.it.read(&mut block);
        let ready = next.it.ready();
        let Some(next) = self.next.take_if(|_| ready || matches!(read, Read::Lost(_))) else { return };
        if let Read::Lost(cause) = read {
            self.post.refused(next.serial, cause, next.it);
            return;
        }
        for (i, (out, new)) in out.iter_mut().zip(&block).enumerate() {
            *out += (new - *out) * rise(i);
        }
        self.remember();
        if let Some(old) = self.current.replace(next.it) {
            self.post.retire(old);
        }
        self.post.taken(next.serial, &next.event);
        tell(next.event);
        self.ended = false;
        self.said(read, &mut tell);
    }

    fn said(&mut self, read: Read, tell: &mut impl FnMut(Event)) {
        match read {
            Read::Sound | Read::Lost(_) => {}
            Read::Ended => {
                self.ended = true;
                tell(Event::SourceEnded);
            }
            Read::Failed(cause) => {
                self.ended = true;
                tracing::warn!(%cause, "the source failed");
                tell(Event::SourceFailed { cause });
            }
        }
    }

    fn remember(&mut self) {
        self.xruns += self.current.as_ref().map_or(0, |source| source.gauge().xruns);
    }

    pub(super) fn skip(&mut self, ticks: u64) {
        if let Some(source) = &mut self.current {
            source.skip(ticks);
        }
    }

    /// Closes everything; nothing is read any more.
    pub(super) fn finish(&mut self) {
        self.current = None;
        self.next = None;
        self.post.close();
    }

    pub(super) fn origin(&self) -> Option<Origin> {
        self.current.as_ref().map(|source| source.origin())
    }

    pub(super) fn gauge(&self) -> Gauge {
        let mut gauge = self.current.as_ref().map_or_else(Gauge::default, |source| source.gauge());
        gauge.xruns += self.xruns;
        gauge
    }
}

/// The sink in use.
pub(super) struct SinkSlot {
    current: Option<Box<dyn Sink>>,
    next: Option<Delivery<Sinks>>,
    /// The one before, until what is in its buffers was heard.
    outgoing: Option<(Box<dyn Sink>, u32)>,
    post: Arc<Post<Sinks>>,
    xruns: u64,
}

impl SinkSlot {
    pub(super) fn new(current: Option<Box<dyn Sink>>, post: Arc<Post<Sinks>>) -> Self {
        Self { current, next: None, outgoing: None, post, xruns: 0 }
    }

    pub(super) fn present(&self) -> bool {
        self.current.is_some()
    }

    /// Plays the next 10 ms.
    pub(super) fn write(&mut self, block: &Block, mut tell: impl FnMut(Event)) {
        if let Some(delivery) = self.post.collect(&mut tell)
            && let Some(old) = self.next.replace(delivery)
        {
            self.post.retire(old.it);
        }
        self.let_go();
        if !self.take_over(block, &mut tell) {
            self.put(block, &mut tell);
        }
    }

    fn put(&mut self, block: &Block, tell: &mut impl FnMut(Event)) {
        match self.current.as_mut().map(|sink| sink.write(block)) {
            None | Some(Write::Done) => {}
            Some(Write::Failed(cause)) => {
                tracing::warn!(%cause, "the sink failed");
                tell(Event::SinkFailed { cause });
            }
            Some(Write::Lost(cause)) => {
                lost(Direction::Speaker, &cause, tell);
                self.remember();
                if let Some(it) = self.current.take() {
                    self.post.lost(cause, it);
                }
            }
        }
    }

    /// True if the new one has got the block, and the old one its end.
    fn take_over(&mut self, block: &Block, tell: &mut impl FnMut(Event)) -> bool {
        let Some(next) = &mut self.next else { return false };
        let ready = next.it.ready();
        let Some(mut next) = self.next.take_if(|_| ready != Ok(false)) else { return false };
        let written = match ready {
            Ok(_) => next.it.write(&std::array::from_fn(|i| block[i] * rise(i))),
            Err(cause) => Write::Lost(cause),
        };
        // One that is lost with its first block has never worked: the old one goes on.
        let failed = match written {
            Write::Lost(cause) => {
                self.post.refused(next.serial, cause, next.it);
                return false;
            }
            Write::Failed(cause) => Some(cause),
            Write::Done => None,
        };
        self.put(&std::array::from_fn(|i| block[i] * (1.0 - rise(i))), tell);
        self.remember();
        if let Some(old) = self.current.replace(next.it) {
            let ticks = old.gauge().latency().as_nanos().div_ceil(TICK.as_nanos());
            let ticks = u32::try_from(ticks).unwrap_or(0);
            if let Some((older, _)) = self.outgoing.replace((old, ticks)) {
                self.post.retire(older);
            }
            if ticks == 0 {
                self.let_go();
            }
        }
        self.post.taken(next.serial, &next.event);
        tell(next.event);
        if let Some(cause) = failed {
            tracing::warn!(%cause, "the sink failed");
            tell(Event::SinkFailed { cause });
        }
        true
    }

    /// Keeps the one before running until it has played what it has; files have played it already.
    fn let_go(&mut self) {
        let Some((sink, ticks)) = &mut self.outgoing else { return };
        if *ticks > 0 {
            *ticks -= 1;
            if sink.write(&SILENT) == Write::Done {
                return;
            }
        }
        if let Some((sink, _)) = self.outgoing.take() {
            self.post.retire(sink);
        }
    }

    fn remember(&mut self) {
        self.xruns += self.current.as_ref().map_or(0, |sink| sink.gauge().xruns);
    }

    pub(super) fn skip(&mut self, ticks: u64) {
        if let Some(sink) = &mut self.current {
            sink.skip(ticks);
        }
    }

    pub(super) fn origin(&self) -> Option<Origin> {
        self.current.as_ref().map(|sink| sink.origin())
    }

    pub(super) fn gauge(&self) -> Gauge {
        let mut gauge = self.current.as_ref().map_or_else(Gauge::default, |sink| sink.gauge());
        gauge.xruns += self.xruns;
        gauge
    }

    pub(super) fn finish(&mut self) -> Result<(), crate::Error> {
        drop(self.outgoing.take());
        drop(self.next.take());
        self.post.close();
        self.current.take().map_or(Ok(()), |mut sink| sink.finish())
    }
}

impl Drop for SourceSlot {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Drop for SinkSlot {
    fn drop(&mut self) {
        if let Err(e) = self.finish() {
            tracing::warn!(error = %e, "a sink could not be completed");
        }
    }
}
