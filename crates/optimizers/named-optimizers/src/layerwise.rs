use elementary::{Adam, Momentum, NovoGrad, TrustRatio, WeightDecay};
use gradient_transform::Descent;

/// LARS (1708.03888) with a coefficient of 0.001, a decay of 1e-4 and momentum of 0.9.
///
/// In optax, as in the paper, the learning rate is inside the momentum. A change of the learning rate acts at
/// once here, and through the momentum there.
///
/// ```
/// use gradient_transform::Optimizer;
///
/// let mut chain = named_optimizers::lars();
/// (chain.0.least_rank, chain.1.least_rank) = (2, 2); // biases as in SGD
/// let optimizer = Optimizer::new(chain, [("w", &[2, 2][..])])?;
/// assert_eq!(optimizer.describe_chain(0, &[2, 2])?, "weight-decay | trust-ratio ‖ | momentum | descent");
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn lars() -> (WeightDecay, TrustRatio, Momentum, Descent) {
    let decay = WeightDecay { rate: 1e-4, ..WeightDecay::default() };
    let trust = TrustRatio { coefficient: 1e-3, ..TrustRatio::default() };
    (decay, trust, Momentum::default(), Descent::default())
}

/// LAMB (1904.00962) with an eps of 1e-6 and a decay of 0.01.
///
/// ```
/// use gradient_transform::Optimizer;
///
/// let optimizer = Optimizer::new(named_optimizers::lamb(), [("w", &[2, 2][..])])?;
/// assert_eq!(optimizer.describe_chain(0, &[2, 2])?, "adam | weight-decay | trust-ratio ‖ | descent");
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn lamb() -> (Adam, WeightDecay, TrustRatio, Descent) {
    let adam = Adam { eps: 1e-6, ..Adam::default() };
    (adam, WeightDecay::default(), TrustRatio::default(), Descent::default())
}

/// NovoGrad (1905.11286) with optax's defaults. Learning rate 0.01.
///
/// ```
/// assert_eq!(named_optimizers::novograd().0.beta2, 0.25);
/// ```
pub fn novograd() -> (NovoGrad, Descent) {
    (NovoGrad::default(), Descent::default())
}
