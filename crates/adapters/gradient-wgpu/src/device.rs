//! The device.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use gradient_transform::device::{Executor, Product, ProductArrays, SweepBatch, SweepFormula, TensorSweep};
use gradient_transform::{Buffer, DType};
use half::bf16;
use sweep_kernels::wgsl::{self, Bindings, FIRST_BUFFER};
use sweep_kernels::{Layout, Tables, Types, by_key, product, usable_tables, words};

use crate::array::{self, WgpuArray};
use crate::error::WgpuError;
use crate::memory::{Memory, largest};
use crate::multiply::Multiplying;
use crate::program::{Arguments, Kernels, Prepared, Program};
use crate::sample::{Sampling, Words};
use crate::transfer::{Part, Parts, submit_and_read};

/// Tables of a kernel that are kept. Arrays of the caller's that are in other buffers in every step have others each time.
const KEPT_TABLES: usize = 64;

/// A device of wgpu, and the kernels that were compiled for it.
#[derive(Debug)]
pub struct Wgpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    memory: Memory,
    programs: Vec<Program>,
    usable: Option<Kernels>,
    sampling: Option<Sampling>,
    multiplying: Multiplying,
    usable_tables: Vec<(Vec<usize>, Arc<Prepared>)>,
    workspace: Workspace,
    launches: u64,
    waits: u64,
    transferred: u64,
    /// Why the device is lost.
    lost: Arc<Mutex<Option<String>>>,
}

/// A sweep over tensors with the same formula, types and buffers: what is launched, and its parts of the workspace.
struct Call<'s, 't> {
    program: usize,
    prepared: Arc<Prepared>,
    buffers: Vec<wgpu::Buffer>,
    tensors: &'s mut [TensorSweep<'t, f32, WgpuArray>],
    words: (Vec<u64>, Range<u64>),
    along: (Vec<f32>, Range<u64>),
    tiles: Range<u64>,
    floats: Range<u64>,
}

/// The next free place of each buffer of the workspace.
struct Places {
    words: Parts,
    along: Parts,
    tiles: Parts,
    floats: Parts,
}

/// Buffers that are used again from sweep to sweep.
#[derive(Debug)]
struct Workspace {
    words: wgpu::Buffer,
    along: wgpu::Buffer,
    tiles: wgpu::Buffer,
    floats: wgpu::Buffer,
}

