//! One call over a network that a seed decides, on a virtual clock, for `scripts/audio-quality.sh`.
//!
//! `quality speech=IN.wav heard=OUT.wav [loss=0.1] [burst=4] [seed=1] ...` sends the speech through a whole engine, the
//! network and a second engine with its jitter buffer, writes what is heard (16 kHz) and prints figures as JSON. Times
//! are seconds or milliseconds as `Job` says.

mod network;
mod session;

use std::{error::Error, path::PathBuf, process::ExitCode};

/// What to do, from arguments `name=value`.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// What is said: any WAV file.
    pub(crate) speech: PathBuf,
    /// What is heard is written here, at 16 kHz.
    pub(crate) heard: PathBuf,
    /// Share of the packets that are lost.
    pub(crate) loss: f64,
    /// How many packets in a row are lost at a time.
    pub(crate) burst: u32,
    /// Bursts have that length on the mean, each packet ending one as likely as any other, instead of each.
    pub(crate) varied: bool,
    /// Decides on the losses, the jitter and the phase of the receiver's clock.
    pub(crate) seed: u64,
    /// Fixed delay of the network in ms.
    pub(crate) delay: f64,
    /// Mean of the random delay in ms.
    pub(crate) jitter: f64,
    /// Standard deviation of a normal random delay in ms, instead of that.
    pub(crate) deviation: Option<f64>,
    /// The engine's own choice of settings; otherwise those below hold.
    pub(crate) adaptive: bool,
    /// Bit/s of the encoder.
    pub(crate) bitrate: Option<u32>,
    /// Loss in percent that redundancy is made for.
    pub(crate) expect: Option<u8>,
    /// Effort of the encoder.
    pub(crate) complexity: Option<u8>,
    /// Length of a frame in ms.
    pub(crate) frame: u8,
    /// What the receiver of the speech reads: redundant sound (RED) or plain Opus only.
    pub(crate) reads_red: bool,
    /// In-band redundancy, deep redundancy in ms, and copies of earlier frames as `COUNT:SPACING`.
    pub(crate) fec: Option<bool>,
    pub(crate) dred: Option<u64>,
    pub(crate) red: Option<(u8, u8)>,
    /// Effort of the decoder: below 5 it is classic.
    pub(crate) decoder: Option<u8>,
    /// The most that the network says may be sent, in bit/s with RTP's headers.
    pub(crate) limit: Option<u32>,
    /// Each change of the settings is told on standard error.
    pub(crate) trace: bool,
    /// The figures begin here, in seconds: what is before is for learning.
    pub(crate) warm: f64,
}

impl Job {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut job = Self {
            speech: PathBuf::new(),
            heard: PathBuf::new(),
            loss: 0.0,
            burst: 1,
            varied: false,
            seed: 1,
            delay: 40.0,
            jitter: 1.0,
            deviation: None,
            adaptive: true,
            bitrate: None,
            expect: None,
            complexity: None,
            frame: 20,
            reads_red: true,
            fec: None,
            dred: None,
            red: None,
            decoder: None,
            limit: None,
            trace: false,
            warm: 0.0,
        };
        for argument in arguments {
            let (name, value) =
                argument.split_once('=').ok_or_else(|| format!("{argument}: not name=value"))?;
            match name {
                "speech" => job.speech = value.into(),
                "heard" => job.heard = value.into(),
                "loss" => job.loss = value.parse()?,
                "burst" => job.burst = value.parse()?,
                "varied" => job.varied = value.parse()?,
                "seed" => job.seed = value.parse()?,
                "delay" => job.delay = value.parse()?,
                "jitter" => job.jitter = value.parse()?,
                "deviation" => job.deviation = Some(value.parse()?),
                "adaptive" => job.adaptive = value.parse()?,
                "bitrate" => job.bitrate = Some(value.parse()?),
                "expect" => job.expect = Some(value.parse()?),
                "complexity" => job.complexity = Some(value.parse()?),
                "frame" => job.frame = value.parse()?,
                "reads_red" => job.reads_red = value.parse()?,
                "fec" => job.fec = Some(value.parse()?),
                "dred" => job.dred = Some(value.parse()?),
                "red" => {
                    let (count, spacing) = value.split_once(':').ok_or("red: COUNT:SPACING")?;
                    job.red = Some((count.parse()?, spacing.parse()?));
                }
                "decoder" => job.decoder = Some(value.parse()?),
                "limit" => job.limit = Some(value.parse()?),
                "trace" => job.trace = value.parse()?,
                "warm" => job.warm = value.parse()?,
                _ => return Err(format!("{name}: no such setting").into()),
            }
        }
        if job.speech.as_os_str().is_empty() || job.heard.as_os_str().is_empty() {
            return Err("speech=IN.wav and heard=OUT.wav are needed".into());
        }
        Ok(job)
    }
}

fn main() -> ExitCode {
    match Job::parse(std::env::args().skip(1)).and_then(|job| session::run(&job)) {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("quality: {e}");
            ExitCode::FAILURE
        }
    }
}
