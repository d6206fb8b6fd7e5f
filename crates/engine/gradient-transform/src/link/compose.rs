//! Chains: tuples, options and boxes of transforms are transforms.

use std::fmt;
use std::ops::Deref;

use smallvec::SmallVec;

use crate::link::Link;
use crate::link::context::{StepContext, TensorInfo};
use crate::link::loops::Loops;
use crate::memory::element::Real;

/// A chain's transforms in order, compositions resolved.
pub(crate) type Stages<'a, T> = [StageRef<'a, T>];

pub(crate) type StageList<'a, T> = SmallVec<[StageRef<'a, T>; 16]>;

/// A transform, and the compositions around it that may keep it from some tensors.
pub(crate) struct StageRef<'a, T: 'static> {
    transform: &'a dyn Link<T>,
    /// A vector, as it is nearly always empty, and an empty one does not allocate.
    guards: Vec<&'a dyn Link<T>>,
    /// Loops that the compositions around it know.
    pub(crate) loops: &'a [&'static dyn Loops<T>],
}

impl<'a, T: Real> Deref for StageRef<'a, T> {
    type Target = dyn Link<T> + 'a;

    fn deref(&self) -> &Self::Target {
        self.transform
    }
}

impl<T: Real> StageRef<'_, T> {
    /// Whether it takes no part in this step of the tensor.
    pub(crate) fn is_idle(&self, step: &StepContext, tensor: &TensorInfo) -> bool {
        self.transform.retired(step)
            || !self.transform.applies(tensor)
            || !self.guards.iter().all(|guard| guard.applies(tensor))
    }
}

pub(crate) fn stages<T: Real>(chain: &dyn Link<T>) -> StageList<'_, T> {
    fn collect<'a, T: Real>(
        transform: &'a dyn Link<T>,
        guards: &mut Vec<&'a dyn Link<T>>,
        loops: &'a [&'static dyn Loops<T>],
        into: &mut StageList<'a, T>,
    ) {
        let guard = transform.guards_members();
        if guard {
            guards.push(transform);
        }
        let loops = if transform.loops().is_empty() { loops } else { transform.loops() };
        if !transform.members(&mut |member| collect(member, guards, loops, into)) {
            into.push(StageRef { transform, guards: guards.clone(), loops });
        }
        if guard {
            guards.pop();
        }
    }
    let mut into = StageList::new();
    collect(chain, &mut Vec::new(), &[], &mut into);
    into
}

/// Runs `chain` only for the tensors that `applies` accepts; for others it is the identity.
///
/// ```
/// use gradient_transform::{map, only_for, Descent, Optimizer, Parameter};
/// // Sign descent for matrices, plain descent for vectors.
/// let sign = map!("sign", |u| u.sign());
/// let chain = (only_for(|tensor| tensor.shape.len() >= 2, sign), Descent::default());
/// let mut optimizer = Optimizer::new(chain, [("w", &[1, 1][..]), ("b", &[1][..])])?;
/// let (mut w, mut b) = ([0.0_f32], [0.0_f32]);
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0])), Parameter::slice(&mut b, Some(&[3.0]))])?;
/// assert_eq!((w, b), ([-1.0], [-3.0]));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn only_for<F, G>(applies: F, chain: G) -> OnlyFor<F, G>
where
    F: Fn(&TensorInfo) -> bool + Send + Sync,
{
    OnlyFor { applies, chain }
}

/// See [`only_for`].
///
/// ```
/// use gradient_transform::{Descent, OnlyFor, only_for};
///
/// let biases: OnlyFor<_, Descent> = only_for(|tensor| tensor.shape.len() < 2, Descent::default());
/// assert_eq!(format!("{biases:?}"), "OnlyFor(Descent { weight_decay: 0.0, weight_decay_by_lr: true, decays_first: false })");
/// ```
pub struct OnlyFor<F, G> {
    applies: F,
    chain: G,
}

impl<F, G: fmt::Debug> fmt::Debug for OnlyFor<F, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnlyFor").field(&self.chain).finish()
    }
}

impl<T: Real, F, G> Link<T> for OnlyFor<F, G>
where
    F: Fn(&TensorInfo) -> bool + Send + Sync,
    G: Link<T>,
{
    fn name(&self) -> &str {
        self.chain.name()
    }

    fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Link<T>)) -> bool {
        visit(&self.chain);
        true
    }

    fn applies(&self, tensor: &TensorInfo) -> bool {
        (self.applies)(tensor)
    }

    fn guards_members(&self) -> bool {
        true
    }
}

/// `None` is the identity: a transform that can be switched off.
impl<T: Real, G: Link<T>> Link<T> for Option<G> {
    fn name(&self) -> &str {
        self.as_ref().map_or("none", |inner| inner.name())
    }

    fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Link<T>)) -> bool {
        if let Some(inner) = self {
            visit(inner);
        }
        true
    }
}

/// A transform that is chosen at run time.
impl<T: Real> Link<T> for Box<dyn Link<T>> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Link<T>)) -> bool {
        visit(&**self);
        true
    }
}

/// A list of transforms, run in order.
impl<T: Real, G: Link<T>> Link<T> for Vec<G> {
    fn name(&self) -> &str {
        "chain"
    }

    fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Link<T>)) -> bool {
        self.iter().for_each(|member| visit(member));
        true
    }
}

macro_rules! tuple {
    ($($member:ident $index:tt),+) => {
        /// The members, run in order.
        impl<T: Real, $($member: Link<T>),+> Link<T> for ($($member,)+) {
            fn name(&self) -> &str {
                "chain"
            }

            fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Link<T>)) -> bool {
                $(visit(&self.$index);)+
                true
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
