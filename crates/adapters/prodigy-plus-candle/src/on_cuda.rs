//! Steps of variables on a CUDA device.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::cuda::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, SyncOnDrop};
use candle_core::cuda::{CudaStorage, CudaStorageSlice};
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Storage, Tensor, Var};
use gradient_cuda::{Cuda, CudaArray};
use gradient_transform::device::OnDevice;
use gradient_transform::{DType, Published, StepOutcome};
use prodigy_plus::Options;

use crate::error::Result;
use crate::in_place::{InPlace, Memory};
use crate::optimizer::VarOptimizer;

/// A [`VarOptimizer`] for variables on a CUDA device: they are stepped in their own memory, gradients are
/// read without a copy, and the state is on the device too. Only sums and numbers of a step are transferred.
///
/// Steps run on candle's stream of the device, after the backward pass and before candle's next operations.
/// candle's `Device::new_cuda` has a stream for each thread: step on the thread that made the gradients.
///
/// ```
/// use candle_core::{DType, Device};
/// use candle_nn::{Init, VarMap};
/// use prodigy_plus_candle::{OnCuda, ProdigyPlus, VarOptimizer};
///
/// let Ok(device) = Device::new_cuda(0) else { return Ok(()) }; // there is none
/// let map = VarMap::new();
/// let w = map.get((64, 64), "w", Init::Const(1.0), DType::F32, &device)?;
/// let optimizer = ProdigyPlus::from_varmap(&map, &Default::default())?;
/// let mut optimizer = OnCuda::new(optimizer, &device)?;
/// for _ in 0..3 {
///     optimizer.step(&w.sqr()?.sum_all()?.backward()?)?;
/// }
/// println!("d = {}", optimizer.engine().estimate(0)?.d);
///
/// let x = optimizer.evaluation_tensors()?; // through the host
/// assert!(x.contains_key("w"));
/// let optimizer: VarOptimizer = optimizer.into_host()?; // and on the processor from now on
/// assert_eq!(optimizer.engine().steps(0)?, 3);
/// # Ok::<(), prodigy_plus_candle::Error>(())
/// ```
pub struct OnCuda(InPlace<OfCandle>);

impl OnCuda {
    /// Moves an optimizer with its state to the device of its variables.
    ///
    /// # Errors
    /// [`Error::Elsewhere`](crate::Error::Elsewhere) for a variable on another device; [`NoFormula`](gradient_transform::Error::NoFormula) for a link that works on tiles, and
    /// what else [`OnDevice::new`] refuses; [`Error::Cuda`](crate::Error::Cuda).
    pub fn new(optimizer: VarOptimizer, device: &Device) -> Result<Self> {
        let stream = device.as_cuda_device()?.cuda_stream();
        let executor = Cuda::on_stream(Arc::clone(&stream))?;
        Ok(Self(InPlace::new(optimizer, executor, OfCandle { stream })?))
    }

    /// As [`VarOptimizer::step`], in the variables' own memory.
    ///
    /// # Errors
    /// As there, also [`Error::Elsewhere`](crate::Error::Elsewhere) for a gradient on another device, and [`Error::SharedMemory`](crate::Error::SharedMemory) for one in a variable's memory.
    /// Nothing has moved then. After an error of the device, variables may have moved, and the optimizer
    /// makes no more steps: resume from the last saved variables and state.
    pub fn step(&mut self, gradients: &GradStore) -> Result<StepOutcome> {
        self.0.step_by(gradients, |engine, parameters| engine.step(parameters))
    }

    /// As [`VarOptimizer::step_with`].
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_with(&mut self, given: impl Published, gradients: &GradStore) -> Result<StepOutcome> {
        self.0.step_by(gradients, |engine, parameters| engine.step_with(given, parameters))
    }

    /// As [`VarOptimizer::evaluation_tensors`]. Variables and state are copied to the host for it, and x is
    /// copied back.
    ///
    /// # Errors
    /// The device's.
    pub fn evaluation_tensors(&mut self) -> Result<HashMap<String, Tensor>> {
        self.0.evaluation_tensors()
    }

    /// As [`VarOptimizer::save_state`], the same file. To resume from it, on the processor or here, use
    /// [`VarOptimizer::load_state`].
    ///
    /// # Errors
    /// The device's; the file cannot be written. An earlier file stays intact then.
    pub fn save_state(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.0.save_state(path)
    }

    /// Moves the state to the host. The variables stay on the device.
    ///
    /// # Errors
    /// The device's; the state is lost then.
    pub fn into_host(self) -> Result<VarOptimizer> {
        self.0.into_host()
    }

