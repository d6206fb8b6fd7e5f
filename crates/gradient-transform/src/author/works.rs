//! Several transforms in one loop: a list of works, of which each one encloses the next.

use std::marker::PhantomData;

use smallvec::SmallVec;

use crate::author::along::{AlongRun, Side};
use crate::author::array::{Index, Len, Stretch};
use crate::author::fused::Source;
use crate::author::part::{Fixed, Opened, Part, Shared, Store};
use crate::author::work::Work;
use crate::author::{GradientTransform, count};
use crate::axes::{Axes, Run};
use crate::element::Real;
use crate::number::{LANES, Vectors};

/// A list of works: [`End`], or one [`Before`] others. Each function does for the list what its namesake does for one [`Part`].
pub trait Works<T: Real>: 'static {
    type Parts<'a, 'c: 'a>;
    type Store;
    type Opened<'r, 'n>: Copy;
    type Sides<'r>;
    type AlongRun<'x, 's>;
    type Fixed<B: Vectors<Element = T>>;
    const WRITES: bool;
    /// Whether an update is left behind.
    const UPDATES: bool;

    /// Arrays along axes that all have.
    const ALONG: usize;

    /// Axes of the arrays along axes, of every transform that may have some: nothing if the tensor has none.
    fn axes<'p>(parts: &'p Self::Parts<'_, '_>, into: &mut SmallVec<[Option<&'p Axes>; 2]>);
    fn expand(parts: &Self::Parts<'_, '_>, workspace: &mut [T], offset: usize, len: usize);
    /// The arrays along axes within a run.
    fn open_run<'x, 's>(
        sides: &'x mut Self::Sides<'_>,
        run: &Run,
        stretch: Stretch<'_, 's>,
    ) -> Self::AlongRun<'x, 's>;
    fn close_run(sides: &mut Self::Sides<'_>, run: &Run);
    /// The transforms' parts of a tile.
    fn parts<'a, 'c: 'a>(source: &mut Source<'a, 'c, T>) -> Self::Parts<'a, 'c>;
    fn store() -> Self::Store;
    fn open<'r, 'n>(
        parts: &'r mut Self::Parts<'_, '_>,
        store: &'r mut Self::Store,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> (Self::Opened<'r, 'n>, Self::Sides<'r>);
    fn open_rest<'r, 'n>(
        parts: &'r mut Self::Parts<'_, '_>,
        rest: &'r mut Self::Store,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> (Self::Opened<'r, 'n>, Self::Sides<'r>);
    fn is_usual(parts: &Self::Parts<'_, '_>) -> bool;
    fn fixed<'r, 'n, B: Vectors<Element = T>, const USUAL: bool>(
        opened: &Self::Opened<'r, 'n>,
        numbers: B,
    ) -> Self::Fixed<B>
    where
        Self: 'r + 'n;
    fn element<'r, 'n, 'x, 's, B: Vectors<Element = T>>(
        opened: &Self::Opened<'r, 'n>,
        fixed: &Self::Fixed<B>,
        along: &Self::AlongRun<'x, 's>,
        i: Index<'n, 's>,
        shared: &mut Shared<B>,
    ) where
        Self: 'r + 'x;
    fn close_rest(parts: &mut Self::Parts<'_, '_>, main: &mut Self::Store, rest: &Self::Store, tile: usize);
    fn finish(
        parts: &mut Self::Parts<'_, '_>,
        store: &Self::Store,
        workspace: &[T],
        offset: usize,
        len: usize,
    );
}

/// No more work.
pub struct End;

/// Work `W` of the transform `G`, and within it the works `L` of the transforms behind.
pub struct Before<W, G, L>(PhantomData<(W, G, L)>);

impl<T: Real> Works<T> for End {
    type Parts<'a, 'c: 'a> = ();
    type Store = ();
    type Opened<'r, 'n> = ();
    type Sides<'r> = ();
    type AlongRun<'x, 's> = ();
    type Fixed<B: Vectors<Element = T>> = ();
    const WRITES: bool = false;
    const UPDATES: bool = false;

    const ALONG: usize = 0;

    fn axes<'p>((): &'p (), _: &mut SmallVec<[Option<&'p Axes>; 2]>) {}
    fn expand((): &(), _: &mut [T], _: usize, _: usize) {}
    #[inline(always)]
    fn open_run<'x, 's>((): &'x mut (), _: &Run, _: Stretch<'_, 's>) {}
    #[inline(always)]
    fn close_run((): &mut (), _: &Run) {}
    fn parts<'a, 'c: 'a>(_: &mut Source<'a, 'c, T>) {}
    fn store() {}
    fn open<'r, 'n>((): &'r mut (), (): &'r mut (), _: &'r mut [T], _: usize, _: Len<'n>) -> ((), ()) {
        ((), ())
    }
    fn open_rest<'r, 'n>((): &'r mut (), (): &'r mut (), _: &'r mut [T], _: usize, _: Len<'n>) -> ((), ()) {
        ((), ())
    }
    fn is_usual((): &()) -> bool {
        true
    }
    #[inline(always)]
    fn fixed<'r, 'n, B: Vectors<Element = T>, const USUAL: bool>((): &(), _: B)
    where
        Self: 'r + 'n,
    {
    }
    #[inline(always)]
    fn element<'r, 'n, 'x, 's, B: Vectors<Element = T>>(
        (): &(),
        (): &(),
        (): &(),
        _: Index<'n, 's>,
        _: &mut Shared<B>,
    ) where
        Self: 'r + 'x,
    {
    }
    fn close_rest((): &mut (), (): &mut (), (): &(), _: usize) {}
    fn finish((): &mut (), (): &(), _: &[T], _: usize, _: usize) {}
}

impl<T: Real, G: GradientTransform, W: Work<G> + 'static, L: Works<T>> Works<T> for Before<W, G, L> {
    type Parts<'a, 'c: 'a> = (Part<'a, 'c, T, G>, L::Parts<'a, 'c>);
    type Store = (Store<T, G>, L::Store);
    type Opened<'r, 'n> = (Opened<'r, 'n, T, G>, L::Opened<'r, 'n>);
    type Sides<'r> = (Side<'r, T, G>, L::Sides<'r>);
    type AlongRun<'x, 's> = (AlongRun<'x, 's, T, G>, L::AlongRun<'x, 's>);
    type Fixed<B: Vectors<Element = T>> = (Fixed<B, G>, L::Fixed<B>);
    const WRITES: bool = W::WRITES || L::WRITES;
    const UPDATES: bool = W::UPDATES || L::UPDATES;

    const ALONG: usize = count::<G::Along<bool>, bool>() + L::ALONG;

    fn expand((own, behind): &Self::Parts<'_, '_>, workspace: &mut [T], offset: usize, len: usize) {
        let (first, others) = workspace.split_at_mut(own_workspace::<T, G>(workspace, len));
        own.expand::<W>(first, offset, len);
        L::expand(behind, others, offset, len);
    }

    fn axes<'p>((own, behind): &'p Self::Parts<'_, '_>, into: &mut SmallVec<[Option<&'p Axes>; 2]>) {
        if count::<G::Along<bool>, bool>() > 0 {
            into.push(own.axes());
        }
        L::axes(behind, into);
    }

    #[inline(always)]
    fn open_run<'x, 's>(
        (side, sides): &'x mut Self::Sides<'_>,
        run: &Run,
        stretch: Stretch<'_, 's>,
    ) -> Self::AlongRun<'x, 's> {
        (side.open(run, stretch), L::open_run(sides, run, stretch))
    }

    #[inline(always)]
    fn close_run((side, sides): &mut Self::Sides<'_>, run: &Run) {
        side.close(run);
        L::close_run(sides, run);
    }

    #[inline]
    fn parts<'a, 'c: 'a>(source: &mut Source<'a, 'c, T>) -> Self::Parts<'a, 'c> {
        (source.next(), L::parts(source))
    }

    fn store() -> Self::Store {
        (Store::new(), L::store())
    }

    fn open<'r, 'n>(
        (own, behind): &'r mut Self::Parts<'_, '_>,
        (store, stores): &'r mut Self::Store,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> (Self::Opened<'r, 'n>, Self::Sides<'r>) {
        let (first, others) = workspace.split_at_mut(own_workspace::<T, G>(workspace, tile));
        let (own, side) = own.open(store, first, tile, len);
        let (behind, sides) = L::open(behind, stores, others, tile, len);
        ((own, behind), (side, sides))
    }

    fn open_rest<'r, 'n>(
        (own, behind): &'r mut Self::Parts<'_, '_>,
        (rest, rests): &'r mut Self::Store,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> (Self::Opened<'r, 'n>, Self::Sides<'r>) {
        let (first, others) = workspace.split_at_mut(own_workspace::<T, G>(workspace, tile));
        let (own, side) = own.open_rest(rest, first, tile, len);
        let (behind, sides) = L::open_rest(behind, rests, others, tile, len);
        ((own, behind), (side, sides))
    }

    fn is_usual((own, behind): &Self::Parts<'_, '_>) -> bool {
        own.is_usual() && L::is_usual(behind)
    }

    #[inline(always)]
    fn fixed<'r, 'n, B: Vectors<Element = T>, const USUAL: bool>(
        (own, behind): &Self::Opened<'r, 'n>,
        numbers: B,
    ) -> Self::Fixed<B>
    where
        Self: 'r + 'n,
    {
        (own.fixed::<B, USUAL>(numbers), L::fixed::<B, USUAL>(behind, numbers))
    }

    #[inline(always)]
    fn element<'r, 'n, 'x, 's, B: Vectors<Element = T>>(
        (own, behind): &Self::Opened<'r, 'n>,
        (fixed, fixed_behind): &Self::Fixed<B>,
        (along, along_behind): &Self::AlongRun<'x, 's>,
        i: Index<'n, 's>,
        shared: &mut Shared<B>,
    ) where
        Self: 'r + 'x,
    {
        own.element::<W, B>(
            fixed,
            along,
            i,
            shared,
            #[inline(always)]
            |shared| L::element(behind, fixed_behind, along_behind, i, shared),
        );
    }

    fn close_rest(
        (own, behind): &mut Self::Parts<'_, '_>,
        (main, mains): &mut Self::Store,
        (rest, rests): &Self::Store,
        tile: usize,
    ) {
        own.close_rest::<W>(main, rest, tile);
        L::close_rest(behind, mains, rests, tile);
    }

    fn finish(
        (own, behind): &mut Self::Parts<'_, '_>,
        (store, stores): &Self::Store,
        workspace: &[T],
        offset: usize,
        len: usize,
    ) {
        let (first, others) = workspace.split_at(own_workspace::<T, G>(workspace, len));
        own.finish::<W>(store, first, offset, len);
        L::finish(behind, stores, others, offset, len);
    }
}

/// Elements of working memory that a transform has for a tile, if there is some.
fn own_workspace<T, G: GradientTransform>(workspace: &[T], tile: usize) -> usize {
    if workspace.is_empty() { 0 } else { 2 * count::<G::Along<bool>, bool>() * tile.next_multiple_of(LANES) }
}
