//! The transforms of the default optimizer and its switches.

use cautious::Cautious;
use factored_moment::{DenseMoment, Division, FactoredMoment, Rectify};
use focus::Focus;
use gradient_transform::Descent;
use grams::Grams;
use muon_pp::{Muon, Normalisation, Precision};
use orthograd::OrthoGrad;
use prodigy_core::{Prodigy, Samples};
use schedule_free::ScheduleFree;
use speed::Speed;
use stableadamw::StableAdamW;

use super::{Nothing, options};
use crate::registry::TransformKind;

options! {
    RectifyOptions { beta2: f64 = 0.99 }
    OrthoGradOptions { normalises_noise: bool = false }
    FactoredOptions {
        beta2: f64 = 0.99,
        division: Division = Division::default(),
        min_size: usize = 32,
        wrong_row_mean: bool = false,
    }
    DenseOptions { beta2: f64 = 0.99, division: Division = Division::default() }
    FocusOptions { beta2: f64 = 0.99, gamma: f64 = 0.1 }
    MuonOptions { beta2: f64 = 0.99, bf16_iterations: bool = false, normalises_by_first_update: bool = false }
    ProdigyOptions {
        beta3: f64 = 0.99_f64.sqrt(),
        d0: f64 = 1e-6,
        d_coef: f64 = 1.0,
        prodigy_steps: u64 = 0,
        initial_d: Option<f64> = None,
        every: usize = 11,
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
    ScheduleFreeOptions {
        beta1: f64 = 0.9,
        weight_decay: f64 = 0.0,
        weight_decay_by_lr: bool = true,
        weight_sum_of_last_parameter: bool = false,
        decay_while_unrectified: bool = false,
    }
    DescentOptions { weight_decay: f64 = 0.0 }
    CautiousOptions { scales_displacement: bool = false }
}

impl DenseOptions {
    pub(super) fn moment(&self) -> DenseMoment {
        DenseMoment { division: self.division, ..DenseMoment::new(self.beta2) }
    }
}

impl FactoredOptions {
    pub(super) fn moment(&self) -> FactoredMoment {
        let Self { beta2, division, min_size, wrong_row_mean } = *self;
        FactoredMoment { division, min_size, wrong_row_mean, ..FactoredMoment::new(beta2) }
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
        let Self { keeps_step_with_shape, freeze_keeps_d_prev, d_from_nothing, .. } = *self;
        let samples = Samples { every, keeps_step_with_shape, ..Samples::new(beta3) };
        Prodigy { samples, d0, d_coef, prodigy_steps, initial_d, freeze_keeps_d_prev, d_from_nothing }
    }
}

impl SpeedOptions {
    fn speed(&self) -> Speed {
        let Self { beta3, d0, d_coef, prodigy_steps, shrinks_above_one } = *self;
        Speed { prodigy: Prodigy { d0, d_coef, prodigy_steps, ..Prodigy::new(beta3) }, shrinks_above_one }
    }
}

impl ScheduleFreeOptions {
    fn schedule_free(&self) -> ScheduleFree {
        let Self { beta1, weight_decay, weight_decay_by_lr, .. } = *self;
        let Self { weight_sum_of_last_parameter, decay_while_unrectified, .. } = *self;
        ScheduleFree {
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
        }),
        Kind::new("orthograd", "the gradient without its part along the weights", |o: OrthoGradOptions| {
            OrthoGrad { normalises_noise: o.normalises_noise }
        }),
        Kind::new("factored-moment", "division by a factored second moment", |o: FactoredOptions| o.moment()),
        Kind::new(
            "dense-moment",
            "division by a second moment for every element, not debiased",
            |o: DenseOptions| o.moment(),
        ),
        Kind::new("focus", "signs, attracted to the average of the weights", |o: FocusOptions| Focus {
            gamma: o.gamma,
            ..Focus::new(o.beta2)
        }),
        Kind::new("muon", "matrices orthogonalised by Newton and Schulz's iteration", |o: MuonOptions| {
            o.muon()
        }),
        Kind::new("stableadamw", "updates clipped by their root mean square", |_: Nothing| StableAdamW),
        Kind::new(
            "prodigy",
            "the step size from an estimate of the distance to the solution",
            |o: ProdigyOptions| o.prodigy(),
        ),
        Kind::new("speed", "Prodigy's estimate from signs alone", |o: SpeedOptions| o.speed()),
        Kind::new(
            "schedule-free",
            "writer: averaging in place of momentum and schedule",
            |o: ScheduleFreeOptions| o.schedule_free(),
        ),
        Kind::new("descent", "writer: plain descent", |o: DescentOptions| Descent {
            weight_decay: o.weight_decay,
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
