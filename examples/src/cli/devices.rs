//! `blink devices`.

use warp_blink::audio::{self, DeviceInfo, Direction};

use super::{
    failure::{Exit, Failure},
    line::{Device, Line},
    output::Output,
};

pub(super) fn run(json: bool) -> Result<Exit, Failure> {
    let devices = audio::devices().map_err(Failure::other)?;
    let of = |direction| devices.iter().filter(move |d| d.direction == direction).map(device).collect();
    let line = Line::Devices { microphones: of(Direction::Microphone), speakers: of(Direction::Speaker) };
    Output { json, control: false, waits: false }.write(&line).map_err(Failure::other)?;
    Ok(Exit::Done)
}

fn device(info: &DeviceInfo) -> Device {
    Device {
        id: info.id.clone(),
        name: info.name.clone(),
        default: info.default,
        rates: info.rates.iter().map(|range| [*range.start(), *range.end()]).collect(),
        channels: info.channels.clone(),
    }
}
