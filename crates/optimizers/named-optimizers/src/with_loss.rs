use elementary::Polyak;
use gradient_transform::Descent;

/// Descent with Polyak's step size, of at most 1 (2002.10542). Learning rate 1. optax's `polyak_sgd`.
///
/// Every step must be given the loss: [`Optimizer::step_with`](gradient_transform::Optimizer::step_with).
///
/// ```
/// use gradient_transform::{Loss, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new(named_optimizers::polyak_sgd(), [("w", [1])])?;
/// let mut w = [3.0_f32];
/// optimizer.step_with(Loss(4.5), &mut [Parameter::slice(&mut w, Some(&[3.0]))])?; // of w^2 / 2
/// assert_eq!(w, [1.5]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn polyak_sgd() -> (Polyak, Descent) {
    (Polyak::default(), Descent::default())
}
