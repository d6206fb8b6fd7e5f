//! Formulas of the sweeps of chains: those of a usual step, and those that an optimizer on a device has made.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::elsewhere::NextSweep;
use crate::engine::formula::{SweepFormula, Variants, formula};
use crate::engine::plan::Plan;
use crate::engine::tensor::Tensor;
use crate::error::Result;
use crate::link::compose::{Stages, stages};
use crate::link::context::{Context, StepContext, TensorInfo};
use crate::memory::element::Real;
use crate::optimizer::Optimizer;

/// Formulas that were made, each once.
#[derive(Default)]
pub(super) struct Formulas {
    known: HashMap<FormulaKey, Arc<SweepFormula>>,
    pub(super) distinct: Vec<Arc<SweepFormula>>,
    /// The plans of the keys, whose addresses are taken as long as they are here.
    plans: HashMap<usize, Arc<Plan>>,
}

/// The group, as chains of other hyperparameters can have the same plan, with the plan's address; number of the sweep, the stage that holds the
/// tensor, the observer that is not asked, and the stages' variants.
type FormulaKey = ([usize; 2], usize, [Option<usize>; 2], Variants);

impl Formulas {
    pub(super) fn of<T: Real>(
        &mut self,
        stages: &Stages<'_, T>,
        tensor: &Tensor<T>,
        next: &NextSweep<T>,
        has_float64: bool,
    ) -> Result<Option<Arc<SweepFormula>>> {
        let address = tensor.plan_address();
        let key = ([tensor.group, address], next.number, [next.held, next.still], next.variants.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some((plan, sweep)) = tensor.planned(next) else { return Ok(None) };
        let made = formula(stages, plan, &sweep, key.2, &tensor.info, &key.3, has_float64)?;
        let known = self.distinct.iter().find(|known| ***known == made);
        let made = known.cloned().unwrap_or_else(|| {
            let made = Arc::new(made);
            self.distinct.push(Arc::clone(&made));
            made
        });
        self.plans.insert(address, Arc::clone(plan));
        self.known.insert(key, Arc::clone(&made));
        Ok(Some(made))
    }
}

impl<T: Real> Optimizer<T> {
    /// The formulas of a group's chain for a tensor of the given shape, in the type of the computation: one for each sweep of a usual step.
    ///
    /// # Errors
    /// [`Error::NoSuch`](crate::Error::NoSuch); [`Error::NoFormula`](crate::Error::NoFormula) for a link that works on tiles.
    pub fn formulas(&self, group: usize, shape: &[usize]) -> Result<Vec<SweepFormula>> {
        self.formulas_on(group, shape, true)
    }

    /// Those for a device with or without float64.
    pub(super) fn formulas_on(
        &self,
        group: usize,
        shape: &[usize],
        has_float64: bool,
    ) -> Result<Vec<SweepFormula>> {
        let tensor = TensorInfo { name: String::new(), shape: shape.to_vec(), dtype: T::DTYPE, updates: 1 };
        let stages = stages(&*self.group(group)?.chain);
        let plan = Plan::new(&stages, &StepContext::new(2, 1.0), &tensor);
        let usual = StepContext::new(2, 1.0);
        let cx = Context::new(&usual, &tensor);
        let mut variants = Variants::new();
        let mut numbers = 0;
        for (transform, stage) in stages.iter().zip(&plan.stages) {
            variants.push((numbers, 0));
            if !stage.idle {
                let scratch: Vec<Vec<T>> =
                    transform.state(&tensor).scratch.iter().map(|&len| vec![T::zero(); len]).collect();
                numbers += transform.formula_numbers(&cx, &scratch).values.len() as u32;
            }
        }
        plan.sweeps
            .iter()
            .map(|sweep| formula(&stages, &plan, sweep, [None; 2], &tensor, &variants, has_float64))
            .collect()
    }
}
