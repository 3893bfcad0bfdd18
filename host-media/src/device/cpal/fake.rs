//! A sound system of the tests' own, behind the very interface that the real ones have: devices of any rate, number of
//! channels and format on a virtual clock, which drift, stall, are busy, denied, plugged in and out.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use cpal::{
    Data, DeviceDescription, DeviceDescriptionBuilder, DeviceId, Error, ErrorKind, FromSample, HostId,
    InputCallbackInfo, InputStreamTimestamp, OutputCallbackInfo, OutputStreamTimestamp, SampleFormat,
    SizedSample, StreamConfig, StreamInstant, SupportedBufferSize, SupportedStreamConfig,
    SupportedStreamConfigRange,
    platform::CustomHost,
    traits::{DeviceTrait, HostTrait, StreamTrait},
};

use super::System;
use crate::device::Direction;

pub(crate) use cpal::SampleFormat as Format;

type Sound = Arc<dyn Fn(f64) -> f32 + Send + Sync>;

/// How a device behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Fine,
    Busy,
    Denied,
    /// Opens, and then never calls.
    Stalls,
}

/// A device of the made-up system.
#[derive(Clone)]
pub(crate) struct Gear {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) direction: Direction,
    pub(crate) rate: u32,
    pub(crate) channels: u16,
    pub(crate) format: SampleFormat,
    /// How much faster its clock is than the world's, in millionths.
    pub(crate) ppm: f64,
    pub(crate) mood: Mood,
    pub(crate) here: bool,
    /// What a microphone hears at a time in seconds.
    pub(crate) sound: Sound,
    /// What a speaker played: the time of the first sample and mono samples at its rate.
    pub(crate) heard: Vec<(f64, Vec<f32>)>,
    /// The delay that it reports.
    pub(crate) latency: Duration,
}

impl Gear {
    pub(crate) fn new(direction: Direction, id: &'static str) -> Self {
        Self {
            id,
            name: id,
            direction,
            rate: 48_000,
            channels: 1,
            format: SampleFormat::F32,
            ppm: 0.0,
            mood: Mood::Fine,
            here: true,
            sound: Arc::new(|_| 0.0),
            heard: Vec::new(),
            latency: Duration::from_millis(3),
        }
    }

    pub(crate) fn format(mut self, rate: u32, channels: u16, format: SampleFormat) -> Self {
        (self.rate, self.channels, self.format) = (rate, channels, format);
        self
    }

    pub(crate) fn ppm(mut self, ppm: f64) -> Self {
        self.ppm = ppm;
        self
    }

    pub(crate) fn sound(mut self, sound: impl Fn(f64) -> f32 + Send + Sync + 'static) -> Self {
        self.sound = Arc::new(sound);
        self
    }

    fn speed(&self) -> f64 {
        f64::from(self.rate) * (1.0 + self.ppm * 1e-6)
    }
}

type OnInput = Box<dyn FnMut(&Data, &InputCallbackInfo) + Send>;
type OnOutput = Box<dyn FnMut(&mut Data, &OutputCallbackInfo) + Send>;

enum Call {
    In(OnInput),
    Out(OnOutput),
}

struct Running {
    serial: u64,
    id: &'static str,
    call: Call,
    error: Box<dyn FnMut(Error) + Send>,
    period: u32,
    began: Option<f64>,
    calls: u64,
    /// The device is gone.
    over: bool,
}

#[derive(Default)]
struct State {
    now: f64,
    gear: Vec<Gear>,
    defaults: [Option<&'static str>; 2],
    running: Vec<Running>,
    serial: u64,
    opened: u64,
}

/// The made-up system and its clock, which begins at zero.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<State>>);

fn side(direction: Direction) -> usize {
    usize::from(direction == Direction::Speaker)
}

impl World {
    /// The first of each direction is the default.
    pub(crate) fn new(gear: impl IntoIterator<Item = Gear>) -> Self {
        let world = Self::default();
        for gear in gear {
            let mut state = world.state();
            state.defaults[side(gear.direction)].get_or_insert(gear.id);
            state.gear.push(gear);
        }
        world
    }

