//! The one registration of a transform: with its line here studies can name it, `ablate list` and the book have it, and
//! it is measured by the benchmarks.

use adopt::AdoptClip;
use cautious::{Cautious, CautiousUpdate};
use elementary::{
    AdEMAMix, AdaBelief, AdaDelta, AdaGrad, AdaMax, Adam, AdamMoment, Adan, AdaptiveClip, AmsGrad,
    Centralise, CentredRms, ClipByNorm, ClipByValue, DecayToStart, DistanceOverGradients, Ema, GradientNoise,
    Lion, Lookahead, Mars, Momentum, NAdam, NovoGrad, Optimistic, ParameterScale, Polyak, RAdam,
    ReduceOnPlateau, Rprop, Scheduled, Sign, Sophia, TrustRatio, UnitNorm, WeightAverage, WeightDecay, Yogi,
};
use factored_moment::{DenseMoment, FactoredMoment, FirstMoment, Rectify, RisingDecay};
use focus::Focus;
use gradient_transform::{Descent, Link};
use grams::{Grams, GramsUpdate};
use muon_pp::Muon;
use orthograd::OrthoGrad;
use prodigy_core::Prodigy;
use schedule_free::ScheduleFree;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use speed::{DisplacementSpeed, Speed};
use stableadamw::{SoftStableAdamW, StableAdamW};

use crate::kind::TransformKind;
use crate::wrappers;

/// Name and summary of a transform whose structure is its options.
fn of<G>(name: &str, summary: &str) -> TransformKind
where
    G: Link<f32> + DeserializeOwned + Serialize + Default + 'static,
{
    TransformKind::new(name, summary, |transform: G| transform)
}

/// Options of a transform that has none.
fn unit<G: Link<f32> + Clone + 'static>(name: &str, summary: &str, transform: G) -> TransformKind {
    #[derive(Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NoOptions {}

    TransformKind::new(name, summary, move |_: NoOptions| transform.clone())
}

/// The included transforms: first those of the default optimizer in the order of a chain, then the elementary ones, and
/// wrappers.
///
/// ```
/// let kinds = ablate_transforms::shipped();
/// assert!(kinds.iter().any(|kind| kind.name == "adam" && kind.defaults["beta2"] == 0.999));
/// ```
#[rustfmt::skip] // a line each
pub fn shipped() -> Vec<TransformKind> {
    vec![
        of::<Rectify>("rectify", "RAdam's warm-up and bias correction"),
        of::<RisingDecay>("rising-decay", "Adafactor's decay of second moments, which rises with the step"),
        of::<FirstMoment>("first-moment", "a moving average that follows d"),
        unit("adopt-clip", "elements bounded by the fourth root of the step's number", AdoptClip),
        of::<OrthoGrad>("orthograd", "the gradient without its part along the weights"),
        of::<FactoredMoment>("factored-moment", "division by a factored second moment"),
        of::<DenseMoment>("dense-moment", "division by a second moment for every element, not debiased"),
        of::<Focus>("focus", "signs, attracted to the average of the weights"),
        of::<Muon>("muon", "matrices orthogonalised by Newton and Schulz's iteration"),
        unit("stableadamw", "updates clipped by their root mean square", StableAdamW),
        unit("soft-stableadamw", "large updates shortened to the root of their size", SoftStableAdamW),
        of::<Prodigy>("prodigy", "the step size from an estimate of the distance to the solution"),
        of::<Speed>("speed", "Prodigy's estimate from signs only"),
        of::<DisplacementSpeed>("displacement-speed", "the step size from progress along the way from the start"),
        of::<ScheduleFree>("schedule-free", "writer: averaging in place of momentum and schedule"),
        of::<Descent>("descent", "writer: plain descent"),
        of::<Cautious>("cautious", "after the writer: the displacement masked where it disagrees with the update"),
        unit("grams", "after the writer: the displacement's size with the update's sign", Grams),

        of::<Momentum>("momentum", "heavy ball or Nesterov: the sum of past gradients, each beta times the next"),
        of::<Ema>("ema", "the average of past gradients"),
        of::<Adam>("adam", "Adam's direction: both moments, debiased"),
        of::<AdamMoment>("adam-moment", "division by Adam's second moment alone, debiased"),
        of::<AmsGrad>("amsgrad", "Adam with the largest second moment so far"),
        of::<NAdam>("nadam", "Adam with Nesterov's momentum, whose beta1 rises"),
        of::<RAdam>("radam", "Adam, rectified while its second moment is young"),
        of::<AdaMax>("adamax", "Adam with the largest gradient in place of the second moment"),
        of::<AdaBelief>("adabelief", "Adam, divided by how far gradients are from their average"),
        of::<Yogi>("yogi", "Adam, whose second moment grows and shrinks at a bounded rate"),
        of::<Adan>("adan", "Nesterov's momentum from differences of gradients"),
        of::<AdEMAMix>("ademamix", "Adam with a second, slower first moment"),
        of::<Lion>("lion", "the sign of an average that looks ahead"),
        of::<Sophia>("sophia", "an average over an average of the curvature, which a caller gives; signs without it"),
        of::<AdaGrad>("adagrad", "division by the root of the sum of squares"),
        of::<AdaDelta>("adadelta", "division by the gradients' average size, times that of the updates"),
        of::<CentredRms>("centred-rms", "division by the gradients' standard deviation"),
        of::<Rprop>("rprop", "a step size for every element, from the signs of its gradients"),
        of::<NovoGrad>("novograd", "momentum of gradients divided by a running norm of their tensor"),
        of::<DistanceOverGradients>("distance-over-gradients", "DoG's step size: the distance covered over the gradients seen; over = \"all\" is that of all tensors together"),
        of::<Polyak>("polyak", "Polyak's step size, from the loss and the norm of all gradients"),
        of::<Mars>("mars", "the gradient corrected by how it has changed"),
        of::<Optimistic>("optimistic", "the gradient extrapolated from the one before"),
        unit("sign", "the sign of every element", Sign),
        of::<GradientNoise>("gradient-noise", "normal noise that dies out"),
        of::<ClipByValue>("clip-by-value", "every element bounded"),
        of::<ClipByNorm>("clip-by-norm", "the norm bounded; over = \"all\" is that of all tensors together"),
        of::<AdaptiveClip>("adaptive-clip", "the norm of every unit bounded by that of its weights"),
        of::<UnitNorm>("unit-norm", "every tensor's update with a norm of 1"),
        unit("centralise", "the gradient without the mean of every unit", Centralise),
        of::<TrustRatio>("trust-ratio", "the update as large as the weights are: LARS, LAMB"),
        of::<ParameterScale>("parameter-scale", "the update times the size of the weights"),
        unit("cautious-update", "the update masked where it disagrees with the gradient", CautiousUpdate),
        unit("grams-update", "the update's size with the gradient's sign", GramsUpdate),
        of::<WeightDecay>("weight-decay", "decay at its place in the chain: decoupled after a moment, coupled before it; or cautious"),
        of::<DecayToStart>("decay-to-start", "decay towards the initial weights"),
        of::<Scheduled>("schedule", "the step size times a function of the step; its steps may be shares of the run, as \"10%\""),
        of::<ReduceOnPlateau>("reduce-on-plateau", "the step size reduced whenever the loss no longer falls"),
        of::<WeightAverage>("weight-average", "writer: descent, evaluated at an exponential average of the weights"),
        of::<Lookahead>("lookahead", "writer: descent, called back towards slow weights every few steps"),

        wrappers::adopt(),
        wrappers::only_for(),
    ]
}
