//! Records, compared with chains whose links are run one by one on plain vectors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::bf16;

use super::*;
use crate::author::{Element, GradientTransform, fields, fused, transform};
use crate::device::{Interpreter, OnDevice};
use crate::engine::sweep::watch::Sample;
use crate::link::compose::only_for;
use crate::link::context::{Context, TensorInfo};
use crate::link::state::{StateSpec, Sums};
use crate::link::tile::Tile;
use crate::link::{Link, Reads, Role};
use crate::memory::element::Scalar;
use crate::memory::number::Backend;
use crate::memory::rounding::hash_name;
use crate::optimizer::group::{NonFinite, ParameterGroup, Settings};
use crate::optimizer::parameter::Parameter;
use crate::optimizer::snapshot::Snapshot;
use crate::optimizer::step::StepOutcome;
use crate::{Descent, map, rescale};

/// Around the limits of tiles and blocks, and longer than a chunk.
const SIZES: [usize; 6] = [0, 1, 33, 1025, 3000, (1 << 19) + 700];

fn values(t: usize, phase: f64, size: usize) -> Vec<f64> {
    (0..size).map(|i| ((i * (t + 3)) as f64 * 0.37 + phase).sin() * 0.1 + 0.02).collect()
}

#[derive(Clone, Debug)]
struct HeavyBall;

#[fields]
struct Velocity<V> {
    velocity: V,
}

#[transform("heavy-ball")]
impl GradientTransform for HeavyBall {
    type State<V: Copy> = Velocity<V>;

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.state.velocity = 0.5 * e.state.velocity + e.update;
        e.update = e.state.velocity;
    }
}

/// A map, a reduction whose factor the next link applies, a transform for long tensors only, and decay in the
/// writer.
fn chain<T: Real>() -> impl Link<T> + 'static {
    (
        HeavyBall,
        rescale!("unit-norm", |u| u * u, |sum, _n| 1.0 / (1e-12 + sum).sqrt()),
        only_for(|tensor: &TensorInfo| tensor.len() > 100, map!("positive", |u| u.max(0.0))),
        Descent::with_decay(0.1),
    )
}

/// Work of the chain on one tensor, in plain float64: the update after every link, and the parameter.
struct Naive {
    velocity: Vec<f64>,
    parameter: Vec<f64>,
}

impl Naive {
    fn step(&mut self, gradient: &[f64], lr: f64) -> Vec<(&'static str, Vec<f64>)> {
        let mut updates = vec![("", gradient.to_vec())];
        self.velocity.iter_mut().zip(gradient).for_each(|(v, g)| *v = 0.5 * *v + g);
        updates.push(("heavy-ball", self.velocity.clone()));
        let norm = (1e-12 + self.velocity.iter().map(|u| u * u).sum::<f64>()).sqrt();
        let unit: Vec<f64> = self.velocity.iter().map(|u| u / norm).collect();
        updates.push(("unit-norm", unit.clone()));
        let mut direction = unit;
        if gradient.len() > 100 {
            direction.iter_mut().for_each(|u| *u = u.max(0.0));
            updates.push(("positive", direction.clone()));
        }
        let moved = direction.iter().zip(&self.parameter).map(|(u, y)| lr * (u + 0.1 * y)).collect();
        updates.push(("descent", moved));
        let (_, moved) = updates.last().unwrap();
        self.parameter.iter_mut().zip(moved).for_each(|(y, m)| *y -= m);
        updates
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn angle(a: &[f64], b: &[f64]) -> Option<f64> {
    let cosine = a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / (norm(a) * norm(b));
    cosine.is_finite().then_some(cosine)
}

fn close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs().max(1e-12)
}

/// Steps of all tensors, of which those at even places are in the first group.
struct Training<T: Real, E> {
    optimizer: Optimizer<T>,
    values: Vec<Vec<E>>,
    of: fn(f64) -> E,
    t: usize,
}

fn order() -> impl Iterator<Item = usize> {
    (0..SIZES.len()).step_by(2).chain((1..SIZES.len()).step_by(2))
}

impl<T: Real, E: Scalar> Training<T, E> {
    fn with(settings: Settings, chain: impl Fn() -> Box<dyn Link<T>>, of: fn(f64) -> E) -> Self {
        let group = |first: usize, lr| {
            let own = (first..SIZES.len()).step_by(2).map(|i| (i.to_string(), [SIZES[i]]));
            ParameterGroup::new(chain(), own).lr(lr)
        };
        let optimizer = Optimizer::with_groups([group(0, 0.5), group(1, 0.25)], settings).unwrap();
        let values = order().map(|i| values(0, 1.0, SIZES[i]).into_iter().map(of).collect()).collect();
        Self { optimizer, values, of, t: 0 }
    }

