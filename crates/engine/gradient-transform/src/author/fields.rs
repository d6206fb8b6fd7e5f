//! Named values of a transform.

use std::marker::PhantomData;

/// Values by name: state, numbers or sums of a transform. Implemented by the attribute `#[fields]`, for a struct with one type
/// parameter and named fields.
///
/// One struct is used for the declarations of arrays, the numbers of an element, and the numbers on the host.
/// They differ only in the type `V`.
///
/// ```
/// use gradient_transform::{Fields, fields};
///
/// #[fields]
/// struct Moments<V> {
///     first: V,
///     second: V,
/// }
///
/// let moments = Moments::from_fn(|i| 10 * i);
/// assert_eq!((moments.first, moments.second, moments.get(1)), (0, 10, 10));
/// assert_eq!(<Moments<f64> as Fields<f64>>::NAMES, ["first", "second"]);
/// ```
pub trait Fields<V: Copy>: Copy {
    /// Names of the fields, in the order of the struct.
    const NAMES: &'static [&'static str];

    /// Every field by its position.
    fn from_fn(value: impl FnMut(usize) -> V) -> Self;

    /// The field at a position, below the number of names.
    fn get(&self, index: usize) -> V;

    /// The fields in their order.
    fn iter(&self) -> impl Iterator<Item = &V>
    where
        V: 'static;

    /// The fields in their order, to be changed.
    fn iter_mut(&mut self) -> impl Iterator<Item = &mut V>
    where
        V: 'static;
}

/// Number of fields.
pub(crate) const fn count<F: Fields<V>, V: Copy>() -> usize {
    F::NAMES.len()
}

/// No values: the state, numbers or sums of a transform without any.
///
/// ```
/// use gradient_transform::{Fields, Nothing};
///
/// assert!(<Nothing<f64> as Fields<f64>>::NAMES.is_empty());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nothing<V>(PhantomData<V>);

impl<V: Copy> Fields<V> for Nothing<V> {
    const NAMES: &'static [&'static str] = &[];

    #[inline(always)]
    fn from_fn(_value: impl FnMut(usize) -> V) -> Self {
        Self(PhantomData)
    }

    fn get(&self, _index: usize) -> V {
        unreachable!("there are no fields")
    }

    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = &V>
    where
        V: 'static,
    {
        std::iter::empty()
    }

    #[inline(always)]
    fn iter_mut(&mut self) -> impl Iterator<Item = &mut V>
    where
        V: 'static,
    {
        std::iter::empty()
    }
}
