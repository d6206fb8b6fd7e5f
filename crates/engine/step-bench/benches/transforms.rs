//! Every transform alone, on one float32 tensor that fits no second-level cache.
//!
//! Those that need one have a writer behind or before them, so the first rows are what to subtract. Rayon's threads are all
//! there are, or `RAYON_NUM_THREADS`.
#![allow(missing_docs)] // Criterion's macros make public items

use std::time::Duration;

use adopt::Adopt;
use cautious::Cautious;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use factored_moment::{DenseMoment, Division, FactoredMoment, Rectify};
use focus::Focus;
use gradient_transform::{Descent, Link, NonFinite, Optimizer, ParameterGroup, Settings, map, rescale};
use grams::Grams;
use muon_pp::Muon;
use orthograd::OrthoGrad;
use prodigy_core::Prodigy;
use schedule_free::ScheduleFree;
use speed::Speed;
use stableadamw::StableAdamW;
use step_bench::bench::{Problem, named};

type Boxed = Box<dyn Link<f32>>;

const BETA2: f64 = 0.99;

/// Behind a transform that changes the update.
fn behind(transform: impl Link<f32> + 'static) -> Boxed {
    Box::new((transform, Descent::default()))
}

/// Before a transform that changes the displacement.
fn before(transform: impl Link<f32> + 'static) -> Boxed {
    Box::new((ScheduleFree::default(), transform))
}

fn chains() -> Vec<(&'static str, Boxed)> {
    let dense = DenseMoment::new(BETA2);
    let factored = FactoredMoment::new(BETA2);
    let beta3 = BETA2.sqrt();
    vec![
        ("descent", Box::new(Descent::default())),
        ("schedule-free", Box::new(ScheduleFree::default())),
        ("descent with weight decay", Box::new(Descent::with_decay(0.01))),
        ("schedule-free with weight decay", {
            Box::new(ScheduleFree { weight_decay: 0.01, ..ScheduleFree::default() })
        }),
        ("map", behind(map!("clip", |u| u.max(-1.0).min(1.0)))),
        ("rescale", behind(rescale!("unit", |u| u * u, |sum, n| (n / sum.max(1e-30)).sqrt()))),
        ("rectify, then dense moment", behind((Rectify::new(BETA2), dense))),
        ("dense moment", behind(dense)),
        ("dense moment by atan2", behind(DenseMoment { division: Division::Atan2, ..dense })),
        ("factored moment", behind(factored)),
        ("factored moment by atan2", behind(FactoredMoment { division: Division::Atan2, ..factored })),
        ("adopt of a dense moment", behind(Adopt::new(dense))),
        ("adopt of a factored moment", behind(Adopt::new(factored))),
        ("focus", behind(Focus::new(BETA2))),
        ("muon", behind(Muon::new(BETA2))),
        ("orthograd", behind(OrthoGrad::default())),
        ("stableadamw", behind(StableAdamW)),
        ("prodigy", behind(Prodigy::new(beta3))),
        ("speed", behind(Speed::new(beta3))),
        ("schedule-free, then cautious", before(Cautious::default())),
        ("schedule-free, then grams", before(Grams)),
    ]
}

fn transforms(criterion: &mut Criterion) {
    let shapes = [vec![1024, 1024]];
    let mut group = criterion.benchmark_group("transforms");
    group
        .throughput(Throughput::Elements(1 << 20))
        // Muon takes a thousand times as long as the others: no sample may need more than one step.
        .sampling_mode(SamplingMode::Flat)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    for (name, chain) in chains() {
        // The check of gradients costs the same in every row, and more than some of the transforms.
        let settings = Settings { non_finite: NonFinite::Unchecked, ..Settings::default() };
        let parameters = ParameterGroup::new(chain, named(&shapes)).lr(1e-3);
        let mut optimizer = Optimizer::with_groups([parameters], settings).expect("the chain is valid");
        let mut problem = Problem::<f32>::random(&shapes, |x| x);
        let mut parameters = problem.parameters();
        group.bench_function(name, |bench| {
            bench.iter(|| optimizer.step(&mut parameters).expect("the step is done"));
        });
    }
    group.finish();
}

criterion_group!(benches, transforms);
criterion_main!(benches);
