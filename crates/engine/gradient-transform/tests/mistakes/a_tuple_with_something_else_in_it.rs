//! A fused tuple with something in it that is not a transform.

use gradient_transform::{Descent, Optimizer, fused};

fn main() {
    let _: Optimizer = Optimizer::new(fused((0.1, Descent::default())), [("w", &[2][..])]).unwrap();
}
