//! The formulas: plain loops over elements, nothing kept debiased.

use gradient_transform::normal;
use transform_laws::formula::{Direction, by_division, dot, elementwise, gradient, sign, then};
use transform_laws::{Problem, Trajectory};

/// A direction of the update of another.
fn behind(mut of: Direction, mut next: Direction) -> Direction {
    Box::new(move |k, g, y| next(k, &of(k, g, y)?, y))
}

fn average(beta: f64, m: &mut f64, x: f64) -> f64 {
    *m = beta * *m + (1.0 - beta) * x;
    *m
}

fn debiased(beta: f64, t: f64, m: &mut f64, x: f64) -> f64 {
    average(beta, m, x) / (1.0 - beta.powf(t))
}

pub(crate) fn momentum() -> Direction {
    elementwise(|_, g, _, [m]| {
        *m = 0.9 * *m + g;
        *m
    })
}

pub(crate) fn nesterov() -> Direction {
    elementwise(|_, g, _, [m]| {
        *m = 0.9 * *m + g;
        g + 0.9 * *m
    })
}

pub(crate) fn ema() -> Direction {
    elementwise(|t, g, _, [m]| debiased(0.9, t, m, g))
}

pub(crate) fn biased_ema() -> Direction {
    elementwise(|_, g, _, [m]| average(0.9, m, g))
}

pub(crate) fn adam() -> Direction {
    elementwise(|t, g, _, [m, v]| by_division(debiased(0.8, t, m, g), debiased(0.9, t, v, g * g).sqrt()))
}

pub(crate) fn biased_adam() -> Direction {
    elementwise(|_, g, _, [m, v]| by_division(average(0.8, m, g), average(0.9, v, g * g).sqrt()))
}

pub(crate) fn adam_of_nesterov() -> Direction {
    elementwise(|t, g, _, [m, v]| {
        average(0.8, m, g);
        let ahead = 0.8 * *m / (1.0 - 0.8_f64.powf(t + 1.0)) + 0.2 * g / (1.0 - 0.8_f64.powf(t));
        by_division(ahead, debiased(0.9, t, v, g * g).sqrt())
    })
}

pub(crate) fn adam_moment() -> Direction {
    elementwise(|t, g, _, [v]| by_division(g, debiased(0.9, t, v, g * g).sqrt()))
}

pub(crate) fn amsgrad() -> Direction {
    elementwise(|t, g, _, [m, v, largest]| {
        *largest = average(0.9, v, g * g).max(*largest);
        by_division(debiased(0.8, t, m, g), (*largest / (1.0 - 0.9_f64.powf(t))).sqrt())
    })
}

pub(crate) fn amsgrad_of_debiased() -> Direction {
    elementwise(|t, g, _, [m, v, largest]| {
        *largest = debiased(0.9, t, v, g * g).max(*largest);
        by_division(debiased(0.8, t, m, g), largest.sqrt())
    })
}

pub(crate) fn nadam() -> Direction {
    elementwise(|t, g, _, [m, v, product]| {
        let mu = |t: f64| 0.8 * (1.0 - 0.5 * 0.96_f64.powf(0.004 * t));
        *product = if t == 1.0 { mu(t) } else { *product * mu(t) };
        average(0.8, m, g);
        let ahead = mu(t + 1.0) * *m / (1.0 - *product * mu(t + 1.0));
        by_division((1.0 - mu(t)) * g / (1.0 - *product) + ahead, debiased(0.9, t, v, g * g).sqrt())
    })
}

pub(crate) fn radam_of_unit_norm() -> Direction {
    behind(
        unit_norm(),
        elementwise(|t, g, _, [m, v]| {
            let last = 2.0 / (1.0 - 0.9) - 1.0;
            let power = 0.9_f64.powf(t);
            let rho = last - 2.0 * t * power / (1.0 - power);
            let (m, v) = (debiased(0.8, t, m, g), debiased(0.9, t, v, g * g));
            if rho <= 5.0 {
                return m;
            }
            let r = ((rho - 4.0) * (rho - 2.0) * last / ((last - 4.0) * (last - 2.0) * rho)).sqrt();
            by_division(r * m, v.sqrt())
        }),
    )
}

pub(crate) fn adamax() -> Direction {
    elementwise(|t, g, _, [m, v]| {
        *v = (0.9 * *v).max(g.abs());
        by_division(debiased(0.8, t, m, g), *v)
    })
}

pub(crate) fn adabelief() -> Direction {
    elementwise(|t, g, _, [m, v]| {
        let direction = debiased(0.8, t, m, g);
        by_division(direction, debiased(0.9, t, v, (g - *m).powi(2)).sqrt())
    })
}

pub(crate) fn adagrad() -> Direction {
    elementwise(|_, g, _, [v]| {
        *v += g * g;
        by_division(g, v.sqrt())
    })
}

pub(crate) fn adadelta() -> Direction {
    elementwise(|_, g, _, [v, way]| {
        average(0.9, v, g * g);
        let u = g * (*way + 1e-8).sqrt() / (*v + 1e-8).sqrt();
        average(0.9, way, u * u);
        u
    })
}

