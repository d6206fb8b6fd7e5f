//! Chains of an author's transforms: link by link, fused, and for comparison the same arithmetic as one plain
//! loop over the arrays.
//!
//! One float32 tensor that fits the second-level cache and is too small for more than one thread, and gradients that are not checked:
//! what is measured are the engine's loops.
#![allow(missing_docs)] // Criterion's macros make public items

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gradient_transform::{
    Backend, Context, Descent, Element, GradientTransform, Link, NonFinite, Num, Optimizer, ParameterGroup,
    Settings, fields, fused, transform,
};
use multiversion::multiversion;
use step_bench::bench::{Problem, named};

/// Lion (Chen et al., 2302.06675).
#[derive(Clone, Copy, Debug)]
struct Lion {
    beta1: f64,
    beta2: f64,
}

#[fields]
struct Momentum<V> {
    m: V,
}

#[transform("lion")]
impl GradientTransform for Lion {
    type State<V: Copy> = Momentum<V>;

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (u, m) = (e.update, e.state.m);
        e.update = (self.beta1 * m + (1.0 - self.beta1) * u).sign();
        e.state.m = self.beta2 * m + (1.0 - self.beta2) * u;
    }
}

/// `u / max(1, rms u)`.
#[derive(Clone, Copy, Debug)]
struct Clip;

#[fields]
struct Size<V> {
    squares: V,
}

#[transform("clip")]
impl GradientTransform for Clip {
    type Sums<V: Copy> = Size<V>;
    type Scalars<V: Copy> = Size<V>;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Size<Num<B>> {
        Size { squares: e.update.squared() }
    }

    fn finalize(&self, cx: &Context<'_>, sums: Size<f64>, scalars: &mut Size<f64>) {
        let mean = sums.squares / cx.tensor.len() as f64;
        scalars.squares = mean.sqrt().max(1.0).recip();
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.squares * e.update;
    }
}

const LION: Lion = Lion { beta1: 0.9, beta2: 0.99 };
const SHAPE: [usize; 2] = [128, 256];

/// Lion and descent as one loop.
#[multiversion(targets = "simd")]
fn plain(w: &mut [f32], m: &mut [f32], g: &[f32], rate: f32) {
    for ((w, m), g) in w.iter_mut().zip(m).zip(g) {
        let u = 0.9 * *m + 0.1 * g;
        let sign = if u > 0.0 {
            1.0
        } else if u < 0.0 {
            -1.0
        } else {
            0.0
        };
        *m = 0.99 * *m + 0.01 * g;
        *w -= rate * sign;
    }
}

fn authors(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("authors");
    group
        .throughput(Throughput::Elements(SHAPE.iter().product::<usize>() as u64))
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    let n = SHAPE.iter().product();
    let (mut w, mut m, g) = (vec![0.0_f32; n], vec![0.0_f32; n], vec![0.1_f32; n]);
    group.bench_function("lion, a plain loop", |bench| bench.iter(|| plain(&mut w, &mut m, &g, 1e-3)));
    let descent = Descent::default;
    let chains: [(&str, Box<dyn Link<f32>>); 4] = [
        ("lion, link by link", Box::new((LION, descent()))),
        ("lion, fused", Box::new(fused((LION, descent())))),
        ("clip and lion, link by link", Box::new((Clip, LION, descent()))),
        ("clip and lion, fused", Box::new(fused((Clip, LION, descent())))),
    ];
    for (name, chain) in chains {
        let shapes = [SHAPE.to_vec()];
        let settings = Settings { non_finite: NonFinite::Unchecked, ..Settings::default() };
        let parameters = ParameterGroup::new(chain, named(&shapes)).lr(1e-3);
        let mut optimizer = Optimizer::with_groups([parameters], settings).expect("the chain is valid");
        let mut problem = Problem::<f32>::random(&shapes, |x| x);
        let mut parameters = problem.parameters();
        group.bench_function(name, |bench| {
            bench.iter(|| optimizer.step(&mut parameters).expect("the step is done"));
        });
    }
    group.finish();
}

criterion_group!(benches, authors);
criterion_main!(benches);
