//! Forms of shapes.

/// A shape: a number of elements, an array, a slice, a vector, or a tuple.
///
/// ```
/// use gradient_transform::{Descent, IntoShape, Optimizer};
///
/// assert_eq!(4_usize.into_shape(), [4]);
/// assert_eq!([8, 4].into_shape(), (8, 4).into_shape());
/// assert!(().into_shape().is_empty()); // one element
///
/// let optimizer = Optimizer::new(Descent::default(), [("w", [8, 4]), ("v", [4, 2])])?;
/// // Of several ranks:
/// let optimizer = Optimizer::new(Descent::default(), [("w", vec![8, 4]), ("b", vec![4])])?;
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub trait IntoShape {
    /// The lengths of the axes.
    fn into_shape(self) -> Vec<usize>;
}

impl IntoShape for usize {
    fn into_shape(self) -> Vec<usize> {
        vec![self]
    }
}

impl IntoShape for Vec<usize> {
    fn into_shape(self) -> Vec<usize> {
        self
    }
}

impl IntoShape for &Vec<usize> {
    fn into_shape(self) -> Vec<usize> {
        self.clone()
    }
}

impl IntoShape for &[usize] {
    fn into_shape(self) -> Vec<usize> {
        self.to_vec()
    }
}

impl<const N: usize> IntoShape for [usize; N] {
    fn into_shape(self) -> Vec<usize> {
        self.to_vec()
    }
}

impl<const N: usize> IntoShape for &[usize; N] {
    fn into_shape(self) -> Vec<usize> {
        self.to_vec()
    }
}

impl IntoShape for () {
    fn into_shape(self) -> Vec<usize> {
        Vec::new()
    }
}

macro_rules! tuple {
    ($($axis:ident: $usize:ty),+) => {
        impl IntoShape for ($($usize,)+) {
            fn into_shape(self) -> Vec<usize> {
                let ($($axis,)+) = self;
                vec![$($axis),+]
            }
        }
    };
}

tuple!(a: usize);
tuple!(a: usize, b: usize);
tuple!(a: usize, b: usize, c: usize);
tuple!(a: usize, b: usize, c: usize, d: usize);
tuple!(a: usize, b: usize, c: usize, d: usize, e: usize);