    fn new(of: fn(f64) -> E) -> Self {
        Self::with(Settings::default(), || Box::new(chain()), of)
    }

    fn gradients(&self) -> Vec<Vec<E>> {
        order().map(|i| values(self.t, i as f64, SIZES[i]).into_iter().map(self.of).collect()).collect()
    }

    fn step(&mut self) -> Result<StepOutcome> {
        self.t += 1;
        let gradients = self.gradients();
        let parameters = self.values.iter_mut().zip(&gradients);
        let mut parameters: Vec<_> = parameters.map(|(w, g)| Parameter::slice(w, Some(g))).collect();
        self.optimizer.step(&mut parameters)
    }

    fn record_all(self) -> Self {
        self.record(Recorder::every(1).unwrap().all_elements())
    }

    fn record(mut self, recorder: Recorder) -> Self {
        self.optimizer.set_recorder(Some(recorder));
        self
    }

    fn latest(&self) -> &Record {
        self.optimizer.recorder().unwrap().latest().unwrap()
    }
}

fn records_are_those_of_plain_vectors<T: Real, E: Scalar + Into<f64>>(of: fn(f64) -> E, tolerance: f64) {
    let mut training = Training::<T, E>::new(of).record_all();
    let mut naive: Vec<Naive> = order()
        .zip(&training.values)
        .map(|(i, w)| Naive {
            velocity: vec![0.0; SIZES[i]],
            parameter: w.iter().map(|w| (*w).into()).collect(),
        })
        .collect();
    for k in 1..=3 {
        let before = training.values.clone();
        training.step().unwrap();
        let record = training.latest();
        assert_eq!((record.step, record.tensors.len(), &record.not_finite), (k, SIZES.len(), &None));
        let gradients = training.gradients();
        for (at, i) in order().enumerate() {
            let (tensor, g) = (&record.tensors[at], &gradients[at]);
            let g: Vec<f64> = g.iter().map(|g| (*g).into()).collect();
            let [start, end] = [&before[at], &training.values[at]]
                .map(|w| w.iter().map(|w| (*w).into()).collect::<Vec<f64>>());
            assert_eq!((&tensor.name, tensor.group, tensor.elements), (&i.to_string(), i % 2, SIZES[i]));
            assert_eq!(tensor.sampled, SIZES[i]);
            // The values in memory, after rounding.
            let moved: Vec<f64> = start.iter().zip(&end).map(|(start, end)| start - end).collect();
            assert!(close(tensor.norms.gradient, norm(&g), 1e-5), "{i}: {tensor:?}");
            assert!(close(tensor.norms.parameter, norm(&start), 1e-5), "{i}: {tensor:?}");
            assert!(close(tensor.norms.displacement, norm(&moved), 1e-5), "{i}: {tensor:?}");
            let share = moved.iter().filter(|m| **m != 0.0).count() as f64 / SIZES[i].max(1) as f64;
            assert_eq!(tensor.moved, share, "{i}");
            match (tensor.cosine, angle(&g, &moved)) {
                (Some(found), Some(expected)) => {
                    assert!((found - expected).abs() < 1e-5, "{found} {expected}")
                }
                (found, expected) => assert_eq!(found, expected),
            }

            naive[at].parameter = start;
            let updates = naive[at].step(&g, [0.5, 0.25][i % 2]);
            let names: Vec<&str> = tensor.links.iter().map(|link| link.link.as_str()).collect();
            assert_eq!(names, updates[1..].iter().map(|(name, _)| *name).collect::<Vec<_>>());
            for (link, pair) in tensor.links.iter().zip(updates.windows(2)) {
                let [(_, before), (name, after)] = pair else { unreachable!() };
                assert!(close(link.before, norm(before), tolerance), "{i} {name}: {link:?}");
                assert!(close(link.after, norm(after), tolerance), "{i} {name}: {link:?}");
                let cosines = [link.cosine, angle(before, after)].map(|cosine| cosine.unwrap_or(2.0));
                assert!((cosines[0] - cosines[1]).abs() < tolerance, "{i} {name}: {link:?} {cosines:?}");
            }
            // Without rounding the share of those changed follows too.
            if let Some(positive) = tensor.links.iter().find(|link| link.link == "positive") {
                let negative = updates[2].1.iter().filter(|u| **u < 0.0).count();
                assert!((positive.changed - negative as f64 / SIZES[i] as f64).abs() < 1e-3);
            }
        }
        for (group, lr) in record.groups.iter().zip([0.5, 0.25]) {
            let of_group = record.tensors_of(group.group).map(|tensor| tensor.norms.gradient);
            assert!(close(group.norms.gradient, norm(&of_group.collect::<Vec<_>>()), 1e-12));
            assert_eq!((group.k, group.lr, group.step_size, group.contribution), (k, lr, lr, None));
        }
        let groups: Vec<f64> = record.groups.iter().map(|group| group.norms.displacement).collect();
        assert!(close(record.norms().displacement, norm(&groups), 1e-12));
    }
}

#[test]
fn records_are_those_of_plain_vectors_in_every_type() {
    records_are_those_of_plain_vectors::<f32, f32>(|x| x as f32, 1e-4);
    records_are_those_of_plain_vectors::<f64, f64>(|x| x, 1e-6);
    // The velocity is bfloat16 between steps.
    records_are_those_of_plain_vectors::<f32, bf16>(bf16::from_f64, 1e-2);
}

#[test]
fn a_recorded_run_has_the_bits_of_another() {
    fn check<E: Scalar + Into<f64> + Copy>(of: fn(f64) -> E) {
        let end = |every: Option<u64>| {
            let mut training = Training::<f32, E>::new(of);
            training.optimizer.set_recorder(every.map(|every| Recorder::every(every).unwrap()));
            (0..4).for_each(|_| assert_eq!(training.step(), Ok(StepOutcome::Done)));
            let bits = |w: &Vec<E>| w.iter().map(|w| Into::<f64>::into(*w).to_bits()).collect::<Vec<_>>();
            let values: Vec<Vec<u64>> = training.values.iter().map(bits).collect();
            (values, training.optimizer.snapshot().to_owned())
        };
        let without: (Vec<Vec<u64>>, Snapshot) = end(None);
        for every in [1, 2, 3] {
            assert!(end(Some(every)) == without, "every {every}");
        }
    }
    check::<f32>(|x| x as f32);
    check::<bf16>(bf16::from_f64);
}

/// The elements of a tensor whose blocks are measured.
fn sampled(name: &str, size: usize) -> impl Iterator<Item = usize> {
    let sample = Sample::new(Coverage::Sample, size, hash_name(name));
    (0..size).filter(move |i| sample.has(i / 1024 * 1024))
}

#[test]
fn of_a_long_tensor_a_record_estimates_what_links_do_from_some_of_its_blocks() {
    let mut training = Training::<f64, f64>::new(|x| x).record(Recorder::every(1).unwrap());
    let mut whole = Training::<f64, f64>::new(|x| x).record_all();
    for _ in 0..2 {
        let (start, velocities) = (training.values.clone(), training.gradients());
        training.step().unwrap();
        whole.step().unwrap();
        assert!(training.values == whole.values);
        let gradients = training.gradients();
        assert_ne!(gradients, velocities);
        let (record, all) = (training.latest(), whole.latest());
        for (at, i) in order().enumerate() {
            let (found, exact) = (&record.tensors[at], &all.tensors[at]);
            if SIZES[i] <= 64 * 1024 {
                assert_eq!(found, exact);
                continue;
            }
            let of = |values: &[f64]| sampled(&found.name, SIZES[i]).map(|e| values[e]).collect::<Vec<f64>>();
            let moved: Vec<f64> = start[at].iter().zip(&training.values[at]).map(|(w, y)| w - y).collect();
            let (g, moved) = (of(&gradients[at]), of(&moved));
            assert_eq!(found.sampled, g.len());
            assert!((0.12..0.13).contains(&(found.sampled as f64 / SIZES[i] as f64)), "{}", found.sampled);
            // Over all elements, or as if the others were like these.
            assert_eq!(
                (found.norms.gradient, found.norms.parameter),
                (exact.norms.gradient, exact.norms.parameter)
            );
            let scale = (SIZES[i] as f64 / g.len() as f64).sqrt();
            assert!(close(found.norms.displacement, scale * norm(&moved), 1e-9));
            assert!(close(found.links[0].before, scale * norm(&g), 1e-9));
            assert!((found.cosine.unwrap() - angle(&g, &moved).unwrap()).abs() < 1e-9);
            for (link, exact) in found.links.iter().zip(&exact.links) {
                assert_eq!(link.link, exact.link);
                assert!(close(link.after, exact.after, 0.02), "{link:?} {exact:?}");
                assert!((link.changed - exact.changed).abs() < 0.02, "{link:?} {exact:?}");
                assert!((link.cosine.unwrap() - exact.cosine.unwrap()).abs() < 0.02, "{link:?} {exact:?}");
            }
        }
    }
}

#[test]
fn one_block_of_every_eight_of_a_long_tensor_is_looked_at_and_not_always_the_same_one_of_them() {
    let size = 100 * 8 * 1024;
    let blocks: Vec<usize> = sampled("w", size).step_by(1024).map(|i| i / 1024).collect();
    assert!(blocks.iter().map(|block| block / 8).eq(0..100));
    for place in 0..8 {
        assert!((3..30).contains(&blocks.iter().filter(|block| *block % 8 == place).count()), "{blocks:?}");
    }
    assert!(!sampled("v", size).eq(sampled("w", size)));
    assert_eq!(sampled("w", 64 * 1024).count(), 64 * 1024);
}

#[test]
fn a_value_that_is_not_finite_where_the_links_are_not_looked_at_is_found_in_the_parameter() {
    let size = 100 * 1024 + 3;
    let looked_at: Vec<usize> = sampled("w", size).collect();
    let found = |element: usize, recorder: Recorder| {
        let root = map!("root", |u| u.sqrt());
        let mut optimizer = Optimizer::<f32>::new((root, Descent::default()), [("w", [size])]).unwrap();
        optimizer.set_recorder(Some(recorder));
        let (mut w, mut g) = (vec![1.0_f32; size], vec![0.25_f32; size]);
        (g[element], g[size - 1]) = (-1.0, -1.0);
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&g))]).unwrap();
        let found = optimizer.recorder().unwrap().first_not_finite().unwrap().clone();
        assert_eq!((found.value.as_str(), found.element), ("NaN", element));
        found.place
    };
    let every = || Recorder::every(1).unwrap();
    let missed = (0..size - 1).find(|i| !looked_at.contains(i)).unwrap();
    assert_eq!(found(missed, every()), Place::Parameter);
    assert_eq!(found(missed, every().all_elements()), Place::Link("root".into()));
    assert_eq!(found(looked_at[0], every()), Place::Link("root".into()));
}

