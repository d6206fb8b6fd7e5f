use serde::{Deserialize, Serialize};

use crate::engine_compat::EngineCompat;

/// The defects of the Python references 1.9.2 and 2.0.1, one switch each. All are off by default: the
/// corrected behaviour.
///
/// [`Compat::V1_9_2`] and [`Compat::V2_0_1`] switch on those of one version and reproduce its trajectories.
///
/// ```
/// use prodigy_plus::{Compat, ProdigyPlus};
///
/// // One defect, and all of one version.
/// let one = Compat { wrong_row_mean: true, ..Compat::default() };
/// let like_python = ProdigyPlus::builder().compat(Compat::V1_9_2).build([("w", &[64, 32][..])])?;
/// assert!(one != Compat::V1_9_2 && Compat::V1_9_2.wrong_row_mean);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compat {
    /// If a factored tensor's larger axis comes first, the rows are divided by a mean over the wrong axis,
    /// which makes the denominator one-sided. Corrected: by the mean over the axis that the rows span.
    pub wrong_row_mean: bool,
    /// p0 and s are bfloat16 under float32 parameters, so the first numerators are rounding noise. Corrected:
    /// p0 has the parameter's type, and s is float32.
    pub narrow_prodigy_state: bool,
    /// Prodigy samples every 11th element, in matrices of 11, 22 or 33 columns always from the same columns.
    /// Corrected: a stride that has no common factor with the shape.
    pub samples_keep_step_with_shape: bool,
    /// Cautious scales the whole displacement up by the share of elements that it keeps, and counts those without an update as
    /// dropped; if few elements have gradients, the weights diverge. Corrected: only the step is scaled, not
    /// the averaging, by the share among the elements that have an update.
    pub cautious_scales_displacement: bool,
    /// bfloat16 moments are rounded to the nearest after every operation. Corrected: once a step, as parameters are.
    pub round_moments_twice: bool,
    /// d_prev stays below d when `prodigy_steps` freezes it, so the moments keep shrinking.
    pub freeze_keeps_d_prev: bool,
    /// A step without information about the gradients (all samples are 0, or in parameters without elements)
    /// sets d to pi/2 once the numerator is positive. Corrected: the estimate does not change.
    pub d_from_nothing: bool,
    /// Gradients at learning rate 0 count in |s|_1. With one d for all groups they count even before their
    /// group has ever moved, when its numerator is 0. After the group is thawed, d does not grow until s has
    /// forgotten them. Corrected: they do not count, except for those of a group that has moved and shares
    /// its d with others.
    pub learns_at_lr_0: bool,
    /// The sum of averaging weights advances only if the group's last parameter moved. Corrected: once per group and step.
    pub weight_sum_of_last_parameter: bool,
    /// A group's own d0 does not initialise its d. Corrected: it does.
    pub group_d0_ignored: bool,
    /// Weight decay that is not multiplied by the learning rate shrinks the weights while RAdam's rectifier is 0 and
    /// nothing else moves.
    pub decay_while_unrectified: bool,
    /// After Cautious or Grams, y is rounded in another way than without them, even if they do not change the
    /// displacement; the first numerators consist of such roundings. Corrected: elements that do not change
    /// are rounded as without them.
    pub always_displaces: bool,
    /// Options that exclude each other are resolved silently, as the reference does: `eps=None` over
    /// `use_stableadamw`, `use_cautious` over `use_grams`, `use_focus` over `factored`, `use_muon_pp` and `eps=None`.
    /// Corrected: they are an error.
    pub silent_exclusions: bool,
    /// ADOPT takes the group's first step for every parameter's, so one that joins late starts with an empty moment.
    /// Corrected: each parameter's own first gradient fills its moment.
    pub adopt_first_step_of_group: bool,
    /// SPEED's cap d^0.975 shrinks a d above 1. Corrected: d never falls.
    pub speed_shrinks_above_one: bool,
    /// OrthoGrad rescales rounding noise to the full norm of the gradient where nothing orthogonal is left (tensors of one
    /// element, gradients parallel to the weights). Corrected: the update is 0 there.
    pub orthograd_normalises_noise: bool,
    /// <w, g>, <w, w>, |g| and the projection of OrthoGrad are rounded to bfloat16 under bfloat16 parameters. Corrected: they have the type of the computation.
    pub orthograd_narrow_products: bool,
    /// Without Schedule-Free, Cautious multiplies the first moment by the gradient instead of the mask, so
    /// that the update's size is that of the gradient's square. Corrected: the moment is masked.
    pub cautious_multiplies_by_gradient: bool,
    /// Without Schedule-Free, ADOPT's moments are of d g and are read as if they were of g: directions have
    /// size 1/d when they are clipped, so that all are cut, and size d in the step, so that a step has size
    /// d^2. Corrected: size 1.
    pub adopt_reads_weighted: bool,
    /// Without Schedule-Free, the weights are multiplied by 1 minus the decay before the step. In float32, a
    /// decay below 6e-8 is lost or doubled. Corrected: decay is a part of the step.
    pub decays_first: bool,
    /// FOCUS's average of the weights is of d^2 times them and is read as if it were of them, so every weight is drawn to 0. Corrected:
    /// it is an average of the weights.
    pub focus_reads_weighted: bool,
    /// Muon's mean square is a bfloat16 number. Corrected: it has the type of the computation.
    pub narrow_muon_mean_square: bool,
    /// With `stochastic_rounding = false`, every single operation on bfloat16 parameters is rounded to the nearest.
    /// Corrected: only the step's result is rounded.
    pub round_every_operation: bool,
    /// Defects between tensors and groups, and in evaluation.
    pub engine: EngineCompat,
}

