use gradient_transform::{
    AlongState, Backend, Buffer, Column, Context, DType, Moment, MomentElement, MomentScale, Num, Real,
    Result, Storage, TensorInfo, fields, kernel, transform,
};
use serde::{Deserialize, Serialize};

use crate::axes::Axes;
use crate::dense::{Reading, Second, Squared, Weights, check_beta2, next, weights};
use crate::division::{Division, EPSILON, FORMULAS, SMALL_EPSILON, divide, epsilon_is_small};

/// The factored second moment: row and column means of the squared gradient over the two largest axes.
///
/// With `r = d_prev/d` (1 without an estimator):
///
/// ```text
/// row <- beta2 r^2 row + (1 - beta2) mean of g^2 over the largest axis
/// col <- beta2 r^2 col + (1 - beta2) mean of g^2 over the second largest axis
/// u = g / (sqrt(row / mean(row)) * sqrt(col) + eps)
/// ```
///
/// Tensors of rank 0 or 1, and those without an axis of at least `min_size` elements, have a [`crate::DenseMoment`] instead.
///
/// Needs a sum over the whole gradient first, so the chain is cut after it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FactoredMoment {
    /// Decay of the moment, in [0, 1).
    pub beta2: f64,
    /// How the update is divided by the moment's root.
    pub division: Division,
    /// How the moment follows d. Default: rescaled.
    pub scale: MomentScale,
    /// The quantity that is squared. Default: the update.
    pub of: Squared,
    /// Reference 2.0.1, with [`MomentScale::Weighted`]: the state is of d g, and is read as if it were of g.
    pub reads_weighted: bool,
    /// Smallest size of the largest axis at which a tensor is factored. Default 32.
    pub min_size: usize,
    /// Type of the row and column means: [`Storage::Compute`] (default), or [`Storage::Parameter`] to save memory
    /// with bfloat16 parameters (`factored_fp32 = false`).
    pub storage: Storage,
    /// Reference 1.9.2: if the larger axis comes first, the rows are divided by a mean over the wrong axis.
    pub wrong_row_mean: bool,
    /// Reference 1.9.2: bfloat16 moments are rounded to the nearest after every operation.
    pub round_twice: bool,
}

impl Default for FactoredMoment {
    fn default() -> Self {
        Self::new(0.99)
    }
}

impl FactoredMoment {
    /// A factored second moment with the default division.
    pub fn new(beta2: f64) -> Self {
        Self {
            beta2,
            division: Division::default(),
            scale: MomentScale::Rescaled,
            of: Squared::Update,
            reads_weighted: false,
            min_size: 32,
            storage: Storage::Compute,
            wrong_row_mean: false,
            round_twice: false,
        }
    }

    #[inline(always)]
    fn reading(&self) -> Reading {
        Reading { scale: self.scale, reads_weighted: self.reads_weighted }
    }

    #[inline]
    fn axes(&self, tensor: &TensorInfo) -> Option<Axes> {
        Axes::of(&tensor.shape, self.min_size)
    }

    /// Rounds as the reference does between two operations on narrow means.
    fn rounding<T: Real>(&self, cx: &Context<'_>) -> impl Fn(T) -> T + use<T> {
        let narrow = self.round_twice && self.storage == Storage::Parameter && cx.tensor.dtype == DType::Bf16;
        move |x: T| if narrow { x.round_bf16() } else { x }
    }
}

/// Arrays of a matrix.
///
/// ```
/// use factored_moment::{FactoredMoment, Means};
/// use gradient_transform::{DType, Moment, TensorInfo};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![64, 48], dtype: DType::F32, updates: 0 };
/// assert_eq!(Moment::along(&FactoredMoment::new(0.99), &tensor), Some(Means { row: 0, col: 1 })); // the axes that they lack
/// ```
#[fields]
pub struct Means<V> {
    /// Without the largest axis.
    pub row: V,
    /// Without the second largest.
    pub col: V,
}

/// Variants for tensors that are not factored.
const DENSE: u32 = FORMULAS;
/// Variants that round to bfloat16 between operations.
const ROUNDING: u32 = 2 * FORMULAS;

#[transform]
impl Moment for FactoredMoment {
    type State<V: Copy> = Second<V>;
    type Scalars<V: Copy> = Weights<V>;
    type Along<V: Copy> = Means<V>;

    fn name(&self) -> &str {
        self.scale.name("factored-moment", "weighted-factored-moment")
    }

    fn validate(&self) -> Result<()> {
        check_beta2(self.beta2)?;
        self.division.validate()
    }

    fn columns(&self, tensor: &TensorInfo) -> Second<Column> {
        Second { v: if self.axes(tensor).is_some() { Column::ABSENT } else { Column::ZEROS } }
    }

    fn along(&self, tensor: &TensorInfo) -> Option<Means<usize>> {
        self.axes(tensor).map(|axes| Means { row: axes.largest, col: axes.second })
    }

