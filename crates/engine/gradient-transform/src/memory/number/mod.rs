//! Numbers of transforms: vectors of elements in the engine's loops, symbols when a formula is traced.

mod symbol;
mod vector;

use crate::memory::element::Real;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Sub};

pub use symbol::{Graph, Input, Node, Symbol, evaluate, evaluate_wide, wide};
pub use vector::{Double, LANES, Single, Vectors, WithVectors};
pub(crate) use vector::{OnDouble, OnSingle, dispatch};

/// Function of one number, beyond the four operations.
///
/// ```
/// use gradient_transform::number::Function;
///
/// assert_eq!(Function::Exp.at(0.0_f64), 1.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `e^x`.
    Exp,
    /// Natural logarithm.
    Ln,
    /// Hyperbolic tangent.
    Tanh,
    /// Square root.
    Sqrt,
    /// Absolute value.
    Abs,
    /// Arctangent of a number from 0 to 1.
    Arctangent,
    /// Rounding to the nearest bfloat16, ties to even.
    RoundBf16,
}

impl Function {
    /// Value at `x`.
    pub fn at<T: Real>(self, x: T) -> T {
        match self {
            Self::Exp => x.exp(),
            Self::Ln => x.ln(),
            Self::Tanh => x.tanh(),
            Self::Sqrt => x.sqrt(),
            Self::Abs => x.abs(),
            Self::Arctangent => x.arctangent(),
            Self::RoundBf16 => x.round_bf16(),
        }
    }
}

/// System of numbers: float32 or float64 vectors ([`Single`], [`Double`]), or symbols ([`Graph`]).
///
/// Transforms are generic over it, but never call it; they use the operators and methods of
/// [`Num`].
///
/// ```
/// use std::cell::Cell;
///
/// use gradient_transform::number::{Backend, Function, Num, Operand};
///
/// #[inline(always)]
/// fn soften<B: Backend>(u: Num<B>) -> Num<B> {
///     u / (1.0 + u * u).sqrt()
/// }
///
/// /// Numbers that count divisions and roots.
/// #[derive(Clone, Copy, Debug)]
/// struct Slow<'a>(&'a Cell<u32>);
///
/// impl Backend for Slow<'_> {
///     type Value = ();
///     type Bool = ();
///
///     fn constant(self, _x: f64) {}
///     fn add(self, _a: (), _b: ()) {}
///     fn sub(self, _a: (), _b: ()) {}
///     fn mul(self, _a: (), _b: ()) {}
///     fn div(self, _a: (), _b: ()) {
///         self.0.set(self.0.get() + 1);
///     }
///     fn mul_add(self, _a: (), _b: (), _c: ()) {}
///     fn neg(self, _a: ()) {}
///     fn apply(self, f: Function, _a: ()) {
///         self.0.set(self.0.get() + u32::from(f == Function::Sqrt));
///     }
///     fn less(self, _a: (), _b: ()) {}
///     fn equal(self, _a: (), _b: ()) {}
///     fn and(self, _a: (), _b: ()) {}
///     fn or(self, _a: (), _b: ()) {}
///     fn not(self, _a: ()) {}
///     fn select(self, _condition: (), _yes: (), _no: ()) {}
/// }
///
/// let count = Cell::new(0);
/// soften(2.0.on(Slow(&count)));
/// assert_eq!(count.get(), 2);
/// ```
pub trait Backend: Copy + std::fmt::Debug {
    /// A number, or a vector of them.
    type Value: Copy + std::fmt::Debug;
    /// A truth value, or a vector of them.
    type Bool: Copy + std::fmt::Debug;

