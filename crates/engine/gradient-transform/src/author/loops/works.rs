//! Several transforms in one loop: a list of works, of which each one encloses the next.

use std::marker::PhantomData;

use crate::author::loops::along::{AlongBlock, AlongRun, Side};
use crate::author::loops::array::{BlockIndex, Index, Len, Stretch};
use crate::author::loops::fused::next_part;
use crate::author::loops::part::{Fixed, Opened, Part, Remaining, Rest, Shared, Store};
use crate::author::loops::sums::Accumulators;
use crate::author::loops::work::Work;
use crate::author::{GradientTransform, count};
use crate::layout::axes::{Axes, Run};
use crate::link::loops::{Own, Source};
use crate::memory::element::Real;
use crate::memory::number::{LANES, Vectors};

/// A list of works: [`End`], or one [`Before`] others. Each function does for the list what the function of
/// the same name does for one [`Part`].
pub trait Works<T: Real>: 'static {
    type Parts<'a>;
    type Store;
    type Rest;
    type Opened<'r, 'n>: Copy;
    type Sides<'r>;
    type AlongRun<'x, 's>;
    type AlongBlock<'x>;
    type Fixed<B: Vectors<Element = T>>;
    type Accumulators<B: Vectors<Element = T>>;
    const WRITES: bool;
    /// Whether the outgoing update is stored.
    const UPDATES: bool;
    /// Number of arrays along axes of all transforms.
    const ALONG: usize;
    /// Transforms that may have arrays along axes.
    const HAVE_ALONG: usize;

    /// The transforms' parts of a sweep.
    fn parts<'a>(source: &mut Source<'_, 'a, T>) -> Self::Parts<'a>;
    fn store() -> Self::Store;
    fn rest() -> Self::Rest;
    fn is_usual(parts: &Self::Parts<'_>) -> bool;
    /// The axes of the first arrays along axes.
    fn axes<'p>(parts: &'p Self::Parts<'_>) -> Option<&'p Axes>;
    fn expand(parts: &Self::Parts<'_>, workspace: &mut [T], offset: usize, len: usize);
    fn open<'r, 'n>(
        parts: &'r Self::Parts<'_>,
        store: &'r mut Self::Store,
        own: &mut Remaining<'r, '_, T>,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> (Self::Opened<'r, 'n>, Self::Sides<'r>);
    fn open_rest<'r, 'n>(
        parts: &'r Self::Parts<'_>,
        rest: &'r mut Self::Rest,
        own: &mut Remaining<'r, '_, T>,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> (Self::Opened<'r, 'n>, Self::Sides<'r>);
    fn fixed<B: Vectors<Element = T>, const USUAL: bool>(
        parts: &Self::Parts<'_>,
        numbers: B,
    ) -> Self::Fixed<B>;
    /// The arrays along axes within a run.
    fn open_run<'x, 's>(
        sides: &'x mut Self::Sides<'_>,
        run: &Run,
        stretch: Stretch<'_, 's>,
    ) -> Self::AlongRun<'x, 's>;
    fn block<'x, 's>(run: &Self::AlongRun<'x, 's>, block: BlockIndex<'_, 's>) -> Self::AlongBlock<'x>
    where
        Self: 'x;
    fn close_run<B: Vectors<Element = T>>(
        sides: &mut Self::Sides<'_>,
        run: &Run,
        sums: &mut Self::Accumulators<B>,
    );
    /// Sums of nothing yet.
    fn accumulators<B: Vectors<Element = T>>(numbers: B) -> Self::Accumulators<B>;
    /// Puts sums where they belong.
    fn keep_sums<B: Vectors<Element = T>>(opened: &Self::Opened<'_, '_>, sums: &Self::Accumulators<B>);
    /// The writer's base iterate, if the writer is among them and keeps one.
    fn base<'n, B: Vectors<Element = T>>(
        opened: &Self::Opened<'_, 'n>,
        fixed: &Self::Fixed<B>,
        i: Index<'n>,
    ) -> Option<B::Value>;
    fn element<'n, B: Vectors<Element = T>>(
        opened: &Self::Opened<'_, 'n>,
        fixed: &Self::Fixed<B>,
        along: &Self::AlongBlock<'_>,
        i: Index<'n>,
        sums: &mut Self::Accumulators<B>,
        shared: &mut Shared<B>,
    );
    fn close_rest(
        parts: &Self::Parts<'_>,
        store: &mut Self::Store,
        rest: &Self::Rest,
        columns: &mut [&mut [T]],
        tile: usize,
    );
    fn finish(
        parts: &Self::Parts<'_>,
        store: &Self::Store,
        own: &mut Own<'_, '_, T>,
        workspace: &[T],
        offset: usize,
        len: usize,
    );
}

/// No more work.
pub struct End;

/// Work `W` of the transform `G`, and within it the works `L` of the transforms after.
pub struct Before<W, G, L>(PhantomData<(W, G, L)>);

impl<T: Real> Works<T> for End {
    type Parts<'a> = ();
    type Store = ();
    type Rest = ();
    type Opened<'r, 'n> = ();
    type Sides<'r> = ();
    type AlongRun<'x, 's> = ();
    type AlongBlock<'x> = ();
    type Fixed<B: Vectors<Element = T>> = ();
    type Accumulators<B: Vectors<Element = T>> = ();
    const WRITES: bool = false;
    const UPDATES: bool = false;
    const ALONG: usize = 0;
    const HAVE_ALONG: usize = 0;

    fn parts<'a>(_: &mut Source<'_, 'a, T>) {}
    fn store() {}
    fn rest() {}
    fn is_usual((): &()) -> bool {
        true
    }
    fn axes((): &()) -> Option<&Axes> {
        None
    }
    fn expand((): &(), _: &mut [T], _: usize, _: usize) {}
    fn open<'r, 'n>(
        (): &'r (),
        (): &'r mut (),
        _: &mut Remaining<'r, '_, T>,
        _: &'r mut [T],
        _: usize,
        _: Len<'n>,
    ) -> ((), ()) {
        ((), ())
    }
    fn open_rest<'r, 'n>(
        (): &'r (),
        (): &'r mut (),
        _: &mut Remaining<'r, '_, T>,
        _: &'r mut [T],
        _: usize,
        _: Len<'n>,
    ) -> ((), ()) {
        ((), ())
    }
    #[inline(always)]
    fn fixed<B: Vectors<Element = T>, const USUAL: bool>((): &(), _: B) {}
    #[inline(always)]
    fn open_run<'x, 's>((): &'x mut (), _: &Run, _: Stretch<'_, 's>) {}
    #[inline(always)]
    fn block<'x, 's>((): &(), _: BlockIndex<'_, 's>)
    where
        Self: 'x,
    {
    }
    #[inline(always)]
    fn close_run<B: Vectors<Element = T>>((): &mut (), _: &Run, (): &mut ()) {}
    #[inline(always)]
    fn accumulators<B: Vectors<Element = T>>(_: B) {}
    #[inline(always)]
    fn keep_sums<B: Vectors<Element = T>>((): &(), (): &()) {}
    #[inline(always)]
    fn base<'n, B: Vectors<Element = T>>((): &(), (): &(), _: Index<'n>) -> Option<B::Value> {
        None
    }
    #[inline(always)]
    fn element<'n, B: Vectors<Element = T>>(
        (): &(),
        (): &(),
        (): &(),
        _: Index<'n>,
        (): &mut (),
        _: &mut Shared<B>,
    ) {
    }
    fn close_rest((): &(), (): &mut (), (): &(), _: &mut [&mut [T]], _: usize) {}
    fn finish((): &(), (): &(), _: &mut Own<'_, '_, T>, _: &[T], _: usize, _: usize) {}
}

impl<T: Real, G: GradientTransform, W: Work<G> + 'static, L: Works<T>> Works<T> for Before<W, G, L> {
    type Parts<'a> = (Part<'a, T, G>, L::Parts<'a>);
    type Store = (Store<T, G>, L::Store);
    type Rest = (Rest<T, G>, L::Rest);
    type Opened<'r, 'n> = (Opened<'r, 'n, T, G>, L::Opened<'r, 'n>);
    type Sides<'r> = (Side<'r, T, G>, L::Sides<'r>);
    type AlongRun<'x, 's> = (AlongRun<'x, 's, T, G>, L::AlongRun<'x, 's>);
    type AlongBlock<'x> = (AlongBlock<'x, T, G>, L::AlongBlock<'x>);
    type Fixed<B: Vectors<Element = T>> = (Fixed<B, G>, L::Fixed<B>);
    type Accumulators<B: Vectors<Element = T>> = (Accumulators<B, G>, L::Accumulators<B>);
    const WRITES: bool = W::WRITES || L::WRITES;
    const UPDATES: bool = W::UPDATES || L::UPDATES;
    const ALONG: usize = count::<G::Along<bool>, bool>() + L::ALONG;
    const HAVE_ALONG: usize = (count::<G::Along<bool>, bool>() > 0) as usize + L::HAVE_ALONG;

    fn parts<'a>(source: &mut Source<'_, 'a, T>) -> Self::Parts<'a> {
        (next_part(source), L::parts(source))
    }

    fn store() -> Self::Store {
        (Store::new(), L::store())
    }

    fn rest() -> Self::Rest {
        (Rest::new(), L::rest())
    }

    fn is_usual((own, behind): &Self::Parts<'_>) -> bool {
        own.is_usual() && L::is_usual(behind)
    }

    fn axes<'p>((own, behind): &'p Self::Parts<'_>) -> Option<&'p Axes> {
        own.axes().or_else(|| L::axes(behind))
    }

    fn expand((own, behind): &Self::Parts<'_>, workspace: &mut [T], offset: usize, len: usize) {
        let (first, others) = workspace.split_at_mut(own_workspace::<T, G>(workspace, len));
        own.expand::<W>(first, offset, len);
        L::expand(behind, others, offset, len);
    }

    #[inline]
    fn open<'r, 'n>(
        (part, parts): &'r Self::Parts<'_>,
        (store, stores): &'r mut Self::Store,
        own: &mut Remaining<'r, '_, T>,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> (Self::Opened<'r, 'n>, Self::Sides<'r>) {
        let (first, others) = workspace.split_at_mut(own_workspace::<T, G>(workspace, tile));
        let (opened, side) = part.open::<W>(store, own, first, tile, len);
        let (behind, sides) = L::open(parts, stores, own, others, tile, len);
        ((opened, behind), (side, sides))
    }

    fn open_rest<'r, 'n>(
        (part, parts): &'r Self::Parts<'_>,
        (rest, rests): &'r mut Self::Rest,
        own: &mut Remaining<'r, '_, T>,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> (Self::Opened<'r, 'n>, Self::Sides<'r>) {
        let (first, others) = workspace.split_at_mut(own_workspace::<T, G>(workspace, tile));
        let (opened, side) = part.open_rest(rest, own, first, tile, len);
        let (behind, sides) = L::open_rest(parts, rests, own, others, tile, len);
        ((opened, behind), (side, sides))
    }

    #[inline(always)]
    fn fixed<B: Vectors<Element = T>, const USUAL: bool>(
        (own, behind): &Self::Parts<'_>,
        numbers: B,
    ) -> Self::Fixed<B> {
        (own.fixed::<B, USUAL>(numbers), L::fixed::<B, USUAL>(behind, numbers))
    }

    #[inline(always)]
    fn open_run<'x, 's>(
        (side, sides): &'x mut Self::Sides<'_>,
        run: &Run,
        stretch: Stretch<'_, 's>,
    ) -> Self::AlongRun<'x, 's> {
        (side.open::<W>(run, stretch), L::open_run(sides, run, stretch))
    }

    #[inline(always)]
    fn block<'x, 's>(
        (own, behind): &Self::AlongRun<'x, 's>,
        block: BlockIndex<'_, 's>,
    ) -> Self::AlongBlock<'x>
    where
        Self: 'x,
    {
        (own.block(block), L::block(behind, block))
    }

    #[inline(always)]
    fn close_run<B: Vectors<Element = T>>(
        (side, sides): &mut Self::Sides<'_>,
        run: &Run,
        (sums, sums_behind): &mut Self::Accumulators<B>,
    ) {
        if W::KEEPS_SUMS {
            side.close(run, sums);
        }
        L::close_run(sides, run, sums_behind);
    }

    #[inline(always)]
    fn accumulators<B: Vectors<Element = T>>(numbers: B) -> Self::Accumulators<B> {
        (Accumulators::zeros(numbers), L::accumulators(numbers))
    }

    #[inline(always)]
    fn keep_sums<B: Vectors<Element = T>>(
        (own, behind): &Self::Opened<'_, '_>,
        (sums, sums_behind): &Self::Accumulators<B>,
    ) {
        if W::KEEPS_SUMS {
            own.keep_sums(sums);
        }
        L::keep_sums(behind, sums_behind);
    }

    #[inline(always)]
    fn base<'n, B: Vectors<Element = T>>(
        (own, behind): &Self::Opened<'_, 'n>,
        (fixed, fixed_behind): &Self::Fixed<B>,
        i: Index<'n>,
    ) -> Option<B::Value> {
        match own.base(fixed, i) {
            Some(base) => Some(base),
            None => L::base(behind, fixed_behind, i),
        }
    }

    #[inline(always)]
    fn element<'n, B: Vectors<Element = T>>(
        (own, behind): &Self::Opened<'_, 'n>,
        (fixed, fixed_behind): &Self::Fixed<B>,
        (along, along_behind): &Self::AlongBlock<'_>,
        i: Index<'n>,
        (sums, sums_behind): &mut Self::Accumulators<B>,
        shared: &mut Shared<B>,
    ) {
        own.element::<W, B>(
            fixed,
            along,
            i,
            sums,
            shared,
            #[inline(always)]
            |shared| L::element(behind, fixed_behind, along_behind, i, sums_behind, shared),
        );
    }

    fn close_rest(
        (own, behind): &Self::Parts<'_>,
        (store, stores): &mut Self::Store,
        (rest, rests): &Self::Rest,
        columns: &mut [&mut [T]],
        tile: usize,
    ) {
        own.close_rest::<W>(store, rest, columns, tile);
        L::close_rest(behind, stores, rests, columns, tile);
    }

    #[inline]
    fn finish(
        (part, parts): &Self::Parts<'_>,
        (store, stores): &Self::Store,
        own: &mut Own<'_, '_, T>,
        workspace: &[T],
        offset: usize,
        len: usize,
    ) {
        let (first, others) = workspace.split_at(own_workspace::<T, G>(workspace, len));
        part.finish::<W>(store, own, first, offset, len);
        L::finish(parts, stores, own, others, offset, len);
    }
}

/// Number of elements of a transform's working memory for a tile, if it has one.
fn own_workspace<T, G: GradientTransform>(workspace: &[T], tile: usize) -> usize {
    if workspace.is_empty() { 0 } else { 2 * count::<G::Along<bool>, bool>() * tile.next_multiple_of(LANES) }
}
