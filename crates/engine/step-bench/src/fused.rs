//! The default step written out by hand, for one float32 matrix, to measure the cost of composition.
//!
//! The same three sweeps as the engine's, but each is one loop in which everything is done at once, and the first two read
//! four rows side by side. No part of it can be removed or combined with others.

use anyhow::{Result, ensure};
use gradient_transform::kernel;
use multiversion::multiversion;
use rayon::prelude::*;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.99;
const D0: f64 = 1e-6;
const EPS: f32 = 1e-8;
const EVERY: usize = 11;
/// Number of rows that are read at a time.
const ROWS: usize = 4;
/// Number of rows that a thread takes at a time, and of columns after which it computes the
/// samples.
const BAND: usize = 64;
const STRIP: usize = 1024;
const LANES: usize = 8;

/// One matrix with the state of the default options.
#[derive(Clone, Debug)]
pub struct Fused {
    columns: usize,
    z: Vec<f32>,
    p0: Vec<f32>,
    s: Vec<f32>,
    /// Means of squared gradients over the columns, and over the rows.
    by_row: Vec<f32>,
    by_column: Vec<f32>,
    d: f64,
    d_prev: f64,
    numerator: f64,
    weight_sum: f64,
}

impl Fused {
    /// Begins with `value`, row by row.
    ///
    /// # Errors
    /// The numbers of rows and columns are multiples of 64 and 8, and there are at least as many columns as rows.
    pub fn new(rows: usize, columns: usize, value: &[f32]) -> Result<Self> {
        ensure!(
            rows.is_multiple_of(BAND) && columns.is_multiple_of(LANES) && columns >= rows,
            "the hand-fused step is for matrices of a multiple of {BAND} rows and at least as many columns, a multiple of {LANES}; \
             not for {rows}x{columns}",
        );
        ensure!(value.len() == rows * columns, "{} values for {rows}x{columns}", value.len());
        let p0: Vec<f32> = value.iter().step_by(EVERY).copied().collect();
        Ok(Self {
            columns,
            z: value.to_vec(),
            s: vec![0.0; p0.len()],
            p0,
            by_row: vec![0.0; rows],
            by_column: vec![0.0; columns],
            d: D0,
            d_prev: D0,
            numerator: 0.0,
            weight_sum: 0.0,
        })
    }

    /// The step size found so far.
    pub fn d(&self) -> f64 {
        self.d
    }

    /// Bytes of state.
    pub fn bytes(&self) -> usize {
        let state = [&self.z, &self.p0, &self.s, &self.by_row, &self.by_column];
        state.iter().map(|state| size_of_val(state.as_slice())).sum()
    }

    /// One step. Gradients have to be finite and large relative to the epsilon of 1e-8.
    pub fn step(&mut self, y: &mut [f32], gradient: &[f32]) {
        let (columns, n) = (self.columns, y.len());
        let rows = n / columns;
        let band = BAND * columns;

        let r = self.d_prev / self.d;
        let (decay, weight) = ((BETA2 * r * r) as f32, (1.0 - BETA2) as f32);
        let decayed = |(mean, sum): (&mut f32, f32)| *mean = *mean * decay + weight * sum;
        let by_column = gradient
            .par_chunks(band)
            .zip(self.by_row.par_chunks_mut(BAND))
            .fold(
                || vec![0.0_f32; columns],
                |mut by_column, (gradient, by_row)| {
                    let groups = gradient.chunks_exact(ROWS * columns);
                    for (group, by_row) in groups.zip(by_row.chunks_exact_mut(ROWS)) {
                        let sums = squares(split_rows(group), &mut by_column);
                        by_row.iter_mut().zip(sums.map(|sum| sum / columns as f32)).for_each(decayed);
                    }
                    by_column
                },
            )
            .reduce_with(|mut a, b| {
                a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                a
            })
            .unwrap_or_default();
        self.by_column.iter_mut().zip(by_column.iter().map(|sum| sum / rows as f32)).for_each(decayed);

        let mean = self.by_row.iter().map(|&x| f64::from(x)).sum::<f64>() as f32 / rows as f32;
        let p: Vec<f32> = self.by_column.iter().map(|x| x.sqrt().recip()).collect();
        let q: Vec<f32> = self.by_row.iter().map(|x| (x / mean).sqrt().recip()).collect();
        let sum: f64 = gradient
            .par_chunks(band)
            .zip(q.par_chunks(BAND))
            .map(|(gradient, q)| {
                let groups = gradient.chunks_exact(ROWS * columns).zip(q.as_chunks().0);
                groups.map(|(group, q)| update_squares(split_rows(group), &p, q)).sum::<f64>()
            })
            .sum();
        let threshold = if self.d > D0 { 1.0 } else { 50.0 };
        let factor = (1.0 / ((sum / n as f64).sqrt() / threshold).max(1.0)) as f32;

        self.weight_sum += self.d * self.d;
        let c = self.d * self.d / self.weight_sum;
        let moves = Moves {
            from_z: c >= 0.5,
            coefficient: if c >= 0.5 { c - 1.0 } else { c } as f32,
            rate: (self.d * (1.0 - BETA1 * (1.0 - c))) as f32,
            step_size: self.d as f32,
            factor,
        };
        let sampling = (BETA2.sqrt() as f32, self.d.sqrt() as f32);
        let bands = Bands { columns, y, z: &mut self.z, p0: &self.p0, s: &mut self.s, start: 0 };
        let [dot, size] = bands.run(gradient, &p, &q, moves, sampling);

        self.numerator *= BETA2.sqrt();
        let contribution = self.d.sqrt() * dot;
        if contribution >= 0.0 {
            self.numerator += contribution;
        } else if self.d > D0 {
            self.numerator = self.numerator.min(contribution);
        }
        self.d_prev = self.d;
        self.d = self.d.max(self.numerator.atan2(size));
    }
}

