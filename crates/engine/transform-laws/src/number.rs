use std::fmt;

use gradient_transform::Scalar;
use half::bf16;

/// A type of parameters and gradients, for tests.
///
/// ```
/// use half::bf16;
/// use transform_laws::Number;
///
/// assert_eq!(<bf16 as Number>::of(1.003), bf16::ONE);
/// assert_eq!(Number::f64(bf16::ONE), 1.0);
/// assert_ne!(Number::bits(0.0_f32), Number::bits(-0.0_f32));
/// ```
pub trait Number: Scalar + PartialEq + fmt::Debug {
    /// One unit of rounding.
    const UNIT: f64;
    /// The value, rounded to the nearest.
    fn of(value: f64) -> Self;
    /// The exact value.
    fn f64(self) -> f64;
    /// Its bits.
    fn bits(self) -> u64;
}

macro_rules! number {
    ($type:ty, $unit:expr, $of:expr) => {
        impl Number for $type {
            const UNIT: f64 = $unit;
            fn of(value: f64) -> Self {
                $of(value)
            }
            fn f64(self) -> f64 {
                f64::from(self)
            }
            fn bits(self) -> u64 {
                u64::from(self.to_bits())
            }
        }
    };
}

number!(f64, f64::EPSILON / 2.0, |v| v);
number!(f32, f32::EPSILON as f64 / 2.0, |v| v as f32);
number!(bf16, 1.0 / 512.0, bf16::from_f64);
