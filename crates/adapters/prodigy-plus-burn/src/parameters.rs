//! Reading and writing of a module's parameters.

use std::collections::{HashMap, HashSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::container::TensorContainer;
use burn::tensor::{DType, DataError, Tensor, TensorData};
use gradient_transform::{Optimizer, Parameter, Real, Scalar};
use half::bf16;

use crate::error::{Error, Result};

/// Names and shapes of a module's float parameters, in its order. A parameter in several places, such as tied
/// weights, is listed once, with the name of its first place.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// let layer: Linear = LinearConfig::new(3, 2).init(&Device::flex());
/// let weight = ("weight".to_owned(), vec![3, 2]);
/// assert_eq!(prodigy_plus_burn::parameters(&layer), [weight, ("bias".to_owned(), vec![2])]);
/// ```
pub fn parameters<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let mut names = Names::default();
    module.visit(&mut names);
    names.found
}

/// Rejects parameters of unsupported types, as far as they are initialised: burn initialises parameters in
/// the order of use, from one random stream.
pub(crate) fn check_types<T: Real, M: Module>(module: &M) -> Result<()> {
    let mut names = Names::default();
    module.visit(&mut names);
    match names.types.into_iter().find(|(_, dtype)| !is_computed_with::<T>(*dtype)) {
        Some((name, dtype)) => Err(Error::ElementType { name, dtype }),
        None => Ok(()),
    }
}

/// The types that an engine takes.
fn is_computed_with<T: Real>(dtype: DType) -> bool {
    match dtype {
        DType::F32 | DType::BF16 => true,
        DType::F64 => T::DTYPE == gradient_transform::DType::F64,
        _ => false,
    }
}

/// The type of a gradient in the engine: its own, if the engine supports it.
fn type_of_gradient<T: Real>(own: DType) -> DType {
    match T::DTYPE {
        _ if is_computed_with::<T>(own) => own,
        gradient_transform::DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

#[derive(Default)]
struct Names {
    path: Vec<String>,
    seen: HashSet<ParamId>,
    found: Vec<(String, Vec<usize>)>,
    types: Vec<(String, DType)>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.seen.insert(param.id) {
            return;
        }
        let name = self.path.join(".");
        if param.is_initialized() {
            self.types.push((name.clone(), param.base().dtype()));
        }
        self.found.push((name, param.lazy_shape().to_vec()));
    }
}

/// A parameter's values, and its gradient, in the host's memory.
pub(crate) struct Taken {
    name: String,
    values: TensorData,
    gradient: Option<TensorData>,
}

impl Taken {
    /// The parameter as an argument of the engine.
    pub(crate) fn parameter(&mut self) -> Result<Parameter<'_>> {
        match self.values.dtype() {
            DType::F32 => self.slices::<f32>(),
            DType::BF16 => self.slices::<bf16>(),
            DType::F64 => self.slices::<f64>(),
            dtype => Err(Error::ElementType { name: self.name.clone(), dtype }),
        }
    }

    fn slices<E: Number>(&mut self) -> Result<Parameter<'_>> {
        let Self { name, values, gradient } = self;
        let unreadable = |error: DataError| Error::Read { name: name.clone(), reason: error.to_string() };
        let parameter = Parameter::slice(values.as_mut_slice::<E>().map_err(unreadable)?, None);
        let Some(gradient) = gradient else { return Ok(parameter) };
        Ok(match gradient.dtype() {
            DType::F64 => parameter.with_gradient(gradient.as_slice::<f64>().map_err(unreadable)?),
            DType::BF16 => parameter.with_gradient(gradient.as_slice::<bf16>().map_err(unreadable)?),
            _ => parameter.with_gradient(gradient.as_slice::<f32>().map_err(unreadable)?),
        })
    }

    /// Moves the values, y, to x. `index` is the parameter's in the engine.
    pub(crate) fn evaluate<T: Real>(&mut self, engine: &Optimizer<T>, index: usize) -> Result<()> {
        match self.values.dtype() {
            DType::F32 => self.move_to_x::<T, f32>(engine, index),
            DType::BF16 => self.move_to_x::<T, bf16>(engine, index),
            DType::F64 => self.move_to_x::<T, f64>(engine, index),
            dtype => Err(Error::ElementType { name: self.name.clone(), dtype }),
        }
    }

    fn move_to_x<T: Real, E: Number>(&mut self, engine: &Optimizer<T>, index: usize) -> Result<()> {
        let unreadable =
            |error: DataError| Error::Read { name: self.name.clone(), reason: error.to_string() };
        let x = self.values.as_mut_slice::<E>().map_err(unreadable)?;
        let y = x.to_vec();
        Ok(engine.evaluation_point(index, &y, x)?)
    }
}

/// Type that both burn and the engine know.
trait Number: Scalar + burn::tensor::Element {}

impl Number for f32 {}
impl Number for bf16 {}
impl Number for f64 {}

/// A way to read parameters from a module.
pub(crate) trait Taking {
    /// A parameter and its gradient.
    type Taken;

    /// # Errors
    /// It cannot be read, or its type is not supported.
    fn take<const D: usize>(
        &mut self,
        name: &str,
        tensor: Tensor<D>,
        gradient: Option<Tensor<D>>,
    ) -> Result<Self::Taken>;

    /// Whether a later place of a parameter holds the values of its first.
    ///
    /// # Errors
    /// It cannot be read.
    fn is_same<const D: usize>(&mut self, name: &str, tensor: Tensor<D>, first: &Self::Taken)
    -> Result<bool>;
}

