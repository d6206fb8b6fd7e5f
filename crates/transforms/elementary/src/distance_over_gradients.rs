use gradient_transform::{
    Backend, Column, Context, Element, GradientTransform, Num, Result, SumsOver, TensorInfo, fields,
    transform,
};
use serde::{Deserialize, Serialize};

use crate::average::at_first;
use crate::check;
use crate::weight_decay::Start;

/// A step size from the distance covered and the gradients so far: DoG, and L-DoG for each tensor.
///
/// ```text
/// r <- max(r, |y - start|)      relative (1 + |start|) at first
/// G <- G + |g|^2
/// u <- r / sqrt(G + eps) u
/// ```
///
/// G does not grow at learning rate 0, where no distance is covered.
///
/// Ivgi, Hinder and Carmon, 2302.12022, equation 4 and appendix; optax's `scale_by_distance_over_gradients` is the form for each
/// tensor on its own, which is the default here. With [`SumsOver::All`] the norms are of all tensors
/// together, as in DoG. The sums are over the tensors that have a gradient in the step; a tensor whose first
/// gradient comes later starts with new numbers.
///
/// For the learning rate 1, directly before the writer. Without momentum before it, as in the paper. The
/// authors evaluate at an average of the weights. Needs the whole tensor, so the chain is cut after it. Keeps
/// one value per element, and two numbers for each tensor.
///
/// ```
/// use elementary::DistanceOverGradients;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let dog = DistanceOverGradients { relative: 0.5, eps: 1e-12, ..DistanceOverGradients::default() };
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in((dog, Descent::default()), [("w", [1])])?;
/// let mut w = [1.0];
/// // r = 0.5 (1 + 1), G = 16; then r is still 1 and G = 32; then 1.7 from the start, and G = 48.
/// for (gradient, expected) in [(4.0, 0.0), (4.0, -0.5_f64.sqrt()), (4.0, -0.5_f64.sqrt() - (1.0 + 0.5_f64.sqrt()) / 3.0_f64.sqrt())] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert!((w[0] - expected).abs() < 1e-9);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistanceOverGradients {
    /// The first distance, relative to 1 and the size of the weights, above 0. Default 1e-6; 1e-4 for networks with batch normalisation.
    pub relative: f64,
    /// Added to the sum of squares, above 0. Default 1e-8.
    pub eps: f64,
    /// Elements of the norms. Default: those of each tensor.
    pub over: SumsOver,
}

impl Default for DistanceOverGradients {
    fn default() -> Self {
        Self { relative: 1e-6, eps: 1e-8, over: SumsOver::Tensor }
    }
}

/// Sums of squares.
#[fields]
pub struct Squares<V> {
    /// Squares of the parameter.
    pub parameter: V,
    /// Squares of the displacement from the start.
    pub way: V,
    /// Squares of the update.
    pub update: V,
}

/// Numbers of a tensor.
#[fields]
pub struct Numbers<V> {
    /// The largest distance from the start.
    pub distance: V,
    /// The sum of squared gradients.
    pub gradients: V,
    /// Factor of the update.
    pub factor: V,
}

#[transform("distance-over-gradients")]
impl GradientTransform for DistanceOverGradients {
    type State<V: Copy> = Start<V>;
    type Sums<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Numbers<V>;

    fn validate(&self) -> Result<()> {
        check::positive("relative", self.relative)?;
        check::positive("eps", self.eps)
    }

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        const BOTH: &str = "both find the step size; keep one";
        &[("prodigy", BOTH), ("speed", BOTH), ("displacement-speed", BOTH)]
    }

    fn columns(&self, _tensor: &TensorInfo) -> Start<Column> {
        Start { start: Column::COPY }
    }

    fn kept(&self) -> Numbers<bool> {
        Numbers { distance: true, gradients: true, factor: false }
    }

    fn sums_over(&self) -> SumsOver {
        self.over
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        Squares {
            parameter: e.parameter.squared(),
            way: (e.parameter - e.state.start).squared(),
            update: e.update.squared(),
        }
    }

    fn finalize(&self, cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Numbers<f64>) {
        let first = at_first(cx) * self.relative * (1.0 + sums.parameter.sqrt());
        scalars.distance = scalars.distance.max(first).max(sums.way.sqrt());
        if cx.step.informs_estimate {
            scalars.gradients += sums.update;
        }
        scalars.factor = scalars.distance / (scalars.gradients + self.eps).sqrt();
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}
