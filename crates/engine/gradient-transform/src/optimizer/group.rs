//! Parameter groups, and settings for all of them.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::link::compose::{StageRef, Stages, stages};
use crate::link::context::TensorInfo;
use crate::link::context::{Estimate, StepContext, StepSummary};
use crate::link::published::Publications;
use crate::link::{Link, Role};
use crate::memory::element::DType;
use crate::memory::element::Real;
use crate::memory::rounding::Rounding;
use crate::optimizer::evaluation::TrainingPoint;
use crate::optimizer::policy::{Counts, GroupState, SplitGroups};
use crate::optimizer::shape::IntoShape;

/// Parameters that share a chain, a learning rate and an estimate of the step size.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, ParameterGroup, Rounding, Settings};
///
/// let group = ParameterGroup::new(Descent::default(), [("w", &[8, 4][..]), ("b", &[4][..])])
///     .lr(0.1)
///     .rounding(Rounding::Nearest);
/// let optimizer: Optimizer = Optimizer::with_groups([group], Settings::default())?;
/// assert_eq!(optimizer.lr(0)?, 0.1);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub struct ParameterGroup<T: Real = f32> {
    pub(crate) chain: Box<dyn Link<T>>,
    pub(crate) lr: f64,
    pub(crate) rounding: Rounding,
    pub(crate) parameters: Vec<(String, Vec<usize>)>,
}

impl<T: Real> ParameterGroup<T> {
    /// A group of the named parameters with the given shapes, at learning rate 1.
    pub fn new<N: Into<String>>(
        chain: impl Link<T> + 'static,
        parameters: impl IntoIterator<Item = (N, impl IntoShape)>,
    ) -> Self {
        Self {
            chain: Box::new(chain),
            lr: 1.0,
            rounding: Rounding::Stochastic,
            parameters: parameters
                .into_iter()
                .map(|(name, shape)| (name.into(), shape.into_shape()))
                .collect(),
        }
    }

    /// Sets the learning rate: at least 0, and at most 2^32. Together with a d0 of at most 2^50, that keeps a step along the
    /// largest accepted gradient finite. Default 1.
    pub fn lr(mut self, lr: f64) -> Self {
        self.lr = lr;
        self
    }

    /// Sets how bfloat16 parameters and state are rounded. Default: stochastically.
    pub fn rounding(mut self, rounding: Rounding) -> Self {
        self.rounding = rounding;
        self
    }
}

/// Rule for a step with a gradient that is infinite, not a number, or larger than can be squared
/// ([`Real::LARGEST_GRADIENT`]).
///
/// ```
/// use gradient_transform::{Descent, Error, NonFinite, Optimizer, Parameter};
///
/// assert_eq!(NonFinite::default(), NonFinite::Error);
/// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[2][..])])?;
/// let mut w = [1.0_f32, 1.0];
/// let error = optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.5, f32::NAN]))]).unwrap_err();
/// assert!(matches!(error, Error::NonFiniteGradient { index: 1, .. }));
/// assert_eq!(w, [1.0, 1.0]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonFinite {
    /// The step is an error that names the tensor and the element.
    #[default]
    Error,
    /// The whole step is skipped, for all parameters together, and counted: [`Optimizer::skipped_steps`](crate::Optimizer::skipped_steps).
    Skip,
    /// The parameters with such a gradient are left out of the step, as if they had none, and counted:
    /// [`Optimizer::skipped_tensors`](crate::Optimizer::skipped_tensors). So no parameter has to wait until
    /// the gradients of the others have been checked, and each is read and written while it is in the
    /// processor's caches.
    #[serde(rename = "skip_tensor")]
    SkipTensor,
    /// Gradients are not checked, which saves a pass over them. A single infinite gradient then spoils the estimate of the step size permanently.
    Unchecked,
}

/// Settings of all groups together.
///
/// ```
/// use gradient_transform::{Settings, SplitGroups};
///
/// let settings: Settings = serde_json::from_str(r#"{"seed": 3, "split_groups": "joint"}"#)?;
/// assert_eq!(settings, Settings { seed: 3, split_groups: SplitGroups::Joint, ..Settings::default() });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How the groups' estimates act together.
    pub split_groups: SplitGroups,
    /// Rule for non-finite gradients.
    pub non_finite: NonFinite,
    /// Seed of stochastic rounding.
    pub seed: u64,
    /// Fate of the training point while the parameters are at the evaluation point.
    pub training_point: TrainingPoint,
}

