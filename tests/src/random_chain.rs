//! Chains that nobody would write: random expressions of an element, with state, sums and numbers of the tensor, among transforms of the project.

use adopt::Adopt;
use cautious::Cautious;
use elementary::{Adam, ClipByNorm, Momentum, UnitNorm};
use factored_moment::{DenseMoment, FactoredMoment};
use gradient_transform::{
    Backend, Context, Descent, Element, GradientTransform, Link, Num, fields, transform,
};
use prodigy_core::Prodigy;
use schedule_free::ScheduleFree;
use stableadamw::StableAdamW;

#[fields]
struct Two<V> {
    first: V,
    second: V,
}

#[fields]
struct Size<V> {
    size: V,
}

/// A random expression of update, gradient, parameter, state and a number of the tensor: the next update. State and the sum that the number follows from are others.
/// Several types, as a chain has each name once, and for sums in float64.
macro_rules! expressions {
    ($($type:ident: $name:literal, $float64:literal);+) => {$(
        #[derive(Clone, Debug)]
        struct $type {
            seed: u64,
        }

        #[transform($name)]
        impl GradientTransform for $type {
            type State<V: Copy> = Two<V>;
            type Sums<V: Copy> = Size<V>;
            type Scalars<V: Copy> = Size<V>;
            const SUMS_IN_FLOAT64: bool = $float64;

            fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Size<Num<B>> {
                let inputs = [e.update, e.gradient, e.parameter, e.update * e.gradient, e.parameter];
                Size { size: expression(self.seed ^ 1, inputs).abs() }
            }

            fn finalize(&self, cx: &Context<'_>, sums: Size<f64>, scalars: &mut Size<f64>) {
                scalars.size = sums.size / (1 + cx.tensor.len()) as f64;
            }

            fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
                let inputs = [e.update, e.gradient, e.parameter, e.state.first, e.state.second];
                let number = e.scalars.size;
                e.state.first = 0.5 * e.state.first + expression(self.seed ^ 2, inputs);
                e.state.second = expression(self.seed ^ 3, inputs);
                e.update = 0.5 * e.update + number * expression(self.seed, inputs);
            }
        }
    )+};
}

expressions!(First: "first-expression", false; Second: "second-expression", false; Exact: "exact-expression", true);

/// Sixteen operations, of which each result may be an operand of those behind it. From -1 to 1.
#[inline(always)]
fn expression<B: Backend>(seed: u64, inputs: [Num<B>; 5]) -> Num<B> {
    let [a, b, c, d, e] = inputs.map(|input| input.max(-8.0).min(8.0));
    let mut known = [a, b, c, d, e, a * 0.7, b - c, d + 1.25];
    let mut random = Random(seed);
    for _ in 0..16 {
        let (x, y) = (known[random.below(8)], known[random.below(8)]);
        let z = known[random.below(8)];
        let result = match random.below(14) {
            0 => x + y,
            1 => x - y,
            2 => x * y,
            3 => x / (1.0 + y * y),
            4 => x.mul_add(y, z),
            5 => -x,
            6 => x.abs().sqrt(),
            7 => x.abs(),
            8 => x.lt(y).select(z, x),
            9 => x.max(y),
            10 => x.min(0.5),
            11 => (x.gt(0.0) & !y.lt(z) | x.equals(z)).select(y, z),
            12 => x.atan2(y),
            _ => 0.25 * x,
        };
        // No power grows out of hand.
        known[random.below(8)] = result.max(-8.0).min(8.0);
    }
    let last = known[random.below(8)];
    last / (1.0 + last.abs())
}

/// Random numbers that are the same everywhere.
struct Random(u64);

impl Random {
    #[inline(always)]
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed >> 40) as usize) % n
    }
}

/// A sum of random expressions in float64, and one in float32 of what it makes.
pub(crate) fn exact_chain(seed: u64) -> Box<dyn Link<f32>> {
    Box::new((Exact { seed }, Second { seed: !seed }, ScheduleFree::new(0.9)))
}

/// A chain of random transforms and a writer.
pub(crate) fn chain(seed: u64) -> Box<dyn Link<f32>> {
    let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut others: Vec<Box<dyn Link<f32>>> = vec![
        Box::new(Momentum::default()),
        Box::new(Adam::default()),
        Box::new(ClipByNorm::default()),
        Box::new(UnitNorm::default()),
        Box::new(Second { seed: !seed }),
    ];
    let mut chain: Vec<Box<dyn Link<f32>>> = vec![Box::new(First { seed })];
    for _ in 0..random.below(4) {
        chain.push(others.swap_remove(random.below(others.len())));
    }
    match random.below(4) {
        0 => chain.push(Box::new(FactoredMoment::new(0.99))),
        1 => chain.push(Box::new(Adopt::new(DenseMoment::new(0.99)))),
        2 => chain.push(Box::new(StableAdamW)),
        _ => {}
    }
    if random.below(3) == 0 {
        chain.push(Box::new(Prodigy::default()));
    }
    if random.below(2) == 0 {
        chain.push(Box::new(ScheduleFree::new(0.9)));
    } else {
        chain.push(Box::new(Descent::with_decay(0.1)));
    }
    if random.below(3) == 0 {
        chain.push(Box::new(Cautious::default()));
    }
    Box::new(chain)
}
