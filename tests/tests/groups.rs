//! Several groups: how their estimates act together, and groups that come late or never.

use conformance::oracle::{Group, Oracle, Storage};
use conformance::pair::{Run, Training, compare, object};
use factored_moment::FactoredMoment;
use gradient_transform::{
    Counts, Descent, Error, Estimate, GroupPolicy, GroupState, Link, Optimizer, Parameter, ParameterGroup,
    Settings, SplitGroups, StepOutcome,
};
use ndarray::ArrayD;
use prodigy_core::{Negative, Prodigy, Ratio, Weighting};
use prodigy_plus::{Line, Options};
use schedule_free::ScheduleFree;
use serde_json::{Value, json};
use speed::{DisplacementSpeed, Speed};
use stableadamw::StableAdamW;

const POLICIES: [(&str, bool, bool); 3] =
    [("mean", true, true), ("each", true, false), ("joint", false, true)];

fn run(split: bool, mean: bool) -> Run {
    let options = json!({"split_groups": split, "split_groups_mean": mean, "d0": 1e-3, "beta3": 0.9});
    let groups =
        [(2, json!({})), (1, json!({"lr": 0.3, "weight_decay": 0.1})), (2, json!({"betas": [0.8, 0.9]}))];
    Run::new(options, &[&[40, 33], &[7], &[1100], &[5, 33], &[]]).groups(&groups)
}

#[test]
fn every_policy_of_splitting_groups_equals_the_oracle() {
    for (name, split, mean) in POLICIES {
        let deviation = compare::<f64, f64>(&run(split, mean), 10).unwrap();
        assert!(deviation.worst() <= 1e-10, "{name}: {deviation:?}");
    }
}

#[test]
fn the_policies_differ_and_only_a_joint_estimate_is_one_number() {
    let mut ends = Vec::new();
    for (name, split, mean) in POLICIES {
        let mut training = Training::<f64, f64>::new(&run(split, mean)).unwrap();
        training.steps(10);
        let d = training.d();
        assert!(d.iter().all(|&d| d > 1e-3), "{name}: {d:?} must have moved");
        assert_eq!(d[0] == d[1] && d[1] == d[2], name == "joint", "{name}: {d:?}");
        ends.push(training.bits());
    }
    assert!(ends[0] != ends[1] && ends[1] != ends[2] && ends[0] != ends[2]);
}

#[test]
fn the_step_size_of_split_groups_is_the_harmonic_mean_of_d_times_lr() {
    let mut training = Training::<f64, f64>::new(&run(true, true)).unwrap();
    training.steps(6);
    let d = training.d();
    let mean = 3.0 / d.iter().map(|d| 1.0 / d).sum::<f64>();
    training.steps(1);
    for (group, lr) in [1.0, 0.3, 1.0].into_iter().enumerate() {
        let step_size = training.optimizer.latest_step(group).unwrap().step_size;
        assert!((step_size / (lr * mean) - 1.0).abs() < 1e-15, "group {group}: {step_size:e}");
    }
}

#[test]
fn a_group_that_never_has_a_gradient_does_not_count() {
    for (name, split, mean) in POLICIES {
        let never: Vec<(usize, usize)> = (1..11).map(|t| (t, 2)).collect();
        let run = run(split, mean).missing(&never);
        let deviation = compare::<f64, f64>(&run, 10).unwrap();
        assert!(deviation.worst() <= 1e-10, "{name}: {deviation:?}");

        let mut training = Training::<f64, f64>::new(&run).unwrap();
        let start = training.bits();
        training.steps(10);
        assert_eq!(training.bits()[2], start[2], "{name}");
        assert_eq!(training.optimizer.steps(1), Ok(0), "{name}");
        assert_eq!(training.optimizer.steps(0), Ok(10), "{name}");

        // The same parameters without the idle group, whose name nothing depends on in float64.
        let mut without = run.clone();
        without.groups.remove(1);
        without.shapes.remove(2);
        let mut others = Training::<f64, f64>::new(&without).unwrap();
        others.values = [0, 1, 3, 4].map(|i| run.init(i)).to_vec();
        for t in 1..=10 {
            let gradients = [0, 1, 3, 4].map(|i| run.gradient(t, i));
            assert_eq!(others.step_with(&gradients), Ok(StepOutcome::Done));
        }
        let active = [0, 1, 3, 4].map(|i| training.bits()[i].clone());
        assert_eq!(others.bits(), active, "{name}");
    }
}

#[test]
fn a_group_with_a_gradient_in_the_third_step_only_equals_the_oracle() {
    for (name, split, mean) in POLICIES {
        let others: Vec<(usize, usize)> = (1..11).filter(|&t| t != 3).map(|t| (t, 2)).collect();
        let deviation = compare::<f64, f64>(&run(split, mean).missing(&others), 10).unwrap();
        assert!(deviation.worst() <= 1e-10, "{name}: {deviation:?}");
    }
}

