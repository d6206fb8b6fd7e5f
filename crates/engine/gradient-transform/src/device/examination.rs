//! The check of a step's gradients, before anything moves.
//!
//! ```text
//! tensors whose first sweep stores nothing and takes sums of squares of the gradient: that sweep. Sums that are small enough
//!                                                                                    have no invalid element in them.
//! all others:                                                                        a look at every element
//! ```

use crate::device::optimizer::device;
use crate::device::step::run;
use crate::device::{DeviceParameter, Executor, OnDevice};
use crate::engine::tensor::Tensor;
use crate::error::{Error, Result};
use crate::link::compose::stages;
use crate::memory::buffer::Buffer;
use crate::memory::element::Real;
use crate::optimizer::Optimizer;
use crate::optimizer::group::NonFinite;

impl<T: Real, E: Executor<T>> OnDevice<E, T> {
    /// Examines the gradients of a step that has begun: which are refused, or `None` if the step is to be skipped.
    pub(super) fn examine(
        &mut self,
        parameters: &mut [DeviceParameter<'_, E::Array>],
    ) -> Result<Option<Vec<bool>>> {
        let mut unknown = vec![true; parameters.len()];
        // Of means, the first sweep reads another array.
        let by_sums = self.optimizer.accumulated == 0 && self.executor.propagates_non_finite();
        if by_sums && self.optimizer.settings.non_finite != NonFinite::Unchecked {
            let shown = self.shown_by_sums(parameters);
            self.begin_tensors(parameters, Some(&shown))?;
            self.sweep(None, parameters, Some(&shown))?;
            for ((unknown, shown), tensor) in unknown.iter_mut().zip(shown).zip(&self.optimizer.tensors) {
                let has_sums = shown && tensor.progress.has_begun();
                *unknown = !(has_sums && tensor.sums_of_first_sweep_are_small());
            }
        }
        self.look(parameters, &unknown)
    }

    /// Looks at every element of some of the gradients: which gradients are refused, or `None` if there are some and the step is to be
    /// skipped.
    pub(super) fn look(
        &mut self,
        parameters: &[DeviceParameter<'_, E::Array>],
        of: &[bool],
    ) -> Result<Option<Vec<bool>>> {
        let non_finite = self.optimizer.settings.non_finite;
        let mut refused = vec![false; parameters.len()];
        if non_finite == NonFinite::Unchecked {
            return Ok(Some(refused));
        }
        let given = parameters.iter().zip(of).enumerate();
        let given: Vec<(usize, &E::Array)> =
            given.filter_map(|(i, (p, of))| Some((i, p.gradient.filter(|_| *of)?))).collect();
        let gradients: Vec<&E::Array> = given.iter().map(|(_, gradient)| *gradient).collect();
        if gradients.is_empty() {
            return Ok(Some(refused));
        }
        let usable = self.executor.usable(&gradients, T::LARGEST_GRADIENT).map_err(device)?;
        for ((i, gradient), _) in given.into_iter().zip(usable).filter(|(_, usable)| !usable) {
            match non_finite {
                NonFinite::Skip => return Ok(None),
                NonFinite::SkipTensor => refused[i] = true,
                _ => {
                    let gradient = self.executor.download(gradient).map_err(device)?;
                    return Err(unusable(&self.optimizer.tensors[i], &gradient));
                }
            }
        }
        Ok(Some(refused))
    }

    /// The tensors of which the first sweep shows an invalid element.
    fn shown_by_sums(&mut self, parameters: &[DeviceParameter<'_, E::Array>]) -> Vec<bool> {
        let Optimizer { groups, tensors, settings, pool, .. } = &mut self.optimizer;
        let chains: Vec<_> = groups.iter().map(|group| stages(&*group.chain)).collect();
        let runs = groups.iter().zip(&chains).map(|(group, stages)| run(group, stages, settings, pool));
        let runs: Vec<_> = runs.collect();
        let tensors = tensors.iter_mut().zip(parameters);
        let shows = |(tensor, parameter): (&mut Tensor<T>, &DeviceParameter<'_, E::Array>)| {
            parameter.gradient.is_some() && tensor.first_sweep_shows_unusable(&runs[tensor.group])
        };
        tensors.map(shows).collect()
    }
}

/// The error for an invalid gradient.
fn unusable<T: Real>(tensor: &Tensor<T>, gradient: &Buffer) -> Error {
    let limit = T::LARGEST_GRADIENT;
    let name = tensor.info.name.clone();
    match gradient.as_slice().first_beyond(limit, false) {
        Some((index, value)) if value.is_finite() => {
            Error::GradientTooLarge { name, index, value, limit, dtype: T::DTYPE }
        }
        Some((index, value)) => Error::NonFiniteGradient { name, index, value: value.to_string() },
        None => Error::NonFiniteGradient { name, index: 0, value: String::new() },
    }
}
