//! The transforms of the default optimizer and its switches.

use adopt::AdoptClip;
use cautious::Cautious;
use factored_moment::{DenseMoment, Division, FactoredMoment, FirstMoment, Rectify, RisingDecay, Squared};
use focus::{Focus, Weight};
use gradient_transform::{Descent, MomentScale};
use grams::Grams;
use muon_pp::{Muon, Normalisation, Precision};
use orthograd::OrthoGrad;
use prodigy_core::{Negative, Point, Prodigy, Ratio, Samples, Weighting};
use schedule_free::ScheduleFree;
use speed::{DisplacementSpeed, Speed};
use stableadamw::{SoftStableAdamW, StableAdamW};

use super::{Nothing, options};
use crate::registry::TransformKind;

options! {
    RectifyOptions { beta2: f64 = 0.99, divides_early: bool = false }
    OrthoGradOptions { normalises_noise: bool = false }
    FirstOptions { beta1: f64 = 0.9, scale: MomentScale = MomentScale::Rescaled }
    FactoredOptions {
        beta2: f64 = 0.99,
        division: Division = Division::default(),
        scale: MomentScale = MomentScale::Rescaled,
        of: Squared = Squared::Update,
        min_size: usize = 32,
        wrong_row_mean: bool = false,
    }
    DenseOptions {
        beta2: f64 = 0.99,
        division: Division = Division::default(),
        scale: MomentScale = MomentScale::Rescaled,
        of: Squared = Squared::Update,
    }
    FocusOptions {
        beta2: f64 = 0.99,
        gamma: f64 = 0.1,
        scale: MomentScale = MomentScale::Rescaled,
        of: Weight = Weight::Parameter,
    }
    MuonOptions { beta2: f64 = 0.99, bf16_iterations: bool = false, normalises_by_first_update: bool = false }
    ProdigyOptions {
        beta3: f64 = 0.99_f64.sqrt(),
        d0: f64 = 1e-6,
        d_coef: f64 = 1.0,
        prodigy_steps: u64 = 0,
        initial_d: Option<f64> = None,
        every: usize = 11,
        at: Point = Point::Parameter,
        weighting: Weighting = Weighting::Root,
        ratio: Ratio = Ratio::Arctangent,
        negative: Negative = Negative::Replaces,
        growth: Option<f64> = None,
        keeps_step_with_shape: bool = false,
        freeze_keeps_d_prev: bool = false,
        d_from_nothing: bool = false,
    }
    SpeedOptions {
        beta3: f64 = 0.99_f64.sqrt(),
        d0: f64 = 1e-6,
        d_coef: f64 = 1.0,
        prodigy_steps: u64 = 0,
        shrinks_above_one: bool = false,
    }
    DisplacementSpeedOptions {
        beta3: f64 = 0.99_f64.sqrt(),
        d0: f64 = 1e-6,
        d_coef: f64 = 1.0,
        prodigy_steps: u64 = 0,
        at: Point = Point::Parameter,
    }
    ScheduleFreeOptions {
        beta1: f64 = 0.9,
        strength: f64 = 0.0,
        weight_decay: f64 = 0.0,
        weight_decay_by_lr: bool = true,
        weight_sum_of_last_parameter: bool = false,
        decay_while_unrectified: bool = false,
    }
    DescentOptions { weight_decay: f64 = 0.0, weight_decay_by_lr: bool = true, decays_first: bool = false }
    CautiousOptions { scales_displacement: bool = false }
}

impl DenseOptions {
    pub(super) fn moment(&self) -> DenseMoment {
        let Self { beta2, division, scale, of } = *self;
        DenseMoment { division, scale, of, ..DenseMoment::new(beta2) }
    }
}

impl FactoredOptions {
    pub(super) fn moment(&self) -> FactoredMoment {
        let Self { beta2, division, scale, of, min_size, wrong_row_mean } = *self;
        FactoredMoment { division, scale, of, min_size, wrong_row_mean, ..FactoredMoment::new(beta2) }
    }
}

impl MuonOptions {
    fn muon(&self) -> Muon {
        let first = self.normalises_by_first_update;
        let normalisation = if first { Normalisation::FirstUpdate } else { Normalisation::default() };
        let precision = if self.bf16_iterations { Precision::Bf16 } else { Precision::default() };
        Muon { normalisation, precision, ..Muon::new(self.beta2) }
    }
}

