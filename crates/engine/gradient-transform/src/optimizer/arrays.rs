//! Arrays of the caller for a step, in addition to gradients.

use crate::error::{Error, Result};
use crate::memory::element::{DType, Real, Scalar};
use crate::optimizer::Optimizer;
use crate::optimizer::check::check_shape;

impl<T: Real> Optimizer<T> {
    /// Passes an array to the next step in addition to the gradient of parameter `index`, in row-major order,
    /// for instance an estimate of the curvature. Transforms read it from a
    /// [`Column::GIVEN`](crate::Column::GIVEN).
    ///
    /// It is copied, in the type of the computation, and used for one step, even if the parameter has no
    /// gradient in it or the step is skipped. A step with an error keeps it. It is not part of a
    /// [`Snapshot`](crate::Snapshot), and [`restore`](Self::restore) drops it.
    ///
    /// # Errors
    /// [`Error::NoSuch`], [`Error::ShapeMismatch`], [`Error::NonFiniteArray`], and [`Error::ElementType`] for
    /// float64 in an optimizer that computes in float32. An earlier array then stays.
    pub fn give_array<E: Scalar>(&mut self, index: usize, array: &[E]) -> Result<()> {
        let count = self.tensors.len();
        let tensor = self.tensors.get_mut(index).ok_or(Error::NoSuch { what: "parameter", index, count })?;
        check_shape(tensor, "array", None, array.len())?;
        let (name, given) = (&tensor.info.name, E::slice(array));
        if given.dtype() == DType::F64 && T::DTYPE == DType::F32 {
            let reason = "this optimizer computes in float32; use an `Optimizer<f64>`, or convert the array";
            return Err(Error::ElementType { name: name.clone(), found: DType::F64, reason: reason.into() });
        }
        let mut values = vec![T::zero(); array.len()];
        given.load(&mut values);
        if let Some(index) = values.iter().position(|value| !value.f64().is_finite()) {
            let value = values[index].f64().to_string();
            return Err(Error::NonFiniteArray { name: name.clone(), index, value });
        }
        tensor.given = Some(T::buffer(values));
        self.has_arrays = true;
        Ok(())
    }

