use std::array;

use gradient_transform::device::{FormulaElement, FormulaNumbers};
use gradient_transform::kernel::Prefetch;
use gradient_transform::{
    Context, DType, Error, Reads, Real, Result, StateSpec, Storage, Sums, TensorInfo, Tile, kernel,
};
use multiversion::multiversion;
use serde::{Deserialize, Serialize};

/// Samples of an estimator like Prodigy: on every n-th element, the inner product of the gradient with the
/// displacement so far, and a moving sum of gradients.
///
/// ```text
/// dot = <g, p0 - y>
/// s <- beta3 s + weight g
/// ```
///
/// with the raw gradient and the parameter before the step. Shared by `prodigy-core` and `speed`.
///
/// ```
/// use gradient_transform::{
///     Context, DType, StepContext, Sums, TensorInfo, Tile, Update,
/// };
/// use prodigy_core::Samples;
///
/// let samples = Samples { every: 2, ..Samples::new(0.5) };
/// samples.validate()?;
/// let tensor = TensorInfo { name: "w".into(), shape: vec![4], dtype: DType::F32, updates: 1 };
/// assert_eq!(samples.state(&tensor).columns.iter().map(|c| c.name).collect::<Vec<_>>(), ["p0", "s"]);
///
/// let (gradient, parameter) = ([1.0_f32, 9.0, -2.0, 9.0], [0.5_f32, 0.0, 0.0, 0.0]);
/// let (mut p0, mut s, mut values) = ([1.0_f32, 1.0], [4.0_f32, 0.0], gradient);
/// let mut tile = Tile {
///     update: Update::new(&mut values),
///     direction: &[],
///     gradient: &gradient,
///     parameter: &parameter,
///     base: &[],
///     columns: &mut [&mut p0[..], &mut s[..]],
///     scratch: &[],
///     offset: 0,
/// };
/// let mut totals = [0.0; 2];
/// let step = StepContext::new(2, 1.0);
/// let cx = Context::new(&step, &tensor);
/// samples.observe(&cx, &mut tile, Sums { scalars: &mut totals, vectors: &mut [] }, 3.0, false);
/// assert_eq!(totals, [1.0 * (1.0 - 0.5) - 2.0 * (1.0 - 0.0), 5.0 + 6.0]); // <g, p0 - y>, |s|_1
/// assert_eq!(s, [0.5 * 4.0 + 3.0 * 1.0, 3.0 * -2.0]);
/// assert_eq!(samples.contribution(&tensor, &totals, 3.0, false), [3.0 * -1.5, 11.0]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Samples {
    /// Distance between sampled elements, in logical order; the [`stride`](Self::stride) of a tensor may be
    /// slightly larger. At least 1; default 11.
    pub every: usize,
    /// Decay of s, in [0, 1).
    pub beta3: f64,
    /// End of the displacement p0 - y. Default: the parameter.
    pub at: Point,
    /// Reference 1.9.2: p0 and s are bfloat16 under float32 parameters, so that the first numerators are rounding noise.
    /// Otherwise p0 has the parameter's type, and s the type of the computation.
    pub narrow: bool,
    /// Reference 1.9.2: every `every`-th element, even if the samples are then always from the same columns.
    /// If only the other columns have gradients, d never moves.
    pub keeps_step_with_shape: bool,
}

impl Default for Samples {
    fn default() -> Self {
        Self::new(0.99_f64.sqrt())
    }
}

impl Samples {
    /// Samples every 11th element.
    pub fn new(beta3: f64) -> Self {
        Self { every: 11, beta3, at: Point::Parameter, narrow: false, keeps_step_with_shape: false }
    }

    /// The arrays that every step reads.
    pub const fn reads(&self) -> Reads {
        match self.at {
            Point::Parameter => Reads::GRADIENT_AND_PARAMETER_ALONE,
            Point::Base => Reads { gradient: true, update: false, ..Reads::BASE },
        }
    }

    /// The point of a tile at which the displacement ends.
    fn point<'t, T>(&self, tile: &Tile<'t, '_, T>) -> &'t [T] {
        match self.at {
            Point::Parameter => tile.parameter,
            Point::Base => tile.base,
        }
    }

