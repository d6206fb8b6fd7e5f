use gradient_transform::{Link, Real};

use crate::laws::training::Training;
use crate::problem::{Problem, Trajectory};

/// A transform, or a chain of them.
///
/// ```
/// use gradient_transform::Descent;
/// use transform_laws::Boxed;
///
/// let chain: Boxed<f32> = Box::new((Descent::default(),));
/// assert_eq!(chain.name(), "chain");
/// ```
pub type Boxed<T> = Box<dyn Link<T>>;

/// Change of a trajectory when everything is multiplied by a power of two, which rounds nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Multiplied gradients change nothing, once they are so large that numbers added to or compared with
    /// them vanish.
    Invariant,
    /// If gradients and parameters are multiplied, so is the trajectory.
    Linear,
}

/// Change of a trajectory when the slices along the first axis are permuted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Permutation {
    /// They move as before, to the bit: only functions of elements, or counts of them. A sum breaks it,
    /// unless its rounding is lost in float32, which is possible for a sum in float64.
    Exact,
    /// They move as before, but sums have another order.
    Within(f64),
    /// Other elements are used, so the trajectory differs.
    Changes,
}

/// Effect of a gradient of zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Zero {
    /// The parameter does not move, and neither does Schedule-Free's z.
    StandsStill,
    /// z does not move, and the parameter continues to move towards it.
    Averages,
    /// It moves nevertheless.
    Moves,
    /// At first it does not move. After other gradients it continues to move.
    MovesOn,
    /// At first it does not move. After other gradients it moves one more time.
    Rebounds,
}

impl Zero {
    pub(crate) const ALL: [Self; 5] =
        [Self::StandsStill, Self::Averages, Self::Moves, Self::MovesOn, Self::Rebounds];
}

/// Start of a transform that joins its chain when the group has had steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joins {
    /// As in a new run, to the bit.
    AsNew,
    /// With constant gradients, its first update is that of a long run: averages start with the first value
    /// as it is ([`fill`](gradient_transform::Context::fill)).
    AsInTheLongRun,
    /// Neither: it depends on the number of the step, or its first update differs from the later ones and from that of a new run.
    Otherwise,
}

/// The laws of a chain. The defaults are those of plain descent.
///
/// ```
/// use transform_laws::{Joins, Laws, Permutation, Scale, Training, Zero};
///
/// // Of Adam.
/// let (scale, zero, joins) = (Scale::Invariant, Zero::MovesOn, Joins::AsInTheLongRun);
/// let laws = Laws { scale, zero, joins, ..Laws::default() };
/// assert_eq!((laws.lr, laws.permutation), (0.1, Permutation::Exact));
/// assert_eq!(laws.training, Training::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Laws {
    /// Learning rate of all laws but training. Default 0.1.
    pub lr: f64,
    /// The law of scale. Default [`Scale::Linear`].
    pub scale: Scale,
    /// Whether negated gradients and parameters negate the trajectory. Default true; false for transforms
    /// that add noise. If it is false, they must not.
    pub odd: bool,
    /// The law of permutation. Default [`Permutation::Exact`].
    pub permutation: Permutation,
    /// The law of gradients of zero. Default [`Zero::StandsStill`].
    pub zero: Zero,
    /// The start in a chain that has had steps. Default [`Joins::AsNew`].
    pub joins: Joins,
    /// Whether gradients of `g/d` under an estimate d have the trajectory of g without one, at the learning rate or at its d-th part, for
    /// the usual gradients or 65,536 times as large ones. Default true. It holds if moments are of `d g`, as
    /// Prodigy's are, and the update is linear in gradients or has a size that does not depend on them. A
    /// limit that all of the large gradients reach gives such a size, so it holds for clipping. With noise,
    /// parameters, differences of gradients, or a limit that only some gradients reach, it must be false.
    pub follows_d: bool,
    /// How far float32 may be from float64, relative to the distance covered, beyond the rounding of the parameter itself. Default
    /// 1e-6, which is 16 units of float32, two for each step.
    pub float32: f64,
    /// Budget and target of training.
    pub training: Training,
}

impl Default for Laws {
    fn default() -> Self {
        Self {
            lr: 0.1,
            scale: Scale::Linear,
            odd: true,
            permutation: Permutation::Exact,
            zero: Zero::StandsStill,
            joins: Joins::AsNew,
            follows_d: true,
            float32: 1e-6,
            training: Training::default(),
        }
    }
}

/// A transform in a chain, and the laws of that chain. [`row!`](crate::row!) makes one.
///
/// It is a value, so that the laws are compiled once; with a trait they would be compiled for every
/// row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Name in reports.
    pub name: &'static str,
    /// The laws.
    pub laws: Laws,
    /// The chain in float32.
    pub single: Chains<f32>,
    /// The chain in float64.
    pub double: Chains<f64>,
    /// The members of the chain, the transform twice.
    pub twice: fn() -> Vec<Boxed<f32>>,
    /// The names of the transform and of its replacement.
    pub toggled: fn() -> Vec<String>,
    /// The same chain in plain formulas, at a learning rate.
    pub formula: fn(&Problem, f64) -> Trajectory,
}

/// The chain of a row, in one type.
///
/// ```
/// use gradient_transform::Descent;
/// use transform_laws::{Chains, Laws, formula, row};
///
/// let row = row!(descent {
///     transform: Descent::with_decay(0.1),
///     instead: [Descent::default()],
///     laws: Laws::default(),
///     formula: |problem, lr| formula::descent(problem, lr, 0.1, formula::gradient),
/// });
/// let Chains { members, .. } = row.single;
/// assert_eq!(members()[0].name(), "descent");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Chains<T> {
    /// The chain as a tuple, with the transform switched on or off by an `Option`. Another `Option`
    /// switches its replacement, if there is one, on when the transform is off.
    pub chain: fn(bool) -> Boxed<T>,
    /// The members of the chain with the transform, each in a box.
    pub members: fn() -> Vec<Boxed<T>>,
    /// The chain without the transform and without an `Option`.
    pub without: fn() -> Boxed<T>,
}

/// Types of a row's chains.
pub(crate) trait OfRow: Real {
    fn chains(row: &Row) -> Chains<Self>;
}

impl OfRow for f32 {
    fn chains(row: &Row) -> Chains<f32> {
        row.single
    }
}

impl OfRow for f64 {
    fn chains(row: &Row) -> Chains<f64> {
        row.double
    }
}

impl Row {
    pub(crate) fn chain<T: OfRow>(&self, on: bool) -> Boxed<T> {
        (T::chains(self).chain)(on)
    }

    pub(crate) fn members<T: OfRow>(&self) -> Vec<Boxed<T>> {
        (T::chains(self).members)()
    }

    pub(crate) fn without<T: OfRow>(&self) -> Boxed<T> {
        (T::chains(self).without)()
    }
}
