//! What a step costs and what is kept, counted and not timed: bytes by the engine's plan, sweeps, allocations, and memory by the
//! allocator.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use allocation_counter::measure;
use gradient_transform::{Descent, Link, Optimizer, Parameter, ParameterGroup, Recorder, Scalar, Settings};
use half::bf16;
use prodigy_plus::{Compat, EngineCompat, Options};
use serde_json::json;

const SHAPE: [usize; 2] = [1024, 1024];
const PARAMETERS: usize = SHAPE[0] * SHAPE[1];

/// The configurations that the documentation speaks of.
fn configurations() -> Vec<(&'static str, Options)> {
    [
        ("default", json!({})),
        ("dense moment", json!({"factored": false})),
        ("ADOPT", json!({"use_adopt": true})),
        ("OrthoGrad", json!({"use_orthograd": true})),
        ("Cautious", json!({"use_cautious": true})),
        ("Grams", json!({"use_grams": true})),
        ("FOCUS", json!({"use_focus": true, "factored": false})),
        ("SPEED", json!({"use_speed": true})),
        ("atan2", json!({"eps": null})),
        ("weight decay", json!({"weight_decay": 0.1})),
        ("Muon", json!({"use_muon_pp": true})),
        ("without StableAdamW", json!({"use_stableadamw": false})),
    ]
    .into_iter()
    .map(|(name, options)| (name, serde_json::from_value(options).unwrap()))
    .collect()
}

/// An optimizer after its first steps, and what it steps.
struct Steady<E> {
    optimizer: Optimizer,
    values: Vec<Vec<E>>,
    gradients: Vec<Vec<E>>,
}

impl<E: Scalar> Steady<E> {
    fn new(options: &Options, shapes: &[&[usize]], element: fn(f32) -> E) -> Self {
        let named = shapes.iter().enumerate().map(|(i, shape)| (i.to_string(), *shape));
        let optimizer = options.build(named).unwrap();
        let tensor = |shape: &[usize], frequency: f32| {
            (0..shape.iter().product::<usize>())
                .map(|i| element((i as f32 * frequency).sin() * 0.1))
                .collect()
        };
        let tensors = |frequency| shapes.iter().map(|shape| tensor(shape, frequency)).collect();
        let mut steady = Self { optimizer, values: tensors(0.7), gradients: tensors(0.3) };
        (0..3).for_each(|_| steady.step());
        steady
    }

    fn step(&mut self) {
        let parameters = self.values.iter_mut().zip(&self.gradients);
        let mut parameters: Vec<Parameter<'_>> =
            parameters.map(|(value, gradient)| Parameter::slice(value, Some(gradient))).collect();
        self.optimizer.step(&mut parameters).unwrap();
    }

    /// Allocations of a step, without those of handing the parameters over.
    fn allocations(&mut self) -> u64 {
        let parameters = self.values.iter_mut().zip(&self.gradients);
        let mut parameters: Vec<Parameter<'_>> =
            parameters.map(|(value, gradient)| Parameter::slice(value, Some(gradient))).collect();
        measure(|| {
            self.optimizer.step(&mut parameters).unwrap();
        })
        .count_total
    }
}

#[test]
fn a_steady_step_allocates_nothing_but_muons_workspace() {
    // The second list is longer than a chunk.
    for shapes in [&[&[40, 33][..], &[64, 3, 3, 8], &[1030], &[]][..], &[&[1100, 1000]]] {
        // One thread of rayon's own, so that all the work is on the thread whose allocations are counted.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        for (name, options) in configurations() {
            let counts = pool.install(|| {
                [
                    Steady::<f32>::new(&options, shapes, |x| x).allocations(),
                    Steady::<bf16>::new(&options, shapes, bf16::from_f32).allocations(),
                ]
            });
            if name == "Muon" {
                assert!(counts.iter().all(|&count| count > 0), "Muon's workspace: {counts:?}");
            } else {
                assert_eq!(counts, [0, 0], "{name} on {shapes:?}");
            }
        }
    }
}

#[test]
fn a_recorded_step_allocates_nothing_once_as_many_are_kept_as_may_be_and_moves_the_bytes_of_another() {
    for shapes in [&[&[40, 33][..], &[64, 3, 3, 8], &[1030], &[]][..], &[&[1100, 1000]]] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        for (name, options) in configurations().into_iter().filter(|(name, _)| *name != "Muon") {
            let [usual, recorded] = pool.install(|| {
                [None, Some(Recorder::every(1).unwrap().keep(2).unwrap())].map(|recorder| {
                    let mut steady = Steady::<f32>::new(&options, shapes, |x| x);
                    steady.optimizer.set_recorder(recorder);
                    (0..3).for_each(|_| steady.step());
                    (steady.allocations(), steady.optimizer.planned_traffic())
                })
            });
            assert_eq!(recorded, usual, "{name} on {shapes:?}");
            assert_eq!(recorded.0, 0, "{name} on {shapes:?}");
        }
    }
}