    /// Distance between sampled elements in a tensor of this shape: the smallest number from `every` on that
    /// has no common factor with any axis but the first. So the samples go through all columns of a matrix,
    /// and through all positions along every axis.
    ///
    /// ```
    /// use prodigy_core::Samples;
    ///
    /// let samples = Samples::new(0.9);
    /// assert_eq!(samples.stride(&[64, 32]), 11);
    /// assert_eq!(samples.stride(&[40, 33]), 13); // 11 would sample only columns 0, 11 and 22, and 12 a third of them
    /// assert_eq!(samples.stride(&[33]), 11); // a vector has no columns
    /// assert_eq!(Samples { keeps_step_with_shape: true, ..samples }.stride(&[40, 33]), 11);
    /// ```
    pub fn stride(&self, shape: &[usize]) -> usize {
        let inner = shape.get(1..).unwrap_or_default();
        if self.keeps_step_with_shape || inner.contains(&0) {
            return self.every;
        }
        let fits = |stride: &usize| inner.iter().all(|axis| gcd(*stride, *axis) == 1);
        // A prime above all axes fits.
        (self.every..).find(fits).unwrap_or(self.every)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::OptionOutOfRange`].
    pub fn validate(&self) -> Result<()> {
        Error::check("beta3", self.beta3, (0.0..1.0).contains(&self.beta3), "at least 0 and below 1")?;
        Error::check("every", self.every as f64, self.every > 0, "at least 1")
    }

    /// The columns `p0` and `s`, and two sums.
    pub fn state(&self, tensor: &TensorInfo) -> StateSpec {
        let s = match (self.narrow, tensor.dtype) {
            (false, _) => Storage::Compute,
            (true, DType::F32) => Storage::Bf16,
            (true, _) => Storage::Parameter,
        };
        self.start(tensor).column("s", s).every(self.stride(&tensor.shape)).sums(2, 0)
    }

    /// Only the column `p0`.
    pub fn start(&self, tensor: &TensorInfo) -> StateSpec {
        let p0 = if self.narrow && tensor.dtype == DType::F32 { Storage::Bf16 } else { Storage::Parameter };
        StateSpec::new().column("p0", p0).every(self.stride(&tensor.shape)).copied().constant()
    }

    /// Adds a tile's samples to the sums: `<g, p0 - y>` and `|s|_1`. With `signed`, s takes the gradient's sign.
    pub fn observe<T: Real>(
        &self,
        cx: &Context<'_>,
        tile: &mut Tile<'_, '_, T>,
        sums: Sums<'_, T>,
        weight: f64,
        signed: bool,
    ) {
        let narrow_parameter = self.narrow && cx.tensor.dtype == DType::Bf16;
        let every = self.stride(&cx.tensor.shape);
        let arithmetic = Arithmetic {
            every,
            beta3: T::of(self.beta3),
            weight: if narrow_parameter { T::of(weight).round_bf16() } else { T::of(weight) },
            signed,
            narrow: self.narrow && cx.tensor.dtype != DType::F64,
            narrow_parameter,
        };
        let first = tile.offset.next_multiple_of(every) - tile.offset;
        let point = self.point(tile);
        let [p0, s] = &mut *tile.columns else { return };
        if first < tile.gradient.len() {
            let [dot, size] = gather(&arithmetic, &tile.gradient[first..], &point[first..], p0, s);
            sums.scalars[0] += dot;
            sums.scalars[1] += size;
        }
    }

    /// Adds a tile's samples to the sums of an estimator that keeps only `p0`: `<g, p0 - z>`, `|p0 - z|_1`
    /// and `|p0 - z|^2`, with the [point](Self::at) z.
    ///
    /// ```
    /// use gradient_transform::{Context, DType, StepContext, Sums, TensorInfo, Tile, Update};
    /// use prodigy_core::Samples;
    ///
    /// let samples = Samples { every: 2, ..Samples::new(0.5) };
    /// let tensor = TensorInfo { name: "w".into(), shape: vec![4], dtype: DType::F32, updates: 1 };
    /// let (gradient, parameter) = ([1.0_f32, 9.0, -2.0, 9.0], [0.5_f32, 0.0, 4.0, 0.0]);
    /// let (mut p0, mut values, mut totals) = ([1.0_f32, 1.0], gradient, [0.0; 3]);
    /// let mut tile = Tile {
    ///     update: Update::new(&mut values),
    ///     direction: &[],
    ///     gradient: &gradient,
    ///     parameter: &parameter,
    ///     base: &[],
    ///     columns: &mut [&mut p0[..]],
    ///     scratch: &[],
    ///     offset: 0,
    /// };
    /// let step = StepContext::new(2, 1.0);
    /// samples.displacement(&Context::new(&step, &tensor), &mut tile, Sums { scalars: &mut totals, vectors: &mut [] });
    /// assert_eq!(totals, [0.5 + 6.0, 0.5 + 3.0, 0.25 + 9.0]);
    /// assert_eq!(samples.start(&tensor).columns[0].name, "p0");
    /// ```
    pub fn displacement<T: Real>(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        let narrow_parameter = self.narrow && cx.tensor.dtype == DType::Bf16;
        let every = self.stride(&cx.tensor.shape);
        let first = tile.offset.next_multiple_of(every) - tile.offset;
        let point = self.point(tile);
        let [p0] = &*tile.columns else { return };
        let (gradients, points) = (tile.gradient.iter().skip(first), point.iter().skip(first));
        for ((&g, &z), &p0) in gradients.step_by(every).zip(points.step_by(every)).zip(p0.iter()) {
            let way = if narrow_parameter { (p0 - z).round_bf16() } else { p0 - z };
            let way = way.f64();
            sums.scalars[0] += g.f64() * way;
            sums.scalars[1] += way.abs();
            sums.scalars[2] += way * way;
        }
    }

    /// The work of [`observe`](Self::observe) on a sample, as a formula; weight and decay are the [`numbers`](Self::numbers) of the tensor
    /// and step.
    ///
    /// ```
    /// use gradient_transform::device::FormulaElement;
    /// use gradient_transform::number::Graph;
    /// use gradient_transform::{DType, TensorInfo};
    /// use prodigy_core::Samples;
    ///
    /// let tensor = TensorInfo { name: "w".into(), shape: vec![4], dtype: DType::F32, updates: 1 };
    /// let graph = Graph::with_names(&["p0", "s"], &["weight", "decay"], &[]);
    /// let mut e = FormulaElement::new(&graph);
    /// Samples::new(0.5).formula(&tensor, false, &mut e);
    /// assert_eq!(e.every, Some(11));
    /// assert_eq!(graph.equation(e.sums[0]), "g (p0 - y)");
    /// assert_eq!(graph.equation(e.sums[1]), "|s decay + weight g|");
    /// assert_eq!(Samples::new(0.5).numbers::<f32>(&tensor, 3.0).values[..], [3.0, 0.5]);
    /// ```
    pub fn formula(&self, tensor: &TensorInfo, signed: bool, element: &mut FormulaElement<'_>) {
        let narrow = self.narrow && tensor.dtype != DType::F64;
        let (g, p0, s) = (element.gradient, element.column(0), element.column(1));
        let (weight, decay) = (element.number(0), element.number(1));
        let way = p0
            - match self.at {
                Point::Parameter => element.parameter,
                Point::Base => element.base,
            };
        let way = if self.narrow && tensor.dtype == DType::Bf16 { way.round_bf16() } else { way };
        let term = weight * if signed { g.sign() } else { g };
        let next = match narrow {
            true => ((s * decay).round_bf16() + term).round_bf16(),
            false => s * decay + term,
        };
        element.every = Some(self.stride(&tensor.shape));
        element.state.push((1, next));
        element.sums.extend([g * way, next.abs()]);
    }

    /// Weight and decay of a step, for the [`formula`](Self::formula).
    pub fn numbers<T: Real>(&self, tensor: &TensorInfo, weight: f64) -> FormulaNumbers<T> {
        let narrow = self.narrow && tensor.dtype == DType::Bf16;
        let [weight, decay] = [weight, self.beta3].map(T::of);
        let weight = if narrow { weight.round_bf16() } else { weight };
        FormulaNumbers { values: [weight, decay].iter().copied().collect(), variant: 0 }
    }

    /// A tensor's contribution `[weight * dot, |s|_1]` from its complete sums, rounded as the reference rounds it.
    pub fn contribution(&self, tensor: &TensorInfo, sums: &[f64], weight: f64, signed: bool) -> [f64; 2] {
        let [dot, size] = [sums[0], sums[1]];
        // The reference's sums are float32, so equal weights of opposite signs cancel exactly.
        let (weight, dot, size) = match (self.narrow, tensor.dtype) {
            (true, DType::F32) => (f64::from(weight as f32), dot, size.round_bf16()),
            (true, DType::Bf16) => (f64::from(weight as f32), dot.round_bf16(), size.round_bf16()),
            _ => (weight, dot, size),
        };
        [weight * if signed { kernel::sign(dot) } else { dot }, size]
    }
}

/// Point at which the displacement from the start is measured.
///
/// ```
/// use prodigy_core::{Point, Samples};
///
/// let at_z = Samples { at: Point::Base, ..Samples::new(0.99) };
/// assert!(at_z.reads().base && !at_z.reads().parameter);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Point {
    /// The parameter y, where the gradient was taken: the paper, and reference 1.9.2.
    #[default]
    Parameter,
    /// The writer's base iterate: Schedule-Free's z, which moves by whole steps (reference 2.0.1), or the parameter where there is none.
    Base,
}

