#![doc = include_str!("../README.md")]

use gradient_transform::{
    AveragingWeight, Backend, Column, Context, DType, Element, Error, GradientTransform, Num, Rectification,
    Result, StepContext, StepShare, StepSummary, TensorInfo, Writer, fields, kind, transform,
};
use serde::{Deserialize, Serialize};

/// Schedule-Free averaging: a writer that averages the iterates, so that no learning-rate schedule is needed.
///
/// With the step size `gamma` of the step, `c = gamma^2 / sum of gamma^2` so far, and `a = 1 - beta1 (1 - c)`:
///
/// ```text
/// u <- u + weight_decay * y                 (weight_decay_by_lr)
/// m  = c (y - z) + gamma a u                the displacement, which Cautious or Grams may change
/// y <- y - m                                the point at which gradients are taken
/// z <- z - gamma u                          the base iterate
/// x  = y + (1 - 1/beta1) (z - y)            the evaluation point, an average of all z
/// ```
///
/// With `strength` C above 0 (Refined Schedule-Free, 2507.09846), c becomes `min(1, c (1 - beta1) C)`: the average reaches back
/// over about 1/C of the steps so far, for any beta1. `C = 1/(1 - beta1)` is the plain rule.
///
/// Without `weight_decay_by_lr`, `y` and `z` are decayed outside of `u`: `z <- z - weight_decay * y`,
/// `y <- y - weight_decay a y`, with `y` before the step.
///
/// Defazio et al., 2405.15682, equations 1-3 and Algorithm 1. As in the reference, the averaging weight is
/// `gamma^2` without the paper's running maximum of the learning rate, and the interpolation of y replaces
/// the first moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleFree {
    /// Interpolation between z (0) and x (1) at which gradients are taken, in (0, 1). Default 0.9.
    pub beta1: f64,
    /// Strength C of the averaging, at least 0; 0, the default, for the plain rule. Larger values forget faster: 6 to 12 for short runs
    /// with small batches, 50 to 200 for long ones (reference 2.0.1, `schedulefree_c`).
    pub strength: f64,
    /// Weight decay, taken at y. At least 0; default 0.
    pub weight_decay: f64,
    /// Whether weight decay is multiplied by the step size, as in AdamW. Default true; without it the same number acts
    /// about 1/(step size) times as strongly.
    pub weight_decay_by_lr: bool,
    /// Reference 1.9.2: the sum of weights advances only in steps in which the group's last parameter moved.
    pub weight_sum_of_last_parameter: bool,
    /// Reference 1.9.2: weight decay that is not multiplied by the step size also acts while RAdam's rectifier is 0.
    pub decay_while_unrectified: bool,
    /// References 1.9.2 and 2.0.1: after Cautious or Grams, `y - m` is rounded even where they do not change
    /// m. Otherwise y is the same as without them there. While steps are of the size of the last digit, `p0 -
    /// y` consists of roundings.
    pub always_displaces: bool,
    /// Reference 1.9.2 with `stochastic_rounding = false`: every single operation on bfloat16 parameters is
    /// rounded to the nearest. Otherwise only the step's result is rounded.
    pub round_every_operation: bool,
}

impl Default for ScheduleFree {
    /// beta1 0.9 and no weight decay.
    fn default() -> Self {
        Self::new(0.9)
    }
}

impl ScheduleFree {
    /// Averaging without weight decay.
    pub fn new(beta1: f64) -> Self {
        Self {
            beta1,
            strength: 0.0,
            weight_decay: 0.0,
            weight_decay_by_lr: true,
            weight_sum_of_last_parameter: false,
            decay_while_unrectified: false,
            always_displaces: false,
            round_every_operation: false,
        }
    }

    /// The share of a step by which y moves: `1 - beta1 (1 - c)`.
    fn share(&self, c: f64) -> f64 {
        1.0 - self.beta1 * (1.0 - c)
    }

    /// The averaging weight, from the plain rule's.
    fn averaging_weight(&self, c: f64) -> f64 {
        if self.strength > 0.0 { (c * (1.0 - self.beta1) * self.strength).min(1.0) } else { c }
    }

    /// Weight decay that is not multiplied by the step size, if there is any in this step.
    fn decoupled_decay(&self, step: &StepContext) -> f64 {
        let unrectified = step.published::<Rectification>().is_some_and(|r| r.factor == 0.0);
        match self.weight_decay_by_lr {
            false if self.decay_while_unrectified || !unrectified => self.weight_decay,
            _ => 0.0,
        }
    }
}

/// State of an element.
///
/// ```
/// use gradient_transform::{Column, DType, GradientTransform, TensorInfo};
/// use schedule_free::{Iterate, ScheduleFree};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates: 0 };
/// assert_eq!(ScheduleFree::new(0.9).columns(&tensor), Iterate { z: Column::COPY });
/// ```
#[fields]
pub struct Iterate<V> {
    /// The base iterate.
    pub z: V,
}

/// Numbers of a step.
///
/// ```
/// use gradient_transform::{Context, DType, Fields, GradientTransform, StepContext, TensorInfo};
/// use schedule_free::{ScheduleFree, Step};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates: 0 };
/// let step = StepContext::new(1, 0.5);
/// let cx = Context::new(&step, &tensor);
/// let mut numbers = Step::from_fn(|_| 0.0);
/// ScheduleFree::new(0.9).begin(&cx, &mut numbers);
/// assert_eq!((numbers.c, numbers.step_size, numbers.rate), (1.0, 0.5, 0.5)); // in the first step y and z move by the same amount
/// ```
#[fields]
pub struct Step<V> {
    /// The averaging weight.
    pub c: V,
    /// The same from the nearer end: c, or c - 1.
    pub from_nearer: V,
    /// Factor of the update in the step of z.
    pub step_size: V,
    /// Factor of the update in the step of y.
    pub rate: V,
    /// Decay of y.
    pub decay_y: V,
    /// Decay of z.
    pub decay_z: V,
}

