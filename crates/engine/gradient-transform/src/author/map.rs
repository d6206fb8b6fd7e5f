//! Transforms that are one expression: macros that write an implementation of `GradientTransform`.

/// A custom elementwise transform: an expression for the new update of an element, from the update so far u,
/// the raw gradient g and the parameter y. The last arguments may be left out.
///
/// Like any transform it is written with [`Num`](crate::Num), so it runs in either type, in
/// [fused](crate::fused) loops, and on a [device](crate::device).
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Parameter, map};
/// // Sign descent with a pull towards zero.
/// let sign = map!("sign", |u, _g, y| u.sign() + 0.01 * y);
/// let mut optimizer = Optimizer::new((sign, Descent::default()), [("w", [2])])?;
/// optimizer.set_lr(0, 0.1)?;
/// let mut w = [1.0_f32, -1.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0_f32, 4.0]))])?;
/// assert!((w[0] - 0.899).abs() < 1e-6 && (w[1] + 1.099).abs() < 1e-6);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
///
/// Numbers of a tensor and step come first, by name. They may use variables in scope and the
/// [`Context`](crate::Context), and are computed on the host, in float64:
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Parameter, map};
///
/// let after = 1;
/// let limit = map!("limit", |cx| { most: if cx.step.k > after { 0.5 } else { 1.0 } }, |u| u.max(-most).min(most));
/// let mut optimizer = Optimizer::new((limit, Descent::default()), [("w", [2])])?;
/// let mut w = [0.0_f32; 2];
/// for expected in [[-1.0, 1.0], [-1.5, 1.5]] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0, -3.0]))])?;
///     assert_eq!(w, expected);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
///
/// For state or sums, write a type: [`GradientTransform`](crate::GradientTransform).
#[macro_export]
macro_rules! map {
    (
        $name:literal,
        |$cx:pat_param| { $($number:ident: $value:expr),+ $(,)? },
        |$u:pat_param $(, $g:pat_param $(, $y:pat_param)?)?| $update:expr $(,)?
    ) => {{
        /// Numbers of a tensor and step.
        #[$crate::fields]
        struct Numbers<V> {
            $($number: V),+
        }

        #[derive(Clone)]
        struct Map<F>(F);

        impl<F> ::core::fmt::Debug for Map<F> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_tuple("Map").field(&$name).finish()
            }
        }

        #[$crate::transform($name)]
        impl<F> $crate::GradientTransform for Map<F>
        where
            F: Fn(&$crate::Context<'_>) -> Numbers<f64> + Clone + Send + Sync + 'static,
        {
            type Scalars<V: Copy> = Numbers<V>;

            fn begin(&self, cx: &$crate::Context<'_>, scalars: &mut Numbers<f64>) {
                *scalars = (self.0)(cx);
            }

            fn update<B: $crate::Backend>(&self, e: &mut $crate::Element<B, Self>) {
                let Numbers { $($number),+ } = e.scalars;
                let $u = e.update;
                $(let $g = e.gradient; $(let $y = e.parameter;)?)?
                e.update = $update;
            }
        }

        Map(move |$cx: &$crate::Context<'_>| Numbers { $($number: $value),+ })
    }};
    ($name:literal, |$u:pat_param $(, $g:pat_param $(, $y:pat_param)?)?| $update:expr $(,)?) => {{
        #[derive(Clone, Copy)]
        struct Map;

        impl ::core::fmt::Debug for Map {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_tuple("Map").field(&$name).finish()
            }
        }

        #[$crate::transform($name)]
        impl $crate::GradientTransform for Map {
            fn update<B: $crate::Backend>(&self, e: &mut $crate::Element<B, Self>) {
                let $u = e.update;
                $(let $g = e.gradient; $(let $y = e.parameter;)?)?
                e.update = $update;
            }
        }

        Map
    }};
}

/// A transform with one number of the whole tensor: the first expression is summed over all elements; the
/// second makes a factor of the sum and the number of elements, in float64. The update is multiplied by this
/// factor.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Parameter, rescale};
/// // Normalised gradient descent.
/// let unit = rescale!("unit-norm", |u| u * u, |sum, _n| 1.0 / sum.sqrt().max(1e-12));
/// let mut optimizer = Optimizer::new((unit, Descent::default()), [("w", [2])])?;
/// optimizer.set_lr(0, 0.5)?;
/// let mut w = [1.0_f32, 1.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0_f32, 4.0]))])?;
/// assert!((w[0] - 0.7).abs() < 1e-6 && (w[1] - 0.6).abs() < 1e-6);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[macro_export]
macro_rules! rescale {
    ($name:literal, |$u:pat_param| $measure:expr, |$sum:pat_param, $n:pat_param| $factor:expr $(,)?) => {{
        /// Sum over a tensor.
        #[$crate::fields]
        struct Sum<V> {
            sum: V,
        }

        /// Factor of the update.
        #[$crate::fields]
        struct Factor<V> {
            factor: V,
        }

        #[derive(Clone)]
        struct Rescale<F>(F);

        impl<F> ::core::fmt::Debug for Rescale<F> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_tuple("Rescale").field(&$name).finish()
            }
        }

        #[$crate::transform($name)]
        impl<F: Fn(f64, f64) -> f64 + Clone + Send + Sync + 'static> $crate::GradientTransform for Rescale<F> {
            type Sums<V: Copy> = Sum<V>;
            type Scalars<V: Copy> = Factor<V>;

            fn measure<B: $crate::Backend>(&self, e: &$crate::Element<B, Self>) -> Sum<$crate::Num<B>> {
                let $u = e.update;
                Sum { sum: $measure }
            }

            fn finalize(&self, cx: &$crate::Context<'_>, sums: Sum<f64>, scalars: &mut Factor<f64>) {
                scalars.factor = (self.0)(sums.sum, cx.tensor.len() as f64);
            }

            fn update<B: $crate::Backend>(&self, e: &mut $crate::Element<B, Self>) {
                e.update = e.scalars.factor * e.update;
            }
        }

        Rescale(move |$sum: f64, $n: f64| $factor)
    }};
    ($name:literal, |$u:pat_param, $($more:tt)*) => {
        ::core::compile_error!(
            "`rescale!` measures the update alone; to measure the gradient or the parameter, write a type with `measure` and `finalize`"
        )
    };
}
