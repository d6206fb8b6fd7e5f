//! Each included transform on its own, on one float32 tensor that is larger than any second-level cache, with
//! its defaults and a few variations.
//!
//! Those that need one have a writer after or before them, so the rows of `descent` and `schedule-free` are what to subtract. Rayon's
//! threads are all there are, or `RAYON_NUM_THREADS`.
#![allow(missing_docs)] // Criterion's macros make public items

use std::time::Duration;

use ablate::registry::{Registry, WRAPPED};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use gradient_transform::{Descent, Link, Loss, NonFinite, Optimizer, ParameterGroup, Settings, map, rescale};
use schedule_free::ScheduleFree;
use serde_json::{Value, json};
use step_bench::bench::{Problem, named};

type Boxed = Box<dyn Link<f32>>;

/// Transforms with other options than their defaults.
fn variations() -> Vec<(&'static str, Value)> {
    let atan2 = |moment: &str| json!({ "transform": moment, "division": "atan2" });
    let decay = |writer: &str| json!({ "transform": writer, "weight_decay": 0.01 });
    vec![
        ("descent with weight decay", decay("descent")),
        ("schedule-free with weight decay", decay("schedule-free")),
        ("dense-moment by atan2", atan2("dense-moment")),
        ("factored-moment by atan2", atan2("factored-moment")),
        (
            "adopt of a factored moment",
            json!({ "transform": "adopt", "moment": { "transform": "factored-moment" } }),
        ),
    ]
}

/// By name, how each is made. Wrappers have the cheapest transform inside.
fn transforms() -> Vec<(String, Box<dyn Fn() -> Boxed>)> {
    let mut described = Vec::new();
    for kind in Registry::shipped().transforms() {
        let mut options = json!({ "transform": kind.name });
        if kind.defaults.get(WRAPPED).is_some() {
            options[WRAPPED] = "sign".into();
            options["least_rank"] = 1.into();
        }
        described.push((kind.name.clone(), options));
    }
    described.extend(variations().into_iter().map(|(name, options)| (name.to_owned(), options)));
    let mut made: Vec<(String, Box<dyn Fn() -> Boxed>)> = Vec::new();
    for (name, options) in described {
        made.push((
            name,
            Box::new(move || Registry::shipped().transform(&options).expect("it ships with these options")),
        ));
    }
    made.push(("map".into(), Box::new(|| Box::new(map!("clip", |u| u.max(-1.0).min(1.0))))));
    let unit = || -> Boxed { Box::new(rescale!("unit", |u| u * u, |sum, n| (n / sum.max(1e-30)).sqrt())) };
    made.push(("rescale".into(), Box::new(unit)));
    made
}

/// The first valid of the chains that a transform can be the measured part of: before a writer, after one, or the writer itself.
fn optimizer(make: &dyn Fn() -> Boxed, shapes: &[Vec<usize>]) -> Optimizer {
    // The check of gradients costs the same in every row, and more than some of the transforms.
    let settings = Settings { non_finite: NonFinite::Unchecked, ..Settings::default() };
    let built =
        |chain: Boxed| Optimizer::with_groups([ParameterGroup::new(chain, named(shapes)).lr(1e-3)], settings);
    let before = built(Box::new((make(), Descent::default())));
    let behind = || built(Box::new((ScheduleFree::default(), make())));
    before.or_else(|_| behind()).or_else(|_| built(make())).expect("one of the chains is valid")
}

fn benchmarks(criterion: &mut Criterion) {
    let shapes = [vec![1024, 1024]];
    let mut group = criterion.benchmark_group("transforms");
    group
        .throughput(Throughput::Elements(1 << 20))
        // Muon takes a thousand times as long as the others: no sample may need more than one step.
        .sampling_mode(SamplingMode::Flat)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    for (name, make) in transforms() {
        let mut optimizer = optimizer(&*make, &shapes);
        let mut problem = Problem::<f32>::random(&shapes, |x| x);
        let mut parameters = problem.parameters();
        group.bench_function(name, |bench| {
            bench.iter(|| optimizer.step_with(Loss(1.0), &mut parameters).expect("the step is done"));
        });
    }
    group.finish();
}

criterion_group!(benches, benchmarks);
criterion_main!(benches);
