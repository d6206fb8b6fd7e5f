//! Formulas as the text of kernels.

use std::fmt::Write;

use gradient_transform::device::{AlongSum, ElementFormula, Executor, SweepFormula, TensorSweep};
use gradient_transform::number::{Function, Input, Symbol, wide};
use gradient_transform::{DType, Rounding};

use crate::expression::{self, Kind, Language, indented, numbers, statements, stored};
use crate::layout::Layout;

/// Functions that kernels call, and macros that map CUDA's keywords to C. They go before the kernels.
pub const SUPPORT: &str = include_str!("support.h");

/// Types in memory of a tensor's arrays, and how bfloat16 is rounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Types {
    /// The gradient's.
    pub gradient: DType,
    /// The parameter's.
    pub parameter: DType,
    /// The columns'; `None` for those that are 0 everywhere and have no memory.
    pub columns: Vec<Option<DType>>,
    /// Rounding of what is stored as bfloat16.
    pub rounding: Rounding,
}

impl Types {
    /// Those of a tensor.
    pub fn of<E: Executor>(tensor: &TensorSweep<'_, f32, E::Array>) -> Self {
        let columns = tensor.columns.iter().map(|column| (E::len(column) > 0).then(|| E::dtype(column)));
        Self {
            gradient: E::dtype(tensor.gradient),
            parameter: E::dtype(tensor.parameter),
            columns: columns.collect(),
            rounding: tensor.rounding,
        }
    }
}

/// The kernels of a sweep as text, without [`SUPPORT`].
///
/// # Panics
/// If anything but terms of sums over every element is in float64.
pub fn kernels(formula: &SweepFormula, types: &Types) -> String {
    let layout = Layout::of(formula, types.columns.len());
    let writer = Writer { formula, types, layout, wide: wide(&formula.nodes) };
    writer.check_wide();
    let mut text = String::new();
    for (k, sum) in formula.elements.sums_along.iter().enumerate() {
        text.push_str(&writer.sum_along(k, sum));
    }
    text.push_str(&writer.sweep());
    text
}

struct Writer<'a> {
    formula: &'a SweepFormula,
    types: &'a Types,
    layout: Layout,
    /// For every node, whether it is in float64.
    wide: Vec<bool>,
}

/// Where an element is, in the words of a kernel.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Its index within the tensor.
    at: &'a str,
    /// Its index within its columns.
    column: &'a str,
    /// Whether arrays are arguments of the function, by their names.
    own: bool,
}

