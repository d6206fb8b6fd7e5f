//! A run of a chain on a problem.

use anyhow::{Result, ensure};
use gradient_transform::{
    Loss, Optimizer, Parameter, ParameterGroup, Real, Settings, Snapshot, SplitGroups, StepOutcome,
};
use ndarray::ArrayD;

use crate::number::Number;
use crate::problem::{Problem, Trajectory};
use crate::row::Boxed;

pub(crate) struct Running<T: Real, E> {
    pub(crate) optimizer: Optimizer<T>,
    pub(crate) values: Vec<ArrayD<E>>,
}

impl<T: Real, E: Number> Running<T, E> {
    pub(crate) fn new(chain: Boxed<T>, lr: f64, init: &[ArrayD<f64>]) -> Result<Self> {
        let parameters = init.iter().enumerate().map(|(i, start)| (i.to_string(), start.shape()));
        let mut optimizer = Optimizer::new_in(chain, parameters)?;
        optimizer.set_lr(0, lr)?;
        Ok(Self { optimizer, values: init.iter().map(|p| p.mapv(E::of)).collect() })
    }

    /// A group for each of the chains, with a part of the tensors each.
    pub(crate) fn in_groups(
        chains: Vec<Boxed<T>>,
        split_groups: SplitGroups,
        lr: f64,
        init: &[ArrayD<f64>],
    ) -> Result<Self> {
        let size = init.len().div_ceil(chains.len());
        let groups = chains.into_iter().zip(init.chunks(size)).enumerate().map(|(group, (chain, init))| {
            let name = |i: usize| (group * size + i).to_string();
            let parameters = init.iter().enumerate().map(|(i, start)| (name(i), start.shape()));
            ParameterGroup::new(chain, parameters.collect::<Vec<_>>()).lr(lr)
        });
        let settings = Settings { split_groups, ..Settings::default() };
        let optimizer = Optimizer::with_groups(groups, settings)?;
        Ok(Self { optimizer, values: init.iter().map(|p| p.mapv(E::of)).collect() })
    }

    pub(crate) fn step(&mut self, (gradients, loss): (&[ArrayD<f64>], f64)) -> Result<()> {
        let gradients: Vec<ArrayD<E>> = gradients.iter().map(|g| g.mapv(E::of)).collect();
        let mut parameters: Vec<Parameter<'_>> = self
            .values
            .iter_mut()
            .zip(&gradients)
            .map(|(v, g)| Parameter::array(v.view_mut(), Some(g.view())))
            .collect();
        let outcome = self.optimizer.step_with(Loss(loss), &mut parameters)?;
        ensure!(outcome == StepOutcome::Done, "a step was not done: {outcome:?}");
        Ok(())
    }

    /// A step whose gradients arrive one by one, the last parameter's first.
    pub(crate) fn step_one_by_one(
        &mut self,
        (gradients, loss): (&[ArrayD<f64>], f64),
    ) -> gradient_transform::Result<()> {
        let mut step = self.optimizer.begin_step_with(Loss(loss))?;
        for (i, (value, gradient)) in self.values.iter_mut().zip(gradients).enumerate().rev() {
            let gradient = gradient.mapv(E::of);
            step.parameter(i, Parameter::array(value.view_mut(), Some(gradient.view())))?;
        }
        step.end();
        Ok(())
    }

    /// All steps of a problem.
    pub(crate) fn steps(&mut self, problem: &Problem) -> Result<()> {
        problem.steps().try_for_each(|step| self.step(step))
    }

    /// All parameters and state, to the bit. JSON does not distinguish -0 from 0 or one NaN from another, so
    /// parameters are bits.
    pub(crate) fn everything(&self) -> (Vec<Vec<u64>>, Snapshot) {
        let bits = self.values.iter().map(|v| v.iter().map(|v| v.bits()).collect()).collect();
        (bits, self.optimizer.snapshot())
    }

    pub(crate) fn wide(&self) -> Vec<ArrayD<f64>> {
        self.values.iter().map(|v| v.mapv(E::f64)).collect()
    }
}

/// The parameters after every step.
pub(crate) fn trajectory<T: Real, E: Number>(
    chain: Boxed<T>,
    lr: f64,
    problem: &Problem,
) -> Result<Trajectory> {
    let mut running = Running::<T, E>::new(chain, lr, &problem.init)?;
    let steps = problem.steps().map(|step| {
        running.step(step)?;
        Ok(running.wide())
    });
    steps.collect()
}
