//! Context of a step, as a transform sees it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::link::published::{LeftD0, MomentDecay, Publications, Published, Rectification, StepShare};
use crate::memory::element::DType;

/// Prodigy's estimate of the distance to the solution, shared by the tensors of a group.
///
/// Published to every transform of a chain through [`StepContext`]; an [`crate::Estimator`] in the chain moves it.
///
/// ```
/// use gradient_transform::Estimate;
///
/// let before = Estimate::new(1e-6);
/// assert_eq!((before.d, before.d_prev, before.d0), (1e-6, 1e-6, 1e-6));
/// assert_eq!((before.numerator, before.denominator), (0.0, 0.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimate, d.
    pub d: f64,
    /// The estimate used by the previous step.
    pub d_prev: f64,
    /// The initial estimate, d0.
    pub d0: f64,
    /// Moving sum of the weighted <g, p0 - y>.
    pub numerator: f64,
    /// The norm |s|_1 of the moving sum of weighted gradients.
    pub denominator: f64,
}

impl Estimate {
    /// The estimate before the first step.
    pub const fn new(d0: f64) -> Self {
        Self { d: d0, d_prev: d0, d0, numerator: 0.0, denominator: 0.0 }
    }

    /// Why no step can be taken with it, if none can.
    pub(crate) fn fault(&self) -> Option<String> {
        let Self { d, d_prev, d0, numerator, denominator } = *self;
        if [d, d_prev, d0].into_iter().any(|value| !is_valid_d(value)) {
            return Some(format!("d {d}, d_prev {d_prev} and d0 {d0} must be above 0 and at most 2^50"));
        }
        // The square of the ratio rescales second moments.
        if d_prev / d > LARGEST_D {
            return Some(format!("d_prev {d_prev} must be at most 2^50 times d, which is {d}"));
        }
        if !(numerator.is_finite() && denominator.is_finite()) {
            return Some(format!("numerator {numerator} and denominator {denominator} must be finite"));
        }
        None
    }

    /// The largest d in place of a larger one, and the earlier d in place of what is no step size. Otherwise the step after it would be
    /// infinite, and a checkpoint of it be refused.
    pub(crate) fn keep_valid(&mut self, earlier: f64) {
        self.d = if self.d > 0.0 { self.d.min(LARGEST_D) } else { earlier };
    }

    /// Starts the sums again, at the present d: they belong to state that is lost, and one of them beside a fresh other would
    /// estimate something else, which d keeps forever if it is larger.
    pub(crate) fn forget_sums(&mut self) {
        (self.numerator, self.denominator) = (0.0, 0.0);
    }

    /// No estimation: d stays at 1, so that the learning rate alone is the step size.
    pub const FIXED: Self = Self::new(1.0);
}

/// Whether steps can be taken with it.
pub(crate) fn is_valid_d(d: f64) -> bool {
    d > 0.0 && d <= LARGEST_D
}

/// A larger one times the largest learning rate leaves no room for an update in float32.
const LARGEST_D: f64 = (1_u64 << 50) as f64;

/// Numbers shared by all tensors of a group during one step.
///
/// The engine fills in the numbers. Before the first tensor is touched, every transform may [`publish`](Self::publish) more, each
/// under its own type ([`crate::GradientTransform::begin_step`], in the order of the chain). Any other transform can read them by
/// that type.
///
/// ```
/// use gradient_transform::StepContext;
///
/// let mut step = StepContext::new(3, 0.5);
/// assert_eq!((step.k, step.lr, step.step_size), (3, 0.5, 0.5)); // lr * d, with d = 1
///
/// /// Number that a custom transform publishes.
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// struct Temperature(f64);
///
/// assert_eq!(step.published::<Temperature>(), None);
/// step.publish(Temperature(0.5));
/// assert_eq!(step.published(), Some(Temperature(0.5)));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct StepContext {
    /// Number of this step, from 1. Only steps in which the group had a gradient count.
    pub k: u64,
    /// The same without the steps at learning rate 0 before this one, in which nothing could move.
    pub moves: u64,
    /// The group's learning rate.
    pub lr: f64,
    /// Whether an estimator learns from this step: whether the learning rate is above 0. At 0, gradients come from the same point again and again.
    /// A sum of them that grows holds the estimate down once the group moves on, for as long as the sum remembers them.
    ///
    /// One estimate for all groups ([`SplitGroups::Joint`](crate::SplitGroups::Joint)) also learns from a group at learning rate 0 that moved before:
    /// its numerator keeps what it has of that group, so its denominator must.
    pub informs_estimate: bool,
    /// The group's estimate, as it stands at the beginning of the step.
    pub estimate: Estimate,
    /// lr * d, the papers' gamma. d may be the harmonic mean of several groups', or what a [`GroupPolicy`](crate::GroupPolicy) says.
    pub step_size: f64,
    published: Publications,
}

impl StepContext {
    /// A step of a chain without an estimator.
    pub fn new(k: u64, lr: f64) -> Self {
        let published = Publications::default();
        let informs_estimate = lr > 0.0;
        Self { k, moves: k, lr, informs_estimate, estimate: Estimate::FIXED, step_size: lr, published }
    }

