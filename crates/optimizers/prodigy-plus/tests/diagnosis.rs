//! Runs whose d is wrong for a known reason, and the sentence that names it; and runs in which nothing is found.

use gradient_transform::{DType, Optimizer, Parameter, Record, Recorder, Scalar};
use half::bf16;
use prodigy_plus::{Diagnose, Finding, GroupName, Options, ProdigyPlus, diagnose};

/// Numbers between -1 and 1.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn list(&mut self, len: usize, size: f64) -> Vec<f64> {
        (0..len).map(|_| size * self.draw()).collect()
    }
}

const SIZES: [usize; 2] = [600, 300];
const NAMES: [&str; 2] = ["encoder.weight", "head.weight"];
const BATCH: usize = 32;

/// Linear regression from noisy examples, its inputs in two parts.
struct Regression {
    random: Random,
    solution: [Vec<f64>; 2],
    /// The size of each part's inputs.
    inputs: [f64; 2],
}

impl Regression {
    fn new() -> Self {
        let mut random = Random(7);
        let solution = SIZES.map(|size| random.list(size, 0.3));
        Self { random, solution, inputs: [1.0; 2] }
    }

    /// The gradients of a batch's mean squared error, halved.
    fn gradients(&mut self, weights: &[Vec<f64>; 2]) -> [Vec<f64>; 2] {
        let mut gradients = SIZES.map(|size| vec![0.0; size]);
        for _ in 0..BATCH {
            let inputs: [Vec<f64>; 2] = [0, 1].map(|i| self.random.list(SIZES[i], self.inputs[i]));
            let mut error = 0.1 * self.random.draw();
            for i in 0..2 {
                let terms = inputs[i].iter().zip(&weights[i]).zip(&self.solution[i]);
                error += terms.map(|((x, w), s)| x * (w - s)).sum::<f64>();
            }
            for i in 0..2 {
                let pairs = gradients[i].iter_mut().zip(&inputs[i]);
                pairs.for_each(|(g, x)| *g += error * x / BATCH as f64);
            }
        }
        gradients
    }
}

/// Faults of a run.
struct Run {
    steps: usize,
    every: u64,
    start: [f64; 2],
    inputs: [f64; 2],
    lr: fn(usize) -> f64,
    /// Changes of the gradients before the optimizer sees them.
    meddle: fn(usize, &mut [Vec<f64>; 2]),
}

impl Default for Run {
    fn default() -> Self {
        Self { steps: 300, every: 3, start: [0.0; 2], inputs: [1.0; 2], lr: |_| 1.0, meddle: |_, _| () }
    }
}

impl Run {
    fn of<E: Scalar + Into<f64>>(&self, optimizer: &mut Optimizer, of: fn(f64) -> E) -> Vec<Finding> {
        optimizer.set_recorder(Some(Recorder::every(self.every).unwrap()));
        let mut task = Regression { inputs: self.inputs, ..Regression::new() };
        let mut random = Random(3);
        let mut weights: Vec<Vec<E>> = (0..2)
            .map(|i| {
                (0..SIZES[i]).map(|_| of(self.start[i] + 0.01 * self.start[i] * random.draw())).collect()
            })
            .collect();
        for step in 1..=self.steps {
            let doubles = [0, 1].map(|i| weights[i].iter().map(|w| (*w).into()).collect::<Vec<f64>>());
            let mut gradients = task.gradients(&doubles);
            (self.meddle)(step, &mut gradients);
            let gradients = gradients.map(|list| list.into_iter().map(|g| g as f32).collect::<Vec<f32>>());
            let pairs = weights.iter_mut().zip(&gradients);
            let mut parameters: Vec<_> =
                pairs.map(|(w, g)| Parameter::slice(w, None).with_gradient(g)).collect();
            optimizer.at_lr_factor((self.lr)(step), |optimizer| optimizer.step(&mut parameters)).unwrap();
        }
        optimizer.diagnose()
    }

    fn with(&self, options: &Options) -> Vec<Finding> {
        self.of(&mut one_group(options), |x| x as f32)
    }
}

fn one_group(options: &Options) -> Optimizer {
    options.build(NAMES.into_iter().zip(SIZES.map(|size| [size]))).unwrap()
}

fn two_groups(options: &Options) -> Optimizer {
    let group = |i: usize| (options.clone(), [(NAMES[i], [SIZES[i]])]);
    options.build_groups([group(0), group(1)]).unwrap()
}

fn group() -> GroupName {
    GroupName { index: 0, first: NAMES[0].into(), others: 1 }
}

