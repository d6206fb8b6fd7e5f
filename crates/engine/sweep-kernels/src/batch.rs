//! Tables for the kernels of a sweep: where tensors are, and which warp does what.

use std::ops::Range;

use gradient_transform::TILE;
use gradient_transform::device::{CHUNK, Executor, SweepFormula, TensorSweep};
use gradient_transform::number::{Input, Node};

use crate::layout::Layout;
use crate::text::Types;

/// A kernel to launch: each of its jobs is done by a warp, or by a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Name of the kernel.
    pub kernel: String,
    /// Where its jobs begin in the table of jobs.
    pub first: usize,
    /// Number of its jobs.
    pub count: usize,
    /// Words of each job.
    pub words: usize,
    /// Whether a job is done by a warp of 32 threads.
    pub by_warps: bool,
}

/// Work of the warps of a sweep's kernels, for tensors of certain shapes that have the same formula and types. It is the same in every step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Launches, in order.
    pub launches: Vec<Launch>,
    /// Jobs of all launches.
    pub jobs: Vec<u32>,
    /// Length of the memory for sums of tiles and chunks.
    pub doubles: usize,
    /// Length of the memory for sums along axes.
    pub floats: usize,
    /// Sums of chunks: tensor, its sum, and where they are.
    sums: Vec<(usize, usize, Range<usize>)>,
    /// Sums along axes: tensor, its array, and where they are.
    sums_along: Vec<(usize, usize, Range<usize>)>,
}

/// Length from which the sums of an array have a thread each; those of shorter arrays are shared by the chunks of the tensor.
const ENOUGH_THREADS: usize = 1 << 14;

impl Tables {
    /// The tables for tensors of these shapes.
    pub fn new(formula: &SweepFormula, shapes: &[&[usize]]) -> Self {
        let mut tables = Self::default();
        tables.add_along(formula, shapes);
        tables.add_tiles(formula, shapes);
        tables
    }

    /// Sums along axes, which are taken before anything is written.
    fn add_along(&mut self, formula: &SweepFormula, shapes: &[&[usize]]) {
        for sum in &formula.elements.sums_along {
            let axis = sum.axes[usize::from(!sum.lacks_first)];
            for (t, shape) in shapes.iter().enumerate() {
                let first = self.floats;
                self.floats += len(shape) / shape[axis].max(1);
                self.sums_along.push((t, sum.array, first..self.floats));
            }
        }
        let mut results = self.sums_along.clone().into_iter();
        let mut folds = Vec::new();
        for (k, sum) in formula.elements.sums_along.iter().enumerate() {
            let (mut rows, mut columns) = (Vec::new(), Vec::new());
            for (shape, (t, _, to)) in shapes.iter().zip(results.by_ref()) {
                let behind: usize = shape[sum.axes[1] + 1..].iter().product();
                if !sum.lacks_first && behind == 1 {
                    rows.extend((0..to.len()).flat_map(|out| [t, out, to.start + out]));
                    continue;
                }
                let chunks = len(shape).div_ceil(CHUNK);
                let strips = (0..to.len()).step_by(32).map(|out| (out, 32.min(to.len() - out)));
                if chunks == 1 || to.len() >= ENOUGH_THREADS {
                    columns.extend(strips.flat_map(|(out, n)| [t, out, n, 0, chunks, to.start + out]));
                    continue;
                }
                for (out, n) in strips {
                    let first = self.floats;
                    self.floats += n * chunks;
                    let of_chunk = |chunk| [t, out, n, chunk, chunk + 1, first + n * chunk];
                    columns.extend((0..chunks).flat_map(of_chunk));
                    folds.extend([first, n, chunks, to.start + out, n]);
                }
            }
            self.launch(format!("sum_rows_{k}"), &rows, 3, true);
            self.launch(format!("sum_columns_{k}"), &columns, 6, true);
        }
        self.launch("fold_parts".to_owned(), &folds, 5, true);
    }

    fn add_tiles(&mut self, formula: &SweepFormula, shapes: &[&[usize]]) {
        let parts = || std::iter::once(&formula.elements).chain(&formula.sampled);
        let sums: Vec<usize> = parts().flat_map(|part| part.sums.iter().map(|(sum, _)| *sum)).collect();
        let stores = parts().any(|part| part.parameter.is_some() || !part.columns.is_empty());
        if sums.is_empty() && !stores {
            return;
        }
        let tiles_of = |shape: &[usize]| len(shape).div_ceil(TILE);
        let tiles: Vec<usize> = shapes
            .iter()
            .enumerate()
            .flat_map(|(t, shape)| (0..tiles_of(shape)).flat_map(move |tile| [t, tile]))
            .collect();
        let count = tiles.len() / 2;
        self.launch("sweep".to_owned(), &tiles, 2, true);
        self.doubles = sums.len() * count;
        let mut folds = Vec::new();
        for (i, &sum) in sums.iter().enumerate() {
            let mut tile = i * count;
            for (t, shape) in shapes.iter().enumerate() {
                let (first, tiles) = (self.doubles, tiles_of(shape));
                for chunk in (0..tiles).step_by(CHUNK / TILE) {
                    folds.extend([tile + chunk, (CHUNK / TILE).min(tiles - chunk), self.doubles]);
                    self.doubles += 1;
                }
                tile += tiles;
                self.sums.push((t, sum, first..self.doubles));
            }
        }
        self.launch("fold_sums".to_owned(), &folds, 3, false);
    }

