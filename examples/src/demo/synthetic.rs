//! A call that never took place, to test what is made of one.

use std::fmt::Write as _;

use super::{
    record::{Line, Record},
    result::{Direction, Outcome, Side},
    sound::{Clip, resample},
};

/// What is built into it: offer to ring.
pub(super) const RING_MS: f64 = 46.0;
/// Accept to first sound at the caller's and at the callee's.
pub(super) const HEARD_MS: [f64; 2] = [93.0, 81.0];
/// Mouth to ear, by who speaks.
pub(super) const DELAY_MS: [f64; 2] = [64.0, 71.0];

const SPEECH: [&[u8]; 2] =
    [include_bytes!("../../assets/speech-a.wav"), include_bytes!("../../assets/speech-b.wav")];

/// Unix time of the offer.
const T: f64 = 1_790_000_000.0;
/// The callee accepts a second later.
const ACCEPT_MS: f64 = 1046.0;

pub(super) fn outcome() -> Outcome {
    let steps: [&[(&str, f64)]; 2] = [
        &[
            ("started", 0.0),
            ("reached", 13.4),
            ("answered", 31.0),
            ("confirmed", 31.2),
            ("ringing", 47.5),
            ("offer_received", 49.0),
            ("answer_created", 52.2),
            ("answer_sent", 52.3),
            ("checking", 54.0),
            ("securing", 88.0),
            ("connected", 121.0),
            ("accepted", ACCEPT_MS + 4.0),
            ("media_started", ACCEPT_MS + 12.0),
            ("first_audio", ACCEPT_MS + HEARD_MS[0]),
        ],
        &[
            ("started", 27.0),
            ("confirmed", 45.0),
            ("ringing", RING_MS),
            ("offer_created", 47.0),
            ("offer_sent", 47.1),
            ("answer_received", 53.5),
            ("checking", 54.2),
            ("securing", 86.0),
            ("connected", 122.5),
            ("accepted", ACCEPT_MS),
            ("media_started", ACCEPT_MS + 6.0),
            ("first_audio", ACCEPT_MS + HEARD_MS[1]),
        ],
    ];
    let started = [(T + 1.06, T + 1.061), (T + 1.052, T + 1.053)];
    let sides = [0, 1].map(|side| {
        let name = ["Alice", "Bob"][side];
        Side { name, record: record(side, steps[side], started[side]) }
    });
    let directions = [0, 1].map(|from| {
        let to = 1 - from;
        let said = speech(SPEECH[from]);
        let apart_ms = (started[to].1 - started[from].0) * 1000.0;
        let heard = later(&said, DELAY_MS[from] - apart_ms);
        let files = [format!("{}-said.wav", sides[from].name), format!("{}-heard.wav", sides[to].name)];
        Direction::new(
            [from, to],
            [said, heard],
            files.map(|f| f.to_lowercase()),
            Some((started[from].0, started[to].1)),
        )
    });
    Outcome { sides, directions: directions.into(), problems: Vec::new() }
}

fn record(side: usize, steps: &[(&str, f64)], (mic, speaker): (f64, f64)) -> Record {
    let mut lines = vec![
        format!(
            r#"{{"event":"ready","t":{},"did":"did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2do{side}"}}"#,
            T - 0.4
        ),
        format!(r#"{{"event":"{}","t":{}}}"#, ["offering", "incoming"][side], T + steps[0].1 / 1000.0),
        format!(r#"{{"event":"media_started","t":{},"mic_t":{mic},"speaker_t":{speaker}}}"#, T + 2.0),
    ];
    for second in 0..10 {
        let wave = f64::from(second).sin();
        let loss = if second == 6 { "0.4" } else { "0" };
        lines.push(format!(
            r#"{{"event":"stats","t":{},"rtt_ms":{},"jitter_ms":{},"loss_pct":{loss},"sent_bps":{},"received_bps":{},
            "concealed_pct":{},"jitter_buffer_ms":{},"route":"host"}}"#,
            T + 2.0 + f64::from(second),
            if second == 0 { "null".to_owned() } else { format!("{}", 0.4 + 0.1 * wave) },
            0.2 + 0.1 * wave * wave,
            36_000.0 + 3000.0 * wave,
            35_500.0 + 2500.0 * wave,
            if second == 6 { 0.3 } else { 0.0 },
            42.0 + 3.0 * wave,
        ));
    }
    let mut marks = String::new();
    for (name, ms) in steps {
        let comma = if marks.is_empty() { "" } else { "," };
        let _ = write!(marks, r#"{comma}{{"step":"{name}","ms":{}}}"#, ms - steps[0].1);
    }
    lines.push(format!(r#"{{"event":"ended","t":{},"reason":"hung_up"}}"#, T + 11.5));
    lines.push(format!(r#"{{"event":"summary","t":{},"timeline":[{marks}]}}"#, T + 11.5));
    let mut record = Record::default();
    lines.iter().filter_map(|line| Line::parse(line)).for_each(|line| record.push(line));
    record
}

fn speech(file: &[u8]) -> Clip {
    let mut reader = hound::WavReader::new(file).unwrap();
    let samples: Vec<f32> = reader.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32_768.0).collect();
    Clip { samples: resample(&samples, reader.spec().sample_rate, 48_000), rate: 48_000 }
}

fn later(clip: &Clip, ms: f64) -> Clip {
    let mut samples = vec![0.0; (ms * 48.0).round() as usize];
    samples.extend_from_slice(&clip.samples);
    Clip { samples, rate: clip.rate }
}
