//! Gradient accumulation, and steps that depend on the gradients' norm.

use rayon::prelude::*;

use crate::engine::tensor::Tensor;
use crate::error::{Error, Result};
use crate::layout::{CHUNK, TILE};
use crate::memory::buffer::{Buffer, Slice};
use crate::memory::element::Real;
use crate::memory::kernel;
use crate::memory::rounding::{Rounding, Stream};
use crate::optimizer::Optimizer;
use crate::optimizer::check::check;
use crate::optimizer::group::NonFinite;
use crate::optimizer::parameter::Parameter;
use crate::optimizer::step::{StepOutcome, unusable};

impl<T: Real> Optimizer<T> {
    /// Adds gradients up for the next step. No parameter moves.
    ///
    /// [`step`](Self::step) then uses the mean of its own gradients and all those accumulated since the
    /// previous step: the mean of n micro-steps after `n - 1` calls. If a parameter has no gradient in some
    /// of them, it counts as 0 there; without any gradient it has none. The sums take the memory of all
    /// gradients, in the type of the computation. Like gradients, they are not part of a
    /// [`Snapshot`](crate::Snapshot), and [`restore`](Self::restore) drops them.
    ///
    /// A step with an error keeps them, and a skipped step drops them.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter};
    ///
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", [2])])?;
    /// let mut w = [0.0_f32, 0.0];
    /// for (micro_step, gradient) in [[1.0, 0.0], [2.0, 0.0], [6.0, 3.0]].iter().enumerate() {
    ///     let mut parameters = [Parameter::slice(&mut w, Some(gradient))];
    ///     if micro_step < 2 {
    ///         optimizer.accumulate(&parameters)?;
    ///     } else {
    ///         assert_eq!(optimizer.accumulated(), 2);
    ///         optimizer.step(&mut parameters)?;
    ///     }
    /// }
    /// assert_eq!((w, optimizer.steps(0)?, optimizer.accumulated()), ([-3.0, -1.0], 1, 0));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`step`](Self::step) for these gradients; nothing is added then. Under [`NonFinite::Skip`], a
    /// call with gradients that are not finite is left out and not counted in the mean; under
    /// [`NonFinite::SkipTensor`], only the gradient of that parameter counts as 0.
    pub fn accumulate(&mut self, parameters: &[Parameter<'_>]) -> Result<StepOutcome> {
        self.check_count(parameters.len())?;
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        self.tensors.iter().zip(parameters).try_for_each(|(tensor, parameter)| check(tensor, parameter))?;
        let policy = self.settings.non_finite;
        let mut left_out = vec![false; parameters.len()];
        if policy != NonFinite::Unchecked {
            for ((tensor, parameter), left_out) in self.tensors.iter().zip(parameters).zip(&mut left_out) {
                match (unusable(tensor, parameter), policy) {
                    (None, _) => {}
                    (Some(_), NonFinite::Skip) => {
                        self.skipped += 1;
                        return Ok(StepOutcome::Skipped);
                    }
                    (Some(_), NonFinite::SkipTensor) => *left_out = true,
                    (Some(error), _) => return Err(error),
                }
            }
        }
        for ((tensor, parameter), left_out) in self.tensors.iter_mut().zip(parameters).zip(left_out) {
            self.skipped_tensors += u64::from(left_out);
            if let Some(gradient) = parameter.gradient.as_ref().filter(|_| !left_out) {
                tensor.accumulate(gradient.as_slice(), 1.0);
            }
        }
        self.accumulated += 1;
        Ok(StepOutcome::Done)
    }

    /// Number of calls of [`accumulate`](Self::accumulate) since the latest step.
    pub fn accumulated(&self) -> u64 {
        self.accumulated
    }

    /// Drops the [accumulated](Self::accumulate) gradients.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter};
    ///
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", [1])])?;
    /// let mut w = [0.0_f32];
    /// optimizer.accumulate(&[Parameter::slice(&mut w, Some(&[100.0]))])?;
    /// optimizer.drop_accumulated();
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))])?;
    /// assert_eq!(w, [-1.0]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn drop_accumulated(&mut self) {
        self.accumulated = 0;
        self.tensors.iter_mut().for_each(|tensor| tensor.accumulated = None);
    }

    /// A step, if `rule` accepts the norm of all its gradients together. Otherwise nothing moves, and the step is
    /// [counted](Self::skipped_steps) as skipped.
    ///
    /// With [accumulated](Self::accumulate) gradients it is the norm of their mean. The norm takes one more
    /// pass over the gradients. The step itself rejects or skips gradients that are not finite.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter, StepOutcome};
    ///
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", [2])])?;
    /// let mut w = [0.0_f32, 0.0];
    /// for (gradient, expected) in [([3.0, 4.0], StepOutcome::Done), ([30.0, 40.0], StepOutcome::Skipped)] {
    ///     let outcome = optimizer.step_if(|norm| norm < 10.0, &mut [Parameter::slice(&mut w, Some(&gradient))])?;
    ///     assert_eq!(outcome, expected);
    /// }
    /// assert_eq!((w, optimizer.skipped_steps(), optimizer.steps(0)?), ([-3.0, -4.0], 1, 1));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_if(
        &mut self,
        rule: impl FnOnce(f64) -> bool,
        parameters: &mut [Parameter<'_>],
    ) -> Result<StepOutcome> {
        self.check_count(parameters.len())?;
        self.tensors.iter().zip(&*parameters).try_for_each(|(tensor, parameter)| check(tensor, parameter))?;
        let norm = self.norm(parameters);
        if self.evaluating.is_some() || !norm.is_finite() || rule(norm) {
            return self.step(parameters);
        }
        self.skipped += 1;
        self.drop_accumulated();
        self.drop_arrays();
        Ok(StepOutcome::Skipped)
    }

    /// The norm of all gradients of a step together. Parts of equal length are added in order, so that it
    /// does not depend on the number of threads.
    fn norm(&self, parameters: &[Parameter<'_>]) -> f64 {
        let mut parts = Vec::new();
        for (tensor, parameter) in self.tensors.iter().zip(parameters) {
            let len = tensor.info.len();
            let own = parameter.gradient.as_ref().map(|gradient| gradient.as_slice());
            let sum = tensor.accumulated.as_ref().map(Buffer::as_slice);
            parts.extend((0..len).step_by(CHUNK).map(|from| (own, sum, from..len.min(from + CHUNK))));
        }
        let count = (self.accumulated + 1) as f64;
        let square =
            |(own, sum, elements): &(Option<Slice<'_>>, Option<Slice<'_>>, std::ops::Range<usize>)| {
                let mut square = 0.0;
                for from in elements.clone().step_by(TILE) {
                    let (mut memory, mut other) = ([T::zero(); TILE], [T::zero(); TILE]);
                    let to = elements.end.min(from + TILE);
                    let (values, other) = (&mut memory[..to - from], &mut other[..to - from]);
                    for given in [own, sum].into_iter().flatten() {
                        given.range(from..to).load(other);
                        kernel::map2(values, other, |sum, g| sum + g);
                    }
                    square += values.iter().map(|g| (g.f64() / count).powi(2)).sum::<f64>();
                }
                square
            };
        let squares: Vec<f64> = parts.par_iter().map(square).collect();
        squares.iter().sum::<f64>().sqrt()
    }

    /// Replaces the accumulated gradients by their mean with those of this step; returns false if the step
    /// has to be skipped. Nothing has changed then, or with an error.
    pub(crate) fn take_mean(&mut self, parameters: &[Parameter<'_>]) -> Result<bool> {
        let policy = self.settings.non_finite;
        let mut refused = vec![false; parameters.len()];
        if policy != NonFinite::Unchecked {
            for ((tensor, parameter), refused) in self.tensors.iter().zip(parameters).zip(&mut refused) {
                match (unusable(tensor, parameter), policy) {
                    (None, _) => {}
                    (Some(_), NonFinite::Skip) => return Ok(false),
                    (Some(_), NonFinite::SkipTensor) => *refused = true,
                    (Some(error), _) => return Err(error),
                }
            }
        }
        let part = 1.0 / (self.accumulated + 1) as f64;
        for ((tensor, parameter), refused) in self.tensors.iter_mut().zip(parameters).zip(refused) {
            tensor.progress.refused = refused;
            let gradient = parameter.gradient.as_ref().filter(|_| !refused);
            match (gradient, &mut tensor.accumulated) {
                (Some(gradient), _) => tensor.accumulate(gradient.as_slice(), part),
                (None, Some(sum)) => {
                    each_part::<T>(sum, |values, _| kernel::map(values, |g| g * T::of(part)))
                }
                (None, None) => {}
            }
        }
        Ok(true)
    }
}

impl<T: Real> Tensor<T> {
    /// Adds a gradient to the earlier ones, and multiplies the sum by `part`.
    fn accumulate(&mut self, gradient: Slice<'_>, part: f64) {
        let sum = self.accumulated.get_or_insert_with(|| Buffer::zeros(T::DTYPE, gradient.len()));
        let (mut memory, part) = ([T::zero(); TILE], T::of(part));
        each_part::<T>(sum, |values, from| {
            let own = &mut memory[..values.len()];
            gradient.range(from..from + values.len()).load(own);
            kernel::map2(values, own, |sum, g| (sum + g) * part);
        });
    }
}

/// Changes an array of the type of the computation, part by part.
fn each_part<T: Real>(sum: &mut Buffer, mut change: impl FnMut(&mut [T], usize)) {
    let (len, mut memory) = (sum.len(), [T::zero(); TILE]);
    for from in (0..len).step_by(TILE) {
        let to = len.min(from + TILE);
        let values = &mut memory[..to - from];
        sum.as_slice().range(from..to).load(values);
        change(values, from);
        let mut target = sum.as_mut_slice();
        target.range_mut(from..to).store(values, from, Rounding::Nearest, Stream::new(0, 0, 0, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::{Descent, Element, GradientTransform, fields, transform};
    use crate::memory::number::Backend;
    use crate::optimizer::group::{ParameterGroup, Settings};
    use crate::optimizer::snapshot::Snapshot;

    #[derive(Clone, Debug)]
    struct Momentum;

    #[fields]
    struct Average<V> {
        m: V,
    }

    #[transform("momentum")]
    impl GradientTransform for Momentum {
        type State<V: Copy> = Average<V>;

        fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
            e.state.m = 0.5 * e.state.m + e.update;
            e.update = e.state.m;
        }
    }

    const SIZES: [usize; 3] = [3, 2500, 200_000];

    fn optimizer(non_finite: NonFinite) -> Optimizer {
        let names = ["a", "b", "c"].into_iter().zip(SIZES.map(|n| [n]));
        let group = ParameterGroup::new((Momentum, Descent::default()), names);
        Optimizer::with_groups([group], Settings { non_finite, ..Settings::default() }).unwrap()
    }

    /// Multiples of 1/64, of which sums of a few are exact.
    fn gradients(step: usize) -> Vec<Vec<f32>> {
        let element = |tensor: usize, i: usize| ((7 * i + 13 * step + tensor) % 129) as f32 / 64.0 - 1.0;
        SIZES.iter().enumerate().map(|(tensor, &n)| (0..n).map(|i| element(tensor, i)).collect()).collect()
    }

    fn weights() -> Vec<Vec<f32>> {
        SIZES.map(|n| vec![0.5; n]).into()
    }

    fn parameters<'a>(values: &'a mut [Vec<f32>], gradients: &'a [Vec<f32>]) -> Vec<Parameter<'a>> {
        values.iter_mut().zip(gradients).map(|(w, g)| Parameter::slice(w, Some(g))).collect()
    }

    fn everything(optimizer: &Optimizer, values: &[Vec<f32>]) -> (Snapshot, Vec<Vec<f32>>, u64) {
        (optimizer.snapshot(), values.to_vec(), optimizer.accumulated())
    }

    #[test]
    fn a_step_after_micro_steps_is_a_step_by_their_mean() {
        let (mut by_parts, mut at_once) = (optimizer(NonFinite::Error), optimizer(NonFinite::Error));
        let (mut w, mut v) = (weights(), weights());
        for round in 0..3 {
            let micro: Vec<Vec<Vec<f32>>> = (0..4).map(|k| gradients(4 * round + k)).collect();
            for gradients in &micro[..3] {
                let before = w.clone();
                by_parts.accumulate(&parameters(&mut w, gradients)).unwrap();
                assert_eq!(w, before);
            }
            by_parts.step(&mut parameters(&mut w, &micro[3])).unwrap();
            let mean: Vec<Vec<f32>> = (0..3)
                .map(|t| (0..SIZES[t]).map(|i| micro.iter().map(|g| g[t][i]).sum::<f32>() / 4.0).collect())
                .collect();
            at_once.step(&mut parameters(&mut v, &mean)).unwrap();
            assert_eq!(everything(&by_parts, &w), everything(&at_once, &v));
        }
    }

    #[test]
    fn a_gradient_that_is_missing_counts_with_0_and_one_that_always_is_does_not_move() {
        let mut optimizer = optimizer(NonFinite::Error);
        let (mut w, [first, last]) = (weights(), [0, 1].map(gradients));
        let [a, b, c] = &mut w[..] else { unreachable!() };
        optimizer
            .accumulate(&[
                Parameter::slice(a, Some(&first[0])),
                Parameter::slice(b, None),
                Parameter::slice(c, None),
            ])
            .unwrap();
        optimizer
            .step(&mut [
                Parameter::slice(a, None),
                Parameter::slice(b, Some(&last[1])),
                Parameter::slice(c, None),
            ])
            .unwrap();
        assert!(a.iter().zip(&first[0]).all(|(w, g)| *w == 0.5 - g / 2.0));
        assert!(b.iter().zip(&last[1]).all(|(w, g)| *w == 0.5 - g / 2.0));
        assert!(c.iter().all(|w| *w == 0.5) && !optimizer.snapshot().tensors.contains_key("c"));
    }

    fn with_nan(mut gradients: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        gradients[1][2000] = f32::NAN;
        gradients
    }

    #[test]
    fn gradients_that_are_not_finite_are_refused_in_micro_steps_and_in_the_last_one() {
        let mut optimizer = optimizer(NonFinite::Error);
        let mut w = weights();
        optimizer.accumulate(&parameters(&mut w, &gradients(0))).unwrap();
        let before = everything(&optimizer, &w);
        let wrong = with_nan(gradients(1));
        for error in [
            optimizer.accumulate(&parameters(&mut w, &wrong)).unwrap_err(),
            optimizer.step(&mut parameters(&mut w, &wrong)).unwrap_err(),
        ] {
            assert!(matches!(error, Error::NonFiniteGradient { index: 2000, .. }), "{error}");
        }
        assert_eq!(everything(&optimizer, &w), before);
        assert!(matches!(optimizer.begin_step(), Err(Error::GradientsAccumulated { count: 1 })));
        // The accumulated gradients are still there.
        optimizer.step(&mut parameters(&mut w, &gradients(0))).unwrap();
        assert!(w[0].iter().zip(&gradients(0)[0]).all(|(w, g)| *w == 0.5 - g));
    }

    #[test]
    fn a_skipped_micro_step_is_not_in_the_mean_and_a_skipped_step_drops_it() {
        let mut optimizer = optimizer(NonFinite::Skip);
        let (mut w, wrong) = (weights(), with_nan(gradients(1)));
        optimizer.accumulate(&parameters(&mut w, &gradients(0))).unwrap();
        assert_eq!(optimizer.accumulate(&parameters(&mut w, &wrong)), Ok(StepOutcome::Skipped));
        assert_eq!((optimizer.accumulated(), optimizer.skipped_steps()), (1, 1));
        assert_eq!(optimizer.step(&mut parameters(&mut w, &wrong)), Ok(StepOutcome::Skipped));
        assert_eq!((optimizer.accumulated(), optimizer.skipped_steps(), optimizer.steps(0)), (0, 2, Ok(0)));
        optimizer.step(&mut parameters(&mut w, &gradients(2))).unwrap();
        assert!(w[2].iter().zip(&gradients(2)[2]).all(|(w, g)| *w == 0.5 - g));
    }

    #[test]
    fn a_tensor_whose_last_gradient_is_not_finite_stands_still_alone() {
        let mut optimizer = optimizer(NonFinite::SkipTensor);
        let (mut w, wrong) = (weights(), with_nan(gradients(1)));
        optimizer.accumulate(&parameters(&mut w, &wrong)).unwrap();
        assert_eq!(optimizer.skipped_tensors(), 1);
        optimizer.step(&mut parameters(&mut w, &wrong)).unwrap();
        assert!(w[0].iter().zip(&wrong[0]).all(|(w, g)| *w == 0.5 - g));
        assert!(w[1].iter().all(|w| *w == 0.5));
        assert_eq!((optimizer.skipped_tensors(), optimizer.accumulated()), (2, 0));
    }

    #[test]
    fn a_rule_sees_the_norm_of_the_mean_and_what_it_skips_is_counted() {
        let mut optimizer = optimizer(NonFinite::Error);
        let mut w = weights();
        let [first, last] = [0, 1].map(gradients);
        optimizer.accumulate(&parameters(&mut w, &first)).unwrap();
        let mean = first.iter().flatten().zip(last.iter().flatten()).map(|(a, b)| f64::from(a + b) / 2.0);
        let expected = mean.map(|g| g * g).sum::<f64>().sqrt();
        let before = everything(&optimizer, &w).1;
        let mut seen = 0.0;
        let outcome = optimizer.step_if(
            |norm| {
                seen = norm;
                false
            },
            &mut parameters(&mut w, &last),
        );
        assert!((seen - expected).abs() < 1e-9 * expected, "{seen} {expected}");
        assert_eq!(
            (outcome, optimizer.skipped_steps(), optimizer.accumulated()),
            (Ok(StepOutcome::Skipped), 1, 0)
        );
        assert_eq!(w, before);
        assert_eq!(optimizer.step_if(|_| true, &mut parameters(&mut w, &last)), Ok(StepOutcome::Done));
        let error = optimizer.step_if(|_| true, &mut parameters(&mut w, &with_nan(last))).unwrap_err();
        assert!(matches!(error, Error::NonFiniteGradient { .. }), "{error}");
    }

    #[test]
    fn the_norm_is_the_same_for_any_number_of_threads() {
        let (optimizer, mut w) = (optimizer(NonFinite::Error), weights());
        let gradients =
            gradients(3).into_iter().map(|g| g.iter().map(|g| g * 0.37).collect()).collect::<Vec<_>>();
        let parameters = parameters(&mut w, &gradients);
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| optimizer.norm(&parameters).to_bits())
        };
        assert_eq!([1, 2, 3, 8].map(of), [of(1); 4]);
    }
}
