//! The update's part of a tile.

use crate::memory::element::Real;
use crate::memory::kernel;

/// The update u of a tile: the raw gradient at the head of a chain, changed by one transform after the other.
///
/// As long as no transform has written to it, it is the gradient itself, and no copy is made: the first one that writes
/// reads the gradient and writes the update in one pass. A factor waits, too, for whoever reads or writes next.
///
/// ```
/// use gradient_transform::Update;
///
/// let mut values = [1.0_f32, 2.0];
/// let mut update = Update::new(&mut values);
/// update.map(|u| u + 1.0); // [2, 3]
/// update.map2(&[10.0, 20.0], |u, a| u + a); // [12, 23]
/// update.map3(&[1.0, 1.0], &[2.0, 3.0], |u, a, b| u + a * b); // [14, 26]
/// update.scale(0.5);
/// assert_eq!(update.values(), [7.0, 13.0]);
/// update.values_mut()[0] = 0.0;
///
/// // For custom loops: the values but for a factor, and where to read and write them.
/// let mut short = update.reborrow();
/// assert_eq!(short.scaled(), (&[0.0, 13.0][..], 1.0));
/// let (source, target) = short.parts();
/// assert_eq!((source, &*target), (None, &[0.0, 13.0][..]));
/// assert!(short.unwritten().is_none() && short.len() == 2 && !short.is_empty());
/// ```
#[derive(Debug)]
pub struct Update<'t, T> {
    values: &'t mut [T],
    /// Source of the values while they have not been written.
    source: &'t [T],
    pending: Pending<'t, T>,
}

/// Work on the values that is still to be done. `None` for values that stand by themselves.
type Pending<'t, T> = Option<&'t mut Deferred<T>>;

#[derive(Debug)]
pub(crate) struct Deferred<T> {
    /// The values are still to be read from the source.
    pub(crate) unwritten: bool,
    /// The values are still to be multiplied by this.
    pub(crate) factor: T,
}

impl<T: Real> Deferred<T> {
    /// Nothing written yet.
    pub(crate) fn unwritten() -> Self {
        Self { unwritten: true, factor: T::one() }
    }
}

impl<'t, T: Real> Update<'t, T> {
    /// An update with these values.
    pub fn new(values: &'t mut [T]) -> Self {
        Self { values, source: &[], pending: None }
    }

    /// An update whose values are in one of two places.
    pub(crate) fn deferred(values: &'t mut [T], source: &'t [T], deferred: &'t mut Deferred<T>) -> Self {
        Self { values, source, pending: Some(deferred) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The source of the values as long as no transform has written to them; a write leaves it as it is.
    pub fn unwritten(&self) -> Option<&'t [T]> {
        self.pending.as_ref().filter(|p| p.unwritten && p.factor == T::one()).map(|_| self.source)
    }

    /// `u[i] <- f(u[i])`.
    pub fn map(&mut self, f: impl Fn(T) -> T) {
        match self.take() {
            (Some(source), k, values) => kernel::map2(values, source, move |_, u| f(k * u)),
            (None, k, values) => kernel::map(values, move |u| f(k * u)),
        }
    }

    /// `u[i] <- f(u[i], a[i])`.
    pub fn map2(&mut self, a: &[T], f: impl Fn(T, T) -> T) {
        match self.take() {
            (Some(source), k, values) => kernel::map3(values, source, a, move |_, u, a| f(k * u, a)),
            (None, k, values) => kernel::map2(values, a, move |u, a| f(k * u, a)),
        }
    }

    /// `u[i] <- f(u[i], a[i], b[i])`.
    pub fn map3(&mut self, a: &[T], b: &[T], f: impl Fn(T, T, T) -> T) {
        match self.take() {
            (Some(source), k, values) => kernel::map4(values, source, a, b, move |_, u, a, b| f(k * u, a, b)),
            (None, k, values) => kernel::map3(values, a, b, move |u, a, b| f(k * u, a, b)),
        }
    }

    /// `u[i] <- factor * u[i]`, deferred to the next read or write, so that it needs no pass of its own.
    pub fn scale(&mut self, factor: T) {
        match &mut self.pending {
            Some(pending) if pending.factor == T::one() => pending.factor = factor,
            _ => self.map(|u| factor * u),
        }
    }

    /// The values, to be read.
    pub fn values(&mut self) -> &[T] {
        match self.scaled() {
            (_, factor) if factor != T::one() => self.values_mut(),
            _ => self.scaled().0,
        }
    }

    /// The values and a factor by which each is still to be multiplied: for readers that can multiply on the way.
    pub fn scaled(&self) -> (&[T], T) {
        match &self.pending {
            Some(Deferred { unwritten: true, factor }) => (self.source, *factor),
            Some(Deferred { factor, .. }) => (self.values, *factor),
            None => (self.values, T::one()),
        }
    }

    /// The values, mutable.
    pub fn values_mut(&mut self) -> &mut [T] {
        match self.take() {
            (Some(source), factor, values) if factor == T::one() => values.copy_from_slice(source),
            (Some(source), factor, values) => kernel::map2(values, source, |_, u| factor * u),
            (None, factor, values) if factor != T::one() => kernel::map(values, |u| factor * u),
            (None, ..) => {}
        }
        self.values
    }

    /// For a custom loop: where to read the values, if that is not where all of them must then be written.
    pub fn parts(&mut self) -> (Option<&'t [T]>, &mut [T]) {
        if self.scaled().1 != T::one() {
            return (None, self.values_mut());
        }
        let (source, _, values) = self.take();
        (source, values)
    }

    /// Where to read the values, by what to multiply them, and where to write them, which must be done then.
    pub(crate) fn take(&mut self) -> (Option<&'t [T]>, T, &mut [T]) {
        match &mut self.pending {
            None => (None, T::one(), self.values),
            Some(pending) => {
                let source = pending.unwritten.then_some(self.source);
                let factor = std::mem::replace(&mut pending.factor, T::one());
                pending.unwritten = false;
                (source, factor, self.values)
            }
        }
    }
}

impl<T> Update<'_, T> {
    /// Reborrows the update.
    pub fn reborrow(&mut self) -> Update<'_, T> {
        Update { values: self.values, source: self.source, pending: self.pending.as_deref_mut() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Write = fn(&mut Update<'_, f64>, &[f64], &[f64]);

    const WRITES: [Write; 5] = [
        |u, _, _| u.map(|u| u + 1.0),
        |u, a, _| u.map2(a, |u, a| u + a),
        |u, a, b| u.map3(a, b, |u, a, b| u + a * b),
        |u, _, _| u.values_mut().iter_mut().for_each(|u| *u *= 2.0),
        |u, _, _| u.scale(3.0),
    ];

    #[test]
    fn any_two_writes_give_what_they_give_on_a_plain_slice() {
        let source = [1.0_f64, 2.0, 3.0];
        let (a, b) = ([10.0, 20.0, 30.0], [0.5; 3]);
        for (first, second) in WRITES.iter().flat_map(|first| WRITES.map(|second| (first, second))) {
            let (mut values, mut deferred) = ([f64::NAN; 3], Deferred::unwritten());
            let mut update = Update::deferred(&mut values, &source, &mut deferred);
            assert_eq!(update.values(), source);
            let mut plain = source;
            for write in [*first, second] {
                write(&mut update, &a, &b);
                write(&mut Update::new(&mut plain), &a, &b);
                let (values, factor) = update.scaled();
                assert_eq!(values.iter().map(|u| factor * u).collect::<Vec<_>>(), plain);
            }
            assert_eq!(update.values(), plain);
            assert_eq!(update.scaled().1, 1.0);
        }
    }
}
