//! An executor on the host that evaluates formulas element by element: what the others are compared with.

use std::convert::Infallible;

use crate::device::{Executor, Matrix, Product, ProductArrays, SweepBatch, TensorSweep};
use crate::engine::formula::{ElementFormula, SAMPLE_LANES, SweepFormula};
use crate::layout::axes::Axes;
use crate::layout::{CHUNK, TILE};
use crate::memory::buffer::Buffer;
use crate::memory::element::{DType, Real};
use crate::memory::kernel;
use crate::memory::number::{Input, LANES, Symbol, evaluate, evaluate_wide, wide};
use crate::memory::rounding::{Rounding, random_bits, round_with};

/// Evaluates formulas one element after the other, on the host: slow, and short enough to be checked by reading.
///
/// ```
/// use gradient_transform::device::{Executor, Interpreter};
/// use gradient_transform::{Buffer, DType};
///
/// let mut host = Interpreter;
/// let zeros = Executor::<f32>::zeros(&mut host, DType::F32, 2).unwrap();
/// assert_eq!(zeros, Buffer::F32(vec![0.0, 0.0]));
/// let Ok(usable) = Executor::<f32>::usable(&mut host, &[&zeros, &Buffer::F32(vec![f32::NAN])], 1e9);
/// assert_eq!(usable, [true, false]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Interpreter;

impl<T: Real> Executor<T> for Interpreter {
    type Array = Buffer;
    type Error = Infallible;

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

    fn upload(&mut self, values: Buffer) -> Result<Buffer, Infallible> {
        Ok(values)
    }

    fn zeros(&mut self, dtype: DType, len: usize) -> Result<Buffer, Infallible> {
        Ok(Buffer::zeros(dtype, len))
    }

    fn download(&mut self, array: &Buffer) -> Result<Buffer, Infallible> {
        Ok(array.clone())
    }

    fn usable(&mut self, gradients: &[&Buffer], limit: f64) -> Result<Vec<bool>, Infallible> {
        Ok(gradients.iter().map(|gradient| gradient.as_slice().is_within(limit)).collect())
    }

