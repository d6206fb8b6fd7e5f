//! Formulas as WGSL text, which WebGPU runs on Vulkan, Metal and DirectX.
//!
//! A kernel is the same as in CUDA C, with the same [jobs](crate::Tables) and [words](crate::words), except for three restrictions of WGSL:
//!
//! * **No pointers.** Arrays are parts of a few buffers, by their [`Bindings`], and the words hold places in them, in units of four
//!   bytes. By default a stage has eight buffers, of which the tables take five. So tensors are packed together, and a launch has all
//!   that lie in the same buffers.
//! * **No float64.** The sums of tiles come back, and are added to sums of chunks and tensors on the host, as in the engine: see
//!   [`Tables::put_tiles`](crate::Tables::put_tiles). A sweep with sums of terms in float64
//!   ([`SUMS_IN_FLOAT64`](gradient_transform::GradientTransform::SUMS_IN_FLOAT64)) has no kernels.
//! * **No 16 bits.** Two bfloat16 numbers share a word. Where one is written, an invocation has both elements of a word, and no
//!   word is written by two. In columns of every n-th element a tile may end within a word: keep those as float32 ([`is_wide`]).
//!
//! Sums have the engine's order. The operations need not be rounded as the processor's are: WGSL allows a division 2.5 units in the last place of error, and a compiler
//! may fuse a product with a sum or take it apart.
//!
//! ```
//! use gradient_transform::{DType, Descent, Optimizer, Rounding};
//! use sweep_kernels::Types;
//! use sweep_kernels::wgsl::{FIRST_BUFFER, Bindings, kernels, shader};
//!
//! let optimizer = Optimizer::new(Descent::default(), [("w", [8])])?;
//! let sweep = &optimizer.formulas(0, &[8])?[0];
//! let types =
//!     Types { gradient: DType::F32, parameter: DType::F32, columns: vec![], rounding: Rounding::Nearest };
//! let bindings = Bindings { gradient: 0, parameter: 1, columns: vec![] };
//! let text = kernels(sweep, &types, &bindings);
//! let gradients = format!("@binding({FIRST_BUFFER}) var<storage, read> buffer0: array<f32>;");
//! assert!(text.contains(&gradients) && text.contains("buffer1[words[w + 2u].x + at] = kept.y;"));
//! assert!(shader(sweep, &types, &bindings).ends_with(&text)); // after the functions that all have
//! # Ok::<(), gradient_transform::Error>(())
//! ```

use std::fmt::Write;

use gradient_transform::device::{AlongSum, ElementFormula, SweepFormula};
use gradient_transform::number::{Function, Input, Symbol, wide};
use gradient_transform::{DType, Rounding};

use crate::batch::Launch;
use crate::constants::folded;
use crate::expression::{self, Kind, Language, indented, numbers, statements, stored};
use crate::layout::Layout;
use crate::text::Types;

/// Buffers of a launch that its arrays are in, by their numbers from 0 on.
///
/// ```
/// use sweep_kernels::wgsl::Bindings;
///
/// // Gradients of the caller's in a buffer, parameters in another, and state in a third.
/// let (bindings, buffers) = Bindings::of(&["gradients", "parameters", "state", "state"]);
/// assert_eq!(bindings, Bindings { gradient: 0, parameter: 1, columns: vec![2, 2] });
/// assert_eq!((bindings.count(), buffers), (3, vec!["gradients", "parameters", "state"]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bindings {
    /// The gradient's.
    pub gradient: usize,
    /// The parameter's.
    pub parameter: usize,
    /// The columns'. For a column without elements, any number.
    pub columns: Vec<usize>,
}

impl Bindings {
    /// Those of arrays in these buffers, which are the gradient's, the parameter's and the columns'; and the buffers, each once.
    pub fn of<B: PartialEq + Clone>(buffers: &[B]) -> (Self, Vec<B>) {
        let mut known: Vec<B> = Vec::new();
        let mut numbers = buffers.iter().map(|buffer| {
            known.iter().position(|known| known == buffer).unwrap_or_else(|| {
                known.push(buffer.clone());
                known.len() - 1
            })
        });
        let (gradient, parameter) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let columns = numbers.collect();
        (Self { gradient, parameter, columns }, known)
    }

