//! Random chains under random sequences of calls, in float64 against the naive oracle: steps all at once and one by one,
//! with missing gradients, at changing learning rates; evaluation; checkpoints; new groups; and calls that are mistakes,
//! after which everything must be as before.

use conformance::pair::{Run, Training, deviation};
use gradient_transform::{Error, Parameter, StepOutcome};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value};

use crate::random_runs::{cases, own, run, second_run, shape};

type Engine = Training<f64, f64>;

/// What a training script does next.
#[derive(Clone, Debug)]
enum Call {
    /// A step without the gradients whose bit is set. `factor` is the schedule's.
    Step { missing: u8, factor: f64 },
    /// The same, every parameter on its own, beginning at this one.
    OneByOne { missing: u8, factor: f64, first: usize },
    /// To the evaluation point and back.
    Evaluate,
    /// On from a checkpoint in another optimizer, which was saved in evaluation mode or not.
    Resume { evaluating: bool },
    /// Parameters that come later, with options of their own.
    AddGroup { own: Map<String, Value>, shapes: Vec<Vec<usize>> },
    /// Something that must be refused.
    Mistake(Mistake),
}

#[derive(Clone, Copy, Debug)]
enum Mistake {
    NonFinite(usize),
    FewerParameters,
    Transposed,
    TrainTwice,
    StepWhileEvaluating,
    LearningRate,
    NameThatExists,
    CheckpointOfOthers,
}

fn call() -> impl Strategy<Value = Call> {
    let missing = || prop_oneof![3 => Just(0_u8), 2 => any::<u8>()];
    let factor = || select(vec![1.0, 1.0, 0.5, 0.0]);
    let mistakes = vec![
        Mistake::NonFinite(0),
        Mistake::NonFinite(1),
        Mistake::FewerParameters,
        Mistake::Transposed,
        Mistake::TrainTwice,
        Mistake::StepWhileEvaluating,
        Mistake::LearningRate,
        Mistake::NameThatExists,
        Mistake::CheckpointOfOthers,
    ];
    prop_oneof![
        6 => (missing(), factor()).prop_map(|(missing, factor)| Call::Step { missing, factor }),
        3 => (missing(), factor(), 0..8usize)
            .prop_map(|(missing, factor, first)| Call::OneByOne { missing, factor, first }),
        1 => Just(Call::Evaluate),
        2 => any::<bool>().prop_map(|evaluating| Call::Resume { evaluating }),
        1 => (own(), prop::collection::vec(shape(), 1..3))
            .prop_map(|(own, shapes)| Call::AddGroup { own, shapes }),
        2 => select(mistakes).prop_map(Call::Mistake),
    ]
}

/// The gradients of the run's next step, without those of `missing`.
fn gradients(engine: &Engine, missing: u8) -> Vec<Option<ndarray::ArrayD<f64>>> {
    let all = engine.gradients(engine.t + 1).into_iter().enumerate();
    all.map(|(i, gradient)| gradient.filter(|_| i >= 8 || missing >> i & 1 == 0)).collect()
}

fn set_rates(engine: &mut Engine, factor: f64) {
    engine.run.schedule = vec![factor];
    engine.t += 1;
    engine.schedule().unwrap();
    engine.t -= 1;
}

fn one_by_one(engine: &mut Engine, gradients: &[Option<ndarray::ArrayD<f64>>], first: usize) {
    engine.t += 1;
    let count = engine.values.len();
    let mut step = engine.optimizer.begin_step().unwrap();
    for i in (0..count).map(|i| (i + first) % count) {
        let gradient = gradients[i].as_ref().map(|g| g.view());
        step.parameter(i, Parameter::array(engine.values[i].view_mut(), gradient)).unwrap();
    }
    step.end();
}

fn resume(engine: &mut Engine, evaluating: bool) {
    let y = engine.bits();
    if evaluating {
        engine.with_parameters(|optimizer, parameters| optimizer.eval(parameters)).unwrap();
    }
    let bytes = checkpoint::to_bytes(&engine.optimizer).unwrap();
    let mut fresh = Engine::new(&engine.run).unwrap();
    let restored = checkpoint::from_bytes(&bytes, &mut fresh.optimizer).unwrap();
    assert!(restored.missing.is_empty() && restored.surplus.is_empty(), "{restored:?}");
    assert!(fresh.optimizer.snapshot() == engine.optimizer.snapshot());
    fresh.values.clone_from(&engine.values);
    fresh.t = engine.t;
    if evaluating {
        fresh.with_parameters(|optimizer, parameters| optimizer.train(parameters)).unwrap();
    }
    assert_eq!(fresh.bits(), y);
    *engine = fresh;
}

fn add_group(engine: &mut Engine, own: &Map<String, Value>, shapes: &[Vec<usize>]) {
    let run = &mut engine.run;
    let from = run.shapes.len();
    run.groups.push((shapes.len(), own.clone()));
    run.shapes.extend_from_slice(shapes);
    let (base, groups) = run.engine_options().unwrap();
    let named = (from..).zip(shapes).map(|(i, shape)| (Run::name(i), shape.as_slice()));
    let group = base.group(groups.last().unwrap().clone(), named).unwrap();
    engine.optimizer.add_group(group).unwrap();
    engine.values.extend((from..from + shapes.len()).map(|i| run.init(i)));
}