    /// Adds a launch, unless it has no jobs.
    fn launch(&mut self, kernel: String, jobs: &[usize], words: usize, by_warps: bool) {
        if jobs.is_empty() {
            return;
        }
        let (first, count) = (self.jobs.len(), jobs.len() / words);
        self.jobs.extend(jobs.iter().map(|&word| word as u32));
        self.launches.push(Launch { kernel, first, count, words, by_warps });
    }

    /// The part of `doubles` that the host needs: sums of chunks.
    pub fn results(&self) -> Range<usize> {
        match (self.sums.first(), self.sums.last()) {
            (Some((_, _, first)), Some((_, _, last))) => first.start..last.end,
            _ => 0..0,
        }
    }

    /// The part of `doubles` with the sums of tiles, from the beginning on. A device without float64 keeps it as float32, does not
    /// launch `fold_sums`, and gives it to
    /// [`put_tiles`](Self::put_tiles).
    pub fn tiles(&self) -> usize {
        self.results().start
    }

    /// The part of `floats` that the host needs: from the beginning on.
    pub fn results_along(&self) -> usize {
        self.sums_along.iter().map(|(_, _, range)| range.end).max().unwrap_or_default()
    }

    /// Gives the tensors their sums: `doubles` and `floats` are the parts that the host needs.
    pub fn put<A>(&self, doubles: &[f64], floats: &[f32], tensors: &mut [TensorSweep<'_, f32, A>]) {
        let first = self.results().start;
        for (tensor, sum, range) in &self.sums {
            let chunks = &doubles[range.start - first..range.end - first];
            tensors[*tensor].sums[*sum] = chunks.iter().fold(0.0, |total, chunk| total + chunk);
        }
        self.put_along(floats, tensors);
    }

    /// Gives the tensors their sums, those of `tiles` added to chunks first: what the kernel `fold_sums` and [`put`](Self::put) do.
    ///
    /// ```
    /// use gradient_transform::device::{Executor, Interpreter, SweepFormula, TensorSweep};
    /// use sweep_kernels::Tables;
    ///
    /// fn without_float64<E: Executor>(
    ///     tables: &Tables,
    ///     run: impl Fn(&str) -> (Vec<f32>, Vec<f32>),
    ///     tensors: &mut [TensorSweep<'_, f32, E::Array>],
    /// ) {
    ///     let (mut tiles, mut floats) = (vec![], vec![]);
    ///     for launch in tables.launches.iter().filter(|launch| launch.kernel != "fold_sums") {
    ///         (tiles, floats) = run(&launch.kernel);
    ///     }
    ///     tables.put_tiles(&tiles[..tables.tiles()], &floats[..tables.results_along()], tensors);
    /// }
    /// ```
    pub fn put_tiles<A>(&self, tiles: &[f32], floats: &[f32], tensors: &mut [TensorSweep<'_, f32, A>]) {
        let mut rest = tiles;
        for (tensor, sum, _) in &self.sums {
            let own = rest.split_off(..len(tensors[*tensor].shape).div_ceil(TILE)).unwrap_or_default();
            let chunks = own.chunks(CHUNK / TILE);
            let chunks = chunks.map(|tiles| tiles.iter().fold(0.0, |sum, &tile| sum + f64::from(tile)));
            tensors[*tensor].sums[*sum] = chunks.fold(0.0, |total, chunk| total + chunk);
        }
        self.put_along(floats, tensors);
    }

    fn put_along<A>(&self, floats: &[f32], tensors: &mut [TensorSweep<'_, f32, A>]) {
        for (tensor, array, range) in &self.sums_along {
            tensors[*tensor].sums_along[*array].copy_from_slice(&floats[range.clone()]);
        }
    }
}

/// Words of all tensors for the kernels of a sweep, and their values along axes: the arguments that change from step to step. `address` gives the place of an array in
/// the device's memory.
pub fn words<A>(
    formula: &SweepFormula,
    layout: &Layout,
    tensors: &[TensorSweep<'_, f32, A>],
    address: impl Fn(&A) -> u64,
) -> (Vec<u64>, Vec<f32>) {
    let (mut words, mut along) = (Vec::with_capacity(layout.words() * tensors.len()), Vec::new());
    for tensor in tensors {
        words.extend([len(tensor.shape) as u64, address(tensor.gradient), address(tensor.parameter)]);
        words.extend(tensor.columns[..layout.columns].iter().map(&address));
        let numbers = (0..layout.numbers).map(|i| tensor.numbers.get(i).copied().unwrap_or_default());
        words.extend(numbers.map(|number| u64::from(number.to_bits())));
        for (array, &axis) in formula.along.iter().enumerate() {
            let read = formula.nodes.contains(&Node::Input(Input::Along(array)));
            let inner = len(tensor.shape.get(axis + 1..).unwrap_or_default());
            let length = tensor.shape.get(axis).copied().unwrap_or(1);
            words.extend([along.len() as u64, (length * inner) as u64, inner as u64]);
            along.extend_from_slice(if read { tensor.along[array] } else { &[] });
        }
        words.push(tensor.parameter_stream);
        words.extend(&tensor.column_streams[..layout.columns]);
    }
    (words, along)
}

/// Sweeps of several tensors.
type Sweeps<'s, 't, A> = &'s mut [TensorSweep<'t, f32, A>];

/// The tensors by the types of their arrays, in another order.
pub fn by_types<'s, 't, E: Executor>(
    tensors: &'s mut [TensorSweep<'t, f32, E::Array>],
) -> Vec<(Types, Sweeps<'s, 't, E::Array>)> {
    by_key(tensors, Types::of::<E>)
}

/// The tensors by what a launch needs to have in common, in another order.
///
/// ```
/// use gradient_transform::device::{Executor, TensorSweep};
/// use sweep_kernels::by_key;
///
/// /// Vectors apart from matrices.
/// fn ranks<E: Executor>(tensors: &mut [TensorSweep<'_, f32, E::Array>]) -> Vec<(usize, usize)> {
///     by_key(tensors, |tensor| tensor.shape.len()).iter().map(|(rank, own)| (*rank, own.len())).collect()
/// }
/// ```
pub fn by_key<S, K: PartialEq>(tensors: &mut [S], key: impl Fn(&S) -> K) -> Vec<(K, &mut [S])> {
    let mut known: Vec<(K, usize)> = Vec::new();
    let rank = |known: &[(K, usize)], key: &K| known.iter().position(|(known, _)| known == key);
    for tensor in tensors.iter() {
        let key = key(tensor);
        match rank(&known, &key) {
            Some(rank) => known[rank].1 += 1,
            None => known.push((key, 1)),
        }
    }
    if known.len() > 1 {
        tensors.sort_by_cached_key(|tensor| rank(&known, &key(tensor)));
    }
    let mut rest = tensors;
    known
        .into_iter()
        .map(|(key, count)| {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(count);
            rest = others;
            (key, own)
        })
        .collect()
}

/// A kernel that checks gradients for elements that are too large or not finite: it sets number i of `floats` to 1 if gradient i has one. Each
/// gradient has four words: its length, its place, whether it is bfloat16, and the limit as the bits of float32.
pub const USABLE: &str = "\
KERNEL usable(ARGUMENTS) {
    (void)along; (void)doubles;
    FOR_WARPS(job, count) {
        const u64 *w = words + 4 * jobs[2 * job], first = jobs[2 * job + 1] * (u64)TILE;
        const u32 n = w[0] - first < TILE ? (u32)(w[0] - first) : TILE;
        const float limit = as_float(w[3]);
        LANED(beyond);
        LANES_BEGIN
            for (u32 i = lane; i < n; i += 32) {
                const float g = w[2] ? from_bf16(ARRAY(u16, 1)[first + i]) : ARRAY(float, 1)[first + i];
                if (!(fabsf(g) <= limit)) OF(beyond) = 1;
            }
        LANES_END
        const float any = TOTAL(beyond);
        ON_LANE_0 if (any > 0) floats[jobs[2 * job]] = 1;
    }
}
";

/// The tables of [`USABLE`] for gradients of these lengths.
pub fn usable_tables(lens: &[usize]) -> Tables {
    let tiles = lens.iter().enumerate();
    let jobs: Vec<usize> =
        tiles.flat_map(|(i, len)| (0..len.div_ceil(TILE)).flat_map(move |tile| [i, tile])).collect();
    let mut tables = Tables { floats: lens.len(), ..Tables::default() };
    tables.launch("usable".to_owned(), &jobs, 2, true);
    tables
}

fn len(shape: &[usize]) -> usize {
    shape.iter().product()
}
