//! Random options, groups, shapes, schedules and missing gradients, for the tests that compare the engine with the oracle.

use conformance::pair::{Run, object};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, contextualize_config};
use serde_json::{Map, Value, json};

/// `cases` cases, the same in every run; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` ask for more and for others.
pub(crate) fn cases(cases: u32) -> Config {
    let fixed = Config { cases, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() };
    contextualize_config(Config { max_shrink_iters: 400, ..fixed })
}

/// The switches that are off by default.
const SWITCHES: [&str; 8] = [
    "use_bias_correction",
    "use_speed",
    "use_muon_pp",
    "use_cautious",
    "use_grams",
    "use_adopt",
    "use_orthograd",
    "use_focus",
];

pub(crate) fn shape() -> impl Strategy<Value = Vec<usize>> {
    let chosen: &[&[usize]] = &[
        &[],
        &[0],
        &[1],
        &[2],
        &[11],
        &[12],
        &[31],
        &[33],
        // around a tile, flat and as rows
        &[1023],
        &[1024],
        &[1025],
        &[2049],
        &[1, 2049],
        &[2049, 1],
        &[3, 1025],
        &[1025, 3],
        // around the size from which on a tensor is factored
        &[31, 31],
        &[31, 32],
        &[32, 31],
        &[32, 32],
        &[33, 33],
        &[1, 32],
        &[32, 1],
        &[2, 33],
        &[33, 2],
        &[0, 40],
        &[40, 0],
        &[7, 120],
        &[120, 7],
        &[40, 64],
        &[64, 40],
        // convolutions, in both orders, and other ranks
        &[8, 4, 3, 3],
        &[34, 8, 3, 3],
        &[8, 34, 3, 3],
        &[3, 3, 8, 34],
        &[3, 3, 34, 8],
        &[1, 1, 1, 33],
        &[35, 1, 3],
        &[3, 35, 5],
        &[5, 3, 35],
        &[2, 33, 3, 5],
        &[33, 2, 3, 34],
        &[2, 2, 2, 2, 33],
    ];
    let chosen: Vec<Vec<usize>> = chosen.iter().map(|shape| shape.to_vec()).collect();
    let any = prop::collection::vec(0..37usize, 0..4);
    prop_oneof![
        3 => select(chosen),
        1 => any.prop_map(|mut shape| {
            while shape.iter().product::<usize>() > 4000 {
                shape.pop();
            }
            shape
        }),
    ]
}

/// Options of the constructor. Those that exclude each other are sorted out.
fn options(d0: &'static [f64]) -> impl Strategy<Value = Map<String, Value>> {
    let numbers = (
        select(vec![0.5, 0.9, 0.95]),
        select(vec![0.0, 0.9, 0.99, 0.999]),
        select(vec![None, Some(0.0), Some(0.9)]),
        select(vec![(0.0, true), (0.1, true), (0.01, false)]),
        select(d0),
        select(vec![0.5, 1.0, 2.0]),
        select(vec![0, 0, 1, 4]),
        select(vec![Some(1e-8), Some(1e-8), Some(1e-3), None]),
        select(vec![1.0, 0.3]),
    );
    let switches = prop::collection::vec(prop::bool::weighted(0.25), SWITCHES.len());
    let rest = prop::collection::vec(any::<bool>(), 5);
    (numbers, switches, rest).prop_map(|(numbers, switches, rest)| {
        let (beta1, beta2, beta3, (decay, by_lr), d0, d_coef, prodigy_steps, eps, lr) = numbers;
        let mut options = object(json!({
            "lr": lr, "betas": [beta1, beta2], "beta3": beta3, "weight_decay": decay, "weight_decay_by_lr": by_lr,
            "d0": d0, "d_coef": d_coef, "prodigy_steps": prodigy_steps, "eps": eps,
            "split_groups": rest[0], "split_groups_mean": rest[1], "factored": rest[2], "factored_fp32": rest[3],
            "use_stableadamw": rest[4] && eps.is_some(),
        }));
        for (name, on) in SWITCHES.iter().zip(switches) {
            options.insert((*name).to_owned(), json!(on));
        }
        let on = |options: &Map<String, Value>, name: &str| options.get(name) == Some(&json!(true));
        let mut set = |name: &str, value: Value, unless: [&str; 1]| {
            if unless.iter().any(|other| on(&options, other)) {
                options.insert(name.to_owned(), value);
            }
        };
        set("use_grams", json!(false), ["use_cautious"]);
        set("factored", json!(false), ["use_focus"]);
        set("use_muon_pp", json!(false), ["use_focus"]);
        set("eps", json!(1e-8), ["use_focus"]);
        set("betas", json!([beta1, f64::max(beta2, 0.9)]), ["use_bias_correction"]);
        options
    })
}

/// What a group may have of its own.
pub(crate) fn own() -> impl Strategy<Value = Map<String, Value>> {
    let lr = prop::option::of(select(vec![0.5, 2.0]));
    let decay = prop::option::of(select(vec![0.0, 0.05]));
    let beta1 = prop::option::of(select(vec![0.8, 0.9]));
    let d0 = prop::option::of(select(vec![1e-3, 2e-3]));
    (lr, decay, beta1, d0).prop_map(|(lr, decay, beta1, d0)| {
        let mut own = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                own.insert(name.to_owned(), value);
            }
        };
        set("lr", lr.map(|v| json!(v)));
        set("weight_decay", decay.map(|v| json!(v)));
        set("betas", beta1.map(|v| json!([v, 0.99])));
        set("d0", d0.map(|v| json!(v)));
        own
    })
}

pub(crate) const STEPS: usize = 8;

pub(crate) fn run(d0: &'static [f64]) -> impl Strategy<Value = Run> {
    let groups = prop::collection::vec((1..4usize, own()), 1..4);
    (groups, options(d0)).prop_flat_map(|(groups, options)| {
        let count: usize = groups.iter().map(|(count, _)| count).sum();
        let missing = prop::collection::vec((1..STEPS + 1, 0..count), 0..5 * count);
        let schedule = select(vec![vec![], vec![], vec![0.0, 0.5, 1.0], vec![1.0, 0.1]]);
        let shapes = prop::collection::vec(shape(), count);
        (shapes, missing, schedule, select(vec![1e-3, 1.0, 30.0]), any::<u64>()).prop_map(
            move |(shapes, missing, schedule, gradient_size, seed)| Run {
                options: options.clone(),
                groups: groups.clone(),
                shapes,
                gradient_size,
                missing,
                schedule,
                seed,
            },
        )
    })
}

/// The same in the second line, with what that alone has.
pub(crate) fn second_run(d0: &'static [f64]) -> impl Strategy<Value = Run> {
    let strength = select(vec![0.0, 0.0, 0.5, 8.0, 200.0]);
    (run(d0), any::<bool>(), strength, any::<bool>()).prop_map(|(mut run, averages, strength, limited)| {
        run.options.extend(object(json!({
            "line": "2.0.1", "use_muon_pp": false, "d_limiter": limited,
            "use_schedulefree": averages, "schedulefree_c": strength,
        })));
        run
    })
}
