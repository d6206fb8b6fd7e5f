//! Weights that begin at 0, as LoRA's second matrices do: nothing is kept of where they began.

use gradient_transform::{Descent, Optimizer, Parameter};
use prodigy_core::Prodigy;

const SHAPE: [usize; 2] = [64, 33];
const LEN: usize = 64 * 33;

fn optimizer() -> Optimizer {
    let prodigy = Prodigy { d0: 1e-3, ..Prodigy::default() };
    Optimizer::new((prodigy, Descent::default()), [("w", SHAPE)]).unwrap()
}

fn steps(optimizer: &mut Optimizer, w: &mut [f32], range: std::ops::Range<usize>) {
    for t in range {
        let gradient: Vec<f32> =
            (0..LEN).map(|i| 0.2 * ((i * 7 + t * 3) as f32).sin() - 1.0 + w[i]).collect();
        let _ = optimizer.step(&mut [Parameter::slice(w, Some(&gradient))]).unwrap();
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn nothing_is_kept_of_weights_that_begin_at_zero_and_no_bit_changes() {
    let (mut at_zero, mut elsewhere) = (optimizer(), optimizer());
    let (mut w, mut v) = ([0.0_f32; LEN], [0.0_f32; LEN]);
    v[LEN - 1] = f32::MIN_POSITIVE; // no sample, or one that vanishes in the rounding of the gradients
    v[0] = f32::MIN_POSITIVE;
    steps(&mut at_zero, &mut w, 0..20);
    steps(&mut elsewhere, &mut v, 0..20);
    assert!(at_zero.estimate(0).unwrap().d > 1e-3);
    assert_eq!(bits(&w), bits(&v));
    let samples = elsewhere.snapshot().tensors["w"].arrays["prodigy/p0"].len();
    assert!(samples >= LEN / 16);
    assert_eq!(at_zero.snapshot().tensors["w"].arrays["prodigy/p0"].len(), 0);
}

#[test]
fn a_run_that_began_at_zero_goes_on_to_the_bit_from_a_snapshot() {
    let mut whole = optimizer();
    let mut w = [0.0_f32; LEN];
    steps(&mut whole, &mut w, 0..12);
    let (snapshot, middle) = (whole.snapshot(), w);
    steps(&mut whole, &mut w, 12..20);
    let mut resumed = optimizer();
    resumed.restore(snapshot).unwrap();
    let mut v = middle;
    steps(&mut resumed, &mut v, 12..20);
    assert_eq!(bits(&w), bits(&v));
    assert_eq!(whole.snapshot(), resumed.snapshot());
}