#[test]
fn bytes_and_sweeps_of_a_step() {
    let mut table = format!("{:<22}{:>8}{:>12}{:>12}\n", "", "sweeps", "float32", "bfloat16");
    for (name, options) in configurations() {
        let shape: &[&[usize]] = &[&[256, 1024]];
        let single = Steady::<f32>::new(&options, shape, |x| x).optimizer.planned_traffic();
        let half = Steady::<bf16>::new(&options, shape, bf16::from_f32).optimizer.planned_traffic();
        assert_eq!(single.1, half.1);
        let bytes = [single.0, half.0].map(|bytes| bytes as f64 / (256.0 * 1024.0));
        writeln!(table, "{name:<22}{:>8}{:>12.2}{:>12.2}", single.1, bytes[0], bytes[1]).unwrap();
    }
    insta::assert_snapshot!(table);
}

/// An optimizer after some steps, and the bytes per parameter that it holds by the allocator and by its own account.
fn held<E: Scalar>(options: &Options, steps: usize, one: E, gradient: E) -> [f64; 2] {
    let (mut w, g) = (vec![one; PARAMETERS], vec![gradient; PARAMETERS]);
    // A thread of its own, so that all the work is on the thread whose allocations are counted.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        let mut made = None;
        let info = measure(|| {
            let mut optimizer = options.build([("w", &SHAPE[..])]).unwrap();
            for _ in 0..steps {
                optimizer.step(&mut [Parameter::slice(&mut w, Some(&g))]).unwrap();
            }
            made = Some(optimizer);
        });
        let optimizer = made.unwrap();
        [info.bytes_current as f64, optimizer.state_bytes() as f64].map(|bytes| bytes / PARAMETERS as f64)
    })
}

#[test]
fn bytes_of_state_per_parameter() {
    let mut table = format!("{:<22}{:>9}{:>10}\n", "", "float32", "bfloat16");
    let frozen = ("d frozen", Options::default().prodigy_steps(2));
    // Muon's iterations on a matrix of this size take minutes.
    let configurations = configurations().into_iter().filter(|(name, _)| *name != "Muon");
    for (name, options) in configurations.chain([frozen]) {
        let single = held(&options, 4, 1.0_f32, 0.1);
        let half = held(&options, 4, bf16::ONE, bf16::from_f32(0.1));
        for [counted, accounted] in [single, half] {
            // Tiles, sums and names are of no account beside a million parameters.
            assert!(
                counted >= accounted && counted < accounted + 0.15,
                "{name}: {counted} bytes per parameter are allocated, {accounted} accounted for"
            );
        }
        writeln!(table, "{name:<22}{:>9.2}{:>10.2}", single[1], half[1]).unwrap();
    }
    // AdamW keeps two moments: 8 bytes in float32.
    insta::assert_snapshot!(table);
}

#[test]
fn the_freeze_gives_the_estimators_memory_back() {
    let frozen = Options::default().prodigy_steps(3);
    let before = held(&frozen, 2, 1.0_f32, 0.1)[0];
    let behind = held(&frozen, 5, 1.0_f32, 0.1)[0];
    let samples = 8.0 / 11.0;
    assert!((before - behind - samples).abs() < 0.01, "{before} before, {behind} behind");
}

/// Bytes that evaluation takes, beside a large frozen parameter and 4 * 1024 * 4 bytes that move.
fn of_evaluation(options: &Options) -> i64 {
    let (frozen, adapter) = ([1024, 1024], [1024, 4]);
    let mut optimizer = options.build([("frozen", &frozen[..]), ("adapter", &adapter[..])]).unwrap();
    let (mut base, mut low) = (vec![1.0_f32; PARAMETERS], vec![1.0_f32; 1024 * 4]);
    let gradient = vec![0.1_f32; 1024 * 4];
    optimizer
        .step(&mut [Parameter::slice(&mut base, None), Parameter::slice(&mut low, Some(&gradient))])
        .unwrap();
    let info = measure(|| {
        let mut parameters = [Parameter::slice(&mut base, None), Parameter::slice(&mut low, None)];
        optimizer.eval(&mut parameters).unwrap();
    });
    info.bytes_current
}

