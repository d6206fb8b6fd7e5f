#![doc = include_str!("../README.md")]

use gradient_transform::{
    Context, DType, Error, Link, Reads, Real, Result, Role, StateSpec, StepContext, StepSummary, Storage,
    TensorInfo, Tile, WriterLink, kernel,
};

/// Schedule-Free averaging: the writer that makes a learning-rate schedule needless.
///
/// With the step size `gamma` of the step, `c = gamma^2 / sum of gamma^2` so far, and `a = 1 - beta1 (1 - c)`:
///
/// ```text
/// u <- u + weight_decay * y                 (weight_decay_by_lr)
/// m  = c (y - z) + gamma a u                the displacement, which Cautious or Grams may temper
/// y <- y - m                                the point at which gradients are taken
/// z <- z - gamma u                          the base iterate
/// x  = y + (1 - 1/beta1) (z - y)            the evaluation point, an average of all z
/// ```
///
/// Without `weight_decay_by_lr`, `y` and `z` are decayed outside of `u`: `z <- z - weight_decay * y`,
/// `y <- y - weight_decay a y`, with `y` before the step.
///
/// Defazio et al., 2405.15682, equations 1-3 and Algorithm 1. As in the reference, the averaging weight is `gamma^2` without the paper's
/// running maximum of the learning rate, and the first moment's place is taken by the interpolation of y.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleFree {
    /// Interpolation between z (0) and x (1) at which gradients are taken, in (0, 1). Default 0.9.
    pub beta1: f64,
    /// Weight decay, taken at y. At least 0; default 0.
    pub weight_decay: f64,
    /// Whether weight decay is multiplied by the step size, as in AdamW. Default true; without it the same number acts
    /// about 1/(step size) times as strongly.
    pub weight_decay_by_lr: bool,
    /// Reference 1.9.2: the sum of weights advances only in steps in which the group's last parameter moved.
    pub weight_sum_of_last_parameter: bool,
    /// Reference 1.9.2: weight decay that is not multiplied by the step size also acts while RAdam's rectifier is 0.
    pub decay_while_unrectified: bool,
    /// Reference 1.9.2 with `stochastic_rounding = false`: every single operation on bfloat16 parameters is rounded to
    /// the nearest. Otherwise the step's result is.
    pub round_every_operation: bool,
}

impl Default for ScheduleFree {
    /// beta1 0.9 and no weight decay.
    fn default() -> Self {
        Self::new(0.9)
    }
}

impl ScheduleFree {
    /// Averaging without weight decay.
    pub fn new(beta1: f64) -> Self {
        Self {
            beta1,
            weight_decay: 0.0,
            weight_decay_by_lr: true,
            weight_sum_of_last_parameter: false,
            decay_while_unrectified: false,
            round_every_operation: false,
        }
    }

    fn rounds_every_operation(&self, cx: &Context<'_>) -> bool {
        self.round_every_operation && cx.tensor.dtype == DType::Bf16
    }

    /// a = 1 - beta1 (1 - c): the share of a step that y takes.
    fn share(&self, step: &StepContext) -> f64 {
        1.0 - self.beta1 * (1.0 - step.averaging_weight)
    }
}

impl<T: Real> Link<T> for ScheduleFree {
    fn name(&self) -> &str {
        "schedule-free"
    }

    fn validate(&self) -> Result<()> {
        let decay = self.weight_decay;
        Error::check(
            "beta1",
            self.beta1,
            self.beta1 > 0.0 && self.beta1 < 1.0,
            "above 0 and below 1: at 0 the average x cannot be told from y and z (use `Descent` for no averaging)",
        )?;
        Error::check("weight_decay", decay, decay.is_finite() && decay >= 0.0, "finite and at least 0")
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Writer
    }

    fn reads(&self) -> Reads {
        Reads::PARAMETER
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        StateSpec::new().column("z", Storage::Parameter).copied()
    }

    fn group_scalars(&self) -> &'static [&'static str] {
        &["weight_sum"]
    }

    fn begin_step(&self, scalars: &[f64], step: &mut StepContext) {
        let weight = step.step_size * step.step_size;
        let sum = scalars[0] + weight;
        step.averaging_weight = if sum > 0.0 { weight / sum } else { 0.0 };
    }

    fn end_step(&self, step: &StepContext, summary: &StepSummary, scalars: &mut [f64]) {
        let counts =
            if self.weight_sum_of_last_parameter { summary.last_updated } else { summary.updates > 0 };
        if counts {
            scalars[0] += step.step_size * step.step_size;
        }
    }

    fn writer(&self) -> Option<&dyn WriterLink<T>> {
        Some(self)
    }
}

/// The part of a step that draws y towards z.
#[derive(Clone, Copy)]
struct Average<T> {
    c: T,
    coefficient: T,
    from_z: bool,
}

