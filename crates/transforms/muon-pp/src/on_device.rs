//! Muon's work on a device: between the sweep that takes the update and the next.

use gradient_transform::device::{Matrix, MatrixNumbers, MatrixWork, Product};
use gradient_transform::{Buffer, Context, Real};

use crate::newton_schulz::Products;
use crate::{Muon, Neurons, Normalisation};

/// Numbers of the steps, by their places.
const LENGTH: usize = 0;
const ALIGNMENT: usize = 1;
const FACTOR: usize = 2;

impl Muon {
    /// From G, in the first column, to what the update becomes, in the same place.
    pub(crate) fn work(&self, rows: usize, cols: usize) -> MatrixWork {
        let mut work = MatrixWork::default();
        let g = work.column(0, rows, cols);
        let given = work.workspace(rows, cols);
        work.each(given, g, |e| e.sums.push(e.gradient.squared()));
        work.numbers();
        work.each(given, g, |e| e.parameter = e.gradient / e.number(LENGTH));
        // The products are of the smaller side's size.
        let transposes = rows > cols;
        let mut x = if transposes { given.t() } else { given };
        self.iterate_by_squares(&mut work, &mut x);
        let x = if transposes { x.t() } else { x };
        let (aligned, normalisation) = (self.aligned, self.normalisation);
        work.each(x, g, |e| {
            let (g, x) = (e.gradient, e.parameter);
            e.sums.extend(aligned.then(|| g * x));
            match normalisation {
                Normalisation::None => {}
                Normalisation::Neurons => e.sums_along.push(x.squared()),
                Normalisation::MovingAverage | Normalisation::FirstUpdate => e.sums.push(x.squared()),
            }
        });
        work.numbers();
        work.each(g, x, |e| {
            let mut o = e.gradient;
            if aligned {
                o = o * e.number(ALIGNMENT);
            }
            if normalisation == Normalisation::Neurons {
                o = o * e.along(0);
            }
            e.parameter = o * e.number(FACTOR);
        });
        work
    }

    /// The numbers of [`work`](Self::work), of which the first call asks for the length that G is divided by, and the second for the rest.
    pub(crate) fn numbers<T: Real>(
        &self,
        cx: &Context<'_>,
        call: usize,
        given: &mut MatrixNumbers<T>,
        vectors: &mut [Buffer],
    ) {
        if call == 0 {
            given.numbers = vec![self.length(given.sums[0]), T::one(), T::one()];
            return;
        }
        let mut sums = given.sums.iter();
        if let (true, Some(&product)) = (self.aligned, sums.next()) {
            given.numbers[ALIGNMENT] = self.alignment(product);
        }
        // Sums are those of X, and what is normalised is O.
        let square = given.numbers[ALIGNMENT].f64() * given.numbers[ALIGNMENT].f64();
        let (rows, n) = (cx.tensor.shape[0], cx.tensor.len());
        let factor = match self.normalisation {
            Normalisation::None => T::one(),
            Normalisation::Neurons => {
                let mut neurons = Neurons::new(self.beta2, n / rows.max(1));
                let factors = given.row_sums.iter().enumerate();
                let factors =
                    factors.map(|(row, &sum)| neurons.factor(&mut vectors[0], row, square * sum.f64()));
                given.row_numbers = factors.collect();
                T::of(neurons.rescaling())
            }
            Normalisation::MovingAverage | Normalisation::FirstUpdate => {
                let sum = square * sums.next().copied().unwrap_or_default();
                self.factor(cx, (sum / n as f64).sqrt().max(1e-8), &mut vectors[0])
            }
        };
        given.numbers[FACTOR] = factor * T::of(self.scale.factor(rows, n / rows.max(1)));
    }
}

impl Products for MatrixWork {
    type Matrix = Matrix;

    fn square(&mut self, x: &Matrix) -> Matrix {
        self.workspace(x.rows(), x.rows())
    }

    fn beside(&mut self, x: &Matrix) -> Matrix {
        self.like(*x)
    }

    fn gram(&mut self, into: &mut Matrix, x: &Matrix) {
        MatrixWork::product(self, Product { symmetric: true, ..Product::new(*into, *x, x.t()) });
    }

    fn polynomial(&mut self, into: &mut Matrix, matrix: &Matrix, [a, b, c]: [f64; 3]) {
        MatrixWork::product(
            self,
            Product {
                alpha: c,
                plus: Some((b, *matrix)),
                diagonal: a,
                symmetric: true,
                ..Product::new(*into, *matrix, *matrix)
            },
        );
    }

    fn commuting(&mut self, into: &mut Matrix, left: &Matrix, right: &Matrix) {
        MatrixWork::product(self, Product { symmetric: true, ..Product::new(*into, *left, *right) });
    }

    fn product(&mut self, into: &mut Matrix, left: &Matrix, right: &Matrix) {
        MatrixWork::product(self, Product::new(*into, *left, *right));
    }
}
