//! The full step with the default options.
//!
//! The chain as the builder makes it, boxed part by part; the same chain as a tuple of transforms; and that tuple with an expression of
//! the user's own before it, as links and as fused loops; and the first with a recorder that looks
//! at every tenth step, by a sample and at all elements. Rayon's threads are all there are, or `RAYON_NUM_THREADS`.
#![allow(missing_docs)] // Criterion's macros make public items

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use factored_moment::FactoredMoment;
use gradient_transform::{
    Fused, GradientTransform, Link, Optimizer, ParameterGroup, Recorder, Scalar, loops, map,
};
use half::bf16;
use prodigy_core::Prodigy;
use prodigy_plus::Options;
use schedule_free::ScheduleFree;
use stableadamw::StableAdamW;
use step_bench::bench::{Problem, named};
use step_bench::shapes::shapes;

fn tuple(options: &Options) -> impl Link<f32> + use<> {
    let (beta1, beta2) = options.betas;
    let prodigy = Prodigy::new(options.beta3_or_default());
    (FactoredMoment::new(beta2), StableAdamW, prodigy, ScheduleFree::new(beta1))
}

/// The tuple after `first`, each sweep of which is one loop: the estimator is not part of it.
fn fused<G: GradientTransform>(first: G, options: &Options) -> impl Link<f32> + use<G> {
    let all = loops::<(G, FactoredMoment, StableAdamW, ScheduleFree), f32>();
    Fused::new((first, tuple(options))).with(all)
}

fn optimizer(options: &Options, chain: impl Link<f32> + 'static, shapes: &[Vec<usize>]) -> Optimizer<f32> {
    let group = ParameterGroup::new(chain, named(shapes)).lr(options.lr);
    options.build_from([group]).expect("the chain is valid")
}

/// Stops with an error if the tuple is no longer what the default options make.
fn check_same<E: Scalar>(boxed: &mut Optimizer<f32>, tuple: &mut Optimizer<f32>, problem: &Problem<E>) {
    for optimizer in [&mut *boxed, &mut *tuple] {
        optimizer.step(&mut problem.clone().parameters()).expect("the step is done");
    }
    let chains = [&*boxed, tuple].map(|optimizer| {
        (optimizer.describe_chain(0, &[64, 64]).expect("there is a group"), optimizer.planned_traffic())
    });
    assert_eq!(chains[0], chains[1], "the chain of the default options has changed; change the tuple too");
}

fn steps<E: Scalar>(criterion: &mut Criterion, name: &str, shapes: &[Vec<usize>], convert: fn(f32) -> E) {
    let options = Options::default();
    let problem = Problem::random(shapes, convert);
    let clip = map!("clip", |u| u.max(-1.0).min(1.0));
    let mut boxed = options.build(named(shapes)).expect("the default options are valid");
    let mut plain = optimizer(&options, tuple(&options), shapes);
    check_same(&mut boxed, &mut plain, &problem);

    let recorder = Recorder::every(10).expect("it is more than none");
    let [sampled, recorded] = [recorder.clone(), recorder.all_elements()].map(|recorder| {
        let mut optimizer = options.build(named(shapes)).expect("the default options are valid");
        optimizer.set_recorder(Some(recorder));
        optimizer
    });

    let mut group = criterion.benchmark_group(name);
    let elements: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
    group
        .throughput(Throughput::Elements(elements as u64))
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    for (row, mut optimizer) in [
        ("boxed", boxed),
        ("boxed, recorded in every tenth step", sampled),
        ("boxed, recorded in every tenth step, all elements", recorded),
        ("tuple", plain),
        ("map, then tuple", optimizer(&options, (clip, tuple(&options)), shapes)),
        ("map, then tuple, fused", optimizer(&options, fused(clip, &options), shapes)),
    ] {
        let mut problem = problem.clone();
        let mut parameters = problem.parameters();
        group.bench_function(row, |bench| {
            bench.iter(|| optimizer.step(&mut parameters).expect("the step is done"));
        });
    }
    group.finish();
}

fn all(criterion: &mut Criterion) {
    // A twelfth of the GPT-like list: a few milliseconds a step, and yet more than the caches of one core hold.
    let gpt = [vec![vec![768, 768]; 2], vec![vec![3072, 768], vec![768, 3072]], vec![vec![768]; 4]].concat();
    let tiny = shapes("tiny").expect("it is a preset");
    for (name, shapes) in [("gpt", &gpt), ("tiny", &tiny)] {
        steps::<f32>(criterion, &format!("step {name} f32"), shapes, |x| x);
        steps::<bf16>(criterion, &format!("step {name} bf16"), shapes, bf16::from_f32);
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
