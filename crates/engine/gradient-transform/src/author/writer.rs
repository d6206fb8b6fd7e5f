//! The transform that moves the parameters.

use crate::author::element::Element;
use crate::author::kind;
use crate::author::loops::pass;
use crate::author::transform::GradientTransform;
use crate::memory::number::{Backend, Num};

/// End of a chain: moves the parameter by the update.
///
/// [`GradientTransform::update`] completes the update first, for instance by weight decay that is multiplied by the step size.
/// With transforms of the displacement after the writer, [`displace`](Self::displace) runs before them.
///
/// An example is exponentiated gradient (Kivinen and Warmuth, 1997), for weights above zero:
///
/// ```
/// use gradient_transform::{
///     Backend, Context, Element, GradientTransform, Num, Optimizer, Parameter, Writer, fields, kind, transform,
/// };
///
/// /// `y <- y exp(-step_size u)`.
/// #[derive(Clone, Debug)]
/// struct ExponentiatedGradient;
///
/// #[fields]
/// struct Rate<V> {
///     step_size: V,
/// }
///
/// #[transform("exponentiated-gradient")]
/// impl GradientTransform for ExponentiatedGradient {
///     type Kind = kind::Writer;
///     type Scalars<V: Copy> = Rate<V>;
///
///     fn begin(&self, cx: &Context<'_>, scalars: &mut Rate<f64>) {
///         scalars.step_size = cx.step.step_size;
///     }
///
///     fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {} // no weight decay
/// }
///
/// #[transform]
/// impl Writer for ExponentiatedGradient {
///     fn directs(&self) -> bool {
///         false // `update` does nothing
///     }
///
///     fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B> {
///         e.parameter - e.parameter * (-e.scalars.step_size * e.update).exp()
///     }
///
///     fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>) {
///         e.parameter = match displacement {
///             Some(m) => e.parameter - m,
///             None => e.parameter * (-e.scalars.step_size * e.update).exp(),
///         };
///     }
/// }
///
/// let mut optimizer = Optimizer::new(ExponentiatedGradient, [("w", &[2][..])])?;
/// let mut w = [0.5_f32, 0.5];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0, -1.0]))])?;
/// assert!((w[0] - 0.5 * (-1.0_f32).exp()).abs() < 1e-6 && w[1] > w[0]); // and never below zero
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[allow(unused_variables)]
pub trait Writer: GradientTransform<Kind = kind::Writer> {
    #[doc(hidden)]
    const HAS_THE_ATTRIBUTE_TRANSFORM: ();
    #[doc(hidden)]
    fn write_f32(pass: pass::Pass<'_, '_, f32, Self>);
    #[doc(hidden)]
    fn write_f64(pass: pass::Pass<'_, '_, f64, Self>);

    /// Position in the state of the base iterate, if that is not the parameter itself.
    fn base(&self) -> Option<usize> {
        None
    }

    /// Position in the state of the evaluation point x, if it is kept: an average of the parameters. Training
    /// always continues from y.
    ///
    /// ```
    /// use gradient_transform::prelude::author::*;
    /// use gradient_transform::{Column, Optimizer, Parameter, TensorInfo, Writer, kind};
    ///
    /// /// Descent at the rate 1, and the mean of every two points.
    /// #[derive(Clone, Debug)]
    /// struct Halves;
    ///
    /// #[fields]
    /// struct Mean<V> {
    ///     x: V,
    /// }
    ///
    /// #[transform("halves")]
    /// impl GradientTransform for Halves {
    ///     type Kind = kind::Writer;
    ///     type State<V: Copy> = Mean<V>;
    ///
    ///     fn columns(&self, _tensor: &TensorInfo) -> Mean<Column> {
    ///         Mean { x: Column::COPY }
    ///     }
    ///
    ///     fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {}
    /// }
    ///
    /// #[transform]
    /// impl Writer for Halves {
    ///     fn average(&self) -> Option<usize> {
    ///         Some(0)
    ///     }
    ///
    ///     fn directs(&self) -> bool {
    ///         false
    ///     }
    ///
    ///     fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B> {
    ///         e.update
    ///     }
    ///
    ///     fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>) {
    ///         let before = e.parameter;
    ///         e.parameter = before - displacement.unwrap_or(e.update);
    ///         e.state.x = 0.5 * (before + e.parameter);
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new(Halves, [("w", [1])])?;
    /// let mut w = [0.0_f32];
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))])?;
    /// optimizer.eval(&mut [Parameter::slice(&mut w, None)])?;
    /// assert_eq!(w, [-0.5]);
    /// optimizer.train(&mut [Parameter::slice(&mut w, None)])?;
    /// assert_eq!(w, [-1.0]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    fn average(&self) -> Option<usize> {
        None
    }

    /// Weight of the evaluation point x in the parameter, `y = weight x + (1 - weight) z` with the base iterate z: above 0, and
    /// at most 1, where x is y. Schedule-Free's beta1.
    fn evaluation_weight(&self) -> f64 {
        1.0
    }

    /// Whether [`GradientTransform::update`] changes anything. If not, it is not called.
    fn directs(&self) -> bool {
        true
    }

    /// Displacement m by the update: `y <- y - m`.
    fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B>;

    /// The next [`ElementOf::parameter`](crate::ElementOf::parameter) and state, by the update. With transforms after the writer,
    /// the parameter moves by their displacement.
    fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>);
}