#[test]
fn evaluation_copies_what_it_moves_and_not_what_is_frozen() {
    let (bytes, copied) = (of_evaluation(&Options::default()), 4 * 1024 * 4);
    assert!((copied..copied + 1024).contains(&bytes), "{bytes} bytes");
}

#[test]
fn evaluation_copies_nothing_where_the_training_point_is_computed() {
    let engine = EngineCompat { evaluation_moves_parameters: true, ..EngineCompat::default() };
    let bytes = of_evaluation(&Options::default().compat(Compat { engine, ..Compat::default() }));
    assert!((0..1024).contains(&bytes), "{bytes} bytes");
}

/// Tall, wide and with short axes; several chunks of elements each.
const LONG: [&[usize]; 4] = [&[400_000, 8], &[8, 400_000], &[512, 256, 3, 7], &[3, 700, 5, 400]];

#[test]
fn the_factored_moment_needs_memory_for_rows_and_columns_and_not_for_every_chunk() {
    // EleutherAI/gpt-neox#453
    for shape in LONG {
        let len: usize = shape.iter().product();
        let (mut w, g) = (vec![1.0_f32; len], vec![0.1_f32; len]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let (info, optimizer) = pool.install(|| {
            let mut made = None;
            let info = measure(|| {
                let mut optimizer = Options::default().build([("w", shape)]).unwrap();
                for _ in 0..2 {
                    optimizer.step(&mut [Parameter::slice(&mut w, Some(&g))]).unwrap();
                }
                made = Some(optimizer);
            });
            (info, made.unwrap())
        });
        let most = info.bytes_max as usize - optimizer.state_bytes();
        let accounted = optimizer.workspace_bytes();
        assert!(
            most < accounted + (64 << 10),
            "{shape:?}: {most} bytes beside the state, {accounted} accounted for"
        );
        // Twice the row and column sums, of which the second are roots; a chunk's part of them; tiles.
        let mut axes = shape.to_vec();
        axes.sort_unstable();
        let [second, largest] = [axes[axes.len() - 2], axes[axes.len() - 1]];
        let (sums, chunk) = (len / largest + len / second, 1 << 19);
        let part = sums.min(2 * chunk);
        assert!(accounted < 4 * (2 * sums + part) + (256 << 10), "{shape:?}: {accounted} bytes of workspace");
    }
}

#[test]
fn threads_need_a_part_of_the_sums_each_and_not_all_of_them() {
    for shape in LONG {
        let len: usize = shape.iter().product();
        let (mut w, g) = (vec![1.0_f32; len], vec![0.1_f32; len]);
        let workspace = |threads, w: &mut Vec<f32>| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut optimizer = Options::default().build([("w", shape)]).unwrap();
                optimizer.step(&mut [Parameter::slice(w, Some(&g))]).unwrap();
                optimizer.workspace_bytes()
            })
        };
        let [one, eight] = [1, 8].map(|threads| workspace(threads, &mut w));
        // All chunks at once are the whole tensor, of which each adds to no more than its own elements' sums.
        assert!(eight < one + 4 * len + 8 * (256 << 10), "{shape:?}: {one} and {eight} bytes");
    }
}

#[test]
fn a_gradient_is_counted_by_its_own_type() {
    let step = |wide: bool| {
        let mut optimizer: Optimizer =
            Optimizer::new(gradient_transform::Descent::default(), [("w", &[1000][..])]).unwrap();
        let mut w = vec![bf16::ONE; 1000];
        let (single, half) = (vec![0.5_f32; 1000], vec![bf16::ONE; 1000]);
        let parameter = Parameter::slice(&mut w, None);
        let parameter = if wide { parameter.with_gradient(&single) } else { parameter.with_gradient(&half) };
        optimizer.step(&mut [parameter]).unwrap();
        optimizer.planned_traffic().0
    };
    assert_eq!((step(false), step(true)), (1000 * (2 + 4), 1000 * (4 + 4)));
}

/// `count` groups of one small parameter each.
fn groups(count: usize, options: &Options) -> Steady<f32> {
    let names: Vec<String> = (0..count).map(|i| format!("layers.{i}.weight")).collect();
    let group = |name: &String| (options.clone(), vec![(name.clone(), &[4, 3][..])]);
    let optimizer = options.build_groups(names.iter().map(group)).unwrap();
    let mut steady =
        Steady { optimizer, values: vec![vec![0.5; 12]; count], gradients: vec![vec![0.1; 12]; count] };
    (0..3).for_each(|_| steady.step());
    steady
}

