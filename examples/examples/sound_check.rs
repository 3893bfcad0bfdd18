//! What a settings screen does before any call: lists the devices, plays a tone, and shows the level of the microphone.
//!
//! ```text
//! cargo run -p blink-examples --example sound_check
//! cargo run -p blink-examples --example sound_check MICROPHONE SPEAKER      ids as it lists them
//! ```

use std::{env, io::Write, thread, time::Duration};

use warp_blink::audio::{MicrophoneMeter, SinkSpec, SourceSpec, devices, test_tone};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let microphone: SourceSpec = arguments.next().as_deref().unwrap_or("default").parse()?;
    let speaker: SinkSpec = arguments.next().as_deref().unwrap_or("default").parse()?;

    // A machine without any sound system is a machine without devices.
    for device in devices().unwrap_or_default() {
        let default = if device.default { " (default)" } else { "" };
        println!("{}: {}{default}\n    {}", device.direction, device.name, device.id);
    }

    match test_tone(&speaker) {
        Ok(tone) => {
            println!("a tone from {speaker}");
            while tone.playing() {
                thread::sleep(Duration::from_millis(100));
            }
            if let Some(fault) = tone.fault() {
                println!("it ended early: {fault}");
            }
        }
        Err(error) => println!("no tone: {error}"),
    }

    let meter = match MicrophoneMeter::open(&microphone) {
        Ok(meter) => meter,
        Err(error) => {
            println!("no microphone: {error}");
            return Ok(());
        }
    };
    println!("say something into {microphone}");
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(100));
        // From 0, the loudest, to 127, silence (RFC 6464): a bar of 60 dB.
        let bar = usize::from(60_u8.saturating_sub(meter.level()));
        print!("\r{:60}", "#".repeat(bar));
        std::io::stdout().flush()?;
        if let Some(fault) = meter.fault() {
            println!("\nit ended: {fault}");
            break;
        }
    }
    println!();
    Ok(())
}
