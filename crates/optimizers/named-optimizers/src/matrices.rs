use elementary::{Adam, WeightDecay};
use gradient_transform::Descent;
use muon_pp::{Auxiliary, Muon};

/// Muon (Jordan et al. 2024) in PyTorch's form for matrices, with its decay of 0.1, and Adam for vectors and
/// scalars. PyTorch's `Muon` and `Adam`, in one chain.
///
/// PyTorch's learning rate is 1e-3, that of the post 0.02, with Adam's at 3e-4. With
/// [`Scale::MatchAdam`](muon_pp::Scale::MatchAdam) AdamW's usual one fits all tensors. The post leaves embeddings and the output layer to
/// Adam, although they are matrices:
///
/// ```
/// use gradient_transform::Optimizer;
/// use muon_pp::Scale;
///
/// let (mut muon, adam, decay, descent) = named_optimizers::muon();
/// (muon.except, muon.scale) = (&["embedding", "head"], Scale::MatchAdam);
/// let chain = (muon, muon.auxiliary(adam.chain), decay, descent);
/// let optimizer = Optimizer::new(chain, [("w", &[2, 2][..])])?;
/// assert_eq!(optimizer.describe_chain(0, &[2, 2])?, "muon ‖ | adam | weight-decay | descent");
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn muon() -> (Muon, Auxiliary<Adam>, WeightDecay, Descent) {
    let muon = Muon::default();
    let decay = WeightDecay { rate: 0.1, least_rank: 2, ..WeightDecay::default() };
    (muon, muon.auxiliary(Adam::default()), decay, Descent::default())
}
