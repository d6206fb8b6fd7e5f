use std::collections::HashMap;
use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use candle_nn::VarMap;
use gradient_transform::{Link, Optimizer, Parameter, Real, RestoreOptions, Restored};
use prodigy_plus::{Diagnose, Finding, Options};

use crate::error::{Error, Result};
use crate::lent::{Lent, on_host};
use crate::variables::{named_variables, shapes};

/// Prodigy + Schedule-Free for candle, with the interface of `candle_nn::AdamW`.
pub type ProdigyPlus = VarOptimizer<f32>;

/// Any optimizer of this project, for candle's variables.
///
/// `T` is the type of the computation: `f32` for variables of F32 and BF16, `f64` for those of F64. It
/// implements `candle_nn::Optimizer`, with [`Options`] as the configuration.
///
/// Integer variables, such as counters, have no gradients: they do not change, and
/// [`left_out`](Self::left_out) lists them.
///
/// Contiguous variables of the CPU, such as all that candle makes, are stepped in their own memory, which is
/// taken out of the tensors during a call: nothing else may use the model meanwhile. A gradient is copied
/// only if it isn't row-major. Variables of another device go through the host: each step copies their values
/// there and back, and their gradients there; the state stays in the host's memory.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Init, Optimizer, VarMap};
/// use prodigy_plus_candle::VarOptimizer;
///
/// let map = VarMap::new();
/// let w = map.get(3, "w", Init::Const(1.0), DType::F64, &Device::Cpu)?;
/// let mut optimizer = VarOptimizer::<f64>::new(map.all_vars(), Default::default())?;
/// optimizer.backward_step(&w.sqr()?.sum_all()?)?;
/// assert_eq!(optimizer.learning_rate(), 1.0);
/// assert_eq!(optimizer.engine().steps(0).unwrap(), 1);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct VarOptimizer<T: Real = f32> {
    pub(crate) engine: Optimizer<T>,
    pub(crate) variables: Vec<(String, Var)>,
    pub(crate) left_out: Vec<(String, Var)>,
    /// Factor of every group's own learning rate. The trait's method that sets it cannot fail, so each
    /// step checks it.
    pub(crate) learning_rate: f64,
}

impl<T: Real> VarOptimizer<T> {
    /// Prodigy + Schedule-Free on the variables of a map, in the order of their names.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::{Module, VarBuilder, VarMap, linear, loss::mse};
    /// use prodigy_plus_candle::ProdigyPlus;
    ///
    /// let map = VarMap::new();
    /// let model = linear(2, 1, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu))?;
    /// let inputs = Tensor::new(&[[0.0_f32, 1.0], [1.0, 0.0], [1.0, 1.0]], &Device::Cpu)?;
    /// let labels = Tensor::new(&[[1.0_f32], [2.0], [3.0]], &Device::Cpu)?;
    /// let mut optimizer = ProdigyPlus::from_varmap(&map, &Default::default())?;
    /// for _ in 0..500 {
    ///     let loss = mse(&model.forward(&inputs)?, &labels)?;
    ///     optimizer.step(&loss.backward()?)?;
    /// }
    /// let at_average = optimizer.evaluate()?; // until it is dropped
    /// let loss = mse(&model.forward(&inputs)?, &labels)?.to_scalar::<f32>()?;
    /// assert!(loss < 0.05, "{loss}");
    /// # drop(at_average);
    /// # Ok::<(), prodigy_plus_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// Options out of range or excluding each other; [`Error::ElementType`] for a variable of F16, say.
    pub fn from_varmap(map: &VarMap, options: &Options) -> Result<Self> {
        let variables = named_variables(map);
        Self::from_engine(options.build_in(shapes(&variables))?, variables)
    }