#[test]
fn a_fused_chain_has_the_same_bits_and_the_same_records() {
    const SIZE: usize = 70 * 1024 + 33;
    let links = || (HeavyBall, map!("positive", |u| u.max(0.0)), Descent::default());
    let end = |every: Option<u64>, is_fused: bool| {
        let chain: Box<dyn Link<f32>> = if is_fused { Box::new(fused(links())) } else { Box::new(links()) };
        let mut optimizer = Optimizer::new(chain, [("w", [SIZE])]).unwrap();
        optimizer.set_recorder(every.map(|every| Recorder::every(every).unwrap()));
        let mut w: Vec<f32> = values(0, 0.0, SIZE).iter().map(|x| *x as f32).collect();
        for t in 1..5 {
            let g: Vec<f32> = values(t, 1.0, SIZE).iter().map(|x| *x as f32).collect();
            optimizer.step(&mut [Parameter::slice(&mut w, Some(&g))]).unwrap();
            assert_eq!(optimizer.tensors[0].is_fused(), is_fused);
        }
        let records = optimizer.set_recorder(None).map(|mut recorder| recorder.take());
        (w, optimizer.snapshot(), records)
    };
    let unrecorded = end(None, true);
    let recorded = end(Some(1), true);
    assert_eq!((&recorded.0, &recorded.1), (&unrecorded.0, &unrecorded.1));
    assert_eq!(end(Some(2), true).0, unrecorded.0);
    assert_eq!(recorded.2, end(Some(1), false).2);
}

