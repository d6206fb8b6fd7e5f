use gradient_transform::{Backend, Context, Element, GradientTransform, fields, transform};

/// ADOPT's clipping: no element of the update is larger than `k^(1/4)` in step k.
///
/// ```text
/// u <- max(-c, min(c, u)),  c = k^(1/4)
/// ```
///
/// Taniguchi et al., 2411.02853, section 4.2: early directions can be large, because their second moment is
/// an average of few gradients. The limit grows, so it acts only in the first steps. Belongs after
/// [`Adopt`](crate::Adopt), before the first moment. Keeps nothing.
///
/// ```
/// use adopt::AdoptClip;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((AdoptClip, Descent::default()), [("w", [2])])?;
/// let mut w = [0.0_f32, 0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.5, -7.0]))])?;
/// assert_eq!(w, [-0.5, 1.0]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdoptClip;

/// Number of a step.
#[fields]
pub struct Limit<V> {
    /// The largest absolute value.
    pub limit: V,
}

#[transform("adopt-clip")]
impl GradientTransform for AdoptClip {
    type Scalars<V: Copy> = Limit<V>;

    fn begin(&self, cx: &Context<'_>, scalars: &mut Limit<f64>) {
        scalars.limit = (cx.step.k as f64).powf(0.25);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (u, limit) = (e.update, e.scalars.limit);
        e.update = u.gt(limit).select(limit, u.lt(-limit).select(-limit, u));
    }
}