/// A group with its state.
pub(crate) struct Group<T: Real> {
    pub(crate) chain: Box<dyn Link<T>>,
    pub(crate) lr: f64,
    pub(crate) rounding: Rounding,
    /// Steps done.
    pub(crate) k: u64,
    /// The number of them at learning rate 0.
    pub(crate) still_steps: u64,
    /// Whether the chain has an estimator.
    pub(crate) estimates: bool,
    /// The stage of the estimator, in a step that it does not learn from.
    pub(crate) still: Option<usize>,
    pub(crate) estimate: Estimate,
    /// The transforms' numbers per group, in the order of the chain.
    pub(crate) scalars: Vec<f64>,
    /// Whether it ever had a gradient at a learning rate above 0.
    pub(crate) seen: bool,
    /// The context of the current step.
    pub(crate) context: StepContext,
    /// The context of the previous step, in case the current one is rejected.
    pub(crate) previous: StepContext,
    /// Sums of the current step.
    pub(crate) summary: StepSummary,
    /// Its weight in the estimate.
    pub(crate) counts: Counts,
}

impl<T: Real> Group<T> {
    pub(crate) fn new(chain: Box<dyn Link<T>>, lr: f64, rounding: Rounding) -> Result<Self> {
        let estimate = validate(&stages(&*chain))?;
        check_lr(lr)?;
        let scalars = vec![0.0; stages(&*chain).iter().map(|t| t.group_scalars().len()).sum()];
        let estimates = stages(&*chain).iter().any(|t| t.estimator().is_some());
        Ok(Self {
            chain,
            lr,
            rounding,
            k: 0,
            still_steps: 0,
            estimates,
            still: None,
            estimate,
            scalars,
            seen: false,
            context: StepContext::new(1, lr),
            previous: StepContext::new(1, lr),
            summary: StepSummary::default(),
            counts: Counts::default(),
        })
    }

    /// Its state, for a policy.
    pub(crate) fn state(&self, index: usize, resumed: bool) -> GroupState {
        let Self { k, lr, estimate, seen: has_moved, summary, .. } = *self;
        GroupState { index, k, lr, estimate, has_moved, resumed, summary }
    }

    /// Takes over an estimate of other groups. d0 stays, because the group compares d with it.
    pub(crate) fn share_estimate(&mut self, estimate: &Estimate) {
        self.estimate = Estimate { d0: self.estimate.d0, ..*estimate };
    }

    /// Publishes the step's context; `d` is the estimate to step with, and `joint` says whether there is one estimate for all groups.
    pub(crate) fn begin_step(&mut self, d: f64, joint: bool, given: &Publications) {
        let stages = stages(&*self.chain);
        std::mem::swap(&mut self.previous, &mut self.context);
        let step = &mut self.context;
        step.begin(self.k + 1, self.lr);
        step.moves = step.k - self.still_steps;
        step.informs_estimate = self.lr > 0.0 || (joint && self.seen);
        step.estimate = self.estimate;
        step.step_size = self.lr * d;
        step.publish_all(given);
        let mut at = 0;
        for transform in &stages {
            let n = transform.group_scalars().len();
            transform.begin_step(&self.scalars[at..at + n], step);
            at += n;
        }
        self.still = stages.iter().position(|stage| stage.estimator().is_some_and(|e| !e.learns(step)));
    }

    /// Checks that the current step provides everything that the transforms need.
    pub(crate) fn check_step(&self) -> Result<()> {
        stages(&*self.chain).iter().try_for_each(|transform| transform.check_step(&self.context))
    }

    /// Updates the estimate by `total`, if there is one, and then the transforms' numbers.
    pub(crate) fn end_step(&mut self, total: Option<[f64; 2]>) {
        let Self { chain, context, estimate, scalars, summary, k, .. } = self;
        let stages = stages(&**chain);
        if let Some(total) = total {
            conclude(&stages, context, total, estimate);
        }
        let mut at = 0;
        for transform in &stages {
            let n = transform.group_scalars().len();
            transform.end_step(context, summary, &mut scalars[at..at + n]);
            at += n;
        }
        *k += 1;
    }