    /// Number of buffers.
    pub fn count(&self) -> usize {
        1 + self.columns.iter().fold(self.gradient.max(self.parameter), |most, &buffer| most.max(buffer))
    }
}

/// Binding of the first buffer with arrays, all in group 0. Those before it are the tables: words, values along axes, jobs, sums of tiles, and sums along axes,
/// of which the last two are written.
pub const FIRST_BUFFER: u32 = 5;

/// The tables that are read. A word of 64 bits is two numbers, the low half first.
const TABLES: &str = "\
@group(0) @binding(0) var<storage, read> words: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> along: array<f32>;
@group(0) @binding(2) var<storage, read> jobs: array<u32>;
";

/// For each buffer, whether a sweep writes to it.
///
/// ```
/// use gradient_transform::{Descent, Optimizer};
/// use sweep_kernels::wgsl::{Bindings, written};
///
/// let optimizer = Optimizer::new(Descent::default(), [("w", [8])])?;
/// let sweep = &optimizer.formulas(0, &[8])?[0];
/// assert_eq!(written(sweep, &Bindings { gradient: 0, parameter: 1, columns: vec![] }), [false, true]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn written(formula: &SweepFormula, bindings: &Bindings) -> Vec<bool> {
    let mut written = vec![false; bindings.count()];
    for part in parts(formula) {
        part.columns.iter().for_each(|kept| written[bindings.columns[kept.column]] = true);
        if part.parameter.is_some() {
            written[bindings.parameter] = true;
        }
    }
    written
}

/// Whether a bfloat16 column of the formula has to be in memory as float32, one number to a word: see the head of the module. Its values are rounded to
/// bfloat16 all the same.
///
/// ```
/// use gradient_transform::{Descent, Optimizer};
/// use sweep_kernels::wgsl::is_wide;
///
/// let optimizer = Optimizer::new((elementary::Momentum::default(), Descent::default()), [("w", [8])])?;
/// assert!(!is_wide(&optimizer.formulas(0, &[8])?[0], 0)); // a momentum has all elements
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn is_wide(formula: &SweepFormula, column: usize) -> bool {
    formula.columns[column] > 1
}

/// Workgroups of a launch, in two dimensions, as one may have no more than 65535.
///
/// ```
/// use sweep_kernels::Launch;
/// use sweep_kernels::wgsl::workgroups;
///
/// let sweep = Launch { kernel: "sweep".into(), first: 0, count: 20, words: 2, by_warps: true };
/// assert_eq!(workgroups(&sweep), [3, 1]); // of eight jobs each
/// assert_eq!(workgroups(&Launch { count: 1_000_000, ..sweep }), [32768, 4]);
/// ```
pub fn workgroups(launch: &Launch) -> [u32; 2] {
    const ROW: usize = 1 << 15;
    // The loops of a row's kernel have barriers, and their lengths differ from row to row.
    let jobs = if launch.kernel.starts_with("sum_rows") { 1 } else { 8 };
    let groups = launch.count.div_ceil(jobs);
    if groups <= ROW { [groups as u32, 1] } else { [ROW as u32, groups.div_ceil(ROW) as u32] }
}

/// A kernel that looks for invalid elements of gradients (too large, or not finite), all in one buffer: [`crate::USABLE`] in WGSL. Words
/// and jobs are as there. Number i among the sums along axes is not 0 if gradient i has such elements.
///
/// ```
/// assert!(sweep_kernels::wgsl::USABLE.contains("fn usable"));
/// ```
pub const USABLE: &str = include_str!("usable.wgsl");

