//! A tensor of any rank seen as (A, P, B, Q, T), of which P and Q are averaged over.

use gradient_transform::kernel::{Prefetch, inlined};
use gradient_transform::{Gathered, Real, Update};
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
    /// The two largest axes, if there are two, the largest has at least `min_size` elements, and the tensor has elements: the
    /// rows of one that has none could be any number.
    #[inline]
    pub(crate) fn of(shape: &[usize], min_size: usize) -> Option<Self> {
        // Asked for in every tile, so the usual case is a short one, and no list is sorted in the others.
        if let &[p, q] = shape {
            let (largest, second) = if q >= p { (1, 0) } else { (0, 1) };
            return (p.max(q) >= min_size && p.min(q) > 0).then_some(Self {
                largest,
                second,
                a: 1,
                p,
                b: 1,
                q,
                t: 1,
            });
        }
        Self::of_any_rank(shape, min_size)
    }

    fn of_any_rank(shape: &[usize], min_size: usize) -> Option<Self> {
        if shape.len() < 2 || shape.contains(&0) || shape.iter().all(|&n| n < min_size) {
            return None;
        }
        let (mut largest, mut second) = if shape[1] >= shape[0] { (1, 0) } else { (0, 1) };
        for axis in 2..shape.len() {
            if shape[axis] >= shape[largest] {
                (largest, second) = (axis, largest);
            } else if shape[axis] >= shape[second] {
                second = axis;
            }
        }
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
        without_p: &mut Gathered<T>,
        without_q: &mut Gathered<T>,
    ) {
        accumulate(self, tile, offset, without_p, without_q);
    }

    /// `u[e] <- f(u[e], without_p[..] * without_q[..])`.
    pub(crate) fn apply<T: Real, F: Fn(T, T) -> T>(
        &self,
        update: &mut Update<'_, T>,
        offset: usize,
        without_p: &[T],
        without_q: &[T],
        f: F,
    ) {
        let (source, values) = update.parts();
        match source {
            None => apply(self, values, offset, without_p, without_q, f),
            Some(source) => apply_from(self, source, values, offset, without_p, without_q, f),
        }
    }

    /// The runs of `len` elements from `offset` on. Their order is followed without divisions where the tensor is a matrix:
    /// rows may be short.
    #[inline(always)]
    fn runs(&self, offset: usize, len: usize) -> impl Iterator<Item = Run> {
        let length = if self.t == 1 { self.q } else { self.t };
        let mut row = offset / length; // (a, p, b), or (a, p, b, q)
        let mut within = offset - row * length;
        let mut at = 0;
        std::iter::from_fn(move || {
            if at == len {
                return None;
            }
            let (q, apb) = if self.t == 1 { (0, row) } else { (row % self.q, row / self.q) };
            let (b, ap) = if self.b == 1 { (0, apb) } else { (apb % self.b, apb / self.b) };
            let a = if self.a == 1 { 0 } else { ap / self.p };
            let run = Run {
                at,
                to: (at + length - within).min(len),
                i: ((a * self.b + b) * self.q + q) * self.t + within,
                j: apb * self.t + if self.t == 1 { 0 } else { within },
            };
            (at, row, within) = (run.to, row + 1, 0);
            Some(run)
        })
    }
}

/// Elements of a tile for which both arrays' indices move in step.
struct Run {
    /// Its beginning within the tile.
    at: usize,
    /// Its end within the tile.
    to: usize,
    /// Where it begins in the array without P.
    i: usize,
    /// Where it begins in the array without Q; where T is 1, the one element that all of it belongs to.
    j: usize,
}

#[multiversion(targets = "simd")]
fn accumulate<T: Real>(
    axes: &Axes,
    tile: &[T],
    offset: usize,
    without_p: &mut Gathered<T>,
    without_q: &mut Gathered<T>,
) {
    let mut prefetch = Prefetch::resume();
    for Run { at, to, i, j } in axes.runs(offset, tile.len()) {
        let run = &tile[at..to];
        let sums = without_p.at(i, run.len());
        if axes.t == 1 {
            without_q.at(j, 1)[0] += inlined::add_squares(sums, run, &mut prefetch);
        } else {
            for ((p, q), &g) in sums.iter_mut().zip(without_q.at(j, run.len())).zip(run) {
                let square = g * g;
                *p += square;
                *q += square;
            }
        }
    }
    prefetch.suspend();
}

#[multiversion(targets = "simd")]
fn apply<T: Real, F: Fn(T, T) -> T>(
    axes: &Axes,
    values: &mut [T],
    offset: usize,
    without_p: &[T],
    without_q: &[T],
    f: F,
) {
    let mut prefetch = Prefetch::resume();
    for Run { at, to, i, j } in axes.runs(offset, values.len()) {
        let (run, p) = (&mut values[at..to], &without_p[i..][..to - at]);
        if axes.t == 1 {
            let q = without_q[j];
            inlined::map2(run, p, &mut prefetch, |u, p| f(u, p * q));
        } else {
            inlined::map3(run, p, &without_q[j..][..to - at], &mut prefetch, |u, p, q| f(u, p * q));
        }
    }
    prefetch.suspend();
}

/// [`apply`] for values that are read elsewhere.
#[multiversion(targets = "simd")]
fn apply_from<T: Real, F: Fn(T, T) -> T>(
    axes: &Axes,
    source: &[T],
    values: &mut [T],
    offset: usize,
    without_p: &[T],
    without_q: &[T],
    f: F,
) {
    let mut prefetch = Prefetch::resume();
    for Run { at, to, i, j } in axes.runs(offset, values.len()) {
        let (source, run, p) = (&source[at..to], &mut values[at..to], &without_p[i..][..to - at]);
        if axes.t == 1 {
            let q = without_q[j];
            inlined::map3(run, source, p, &mut prefetch, |_, g, p| f(g, p * q));
        } else {
            inlined::map4(run, source, p, &without_q[j..][..to - at], &mut prefetch, |_, g, p, q| {
                f(g, p * q)
            });
        }
    }
    prefetch.suspend();
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
        assert_eq!((axes(&[0, 1 << 40]), axes(&[1 << 40, 2, 0])), (None, None));
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
            let (mut p, mut q) = (Gathered::zeros(lp), Gathered::zeros(lq));
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
            let (p, q) = (p.values(), q.values());
            assert!(close(p, &ep) && close(q, &eq), "{shape:?}");
            let mut u = g.clone();
            for cut in (0..n).step_by(11) {
                let values = &mut u[cut..(cut + 11).min(n)];
                axes.apply(&mut Update::new(values), cut, p, q, |g, w| g + w);
            }
            for e in 0..n {
                let expected = g[e] + ep[without(e, first)] * eq[without(e, last)];
                assert!((u[e] - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{shape:?} {e}");
            }
        }
    }
}
