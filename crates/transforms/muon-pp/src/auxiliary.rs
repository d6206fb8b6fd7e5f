use gradient_transform::{Link, Real, TensorInfo};

use crate::Muon;

/// A chain for the tensors that a [`Muon`] beside it leaves alone: vectors, and those that `except` names.
///
/// Made by [`Muon::auxiliary`]. Both have the learning rate of their group. [`Scale::MatchAdam`](crate::Scale::MatchAdam) makes
/// updates about as large as Adam's, so that one serves both; or put them into groups of their own.
///
/// ```
/// use elementary::{Adam, WeightDecay};
/// use gradient_transform::{Descent, Optimizer};
/// use muon_pp::{Auxiliary, Muon, Scale};
///
/// let muon = Muon { except: &["embedding", "head"], scale: Scale::MatchAdam, ..Muon::default() };
/// let mut adam: Auxiliary<Adam> = muon.auxiliary(Adam::default());
/// adam.chain.beta2 = 0.95;
/// let chain = (muon, adam, WeightDecay { rate: 0.1, ..WeightDecay::default() }, Descent::default());
///
/// let shapes = [("embedding", &[50, 8][..]), ("hidden", &[8, 8][..]), ("bias", &[8][..]), ("head", &[50, 8][..])];
/// let mut optimizer = Optimizer::new(chain, shapes)?;
/// optimizer.set_lr(0, 1e-3)?;
/// # let mut values = shapes.map(|(_, shape)| vec![0.1_f32; shape.iter().product()]);
/// # let gradients = values.clone();
/// # let mut parameters: Vec<gradient_transform::Parameter<'_>> = values
/// #     .iter_mut()
/// #     .zip(&gradients)
/// #     .map(|(value, gradient)| gradient_transform::Parameter::slice(value, Some(gradient)))
/// #     .collect();
/// optimizer.step(&mut parameters)?;
///
/// let state = optimizer.snapshot();
/// let kept = |name: &str| state.tensors[name].arrays.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
/// assert_eq!(kept("hidden"), "muon/momentum");
/// for name in ["embedding", "bias", "head"] {
///     assert_eq!(kept(name), "adam/m, adam/v");
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Auxiliary<C> {
    /// The chain.
    pub chain: C,
    /// Names that are left out, as `except` of the Muon beside it has them; where the two differ, tensors have both chains or neither.
    pub except: &'static [&'static str],
}

impl Muon {
    /// `chain` for the tensors that this leaves alone.
    pub fn auxiliary<C>(&self, chain: C) -> Auxiliary<C> {
        Auxiliary { chain, except: self.except }
    }
}

impl<T: Real, C: Link<T>> Link<T> for Auxiliary<C> {
    fn name(&self) -> &str {
        self.chain.name()
    }

    fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Link<T>)) -> bool {
        visit(&self.chain);
        true
    }

    fn applies(&self, tensor: &TensorInfo) -> bool {
        !Muon { except: self.except, ..Muon::default() }.orthogonalises(tensor)
    }

    fn guards_members(&self) -> bool {
        true
    }
}
