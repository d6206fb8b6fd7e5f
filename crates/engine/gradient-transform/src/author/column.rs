//! Arrays of state.

use crate::link::state::{Initial, Storage};

/// Array of a transform's state: one value for each element of a tensor.
///
/// ```
/// use gradient_transform::{Column, Initial, Storage};
///
/// assert_eq!(Column::ZEROS.storage, Storage::Parameter);
/// assert_eq!(Column::ZEROS.stored_as(Storage::Compute).storage, Storage::Compute);
/// assert_eq!(Column::COPY.initial, Initial::Parameter);
/// assert!(!Column::ABSENT.present);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    /// Type in memory.
    pub storage: Storage,
    /// First values.
    pub initial: Initial,
    /// Whether the tensor has the array. Otherwise elements read 0, and assignments are lost.
    pub present: bool,
}

impl Column {
    /// Zeros at first, in the parameter's type.
    pub const ZEROS: Self = Self { storage: Storage::Parameter, initial: Initial::Zero, present: true };
    /// A copy of the parameter at first, in the parameter's type.
    pub const COPY: Self = Self { storage: Storage::Parameter, initial: Initial::Parameter, present: true };
    /// Standard normal random numbers, new in each step, and the same on every machine, engine and number of threads:
    /// [`normal`](crate::normal). They are workspace, in the type of the computation: they are not kept or
    /// saved, and assignments to them are lost.
    ///
    /// ```
    /// use gradient_transform::{
    ///     Backend, Column, Descent, Element, GradientTransform, Optimizer, Parameter, TensorInfo, fields, normal, transform,
    /// };
    ///
    /// #[derive(Clone, Debug)]
    /// struct Shaken;
    ///
    /// #[fields]
    /// struct Noise<V> {
    ///     noise: V,
    /// }
    ///
    /// #[transform("shaken")]
    /// impl GradientTransform for Shaken {
    ///     type State<V: Copy> = Noise<V>;
    ///
    ///     fn columns(&self, _tensor: &TensorInfo) -> Noise<Column> {
    ///         Noise { noise: Column::NORMAL }
    ///     }
    ///
    ///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
    ///         e.update = e.update + 0.5 * e.state.noise;
    ///     }
    /// }
    ///
    /// let mut optimizer: Optimizer<f64> = Optimizer::new_in((Shaken, Descent::default()), [("w", [2])])?;
    /// let mut w = [0.0, 0.0];
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.0, 0.0]))])?;
    /// assert_eq!(w, [0, 1].map(|element| -0.5 * normal(0, "w", "shaken/noise", 0, element)));
    /// assert!(optimizer.snapshot().tensors["w"].arrays.is_empty());
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub const NORMAL: Self = Self { storage: Storage::Compute, initial: Initial::Normal, present: true };
    /// An array that a step gets in addition to the gradient, such as an estimate of the curvature:
    /// [`Optimizer::give_array`](crate::Optimizer::give_array). It is workspace, in the type of the
    /// computation, and zeros in steps without such an array, which [`Context::given`](crate::Context::given)
    /// tells apart.
    ///
    /// ```
    /// use gradient_transform::prelude::author::*;
    /// use gradient_transform::{Column, Descent, Optimizer, Parameter, TensorInfo};
    ///
    /// /// Newton's step, by the curvature of every element.
    /// #[derive(Clone, Debug)]
    /// struct Newton;
    ///
    /// #[fields]
    /// struct Curvature<V> {
    ///     curvature: V,
    /// }
    ///
    /// #[transform("newton")]
    /// impl GradientTransform for Newton {
    ///     type State<V: Copy> = Curvature<V>;
    ///
    ///     fn columns(&self, _tensor: &TensorInfo) -> Curvature<Column> {
    ///         Curvature { curvature: Column::GIVEN }
    ///     }
    ///
    ///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
    ///         e.update = e.update / e.state.curvature.max(1.0);
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new((Newton, Descent::default()), [("w", [2])])?;
    /// let mut w = [1.0_f32, 1.0]; // of 2 w0^2 + 4 w1^2
    /// optimizer.give_array(0, &[4.0_f32, 8.0])?;
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[4.0, 8.0]))])?;
    /// assert_eq!(w, [0.0, 0.0]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub const GIVEN: Self = Self { storage: Storage::Compute, initial: Initial::Given, present: true };
    /// No array: 0 for all elements.
    pub const ABSENT: Self = Self { present: false, ..Self::ZEROS };

    /// The same array in another type.
    pub const fn stored_as(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }
}