/// Variants: bits.
const FROM_Z: u32 = 1;
const DECAYS: u32 = 2;
const ROUNDS: u32 = 4;

#[transform("schedule-free")]
impl GradientTransform for ScheduleFree {
    type State<V: Copy> = Iterate<V>;
    type Scalars<V: Copy> = Step<V>;
    type Kind = kind::Writer;

    fn validate(&self) -> Result<()> {
        let decay = self.weight_decay;
        Error::check(
            "beta1",
            self.beta1,
            self.beta1 > 0.0 && self.beta1 < 1.0,
            "above 0 and below 1: at 0 the average x cannot be computed from y and z (use `Descent` for no averaging)",
        )?;
        let strength = self.strength;
        Error::check("strength", strength, strength.is_finite() && strength >= 0.0, "finite and at least 0")?;
        Error::check("weight_decay", decay, decay.is_finite() && decay >= 0.0, "finite and at least 0")
    }

    fn columns(&self, _tensor: &TensorInfo) -> Iterate<Column> {
        Iterate { z: Column::COPY }
    }

    fn group_scalars(&self) -> &'static [&'static str] {
        &["weight_sum"]
    }

    fn begin_step(&self, scalars: &[f64], step: &mut StepContext) {
        let weight = step.step_size * step.step_size;
        let sum = scalars[0] + weight;
        let c = self.averaging_weight(if sum > 0.0 { weight / sum } else { 0.0 });
        step.publish(AveragingWeight(c));
        step.publish(StepShare(self.share(c)));
    }

    fn end_step(&self, step: &StepContext, summary: &StepSummary, scalars: &mut [f64]) {
        let counts =
            if self.weight_sum_of_last_parameter { summary.last_updated } else { summary.updates > 0 };
        if counts {
            scalars[0] += step.step_size * step.step_size;
        }
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Step<f64>) {
        let AveragingWeight(c) = cx.step.published().unwrap_or_default();
        let (share, decay) = (self.share(c), self.decoupled_decay(cx.step));
        *scalars = Step {
            c,
            from_nearer: if c >= 0.5 { c - 1.0 } else { c },
            step_size: cx.step.step_size,
            rate: cx.step.step_size * share,
            decay_y: decay * share,
            decay_z: decay,
        };
    }

    fn variant(&self, cx: &Context<'_>, scalars: &Step<f64>) -> u32 {
        let bit = |holds, bit| if holds { bit } else { 0 };
        bit(scalars.c >= 0.5, FROM_Z)
            | bit(scalars.decay_z != 0.0, DECAYS)
            | bit(self.round_every_operation && cx.tensor.dtype == DType::Bf16, ROUNDS)
    }

    fn variants(&self) -> u32 {
        8
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update + self.weight_decay * e.parameter;
    }
}

/// `y + c (z - y) - rate u`. y is rounded after the interpolation and again after the step, as the reference
/// does: while steps are of the size of the last digit, p0 - y consists of roundings and depends on their
/// order.
#[inline(always)]
fn forward<B: Backend>(e: &Element<B, ScheduleFree>) -> Num<B> {
    let (y, z) = (e.parameter, e.state.z);
    let base = if e.variant & FROM_Z != 0 { z } else { y };
    let averaged = base + e.scalars.from_nearer * (z - y);
    let step = e.scalars.rate * e.update;
    if e.variant & ROUNDS != 0 { (averaged.round_bf16() - step).round_bf16() } else { averaged - step }
}

#[inline(always)]
fn round<B: Backend>(rounds: bool, x: Num<B>) -> Num<B> {
    if rounds { x.round_bf16() } else { x }
}

#[transform]
impl Writer for ScheduleFree {
    fn base(&self) -> Option<usize> {
        Some(0)
    }

    fn evaluation_weight(&self) -> f64 {
        self.beta1
    }

    fn directs(&self) -> bool {
        self.weight_decay != 0.0 && self.weight_decay_by_lr
    }

    fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B> {
        let (back, step) = (e.parameter - e.state.z, e.scalars.rate * e.update);
        if e.variant & ROUNDS != 0 {
            ((back.round_bf16() * e.scalars.c).round_bf16() + step).round_bf16()
        } else {
            back * e.scalars.c + step
        }
    }

    fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>) {
        let (y, z, rounds) = (e.parameter, e.state.z, e.variant & ROUNDS != 0);
        let moved = match displacement {
            None => forward(e),
            // Where the displacement is still that of `displace`, y moves as without transforms of it, so
            // that an identity changes no bit.
            Some(m) if self.always_displaces => round(rounds, y - m),
            Some(m) => m.equals(self.displace(e)).select(forward(e), round(rounds, y - m)),
        };
        let stepped = round(rounds, z - e.scalars.step_size * e.update);
        if e.variant & DECAYS != 0 {
            e.parameter = round(rounds, moved - e.scalars.decay_y * y);
            e.state.z = round(rounds, stepped - e.scalars.decay_z * y);
        } else {
            (e.parameter, e.state.z) = (moved, stepped);
        }
    }
}
