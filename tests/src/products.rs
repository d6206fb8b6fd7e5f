//! Products of matrices on a device beside the interpreter's.

use gradient_transform::Buffer;
use gradient_transform::device::{Executor, Interpreter, Matrix, MatrixWork, Product, ProductArrays};

/// Rows of the left factor, its columns, and those of the right one: with one element, less than a tile, a tile of 16 or of 64, and a
/// part of one behind it.
const SIZES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [3, 5, 2],
    [16, 16, 16],
    [17, 33, 15],
    [64, 64, 64],
    [70, 130, 65],
    [1, 100, 1],
    [130, 1, 70],
    [5, 0, 7],
];

/// Tensors that are multiplied at once.
const TENSORS: usize = 3;

fn wave(seed: usize, n: usize) -> Buffer {
    Buffer::F32((0..n).map(|i| ((i * i * 7 + i * 31 + seed * 13) % 101) as f32 / 101.0 - 0.5).collect())
}

/// The largest difference between two elements, where the largest element of a product counts as 1.
///
/// # Errors
/// A message, where there are no products, or the device fails.
pub fn products_apart<E: Executor>(executor: &mut E) -> Result<f64, String> {
    let mut largest = 0.0_f64;
    for [rows, depth, cols] in SIZES {
        for turned in 0..16 {
            let mut work = MatrixWork::default();
            let mut matrix = |i: usize, rows, cols| -> Matrix {
                if turned >> i & 1 == 1 { work.workspace(cols, rows).t() } else { work.workspace(rows, cols) }
            };
            let (left, right) = (matrix(0, rows, depth), matrix(1, depth, cols));
            let (into, plus) = (matrix(2, rows, cols), matrix(3, rows, cols));
            let plain = Product::new(into, left, right);
            let all = Product { alpha: 0.7, plus: Some((-1.3, plus)), diagonal: 0.4, ..plain };
            let square = if turned >> 2 & 1 == 1 {
                work.workspace(rows, rows).t()
            } else {
                work.workspace(rows, rows)
            };
            let gram = Product { symmetric: true, diagonal: 2.0, ..Product::new(square, left, left.t()) };
            for product in [plain, all, gram] {
                largest = largest.max(apart(&product, executor)?);
            }
        }
    }
    Ok(largest)
}

fn apart<E: Executor>(product: &Product, executor: &mut E) -> Result<f64, String> {
    let len = |matrix: Matrix| matrix.rows() * matrix.cols();
    let Product { into, left, right, plus, .. } = *product;
    let is_gram = left.t() == right;
    let given: Vec<[Buffer; 3]> = (0..TENSORS)
        .map(|i| {
            [
                wave(i, len(left)),
                wave(i + 10, len(right)),
                wave(i + 20, plus.map_or(0, |(_, plus)| len(plus))),
            ]
        })
        .collect();
    let mut expected: Vec<Buffer> = given.iter().map(|_| wave(30, len(into))).collect();
    let mut here: Vec<ProductArrays<'_, Buffer>> = expected
        .iter_mut()
        .zip(&given)
        .map(|(into, [l, r, p])| ProductArrays {
            into,
            left: l,
            right: if is_gram { l } else { r },
            plus: plus.map(|_| p),
        })
        .collect();
    match Executor::<f32>::multiply(&mut Interpreter, product, &mut here) {
        Some(Ok(())) => {}
        None => return Err("the interpreter has no products".to_owned()),
    }
    let failed = |error: E::Error| error.to_string();
    let mut arrays = Vec::new();
    for values in given {
        let [l, r, p] = values.map(|values| executor.upload(values));
        arrays.push((executor.upload(wave(30, len(into))), l, r, p));
    }
    let arrays = arrays.into_iter().map(|(into, l, r, p)| Ok((into?, l?, r?, p?)));
    let mut arrays: Vec<_> = arrays.collect::<Result<_, E::Error>>().map_err(failed)?;
    let mut there: Vec<ProductArrays<'_, E::Array>> = arrays
        .iter_mut()
        .map(|(into, l, r, p)| ProductArrays {
            into,
            left: l,
            right: if is_gram { l } else { r },
            plus: plus.map(|_| &*p),
        })
        .collect();
    executor.multiply(product, &mut there).ok_or("the device has no products")?.map_err(failed)?;
    let mut largest = 0.0_f64;
    for (expected, (into, ..)) in expected.iter().zip(&arrays) {
        let found = executor.download(into).map_err(failed)?;
        let element = |array: &Buffer, i| array.get::<f64>(i);
        let most = (0..expected.len()).map(|i| element(expected, i).abs()).fold(f64::MIN_POSITIVE, f64::max);
        for i in 0..expected.len() {
            let apart = (element(expected, i) - element(&found, i)).abs() / most;
            largest = if apart.is_finite() { largest.max(apart) } else { f64::INFINITY };
        }
    }
    Ok(largest)
}
