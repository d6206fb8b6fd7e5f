//! Transforms whose sums go over all tensors, against loops over one long vector.

use elementary::{DistanceOverGradients, Polyak, ReduceOnPlateau};
use gradient_transform::{Descent, Error, Loss, Optimizer, Parameter, ParameterGroup, Settings, SumsOver};

const SIZES: [usize; 3] = [7, 1, 3000];

fn gradients(step: usize) -> Vec<Vec<f64>> {
    let element = |tensor: usize, i: usize| ((i * (tensor + 3) + 11 * step) as f64 * 0.37).sin();
    SIZES.iter().enumerate().map(|(tensor, &n)| (0..n).map(|i| element(tensor, i)).collect()).collect()
}

fn start() -> Vec<Vec<f64>> {
    gradients(100)
}

fn parameters<'a>(values: &'a mut [Vec<f64>], gradients: &'a [Vec<f64>]) -> Vec<Parameter<'a>> {
    values.iter_mut().zip(gradients).map(|(w, g)| Parameter::slice(w, Some(g))).collect()
}

fn dog() -> Optimizer<f64> {
    let dog = DistanceOverGradients { over: SumsOver::All, relative: 0.01, eps: 1e-8 };
    Optimizer::new_in((dog, Descent::default()), [("a", [SIZES[0]]), ("b", [SIZES[1]]), ("c", [SIZES[2]])])
        .unwrap()
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn dog_is_the_formula_of_one_long_vector() {
    let (mut optimizer, mut values) = (dog(), start());
    let start: Vec<f64> = start().concat();
    let mut y = start.clone();
    let (mut distance, mut squares) = (0.01 * (1.0 + norm(start.iter().copied())), 0.0);
    for step in 0..12 {
        let gradients = gradients(step);
        optimizer.step(&mut parameters(&mut values, &gradients)).unwrap();
        let g = gradients.concat();
        distance = norm(y.iter().zip(&start).map(|(y, start)| y - start)).max(distance);
        squares += norm(g.iter().copied()).powi(2);
        y.iter_mut().zip(&g).for_each(|(y, g)| *y -= distance / (squares + 1e-8).sqrt() * g);
        for (ours, expected) in values.concat().iter().zip(&y) {
            assert!((ours - expected).abs() <= 1e-12, "step {step}: {ours} {expected}");
        }
    }
}

#[test]
fn a_step_that_is_refused_leaves_the_numbers_of_a_tensor_as_they_were() {
    let (mut optimizer, mut values) = (dog(), start());
    optimizer.step(&mut parameters(&mut values, &gradients(0))).unwrap();
    let before = (optimizer.snapshot(), values.clone());
    assert!(before.0.tensors["b"].arrays["distance-over-gradients/gradients"].get::<f64>(0) > 0.0);
    let mut wrong = gradients(1);
    wrong[2][2999] = f64::NAN;
    let error = optimizer.step(&mut parameters(&mut values, &wrong)).unwrap_err();
    assert!(matches!(error, Error::NonFiniteGradient { .. }), "{error}");
    assert_eq!((optimizer.snapshot(), values), before);
}

#[test]
fn polyak_s_step_is_the_formula_of_one_long_vector() {
    for clamps in [false, true] {
        let polyak = Polyak { least: 1.0, largest: 0.01, eps: 0.5, clamps };
        let shapes = [("a", [SIZES[0]]), ("b", [SIZES[1]]), ("c", [SIZES[2]])];
        let mut optimizer: Optimizer<f64> = Optimizer::new_in((polyak, Descent::default()), shapes).unwrap();
        let mut values = start();
        let mut y = values.concat();
        // Above the least loss, so far above that the step is the largest, and below it.
        for (step, loss) in [3.0, 100.0, 0.5].into_iter().enumerate() {
            let gradients = gradients(step);
            optimizer.step_with(Loss(loss), &mut parameters(&mut values, &gradients)).unwrap();
            let g = gradients.concat();
            let gap = if clamps && loss < 1.0 { 0.0 } else { loss - 1.0 };
            let size = (gap / (norm(g.iter().copied()).powi(2) + 0.5)).min(0.01);
            y.iter_mut().zip(&g).for_each(|(y, g)| *y -= size * g);
            for (ours, expected) in values.concat().iter().zip(&y) {
                assert!((ours - expected).abs() <= 1e-12, "step {step}: {ours} {expected}");
            }
        }
    }
}

#[test]
fn without_a_loss_and_with_one_that_is_no_number_nothing_moves() {
    let shapes = [("a", [SIZES[0]]), ("b", [SIZES[1]]), ("c", [SIZES[2]])];
    let mut optimizer: Optimizer<f64> =
        Optimizer::new_in((Polyak::default(), Descent::default()), shapes).unwrap();
    let mut values = start();
    optimizer.step_with(Loss(1.0), &mut parameters(&mut values, &gradients(0))).unwrap();
    let before = (optimizer.snapshot(), values.clone(), optimizer.latest_step(0).unwrap().clone());
    let gradients = gradients(1);
    let refused = optimizer.step(&mut parameters(&mut values, &gradients));
    assert!(matches!(refused, Err(Error::NotGiven { .. })), "{refused:?}");
    let refused = optimizer.step_with(Loss(f64::NAN), &mut parameters(&mut values, &gradients));
    assert!(matches!(refused, Err(Error::OptionOutOfRange { .. })), "{refused:?}");
    assert_eq!((optimizer.snapshot(), values, optimizer.latest_step(0).unwrap().clone()), before);
}

/// The loss of a rejected or skipped step does not count, and a resumed run continues where it was.
#[test]
fn a_plateau_counts_the_losses_of_steps_that_were_done_and_goes_on_from_a_snapshot() {
    let plateau = ReduceOnPlateau { factor: 0.5, patience: 2, ..ReduceOnPlateau::default() };
    let make =
        || -> Optimizer<f64> { Optimizer::new_in((plateau, Descent::default()), [("w", [1])]).unwrap() };
    let mut optimizer = make();
    let mut w = [0.0];
    let step = |optimizer: &mut Optimizer<f64>, w: &mut [f64], loss: f64, gradient: f64| {
        optimizer.step_with(Loss(loss), &mut [Parameter::slice(w, Some(&[gradient]))]).map(|_| ())
    };
    step(&mut optimizer, &mut w, 2.0, 1.0).unwrap();
    step(&mut optimizer, &mut w, 2.0, 1.0).unwrap(); // one without improvement
    step(&mut optimizer, &mut w, 2.0, f64::NAN).unwrap_err();
    step(&mut optimizer, &mut w, f64::NAN, 1.0).unwrap_err();
    assert_eq!(w, [-2.0]);
    let mut resumed = make();
    resumed.restore(optimizer.snapshot()).unwrap();
    for optimizer in [&mut optimizer, &mut resumed] {
        let mut w = w;
        step(optimizer, &mut w, 2.0, 1.0).unwrap(); // the second: half
        assert_eq!(w, [-2.5]);
        step(optimizer, &mut w, 1.0, 1.0).unwrap(); // for good
        assert_eq!(w, [-3.0]);
    }
    assert!(optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))]).is_err()); // which loss?
}

#[test]
fn gradients_at_learning_rate_0_do_not_shorten_the_steps_after_it() {
    let moved_after = |frozen: usize| {
        let chain = (DistanceOverGradients::default(), Descent::default());
        let group = ParameterGroup::new(chain, [("a", [2])]).lr(0.0);
        let mut optimizer: Optimizer<f64> = Optimizer::with_groups([group], Settings::default()).unwrap();
        let mut a = [1.0, -2.0];
        for step in 0..frozen + 5 {
            optimizer.set_lr(0, if step < frozen { 0.0 } else { 1.0 }).unwrap();
            optimizer.step(&mut [Parameter::slice(&mut a, Some(&[4.0, 3.0]))]).unwrap();
        }
        a
    };
    assert_eq!(moved_after(50), moved_after(0));
    assert_ne!(moved_after(0), [1.0, -2.0]);
}
