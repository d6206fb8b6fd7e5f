//! Sums over the units of a tensor: the slices along its first axis, which are a layer's outputs if weights
//! are (out, in, ..).

use gradient_transform::{
    AlongState, Backend, Context, Element, GradientTransform, Num, Real, Result, TensorInfo, fields,
    transform,
};
use serde::{Deserialize, Serialize};

use crate::average::Factor;
use crate::check;

/// The last axis, if there are units of more than one element: sums over it are sums of parts of units.
fn last_axis(tensor: &TensorInfo) -> Option<usize> {
    (tensor.shape.len() >= 2 && !tensor.is_empty()).then(|| tensor.shape.len() - 1)
}

/// The sum over each unit, from the sums over the last axis: `parts` of them for each unit.
fn over_units<T: Real>(sums: &[T], units: usize) -> impl Iterator<Item = f64> {
    sums.chunks(sums.len() / units.max(1)).map(|parts| parts.iter().map(|part| part.f64()).sum())
}

/// Writes each unit's value to all its parts.
fn to_parts<T: Real>(values: &mut [T], units: usize, mut value: impl FnMut(usize) -> f64) {
    let parts = values.len() / units.max(1);
    for (unit, values) in values.chunks_mut(parts).enumerate() {
        values.fill(T::of(value(unit)));
    }
}

/// Subtracts the mean from the update of every unit: a slice along the first axis.
///
/// ```text
/// u <- u - mean(u over all axes but the first)
/// ```
///
/// Yong et al., 2004.01461, equation 1, for weights of shape (out, in, ..); optax's `centralize`. Does not
/// change vectors. At the head of a chain; the chain is cut after it. Keeps nothing.
///
/// ```
/// use elementary::Centralise;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((Centralise, Descent::default()), [("w", &[2, 2][..])])?;
/// let mut w = [0.0_f32; 4];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0, 3.0, -2.0, -2.0]))])?;
/// assert_eq!(w, [1.0, -1.0, 0.0, 0.0]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Centralise;

/// Number of the element's unit.
#[fields]
pub struct Mean<V> {
    /// The mean of the update.
    pub mean: V,
}

#[transform("centralise")]
impl GradientTransform for Centralise {
    type Along<V: Copy> = Mean<V>;

    fn applies(&self, tensor: &TensorInfo) -> bool {
        last_axis(tensor).is_some()
    }

    fn along(&self, tensor: &TensorInfo) -> Option<Mean<usize>> {
        last_axis(tensor).map(|mean| Mean { mean })
    }

    fn measure_along<B: Backend>(&self, e: &Element<B, Self>) -> Mean<Num<B>> {
        Mean { mean: e.update }
    }

    fn finalize_along<T: Real>(
        &self,
        cx: &Context<'_>,
        along: AlongState<'_, T>,
        _scalars: &mut gradient_transform::Nothing<f64>,
    ) {
        let units = cx.tensor.shape[0];
        let len = (cx.tensor.len() / units) as f64;
        let sums: Vec<f64> = over_units(along.sums[0].values(), units).collect();
        to_parts(&mut along.values[0], units, |unit| sums[unit] / len);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update - e.along.mean;
    }
}

/// Adaptive gradient clipping: scales down the update of a unit if it is large relative to the unit's
/// weights.
///
/// ```text
/// u <- u min(1, limit max(|y|, eps) / |u|)      norms over all axes but the first; of the whole tensor for a vector
/// ```
///
/// Brock et al., 2102.06171, equation 3; optax's `adaptive_grad_clip`, whose weights are (in, out). The paper
/// excludes the last layer: `only_for(|tensor| tensor.name != "head", ..)`. At the head of a chain; the chain
/// is cut after it. Keeps nothing.
///
/// ```
/// use elementary::AdaptiveClip;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let clip = AdaptiveClip { limit: 0.1, ..AdaptiveClip::default() };
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in((clip, Descent::default()), [("w", &[2, 2][..])])?;
/// let mut w = [3.0, 4.0, 3.0, 4.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.1, 0.0, 0.0, 2.0]))])?;
/// // The first row's gradient is short enough; the second's becomes a tenth of the norm 5.
/// assert_eq!(w, [2.9, 4.0, 3.0, 3.5]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveClip {
    /// The largest length of an update, as a multiple of the length of its weights; above 0.
    /// Default 0.01.
    pub limit: f64,
    /// The smallest length of weights that is used, above 0, so that weights at 0 can move. Default
    /// 1e-3.
    pub eps: f64,
}

impl Default for AdaptiveClip {
    fn default() -> Self {
        Self { limit: 0.01, eps: 1e-3 }
    }
}

impl AdaptiveClip {
    fn factor(&self, update: f64, parameter: f64) -> f64 {
        let (size, most) = (update.sqrt(), self.limit * parameter.sqrt().max(self.eps));
        if size > most { most / size } else { 1.0 }
    }
}

/// Sums of squares over a tensor or a unit. When they are complete, the field of the update is the
/// factor.
#[fields]
pub struct Squares<V> {
    /// Sum of the squared update.
    pub update: V,
    /// Sum of the squared parameter.
    pub parameter: V,
}

#[transform("adaptive-clip")]
impl GradientTransform for AdaptiveClip {
    type Sums<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Factor<V>;
    type Along<V: Copy> = Squares<V>;

    fn validate(&self) -> Result<()> {
        check::positive("limit", self.limit)?;
        check::positive("eps", self.eps)
    }

    fn along(&self, tensor: &TensorInfo) -> Option<Squares<usize>> {
        last_axis(tensor).map(|axis| Squares { update: axis, parameter: axis })
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        Squares { update: e.update.squared(), parameter: e.parameter.squared() }
    }

    fn measure_along<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        self.measure(e)
    }

    fn finalize(&self, cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Factor<f64>) {
        scalars.factor = match last_axis(cx.tensor) {
            Some(_) => 0.0, // every unit has its own factor
            None => self.factor(sums.update, sums.parameter),
        };
    }

    fn finalize_along<T: Real>(
        &self,
        cx: &Context<'_>,
        along: AlongState<'_, T>,
        _scalars: &mut Factor<f64>,
    ) {
        let units = cx.tensor.shape[0];
        let [updates, parameters] = [0, 1].map(|i| over_units(along.sums[i].values(), units));
        let factors: Vec<f64> = updates.zip(parameters).map(|(u, y)| self.factor(u, y)).collect();
        to_parts(&mut along.values[0], units, |unit| factors[unit]);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        // One of the two is 0.
        e.update = (e.scalars.factor + e.along.update) * e.update;
    }
}
