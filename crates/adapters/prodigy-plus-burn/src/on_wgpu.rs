//! Steps of modules on burn's wgpu device.

use burn::module::Module;
use burn::optim::{GradientsParams, LearningRate, OptimizerRecord};
use burn::tensor::wgpu::WgpuSetup;
use gradient_transform::device::{DeviceParameter, OnDevice};
use gradient_transform::{Published, StepOutcome};
use gradient_wgpu::{Wgpu, WgpuArray};

use crate::error::Result;
use crate::optimizer::{ModuleOptimizer, record};
use crate::parameters::{put, put_values, take, take_by};
use crate::resident;

/// A [`ModuleOptimizer`] for modules on burn's wgpu device: parameters, gradients and state stay there, and sums and numbers of a step
/// travel alone.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use prodigy_plus_burn::{ModuleOptimizer, OnWgpu, Options, ProdigyPlus};
///
/// // The device, and what wgpu calls a device and a queue. It is an error where there is no adapter.
/// let Ok((device, setup)) = Device::wgpu_options().init_with_setup() else { return Ok(()) };
/// let device = device.autodiff();
/// let mut layer: Linear = LinearConfig::new(3, 2).init(&device);
/// let optimizer = ProdigyPlus::new(&layer, &Options::default())?;
/// let mut optimizer = OnWgpu::new(optimizer, &setup)?;
/// let loss = layer.forward(Tensor::<2>::ones([1, 3], &device)).sum();
/// let gradients = GradientsParams::from_grads(loss.backward(), &layer);
/// optimizer.step(1.0, &mut layer, gradients)?;
/// assert_eq!(optimizer.engine().latest_step(0)?.k, 1);
///
/// let at_x = optimizer.evaluation_module(&layer)?; // through the host
/// let optimizer: ModuleOptimizer = optimizer.into_host()?; // and on the processor from now on
/// # Ok::<(), prodigy_plus_burn::Error>(())
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
    /// [`NoFormula`](gradient_transform::Error::NoFormula) for a chain with Muon, say, and what else
    /// [`OnDevice::new`] refuses.
    pub fn new(optimizer: ModuleOptimizer, setup: &WgpuSetup) -> Result<Self> {
        let names = optimizer.engine.names().map(str::to_owned).collect();
        let wgpu = Wgpu::on_device(setup.device.clone(), setup.queue.clone());
        Ok(Self { engine: OnDevice::new(optimizer.engine, wgpu)?, names })
    }

    /// As [`ModuleOptimizer::step`]. Parameters get new memory, in which the step is made: clones of the module keep their values.
    ///
    /// # Errors
    /// As there, also [`Error::Elsewhere`](crate::Error::Elsewhere) for a module on another device. Nothing has moved then. After an
    /// error of the device, the module is as it was, and the optimizer does nothing more: go on from the last record.
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

    /// As [`ModuleOptimizer::evaluation_module`]. Parameters and state go to the host for it, and x comes back.
    ///
    /// # Errors
    /// Another module; the device's.
    pub fn evaluation_module<M: Module>(&mut self, module: &M) -> Result<M> {
        let mut taken = take::<f32, M>(module, GradientsParams::new(), self.names())?;
        self.engine.look_at(|engine| -> Result<()> {
            taken.iter_mut().enumerate().try_for_each(|(index, taken)| taken.evaluate(engine, index))
        })??;
        Ok(put(module.clone(), taken))
    }

    /// The state as burn's record, the same as [`ModuleOptimizer::to_record`] makes. To go on from it, on the processor or here, have
    /// [`ModuleOptimizer::load_record`] take it.
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
        let taken = take_by(resident::OnDevice, module, gradients, self.names())?;
        let mut resident = taken.iter().map(resident::Taken::resident).collect::<Result<Vec<_>>>()?;
        let parameters = resident.iter_mut().map(|(value, gradient)| DeviceParameter {
            value: &mut value.array,
            gradient: gradient.as_ref().map(|gradient| &gradient.array),
        });
        let mut parameters: Vec<DeviceParameter<'_, WgpuArray>> = parameters.collect();
        let outcome = self.engine.at_lr_factor(lr, |engine| step(engine, &mut parameters))?;
        if outcome == StepOutcome::Done {
            *module = put_values(module.clone(), taken.into_iter().filter_map(resident::Taken::stepped));
        }
        Ok(outcome)
    }
}
