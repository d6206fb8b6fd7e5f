//! Equations of a transform, as text.

/// Equations of a transform's work on an element, for people to read: `u <- factor u`.
///
/// ```
/// use gradient_transform::{DType, Descent, Equations, Link, TensorInfo};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![8, 4], dtype: DType::F32, updates: 0 };
/// let equations: Equations = Link::<f32>::equations(&Descent::with_decay(0.1), &tensor);
/// assert_eq!(equations.update, ["u <- u + 0.1 y"]);
/// assert_eq!(equations.write, ["y <- y - step_size u"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Equations {
    /// Terms of the sums: `squares = sum of u u`.
    pub measure: Vec<String>,
    /// The outgoing update u. After the writer u is the displacement.
    pub update: Vec<String>,
    /// The arrays of state, in the last sweep.
    pub state: Vec<String>,
    /// Of a writer with transforms after it: the displacement, which is u from there on. The u before is the direction.
    pub displace: Vec<String>,
    /// Of a writer: the parameter y, and its arrays of state.
    pub write: Vec<String>,
    /// The same by the displacement, after the transforms that change it.
    pub write_displaced: Vec<String>,
}