/// The kernels of a sweep, complete.
///
/// # Panics
/// If the sweep has values in float64, which WGSL does not have.
pub fn shader(formula: &SweepFormula, types: &Types, bindings: &Bindings) -> String {
    format!("{}{}", include_str!("support.wgsl"), kernels(formula, types, bindings))
}

/// The kernels of a sweep without the functions that all have.
///
/// # Panics
/// If the sweep has values in float64, which WGSL does not have.
pub fn kernels(formula: &SweepFormula, types: &Types, bindings: &Bindings) -> String {
    assert!(!wide(&formula.nodes).contains(&true), "a sweep has values in float64, which WGSL does not have");
    let formula = &folded(formula);
    let layout = Layout::of(formula, types.columns.len());
    let mut writer = Writer { formula, types, bindings, layout, words: vec![false; bindings.count()] };
    for (dtype, buffer) in writer.arrays() {
        writer.words[buffer] |= dtype == DType::Bf16;
    }
    let mut text = writer.bindings();
    for (k, sum) in formula.elements.sums_along.iter().enumerate() {
        text.push_str(&writer.sum_along(k, sum));
    }
    text.push_str(&writer.sweep());
    text
}

fn parts(formula: &SweepFormula) -> impl Iterator<Item = &ElementFormula> {
    std::iter::once(&formula.elements).chain(&formula.sampled)
}

struct Writer<'a> {
    formula: &'a SweepFormula,
    types: &'a Types,
    bindings: &'a Bindings,
    layout: Layout,
    /// For each buffer, whether it is one of words, and not of numbers.
    words: Vec<bool>,
}

