//! Steps of modules on burn's wgpu device.

use burn::module::Module;
use burn::optim::{GradientsParams, LearningRate, OptimizerRecord};
use burn::tensor::wgpu::WgpuSetup;
use gradient_transform::device::{DeviceParameter, OnDevice};
use gradient_transform::{Published, StepOutcome};
use gradient_wgpu::{Wgpu, WgpuArray};

use crate::error::Result;
use crate::optimizer::{ModuleOptimizer, record};
use crate::parameters::{put_values, take_by};
use crate::resident;

/// A [`ModuleOptimizer`] for modules on burn's wgpu device: parameters, gradients and state stay there, and
/// only sums and numbers of a step are transferred.
///
/// ```
#[doc = include_str!("../tests/documentation/on_wgpu.rs")]
/// ```
#[derive(Debug)]
pub struct OnWgpu {
    engine: OnDevice<Wgpu>,
    names: Vec<String>,
}

impl OnWgpu {
    /// Takes an optimizer to the device, with the state that it has. `setup` is the one that the module's device was made with, by
    /// `init_with_setup` or of your own.
    ///
    /// # Errors
    /// [`NoFormula`](gradient_transform::Error::NoFormula) for a link that works on tiles,
    /// [`NoFloat64`](gradient_transform::Error::NoFloat64) for a chain with OrthoGrad, and what else [`OnDevice::new`] refuses.
    pub fn new(optimizer: ModuleOptimizer, setup: &WgpuSetup) -> Result<Self> {
        let names = optimizer.engine.names().map(str::to_owned).collect();
        let wgpu = Wgpu::on_device(setup.device.clone(), setup.queue.clone());
        Ok(Self { engine: OnDevice::new(optimizer.engine, wgpu)?, names })
    }

    /// As [`ModuleOptimizer::step`]. Parameters get new memory, in which the step is made: clones of the module keep their values.
    ///
    /// # Errors
    /// As there, also [`Error::Elsewhere`](crate::Error::Elsewhere) for a module on another device. Nothing has moved then. After an
    /// error of the device, the module is as it was, and the optimizer makes no more steps: resume from the
    /// last record.
    pub fn step<M: Module>(
        &mut self,
        lr: LearningRate,
        module: &mut M,
        gradients: GradientsParams,
    ) -> Result<StepOutcome> {
        self.moved(lr, module, gradients, |engine, parameters| engine.step(parameters))
    }

    /// As [`ModuleOptimizer::step_with`].
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_with<M: Module>(
        &mut self,
        lr: LearningRate,
        given: impl Published,
        module: &mut M,
        gradients: GradientsParams,
    ) -> Result<StepOutcome> {
        self.moved(lr, module, gradients, |engine, parameters| engine.step_with(given, parameters))
    }

    /// As [`ModuleOptimizer::accumulate`]: the sums are on the device. [`OnWgpu`] has an example.
    ///
    /// # Errors
    /// As [`step`](Self::step); nothing is added then.
    pub fn accumulate<M: Module>(&mut self, module: &M, gradients: GradientsParams) -> Result<StepOutcome> {
        self.taken(resident::OnDevice::Uncopied, module, gradients, |engine, parameters| {
            engine.accumulate(parameters)
        })
        .map(|(outcome, _)| outcome)
    }

