//! Kernels that multiply matrices, the same product for each of several tensors: `into <- alpha left right + beta plus + diagonal I`.
//!
//! Each element's terms are added in order, in float32, so that CUDA's kernel gives the bits of the interpreter.
//!
//! ```
//! use gradient_transform::device::{Executor, MatrixWork, Product, ProductArrays};
//! use sweep_kernels::product::{MULTIPLY, SIDE, jobs, words};
//!
//! /// A product of an executor of which `run` launches the kernel, in blocks of 256 threads.
//! fn multiply<A>(
//!     product: &Product,
//!     tensors: &[ProductArrays<'_, A>],
//!     address: impl Fn(&A) -> u64,
//!     run: impl FnOnce(&str, &[u64], usize),
//! ) {
//!     run(MULTIPLY, &words(product, tensors, address), jobs(product, tensors.len(), SIDE));
//! }
//!
//! let mut work = MatrixWork::default();
//! let (x, square) = (work.workspace(70, 130), work.workspace(70, 70));
//! let product = Product::new(square, x, x.t());
//! assert_eq!(jobs(&product, 3, SIDE), 3 * 2 * 2); // tiles of 64 by 64
//! let (from, mut into) = ("x", "square");
//! let arrays = ProductArrays { into: &mut into, left: &from, right: &from, plus: None };
//! multiply(&product, &[arrays], |name| name.len() as u64, |text, words, count| {
//!     assert!(text.starts_with("/*") && text.contains("KERNEL multiply(ARGUMENTS)"));
//!     assert_eq!((words.len(), &words[..3], count), (17 + 4, &[70, 70, 130][..], 4));
//! });
//! ```

use gradient_transform::device::{Product, ProductArrays};

use crate::wgsl::{Bindings, FIRST_BUFFER};

/// The kernel in CUDA C; it goes after [`SUPPORT`](crate::SUPPORT). A job is done by a block of 256 threads.
pub const MULTIPLY: &str = include_str!("multiply.c");

/// Rows and columns of the tile of a job in CUDA C.
pub const SIDE: usize = 64;

/// Those in WGSL.
///
/// ```
/// use gradient_transform::device::{MatrixWork, Product};
/// use sweep_kernels::product::{WGSL_SIDE, jobs};
///
/// let mut work = MatrixWork::default();
/// let (x, square) = (work.workspace(17, 3), work.workspace(17, 17));
/// assert_eq!(jobs(&Product::new(square, x, x.t()), 1, WGSL_SIDE), 4);
/// ```
pub const WGSL_SIDE: usize = 16;

/// Number of jobs of a product of so many tensors.
pub fn jobs(product: &Product, tensors: usize, side: usize) -> usize {
    product.into.rows().div_ceil(side) * product.into.cols().div_ceil(side) * tensors
}

/// Words of the kernel: of the product, and of each tensor the places of its four arrays in the device's memory.
pub fn words<A>(
    product: &Product,
    tensors: &[ProductArrays<'_, A>],
    address: impl Fn(&A) -> u64,
) -> Vec<u64> {
    let Product { into, alpha, left, right, plus, diagonal, symmetric } = *product;
    let (beta, added) = plus.unwrap_or((0.0, into));
    let mut words = vec![into.rows() as u64, into.cols() as u64, left.cols() as u64];
    words.extend([into, left, right, added].iter().flat_map(|matrix| matrix.strides()).map(|n| n as u64));
    words.extend([alpha, beta, diagonal].map(|number| u64::from((number as f32).to_bits())));
    words.extend([u64::from(symmetric), u64::from(plus.is_some()), tensors.len() as u64]);
    for ProductArrays { into, left, right, plus } in tensors {
        words.extend([&**into, left, right, plus.unwrap_or(left)].map(&address));
    }
    words
}

/// Numbers of four buffers, from 0 on, and the buffers, each once.
///
/// ```
/// let (numbers, buffers) = sweep_kernels::product::bindings(&["workspace", "state", "state", "workspace"]);
/// assert_eq!((numbers, buffers), ([0, 1, 1, 0], vec!["workspace", "state"]));
/// ```
pub fn bindings<B: PartialEq + Clone>(buffers: &[B; 4]) -> ([usize; 4], Vec<B>) {
    let (Bindings { gradient, parameter, columns }, known) = Bindings::of(buffers);
    ([gradient, parameter, columns[0], columns[1]], known)
}

/// The kernel in WGSL, for arrays in these buffers: those of the result, the factors, and the matrix that is added. The words are binding 0, and the first buffer is
/// binding [`FIRST_BUFFER`].
///
/// ```
/// let text = sweep_kernels::product::shader([0, 1, 1, 1]);
/// assert!(text.contains("var<storage, read_write> buffer0") && text.contains("var<storage, read> buffer1"));
/// ```
pub fn shader(buffers: [usize; 4]) -> String {
    let mut text = "@group(0) @binding(0) var<storage, read> words: array<vec2<u32>>;\n".to_owned();
    for buffer in 0..=buffers.into_iter().fold(0, usize::max) {
        let access = if buffer == buffers[0] { "read_write" } else { "read" };
        let binding = FIRST_BUFFER as usize + buffer;
        text +=
            &format!("@group(0) @binding({binding}) var<storage, {access}> buffer{buffer}: array<f32>;\n");
    }
    let names = ["into[", "left[", "right[", "plus["];
    text + &names
        .iter()
        .zip(buffers)
        .fold(include_str!("multiply.wgsl").to_owned(), |text, (name, buffer)| {
            text.replace(&format!(" {name}"), &format!(" buffer{buffer}["))
        })
}
