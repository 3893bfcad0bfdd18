//! Sound as pictures: spectrograms as PNG, waveforms as SVG paths.

use std::{f32::consts::PI, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use realfft::RealFftPlanner;

use super::{
    compare::FINE_RATE,
    sound::{Clip, resample},
};

/// Samples of a spectrum: 32 ms at 16 kHz, between the pitch of a voice and the length of a syllable.
const FFT: usize = 512;
/// Rows of a spectrogram, each two bins of 31.25 Hz: up to 8 kHz.
const ROWS: usize = FFT / 4;
/// Columns of a spectrogram: one in 12 ms for ten seconds, and no more than a screen shows.
const COLUMNS: usize = 800;
/// The range of the colours, in decibels against a full-scale sine.
const RANGE_DB: (f32, f32) = (-92.0, -22.0);

/// A spectrogram from 0 to 8 kHz as a `data:` address of a PNG file. `from` and `to` are seconds; outside the clip it is
/// silent.
pub(super) fn spectrogram(clip: &Clip, from: f64, to: f64) -> Result<String, String> {
    let samples = resample(&clip.samples, clip.rate, FINE_RATE);
    let mut planner = RealFftPlanner::<f32>::new();
    let fft = planner.plan_fft_forward(FFT);
    let window: Vec<f32> = (0..FFT).map(|i| (PI * i as f32 / FFT as f32).sin().powi(2)).collect();
    // A full-scale sine under this window has this magnitude.
    let full: f32 = window.iter().sum::<f32>() / 2.0;
    let (mut input, mut output) = (fft.make_input_vec(), fft.make_output_vec());
    let mut pixels = vec![0_u8; ROWS * COLUMNS];
    for column in 0..COLUMNS {
        let middle = from + (to - from) * (column as f64 + 0.5) / COLUMNS as f64;
        let start = (middle * f64::from(FINE_RATE)) as i64 - FFT as i64 / 2;
        for (i, (slot, weight)) in input.iter_mut().zip(&window).enumerate() {
            let at = usize::try_from(start + i as i64).ok();
            *slot = at.and_then(|at| samples.get(at)).copied().unwrap_or(0.0) * weight;
        }
        fft.process(&mut input, &mut output).map_err(|e| format!("cannot draw a spectrogram: {e}"))?;
        for row in 0..ROWS {
            let power = output[2 * row].norm_sqr().max(output[2 * row + 1].norm_sqr());
            let db = 10.0 * (power / (full * full)).max(1e-12).log10();
            let share = ((db - RANGE_DB.0) / (RANGE_DB.1 - RANGE_DB.0)).clamp(0.0, 1.0);
            pixels[(ROWS - 1 - row) * COLUMNS + column] = (share * 255.0) as u8;
        }
    }
    let file = png(&pixels).map_err(|e| format!("cannot draw a spectrogram: {e}"))?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(file)))
}

fn png(pixels: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, COLUMNS as u32, ROWS as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette());
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(file)
}

/// From night over violet and orange to pale yellow, evenly brighter, so that it also reads in grey.
fn palette() -> Vec<u8> {
    const STOPS: [[f32; 3]; 7] = [
        [12.0, 12.0, 26.0],
        [44.0, 26.0, 84.0],
        [104.0, 33.0, 116.0],
        [173.0, 53.0, 100.0],
        [228.0, 95.0, 66.0],
        [249.0, 164.0, 62.0],
        [252.0, 244.0, 190.0],
    ];
    let mut out = Vec::with_capacity(768);
    for i in 0..256_u16 {
        let at = f32::from(i) / 255.0 * (STOPS.len() - 1) as f32;
        let low = (at as usize).min(STOPS.len() - 2);
        let share = at - low as f32;
        for (a, b) in STOPS[low].iter().zip(&STOPS[low + 1]) {
            out.push((a + (b - a) * share).round() as u8);
        }
    }
    out
}

/// The outline of a waveform as an SVG path, `width` units wide and 100 high, with the middle at 50. `top` is the
/// amplitude that fills the height.
pub(super) fn waveform(clip: &Clip, from: f64, to: f64, width: usize, top: f32) -> String {
    let place =
        |s: f64| usize::try_from((s * f64::from(clip.rate)) as i64).unwrap_or(0).min(clip.samples.len());
    let edge = |column: usize| place(from + (to - from) * column as f64 / width as f64);
    let scale = 49.0 / top.max(1e-4);
    let (mut upper, mut lower) = (String::new(), Vec::new());
    for column in 0..width {
        let part = &clip.samples[edge(column)..edge(column + 1).max(edge(column))];
        let (low, high) = part.iter().fold((0.0_f32, 0.0_f32), |(l, h), s| (l.min(*s), h.max(*s)));
        let y = |s: f32| 50.0 - (s * scale).clamp(-49.0, 49.0);
        let letter = if column == 0 { 'M' } else { 'L' };
        // Writing to a String cannot fail. Half a unit each way keeps silence visible as a line.
        let _ = write!(upper, "{letter}{column} {:.1}", y(high) - 0.4);
        lower.push((column, y(low) + 0.4));
    }
    for (column, y) in lower.into_iter().rev() {
        let _ = write!(upper, "L{column} {y:.1}");
    }
    upper.push('Z');
    upper
}

/// The amplitude that a picture of these clips should have room for.
pub(super) fn loudest(clips: &[&Clip]) -> f32 {
    clips.iter().flat_map(|c| &c.samples).fold(0.0, |top: f32, s| top.max(s.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32) -> Clip {
        let samples = (0..48_000).map(|i| 0.5 * (i as f32 * hz * 2.0 * PI / 48_000.0).sin()).collect();
        Clip { samples, rate: 48_000 }
    }

    #[test]
    fn a_tone_is_a_bright_line_at_its_place() {
        let address = spectrogram(&tone(2000.0), 0.0, 1.0).unwrap();
        let file = STANDARD.decode(address.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
        decoder.set_transformations(png::Transformations::IDENTITY);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width as usize, info.height as usize), (COLUMNS, ROWS));
        let column: Vec<u8> = (0..ROWS).map(|row| pixels[row * COLUMNS + COLUMNS / 2]).collect();
        let brightest = (0..ROWS).max_by_key(|row| column[*row]).unwrap();
        // 2 kHz is a quarter of the way up.
        assert!((brightest as i64 - 95).abs() <= 1, "{brightest}");
        assert_eq!(column[10], 0, "nothing at 7 kHz");
    }

    #[test]
    fn a_waveform_fills_its_height_and_silence_is_a_line() {
        let path = waveform(&tone(100.0), 0.0, 1.0, 10, 0.5);
        assert!(path.starts_with("M0 0.6L1 0.6") && path.ends_with("L0 99.4Z"), "{path}");
        let path = waveform(&Clip { samples: vec![], rate: 48_000 }, 0.0, 1.0, 2, 0.5);
        assert_eq!(path, "M0 49.6L1 49.6L1 50.4L0 50.4Z");
    }
}