/// The engine with its last group added after `before` steps, and the oracle that had it without gradients until then.
fn added_later(split: bool, mean: bool, before: usize) -> (Vec<ArrayD<f64>>, Oracle) {
    let run = run(split, mean);
    let (base, options) = run.engine_options().unwrap();
    let named = |range: std::ops::Range<usize>| {
        range.map(|i| (Run::name(i), run.shapes[i].as_slice())).collect::<Vec<_>>()
    };
    let mut optimizer = base
        .build_groups::<f64, _, _>([(options[0].clone(), named(0..2)), (options[1].clone(), named(2..3))])
        .unwrap();
    let mut values: Vec<ArrayD<f64>> = (0..5).map(|i| run.init(i)).collect();
    let mut oracle = run.oracle(Storage::F64).unwrap();
    for t in 1..=before + 5 {
        if t == before + 1 {
            optimizer.add_group(base.group(options[2].clone(), named(3..5)).unwrap()).unwrap();
        }
        let present = if t > before { 5 } else { 3 };
        let gradients: Vec<Option<ArrayD<f64>>> =
            (0..5).map(|i| run.gradient(t, i).filter(|_| i < present)).collect();
        let mut parameters: Vec<Parameter<'_>> = values[..present]
            .iter_mut()
            .zip(&gradients)
            .map(|(value, g)| Parameter::array(value.view_mut(), g.as_ref().map(|g| g.view())))
            .collect();
        assert_eq!(optimizer.step(&mut parameters), Ok(StepOutcome::Done));
        oracle.step(&gradients, None).unwrap();
    }
    (values, oracle)
}

fn adding_later_equals_idling_until_then((name, split, mean): (&str, bool, bool)) {
    for before in [0, 1, 6] {
        let (values, oracle) = added_later(split, mean, before);
        for (i, value) in values.iter().enumerate() {
            let worst = value.iter().zip(oracle.y(i)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst <= 1e-12, "{name}, added after {before}: parameter {i} is off by {worst:e}");
        }
    }
}

#[test]
fn a_group_added_later_steps_like_one_that_had_no_gradient_until_then() {
    adding_later_equals_idling_until_then(POLICIES[0]);
    adding_later_equals_idling_until_then(POLICIES[1]);
}

#[test]
fn a_group_added_to_a_joint_estimate_steps_with_it_at_once() {
    adding_later_equals_idling_until_then(POLICIES[2]);
}

#[test]
fn a_learning_rate_counts_from_the_next_step_on_and_for_its_group_alone() {
    let factors = [1.0, 0.5, 0.0, 2.0];
    let mut run = run(true, false);
    run.schedule = factors.to_vec();
    let deviation = compare::<f64, f64>(&run, 8).unwrap();
    assert!(deviation.worst() <= 1e-10, "{deviation:?}");

    let mut training = Training::<f64, f64>::new(&self::run(true, false)).unwrap();
    let mut undisturbed = Training::<f64, f64>::new(&self::run(true, false)).unwrap();
    training.steps(3);
    undisturbed.steps(3);
    training.optimizer.set_lr(1, 0.0).unwrap();
    assert_eq!(training.optimizer.lr(1), Ok(0.0));
    assert_eq!(training.optimizer.lr(0), Ok(1.0));
    let before = training.bits();
    training.steps(2);
    undisturbed.steps(2);
    for i in 0..5 {
        let same = training.bits()[i] == undisturbed.bits()[i];
        assert_eq!(same, i != 2, "parameter {i}");
    }
    assert_eq!(training.bits()[2], before[2], "at learning rate 0 with decay by lr nothing moves");
}

#[test]
fn a_wrong_learning_rate_is_refused_and_the_old_one_stays() {
    let mut training = Training::<f64, f64>::new(&run(true, true)).unwrap();
    for lr in [-1e-3, f64::NAN, f64::INFINITY] {
        let result = training.optimizer.set_lr(1, lr);
        assert!(matches!(result, Err(Error::OptionOutOfRange { option: "lr", .. })), "{lr}: {result:?}");
        assert_eq!(training.optimizer.lr(1), Ok(0.3));
    }
    assert_eq!(training.optimizer.set_lr(3, 1.0), Err(Error::NoSuch { what: "group", index: 3, count: 3 }));
}

