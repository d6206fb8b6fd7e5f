//! A module's parameters, out of it and back into it.

use std::collections::{HashMap, HashSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::container::TensorContainer;
use burn::tensor::{DType, DataError, Tensor, TensorData};
use gradient_transform::{Optimizer, Parameter, Real, Scalar};
use half::bf16;

use crate::error::{Error, Result};

/// Names and shapes of a module's float parameters, in its order. A parameter in several places, as tied weights are, is one, and has
/// the name of its first place.
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

/// Refuses what cannot be computed with in `T`, as far as it is initialised: burn initialises in the order of use, which draws
/// from one random stream.
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

/// The type that a gradient is taken in: its own, if the engine takes that.
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
    /// As the engine takes it.
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

/// Takes the parameters of a module, and their gradients, in the order of `names`.
pub(crate) fn take<'a, T: Real, M: Module>(
    module: &M,
    gradients: GradientsParams,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<Taken>> {
    let mut taker = Taker {
        path: Vec::new(),
        gradients,
        type_of_gradient: type_of_gradient::<T>,
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

struct Taker {
    path: Vec<String>,
    gradients: GradientsParams,
    type_of_gradient: fn(DType) -> DType,
    /// The first place of each parameter.
    first: HashMap<ParamId, String>,
    found: HashMap<String, Taken>,
    failed: Option<Error>,
}

impl ModuleVisitor for Taker {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.join(".");
        let tensor = param.val();
        if let Some(first) = self.first.get(&param.id) {
            let error = match (tensor.try_into_data(), self.found.get(first)) {
                (Ok(values), Some(taken)) if !is_same(&values, &taken.values) => {
                    Error::Untied { first: first.clone(), second: name }
                }
                (Err(error), _) => Error::Read { name, reason: error.to_string() },
                _ => return,
            };
            self.failed = self.failed.take().or(Some(error));
            return;
        }
        self.first.insert(param.id, name.clone());
        let gradient = self.gradients.remove::<D>(param.id);
        let read = || -> Result<Taken, String> {
            let values = tensor.try_into_data().map_err(|error| error.to_string())?;
            let gradient = gradient.map(|gradient| {
                let dtype = (self.type_of_gradient)(gradient.dtype());
                gradient.try_into_data_dtype(dtype)
            });
            let gradient = gradient.transpose();
            Ok(Taken { name: name.clone(), values, gradient: gradient.map_err(|error| error.to_string())? })
        };
        match read() {
            Ok(taken) => {
                self.found.insert(name, taken);
            }
            Err(reason) => self.failed = self.failed.take().or(Some(Error::Read { name, reason })),
        }
    }
}

fn is_same(a: &TensorData, b: &TensorData) -> bool {
    a.dtype() == b.dtype() && a.shape() == b.shape() && a.as_bytes() == b.as_bytes()
}

/// The module with these values, which a parameter in several places gets in all of them.
pub(crate) fn put<M: Module>(module: M, taken: Vec<Taken>) -> M {
    let values = taken.into_iter().map(|taken| (taken.name, taken.values)).collect();
    module.map(&mut Putter { path: Vec::new(), values, placed: TensorContainer::new() })
}

struct Putter {
    path: Vec<String>,
    values: HashMap<String, TensorData>,
    placed: TensorContainer<ParamId>,
}

impl ModuleMapper for Putter {
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
                    let dtype = values.dtype();
                    let checkpointing = tensor.gradient_checkpointing_strategy();
                    let moved = Tensor::from_data(values, (&tensor.device(), dtype));
                    let moved = match checkpointing {
                        Some(strategy) => moved.with_gradient_checkpointing_strategy(strategy),
                        None => moved,
                    };
                    moved.set_require_grad(requires_gradient)
                }
                // One tensor for all places: only so do the gradients of all of them add up.
                (None, Some(placed)) if placed.is_require_grad() == requires_gradient => placed,
                (None, Some(placed)) => placed.set_require_grad(requires_gradient),
                (None, None) => tensor,
            };
            self.placed.register(id, moved.clone());
            moved
        })
    }
}
