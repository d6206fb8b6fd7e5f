//! Every transform's formula once more: whole arrays in float64, nothing shared with the engine.

pub(crate) mod elementary;

use ndarray::{Array2, ArrayD, Axis};

use super::problem::{Problem, Trajectory};

type A = ArrayD<f64>;

/// From the step's number (from 1), the gradient and the base iterate to the update; `None` while the tensor is held.
pub(crate) type Direction = Box<dyn FnMut(i32, &A, &A) -> Option<A>>;

/// The decay of every moment in the rows.
const BETA2: f64 = 0.9;
/// The interpolation of every Schedule-Free in the rows.
pub(crate) const BETA1: f64 = 0.8765;

fn zero() -> A {
    A::zeros(vec![])
}

fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

fn dot(a: &A, b: &A) -> f64 {
    (a * b).sum()
}

fn mean(a: &A, axis: usize) -> A {
    a.mean_axis(Axis(axis)).unwrap().insert_axis(Axis(axis))
}

/// The update itself.
pub(crate) fn gradient() -> Direction {
    Box::new(|_, g, _| Some(g.clone()))
}

/// `v <- beta2 v + (1 - beta2) g^2`; from the gradient and its root mean square to the update.
pub(crate) fn dense(divide: fn(f64, f64) -> f64) -> Direction {
    let mut v = zero();
    Box::new(move |_, g, _| {
        v = &v * BETA2 + &(g * g * (1.0 - BETA2));
        Some(pairwise(g, &v.sqrt(), divide))
    })
}

fn pairwise(g: &A, root: &A, divide: fn(f64, f64) -> f64) -> A {
    let mut u = g.clone();
    u.zip_mut_with(root, |g, &root| *g = divide(*g, root));
    u
}

pub(crate) fn by_division(g: f64, root: f64) -> f64 {
    if g == 0.0 { 0.0 } else { g / root }
}

pub(crate) fn by_atan2(g: f64, root: f64) -> f64 {
    g.atan2(root)
}

/// The largest axis and the second largest, if the tensor is factored.
fn axes(shape: &[usize]) -> Option<(usize, usize)> {
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.sort_by_key(|&axis| shape[axis]);
    match order[..] {
        [.., second, largest] if shape[largest] >= 32 => Some((largest, second)),
        _ => None,
    }
}

/// Row and column means of `g^2`; the root of `row col / mean(row)`.
pub(crate) fn factored(divide: fn(f64, f64) -> f64) -> Direction {
    let (mut row, mut col) = (zero(), zero());
    let mut otherwise = dense(divide);
    Box::new(move |k, g, y| {
        let Some((largest, second)) = axes(g.shape()) else { return otherwise(k, g, y) };
        row = &row * BETA2 + &(mean(&(g * g), largest) * (1.0 - BETA2));
        col = &col * BETA2 + &(mean(&(g * g), second) * (1.0 - BETA2));
        let root = (&row / &mean(&row, second)).sqrt() * &col.sqrt();
        Some(pairwise(g, &root, divide))
    })
}

/// The moment before this step's gradient enters it; the first gradient squared is the first moment.
pub(crate) fn adopt_of_dense(divide: fn(f64, f64) -> f64) -> Direction {
    let mut v = zero();
    Box::new(move |k, g, _| {
        let update = (k > 1).then(|| pairwise(g, &v.sqrt(), divide));
        v = if k > 1 { &v * BETA2 + &(g * g * (1.0 - BETA2)) } else { g * g };
        update
    })
}

/// The same of row and column means.
pub(crate) fn adopt_of_factored(divide: fn(f64, f64) -> f64) -> Direction {
    let (mut row, mut col) = (zero(), zero());
    let mut otherwise = adopt_of_dense(divide);
    Box::new(move |k, g, y| {
        let Some((largest, second)) = axes(g.shape()) else { return otherwise(k, g, y) };
        let (r, c) = (mean(&(g * g), largest), mean(&(g * g), second));
        if k == 1 {
            (row, col) = (r, c);
            return None;
        }
        let root = (&row / &mean(&row, second)).sqrt() * &col.sqrt();
        row = &row * BETA2 + &(r * (1.0 - BETA2));
        col = &col * BETA2 + &(c * (1.0 - BETA2));
        Some(pairwise(g, &root, divide))
    })
}

