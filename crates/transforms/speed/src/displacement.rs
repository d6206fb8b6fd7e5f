use gradient_transform::{
    Context, DType, Estimate, Estimator, LeftD0, Link, Reads, Real, Result, Role, StateSpec, StepContext,
    Storage, Sums, TensorInfo, TensorState, Tile,
};
use prodigy_core::{Negative, Prodigy, Samples, Weighting};
use serde::{Deserialize, Serialize};

/// SPEED by displacements: an estimate of the step size that grows while the displacement from the start keeps pointing downhill.
///
/// For each tensor, over the samples, with `beta = 1 - k^(-3/4)`:
///
/// ```text
/// progress  <- beta progress + (1 - beta) <g, p0 - z>     at first <g, p0 - z>
/// l1, l2    <- the largest |p0 - z|_1 and |p0 - z|_2 so far, at least 1e-8
/// c          = w / (l2 + 1)^2 * progress / l1             w = d^2 / sqrt(d0)
/// ```
///
/// and for a group
///
/// ```text
/// numerator <- beta3 numerator + sum of c                 a negative sum is ignored while d is d0
/// d         <- d min(2^(1/4), sqrt(numerator / the one before)) d_coef^(1/8)
///              while the numerator is as large as it ever was, and it and the one before are positive
/// ```
///
/// d never falls. The division by l1 makes the sum independent of the scale of the weights, and that by `(l2 + 1)^2` limits d when
/// weights are far from the start. Unlike [`Speed`](crate::Speed), it keeps no moving sum of gradients, so it
/// takes half of the memory.
///
/// From the Python package prodigy-plus-schedule-free 2.0.1; there is no paper. Replaces
/// [`Prodigy`](prodigy_core::Prodigy) in a chain. [`Estimate::denominator`] is the largest numerator so far.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Parameter};
/// use speed::DisplacementSpeed;
///
/// let mut optimizer = Optimizer::new((DisplacementSpeed::default(), Descent::default()), [("w", [4])])?;
/// let mut w = [4.0_f32, -3.0, 2.0, 1.0];
/// for _ in 0..400 {
///     let gradient = w;
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
/// }
/// assert!(optimizer.estimate(0)?.d > 1e-3 && w.iter().all(|w| w.abs() < 2.0));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DisplacementSpeed {
    /// The sampled elements, and beta3.
    pub samples: Samples,
    /// d before the first step, and the unit of the weight w: above 0 and at most 2^50. Default 1e-6.
    pub d0: f64,
    /// Factor of the growth, to the power of an eighth; above 0 and at most 2^50. Default 1.
    pub d_coef: f64,
    /// The step from which d is frozen, counted in steps in which something moved. Default 0: never.
    pub prodigy_steps: u64,
    /// The weight w of a step. Default: `d^2 / sqrt(d0)`.
    pub weighting: Weighting,
    /// Effect of a negative sum on the numerator. Default: it is added.
    pub negative: Negative,
    /// d before the first step, if it is not d0, with the same range. Default `None`.
    pub initial_d: Option<f64>,
    /// Reference 2.0.1: steps at learning rate 0 count. Otherwise the estimate does not change in
    /// them.
    pub learns_at_lr_0: bool,
}

impl Default for DisplacementSpeed {
    /// beta3 is the root of 0.99.
    fn default() -> Self {
        Self::new(0.99_f64.sqrt())
    }
}

/// The largest growth of a step, 2^(1/4).
const GROWTH: f64 = 1.189_207_115_002_721;

/// The smallest displacement.
const LEAST: f64 = 1e-8;

/// The array kept of a tensor: three numbers.
const KEPT: &str = "progress";

impl DisplacementSpeed {
    /// The estimate with the default d0 and d_coef.
    pub fn new(beta3: f64) -> Self {
        Self {
            samples: Samples::new(beta3),
            d0: 1e-6,
            d_coef: 1.0,
            prodigy_steps: 0,
            weighting: Weighting::Squared,
            negative: Negative::Adds,
            initial_d: None,
            learns_at_lr_0: false,
        }
    }

