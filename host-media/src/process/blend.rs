//! Switches a stage of the processing on and off without a click.

/// How much of a stage is heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Blend {
    /// The stage does not run.
    #[default]
    Dry,
    /// It runs and is not heard yet: its filters fill. The longest delay of a stage is shorter than a block.
    Warm,
    /// It is faded in.
    In,
    /// It alone is heard.
    Wet,
    /// It is faded out.
    Out,
}

impl Blend {
    /// What the next block is, if the stage is to be on or not.
    pub(super) fn next(self, on: bool) -> Self {
        match (self, on) {
            (Self::Dry, true) => Self::Warm,
            (Self::Warm | Self::Out, true) => Self::In,
            (Self::In | Self::Wet, true) => Self::Wet,
            (Self::In | Self::Wet, false) => Self::Out,
            (Self::Dry | Self::Warm | Self::Out, false) => Self::Dry,
        }
    }

    /// Whether the stage runs.
    pub(super) fn runs(self) -> bool {
        self != Self::Dry
    }

    /// Puts what came of the stage over what went into it.
    pub(super) fn apply(self, dry: &mut [f32], wet: &[f32]) {
        let (from, to) = match self {
            Self::Dry | Self::Warm => return,
            Self::Wet => return dry.copy_from_slice(wet),
            Self::In => (0.0, 1.0),
            Self::Out => (1.0, 0.0),
        };
        let step = (to - from) / dry.len() as f32;
        for (i, (dry, wet)) in dry.iter_mut().zip(wet).enumerate() {
            *dry += (wet - *dry) * (from + step * (i + 1) as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_warms_up_before_it_is_heard_and_fades_in_and_out() {
        let mut blend = Blend::default();
        let mut heard = Vec::new();
        for on in [false, true, true, true, true, false, false] {
            blend = blend.next(on);
            let mut sound = [0.0; 4];
            blend.apply(&mut sound, &[1.0; 4]);
            heard.push((blend, sound[0], sound[3]));
        }
        let wanted = [
            (Blend::Dry, 0.0, 0.0),
            (Blend::Warm, 0.0, 0.0),
            (Blend::In, 0.25, 1.0),
            (Blend::Wet, 1.0, 1.0),
            (Blend::Wet, 1.0, 1.0),
            (Blend::Out, 0.75, 0.0),
            (Blend::Dry, 0.0, 0.0),
        ];
        assert_eq!(heard, wanted);
    }
}
