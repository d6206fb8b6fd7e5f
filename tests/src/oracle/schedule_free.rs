//! Schedule-Free: what writes the parameters, with weight decay, Cautious and Grams.

use ndarray::{ArrayD, Zip};

use super::options::Line;
use super::step::Step;
use super::storage::{Storage, sign};

/// `lerp(a, b, t) = a + t (b - a)`, computed in `arithmetic`.
pub(super) fn lerp(a: &ArrayD<f64>, b: &ArrayD<f64>, t: f64, arithmetic: Storage) -> ArrayD<f64> {
    arithmetic.store(a + &(arithmetic.store(b - a) * arithmetic.round(t)))
}

/// One step of y (where gradients are taken) and z (plain descent) along `update`; the step size is `step.dlr`.
pub(super) fn descend(y: &mut ArrayD<f64>, z: &mut ArrayD<f64>, mut update: ArrayD<f64>, step: &Step) {
    let options = step.options;
    // Every operation rounds. Without stochastic rounding, 1.9.2 even computes upon bfloat16 parameters in bfloat16.
    let computes_narrow = options.line == Line::First && !options.stochastic_rounding;
    let narrow = if computes_narrow { step.storage } else { step.storage.arithmetic() };
    let n = |values| narrow.store(values);
    let scalar = |value| step.storage.arithmetic().round(value);

    let weight = step.dlr * step.dlr;
    let weight_sum = step.weight_sum + weight;
    let mut c = if weight_sum == 0.0 { 0.0 } else { weight / weight_sum };
    if options.schedulefree_c > 0.0 {
        c = (c * (1.0 - options.betas.0) * options.schedulefree_c).min(1.0);
    }
    let xy = 1.0 - options.betas.0 * (1.0 - c);
    let (dlr, dlr_xy) = (scalar(step.dlr), scalar(step.dlr * xy));

    let decay = options.weight_decay;
    let y_before = y.clone();
    if options.weight_decay_by_lr {
        update = step.storage.arithmetic().store(update + &y_before * scalar(decay));
    }

    if options.use_cautious || options.use_grams {
        let averaging = n(n(&*y - &*z) * scalar(c));
        let mut displacement = n(&averaging + &update * dlr_xy);
        *z = n(&*z - &(&update * dlr));
        if options.use_cautious {
            let agrees: ArrayD<f64> =
                Zip::from(&update).and(&displacement).map_collect(|u, m| if u * m > 0.0 { 1.0 } else { 0.0 });
            if step.compat.cautious_scales_displacement {
                let share = agrees.mean().unwrap_or(0.0).max(1e-3);
                displacement = n(displacement * &(agrees / share));
            } else {
                let idle = update.mapv(|u| if u == 0.0 { 1.0 } else { 0.0 });
                let with_update = update.len() as f64 - idle.sum();
                let share = (agrees.sum() / with_update.max(1.0)).max(1e-3);
                displacement = (&averaging + &(&update * dlr_xy / share)) * &agrees + &averaging * &idle;
            }
        } else {
            displacement = n(displacement.mapv(f64::abs) * &update.mapv(sign));
        }
        *y = n(&*y - &displacement);
    } else {
        *y = n(lerp(y, z, c, step.storage.arithmetic()));
        *z = n(&*z - &(&update * dlr));
        *y = n(&*y - &(&update * dlr_xy));
    }

    let decays = !step.rectifier_is_zero || step.compat.decay_while_unrectified;
    if !options.weight_decay_by_lr && decays {
        *z = n(&*z - &(&y_before * narrow.round(decay)));
        *y = n(&*y - &(&y_before * narrow.round(decay * xy)));
    }
}
