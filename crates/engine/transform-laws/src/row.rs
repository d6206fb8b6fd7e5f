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
    /// Gradients that are multiplied change nothing, once they are large enough for what is added to or compared with
    /// them to vanish.
    Invariant,
    /// If gradients and parameters are multiplied, so is the trajectory.
    Linear,
}

/// Change of a trajectory when the slices along the first axis are permuted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Permutation {
    /// They move as before, to the bit: nothing but elements, or counts of them. A sum breaks it, unless its rounding is lost in
    /// float32, as that of a sum in float64 may be.
    Exact,
    /// They move as before, but sums are taken in another order.
    Within(f64),
    /// Other elements are looked at, so the trajectory is another one.
    Changes,
}

/// Effect of a gradient of zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Zero {
    /// The parameter stands still, and Schedule-Free's z.
    StandsStill,
    /// z stands still, and the parameter moves on towards it.
    Averages,
    /// It moves nevertheless.
    Moves,
    /// At first it stands still. After other gradients it moves on.
    MovesOn,
    /// At first it stands still. After other gradients it moves once more.
    Rebounds,
}

impl Zero {
    pub(crate) const ALL: [Self; 5] =
        [Self::StandsStill, Self::Averages, Self::Moves, Self::MovesOn, Self::Rebounds];
}

/// Start of a transform that comes into its chain when the group has had steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joins {
    /// As in a new run, to the bit.
    AsNew,
    /// Where gradients stay the same, its first update is the one of a long run: averages take the first value as it is
    /// ([`fill`](gradient_transform::Context::fill)).
    AsInTheLongRun,
    /// Neither: it depends on the number of the step, or its first update differs from the later ones and from that of a new run.
    Otherwise,
}

/// Which laws hold for a chain. The defaults are those of plain descent.
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
    /// Whether negated gradients and parameters negate the trajectory. Default true; noise of its own has a direction. Where it is
    /// false, they must not.
    pub odd: bool,
    /// The law of permutation. Default [`Permutation::Exact`].
    pub permutation: Permutation,
    /// The law of gradients of zero. Default [`Zero::StandsStill`].
    pub zero: Zero,
    /// The start in a chain that has had steps. Default [`Joins::AsNew`].
    pub joins: Joins,
    /// Whether gradients of `g/d` under an estimate d have the trajectory of g without one, at the learning rate or at its d-th part, for
    /// the usual gradients or 65,536 times as large ones. Default true. It is so where moments are of `d g`, as Prodigy's are, and the
    /// update is linear in gradients or of a size of its own. A limit that all of the large gradients reach makes such a size, so clipping
    /// leaves it true. Where noise, parameters, differences of gradients, or a limit that only some reach come in, it must not be.
    pub follows_d: bool,
    /// How far float32 may be from float64, relative to the distance covered, beyond the rounding of the parameter itself. Default
    /// 1e-6, which are 16 units of float32, two for each step.
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

/// A transform in a chain around it, and which laws hold for that chain. [`row!`](crate::row!) makes one.
///
/// A value and not a trait, so that the laws are compiled once, and not for every row.
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
    /// The names of the transform and of what stands in for it.
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
    /// As a tuple, with the transform switched on or off by an `Option`. Switched off, what is to stand in
    /// for it, if anything is, is switched on by another.
    pub chain: fn(bool) -> Boxed<T>,
    /// The members of the chain with the transform, each in a box.
    pub members: fn() -> Vec<Boxed<T>>,
    /// The chain that has no `Option` and not the transform.
    pub without: fn() -> Boxed<T>,
}

/// Types whose chain a row has.
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
