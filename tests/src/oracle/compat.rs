//! Where the oracle follows the reference's trajectory instead of the documented behaviour.

use super::options::Line;

/// What versions 1.9.2 and 2.0.1 do otherwise than they should, each under a name of its own. `true` is the reference's behaviour,
/// `false` - the default - what it should have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compat {
    /// The row variable is normalised by its mean over the axis `dc - 1` when the second largest axis `dc` comes after the
    /// largest, although the variable kept its reduced axis. Corrected: by its mean over `dc`, the axis that it spans.
    pub factored_row_mean_axis: bool,
    /// `p0`, `s` and each tensor's `|s|_1` are bfloat16 under float32 parameters. Corrected: `p0` is in the parameter's
    /// type, `s` and the sums are not rounded.
    pub prodigy_state_bf16: bool,
    /// With `split_groups=False`, only the first group's `d_prev` follows `d`. Corrected: every group's does.
    pub joint_d_prev_not_copied: bool,
    /// From `prodigy_steps` on, `d_prev` stays behind `d`. Corrected: `d_prev = d`.
    pub freeze_keeps_d_prev: bool,
    /// The group's `weight_sum` is what its last parameter saw, which is the old one if that was not updated. Corrected:
    /// it grows once in every step that updated any parameter of the group.
    pub weight_sum_of_last_parameter: bool,
    /// The harmonic mean of `d` is over all groups, and all step with it. Corrected: it is over those that can move (they have
    /// had a gradient at a learning rate above 0, and are not at 0 now) and have a `d` above their `d0`; while there are none,
    /// over those that can move, and else over all. A group at its `d0` beside others that have left theirs steps
    /// with the smaller of that mean and its own `d`.
    pub harmonic_mean_counts_inactive: bool,
    /// Gradients at learning rate 0 count in numerator and denominator. Corrected: the estimate stands still, or if it is of several groups, it leaves out
    /// those that have never moved.
    pub learns_at_lr_0: bool,
    /// `prodigy_steps` counts steps at learning rate 0. Corrected: it counts the others.
    pub freeze_counts_still_steps: bool,
    /// Every 11th element is looked at, which in a matrix of 11, 22 or 33 columns are always the same columns. Corrected: a
    /// stride that shares no factor with the shape.
    pub samples_keep_step_with_shape: bool,
    /// Cautious scales all of the displacement, by the share of agreeing elements among all. Corrected: the step alone, by the
    /// share among those that have an update; without one, the averaging goes on.
    pub cautious_scales_displacement: bool,
    /// ADOPT's first step, which only fills the moment, is the group's first. Corrected: it is the parameter's first.
    pub first_step_of_group: bool,
    /// A group's `k` grows in every step. Corrected: only if one of its parameters had a gradient.
    pub k_advances_without_gradients: bool,
    /// In a step without a gradient the numerator decays, the denominator is zero, and `d` becomes `atan2(n, 0) = pi/2`
    /// as soon as the numerator `n` is positive. The same where all gradients' samples are
    /// zero. Corrected: `d` stands still.
    pub d_updates_without_gradients: bool,
    /// SPEED's bound `d^0.975` lies below `d` when `d > 1`, so that `d` shrinks. Corrected: `d` never shrinks.
    pub speed_shrinks_above_one: bool,
    /// OrthoGrad rescales whatever is left of a gradient to the gradient's norm, also if that is rounding noise.
    /// Corrected: nothing is left if `|g_orth|^2 <= 1e-13 |g|^2`.
    pub orthograd_normalises_noise: bool,
    /// While the rectifier is zero, nothing moves but what decoupled weight decay shrinks. Corrected: nothing moves.
    pub decay_while_unrectified: bool,
    /// Switching to evaluation and back goes through the parameter's storage type. Corrected: it moves nothing.
    pub evaluation_moves_parameters: bool,
    /// Muon's mean square is a bfloat16 scalar, and so is everything computed from it. Corrected: it is not rounded.
    pub muon_rms_bf16: bool,
    /// A group's own `d0` is where it measures from, but its `d` starts at the `d0` of the constructor. Corrected: `d`
    /// starts at the group's `d0` (at the first group's, where all groups share one `d`).
    pub group_d0_ignored: bool,
    /// 2.0.1 without Schedule-Free: Cautious multiplies the first moment by the gradient. Corrected: by the mask.
    pub cautious_multiplies_by_gradient: bool,
    /// 2.0.1 without Schedule-Free: ADOPT divides g by a moment of d g, clips that, and steps along a first moment of d times it.
    /// Corrected: d g is divided, and the first moment is of the quotient.
    pub adopt_reads_weighted: bool,
    /// 2.0.1 without Schedule-Free: y is multiplied by 1 less the decay, in float32, before the step. Corrected: what decays is
    /// subtracted.
    pub decays_first: bool,
    /// 2.0.1: FOCUS's average is of d^2 times the weights, and is compared with the weights. Corrected: it is of the weights.
    pub focus_reads_weighted: bool,
}

impl Compat {
    /// Everything as in version 1.9.2 of the reference.
    pub const V1_9_2: Compat = Compat {
        factored_row_mean_axis: true,
        prodigy_state_bf16: true,
        joint_d_prev_not_copied: true,
        freeze_keeps_d_prev: true,
        weight_sum_of_last_parameter: true,
        harmonic_mean_counts_inactive: true,
        learns_at_lr_0: true,
        freeze_counts_still_steps: true,
        samples_keep_step_with_shape: true,
        cautious_scales_displacement: true,
        first_step_of_group: true,
        k_advances_without_gradients: true,
        d_updates_without_gradients: true,
        speed_shrinks_above_one: true,
        orthograd_normalises_noise: true,
        decay_while_unrectified: true,
        evaluation_moves_parameters: true,
        muon_rms_bf16: true,
        group_d0_ignored: true,
        cautious_multiplies_by_gradient: false,
        adopt_reads_weighted: false,
        decays_first: false,
        focus_reads_weighted: false,
    };

    /// Everything as in version 2.0.1 of the reference.
    pub const V2_0_1: Compat = Compat {
        joint_d_prev_not_copied: false,
        freeze_keeps_d_prev: false,
        weight_sum_of_last_parameter: false,
        speed_shrinks_above_one: false,
        muon_rms_bf16: false,
        cautious_multiplies_by_gradient: true,
        adopt_reads_weighted: true,
        decays_first: true,
        focus_reads_weighted: true,
        ..Compat::V1_9_2
    };

    /// Everything as in that line of the reference.
    pub fn of(line: Line) -> Compat {
        match line {
            Line::First => Compat::V1_9_2,
            Line::Second => Compat::V2_0_1,
        }
    }
}