impl Writer<'_> {
    /// Lanes in float64 are those of sums over every element, and memory has none.
    fn check_wide(&self) {
        let elements = &self.formula.elements;
        let kept = elements.columns.iter().map(|kept| kept.value).chain(elements.parameter);
        let kept = kept.chain(elements.sums_along.iter().map(|sum| sum.value));
        let sampled = self.formula.sampled.iter().flat_map(ElementFormula::values);
        let is_wide = |symbol: Symbol| self.wide[symbol.index()];
        assert!(!kept.chain(sampled).any(is_wide), "only terms of sums over every element can be in float64");
    }

    /// Type of the lanes of a sum over every element, and what its macros begin with.
    fn lanes(&self, sum: usize) -> (&'static str, &'static str) {
        let (_, term) = self.formula.elements.sums[sum];
        if self.wide[term.index()] { ("double", "WIDE_") } else { ("float", "") }
    }

    /// The kernel that works on all elements: samples first, as elements are written in place.
    fn sweep(&self) -> String {
        let Self { formula, layout, .. } = self;
        let elements = &formula.elements;
        let parts = || std::iter::once(elements).chain(&formula.sampled);
        if parts().all(|part| stored(part).is_empty()) {
            return String::new();
        }
        // The engine's order of sums: those of elements, and then those of samples.
        let mut next = elements.sums.len();
        let samples: Vec<String> = formula
            .sampled
            .iter()
            .map(|part| {
                let text = self.samples(part, next);
                next += part.sums.len();
                text
            })
            .collect();
        let mut text = if stored(elements).is_empty() { String::new() } else { self.elements() };
        let unused =
            self.unused(&parts().flat_map(stored).collect::<Vec<_>>(), (next > 0).then_some("doubles"));
        let words = layout.words();
        let _ = write!(
            text,
            "\
KERNEL sweep(ARGUMENTS) {{
    {unused}
    FOR_WARPS(job, count) {{
        const u64 *w = words + {words} * jobs[2 * job], first = jobs[2 * job + 1] * (u64)TILE;
        const u32 n = w[0] - first < TILE ? (u32)(w[0] - first) : TILE;
"
        );
        samples.iter().for_each(|samples| text.push_str(samples));
        if !stored(elements).is_empty() {
            let sums: Vec<usize> = (0..elements.sums.len()).collect();
            let declared = |i: &usize| {
                let (_, wide) = self.lanes(*i);
                format!("        {wide}LANED(sum{i}); {wide}LANED(rest{i});\n")
            };
            text.extend(sums.iter().map(declared));
            let arrays = self.arrays(elements).into_iter().map(|array| array.argument);
            let given = sums.iter().flat_map(|i| [format!("&OF(sum{i})"), format!("&OF(rest{i})")]);
            let arguments: Vec<String> = arrays.chain(given).collect();
            let _ = write!(
                text,
                "        LANES_BEGIN
            elements(w, along, first, n, lane{}{});
        LANES_END
",
                if arguments.is_empty() { "" } else { ", " },
                arguments.join(", ")
            );
            for i in &sums {
                let (_, wide) = self.lanes(*i);
                let _ = write!(
                    text,
                    "        const double total{i} = {wide}TOTAL(sum{i}) + {wide}IN_ORDER(rest{i}, n % 32);
        ON_LANE_0 doubles[{i} * count + job] = total{i};
"
                );
            }
        }
        text.push_str("    }\n}\n");
        text
    }

    /// The function of a lane that works on its elements of a tile. That no two of its arrays overlap lets loads go ahead of stores.
    fn elements(&self) -> String {
        let part = &self.formula.elements;
        let place = Place { at: "at", column: "at", own: true };
        let parameters = self.arrays(part).into_iter().map(|array| array.parameter);
        let sums = (0..part.sums.len()).map(|i| {
            let (number, _) = self.lanes(i);
            format!("{number} *sum{i}, {number} *rest{i}")
        });
        let parameters: String = parameters.chain(sums).map(|parameter| format!(", {parameter}")).collect();
        let before: Vec<String> = self.numbers(&stored(part)).into_iter().chain(self.keys(part)).collect();
        let (before, values) = (indented(&before, 1), indented(&self.values(&stored(part), place), 2));
        let sums = part.sums.iter().enumerate().map(|(i, (_, term))| {
            let term = self.name(*term);
            format!("if (i < n / 32 * 32) *sum{i} += {term}; else *rest{i} = {term};")
        });
        let sums = indented(&sums.collect::<Vec<_>>(), 2);
        let stores = indented(&self.stores(part, place), 2);
        format!(
            "\
FUNCTION void elements(const u64 *w, const float *RESTRICT along, u64 first, u32 n, u32 lane{parameters}) {{
    (void)w; (void)along;
{before}    UNROLL for (u32 i = lane; i < n; i += 32) {{
        const u64 at = first + i;
{values}{sums}{stores}    }}
}}
"
        )
    }

    /// The samples of a tile: 32 at a time, which are added to eight lanes in their order.
    fn samples(&self, part: &ElementFormula, first_sum: usize) -> String {
        let every = part.every;
        let place = Place { at: "at", column: "k", own: false };
        let sums: Vec<usize> = (first_sum..first_sum + part.sums.len()).collect();
        let each = |line: &dyn Fn(usize) -> String| -> String { sums.iter().map(|&i| line(i)).collect() };
        let declared = each(&|i| format!("        LANED(sum{i});\n"));
        let terms = each(&|i| format!("            LANED(term{i});\n"));
        let added = each(&|i| format!("            ADD8(sum{i}, term{i}, end - from);\n"));
        let totals = each(&|i| {
            format!(
                "        const double total{i} = TOTAL8(sum{i});\n        ON_LANE_0 doubles[{i} * count + job] = total{i};\n"
            )
        });
        let numbers = indented(&self.numbers(&stored(part)), 2);
        let values = indented(&self.values(&stored(part), place), 5);
        let given = part.sums.iter().zip(&sums);
        let given: Vec<String> =
            given.map(|((_, term), i)| format!("OF(term{i}) = {};", self.name(*term))).collect();
        let (given, stores) = (indented(&given, 5), indented(&self.stores(part, place), 5));
        format!(
            "\
{declared}{numbers}        const u64 end = (first + n + {every} - 1) / {every};
        for (u64 from = (first + {every} - 1) / {every}; from < end; from += 32) {{
{terms}            LANES_BEGIN
                const u64 k = from + lane, at = k * {every};
                if (k < end) {{
{values}{given}{stores}                }}
            LANES_END
{added}        }}
{totals}"
        )
    }

    /// The arrays that a part reads and writes.
    fn arrays(&self, part: &ElementFormula) -> Vec<Array> {
        let inputs = self.formula.inputs(&stored(part));
        let array = |name: String, word: usize, dtype: DType, written: bool| {
            let (kind, constant) = (memory_type(dtype), if written { "" } else { "const " });
            Array {
                parameter: format!("{constant}{kind} *RESTRICT {name}"),
                argument: format!("ARRAY({kind}, {word})"),
            }
        };
        let mut arrays = Vec::new();
        if inputs.contains(&Input::Gradient) {
            arrays.push(array("G".to_owned(), 1, self.types.gradient, false));
        }
        if inputs.contains(&Input::Parameter) || part.parameter.is_some() {
            arrays.push(array("Y".to_owned(), 2, self.types.parameter, part.parameter.is_some()));
        }
        for (i, dtype) in self.types.columns.iter().enumerate() {
            let written = part.columns.iter().any(|kept| kept.column == i);
            if let Some(dtype) = dtype.filter(|_| written || inputs.contains(&Input::State(i))) {
                arrays.push(array(format!("C{i}"), self.layout.column(i), dtype, written));
            }
        }
        arrays
    }

    /// The kernels of a sum over an axis: one for the last axis, whose elements follow one another, and one for others.
    fn sum_along(&self, k: usize, sum: &AlongSum) -> String {
        let kept = [sum.value];
        let place = Place { at: "at", column: "at", own: false };
        let (unused, words) = (self.unused(&kept, Some("floats")), self.layout.words());
        let numbers = indented(&self.numbers(&kept), 2);
        let (outer, inner) = (self.layout.along(sum.array) + 1, self.layout.along(sum.array) + 2);
        let (term, value) = (indented(&self.values(&kept, place), 6), self.name(sum.value));
        let column_term = indented(&self.values(&kept, place), 5);
        let mut text = String::new();
        if !sum.lacks_first {
            let _ = write!(text, "\
KERNEL sum_rows_{k}(ARGUMENTS) {{
    {unused}
    FOR_WARPS(job, count) {{
        const u32 *j = jobs + 3 * job;
        const u64 *w = words + {words} * j[0], end = (j[1] + 1) * w[{outer}];
{numbers}        float sum = 0;
        for (u64 from = j[1] * w[{outer}]; from < end;) {{
            const u64 next_chunk = (from / CHUNK + 1) * CHUNK, chunk_end = next_chunk < end ? next_chunk : end;
            float part = 0;
            while (from < chunk_end) {{
                const u64 next_tile = (from / TILE + 1) * TILE, tile_end = next_tile < chunk_end ? next_tile : chunk_end;
                const u32 n = (u32)(tile_end - from);
                LANED(lanes); LANED(rest);
                LANES_BEGIN
                    UNROLL for (u32 i = lane; i < n; i += 32) {{
                        const u64 at = from + i;
{term}                        if (i < n / 32 * 32) OF(lanes) += {value}; else OF(rest) = {value};
                    }}
                LANES_END
                const float behind = IN_ORDER(rest, n % 32);
                part += n < 32 ? behind : TOTAL(lanes) + behind;
                from = tile_end;
            }}
            sum += part;
        }}
        ON_LANE_0 floats[j[2]] = sum;
    }}
}}
");
        }
        let _ = write!(text, "\
KERNEL sum_columns_{k}(ARGUMENTS) {{
    {unused}
    FOR_WARPS(job, count) {{
        const u32 *j = jobs + 6 * job;
        const u64 *w = words + {words} * j[0], outer = w[{outer}], inner = w[{inner}];
        const u64 low = j[3] * (u64)CHUNK, high = j[4] * (u64)CHUNK;
{numbers}        LANES_BEGIN
            if (lane < j[2]) {{
                const u64 out = j[1] + lane, begin = out / inner * outer + out % inner, stop = out / inner * outer + outer;
                u64 at = low > begin ? begin + (low - begin + inner - 1) / inner * inner : begin;
                float sum = 0;
                while (at < stop && at < high) {{
                    const u64 next_chunk = (at / CHUNK + 1) * CHUNK, chunk_end = next_chunk < stop ? next_chunk : stop;
                    float part = 0;
                    UNROLL for (; at < chunk_end; at += inner) {{
{column_term}                        part += {value};
                    }}
                    sum += part;
                }}
                floats[j[5] + lane] = sum;
            }}
        LANES_END
    }}
}}
");
        text
    }

    /// Arguments that a kernel does not look at, for compilers that warn.
    fn unused(&self, values: &[Symbol], results: Option<&str>) -> String {
        let reads_along = self.formula.inputs(values).iter().any(|input| matches!(input, Input::Along(_)));
        let unused = ["base", "along", "doubles", "floats"].into_iter().filter(|name| match *name {
            "base" => true,
            "along" => !reads_along,
            name => results != Some(name),
        });
        unused.map(|name| format!("(void){name};")).collect::<Vec<_>>().join(" ")
    }

    /// Numbers of the tensor and step.
    fn numbers(&self, values: &[Symbol]) -> Vec<String> {
        let numbers = numbers(self.formula, values).into_iter();
        numbers.map(|i| format!("const float s{i} = as_float(w[{}]);", self.layout.number(i))).collect()
    }

    /// Keys of the random bits of a tile.
    fn keys(&self, part: &ElementFormula) -> Vec<String> {
        if self.types.rounding == Rounding::Nearest {
            return Vec::new();
        }
        let key =
            |name: String, word: usize| format!("const u64 {name} = key_of_tile(w[{word}], first / TILE);");
        let narrow = |column: usize| self.types.columns[column] == Some(DType::Bf16);
        let columns = part.columns.iter().filter(|kept| !kept.to_nearest && narrow(kept.column));
        let columns =
            columns.map(|kept| key(format!("key{}", kept.column), self.layout.column_stream(kept.column)));
        let parameter = part.parameter.filter(|_| self.types.parameter == DType::Bf16);
        let parameter = parameter.map(|_| key("key".to_owned(), self.layout.parameter_stream()));
        columns.chain(parameter).collect()
    }

    /// The statements that give values of an element.
    fn values(&self, values: &[Symbol], place: Place<'_>) -> Vec<String> {
        statements(self.formula, values, &C { writer: self, place })
    }

    /// The name of a value, or the literal that it is.
    fn name(&self, symbol: Symbol) -> String {
        let place = Place { at: "at", column: "at", own: false };
        expression::name(self.formula, symbol, &C { writer: self, place })
    }

    /// An array, by its name or its word.
    fn array(&self, name: String, word: usize, dtype: DType, place: Place<'_>) -> String {
        if place.own { name } else { format!("ARRAY({}, {word})", memory_type(dtype)) }
    }

    /// The index of an element within a column: samples have columns of their own, and look at others too.
    fn index<'p>(&self, column: usize, place: Place<'p>) -> &'p str {
        if self.formula.columns[column] > 1 { place.column } else { place.at }
    }

    fn stores(&self, part: &ElementFormula, place: Place<'_>) -> Vec<String> {
        let at = place.column;
        let store =
            |name: String, word: usize, dtype: DType, random: String, nearest: bool, value: Symbol| {
                let (array, value) = (self.array(name, word, dtype, place), self.name(value));
                match dtype {
                    DType::F32 | DType::F64 => format!("{array}[{at}] = {value};"),
                    DType::Bf16 if nearest || self.types.rounding == Rounding::Nearest => {
                        format!("{array}[{at}] = to_nearest({value});")
                    }
                    DType::Bf16 => format!("{array}[{at}] = to_either({value}, {random});"),
                }
            };
        let columns = part.columns.iter().filter_map(|kept| {
            let (name, word) = (format!("C{}", kept.column), self.layout.column(kept.column));
            let random = if place.own {
                format!("random_bits(key{}, i)", kept.column)
            } else {
                let stream = self.layout.column_stream(kept.column);
                format!("random_bits(key_of_tile(w[{stream}], {at} / TILE), (u32)({at} % TILE))")
            };
            let dtype = self.types.columns[kept.column]?;
            Some(store(name, word, dtype, random, kept.to_nearest, kept.value))
        });
        let random = "random_bits(key, i)".to_owned();
        let store = |value| store("Y".to_owned(), 2, self.types.parameter, random, false, value);
        columns.chain(part.parameter.map(store)).collect()
    }
}