impl ProdigyOptions {
    fn prodigy(&self) -> Prodigy {
        let Self { beta3, d0, d_coef, prodigy_steps, initial_d, every, .. } = *self;
        let Self { at, weighting, ratio, negative, growth, .. } = *self;
        let Self { keeps_step_with_shape, freeze_keeps_d_prev, d_from_nothing, .. } = *self;
        let samples = Samples { every, at, keeps_step_with_shape, ..Samples::new(beta3) };
        let prodigy = Prodigy { samples, d0, d_coef, prodigy_steps, initial_d, ..Prodigy::default() };
        Prodigy { weighting, ratio, negative, growth, freeze_keeps_d_prev, d_from_nothing, ..prodigy }
    }
}

impl SpeedOptions {
    fn speed(&self) -> Speed {
        let Self { beta3, d0, d_coef, prodigy_steps, shrinks_above_one } = *self;
        Speed { prodigy: Prodigy { d0, d_coef, prodigy_steps, ..Prodigy::new(beta3) }, shrinks_above_one }
    }
}

impl DisplacementSpeedOptions {
    fn speed(&self) -> DisplacementSpeed {
        let Self { beta3, d0, d_coef, prodigy_steps, at } = *self;
        let DisplacementSpeed { prodigy } = DisplacementSpeed::new(beta3);
        let samples = Samples { at, ..prodigy.samples };
        DisplacementSpeed { prodigy: Prodigy { samples, d0, d_coef, prodigy_steps, ..prodigy } }
    }
}

impl ScheduleFreeOptions {
    fn schedule_free(&self) -> ScheduleFree {
        let Self { beta1, strength, weight_decay, weight_decay_by_lr, .. } = *self;
        let Self { weight_sum_of_last_parameter, decay_while_unrectified, .. } = *self;
        ScheduleFree {
            strength,
            weight_decay,
            weight_decay_by_lr,
            weight_sum_of_last_parameter,
            decay_while_unrectified,
            ..ScheduleFree::new(beta1)
        }
    }
}

pub(super) fn kinds() -> Vec<TransformKind> {
    use TransformKind as Kind;
    vec![
        Kind::new("rectify", "RAdam's warm-up and bias correction", |o: RectifyOptions| Rectify {
            beta2: o.beta2,
            divides_early: o.divides_early,
        }),
        Kind::new(
            "rising-decay",
            "Adafactor's decay of second moments, which rises with the step",
            |o: RisingDecay| o,
        ),
        Kind::new("first-moment", "a moving average that follows d", |o: FirstOptions| FirstMoment {
            scale: o.scale,
            ..FirstMoment::new(o.beta1)
        }),
        Kind::new("adopt-clip", "elements bounded by the fourth root of the step's number", |_: Nothing| {
            AdoptClip
        }),
        Kind::new("orthograd", "the gradient without its part along the weights", |o: OrthoGradOptions| {
            OrthoGrad { normalises_noise: o.normalises_noise, ..OrthoGrad::default() }
        }),
        Kind::new("factored-moment", "division by a factored second moment", |o: FactoredOptions| o.moment()),
        Kind::new(
            "dense-moment",
            "division by a second moment for every element, not debiased",
            |o: DenseOptions| o.moment(),
        ),
        Kind::new("focus", "signs, attracted to the average of the weights", |o: FocusOptions| Focus {
            gamma: o.gamma,
            scale: o.scale,
            of: o.of,
            ..Focus::new(o.beta2)
        }),
        Kind::new("muon", "matrices orthogonalised by Newton and Schulz's iteration", |o: MuonOptions| {
            o.muon()
        }),
        Kind::new("stableadamw", "updates clipped by their root mean square", |_: Nothing| StableAdamW),
        Kind::new("soft-stableadamw", "large updates shortened to the root of their size", |_: Nothing| {
            SoftStableAdamW
        }),
        Kind::new(
            "prodigy",
            "the step size from an estimate of the distance to the solution",
            |o: ProdigyOptions| o.prodigy(),
        ),
        Kind::new("speed", "Prodigy's estimate from signs alone", |o: SpeedOptions| o.speed()),
        Kind::new(
            "displacement-speed",
            "the step size from progress along the way from the start",
            |o: DisplacementSpeedOptions| o.speed(),
        ),
        Kind::new(
            "schedule-free",
            "writer: averaging in place of momentum and schedule",
            |o: ScheduleFreeOptions| o.schedule_free(),
        ),
        Kind::new("descent", "writer: plain descent", |o: DescentOptions| Descent {
            weight_decay: o.weight_decay,
            weight_decay_by_lr: o.weight_decay_by_lr,
            decays_first: o.decays_first,
        }),
        Kind::new(
            "cautious",
            "behind the writer: the displacement masked where it disagrees with the update",
            |o: CautiousOptions| Cautious { scales_displacement: o.scales_displacement },
        ),
        Kind::new(
            "grams",
            "behind the writer: the displacement's size with the update's sign",
            |_: Nothing| Grams,
        ),
    ]
}
