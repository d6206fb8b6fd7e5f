use gradient_transform::{Backend, Element, Error, GradientTransform, Result, StepContext, transform};
use serde::{Deserialize, Serialize};

/// A factor of the learning rate as a function of the step, as a value that can be written to a file.
///
/// Steps count from 0. After its last step a schedule keeps its last value.
///
/// ```
/// use elementary::Schedule;
///
/// // Ten steps up, and down to a tenth along a cosine.
/// let schedule = Schedule::warm_up(10).for_steps(10).then(Schedule::cosine(1.0, 0.1, 90));
/// for (step, expected) in [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (55, 0.55), (100, 0.1), (1000, 0.1)] {
///     assert!((schedule.at(step) - expected).abs() < 1e-15);
/// }
///
/// let text = serde_json::to_string(&Schedule::cosine(1.0, 0.0, 90)).unwrap();
/// assert_eq!(text, r#"{"cosine":{"from":1.0,"to":0.0,"steps":90}}"#);
/// assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), Schedule::cosine(1.0, 0.0, 90));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// The same factor at every step.
    Constant {
        /// The factor.
        factor: f64,
    },
    /// `to + (from - to) (1 - step/steps)^power`: a line with power 1.
    Polynomial {
        /// Factor of step 0.
        from: f64,
        /// Factor of step `steps`, and of those after it.
        to: f64,
        /// Its length, at least 1.
        steps: u64,
        /// Exponent, above 0.
        power: f64,
    },
    /// `to + (from - to) (1 + cos(pi step/steps)) / 2` (Loshchilov and Hutter, 1608.03983, equation 5).
    Cosine {
        /// Factor of step 0.
        from: f64,
        /// Factor of step `steps`, and of those after it.
        to: f64,
        /// Its length, at least 1.
        steps: u64,
    },
    /// `rate^(step/steps)`, or with `stairs` `rate^floor(step/steps)`.
    Exponential {
        /// Factor after each `steps` steps, above 0.
        rate: f64,
        /// The number of these steps, at least 1.
        steps: u64,
        /// Whether the factor stays the same between them.
        stairs: bool,
    },
    /// `sqrt(steps / max(step, steps))`: 1 at first, then falling with the inverse root of the step (Vaswani
    /// et al., 1706.03762, section 5.3).
    InverseRoot {
        /// Steps before it falls, at least 1.
        steps: u64,
    },
    /// One after the other; each begins at its own step 0.
    Sequence {
        /// The parts before the last, with their lengths.
        parts: Vec<Part>,
        /// The last part.
        last: Box<Schedule>,
    },
    /// The product of several schedules.
    Product {
        /// The factors.
        of: Vec<Schedule>,
    },
}

/// A part of a [`Schedule::Sequence`]: see [`Schedule::for_steps`].
///
/// ```
/// use elementary::{Part, Schedule};
///
/// let part: Part = Schedule::constant(0.5).for_steps(3);
/// assert_eq!(part.then(Schedule::constant(0.1)).at(3), 0.1);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its schedule.
    pub schedule: Schedule,
    /// How many steps it lasts.
    pub steps: u64,
}

impl Part {
    /// This part, followed by another schedule.
    ///
    /// ```
    /// use elementary::Schedule;
    ///
    /// // Warm-up, stable, decay (Hu et al., 2404.06395, section 4).
    /// let decay = Schedule::linear(1.0, 0.0, 20);
    /// let schedule = Schedule::warm_up(10).for_steps(10).then(Schedule::constant(1.0).for_steps(70).then(decay));
    /// assert_eq!([0, 9, 50, 80, 90, 100].map(|step| schedule.at(step)), [0.1, 1.0, 1.0, 1.0, 0.5, 0.0]);
    /// ```
    #[must_use]
    pub fn then(self, next: Schedule) -> Schedule {
        match next {
            Schedule::Sequence { mut parts, last } => {
                parts.insert(0, self);
                Schedule::Sequence { parts, last }
            }
            last => Schedule::Sequence { parts: vec![self], last: Box::new(last) },
        }
    }
}