/// An array as a parameter of a function, and as the argument for it.
struct Array {
    parameter: String,
    argument: String,
}

fn memory_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float",
        DType::Bf16 => "u16",
        DType::F64 => "double",
    }
}

/// CUDA C, at a place.
struct C<'w, 'p> {
    writer: &'w Writer<'w>,
    place: Place<'p>,
}

impl Language for C<'_, '_> {
    fn declare(&self, kind: Kind, name: &str, value: &str) -> String {
        let kind = match kind {
            Kind::Truth => "int",
            Kind::Narrow => "float",
            Kind::Wide => "double",
        };
        format!("const {kind} {name} = {value};")
    }

    fn literal(&self, x: f32) -> String {
        match x {
            _ if x.is_nan() => "(0.0f / 0.0f)".to_owned(),
            _ if x.is_infinite() => format!("({}1.0f / 0.0f)", if x < 0.0 { "-" } else { "" }),
            _ if x.is_sign_negative() => format!("({x:?}f)"),
            _ => format!("{x:?}f"),
        }
    }

    fn wide_literal(&self, x: f64) -> String {
        match x {
            _ if x.is_nan() => "(0.0 / 0.0)".to_owned(),
            _ if x.is_infinite() => format!("({}1.0 / 0.0)", if x < 0.0 { "-" } else { "" }),
            _ if x.is_sign_negative() => format!("({x:?})"),
            _ => format!("{x:?}"),
        }
    }