#[track_caller]
fn assert_says(findings: &[Finding], parts: &[&str]) {
    let [finding] = findings else { panic!("{findings:#?}") };
    let text = finding.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    let json = serde_json::to_string(finding).unwrap();
    assert_eq!(serde_json::from_str::<Finding>(&json).unwrap(), *finding);
}

#[test]
fn nothing_is_found_in_runs_whose_d_is_as_it_should_be() {
    let default = ProdigyPlus::builder();
    for (name, options) in [
        ("the default", default.clone()),
        ("2.0.1", ProdigyPlus::v2()),
        ("2.0.1 without Schedule-Free", ProdigyPlus::v2().use_schedulefree(false)),
        ("ADOPT, decay", default.clone().use_adopt(true).weight_decay(0.01)),
        ("rectified", default.clone().use_bias_correction(true)),
        ("a d0 that is right", default.clone().d0(1e-2)),
        ("frozen when it has grown", default.clone().prodigy_steps(150)),
        ("Cautious", default.clone().use_cautious(true)),
        ("SPEED", default.clone().use_speed(true)),
    ] {
        for every in [1, 3, 20] {
            let findings = Run { every, ..Run::default() }.with(&options);
            assert_eq!(findings, [], "{name}, every {every}");
        }
        let findings = Run { start: [0.2, 0.1], ..Run::default() }.with(&options);
        assert_eq!(findings, [], "{name}, from other weights");
    }
    let findings = Run::default().of(&mut two_groups(&default), |x| x as f32);
    assert_eq!(findings, [], "two groups");
    let findings = Run::default().of(&mut two_groups(&default.clone().split_groups(false)), |x| x as f32);
    assert_eq!(findings, [], "two groups with one estimate");
    let findings = Run::default().of(&mut one_group(&default), bf16::from_f64);
    assert_eq!(findings, [], "bfloat16");
    let falling = Run { lr: |step| 1.0 - step as f64 / 301.0, ..Run::default() };
    assert_eq!(falling.with(&default), [], "a schedule that falls");
    let warmed_up = Run { lr: |step| (step as f64 / 30.0).min(1.0), ..Run::default() };
    assert_eq!(warmed_up.with(&default), [], "after a warm-up");
    let clipped_rarely = Run { meddle: |_, gradients| clip(gradients, 9.0), ..Run::default() };
    assert_eq!(clipped_rarely.with(&default), [], "gradients that are clipped rarely");
}

/// Shortens gradients to a norm over both.
fn clip(gradients: &mut [Vec<f64>; 2], most: f64) {
    let norm = gradients.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
    let factor = (most / norm).min(1.0);
    gradients.iter_mut().flatten().for_each(|g| *g *= factor);
}

#[test]
fn a_learning_rate_that_is_not_1_is_named() {
    let findings = Run::default().with(&ProdigyPlus::builder().lr(1e-4));
    assert_eq!(findings, [Finding::LearningRate { group: group(), lr: 1e-4 }]);
    assert_says(&findings, &["group 0 (`encoder.weight` and one other)", "is 1.0e-4", "Set it to 1"]);
    // By a factor of the step it is the same.
    let findings = Run { lr: |_| 0.1, ..Run::default() }.with(&ProdigyPlus::builder());
    assert_eq!(findings, [Finding::LearningRate { group: group(), lr: 0.1 }]);
    let findings = Run::default().with(&ProdigyPlus::builder().lr(0.0));
    assert_eq!(findings, [Finding::LearningRate { group: group(), lr: 0.0 }]);
    assert_says(
        &findings,
        &["group 0 (`encoder.weight` and one other)", "is 0: the group does not move", "after resuming"],
    );
}

#[test]
fn a_warm_up_that_is_under_way_is_named() {
    let run = Run { steps: 40, every: 1, lr: |step| step as f64 / 1e5, ..Run::default() };
    let findings = run.with(&ProdigyPlus::builder());
    assert!(matches!(findings[..], [Finding::WarmUp { step: 40, .. }]), "{findings:#?}");
    assert_says(&findings, &["still rising: 4.0e-4 in step 40", "Wait for the end of the warm-up"]);
}