/// Makes the mistake; whatever answers must leave everything as it was.
fn mistake(engine: &mut Engine, mistake: Mistake) {
    let (bits, state) = (engine.bits(), engine.optimizer.snapshot());
    let t = engine.t;
    let mut gradients = gradients(engine, 0);
    let is_wrong = match mistake {
        Mistake::NonFinite(at) => {
            let mut with_elements = gradients.iter_mut().flatten().filter(|g| !g.is_empty());
            let Some(gradient) = with_elements.nth(at) else { return };
            *gradient.iter_mut().last().unwrap() = f64::NAN;
            matches!(engine.step_with(&gradients), Err(Error::NonFiniteGradient { .. }))
        }
        Mistake::FewerParameters => {
            let short = |optimizer: &mut gradient_transform::Optimizer<f64>, all: &mut [Parameter<'_>]| {
                optimizer.step(&mut all[1..])
            };
            matches!(engine.with_parameters(short), Err(Error::ParameterCount { .. }))
        }
        Mistake::Transposed => {
            let Some(gradient) = gradients.iter_mut().flatten().find(|g| g.shape() != g.t().shape()) else {
                return;
            };
            *gradient = gradient.t().to_owned();
            matches!(engine.step_with(&gradients), Err(Error::ShapeMismatch { .. }))
        }
        Mistake::TrainTwice => {
            let result = engine.with_parameters(|optimizer, parameters| optimizer.train(parameters));
            result == Err(Error::TrainingMode)
        }
        Mistake::StepWhileEvaluating => {
            engine.with_parameters(|optimizer, parameters| optimizer.eval(parameters)).unwrap();
            let refused = engine.step_with(&gradients) == Err(Error::EvaluationMode);
            engine.with_parameters(|optimizer, parameters| optimizer.train(parameters)).unwrap();
            refused
        }
        Mistake::LearningRate => {
            let rates = [f64::NAN, -1.0, f64::INFINITY];
            rates.into_iter().all(|rate| engine.optimizer.set_lr(0, rate).is_err())
                && engine.optimizer.set_lr(99, 1.0).is_err()
        }
        Mistake::NameThatExists => {
            let (base, _) = engine.run.engine_options().unwrap();
            let group = base.group(base.clone(), [(Run::name(0), &[1][..])]).unwrap();
            matches!(engine.optimizer.add_group(group), Err(Error::DuplicateName { .. }))
        }
        Mistake::CheckpointOfOthers => {
            let mut others =
                Engine::new(&Run { shapes: vec![vec![77]; engine.values.len()], ..engine.run.clone() })
                    .unwrap();
            others.step().unwrap();
            let bytes = checkpoint::to_bytes(&others.optimizer).unwrap();
            let nothing = others.optimizer.snapshot().tensors.is_empty();
            nothing || checkpoint::from_bytes(&bytes, &mut engine.optimizer).is_err()
        }
    };
    assert!(is_wrong, "{mistake:?} was not refused");
    engine.t = t;
    assert_eq!(engine.bits(), bits, "{mistake:?} moved a parameter");
    assert!(engine.optimizer.snapshot() == state, "{mistake:?} changed state");
}

fn follow(run: &Run, calls: &[Call]) -> Result<(), TestCaseError> {
    let mut engine = match Engine::new(run) {
        Ok(engine) => engine,
        Err(Error::Excluded { .. }) => {
            return Err(TestCaseError::reject("the engine refuses this combination"));
        }
        Err(other) => return Err(TestCaseError::fail(other.to_string())),
    };
    engine.run.schedule = vec![1.0];
    let mut oracle = engine.run.oracle(conformance::oracle::Storage::F64).unwrap();
    for (number, call) in calls.iter().enumerate() {
        let before = engine.bits();
        match call {
            Call::Step { missing, factor } | Call::OneByOne { missing, factor, .. } => {
                set_rates(&mut engine, *factor);
                let gradients = gradients(&engine, *missing);
                match call {
                    Call::OneByOne { first, .. } => one_by_one(&mut engine, &gradients, *first),
                    _ => prop_assert_eq!(engine.step_with(&gradients), Ok(StepOutcome::Done)),
                }
                oracle.step(&gradients, Some(*factor)).unwrap();
            }
            Call::Evaluate => {
                engine.with_parameters(|optimizer, parameters| optimizer.eval(parameters)).unwrap();
                engine.with_parameters(|optimizer, parameters| optimizer.train(parameters)).unwrap();
                prop_assert_eq!(engine.bits(), before);
            }
            Call::Resume { evaluating } => resume(&mut engine, *evaluating),
            Call::AddGroup { own, shapes } => {
                add_group(&mut engine, own, shapes);
                let from = engine.values.len() - shapes.len();
                oracle.add_group(own, engine.values[from..].to_vec()).unwrap();
            }
            Call::Mistake(kind) => mistake(&mut engine, *kind),
        }
        let deviation = deviation(&engine, &oracle).unwrap();
        // OrthoGrad loses digits where the gradient is almost parallel to the weights.
        let tolerance =
            if run.options.get("use_orthograd") == Some(&Value::Bool(true)) { 1e-3 } else { 1e-9 };
        prop_assert!(deviation.worst() <= tolerance, "{deviation:?} after call {number}, {call:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn any_sequence_of_calls_is_the_oracles(
        run in run(&[1e-6, 1e-4, 1e-2]),
        calls in prop::collection::vec(call(), 1..24),
    ) {
        follow(&run, &calls)?;
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn any_sequence_of_calls_of_the_second_line_is_the_oracles(
        run in second_run(&[1e-6, 1e-4, 1e-2]),
        calls in prop::collection::vec(call(), 1..24),
    ) {
        follow(&run, &calls)?;
    }
}
