//! Version 2.0.1, where it is another optimizer than 1.9.2: one step of one parameter, and the estimate of d.
//!
//! Moments are of `d g`, as in the paper of Prodigy, and so is what they divide. w stands for the weights that the step is measured
//! at: Schedule-Free's z, or y without it.

use ndarray::{ArrayD, Zip};

use super::moment::{self, FOCUS_GAMMA, Moment};
use super::prodigy::{Sample, Sums, types};
use super::schedule_free;
use super::step::{Parameter, Preconditioner, State, Step};
use super::storage::{rms, sampled, sign};
use super::{GroupState, Options};

/// SPEED's memory of a parameter: how well it went so far, and how far.
#[derive(Debug, Clone)]
pub(super) struct Way {
    /// A moving average of `<g, p0 - w>`.
    progress: f64,
    /// The largest `|p0 - w|_1` so far.
    l1: f64,
    /// The largest `|p0 - w|_2` so far.
    l2: f64,
}

/// One parameter's step; says whether it was updated, which ADOPT's first step does not do.
pub(super) fn step_parameter(
    parameter: &mut Parameter,
    raw_g: &ArrayD<f64>,
    step: &Step,
    sums: &mut Sums,
) -> bool {
    let options = step.options;
    sums.gradients = true;
    let y = &mut parameter.y;
    let first_gradient = parameter.state.is_none();
    let state = parameter.state.get_or_insert_with(|| State::at(y, step));
    let w = if options.use_schedulefree { state.z.clone() } else { y.clone() };

    let Preconditioner::Moment(second_moment) = &mut state.preconditioner else {
        return false; // Muon, which 2.0.1 does not have
    };
    let first_step = if step.compat.first_step_of_group { step.k == 1 } else { first_gradient };
    if options.use_adopt && first_step {
        second_moment.update(raw_g, &w, weights(0.0, step), step);
        return false;
    }
    let before = second_moment.denominator(step);
    second_moment.update(raw_g, &w, weights(step.beta2, step), step);
    let denominator = if options.use_adopt { before } else { second_moment.denominator(step) };
    let divide = |numerator: &ArrayD<f64>| divided(numerator, &denominator, second_moment, &w, step);

    let arithmetic = step.storage.arithmetic();
    let dg = || arithmetic.store(raw_g * step.d);
    let mut update = if options.use_schedulefree {
        if step.rectifier_is_zero { raw_g.clone() } else { divide(&dg()) }
    } else if options.use_adopt {
        let limit = (step.k as f64).powf(0.25);
        let numerator = if step.compat.adopt_reads_weighted { raw_g.clone() } else { dg() };
        let direction = divide(&numerator).mapv(|u| u.clamp(-limit, limit));
        let d = if step.compat.adopt_reads_weighted { step.d } else { 1.0 };
        average(&mut state.first_moment, &direction, d, step);
        masked(&state.first_moment, &direction, raw_g, step)
    } else {
        average(&mut state.first_moment, raw_g, step.d, step);
        divide(&masked(&state.first_moment, raw_g, raw_g, step))
    };

    if options.use_orthograd {
        update = moment::orthogonal_to(&w, &update, arithmetic, step);
    }
    if options.use_stableadamw {
        let size = rms(&update).max(1.0);
        update = arithmetic.store(update / size.sqrt());
    }

    if step.estimates_d() && step.learns {
        let weight = step.d * step.d / options.d0.sqrt();
        if options.use_speed {
            let way = Way::at(&w, raw_g, state.way.as_ref(), &state.sample, step);
            way.contribute(weight, step, sums);
            state.way = Some(way);
        } else {
            state.sample.observe(raw_g, &w, weight, step, sums);
        }
    }

    if options.use_schedulefree {
        schedule_free::descend(y, &mut state.z, update, step);
    } else {
        descend(y, &update, step);
    }
    *y = step.storage.store(std::mem::take(y));
    state.z = step.storage.store(std::mem::take(&mut state.z));
    true
}

/// The weights of the past and of the new square in the second moment.
fn weights(beta2: f64, step: &Step) -> [f64; 2] {
    let of_weights = step.options.use_focus && !step.compat.focus_reads_weighted;
    let d = if of_weights { 1.0 } else { step.d };
    [beta2, (1.0 - beta2) * d * d]
}

/// `numerator/(denominator + d eps)`, `4/pi atan2(numerator, denominator)` if there is no eps, or FOCUS's two signs.
fn divided(
    numerator: &ArrayD<f64>,
    denominator: &ArrayD<f64>,
    moment: &Moment,
    w: &ArrayD<f64>,
    step: &Step,
) -> ArrayD<f64> {
    let kept = moment.storage(step);
    if step.options.use_focus {
        return numerator.mapv(sign) + (w - denominator).mapv(|away| kept.round(FOCUS_GAMMA * sign(away)));
    }
    let scale = 4.0 / std::f64::consts::PI;
    step.storage.arithmetic().store(match step.options.eps {
        Some(eps) => numerator / &kept.store(denominator + step.d * eps),
        None => Zip::from(numerator).and(denominator).map_collect(|u, v| scale * u.atan2(*v)),
    })
}