    /// An optimizer that was built for the names and shapes of these variables, whose order doesn't matter: any chain,
    /// any groups.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{VarBuilder, VarMap, linear};
    /// use prodigy_plus::Options;
    /// use prodigy_plus_candle::{ProdigyPlus, named_variables, shapes};
    ///
    /// let map = VarMap::new();
    /// let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    /// let (encoder, decoder) = (linear(8, 2, vb.pp("encoder"))?, linear(2, 8, vb.pp("decoder"))?);
    /// // Biases without weight decay, in a separate group.
    /// let (biases, weights): (Vec<_>, Vec<_>) =
    ///     named_variables(&map).into_iter().partition(|(name, _)| name.ends_with("bias"));
    /// let options = Options::default().weight_decay(0.1);
    /// let engine = options.build_groups([
    ///     (options.clone(), shapes(&weights)),
    ///     (options.clone().weight_decay(0.0), shapes(&biases)),
    /// ])?;
    /// let optimizer = ProdigyPlus::from_engine(engine, weights.into_iter().chain(biases))?;
    /// # let _ = (encoder, decoder, optimizer);
    /// # Ok::<(), prodigy_plus_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoVariable`] for a parameter of the engine without a variable, [`Error::NoParameter`] for a variable of floats that no group has;
    /// [`Error::ElementType`]; [`Error::SameVariable`].
    pub fn from_engine(
        engine: Optimizer<T>,
        variables: impl IntoIterator<Item = (String, Var)>,
    ) -> Result<Self> {
        let mut by_name: HashMap<String, Var> = HashMap::new();
        let mut by_id = HashMap::new();
        for (name, var) in variables {
            if let Some(first) = by_id.insert(var.id(), name.clone()) {
                return Err(Error::SameVariable { first, second: name });
            }
            if by_name.insert(name.clone(), var).is_some() {
                return Err(gradient_transform::Error::DuplicateName { name }.into());
            }
        }
        let known = || engine.names().collect::<Vec<_>>().join(", ");
        let find = |name: &str| match by_name.remove(name) {
            Some(var) => Ok((name.to_owned(), var)),
            None => Err(Error::NoVariable { name: name.to_owned() }),
        };
        let variables = engine.names().map(find).collect::<Result<Vec<_>>>()?;
        let mut left_out: Vec<_> = by_name.into_iter().collect();
        left_out.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some((name, _)) = left_out.iter().find(|(_, var)| var.dtype().is_float()) {
            return Err(Error::NoParameter { name: name.clone(), known: known() });
        }
        if let Some((name, var)) = variables.iter().find(|(_, var)| !is_computed_with::<T>(var.dtype())) {
            return Err(Error::ElementType { name: name.clone(), dtype: var.dtype() });
        }
        Ok(Self { engine, variables, left_out, learning_rate: 1.0 })
    }

    /// A chain on the variables of a map, one group at learning rate 1.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{Init, VarMap};
    /// use gradient_transform::Descent;
    /// use prodigy_plus_candle::VarOptimizer;
    ///
    /// let map = VarMap::new();
    /// let w = map.get(2, "w", Init::Const(1.0), DType::F32, &Device::Cpu)?;
    /// let sign = gradient_transform::map!("sign", |u| u.sign());
    /// let mut optimizer: VarOptimizer = VarOptimizer::from_chain(&map, (sign, Descent::default()))?;
    /// optimizer.engine_mut().set_lr(0, 0.25)?;
    /// optimizer.step(&w.sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(w.to_vec1::<f32>()?, [0.75, 0.75]);
    /// # Ok::<(), prodigy_plus_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// A chain that cannot run; [`Error::ElementType`].
    pub fn from_chain(map: &VarMap, chain: impl Link<T> + 'static) -> Result<Self> {
        let variables = named_variables(map);
        Self::from_engine(Optimizer::new_in(chain, shapes(&variables))?, variables)
    }

    /// Moves the variables to the training point y, if they are not there: after restoring the state of an
    /// optimizer in evaluation mode, or after `forget` of the guard of [`evaluate`](Self::evaluate).
    /// Otherwise this does nothing.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{Init, VarMap};
    /// use prodigy_plus_candle::ProdigyPlus;
    ///
    /// let map = VarMap::new();
    /// let w = map.get(2, "w", Init::Const(1.0), DType::F32, &Device::Cpu)?;
    /// let mut optimizer = ProdigyPlus::from_varmap(&map, &Default::default())?;
    /// optimizer.step(&w.sqr()?.sum_all()?.backward()?)?;
    /// std::mem::forget(optimizer.evaluate()?);
    /// assert!(optimizer.step(&w.sqr()?.sum_all()?.backward()?).is_err()); // a gradient at x would be wrong
    /// optimizer.train()?;
    /// optimizer.step(&w.sqr()?.sum_all()?.backward()?)?;
    /// # Ok::<(), prodigy_plus_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// A variable is of another type than its state.
    pub fn train(&mut self) -> Result<()> {
        if self.engine.is_evaluating() {
            self.at_variables(|engine, parameters| engine.train(parameters))?;
        }
        Ok(())
    }

