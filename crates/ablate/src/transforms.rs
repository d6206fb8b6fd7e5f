//! The transforms that ship, as study files name them.

use adopt::Adopt;
use cautious::Cautious;
use factored_moment::{DenseMoment, FactoredMoment, Rectify};
use focus::Focus;
use gradient_transform::Descent;
use grams::Grams;
use muon_pp::Muon;
use orthograd::OrthoGrad;
use prodigy_core::Prodigy;
use schedule_free::ScheduleFree;
use serde::{Deserialize, Serialize};
use speed::Speed;
use stableadamw::StableAdamW;

use crate::registry::TransformKind;

/// No options.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Of what keeps a second moment.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Decay {
    beta2: f64,
}

impl Default for Decay {
    fn default() -> Self {
        Self { beta2: 0.99 }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Estimator {
    beta3: f64,
    d0: f64,
    d_coef: f64,
}

impl Default for Estimator {
    fn default() -> Self {
        Self { beta3: 0.99_f64.sqrt(), d0: 1e-6, d_coef: 1.0 }
    }
}

impl Estimator {
    fn prodigy(&self) -> Prodigy {
        Prodigy { d0: self.d0, d_coef: self.d_coef, ..Prodigy::new(self.beta3) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Averaging {
    beta1: f64,
    weight_decay: f64,
}

impl Default for Averaging {
    fn default() -> Self {
        Self { beta1: 0.9, weight_decay: 0.0 }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WeightDecay {
    weight_decay: f64,
}

/// Every transform that ships, in the order of a chain.
pub(crate) fn shipped() -> Vec<TransformKind> {
    vec![
        TransformKind::new("rectify", "RAdam's warm-up and bias correction", |o: Decay| Rectify {
            beta2: o.beta2,
        }),
        TransformKind::new("orthograd", "the gradient without its part along the weights", |_: Nothing| {
            OrthoGrad::default()
        }),
        TransformKind::new("factored-moment", "division by a factored second moment", |o: Decay| {
            FactoredMoment::new(o.beta2)
        }),
        TransformKind::new("dense-moment", "division by a second moment for every element", |o: Decay| {
            DenseMoment::new(o.beta2)
        }),
        TransformKind::new("adopt", "a dense second moment that is updated after its use", |o: Decay| {
            Adopt::new(DenseMoment::new(o.beta2))
        }),
        TransformKind::new("focus", "signs, attracted to the average of the weights", |o: Decay| {
            Focus::new(o.beta2)
        }),
        TransformKind::new("muon", "matrices orthogonalised by Newton and Schulz's iteration", |o: Decay| {
            Muon::new(o.beta2)
        }),
        TransformKind::new("stableadamw", "updates clipped by their root mean square", |_: Nothing| {
            StableAdamW
        }),
        TransformKind::new(
            "prodigy",
            "the step size from an estimate of the distance to the solution",
            |o: Estimator| o.prodigy(),
        ),
        TransformKind::new("speed", "Prodigy's estimate from signs alone", |o: Estimator| Speed {
            prodigy: o.prodigy(),
            ..Speed::default()
        }),
        TransformKind::new("schedule-free", "averaging in place of momentum and schedule", |o: Averaging| {
            ScheduleFree { weight_decay: o.weight_decay, ..ScheduleFree::new(o.beta1) }
        }),
        TransformKind::new("descent", "plain descent", |o: WeightDecay| Descent {
            weight_decay: o.weight_decay,
        }),
        TransformKind::new(
            "cautious",
            "the displacement masked where it disagrees with the update",
            |_: Nothing| Cautious::default(),
        ),
        TransformKind::new("grams", "the displacement's size with the update's sign", |_: Nothing| Grams),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradient_transform::Link;

    #[test]
    fn every_transform_is_called_what_it_calls_itself() {
        let registry = crate::registry::Registry::shipped();
        for kind in shipped() {
            let transform = registry.transform(&serde_json::json!({ "transform": kind.name })).unwrap();
            // ADOPT is a way to use a moment, whose name its state has.
            let expected = if kind.name == "adopt" { "dense-moment" } else { &kind.name };
            assert_eq!(Link::<f32>::name(&transform), expected);
        }
    }
}
