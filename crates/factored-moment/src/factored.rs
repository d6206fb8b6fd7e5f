use gradient_transform::{
    Buffer, Context, DType, Link, MomentLink, Real, Result, Role, StateSpec, Storage, Sums, TensorInfo,
    TensorState, Tile, kernel,
};

use crate::axes::Axes;
use crate::dense::{DenseMoment, check_beta2};
use crate::division::{Divide, Division, by_atan2, by_epsilon, by_small_epsilon, epsilon_is_small};

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
/// Tensors of rank 0 or 1, and those without an axis of at least `min_size` elements, have a [`DenseMoment`] instead.
///
/// Reads the gradient once before anything can be emitted, so the chain is cut behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FactoredMoment {
    /// Decay of the moment, in [0, 1).
    pub beta2: f64,
    /// How the update is divided by the moment's root.
    pub division: Division,
    /// Tensors are factored from this size of their largest axis on. Default 32.
    pub min_size: usize,
    /// Type of the row and column means: [`Storage::Compute`] (default), or [`Storage::Parameter`] to save memory
    /// with bfloat16 parameters (`factored_fp32 = false`).
    pub storage: Storage,
    /// Reference 1.9.2: where the larger axis comes first, the rows are divided by a mean over the wrong axis.
    pub wrong_row_mean: bool,
    /// Reference 1.9.2: bfloat16 moments are rounded to the nearest after every operation.
    pub round_twice: bool,
}

impl FactoredMoment {
    /// A factored second moment with the default division.
    pub fn new(beta2: f64) -> Self {
        Self {
            beta2,
            division: Division::default(),
            min_size: 32,
            storage: Storage::Compute,
            wrong_row_mean: false,
            round_twice: false,
        }
    }

    #[inline]
    fn axes(&self, tensor: &TensorInfo) -> Option<Axes> {
        Axes::of(&tensor.shape, self.min_size)
    }

    /// What becomes of tensors that are not factored.
    fn dense(&self) -> DenseMoment {
        DenseMoment { beta2: self.beta2, division: self.division, round_twice: self.round_twice }
    }

    /// Rounds as the reference does between two operations on narrow means.
    fn rounding<T: Real>(&self, cx: &Context<'_>) -> impl Fn(T) -> T + use<T> {
        let narrow = self.round_twice && self.storage == Storage::Parameter && cx.tensor.dtype == DType::Bf16;
        move |x: T| if narrow { x.round_bf16() } else { x }
    }
}

impl<T: Real> Link<T> for FactoredMoment {
    fn name(&self) -> &str {
        "factored-moment"
    }

    fn validate(&self) -> Result<()> {
        check_beta2(self.beta2)?;
        self.division.validate()
    }

    fn role(&self, tensor: &TensorInfo) -> Role {
        if self.axes(tensor).is_some() { Role::Reduce } else { Role::Map }
    }

    fn state(&self, tensor: &TensorInfo) -> StateSpec {
        let Some(axes) = self.axes(tensor) else {
            return Link::<T>::state(&self.dense(), tensor);
        };
        let (without_p, without_q) = axes.lengths();
        let (row, col) = if axes.largest_is_p() { (without_p, without_q) } else { (without_q, without_p) };
        StateSpec::new()
            .vector("row", row, self.storage)
            .vector("col", col, self.storage)
            .scratch(without_p)
            .scratch(without_q)
            .scratch(1)
            .sums_over(axes.largest.min(axes.second))
            .sums_over(axes.largest.max(axes.second))
    }

    fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        if self.axes(cx.tensor).is_some() {
            let Tile { update, parameter, columns, offset, .. } = tile;
            self.accumulate(cx, update.values(), parameter, columns, *offset, sums);
        }
    }

    fn sums_show_unusable(&self, tensor: &TensorInfo) -> bool {
        self.axes(tensor).is_some()
    }

    fn seal(&self, cx: &Context<'_>, mut state: TensorState<'_, T>) {
        self.advance(cx, state.reborrow());
        self.prepare(cx, state);
    }

    fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        match self.axes(cx.tensor) {
            Some(_) => self.divide(cx, tile),
            None => self.dense().emit(cx, tile),
        }
    }

    fn commit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        match self.axes(cx.tensor) {
            Some(_) => self.divide(cx, tile),
            None => self.dense().commit(cx, tile, sums),
        }
    }

    /// Those of a dense moment.
    fn commits_columns(&self) -> bool {
        true
    }
}

/// The scratch array whose one element says whether the two arrays of roots hold their inverses.
const INVERTED: usize = 2;

impl<T: Real> MomentLink<T> for FactoredMoment {
    fn accumulate(
        &self,
        cx: &Context<'_>,
        gradient: &[T],
        parameter: &[T],
        columns: &mut [&mut [T]],
        offset: usize,
        sums: Sums<'_, T>,
    ) {
        match self.axes(cx.tensor) {
            None => self.dense().accumulate(cx, gradient, parameter, columns, offset, sums),
            Some(axes) => {
                let [without_p, without_q] = sums.vectors else { return };
                axes.accumulate(gradient, offset, without_p, without_q);
            }
        }
    }

    fn divide(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        let Some(axes) = self.axes(cx.tensor) else {
            return self.dense().divide(cx, tile);
        };
        if cx.step.rectification.is_some_and(|r| !r.tractable) {
            return;
        }
        let (without_p, without_q) = (&tile.scratch[0], &tile.scratch[1]);
        match self.division.at::<T>(cx) {
            Divide::Epsilon(eps) => {
                if tile.scratch[INVERTED][0] == T::one() {
                    let f = move |g, inverse| by_small_epsilon(g, inverse, eps);
                    axes.apply(&mut tile.update, tile.offset, without_p, without_q, f);
                } else {
                    let f = move |g, root| by_epsilon(g, root, eps);
                    axes.apply(&mut tile.update, tile.offset, without_p, without_q, f);
                }
            }
            Divide::Atan2(b) => {
                let f = move |g, root| by_atan2(g, root, b);
                axes.apply(&mut tile.update, tile.offset, without_p, without_q, f);
            }
        }
    }

    fn prepare(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        let Some(axes) = self.axes(cx.tensor) else { return };
        let round = self.rounding::<T>(cx);
        let [without_p, without_q, inverted] = state.scratch else { return };
        let (row, col) = if axes.largest_is_p() {
            (&mut *without_p, &mut *without_q)
        } else {
            (&mut *without_q, &mut *without_p)
        };
        state.vectors[1].load(col);
        kernel::map(col, |mean| round(mean.sqrt()));
        row_roots(&state.vectors[0], self.row_mean(cx.tensor, &axes), &round, row);
        inverted[0] = T::zero();
        if let Division::Epsilon(eps) = self.division {
            let largest = (least(without_p) * least(without_q)).recip();
            if epsilon_is_small(T::of(eps), largest) {
                kernel::map(without_p, |root| root.recip());
                kernel::map(without_q, |root| root.recip());
                inverted[0] = T::one();
            }
        }
    }

    fn advance(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        let Some(axes) = self.axes(cx.tensor) else { return };
        let round = self.rounding::<T>(cx);
        let (decay, weight) = cx.step.second_moment_weights(self.beta2);
        let [without_p, without_q] = state.vector_sums else { return };
        let (without_p, without_q) = (without_p.values(), without_q.values());
        let (row, col) = if axes.largest_is_p() { (without_p, without_q) } else { (without_q, without_p) };
        let averaged = [(row, axes.largest), (col, axes.second)];
        for (moment, (sums, axis)) in state.vectors.iter_mut().zip(averaged) {
            let (decay, weight) = (T::of(decay), T::of(weight));
            let count = T::of(1.0 / cx.tensor.shape[axis].max(1) as f64);
            moment.update(sums, |moment, sum| round(moment * decay) + weight * (sum * count));
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