/// `sign(g) + 0.1 sign(y - m)` with the average m of the weights.
pub(crate) fn focus() -> Direction {
    let mut m = zero();
    Box::new(move |_, g, y| {
        m = &m * BETA2 + &(y * (1.0 - BETA2));
        Some(g.mapv(sign) + (y - &m).mapv(sign) * 0.1)
    })
}

/// `O = clamp(<G, X>, -1, 1) X` with six quintic iterations on G; divided by its root mean square, of the past (and 1e-8)
/// or of the first step. Vectors go by their dense moment.
pub(crate) fn muon(first_update: bool) -> Direction {
    let mut mean_square = 0.0;
    let mut otherwise = dense(by_division);
    Box::new(move |k, g, y| {
        if g.ndim() < 2 {
            return otherwise(k, g, y);
        }
        let rows = g.shape()[0];
        let matrix = g.to_shape((rows, g.len() / rows)).unwrap().into_owned();
        let length = dot(g, g).sqrt() + 1e-7;
        let mut x = &matrix / length;
        for _ in 0..6 {
            let a = x.dot(&x.t());
            x = &x * 3.4445 + (&a * -4.7750 + &a.dot(&a) * 2.0315).dot(&x);
        }
        let o = &x * (&matrix * &x).sum().clamp(-1.0, 1.0);
        let square = ((&o * &o).sum() / o.len() as f64).max(1e-16);
        let divisor = if first_update {
            mean_square = if k == 1 { square } else { mean_square };
            mean_square.sqrt()
        } else {
            mean_square = BETA2 * mean_square + (1.0 - BETA2) * square;
            mean_square.sqrt() + 1e-8
        };
        Some((o / divisor).into_shape_with_order(g.raw_dim()).unwrap())
    })
}

/// Muon with PyTorch's defaults, with or without NorMuon's normalised rows.
pub(crate) fn muon_of_pytorch(nesterov: bool, neurons: bool) -> Direction {
    muon_of(nesterov, neurons, 1.0, &[(3.4445, -4.7750, 2.0315); 5], |r, c| (r / c).max(1.0).sqrt())
}

/// Five iterations of listing 1 of 2505.16932, with heavy-ball momentum and the root mean square of 2502.16982.
pub(crate) fn muon_by_the_polar_express() -> Direction {
    let listed: [(f64, f64, f64); 5] = [
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    ];
    let safe = listed.map(|(a, b, c)| (a / 1.01, b / 1.01_f64.powi(3), c / 1.01_f64.powi(5)));
    muon_of(false, false, 1.01, &safe, |r, c| 0.2 * r.max(c).sqrt())
}

fn muon_of(
    nesterov: bool,
    neurons: bool,
    margin: f64,
    coefficients: &[(f64, f64, f64)],
    scale: fn(f64, f64) -> f64,
) -> Direction {
    let coefficients = coefficients.to_vec();
    let (mut momentum, mut squares) = (None, Array2::<f64>::zeros((1, 1)));
    let mut otherwise = dense(by_division);
    Box::new(move |k, g, y| {
        if g.ndim() < 2 {
            return otherwise(k, g, y);
        }
        let before = momentum.take().unwrap_or_else(|| g * 0.0);
        let m = &before * 0.95 + &(g * 0.05);
        let u = if nesterov { g * 0.05 + &(&m * 0.95) } else { m.clone() };
        momentum = Some(m);
        let rows = g.shape()[0];
        let matrix = u.to_shape((rows, g.len() / rows)).unwrap().into_owned();
        let mut o = &matrix / (dot(&u, &u).sqrt() * margin + 1e-7);
        for &(a, b, c) in &coefficients {
            let square = o.dot(&o.t());
            o = &o * a + (&square * b + &square.dot(&square) * c).dot(&o);
        }
        if neurons {
            let means = o.mapv(|o| o * o).mean_axis(Axis(1)).unwrap().insert_axis(Axis(1));
            squares = &squares * 0.95 + &(means * 0.05);
            let normalised = &o / &(squares.mapv(f64::sqrt) + 1e-10);
            let norm = |a: &Array2<f64>| a.iter().map(|a| a * a).sum::<f64>().sqrt();
            o = &normalised * (norm(&o) / (norm(&normalised) + 1e-10));
        }
        let o = o * scale(rows as f64, (g.len() / rows) as f64);
        Some(o.into_shape_with_order(g.raw_dim()).unwrap())
    })
}

