//! The elementary transforms, whose structures are their options.

use cautious::CautiousUpdate;
use elementary::{
    AdEMAMix, AdaBelief, AdaDelta, AdaGrad, AdaMax, Adam, AdamMoment, Adan, AdaptiveClip, AmsGrad,
    Centralise, CentredRms, ClipByNorm, ClipByValue, DecayToStart, DistanceOverGradients, Ema, GradientNoise,
    Lion, Lookahead, Mars, Momentum, NAdam, NovoGrad, Optimistic, ParameterScale, RAdam, Rprop, Schedule,
    Scheduled, Sign, TrustRatio, UnitNorm, WeightAverage, WeightDecay, Yogi,
};
use gradient_transform::Link;
use grams::GramsUpdate;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Nothing, options};
use crate::registry::TransformKind;

options! {
    ScheduleOptions { schedule: Schedule = Schedule::constant(1.0) }
}

/// A transform that is its own options.
fn of<G>(name: &str, summary: &str) -> TransformKind
where
    G: Link<f32> + DeserializeOwned + Serialize + Default + 'static,
{
    TransformKind::new(name, summary, |transform: G| transform)
}

pub(super) fn kinds() -> Vec<TransformKind> {
    moments().into_iter().chain(others()).collect()
}

fn moments() -> Vec<TransformKind> {
    vec![
        of::<Momentum>(
            "momentum",
            "heavy ball or Nesterov: the sum of past gradients, each beta times the next",
        ),
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
        of::<AdaGrad>("adagrad", "division by the root of the sum of squares"),
        of::<AdaDelta>("adadelta", "division by the gradients' average size, times that of the updates"),
        of::<CentredRms>("centred-rms", "division by the gradients' standard deviation"),
        of::<Rprop>("rprop", "a step size for every element, from the signs of its gradients"),
        of::<NovoGrad>("novograd", "momentum of gradients divided by a running norm of their tensor"),
        of::<DistanceOverGradients>(
            "distance-over-gradients",
            "DoG's step size: the way come over the gradients seen; over = \"all\" is that of all tensors together",
        ),
        of::<Mars>("mars", "the gradient corrected by how it has changed"),
        of::<Optimistic>("optimistic", "the gradient extrapolated from the one before"),
    ]
}

fn others() -> Vec<TransformKind> {
    vec![
        TransformKind::new("sign", "the sign of every element", |_: Nothing| Sign),
        of::<GradientNoise>("gradient-noise", "normal noise that dies out"),
        of::<ClipByValue>("clip-by-value", "every element bounded"),
        of::<ClipByNorm>("clip-by-norm", "the norm bounded; over = \"all\" is that of all tensors together"),
        of::<AdaptiveClip>("adaptive-clip", "the norm of every unit bounded by that of its weights"),
        of::<UnitNorm>("unit-norm", "every tensor's update with a norm of 1"),
        TransformKind::new("centralise", "the gradient without the mean of every unit", |_: Nothing| {
            Centralise
        }),
        of::<TrustRatio>("trust-ratio", "the update as large as the weights are: LARS, LAMB"),
        of::<ParameterScale>("parameter-scale", "the update times the size of the weights"),
        TransformKind::new(
            "cautious-update",
            "the update masked where it disagrees with the gradient",
            |_: Nothing| CautiousUpdate,
        ),
        TransformKind::new("grams-update", "the update's size with the gradient's sign", |_: Nothing| {
            GramsUpdate
        }),
        of::<WeightDecay>(
            "weight-decay",
            "decay at its place in the chain: decoupled behind a moment, coupled before it; or cautious",
        ),
        of::<DecayToStart>("decay-to-start", "decay towards the initial weights"),
        TransformKind::new(
            "schedule",
            "the step size times a function of the step; its steps may be shares of the run, as \"10%\"",
            |o: ScheduleOptions| Scheduled { schedule: o.schedule },
        ),
        of::<WeightAverage>(
            "weight-average",
            "writer: descent, evaluated at an exponential average of the weights",
        ),
        of::<Lookahead>("lookahead", "writer: descent, called back towards slow weights every few steps"),
    ]
}