    pub(crate) fn system(&self) -> System {
        let world = self.clone();
        System::made_by(move || cpal::Host::from(CustomHost::from_host(world.clone())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn change<T>(&self, id: &str, change: impl FnOnce(&mut Gear) -> T) -> T {
        change(self.state().gear.iter_mut().find(|g| g.id == id).unwrap())
    }

    pub(crate) fn set_default(&self, direction: Direction, id: Option<&'static str>) {
        self.state().defaults[side(direction)] = id;
    }

    /// Pulls a device out. Its streams are told, or not: sound servers tell nothing.
    pub(crate) fn unplug(&self, id: &str, told: bool) {
        self.change(id, |gear| gear.here = false);
        for running in self.state().running.iter_mut().filter(|r| r.id == id) {
            if told {
                running.over = true;
                (running.error)(Error::new(ErrorKind::DeviceNotAvailable));
            }
        }
    }

    pub(crate) fn plug(&self, id: &str) {
        self.change(id, |gear| gear.here = true);
    }

    /// A driver's report of a gap.
    pub(crate) fn xrun(&self, id: &str) {
        for running in self.state().running.iter_mut().filter(|r| r.id == id) {
            (running.error)(Error::new(ErrorKind::Xrun));
        }
    }

    /// How many streams are open, and how many were ever opened.
    pub(crate) fn streams(&self) -> (usize, u64) {
        let state = self.state();
        (state.running.len(), state.opened)
    }

    /// Lets the time pass until then: all callbacks that are due are made, in order.
    pub(crate) fn advance(&self, to: f64) {
        let state = &mut *self.state();
        loop {
            let due = |r: &Running| {
                let gear = state.gear.iter().find(|g| g.id == r.id)?;
                let calls = !r.over && gear.mood != Mood::Stalls;
                let at = r.began? + (r.calls + 1) as f64 * f64::from(r.period) / gear.speed();
                (calls && at <= to).then_some(at)
            };
            let next = state.running.iter().enumerate().filter_map(|(i, r)| Some((i, due(r)?)));
            let Some((i, at)) = next.min_by(|a, b| a.1.total_cmp(&b.1)) else { break };
            state.now = at;
            let running = &mut state.running[i];
            let gear = state.gear.iter_mut().find(|g| g.id == running.id).unwrap();
            call(running, gear, at);
        }
        state.now = to;
    }
}

fn call(running: &mut Running, gear: &mut Gear, at: f64) {
    match gear.format {
        SampleFormat::I16 => call_as::<i16>(running, gear, at),
        SampleFormat::I32 => call_as::<i32>(running, gear, at),
        SampleFormat::U8 => call_as::<u8>(running, gear, at),
        SampleFormat::F32 => call_as::<f32>(running, gear, at),
        SampleFormat::F64 => call_as::<f64>(running, gear, at),
        other => panic!("the made-up devices have no {other}"),
    }
}

fn call_as<T: SizedSample + FromSample<f32> + Default>(running: &mut Running, gear: &mut Gear, at: f64)
where
    f32: FromSample<T>,
{
    let channels = usize::from(gear.channels);
    let mut buffer = vec![T::default(); running.period as usize * channels];
    let callback = StreamInstant::new(at as u64, (at.fract() * 1e9) as u32);
    match &mut running.call {
        Call::In(call) => {
            let from =
                running.began.unwrap() + (running.calls * u64::from(running.period)) as f64 / gear.speed();
            for (i, frame) in buffer.chunks_exact_mut(channels).enumerate() {
                frame.fill(T::from_sample((gear.sound)(from + i as f64 / gear.speed())));
            }
            let capture = callback.checked_sub(gear.latency).unwrap_or(callback);
            let stamp = InputStreamTimestamp { callback, capture };
            let data = data(&mut buffer);
            refuse(|| call(&data, &InputCallbackInfo::new(stamp)));
        }
        Call::Out(call) => {
            let stamp = OutputStreamTimestamp { callback, playback: callback + gear.latency };
            let mut data = data(&mut buffer);
            refuse(|| call(&mut data, &OutputCallbackInfo::new(stamp)));
            let mono = buffer.iter().step_by(channels).map(|s| f32::from_sample_(*s)).collect();
            gear.heard.push((at, mono));
        }
    }
    running.calls += 1;
}

/// A callback must not allocate or free anything.
fn refuse(callback: impl FnOnce()) {
    let before = assert_no_alloc::violation_count();
    assert_no_alloc::assert_no_alloc(callback);
    assert_eq!(assert_no_alloc::violation_count(), before, "a callback asked for memory");
}

/// The form in which callbacks get samples. cpal has no safe way to make one.
#[allow(unsafe_code)]
fn data<T: SizedSample>(buffer: &mut [T]) -> Data {
    // SAFETY: pointer, length and format are those of the same slice, whose samples are initialised; the result is used
    // up by the caller before the slice is touched again.
    unsafe { Data::from_parts(buffer.as_mut_ptr().cast(), buffer.len(), T::FORMAT) }
}

impl HostTrait for World {
    type Devices = std::vec::IntoIter<FakeDevice>;
    type Device = FakeDevice;

    fn is_available() -> bool {
        true
    }

    fn devices(&self) -> Result<Self::Devices, Error> {
        let here: Vec<_> = self.state().gear.iter().filter(|g| g.here).cloned().collect();
        let devices = here.into_iter().map(|gear| FakeDevice { gear, world: self.clone() });
        Ok(devices.collect::<Vec<_>>().into_iter())
    }

    fn default_input_device(&self) -> Option<FakeDevice> {
        let id = self.state().defaults[0]?;
        self.devices().ok()?.find(|d| d.gear.id == id)
    }

    fn default_output_device(&self) -> Option<FakeDevice> {
        let id = self.state().defaults[1]?;
        self.devices().ok()?.find(|d| d.gear.id == id)
    }
}

#[derive(Clone)]
pub(crate) struct FakeDevice {
    gear: Gear,
    world: World,
}

impl FakeDevice {
    fn config(&self, direction: Direction) -> Result<SupportedStreamConfig, Error> {
        if self.gear.direction != direction {
            return Err(Error::new(ErrorKind::UnsupportedOperation));
        }
        let buffer = SupportedBufferSize::Range { min: 1, max: 1 << 16 };
        Ok(SupportedStreamConfig::new(self.gear.channels, self.gear.rate, buffer, self.gear.format))
    }

    fn configs(&self, direction: Direction) -> std::vec::IntoIter<SupportedStreamConfigRange> {
        let config = self.config(direction).ok().map(|c| {
            let rate = c.sample_rate();
            SupportedStreamConfigRange::new(c.channels(), rate, rate, *c.buffer_size(), c.sample_format())
        });
        config.into_iter().collect::<Vec<_>>().into_iter()
    }

    fn open(
        &self,
        config: StreamConfig,
        call: Call,
        error: Box<dyn FnMut(Error) + Send>,
    ) -> Result<FakeStream, Error> {
        let mut state = self.world.state();
        let gear = state.gear.iter().find(|g| g.id == self.gear.id).unwrap();
        match gear.mood {
            _ if !gear.here => return Err(Error::new(ErrorKind::DeviceNotAvailable)),
            Mood::Busy => return Err(Error::new(ErrorKind::DeviceBusy)),
            Mood::Denied => return Err(Error::new(ErrorKind::PermissionDenied)),
            Mood::Fine | Mood::Stalls => {}
        }
        let cpal::BufferSize::Fixed(period) = config.buffer_size else {
            return Err(Error::new(ErrorKind::UnsupportedConfig));
        };
        state.serial += 1;
        state.opened += 1;
        let serial = state.serial;
        let id = self.gear.id;
        let running = Running { serial, id, call, error, period, began: None, calls: 0, over: false };
        state.running.push(running);
        Ok(FakeStream { serial, world: self.world.clone() })
    }
}

impl PartialEq for FakeDevice {
    fn eq(&self, other: &Self) -> bool {
        self.gear.id == other.gear.id
    }
}

impl Eq for FakeDevice {}

impl Hash for FakeDevice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.gear.id.hash(state);
    }
}

impl fmt::Debug for FakeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.gear.id)
    }
}