impl Wgpu {
    /// The fastest adapter of the machine that the environment allows (`WGPU_BACKEND` names Vulkan, Metal or DirectX 12).
    ///
    /// # Errors
    /// [`WgpuError::NoAdapter`]; [`WgpuError::NoDevice`].
    pub fn new() -> Result<Self, WgpuError> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        }))?;
        // All that it has: buffers may be large, and of a stage there may be many.
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("gradient-wgpu"),
            required_limits: adapter.limits(),
            ..Default::default()
        }))?;
        let made = Self::on_device(device, queue);
        let lost = Arc::clone(&made.lost);
        made.device.set_device_lost_callback(move |_, reason| {
            *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        });
        Ok(made)
    }

    /// A device of the caller's, with its queue: steps are in order with what is submitted there.
    ///
    /// ```
    /// use gradient_wgpu::Wgpu;
    ///
    /// fn beside_training(device: &wgpu::Device, queue: &wgpu::Queue) -> Wgpu {
    ///     Wgpu::on_device(device.clone(), queue.clone())
    /// }
    /// ```
    pub fn on_device(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let workspace = Workspace {
            words: table(&device, 8),
            along: table(&device, 4),
            tiles: table(&device, 4),
            floats: table(&device, 4),
        };
        Self {
            device,
            queue,
            memory: Memory::default(),
            programs: Vec::new(),
            usable: None,
            sampling: None,
            multiplying: Multiplying::default(),
            usable_tables: Vec::new(),
            workspace,
            launches: 0,
            waits: 0,
            transferred: 0,
            lost: Arc::default(),
        }
    }

    /// The device, for kernels and buffers of the caller's.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// Its queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
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

    /// Memory for so many words of 32 bits in one buffer, if the device's own buffers have no such place yet. A sweep has a launch for all tensors whose arrays
    /// lie in the same buffers. Without this, the first buffer has 64 MiB, and each one behind it twice as much.
    ///
    /// # Errors
    /// [`WgpuError::OutOfMemory`]; [`WgpuError::TooLarge`].
    pub fn reserve(&mut self, words: usize) -> Result<(), WgpuError> {
        self.checked(|wgpu| wgpu.memory.reserve(&wgpu.device, words))
    }

    /// Waits until all that was launched is done.
    ///
    /// # Errors
    /// [`WgpuError::Lost`].
    pub fn synchronize(&self) -> Result<(), WgpuError> {
        let waited = self.device.poll(wgpu::PollType::wait_indefinitely());
        waited.map(drop).map_err(|error| WgpuError::Lost { reason: error.to_string() })
    }

    /// Does something, and gives the errors that wgpu would otherwise end the program with.
    fn checked<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R, WgpuError>) -> Result<R, WgpuError> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        self.check_lost()?;
        let scopes = [Validation, OutOfMemory, Internal].map(|kind| self.device.push_error_scope(kind));
        let result = work(self);
        let mut found = None;
        for scope in scopes.into_iter().rev() {
            found = pollster::block_on(scope.pop()).or(found);
        }
        self.check_lost()?;
        match found {
            Some(error) => Err(error.into()),
            None => result,
        }
    }

    fn check_lost(&self) -> Result<(), WgpuError> {
        match &*self.lost.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => Err(WgpuError::Lost { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn allocate(&mut self, dtype: DType, len: usize, wide: bool) -> Result<WgpuArray, WgpuError> {
        if dtype == DType::F64 {
            return Err(WgpuError::Float64);
        }
        let place = self.memory.allocate(&self.device, array::words(dtype, len, wide))?;
        Ok(WgpuArray::new(place, dtype, len, wide))
    }

    fn upload_as(&mut self, values: &Buffer, wide: bool) -> Result<WgpuArray, WgpuError> {
        let array = self.allocate(values.dtype(), values.len(), wide)?;
        let words: Vec<u32> = match values {
            Buffer::F32(values) => values.iter().map(|x| x.to_bits()).collect(),
            Buffer::Bf16(values) if wide => values.iter().map(|x| x.to_f32().to_bits()).collect(),
            Buffer::Bf16(values) => {
                let half = |x: Option<&bf16>| x.map_or(0, |x| u32::from(x.to_bits()));
                values.chunks(2).map(|pair| half(pair.first()) | half(pair.get(1)) << 16).collect()
            }
            Buffer::F64(_) => return Err(WgpuError::Float64),
        };
        if !words.is_empty() {
            self.queue.write_buffer(array.buffer(), array.offset(), bytemuck::cast_slice(&words));
            self.transferred += size_of_val(&*words) as u64;
        }
        Ok(array)
    }

    fn download_from(&mut self, array: &WgpuArray) -> Result<Buffer, WgpuError> {
        if !array.buffer().usage().contains(wgpu::BufferUsages::COPY_SRC) {
            let (len, offset) = (array.len, array.offset());
            return Err(WgpuError::Buffer { len, offset, reason: "the buffer's usage lacks COPY_SRC" });
        }
        let bytes = 4 * array.words() as u64;
        let part = Part { buffer: array.buffer(), offset: array.offset(), bytes };
        self.transferred += bytes;
        self.waits += 1;
        let read = submit_and_read(&self.device, &self.queue, self.encoder(), &[part])?;
        let words = read.into_iter().flatten();
        let halves = |word: u32| [word as u16, (word >> 16) as u16];
        let float = f32::from_bits;
        Ok(match array.dtype {
            DType::Bf16 if array.wide => Buffer::Bf16(words.map(|x| bf16::from_f32(float(x))).collect()),
            DType::Bf16 => {
                Buffer::Bf16(words.flat_map(halves).take(array.len).map(bf16::from_bits).collect())
            }
            _ => Buffer::F32(words.map(float).collect()),
        })
    }

    fn sample_words(&mut self, array: &WgpuArray, every: usize) -> Result<WgpuArray, WgpuError> {
        let copy = self.allocate(DType::F32, array.len.div_ceil(every), false)?;
        self.check_sizes(&[array.buffer().clone(), copy.buffer().clone()])?;
        if copy.len > 0 {
            let mut encoder = self.encoder();
            let Self { device, queue, sampling, launches, .. } = self;
            let sampling = sampling.get_or_insert_with(|| Sampling::new(device));
            let words = [array, &copy].map(|array| Words { buffer: array.buffer(), first: array.word() });
            sampling.encode(device, queue, &mut encoder, words, every, copy.len);
            queue.submit([encoder.finish()]);
            *launches += 1;
        }
        Ok(copy)
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Those columns as float32 in memory that a kernel cannot write to otherwise: of a tensor, in its first step alone.
    fn widen(
        &mut self,
        formula: &SweepFormula,
        tensors: &mut [TensorSweep<'_, f32, WgpuArray>],
    ) -> Result<(), WgpuError> {
        for tensor in tensors {
            for (i, column) in tensor.columns.iter_mut().enumerate() {
                if wgsl::is_wide(formula, i) && column.dtype == DType::Bf16 && !column.wide {
                    let values = self.download_from(column)?;
                    *column = self.upload_as(&values, true)?;
                }
            }
        }
        Ok(())
    }

    fn program(
        &mut self,
        formula: &Arc<SweepFormula>,
        types: &Types,
        bindings: &Bindings,
    ) -> Result<usize, WgpuError> {
        let known = |program: &Program| {
            Arc::ptr_eq(&program.formula, formula) && program.types == *types && program.bindings == *bindings
        };
        if let Some(known) = self.programs.iter().position(known) {
            return Ok(known);
        }
        let buffers = self.device.limits().max_storage_buffers_per_shader_stage;
        let limit = buffers.saturating_sub(FIRST_BUFFER) as usize;
        if bindings.count() > limit {
            return Err(WgpuError::TooManyBuffers { needed: bindings.count(), limit });
        }
        let text = wgsl::shader(formula, types, bindings);
        let kernels = Kernels::new(&self.device, &text, &wgsl::written(formula, bindings));
        let (formula, types, bindings) = (Arc::clone(formula), types.clone(), bindings.clone());
        self.programs.push(Program { formula, types, bindings, kernels, tables: Vec::new() });
        Ok(self.programs.len() - 1)
    }

    /// Compiles and lays out a sweep over tensors that have these types and buffers.
    fn call<'s, 't>(
        &mut self,
        formula: &Arc<SweepFormula>,
        (types, buffers): (Types, Vec<wgpu::Buffer>),
        tensors: &'s mut [TensorSweep<'t, f32, WgpuArray>],
        places: &mut Places,
    ) -> Result<Call<'s, 't>, WgpuError> {
        self.check_sizes(&buffers)?;
        let (bindings, buffers) = Bindings::of(&buffers);
        let program = self.program(formula, &types, &bindings)?;
        let shapes: Vec<&[usize]> = tensors.iter().map(|tensor| tensor.shape).collect();
        let prepared = self.prepared(program, &shapes);
        let layout = Layout::of(formula, types.columns.len());
        let (words, along) = words(formula, &layout, tensors, WgpuArray::word);
        let (words_at, along_at) = (places.words.add(8 * words.len()), places.along.add(4 * along.len()));
        let tiles = places.tiles.add(4 * prepared.tables.tiles());
        let floats = places.floats.add(4 * prepared.tables.floats);
        let (words, along) = ((words, words_at), (along, along_at));
        Ok(Call { program, prepared, buffers, tensors, words, along, tiles, floats })
    }

    /// Tables of a program for tensors of these shapes.
    fn prepared(&mut self, program: usize, shapes: &[&[usize]]) -> Arc<Prepared> {
        let Self { device, queue, programs, transferred, .. } = self;
        let Program { formula, tables, .. } = &mut programs[program];
        if let Some((_, known)) = tables.iter().find(|(known, _)| known == shapes) {
            return Arc::clone(known);
        }
        let made = Arc::new(Prepared::new(device, queue, Tables::new(formula, shapes)));
        *transferred += made.bytes();
        if tables.len() == KEPT_TABLES {
            tables.remove(0);
        }
        tables.push((shapes.iter().map(|shape| shape.to_vec()).collect(), Arc::clone(&made)));
        made
    }

    /// Submits the kernels of all batches together, and waits for their sums once.
    fn run(&mut self, batches: &mut [SweepBatch<'_, f32, WgpuArray>]) -> Result<(), WgpuError> {
        let parts = || Parts::new(self.device.limits().min_storage_buffer_offset_alignment);
        let mut places = Places { words: parts(), along: parts(), tiles: parts(), floats: parts() };
        let mut calls = Vec::new();
        for SweepBatch { formula, tensors } in batches {
            self.widen(formula, tensors)?;
            for (key, tensors) in by_key(tensors, types_and_buffers) {
                calls.push(self.call(formula, key, tensors, &mut places)?);
            }
        }
        let mut encoder = self.encoder();
        let Self { device, queue, programs, workspace, launches, waits, transferred, .. } = self;
        reserve(device, &mut workspace.words, places.words.len());
        reserve(device, &mut workspace.along, places.along.len());
        reserve(device, &mut workspace.tiles, places.tiles.len());
        reserve(device, &mut workspace.floats, places.floats.len());
        let Workspace { words, along, tiles, floats } = &*workspace;
        let mut results = Vec::new();
        for call in &calls {
            *transferred += write(queue, words, call.words.1.start, &call.words.0);
            *transferred += write(queue, along, call.along.1.start, &call.along.0);
            let arguments = Arguments {
                words: Part::of(words, &call.words.1),
                along: Part::of(along, &call.along.1),
                tiles: Part::of(tiles, &call.tiles),
                floats: Part::of(floats, &call.floats),
                arrays: &call.buffers,
            };
            programs[call.program].kernels.launch(device, &mut encoder, &call.prepared, &arguments);
            let tables = &call.prepared.tables;
            *launches += tables.launches.len() as u64;
            for (part, numbers) in
                [(arguments.tiles, tables.tiles()), (arguments.floats, tables.results_along())]
            {
                results.push(Part { bytes: 4 * numbers as u64, ..part });
            }
        }
        let bytes: u64 = results.iter().map(|part| part.bytes).sum();
        *transferred += bytes;
        *waits += u64::from(bytes > 0);
        let mut read = submit_and_read(device, queue, encoder, &results)?.into_iter();
        for Call { prepared, tensors, .. } in calls {
            let [tiles, floats] = [(); 2].map(|()| read.next().unwrap_or_default());
            prepared.tables.put_tiles(bytemuck::cast_slice(&tiles), bytemuck::cast_slice(&floats), tensors);
        }
        Ok(())
    }

    /// The product of tensors whose arrays are in these buffers.
    fn multiply_in(
        &mut self,
        product: &Product,
        buffers: &[wgpu::Buffer; 4],
        tensors: &[ProductArrays<'_, WgpuArray>],
    ) -> Result<(), WgpuError> {
        let jobs = product::jobs(product, tensors.len(), product::WGSL_SIDE);
        if jobs == 0 {
            return Ok(());
        }
        self.check_sizes(buffers)?;
        let (places, buffers) = product::bindings(buffers);
        let words = product::words(product, tensors, WgpuArray::word);
        let mut encoder = self.encoder();
        let Self { device, queue, multiplying, workspace, launches, transferred, .. } = self;
        *transferred += fill(device, queue, &mut workspace.words, &words);
        multiplying.encode(device, &mut encoder, places, &workspace.words, &buffers, jobs);
        queue.submit([encoder.finish()]);
        *launches += 1;
        Ok(())
    }

    fn check_sizes(&self, buffers: &[wgpu::Buffer]) -> Result<(), WgpuError> {
        let limit = largest(&self.device);
        match buffers.iter().map(wgpu::Buffer::size).find(|bytes| *bytes > limit) {
            Some(bytes) => Err(WgpuError::TooLarge { bytes, limit }),
            None => Ok(()),
        }
    }

    /// Looks at all gradients, with a launch for those of each buffer.
    fn find_usable(&mut self, gradients: &[&WgpuArray], limit: f64) -> Result<Vec<bool>, WgpuError> {
        let mut gradients: Vec<(usize, &WgpuArray)> = gradients.iter().copied().enumerate().collect();
        let by_buffer = by_key(&mut gradients, |(_, gradient)| gradient.buffer().clone());
        let alignment = self.device.limits().min_storage_buffer_offset_alignment;
        let [mut words, mut floats] = [(); 2].map(|()| Parts::new(alignment));
        let mut calls = Vec::new();
        for (buffer, own) in &by_buffer {
            self.check_sizes(std::slice::from_ref(buffer))?;
            let prepared = self.prepared_check(own.iter().map(|(_, gradient)| gradient.len).collect());
            calls.push((prepared, words.add(8 * 4 * own.len()), floats.add(4 * own.len())));
        }
        let mut encoder = self.encoder();
        let Self { device, queue, usable, workspace, launches, waits, transferred, .. } = self;
        let kernels = usable.get_or_insert_with(|| Kernels::new(device, wgsl::USABLE, &[false]));
        reserve(device, &mut workspace.words, words.len());
        reserve(device, &mut workspace.floats, floats.len());
        encoder.clear_buffer(&workspace.floats, 0, Some(floats.len()));
        let Workspace { words, along, tiles, floats } = &*workspace;
        let limit = u64::from((limit as f32).to_bits());
        let mut results = Vec::new();
        for ((prepared, words_at, floats_at), (buffer, own)) in calls.iter().zip(&by_buffer) {
            let of_gradient = |(_, array): &(usize, &WgpuArray)| {
                [array.len as u64, array.word(), u64::from(array.dtype == DType::Bf16), limit]
            };
            let numbers: Vec<u64> = own.iter().flat_map(of_gradient).collect();
            *transferred += write(queue, words, words_at.start, &numbers);
            let arguments = Arguments {
                words: Part::of(words, words_at),
                along: Part::whole(along),
                tiles: Part::whole(tiles),
                floats: Part::of(floats, floats_at),
                arrays: std::slice::from_ref(buffer),
            };
            kernels.launch(device, &mut encoder, prepared, &arguments);
            *launches += prepared.tables.launches.len() as u64;
            results.push(Part { bytes: 4 * own.len() as u64, ..arguments.floats });
        }
        let bytes: u64 = results.iter().map(|part| part.bytes).sum();
        *transferred += bytes;
        *waits += u64::from(bytes > 0);
        let beyond = submit_and_read(device, queue, encoder, &results)?;
        let mut usable = vec![true; gradients.len()];
        for ((i, _), beyond) in gradients.iter().zip(beyond.into_iter().flatten()) {
            usable[*i] = beyond == 0;
        }
        Ok(usable)
    }

    /// Tables of the check of gradients of these lengths.
    fn prepared_check(&mut self, lens: Vec<usize>) -> Arc<Prepared> {
        let Self { device, queue, usable_tables: known, transferred, .. } = self;
        if let Some((_, prepared)) = known.iter().find(|(known, _)| *known == lens) {
            return Arc::clone(prepared);
        }
        let made = Arc::new(Prepared::new(device, queue, usable_tables(&lens)));
        *transferred += made.bytes();
        if known.len() == KEPT_TABLES {
            known.remove(0);
        }
        known.push((lens, Arc::clone(&made)));
        made
    }
}

impl Executor for Wgpu {
    type Array = WgpuArray;
    type Error = WgpuError;

    fn len(array: &WgpuArray) -> usize {
        array.len
    }

    fn dtype(array: &WgpuArray) -> DType {
        array.dtype
    }

    fn memory(array: &WgpuArray) -> Option<(u64, Range<u64>)> {
        let mut hasher = DefaultHasher::new();
        array.buffer().hash(&mut hasher);
        let first = array.offset();
        Some((hasher.finish(), first..first + 4 * array.words() as u64))
    }

    fn upload(&mut self, values: Buffer) -> Result<WgpuArray, WgpuError> {
        self.checked(|wgpu| wgpu.upload_as(&values, false))
    }

    fn zeros(&mut self, dtype: DType, len: usize) -> Result<WgpuArray, WgpuError> {
        self.checked(|wgpu| {
            let array = wgpu.allocate(dtype, len, false)?;
            if len > 0 {
                let mut encoder = wgpu.encoder();
                encoder.clear_buffer(array.buffer(), array.offset(), Some(4 * array.words() as u64));
                wgpu.queue.submit([encoder.finish()]);
            }
            Ok(array)
        })
    }

    fn download(&mut self, array: &WgpuArray) -> Result<Buffer, WgpuError> {
        self.checked(|wgpu| wgpu.download_from(array))
    }

    fn sample(
        &mut self,
        array: &WgpuArray,
        every: usize,
        dtype: DType,
    ) -> Result<Option<WgpuArray>, WgpuError> {
        // Of bfloat16, two are in a word.
        if [array.dtype, dtype] != [DType::F32; 2] {
            return Ok(None);
        }
        self.checked(|wgpu| wgpu.sample_words(array, every)).map(Some)
    }

    fn usable(&mut self, gradients: &[&WgpuArray], limit: f64) -> Result<Vec<bool>, WgpuError> {
        if gradients.is_empty() {
            return Ok(Vec::new());
        }
        self.checked(|wgpu| wgpu.find_usable(gradients, limit))
    }

    fn sweep(&mut self, batches: &mut [SweepBatch<'_, f32, WgpuArray>]) -> Result<(), WgpuError> {
        self.checked(|wgpu| wgpu.run(batches))
    }

    fn multiply(
        &mut self,
        product: &Product,
        tensors: &mut [ProductArrays<'_, WgpuArray>],
    ) -> Option<Result<(), WgpuError>> {
        let buffers = |ProductArrays { into, left, right, plus }: &ProductArrays<'_, WgpuArray>| {
            [&**into, left, right, plus.unwrap_or(left)].map(|array| array.buffer().clone())
        };
        Some(self.checked(|wgpu| {
            let mut by_buffers = by_key(tensors, buffers).into_iter();
            by_buffers.try_for_each(|(buffers, tensors)| wgpu.multiply_in(product, &buffers, tensors))
        }))
    }
}

/// Types and buffers, which all tensors of a launch have in common.
fn types_and_buffers(tensor: &TensorSweep<'_, f32, WgpuArray>) -> (Types, Vec<wgpu::Buffer>) {
    // A column without elements is in no memory.
    let columns = tensor
        .columns
        .iter()
        .map(|column| if column.len > 0 { column.buffer() } else { tensor.gradient.buffer() });
    let arrays = [tensor.gradient.buffer(), tensor.parameter.buffer()];
    (Types::of::<Wgpu>(tensor), arrays.into_iter().chain(columns).cloned().collect())
}

/// A buffer for numbers that go along with a sweep.
fn table(device: &wgpu::Device, bytes: u64) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("table"),
        size: bytes,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// Has a buffer be at least so long.
fn reserve(device: &wgpu::Device, buffer: &mut wgpu::Buffer, bytes: u64) {
    if buffer.size() < bytes {
        *buffer = table(device, bytes.next_power_of_two());
    }
}

/// Copies numbers to the beginning of a buffer, which grows if it is too short, and gives their bytes.
fn fill<V: bytemuck::NoUninit>(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    buffer: &mut wgpu::Buffer,
    values: &[V],
) -> u64 {
    reserve(device, buffer, size_of_val(values) as u64);
    write(queue, buffer, 0, values)
}

/// Copies numbers to a place in a buffer, and gives their bytes.
fn write<V: bytemuck::NoUninit>(queue: &wgpu::Queue, buffer: &wgpu::Buffer, at: u64, values: &[V]) -> u64 {
    if !values.is_empty() {
        queue.write_buffer(buffer, at, bytemuck::cast_slice(values));
    }
    size_of_val(values) as u64
}
