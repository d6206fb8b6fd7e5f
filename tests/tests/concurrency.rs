//! Who may hand what to which thread, and many optimizers at work at once, within a caller's pool and without one.

use gradient_transform::{
    Buffer, Descent, Error, Optimizer, Parameter, ParameterGroup, Restored, Settings, Snapshot, StepContext,
    StepInProgress, StepOutcome,
};
use half::bf16;
use prodigy_plus::{Compat, Options};

fn can_go_to_another_thread<T: Send>() {}
fn can_be_looked_at_by_several_threads<T: Sync>() {}

/// Compiled or not, this is the test.
#[test]
fn everything_can_go_to_another_thread_and_be_looked_at_by_several() {
    macro_rules! both {
        ($($type:ty),+ $(,)?) => {
            $(
                can_go_to_another_thread::<$type>();
                can_be_looked_at_by_several_threads::<$type>();
            )+
        };
    }
    both!(Optimizer<f32>, Optimizer<f64>, ParameterGroup<f32>, ParameterGroup<f64>);
    both!(Parameter<'static>, StepInProgress<'static, f32>, StepInProgress<'static, f64>);
    both!(Snapshot, Restored, Buffer, Settings, StepContext, StepOutcome, Error);
    both!(Options, Compat, Descent);
    both!(factored_moment::FactoredMoment, factored_moment::DenseMoment, factored_moment::Rectify);
    both!(adopt::Adopt<factored_moment::DenseMoment>, focus::Focus, muon_pp::Muon, orthograd::OrthoGrad);
    both!(stableadamw::StableAdamW, prodigy_core::Prodigy, speed::Speed, schedule_free::ScheduleFree);
    both!(cautious::Cautious, grams::Grams, checkpoint::Error);
}

/// Large enough for several chunks, so that a step wants other threads.
const SIZE: usize = (1 << 20) + 5;

/// Two steps of an optimizer of its own; the seed makes it differ from others.
fn train(seed: u64) -> Vec<u16> {
    let options = Options::default().seed(seed).d0(1e-3).use_orthograd(true);
    let mut optimizer = options.build([("w", &[SIZE][..]), ("b", &[3])]).unwrap();
    let value = |i: usize| bf16::from_f32((i % 13) as f32 / 13.0 + 0.1);
    let (mut w, mut b): (Vec<bf16>, Vec<bf16>) =
        ((0..SIZE).map(value).collect(), (0..3).map(value).collect());
    let (by_w, by_b) = (w.iter().rev().copied().collect::<Vec<_>>(), b.clone());
    for _ in 0..2 {
        let mut parameters = [Parameter::slice(&mut w, Some(&by_w)), Parameter::slice(&mut b, Some(&by_b))];
        assert_eq!(optimizer.step(&mut parameters), Ok(StepOutcome::Done));
    }
    w.iter().chain(&b).map(|value| value.to_bits()).collect()
}

#[test]
fn optimizers_on_every_thread_of_a_pool_do_not_wait_for_each_other() {
    let alone: Vec<Vec<u16>> = (0..6).map(train).collect();
    assert_ne!(alone[0], alone[1]);
    for threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut results = vec![Vec::new(); alone.len()];
        pool.scope(|scope| {
            for (seed, result) in results.iter_mut().enumerate() {
                scope.spawn(move |_| *result = train(seed as u64));
            }
        });
        assert!(results == alone, "{threads} threads");
    }
}

#[test]
fn optimizers_on_threads_of_their_own_share_the_global_pool() {
    let alone: Vec<Vec<u16>> = (0..4).map(train).collect();
    let together: Vec<Vec<u16>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..4).map(|seed| scope.spawn(move || train(seed))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert!(together == alone);
}

#[test]
fn an_optimizer_goes_on_where_it_was_on_another_thread() {
    let step = |optimizer: &mut Optimizer, w: &mut [f32]| {
        let gradient = w.to_vec();
        optimizer.step(&mut [Parameter::slice(w, Some(&gradient))]).unwrap();
    };
    let make = || -> Optimizer { Options::default().build([("w", &[40, 33][..])]).unwrap() };
    let (mut here, mut w) = (make(), vec![1.0; 1320]);
    let (mut there, mut v) = (make(), w.clone());
    for _ in 0..4 {
        step(&mut here, &mut w);
        (there, v) = std::thread::spawn(move || {
            step(&mut there, &mut v);
            (there, v)
        })
        .join()
        .unwrap();
    }
    assert_eq!(v, w);
    assert_eq!(there.snapshot(), here.snapshot());
}
