//! Rows and columns of a matrix, between sweeps.

use crate::memory::buffer::Buffer;
use crate::memory::sums::Gathered;

/// Arrays of a tensor with one of its axes summed out, on the host: row and column sums of a matrix.
///
/// Adafactor's second moment of a matrix (Shazeer and Stern, 2018, algorithm 4):
///
/// ```
/// use gradient_transform::{
///     AlongState, Backend, Context, Descent, Moment, MomentElement, Nothing, Num, Optimizer, Parameter, Real,
///     Storage, TensorInfo, fields, transform,
/// };
///
/// /// `row <- 0.9 row + 0.1 (sum of g^2 over the columns)`, `col` likewise over the rows; `u <- u / sqrt(row col / sum(row))`.
/// #[derive(Clone, Debug)]
/// struct Factored;
///
/// #[fields]
/// struct Sides<V> {
///     row: V,
///     col: V,
/// }
///
/// #[transform("factored")]
/// impl Moment for Factored {
///     type Along<V: Copy> = Sides<V>;
///
///     fn along(&self, _tensor: &TensorInfo) -> Option<Sides<usize>> {
///         Some(Sides { row: 1, col: 0 }) // the axes that they lack
///     }
///
///     fn vectors(&self, tensor: &TensorInfo) -> Vec<(&'static str, usize, Storage)> {
///         vec![("row", tensor.shape[0], Storage::Compute), ("col", tensor.shape[1], Storage::Compute)]
///     }
///
///     fn accumulate<B: Backend>(&self, _e: &mut MomentElement<B, Self>) {} // no state of an element
///
///     fn measure_along<B: Backend>(&self, e: &MomentElement<B, Self>) -> Sides<Num<B>> {
///         Sides { row: e.update.squared(), col: e.update.squared() }
///     }
///
///     fn advance<T: Real>(&self, _cx: &Context<'_>, along: AlongState<'_, T>) {
///         for (kept, sums) in along.kept.iter_mut().zip(along.sums) {
///             kept.update(sums.values(), |old, sum| T::of(0.9) * old + T::of(0.1) * sum);
///         }
///     }
///
///     fn prepare<T: Real>(&self, _cx: &Context<'_>, along: AlongState<'_, T>, _scalars: &mut Nothing<f64>) {
///         for (values, kept) in along.values.iter_mut().zip(&*along.kept) {
///             kept.load(values);
///         }
///         let total = along.values[0].iter().fold(T::zero(), |sum, &row| sum + row);
///         along.values[0].iter_mut().for_each(|row| *row /= total);
///     }
///
///     fn divide<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
///         e.update = e.update / ((e.along.row * e.along.col).sqrt() + 1e-8);
///     }
/// }
///
/// let mut optimizer = Optimizer::new((Factored, Descent::default()), [("w", &[2, 2][..])])?;
/// let mut w = [0.0_f32; 4];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0, -2.0, 2.0, -4.0]))])?;
/// // The squares have rank one, so each element is divided by its own absolute value: signs, 1/sqrt(0.1) times.
/// assert!(w.iter().all(|w| (w.abs() - 10.0_f32.sqrt()).abs() < 1e-5));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Debug)]
pub struct AlongState<'a, T> {
    /// Arrays kept from step to step: [`GradientTransform::vectors`](crate::GradientTransform::vectors).
    pub kept: &'a mut [Buffer],
    /// Sums of [`GradientTransform::measure_along`](crate::GradientTransform::measure_along), when they are complete.
    pub sums: &'a [Gathered<T>],
    /// Values that elements find in [`ElementOf::along`](crate::ElementOf::along), to be written.
    pub values: &'a mut [Vec<T>],
}

impl<T> AlongState<'_, T> {
    /// Reborrows the arrays.
    pub fn reborrow(&mut self) -> AlongState<'_, T> {
        AlongState { kept: self.kept, sums: self.sums, values: self.values }
    }
}