    /// As [`ModuleOptimizer::step_if`]; the norm is taken on the device.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_if<M: Module>(
        &mut self,
        lr: LearningRate,
        rule: impl FnOnce(f64) -> bool,
        module: &mut M,
        gradients: GradientsParams,
    ) -> Result<StepOutcome> {
        self.moved(lr, module, gradients, |engine, parameters| engine.step_if(rule, parameters))
    }

    /// As [`ModuleOptimizer::evaluation_module`]: x is calculated on the device, in new memory.
    ///
    /// # Errors
    /// Another module; the device's.
    pub fn evaluation_module<M: Module>(&mut self, module: &M) -> Result<M> {
        let none = GradientsParams::new();
        if self.engine.is_evaluating() {
            return Ok(module.clone());
        }
        let ((), taken) =
            self.taken(resident::OnDevice::Copies, module, none, OnDevice::evaluation_points)?;
        Ok(put_values(module.clone(), taken.into_iter().filter_map(resident::Taken::written)))
    }

    /// As [`ModuleOptimizer::train`]: for an optimizer that came here in evaluation mode.
    ///
    /// # Errors
    /// Another module; the device's.
    pub fn train<M: Module>(&mut self, module: &mut M) -> Result<()> {
        if !self.engine.is_evaluating() {
            return Ok(());
        }
        let none = GradientsParams::new();
        let ((), taken) = self.taken(resident::OnDevice::Copies, module, none, OnDevice::train)?;
        *module = put_values(module.clone(), taken.into_iter().filter_map(resident::Taken::written));
        Ok(())
    }

    /// The state as burn's record, the same as [`ModuleOptimizer::to_record`] makes. To resume from it, on
    /// the processor or here, use [`ModuleOptimizer::load_record`].
    ///
    /// # Errors
    /// The device's; burn cannot make it.
    pub fn to_record(&mut self) -> Result<OptimizerRecord> {
        record(self.engine.look_at(checkpoint::to_bytes)??)
    }

    /// Brings the state to the host.
    ///
    /// # Errors
    /// The device's; the state is lost then.
    pub fn into_host(self) -> Result<ModuleOptimizer> {
        let (engine, _) = self.engine.into_parts()?;
        Ok(ModuleOptimizer::from_engine(engine))
    }

    /// Engine of the steps: for d and the step size.
    pub fn engine(&self) -> &OnDevice<Wgpu> {
        &self.engine
    }

    /// Engine of the steps, for its executor, a snapshot, and to change a group's own learning rate.
    pub fn engine_mut(&mut self) -> &mut OnDevice<Wgpu> {
        &mut self.engine
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    fn moved<M: Module>(
        &mut self,
        lr: LearningRate,
        module: &mut M,
        gradients: GradientsParams,
        step: impl FnOnce(
            &mut OnDevice<Wgpu>,
            &mut [DeviceParameter<'_, WgpuArray>],
        ) -> gradient_transform::Result<StepOutcome>,
    ) -> Result<StepOutcome> {
        // A parameter moves by what was accumulated too.
        let taking = match self.engine.accumulated() {
            0 => resident::OnDevice::CopiesOfGiven,
            _ => resident::OnDevice::Copies,
        };
        let (outcome, taken) = self.taken(taking, module, gradients, |engine, parameters| {
            engine.at_lr_factor(lr, |engine| step(engine, parameters))
        })?;
        if outcome == StepOutcome::Done {
            *module = put_values(module.clone(), taken.into_iter().filter_map(resident::Taken::written));
        }
        Ok(outcome)
    }

    /// Does something with a module's parameters, and gives them.
    fn taken<M: Module, R>(
        &mut self,
        taking: resident::OnDevice,
        module: &M,
        gradients: GradientsParams,
        work: impl FnOnce(
            &mut OnDevice<Wgpu>,
            &mut [DeviceParameter<'_, WgpuArray>],
        ) -> gradient_transform::Result<R>,
    ) -> Result<(R, Vec<resident::Taken>)> {
        let taken = take_by(taking, module, gradients, self.names())?;
        let mut resident = taken.iter().map(resident::Taken::resident).collect::<Result<Vec<_>>>()?;
        let parameters = resident.iter_mut().map(|(value, gradient)| DeviceParameter {
            value: &mut value.array,
            gradient: gradient.as_ref().map(|gradient| &gradient.array),
        });
        let mut parameters: Vec<DeviceParameter<'_, WgpuArray>> = parameters.collect();
        let done = work(&mut self.engine, &mut parameters)?;
        Ok((done, taken))
    }
}
