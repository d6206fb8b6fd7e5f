//! An executor that compiles kernels with the C compiler, as loops in place of threads.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use gradient_transform::device::{Executor, Product, ProductArrays, SweepBatch, SweepFormula, TensorSweep};
use gradient_transform::{Buffer, DType};
use half::bf16;
use sweep_kernels::{Layout, SUPPORT, Tables, Types, by_types, kernels, product, words};

/// Kernels on the host, each a program of its own.
#[derive(Debug)]
pub(crate) struct CompiledForHost {
    folder: tempfile::TempDir,
    /// By their text: the program, and the names of its kernels.
    programs: HashMap<String, (PathBuf, Vec<String>)>,
}

impl CompiledForHost {
    /// `None` where there is no C compiler.
    pub(crate) fn new() -> Option<Self> {
        let compiler = Command::new("cc").arg("--version").output().ok()?;
        let folder = tempfile::tempdir().unwrap();
        compiler.status.success().then(|| Self { folder, programs: HashMap::new() })
    }

    fn program(&mut self, text: String) -> (PathBuf, Vec<String>) {
        let number = self.programs.len();
        let folder = self.folder.path();
        let made = self.programs.entry(text).or_insert_with_key(|text| {
            let names: Vec<String> = [SUPPORT, text]
                .iter()
                .flat_map(|text| text.split("\nKERNEL ").skip(usize::from(!text.starts_with("KERNEL "))))
                .map(|kernel| kernel.trim_start_matches("KERNEL ").split('(').next().unwrap().to_owned())
                .collect();
            let table = names.join(", ");
            let source = folder.join(format!("{number}.c"));
            let program = folder.join(number.to_string());
            let main = include_str!("../main.c");
            let all = format!(
                "{SUPPORT}\n{text}\nstatic void (*const KERNELS[])(ARGUMENTS) = {{{table}}};\n{main}"
            );
            std::fs::write(&source, all).unwrap();
            let flags = [
                "-std=c11",
                // Compiling is most of what the tests take.
                "-O0",
                "-ffp-contract=off",
                "-Wall",
                "-Wextra",
                "-Wno-unused-function",
                "-Werror",
            ];
            let compiled = Command::new("cc")
                .args(flags)
                .arg("-o")
                .arg(&program)
                .arg(&source)
                .arg("-lm")
                .output()
                .unwrap();
            assert!(compiled.status.success(), "{}\n{text}", String::from_utf8_lossy(&compiled.stderr));
            (program, names)
        });
        made.clone()
    }