#[test]
fn gradients_that_are_clipped_outside_are_named() {
    let run = Run { meddle: |_, gradients| clip(gradients, 1.0), ..Run::default() };
    for findings in [run.with(&ProdigyPlus::builder()), run.with(&ProdigyPlus::v2())] {
        let clipped = findings.iter().filter(|found| matches!(found, Finding::Clipped { .. })).count();
        assert_eq!(clipped, 1, "{findings:#?}");
    }
    let findings = run.with(&ProdigyPlus::builder());
    let of_clipping: Vec<Finding> =
        findings.into_iter().filter(|found| matches!(found, Finding::Clipped { .. })).collect();
    assert_says(&of_clipping, &["together was 1 in", "of 100 recorded steps", "Switch the clipping off"]);
    // Also where there is but one tensor, whose norm is that of all.
    let mut single = ProdigyPlus::builder().build([("w", [500])]).unwrap();
    single.set_recorder(Some(Recorder::every(1).unwrap()));
    let (mut random, mut w) = (Random(5), vec![0.5_f32; 500]);
    for _ in 0..60 {
        let raw: Vec<f64> = w.iter().map(|w| f64::from(*w) + 2.0 * random.draw()).collect();
        let norm = raw.iter().map(|g| g * g).sum::<f64>().sqrt();
        let gradient: Vec<f32> = raw.iter().map(|g| (g / norm) as f32).collect();
        single.step(&mut [Parameter::slice(&mut w, Some(&gradient))]).unwrap();
    }
    let findings = single.diagnose();
    let [Finding::Clipped { norm, steps: 60, records: 60 }] = findings[..] else { panic!("{findings:#?}") };
    assert!((norm - 1.0).abs() < 1e-6, "{norm}");
}

#[test]
fn steps_below_the_rounding_of_bfloat16_weights_are_named_and_the_d0_that_is_proposed_helps() {
    let run = Run { start: [1.0, 1.0], ..Run::default() };
    let nearest = ProdigyPlus::builder().stochastic_rounding(false);
    let mut optimizer = one_group(&nearest);
    let findings = run.of(&mut optimizer, bf16::from_f64);
    assert!(optimizer.estimate(0).unwrap().d < 1e-5);
    let [Finding::Rounded { dtype: DType::Bf16, moved, d0, .. }] = findings[..] else {
        panic!("{findings:#?}")
    };
    assert!(moved < 0.01, "{moved}");
    assert_says(
        &findings,
        &["`encoder.weight` are about 1", "numbers of bfloat16 are 0.00391 apart", "Set d0 to about"],
    );
    let mut optimizer = one_group(&nearest.d0(d0));
    assert_eq!(run.of(&mut optimizer, bf16::from_f64), []);
    // In float32 these steps are there.
    assert_eq!(run.with(&ProdigyPlus::builder()), []);
}

#[test]
fn steps_below_the_rounding_of_large_float32_weights_are_named_too() {
    let run = Run { start: [1e4, 1e4], steps: 60, every: 2, ..Run::default() };
    let findings = run.with(&ProdigyPlus::builder().d0(1e-8));
    assert!(matches!(findings[..], [Finding::Rounded { dtype: DType::F32, .. }]), "{findings:#?}");
    assert_says(&findings, &["keep the weights in float64"]);
}

#[test]
fn sums_below_zero_are_named_with_the_step_from_which_on_they_are() {
    let options = ProdigyPlus::builder().d0(0.1); // far beyond the solution with the first steps
    let findings = Run::default().with(&options);
    let [Finding::NegativeSums { since, until: 298, d, .. }] = findings[..] else { panic!("{findings:#?}") };
    assert!(since < 60 && d < 1.0, "{since} {d}");
    assert_says(
        &findings,
        &["negative since step", "(until the latest record, step 298)", "a smaller d0 helps"],
    );
}

#[test]
fn a_group_that_holds_the_mean_down_is_named_and_groups_of_their_own_are_not() {
    let group = |options: &Options, i: usize, d_coef: f64| {
        options.group::<f32, _>(options.clone().d_coef(d_coef), [(NAMES[i], [SIZES[i]])])
    };
    let make = |options: &Options| -> Optimizer {
        options.build_from([group(options, 0, 1.0).unwrap(), group(options, 1, 0.05).unwrap()]).unwrap()
    };
    let findings = Run::default().of(&mut make(&ProdigyPlus::builder()), |x| x as f32);
    let [Finding::HeldDown { group, by, d, mean, by_d }] = &findings[..] else { panic!("{findings:#?}") };
    assert_eq!((group.first.as_str(), by.first.as_str()), (NAMES[0], NAMES[1]));
    assert!(*d > 5.0 * mean && *mean <= 2.0 * by_d, "{d} {mean} {by_d}");
    assert_says(&findings, &["group 1 (`head.weight`) keeps low", "split_groups_mean = false"]);
    let each = ProdigyPlus::builder().split_groups_mean(false);
    let findings = Run::default().of(&mut make(&each), |x| x as f32);
    assert!(!findings.iter().any(|found| matches!(found, Finding::HeldDown { .. })), "{findings:#?}");
}