impl<T: Real> Average<T> {
    fn new(c: f64) -> Self {
        let from_z = c >= 0.5;
        Self { c: T::of(c), coefficient: T::of(if from_z { c - 1.0 } else { c }), from_z }
    }

    /// `y + c (z - y)`, from the nearer end.
    #[inline(always)]
    fn at(self, y: T, z: T) -> T {
        let base = if self.from_z { z } else { y };
        base + self.coefficient * (z - y)
    }

    /// `c (y - z) + step`.
    #[inline(always)]
    fn displacement(self, y: T, z: T, step: T) -> T {
        (y - z) * self.c + step
    }

    /// The same with every operation rounded to bfloat16.
    #[inline(always)]
    fn rounded_displacement(self, y: T, z: T, step: T) -> T {
        (((y - z).round_bf16() * self.c).round_bf16() + step).round_bf16()
    }
}

impl<T: Real> WriterLink<T> for ScheduleFree {
    fn base_column(&self) -> Option<usize> {
        Some(0)
    }

    fn direct(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        if self.weight_decay != 0.0 && self.weight_decay_by_lr {
            let decay = T::of(self.weight_decay);
            tile.update.map2(tile.parameter, move |u, y| u + decay * y);
        }
    }

    fn displace(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, displacement: &mut [T]) {
        let average = Average::new(cx.step.averaging_weight);
        let rate = T::of(cx.step.step_size * self.share(&cx.step));
        let (update, factor) = tile.update.scaled();
        let (y, z) = (tile.parameter, &*tile.columns[0]);
        if self.rounds_every_operation(cx) {
            kernel::map4(displacement, update, y, z, move |_, u, y, z| {
                average.rounded_displacement(y, z, rate * (factor * u))
            });
        } else {
            kernel::map4(displacement, update, y, z, move |_, u, y, z| {
                average.displacement(y, z, rate * (factor * u))
            });
        }
    }

    fn apply(
        &self,
        cx: &Context<'_>,
        tile: &mut Tile<'_, '_, T>,
        displacement: Option<&[T]>,
        parameter: &mut [T],
    ) {
        let step = &cx.step;
        let unrectified = step.rectification.is_some_and(|r| r.factor == 0.0);
        let decay = match self.weight_decay_by_lr {
            false if self.decay_while_unrectified || !unrectified => self.weight_decay,
            _ => 0.0,
        };
        let (decay_y, decay_z) = (T::of(decay * self.share(step)), T::of(decay));
        let step_size = T::of(step.step_size);
        let rate = T::of(step.step_size * self.share(step));
        let average = Average::new(step.averaging_weight);
        let z = &mut *tile.columns[0];
        let (update, factor) = tile.update.scaled();
        if self.rounds_every_operation(cx) {
            let round = |x: T| x.round_bf16();
            let forward = move |y, z, u| round(round(average.at(y, z)) - rate * u);
            return kernel::update2(
                parameter,
                z,
                update,
                displacement.unwrap_or(update),
                move |y, z, u, m| {
                    let u = factor * u;
                    let is_tempered =
                        displacement.is_some() && m != average.rounded_displacement(y, z, rate * u);
                    let moved = if is_tempered { round(y - m) } else { forward(y, z, u) };
                    (round(moved - decay_y * y), round(round(z - step_size * u) - decay_z * y))
                },
            );
        }
        // y is rounded after the interpolation and again after the step, as the reference does: while steps are of
        // the size of the last digit, the order of roundings is what p0 - y consists of.
        let forward = move |y, z, u| average.at(y, z) - rate * u;
        // A displacement that is as `displace` made it moves y as none does, so that an identity changes no bit.
        let by = move |y, z, u, m| {
            if m == average.displacement(y, z, rate * u) { forward(y, z, u) } else { y - m }
        };
        match (displacement, decay != 0.0) {
            (None, false) => kernel::update2(parameter, z, update, update, move |y, z, u, _| {
                let u = factor * u;
                (forward(y, z, u), z - step_size * u)
            }),
            (None, true) => kernel::update2(parameter, z, update, update, move |y, z, u, _| {
                let u = factor * u;
                (forward(y, z, u) - decay_y * y, z - step_size * u - decay_z * y)
            }),
            (Some(m), false) => kernel::update2(parameter, z, update, m, move |y, z, u, m| {
                let u = factor * u;
                (by(y, z, u, m), z - step_size * u)
            }),
            (Some(m), true) => kernel::update2(parameter, z, update, m, move |y, z, u, m| {
                let u = factor * u;
                (by(y, z, u, m) - decay_y * y, z - step_size * u - decay_z * y)
            }),
        }
    }

    fn evaluation_weight(&self) -> f64 {
        self.beta1
    }
}