impl Writer<'_> {
    /// Types of the arrays, as they are in memory, and their buffers.
    fn arrays(&self) -> Vec<(DType, usize)> {
        let columns = (0..self.types.columns.len())
            .filter_map(|i| Some((self.column_type(i)?, self.bindings.columns[i])));
        let arrays =
            [(self.types.gradient, self.bindings.gradient), (self.types.parameter, self.bindings.parameter)];
        arrays.into_iter().chain(columns).collect()
    }

    /// The type of a column in memory.
    fn column_type(&self, column: usize) -> Option<DType> {
        let dtype = self.types.columns[column]?;
        Some(if is_wide(self.formula, column) { DType::F32 } else { dtype })
    }

    fn bindings(&self) -> String {
        let mut text = TABLES.to_owned();
        text.push_str("@group(0) @binding(3) var<storage, read_write> tiles: array<f32>;\n");
        text.push_str("@group(0) @binding(4) var<storage, read_write> floats: array<f32>;\n");
        for (i, written) in written(self.formula, self.bindings).into_iter().enumerate() {
            let access = if written { "read_write" } else { "read" };
            let element = if self.words[i] { "u32" } else { "f32" };
            let binding = FIRST_BUFFER + i as u32;
            let _ = writeln!(
                text,
                "@group(0) @binding({binding}) var<storage, {access}> buffer{i}: array<{element}>;"
            );
        }
        text.push('\n');
        text
    }

    /// Whether an invocation has two elements at a time, as a word of two is written.
    fn by_pairs(&self) -> bool {
        let part = &self.formula.elements;
        let columns = part.columns.iter().any(|kept| self.column_type(kept.column) == Some(DType::Bf16));
        columns || part.parameter.is_some() && self.types.parameter == DType::Bf16
    }

    /// The function of an element: what is kept of it, the values of `kept`.
    fn function(&self, name: &str, kept: &Kept, sampled: bool) -> String {
        let fields: Vec<String> = kept.fields.iter().map(|(field, _)| format!("{field}: f32")).collect();
        let values: Vec<Symbol> = kept.fields.iter().map(|(_, value)| *value).collect();
        let language = Wgsl { writer: self, sampled };
        let names: Vec<String> =
            values.iter().map(|value| expression::name(self.formula, *value, &language)).collect();
        let record = &kept.record;
        let numbers = numbers(self.formula, &values).into_iter();
        let numbers: Vec<String> = numbers
            .map(|i| format!("let s{i} = bitcast<f32>(words[w + {}u].x);", self.layout.number(i)))
            .collect();
        format!(
            "\
struct {record} {{ {} }}
fn {name}(w: u32, at: u32{}) -> {record} {{
{}{}    return {record}({});
}}
",
            fields.join(", "),
            if sampled { ", k: u32" } else { "" },
            indented(&numbers, 1),
            indented(&statements(self.formula, &values, &language), 1),
            names.join(", ")
        )
    }

    /// The kernel that works on all elements: samples first, as elements are written in place.
    fn sweep(&self) -> String {
        let elements = &self.formula.elements;
        if parts(self.formula).all(|part| stored(part).is_empty()) {
            return String::new();
        }
        let (threads, lane) = if self.by_pairs() { (128, 16) } else { (256, 32) };
        let mut text = String::new();
        let mut body = String::new();
        let mut next = elements.sums.len();
        for (k, part) in self.formula.sampled.iter().enumerate() {
            text.push_str(&self.function(
                &format!("sample{k}"),
                &Kept::of(part, &format!("Sample{k}")),
                true,
            ));
            body.push_str(&self.samples(k, part, next));
            next += part.sums.len();
        }
        if !stored(elements).is_empty() {
            text.push_str(&self.function("element", &Kept::of(elements, "Kept"), false));
            if !self.formula.sampled.is_empty() {
                body.push_str("    storageBarrier();\n");
            }
            body.push_str(&if self.by_pairs() { self.pairs() } else { self.elements() });
        }
        let words = self.layout.words();
        let _ = write!(
            text,
            "
@compute @workgroup_size({threads})
fn sweep(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {{
    let job = (group.x + group.y * groups.x) * 8u + local / {lane}u;
    let lane = local % {lane}u;
    let base = local / {lane}u * 32u;
    let count = arrayLength(&jobs) / 2u;
    var w = 0u;
    var first = 0u;
    var n = 0u;
    if (job < count) {{
        w = {words}u * jobs[2u * job];
        first = jobs[2u * job + 1u] * TILE;
        n = min(words[w].x - first, TILE);
    }}
{body}}}
"
        );
        text
    }

    /// The loop over the elements of a tile: one at a time.
    fn elements(&self) -> String {
        let part = &self.formula.elements;
        let sums: Vec<usize> = (0..part.sums.len()).collect();
        let declared: Vec<String> =
            sums.iter().flat_map(|i| [format!("var sum{i} = 0.0;"), format!("var rest{i} = 0.0;")]).collect();
        let added = sums.iter().map(|i| {
            format!("if (i < n / 32u * 32u) {{ sum{i} += kept.t{i}; }} else {{ rest{i} = kept.t{i}; }}")
        });
        let mut stores: Vec<String> = added.collect();
        for (array, field, _, _) in self.stores(part) {
            stores.push(format!("{} = {};", array.at("at"), array.number(&format!("kept.{field}"))));
        }
        format!(
            "{}    for (var i = lane; i < n; i += 32u) {{
        let at = first + i;
        let kept = element(w, at);
{}    }}
{}",
            indented(&declared, 1),
            indented(&stores, 2),
            self.totals(&sums, "total")
        )
    }

    /// The same, two at a time, which are the halves of a word.
    fn pairs(&self) -> String {
        let part = &self.formula.elements;
        let sums: Vec<usize> = (0..part.sums.len()).collect();
        let mut before = Vec::new();
        for i in &sums {
            before.extend([format!("var sum{i} = vec2<f32>();"), format!("var rest{i} = vec2<f32>();")]);
        }
        let added = sums.iter().map(|i| {
            let terms = format!("vec2<f32>(a.t{i}, b.t{i})");
            format!("if (i < n / 32u * 32u) {{ sum{i} += {terms}; }} else {{ rest{i} = {terms}; }}")
        });
        let mut stores: Vec<String> = added.collect();
        for (array, field, stream, nearest) in self.stores(part) {
            if array.dtype != DType::Bf16 {
                stores.push(format!("{} = {};", array.at("at"), array.number(&format!("a.{field}"))));
                let second = format!("{} = {};", array.at("at + 1u"), array.number(&format!("b.{field}")));
                stores.push(format!("if (i + 1u < n) {{ {second} }}"));
                continue;
            }
            let half = |of: &str, i: &str| {
                if nearest || self.types.rounding == Rounding::Nearest {
                    format!("to_nearest({of}.{field})")
                } else {
                    format!("to_either({of}.{field}, random_bits(key_{field}, {i}))")
                }
            };
            if !nearest && self.types.rounding == Rounding::Stochastic {
                before.push(format!("let key_{field} = key_of_tile(words[w + {stream}u], first / TILE);"));
            }
            let (word, low, high) = (array.at("at / 2u"), half("a", "i"), half("b", "i + 1u"));
            let kept = format!("{word} >> 16u");
            stores.push(format!("{word} = {low} | (select({kept}, {high}, i + 1u < n) << 16u);"));
        }
        format!(
            "{}    for (var i = 2u * lane; i < n; i += 32u) {{
        let at = first + i;
        let a = element(w, at);
        let b = element(w, at + 1u);
{}    }}
{}",
            indented(&before, 1),
            indented(&stores, 2),
            self.totals(&sums, "total_of_pairs")
        )
    }

    fn totals(&self, sums: &[usize], function: &str) -> String {
        let lines = sums.iter().flat_map(|i| {
            [
                format!("let total{i} = {function}(base, lane, sum{i}, rest{i}, n);"),
                format!("if (job < count && lane == 0u) {{ tiles[{i}u * count + job] = total{i}; }}"),
            ]
        });
        indented(&lines.collect::<Vec<_>>(), 1)
    }

    /// The samples of a tile, which eight lanes add in their order.
    fn samples(&self, number: usize, part: &ElementFormula, first_sum: usize) -> String {
        let every = part.every;
        let sums: Vec<usize> = (0..part.sums.len()).collect();
        let declared: Vec<String> = sums.iter().map(|i| format!("var sum{} = 0.0;", first_sum + i)).collect();
        let mut within: Vec<String> =
            sums.iter().map(|i| format!("sum{} += kept.t{i};", first_sum + i)).collect();
        let mut before = declared;
        for (array, field, stream, nearest) in self.stores(part) {
            let mut value = format!("kept.{field}");
            let column = part.columns.iter().find(|kept| format!("c{}", kept.column) == field);
            if column.is_some_and(|kept| self.types.columns[kept.column] == Some(DType::Bf16)) {
                value = if nearest || self.types.rounding == Rounding::Nearest {
                    format!("round_bf16({value})")
                } else {
                    let random =
                        format!("random_bits(key_of_tile(words[w + {stream}u], k / TILE), k % TILE)");
                    format!("bitcast<f32>(to_either({value}, {random}) << 16u)")
                };
            }
            within.push(format!("{} = {};", array.at("k"), array.number(&value)));
        }
        before.push(format!(
            "let end{number} = select(0u, (first + n + {}u) / {every}u, lane < 8u);",
            every - 1
        ));
        let totals = sums.iter().map(|i| first_sum + i).flat_map(|i| {
            [
                format!("let total{i} = total8(base, lane, sum{i});"),
                format!("if (job < count && lane == 0u) {{ tiles[{i}u * count + job] = total{i}; }}"),
            ]
        });
        format!(
            "{}    for (var k = (first + {}u) / {every}u + lane; k < end{number}; k += 8u) {{
        let kept = sample{number}(w, k * {every}u, k);
{}    }}
{}",
            indented(&before, 1),
            every - 1,
            indented(&within, 2),
            indented(&totals.collect::<Vec<_>>(), 1)
        )
    }

    /// Results of a part: the array, the field of what is kept, the word of its random bits' key, and whether it is rounded to the nearest in any case.
    fn stores(&self, part: &ElementFormula) -> Vec<(Array, String, usize, bool)> {
        let columns = part.columns.iter().filter_map(|kept| {
            let (field, stream) = (format!("c{}", kept.column), self.layout.column_stream(kept.column));
            Some((self.column(kept.column)?, field, stream, kept.to_nearest))
        });
        let parameter = part.parameter.map(|_| {
            let array = self.array(2, self.types.parameter, self.bindings.parameter);
            (array, "y".to_owned(), self.layout.parameter_stream(), false)
        });
        columns.chain(parameter).collect()
    }

    /// An array whose place is at a word.
    fn array(&self, word: usize, dtype: DType, buffer: usize) -> Array {
        Array { dtype, buffer, word, of_words: self.words[buffer] }
    }

    fn column(&self, i: usize) -> Option<Array> {
        Some(self.array(self.layout.column(i), self.column_type(i)?, self.bindings.columns[i]))
    }

    /// The kernels of a sum over an axis: one for the last axis, whose elements follow one another, and one for others.
    fn sum_along(&self, k: usize, sum: &AlongSum) -> String {
        let words = self.layout.words();
        let (outer, inner) = (self.layout.along(sum.array) + 1, self.layout.along(sum.array) + 2);
        let kept = Kept { record: format!("Term{k}"), fields: vec![("t0".to_owned(), sum.value)] };
        let mut text = self.function(&format!("term{k}"), &kept, false);
        if !sum.lacks_first {
            let _ = write!(text, "
@compute @workgroup_size(32)
fn sum_rows_{k}(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{
    let job = 3u * (group.x + group.y * groups.x);
    if (job >= arrayLength(&jobs)) {{ return; }}
    let w = {words}u * jobs[job];
    let length = words[w + {outer}u].x;
    let end = (jobs[job + 1u] + 1u) * length;
    var begin = end - length;
    var sum = 0.0;
    while (begin < end) {{
        let chunk_end = min((begin / CHUNK + 1u) * CHUNK, end);
        var part = 0.0;
        while (begin < chunk_end) {{
            let tile_end = min((begin / TILE + 1u) * TILE, chunk_end);
            let n = tile_end - begin;
            var blocks = 0.0;
            var rest = 0.0;
            for (var i = lane; i < n; i += 32u) {{
                let term = term{k}(w, begin + i).t0;
                if (i < n / 32u * 32u) {{ blocks += term; }} else {{ rest = term; }}
            }}
            part += total(0u, lane, blocks, rest, n);
            begin = tile_end;
        }}
        sum += part;
    }}
    if (lane == 0u) {{ floats[jobs[job + 2u]] = sum; }}
}}
");
        }
        let _ = write!(text, "
@compute @workgroup_size(256)
fn sum_columns_{k}(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {{
    let job = 6u * ((group.x + group.y * groups.x) * 8u + local / 32u);
    let lane = local % 32u;
    if (job >= arrayLength(&jobs) || lane >= jobs[job + 2u]) {{ return; }}
    let w = {words}u * jobs[job];
    let outer = words[w + {outer}u].x;
    let inner = words[w + {inner}u].x;
    let out = jobs[job + 1u] + lane;
    let begin = out / inner * outer + out % inner;
    let stop = out / inner * outer + outer;
    let low = jobs[job + 3u] * CHUNK;
    let high = jobs[job + 4u] * CHUNK;
    var at = select(begin, begin + (low - begin + inner - 1u) / inner * inner, low > begin);
    var sum = 0.0;
    while (at < stop && at < high) {{
        let chunk_end = min((at / CHUNK + 1u) * CHUNK, stop);
        var part = 0.0;
        for (; at < chunk_end; at += inner) {{ part += term{k}(w, at).t0; }}
        sum += part;
    }}
    floats[jobs[job + 5u] + lane] = sum;
}}
");
        if k == 0 {
            text.push_str(include_str!("fold_parts.wgsl"));
        }
        text
    }
}

/// Result of a function of an element.
struct Kept {
    record: String,
    fields: Vec<(String, Symbol)>,
}

impl Kept {
    fn of(part: &ElementFormula, record: &str) -> Self {
        let columns = part.columns.iter().map(|kept| (format!("c{}", kept.column), kept.value));
        let parameter = part.parameter.map(|value| ("y".to_owned(), value));
        let sums = part.sums.iter().enumerate().map(|(i, (_, value))| (format!("t{i}"), *value));
        Self { record: record.to_owned(), fields: columns.chain(parameter).chain(sums).collect() }
    }
}

/// An array in a buffer.
struct Array {
    dtype: DType,
    buffer: usize,
    /// The word with its place.
    word: usize,
    of_words: bool,
}

impl Array {
    /// A word of it.
    fn at(&self, index: &str) -> String {
        format!("buffer{}[words[w + {}u].x + {index}]", self.buffer, self.word)
    }

    /// A number, as it is put into the buffer.
    fn number(&self, value: &str) -> String {
        if self.of_words { format!("bitcast<u32>({value})") } else { value.to_owned() }
    }

    /// An element.
    fn load(&self, index: &str) -> String {
        match self.dtype {
            DType::Bf16 => format!("from_bf16({}, {index})", self.at(&format!("{index} / 2u"))),
            _ if self.of_words => format!("bitcast<f32>({})", self.at(index)),
            _ => self.at(index),
        }
    }
}

struct Wgsl<'w> {
    writer: &'w Writer<'w>,
    /// Whether the element is a sample, number `k` of them.
    sampled: bool,
}

impl Language for Wgsl<'_> {
    fn declare(&self, _kind: Kind, name: &str, value: &str) -> String {
        format!("let {name} = {value};")
    }

    fn literal(&self, x: f32) -> String {
        match x {
            _ if x.is_nan() => "bitcast<f32>(not_a_number)".to_owned(),
            _ if x.is_infinite() => format!("({}bitcast<f32>(infinite))", if x < 0.0 { "-" } else { "" }),
            _ if x.is_sign_negative() => format!("({x:?}f)"),
            _ => format!("{x:?}f"),
        }
    }

    fn wide_literal(&self, _x: f64) -> String {
        unreachable!("a sweep with values in float64 has no kernels")
    }

    fn load(&self, input: Input) -> String {
        let Writer { types, bindings, layout, formula, .. } = self.writer;
        match input {
            Input::Gradient => self.writer.array(1, types.gradient, bindings.gradient).load("at"),
            Input::Parameter => self.writer.array(2, types.parameter, bindings.parameter).load("at"),
            Input::State(i) => match self.writer.column(i) {
                Some(column) if formula.columns[i] == 1 => column.load("at"),
                Some(column) if self.sampled => column.load("k"),
                _ => "0.0".to_owned(),
            },
            Input::Along(i) => {
                let word = layout.along(i);
                let part = |k: usize| format!("words[w + {}u].x", word + k);
                format!("along[{} + along_at(at, {}, {})]", part(0), part(1), part(2))
            }
            Input::Scalar(_) | Input::Update | Input::Base | Input::Direction => String::new(),
        }
    }

    fn function(&self, function: Function, _kind: Kind) -> &'static str {
        match function {
            Function::Exp => "exp",
            Function::Ln => "log",
            Function::Tanh => "hyperbolic_tangent",
            Function::Sqrt => "sqrt",
            Function::Abs => "abs",
            Function::Arctangent => "arctangent",
            Function::RoundBf16 => "round_bf16",
        }
    }

    fn fused(&self, _kind: Kind) -> &'static str {
        "fma"
    }

    fn select(&self, condition: &str, yes: &str, no: &str) -> String {
        format!("select({no}, {yes}, {condition})")
    }
}
