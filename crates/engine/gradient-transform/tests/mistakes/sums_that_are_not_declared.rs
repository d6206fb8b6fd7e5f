//! Sums that were not declared.

use gradient_transform::{Backend, Context, Element, GradientTransform, Num, fields, transform};

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
    type Scalars<V: Copy> = Factor<V>;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        Squares { squares: e.update.squared() }
    }

    fn finalize(&self, _cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Factor<f64>) {
        scalars.factor = 1.0 / sums.squares.sqrt();
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}

fn main() {}
