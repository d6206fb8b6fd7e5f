use gradient_transform::{
    IntoShape, Optimizer, ParameterGroup, Real, Result, Rounding, Settings, TrainingPoint,
};

use crate::chain::chain;
use crate::engine_compat::EngineCompat;
use crate::line::Line;
use crate::loops::fused;
use crate::options::Options;

/// Prodigy + Schedule-Free: the full optimizer with the documented defaults.
///
/// ```
/// use gradient_transform::Parameter;
/// use prodigy_plus::ProdigyPlus;
/// let mut optimizer = ProdigyPlus::builder().build([("w", &[4][..])])?;
/// let mut w = [4.0_f32, -3.0, 2.0, 1.0];
/// for _ in 0..200 {
///     let gradient = w; // of |w|^2 / 2
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
/// }
/// let mut x = [0.0_f32; 4];
/// optimizer.evaluation_point(0, &w, &mut x)?;
/// assert!(optimizer.estimate(0)?.d > 1e-3); // grown from 1e-6, found without a learning rate
/// assert!(x.iter().map(|x| x * x).sum::<f32>() < 20.0); // from 30
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ProdigyPlus;

impl ProdigyPlus {
    /// Options with the defaults of 1.9.2, which you can change and then [build](Options::build).
    pub fn builder() -> Options {
        Options::default()
    }

    /// Options with the defaults of 2.0.1: [`Line::V2`]. Defects are corrected, as with
    /// [`builder`](Self::builder).
    ///
    /// ```
    /// use prodigy_plus::ProdigyPlus;
    ///
    /// let optimizer = ProdigyPlus::v2().build([("w", [64, 32])])?;
    /// let chain = "weighted-factored-moment ‖ | soft-stableadamw ‖ | prodigy | schedule-free";
    /// assert_eq!(optimizer.describe_chain(0, &[64, 32])?, chain);
    ///
    /// // Prodigy with a first moment, for a learning rate with a schedule.
    /// let options = ProdigyPlus::v2().use_schedulefree(false);
    /// let optimizer = options.build([("w", [64, 32])])?;
    /// let chain = "weighted-first-moment | weighted-factored-moment ‖ | soft-stableadamw ‖ | prodigy | descent";
    /// assert_eq!(optimizer.describe_chain(0, &[64, 32])?, chain);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn v2() -> Options {
        Options::default().line(Line::V2)
    }
}

impl Options {
    /// An optimizer with one group of (name, shape), in the order in which every step passes them, which
    /// computes in float32.
    ///
    /// # Errors
    /// Options out of range or excluding each other, and those of [`Optimizer::with_groups`].
    pub fn build<N: Into<String>>(
        &self,
        parameters: impl IntoIterator<Item = (N, impl IntoShape)>,
    ) -> Result<Optimizer> {
        self.build_in(parameters)
    }

    /// As [`build`](Self::build), for a type that is named or inferred.
    ///
    /// ```
    /// use gradient_transform::Optimizer;
    /// use prodigy_plus::ProdigyPlus;
    ///
    /// let optimizer: Optimizer<f64> = ProdigyPlus::builder().build_in([("w", [4])])?;
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_in<T: Real, N: Into<String>>(
        &self,
        parameters: impl IntoIterator<Item = (N, impl IntoShape)>,
    ) -> Result<Optimizer<T>> {
        let silent = self.compat.silent_exclusions;
        let options =
            if silent { self.clone().resolve_exclusions_like_the_reference() } else { self.clone() };
        self.build_groups([(options, parameters)])
    }

    /// An optimizer with several groups, each with its own options: usually these, with some changed. Unlike
    /// [`build`](Self::build) it works for any type, so name the type if nothing else does: `Optimizer` is
    /// the one of float32.
    ///
    /// Options of all groups together (`split_groups`, `split_groups_mean`, `compat`, `seed`, `non_finite`) are taken from `self`;
    /// a group's own setting of these has no effect.
    ///
    /// ```
    /// use gradient_transform::Optimizer;
    /// use prodigy_plus::ProdigyPlus;
    ///
    /// let base = ProdigyPlus::builder().weight_decay(0.1);
    /// let optimizer: Optimizer = base.build_groups([
    ///     (base.clone(), vec![("encoder.w", vec![64, 32]), ("encoder.b", vec![64])]),
    ///     (base.clone().lr(0.5).weight_decay(0.0), vec![("decoder.w", vec![32, 64])]),
    /// ])?;
    /// assert_eq!(optimizer.lr(1)?, 0.5);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_groups<T: Real, N: Into<String>, S: IntoShape>(
        &self,
        groups: impl IntoIterator<Item = (Options, impl IntoIterator<Item = (N, S)>)>,
    ) -> Result<Optimizer<T>> {
        let made = groups
            .into_iter()
            .map(|(options, parameters)| self.group(options, parameters))
            .collect::<Result<Vec<_>>>()?;
        self.build_from(made)
    }

    /// An optimizer with existing groups: made by [`group`](Self::group), or with custom chains. Options of
    /// all groups together are taken from `self`.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, ParameterGroup};
    /// use prodigy_plus::ProdigyPlus;
    ///
    /// let base = ProdigyPlus::builder().split_groups_mean(false);
    /// let network = base.group(base.clone(), [("w", [64, 32])])?;
    /// let temperature = ParameterGroup::new(Descent::default(), [("temperature", [1])]).lr(1e-3);
    /// let optimizer: Optimizer = base.build_from([network, temperature])?;
    /// assert_eq!(optimizer.lr(1)?, 1e-3);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Optimizer::with_groups`].
    pub fn build_from<T: Real>(
        &self,
        groups: impl IntoIterator<Item = ParameterGroup<T>>,
    ) -> Result<Optimizer<T>> {
        let compat = self.compat.engine;
        let recomputes = compat.evaluation_moves_parameters;
        let settings = Settings {
            split_groups: self.split(),
            non_finite: self.non_finite,
            seed: self.seed,
            training_point: if recomputes { TrainingPoint::Recomputed } else { TrainingPoint::Kept },
        };
        let mut optimizer = Optimizer::with_groups(groups, settings)?;
        if compat != EngineCompat::default() {
            optimizer.set_policy(compat);
        }
        Ok(optimizer)
    }

    /// One group with the given options, for [`Optimizer::add_group`] or [`build_from`](Self::build_from).
    ///
    /// ```
    /// use prodigy_plus::ProdigyPlus;
    ///
    /// let base = ProdigyPlus::builder();
    /// let mut optimizer = base.build([("w", [64, 32])])?;
    /// optimizer.add_group(base.group(base.clone().lr(0.5), [("adapter", [64, 4])])?)?;
    /// assert_eq!(optimizer.lr(1)?, 0.5);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// Options out of range or excluding each other.
    pub fn group<T: Real, N: Into<String>>(
        &self,
        options: Options,
        parameters: impl IntoIterator<Item = (N, impl IntoShape)>,
    ) -> Result<ParameterGroup<T>> {
        if !self.compat.silent_exclusions {
            options.check_exclusions()?;
        }
        let options = Options { compat: self.compat, ..options };
        let initial_d = self.compat.group_d0_ignored.then_some(self.d0);
        let rounding = if options.stochastic_rounding { Rounding::Stochastic } else { Rounding::Nearest };
        Ok(ParameterGroup::new(fused(chain::<T>(&options, initial_d)?), parameters)
            .lr(options.lr)
            .rounding(rounding))
    }
}
