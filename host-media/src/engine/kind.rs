//! What sources and sinks have in common, so that they are kept and switched by one code.

use crate::{
    device::{Direction, Found, Opened, System, keeper::Want},
    error::{DeviceFault, DeviceFaultKind, Error},
    event::{ChangeReason, Event},
    play::ahead::Ahead,
    sink::{self, Sink},
    source::{self, Source},
    spec::{SinkSpec, SourceSpec},
};

/// Sources or sinks.
pub(super) trait Kind: 'static {
    const DIRECTION: Direction;
    type Spec: Clone + Send;
    type Dyn: ?Sized + Send;

    /// In lockstep ticks may wait for a disk, because they are not bound to a clock.
    fn open(system: &System, spec: &Self::Spec, lockstep: bool) -> Opened<Self::Dyn>;
    fn open_device(system: &System, id: Option<&str>) -> Opened<Self::Dyn>;
    fn want(spec: &Self::Spec) -> Want;
    fn text(spec: &Self::Spec) -> String;
    fn changed(id: String, name: String, reason: ChangeReason) -> Event;
    fn nothing(cause: DeviceFault) -> Event;
    /// Closes it for good, which may take a while.
    fn retire(it: Box<Self::Dyn>) -> Option<Event>;
}

#[derive(Debug)]
pub(super) struct Sources;

impl Kind for Sources {
    const DIRECTION: Direction = Direction::Microphone;
    type Spec = SourceSpec;
    type Dyn = dyn Source;

    fn open(system: &System, spec: &SourceSpec, lockstep: bool) -> Opened<dyn Source> {
        let it: Box<dyn Source> = match spec {
            SourceSpec::Default => return system.open_source(None),
            SourceSpec::Device(id) => return system.open_source(Some(id)),
            SourceSpec::Wav(path) => Box::new(source::open_wav(path)?),
            SourceSpec::Opus(path) => Box::new(Ahead::source(path, lockstep)?),
            SourceSpec::Tone => Box::new(source::Tone::default()),
            SourceSpec::Silence => Box::new(source::Silence),
            SourceSpec::Memory(memory) => Box::new(memory.open()?),
        };
        Ok(Ok(Found { it, id: spec.to_string(), name: spec.to_string() }))
    }

    fn open_device(system: &System, id: Option<&str>) -> Opened<dyn Source> {
        system.open_source(id)
    }

    fn want(spec: &SourceSpec) -> Want {
        match spec {
            SourceSpec::Default => Want::Default,
            SourceSpec::Device(id) => Want::Device(id.clone()),
            _ => Want::Other,
        }
    }

    fn text(spec: &SourceSpec) -> String {
        spec.to_string()
    }

    fn changed(id: String, name: String, reason: ChangeReason) -> Event {
        Event::SourceChanged { id, name, reason }
    }

    fn nothing(cause: DeviceFault) -> Event {
        Event::ListenOnly { cause }
    }

    fn retire(it: Box<dyn Source>) -> Option<Event> {
        drop(it);
        None
    }
}

#[derive(Debug)]
pub(super) struct Sinks;

impl Kind for Sinks {
    const DIRECTION: Direction = Direction::Speaker;
    type Spec = SinkSpec;
    type Dyn = dyn Sink;

    fn open(system: &System, spec: &SinkSpec, _lockstep: bool) -> Opened<dyn Sink> {
        let it: Box<dyn Sink> = match spec {
            SinkSpec::Default => return system.open_sink(None),
            SinkSpec::Device(id) => return system.open_sink(Some(id)),
            SinkSpec::Wav(path, format) => Box::new(sink::create_wav(path, *format)?),
            SinkSpec::Null => Box::new(sink::Null),
            SinkSpec::Memory(memory) => Box::new(memory.clone()),
        };
        Ok(Ok(Found { it, id: spec.to_string(), name: spec.to_string() }))
    }

    fn open_device(system: &System, id: Option<&str>) -> Opened<dyn Sink> {
        system.open_sink(id)
    }

    fn want(spec: &SinkSpec) -> Want {
        match spec {
            SinkSpec::Default => Want::Default,
            SinkSpec::Device(id) => Want::Device(id.clone()),
            _ => Want::Other,
        }
    }

    fn text(spec: &SinkSpec) -> String {
        spec.to_string()
    }

    fn changed(id: String, name: String, reason: ChangeReason) -> Event {
        Event::SinkChanged { id, name, reason }
    }

    fn nothing(cause: DeviceFault) -> Event {
        Event::NoSpeaker { cause }
    }

    fn retire(mut it: Box<dyn Sink>) -> Option<Event> {
        it.finish().err().map(|e| Event::SinkFailed { cause: e.to_string() })
    }
}

/// Any failure of opening as the fault of a device.
pub(super) fn flat<T: ?Sized>(opened: Opened<T>) -> Result<Found<T>, DeviceFault> {
    match opened {
        Ok(result) => result,
        Err(Error::Devices(fault)) => Err(fault),
        Err(e @ Error::NoSuchDevice { .. }) => Err(DeviceFault::new(DeviceFaultKind::Missing, e.to_string())),
        Err(e) => Err(DeviceFault::new(DeviceFaultKind::Other, e.to_string())),
    }
}