    /// Updates `estimate` by `total`, if the chain has an estimator.
    pub(crate) fn conclude(&mut self, total: [f64; 2]) {
        let Self { chain, context, estimate, .. } = self;
        conclude(&stages(&**chain), context, total, estimate);
    }
}

fn conclude<T: Real>(stages: &Stages<'_, T>, step: &StepContext, total: [f64; 2], estimate: &mut Estimate) {
    if let Some(estimator) = stages.iter().find_map(|t| t.estimator()) {
        let earlier = estimate.d;
        if !estimator.learns(step) {
            // The moments have been rescaled in this step, and must not be rescaled again.
            estimate.d_prev = earlier;
            return;
        }
        estimator.conclude(step, total, estimate);
        estimate.keep_valid(earlier);
    }
}

/// With a learning rate of at most 2^32 and an estimate d of at most 2^50, a step of `lr * d` along an update
/// of at most 2^44, the largest gradient of float32, is finite in float32, and the sum of the squares of
/// `lr * d` over all steps is finite in float64.
pub(crate) fn check_lr(lr: f64) -> Result<()> {
    Error::check("lr", lr, (0.0..=LARGEST_LR).contains(&lr), "at least 0 and at most 2^32")
}

const LARGEST_LR: f64 = (1_u64 << 32) as f64;

/// Rejects invalid chains; returns the initial estimate of this one.
fn validate<T: Real>(stages: &Stages<'_, T>) -> Result<Estimate> {
    let names: Vec<&str> = stages.iter().map(|t| t.name()).collect();
    let refuse = |reason: String| Err(Error::InvalidChain { chain: names.join(" | "), reason });
    for transform in stages {
        transform.validate()?;
    }
    let writers: Vec<usize> = (0..stages.len()).filter(|&i| stages[i].writer().is_some()).collect();
    let writer = match writers[..] {
        [writer] => writer,
        [] => {
            return refuse("nothing writes the parameters; end it with `ScheduleFree` or `Descent`".into());
        }
        _ => {
            let named: Vec<&str> = writers.iter().map(|&w| names[w]).collect();
            return refuse(format!("{} all write the parameters; keep one", named.join(" and ")));
        }
    };
    for (i, transform) in stages.iter().enumerate() {
        let name = names[i];
        if name.is_empty() || name.contains('/') {
            return refuse(format!(
                "`{name}` is the name of state, so it must not be empty or contain a `/`"
            ));
        }
        if names[..i].contains(&name) {
            return refuse(format!("`{name}` occurs twice, and state is kept by name; keep one"));
        }
        if i > writer && !transform.changes_displacement() {
            return refuse(format!(
                "`{name}` works on the update, so it must stand before `{}`",
                names[writer]
            ));
        }
        if i < writer && transform.changes_displacement() {
            return refuse(format!(
                "`{name}` changes the displacement that `{}` makes, so it must stand after it",
                names[writer]
            ));
        }
        for &(other, reason) in transform.excludes() {
            if names.contains(&other) {
                return Err(Error::Excluded { first: name.into(), second: other.into(), reason });
            }
        }
    }
    let mut estimators = stages.iter().filter_map(|t| t.estimator().map(|e| (t.name(), e)));
    match (estimators.next(), estimators.next()) {
        (Some((first, _)), Some((second, _))) => {
            refuse(format!("`{first}` and `{second}` both estimate the step size; keep one"))
        }
        (Some((name, estimator)), None) => {
            let initial = estimator.initial();
            match initial.fault() {
                Some(fault) => refuse(format!("the initial estimate of `{name}` allows no step: {fault}")),
                None => Ok(initial),
            }
        }
        _ => Ok(Estimate::FIXED),
    }
}

/// The transforms of a chain for a tensor of the given shape.
pub(crate) fn describe<T: Real>(chain: &dyn Link<T>, shape: &[usize]) -> String {
    let tensor = TensorInfo { name: String::new(), shape: shape.to_vec(), dtype: DType::F32, updates: 0 };
    let step = StepContext::new(1, 1.0);
    let part = |t: &StageRef<'_, T>| match t.role(&tensor) {
        Role::Reduce if !t.is_idle(&step, &tensor) => format!("{} ‖", t.name()),
        _ => t.name().to_string(),
    };
    stages(chain).iter().map(part).collect::<Vec<_>>().join(" | ")
}
