use focus::Weight;
use gradient_transform::{MomentScale, NonFinite, SplitGroups};
use prodigy_core::{Negative, Point, Ratio, Weighting};
use serde::{Deserialize, Serialize};

use crate::compat::Compat;
use crate::line::Line;

macro_rules! options {
    (
        set { $($(#[$doc:meta])* $name:ident: $type:ty = $default:expr;)* }
        implied { $($(#[$implied_doc:meta])* $implied:ident: $implied_type:ty = |$options:ident| $follows:expr;)* }
    ) => {
        /// The documented options of the Python package, under their documented names and with their defaults; and an
        /// optimizer's builder.
        ///
        /// As a serde structure it reads them from JSON or TOML; absent ones have their defaults, unknown ones are errors.
        /// The defaults of some options depend on other options: [`implied`](Options::implied).
        ///
        /// ```
        /// use gradient_transform::NonFinite;
        /// use prodigy_plus::{Compat, Options};
        ///
        /// let options = Options::default().betas((0.95, 0.999)).weight_decay(0.1);
        /// assert_eq!(options.lr, 1.0);
        /// let from_json: Options = serde_json::from_str(r#"{"betas": [0.95, 0.999], "weight_decay": 0.1}"#).unwrap();
        /// assert_eq!(from_json, options);
        ///
        /// // All that 1.9.2 documents, at their defaults.
        /// let every = Options::default()
        ///     .lr(1.0)
        ///     .betas((0.9, 0.99))
        ///     .beta3(None)
        ///     .weight_decay(0.0)
        ///     .weight_decay_by_lr(true)
        ///     .use_bias_correction(false)
        ///     .d0(1e-6)
        ///     .d_coef(1.0)
        ///     .prodigy_steps(0)
        ///     .use_speed(false)
        ///     .eps(Some(1e-8))
        ///     .split_groups(true)
        ///     .split_groups_mean(true)
        ///     .factored(true)
        ///     .factored_fp32(true)
        ///     .fused_back_pass(false)
        ///     .use_stableadamw(true)
        ///     .use_muon_pp(false)
        ///     .use_cautious(false)
        ///     .use_grams(false)
        ///     .use_adopt(false)
        ///     .use_orthograd(false)
        ///     .use_focus(false)
        ///     .stochastic_rounding(true)
        ///     .muon_bf16_iterations(false)
        ///     .compat(Compat::default())
        ///     .seed(0)
        ///     .non_finite(NonFinite::Error);
        /// assert_eq!(every.explicit(), Options::default().explicit());
        /// let optimizer = every.build([("w", &[64, 32][..])])?;
        /// # Ok::<(), gradient_transform::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Options {
            $($(#[$doc])* pub $name: $type,)*
            $($(#[$implied_doc])* pub $implied: Option<$implied_type>,)*
        }

        impl Default for Options {
            fn default() -> Self {
                Self { $($name: $default,)* $($implied: None,)* }
            }
        }

        /// The options whose defaults depend on other options.
        ///
        /// ```
        /// use prodigy_plus::{Implied, Options};
        ///
        /// let default: Implied = Options::default().implied();
        /// assert!(default.use_stableadamw && default.factored);
        /// // One option is enough.
        /// assert!(!Options::default().eps(None).implied().use_stableadamw);
        /// assert!(!Options::default().use_focus(true).implied().factored);
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct Implied {
            $($(#[$implied_doc])* pub $implied: $implied_type,)*
        }

        impl Options {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: $type) -> Self {
                self.$name = $name;
                self
            })*

            $($(#[$implied_doc])*
            #[must_use]
            pub fn $implied(mut self, $implied: $implied_type) -> Self {
                self.$implied = Some($implied);
                self
            })*

            /// The effective values of the options whose defaults depend on other options.
            pub fn implied(&self) -> Implied {
                Implied {
                    $($implied: self.$implied.unwrap_or({
                        let $options = self;
                        $follows
                    }),)*
                }
            }

            /// The same options, with these values set explicitly.
            ///
            /// ```
            /// use prodigy_plus::Options;
            ///
            /// let options = Options::default().eps(None);
            /// assert_eq!((options.use_stableadamw, options.explicit().use_stableadamw), (None, Some(false)));
            /// ```
            #[must_use]
            pub fn explicit(&self) -> Self {
                let implied = self.implied();
                Self { $($implied: Some(implied.$implied),)* ..self.clone() }
            }
        }
    };
}

options! {
    set {
        /// The version of the Python package whose defaults the options below have. Default: 1.9.2.
        line: Line = Line::V1;
        /// Factor of the step size that Prodigy estimates; leave at 1 unless training is unstable. At least
        /// 0. Default 1.
        lr: f64 = 1.0;
        /// (beta1, beta2): Schedule-Free's interpolation, in (0, 1), or the decay of the first moment, in [0, 1); and the decay of the
        /// second moment, in [0, 1). Default (0.9, 0.99).
        betas: (f64, f64) = (0.9, 0.99);
        /// Decay of Prodigy's numerator and s, in [0, 1). Default `None`: the root of beta2.
        beta3: Option<f64> = None;
        /// Weight decay, taken at y. At least 0; default 0.
        weight_decay: f64 = 0.0;
        /// Whether weight decay is multiplied by the adaptive step size, as in AdamW. Default true.
        weight_decay_by_lr: bool = true;
        /// RAdam's warm-up and bias correction. With it, Prodigy takes up to ten times as long to move. Default false.
        use_bias_correction: bool = false;
        /// Initial estimate of the step size, above 0. Default 1e-6.
        d0: f64 = 1e-6;
        /// Factor of the estimate, above 0. 0.5 and 2 are typical other values. Default 1.
        d_coef: f64 = 1.0;
        /// Step from which on d is frozen and Prodigy's memory is freed, not counting steps at learning rate
        /// 0. Default 0: never.
        prodigy_steps: u64 = 0;
        /// Averaging instead of momentum and schedule. Without it, the optimizer is Prodigy with a first
        /// moment, and needs a schedule. Default true. (New in 2.0.1.)
        use_schedulefree: bool = true;
        /// Strength of the averaging, at least 0: Refined Schedule-Free (2507.09846). 6 to 12 for short runs with small batches, 50 to
        /// 200 for long ones. Default 0: the plain rule. (New in 2.0.1.)
        schedulefree_c: f64 = 0.0;
        /// SPEED: another estimate of d, which does not depend on the scale of the gradients. Default false.
        use_speed: bool = false;
        /// Added to the denominator, above 0; `None` for Adam-atan2. Default 1e-8.
        eps: Option<f64> = Some(1e-8);
        /// Whether every group has its own d. Default true.
        split_groups: bool = true;
        /// Whether the factored moment is float32 even under bfloat16 parameters. Default true.
        factored_fp32: bool = true;
        /// Whether gradients are stepped one by one, with [`gradient_transform::Optimizer::begin_step`]. Both ways of stepping are
        /// always available, so this has no effect; it is accepted so that existing settings can be read. Default false.
        fused_back_pass: bool = false;
        /// Muon: orthogonalises the gradients of matrices. Default false. (Not in 2.0.1.)
        use_muon_pp: bool = false;
        /// Cautious updates. Default false.
        use_cautious: bool = false;
        /// Grams. Default false.
        use_grams: bool = false;
        /// ADOPT. Default false.
        use_adopt: bool = false;
        /// OrthoGrad. Default false.
        use_orthograd: bool = false;
        /// FOCUS. Default false.
        use_focus: bool = false;
        /// Whether bfloat16 parameters and state are rounded stochastically (or else to the nearest). Default true.
        stochastic_rounding: bool = true;
        /// Whether Muon's iterations round to bfloat16 after every operation, as those of the Python package
        /// do. Default false: they have the type of the computation.
        muon_bf16_iterations: bool = false;
        /// The defects of the Python package that are reproduced. Default: none.
        compat: Compat = Compat::default();
        /// Seed of stochastic rounding. Default 0.
        seed: u64 = 0;
        /// Rule for a step with a non-finite gradient. Default: it is an error.
        non_finite: NonFinite = NonFinite::Error;
    }
    implied {
        /// Whether groups with their own d step with the harmonic mean of all. Default: true in 1.9.2, false in 2.0.1.
        split_groups_mean: bool = |options| options.line == Line::V1;
        /// Whether the second moment is factored, if a tensor is large enough. Default: true, unless
        /// `use_focus` is set.
        factored: bool = |options| !options.use_focus;
        /// Scales large updates down by their root mean square. Default: true, unless `eps` is `None`.
        use_stableadamw: bool = |options| options.eps.is_some();
        /// Whether an update of size s > 1 is scaled down to the root of s, instead of clipped at a
        /// threshold. Default: false in 1.9.2, true in 2.0.1.
        soft_stableadamw: bool = |options| options.line == Line::V2;
        /// Whether `d_hat / d_coef` is at most 2^(1/4) times d in a step. Default: false in 1.9.2, true in 2.0.1.
        d_limiter: bool = |options| options.line == Line::V2;
        /// Weight of a step's gradients in the estimate. Default: `root` in 1.9.2, `squared` in 2.0.1.
        prodigy_weighting: Weighting = |options| options.line.pick(Weighting::Root, Weighting::Squared);
        /// How d_hat follows from numerator and denominator. Default: `arctangent` in 1.9.2, `quotient` in 2.0.1.
        prodigy_ratio: Ratio = |options| options.line.pick(Ratio::Arctangent, Ratio::Quotient);
        /// Effect of a step's negative sum on the numerator. Default: it `replaces` a larger one in 1.9.2, and `adds` in 2.0.1.
        prodigy_negative: Negative = |options| options.line.pick(Negative::Replaces, Negative::Adds);
        /// End of the displacement from the start. Default: at the `parameter` in 1.9.2, at Schedule-Free's z, the `base`, in 2.0.1.
        prodigy_at: Point = |options| options.line.pick(Point::Parameter, Point::Base);
        /// How moments follow d. Default: `rescaled` in 1.9.2, `weighted` in 2.0.1.
        moment_scale: MomentScale = |options| options.line.pick(MomentScale::Rescaled, MomentScale::Weighted);
        /// Whether atan2 has a fixed scale, 4/pi, instead of the threshold that follows d. Default: false in
        /// 1.9.2, true in 2.0.1.
        unit_atan2: bool = |options| options.line == Line::V2;
        /// Whether OrthoGrad projects the update, after the moment, instead of the gradient. Default: false
        /// in 1.9.2, true in 2.0.1.
        orthograd_on_update: bool = |options| options.line == Line::V2;
        /// Whether SPEED uses displacements instead of signs. Default: false in 1.9.2, true in 2.0.1.
        displacement_speed: bool = |options| options.line == Line::V2;
        /// The weights that FOCUS averages. Default: the `parameter` in 1.9.2, Schedule-Free's z, the `base`,
        /// in 2.0.1.
        focus_of: Weight = |options| options.line.pick(Weight::Parameter, Weight::Base);
    }
}

impl Options {
    /// Prodigy's effective decay: `beta3`, or the root of beta2.
    ///
    /// ```
    /// use prodigy_plus::Options;
    ///
    /// assert_eq!(Options::default().betas((0.9, 0.81)).beta3_or_default(), 0.9);
    /// assert_eq!(Options::default().beta3(Some(0.5)).beta3_or_default(), 0.5);
    /// ```
    pub fn beta3_or_default(&self) -> f64 {
        self.beta3.unwrap_or_else(|| self.betas.1.max(0.0).sqrt())
    }

    pub(crate) fn split(&self) -> SplitGroups {
        match (self.split_groups, self.implied().split_groups_mean) {
            (true, true) => SplitGroups::Mean,
            (true, false) => SplitGroups::Each,
            (false, _) => SplitGroups::Joint,
        }
    }

    /// Options that exclude each other, as the Python package's constructor resolves them: `eps=None` switches
    /// `use_stableadamw` off, `use_cautious` does `use_grams`, and `use_focus` does `factored` and `use_muon_pp`.
    ///
    /// It resolves only the constructor's options; a group's own options do not change.
    ///
    /// ```
    /// use prodigy_plus::Options;
    ///
    /// let options = Options::default().use_focus(true).factored(true);
    /// assert!(options.check_exclusions().is_err());
    /// let resolved = options.resolve_exclusions_like_the_reference();
    /// assert_eq!((resolved.check_exclusions(), resolved.factored), (Ok(()), Some(false)));
    /// ```
    #[must_use]
    pub fn resolve_exclusions_like_the_reference(mut self) -> Self {
        if self.eps.is_none() {
            self.use_stableadamw = Some(false);
        }
        if self.use_cautious {
            self.use_grams = false;
        }
        if self.use_focus {
            self.factored = Some(false);
            self.use_muon_pp = false;
        }
        self
    }
}
