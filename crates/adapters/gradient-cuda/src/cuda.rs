//! The device.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, CudaView, DeviceRepr, ValidAsZeroBits,
};
use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use gradient_transform::device::{Executor, Product, ProductArrays, SweepBatch, SweepFormula, TensorSweep};
use gradient_transform::{Buffer, DType};
use sweep_kernels::{
    Launch, Layout, SUPPORT, Tables, Types, USABLE, by_types, kernels, product, usable_tables, words,
};

use crate::array::{CudaArray, Memory};
use crate::error::CudaError;
use crate::launch::{Arguments, download_borrowed, launch, libraries_are_present};

/// Every so-manyth element of an array of float32: addresses of the array and of the copy, distance.
const SAMPLE: &str = "\
KERNEL sample(ARGUMENTS) {
    (void)along; (void)jobs; (void)doubles; (void)floats;
    const u64 *w = words;
    const float *array = ARRAY(const float, 0);
    float *copy = ARRAY(float, 1);
    FOR_THREADS(job, count) copy[job] = array[job * w[2]];
}
";

/// A CUDA device, and the kernels that were compiled for it.
#[derive(Debug)]
pub struct Cuda {
    stream: Arc<CudaStream>,
    /// Kernels that were compiled, by their text.
    compiled: HashMap<String, Arc<HashMap<String, CudaFunction>>>,
    programs: Vec<Program>,
    usable_tables: Vec<(Vec<usize>, Arc<Prepared>)>,
    memory: Workspace,
    launches: u64,
    waits: u64,
    transferred: u64,
}

/// Kernels of a formula, for arrays of certain types.
#[derive(Debug)]
struct Program {
    formula: Arc<SweepFormula>,
    types: Types,
    kernels: Arc<HashMap<String, CudaFunction>>,
    /// For the shapes of tensors that it was given: where their elements are.
    tables: Vec<(Vec<Vec<usize>>, Arc<Prepared>)>,
}

/// Tables on the device.
#[derive(Debug)]
struct Prepared {
    tables: Tables,
    jobs: CudaSlice<u32>,
}

/// A sweep over tensors with the same formula and types: what is launched, and its parts of the workspace.
#[derive(Debug)]
struct Call<'s, 't> {
    program: usize,
    prepared: Arc<Prepared>,
    tensors: &'s mut [TensorSweep<'t, f32, CudaArray>],
    words_at: usize,
    along_at: usize,
    doubles: usize,
    floats: usize,
}

/// Memory that is used again from sweep to sweep.
#[derive(Debug)]
struct Workspace {
    words: CudaSlice<u64>,
    along: CudaSlice<f32>,
    doubles: CudaSlice<f64>,
    floats: CudaSlice<f32>,
}

impl Cuda {
    /// Device number `ordinal` of the machine, counted from 0, on its default stream.
    ///
    /// # Errors
    /// [`CudaError::Missing`] without a driver or NVRTC; [`CudaError::Driver`] without such a device.
    pub fn new(ordinal: usize) -> Result<Self, CudaError> {
        if !libraries_are_present() {
            return Err(CudaError::Missing);
        }
        let context = CudaContext::new(ordinal)?;
        Self::on_stream(context.default_stream())
    }

    /// The device of a stream of others: steps are in order with what they put there.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use cudarc::driver::CudaStream;
    /// use gradient_cuda::{Cuda, CudaError};
    ///
    /// fn beside_training(stream: Arc<CudaStream>) -> Result<Cuda, CudaError> {
    ///     Cuda::on_stream(stream)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`CudaError::Driver`].
    pub fn on_stream(stream: Arc<CudaStream>) -> Result<Self, CudaError> {
        let memory = Workspace {
            words: stream.alloc_zeros(1)?,
            along: stream.alloc_zeros(1)?,
            doubles: stream.alloc_zeros(1)?,
            floats: stream.alloc_zeros(1)?,
        };
        Ok(Self {
            stream,
            compiled: HashMap::new(),
            programs: Vec::new(),
            usable_tables: Vec::new(),
            memory,
            launches: 0,
            waits: 0,
            transferred: 0,
        })
    }

    /// Launches of kernels so far.
    pub fn launches(&self) -> u64 {
        self.launches
    }

    /// Times that the host has waited for the device so far: for sums, for the check of gradients, and for arrays.
    pub fn waits(&self) -> u64 {
        self.waits
    }

    /// Bytes that went from the host to the device or back so far: arrays that were uploaded and downloaded, and in every step the tables
    /// and numbers of a sweep, and its sums.
    pub fn transferred_bytes(&self) -> u64 {
        self.transferred
    }