/// How y and z move.
#[derive(Clone, Copy)]
struct Moves {
    from_z: bool,
    coefficient: f32,
    rate: f32,
    step_size: f32,
    factor: f32,
}

/// A run of rows that begins with element `start`.
struct Bands<'a> {
    columns: usize,
    y: &'a mut [f32],
    z: &'a mut [f32],
    p0: &'a [f32],
    s: &'a mut [f32],
    start: usize,
}

impl Bands<'_> {
    fn run(self, gradient: &[f32], p: &[f32], q: &[f32], moves: Moves, sampling: (f32, f32)) -> [f64; 2] {
        if q.len() <= BAND {
            return self.band(gradient, p, q, moves, sampling);
        }
        let rows = q.len() / 2 / BAND * BAND;
        let n = rows * self.columns;
        let samples = (self.start + n).div_ceil(EVERY) - self.start.div_ceil(EVERY);
        let (y, y_rest) = self.y.split_at_mut(n);
        let (z, z_rest) = self.z.split_at_mut(n);
        let (p0, p0_rest) = self.p0.split_at(samples);
        let (s, s_rest) = self.s.split_at_mut(samples);
        let first = Bands { y, z, p0, s, ..self };
        let rest = Bands {
            y: y_rest,
            z: z_rest,
            p0: p0_rest,
            s: s_rest,
            start: first.start + n,
            columns: first.columns,
        };
        let (a, b) = rayon::join(
            || first.run(&gradient[..n], p, &q[..rows], moves, sampling),
            || rest.run(&gradient[n..], p, &q[rows..], moves, sampling),
        );
        [a[0] + b[0], a[1] + b[1]]
    }

    fn band(
        self,
        gradient: &[f32],
        p: &[f32],
        q: &[f32],
        moves: Moves,
        (beta3, weight): (f32, f32),
    ) -> [f64; 2] {
        let first = self.start.div_ceil(EVERY);
        let mut total = [0.0; 2];
        for (row, &q) in q.iter().enumerate() {
            for from in (0..self.columns).step_by(STRIP) {
                let to = self.columns.min(from + STRIP);
                let range = row * self.columns + from..row * self.columns + to;
                let (g, y) = (&gradient[range.clone()], &mut self.y[range.clone()]);
                let at = self.start + range.start;
                let sample = at.next_multiple_of(EVERY);
                let end = (at + y.len()).div_ceil(EVERY) - first;
                let begin = sample / EVERY - first;
                if begin < end {
                    let (g, y) = (&g[sample - at..], &y[sample - at..]);
                    let (p0, s) = (&self.p0[begin..end], &mut self.s[begin..end]);
                    let [dot, size] = samples(g, y, p0, s, beta3, weight);
                    total[0] += dot;
                    total[1] += size;
                }
                finish(g, y, &mut self.z[range], &p[from..to], q, moves);
            }
        }
        total
    }
}

fn split_rows(group: &[f32]) -> [&[f32]; ROWS] {
    let columns = group.len() / ROWS;
    std::array::from_fn(|row| &group[row * columns..][..columns])
}

/// Adds the squares of the rows to `by_column`; gives their sum over each row.
#[multiversion(targets = "simd")]
fn squares(rows: [&[f32]; ROWS], by_column: &mut [f32]) -> [f32; ROWS] {
    let mut lanes = [[0.0_f32; LANES]; ROWS];
    let [a, b, c, d] = rows.map(|row| row.as_chunks::<LANES>().0);
    let sums = by_column.as_chunks_mut::<LANES>().0;
    for ((((a, b), c), d), sums) in a.iter().zip(b).zip(c).zip(d).zip(sums) {
        for i in 0..LANES {
            let squares = [a[i] * a[i], b[i] * b[i], c[i] * c[i], d[i] * d[i]];
            sums[i] += (squares[0] + squares[1]) + (squares[2] + squares[3]);
            for row in 0..ROWS {
                lanes[row][i] += squares[row];
            }
        }
    }
    lanes.map(kernel::total)
}

