//! The work of a training loop beside steps: the device's compared with the engine's.

use elementary::{Adam, Momentum, WeightAverage};
use gradient_transform::device::{Executor, OnDevice};
use gradient_transform::{
    Descent, Error, Optimizer, Parameter, ParameterGroup, Scalar, Settings, TrainingPoint,
};
use half::bf16;
use schedule_free::ScheduleFree;

use crate::device::{Both, Gradients, Judge, Types, values};

/// The third never has a gradient.
const SHAPES: [&[usize]; 6] = [&[40, 33], &[1030], &[5], &[2, 1100], &[65], &[7]];

/// Two averages by Schedule-Free of different weights, one that is kept, and none.
fn optimizer(training_point: TrainingPoint) -> Result<Optimizer, Error> {
    let names = |tensors: std::ops::Range<usize>| tensors.map(|i| (format!("w{i}"), SHAPES[i]));
    let groups = [
        ParameterGroup::new((Adam::default(), ScheduleFree::new(0.9)), names(0..2)),
        ParameterGroup::new((Momentum::default(), ScheduleFree::new(0.6)), names(2..4)),
        ParameterGroup::new((Adam::default(), WeightAverage::default()), names(4..5)),
        ParameterGroup::new(Descent::default(), names(5..6)),
    ];
    Optimizer::with_groups(
        groups.map(|group| group.lr(0.1)),
        Settings { training_point, ..Settings::default() },
    )
}

/// Steps, evaluations and accumulations of a run that changes sides in the middle of each, beside one that stays on the processor. The
/// largest difference, or an error at the first one `to_the_bit`.
///
/// # Errors
/// A message.
pub fn compare_loop<E: Executor>(
    types: Types,
    training_point: TrainingPoint,
    to_the_bit: bool,
    executor: E,
) -> Result<(E, f64), String> {
    let mut judge = if to_the_bit { Judge::Bits } else { Judge::Distance(0.0) };
    let executor = match types {
        Types::F32 => run::<f32, E>(training_point, executor, |x| x, &mut judge)?,
        _ => run::<bf16, E>(training_point, executor, bf16::from_f32, &mut judge)?,
    };
    Ok((executor, if let Judge::Distance(largest) = judge { largest } else { 0.0 }))
}

fn run<S: Scalar, E: Executor>(
    training_point: TrainingPoint,
    executor: E,
    narrow: fn(f32) -> S,
    judge: &mut Judge,
) -> Result<E, String> {
    let text = |error: Error| error.to_string();
    let numbers = |seed: u64, shape: &[usize]| -> Vec<S> {
        values(seed, shape.iter().product()).into_iter().map(narrow).collect()
    };
    let gradients = |seed: u64| -> Gradients<S> {
        let of =
            |i: u64, shape| (i != 2 && (seed + i) % 5 != 3).then(|| numbers(100 * (seed + 1) + i, shape));
        (0..).zip(SHAPES).map(|(i, shape)| of(i, shape)).collect()
    };
    // Both begin on the processor, so that state waits there when the first evaluation comes.
    let mut here = optimizer(training_point).map_err(text)?;
    let mut weights: Vec<Vec<S>> = (1..).zip(SHAPES).map(|(i, shape)| numbers(i, shape)).collect();
    for step in 0..2 {
        let gradients = gradients(step);
        let parameters = weights.iter_mut().zip(&gradients);
        let mut parameters: Vec<Parameter<'_>> =
            parameters.map(|(w, g)| Parameter::slice(w, g.as_deref())).collect();
        here.step(&mut parameters).map_err(text)?;
    }
    let mut copy = optimizer(training_point).map_err(text)?;
    copy.restore(here.snapshot()).map_err(text)?;
    let mut both = Both::new(here, OnDevice::new(copy, executor).map_err(text)?, weights)?;
    for step in 2..8 {
        both.eval()?;
        both.judge(judge).map_err(|difference| format!("x before step {step}: {difference}"))?;
        if step % 2 == 1 {
            both = changed_sides(both, judge)?;
        }
        let refused = both.there.evaluation_points(&mut []).is_err();
        if !refused || !both.there.is_evaluating() {
            return Err(format!("step {step}: a misfit was taken"));
        }
        both.train()?;
        both.judge(judge).map_err(|difference| format!("y before step {step}: {difference}"))?;
        for micro_step in 0..step % 3 {
            both.accumulate(&gradients(10 * step + micro_step))?;
            if step % 2 == 0 {
                both = changed_sides(both, judge)?;
            }
        }
        let last = if step == 5 { both.no_gradients() } else { gradients(step) };
        both.step(&last, judge).map_err(|difference| format!("step {step}: {difference}"))?;
    }
    let (moved, executor) = both.there.into_parts().map_err(text)?;
    judge.states(&both.here.snapshot(), &moved.snapshot())?;
    Ok(executor)
}

/// The run on the device, after a moment on the processor, where its state is compared.
fn changed_sides<S: Scalar, E: Executor>(both: Both<S, E>, judge: &mut Judge) -> Result<Both<S, E>, String> {
    let text = |error: Error| error.to_string();
    let Both { here, mut there, weights, device } = both;
    let on_device = there.snapshot().map_err(text)?;
    let (moved, executor) = there.into_parts().map_err(text)?;
    if moved.snapshot() != on_device {
        return Err("another state on the processor than on the device".to_owned());
    }
    judge.states(&here.snapshot(), &on_device)?;
    let counts = |optimizer: &Optimizer| (optimizer.accumulated(), optimizer.is_evaluating());
    if counts(&here) != counts(&moved) {
        return Err(format!("{:?} and {:?}", counts(&here), counts(&moved)));
    }
    Ok(Both { here, there: OnDevice::new(moved, executor).map_err(text)?, weights, device })
}