/// `u / max(1, RMS(u))`.
pub(crate) fn clipped(mut of: Direction) -> Direction {
    Box::new(move |k, g, y| {
        let u = of(k, g, y)?;
        let rms = (dot(&u, &u) / u.len() as f64).sqrt();
        Some(u / rms.max(1.0))
    })
}

/// What of the gradient is orthogonal to the base iterate, at the gradient's norm.
pub(crate) fn orthogonal() -> Direction {
    Box::new(|_, g, w| {
        let rest = g - &(w * (dot(w, g) / dot(w, w)));
        // One element has nothing that is orthogonal.
        Some(if g.len() == 1 { rest * 0.0 } else { &rest * (dot(g, g) / dot(&rest, &rest)).sqrt() })
    })
}

/// `y <- y - lr (u + decay y)`.
pub(crate) fn descent(
    problem: &Problem,
    lr: f64,
    decay: f64,
    direction: impl Fn() -> Direction,
) -> Trajectory {
    let mut directions: Vec<Direction> = problem.init.iter().map(|_| direction()).collect();
    let mut y = problem.init.clone();
    let steps = (1..).zip(&problem.gradients).map(|(k, gradients)| {
        for ((y, g), direction) in y.iter_mut().zip(gradients).zip(&mut directions) {
            if let Some(u) = direction(k, g, y) {
                *y = &*y - &((u + &(&*y * decay)) * lr);
            }
        }
        y.clone()
    });
    steps.collect()
}

/// What is done to Schedule-Free's displacement, given as the averaging's part and the step, and the update u.
pub(crate) type Temper = fn(A, A, &A) -> A;

pub(crate) fn untempered(pull: A, step: A, _u: &A) -> A {
    pull + step
}

/// The step is scaled up where the displacement agrees with u, and nothing moves where it does not. Without an update, the
/// averaging goes on.
pub(crate) fn cautious(pull: A, step: A, u: &A) -> A {
    let one_where = |yes| if yes { 1.0 } else { 0.0 };
    let agrees = ((&pull + &step) * u).mapv(|x| one_where(x > 0.0));
    let idle = u.mapv(|u| one_where(u == 0.0));
    let with_update = u.len() as f64 - idle.sum();
    let share = (agrees.sum() / with_update.max(1.0)).max(1e-3);
    (&pull + &(step / share)) * &agrees + &pull * &idle
}

/// All of the displacement where it agrees with u, over the share of elements in which it does.
pub(crate) fn cautious_of_the_reference(pull: A, step: A, u: &A) -> A {
    let m = pull + step;
    let mask = (&m * u).mapv(|x| if x > 0.0 { 1.0 } else { 0.0 });
    let share = mask.mean().unwrap();
    m * &mask / share.max(1e-3)
}

/// The size of the displacement and the sign of u.
pub(crate) fn grams(pull: A, step: A, u: &A) -> A {
    (pull + step).abs() * &u.mapv(sign)
}

/// `m = c (y - z) + lr a u`, `y <- y - m`, `z <- z - lr u` with `c = 1/k` and `a = 1 - beta1 (1 - c)`; decay of y inside u or
/// outside.
pub(crate) fn schedule_free(
    problem: &Problem,
    lr: f64,
    (decay, by_lr): (f64, bool),
    temper: Temper,
    direction: impl Fn() -> Direction,
) -> Trajectory {
    let mut directions: Vec<Direction> = problem.init.iter().map(|_| direction()).collect();
    let (mut y, mut z) = (problem.init.clone(), problem.init.clone());
    let mut trajectory = Vec::new();
    for (k, gradients) in (1..).zip(&problem.gradients) {
        let c = 1.0 / f64::from(k);
        let a = 1.0 - BETA1 * (1.0 - c);
        for (i, g) in gradients.iter().enumerate() {
            let old = y[i].clone();
            let u = directions[i](k, g, &z[i]).unwrap();
            let u = if by_lr { u + &(&old * decay) } else { u };
            let outside = if by_lr { 0.0 } else { decay };
            let m = temper((&old - &z[i]) * c, &u * (lr * a), &u);
            y[i] = &old - &m - &old * (outside * a);
            z[i] = &z[i] - &(u * lr) - &old * outside;
        }
        trajectory.push(y.clone());
    }
    trajectory
}