    /// Drops the arrays.
    pub(crate) fn drop_arrays(&mut self) {
        if std::mem::take(&mut self.has_arrays) {
            self.tensors.iter_mut().for_each(|tensor| tensor.given = None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::{Column, Descent, Element, GradientTransform, fields, transform};
    use crate::link::context::{Context, TensorInfo};
    use crate::memory::number::Backend;
    use crate::optimizer::group::{NonFinite, Settings};
    use crate::optimizer::parameter::Parameter;
    use crate::optimizer::step::StepOutcome;
    use crate::{Nothing, ParameterGroup};

    /// `u <- u + given`, or u without an array.
    #[derive(Clone, Debug)]
    struct Added;

    #[fields]
    struct Second<V> {
        second: V,
    }

    #[transform("added")]
    impl GradientTransform for Added {
        type State<V: Copy> = Second<V>;

        fn columns(&self, _tensor: &TensorInfo) -> Second<Column> {
            Second { second: Column::GIVEN }
        }

        fn variant(&self, cx: &Context<'_>, _scalars: &Nothing<f64>) -> u32 {
            u32::from(cx.given)
        }

        fn variants(&self) -> u32 {
            2
        }

        fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
            if e.variant == 1 {
                e.update = e.update + e.state.second;
            } else {
                // Zeros, whatever the array of an earlier step was.
                e.update = e.update + 1e6 * e.state.second;
            }
        }
    }

    const LEN: usize = (1 << 19) + 77;

    fn optimizer(non_finite: NonFinite) -> Optimizer {
        let group = ParameterGroup::new((Added, Descent::default()), [("a", vec![LEN]), ("b", vec![2])]);
        Optimizer::with_groups([group], Settings { non_finite, ..Settings::default() }).unwrap()
    }

    fn parameters<'a>(
        a: &'a mut [f32],
        b: &'a mut [f32],
        [of_a, of_b]: [Option<&'a [f32]>; 2],
    ) -> [Parameter<'a>; 2] {
        [Parameter::slice(a, of_a), Parameter::slice(b, of_b)]
    }

    #[test]
    fn an_array_counts_for_one_step_of_its_own_parameter() {
        let mut optimizer = optimizer(NonFinite::Error);
        let (mut a, mut b) = (vec![0.0; LEN], vec![0.0; 2]);
        let (of_a, of_b, array) = (vec![1.0; LEN], [1.0; 2], (0..LEN).map(|i| i as f32).collect::<Vec<_>>());
        for step in 0..3 {
            if step == 1 {
                optimizer.give_array(0, &array).unwrap();
            }
            let before = a.clone();
            optimizer.step(&mut parameters(&mut a, &mut b, [Some(&of_a), Some(&of_b)])).unwrap();
            let given = |i: usize| if step == 1 { array[i] } else { 0.0 };
            assert!(
                a.iter().zip(&before).enumerate().all(|(i, (a, before))| *a == before - (1.0 + given(i)))
            );
        }
        assert_eq!(b, [-3.0; 2]);
        assert!(optimizer.snapshot().tensors["a"].arrays.is_empty());
    }

    #[test]
    fn an_array_survives_a_refused_step_and_not_a_skipped_one_or_one_without_the_gradient() {
        let bad = [f32::NAN; 2];
        let (array, good) = ([8.0_f32, 8.0], [1.0; 2]);
        let (mut a, mut b) = (vec![0.0; LEN], vec![0.0; 2]);
        let mut refusing = optimizer(NonFinite::Error);
        refusing.give_array(1, &array).unwrap();
        refusing.step(&mut parameters(&mut a, &mut b, [None, Some(&bad)])).unwrap_err();
        refusing.step(&mut parameters(&mut a, &mut b, [None, Some(&good)])).unwrap();
        assert_eq!(b, [-9.0; 2]);

        let mut skipping = optimizer(NonFinite::Skip);
        skipping.give_array(1, &array).unwrap();
        let skipped = skipping.step(&mut parameters(&mut a, &mut b, [None, Some(&bad)])).unwrap();
        assert_eq!(skipped, StepOutcome::Skipped);
        skipping.step(&mut parameters(&mut a, &mut b, [None, Some(&good)])).unwrap();
        assert_eq!(b, [-10.0; 2]);

        skipping.give_array(1, &array).unwrap();
        skipping.step(&mut parameters(&mut a, &mut b, [None, None])).unwrap();
        skipping.step(&mut parameters(&mut a, &mut b, [None, Some(&good)])).unwrap();
        assert_eq!(b, [-11.0; 2]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_array_before_is_kept() {
        let mut optimizer = optimizer(NonFinite::Error);
        optimizer.give_array(1, &[8.0_f32, 8.0]).unwrap();
        let errors = [
            optimizer.give_array(2, &[1.0_f32]),
            optimizer.give_array(1, &[1.0_f32]),
            optimizer.give_array(1, &[1.0_f64, 1.0]),
            optimizer.give_array(1, &[1.0_f32, f32::NEG_INFINITY]),
        ];
        assert!(matches!(
            &errors,
            [
                Err(Error::NoSuch { index: 2, .. }),
                Err(Error::ShapeMismatch { what: "array", .. }),
                Err(Error::ElementType { .. }),
                Err(Error::NonFiniteArray { index: 1, .. })
            ]
        ));
        let (mut a, mut b) = (vec![0.0; LEN], vec![0.0; 2]);
        optimizer.step(&mut parameters(&mut a, &mut b, [None, Some(&[1.0; 2])])).unwrap();
        assert_eq!(b, [-9.0; 2]);
    }
}