#[inline(always)]
fn divided(g: f32, inverse: f32) -> f32 {
    (g * inverse) * (1.0 - EPS * inverse)
}

/// The sum of squares of the rows' updates.
#[multiversion(targets = "simd")]
fn update_squares(rows: [&[f32]; ROWS], p: &[f32], q: &[f32; ROWS]) -> f64 {
    let mut lanes = [[0.0_f32; LANES]; ROWS];
    let [a, b, c, d] = rows.map(|row| row.as_chunks::<LANES>().0);
    for ((((a, b), c), d), p) in a.iter().zip(b).zip(c).zip(d).zip(p.as_chunks::<LANES>().0) {
        for i in 0..LANES {
            for (row, g) in [a[i], b[i], c[i], d[i]].into_iter().enumerate() {
                let u = divided(g, p[i] * q[row]);
                lanes[row][i] += u * u;
            }
        }
    }
    lanes.map(kernel::total).map(f64::from).iter().sum()
}

/// Prodigy's statistics: the products of gradients and displacements, and the sum of |s|.
#[multiversion(targets = "simd")]
fn samples(g: &[f32], y: &[f32], p0: &[f32], s: &mut [f32], beta3: f32, weight: f32) -> [f64; 2] {
    let (mut dots, mut sizes) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let ((p0s, p0_rest), (ss, s_rest)) = (p0.as_chunks::<LANES>(), s.as_chunks_mut::<LANES>());
    for (block, (p0, s)) in p0s.iter().zip(ss).enumerate() {
        let (g, y) = (&g[block * LANES * EVERY..], &y[block * LANES * EVERY..]);
        let spread = |from: &[f32]| -> [f32; LANES] {
            let from = &from[..(LANES - 1) * EVERY + 1];
            std::array::from_fn(|lane| from[lane * EVERY])
        };
        let (g, y) = (spread(g), spread(y));
        for i in 0..LANES {
            dots[i] += g[i] * (p0[i] - y[i]);
            s[i] = s[i] * beta3 + weight * g[i];
            sizes[i] += s[i].abs();
        }
    }
    for (i, (p0, s)) in p0_rest.iter().zip(s_rest).enumerate() {
        let at = (p0s.len() * LANES + i) * EVERY;
        dots[i] += g[at] * (p0 - y[at]);
        *s = *s * beta3 + weight * g[at];
        sizes[i] += s.abs();
    }
    [kernel::total(dots).into(), kernel::total(sizes).into()]
}

/// Moves y and z.
#[multiversion(targets = "simd")]
fn finish(g: &[f32], y: &mut [f32], z: &mut [f32], p: &[f32], q: f32, moves: Moves) {
    let Moves { from_z, coefficient, rate, step_size, factor } = moves;
    for (((&g, y), z), &p) in g.iter().zip(y).zip(z).zip(p) {
        let u = factor * divided(g, p * q);
        let base = if from_z { *z } else { *y };
        *y = base + coefficient * (*z - *y) - rate * u;
        *z -= step_size * u;
    }
}

#[cfg(test)]
mod tests {
    use gradient_transform::Parameter;
    use prodigy_plus::ProdigyPlus;

    use super::*;

    #[test]
    fn the_step_written_by_hand_is_the_engines() {
        let (rows, columns) = (192, 200);
        let start: Vec<f32> = (0..rows * columns).map(|i| ((i * 37 % 101) as f32 - 50.0) / 100.0).collect();
        let (mut by_hand, mut by_engine) = (start.clone(), start.clone());
        let mut fused = Fused::new(rows, columns, &start).unwrap();
        let mut optimizer = ProdigyPlus::builder().build([("w", &[rows, columns][..])]).unwrap();
        for step in 0..60 {
            let gradient = |w: &[f32]| -> Vec<f32> {
                let noise = |i: usize| ((i * 71 + step * 131) % 97) as f32 / 97.0 - 0.5;
                w.iter().enumerate().map(|(i, w)| w + noise(i)).collect()
            };
            let (of_hand, of_engine) = (gradient(&by_hand), gradient(&by_engine));
            fused.step(&mut by_hand, &of_hand);
            optimizer.step(&mut [Parameter::slice(&mut by_engine, Some(&of_engine))]).unwrap();
        }
        let d = optimizer.estimate(0).unwrap().d;
        assert!(d > 10.0 * D0 && (fused.d() / d - 1.0).abs() < 1e-4, "{} {d}", fused.d());
        let distance = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        };
        let moved = distance(&by_engine, &start);
        assert!(moved > 1.0 && distance(&by_hand, &by_engine) < 1e-4 * moved);
    }

    #[test]
    fn other_shapes_are_refused() {
        for (rows, columns) in [(128, 64), (60, 64), (64, 66)] {
            assert!(Fused::new(rows, columns, &vec![0.0; rows * columns]).is_err());
        }
        assert!(Fused::new(64, 64, &[0.0]).is_err());
    }
}
