//! The laws of what is in this crate, its formula, and tables of its first steps.

#[path = "laws/formulas.rs"]
mod formulas;

use elementary::{
    AdEMAMix, AdaBelief, AdaDelta, AdaGrad, AdaMax, Adam, AdamMoment, Adan, AdaptiveClip, AmsGrad,
    Centralise, CentredRms, ClipByNorm, ClipByValue, DecayToStart, DistanceOverGradients, Ema, GradientNoise,
    Graft, Lion, Lookahead, Mars, Momentum, NAdam, NovoGrad, Optimistic, ParameterScale, Polyak, RAdam,
    ReduceOnPlateau, Rprop, Schedule, Scheduled, Sign, Size, Sophia, TrustRatio, UnitNorm, WeightAverage,
    WeightDecay, Yogi,
};
use gradient_transform::{Descent, SumsOver};
use transform_laws::Joins::{AsInTheLongRun, Otherwise};
use transform_laws::Permutation::{Changes, Within};
use transform_laws::Scale::Invariant;
use transform_laws::Zero::{Moves, MovesOn, Rebounds};
use transform_laws::{Laws, Training, formula};

fn adam() -> Adam {
    Adam { beta1: 0.8, beta2: 0.9, eps: 1e-30, nesterov: false, bias_correction: true }
}

