//! Loops for the most frequent chains of options, compiled once, in this crate. Other chains run link by
//! link.

use std::any::Any;

use adopt::Adopt;
use cautious::Cautious;
use factored_moment::{DenseMoment, FactoredMoment};
use focus::Focus;
use gradient_transform::{Fused, Loops, Real, loops};
use grams::Grams;
use orthograd::OrthoGrad;
use schedule_free::ScheduleFree;
use stableadamw::{SoftStableAdamW, StableAdamW};

use crate::chain::Boxed;

static SINGLE: &[&dyn Loops<f32>] = &[
    loops::<(FactoredMoment, StableAdamW, ScheduleFree), f32>(),
    loops::<(DenseMoment, StableAdamW, ScheduleFree), f32>(),
    loops::<(Adopt<FactoredMoment>, StableAdamW, ScheduleFree), f32>(),
    loops::<(FactoredMoment, StableAdamW, ScheduleFree, Cautious), f32>(),
    loops::<(FactoredMoment, StableAdamW, ScheduleFree, Grams), f32>(),
    loops::<(FactoredMoment, SoftStableAdamW, ScheduleFree), f32>(),
    loops::<(FactoredMoment, ScheduleFree), f32>(),
    loops::<(Focus, StableAdamW, ScheduleFree), f32>(),
    loops::<(OrthoGrad, FactoredMoment, StableAdamW, ScheduleFree), f32>(),
];

static DOUBLE: &[&dyn Loops<f64>] = &[loops::<(FactoredMoment, StableAdamW, ScheduleFree), f64>()];

/// The chain, with a loop for each sweep if one exists.
pub(crate) fn fused<T: Real>(chain: Vec<Boxed<T>>) -> Fused<Vec<Boxed<T>>, T> {
    let all: [&'static dyn Any; 2] = [&SINGLE, &DOUBLE];
    let known = all.into_iter().find_map(<dyn Any>::downcast_ref::<&'static [&'static dyn Loops<T>]>);
    known.into_iter().copied().flatten().fold(Fused::new(chain), |chain, loops| chain.with(*loops))
}