impl fmt::Display for FakeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.gear.name)
    }
}

impl DeviceTrait for FakeDevice {
    type SupportedInputConfigs = std::vec::IntoIter<SupportedStreamConfigRange>;
    type SupportedOutputConfigs = std::vec::IntoIter<SupportedStreamConfigRange>;
    type Stream = FakeStream;

    fn description(&self) -> Result<DeviceDescription, Error> {
        Ok(DeviceDescriptionBuilder::new(self.gear.name).build())
    }

    fn id(&self) -> Result<DeviceId, Error> {
        Ok(DeviceId::new(HostId::Custom, self.gear.id))
    }

    fn supported_input_configs(&self) -> Result<Self::SupportedInputConfigs, Error> {
        Ok(self.configs(Direction::Microphone))
    }

    fn supported_output_configs(&self) -> Result<Self::SupportedOutputConfigs, Error> {
        Ok(self.configs(Direction::Speaker))
    }

    fn default_input_config(&self) -> Result<SupportedStreamConfig, Error> {
        self.config(Direction::Microphone)
    }

    fn default_output_config(&self) -> Result<SupportedStreamConfig, Error> {
        self.config(Direction::Speaker)
    }

    fn build_input_stream_raw<D, E>(
        &self,
        config: StreamConfig,
        _: SampleFormat,
        data_callback: D,
        error_callback: E,
        _: Option<Duration>,
    ) -> Result<FakeStream, Error>
    where
        D: FnMut(&Data, &InputCallbackInfo) + Send + 'static,
        E: FnMut(Error) + Send + 'static,
    {
        self.open(config, Call::In(Box::new(data_callback)), Box::new(error_callback))
    }