#[test]
fn records_are_the_same_bits_for_any_number_of_threads() {
    let records = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut training = Training::<f32, f32>::new(|x| x as f32).record_all();
        pool.install(|| (0..2).for_each(|_| assert_eq!(training.step(), Ok(StepOutcome::Done))));
        // Debug prints every digit of a float64.
        format!("{:?}", training.optimizer.recorder_mut().unwrap().take())
    };
    let one = records(1);
    for threads in 2..=8 {
        assert!(records(threads) == one, "{threads} threads");
    }
}

#[derive(Debug, Default)]
struct Calls {
    observe: AtomicUsize,
    emit: AtomicUsize,
    commit: AtomicUsize,
}

/// Counts the tiles that it is called with.
#[derive(Debug)]
struct Counting(Arc<Calls>);

impl Link<f32> for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Reduce
    }

    fn reads(&self) -> Reads {
        Reads::PARAMETER
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        StateSpec::new().sums(1, 0)
    }

    fn observe(&self, _cx: &Context<'_>, _tile: &mut Tile<'_, '_, f32>, _sums: Sums<'_, f32>) {
        self.0.observe.fetch_add(1, Ordering::Relaxed);
    }

    fn emit(&self, _cx: &Context<'_>, _tile: &mut Tile<'_, '_, f32>) {
        self.0.emit.fetch_add(1, Ordering::Relaxed);
    }

    fn commit(&self, _cx: &Context<'_>, _tile: &mut Tile<'_, '_, f32>, _sums: Sums<'_, f32>) {
        self.0.commit.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_recorded_step_visits_every_tile_as_often_as_another_and_moves_as_many_bytes() {
    let of_a_step = |every: u64| {
        let calls = Arc::new(Calls::default());
        let chain = (Counting(Arc::clone(&calls)), HeavyBall, Descent::default());
        let mut optimizer = Optimizer::new(chain, [("w", [5000])]).unwrap();
        optimizer.set_recorder(Some(Recorder::every(every).unwrap()));
        let (mut w, g) = (vec![1.0_f32; 5000], vec![0.5; 5000]);
        for _ in 0..2 {
            optimizer.step(&mut [Parameter::slice(&mut w, Some(&g))]).unwrap();
        }
        let recorded = optimizer.recorder().unwrap().records().len();
        let counted = [&calls.observe, &calls.emit, &calls.commit].map(|count| count.load(Ordering::Relaxed));
        (recorded, counted, optimizer.planned_traffic())
    };
    let (recorded, usual, traffic) = of_a_step(2);
    assert_eq!((recorded, usual), (1, [10, 0, 10])); // 5 tiles, twice
    assert_eq!(of_a_step(1), (2, usual, traffic));
}

/// Fills its state with the first gradient.
#[derive(Debug)]
struct Waits;

impl Link<f32> for Waits {
    fn name(&self) -> &str {
        "waits"
    }

    fn holds(&self, cx: &Context<'_>) -> bool {
        cx.tensor.updates == 0
    }
}

#[test]
fn of_a_tensor_that_is_held_the_links_before_are_recorded_and_nothing_moves() {
    let chain = (map!("twice", |u| 2.0 * u), Waits, map!("positive", |u| u.max(0.0)), Descent::default());
    let mut optimizer = Optimizer::new(chain, [("w", [2])]).unwrap();
    optimizer.set_recorder(Some(Recorder::every(1).unwrap()));
    let mut w = [1.0_f32, 1.0];
    for _ in 0..2 {
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0, 4.0]))]).unwrap();
    }
    let names = |record: &Record| -> Vec<String> {
        record.tensors[0].links.iter().map(|link| link.link.clone()).collect()
    };
    let records = optimizer.recorder_mut().unwrap().take();
    assert_eq!(names(&records[0]), ["twice"]);
    assert_eq!((records[0].tensors[0].moved, records[0].norms().displacement), (0.0, 0.0));
    assert_eq!(names(&records[1]), ["twice", "waits", "positive", "descent"]);
    assert_eq!((records[1].tensors[0].moved, records[1].tensors[0].links[0].after), (1.0, 10.0));
}

