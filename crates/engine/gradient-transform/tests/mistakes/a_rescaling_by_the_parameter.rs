//! A sum that `rescale!` cannot measure.

use gradient_transform::rescale;

fn main() {
    let _ = rescale!("ratio", |u, _g, y| (u * y).abs(), |sum, n| n / sum);
}
