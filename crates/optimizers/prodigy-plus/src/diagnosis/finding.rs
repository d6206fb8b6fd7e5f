//! Findings and remedies.

use std::fmt;

use gradient_transform::{DType, NotFinite};
use serde::{Deserialize, Serialize};

/// A cause of a d that does not grow, or never stops growing. Its text gives the observation and the remedy.
/// [`diagnose`](crate::diagnose()) has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// The learning rate is constant at another number than 1.
    LearningRate {
        /// The group.
        group: GroupName,
        /// Its learning rate.
        lr: f64,
    },
    /// The learning rate still rises.
    WarmUp {
        /// The group.
        group: GroupName,
        /// The latest recorded step.
        step: u64,
        /// The learning rate in it.
        lr: f64,
        /// d after it.
        d: f64,
    },
    /// The gradient's norm is often the same, and never larger: it was clipped before the optimizer got it.
    Clipped {
        /// The largest norm over all tensors.
        norm: f64,
        /// Recorded steps with this norm.
        steps: usize,
        /// Recorded steps in all.
        records: usize,
    },
    /// Tensors whose gradients have vanished in every recorded step.
    Vanishing {
        /// Their names.
        tensors: Vec<String>,
        /// The number of them with all weights 0.
        zeros: usize,
        /// The number of all tensors.
        of: usize,
        /// Recorded steps.
        records: usize,
    },
    /// Steps are lost in the rounding of the weights.
    Rounded {
        /// The group.
        group: GroupName,
        /// Its largest tensor with such steps.
        tensor: String,
        /// The type of its elements.
        dtype: DType,
        /// Their size, as a root mean square.
        weight: f64,
        /// The distance between two numbers of that size.
        spacing: f64,
        /// The size of a step before rounding.
        step: f64,
        /// Share of the elements that moved in the latest recorded step.
        moved: f64,
        /// d after it.
        d: f64,
        /// A d0 with which a step is half that distance.
        d0: f64,
    },
    /// The step's sums of `<g, p0 - y>` are below 0.
    NegativeSums {
        /// The group.
        group: GroupName,
        /// The first recorded step from which all sums are negative.
        since: u64,
        /// The latest recorded step.
        until: u64,
        /// d after it.
        d: f64,
    },
    /// A group steps with the harmonic mean, which another group's small estimate keeps low.
    HeldDown {
        /// The group with the largest estimate.
        group: GroupName,
        /// Its own d.
        d: f64,
        /// The mean.
        mean: f64,
        /// The group with the smallest estimate.
        by: GroupName,
        /// Its own d.
        by_d: f64,
    },
    /// The group has too few elements for an estimate.
    FewElements {
        /// The group.
        group: GroupName,
        /// The number that exist.
        elements: usize,
        /// The approximate number of samples.
        samples: usize,
    },
    /// The estimate was frozen before it had grown.
    Frozen {
        /// The group.
        group: GroupName,
        /// The first recorded step in which it was frozen.
        since: u64,
        /// d.
        d: f64,
    },
    /// d is far larger than the weights were.
    TooLarge {
        /// The group.
        group: GroupName,
        /// The first recorded step with such a d.
        since: u64,
        /// The latest recorded step.
        step: u64,
        /// d after it.
        d: f64,
        /// The size of the group's weights in the first recorded step, as a root mean square.
        weight: f64,
    },
    /// A value that is not finite.
    NotFinite(NotFinite),
    /// There are too few records for any other finding.
    TooFewRecords {
        /// The number that exist.
        records: usize,
        /// The number that a diagnosis needs.
        needed: usize,
    },
}

/// A group by its number and its tensors. [`diagnose`](crate::diagnose()) has an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupName {
    /// Its number, from 0.
    pub index: usize,
    /// The name of its first tensor that had a gradient.
    pub first: String,
    /// The number of other tensors that had one.
    pub others: usize,
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, first, others } = self;
        match others {
            0 => write!(f, "group {index} (`{first}`)"),
            1 => write!(f, "group {index} (`{first}` and one other)"),
            _ => write!(f, "group {index} (`{first}` and {others} others)"),
        }
    }
}

/// A number with three digits.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = *self;
        if value == 0.0 || (1e-3..1e4).contains(&value.abs()) {
            let digits = if value == 0.0 { 0 } else { 2 - value.abs().log10().floor() as i32 };
            let text = format!("{value:.*}", digits.max(0) as usize);
            let text =
                if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
            f.write_str(text)
        } else {
            write!(f, "{value:.1e}")
        }
    }
}

