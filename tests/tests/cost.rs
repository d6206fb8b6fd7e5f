//! What a step costs, counted and not timed: bytes by the engine's plan, sweeps, and allocations.

use std::fmt::Write;

use allocation_counter::measure;
use gradient_transform::{Element, Optimizer, Parameter};
use half::bf16;
use prodigy_plus::Options;
use serde_json::json;

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
        ("atan2", json!({"eps": null, "use_stableadamw": false})),
        ("weight decay", json!({"weight_decay": 0.1})),
        ("Muon", json!({"use_muon_pp": true})),
        ("without StableAdamW", json!({"use_stableadamw": false})),
    ]
    .into_iter()
    .map(|(name, options)| (name, serde_json::from_value(options).unwrap()))
    .collect()
}

/// An optimizer behind its first steps, and what it steps.
struct Steady<E> {
    optimizer: Optimizer,
    values: Vec<Vec<E>>,
    gradients: Vec<Vec<E>>,
}

impl<E: Element> Steady<E> {
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