    fn sweep(&mut self, batches: &mut [SweepBatch<'_, T, Buffer>]) -> Result<(), Infallible> {
        for SweepBatch { formula, tensors } in batches {
            tensors.iter_mut().for_each(|tensor| Sweep { formula, tensor }.run());
        }
        Ok(())
    }

    fn multiply(
        &mut self,
        product: &Product,
        tensors: &mut [ProductArrays<'_, Buffer>],
    ) -> Option<Result<(), Infallible>> {
        tensors.iter_mut().for_each(|arrays| multiply::<T>(product, arrays));
        Some(Ok(()))
    }
}

/// A product, element by element; its terms are added in order.
fn multiply<T: Real>(product: &Product, arrays: &mut ProductArrays<'_, Buffer>) {
    let Product { into, alpha, left, right, plus, diagonal, symmetric } = *product;
    let element =
        |array: &Buffer, matrix: Matrix, i: usize, j: usize| -> T { array.get(place(matrix, i, j)) };
    for i in 0..into.rows() {
        for j in 0..if symmetric { i + 1 } else { into.cols() } {
            let terms = (0..left.cols())
                .map(|k| element(arrays.left, left, i, k) * element(arrays.right, right, k, j));
            let mut value = T::of(alpha) * terms.fold(T::zero(), |sum, term| sum + term);
            if let (Some((beta, plus)), Some(array)) = (plus, arrays.plus) {
                value += T::of(beta) * element(array, plus, i, j);
            }
            if i == j {
                value += T::of(diagonal);
            }
            arrays.into.set(place(into, i, j), value);
            if symmetric {
                arrays.into.set(place(into, j, i), value);
            }
        }
    }
}

/// Where an element is in its array.
fn place(matrix: Matrix, i: usize, j: usize) -> usize {
    let [row, col] = matrix.strides();
    i * row + j * col
}

/// Values that a part keeps, of each of its elements.
struct Values<T> {
    /// In the type of the computation.
    values: Vec<Vec<T>>,
    /// Terms of sums in float64: the tensor's sum, and its terms.
    wide_terms: Vec<(usize, Vec<f64>)>,
}

struct Sweep<'w, 't, T> {
    formula: &'w SweepFormula,
    tensor: &'w mut TensorSweep<'t, T, Buffer>,
}

impl<T: Real> Sweep<'_, '_, T> {
    fn run(mut self) {
        let formula = self.formula;
        // Nothing is written before everything has been read.
        let elements = self.values(&formula.elements);
        let sampled: Vec<Values<T>> = formula.sampled.iter().map(|part| self.values(part)).collect();
        self.sums(&formula.elements, &elements, tile_sum);
        self.wide_sums(&formula.elements, &elements);
        self.store(&formula.elements, &elements);
        for (part, values) in formula.sampled.iter().zip(&sampled) {
            self.sums(part, values, sample_sum);
            self.store(part, values);
        }
    }

    /// The values that a part keeps, of each of its elements.
    fn values(&self, part: &ElementFormula) -> Values<T> {
        let n = self.tensor.gradient.len();
        let symbols = part.values();
        let wide = wide(&self.formula.nodes);
        let is_wide = |sum: &(usize, Symbol)| wide[sum.1.index()];
        let wide_sums: Vec<(usize, Symbol)> = part.sums.iter().copied().filter(is_wide).collect();
        let mut values = vec![Vec::new(); symbols.len()];
        let mut terms = vec![Vec::new(); wide_sums.len()];
        for element in (0..n).step_by(part.every) {
            let all = evaluate(&self.formula.nodes, |input| self.input(part, input, element));
            for (values, symbol) in values.iter_mut().zip(&symbols) {
                values.push(all[symbol.index()]);
            }
            if !wide_sums.is_empty() {
                let all = evaluate_wide(&self.formula.nodes, &all);
                terms.iter_mut().zip(&wide_sums).for_each(|(terms, (_, term))| terms.push(all[term.index()]));
            }
        }
        let wide_terms = wide_sums.into_iter().map(|(sum, _)| sum).zip(terms).collect();
        Values { values, wide_terms }
    }

    fn input(&self, part: &ElementFormula, input: Input, element: usize) -> T {
        let TensorSweep { numbers, along, parameter, gradient, columns, shape, .. } = &*self.tensor;
        match input {
            Input::Gradient => gradient.get(element),
            Input::Parameter => parameter.get(element),
            Input::State(i) if columns[i].is_empty() => T::zero(),
            // Those of samples are not asked for of every element.
            Input::State(i) if self.formula.columns[i] > 1 && part.every == 1 => T::zero(),
            Input::State(i) => columns[i].get(element / self.formula.columns[i]),
            Input::Scalar(i) => numbers.get(i).copied().unwrap_or(T::zero()),
            Input::Along(i) => self.along(i, along[i], shape, element),
            Input::Update | Input::Base | Input::Direction => {
                unreachable!("a sweep's formula has no such inputs")
            }
        }
    }

    fn along(&self, array: usize, values: &[T], shape: &[usize], element: usize) -> T {
        let Some(&axis) = self.formula.along.get(array) else { return T::zero() };
        let inner: usize = shape[axis + 1..].iter().product();
        let at = element / (shape[axis] * inner) * inner + element % inner;
        values.get(at).copied().unwrap_or(T::zero())
    }

    fn sums(&mut self, part: &ElementFormula, values: &Values<T>, of_tile: fn(&[T]) -> T) {
        let values = &values.values;
        let n = self.tensor.gradient.len();
        let first = part.columns.len() + usize::from(part.parameter.is_some());
        for (&(sum, _), terms) in part.sums.iter().zip(&values[first..]) {
            self.tensor.sums[sum] = sum_of(terms, part.every, n, of_tile);
        }
        for (sum, terms) in part.sums_along.iter().zip(&values[first + part.sums.len()..]) {
            let axes = Axes::of(self.tensor.shape, sum.axes[0], sum.axes[1]);
            sum_along(&axes, sum.lacks_first, terms, self.tensor.sums_along[sum.array]);
        }
    }

    /// Sums in float64, in place of those in the type of the computation.
    fn wide_sums(&mut self, part: &ElementFormula, values: &Values<T>) {
        let n = self.tensor.gradient.len();
        for (sum, terms) in &values.wide_terms {
            self.tensor.sums[*sum] = sum_of(terms, part.every, n, tile_sum);
        }
    }

    fn store(&mut self, part: &ElementFormula, values: &Values<T>) {
        let TensorSweep { parameter, columns, rounding, parameter_stream, column_streams, .. } =
            &mut *self.tensor;
        let mut values = values.values.iter();
        for (kept, values) in part.columns.iter().zip(values.by_ref()) {
            let rounding = if kept.to_nearest { Rounding::Nearest } else { *rounding };
            store(&mut columns[kept.column], values, rounding, column_streams[kept.column]);
        }
        if let (Some(_), Some(values)) = (part.parameter, values.next()) {
            store(parameter, values, *rounding, *parameter_stream);
        }
    }
}

fn store<T: Real>(array: &mut Buffer, values: &[T], rounding: Rounding, stream: u64) {
    for (i, &value) in values.iter().enumerate() {
        match array {
            Buffer::Bf16(array) => {
                array[i] = round_with(rounding, value.f64() as f32, random_bits(stream, i))
            }
            _ => array.set(i, value),
        }
    }
}

/// A sum over a tensor of `n` elements, of which every `every`-th has a term.
///
/// ```text
/// for every chunk, in order:                                             float64
///     for every tile of the chunk, in order:                             the terms' type, then float64
///         for every term of the tile: lane[i mod 32] += term             (mod 8 of samples)
///         tile = the lanes, by halves + the terms after the last full block, one by one
/// ```
fn sum_of<T: Real>(terms: &[T], every: usize, n: usize, of_tile: fn(&[T]) -> T) -> f64 {
    let term = |element: usize| element.div_ceil(every);
    let mut total = 0.0;
    for chunk in (0..n).step_by(CHUNK) {
        let end = n.min(chunk + CHUNK);
        let mut sum = 0.0;
        for tile in (chunk..end).step_by(TILE) {
            let terms = &terms[term(tile)..term(end.min(tile + TILE))];
            sum += of_tile(terms).f64();
        }
        total += sum;
    }
    total
}

fn tile_sum<T: Real>(terms: &[T]) -> T {
    let mut lanes = [T::zero(); LANES];
    let (blocks, rest) = terms.as_chunks::<LANES>();
    for block in blocks {
        (0..LANES).for_each(|lane| lanes[lane] += block[lane]);
    }
    kernel::total(lanes) + rest.iter().fold(T::zero(), |sum, &term| sum + term)
}

fn sample_sum<T: Real>(terms: &[T]) -> T {
    let mut lanes = [T::zero(); SAMPLE_LANES];
    terms.iter().enumerate().for_each(|(i, &term)| lanes[i % SAMPLE_LANES] += term);
    kernel::total(lanes)
}

/// Sums over an axis: those of a chunk, run by run, and then of the chunks in their order.
fn sum_along<T: Real>(axes: &Axes, lacks_first: bool, terms: &[T], sums: &mut [T]) {
    let mut part = vec![T::zero(); sums.len()];
    for (chunk, terms) in terms.chunks(CHUNK).enumerate() {
        part.fill(T::zero());
        for (tile, terms) in terms.chunks(TILE).enumerate() {
            for run in axes.runs(chunk * CHUNK + tile * TILE, terms.len()) {
                let terms = &terms[run.at..run.to];
                if !lacks_first && axes.second_is_last() {
                    part[run.j] += run_sum(terms);
                } else {
                    let first = if lacks_first { run.i } else { run.j };
                    terms.iter().enumerate().for_each(|(i, &term)| part[first + i] += term);
                }
            }
        }
        sums.iter_mut().zip(&part).for_each(|(sum, &part)| *sum += part);
    }
}

fn run_sum<T: Real>(terms: &[T]) -> T {
    if terms.len() < LANES { terms.iter().fold(T::zero(), |sum, &term| sum + term) } else { tile_sum(terms) }
}