    fn vectors(&self, tensor: &TensorInfo) -> Vec<(&'static str, usize, Storage)> {
        let Some(axes) = self.axes(tensor) else { return Vec::new() };
        let len = |axis: usize| tensor.len() / tensor.shape[axis];
        vec![("row", len(axes.largest), self.storage), ("col", len(axes.second), self.storage)]
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Weights<f64>) {
        *scalars = weights(cx, self.beta2, self.reading(), self.division);
    }

    fn variant(&self, cx: &Context<'_>, scalars: &Weights<f64>) -> u32 {
        let formula = self.division.formula(cx.step);
        match self.axes(cx.tensor) {
            Some(_) if formula == EPSILON && scalars.inverted == 1.0 => SMALL_EPSILON,
            Some(_) => formula,
            None if self.round_twice && cx.tensor.dtype == DType::Bf16 => formula + DENSE + ROUNDING,
            None => formula + DENSE,
        }
    }

    fn variants(&self) -> u32 {
        2 * ROUNDING
    }

    fn accumulate<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
        if e.variant & DENSE != 0 {
            e.state.v = next(e.state.v, self.of.of(e), &e.scalars, e.variant & ROUNDING != 0);
        }
    }

    fn measure_along<B: Backend>(&self, e: &MomentElement<B, Self>) -> Means<Num<B>> {
        let g = self.of.of(e);
        let square = g * g;
        Means { row: square, col: square }
    }

    fn divide<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
        // The columns of a factored moment contain the factor for reading it.
        let dense = || self.reading().root(e.state.v, e.scalars.read);
        let root = if e.variant & DENSE != 0 { dense() } else { e.along.row * e.along.col };
        e.update = divide(e.variant % FORMULAS, e.update, root, e.scalars.division, e.scalars.outer);
    }

    fn advance<T: Real>(&self, cx: &Context<'_>, along: AlongState<'_, T>) {
        let Some(axes) = self.axes(cx.tensor) else { return };
        let round = self.rounding::<T>(cx);
        let (decay, weight) = self.scale.second_moment_weights(cx, self.beta2);
        let (decay, weight) = (T::of(decay), T::of(weight));
        for ((mean, sums), axis) in along.kept.iter_mut().zip(along.sums).zip([axes.largest, axes.second]) {
            let count = T::of(1.0 / cx.tensor.shape[axis].max(1) as f64);
            mean.update(sums.values(), |mean, sum| round(mean * decay) + weight * (sum * count));
        }
    }

    fn prepare<T: Real>(&self, cx: &Context<'_>, along: AlongState<'_, T>, scalars: &mut Weights<f64>) {
        let (Some(axes), [row, col]) = (self.axes(cx.tensor), along.values) else { return };
        let round = self.rounding::<T>(cx);
        along.kept[1].load(col);
        let (read, of_eps) = self.reading().factors(cx);
        let read = T::of(read);
        kernel::map(col, |mean| round(mean.sqrt()) * read);
        row_roots(&along.kept[0], self.row_mean(cx.tensor, &axes), &round, row);
        if let Division::Epsilon(eps) = self.division {
            let largest = (least(row) * least(col)).recip();
            if epsilon_is_small(T::of(eps * of_eps), largest) {
                kernel::map(row, |root| root.recip());
                kernel::map(col, |root| root.recip());
                scalars.inverted = 1.0;
            }
        }
    }
}

fn least<T: Real>(values: &[T]) -> T {
    values.iter().fold(T::infinity(), |least, &value| least.min(value))
}

/// The axis of the row means over which their own mean is taken: how many elements, and how far apart.
struct RowMean {
    count: usize,
    stride: usize,
}

impl FactoredMoment {
    fn row_mean(&self, tensor: &TensorInfo, axes: &Axes) -> RowMean {
        let axis =
            if self.wrong_row_mean && axes.second > axes.largest { axes.second - 1 } else { axes.second };
        // The row means have the tensor's shape with the largest axis struck out to 1.
        let side = |i: usize| if i == axes.largest { 1 } else { tensor.shape[i] };
        RowMean { count: side(axis), stride: (axis + 1..tensor.shape.len()).map(side).product() }
    }
}

/// `sqrt(row / (mean(row) + 1e-30))`.
fn row_roots<T: Real>(row: &Buffer, over: RowMean, round: impl Fn(T) -> T, roots: &mut [T]) {
    let RowMean { count, stride } = over;
    row.load(roots);
    for block in roots.chunks_mut((count * stride).max(1)) {
        for inner in 0..stride {
            let sum: f64 = block[inner..].iter().step_by(stride).map(|row| row.f64()).sum();
            let mean = round(round(T::of(sum / count as f64)) + T::of(1e-30));
            let root = |row: T| round(round(row / mean).sqrt());
            if stride == 1 {
                kernel::map(block, root);
            } else {
                block[inner..].iter_mut().step_by(stride).for_each(|row| *row = root(*row));
            }
        }
    }
}
