//! Prodigy's estimate of the distance `d` to the solution, and SPEED's variant of it.

use ndarray::{Array1, ArrayD, Zip};

use super::options::Options;
use super::step::Step;
use super::storage::{Storage, sampled, sign, stride};

/// What Prodigy keeps of a parameter: a sample of where it started, and a sample of its weighted gradients.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) p0: Array1<f64>,
    s: Array1<f64>,
    /// Every how many elements one is looked at.
    pub(super) stride: usize,
}

/// What the parameters of a group (of all groups, if they share one `d`) contribute to the estimate in one step.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) numerator: f64,
    pub(super) denominator: f64,
    /// The largest weight of a contribution.
    pub(super) weight: f64,
    /// Whether any parameter had a gradient.
    pub(super) gradients: bool,
    /// Whether any parameter was updated, which ADOPT's first step does not do; without an update, nothing contributes.
    pub(super) updated: bool,
    /// Whether the estimate learns from the step.
    pub(super) learns: bool,
}

impl Sample {
    pub(super) fn at(y: &ArrayD<f64>, step: &Step) -> Sample {
        let kept = match step.storage {
            Storage::F32 if step.compat.prodigy_state_bf16 => Storage::Bf16,
            storage => storage,
        };
        let stride = if step.compat.samples_keep_step_with_shape { 11 } else { stride(y.shape()) };
        let p0 = kept.store(sampled(y, stride));
        Sample { s: Array1::zeros(p0.len()), p0, stride }
    }

    /// Adds this parameter's part, from its raw gradient and from where the way ends before the step: y, or z in 2.0.1.
    pub(super) fn observe(
        &mut self,
        g: &ArrayD<f64>,
        end: &ArrayD<f64>,
        mut weight: f64,
        step: &Step,
        sums: &mut Sums,
    ) {
        let (kept, computed) = types(step);
        let (mut g, end) = (sampled(g, self.stride), sampled(end, self.stride));
        let walked = computed.store(&self.p0 - &end);
        let mut walked_along_g = computed.round(g.dot(&walked));
        if step.options.use_speed {
            walked_along_g = sign(walked_along_g);
            g.mapv_inplace(sign);
        }
        let running = step.storage.arithmetic();
        weight = running.round(weight);
        let beta3 = running.round(step.options.beta3());
        sums.weight = sums.weight.max(weight);
        // A scalar that multiplies a tensor is in the tensor's type, which is bfloat16 for a bfloat16 gradient.
        let s_weight = computed.round(weight);
        Zip::from(&mut self.s)
            .and(&g)
            .for_each(|s, g| *s = kept.round(kept.round(beta3 * *s) + s_weight * g));
        sums.numerator = running.round(sums.numerator + weight * walked_along_g);
        sums.denominator = running.round(sums.denominator + kept.round(self.s.iter().map(|s| s.abs()).sum()));
    }
}

/// The types in which s is kept, and in which products with p0 are computed.
pub(super) fn types(step: &Step) -> (Storage, Storage) {
    match step.storage {
        _ if !step.compat.prodigy_state_bf16 => (Storage::F64, Storage::F64),
        Storage::F32 => (Storage::Bf16, Storage::F32),
        storage => (storage, storage),
    }
}

/// The running numerator after a step whose parameters summed to `sum`.
pub(super) fn next_numerator(numerator: f64, sums: Sums, d: f64, options: &Options) -> f64 {
    let decayed = options.beta3() * numerator;
    // Signs that cancel leave the rounding of their weights.
    let cancels = options.use_speed && sums.numerator.abs() < 1e-9 * sums.weight;
    let sum = if cancels { 0.0 } else { sums.numerator };
    if sum >= 0.0 {
        decayed + sum
    } else if d > options.d0 {
        decayed.min(sum)
    } else {
        // Nothing has been learned yet, so a step in the wrong direction must not hold the estimate back.
        decayed
    }
}

/// `d` after a step.
pub(super) fn next_d(
    d: f64,
    numerator: f64,
    denominator: f64,
    options: &Options,
    shrinks_above_one: bool,
) -> f64 {
    let d_hat = (options.d_coef * numerator).atan2(denominator);
    if !options.use_speed {
        return d.max(d_hat);
    }
    let bounded = d.max(d_hat).min(d.powf(0.975));
    if shrinks_above_one { bounded } else { bounded.max(d) }
}
