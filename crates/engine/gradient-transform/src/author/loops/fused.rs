//! Chains of known transforms, each sweep of which is one loop.

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;

use crate::author::GradientTransform;
use crate::author::kind::Kind;
use crate::author::loops::part::{Part, part};
use crate::author::loops::pass::Passes;
use crate::author::loops::work::{Measure, Work};
use crate::author::loops::works::{Before, End, Works};
use crate::link::Link;
use crate::link::loops::{Loops, Program, Source, Tiles};
use crate::memory::element::Real;

/// Transforms whose sweeps are one loop each.
pub trait Members<T: Real>: 'static {
    /// The work of the whole step.
    type Commits: Works<T>;
    /// The work of `G` in the last sweep, if these are after it.
    type CommitOf<G: GradientTransform>: Work<G> + 'static;

    fn types(into: &mut Vec<TypeId>);
    /// Visits the work up to transform `at`, which measures.
    fn measuring<V: Visitor<T>>(at: usize, visitor: V);
}

pub trait Visitor<T: Real> {
    fn visit<L: Works<T>>(self);
}

impl<T: Real> Members<T> for End {
    type Commits = End;
    type CommitOf<G: GradientTransform> = <G::Kind as Kind<G>>::CommitLast;

    fn types(_: &mut Vec<TypeId>) {}
    fn measuring<V: Visitor<T>>(_: usize, _: V) {
        unreachable!("a transform of the list measures")
    }
}

impl<T: Real, G: GradientTransform, L: Members<T>> Members<T> for (G, L) {
    type Commits = Before<L::CommitOf<G>, G, L::Commits>;
    type CommitOf<H: GradientTransform> = <H::Kind as Kind<H>>::Commit;

    fn types(into: &mut Vec<TypeId>) {
        into.push(TypeId::of::<G>());
        L::types(into);
    }

    fn measuring<V: Visitor<T>>(at: usize, visitor: V) {
        match at {
            0 => visitor.visit::<Before<Measure, G, End>>(),
            _ => L::measuring(at - 1, Within::<<G::Kind as Kind<G>>::Emit, G, V>(visitor, PhantomData)),
        }
    }
}

/// A visitor of the works after `W` of `G`.
struct Within<W, G, V>(V, PhantomData<(W, G)>);

impl<T: Real, G: GradientTransform, W: Work<G> + 'static, V: Visitor<T>> Visitor<T> for Within<W, G, V> {
    fn visit<L: Works<T>>(self) {
        self.0.visit::<Before<W, G, L>>();
    }
}

/// Part of the next transform of a sweep.
pub(in crate::author) fn next_part<'a, T: Real, G: GradientTransform>(
    source: &mut Source<'_, 'a, T>,
) -> Part<'a, T, G> {
    let Some(member) = source.members.next() else { unreachable!("a loop has as many transforms as calls") };
    let Some(transform) = member.transform.downcast_ref::<G>() else {
        unreachable!("the types were compared when the plan was made")
    };
    let (directs, base) = (G::Kind::directs(transform), G::Kind::base(transform));
    Part {
        directs,
        base,
        ..part(transform, source.tensor, member.columns, member.scratch, member.sums, member.vector_sums)
    }
}

struct Run<'r, 's, 'a, T: Real>(&'r mut Source<'s, 'a, T>, &'r mut dyn Tiles<T>);

impl<T: Real> Visitor<T> for Run<'_, '_, '_, T> {
    fn visit<L: Works<T>>(self) {
        let Self(source, tiles) = self;
        let mut passes = Passes::<T, L, true>::new(L::parts(source));
        tiles.each(&mut |arrays, own| passes.over(arrays, own));
    }
}

/// Loops for chains that consist of the transforms `L` in this order, apart from an estimator of the step size. They are compiled where
/// `L` and `T` are known.
///
/// ```
/// use gradient_transform::{Descent, Fused, Link, Loops, Optimizer, loops};
///
/// // A chain that is put together at run time.
/// let chain: Vec<Box<dyn Link<f32>>> = vec![Box::new(Descent::default())];
/// static DESCENT: &dyn Loops<f32> = loops::<(Descent,), f32>();
/// let chain = Fused::new(chain).with(DESCENT);
/// assert_eq!(format!("{chain:?}"), "Fused([Descent { weight_decay: 0.0, weight_decay_by_lr: true, decays_first: false }])");
/// Optimizer::new(chain, [("w", &[2][..])])?;
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub const fn loops<L: Transforms<T>, T: Real>() -> &'static dyn Loops<T> {
    &LoopsOf::<L::List>(PhantomData)
}