transform_laws::laws! {
    momentum {
        transform: Momentum::default(),
        after: [Descent::default()],
        laws: Laws { zero: MovesOn, training: Training::at(0.1), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::momentum),
    }

    nesterov_momentum {
        transform: Momentum { nesterov: true, ..Momentum::default() },
        after: [Descent::default()],
        laws: Laws { zero: MovesOn, training: Training::at(0.3), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::nesterov),
    }

    ema {
        transform: Ema::default(),
        after: [Descent::default()],
        laws: Laws { zero: MovesOn, joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::ema),
    }

    ema_with_its_bias {
        transform: Ema { debias: false, ..Ema::default() },
        after: [Descent::default()],
        laws: Laws { zero: MovesOn, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::biased_ema),
    }

    adam {
        transform: adam(),
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.03), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::adam),
    }

    adam_without_bias_correction {
        transform: Adam { bias_correction: false, ..adam() },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.03), joins: Otherwise, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::biased_adam),
    }

    adam_of_nesterov {
        transform: Adam { nesterov: true, ..adam() },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.03), joins: Otherwise, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::adam_of_nesterov),
    }

    adam_moment {
        transform: AdamMoment { beta2: 0.9, eps: 1e-30 },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, training: Training::at(0.03), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::adam_moment),
    }

    amsgrad {
        transform: AmsGrad { beta1: 0.8, beta2: 0.9, eps: 1e-30, of_debiased: false },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.3), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::amsgrad),
    }

    amsgrad_of_debiased {
        transform: AmsGrad { beta1: 0.8, beta2: 0.9, eps: 1e-30, of_debiased: true },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.5), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::amsgrad_of_debiased),
    }

    nadam {
        transform: NAdam { beta1: 0.8, beta2: 0.9, eps: 1e-30, ..NAdam::default() },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.03), joins: Otherwise, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::nadam),
    }

    /// Until it is rectified it steps by the gradient itself, so that has one size.
    radam {
        before: [UnitNorm::default()],
        transform: RAdam { beta1: 0.8, beta2: 0.9, eps: 1e-30, ..RAdam::default() },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), zero: MovesOn, training: Training::at(0.03), joins: Otherwise, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::radam_of_unit_norm),
    }

    adamax {
        transform: AdaMax { beta1: 0.8, beta2: 0.9, eps: 1e-30 },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.01), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::adamax),
    }

    adabelief {
        transform: AdaBelief { beta1: 0.8, beta2: 0.9, eps: 1e-30 },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.01), joins: Otherwise, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::adabelief),
    }

    adagrad {
        transform: AdaGrad { eps: 1e-30, ..AdaGrad::default() },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, training: Training::at(0.5), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::adagrad),
    }

    adadelta {
        transform: AdaDelta { rho: 0.9, eps: 1e-8 },
        after: [Descent::default()],
        laws: Laws { lr: 100.0, scale: Invariant, training: Training::at(100.0), joins: Otherwise, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::adadelta),
    }

    centred_rms {
        transform: CentredRms { beta2: 0.9, eps: 1e-30 },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, training: Training::at(0.01), joins: Otherwise, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::centred_rms),
    }

    signs {
        transform: Sign,
        after: [Descent::default()],
        laws: Laws { scale: Invariant, training: Training::at(0.03), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::signs),
    }

    /// With a weight that is not a simple fraction: at 0.9 some interpolations would be 0 up to rounding.
    lion {
        transform: Lion { beta1: 0.8765, beta2: 0.8 },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.01), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::lion),
    }

    /// Without an estimate of the curvature, of which there is a test of its own, it goes by signs.
    sophia {
        transform: Sophia { beta1: 0.8765, ..Sophia::default() },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.01), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::sophia),
    }

    ademamix {
        transform: AdEMAMix { beta1: 0.8, beta2: 0.9, beta3: 0.95, alpha: 3.0, eps: 1e-30, warm_up: 5 },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.003), joins: Otherwise, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::ademamix),
    }

    adan {
        transform: Adan { beta1: 0.8, beta2: 0.7, beta3: 0.9, eps: 1e-30 },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.03), follows_d: false, joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::adan),
    }

    rprop {
        transform: Rprop { initial: 0.5, smallest: 0.3, largest: 0.7, ..Rprop::default() },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, training: Training::at(0.03), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::rprop),
    }

    /// Decay is after weights of 0, too.
    novograd {
        transform: NovoGrad { beta1: 0.8, beta2: 0.4, eps: 1e-30, decay: 0.1 },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), zero: Moves, training: Training { left: 0.2, ..Training::at(0.3) }, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::novograd),
    }

    distance_over_gradients_of_each_tensor {
        transform: DistanceOverGradients { relative: 1e-3, eps: 1e-30, ..DistanceOverGradients::default() },
        after: [Descent::default()],
        laws: Laws { lr: 1.0, scale: Invariant, permutation: Within(1e-5), follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::distance_over_gradients),
    }

    /// The noise of an element is its own, whatever its gradient is.
    gradient_noise {
        before: [UnitNorm::default()],
        transform: GradientNoise { eta: 0.04, gamma: 0.5 },
        after: [Descent::default()],
        laws: Laws {
            scale: Invariant,
            odd: false,
            permutation: Changes,
            zero: Moves,
            training: Training { left: 0.1, ..Training::at(0.1) },
            joins: Otherwise, ..Laws::default()
        },
        formula: formulas::shaken,
    }

    /// AdaGrad's direction with the size of Nesterov's momentum, which has an array of its own.
    graft {
        transform: Graft {
            size: Momentum { nesterov: true, ..Momentum::default() },
            direction: AdaGrad { eps: 1e-30, ..AdaGrad::default() },
        },
        after: [Descent::default()],
        laws: Laws { lr: 0.01, permutation: Within(1e-6), training: Training::at(0.3), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::grafted),
    }

    mars {
        transform: Mars { gamma: 0.5, beta1: 0.8 },
        after: [Descent::default()],
        laws: Laws { zero: Rebounds, training: Training { left: 0.09, ..Training::at(0.3) }, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::mars),
    }

    optimistic {
        transform: Optimistic { alpha: 1.0, beta: 0.5 },
        after: [Descent::default()],
        laws: Laws { zero: Rebounds, training: Training::at(0.5), follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::optimistic),
    }

    /// Decay is after weights of 0, too, and what is left of the loss is its share.
    weight_decay {
        transform: WeightDecay { rate: 0.1, ..WeightDecay::default() },
        after: [Descent::default()],
        laws: Laws { zero: Moves, training: Training { left: 0.44, ..Training::at(0.3) }, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::decay),
    }

    cautious_weight_decay_of_matrices {
        transform: WeightDecay { rate: 0.1, cautious: true, least_rank: 2 },
        after: [Descent::default()],
        laws: Laws { zero: Moves, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::cautious_decay),
    }

    /// It is after the start, too.
    decay_to_start {
        transform: DecayToStart { rate: 0.1 },
        after: [Descent::default()],
        laws: Laws { zero: MovesOn, training: Training { left: 0.81, ..Training::at(0.5) }, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::decay_to_start),
    }

    clip_by_value {
        transform: ClipByValue { limit: 2.0, growth: 0.25 },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, training: Training::at(3.0), joins: Otherwise, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::clipped_values),
    }

    clip_by_norm {
        transform: ClipByNorm { limit: 1.5, ..ClipByNorm::default() },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), training: Training::at(3.0), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::clipped_norm),
    }

    clip_by_the_norm_of_all_tensors {
        transform: ClipByNorm { limit: 1.5, over: SumsOver::All, ..ClipByNorm::default() },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), training: Training::at(3.0), ..Laws::default() },
        formula: |problem, lr| formulas::by_the_norm_of_all(problem, lr, |squares, _| (1.5 / squares.sqrt()).min(1.0)),
    }

    /// It goes by the loss, whatever unit the gradients have.
    polyak {
        transform: Polyak { largest: 100.0, ..Polyak::default() },
        after: [Descent::default()],
        laws: Laws { lr: 1.0, permutation: Within(1e-6), follows_d: false, ..Laws::default() },
        formula: |problem, lr| formulas::by_the_norm_of_all(problem, lr, |squares, loss| (loss / squares).min(100.0)),
    }

    reduce_on_plateau {
        transform: ReduceOnPlateau { factor: 0.5, patience: 2, relative: 0.0, ..ReduceOnPlateau::default() },
        after: [Descent::default()],
        laws: Laws::default(),
        formula: formulas::reduced_on_a_plateau,
    }

    clip_by_root_mean_square {
        transform: ClipByNorm { limit: 1.5, of: Size::RootMeanSquare, ..ClipByNorm::default() },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), training: Training::at(3.0), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::clipped_root_mean_square),
    }

    unit_norm {
        transform: UnitNorm::default(),
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), training: Training::at(0.1), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::unit_norm),
    }

    /// What would move all weights of a unit alike is lost, and in Rosenbrock's valley that is most.
    centralise {
        transform: Centralise,
        after: [Descent::default()],
        laws: Laws { permutation: Within(1e-6), training: Training { left: 0.89, ..Training::at(0.3) }, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::centralised),
    }

    adaptive_clip {
        transform: AdaptiveClip { limit: 0.8, eps: 1e-9 },
        after: [Descent::default()],
        laws: Laws { permutation: Within(1e-6), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::adaptively_clipped),
    }

    /// Small weights take small steps, here as below.
    trust_ratio {
        transform: TrustRatio { coefficient: 0.5, ..TrustRatio::default() },
        after: [Descent::default()],
        laws: Laws { permutation: Within(1e-6), training: Training { left: 0.26, ..Training::at(0.03) }, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::trusted),
    }

    /// Weights by gradients are of another scale than either.
    parameter_scale {
        before: [UnitNorm::default()],
        transform: ParameterScale::default(),
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-5), training: Training { left: 0.6, ..Training::at(0.1) }, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::scaled_by_the_parameter),
    }

    /// With a weight that is not a simple fraction: at 0.9 some moments would be a square up to rounding.
    yogi {
        transform: Yogi { beta1: 0.8, beta2: 0.8765, eps: 1e-30, initial: 1e-30 },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: MovesOn, training: Training::at(0.1), joins: Otherwise, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formulas::yogi),
    }

    /// It moves the weights as descent does, so that something else stands in for it; what it evaluates at is in `weight_average.rs`.
    weight_average {
        transform: WeightAverage { beta: 0.9, ..WeightAverage::default() },
        instead: [Descent::with_decay(0.1)],
        laws: Laws::default(),
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formula::gradient),
    }

    lookahead {
        transform: Lookahead { period: 3, alpha: 0.5 },
        instead: [Descent::default()],
        laws: Laws { joins: Otherwise, ..Laws::default() },
        formula: formulas::looking_ahead,
    }

    scheduled {
        transform: Scheduled { schedule: Schedule::linear(1.0, 0.25, 6) },
        after: [Descent::default()],
        laws: Laws { training: Training::at(3.0), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formulas::scheduled(problem, lr, |step| 1.0 - 0.125 * f64::from(step.min(6))),
    }
}