    /// Prepares for another step, in the same memory.
    pub(crate) fn begin(&mut self, k: u64, lr: f64) {
        let mut published = std::mem::take(&mut self.published);
        published.forget();
        *self = Self { published, ..Self::new(k, lr) };
    }

    /// Publishes a value, in place of the one of the same type that was published before in this step.
    pub fn publish<P: Published>(&mut self, value: P) {
        self.published.set(value);
    }

    pub(crate) fn publish_all(&mut self, given: &Publications) {
        self.published.set_all(given);
    }

    /// The published value of a type that `transform` requires.
    ///
    /// ```
    /// use gradient_transform::{Error, Loss, StepContext};
    ///
    /// let mut step = StepContext::new(1, 1.0);
    /// assert!(matches!(step.required::<Loss>("polyak"), Err(Error::NotGiven { .. })));
    /// step.publish(Loss(0.5));
    /// assert_eq!(step.required("polyak"), Ok(Loss(0.5)));
    /// ```
    ///
    /// # Errors
    /// [`Error::NotGiven`], which names both.
    pub fn required<P: Published>(&self, transform: &str) -> Result<P> {
        let lacking = || Error::NotGiven { transform: transform.into(), what: std::any::type_name::<P>() };
        self.published().ok_or_else(lacking)
    }

    /// The learning rate times the [`StepShare`]. Times d, it is the rate at which the parameters move.
    pub fn effective_lr(&self) -> f64 {
        self.lr * self.published::<StepShare>().map_or(1.0, |share| share.0)
    }

    /// The value of a type, if one was published in this step.
    pub fn published<P: Published>(&self) -> Option<P> {
        self.published.get()
    }
}

/// Name, shape and type of a tensor.
///
/// ```
/// use gradient_transform::{Context, DType, StepContext, TensorInfo};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![8, 4], dtype: DType::Bf16, updates: 0 };
/// assert_eq!((tensor.len(), tensor.is_empty()), (32, false));
/// let step = StepContext::new(1, 1.0);
/// let cx = Context::new(&step, &tensor);
/// assert_eq!(cx.tensor.len() * cx.tensor.dtype.size(), 64); // bytes
/// assert!(cx.fresh); // the first gradient
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name of the parameter.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Type of its elements in memory.
    pub dtype: DType,
    /// Number of its gradients before this step.
    pub updates: u64,
}

impl TensorInfo {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A step, and the tensor at hand.
///
/// ```
/// use gradient_transform::{Context, DType, Estimate, Rectification, StepContext, TensorInfo};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![8, 4], dtype: DType::F32, updates: 2 };
/// let mut step = StepContext::new(3, 0.5);
/// assert_eq!(Context::new(&step, &tensor).second_moment_weights(0.75), (0.75, 0.25));
///
/// // d has doubled since the step before: the moment of d * g is brought to the new scale.
/// step.estimate = Estimate { d: 2e-6, ..Estimate::new(1e-6) };
/// assert_eq!(Context::new(&step, &tensor).second_moment_weights(0.75), (0.1875, 0.25));
///
/// // Under RAdam's rectification, beta2 is debiased: 1 - 0.25/(1 - 0.75^3).
/// step.estimate = Estimate::FIXED;
/// step.publish(Rectification { factor: 0.5, tractable: true });
/// let (old, new) = Context::new(&step, &tensor).second_moment_weights(0.75);
/// assert!((old - (1.0 - 0.25 / 0.578125)).abs() < 1e-12 && (old + new - 1.0).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Numbers shared by the tensors of the group.
    pub step: &'a StepContext,
    /// The tensor.
    pub tensor: &'a TensorInfo,
    /// Whether this is the first gradient of the tensor that the transform sees, so that its state has its first values. The tensor
    /// need not be new: the transform may have come into its chain later, or the first gradients may have stopped at
    /// a transform before it, which held the tensor.
    pub fresh: bool,
    /// Whether a second moment takes the squared gradient as it is: under ADOPT at first, and where the moment is new and the tensor is not.
    /// There a moment that starts at zero would make the step `1/sqrt(1 - beta2)` times its usual size, although d has already grown.
    pub fill: bool,
    /// Whether an array was given for the tensor in this step: [`Column::GIVEN`](crate::Column::GIVEN).
    pub given: bool,
}

impl<'a> Context<'a> {
    /// A step of a tensor, for a transform that has seen all of its gradients.
    pub fn new(step: &'a StepContext, tensor: &'a TensorInfo) -> Self {
        Self { step, tensor, fresh: tensor.updates == 0, fill: false, given: false }
    }

    /// The context of a transform that has, or has not, seen a gradient of the tensor before.
    pub(crate) fn of(&self, fresh: bool) -> Self {
        Self { fresh, fill: fresh && self.tensor.updates > 0, ..*self }
    }

