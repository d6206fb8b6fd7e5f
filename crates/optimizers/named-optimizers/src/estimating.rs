use elementary::{Adam, AdamMoment, DistanceOverGradients};
use gradient_transform::{Descent, SumsOver};
use prodigy_core::{Prodigy, Samples};
use schedule_free::ScheduleFree;

/// Prodigy (2306.06101, algorithm 4): Adam, and the estimate of the step size from all elements. Learning rate 1.
///
/// The estimate is that of the crate `prodigy-core`, whose terms have the weight `sqrt(d)`; those of the
/// paper's code have `d^2/d0`. The two give the same trajectory until d has moved, and then grow differently.
///
/// ```
/// use gradient_transform::{Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new(named_optimizers::prodigy(), [("w", &[2][..])])?;
/// let mut w = [1.0_f32, -1.0];
/// for _ in 0..50 {
///     let gradient = w;
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
/// }
/// assert!(optimizer.estimate(0)?.d > 1e-3); // from 1e-6
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn prodigy() -> (Adam, Prodigy, Descent) {
    let beta3 = 0.999_f64.sqrt();
    let prodigy = Prodigy { samples: Samples { every: 1, ..Samples::new(beta3) }, ..Prodigy::new(beta3) };
    (Adam::default(), prodigy, Descent::default())
}

/// Schedule-Free descent (2405.15682). Learning rate 1.
///
/// ```
/// assert_eq!(named_optimizers::schedule_free_sgd().beta1, 0.9);
/// ```
pub fn schedule_free_sgd() -> ScheduleFree {
    ScheduleFree::default()
}

/// Schedule-Free AdamW (2405.15682): the interpolation replaces the first moment. Learning rate 2.5e-3.
///
/// ```
/// let mut chain = named_optimizers::schedule_free_adamw();
/// chain.1.weight_decay = 0.01;
/// assert_eq!(chain.0.beta2, 0.999);
/// ```
pub fn schedule_free_adamw() -> (AdamMoment, ScheduleFree) {
    (AdamMoment::default(), ScheduleFree::default())
}

/// DoG (2302.12022): descent whose step size is the distance covered divided by the root of the sum of
/// squared gradients, over all tensors together. Learning rate 1.
///
/// ```
/// use gradient_transform::{Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new(named_optimizers::dog(), [("w", [2])])?;
/// let mut w = [1.0_f32, -1.0];
/// for _ in 0..400 {
///     let gradient = w;
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
/// }
/// assert!(w[0] < 0.9); // its first step was of 2e-6
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn dog() -> (DistanceOverGradients, Descent) {
    (DistanceOverGradients { over: SumsOver::All, ..DistanceOverGradients::default() }, Descent::default())
}

/// L-DoG (2302.12022): [`dog`] for each tensor on its own. Learning rate 1.
///
/// ```
/// assert_eq!(named_optimizers::l_dog().0.relative, 1e-6);
/// ```
pub fn l_dog() -> (DistanceOverGradients, Descent) {
    (DistanceOverGradients::default(), Descent::default())
}