    /// `x`, rounded to this system's precision.
    fn constant(self, x: f64) -> Self::Value;
    /// `a + b`.
    fn add(self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a - b`.
    fn sub(self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a b`.
    fn mul(self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a / b`.
    fn div(self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a b + c`, rounded once.
    fn mul_add(self, a: Self::Value, b: Self::Value, c: Self::Value) -> Self::Value;
    /// `-a`.
    fn neg(self, a: Self::Value) -> Self::Value;
    /// `f(a)`.
    fn apply(self, f: Function, a: Self::Value) -> Self::Value;
    /// `a < b`; false if either is not a number.
    fn less(self, a: Self::Value, b: Self::Value) -> Self::Bool;
    /// `a == b`.
    fn equal(self, a: Self::Value, b: Self::Value) -> Self::Bool;
    /// `a` and `b`.
    fn and(self, a: Self::Bool, b: Self::Bool) -> Self::Bool;
    /// `a` or `b`.
    fn or(self, a: Self::Bool, b: Self::Bool) -> Self::Bool;
    /// Not `a`.
    fn not(self, a: Self::Bool) -> Self::Bool;
    /// `yes` where `condition` holds, `no` elsewhere.
    fn select(self, condition: Self::Bool, yes: Self::Value, no: Self::Value) -> Self::Value;
}

/// Number of a transform: a vector of elements in the engine's loops, a symbol when a formula is traced.
///
/// Hyperparameters and literals (`f64`) may stand on either side of an operator; they are rounded to the
/// number's precision. There is no `if` on a value: see [`gt`](Self::gt) and [`Bool::select`]. Mark a
/// function that takes a number as `#[inline(always)]`; otherwise every operation in it may become a call.
///
/// ```
/// use gradient_transform::number::{Backend, Graph, Input, Num};
///
/// /// Huber's gradient: linear near zero, bounded far from it.
/// #[inline(always)]
/// fn huber<B: Backend>(u: Num<B>, delta: f64) -> Num<B> {
///     u.abs().gt(delta).select(delta * u.sign(), u)
/// }
///
/// let graph = Graph::new();
/// let u = graph.input(Input::Update);
/// assert!(graph.reads(huber(u, 1.0).atan2(1.0), Input::Update));
/// assert_eq!(graph.equation(u.recip().tanh()), "tanh(1/u)");
/// assert_eq!(graph.equation(u.lt(0.0).select(-u, u.ln())), "[-u if u < 0 else ln(u)]");
/// assert_eq!(graph.equation(u.mul_add(2.0, 1.0)), "u 2 + 1");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Num<B: Backend> {
    pub(crate) backend: B,
    pub(crate) value: B::Value,
}

/// Truth value of each element. Joined by `&`, `|` and `!`.
///
/// ```
/// use gradient_transform::number::{Backend, Bool, Num};
///
/// #[inline(always)]
/// fn inside<B: Backend>(x: Num<B>) -> Bool<B> {
///     x.gt(-1.0) & x.lt(1.0) & !x.equals(0.0)
/// }
///
/// /// `1/x` near zero, `x` elsewhere.
/// #[inline(always)]
/// fn turned<B: Backend>(x: Num<B>) -> Num<B> {
///     inside(x).select(x.recip(), x)
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bool<B: Backend> {
    backend: B,
    value: B::Bool,
}

/// Right-hand side of an operator or method of [`Num`]: another number, or an `f64`.
///
/// ```
/// use gradient_transform::number::{Backend, Num, Operand};
///
/// #[inline(always)]
/// fn clamp<B: Backend>(x: Num<B>, low: impl Operand<B>, high: impl Operand<B>) -> Num<B> {
///     x.max(low).min(high)
/// }
/// ```
pub trait Operand<B: Backend>: Copy {
    /// Converts it to a number of `backend`.
    fn on(self, backend: B) -> Num<B>;
}

impl<B: Backend> Operand<B> for Num<B> {
    #[inline(always)]
    fn on(self, _backend: B) -> Self {
        self
    }
}

impl<B: Backend> Operand<B> for f64 {
    #[inline(always)]
    fn on(self, backend: B) -> Num<B> {
        Num { backend, value: backend.constant(self) }
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident) => {
        impl<B: Backend, O: Operand<B>> $trait<O> for Num<B> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: O) -> Self {
                let other = other.on(self.backend);
                Self { backend: self.backend, value: self.backend.$method(self.value, other.value) }
            }
        }

        impl<B: Backend> $trait<Num<B>> for f64 {
            type Output = Num<B>;

            #[inline(always)]
            fn $method(self, other: Num<B>) -> Num<B> {
                self.on(other.backend).$method(other)
            }
        }
    };
}

operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

impl<B: Backend> Neg for Num<B> {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Self { value: self.backend.neg(self.value), ..self }
    }
}

impl<B: Backend> Num<B> {
    #[inline(always)]
    pub(crate) fn new(backend: B, value: B::Value) -> Self {
        Self { backend, value }
    }

    #[inline(always)]
    fn apply(self, f: Function) -> Self {
        Self { value: self.backend.apply(f, self.value), ..self }
    }

    /// `x`, as a number like this one.
    #[inline(always)]
    pub fn constant(self, x: f64) -> Self {
        x.on(self.backend)
    }

    /// Square root.
    #[inline(always)]
    pub fn sqrt(self) -> Self {
        self.apply(Function::Sqrt)
    }