#[test]
fn the_first_value_that_is_not_finite_is_named_by_link_tensor_element_and_step() {
    let root = || map!("root", |u| u.sqrt());
    for size in [10, 5000, SIZES[5]] {
        let chain = (map!("less", |u| u - 1.0), root(), map!("twice", |u| 2.0 * u), Descent::default());
        let mut optimizer = Optimizer::new(chain, [("a", [size]), ("b", [size])]).unwrap();
        optimizer.set_recorder(Some(Recorder::every(1).unwrap().all_elements()));
        let (mut a, mut b) = (vec![1.0_f32; size], vec![1.0_f32; size]);
        let good = vec![2.0_f32; size];
        let mut bad = good.clone();
        (bad[size - 1], bad[size - 3]) = (0.5, 0.5);
        let mut step = |a_gradient: &[f32], b_gradient: &[f32]| {
            let mut parameters =
                [Parameter::slice(&mut a, Some(a_gradient)), Parameter::slice(&mut b, Some(b_gradient))];
            optimizer.step(&mut parameters).unwrap();
            optimizer.recorder().unwrap().clone()
        };
        assert_eq!(step(&good, &good).first_not_finite(), None);
        let recorder = step(&good, &bad);
        let found = NotFinite {
            step: 2,
            tensor: "b".into(),
            place: Place::Link("root".into()),
            element: size - 3,
            value: "NaN".into(),
        };
        assert_eq!(recorder.first_not_finite(), Some(&found));
        let of_b = &recorder.latest().unwrap().tensors[1];
        assert!(of_b.links[1].after.is_nan() && of_b.links[0].after.is_finite() && of_b.cosine.is_none());
        // It stays the first one, and the next step has its own.
        let recorder = step(&bad, &good);
        assert_eq!(recorder.first_not_finite(), Some(&found));
        let (of_a, of_b) = ("a".to_owned(), "b".to_owned());
        let latest = recorder.latest().unwrap().not_finite.clone().unwrap();
        assert_eq!((latest.step, &latest.tensor), (3, &of_a));
        assert_ne!(latest.tensor, of_b);
    }
}