/// Dense moment, debiased, with a step size of `lr` times RAdam's rectifier; nothing moves before there is one.
pub(crate) fn rectified(problem: &Problem, lr: f64) -> Trajectory {
    let mut v: Vec<A> = problem.init.iter().map(|_| zero()).collect();
    let mut y = problem.init.clone();
    let mut trajectory = Vec::new();
    for (k, gradients) in (1..).zip(&problem.gradients) {
        let debias = 1.0 - BETA2.powi(k);
        let rho_inf = 2.0 / (1.0 - BETA2) - 1.0;
        let rho = rho_inf - 2.0 * f64::from(k) * BETA2.powi(k) / debias;
        for (i, g) in gradients.iter().enumerate() {
            v[i] = &v[i] * BETA2 + &(g * g * (1.0 - BETA2));
            if rho > 4.0 {
                let top = (rho - 4.0) * (rho - 2.0) * rho_inf;
                let factor = (top / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho)).sqrt();
                y[i] = &y[i] - &(pairwise(g, &(&v[i] / debias).sqrt(), by_division) * (lr * factor));
            }
        }
        trajectory.push(y.clone());
    }
    trajectory
}

/// The smallest stride from `every` on that shares no factor with an axis but the first.
fn stride(every: usize, shape: &[usize]) -> usize {
    let shares = |n: usize, axis: usize| (2..=n).any(|f| n.is_multiple_of(f) && axis.is_multiple_of(f));
    (every..).find(|&n| !shape.iter().skip(1).any(|&axis| shares(n, axis))).unwrap()
}

/// d found by Prodigy or SPEED on about every n-th element, with a dense moment and plain descent.
pub(crate) fn estimated(problem: &Problem, d0: f64, d_coef: f64, every: usize, speed: bool) -> Trajectory {
    let beta3 = BETA2.sqrt();
    let (mut d, mut d_prev, mut numerator) = (d0, d0, 0.0_f64);
    let sampled = |a: &A| a.iter().copied().step_by(stride(every, a.shape())).collect::<Vec<f64>>();
    let mut v: Vec<A> = problem.init.iter().map(|_| zero()).collect();
    let mut s: Vec<Vec<f64>> = problem.init.iter().map(|p| vec![0.0; sampled(p).len()]).collect();
    let mut y = problem.init.clone();
    let mut trajectory = Vec::new();
    for gradients in &problem.gradients {
        let weight = if speed { d0 * d.sqrt() } else { d.sqrt() };
        let (mut sum, mut size) = (0.0, 0.0);
        for (i, g) in gradients.iter().enumerate() {
            let way = sampled(&(&problem.init[i] - &y[i]));
            let product: f64 = sampled(g).iter().zip(way).map(|(g, way)| g * way).sum();
            sum += weight * if speed { sign(product) } else { product };
            for (s, g) in s[i].iter_mut().zip(sampled(g)) {
                *s = beta3 * *s + weight * if speed { sign(g) } else { g };
                size += s.abs();
            }
            v[i] = &v[i] * (BETA2 * (d_prev / d).powi(2)) + &(g * g * (1.0 - BETA2));
            y[i] = &y[i] - &(pairwise(g, &v[i].sqrt(), by_division) * d);
        }
        numerator *= beta3;
        if sum >= 0.0 {
            numerator += sum;
        } else if d > d0 {
            numerator = numerator.min(sum);
        }
        d_prev = d;
        d = d.max((d_coef * numerator).atan2(size));
        if speed {
            d = d.min(d_prev.powf(0.975));
        }
        trajectory.push(y.clone());
    }
    trajectory
}

/// Descent at `lr` times a factor for each step, counted from 0.
pub(crate) fn scheduled(problem: &Problem, lr: f64, factor: fn(i32) -> f64) -> Trajectory {
    let mut y = problem.init.clone();
    let steps = (0..).zip(&problem.gradients).map(|(step, gradients)| {
        y.iter_mut().zip(gradients).for_each(|(y, g)| *y = &*y - &(g * (lr * factor(step))));
        y.clone()
    });
    steps.collect()
}

/// Descent whose weights go back to slow ones in every third step, which follow them half of the way.
pub(crate) fn looking_ahead(problem: &Problem, lr: f64) -> Trajectory {
    let (mut y, mut slow) = (problem.init.clone(), problem.init.clone());
    let steps = (1..).zip(&problem.gradients).map(|(k, gradients)| {
        for ((y, slow), g) in y.iter_mut().zip(&mut slow).zip(gradients) {
            *y = &*y - &(g * lr);
            if k % 3 == 0 {
                *slow = (&*slow + &*y) * 0.5;
                y.clone_from(slow);
            }
        }
        y.clone()
    });
    steps.collect()
}