#[test]
fn a_groups_own_d0_is_where_its_estimate_starts() {
    let own: Value = json!({"d0": 1e-2});
    let run = Run::new(json!({"d0": 1e-4, "split_groups_mean": false}), &[&[3], &[3]])
        .groups(&[(1, json!({})), (1, own.clone())]);
    let training = Training::<f64, f64>::new(&run).unwrap();
    assert_eq!(training.d(), [1e-4, 1e-2]);
    let groups =
        [Group { params: vec![0], ..Group::default() }, Group { params: vec![1], overrides: object(own) }];
    let init = vec![run.init(0), run.init(1)];
    let oracle = Oracle::new(&run.options, &groups, init, Storage::F64, Default::default(), false).unwrap();
    assert_eq!(training.d(), oracle.d());
}

/// A parameter for each group, with gradients `w - target` and noise of 0.05, and targets within a distance of its own.
struct Quadratics {
    optimizer: Optimizer<f64>,
    targets: Vec<Vec<f64>>,
    weights: Vec<Vec<f64>>,
    steps: u64,
}

const SHAPE: [usize; 2] = [40, 33];

/// Evenly spread over (-1, 1), by a hash of three numbers.
fn spread(a: u64, b: u64, c: u64) -> f64 {
    let mut x = (a << 42 ^ b << 21 ^ c).wrapping_add(0x9e37_79b9_7f4a_7c15);
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)] {
        x = (x ^ x >> shift).wrapping_mul(factor);
    }
    (x >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

impl Quadratics {
    fn new(optimizer: Optimizer<f64>, distances: &[f64]) -> Self {
        let n: usize = SHAPE.iter().product();
        let target = |(i, distance): (usize, &f64)| {
            (0..n).map(|e| distance * spread(i as u64, 0, e as u64)).collect::<Vec<f64>>()
        };
        Self {
            optimizer,
            targets: distances.iter().enumerate().map(target).collect(),
            weights: vec![vec![0.0; n]; distances.len()],
            steps: 0,
        }
    }

    /// One step with gradients for the parameters that `has` names; how far an element of each went at most.
    fn step(&mut self, has: impl Fn(usize) -> bool) -> Vec<f64> {
        self.steps += 1;
        let before = self.weights.clone();
        let gradient = |i: usize| -> Vec<f64> {
            let pairs = before[i].iter().zip(&self.targets[i]).enumerate();
            pairs.map(|(e, (w, t))| w - t + 0.05 * spread(i as u64 + 9, self.steps, e as u64)).collect()
        };
        let gradients: Vec<Option<Vec<f64>>> =
            (0..before.len()).map(|i| has(i).then(|| gradient(i))).collect();
        let present = self.optimizer.names().count();
        let mut parameters: Vec<Parameter<'_>> = self.weights[..present]
            .iter_mut()
            .zip(&gradients)
            .map(|(w, g)| Parameter::slice(w, g.as_deref()))
            .collect();
        assert_eq!(self.optimizer.step(&mut parameters), Ok(StepOutcome::Done));
        let farthest = |(now, before): (&Vec<f64>, &Vec<f64>)| {
            now.iter().zip(before).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        self.weights.iter().zip(&before).map(farthest).collect()
    }

    /// The mean square of x - target, over what it was at the start.
    fn loss(&self, i: usize) -> f64 {
        let mut x = self.weights[i].clone();
        self.optimizer.evaluation_point(i, &self.weights[i], &mut x).unwrap();
        let error: f64 = x.iter().zip(&self.targets[i]).map(|(x, t)| (x - t) * (x - t)).sum();
        error / self.targets[i].iter().map(|t| t * t).sum::<f64>()
    }

    fn d(&self, group: usize) -> f64 {
        self.optimizer.estimate(group).unwrap().d
    }

    fn step_size(&self, group: usize) -> f64 {
        self.optimizer.latest_step(group).unwrap().step_size
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// The default optimizer with a group for each of the first `count` names.
fn a_group_each(options: &Options, count: usize) -> Optimizer<f64> {
    let group = |name: &'static str| (options.clone(), vec![(name, &SHAPE[..])]);
    options.build_groups(NAMES[..count].iter().copied().map(group)).unwrap()
}

/// Trains on with all groups. `most` is how far an element of a late one may go in a step, by the first group's d.
fn after_a_late_start(mut training: Quadratics, policy: &str, distance: f64, most: impl Fn(f64) -> f64) {
    let late = 1..training.targets.len();
    for _ in 0..1200 {
        let moved = training.step(|_| true);
        for i in late.clone() {
            assert!(
                moved[i] < most(training.d(0)),
                "{policy} {distance}: {} went by {:e}",
                NAMES[i],
                moved[i]
            );
        }
    }
    for i in late.clone() {
        assert!(training.d(i) > 2e-5, "{policy} {distance}: d of {} is {:e}", NAMES[i], training.d(i));
        let loss = training.loss(i);
        // Steps of the common d throw a group that is much nearer to its optimum about; it has to come back.
        let most = if policy.starts_with("joint") { 2.0 } else { 0.9 };
        assert!(loss < most, "{policy} {distance}: {} is at {loss} of its first loss", NAMES[i]);
    }
    // No group is held below the smallest d that was found.
    let least = (0..training.targets.len()).map(|i| training.d(i)).fold(f64::INFINITY, f64::min);
    assert!(training.step_size(0) >= least, "{policy} {distance}: {:e} < {least:e}", training.step_size(0));
}

/// With one d for all, a first step is of that size, for every parameter.
fn usual_move(policy: &str, distance: f64) -> impl Fn(f64) -> f64 {
    let is_joint = policy == "joint";
    move |d| if is_joint { 6.0 * d } else { 0.5 * distance }
}

// pytorch#53712: layers that are thawed later.
#[test]
fn groups_that_come_late_find_their_distance_and_do_not_hold_the_others_back() {
    for (policy, options) in [
        ("mean", Options::default()),
        ("each", Options::default().split_groups_mean(false)),
        ("joint", Options::default().split_groups(false)),
    ] {
        let cases = [(1, 1.0), (1, 0.1), (1, 0.003), (3, 0.03)];
        for ((late, distance), frozen) in
            cases.into_iter().flat_map(|case| FROZEN.map(|frozen| (case, frozen)))
        {
            let mut all = vec![0.5];
            all.resize(1 + late, distance);
            let mut training = Quadratics::new(a_group_each(&options, 1 + late), &all);
            training.first_alone(300, frozen);
            after_a_late_start(training, policy, distance, usual_move(policy, distance));
        }
    }
}

type Chain = Box<dyn Link<f64>>;

/// How a group is kept from training at first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Frozen {
    /// Without gradients.
    ByMissingGradients,
    /// At learning rate 0, with gradients.
    ByLearningRate,
}

const FROZEN: [Frozen; 2] = [Frozen::ByMissingGradients, Frozen::ByLearningRate];

impl Quadratics {
    /// `count` steps in which only the first group trains.
    fn first_alone(&mut self, count: usize, frozen: Frozen) {
        let late = 1..self.targets.len();
        let by_rate = frozen == Frozen::ByLearningRate;
        let set = |training: &mut Self, lr| {
            late.clone().for_each(|group| training.optimizer.set_lr(group, lr).unwrap());
        };
        set(self, if by_rate { 0.0 } else { 1.0 });
        (0..count).for_each(|_| drop(self.step(|i| i == 0 || by_rate)));
        set(self, 1.0);
    }
}

/// Estimators with plain descent, and with the reference's behaviour at learning rate 0.
fn estimators() -> [(&'static str, Chain, Chain); 4] {
    fn chain(estimator: impl Link<f64> + 'static) -> Chain {
        Box::new((estimator, Descent::default()))
    }
    let first = |learns_at_lr_0| Prodigy { learns_at_lr_0, ..Prodigy::default() };
    let second = |learns_at_lr_0| Prodigy {
        weighting: Weighting::Squared,
        ratio: Ratio::Quotient,
        negative: Negative::Adds,
        ..first(learns_at_lr_0)
    };
    let speed = |learns_at_lr_0| Speed { prodigy: first(learns_at_lr_0), ..Speed::default() };
    let displacement = |learns_at_lr_0| DisplacementSpeed { learns_at_lr_0, ..DisplacementSpeed::default() };
    [
        ("prodigy", chain(first(false)), chain(first(true))),
        ("prodigy, second line", chain(second(false)), chain(second(true))),
        ("speed", chain(speed(false)), chain(speed(true))),
        ("displacement speed", chain(displacement(false)), chain(displacement(true))),
    ]
}

/// Two groups, of which the first one has a distance of 0.5, and the second one of 0.1.
fn two_groups(chain: impl Fn() -> Chain, split_groups: SplitGroups) -> Quadratics {
    let group = |name: &'static str| ParameterGroup::new(chain(), [(name, &SHAPE[..])]);
    let settings = Settings { split_groups, ..Settings::default() };
    let optimizer = Optimizer::with_groups(NAMES[..2].iter().copied().map(group), settings).unwrap();
    Quadratics::new(optimizer, &[0.5, 0.1])
}

#[test]
fn at_learning_rate_0_an_estimate_of_one_group_stands_still_and_one_of_several_goes_on() {
    for at in 0..estimators().len() {
        let name = estimators()[at].0;
        for split in [SplitGroups::Mean, SplitGroups::Each, SplitGroups::Joint] {
            for counts in [false, true] {
                let chain = || {
                    let (_, ours, references) = estimators().into_iter().nth(at).unwrap();
                    if counts { references } else { ours }
                };
                let mut training = two_groups(chain, split);
                (0..30).for_each(|_| drop(training.step(|_| true)));
                let before = training.optimizer.estimate(1).unwrap();
                training.first_alone(10, Frozen::ByLearningRate);
                let after = training.optimizer.estimate(1).unwrap();
                let stands_still = after == Estimate { d_prev: before.d, ..before };
                assert_eq!(
                    stands_still,
                    split != SplitGroups::Joint && !counts,
                    "{name}, {split:?}: {after:?}"
                );
            }
        }
    }
}

#[test]
fn gradients_at_learning_rate_0_leave_no_trace_in_the_estimate() {
    // The last one's average depends on the number of steps.
    for at in 0..3 {
        let (name, ..) = estimators()[at];
        for (split, before) in [
            (SplitGroups::Mean, 0),
            (SplitGroups::Each, 0),
            (SplitGroups::Each, 5),
            // What a group has done before stays in a joint numerator.
            (SplitGroups::Joint, 0),
        ] {
            let run = |frozen: Frozen, counts: bool| {
                let chain = || {
                    let (_, ours, references) = estimators().into_iter().nth(at).unwrap();
                    if counts { references } else { ours }
                };
                let mut training = two_groups(chain, split);
                (0..before).for_each(|_| drop(training.step(|_| true)));
                training.first_alone(60, frozen);
                let estimates =
                    |training: &Quadratics| [0, 1].map(|group| training.optimizer.estimate(group).unwrap());
                let step = |_| {
                    training.step(|_| true);
                    estimates(&training)
                };
                (0..40).map(step).collect::<Vec<_>>()
            };
            let [missing, by_rate] = FROZEN.map(|frozen| run(frozen, false));
            assert!(missing == by_rate, "{name}, {split:?}, {before} steps before");
            assert!(
                run(Frozen::ByLearningRate, true) != by_rate,
                "{name}, {split:?}: the reference's has them"
            );
        }
    }
}

#[test]
fn d_leaves_d0_as_soon_after_a_learning_rate_of_0_as_after_missing_gradients() {
    type Kind = (&'static str, fn(Options) -> Options);
    let kinds: [Kind; 5] = [
        ("default", |o| o),
        ("adopt", |o| o.use_adopt(true)),
        ("speed", |o| o.use_speed(true)),
        ("2.0.1", |o| o.line(Line::V2)),
        ("2.0.1, speed", |o| o.line(Line::V2).use_speed(true)),
    ];
    for (kind, set) in kinds {
        for mean in [true, false] {
            let steps = |frozen| {
                let options = set(Options::default().split_groups_mean(mean));
                let mut training = Quadratics::new(a_group_each(&options, 2), &[0.5, 0.1]);
                training.first_alone(300, frozen);
                let d0 = training.d(1);
                let is_at_d0 = |_: &usize| {
                    training.step(|_| true);
                    training.d(1) == d0
                };
                (1..400).take_while(is_at_d0).count()
            };
            let [missing, by_rate] = FROZEN.map(steps);
            assert!(by_rate <= missing + 3, "{kind}, mean {mean}: {by_rate} steps, and {missing}");
        }
    }
}

/// How far an element of the second group goes at most in one step when it is there from the start, with a d of its own.
fn farthest_from_the_start(options: &Options, distance: f64) -> f64 {
    let options = options.clone().split_groups(true).split_groups_mean(false);
    let mut training = Quadratics::new(a_group_each(&options, 2), &[0.5, distance]);
    (0..300).map(|_| training.step(|_| true)[1]).fold(0.0, f64::max)
}

#[test]
fn groups_that_come_late_under_adopt_or_speed_find_their_distance_and_do_not_hold_the_others_back() {
    let elements = SHAPE.iter().product::<usize>() as f64;
    // Clipping bounds the root mean square, and ADOPT's first update of an element is its second gradient over its first: of a dense
    // moment, one element can be all of it.
    #[allow(clippy::type_complexity)] // read in one place
    let kinds: [(&str, f64, fn(Options) -> Options); 4] = [
        ("adopt", 6.0, |o| o.use_adopt(true)),
        ("adopt, dense", elements.sqrt(), |o| o.use_adopt(true).factored(false)),
        ("adopt, unclipped", 6.0, |o| o.use_adopt(true).use_stableadamw(false)),
        ("speed", 6.0, |o| o.use_speed(true)),
    ];
    for (kind, of_joint_d, set) in kinds {
        for (policy, options) in [
            ("mean", set(Options::default())),
            ("each", set(Options::default().split_groups_mean(false))),
            ("joint", set(Options::default().split_groups(false))),
        ] {
            for distance in [1.0, 0.1] {
                let mut training = Quadratics::new(a_group_each(&options, 2), &[0.5, distance]);
                training.first_alone(300, Frozen::ByMissingGradients);
                // Without clipping, the step in which d leaves d0 is a long one, late or not.
                let usual = (0.5 * distance).max(3.0 * farthest_from_the_start(&options, distance));
                let most = |d: f64| if policy == "joint" { of_joint_d * d } else { usual };
                after_a_late_start(training, &format!("{policy}, {kind}"), distance, most);
            }
        }
    }
}

#[test]
fn a_group_that_is_added_late_finds_its_distance_and_does_not_hold_the_others_back() {
    for (policy, options) in [("mean", Options::default()), ("joint", Options::default().split_groups(false))]
    {
        let mut training = Quadratics::new(a_group_each(&options, 1), &[0.5, 0.1]);
        for _ in 0..300 {
            training.step(|i| i == 0);
        }
        let late = options.group(options.clone(), [("b", &SHAPE[..])]).unwrap();
        training.optimizer.add_group(late).unwrap();
        after_a_late_start(training, policy, 0.1, usual_move(policy, 0.1));
    }
}

/// d of the first group after training beside a group that the closure makes, and its step size.
fn beside(options: &Options, other: Option<(Options, &[usize])>, zero: bool) -> (f64, f64) {
    let mut groups = vec![(options.clone(), vec![("a", &SHAPE[..])])];
    groups.extend(other.clone().map(|(own, shape)| (own, vec![("b", shape)])));
    let mut optimizer: Optimizer<f64> = options.build_groups(groups).unwrap();
    let n: usize = SHAPE.iter().product();
    let m: usize = other.map_or(0, |(_, shape)| shape.iter().product());
    let (mut a, mut b) = (vec![0.0; n], vec![0.0; m]);
    for t in 1..=200 {
        let ga: Vec<f64> = (0..n).map(|e| a[e] - 0.5 * spread(0, 0, e as u64)).collect();
        let gb: Vec<f64> = (0..m).map(|e| if zero { 0.0 } else { 1.0 + spread(1, t, e as u64) }).collect();
        let mut parameters = vec![Parameter::slice(&mut a, Some(&ga))];
        if optimizer.names().count() == 2 {
            parameters.push(Parameter::slice(&mut b, Some(&gb)));
        }
        assert_eq!(optimizer.step(&mut parameters), Ok(StepOutcome::Done));
    }
    (optimizer.estimate(0).unwrap().d, optimizer.latest_step(0).unwrap().step_size)
}

// prodigy#3, prodigy#16: text encoders at learning rate 0.
#[test]
fn a_group_that_cannot_move_has_no_say_in_the_step_size_of_others() {
    for (policy, options) in [
        ("mean", Options::default()),
        ("joint", Options::default().split_groups(false)),
        ("mean with speed", Options::default().use_speed(true)),
        ("joint with speed", Options::default().use_speed(true).split_groups(false)),
    ] {
        let alone = beside(&options, None, false);
        assert!(alone.0 > 1e-3, "{policy}: {alone:?}");
        for (what, own, shape, zero) in [
            ("at learning rate 0", options.clone().lr(0.0), &SHAPE[..], false),
            ("with gradients of 0", options.clone(), &SHAPE, true),
            ("without elements", options.clone(), &[0, 33], false),
        ] {
            let (d, step_size) = beside(&options, Some((own, shape)), zero);
            let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
            let same = close(d, alone.0) && close(step_size, alone.1);
            assert!(same, "{policy}, {what}: d {d:e}, step size {step_size:e}; alone {alone:?}");
        }
    }
}

// optax#59, optax#129, optax#1563.
#[test]
fn a_group_without_an_estimator_steps_with_its_own_learning_rate_and_is_in_no_mean() {
    let estimating = || (FactoredMoment::new(0.99), StableAdamW, Prodigy::default(), ScheduleFree::new(0.9));
    let alone = {
        let group = ParameterGroup::new(estimating(), [("a", &SHAPE[..])]);
        let optimizer = Optimizer::with_groups([group], Settings::default()).unwrap();
        let mut training = Quadratics::new(optimizer, &[0.5]);
        (0..200).for_each(|_| drop(training.step(|_| true)));
        training
    };
    for split_groups in [SplitGroups::Mean, SplitGroups::Each, SplitGroups::Joint] {
        for (first, replaced) in [(0, false), (1, false), (0, true), (1, true)] {
            // Group `first` estimates; the other descends, at once or after its chain was exchanged.
            let make = |i: usize| {
                let named = [(if i == first { "a" } else { "b" }, &SHAPE[..])];
                match i == first {
                    true => ParameterGroup::new(estimating(), named),
                    false if replaced => ParameterGroup::new(estimating(), named).lr(0.1),
                    false => ParameterGroup::new(Descent::default(), named).lr(0.1),
                }
            };
            let settings = Settings { split_groups, ..Settings::default() };
            let mut optimizer = Optimizer::with_groups([make(0), make(1)], settings).unwrap();
            if replaced {
                optimizer.replace_chain(1 - first, Descent::default()).unwrap();
            }
            let mut training = Quadratics::new(optimizer, &[0.5, 0.5]);
            for _ in 0..200 {
                training.step(|_| true);
                assert_eq!(training.step_size(1 - first), 0.1, "{split_groups:?} {first} {replaced}");
            }
            assert_eq!(training.d(1 - first), 1.0);
            let ratio = training.step_size(first) / alone.step_size(0);
            assert!((0.5..2.0).contains(&ratio), "{split_groups:?} {first} {replaced}: {ratio}");
        }
    }
}

#[test]
fn a_chain_that_gets_an_estimator_under_a_joint_estimate_steps_with_the_others_d() {
    let options = Options::default().split_groups(false);
    let mut training = Quadratics::new(a_group_each(&options, 2), &[0.5, 0.5]);
    training.optimizer.replace_chain(0, (FactoredMoment::new(0.99), Descent::default())).unwrap();
    training.optimizer.set_lr(0, 1e-3).unwrap();
    (0..100).for_each(|_| drop(training.step(|_| true)));
    let found = training.d(1);
    assert!(found > 1e-3 && training.d(0) == 1.0);
    training.optimizer.replace_chain(0, options.transforms::<f64>().unwrap()).unwrap();
    training.step(|_| true);
    assert!(training.d(0) == training.d(1) && training.d(1) >= found);
}

#[test]
fn steps_at_learning_rate_0_do_not_count_for_the_freeze_of_d() {
    let frozen_after = |still: usize| {
        let options = Options::default().prodigy_steps(60);
        let mut training = Quadratics::new(a_group_each(&options, 1), &[0.5]);
        training.optimizer.set_lr(0, 0.0).unwrap();
        (0..still).for_each(|_| drop(training.step(|_| true)));
        assert_eq!(training.d(0), 1e-6);
        training.optimizer.set_lr(0, 1.0).unwrap();
        (0..80).for_each(|_| drop(training.step(|_| true)));
        let d = training.d(0);
        (0..40).for_each(|_| drop(training.step(|_| true)));
        assert_eq!(training.d(0), d, "d has stopped");
        assert_eq!(training.optimizer.steps(0), Ok(still as u64 + 120));
        d
    };
    assert!(frozen_after(0) > 1e-3);
    assert!(frozen_after(100) > 1e-3);
}

/// All step with the largest d that one of them has.
#[derive(Debug)]
struct Largest;

impl GroupPolicy for Largest {
    fn share(&self, _split: SplitGroups, _groups: &[GroupState], d: &mut [f64]) {
        let largest = d.iter().copied().fold(0.0, f64::max);
        d.fill(largest);
    }
}

#[test]
fn a_policy_of_ones_own_says_which_d_each_group_steps_with_until_it_is_taken_out() {
    for (name, split, mean) in POLICIES {
        let mut training = Training::<f64, f64>::new(&run(split, mean)).unwrap();
        training.optimizer.set_policy(Largest);
        let steps = |training: &Training<f64, f64>| {
            [0, 1, 2].map(|group| training.optimizer.latest_step(group).unwrap().step_size)
        };
        for _ in 0..8 {
            let largest = training.d().into_iter().fold(0.0, f64::max);
            training.steps(1);
            assert_eq!(steps(&training), [largest, 0.3 * largest, largest], "{name}");
        }
        training.optimizer.set_policy(());
        let d = training.d();
        training.steps(1);
        let own = [d[0], 0.3 * d[1], d[2]];
        assert_eq!(steps(&training) == own, name != "mean", "{name}");
    }
}

/// What goes without saying, said.
#[derive(Debug)]
struct Outspoken;

impl GroupPolicy for Outspoken {
    fn share(&self, split: SplitGroups, groups: &[GroupState], d: &mut [f64]) {
        split.share(groups, d);
    }

    fn counts(&self, group: &GroupState) -> Counts {
        group.counts()
    }

    fn total(&self, contributions: &mut dyn Iterator<Item = [f64; 2]>) -> [f64; 2] {
        let all: Vec<[f64; 2]> = contributions.collect();
        [0, 1].map(|i| all.iter().fold(0.0, |sum, term| sum + term[i]))
    }

    fn adopt(&self, joint: &Estimate, group: &GroupState) -> Estimate {
        Estimate { d0: group.estimate.d0, ..*joint }
    }
}

#[test]
fn a_policy_that_says_what_holds_without_one_changes_no_bit() {
    for (name, split, mean) in POLICIES {
        let run = run(split, mean).missing(&[(1, 2), (2, 2), (4, 0), (5, 3), (5, 4)]);
        let mut silent = Training::<f32, f32>::new(&run).unwrap();
        let mut outspoken = Training::<f32, f32>::new(&run).unwrap();
        outspoken.optimizer.set_policy(Outspoken);
        silent.steps(10);
        outspoken.steps(10);
        assert_eq!(outspoken.bits(), silent.bits(), "{name}");
        assert!(outspoken.optimizer.snapshot() == silent.optimizer.snapshot(), "{name}");
    }
}

/// Group 1 steps with this.
#[derive(Debug)]
struct With(f64);

impl GroupPolicy for With {
    fn share(&self, _split: SplitGroups, _groups: &[GroupState], d: &mut [f64]) {
        d[1] = self.0;
    }
}

#[test]
fn a_policy_that_has_a_group_step_with_no_d_is_an_error_and_nothing_moves() {
    let mut training = Training::<f64, f64>::new(&run(true, true)).unwrap();
    let mut undisturbed = Training::<f64, f64>::new(&run(true, true)).unwrap();
    training.steps(3);
    undisturbed.steps(3);
    let (before, state) = (training.bits(), training.optimizer.snapshot());
    let latest = training.optimizer.latest_step(1).unwrap().clone();
    for d in [0.0, -1.0, f64::NAN, f64::INFINITY, 2.0_f64.powi(51)] {
        training.optimizer.set_policy(With(d));
        let error = training.step().unwrap_err();
        training.t -= 1;
        assert!(matches!(error, Error::InvalidPolicy { group: 1, .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("With({d:?})")) && text.contains("above 0 and at most 2^50"),
            "{text}"
        );
        assert!(matches!(training.optimizer.begin_step(), Err(Error::InvalidPolicy { .. })));
        assert!(training.bits() == before && training.optimizer.snapshot() == state);
        assert_eq!(*training.optimizer.latest_step(1).unwrap(), latest);
    }
    training.optimizer.set_policy(());
    training.steps(3);
    undisturbed.steps(3);
    assert_eq!(training.bits(), undisturbed.bits());
}

/// Group 2 goes on with a d_prev that no moment can be rescaled by.
#[derive(Debug)]
struct Spoiling;

impl GroupPolicy for Spoiling {
    fn adopt(&self, joint: &Estimate, group: &GroupState) -> Estimate {
        Estimate { d_prev: if group.index == 2 { f64::NAN } else { joint.d_prev }, ..*joint }
    }
}

#[test]
fn a_policy_that_spoils_a_joint_estimate_is_an_error_before_anything_moves_by_it() {
    let mut training = Training::<f64, f64>::new(&run(false, true)).unwrap();
    training.steps(3);
    let earlier = (training.values.clone(), training.optimizer.snapshot());
    training.optimizer.set_policy(Spoiling);
    training.steps(1);
    let after = training.bits();
    let error = training.step().unwrap_err();
    assert!(
        matches!(&error, Error::InvalidPolicy { group: 2, reason, .. } if reason.contains("earlier state"))
    );
    assert_eq!(training.bits(), after);
    training.optimizer.set_policy(());
    assert!(training.step().is_err());
    (training.values, training.t) = (earlier.0, 3);
    training.optimizer.restore(earlier.1).unwrap();
    training.steps(1);
    assert_eq!(training.bits(), after);
}

/// Counts a step for the estimate of group 0 alone, and finds nothing in it.
#[derive(Debug)]
struct Deaf;

impl GroupPolicy for Deaf {
    fn counts(&self, group: &GroupState) -> Counts {
        Counts { estimate: group.index == 0, ..group.counts() }
    }

    fn total(&self, contributions: &mut dyn Iterator<Item = [f64; 2]>) -> [f64; 2] {
        assert_eq!(contributions.count(), 2, "group 0 has two parameters");
        [0.0, 1.0]
    }
}

#[test]
fn a_policy_of_ones_own_says_which_steps_move_an_estimate_and_by_how_much() {
    let mut training = Training::<f64, f64>::new(&run(true, false)).unwrap();
    training.optimizer.set_policy(Deaf);
    training.steps(8);
    assert_eq!(training.d(), [1e-3; 3]);
    let estimates = [0, 1, 2].map(|group| training.optimizer.estimate(group).unwrap());
    assert!(estimates[0].denominator == 1.0 && estimates[0].numerator == 0.0, "{:?}", estimates[0]);
    assert_eq!([estimates[1], estimates[2]], [Estimate::new(1e-3); 2]);
    assert_eq!([0, 1, 2].map(|group| training.optimizer.steps(group).unwrap()), [8; 3]);
}
