//! A tensor of any rank as (A, P, B, Q, T), with arrays that lack P or Q.

/// Two axes of a tensor, P and Q.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axes {
    a: usize,
    p: usize,
    b: usize,
    q: usize,
    t: usize,
}

/// A part of a tile within which the arrays' elements are consecutive, or one array has a single element.
pub struct Run {
    /// Its range within the tile.
    pub(crate) at: usize,
    pub(crate) to: usize,
    /// Index of its first element in the array that lacks P.
    pub(crate) i: usize,
    /// Index of its first element in the array that lacks Q.
    pub(crate) j: usize,
}

impl Axes {
    /// Axes `first` and `last` of a tensor, `first <= last`. If they are the same axis, it is P,
    /// and Q has one element.
    pub(crate) fn of(shape: &[usize], first: usize, last: usize) -> Self {
        let product = |range: &[usize]| range.iter().product();
        if first == last {
            let (before, behind) = (product(&shape[..first]), product(&shape[first + 1..]));
            return Self { a: before, p: shape[first], b: 1, q: 1, t: behind };
        }
        Self {
            a: product(&shape[..first]),
            p: shape[first],
            b: product(&shape[first + 1..last]),
            q: shape[last],
            t: product(&shape[last + 1..]),
        }
    }

    /// One run of this number of elements.
    pub(crate) const fn line(len: usize) -> Self {
        Self { a: 1, p: 1, b: 1, q: len, t: 1 }
    }

    /// Number of elements of a run that no tile cuts.
    pub(crate) const fn run_length(&self) -> usize {
        if self.t == 1 { self.q } else { self.t }
    }

    /// Whether Q is the tensor's last axis, so that a run has one element of the array that lacks Q.
    pub(crate) const fn second_is_last(&self) -> bool {
        self.t == 1
    }

    /// The runs of `len` elements from `offset` on.
    #[inline(always)]
    pub(crate) fn runs(&self, offset: usize, len: usize) -> Runs<'_> {
        let length = self.run_length();
        let row = offset / length; // (a, p, b), or (a, p, b, q)
        let rows = self.a == 1 && self.b == 1 && self.t == 1;
        Runs { axes: self, rows, length, row, within: offset - row * length, at: 0, len }
    }
}

/// See [`Axes::runs`].
pub(crate) struct Runs<'a> {
    axes: &'a Axes,
    /// Whether runs are the rows of a matrix, or one line.
    rows: bool,
    length: usize,
    row: usize,
    within: usize,
    at: usize,
    len: usize,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    #[inline(always)]
    fn next(&mut self) -> Option<Run> {
        let Self { axes, rows, length, row, within, at, len } = *self;
        if at == len {
            return None;
        }
        let to = (at + length - within).min(len);
        (self.at, self.row, self.within) = (to, row + 1, 0);
        if rows {
            return Some(Run { at, to, i: within, j: row });
        }
        let (q, apb) = if axes.t == 1 { (0, row) } else { (row % axes.q, row / axes.q) };
        let (b, ap) = if axes.b == 1 { (0, apb) } else { (apb % axes.b, apb / axes.b) };
        let a = if axes.a == 1 { 0 } else { ap / axes.p };
        Some(Run {
            at,
            to,
            i: ((a * axes.b + b) * axes.q + q) * axes.t + within,
            j: apb * axes.t + if axes.t == 1 { 0 } else { within },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_find_the_elements_of_both_arrays_wherever_tiles_are_cut() {
        for (shape, first, last) in [
            (vec![33, 5], 0, 1),
            (vec![2, 33, 3, 4, 5], 1, 3),
            (vec![33, 2, 34], 0, 2),
            (vec![3, 40, 2], 0, 1),
            (vec![1, 32, 1], 0, 1),
            (vec![5, 3], 0, 0),
            (vec![5, 3], 1, 1),
            (vec![2, 5, 3], 1, 1),
            (vec![7], 0, 0),
        ] {
            let axes = Axes::of(&shape, first, last);
            let strides: Vec<usize> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
            // The index of an element without one axis.
            let without = |element: usize, axis: usize| {
                (0..shape.len())
                    .filter(|&i| i != axis)
                    .fold(0, |at, i| at * shape[i] + element / strides[i] % shape[i])
            };
            let n: usize = shape.iter().product();
            for cut in (0..n).step_by(7) {
                let mut seen = 0;
                for run in axes.runs(cut, 7.min(n - cut)) {
                    assert_eq!(run.at, seen);
                    for k in 0..run.to - run.at {
                        let element = cut + run.at + k;
                        assert_eq!(run.i + k, without(element, first), "{shape:?} {element}");
                        if first == last {
                            continue; // there is no array without Q
                        }
                        let j = if axes.second_is_last() { run.j } else { run.j + k };
                        assert_eq!(j, without(element, last), "{shape:?} {element}");
                    }
                    seen = run.to;
                }
                assert_eq!(seen, 7.min(n - cut));
            }
        }
    }
}
