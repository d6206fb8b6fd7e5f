//! The update's part of a tile.

use std::ops::Deref;

use crate::element::Real;
use crate::kernel;

/// The update u of a tile: the raw gradient at the head of a chain, changed by one transform after the other.
///
/// Reads as a slice. As long as no transform has written to it, it is the gradient itself, and no copy is made: the
/// first one that writes reads the gradient and writes the update in one pass.
#[derive(Debug)]
pub struct Update<'t, T> {
    values: &'t mut [T],
    /// What the values are while `written` says that they have not been written.
    source: &'t [T],
    /// `None` for values that have been written from the beginning.
    written: Option<&'t mut bool>,
}

impl<T> Deref for Update<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        if self.is_written() { self.values } else { self.source }
    }
}

impl<'t, T: Real> Update<'t, T> {
    /// An update with these values.
    pub fn new(values: &'t mut [T]) -> Self {
        Self { values, source: &[], written: None }
    }

    /// An update whose values are those of `source` until the first one is written.
    pub(crate) fn unwritten(values: &'t mut [T], source: &'t [T], written: &'t mut bool) -> Self {
        Self { values, source, written: Some(written) }
    }

    /// `u[i] <- f(u[i])`.
    pub fn map(&mut self, f: impl Fn(T) -> T) {
        match self.parts() {
            (Some(source), values) => kernel::map2(values, source, |_, u| f(u)),
            (None, values) => kernel::map(values, f),
        }
    }

    /// `u[i] <- f(u[i], a[i])`.
    pub fn map2(&mut self, a: &[T], f: impl Fn(T, T) -> T) {
        match self.parts() {
            (Some(source), values) => kernel::map3(values, source, a, |_, u, a| f(u, a)),
            (None, values) => kernel::map2(values, a, f),
        }
    }

    /// `u[i] <- f(u[i], a[i], b[i])`.
    pub fn map3(&mut self, a: &[T], b: &[T], f: impl Fn(T, T, T) -> T) {
        match self.parts() {
            (Some(source), values) => kernel::map4(values, source, a, b, |_, u, a, b| f(u, a, b)),
            (None, values) => kernel::map3(values, a, b, f),
        }
    }

    /// The values, to be changed in any way.
    pub fn values(&mut self) -> &mut [T] {
        let (source, values) = self.parts();
        if let Some(source) = source {
            values.copy_from_slice(source);
        }
        values
    }

    /// For a loop of one's own: where to read the values, if that is not where all of them must then be written.
    pub fn parts(&mut self) -> (Option<&'t [T]>, &mut [T]) {
        let unwritten = !self.is_written();
        if let Some(written) = &mut self.written {
            **written = true;
        }
        (unwritten.then_some(self.source), self.values)
    }
}

impl<T> Update<'_, T> {
    /// The same update, for a shorter time.
    pub fn reborrow(&mut self) -> Update<'_, T> {
        Update { values: self.values, source: self.source, written: self.written.as_deref_mut() }
    }

    fn is_written(&self) -> bool {
        self.written.as_deref().is_none_or(|&written| written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_write_reads_the_source_and_later_ones_the_values() {
        let source = [1.0_f64, 2.0, 3.0];
        let (a, b) = ([10.0, 20.0, 30.0], [0.5; 3]);
        type Write = fn(&mut Update<'_, f64>, &[f64], &[f64]);
        let writes: [Write; 4] = [
            |u, _, _| u.map(|u| u + 1.0),
            |u, a, _| u.map2(a, |u, a| u + a),
            |u, a, b| u.map3(a, b, |u, a, b| u + a * b),
            |u, _, _| u.values().iter_mut().for_each(|u| *u *= 2.0),
        ];
        for write in writes {
            let (mut values, mut written) = ([f64::NAN; 3], false);
            let mut update = Update::unwritten(&mut values, &source, &mut written);
            assert_eq!(&*update, source);
            write(&mut update, &a, &b);
            let once = update.to_vec();
            write(&mut update, &a, &b);
            let twice = update.to_vec();

            let mut plain = source;
            write(&mut Update::new(&mut plain), &a, &b);
            assert_eq!(once, plain);
            write(&mut Update::new(&mut plain), &a, &b);
            assert_eq!(twice, plain);
        }
    }
}
