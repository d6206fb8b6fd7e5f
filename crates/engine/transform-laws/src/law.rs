use std::fmt;

use half::bf16;

use crate::laws::{chain, estimate, frozen, identity, late, state, symmetry, training, values};
use crate::row::Row;

/// A law of every transform; or an equivariance, for rows that declare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// Saved as bytes and loaded into another optimizer in the middle, a run in float32 continues
    /// unchanged.
    BytesInFloat32,
    /// The same with parameters in bfloat16 and stochastic rounding.
    BytesInBfloat16,
    /// The same in float64.
    BytesInFloat64,
    /// Powers of two act as the row's law of scale says.
    Scale,
    /// Unless its row declares it, a transform prefers no direction: negated gradients and parameters negate
    /// everything, to the bit, also under stochastic rounding, which rounds magnitudes.
    Odd,
    /// Gradients of zero make no NaN, and move only what the row says.
    Zero,
    /// Permuted slices move as the row's law of permutation says.
    Permutation,
    /// A transform that joins its chain late starts as the row says.
    Late,
    /// If the step size is estimated, moments follow d as the row says.
    Estimate,
    /// At learning rate 0, an estimate of the step size does not change, and neither do parameters that have
    /// not moved yet. For a row with [`Zero::Moves`](crate::Zero::Moves) only the estimate is checked,
    /// because decay need not be multiplied by the learning rate.
    Frozen,
    /// The trajectory in float32 is that in float64, up to rounding.
    Float32,
    /// The chain follows its formula.
    Formula,
    /// `None` in the transform's place is the identity, and the transform is not.
    None,
    /// An identity anywhere in the chain changes no bit.
    Identity,
    /// An identity in one group changes no bit of either.
    IdentityInOneGroup,
    /// Adding or removing the transform does not change the state of others.
    Toggling,
    /// A chain of boxes does the same as the tuple.
    Boxes,
    /// Parameters given one by one make the same step, in float32.
    OneByOneInFloat32,
    /// The same in bfloat16.
    OneByOneInBfloat16,
    /// A chain in which the transform occurs twice is an error.
    Once,
    /// It trains to its target on four small problems.
    Training,
}

impl Law {
    /// All laws.
    pub const ALL: [Self; 21] = [
        Self::BytesInFloat32,
        Self::BytesInBfloat16,
        Self::BytesInFloat64,
        Self::Scale,
        Self::Odd,
        Self::Zero,
        Self::Permutation,
        Self::Late,
        Self::Estimate,
        Self::Frozen,
        Self::Float32,
        Self::Formula,
        Self::None,
        Self::Identity,
        Self::IdentityInOneGroup,
        Self::Toggling,
        Self::Boxes,
        Self::OneByOneInFloat32,
        Self::OneByOneInBfloat16,
        Self::Once,
        Self::Training,
    ];

    /// Tests the law on a row.
    ///
    /// # Errors
    /// The row breaks it.
    pub fn check(self, row: &Row) -> Result<(), Broken> {
        let outcome = match self {
            Self::BytesInFloat32 => state::round_trips_through_bytes::<f32, f32>(row),
            Self::BytesInBfloat16 => state::round_trips_through_bytes::<f32, bf16>(row),
            Self::BytesInFloat64 => state::round_trips_through_bytes::<f64, f64>(row),
            Self::Scale => symmetry::follows_its_law_of_scale(row),
            Self::Odd => symmetry::is_odd(row),
            Self::Zero => values::survives_zero_gradients(row),
            Self::Permutation => symmetry::follows_its_law_of_permutation(row),
            Self::Late => late::joins_as_its_row_says(row),
            Self::Estimate => estimate::follows_d_as_its_row_says(row),
            Self::Frozen => frozen::stands_still_at_learning_rate_0(row),
            Self::Float32 => values::is_the_same_in_float32_and_float64(row),
            Self::Formula => values::is_its_formula(row),
            Self::None => chain::none_is_the_identity(row),
            Self::Identity => identity::an_identity_changes_no_bit(row),
            Self::IdentityInOneGroup => identity::an_identity_in_one_group_changes_no_bit_of_either(row),
            Self::Toggling => state::toggling_it_leaves_the_others_state_alone(row),
            Self::Boxes => chain::boxed_is_as_a_tuple(row),
            Self::OneByOneInFloat32 => chain::parameters_may_come_one_by_one::<f32>(row),
            Self::OneByOneInBfloat16 => chain::parameters_may_come_one_by_one::<bf16>(row),
            Self::Once => chain::occurs_once(row),
            Self::Training => training::trains(row),
        };
        outcome.map_err(|how| Broken { row: row.name, law: self, how: format!("{how:#}") })
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BytesInFloat32 => "saved as bytes and loaded, a run in float32 continues",
            Self::BytesInBfloat16 => "saved as bytes and loaded, a run in bfloat16 continues",
            Self::BytesInFloat64 => "saved as bytes and loaded, a run in float64 continues",
            Self::Scale => "powers of two act as its law of scale says",
            Self::Odd => "negated gradients and parameters negate the trajectory",
            Self::Zero => "zero gradients make no NaN and move only what they should",
            Self::Permutation => "permuted slices move as its law of permutation says",
            Self::Late => "it joins a chain late as its row says",
            Self::Estimate => "under an estimated step size it is what its row says",
            Self::Frozen => "at learning rate 0 nothing moves, and an estimate does not change",
            Self::Float32 => "float32 is float64, rounded",
            Self::Formula => "the chain is its formula",
            Self::None => "None in its place is the identity, and it is not",
            Self::Identity => "an identity anywhere changes no bit",
            Self::IdentityInOneGroup => "an identity in one group changes no bit of either",
            Self::Toggling => "adding or removing it does not change the state of others",
            Self::Boxes => "a chain of boxes is the tuple",
            Self::OneByOneInFloat32 => "parameters one by one are the step in float32",
            Self::OneByOneInBfloat16 => "parameters one by one are the step in bfloat16",
            Self::Once => "twice in a chain it is an error",
            Self::Training => "it trains to its target on four small problems",
        })
    }
}

/// A row that breaks a law.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{row} breaks a law ({law}): {how}")]
pub struct Broken {
    /// The row's name.
    pub row: &'static str,
    /// The law.
    pub law: Law,
    /// The finding.
    pub how: String,
}

/// Tests all laws on a row. Tests by [`laws!`](crate::laws!) name the broken law, and run in parallel.
///
/// # Errors
/// Every law that the row breaks.
pub fn check(row: &Row) -> Result<(), Vec<Broken>> {
    let broken: Vec<Broken> = Law::ALL.iter().filter_map(|law| law.check(row).err()).collect();
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}