    fn multiply(&mut self, product: &Product, tensors: &mut [ProductArrays<'_, Buffer>]) {
        let mut memory = Vec::new();
        let mut places = HashMap::new();
        for ProductArrays { into, left, right, plus } in tensors.iter() {
            for array in [&**into, left, right].into_iter().chain(*plus) {
                places.insert(std::ptr::from_ref(array).addr(), memory.len() as u64);
                memory.extend(bytes(array));
            }
        }
        let place = |array: &Buffer| places[&std::ptr::from_ref(array).addr()];
        let words = product::words(product, tensors, place);
        let (program, names) = self.program(product::MULTIPLY.to_owned());
        let kernel = names.iter().position(|name| name == "multiply").unwrap() as u64;
        let launches = [kernel, 0, product::jobs(product, tensors.len(), product::SIDE) as u64];
        let bytes_of = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let none = Vec::new;
        let regions = [memory, bytes_of(&words), none(), none(), none(), none(), bytes_of(&launches)];
        let memory = launch(program, &regions);
        for ProductArrays { into, .. } in tensors {
            put_back(into, &memory[places[&std::ptr::from_ref(&**into).addr()] as usize..]);
        }
    }

    fn run(&mut self, formula: &SweepFormula, types: &Types, tensors: &mut [TensorSweep<'_, f32, Buffer>]) {
        let layout = Layout::of(formula, types.columns.len());
        let mut memory = Vec::new();
        let mut places = HashMap::new();
        for tensor in tensors.iter() {
            let arrays = [tensor.gradient, &*tensor.parameter].into_iter().chain(tensor.columns.iter());
            for array in arrays {
                places.insert(std::ptr::from_ref(array).addr(), memory.len() as u64);
                memory.extend(bytes(array));
                memory.resize(memory.len().next_multiple_of(8), 0);
            }
        }
        let place = |array: &Buffer| places[&std::ptr::from_ref(array).addr()];
        let shapes: Vec<&[usize]> = tensors.iter().map(|tensor| tensor.shape).collect();
        let tables = Tables::new(formula, &shapes);
        let (words, along) = words(formula, &layout, tensors, place);
        let (program, names) = self.program(kernels(formula, types));
        let index = |name: &str| names.iter().position(|known| known == name).unwrap() as u64;
        let launches: Vec<u64> = tables
            .launches
            .iter()
            .flat_map(|launch| [index(&launch.kernel), launch.first as u64, launch.count as u64])
            .collect();
        let regions: [Vec<u8>; 7] = [
            memory,
            words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            along.iter().flat_map(|value| value.to_le_bytes()).collect(),
            tables.jobs.iter().flat_map(|word| word.to_le_bytes()).collect(),
            vec![0; 8 * tables.doubles],
            vec![0; 4 * tables.floats],
            launches.iter().flat_map(|word| word.to_le_bytes()).collect(),
        ];
        let output = launch(program, &regions);
        let (memory, rest) = output.split_at(regions[0].len());
        let (doubles, floats) = rest.split_at(regions[4].len());
        for tensor in tensors.iter_mut() {
            let arrays = std::iter::once(&mut *tensor.parameter).chain(tensor.columns.iter_mut());
            for array in arrays {
                put_back(array, &memory[places[&std::ptr::from_ref(&*array).addr()] as usize..]);
            }
        }
        let doubles: Vec<f64> =
            doubles.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        let floats: Vec<f32> = floats.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        tables.put(&doubles[tables.results()], &floats[..tables.results_along()], tensors);
    }
}

/// Memory after a program: its first, fifth and sixth region. The last region is the launches.
fn launch(program: PathBuf, regions: &[Vec<u8>; 7]) -> Vec<u8> {
    let input: Vec<u8> = regions
        .iter()
        .flat_map(|region| (region.len() as u64).to_le_bytes().into_iter().chain(region.iter().copied()))
        .collect();
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    output.stdout
}

fn bytes(array: &Buffer) -> Vec<u8> {
    match array {
        Buffer::F32(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Buffer::Bf16(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Buffer::F64(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

fn put_back(array: &mut Buffer, memory: &[u8]) {
    match array {
        Buffer::F32(values) => {
            values
                .iter_mut()
                .zip(memory.as_chunks().0)
                .for_each(|(x, bytes)| *x = f32::from_le_bytes(*bytes));
        }
        Buffer::Bf16(values) => {
            values
                .iter_mut()
                .zip(memory.as_chunks().0)
                .for_each(|(x, bytes)| *x = bf16::from_le_bytes(*bytes));
        }
        Buffer::F64(values) => {
            values
                .iter_mut()
                .zip(memory.as_chunks().0)
                .for_each(|(x, bytes)| *x = f64::from_le_bytes(*bytes));
        }
    }
}

impl Executor for CompiledForHost {
    type Array = Buffer;
    type Error = String;

    fn len(array: &Buffer) -> usize {
        array.len()
    }

    fn dtype(array: &Buffer) -> DType {
        array.dtype()
    }

    fn has_float64(&self) -> bool {
        true
    }

    fn propagates_non_finite(&self) -> bool {
        true
    }

    fn upload(&mut self, values: Buffer) -> Result<Buffer, String> {
        Ok(values)
    }

    fn zeros(&mut self, dtype: DType, len: usize) -> Result<Buffer, String> {
        Ok(Buffer::zeros(dtype, len))
    }

    fn download(&mut self, array: &Buffer) -> Result<Buffer, String> {
        Ok(array.clone())
    }

    fn usable(&mut self, gradients: &[&Buffer], limit: f64) -> Result<Vec<bool>, String> {
        let within = |g: &Buffer| (0..g.len()).all(|i| g.get::<f64>(i).abs() <= limit);
        Ok(gradients.iter().map(|gradient| within(gradient)).collect())
    }

    fn sweep(&mut self, batches: &mut [SweepBatch<'_, f32, Buffer>]) -> Result<(), String> {
        for SweepBatch { formula, tensors } in batches {
            for (types, tensors) in by_types::<Self>(tensors) {
                self.run(formula, &types, tensors);
            }
        }
        Ok(())
    }

    fn multiply(
        &mut self,
        product: &Product,
        tensors: &mut [ProductArrays<'_, Buffer>],
    ) -> Option<Result<(), String>> {
        if !tensors.is_empty() {
            CompiledForHost::multiply(self, product, tensors);
        }
        Some(Ok(()))
    }
}
