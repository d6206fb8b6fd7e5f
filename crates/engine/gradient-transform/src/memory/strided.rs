//! Views in any layout.

use ndarray::ArrayViewMutD;

/// A mutable view in a layout other than row-major.
#[derive(Debug)]
pub enum StridedMut<'a> {
    F32(ArrayViewMutD<'a, f32>),
    Bf16(ArrayViewMutD<'a, half::bf16>),
    F64(ArrayViewMutD<'a, f64>),
}