    /// The weights of the old moment and of the new term in `v <- decay * v + weight * g^2`.
    ///
    /// Moments live on the scale of d * g, so the old one is rescaled by (d_prev/d)^2 whenever d moves
    /// (Prodigy, 2306.06101, Algorithm 4). Under RAdam's [`Rectification`] beta2 is debiased:
    /// beta2' = 1 - (1 - beta2)/(1 - beta2^k). A [`MomentDecay`] takes beta2's place.
    pub fn second_moment_weights(&self, beta2: f64) -> (f64, f64) {
        let (old, new) = self.second_moment_weights_at_fixed_d(beta2);
        let Estimate { d, d_prev, .. } = self.step.estimate;
        let r = d_prev / d;
        (old * r * r, new)
    }

    /// The same for a moment that does not follow d.
    pub(crate) fn second_moment_weights_at_fixed_d(&self, beta2: f64) -> (f64, f64) {
        if self.fill {
            return (0.0, 1.0);
        }
        let beta2 = self.step.published::<MomentDecay>().map_or(beta2, |decay| decay.0);
        let beta2 = match self.step.published::<Rectification>() {
            Some(_) => 1.0 - (1.0 - beta2) / (1.0 - beta2.powf(self.step.k as f64)),
            None => beta2,
        };
        (beta2, 1.0 - beta2)
    }

    /// The weights of the old average and of the new value in `m <- old m + new g`, for a moving average that is kept debiased:
    ///
    /// ```text
    /// old = beta (1 - beta^(t-1))/(1 - beta^t) d_prev/d,    new = (1 - beta)/(1 - beta^t)      t: the number of this gradient of the tensor
    /// ```
    ///
    /// so that m is the usual average divided by `1 - beta^t`. Where the transform is new and the tensor is not
    /// ([`fill`](Self::fill)), it begins with the value as it is: counted from the tensor's first gradient, it would begin with a
    /// fraction of it.
    ///
    /// ```
    /// use gradient_transform::{Context, DType, StepContext, TensorInfo};
    ///
    /// let tensor = |updates| TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates };
    /// let (step, first, second) = (StepContext::new(1, 1.0), tensor(0), tensor(1));
    /// assert_eq!(Context::new(&step, &first).debiased_weights(0.75), (0.0, 1.0));
    /// assert_eq!(Context::new(&step, &second).debiased_weights(0.75), (0.1875 / 0.4375, 0.25 / 0.4375));
    /// let late = tensor(2000);
    /// assert_eq!(Context { fill: true, ..Context::new(&step, &late) }.debiased_weights(0.999), (0.0, 1.0));
    /// ```
    pub fn debiased_weights(&self, beta: f64) -> (f64, f64) {
        if self.fill {
            return (0.0, 1.0);
        }
        let t = (self.tensor.updates + 1) as f64;
        let (left, Estimate { d, d_prev, .. }) = (1.0 - beta.powf(t), self.step.estimate);
        (beta * (d_prev / d) * (1.0 - beta.powf(t - 1.0)) / left, (1.0 - beta) / left)
    }

    /// The same for an average of squares, `v <- old v + new g^2`, which moves with the square of d.
    ///
    /// ```
    /// use gradient_transform::{Context, DType, Estimate, StepContext, TensorInfo};
    ///
    /// let tensor = TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates: 1 };
    /// let mut step = StepContext::new(2, 1.0);
    /// step.estimate = Estimate { d: 2e-6, ..Estimate::new(1e-6) };
    /// let cx = Context::new(&step, &tensor);
    /// let (old, new) = cx.debiased_weights(0.75);
    /// assert_eq!(cx.debiased_weights_of_squares(0.75), (0.5 * old, new));
    /// ```
    pub fn debiased_weights_of_squares(&self, beta: f64) -> (f64, f64) {
        let (old, new) = self.debiased_weights(beta);
        (old * (self.step.estimate.d_prev / self.step.estimate.d), new)
    }

    /// The largest root mean square that an update may have: 50 until d has left d0, as [`LeftD0`] says, then 1.
    ///
    /// ```
    /// use gradient_transform::{Context, DType, LeftD0, StepContext, TensorInfo};
    ///
    /// let tensor = TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates: 0 };
    /// let mut step = StepContext::new(1, 1.0);
    /// assert_eq!(Context::new(&step, &tensor).clip_threshold(), 1.0);
    /// step.publish(LeftD0(false));
    /// assert_eq!(Context::new(&step, &tensor).clip_threshold(), 50.0);
    /// ```
    pub fn clip_threshold(&self) -> f64 {
        match self.step.published() {
            Some(LeftD0(false)) => 50.0,
            _ => 1.0,
        }
    }
}

/// Outcome of a step on a group, all tensors together.
///
/// ```
/// use gradient_transform::StepSummary;
///
/// // Two of three tensors had a gradient, and one of them moved.
/// let summary = StepSummary { gradients: 2, updates: 1, last_updated: false };
/// assert!(summary.updates > 0 && summary != StepSummary::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepSummary {
    /// Number of tensors that had a gradient.
    pub gradients: usize,
    /// Number of tensors that moved. Fewer than `gradients` while ADOPT fills its moment.
    pub updates: usize,
    /// Whether the group's last tensor moved.
    pub last_updated: bool,
}