/// `m <- beta1 m + (1 - beta1) d u`.
fn average(m: &mut ArrayD<f64>, u: &ArrayD<f64>, d: f64, step: &Step) {
    let (kept, beta1) = (step.storage, step.options.betas.0);
    let scalar = |value| step.storage.arithmetic().round(value);
    let (decay, weight) = (scalar(beta1), scalar((1.0 - beta1) * d));
    Zip::from(m).and(u).for_each(|m, u| *m = kept.round(kept.round(decay * *m) + weight * u));
}

/// The first moment `m` of `entered`, after Cautious or Grams, which go by the gradient `g`.
fn masked(m: &ArrayD<f64>, entered: &ArrayD<f64>, g: &ArrayD<f64>, step: &Step) -> ArrayD<f64> {
    let options = step.options;
    if options.use_cautious && step.compat.cautious_multiplies_by_gradient {
        step.storage.arithmetic().store(entered * m)
    } else if options.use_cautious {
        let agrees: ArrayD<f64> = Zip::from(m).and(g).map_collect(|m, g| if m * g > 0.0 { 1.0 } else { 0.0 });
        let share = agrees.mean().unwrap_or(0.0).max(1e-3);
        m * &agrees / share
    } else if options.use_grams {
        m.mapv(f64::abs) * g.mapv(sign)
    } else {
        m.clone()
    }
}

/// Plain descent, with weight decay; the step size is `step.dlr`.
fn descend(y: &mut ArrayD<f64>, update: &ArrayD<f64>, step: &Step) {
    let options = step.options;
    let arithmetic = step.storage.arithmetic();
    let n = |values| arithmetic.store(values);
    let scalar = |value| arithmetic.round(value);
    let decay = options.weight_decay * if options.weight_decay_by_lr { step.dlr } else { 1.0 };
    let moved = update * scalar(step.dlr);
    *y = if step.compat.decays_first {
        n(n(&*y * scalar(1.0 - decay)) - moved)
    } else {
        n(n(&*y - &moved) - &*y * scalar(decay))
    };
}

impl Way {
    /// After a step with gradient `g` at `w`.
    fn at(w: &ArrayD<f64>, g: &ArrayD<f64>, before: Option<&Way>, sample: &Sample, step: &Step) -> Way {
        let (_, computed) = types(step);
        let (g, w) = (sampled(g, sample.stride), sampled(w, sample.stride));
        let way = computed.store(&sample.p0 - &w);
        let dot = computed.round(g.dot(&way));
        let l1 = computed.round(way.iter().map(|a| a.abs()).sum());
        let l2 = computed.round(way.dot(&way).sqrt());
        let beta = 1.0 - (step.k as f64).powf(-0.75);
        let progress = before.map_or(dot, |before| before.progress * beta + dot * (1.0 - beta));
        Way {
            progress: computed.round(progress),
            l1: before.map_or(1e-8, |before| before.l1).max(l1),
            l2: before.map_or(1e-8, |before| before.l2).max(l2),
        }
    }

    /// Adds this parameter's part: the further it has gone, the less it counts.
    fn contribute(&self, weight: f64, step: &Step, sums: &mut Sums) {
        let running = step.storage.arithmetic();
        let weight = running.round(weight / ((self.l2 + 1.0) * (self.l2 + 1.0)));
        sums.numerator = running.round(sums.numerator + weight * running.round(self.progress / self.l1));
    }
}

/// 2^(1/4): what d grows by at most in a step.
fn most() -> f64 {
    2.0_f64.powf(0.25)
}

/// The numerator after a step whose parameters summed to `sum`.
fn next_numerator(numerator: f64, sum: f64, d: f64, options: &Options) -> f64 {
    // Until d has left d0, a step in the wrong direction must not hold the estimate back.
    let counts = sum > 0.0 || d > options.d0;
    options.beta3() * numerator + if counts { sum } else { 0.0 }
}

/// Moves the estimate on by a step's sums.
pub(super) fn estimate(group: &mut GroupState, sums: Sums) {
    let options = &group.options;
    let before = group.numerator;
    group.numerator = next_numerator(before, sums.numerator, group.d, options);
    let is_largest = group.numerator >= group.largest_numerator;
    group.largest_numerator = group.largest_numerator.max(group.numerator);
    group.d_prev = group.d;
    if options.use_speed {
        if is_largest && group.numerator > 0.0 && before > 0.0 {
            let growth = (group.numerator / before).sqrt().min(most());
            group.d = group.d.max(group.d * growth * options.d_coef.powf(0.125));
        }
    } else if sums.denominator > 0.0 {
        let mut d_hat = group.numerator / sums.denominator;
        if options.d_limiter {
            d_hat = d_hat.min(group.d * most());
        }
        group.d = group.d.max(d_hat * options.d_coef);
    }
}
