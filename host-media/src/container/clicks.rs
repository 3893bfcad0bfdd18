//! Clicks, and how to find them again behind a codec: what tests of recordings measure time with.

/// Length of a click: 4 ms.
pub(crate) const CLICK: usize = 192;

/// What a click is: a chirp from 500 to 3000 Hz that swells and fades, so that codecs keep it and nothing else in
/// these tests looks like it.
pub(crate) fn click(i: usize) -> f32 {
    let t = i as f32 / CLICK as f32;
    let phase = 0.004 * (500.0 * t + 1250.0 * t * t);
    0.6 * (std::f32::consts::PI * t).sin().powi(2) * (std::f32::consts::TAU * phase).sin()
}

/// Starts of clicks, in milliseconds: where the sound around something loud is most like a click.
pub(crate) fn found(sound: &[f32]) -> Vec<f64> {
    let shape: Vec<f32> = (0..CLICK).map(click).collect();
    let (mut all, mut i) = (Vec::new(), 0);
    while i < sound.len() {
        if sound[i].abs() > 0.15 {
            let likeness = |at: &usize| -> f32 { sound[*at..].iter().zip(&shape).map(|(a, b)| a * b).sum() };
            let around = i.saturating_sub(480)..(i + 480).min(sound.len());
            let best = around.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap();
            all.push(best as f64 / 48.0);
            i += 1_440;
        }
        i += 1;
    }
    all
}
