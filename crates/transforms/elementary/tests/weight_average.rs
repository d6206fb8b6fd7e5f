//! The evaluation point of `WeightAverage`, and the way back.

use elementary::{Momentum, WeightAverage};
use gradient_transform::{
    Descent, Error, Optimizer, Parameter, ParameterGroup, Real, Rounding, Scalar, Settings, TrainingPoint,
};
use half::bf16;

const N: usize = 2500;

fn gradient(step: usize) -> Vec<f64> {
    (0..N).map(|i| (i as f64 * 0.37 + step as f64).sin()).collect()
}

fn optimizer<T: Real>(average: WeightAverage, settings: Settings) -> Optimizer<T> {
    let group = ParameterGroup::new((Momentum::default(), average), [("w", [N])]);
    Optimizer::with_groups([group.lr(0.125).rounding(Rounding::Stochastic)], settings).unwrap()
}

/// Steps, and at every one the point that is evaluated at, with the way there and back.
fn run<T: Real, E: Scalar + PartialEq + std::fmt::Debug>(
    average: WeightAverage,
    settings: Settings,
    number: fn(f64) -> E,
) -> Vec<[Vec<E>; 2]> {
    let mut optimizer: Optimizer<T> = optimizer(average, settings);
    let mut w: Vec<E> = (0..N).map(|i| number((i as f64).cos())).collect();
    let steps = (0..9).map(|step| {
        let gradient: Vec<E> = gradient(step).into_iter().map(number).collect();
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))]).unwrap();
        let y = w.clone();
        let mut out = y.clone();
        optimizer.evaluation_point(0, &w, &mut out).unwrap();
        optimizer.eval(&mut [Parameter::slice(&mut w, None)]).unwrap();
        assert_eq!(w, out);
        let x = w.clone();
        // A run that was saved at the average resumes from y.
        let saved = optimizer.snapshot();
        let restored = optimizer.train(&mut [Parameter::slice(&mut w, None)]);
        restored.unwrap();
        assert_eq!(w, y);
        optimizer.restore(saved).unwrap();
        assert!(optimizer.is_evaluating());
        w.clone_from(&x);
        optimizer.train(&mut [Parameter::slice(&mut w, None)]).unwrap();
        assert_eq!(w, y);
        [y, x]
    });
    steps.collect()
}

/// The average by its definition: a sum of all weights since the start, each with its own factor.
fn average_of(points: &[Vec<f64>], beta: f64, debias: bool, start: usize) -> Vec<f64> {
    // Those after the start, the first of which is the initial point unless it is debiased.
    let from = if debias { start + 1 } else { start };
    if points.len() <= start + 1 || points.len() <= from {
        return points[points.len() - 1].clone();
    }
    let of = &points[from..];
    let weight = |age: usize| match (debias, age + 1 == of.len()) {
        (false, true) => beta.powi(age as i32),
        _ => (1.0 - beta) * beta.powi(age as i32),
    };
    let total: f64 = (0..of.len()).map(weight).sum();
    (0..N)
        .map(|i| of.iter().rev().enumerate().map(|(age, y)| weight(age) * y[i]).sum::<f64>() / total)
        .collect()
}

#[test]
fn it_evaluates_at_the_average_by_its_definition_and_goes_back_to_the_bit() {
    for (debias, start) in [(true, 0), (false, 0), (true, 3), (false, 3)] {
        let average = WeightAverage { beta: 0.8, debias, start: start as u64 };
        let steps = run::<f64, f64>(average, Settings::default(), |x| x);
        let mut points = vec![(0..N).map(|i| (i as f64).cos()).collect::<Vec<f64>>()];
        for (step, [y, x]) in steps.iter().enumerate() {
            points.push(y.clone());
            let expected = average_of(&points, 0.8, debias, start);
            let off = x.iter().zip(&expected).fold(0.0_f64, |off, (x, e)| off.max((x - e).abs()));
            assert!(off < 1e-13, "{average:?}, step {step}: {off}");
            assert_eq!(x == y, step < start || (step == start && debias), "{average:?}, step {step}");
        }
    }
}

#[test]
fn it_goes_there_and_back_in_every_type_and_where_the_training_point_would_be_recomputed() {
    let average = WeightAverage { beta: 0.8, ..WeightAverage::default() };
    for training_point in [TrainingPoint::Kept, TrainingPoint::Recomputed] {
        let settings = Settings { training_point, ..Settings::default() };
        let wide = run::<f64, f64>(average, settings, |x| x);
        let single = run::<f32, f32>(average, settings, |x| x as f32);
        let narrow = run::<f32, bf16>(average, settings, bf16::from_f64);
        for (step, [_, x]) in wide.iter().enumerate() {
            let off = |other: &dyn Fn(usize) -> f64| {
                (0..N).fold(0.0_f64, |off, i| off.max((other(i) - x[i]).abs()))
            };
            assert!(off(&|i| f64::from(single[step][1][i])) < 2e-6);
            // Weights are rounded by up to 2^-7 in each step.
            assert!(
                off(&|i| f64::from(narrow[step][1][i])) < 0.25,
                "{}",
                off(&|i| f64::from(narrow[step][1][i]))
            );
        }
    }
}

#[test]
fn no_step_is_taken_at_the_average_and_the_average_goes_with_its_writer() {
    let mut optimizer: Optimizer =
        Optimizer::new(WeightAverage { beta: 0.5, ..WeightAverage::default() }, [("w", [1])]).unwrap();
    let mut w = [0.0_f32];
    for _ in 0..2 {
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0]))]).unwrap();
    }
    optimizer.eval(&mut [Parameter::slice(&mut w, None)]).unwrap();
    let error = optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0]))]).unwrap_err();
    assert!(matches!(error, Error::EvaluationMode) && w != [-6.0]);
    optimizer.replace_chain(0, Descent::default()).unwrap();
    optimizer.train(&mut [Parameter::slice(&mut w, None)]).unwrap();
    assert_eq!(w, [-6.0]);
    optimizer.eval(&mut [Parameter::slice(&mut w, None)]).unwrap();
    assert_eq!(w, [-6.0]);
}
