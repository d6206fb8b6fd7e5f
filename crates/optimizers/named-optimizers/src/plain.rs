use elementary::{GradientNoise, Lion, Momentum, Optimistic, Rprop, Sign, WeightDecay};
use gradient_transform::Descent;

/// Descent with heavy-ball momentum of 0.9. Without momentum it is [`Descent`]. PyTorch's `SGD`, optax's
/// `sgd`.
///
/// ```
/// use gradient_transform::{Optimizer, Parameter};
/// use named_optimizers::sgd;
///
/// let mut nesterov = sgd();
/// nesterov.0.nesterov = true;
/// let mut optimizer = Optimizer::new(nesterov, [("w", &[1][..])])?;
/// optimizer.set_lr(0, 0.1)?;
/// let mut w = [0.0_f32];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))])?;
/// assert!((w[0] + 0.19).abs() < 1e-6);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn sgd() -> (Momentum, Descent) {
    (Momentum::default(), Descent::default())
}

/// Descent by the sign of the gradient (1802.04434, algorithm 1). optax's `sign_sgd`.
///
/// ```
/// assert_eq!(format!("{:?}", named_optimizers::sign_sgd()), "(Sign, Descent { weight_decay: 0.0, weight_decay_by_lr: true, decays_first: false })");
/// ```
pub fn sign_sgd() -> (Sign, Descent) {
    (Sign, Descent::default())
}

/// Descent by the sign of the momentum (1802.04434, algorithm 2). optax's `signum`.
///
/// ```
/// assert_eq!(named_optimizers::signum().0.beta, 0.9);
/// ```
pub fn signum() -> (Momentum, Sign, Descent) {
    (Momentum::default(), Sign, Descent::default())
}

/// Lion (2302.06675) with optax's decay of 1e-3. Its learning rate is 3 to 10 times smaller than Adam's: 1e-4.
///
/// ```
/// assert_eq!(named_optimizers::lion().1.rate, 1e-3);
/// ```
pub fn lion() -> (Lion, WeightDecay, Descent) {
    (Lion::default(), WeightDecay { rate: 1e-3, ..WeightDecay::default() }, Descent::default())
}

/// Rprop, at the learning rate 1: the size of the first step is a separate option. PyTorch's
/// `Rprop`.
///
/// ```
/// assert_eq!(named_optimizers::rprop().0.initial, 0.01);
/// ```
pub fn rprop() -> (Rprop, Descent) {
    (Rprop::default(), Descent::default())
}

/// Optimistic descent (1711.00141). optax's `optimistic_gradient_descent`.
///
/// ```
/// assert_eq!(named_optimizers::optimistic_gradient_descent().0.beta, 1.0);
/// ```
pub fn optimistic_gradient_descent() -> (Optimistic, Descent) {
    (Optimistic::default(), Descent::default())
}

/// Descent with normal noise that dies out (1511.06807). optax's `noisy_sgd`, with other random numbers.
///
/// ```
/// assert_eq!(named_optimizers::noisy_sgd().0.gamma, 0.55);
/// ```
pub fn noisy_sgd() -> (GradientNoise, Descent) {
    (GradientNoise::default(), Descent::default())
}