pub(crate) fn centred_rms() -> Direction {
    elementwise(|_, g, _, [m, v]| {
        let mean = average(0.9, m, g);
        by_division(g, (average(0.9, v, g * g) - mean * mean).sqrt())
    })
}

pub(crate) fn signs() -> Direction {
    elementwise(|_, g, _, []| sign(g))
}

pub(crate) fn lion() -> Direction {
    elementwise(|_, g, _, [m]| {
        let u = sign(0.8765 * *m + (1.0 - 0.8765) * g);
        average(0.8, m, g);
        u
    })
}

pub(crate) fn sophia() -> Direction {
    elementwise(|_, g, _, [m]| (average(0.8765, m, g) / 1e-12).clamp(-1.0, 1.0))
}

/// With a warm-up over five steps.
pub(crate) fn ademamix() -> Direction {
    elementwise(|t, g, _, [m, slow, v]| {
        let share = (t / 5.0).min(1.0);
        let (fast, last) = (0.8_f64.ln(), 0.95_f64.ln());
        let beta3 = if t < 5.0 { (fast * last / ((1.0 - share) * last + share * fast)).exp() } else { 0.95 };
        let direction = debiased(0.8, t, m, g) + share * 3.0 * average(beta3.min(0.95), slow, g);
        by_division(direction, debiased(0.9, t, v, g * g).sqrt())
    })
}

pub(crate) fn adan() -> Direction {
    elementwise(|t, g, _, [m, w, v, before]| {
        let c = if t == 1.0 { 0.0 } else { g - *before };
        *before = g;
        let direction = debiased(0.8, t, m, g) + 0.7 * debiased(0.7, t, w, c);
        by_division(direction, debiased(0.9, t, v, (g + 0.7 * c).powi(2)).sqrt())
    })
}

pub(crate) fn rprop() -> Direction {
    elementwise(|t, g, _, [size, before]| {
        if t == 1.0 {
            *size = 0.5;
        }
        if g * *before > 0.0 {
            *size = (*size * 1.2).min(0.7);
        }
        if g * *before < 0.0 {
            *size = (*size * 0.5).max(0.3);
            *before = 0.0;
        } else {
            *before = g;
        }
        *size * sign(*before)
    })
}

pub(crate) fn novograd() -> Direction {
    let (mut m, mut v) = (Vec::new(), 0.0);
    Box::new(move |k, g, y| {
        let square = dot(g, g);
        v = if k == 1 { square } else { 0.4 * v + 0.6 * square };
        m.resize(g.len(), 0.0);
        let mut u = g.clone();
        for ((u, y), m) in u.iter_mut().zip(y).zip(&mut m) {
            *m = 0.8 * *m + by_division(*u, v.sqrt()) + 0.1 * y;
            *u = *m;
        }
        Some(u)
    })
}

pub(crate) fn distance_over_gradients() -> Direction {
    let (mut start, mut distance, mut squares) = (None, 0.0_f64, 0.0);
    Box::new(move |_, g, y| {
        let from = start.get_or_insert_with(|| {
            distance = 1e-3 * (1.0 + dot(y, y).sqrt());
            y.clone()
        });
        let way = y - &*from;
        distance = distance.max(dot(&way, &way).sqrt());
        squares += dot(g, g);
        Some(g.mapv(|g| by_division(g * distance, squares.sqrt())))
    })
}

pub(crate) fn mars() -> Direction {
    elementwise(|t, g, _, [before]| {
        let change = if t == 1.0 { 0.0 } else { g - *before };
        *before = g;
        g + 0.5 * 0.8 / (1.0 - 0.8) * change
    })
}

pub(crate) fn optimistic() -> Direction {
    elementwise(|t, g, _, [before]| {
        let u = if t == 1.0 { g } else { 1.5 * g - 0.5 * *before };
        *before = g;
        u
    })
}

pub(crate) fn grafted() -> Direction {
    let (mut size, mut direction) = (nesterov(), adagrad());
    Box::new(move |k, g, y| {
        let (a, b) = (size(k, g, y)?, direction(k, g, y)?);
        let factor = dot(&a, &a).sqrt() / dot(&b, &b).sqrt();
        Some(b * factor)
    })
}

pub(crate) fn yogi() -> Direction {
    elementwise(|t, g, _, [m, v]| {
        *v -= (1.0 - 0.8765) * sign(*v - g * g) * g * g;
        by_division(debiased(0.8, t, m, g), (*v / (1.0 - 0.8765_f64.powf(t))).sqrt())
    })
}

pub(crate) fn decay() -> Direction {
    elementwise(|_, g, y, []| g + 0.1 * y)
}

/// Of tensors with two axes or more.
pub(crate) fn cautious_decay() -> Direction {
    then(gradient(), |u, _, y| {
        let mut decayed = u.clone();
        for (u, y) in decayed.iter_mut().zip(y) {
            *u += if u.signum() == y.signum() || *u == 0.0 || *y == 0.0 { 0.1 * y } else { 0.0 };
        }
        if u.ndim() < 2 { u } else { decayed }
    })
}