/// The greatest common divisor.
const fn gcd(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// How samples enter the sums.
#[derive(Clone, Copy)]
struct Arithmetic<T> {
    every: usize,
    beta3: T,
    weight: T,
    signed: bool,
    narrow: bool,
    narrow_parameter: bool,
}

impl<T: Real> Arithmetic<T> {
    #[inline(always)]
    fn product(self, g: T, way: T) -> T {
        g * if self.narrow_parameter { way.round_bf16() } else { way }
    }

    #[inline(always)]
    fn next(self, s: T, g: T) -> T {
        let g = if self.signed { kernel::sign(g) } else { g };
        if self.narrow {
            ((s * self.beta3).round_bf16() + self.weight * g).round_bf16()
        } else {
            s * self.beta3 + self.weight * g
        }
    }
}

const LANES: usize = 8;

/// Updates s by the samples, the first of which is at the beginning of `gradient` and `parameter`; returns
/// `<g, p0 - y>` and `|s|_1`.
#[multiversion(targets = "simd")]
fn gather<T: Real>(how: &Arithmetic<T>, gradient: &[T], parameter: &[T], p0: &[T], s: &mut [T]) -> [f64; 2] {
    let how = *how;
    let (mut dots, mut sizes) = ([T::zero(); LANES], [T::zero(); LANES]);
    let ((p0s, p0_rest), (ss, s_rest)) = (p0.as_chunks::<LANES>(), s.as_chunks_mut::<LANES>());
    let span = LANES * how.every;
    let mut prefetch = Prefetch::resume();
    for (i, (p0, s)) in p0s.iter().zip(ss).enumerate() {
        prefetch.block();
        let g = spread(&gradient[i * span..], how.every);
        let y = spread(&parameter[i * span..], how.every);
        for lane in 0..LANES {
            dots[lane] += how.product(g[lane], p0[lane] - y[lane]);
            s[lane] = how.next(s[lane], g[lane]);
            sizes[lane] += s[lane].abs();
        }
    }
    prefetch.suspend();
    let done = p0s.len() * span;
    for (lane, (&p0, s)) in p0_rest.iter().zip(s_rest).enumerate() {
        let at = done + lane * how.every;
        dots[lane] += how.product(gradient[at], p0 - parameter[at]);
        *s = how.next(*s, gradient[at]);
        sizes[lane] += s.abs();
    }
    [kernel::total(dots).f64(), kernel::total(sizes).f64()]
}

/// Every `every`-th element from the first on. The length is checked once, so that the loads need no checks
/// in between.
#[inline(always)]
fn spread<T: Real>(from: &[T], every: usize) -> [T; LANES] {
    let from = &from[..(LANES - 1) * every + 1];
    array::from_fn(|lane| from[lane * every])
}
