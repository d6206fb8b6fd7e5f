//! Named chains as one loop.

use gradient_transform::{Link, Optimizer, Parameter, fused};

fn run(chain: impl Link<f32> + 'static) -> Vec<Vec<f32>> {
    let shapes = [("w", &[70, 33][..]), ("b", &[1500][..])];
    let mut optimizer = Optimizer::new(chain, shapes).unwrap();
    optimizer.set_lr(0, 0.01).unwrap();
    let mut values: Vec<Vec<f32>> =
        [70 * 33, 1500].map(|n| (0..n).map(|i| (i as f32).cos()).collect()).into();
    for step in 0..8 {
        let gradients: Vec<Vec<f32>> =
            values.iter().map(|v| v.iter().map(|y| y + (step as f32 * y).sin()).collect()).collect();
        let mut parameters: Vec<Parameter<'_>> =
            values.iter_mut().zip(&gradients).map(|(v, g)| Parameter::slice(v, Some(g))).collect();
        optimizer.step(&mut parameters).unwrap();
    }
    values
}

macro_rules! the_same_bits {
    ($($name:ident)+) => {$(
        #[test]
        fn $name() {
            let (by_links, in_one_loop) = (run(::named_optimizers::$name()), run(fused(::named_optimizers::$name())));
            assert!(by_links.iter().flatten().all(|y| y.is_finite()));
            assert_eq!(by_links, in_one_loop);
        }
    )+};
}

the_same_bits!(sgd adamw radam lion lamb lars ademamix mars c_adamw novograd dog l_dog adafactor);