    /// Waits until all that was launched is done.
    ///
    /// # Errors
    /// [`CudaError::Driver`].
    pub fn synchronize(&self) -> Result<(), CudaError> {
        Ok(self.stream.synchronize()?)
    }

    /// The kernels of a text, by their names.
    fn compile(&mut self, text: &str) -> Result<Arc<HashMap<String, CudaFunction>>, CudaError> {
        if let Some(known) = self.compiled.get(text) {
            return Ok(Arc::clone(known));
        }
        let (major, minor) = self.stream.context().compute_capability()?;
        let architecture = format!("--gpu-architecture=compute_{major}{minor}");
        // A multiplication and an addition are two operations, as on the processor.
        let options = CompileOptions { fmad: Some(false), options: vec![architecture], ..Default::default() };
        let source = format!("{SUPPORT}\n{text}");
        let module = self.stream.context().load_module(compile_ptx_with_opts(&source, options)?)?;
        let names = source.split("\nKERNEL ").skip(1).filter_map(|kernel| kernel.split('(').next());
        let functions = names.map(|name| Ok((name.to_owned(), module.load_function(name)?)));
        let made = Arc::new(functions.collect::<Result<_, CudaError>>()?);
        self.compiled.insert(text.to_owned(), Arc::clone(&made));
        Ok(made)
    }

    fn program(&mut self, formula: &Arc<SweepFormula>, types: &Types) -> Result<usize, CudaError> {
        let known = |program: &Program| Arc::ptr_eq(&program.formula, formula) && program.types == *types;
        if let Some(known) = self.programs.iter().position(known) {
            return Ok(known);
        }
        if [types.gradient, types.parameter].contains(&DType::F64) {
            return Err(CudaError::Float64);
        }
        let kernels = self.compile(&kernels(formula, types))?;
        let (formula, types) = (Arc::clone(formula), types.clone());
        self.programs.push(Program { formula, types, kernels, tables: Vec::new() });
        Ok(self.programs.len() - 1)
    }

    fn prepared(&mut self, program: usize, shapes: &[&[usize]]) -> Result<Arc<Prepared>, CudaError> {
        let Self { stream, programs, transferred, .. } = self;
        let Program { formula, tables, .. } = &mut programs[program];
        if let Some((_, known)) = tables.iter().find(|(known, _)| known == shapes) {
            return Ok(Arc::clone(known));
        }
        let made = Tables::new(formula, shapes);
        *transferred += size_of_val(&*made.jobs) as u64;
        let prepared = Arc::new(Prepared { jobs: upload(stream, &made.jobs)?, tables: made });
        tables.push((shapes.iter().map(|shape| shape.to_vec()).collect(), Arc::clone(&prepared)));
        Ok(prepared)
    }