struct LoopsOf<L>(PhantomData<fn() -> L>);

impl<T: Real, L: Members<T>> Loops<T> for LoopsOf<L> {
    fn types(&self) -> Vec<TypeId> {
        let mut types = Vec::new();
        L::types(&mut types);
        types
    }

    fn run(&self, program: Program, source: &mut Source<'_, '_, T>, tiles: &mut dyn Tiles<T>) {
        let run = Run(source, tiles);
        match program {
            Program::Measure(at) => L::measuring(at, run),
            Program::Commit => run.visit::<L::Commits>(),
        }
    }
}

/// Tuples of up to six transforms that a loop can be made of: written as [`GradientTransform`]s, one of them a
/// [`Writer`](crate::author::Writer).
///
/// ```
/// use gradient_transform::{Descent, Real, Transforms};
///
/// fn is_a_tuple_of_transforms<T: Real, L: Transforms<T>>(_: L) {}
/// is_a_tuple_of_transforms::<f32, _>((Descent::default(),));
/// ```
pub trait Transforms<T: Real> {
    #[doc(hidden)]
    type List: Members<T>;
}

macro_rules! transforms {
    ($($member:ident),+; $list:ty) => {
        impl<T: Real, $($member: GradientTransform),+> Transforms<T> for ($($member,)+) {
            type List = $list;
        }
    };
}

transforms!(A; (A, End));
transforms!(A, B; (A, (B, End)));
transforms!(A, B, C; (A, (B, (C, End))));
transforms!(A, B, C, D; (A, (B, (C, (D, End)))));
transforms!(A, B, C, D, E; (A, (B, (C, (D, (E, End))))));
transforms!(A, B, C, D, E, F; (A, (B, (C, (D, (E, (F, End)))))));

/// A chain of which each sweep is one loop over memory: see [`fused`].
pub struct Fused<C, T: Real> {
    chain: C,
    loops: Vec<&'static dyn Loops<T>>,
}

/// Runs a tuple of transforms fused: every sweep of the chain is one loop, compiled for these types.
///
/// The result has the same bits as without it. It is faster, because an element passes from transform to
/// transform in registers, but takes longer to compile. Every transform of the tuple has to take part: for
/// tensors to which one does not [apply](GradientTransform::applies), and in a step in which one
/// [holds](GradientTransform::holds) the tensor, the transforms run one after the other.
///
/// ```
/// use gradient_transform::{
///     Backend, Descent, Element, GradientTransform, Optimizer, Parameter, fused, transform,
/// };
///
/// #[derive(Clone, Debug)]
/// struct Sign;
///
/// #[transform("sign")]
/// impl GradientTransform for Sign {
///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
///         e.update = e.update.sign();
///     }
/// }
///
/// let mut optimizer = Optimizer::new(fused((Sign, Descent::default())), [("w", &[2][..])])?;
/// let mut w = [0.0_f32, 0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.5, -3.0]))])?;
/// assert_eq!(w, [-1.0, 1.0]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn fused<C: Transforms<T>, T: Real>(chain: C) -> Fused<C, T> {
    Fused::new(chain).with(loops::<C, T>())
}

impl<C, T: Real> Fused<C, T> {
    /// A chain of any form, without loops yet.
    ///
    /// ```
    /// use gradient_transform::{Descent, Fused, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Fused::new(Descent::default()), [("w", &[2][..])])?; // link by link
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn new(chain: C) -> Self {
        Self { chain, loops: Vec::new() }
    }

    /// With loops that run it if it is the chain that they were made for. See [`loops`].
    #[must_use]
    pub fn with(mut self, loops: &'static dyn Loops<T>) -> Self {
        self.loops.push(loops);
        self
    }
}

impl<C: fmt::Debug, T: Real> fmt::Debug for Fused<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fused").field(&self.chain).finish()
    }
}

impl<T: Real, C: Link<T>> Link<T> for Fused<C, T> {
    fn name(&self) -> &str {
        self.chain.name()
    }

    fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Link<T>)) -> bool {
        visit(&self.chain);
        true
    }

    fn loops(&self) -> &[&'static dyn Loops<T>] {
        &self.loops
    }
}

#[cfg(test)]
mod tests;
