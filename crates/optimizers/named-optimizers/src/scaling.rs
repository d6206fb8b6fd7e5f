use ::adopt::Adopt;
use elementary::{AdaDelta, AdaGrad, ClipByNorm, ClipByValue, Ema, ParameterScale, Size};
use factored_moment::{DenseMoment, Division, FactoredMoment, RisingDecay};
use gradient_transform::Descent;

/// AdaGrad (JMLR 2011), as PyTorch's. Learning rate 0.01.
///
/// ```
/// assert_eq!(named_optimizers::adagrad().0.eps, 1e-10);
/// ```
pub fn adagrad() -> (AdaGrad, Descent) {
    (AdaGrad::default(), Descent::default())
}

/// Adafactor (1804.04235, algorithm 4), without momentum: division by a factored moment whose decay is `1 - k^-0.8`, clipping by the root mean
/// square, and steps relative to the size of the weights. Learning rate 0.01, of the weights' size.
///
/// The paper's learning rate is `min(0.01, 1/sqrt(k))`, which is a schedule. It adds 1e-30 to squares, and this to their root. Matrices are
/// factored from an axis of 32 elements on.
///
/// ```
/// use gradient_transform::Optimizer;
///
/// let optimizer = Optimizer::new(named_optimizers::adafactor(), [("w", [64, 48])])?;
/// assert_eq!(
///     optimizer.describe_chain(0, &[64, 48])?,
///     "rising-decay | factored-moment ‖ | clip-by-norm ‖ | parameter-scale ‖ | descent",
/// );
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn adafactor() -> (RisingDecay, FactoredMoment, ClipByNorm, ParameterScale, Descent) {
    let moment = FactoredMoment { division: Division::Epsilon(1e-30), ..FactoredMoment::new(0.99) };
    let clip = ClipByNorm { of: Size::RootMeanSquare, ..ClipByNorm::default() };
    (RisingDecay::default(), moment, clip, ParameterScale::default(), Descent::default())
}

/// AdaDelta (1212.5701), as PyTorch's. Learning rate 1.
///
/// ```
/// assert_eq!(named_optimizers::adadelta().0.rho, 0.9);
/// ```
pub fn adadelta() -> (AdaDelta, Descent) {
    (AdaDelta::default(), Descent::default())
}

/// RMSprop, as PyTorch's: a decay of 0.99, eps outside of the root, nothing debiased. Learning rate 0.01.
///
/// For the centred form, replace its moment by `elementary::CentredRms`; for momentum, put
/// `elementary::Momentum` after it.
///
/// ```
/// assert_eq!(named_optimizers::rmsprop().0.beta2, 0.99);
/// ```
pub fn rmsprop() -> (DenseMoment, Descent) {
    (DenseMoment::new(0.99), Descent::default())
}

/// ADOPT (2411.02853, algorithm 2): division by the moment before this step's gradient, clipping, then the average. Learning rate 1e-3.
///
/// The paper divides by `max(sqrt(v), eps)`, and this by `sqrt(v) + eps`. The clip's limit is `t^(1/4)` with t the number of the gradient;
/// the authors' code starts to count a gradient later.
///
/// ```
/// use gradient_transform::Optimizer;
///
/// let optimizer = Optimizer::new(named_optimizers::adopt(), [("w", &[2][..])])?;
/// assert_eq!(optimizer.describe_chain(0, &[2])?, "dense-moment | clip-by-value | ema | descent");
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn adopt() -> (Adopt<DenseMoment>, ClipByValue, Ema, Descent) {
    let moment = DenseMoment { division: Division::Epsilon(1e-6), ..DenseMoment::new(0.9999) };
    let (clip, average) = (ClipByValue { limit: 1.0, growth: 0.25 }, Ema { beta: 0.9, debias: false });
    (Adopt::new(moment), clip, average, Descent::default())
}