#[test]
fn tensors_whose_gradients_vanish_are_named_and_so_are_those_that_begin_at_0() {
    let run =
        Run { meddle: |_, gradients| gradients[1].iter_mut().for_each(|g| *g *= 1e-12), ..Run::default() };
    let findings = Run { start: [0.1, 0.1], ..run }.with(&ProdigyPlus::builder());
    let names = vec![NAMES[1].to_owned()];
    assert_eq!(findings, [Finding::Vanishing { tensors: names.clone(), zeros: 0, of: 2, records: 100 }]);
    assert_says(&findings, &["In 1 of 2 tensors", "100 recorded steps: `head.weight`"]);
    let run = Run { meddle: |_, gradients| gradients[1].fill(0.0), ..Run::default() };
    let findings = run.with(&ProdigyPlus::builder());
    assert_eq!(findings, [Finding::Vanishing { tensors: names, zeros: 1, of: 2, records: 100 }]);
    assert_says(&findings, &["initialise one of them randomly"]);
}

#[test]
fn a_group_of_few_elements_is_named() {
    let mut optimizer = ProdigyPlus::builder().build([("w", [40])]).unwrap();
    optimizer.set_recorder(Some(Recorder::every(1).unwrap()));
    let mut w = vec![1.0_f32; 40];
    for _ in 0..60 {
        let gradient = w.clone();
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))]).unwrap();
    }
    let group = GroupName { index: 0, first: "w".into(), others: 0 };
    let findings = optimizer.diagnose();
    assert_eq!(findings, [Finding::FewElements { group, elements: 40, samples: 4 }]);
    assert_says(&findings, &["There are 40 elements in group 0 (`w`)", "samples about 4"]);
}

#[test]
fn an_estimate_that_is_frozen_too_early_is_named() {
    let findings =
        Run { every: 1, steps: 60, ..Run::default() }.with(&ProdigyPlus::builder().prodigy_steps(3));
    assert!(matches!(findings[..], [Finding::Frozen { since: 3, .. }]), "{findings:#?}");
    assert_says(&findings, &["since step 3, before it had grown", "prodigy_steps is too small"]);
}

#[test]
fn a_d_that_grows_for_ever_is_named() {
    // The loss grows without an end.
    let run = Run {
        steps: 600,
        every: 6,
        start: [0.1, 0.1],
        meddle: |_, gradients| gradients.iter_mut().flatten().for_each(|g| *g = -*g),
        ..Run::default()
    };
    for options in [ProdigyPlus::builder(), ProdigyPlus::v2()] {
        let findings = run.with(&options);
        let [Finding::TooLarge { step: 595, d, .. }] = findings[..] else { panic!("{findings:#?}") };
        assert!(d >= 1.0, "{d}");
        assert_says(
            &findings,
            &["size of the first weights was 0.1", "a gradient of the wrong sign", "prodigy_steps"],
        );
    }
    // Large weights may be far from the solution.
    let far = Run { start: [30.0, 30.0], ..Run::default() };
    let mut optimizer = one_group(&ProdigyPlus::v2().d0(0.1));
    assert_eq!(far.of(&mut optimizer, |x| x as f32), []);
    assert!(optimizer.estimate(0).unwrap().d > 1.0);
}

#[test]
fn the_first_value_that_is_not_finite_is_named() {
    use gradient_transform::NonFinite;
    let run = Run {
        meddle: |step, gradients| {
            if step == 100 {
                gradients[1][7] = f64::NAN;
            }
        },
        ..Run::default()
    };
    let findings = run.with(&ProdigyPlus::builder().non_finite(NonFinite::Unchecked));
    let named = findings.iter().find(|found| matches!(found, Finding::NotFinite(_))).unwrap();
    let text = named.to_string();
    assert!(text.contains("in step 100, the gradient is NaN at element 7 of `head.weight`"), "{text}");
}

#[test]
fn too_few_records_are_said_to_be_too_few() {
    let mut optimizer = one_group(&ProdigyPlus::builder());
    assert_eq!(optimizer.diagnose(), [Finding::TooFewRecords { records: 0, needed: 10 }]);
    let findings = Run { every: 1, steps: 4, ..Run::default() }.of(&mut optimizer, |x| x as f32);
    assert_eq!(findings, [Finding::TooFewRecords { records: 4, needed: 10 }]);
    assert_says(&findings, &["There are 4 recorded steps", "set_recorder"]);
}

#[test]
fn records_from_a_file_tell_what_those_of_the_optimizer_do() {
    let mut optimizer = one_group(&ProdigyPlus::builder().lr(0.01));
    let findings = Run::default().of(&mut optimizer, |x| x as f32);
    let records = optimizer.recorder_mut().unwrap().take();
    let read: Vec<Record> = serde_json::from_str(&serde_json::to_string(&records).unwrap()).unwrap();
    assert_eq!(diagnose(&read), findings);
    assert_eq!(findings.len(), 1);
}