impl Compat {
    /// All defects of the Python reference 1.9.2.
    pub const V1_9_2: Self = Self {
        wrong_row_mean: true,
        narrow_prodigy_state: true,
        samples_keep_step_with_shape: true,
        cautious_scales_displacement: true,
        round_moments_twice: true,
        freeze_keeps_d_prev: true,
        d_from_nothing: true,
        learns_at_lr_0: true,
        weight_sum_of_last_parameter: true,
        group_d0_ignored: true,
        decay_while_unrectified: true,
        always_displaces: true,
        silent_exclusions: true,
        adopt_first_step_of_group: true,
        speed_shrinks_above_one: true,
        orthograd_normalises_noise: true,
        orthograd_narrow_products: true,
        cautious_multiplies_by_gradient: false,
        adopt_reads_weighted: false,
        decays_first: false,
        focus_reads_weighted: false,
        narrow_muon_mean_square: true,
        round_every_operation: true,
        engine: EngineCompat::V1_9_2,
    };
    /// All defects of the Python reference 2.0.1, for the options of [`Line::V2`](crate::Line::V2).
    pub const V2_0_1: Self = Self {
        wrong_row_mean: true,
        narrow_prodigy_state: true,
        samples_keep_step_with_shape: true,
        cautious_scales_displacement: true,
        round_moments_twice: true,
        freeze_keeps_d_prev: false,
        d_from_nothing: true,
        learns_at_lr_0: true,
        weight_sum_of_last_parameter: false,
        group_d0_ignored: true,
        decay_while_unrectified: true,
        always_displaces: true,
        silent_exclusions: true,
        adopt_first_step_of_group: true,
        speed_shrinks_above_one: false,
        orthograd_normalises_noise: true,
        orthograd_narrow_products: false,
        cautious_multiplies_by_gradient: true,
        adopt_reads_weighted: true,
        decays_first: true,
        focus_reads_weighted: true,
        narrow_muon_mean_square: false,
        round_every_operation: false,
        engine: EngineCompat {
            joint_d_prev_not_copied: false,
            shared_d_not_saved: false,
            ..EngineCompat::V1_9_2
        },
    };
}
