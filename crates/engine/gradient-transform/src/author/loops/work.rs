//! Work of one transform on an element of a loop.

use crate::author::{Element, GradientTransform, Writer};
use crate::memory::number::{Num, Vectors};

/// The work of one transform in a loop, and the results that are kept.
pub trait Work<G: GradientTransform> {
    const KEEPS_STATE: bool = false;
    const KEEPS_SUMS: bool = false;
    /// Whether it reads the values of arrays along axes.
    const READS_ALONG: bool = true;
    /// Whether the outgoing update is stored.
    const UPDATES: bool = true;
    /// Whether the parameter is written.
    const WRITES: bool = false;
    /// Whether the transforms after it change a displacement.
    const DISPLACES: bool = false;

    /// Work before that of the transforms after it. A writer `directs` if it completes the update.
    fn before<B: Vectors>(transform: &G, e: &mut Element<B, G>, directs: bool);

    /// Work after that of the transforms after it. `displacement` is the writer's, as they changed
    /// it.
    fn after<B: Vectors>(transform: &G, e: &mut Element<B, G>, displacement: Num<B>) {
        let _ = (transform, e, displacement);
    }
}

/// The outgoing update; the state too, in the last sweep of a step.
pub struct Update<const KEEPS_STATE: bool>;
/// The sums, before any element is updated.
pub(crate) struct Measure;
/// The outgoing update, the state and the sums, of a lagged transform.
pub struct UpdateAndMeasure;
/// The state and the sums, of a transform that holds the tensor.
pub(crate) struct Accumulate;
/// The displacement, as an update.
pub(crate) struct Displace;
/// The parameter and the writer's state, by the update.
pub struct Write;
/// The parameter and the writer's state, by the displacement.
pub(crate) struct WriteDisplaced;
/// In one loop: the update is completed, the transforms after the writer change the displacement, and it is written if this is the
/// last sweep.
pub struct Around<const WRITES: bool>;

impl<G: GradientTransform, const KEEPS_STATE: bool> Work<G> for Update<KEEPS_STATE> {
    const KEEPS_STATE: bool = KEEPS_STATE;

    #[inline(always)]
    fn before<B: Vectors>(transform: &G, e: &mut Element<B, G>, _: bool) {
        transform.update(e);
    }
}

impl<G: GradientTransform> Work<G> for Measure {
    const READS_ALONG: bool = false;
    const KEEPS_SUMS: bool = true;
    const UPDATES: bool = false;

    #[inline(always)]
    fn before<B: Vectors>(_: &G, _: &mut Element<B, G>, _: bool) {}
}

impl<G: GradientTransform> Work<G> for UpdateAndMeasure {
    const KEEPS_STATE: bool = true;
    const KEEPS_SUMS: bool = true;

    #[inline(always)]
    fn before<B: Vectors>(transform: &G, e: &mut Element<B, G>, _: bool) {
        transform.update(e);
    }
}

impl<G: GradientTransform> Work<G> for Accumulate {
    const KEEPS_STATE: bool = true;
    const KEEPS_SUMS: bool = true;
    const UPDATES: bool = false;

    #[inline(always)]
    fn before<B: Vectors>(transform: &G, e: &mut Element<B, G>, _: bool) {
        transform.update(e);
    }
}

impl<G: Writer> Work<G> for Displace {
    #[inline(always)]
    fn before<B: Vectors>(transform: &G, e: &mut Element<B, G>, _: bool) {
        e.update = transform.displace(e);
    }
}

impl<G: Writer> Work<G> for Write {
    const KEEPS_STATE: bool = true;
    const UPDATES: bool = false;
    const WRITES: bool = true;

    #[inline(always)]
    fn before<B: Vectors>(transform: &G, e: &mut Element<B, G>, directs: bool) {
        if directs {
            transform.update(e);
        }
    }

    #[inline(always)]
    fn after<B: Vectors>(transform: &G, e: &mut Element<B, G>, _: Num<B>) {
        transform.write(e, None);
    }
}

impl<G: Writer> Work<G> for WriteDisplaced {
    const KEEPS_STATE: bool = true;
    const UPDATES: bool = false;
    const WRITES: bool = true;

    #[inline(always)]
    fn before<B: Vectors>(_: &G, _: &mut Element<B, G>, _: bool) {}

    #[inline(always)]
    fn after<B: Vectors>(transform: &G, e: &mut Element<B, G>, displacement: Num<B>) {
        transform.write(e, Some(displacement));
    }
}

impl<G: Writer, const WRITES: bool> Work<G> for Around<WRITES> {
    const KEEPS_STATE: bool = WRITES;
    const UPDATES: bool = false;
    const WRITES: bool = WRITES;
    const DISPLACES: bool = true;

    #[inline(always)]
    fn before<B: Vectors>(transform: &G, e: &mut Element<B, G>, directs: bool) {
        if directs {
            transform.update(e);
        }
        e.direction = e.update;
        e.update = transform.displace(e);
    }

    #[inline(always)]
    fn after<B: Vectors>(transform: &G, e: &mut Element<B, G>, displacement: Num<B>) {
        if WRITES {
            e.update = e.direction;
            transform.write(e, Some(displacement));
        }
    }
}