    fn build_output_stream_raw<D, E>(
        &self,
        config: StreamConfig,
        _: SampleFormat,
        data_callback: D,
        error_callback: E,
        _: Option<Duration>,
    ) -> Result<FakeStream, Error>
    where
        D: FnMut(&mut Data, &OutputCallbackInfo) + Send + 'static,
        E: FnMut(Error) + Send + 'static,
    {
        self.open(config, Call::Out(Box::new(data_callback)), Box::new(error_callback))
    }
}

pub(crate) struct FakeStream {
    serial: u64,
    world: World,
}

impl StreamTrait for FakeStream {
    fn play(&self) -> Result<(), Error> {
        let mut state = self.world.state();
        let now = state.now;
        let running = state.running.iter_mut().find(|r| r.serial == self.serial).unwrap();
        running.began.get_or_insert(now);
        Ok(())
    }

    fn pause(&self) -> Result<(), Error> {
        Err(Error::new(ErrorKind::UnsupportedOperation))
    }

    fn now(&self) -> StreamInstant {
        let now = self.world.state().now;
        StreamInstant::new(now as u64, (now.fract() * 1e9) as u32)
    }

    fn buffer_size(&self) -> Result<u32, Error> {
        let state = self.world.state();
        Ok(state.running.iter().find(|r| r.serial == self.serial).unwrap().period)
    }
}

impl Drop for FakeStream {
    fn drop(&mut self) {
        let mut state = self.world.state();
        let gone =
            state.running.iter().position(|r| r.serial == self.serial).map(|i| state.running.remove(i));
        // The callbacks go without the lock.
        drop(state);
        drop(gone);
    }
}