#[test]
fn what_is_not_finite_in_the_gradient_or_in_the_parameter_is_told_apart() {
    let settings = Settings { non_finite: NonFinite::Unchecked, ..Settings::default() };
    let found = |w: f32, gradient: f32, lr: f64| {
        let group = ParameterGroup::<f32>::new(Descent::default(), [("w", [3])]).lr(lr);
        let mut optimizer = Optimizer::with_groups([group], settings).unwrap();
        optimizer.set_recorder(Some(Recorder::every(1).unwrap()));
        let mut w = [1.0_f32, 1.0, w];
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.0, 0.0, gradient]))]).unwrap();
        optimizer.recorder().unwrap().first_not_finite().map(ToString::to_string)
    };
    assert_eq!(found(1.0, 1.0, 1.0), None);
    let text = "in step 1, the gradient is -inf at element 2 of `w`";
    assert_eq!(found(1.0, f32::NEG_INFINITY, 1.0).as_deref(), Some(text));
    let text = "in step 1, the update after `descent` is inf at element 2 of `w`";
    assert_eq!(found(1.0, 1e38, 100.0).as_deref(), Some(text));
    let text = "in step 1, the parameter is inf at element 2 of `w`";
    assert_eq!(found(3e38, -1e38, 1.0).as_deref(), Some(text));
}

