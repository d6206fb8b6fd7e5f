//! Sums over the tensors of a group or of all groups, complete before any parameter moves.
//!
//! ```text
//! for every transform with such sums, in the order of the chains:
//!     every tensor: sweeps up to the one in which it measures
//!     total <- the tensors' sums, added in the order of the tensors
//!     every tensor: the total in place of its own sum
//! every tensor: the other sweeps, in the first of which the transform is finalized
//! ```

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::compose::stages;
use crate::element::Real;
use crate::error::{Error, Result};
use crate::group::Group;
use crate::tensor::Tensor;

/// Elements that a transform's sums are taken over: [`GradientTransform::sums_over`](crate::GradientTransform::sums_over).
///
/// Clipping by the global norm (Pascanu et al., 1211.5063):
///
/// ```
/// use gradient_transform::{
///     Backend, Context, Descent, Element, GradientTransform, Num, Optimizer, Parameter, SumsOver, fields, transform,
/// };
///
/// /// `u <- u / max(1, |u|/most)`, where `|u|` is the norm over all tensors.
/// #[derive(Clone, Debug)]
/// struct ClipByGlobalNorm {
///     most: f64,
/// }
///
/// #[fields]
/// struct Squares<V> {
///     squares: V,
/// }
///
/// #[fields]
/// struct Factor<V> {
///     factor: V,
/// }
///
/// #[transform("clip-by-global-norm")]
/// impl GradientTransform for ClipByGlobalNorm {
///     type Sums<V: Copy> = Squares<V>;
///     type Scalars<V: Copy> = Factor<V>;
///
///     fn sums_over(&self) -> SumsOver {
///         SumsOver::All
///     }
///
///     fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
///         Squares { squares: e.update.squared() }
///     }
///
///     fn finalize(&self, _cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Factor<f64>) {
///         scalars.factor = 1.0 / (sums.squares.sqrt() / self.most).max(1.0);
///     }
///
///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
///         e.update = e.scalars.factor * e.update;
///     }
/// }
///
/// let chain = (ClipByGlobalNorm { most: 1.0 }, Descent::default());
/// let mut optimizer: Optimizer = Optimizer::new(chain, [("w", &[1][..]), ("b", &[1][..])])?;
/// let (mut w, mut b) = ([0.0_f32], [0.0_f32]);
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0])), Parameter::slice(&mut b, Some(&[-4.0]))])?;
/// assert_eq!((w, b), ([-0.6], [0.8]));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SumsOver {
    /// The elements of each tensor.
    #[default]
    Tensor,
    /// Those of all tensors of the parameter group that have a gradient in the step, and to which the transform applies.
    Group,
    /// Those of all groups whose chain has a transform of this name.
    All,
}

/// The names of the transforms with sums over several tensors, in the order in which they are completed.
pub(crate) fn order<'g, T: Real>(groups: impl Iterator<Item = &'g Group<T>>) -> Result<Vec<String>> {
    let mut order: Vec<String> = Vec::new();
    for group in groups {
        let mut behind = 0;
        for stage in stages(&*group.chain).iter().filter(|stage| stage.sums_over() != SumsOver::Tensor) {
            let name = stage.name();
            match order.iter().position(|other| other == name) {
                Some(at) if at >= behind => behind = at + 1,
                Some(_) => {
                    return Err(Error::Excluded {
                        first: name.into(),
                        second: order[behind - 1].clone(),
                        reason: "both take sums over several tensors, and they stand in another order in another group; give all groups one order",
                    });
                }
                None => {
                    order.insert(behind, name.into());
                    behind += 1;
                }
            }
        }
    }
    Ok(order)
}

/// Puts the totals of the transform `name` in place of the tensors' own sums.
pub(crate) fn complete<T: Real>(name: &str, groups: &[Group<T>], tensors: &mut [Tensor<T>]) {
    type Totals = SmallVec<[f64; 8]>;
    let add = |totals: &mut Totals, tensors: &mut [Tensor<T>], stage: usize| {
        for sums in tensors.iter_mut().filter_map(|tensor| tensor.sums_of(stage)) {
            totals.resize(sums.len(), 0.0);
            totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += *sum);
        }
    };
    let put = |totals: &Totals, tensors: &mut [Tensor<T>], stage: usize| {
        tensors
            .iter_mut()
            .filter_map(|tensor| tensor.sums_of(stage))
            .for_each(|sums| sums.copy_from_slice(totals));
    };
    // A group's tensors stand together.
    type Visit<'v, T> = dyn FnMut(&mut [Tensor<T>], usize, SumsOver) + 'v;
    let of_groups = |tensors: &mut [Tensor<T>], f: &mut Visit<'_, T>| {
        for tensors in tensors.chunk_by_mut(|a, b| a.group == b.group) {
            let chain = stages(&*groups[tensors[0].group].chain);
            let stage = chain.iter().position(|stage| stage.name() == name);
            if let Some(stage) = stage {
                f(tensors, stage, chain[stage].sums_over());
            }
        }
    };
    let mut totals = Totals::new();
    of_groups(tensors, &mut |tensors, stage, over| match over {
        SumsOver::Tensor => {}
        SumsOver::Group => {
            let mut totals = Totals::new();
            add(&mut totals, tensors, stage);
            put(&totals, tensors, stage);
        }
        SumsOver::All => add(&mut totals, tensors, stage),
    });
    of_groups(tensors, &mut |tensors, stage, over| {
        if over == SumsOver::All {
            put(&totals, tensors, stage);
        }
    });
}
