use burn::module::Module;
use burn::optim::{GradientsParams, OptimizerRecord};
use burn::tensor::{Bytes, DType};
use gradient_transform::{Optimizer, Real, RestoreOptions, Restored};
use prodigy_plus::{Diagnose, Finding, Options};

use crate::error::Result;
use crate::parameters::{Taken, check_types, parameters, put, take};

/// Prodigy + Schedule-Free for burn's modules.
pub type ProdigyPlus = ModuleOptimizer<f32>;

/// Name of the state in a record.
const RECORDED: &str = "checkpoint";

/// Any optimizer of this project, for the parameters of a module.
///
/// `T` is the type of the computation: `f32` for parameters of float32 and bfloat16, `f64` for those of
/// float64.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use prodigy_plus_burn::{ModuleOptimizer, Options};
///
/// let device = Device::flex().autodiff();
/// let mut layer: Linear = LinearConfig::new(3, 2).init(&device);
/// let mut optimizer = ModuleOptimizer::<f32>::new(&layer, &Options::default())?;
/// let loss = layer.forward(Tensor::<2>::ones([1, 3], &device)).sum();
/// let gradients = GradientsParams::from_grads(loss.backward(), &layer);
/// optimizer.step(1.0, &mut layer, gradients)?;
/// assert_eq!(optimizer.engine().steps(0).unwrap(), 1);
/// # Ok::<(), prodigy_plus_burn::Error>(())
/// ```
pub struct ModuleOptimizer<T: Real = f32> {
    pub(crate) engine: Optimizer<T>,
}

impl<T: Real> ModuleOptimizer<T> {
    /// Prodigy + Schedule-Free on all float parameters of a module.
    ///
    /// # Errors
    /// Options out of range or excluding each other; [`Error::ElementType`](crate::Error::ElementType) for a parameter of
    /// float16, say.
    pub fn new<M: Module>(module: &M, options: &Options) -> Result<Self> {
        check_types::<T, M>(module)?;
        let parameters = parameters(module);
        let shapes = parameters.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
        Ok(Self::from_engine(options.build_in(shapes)?))
    }