transform_laws::snapshots! {
    adabelief: lr 0.1, (AdaBelief::default()), Descent::default();
    adadelta: lr 0.1, (AdaDelta::default()), Descent::default();
    adagrad: lr 0.1, (AdaGrad::default()), Descent::default();
    adam: lr 0.1, (Adam::default()), Descent::default();
    adam_moment: lr 0.1, (AdamMoment::default()), Descent::default();
    adamax: lr 0.1, (AdaMax::default()), Descent::default();
    adan: lr 0.1, (Adan::default()), Descent::default();
    adaptive_clip: lr 0.1, (AdaptiveClip { limit: 0.5, ..AdaptiveClip::default() }), Descent::default();
    ademamix: lr 0.1, (AdEMAMix { warm_up: 5, ..AdEMAMix::default() }), Descent::default();
    amsgrad: lr 0.1, (AmsGrad::default()), Descent::default();
    centralise: lr 0.1, (Centralise), Descent::default();
    centred_rms: lr 0.1, (CentredRms::default()), Descent::default();
    clip_by_norm: lr 0.1, (ClipByNorm::default()), Descent::default();
    clip_by_value: lr 0.1, (ClipByValue { limit: 0.5, growth: 0.25 }), Descent::default();
    distance_over_gradients: lr 1.0, (DistanceOverGradients { relative: 0.1, ..DistanceOverGradients::default() }), Descent::default();
    ema: lr 0.1, (Ema::default()), Descent::default();
    graft: lr 0.1, (Graft { size: Momentum::default(), direction: Adam::default() }), Descent::default();
    gradient_noise: lr 0.1, (GradientNoise::default()), Descent::default();
    lion: lr 0.1, (Lion::default()), Descent::default();
    sophia: lr 0.1, (Sophia::default()), Descent::default();
    mars: lr 0.1, (Mars { gamma: 0.1, beta1: 0.9 }), Descent::default();
    momentum: lr 0.1, (Momentum { nesterov: true, ..Momentum::default() }), Descent::default();
    nadam: lr 0.1, (NAdam::default()), Descent::default();
    novograd: lr 0.1, (NovoGrad::default()), Descent::default();
    optimistic: lr 0.1, (Optimistic::default()), Descent::default();
    clip_by_the_norm_of_all_tensors: lr 0.1, (ClipByNorm { over: SumsOver::All, ..ClipByNorm::default() }), Descent::default();
    polyak: lr 1.0, (Polyak::default()), Descent::default();
    reduce_on_plateau: lr 0.1, (ReduceOnPlateau { factor: 0.5, patience: 2, ..ReduceOnPlateau::default() }), Descent::default();
    parameter_scale: lr 0.1, (ParameterScale::default()), Descent::default();
    radam: lr 0.1, (RAdam { threshold: 4.0, beta2: 0.9, ..RAdam::default() }), Descent::default();
    rprop: lr 0.1, (Rprop::default()), Descent::default();
    schedule: lr 0.1, (Scheduled { schedule: Schedule::warm_up(3).for_steps(3).then(Schedule::cosine(1.0, 0.0, 3)) }), Descent::default();
    sign: lr 0.1, (Sign), Descent::default();
    trust_ratio: lr 0.1, (TrustRatio::default()), Descent::default();
    unit_norm: lr 0.1, (UnitNorm::default()), Descent::default();
    yogi: lr 0.1, (Yogi::default()), Descent::default();
    decay: lr 0.1,
        (WeightDecay { rate: 0.1, cautious: true, least_rank: 2 }, DecayToStart { rate: 0.1 }), Descent::default();
    weight_average: lr 0.1, (), WeightAverage { beta: 0.9, ..WeightAverage::default() };
    lookahead: lr 0.1, (), Lookahead { period: 3, alpha: 0.5 };
}
