//! A tensor of any rank seen as (A, P, B, Q, T), of which P and Q are averaged over.

use gradient_transform::{Real, kernel};
use multiversion::multiversion;

/// The two axes over which squared gradients are averaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Axes {
    /// The largest axis (the last of equals).
    pub(crate) largest: usize,
    /// The second largest.
    pub(crate) second: usize,
    a: usize,
    p: usize,
    b: usize,
    q: usize,
    t: usize,
}

impl Axes {
    /// The two largest axes, if there are two and the largest has at least `min_size` elements.
    pub(crate) fn of(shape: &[usize], min_size: usize) -> Option<Self> {
        if shape.len() < 2 || shape.iter().all(|&n| n < min_size) {
            return None;
        }
        let mut order: Vec<usize> = (0..shape.len()).collect();
        order.sort_by_key(|&axis| (shape[axis], axis));
        let (largest, second) = (order[shape.len() - 1], order[shape.len() - 2]);
        let (first, last) = (largest.min(second), largest.max(second));
        let product = |range: &[usize]| range.iter().product();
        Some(Self {
            largest,
            second,
            a: product(&shape[..first]),
            p: shape[first],
            b: product(&shape[first + 1..last]),
            q: shape[last],
            t: product(&shape[last + 1..]),
        })
    }

    /// Elements of the array that is left when P is averaged over, and when Q is.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        (self.a * self.b * self.q * self.t, self.a * self.p * self.b * self.t)
    }

    /// Whether the largest axis comes before the second largest in memory, so that it is P.
    pub(crate) fn largest_is_p(&self) -> bool {
        self.largest < self.second
    }

    /// Adds the square of every element of `tile` to the two arrays.
    pub(crate) fn accumulate<T: Real>(
        &self,
        tile: &[T],
        offset: usize,
        without_p: &mut [T],
        without_q: &mut [T],
    ) {
        accumulate(self, tile, offset, without_p, without_q);
    }

    /// `tile[e] <- f(tile[e], without_p[..] * without_q[..])`.
    pub(crate) fn apply<T: Real, F: Fn(T, T) -> T>(
        &self,
        tile: &mut [T],
        offset: usize,
        without_p: &[T],
        without_q: &[T],
        f: F,
    ) {
        apply(self, tile, offset, without_p, without_q, f);
    }

    /// The run that begins at element `at` of a tile of `len` elements.
    #[inline(always)]
    fn run(&self, at: usize, len: usize, offset: usize) -> Run {
        let length = if self.t == 1 { self.q } else { self.t };
        let element = offset + at;
        let within = element % length;
        let row = element / length; // (a, p, b) or (a, p, b, q)
        let (q, apb) = if self.t == 1 { (0, row) } else { (row % self.q, row / self.q) };
        let (b, ap) = (apb % self.b, apb / self.b);
        let a = ap / self.p;
        Run {
            to: (at + length - within).min(len),
            i: ((a * self.b + b) * self.q + q) * self.t + within,
            j: apb * self.t + if self.t == 1 { 0 } else { within },
        }
    }
}

/// Elements of a tile for which both arrays' indices move in step.
struct Run {
    /// End of the run within the tile.
    to: usize,
    /// Where it begins in the array without P.
    i: usize,
    /// Where it begins in the array without Q; where T is 1, the one element that all of it belongs to.
    j: usize,
}

#[multiversion(targets = "simd")]
fn accumulate<T: Real>(axes: &Axes, tile: &[T], offset: usize, without_p: &mut [T], without_q: &mut [T]) {
    let mut at = 0;
    while at < tile.len() {
        let Run { to, i, j } = axes.run(at, tile.len(), offset);
        let run = &tile[at..to];
        for (sum, &g) in without_p[i..i + run.len()].iter_mut().zip(run) {
            *sum += g * g;
        }
        if axes.t == 1 {
            without_q[j] += kernel::sum_of_squares(run);
        } else {
            for (sum, &g) in without_q[j..j + run.len()].iter_mut().zip(run) {
                *sum += g * g;
            }
        }
        at = to;
    }
}

#[multiversion(targets = "simd")]
fn apply<T: Real, F: Fn(T, T) -> T>(
    axes: &Axes,
    tile: &mut [T],
    offset: usize,
    without_p: &[T],
    without_q: &[T],
    f: F,
) {
    let len = tile.len();
    let mut at = 0;
    while at < len {
        let Run { to, i, j } = axes.run(at, len, offset);
        let run = &mut tile[at..to];
        let n = run.len();
        if axes.t == 1 {
            let row = without_q[j];
            for (g, &w) in run.iter_mut().zip(&without_p[i..i + n]) {
                *g = f(*g, w * row);
            }
        } else {
            for ((g, &w), &row) in run.iter_mut().zip(&without_p[i..i + n]).zip(&without_q[j..j + n]) {
                *g = f(*g, w * row);
            }
        }
        at = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_largest_axes_are_found_and_ties_go_to_the_later() {
        let axes = |shape: &[usize]| Axes::of(shape, 32).map(|a| (a.largest, a.second));
        assert_eq!(axes(&[64, 32]), Some((0, 1)));
        assert_eq!(axes(&[32, 64]), Some((1, 0)));
        assert_eq!(axes(&[64, 64]), Some((1, 0)));
        assert_eq!(axes(&[40, 6, 3, 3]), Some((0, 1)));
        assert_eq!(axes(&[33, 2, 34]), Some((2, 0)));
        assert_eq!(axes(&[31, 31]), None);
        assert_eq!(axes(&[4096]), None);
    }

    #[test]
    fn sums_over_both_axes_agree_with_a_loop_over_every_index_wherever_tiles_are_cut() {
        for shape in
            [vec![33, 5], vec![5, 33], vec![2, 33, 3, 4, 5], vec![33, 2, 34], vec![3, 40, 2], vec![1, 32, 1]]
        {
            let axes = Axes::of(&shape, 32).expect("an axis has 32 elements");
            let n: usize = shape.iter().product();
            let g: Vec<f64> = (0..n).map(|i| ((i * 37 % 101) as f64 - 50.0) / 10.0).collect();
            let (lp, lq) = axes.lengths();
            let (mut p, mut q) = (vec![0.0; lp], vec![0.0; lq]);
            for cut in (0..n).step_by(7) {
                axes.accumulate(&g[cut..(cut + 7).min(n)], cut, &mut p, &mut q);
            }
            // The same with explicit indices: the index of an element with one axis struck out.
            let strides: Vec<usize> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
            let without = |element: usize, axis: usize| {
                (0..shape.len())
                    .filter(|&i| i != axis)
                    .fold(0, |at, i| at * shape[i] + element / strides[i] % shape[i])
            };
            let (first, last) = (axes.largest.min(axes.second), axes.largest.max(axes.second));
            let (mut ep, mut eq) = (vec![0.0; lp], vec![0.0; lq]);
            for (e, g) in g.iter().enumerate() {
                ep[without(e, first)] += g * g;
                eq[without(e, last)] += g * g;
            }
            let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs());
            assert!(close(&p, &ep) && close(&q, &eq), "{shape:?}");
            let mut u = g.clone();
            for cut in (0..n).step_by(11) {
                axes.apply(&mut u[cut..(cut + 11).min(n)], cut, &p, &q, |g, w| g + w);
            }
            for e in 0..n {
                let expected = g[e] + ep[without(e, first)] * eq[without(e, last)];
                assert!((u[e] - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{shape:?} {e}");
            }
        }
    }
}