    /// Calls the engine with the variables, and no gradients.
    pub(crate) fn at_variables<R, E: Into<Error>>(
        &mut self,
        call: impl FnOnce(&mut Optimizer<T>, &mut [Parameter<'_>]) -> Result<R, E>,
    ) -> Result<R> {
        let none = vec![None; self.variables.len()];
        self.with_parameters(&none, call)
    }

    /// Calls the engine with the variables and their gradients.
    pub(crate) fn with_gradients<R, E: Into<Error>>(
        &mut self,
        gradients: &GradStore,
        call: impl FnOnce(&mut Optimizer<T>, &mut [Parameter<'_>]) -> Result<R, E>,
    ) -> Result<R> {
        let gradient = |(_, var): &(String, Var)| gradients.get(var).map(on_host::<T>).transpose();
        let gradients = self.variables.iter().map(gradient).collect::<Result<Vec<_>>>()?;
        self.with_parameters(&gradients, call)
    }

    fn with_parameters<R, E: Into<Error>>(
        &mut self,
        gradients: &[Option<Tensor>],
        call: impl FnOnce(&mut Optimizer<T>, &mut [Parameter<'_>]) -> Result<R, E>,
    ) -> Result<R> {
        let mut lent =
            self.variables.iter().map(|(name, var)| Lent::of(name, var)).collect::<Result<Vec<_>>>()?;
        let guards: Vec<_> = gradients.iter().map(|g| g.as_ref().map(Tensor::storage_and_layout)).collect();
        let mut parameters = lent
            .iter_mut()
            .zip(&guards)
            .map(|(lent, guard)| {
                lent.parameter(guard.as_ref().map(|(storage, layout)| (&**storage, *layout)))
            })
            .collect::<Result<Vec<_>>>()?;
        let outcome = call(&mut self.engine, &mut parameters).map_err(Into::into)?;
        drop(parameters);
        // In candle, a sum with a variable without elements is the variable itself, and so is a
        // gradient.
        drop(guards);
        lent.into_iter().try_for_each(Lent::give_back)?;
        Ok(outcome)
    }

    /// Engine of the steps: for d, the step size, bytes of state, and the number of steps.
    pub fn engine(&self) -> &Optimizer<T> {
        &self.engine
    }

    /// Engine of the steps, to change a group's own learning rate or chain, or to restore a snapshot (and then call
    /// [`train`](Self::train)). Don't call its `step`, `eval` and `train`, which would need the variables.
    pub fn engine_mut(&mut self) -> &mut Optimizer<T> {
        &mut self.engine
    }

    /// Causes of a d that does not grow, or never stops growing, from the records of the engine's recorder.
    /// The text of a finding gives the observation and the remedy. See the book's page "d does not grow".
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{Init, VarMap};
    /// use prodigy_plus_candle::{Finding, Options, ProdigyPlus, Recorder};
    ///
    /// let map = VarMap::new();
    /// let w = map.get(400, "w", Init::Const(1.0), DType::F32, &Device::Cpu)?;
    /// let mut optimizer = ProdigyPlus::from_varmap(&map, &Options::default().lr(1e-3))?;
    /// optimizer.engine_mut().set_recorder(Some(Recorder::every(1)?));
    /// for _ in 0..20 {
    ///     optimizer.step(&w.sqr()?.sum_all()?.backward()?)?;
    /// }
    /// let findings: Vec<Finding> = optimizer.diagnose();
    /// assert!(findings[0].to_string().starts_with("The learning rate of group 0 (`w`) is 0.001"));
    /// # Ok::<(), prodigy_plus_candle::Error>(())
    /// ```
    pub fn diagnose(&self) -> Vec<Finding> {
        self.engine.diagnose()
    }

    /// The variables that are stepped and their names, in the engine's order.
    pub fn variables(&self) -> &[(String, Var)] {
        &self.variables
    }

    /// The integer variables among those passed, by name: they have no gradients, so they are not
    /// stepped.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{Init, VarMap};
    /// use prodigy_plus_candle::ProdigyPlus;
    ///
    /// let map = VarMap::new();
    /// map.get(2, "w", Init::Const(1.0), DType::F32, &Device::Cpu)?;
    /// map.get(1, "batches", Init::Const(0.0), DType::I64, &Device::Cpu)?;
    /// let optimizer = ProdigyPlus::from_varmap(&map, &Default::default())?;
    /// assert_eq!(optimizer.variables()[0].0, "w");
    /// assert_eq!(optimizer.left_out()[0].0, "batches");
    /// # Ok::<(), prodigy_plus_candle::Error>(())
    /// ```
    pub fn left_out(&self) -> &[(String, Var)] {
        &self.left_out
    }

    /// Saves the state (z, moments, d, counters); with the variables themselves, which `VarMap::save` saves,
    /// training resumes with the same bits. Save both at the same point: at y, or both while an
    /// [`Evaluating`](crate::Evaluating) lives, at x; the state then contains y.
    ///
    /// Learning rates are not saved: set a group's own when you make the optimizer, and set the factor of
    /// `set_learning_rate` again.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{Init, VarMap};
    /// use prodigy_plus_candle::ProdigyPlus;
    ///
    /// let map = VarMap::new();
    /// let w = map.get(2, "w", Init::Const(1.0), DType::F32, &Device::Cpu)?;
    /// let mut optimizer = ProdigyPlus::from_varmap(&map, &Default::default())?;
    /// optimizer.step(&w.sqr()?.sum_all()?.backward()?)?;
    /// let path = tempfile::tempdir().unwrap().path().with_extension("safetensors");
    /// optimizer.save_state(&path)?;
    ///
    /// let mut resumed = ProdigyPlus::from_varmap(&map, &Default::default())?;
    /// let restored = resumed.load_state(&path)?;
    /// assert!(restored.missing.is_empty() && restored.surplus.is_empty());
    /// assert_eq!(resumed.engine().snapshot(), optimizer.engine().snapshot());
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok::<(), prodigy_plus_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// The file cannot be written. An earlier file stays intact then.
    pub fn save_state(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(checkpoint::save(path, &self.engine)?)
    }

    /// Restores a saved state. The result lists arrays that it lacks for this chain, and arrays that
    /// are not used.
    ///
    /// A state that was saved at the evaluation point moves the variables to its training point y, as
    /// [`train`](Self::train) does, so that training continues as if it had been saved there. Otherwise the
    /// variables must be at its y. With another beta1, or a chain with another averaging, x and z stay and
    /// the variables move to the new y.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or belongs to other parameters; it was saved at the evaluation
    /// point, with variables of other types. Nothing has changed then.
    pub fn load_state(&mut self, path: impl AsRef<Path>) -> Result<Restored> {
        self.at_variables(|engine, parameters| -> Result<Restored> {
            let options = RestoreOptions { parameters: Some(parameters), ..RestoreOptions::default() };
            let restored = checkpoint::load_with(path, engine, options)?;
            if engine.is_evaluating() {
                engine.train(parameters)?;
            }
            Ok(restored)
        })
    }
}

/// The types that an engine takes.
pub(crate) fn is_computed_with<T: Real>(dtype: DType) -> bool {
    match dtype {
        DType::F32 | DType::BF16 => true,
        DType::F64 => T::DTYPE == gradient_transform::DType::F64,
        _ => false,
    }
}

/// `learning_rate` is a factor, 1 at first, of every group's own.
///
/// Variables get their positions as names, and a map's order differs from process to process: for resumed or
/// repeated runs use [`VarOptimizer::from_varmap`].
impl<T: Real> candle_nn::Optimizer for VarOptimizer<T> {
    type Config = Options;

    fn new(vars: Vec<Var>, config: Options) -> candle_core::Result<Self> {
        let is_float = |var: &Var| var.dtype().is_float();
        let variables: Vec<(String, Var)> = vars
            .into_iter()
            .filter(is_float)
            .enumerate()
            .map(|(index, var)| (index.to_string(), var))
            .collect();
        let engine = config.build_in(shapes(&variables)).map_err(Error::from)?;
        Ok(Self::from_engine(engine, variables)?)
    }

    fn step(&mut self, gradients: &GradStore) -> candle_core::Result<()> {
        VarOptimizer::step(self, gradients)?;
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.learning_rate = lr;
    }
}