    /// Absolute value.
    #[inline(always)]
    pub fn abs(self) -> Self {
        self.apply(Function::Abs)
    }

    /// `e^x`. Slow: computed one element after the other, like [`ln`](Self::ln) and [`tanh`](Self::tanh).
    #[inline(always)]
    pub fn exp(self) -> Self {
        self.apply(Function::Exp)
    }

    /// Natural logarithm.
    #[inline(always)]
    pub fn ln(self) -> Self {
        self.apply(Function::Ln)
    }

    /// Hyperbolic tangent.
    #[inline(always)]
    pub fn tanh(self) -> Self {
        self.apply(Function::Tanh)
    }

    /// Nearest bfloat16, ties to even.
    #[inline(always)]
    pub fn round_bf16(self) -> Self {
        self.apply(Function::RoundBf16)
    }

    /// `self a + b`, rounded once: two operations round twice.
    #[inline(always)]
    pub fn mul_add(self, a: impl Operand<B>, b: impl Operand<B>) -> Self {
        let (a, b) = (a.on(self.backend), b.on(self.backend));
        Self { value: self.backend.mul_add(self.value, a.value, b.value), ..self }
    }

    /// `1 / x`.
    #[inline(always)]
    pub fn recip(self) -> Self {
        1.0 / self
    }

    /// `x^2`.
    #[inline(always)]
    pub fn squared(self) -> Self {
        self * self
    }

    /// -1, 0 or 1; 0 for -0 and NaN.
    #[inline(always)]
    pub fn sign(self) -> Self {
        self.gt(0.0).select(1.0, 0.0) - self.lt(0.0).select(1.0, 0.0)
    }

    /// The smaller of the two; `other` if either is not a number.
    #[inline(always)]
    pub fn min(self, other: impl Operand<B>) -> Self {
        self.lt(other).select(self, other)
    }

    /// The larger of the two; `other` if either is not a number.
    #[inline(always)]
    pub fn max(self, other: impl Operand<B>) -> Self {
        self.gt(other).select(self, other)
    }

    /// `atan2(self, x)`: the angle of the point `(x, self)`, for `x >= 0`; 0 at the origin.
    #[inline(always)]
    pub fn atan2(self, x: impl Operand<B>) -> Self {
        let (rise, run) = (self.abs(), x.on(self.backend));
        // By comparisons, because `min` and `max` would lose NaN.
        let steep = rise.gt(run);
        let (low, high) = (steep.select(run, rise), steep.select(rise, run));
        let ratio = high.equals(0.0).select(0.0, low / high);
        let angle = ratio.apply(Function::Arctangent);
        let angle = steep.select(std::f64::consts::FRAC_PI_2 - angle, angle);
        self.lt(0.0).select(-angle, angle)
    }

    /// `self < other`; false if either is not a number.
    #[inline(always)]
    pub fn lt(self, other: impl Operand<B>) -> Bool<B> {
        let other = other.on(self.backend);
        Bool { backend: self.backend, value: self.backend.less(self.value, other.value) }
    }

    /// `self > other`; false if either is not a number.
    #[inline(always)]
    pub fn gt(self, other: impl Operand<B>) -> Bool<B> {
        other.on(self.backend).lt(self)
    }

    /// `self == other`; false if either is not a number.
    #[inline(always)]
    pub fn equals(self, other: impl Operand<B>) -> Bool<B> {
        let other = other.on(self.backend);
        Bool { backend: self.backend, value: self.backend.equal(self.value, other.value) }
    }
}

impl<B: Backend> Bool<B> {
    /// `yes` where this holds, `no` elsewhere. Both are always computed.
    #[inline(always)]
    pub fn select(self, yes: impl Operand<B>, no: impl Operand<B>) -> Num<B> {
        let (yes, no) = (yes.on(self.backend), no.on(self.backend));
        Num { backend: self.backend, value: self.backend.select(self.value, yes.value, no.value) }
    }
}

impl<B: Backend> BitAnd for Bool<B> {
    type Output = Self;

    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self { value: self.backend.and(self.value, other.value), ..self }
    }
}

impl<B: Backend> BitOr for Bool<B> {
    type Output = Self;

    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self { value: self.backend.or(self.value, other.value), ..self }
    }
}

impl<B: Backend> Not for Bool<B> {
    type Output = Self;

    #[inline(always)]
    fn not(self) -> Self {
        Self { value: self.backend.not(self.value), ..self }
    }
}
