//! The loops that transforms are made of, on one tile: what they cost where memory costs nothing.
#![allow(missing_docs)] // Criterion's macros make public items

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gradient_transform::TILE;
use gradient_transform::kernel::{self, Prefetch, inlined};
use multiversion::multiversion;

/// Made to be inlined into such a function.
#[multiversion(targets = "simd")]
fn add_squares(sums: &mut [f32], a: &[f32]) -> f32 {
    let mut prefetch = Prefetch::resume();
    let sum = inlined::add_squares(sums, a, &mut prefetch);
    prefetch.suspend();
    sum
}

fn wave(frequency: f32) -> Vec<f32> {
    (0..TILE).map(|i| (i as f32 * frequency).sin()).collect()
}

fn kernels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kernels");
    group.throughput(Throughput::Elements(TILE as u64));
    let [a, b] = [0.37, 0.71].map(wave);
    let [mut u, mut v] = [0.11, 0.23].map(wave);

    // What is changed in place is changed over and over: every closure keeps it bounded, and away from subnormal numbers.
    group.bench_function("map", |bench| {
        bench.iter(|| kernel::map(black_box(&mut u), |u| 0.9 * u + 0.1));
    });
    group.bench_function("map2", |bench| {
        bench.iter(|| kernel::map2(black_box(&mut u), black_box(&a), |u, a| 0.9 * u + a));
    });
    group.bench_function("map2 of sign", |bench| {
        bench.iter(|| kernel::map2(black_box(&mut u), black_box(&a), |_, a| kernel::sign(a)));
    });
    group.bench_function("map2 of division by a root", |bench| {
        bench.iter(|| kernel::map2(black_box(&mut u), black_box(&a), |u, a| a / ((u * u).sqrt() + 1.0)));
    });
    group.bench_function("map3", |bench| {
        bench.iter(|| {
            kernel::map3(black_box(&mut u), black_box(&a), black_box(&b), |u, a, b| 0.9 * u + a * b);
        });
    });
    group.bench_function("map4", |bench| {
        let c = b.clone();
        bench.iter(|| {
            let (u, a, b, c) = (black_box(&mut u), black_box(&a), black_box(&b), black_box(&c));
            kernel::map4(u, a, b, c, |u, a, b, c| 0.5 * u + a * b + c);
        });
    });
    group.bench_function("update2", |bench| {
        bench.iter(|| {
            kernel::update2(
                black_box(&mut u),
                black_box(&mut v),
                black_box(&a),
                black_box(&b),
                |u, v, a, b| (0.9 * u + a, 0.9 * v + b),
            );
        });
    });
    group.bench_function("sum", |bench| bench.iter(|| kernel::sum(black_box(&a), |a| a * a)));
    group.bench_function("sum2", |bench| {
        bench.iter(|| kernel::sum2(black_box(&a), black_box(&b), |a, b| a * b));
    });
    group.bench_function("add_squares", |bench| {
        bench.iter(|| add_squares(black_box(&mut v), black_box(&a)));
    });
    group.finish();
}

criterion_group!(benches, kernels);
criterion_main!(benches);