    /// Launches the kernels of all batches, and waits for their sums once.
    fn run(&mut self, batches: &mut [SweepBatch<'_, f32, CudaArray>]) -> Result<(), CudaError> {
        let (mut calls, mut doubles, mut floats) = (Vec::new(), 0, 0);
        let (mut all_words, mut all_along) = (Vec::new(), Vec::new());
        for SweepBatch { formula, tensors } in batches {
            for (types, tensors) in by_types::<Self>(tensors) {
                let program = self.program(formula, &types)?;
                let shapes: Vec<&[usize]> = tensors.iter().map(|tensor| tensor.shape).collect();
                let prepared = self.prepared(program, &shapes)?;
                let layout = Layout::of(formula, types.columns.len());
                let (words, along) = words(formula, &layout, tensors, CudaArray::address);
                let after = [doubles + prepared.tables.doubles, floats + prepared.tables.floats];
                let (words_at, along_at) = (all_words.len(), all_along.len());
                calls.push(Call { program, prepared, tensors, words_at, along_at, doubles, floats });
                all_words.extend(words);
                all_along.extend(along);
                [doubles, floats] = after;
            }
        }
        let Self { stream, programs, memory, launches, waits, transferred, .. } = self;
        fill(stream, &mut memory.words, &all_words)?;
        fill(stream, &mut memory.along, &all_along)?;
        *transferred += (size_of_val(&*all_words) + size_of_val(&*all_along)) as u64;
        reserve(stream, &mut memory.doubles, doubles)?;
        reserve(stream, &mut memory.floats, floats)?;
        for Call { program, prepared, words_at, along_at, doubles, floats, .. } in &calls {
            let mut arguments = Arguments {
                words: memory.words.slice(*words_at..),
                along: memory.along.slice(*along_at..),
                jobs: &prepared.jobs,
                doubles: memory.doubles.slice_mut(*doubles..),
                floats: memory.floats.slice_mut(*floats..),
            };
            for call in &prepared.tables.launches {
                let kernel = &programs[*program].kernels[&call.kernel];
                launch(stream, kernel, [call.first, call.count], threads(call), &mut arguments)?;
                *launches += 1;
            }
        }
        let mut results = Vec::new();
        for Call { prepared, doubles, floats, .. } in &calls {
            let (range, along) = (prepared.tables.results(), prepared.tables.results_along());
            let sums = memory.doubles.slice(doubles + range.start..doubles + range.end);
            let sums_along = memory.floats.slice(*floats..floats + along);
            results.push((download(stream, &sums)?, download(stream, &sums_along)?));
        }
        if results.iter().all(|(sums, along)| sums.is_empty() && along.is_empty()) {
            return Ok(());
        }
        stream.synchronize()?;
        *waits += 1;
        for (Call { prepared, tensors, .. }, (sums, sums_along)) in calls.into_iter().zip(results) {
            *transferred += (size_of_val(&*sums) + size_of_val(&*sums_along)) as u64;
            prepared.tables.put(&sums, &sums_along, tensors);
        }
        Ok(())
    }

    fn multiply_all(
        &mut self,
        product: &Product,
        tensors: &[ProductArrays<'_, CudaArray>],
    ) -> Result<(), CudaError> {
        let count = product::jobs(product, tensors.len(), product::SIDE);
        if count == 0 {
            return Ok(());
        }
        let kernels = self.compile(product::MULTIPLY)?;
        let words = product::words(product, tensors, CudaArray::address);
        let Self { stream, memory, launches, transferred, .. } = self;
        let Workspace { words: on_device, along, doubles, floats } = memory;
        fill(stream, on_device, &words)?;
        let jobs = stream.alloc_zeros(1)?; // which the kernel does not read
        let mut arguments = Arguments::of(on_device, along, &jobs, doubles, floats);
        launch(stream, &kernels["multiply"], [0, count], 256, &mut arguments)?;
        *launches += 1;
        *transferred += size_of_val(&*words) as u64;
        Ok(())
    }
}

impl Executor for Cuda {
    type Array = CudaArray;
    type Error = CudaError;

    fn len(array: &CudaArray) -> usize {
        array.len
    }

    fn dtype(array: &CudaArray) -> DType {
        array.dtype()
    }

    fn memory(array: &CudaArray) -> Option<(u64, Range<u64>)> {
        let first = array.address();
        Some((0, first..first + (array.len * array.dtype().size()) as u64))
    }

    fn has_float64(&self) -> bool {
        true
    }

    fn propagates_non_finite(&self) -> bool {
        true
    }

    fn upload(&mut self, values: Buffer) -> Result<CudaArray, CudaError> {
        let len = values.len();
        let memory = match &values {
            Buffer::F32(values) => Memory::F32(upload(&self.stream, values)?),
            Buffer::Bf16(values) => Memory::Bf16(upload(&self.stream, values)?),
            Buffer::F64(_) => return Err(CudaError::Float64),
        };
        // The copy may still be under way, and the values go.
        self.stream.synchronize()?;
        self.waits += 1;
        self.transferred += bytes(&values);
        Ok(CudaArray { memory, len })
    }

    fn zeros(&mut self, dtype: DType, len: usize) -> Result<CudaArray, CudaError> {
        let memory = match dtype {
            DType::F32 => Memory::F32(self.stream.alloc_zeros(len.max(1))?),
            DType::Bf16 => Memory::Bf16(self.stream.alloc_zeros(len.max(1))?),
            DType::F64 => return Err(CudaError::Float64),
        };
        Ok(CudaArray { memory, len })
    }

    fn download(&mut self, array: &CudaArray) -> Result<Buffer, CudaError> {
        let stream = &self.stream;
        let mut values = match &array.memory {
            Memory::F32(slice) => Buffer::F32(stream.clone_dtoh(slice)?),
            Memory::Bf16(slice) => Buffer::Bf16(stream.clone_dtoh(slice)?),
            Memory::Borrowed { address, dtype } => download_borrowed(stream, *address, *dtype, array.len)?,
        };
        stream.synchronize()?;
        self.waits += 1;
        match &mut values {
            Buffer::F32(values) => values.truncate(array.len),
            Buffer::Bf16(values) => values.truncate(array.len),
            Buffer::F64(values) => values.truncate(array.len),
        }
        self.transferred += bytes(&values);
        Ok(values)
    }

    fn sample(
        &mut self,
        array: &CudaArray,
        every: usize,
        dtype: DType,
    ) -> Result<Option<CudaArray>, CudaError> {
        // Of bfloat16, a copy may have to be rounded.
        if [array.dtype(), dtype] != [DType::F32; 2] {
            return Ok(None);
        }
        let len = array.len.div_ceil(every);
        let copy = Self::zeros(self, dtype, len)?;
        if len == 0 {
            return Ok(Some(copy));
        }
        let kernels = self.compile(SAMPLE)?;
        let words = [array.address(), copy.address(), every as u64];
        let Self { stream, memory, launches, transferred, .. } = self;
        let Workspace { words: on_device, along, doubles, floats } = memory;
        fill(stream, on_device, &words)?;
        let jobs = stream.alloc_zeros(1)?; // which the kernel does not read
        let mut arguments = Arguments::of(on_device, along, &jobs, doubles, floats);
        launch(stream, &kernels["sample"], [0, len], 1, &mut arguments)?;
        *launches += 1;
        *transferred += size_of_val(&words) as u64;
        Ok(Some(copy))
    }

    fn usable(&mut self, gradients: &[&CudaArray], limit: f64) -> Result<Vec<bool>, CudaError> {
        let lens: Vec<usize> = gradients.iter().map(|gradient| gradient.len).collect();
        let kernels = self.compile(USABLE)?;
        let prepared = match self.usable_tables.iter().find(|(known, _)| *known == lens) {
            Some((_, prepared)) => Arc::clone(prepared),
            None => {
                let tables = usable_tables(&lens);
                self.transferred += size_of_val(&*tables.jobs) as u64;
                let made = Arc::new(Prepared { jobs: upload(&self.stream, &tables.jobs)?, tables });
                self.usable_tables.push((lens.clone(), Arc::clone(&made)));
                made
            }
        };
        let narrow = |array: &CudaArray| u64::from(array.dtype() == DType::Bf16);
        let words: Vec<u64> = gradients
            .iter()
            .flat_map(|array| {
                [array.len as u64, array.address(), narrow(array), u64::from((limit as f32).to_bits())]
            })
            .collect();
        let Self { stream, memory, launches, waits, transferred, .. } = self;
        let Workspace { words: on_device, along, doubles, floats } = memory;
        fill(stream, on_device, &words)?;
        *transferred += size_of_val(&*words) as u64;
        reserve(stream, floats, lens.len())?;
        stream.memset_zeros(floats)?;
        let mut arguments = Arguments::of(on_device, along, &prepared.jobs, doubles, floats);
        for call in &prepared.tables.launches {
            launch(stream, &kernels[&call.kernel], [call.first, call.count], threads(call), &mut arguments)?;
            *launches += 1;
        }
        let found = stream.clone_dtoh(&floats.slice(..lens.len()))?;
        stream.synchronize()?;
        *waits += 1;
        *transferred += size_of_val(&*found) as u64;
        Ok(found.into_iter().map(|found| found == 0.0).collect())
    }

    fn sweep(&mut self, batches: &mut [SweepBatch<'_, f32, CudaArray>]) -> Result<(), CudaError> {
        self.run(batches)
    }

    fn multiply(
        &mut self,
        product: &Product,
        tensors: &mut [ProductArrays<'_, CudaArray>],
    ) -> Option<Result<(), CudaError>> {
        Some(self.multiply_all(product, tensors))
    }
}

/// Threads for a job.
fn threads(launch: &Launch) -> u64 {
    if launch.by_warps { 32 } else { 1 }
}

/// Size of an array.
fn bytes(values: &Buffer) -> u64 {
    (values.len() * values.dtype().size()) as u64
}

/// An array on the device; never without memory.
fn upload<V: DeviceRepr + ValidAsZeroBits>(
    stream: &Arc<CudaStream>,
    values: &[V],
) -> Result<CudaSlice<V>, CudaError> {
    Ok(if values.is_empty() { stream.alloc_zeros(1)? } else { stream.clone_htod(values)? })
}

/// Copies values to the beginning of an array, which grows if it is too short.
fn fill<V: DeviceRepr + ValidAsZeroBits>(
    stream: &Arc<CudaStream>,
    array: &mut CudaSlice<V>,
    values: &[V],
) -> Result<(), CudaError> {
    if values.is_empty() {
        return Ok(());
    }
    reserve(stream, array, values.len())?;
    Ok(stream.memcpy_htod(values, &mut array.slice_mut(..values.len()))?)
}

/// The values of a part of an array.
fn download<V: DeviceRepr>(stream: &Arc<CudaStream>, part: &CudaView<'_, V>) -> Result<Vec<V>, CudaError> {
    Ok(if part.is_empty() { Vec::new() } else { stream.clone_dtoh(part)? })
}

/// Has an array be at least so long.
fn reserve<V: DeviceRepr + ValidAsZeroBits>(
    stream: &Arc<CudaStream>,
    array: &mut CudaSlice<V>,
    len: usize,
) -> Result<(), CudaError> {
    if array.len() < len {
        *array = stream.alloc_zeros(len)?;
    }
    Ok(())
}
