//! Numbers of a step that were not declared.

use gradient_transform::{Backend, Context, Element, GradientTransform, fields, transform};

#[derive(Clone, Debug)]
struct ByLearningRate;

#[fields]
struct Factor<V> {
    factor: V,
}

#[transform("by-learning-rate")]
impl GradientTransform for ByLearningRate {
    fn begin(&self, cx: &Context<'_>, scalars: &mut Factor<f64>) {
        scalars.factor = cx.step.lr;
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}

fn main() {}