    /// An optimizer that was built for a module's [`parameters`]: any chain, any groups.
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use prodigy_plus_burn::{Options, ProdigyPlus, parameters};
    /// let layer: Linear = LinearConfig::new(3, 2).init(&Device::flex().autodiff());
    /// let all = parameters(&layer);
    /// let group = |bias: bool| {
    ///     let of_group = all.iter().filter(move |(name, _)| name.ends_with("bias") == bias);
    ///     of_group.map(|(name, shape)| (name.as_str(), shape.as_slice())).collect::<Vec<_>>()
    /// };
    /// let options = Options::default().weight_decay(0.1);
    /// let engine = options.build_groups([
    ///     (options.clone(), group(false)),
    ///     (options.clone().weight_decay(0.0), group(true)),
    /// ])?;
    /// let optimizer = ProdigyPlus::from_engine(engine);
    /// assert_eq!(optimizer.engine().names().collect::<Vec<_>>(), ["weight", "bias"]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn from_engine(engine: Optimizer<T>) -> Self {
        Self { engine }
    }

    /// The module at its evaluation point x: for tests, for inference, and for saving a model for it.
    /// `module` is at the training point y and stays there: to resume, save `module`, not the result. If the
    /// engine is in evaluation mode, which only a restored state can cause, `module` is at x already.
    ///
    /// Models with batch normalisation should see some training batches in this state before their statistics are used, as
    /// those were gathered at y (Schedule-Free's README, "Caveats").
    ///
    /// # Errors
    /// Another module.
    pub fn evaluation_module<M: Module>(&self, module: &M) -> Result<M> {
        let mut taken = take::<T, M>(module, GradientsParams::new(), self.engine.names())?;
        if self.engine.is_evaluating() {
            return Ok(module.clone());
        }
        for (index, taken) in taken.iter_mut().enumerate() {
            taken.evaluate(&self.engine, index)?;
        }
        Ok(put(module.clone(), taken))
    }

    /// Moves the module to the training point y, if the engine is in evaluation mode. Only a state that
    /// another adapter saved at x causes that. Otherwise this does nothing.
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::optim::GradientsParams;
    /// use burn::tensor::Device;
    /// use gradient_transform::Snapshot;
    /// use prodigy_plus_burn::{Options, ProdigyPlus};
    ///
    /// let mut layer: Linear = LinearConfig::new(3, 2).init(&Device::flex().autodiff());
    /// let mut optimizer = ProdigyPlus::new(&layer, &Options::default())?;
    /// let at_x = Snapshot { evaluating: true, ..optimizer.engine().snapshot() };
    /// optimizer.engine_mut().restore(at_x)?;
    /// assert!(optimizer.step(1.0, &mut layer, GradientsParams::new()).is_err());
    /// optimizer.train(&mut layer)?;
    /// optimizer.step(1.0, &mut layer, GradientsParams::new())?;
    /// # Ok::<(), prodigy_plus_burn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Another module, or parameters of other types than the state's. Nothing has changed then.
    pub fn train<M: Module>(&mut self, module: &mut M) -> Result<()> {
        if !self.engine.is_evaluating() {
            return Ok(());
        }
        let mut taken = take::<T, M>(module, GradientsParams::new(), self.engine.names())?;
        let mut parameters = taken.iter_mut().map(Taken::parameter).collect::<Result<Vec<_>>>()?;
        self.engine.train(&mut parameters)?;
        drop(parameters);
        *module = put(module.clone(), taken);
        Ok(())
    }

    /// Engine of the steps: for d, the step size, bytes of state, and the number of steps.
    pub fn engine(&self) -> &Optimizer<T> {
        &self.engine
    }

    /// Engine of the steps, to change a group's own learning rate or chain, or to restore a snapshot (and then call
    /// [`train`](Self::train)).
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use gradient_transform::Descent;
    /// use prodigy_plus_burn::{Options, ProdigyPlus};
    ///
    /// let layer: Linear = LinearConfig::new(3, 2).init(&Device::flex().autodiff());
    /// let mut optimizer = ProdigyPlus::new(&layer, &Options::default())?;
    /// optimizer.engine_mut().replace_chain(0, Descent::default())?;
    /// assert_eq!(optimizer.engine().describe_chain(0, &[3, 2])?, "descent");
    /// # Ok::<(), prodigy_plus_burn::Error>(())
    /// ```
    pub fn engine_mut(&mut self) -> &mut Optimizer<T> {
        &mut self.engine
    }

    /// Causes of a d that does not grow, or never stops growing, from the records of the engine's recorder.
    /// The text of a finding gives the observation and the remedy. See the book's page "d does not grow".
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::optim::GradientsParams;
    /// use burn::tensor::{Device, Tensor};
    /// use prodigy_plus_burn::{Finding, Options, ProdigyPlus, Recorder};
    ///
    /// let device = Device::flex().autodiff();
    /// let mut layer: Linear = LinearConfig::new(30, 20).init(&device);
    /// let mut optimizer = ProdigyPlus::new(&layer, &Options::default())?;
    /// optimizer.engine_mut().set_recorder(Some(Recorder::every(1)?));
    /// for _ in 0..20 {
    ///     let loss = layer.forward(Tensor::<2>::ones([1, 30], &device)).powf_scalar(2.0).sum();
    ///     let gradients = GradientsParams::from_grads(loss.backward(), &layer);
    ///     optimizer.step(1e-3, &mut layer, gradients)?; // as for AdamW
    /// }
    /// let findings: Vec<Finding> = optimizer.diagnose();
    /// assert!(findings[0].to_string().starts_with("The learning rate of group 0 (`weight` and one other) is 0.001"));
    /// # Ok::<(), prodigy_plus_burn::Error>(())
    /// ```
    pub fn diagnose(&self) -> Vec<Finding> {
        self.engine.diagnose()
    }

    /// The state (z, moments, d, counters) as burn's record; with the module's own record, training resumes
    /// with the same bits. Learning rates are not included: set a group's own when you make the optimizer.
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::optim::GradientsParams;
    /// use burn::tensor::{Device, Tensor};
    /// use prodigy_plus_burn::{Options, ProdigyPlus};
    ///
    /// let device = Device::flex().autodiff();
    /// let mut layer: Linear = LinearConfig::new(3, 2).init(&device);
    /// let mut optimizer = ProdigyPlus::new(&layer, &Options::default())?;
    /// let loss = layer.forward(Tensor::<2>::ones([1, 3], &device)).sum();
    /// let gradients = GradientsParams::from_grads(loss.backward(), &layer);
    /// optimizer.step(1.0, &mut layer, gradients)?;
    ///
    /// let mut resumed = ProdigyPlus::new(&layer, &Options::default())?;
    /// let restored = resumed.load_record(&mut layer, optimizer.to_record()?)?;
    /// assert!(restored.missing.is_empty());
    /// assert_eq!(resumed.engine().snapshot(), optimizer.engine().snapshot());
    /// # Ok::<(), prodigy_plus_burn::Error>(())
    /// ```
    ///
    /// # Errors
    /// burn cannot make it.
    pub fn to_record(&self) -> Result<OptimizerRecord> {
        record(checkpoint::to_bytes(&self.engine)?)
    }

    /// Restores a record. The result lists arrays that it lacks for this chain, and arrays that are
    /// not used.
    ///
    /// A record that was made at the evaluation point moves the module to its training point y, as
    /// [`train`](Self::train) does. Otherwise the module must be at its y. With another beta1, or a chain
    /// with another averaging, x and z stay and the module's parameters move to the new y.
    ///
    /// # Errors
    /// The record is damaged, or belongs to another optimizer or other parameters; another module. Nothing
    /// has changed then.
    pub fn load_record<M: Module>(&mut self, module: &mut M, record: OptimizerRecord) -> Result<Restored> {
        let bytes = recorded(record)?;
        let mut taken = take::<T, M>(module, GradientsParams::new(), self.engine.names())?;
        let mut parameters = taken.iter_mut().map(Taken::parameter).collect::<Result<Vec<_>>>()?;
        let options = RestoreOptions { parameters: Some(&mut parameters), ..RestoreOptions::default() };
        let restored = checkpoint::from_bytes_with(&bytes, &mut self.engine, options)?;
        if self.engine.is_evaluating() {
            self.engine.train(&mut parameters)?;
        }
        drop(parameters);
        *module = put(module.clone(), taken);
        Ok(restored)
    }
}

/// A record with a checkpoint.
pub(crate) fn record(checkpoint: Vec<u8>) -> Result<OptimizerRecord> {
    let tensor = burn_pack::Tensor::new(
        RECORDED.to_owned(),
        DType::U8,
        [checkpoint.len()],
        None,
        Bytes::from_bytes_vec(checkpoint),
    );
    let packed = burn_pack::Writer::new(vec![tensor]).into_bytes().map_err(burn::store::RecordError::from)?;
    Ok(OptimizerRecord::from_bytes(packed)?)
}

/// The checkpoint in a record.
fn recorded(record: OptimizerRecord) -> Result<Bytes> {
    let read = |bytes| -> Result<Vec<burn_pack::Tensor>, burn_pack::Error> {
        burn_pack::Reader::from_bytes(bytes)?.into_tensors()
    };
    for tensor in read(record.into_bytes()?).map_err(burn::store::RecordError::from)? {
        let (name, _, _, _, bytes) = tensor.into_parts().map_err(burn::store::RecordError::from)?;
        if name == RECORDED {
            return Ok(bytes);
        }
    }
    Err(checkpoint::Error::Damaged { reason: format!("there is no `{RECORDED}` in the record") }.into())
}