    fn load(&self, input: Input) -> String {
        let (Writer { types, layout, .. }, place) = (self.writer, self.place);
        let element = |name: String, word: usize, dtype: DType, at: &str| {
            let array = self.writer.array(name, word, dtype, place);
            if dtype == DType::Bf16 { format!("from_bf16({array}[{at}])") } else { format!("{array}[{at}]") }
        };
        match input {
            Input::Gradient => element("G".to_owned(), 1, types.gradient, place.at),
            Input::Parameter => element("Y".to_owned(), 2, types.parameter, place.at),
            Input::State(i) => match types.columns[i] {
                None => "0".to_owned(),
                Some(dtype) => element(format!("C{i}"), layout.column(i), dtype, self.writer.index(i, place)),
            },
            Input::Along(i) => {
                let word = layout.along(i);
                format!("along[w[{word}] + along_at({}, w[{}], w[{}])]", place.at, word + 1, word + 2)
            }
            Input::Scalar(_) | Input::Update | Input::Base | Input::Direction => String::new(),
        }
    }

    fn function(&self, function: Function, kind: Kind) -> &'static str {
        let (narrow, wide) = match function {
            Function::Exp => ("expf", "exp"),
            Function::Ln => ("logf", "log"),
            Function::Tanh => ("tanhf", "tanh"),
            Function::Sqrt => ("sqrtf", "sqrt"),
            Function::Abs => ("fabsf", "fabs"),
            Function::Arctangent => ("arctangent", "atan"),
            Function::RoundBf16 => ("round_bf16", "wide_round_bf16"),
        };
        if kind == Kind::Wide { wide } else { narrow }
    }

    fn fused(&self, kind: Kind) -> &'static str {
        if kind == Kind::Wide { "fma" } else { "fmaf" }
    }

    fn select(&self, condition: &str, yes: &str, no: &str) -> String {
        format!("{condition} ? {yes} : {no}")
    }
}
