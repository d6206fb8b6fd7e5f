use cautious::CautiousUpdate;
use elementary::{
    AdEMAMix, AdaBelief, AdaMax, Adam, Adan, AmsGrad, ClipByNorm, Mars, NAdam, RAdam, WeightDecay, Yogi,
};
use gradient_transform::Descent;
use grams::GramsUpdate;
use stableadamw::StableAdamW;

/// Adam (1412.6980). Learning rate 1e-3.
///
/// ```
/// use gradient_transform::Optimizer;
///
/// let mut chain = named_optimizers::adam();
/// chain.0.beta2 = 0.95;
/// let optimizer = Optimizer::new(chain, [("w", &[2][..])])?;
/// assert_eq!(optimizer.describe_chain(0, &[2])?, "adam | descent");
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn adam() -> (Adam, Descent) {
    (Adam::default(), Descent::default())
}

/// AdamW (1711.05101) with PyTorch's decay of 0.01. Learning rate 1e-3.
///
/// ```
/// use gradient_transform::Optimizer;
///
/// let mut chain = named_optimizers::adamw();
/// (chain.1.cautious, chain.1.least_rank) = (true, 2); // cautious decay, of matrices only
/// let optimizer = Optimizer::new(chain, [("w", &[2][..])])?;
/// assert_eq!(optimizer.describe_chain(0, &[2])?, "adam | weight-decay | descent");
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn adamw() -> (Adam, WeightDecay, Descent) {
    (Adam::default(), WeightDecay::default(), Descent::default())
}

/// AMSGrad (1904.09237), as PyTorch's `Adam(amsgrad=True)`. Learning rate 1e-3.
///
/// ```
/// assert!(!named_optimizers::amsgrad().0.of_debiased); // optax's is
/// ```
pub fn amsgrad() -> (AmsGrad, Descent) {
    (AmsGrad::default(), Descent::default())
}

/// NAdam, as PyTorch's. Learning rate 2e-3. optax's `nadam` is [`adam`] with `nesterov`.
///
/// ```
/// assert_eq!(named_optimizers::nadam().0.momentum_decay, 0.004);
/// ```
pub fn nadam() -> (NAdam, Descent) {
    (NAdam::default(), Descent::default())
}

/// RAdam (1908.03265). Learning rate 1e-3.
///
/// ```
/// assert_eq!(named_optimizers::radam().0.threshold, 5.0);
/// ```
pub fn radam() -> (RAdam, Descent) {
    (RAdam::default(), Descent::default())
}

/// AdaMax (1412.6980, algorithm 2). Learning rate 2e-3.
///
/// ```
/// assert_eq!(named_optimizers::adamax().0.beta2, 0.999);
/// ```
pub fn adamax() -> (AdaMax, Descent) {
    (AdaMax::default(), Descent::default())
}

/// AdaBelief (2010.07468). Learning rate 1e-3.
///
/// ```
/// assert_eq!(named_optimizers::adabelief().0.eps, 1e-16);
/// ```
pub fn adabelief() -> (AdaBelief, Descent) {
    (AdaBelief::default(), Descent::default())
}

/// Adan (2208.06677) without decay. Learning rate 1e-3.
///
/// ```
/// assert_eq!(named_optimizers::adan().0.beta2, 0.92);
/// ```
pub fn adan() -> (Adan, Descent) {
    (Adan::default(), Descent::default())
}

/// AdEMAMix (2409.03137) with the decay of the paper's experiments, 0.1. Learning rate 1e-3. Set `warm_up` to the length of the training.
///
/// ```
/// let mut chain = named_optimizers::ademamix();
/// chain.0.warm_up = 100_000;
/// assert_eq!(chain.1.rate, 0.1);
/// ```
pub fn ademamix() -> (AdEMAMix, WeightDecay, Descent) {
    (AdEMAMix::default(), WeightDecay { rate: 0.1, ..WeightDecay::default() }, Descent::default())
}

/// MARS-AdamW (2411.10438) in the cheap form: corrected and clipped gradients, betas of 0.95 and 0.99. Learning rate 3e-3.
///
/// ```
/// use gradient_transform::Optimizer;
///
/// let optimizer = Optimizer::new(named_optimizers::mars(), [("w", &[2][..])])?;
/// assert_eq!(optimizer.describe_chain(0, &[2])?, "mars | clip-by-norm ‖ | adam | weight-decay | descent");
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn mars() -> (Mars, ClipByNorm, Adam, WeightDecay, Descent) {
    let adam = Adam { beta1: 0.95, beta2: 0.99, ..Adam::default() };
    (Mars::default(), ClipByNorm::default(), adam, WeightDecay::default(), Descent::default())
}

/// C-AdamW: AdamW, masked where it disagrees with the gradient (2411.16085, algorithm 1). Learning rate 1e-3.
///
/// ```
/// use gradient_transform::Optimizer;
///
/// let optimizer = Optimizer::new(named_optimizers::c_adamw(), [("w", &[2][..])])?;
/// assert_eq!(optimizer.describe_chain(0, &[2])?, "adam | cautious-update ‖ | weight-decay | descent");
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn c_adamw() -> (Adam, CautiousUpdate, WeightDecay, Descent) {
    (Adam::default(), CautiousUpdate, WeightDecay::default(), Descent::default())
}

/// The size of Adam's update with the gradient's sign (2412.17107). Learning rate 1e-3.
///
/// ```
/// assert_eq!(named_optimizers::grams().2.rate, 0.01);
/// ```
pub fn grams() -> (Adam, GramsUpdate, WeightDecay, Descent) {
    (Adam::default(), GramsUpdate, WeightDecay::default(), Descent::default())
}

/// AdamW whose update is clipped by its root mean square, with betas of 0.9 and 0.99. Learning rate 1e-3.
///
/// The paper (2304.13013, algorithm 2) clips by the root mean square of `g / sqrt(v)`; here it is that of the
/// update, which contains the first moment.
///
/// ```
/// assert_eq!(named_optimizers::stableadamw().0.beta2, 0.99);
/// ```
pub fn stableadamw() -> (Adam, StableAdamW, WeightDecay, Descent) {
    (Adam { beta2: 0.99, ..Adam::default() }, StableAdamW, WeightDecay::default(), Descent::default())
}

/// Yogi (NeurIPS 2018). Learning rate 0.01.
///
/// ```
/// assert_eq!(named_optimizers::yogi().0.eps, 1e-3);
/// ```
pub fn yogi() -> (Yogi, Descent) {
    (Yogi::default(), Descent::default())
}