/// The first few names.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let shown: Vec<String> = self.0.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
        f.write_str(&shown.join(", "))?;
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LearningRate { group, lr: 0.0 } => write!(
                f,
                "The learning rate of {group} is 0: the group does not move, and its estimate does not change. That is right while it is frozen. To train it, set \
                 its learning rate to 1, also after resuming: loading a state does not set learning rates.",
            ),
            Self::LearningRate { group, lr } => write!(
                f,
                "The learning rate of {group} is {}; with Prodigy it should be 1. It multiplies d in the step size, so that the weights move \
                 too little or too far, and d, which is estimated from the distance that they have moved, is wrong. Set it to 1; for larger or smaller steps than the \
                 estimate, set d_coef to 2 or 0.5.",
                Short(*lr)
            ),
            Self::WarmUp { group, step, lr, d } => write!(
                f,
                "The learning rate of {group} is still rising: {} in step {step}, and d is {}. While it is small, the weights move little, and d, which \
                 is estimated from the distance that they have moved, cannot grow. Wait for the end of the warm-up, or remove it: d always starts small.",
                Short(*lr),
                Short(*d)
            ),
            Self::Clipped { norm, steps, records } => write!(
                f,
                "The norm of all gradients together was {} in {steps} of {records} recorded steps, and never larger: gradients are clipped or normalised before \
                 the optimizer gets them. Prodigy estimates the distance from the gradients' size, which clipping makes meaningless. Switch the clipping off; the chain limits \
                 its updates itself (use_stableadamw).",
                Short(*norm)
            ),
            Self::Vanishing { tensors, zeros, of, records } => {
                write!(
                    f,
                    "In {} of {of} tensors the gradients were 0, or negligible relative to the others, in all of {records} recorded steps: {}. They add nothing to \
                     the estimate, and do not train. Check whether the loss depends on them: detached or frozen parts, saturated units, a loss \
                     scale that underflows.",
                    tensors.len(),
                    Names(tensors)
                )?;
                match zeros {
                    0 => Ok(()),
                    _ => write!(
                        f,
                        " The weights of {zeros} of them are all 0: two factors that both start at 0, as is possible in LoRA, never have gradients; \
                         initialise one of them randomly."
                    ),
                }
            }
            Self::Rounded { group, tensor, dtype, weight, spacing, step, moved, d, d0 } => write!(
                f,
                "Steps of {group} are lost in rounding. Weights of `{tensor}` are about {}, where numbers of {dtype} are {} apart, and a step is {}: {} % of \
                 the elements moved in the latest recorded step, so that d, which is estimated from the distance that they have moved, is still {}. Set d0 to about {}, or keep \
                 the weights in {}.",
                Short(*weight),
                Short(*spacing),
                Short(*step),
                Short(100.0 * moved),
                Short(*d),
                Short(*d0),
                match dtype {
                    DType::Bf16 => DType::F32,
                    DType::F32 | DType::F64 => DType::F64,
                }
            ),
            Self::NegativeSums { group, since, until, d } => write!(
                f,
                "The sums that the gradients of {group} add to the numerator have been negative since step {since} (until the latest record, step {until}), and the gradients have not \
                 become smaller: the displacement from the first weights points uphill, and d stays at {}. Either steps are too large from the start, and a smaller d0 \
                 helps; or something else moves the weights, such as a projection, an average or a reload.",
                Short(*d)
            ),
            Self::HeldDown { group, d, mean, by, by_d } => write!(
                f,
                "The estimate of {group} is {}, and it steps with {}: the harmonic mean of all groups, which {by} keeps low with its {}. Let each group step \
                 with its own (split_groups_mean = false), or estimate one for all (split_groups = false).",
                Short(*d),
                Short(*mean),
                Short(*by_d)
            ),
            Self::FewElements { group, elements, samples } => write!(
                f,
                "There are {elements} elements in {group}, of which Prodigy samples about {samples}: its d depends on a few numbers, and can jump far too high or stay \
                 low. Put its tensors into a larger group, estimate one d for all groups (split_groups = false), or train it with a learning rate."
            ),
            Self::Frozen { group, since, d } => write!(
                f,
                "The estimate of {group} has been frozen at {} since step {since}, before it had grown: prodigy_steps is too small. Set it to about a quarter of \
                 the run, or to 0 for never.",
                Short(*d)
            ),
            Self::TooLarge { group, since, step, d, weight } => write!(
                f,
                "d of {group} is {} in step {step}, where the size of the first weights was {}, and has been that large since step {since}: the gradients keep \
                 pointing along the displacement from the first weights, as if the solution were farther and farther away. Check whether the loss falls, and has a minimum: a \
                 gradient of the wrong sign, or gradients that are clipped or scaled outside. Then stop d (prodigy_steps), or slow it down \
                 (d_coef = 0.5, d_limiter).",
                Short(*d),
                Short(*weight)
            ),
            Self::NotFinite(found) => write!(
                f,
                "Not finite: {found}. From then on all sums are NaN, and d does not change. Check the named link or gradient; gradients that are not \
                 finite can be an error or skipped (non_finite)."
            ),
            Self::TooFewRecords { records, needed } => write!(
                f,
                "There are {records} recorded steps, and a diagnosis of d needs {needed}. Set a recorder (set_recorder), and continue training."
            ),
        }
    }
}