pub(crate) fn decay_to_start() -> Direction {
    elementwise(|t, g, y, [start]| {
        if t == 1.0 {
            *start = y;
        }
        g + 0.1 * (y - *start)
    })
}

pub(crate) fn clipped_values() -> Direction {
    elementwise(|t, g, _, []| g.clamp(-2.0 * t.powf(0.25), 2.0 * t.powf(0.25)))
}

pub(crate) fn clipped_norm() -> Direction {
    then(gradient(), |u, _, _| &u * (1.5 / dot(&u, &u).sqrt()).min(1.0))
}

pub(crate) fn clipped_root_mean_square() -> Direction {
    then(gradient(), |u, _, _| &u * (1.5 / (dot(&u, &u) / u.len() as f64).sqrt()).min(1.0))
}

pub(crate) fn unit_norm() -> Direction {
    then(gradient(), |u, _, _| u.mapv(|x| by_division(x, dot(&u, &u).sqrt())))
}

/// Unit by unit: the slices along the first axis, or the whole of a vector.
fn by_units(f: impl Fn(&mut [f64], &[f64]) + 'static) -> Direction {
    then(gradient(), move |mut u, _, y| {
        let units = if u.ndim() < 2 { 1 } else { u.shape()[0] };
        let len = u.len() / units;
        let y: Vec<f64> = y.iter().copied().collect();
        let mut values: Vec<f64> = u.iter().copied().collect();
        values.chunks_mut(len).zip(y.chunks(len)).for_each(|(u, y)| f(u, y));
        u.iter_mut().zip(values).for_each(|(u, value)| *u = value);
        u
    })
}

pub(crate) fn centralised() -> Direction {
    let units = by_units(|u, _| {
        let mean = u.iter().sum::<f64>() / u.len() as f64;
        u.iter_mut().for_each(|u| *u -= mean);
    });
    let mut units = units;
    Box::new(move |k, g, y| if g.ndim() < 2 { Some(g.clone()) } else { units(k, g, y) })
}

pub(crate) fn adaptively_clipped() -> Direction {
    by_units(|u, y| {
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (size, most) = (norm(u), 0.8 * norm(y).max(1e-9));
        if size > most {
            u.iter_mut().for_each(|u| *u *= most / size);
        }
    })
}

pub(crate) fn trusted() -> Direction {
    then(gradient(), |u, _, y| {
        let ratio = 0.5 * dot(y, y).sqrt() / dot(&u, &u).sqrt();
        if ratio.is_finite() && ratio > 0.0 { u * ratio } else { u }
    })
}

pub(crate) fn scaled_by_the_parameter() -> Direction {
    then(unit_norm(), |u, _, y| u * (dot(y, y) / y.len() as f64).sqrt().max(1e-3))
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

/// Descent at `lr` times a factor that follows from the squared norm of all gradients of a step and from its loss.
pub(crate) fn by_the_norm_of_all(problem: &Problem, lr: f64, factor: fn(f64, f64) -> f64) -> Trajectory {
    let mut y = problem.init.clone();
    let steps = problem.gradients.iter().zip(&problem.losses).map(|(gradients, loss)| {
        let factor = factor(gradients.iter().map(|g| dot(g, g)).sum(), *loss);
        y.iter_mut().zip(gradients).for_each(|(y, g)| *y = &*y - &(g * (lr * factor)));
        y.clone()
    });
    steps.collect()
}

/// Descent at a rate that is halved as soon as the loss has not fallen for two steps in a row.
pub(crate) fn reduced_on_a_plateau(problem: &Problem, lr: f64) -> Trajectory {
    let (mut best, mut waited, mut scale) = (f64::INFINITY, 0, 1.0);
    let mut y = problem.init.clone();
    let steps = problem.gradients.iter().zip(&problem.losses).map(|(gradients, loss)| {
        (best, waited) = if *loss < best { (*loss, 0) } else { (best, waited + 1) };
        if waited == 2 {
            (waited, scale) = (0, scale / 2.0);
        }
        y.iter_mut().zip(gradients).for_each(|(y, g)| *y = &*y - &(g * (lr * scale)));
        y.clone()
    });
    steps.collect()
}

/// Descent along directions of length 1 with noise of a variance of `0.04/sqrt(t)`. The tensors' names are their numbers.
pub(crate) fn shaken(problem: &Problem, lr: f64) -> Trajectory {
    let mut y = problem.init.clone();
    let steps = (0..).zip(&problem.gradients).map(|(step, gradients)| {
        for (tensor, (y, g)) in y.iter_mut().zip(gradients).enumerate() {
            let (size, deviation) = (dot(g, g).sqrt(), (0.04 / (step as f64 + 1.0).sqrt()).sqrt());
            for (element, (y, g)) in y.iter_mut().zip(g).enumerate() {
                let noise = normal(0, &tensor.to_string(), "gradient-noise/noise", step, element);
                *y -= lr * (g / size + deviation * noise);
            }
        }
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
