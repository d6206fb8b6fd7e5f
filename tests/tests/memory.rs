//! Memory, counted by the allocator: what the documentation promises, and what a freeze gives back.

use std::fmt::Write;

use allocation_counter::measure;
use gradient_transform::{Element, Optimizer, Parameter};
use half::bf16;
use prodigy_plus::Options;
use serde_json::{Value, json};

const SHAPE: [usize; 2] = [1024, 1024];
const PARAMETERS: usize = SHAPE[0] * SHAPE[1];

fn options(changes: Value) -> Options {
    serde_json::from_value(changes).unwrap()
}

/// An optimizer after some steps, and the bytes per parameter that it holds by the allocator and by its own account.
fn held<E: Element>(options: &Options, steps: usize, one: E, gradient: E) -> [f64; 2] {
    let (mut w, g) = (vec![one; PARAMETERS], vec![gradient; PARAMETERS]);
    // A thread of its own, so that all the work is on the thread whose allocations are counted.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        let mut made = None;
        let info = measure(|| {
            let mut optimizer: Optimizer = options.build([("w", &SHAPE[..])]).unwrap();
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
    let configurations = [
        ("default", json!({})),
        ("dense moment", json!({"factored": false})),
        ("ADOPT", json!({"use_adopt": true})),
        ("OrthoGrad", json!({"use_orthograd": true})),
        ("Cautious", json!({"use_cautious": true})),
        ("Grams", json!({"use_grams": true})),
        ("FOCUS", json!({"use_focus": true, "factored": false})),
        ("SPEED", json!({"use_speed": true})),
        ("atan2", json!({"eps": null, "use_stableadamw": false})),
        ("frozen", json!({"prodigy_steps": 2})),
    ];
    let mut table = format!("{:<14}{:>9}{:>10}\n", "", "float32", "bfloat16");
    for (name, changes) in configurations {
        let options = options(changes);
        let single = held(&options, 4, 1.0_f32, 0.1);
        let half = held(&options, 4, bf16::ONE, bf16::from_f32(0.1));
        for [counted, accounted] in [single, half] {
            // Tiles, sums and names are of no account beside a million parameters.
            assert!(
                counted >= accounted && counted < accounted + 0.15,
                "{name}: {counted} bytes per parameter are allocated, {accounted} accounted for"
            );
        }
        writeln!(table, "{name:<14}{:>9.2}{:>10.2}", single[1], half[1]).unwrap();
    }
    // AdamW keeps two moments: 8 bytes in float32.
    insta::assert_snapshot!(table);
}

#[test]
fn the_freeze_gives_the_estimators_memory_back() {
    let frozen = options(json!({"prodigy_steps": 3}));
    let before = held(&frozen, 2, 1.0_f32, 0.1)[0];
    let behind = held(&frozen, 5, 1.0_f32, 0.1)[0];
    let samples = 8.0 / 11.0;
    assert!((before - behind - samples).abs() < 0.01, "{before} before, {behind} behind");
}

#[test]
fn evaluation_copies_what_it_moves_and_not_what_is_frozen() {
    let (frozen, adapter) = ([1024, 1024], [1024, 4]);
    let mut optimizer: Optimizer =
        Options::default().build([("frozen", &frozen[..]), ("adapter", &adapter[..])]).unwrap();
    let (mut base, mut low) = (vec![1.0_f32; PARAMETERS], vec![1.0_f32; 1024 * 4]);
    let gradient = vec![0.1_f32; 1024 * 4];
    optimizer
        .step(&mut [Parameter::slice(&mut base, None), Parameter::slice(&mut low, Some(&gradient))])
        .unwrap();
    let info = measure(|| {
        let mut parameters = [Parameter::slice(&mut base, None), Parameter::slice(&mut low, None)];
        optimizer.eval(&mut parameters).unwrap();
    });
    let copied = 4 * 1024 * 4;
    assert!((copied..copied + 1024).contains(&info.bytes_current), "{} bytes", info.bytes_current);
}