    /// A Prodigy with the same ranges, first value and freeze.
    fn prodigy(&self) -> Prodigy {
        let Self { samples, d0, d_coef, prodigy_steps, weighting, negative, initial_d, learns_at_lr_0 } =
            *self;
        let rest = Prodigy::default();
        Prodigy { samples, d0, d_coef, prodigy_steps, weighting, negative, initial_d, learns_at_lr_0, ..rest }
    }
}

impl<T: Real> Link<T> for DisplacementSpeed {
    fn name(&self) -> &str {
        "displacement-speed"
    }

    fn validate(&self) -> Result<()> {
        self.prodigy().check()
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Observer
    }

    fn reads(&self) -> Reads {
        self.samples.reads()
    }

    fn state(&self, tensor: &TensorInfo) -> StateSpec {
        self.samples.start(tensor).vector(KEPT, 3, Storage::Compute).sums(3, 0)
    }

    fn retired(&self, step: &StepContext) -> bool {
        !self.prodigy().is_active(step)
    }

    fn begin_step(&self, _scalars: &[f64], step: &mut StepContext) {
        step.publish(LeftD0(step.estimate.d > step.estimate.d0));
    }

    fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        self.samples.displacement(cx, tile, sums);
    }

    /// Turns the sums of the step into the moving average and the largest displacements.
    fn finish(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        let [kept] = state.vectors else { return };
        let before: [f64; 3] = std::array::from_fn(|i| kept.get::<T>(i).f64());
        let [dot, l1, squares] = [state.scalar_sums[0], state.scalar_sums[1], state.scalar_sums[2]];
        if ![dot, l1, squares].iter().all(|sum| sum.is_finite()) {
            // A NaN would stay in the average forever.
            state.scalar_sums.fill(0.0);
            return;
        }
        let beta = 1.0 - (cx.step.k as f64).powf(-0.75);
        // l1 is at least `LEAST` after the first step that counts.
        let is_first = before[1] == 0.0;
        let progress = if is_first { dot } else { before[0] * beta + dot * (1.0 - beta) };
        let sizes = [l1.max(before[1]).max(LEAST), squares.sqrt().max(before[2]).max(LEAST)];
        let next = [progress, sizes[0], sizes[1]];
        kept.update(&next.map(T::of), |_, next| next);
        state.scalar_sums.copy_from_slice(&next);
    }

    fn estimator(&self) -> Option<&dyn Estimator> {
        Some(self)
    }
}

impl Estimator for DisplacementSpeed {
    fn initial(&self) -> Estimate {
        self.prodigy().initial_estimate()
    }

    fn learns(&self, step: &StepContext) -> bool {
        self.prodigy().learns(step)
    }

    fn contribution(&self, cx: &Context<'_>, scalar_sums: &[f64]) -> [f64; 2] {
        let [progress, l1, l2] = [scalar_sums[0], scalar_sums[1], scalar_sums[2]];
        if l1 == 0.0 {
            return [0.0, 0.0];
        }
        let weight = self.weighting.weight(&cx.step.estimate) / ((l2 + 1.0) * (l2 + 1.0));
        let contribution = weight * (progress / l1);
        // Sums of the reference's are of float32 numbers.
        let narrow = self.samples.narrow && cx.tensor.dtype != DType::F64;
        [if narrow { f64::from(contribution as f32) } else { contribution }, 0.0]
    }

    fn conclude(&self, step: &StepContext, [sum, _]: [f64; 2], estimate: &mut Estimate) {
        estimate.d_prev = estimate.d;
        if !self.prodigy().is_active(step) {
            return;
        }
        let before = estimate.numerator;
        estimate.numerator *= self.samples.beta3;
        if sum > 0.0 {
            estimate.numerator += sum;
        } else if estimate.d > estimate.d0 {
            estimate.numerator = self.negative.next(estimate.numerator, sum);
        }
        let numerator = estimate.numerator;
        if numerator >= estimate.denominator && numerator > 0.0 && before > 0.0 {
            let growth = (numerator / before).sqrt().min(GROWTH) * self.d_coef.powf(0.125);
            estimate.d = estimate.d.max(estimate.d * growth);
        }
        estimate.denominator = estimate.denominator.max(numerator);
    }
}