    /// Engine of the steps: for d and the step size.
    pub fn engine(&self) -> &OnDevice<Cuda> {
        &self.0.engine
    }

    /// Engine of the steps, for its executor, a snapshot, reading its state, and changing a group's own
    /// learning rate.
    pub fn engine_mut(&mut self) -> &mut OnDevice<Cuda> {
        &mut self.0.engine
    }

    /// The variables that are stepped and their names, in the engine's order.
    pub fn variables(&self) -> &[(String, Var)] {
        &self.0.variables
    }

    /// The integer variables among those passed, by name: they have no gradients, so they are not
    /// stepped.
    pub fn left_out(&self) -> &[(String, Var)] {
        &self.0.left_out
    }
}

/// As [`VarOptimizer`]'s, on the device of the first variable.
impl candle_nn::Optimizer for OnCuda {
    type Config = Options;

    fn new(vars: Vec<Var>, config: Options) -> candle_core::Result<Self> {
        let Some(device) = vars.first().map(|var| var.device().clone()) else {
            candle_core::bail!("there are no variables, so the device of the steps is unknown");
        };
        Ok(OnCuda::new(VarOptimizer::new(vars, config)?, &device)?)
    }

    fn step(&mut self, gradients: &GradStore) -> candle_core::Result<()> {
        OnCuda::step(self, gradients)?;
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.0.learning_rate
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.0.learning_rate = lr;
    }
}

/// candle's memory on a device, used on this stream.
struct OfCandle {
    stream: Arc<CudaStream>,
}

impl Memory for OfCandle {
    type Executor = Cuda;
    /// Lets other streams wait for this one's reading.
    type Held<'a> = SyncOnDrop<'a>;

    fn array<'a>(
        &'a self,
        storage: &'a Storage,
        elements: Range<usize>,
    ) -> Result<(CudaArray, SyncOnDrop<'a>), String> {
        let Storage::Cuda(CudaStorage { slice, device }) = storage else {
            return Err(format!("it is on {:?}", storage.device().location()));
        };
        if device.cuda_stream() != self.stream {
            return Err(format!("it is on another stream, of {:?}", storage.device().location()));
        }
        match slice {
            CudaStorageSlice::F32(slice) => borrowed(slice, DType::F32, elements, &self.stream),
            CudaStorageSlice::BF16(slice) => borrowed(slice, DType::Bf16, elements, &self.stream),
            _ => Err(format!("its memory has {:?} in it", storage.dtype())),
        }
    }

    fn begin(&self, var: &Var) -> candle_core::Result<()> {
        var.inplace_op1(&Ordered(&self.stream))
    }

    fn end(&self, var: &Var, _array: CudaArray) -> candle_core::Result<()> {
        var.inplace_op1(&Ordered(&self.stream))
    }
}

#[allow(unsafe_code)] // memory that gradient-cuda did not allocate
fn borrowed<'a, T>(
    slice: &'a CudaSlice<T>,
    dtype: DType,
    elements: Range<usize>,
    stream: &'a CudaStream,
) -> Result<(CudaArray, SyncOnDrop<'a>), String> {
    if elements.end > slice.len() {
        return Err(format!("its memory has {} elements", slice.len()));
    }
    let (address, held) = slice.device_ptr(stream);
    let address = address + (elements.start * dtype.size()) as u64;
    // SAFETY: `elements` are within the slice, which candle allocated for elements of this type on the device of the stream. The caller of `array` has
    // locked its storage and uses the array no longer than that, so the memory is neither freed nor, by candle, written meanwhile; what is freed later is
    // freed in the order of the stream. candle's streams of other threads and devices are kept in order by events, which `Ordered` and `held` are for.
    Ok((unsafe { CudaArray::borrowed(address, dtype, elements.len()) }, held))
}

/// Orders a stream's writing to a storage with other streams' operations on it: it waits for earlier ones,
/// and later ones wait for it. With one stream, this does nothing.
struct Ordered<'a>(&'a CudaStream);

impl InplaceOp1 for Ordered<'_> {
    fn name(&self) -> &'static str {
        "ordered"
    }

    fn cpu_fwd(&self, _storage: &mut CpuStorage, _layout: &Layout) -> candle_core::Result<()> {
        Ok(())
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, _layout: &Layout) -> candle_core::Result<()> {
        match &mut storage.slice {
            CudaStorageSlice::F32(slice) => drop(slice.device_ptr_mut(self.0)),
            CudaStorageSlice::BF16(slice) => drop(slice.device_ptr_mut(self.0)),
            _ => {}
        }
        Ok(())
    }
}