#[test]
fn a_step_that_is_refused_or_skipped_leaves_no_record_and_a_tensor_left_out_of_it_none_of_its_own() {
    let run = |non_finite| {
        let settings = Settings { non_finite, ..Settings::default() };
        let group = ParameterGroup::<f32>::new(Descent::default(), [("a", [1]), ("b", [1])]);
        let mut optimizer = Optimizer::with_groups([group], settings).unwrap();
        optimizer.set_recorder(Some(Recorder::every(1).unwrap()));
        let (mut a, mut b) = ([1.0_f32], [1.0_f32]);
        for gradient in [0.5, f32::NAN, 0.25] {
            let gradient = [gradient];
            let mut parameters =
                [Parameter::slice(&mut a, Some(&[0.5])), Parameter::slice(&mut b, Some(&gradient))];
            let refused = optimizer.step(&mut parameters).is_err();
            assert_eq!(refused, gradient[0].is_nan() && non_finite == NonFinite::Error);
        }
        let described = |record: Record| (record.step, record.tensors.len());
        optimizer.recorder_mut().unwrap().take().into_iter().map(described).collect::<Vec<_>>()
    };
    assert_eq!(run(NonFinite::Error), [(1, 2), (2, 2)]);
    assert_eq!(run(NonFinite::Skip), [(1, 2), (2, 2)]);
    assert_eq!(run(NonFinite::SkipTensor), [(1, 2), (2, 1), (3, 2)]);
}

#[test]
fn gradients_that_arrive_one_by_one_are_recorded_like_others() {
    let optimizer = || {
        let mut optimizer = Optimizer::new(chain::<f32>(), [("a", [300]), ("b", [7])]).unwrap();
        optimizer.set_recorder(Some(Recorder::every(1).unwrap()));
        optimizer
    };
    let (mut at_once, mut one_by_one) = (optimizer(), optimizer());
    let [mut w, mut v] = [(); 2].map(|()| (vec![1.0_f32; 300], vec![1.0_f32; 7]));
    let (g, h) = (vec![0.25_f32; 300], vec![0.5_f32; 7]);
    for _ in 0..2 {
        at_once
            .step(&mut [Parameter::slice(&mut w.0, Some(&g)), Parameter::slice(&mut w.1, Some(&h))])
            .unwrap();
        let mut step = one_by_one.begin_step().unwrap();
        step.parameter(1, Parameter::slice(&mut v.1, Some(&h))).unwrap();
        step.parameter(0, Parameter::slice(&mut v.0, Some(&g))).unwrap();
        step.end();
    }
    assert_eq!(one_by_one.recorder_mut().unwrap().take(), at_once.recorder_mut().unwrap().take());
    // One that is dropped is no step, and none is recorded.
    drop(one_by_one.begin_step().unwrap());
    assert_eq!(one_by_one.recorder().unwrap().records().len(), 0);
}