#[test]
fn a_steady_step_allocates_nothing_however_many_groups_there_are() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let options = Options::default();
    let policies =
        [options.clone(), options.clone().split_groups_mean(false), options.clone().split_groups(false)];
    for (policy, options) in policies.iter().enumerate() {
        let counts = pool.install(|| [3, 100].map(|count| groups(count, options).allocations()));
        assert_eq!(counts, [0, 0], "policy {policy}");
    }
}

/// Counts how often a chain with it is taken apart.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Link<f32> for Counted {
    fn name(&self) -> &str {
        "counted"
    }

    fn guards_members(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        false
    }
}

#[test]
fn a_step_looks_at_a_group_as_often_whatever_their_number() {
    let looks = |count: usize| {
        let looks = Arc::new(AtomicUsize::new(0));
        let group = |i: usize| {
            let chain = (Counted(Arc::clone(&looks)), Descent::default());
            ParameterGroup::new(chain, [(i.to_string(), &[1][..])])
        };
        let mut optimizer: Optimizer =
            Optimizer::with_groups((0..count).map(group), Settings::default()).unwrap();
        let (mut values, gradient) = (vec![[0.5_f32]; count], [0.1_f32]);
        let mut parameters: Vec<Parameter<'_>> =
            values.iter_mut().map(|value| Parameter::slice(value, Some(&gradient))).collect();
        looks.store(0, Ordering::Relaxed);
        optimizer.step(&mut parameters).unwrap();
        looks.load(Ordering::Relaxed)
    };
    let one = looks(1);
    assert!(one <= 5, "{one} looks");
    assert_eq!([looks(10), looks(1000)], [10 * one, 1000 * one]);
}

#[test]
fn adding_a_group_costs_the_same_whatever_there_is_already() {
    let bytes = |count: usize| {
        let names: Vec<String> = (0..count).map(|i| i.to_string()).collect();
        let made = names.iter().map(|name| ParameterGroup::new(Descent::default(), [(name, &[1][..])]));
        let made: Vec<ParameterGroup> = made.collect();
        let mut optimizer: Optimizer = Optimizer::with_groups([], Settings::default()).unwrap();
        let info = measure(|| made.into_iter().for_each(|group| optimizer.add_group(group).unwrap()));
        [info.count_total, info.bytes_total].map(|total| total as f64 / count as f64)
    };
    let [few, many] = [bytes(250), bytes(4000)];
    // Lists that grow are copied now and then.
    assert!(many[0] < few[0] + 1.0, "{} and {} allocations a group", few[0], many[0]);
    assert!(many[1] < few[1] * 1.5, "{} and {} bytes a group", few[1], many[1]);
}

/// What saving and restoring one group of many small parameters costs for each: allocations, and bytes of the file's header.
fn of_checkpoints(count: usize) -> [(&'static str, f64); 5] {
    let names: Vec<String> = (0..count).map(|i| format!("layers.{i}.weight")).collect();
    let build =
        || -> Optimizer { Options::default().build(names.iter().map(|name| (name, &[10][..]))).unwrap() };
    let mut optimizer = build();
    let (mut values, gradient) = (vec![[0.5_f32; 10]; count], [0.1_f32; 10]);
    let mut parameters: Vec<Parameter<'_>> =
        values.iter_mut().map(|value| Parameter::slice(value, Some(&gradient))).collect();
    optimizer.step(&mut parameters).unwrap();
    let (snapshot, bytes) = (optimizer.snapshot(), checkpoint::to_bytes(&optimizer).unwrap());
    let [mut restored, mut loaded] = [build(), build()];
    let per_parameter = |f: &mut dyn FnMut()| measure(f).count_total as f64 / count as f64;
    let mut snapshot = Some(snapshot);
    [
        ("borrowing", per_parameter(&mut || drop(optimizer.borrowed_snapshot()))),
        ("writing", per_parameter(&mut || drop(checkpoint::to_bytes(&optimizer).unwrap()))),
        ("restoring", per_parameter(&mut || drop(restored.restore(snapshot.take().unwrap()).unwrap()))),
        ("reading", per_parameter(&mut || drop(checkpoint::from_bytes(&bytes, &mut loaded).unwrap()))),
        ("bytes of the header", u64::from_le_bytes(bytes[..8].try_into().unwrap()) as f64 / count as f64),
    ]
}

#[test]
fn a_checkpoint_of_many_small_parameters_costs_little_for_each() {
    let (few, many) = (of_checkpoints(250), of_checkpoints(4000));
    // Four arrays of state, with a key and a place each. The header has the name twice.
    let limits = [9.0, 13.0, 13.0, 27.0, 80.0];
    for (((what, few), (_, many)), limit) in few.into_iter().zip(many).zip(limits) {
        assert!(many < few + 1.0 && many < limit, "{what}: {few} and {many} for each");
    }
}