/// Takes the parameters of a module, and their gradients, in the order of `names`.
pub(crate) fn take_by<'a, K: Taking, M: Module>(
    taking: K,
    module: &M,
    gradients: GradientsParams,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<K::Taken>> {
    let mut taker = Taker {
        path: Vec::new(),
        gradients,
        taking,
        first: HashMap::new(),
        found: HashMap::new(),
        failed: None,
    };
    module.visit(&mut taker);
    if let Some(error) = taker.failed {
        return Err(error);
    }
    let (mut taken, mut expected) = (Vec::new(), Vec::new());
    for name in names {
        match taker.found.remove(name) {
            Some(found) => taken.push(found),
            None => expected.push(name.to_owned()),
        }
    }
    let mut found: Vec<String> = taker.found.into_keys().collect();
    found.sort();
    if found.is_empty() && expected.is_empty() {
        Ok(taken)
    } else {
        Err(Error::OtherParameters { found, expected })
    }
}

struct Taker<K: Taking> {
    path: Vec<String>,
    gradients: GradientsParams,
    taking: K,
    /// The first place of each parameter.
    first: HashMap<ParamId, String>,
    found: HashMap<String, K::Taken>,
    failed: Option<Error>,
}

impl<K: Taking> ModuleVisitor for Taker<K> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.join(".");
        let tensor = param.val();
        let taken = match self.first.get(&param.id) {
            Some(first) => {
                let Some(taken) = self.found.get(first) else { return };
                match self.taking.is_same(&name, tensor, taken) {
                    Ok(true) => return,
                    Ok(false) => Err(Error::Untied { first: first.clone(), second: name.clone() }),
                    Err(error) => Err(error),
                }
            }
            None => {
                self.first.insert(param.id, name.clone());
                let gradient = self.gradients.remove::<D>(param.id);
                self.taking.take(&name, tensor, gradient)
            }
        };
        match taken {
            Ok(taken) => {
                self.found.insert(name, taken);
            }
            Err(error) => self.failed = self.failed.take().or(Some(error)),
        }
    }
}

/// Takes parameters and gradients to the host's memory.
pub(crate) fn take<'a, T: Real, M: Module>(
    module: &M,
    gradients: GradientsParams,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<Taken>> {
    take_by(ToHost { type_of_gradient: type_of_gradient::<T> }, module, gradients, names)
}

struct ToHost {
    type_of_gradient: fn(DType) -> DType,
}

impl Taking for ToHost {
    type Taken = Taken;

    fn take<const D: usize>(
        &mut self,
        name: &str,
        tensor: Tensor<D>,
        gradient: Option<Tensor<D>>,
    ) -> Result<Taken> {
        let values = tensor.try_into_data().map_err(|error| unreadable(name, error))?;
        let gradient = gradient.map(|gradient| {
            let dtype = (self.type_of_gradient)(gradient.dtype());
            gradient.try_into_data_dtype(dtype)
        });
        let gradient = gradient.transpose().map_err(|error| unreadable(name, error))?;
        Ok(Taken { name: name.to_owned(), values, gradient })
    }

    fn is_same<const D: usize>(&mut self, name: &str, tensor: Tensor<D>, first: &Taken) -> Result<bool> {
        let values = tensor.try_into_data().map_err(|error| unreadable(name, error))?;
        Ok(is_same(&values, &first.values))
    }
}

fn unreadable(name: &str, reason: impl ToString) -> Error {
    Error::Read { name: name.to_owned(), reason: reason.to_string() }
}

fn is_same(a: &TensorData, b: &TensorData) -> bool {
    a.dtype() == b.dtype() && a.shape() == b.shape() && a.as_bytes() == b.as_bytes()
}

/// The module with these values.
pub(crate) fn put<M: Module>(module: M, taken: Vec<Taken>) -> M {
    put_values(module, taken.into_iter().map(|taken| (taken.name, taken.values)))
}

/// New values of a parameter.
pub(crate) trait Values {
    /// The values as a tensor on the device of `old`, with autodiff if that has it.
    fn into_tensor<const D: usize>(self, old: &Tensor<D>) -> Tensor<D>;
}

impl Values for TensorData {
    fn into_tensor<const D: usize>(self, old: &Tensor<D>) -> Tensor<D> {
        let dtype = self.dtype();
        Tensor::from_data(self, (&old.device(), dtype))
    }
}

/// The module with values by the names of parameters. A parameter in several places gets its value in all of
/// them.
pub(crate) fn put_values<M: Module, V: Values>(module: M, values: impl Iterator<Item = (String, V)>) -> M {
    let values = values.collect();
    module.map(&mut Putter { path: Vec::new(), values, placed: TensorContainer::new() })
}

struct Putter<V> {
    path: Vec<String>,
    values: HashMap<String, V>,
    placed: TensorContainer<ParamId>,
}

impl<V: Values> ModuleMapper for Putter<V> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, values) = (param.id, self.values.remove(&self.path.join(".")));
        let placed = self.placed.get::<Tensor<D>>(&id);
        param.map(|tensor| {
            let requires_gradient = tensor.is_require_grad();
            let moved = match (values, placed) {
                (Some(values), _) => {
                    let checkpointing = tensor.gradient_checkpointing_strategy();
                    let moved = values.into_tensor(&tensor);
                    let moved = match checkpointing {
                        Some(strategy) => moved.with_gradient_checkpointing_strategy(strategy),
                        None => moved,
                    };
                    moved.set_require_grad(requires_gradient)
                }
                // One tensor for all places, so that the gradients of all of them add up.
                (None, Some(placed)) if placed.is_require_grad() == requires_gradient => placed,
                (None, Some(placed)) => placed.set_require_grad(requires_gradient),
                (None, None) => tensor,
            };
            self.placed.register(id, moved.clone());
            moved
        })
    }
}