impl Schedule {
    /// A constant factor.
    ///
    /// ```
    /// assert_eq!(elementary::Schedule::constant(0.5).at(7), 0.5);
    /// ```
    pub const fn constant(factor: f64) -> Self {
        Self::Constant { factor }
    }

    /// A line.
    ///
    /// ```
    /// let schedule = elementary::Schedule::linear(1.0, 0.0, 4);
    /// assert_eq!([0, 1, 4, 9].map(|step| schedule.at(step)), [1.0, 0.75, 0.0, 0.0]);
    /// ```
    pub const fn linear(from: f64, to: f64, steps: u64) -> Self {
        Self::Polynomial { from, to, steps, power: 1.0 }
    }

    /// Half a wave of a cosine.
    ///
    /// ```
    /// let schedule = elementary::Schedule::cosine(1.0, 0.0, 4);
    /// assert_eq!([0, 2, 4, 9].map(|step| schedule.at(step)), [1.0, 0.5, 0.0, 0.0]);
    /// ```
    pub const fn cosine(from: f64, to: f64, steps: u64) -> Self {
        Self::Cosine { from, to, steps }
    }

    /// A line from `1/steps` in the first step to 1 in the last of them, and 1 afterwards. A line from 0
    /// would waste the first step.
    ///
    /// ```
    /// let schedule = elementary::Schedule::warm_up(4);
    /// for (step, expected) in [(0, 0.25), (1, 0.5), (3, 1.0), (9, 1.0)] {
    ///     assert!((schedule.at(step) - expected).abs() < 1e-15);
    /// }
    /// ```
    pub fn warm_up(steps: u64) -> Self {
        Self::linear(1.0 / steps.max(1) as f64, 1.0, steps.saturating_sub(1).max(1))
    }

    /// Along a cosine from 1/25 up to 1 in three tenths of the steps, and down to 1/250000 in the others
    /// (Smith and Topin, 1708.07120), as optax's `cosine_onecycle_schedule`. PyTorch's `OneCycleLR` reaches
    /// each end a step earlier.
    ///
    /// ```
    /// let schedule = elementary::Schedule::one_cycle(10);
    /// assert_eq!([0, 3].map(|step| schedule.at(step)), [0.04, 1.0]);
    /// assert!((schedule.at(10) - 4e-6).abs() < 1e-15);
    /// ```
    pub fn one_cycle(steps: u64) -> Self {
        let up = (0.3 * steps as f64) as u64;
        let down = Self::cosine(1.0, 0.04 / 1e4, steps.saturating_sub(up).max(1));
        Self::cosine(0.04, 1.0, up.max(1)).for_steps(up).then(down)
    }

    /// The first steps of this one, to be followed by another.
    ///
    /// ```
    /// use elementary::Schedule;
    ///
    /// // Two cosines, the second twice as long: warm restarts.
    /// let cosine = |steps| Schedule::cosine(1.0, 0.0, steps);
    /// let schedule = cosine(10).for_steps(10).then(cosine(20));
    /// assert_eq!([0, 5, 10, 20, 30].map(|step| schedule.at(step)), [1.0, 0.5, 1.0, 0.5, 0.0]);
    /// ```
    #[must_use]
    pub const fn for_steps(self, steps: u64) -> Part {
        Part { schedule: self, steps }
    }

