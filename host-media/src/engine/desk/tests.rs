//! What is on its way between desk and tick when something ends.

use super::*;
use crate::{
    BLOCK, Block, MemorySink, SILENT,
    engine::slot::{SinkSlot, SourceSlot},
    error::DeviceFaultKind,
    sink::{Sink, Write},
    source::{Read, Source},
};

/// Open as long as it lives.
struct Probe(#[allow(dead_code)] Arc<()>);

impl Source for Probe {
    fn read(&mut self, _out: &mut Block) -> Read {
        Read::Sound
    }

    fn skip(&mut self, _ticks: u64) {}
}

fn on_its_way(open: &Arc<()>) -> Delivery<Sources> {
    let event = Sources::changed("mic".to_owned(), "mic".to_owned(), ChangeReason::Requested);
    Delivery { it: Box::new(Probe(Arc::clone(open))), serial: 1, event }
}

#[test]
fn nothing_stays_open_in_the_post_after_the_end() {
    for finish in [true, false] {
        let open = Arc::new(());
        let post = Post::<Sources>::new(&Arc::default());
        let mut slot = SourceSlot::new(Some(Box::new(Probe(Arc::clone(&open)))), Arc::clone(&post));
        assert!(post.deliver(on_its_way(&open)).is_none());
        assert_eq!(Arc::strong_count(&open), 3);
        if finish {
            slot.finish();
        } else {
            drop(slot);
        }
        assert_eq!(Arc::strong_count(&open), 1);
        // What was being opened at that time comes back, to be closed.
        assert!(post.deliver(on_its_way(&open)).is_some());
        assert_eq!(Arc::strong_count(&open), 1);
        post.request(crate::SourceSpec::Silence);
        assert!(lock(&post.state).request.is_none());
    }
}

/// A speaker that says it is ready, and is gone when it is to play.
struct Gone;

impl Sink for Gone {
    fn write(&mut self, _block: &Block) -> Write {
        Write::Lost(DeviceFault::new(DeviceFaultKind::Missing, "gone"))
    }

    fn skip(&mut self, _ticks: u64) {}
}

#[test]
fn a_speaker_that_is_lost_with_its_first_block_is_refused_and_the_old_one_goes_on() {
    let heard = MemorySink::new();
    let post = Post::<Sinks>::new(&Arc::default());
    post.uses("old", "old");
    let mut slot = SinkSlot::new(Some(Box::new(heard.clone())), Arc::clone(&post));
    let event = Sinks::changed("new".to_owned(), "new".to_owned(), ChangeReason::Requested);
    assert!(post.deliver(Delivery { it: Box::new(Gone), serial: 7, event }).is_none());
    let mut told = Vec::new();
    slot.write(&[0.5; BLOCK], |event| told.push(event));
    slot.write(&SILENT, |event| told.push(event));
    assert_eq!(told, []);
    let sound = heard.samples();
    assert_eq!((sound.len(), sound[0], sound[BLOCK - 1]), (2 * BLOCK, 0.5, 0.5), "not faded out");
    assert!(slot.present());
    assert_eq!(post.in_use().unwrap().id, "old");
    let state = lock(&post.state);
    // So the keeper hears of it, and tells or looks for another one.
    assert_eq!(state.refused.as_ref().map(|(serial, _)| *serial), Some(7));
    assert_eq!((state.taken, &state.lost), (None, &None));
}

/// Two devices that are missing, which the desk looks for all the time.
#[cfg(feature = "devices")]
#[test]
fn without_ticks_the_desk_sleeps_until_it_is_rung_for() {
    let system = crate::device::cpal::fake::World::new([]).system();
    let bell = Arc::<Bell>::default();
    let (sources, sinks) = (Post::<Sources>::new(&bell), Post::<Sinks>::new(&bell));
    let now = Instant::now();
    let missing = || Err(DeviceFault::new(DeviceFaultKind::Missing, "none"));
    let (source, sink) = (crate::SourceSpec::Default, crate::SinkSpec::Default);
    let mut desk = Desk {
        sources: Counter::new(Arc::clone(&sources), &source, missing(), (&system, false), now),
        sinks: Counter::new(Arc::clone(&sinks), &sink, missing(), (&system, false), now),
        bell,
        system,
    };
    desk.step(now);
    let look = desk.wake().expect("it looks again");
    assert!(look > now);
    // The ticks are over, while a disk is waited for: what is due is done no more, nor waited for.
    sources.close();
    assert_eq!(desk.wake(), Some(look), "for a speaker it still looks");
    sinks.close();
    desk.step(look);
    assert_eq!(desk.wake(), None);
}