#[test]
fn steps_are_counted_by_the_group_that_has_done_most_and_a_step_without_gradients_is_none() {
    let mut optimizer = Optimizer::new(Descent::default(), [("w", [1])]).unwrap();
    let mut w = [1.0_f32];
    let mut step = |optimizer: &mut Optimizer, gradient: Option<&[f32]>| {
        optimizer.step(&mut [Parameter::slice(&mut w, gradient)]).unwrap();
    };
    (0..4).for_each(|_| step(&mut optimizer, Some(&[0.1])));
    // As in a run that resumes from a checkpoint.
    optimizer.set_recorder(Some(Recorder::every(5).unwrap()));
    for i in 0..10 {
        step(&mut optimizer, (i % 3 != 0).then_some(&[0.1]));
    }
    let steps: Vec<u64> = optimizer.recorder().unwrap().records().map(|record| record.step).collect();
    assert_eq!(steps, [6]);
    assert_eq!(optimizer.steps(0), Ok(4 + 6));
}

#[test]
fn the_oldest_records_are_given_up_and_their_memory_is_used_again() {
    let mut training = Training::<f32, f32>::new(|x| x as f32);
    training.optimizer.set_recorder(Some(Recorder::every(2).unwrap().keep(2).unwrap()));
    (0..9).for_each(|_| assert_eq!(training.step(), Ok(StepOutcome::Done)));
    let kept: Vec<Record> = training.optimizer.recorder_mut().unwrap().take();
    assert_eq!(kept.iter().map(|record| record.step).collect::<Vec<_>>(), [7, 9]);
    let mut all = Training::<f32, f32>::new(|x| x as f32).record(Recorder::every(1).unwrap());
    (0..9).for_each(|_| assert_eq!(all.step(), Ok(StepOutcome::Done)));
    let all = all.optimizer.recorder_mut().unwrap().take();
    assert_eq!(kept, [all[6].clone(), all[8].clone()]);
    for made in [Recorder::every(0), Recorder::every(1).unwrap().keep(0)] {
        assert!(matches!(made, Err(Error::OptionOutOfRange { .. })), "{made:?}");
    }
}

#[test]
fn a_device_refuses_an_optimizer_with_a_recorder_by_name() {
    let mut optimizer = Optimizer::new(Descent::default(), [("w", [1])]).unwrap();
    optimizer.set_recorder(Some(Recorder::every(1).unwrap()));
    let error = OnDevice::new(optimizer, Interpreter).unwrap_err();
    assert_eq!(error, Error::RecorderOnDevice);
    assert!(error.to_string().contains("set_recorder(None)"));
}

#[test]
fn records_come_back_from_a_text_and_what_is_not_finite_as_no_number() {
    let settings = Settings { non_finite: NonFinite::Unchecked, ..Settings::default() };
    let group = ParameterGroup::<f32>::new(chain::<f32>(), [("w", [300])]);
    let mut optimizer = Optimizer::with_groups([group], settings).unwrap();
    optimizer.set_recorder(Some(Recorder::every(1).unwrap()));
    let mut w = vec![1.0_f32; 300];
    for gradient in [0.5, f32::NAN] {
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient; 300]))]).unwrap();
    }
    let records = optimizer.recorder_mut().unwrap().take();
    let text = serde_json::to_string(&records).unwrap();
    let read: Vec<Record> = serde_json::from_str(&text).unwrap();
    assert!(read[0].tensors[0].links[0].after > 0.0 && read[0].not_finite.is_none());
    assert_eq!(read[1].not_finite, records[1].not_finite);
    assert!(read[1].tensors[0].norms.gradient.is_nan());
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
}
