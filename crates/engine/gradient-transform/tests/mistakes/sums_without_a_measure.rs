//! Sums that nothing is added to.

use gradient_transform::{Backend, Context, Element, GradientTransform, fields, transform};

#[derive(Clone, Debug)]
struct UnitNorm;

#[fields]
struct Squares<V> {
    squares: V,
}

#[fields]
struct Factor<V> {
    factor: V,
}

#[transform("unit-norm")]
impl GradientTransform for UnitNorm {
    type Sums<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn finalize(&self, _cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Factor<f64>) {
        scalars.factor = 1.0 / sums.squares.sqrt();
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}

fn main() {}