    /// The factor of a step, counted from 0.
    ///
    /// ```
    /// use elementary::Schedule;
    ///
    /// let halves = Schedule::Exponential { rate: 0.5, steps: 10, stairs: true };
    /// let noam = Schedule::Product { of: vec![Schedule::warm_up(16), Schedule::InverseRoot { steps: 16 }] };
    /// assert_eq!([0, 9, 10, 25].map(|step| halves.at(step)), [1.0, 1.0, 0.5, 0.25]);
    /// assert_eq!([15, 16, 64].map(|step| noam.at(step)), [1.0, 1.0, 0.5]);
    /// ```
    pub fn at(&self, step: u64) -> f64 {
        // Exact at both ends.
        let between = |from: f64, to: f64, left: f64| left * from + (1.0 - left) * to;
        let share = |steps: u64| step.min(steps) as f64 / steps.max(1) as f64;
        match *self {
            Self::Constant { factor } => factor,
            Self::Polynomial { from, to, steps, power } => {
                between(from, to, (1.0 - share(steps)).powf(power))
            }
            Self::Cosine { from, to, steps } => {
                between(from, to, (1.0 + (std::f64::consts::PI * share(steps)).cos()) / 2.0)
            }
            Self::Exponential { rate, steps, stairs } => {
                let times = step as f64 / steps.max(1) as f64;
                rate.powf(if stairs { times.floor() } else { times })
            }
            Self::InverseRoot { steps } => (steps as f64 / step.max(steps).max(1) as f64).sqrt(),
            Self::Sequence { ref parts, ref last } => {
                let mut step = step;
                for part in parts {
                    if step < part.steps {
                        return part.schedule.at(step);
                    }
                    step -= part.steps;
                }
                last.at(step)
            }
            Self::Product { ref of } => of.iter().map(|schedule| schedule.at(step)).product(),
        }
    }

    /// Checks the ranges.
    ///
    /// ```
    /// let error = elementary::Schedule::linear(1.0, -1.0, 10).validate().unwrap_err();
    /// assert_eq!(error.to_string(), "option `to` is -1, but it must be finite and at least 0");
    /// ```
    ///
    /// # Errors
    /// [`Error::OptionOutOfRange`].
    pub fn validate(&self) -> Result<()> {
        use crate::check::{not_negative, positive};
        let some = |steps: u64| Error::check("steps", steps as f64, steps > 0, "at least 1");
        match *self {
            Self::Constant { factor } => not_negative("factor", factor),
            Self::Polynomial { from, to, steps, power } => {
                not_negative("from", from)?;
                not_negative("to", to)?;
                positive("power", power)?;
                some(steps)
            }
            Self::Cosine { from, to, steps } => {
                not_negative("from", from)?;
                not_negative("to", to)?;
                some(steps)
            }
            Self::Exponential { rate, steps, .. } => {
                positive("rate", rate)?;
                some(steps)
            }
            Self::InverseRoot { steps } => some(steps),
            Self::Sequence { ref parts, ref last } => {
                parts.iter().try_for_each(|part| part.schedule.validate())?;
                last.validate()
            }
            Self::Product { ref of } => of.iter().try_for_each(Self::validate),
        }
    }
}

/// Multiplies the step size by a [`Schedule`].
///
/// ```text
/// step_size <- step_size schedule(k - 1)      k: the number of the group's step, from 1
/// ```
///
/// Anywhere in a chain before the writer. It also applies to everything that is multiplied by the step size,
/// such as decoupled weight decay. The step is saved with the group, so a resumed run continues where it was;
/// the snapshot's schedule is compared with this one. Only steps in which the group had a gradient count.
/// With an estimator it should start above 0, because d is found from the distance covered. Keeps nothing.
///
/// ```
/// use elementary::{Schedule, Scheduled};
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let chain = (Scheduled { schedule: Schedule::linear(1.0, 0.0, 4) }, Descent::default());
/// let mut optimizer = Optimizer::new(chain, [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// for expected in [-1.0, -1.75, -2.25, -2.5, -2.5] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))])?;
///     assert_eq!(w, [expected]);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scheduled {
    /// The factor. Default: 1 at every step.
    pub schedule: Schedule,
}

impl Default for Scheduled {
    fn default() -> Self {
        Self { schedule: Schedule::constant(1.0) }
    }
}

#[transform("schedule")]
impl GradientTransform for Scheduled {
    fn validate(&self) -> Result<()> {
        self.schedule.validate()
    }

    fn begin_step(&self, _scalars: &[f64], step: &mut StepContext) {
        step.step_size *= self.schedule.at(step.k.saturating_sub(1));
    }

    fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {}
}
