//! Arrays of sums. Every chunk of a tensor has its own part.

use std::ops::Range;

use crate::memory::element::Real;
use crate::memory::kernel;

/// The shape of an array of sums, and the sum that each element belongs to.
///
/// ```
/// use gradient_transform::{StateSpec, SumShape};
///
/// // A number, three that any element may be added to, and one for each column of a matrix.
/// let spec = StateSpec::new().sums(1, 3).sums_over(0);
/// assert_eq!(spec.vector_sums, [SumShape::Flat(3), SumShape::Over(0)]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumShape {
    /// The given number of sums; an element may be added to any of them.
    Flat(usize),
    /// The tensor with this axis summed over. Index `(o, i)` of it, in row-major order, belongs to elements `(o, .., i)`,
    /// with the axis in between.
    Over(usize),
}

/// An array of sums so far: the part of one chunk of a tensor, or all of it.
///
/// ```
/// use gradient_transform::Gathered;
///
/// let mut sums = Gathered::<f32>::zeros(4);
/// sums.at(1, 2)[0] += 3.0;
/// assert_eq!(sums.values(), [0.0, 3.0, 0.0, 0.0]);
/// ```
#[derive(Debug, Default)]
pub struct Gathered<T> {
    values: Vec<T>,
    window: Window,
}

/// A part of an array: from `first` to `wrap`, and then from `wrap - period` on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    first: usize,
    len: usize,
    wrap: usize,
    period: usize,
}

impl Window {
    const fn plain(first: usize, len: usize) -> Self {
        Self { first, len, wrap: first + len, period: 0 }
    }

    /// The range after `wrap`, if there is one.
    fn wrapped(&self) -> Range<usize> {
        let begin = self.wrap - self.period;
        begin..begin + (self.first + self.len).saturating_sub(self.wrap)
    }

    /// A range that contains all of it.
    fn bounds(&self) -> Range<usize> {
        let end = self.wrap.min(self.first + self.len);
        if self.wrapped().is_empty() { self.first..end } else { self.wrap - self.period..end }
    }
}

impl<T: Real> Gathered<T> {
    /// `len` sums without terms.
    pub fn zeros(len: usize) -> Self {
        Self { values: vec![T::zero(); len], window: Window::plain(0, len) }
    }

    /// The `len` sums from `index` on, which consecutive elements of the current tile belong to.
    #[inline(always)]
    pub fn at(&mut self, index: usize, len: usize) -> &mut [T] {
        let Window { first, period, .. } = self.window;
        let at = if index < first { index + period - first } else { index - first };
        &mut self.values[at..at + len]
    }

    /// The sums of this part: all of them in [`seal`](crate::Link::seal) and
    /// [`finish`](crate::Link::finish).
    pub fn values(&self) -> &[T] {
        &self.values
    }

    pub(crate) fn clear(&mut self) {
        self.values.fill(T::zero());
    }

    /// Makes it the part for the elements of a range, without terms.
    pub(crate) fn open(&mut self, layout: &SumLayout, elements: Range<usize>) {
        self.window = layout.window(elements);
        self.values.clear();
        self.values.resize(self.window.len, T::zero());
    }

    pub(crate) fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<T>()
    }

    /// Adds `parts` one after the other.
    pub(crate) fn add<'p>(&mut self, parts: impl Iterator<Item = &'p Self> + Clone + Send, parallel: bool)
    where
        T: 'p,
    {
        let bounds = parts
            .clone()
            .map(|part| part.window.bounds())
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
        if let Some(bounds) = bounds {
            add(&mut self.values[bounds.clone()], bounds.start, parts, parallel);
        }
    }
}

/// Adds the sums of `parts` from `first` on.
fn add<'p, T: Real>(
    sums: &mut [T],
    first: usize,
    parts: impl Iterator<Item = &'p Gathered<T>> + Clone + Send,
    parallel: bool,
) {
    /// Length below which a range is not split into tasks.
    const SERIAL: usize = 1 << 16;
    if parallel && sums.len() > SERIAL {
        let middle = sums.len() / 2;
        let (left, right) = sums.split_at_mut(middle);
        let others = parts.clone();
        rayon::join(|| add(left, first, parts, true), || add(right, first + middle, others, true));
        return;
    }
    for Gathered { values, window } in parts {
        let wrapped = window.wrapped();
        let (head, tail) = values.split_at(window.len - wrapped.len());
        for (from, values) in [(window.first, head), (wrapped.start, tail)] {
            let both = from.max(first)..(from + values.len()).min(first + sums.len());
            if !both.is_empty() {
                let own = &mut sums[both.start - first..both.end - first];
                kernel::map2(own, &values[both.start - from..both.end - from], |sum, part| sum + part);
            }
        }
    }
}

/// A [`SumShape`] of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SumLayout {
    /// Number of sums.
    pub(crate) len: usize,
    /// The axis that is summed over: its length, and the elements of its slices. `None` if any element may be added anywhere.
    axis: Option<(usize, usize)>,
}

impl SumLayout {
    pub(crate) fn new(shape: SumShape, tensor: &[usize]) -> Self {
        match shape {
            SumShape::Flat(len) => Self { len, axis: None },
            SumShape::Over(axis) => {
                let (outer, inner) = (&tensor[..axis], &tensor[axis + 1..]);
                let inner: usize = inner.iter().product();
                Self { len: outer.iter().product::<usize>() * inner, axis: Some((tensor[axis], inner)) }
            }
        }
    }

    /// The sums of the elements of a range, which is not empty.
    fn window(&self, elements: Range<usize>) -> Window {
        let Some((axis, inner)) = self.axis else { return Window::plain(0, self.len) };
        let last = elements.end - 1;
        // The slices along the axes before, and the sums of each.
        let (from, to) = (elements.start / (axis * inner), last / (axis * inner));
        let first = from * inner + elements.start % inner;
        if elements.len() >= inner {
            Window::plain(from * inner, (to + 1 - from) * inner)
        } else if from == to {
            // Less than one period of the sums, which may begin in the middle.
            Window { first, len: elements.len(), wrap: (from + 1) * inner, period: inner }
        } else {
            Window::plain(first, to * inner + last % inner + 1 - first)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_of_a_chunk_finds_its_sum_in_a_part_not_much_longer_than_the_chunk() {
        for shape in [vec![40, 3], vec![3, 40], vec![2, 7, 3, 5], vec![5, 1, 6], vec![1, 9, 1], vec![64]] {
            let len = shape.iter().product::<usize>();
            for axis in 0..shape.len() {
                let layout = SumLayout::new(SumShape::Over(axis), &shape);
                let inner: usize = shape[axis + 1..].iter().product();
                let index = |element: usize| element / (shape[axis] * inner) * inner + element % inner;
                for chunk in [1, 4, 7, 20] {
                    let mut expected = vec![0.0_f64; layout.len];
                    let mut parts = Vec::new();
                    for start in (0..len).step_by(chunk) {
                        let elements = start..len.min(start + chunk);
                        let mut part = Gathered::<f64>::default();
                        part.open(&layout, elements.clone());
                        assert!(part.values.len() <= 3 * chunk, "{shape:?} over {axis}: {:?}", part.window);
                        for element in elements {
                            part.at(index(element), 1)[0] += element as f64;
                            expected[index(element)] += element as f64;
                        }
                        parts.push(part);
                    }
                    let mut sums = Gathered::<f64>::zeros(layout.len);
                    sums.add(parts.iter(), false);
                    assert_eq!(sums.values(), expected, "{shape:?} over {axis} in chunks of {chunk}");
                }
            }
        }
    }
}
