//! Gradient accumulation on the device.

use crate::device::optimizer::device;
use crate::device::pointwise::{Change, Next};
use crate::device::{DeviceParameter, Executor, OnDevice};
use crate::error::Result;
use crate::memory::element::Real;
use crate::optimizer::step::StepOutcome;

impl<T: Real, E: Executor<T>> OnDevice<E, T> {
    /// Adds gradients up on the device for the next step, which goes by the mean of these and its own. No parameter moves. See
    /// [`Optimizer::accumulate`](crate::Optimizer::accumulate).
    ///
    /// ```
    /// use gradient_transform::device::{DeviceParameter, Interpreter, OnDevice};
    /// use gradient_transform::{Buffer, Descent, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", [1])])?;
    /// let mut optimizer = OnDevice::new(optimizer, Interpreter)?;
    /// let [mut w, g, last] = [0.0_f32, 1.0, 3.0].map(|x| Buffer::F32(vec![x]));
    /// optimizer.accumulate(&[DeviceParameter { value: &mut w, gradient: Some(&g) }])?;
    /// optimizer.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&last) }])?;
    /// assert_eq!(w, Buffer::F32(vec![-2.0]));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As there, and [`Error::Device`](crate::Error::Device).
    pub fn accumulate(&mut self, parameters: &[DeviceParameter<'_, E::Array>]) -> Result<StepOutcome> {
        self.usable_still()?;
        self.check_all(parameters)?;
        let Some(refused) = self.look(parameters, &vec![true; parameters.len()])? else {
            self.optimizer.skipped += 1;
            return Ok(StepOutcome::Skipped);
        };
        let given: Vec<Option<&E::Array>> =
            parameters.iter().zip(&refused).map(|(p, refused)| p.gradient.filter(|_| !refused)).collect();
        let mut new = Vec::new();
        for (i, gradient) in given.iter().enumerate() {
            if let (Some(gradient), None) = (gradient, &self.accumulated[i]) {
                new.push((i, self.executor.zeros(T::DTYPE, E::len(gradient)).map_err(device)?));
            }
        }
        new.into_iter().for_each(|(i, zeros)| self.accumulated[i] = Some(zeros));
        let added = self.add(&given, T::one());
        self.noting_failures(added)?;
        self.optimizer.skipped_tensors += refused.iter().filter(|refused| **refused).count() as u64;
        self.optimizer.accumulated += 1;
        Ok(StepOutcome::Done)
    }

    /// Number of calls of [`accumulate`](Self::accumulate) since the latest step.
    pub fn accumulated(&self) -> u64 {
        self.optimizer.accumulated
    }

    /// Forgets the gradients that were [accumulated](Self::accumulate).
    ///
    /// ```
    /// use gradient_transform::device::{DeviceParameter, Interpreter, OnDevice};
    /// use gradient_transform::{Buffer, Descent, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", [1])])?;
    /// let mut optimizer = OnDevice::new(optimizer, Interpreter)?;
    /// let (mut w, g) = (Buffer::F32(vec![0.0]), Buffer::F32(vec![100.0]));
    /// optimizer.accumulate(&[DeviceParameter { value: &mut w, gradient: Some(&g) }])?;
    /// assert_eq!(optimizer.accumulated(), 1);
    /// optimizer.drop_accumulated();
    /// assert_eq!(optimizer.accumulated(), 0);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn drop_accumulated(&mut self) {
        self.optimizer.accumulated = 0;
        self.accumulated.fill_with(|| None);
    }

    /// Adds gradients to the sums, each of which is there, and multiplies these sums by `part`.
    fn add(&mut self, gradients: &[Option<&E::Array>], part: T) -> Result<()> {
        let Self { optimizer, executor, accumulated, pointwise, .. } = self;
        let sums = optimizer.tensors.iter().zip(accumulated).zip(gradients);
        let changes = sums.filter_map(|((tensor, sum), gradient)| {
            let (tensor, array, other) = (&tensor.info, sum.as_mut()?, (*gradient)?);
            Some(Change { next: Next::Mean, tensor, array, other, number: part, before: &mut [] })
        });
        pointwise.run(executor, changes)
    }

    /// Takes the means of the accumulated gradients and those of a step.
    pub(super) fn take_means(
        &mut self,
        parameters: &[DeviceParameter<'_, E::Array>],
    ) -> Result<Vec<Option<E::Array>>> {
        let part = T::of(1.0 / (self.optimizer.accumulated + 1) as f64);
        // What has no gradient in this step counts with 0 there, and what had none before with 0 then.
        let mut zeros = Vec::with_capacity(parameters.len());
        for (i, parameter) in parameters.iter().enumerate() {
            let lacks = self.accumulated[i].is_some() != parameter.gradient.is_some();
            let array = lacks.then(|| self.executor.zeros(T::DTYPE, self.optimizer.tensors[i].info.len()));
            zeros.push(array.transpose().map_err(device)?);
        }
        for (i, parameter) in parameters.iter().enumerate() {
            if parameter.gradient.is_some() && self.accumulated[i].is_none() {
                self.accumulated[i] = zeros[i].take();
            }
        }
        let given = parameters.iter().zip(&zeros);
        let given: Vec<_> = given.map(|(parameter, zeros)| parameter.gradient.or(zeros.as_ref())).collect();
        self.add(&given, part)?;
        Ok(self.accumulated.iter_mut().map(Option::take).collect())
    }

    /// Takes copies of the sums to the host.
    pub(super) fn bring_accumulated(&mut self) -> Result<()> {
        let Self { optimizer, executor, accumulated, .. } = self;
        for (tensor, sum) in optimizer.tensors.iter_mut().zip(accumulated) {
            let sum = sum.as_ref().map(|sum| executor.download(sum));
            tensor.accumulated = sum.transpose().map_err(device)?;
        }
        Ok(())
    }
}
