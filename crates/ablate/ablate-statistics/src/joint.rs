use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Number of patterns that are tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Largest number of seeds for which all sign patterns are tried.
    pub(crate) exact: usize,
    /// Sign patterns drawn for more seeds.
    pub(crate) drawn: usize,
}

impl Effort {
    pub(crate) const VERDICT: Self = Self { exact: 14, drawn: 10_000 };
    /// Fewer patterns, which are enough for a plan.
    pub(crate) const PLAN: Self = Self { exact: 10, drawn: 1_000 };
}

/// Share of the largest difference below which a difference counts as 0. Accuracies with equal counts have differences
/// of rounding: about 1e-16 of the accuracies, which may be a million times as large as the differences.
pub(crate) const ROUNDING: f64 = 1e-9;

/// Two-sided p of arms that share a base, corrected over them: the step-down max-T test of Westfall and Young (1993,
/// algorithm 4.1) and Romano and Wolf (2005), by sign patterns that are joint to all arms.
///
/// `arms[arm][seed]` is the difference to the base. Without a pair it is absent, and counts as no difference. The
/// answers are in the order of the arms, and absent for an arm with fewer than two pairs or with a difference that is
/// not finite. To leave out an arm that does nothing, give it no pairs.
///
/// A sign pattern turns all differences of a seed, or none: the arms of a seed share the base's run, so they may depend
/// on each other in any way. T of an arm is |sum of r| / sqrt(sum of r^2), where r is the root of a difference's size,
/// with its sign. The corrected p of the arm with the largest T is the share of patterns whose largest T of all arms is
/// at least as large. That of the next arm is the share among the arms without the first, but not less than the first
/// one's; and so on.
///
/// With plain differences, one large difference among others of the same sign would make T small, so that an arm could
/// be worse on every seed and unclear. Roots avoid this. For normal differences they cost a few per cent of the power
/// (the crate's example `error_rates` measures both).
///
/// If hypotheses with p of at most a are rejected, a true one is rejected in at most a share a of studies, whichever
/// are true. The condition: the differences of the arms without effect are jointly symmetric around 0. Unequal
/// variances and heavy tails do no harm. The smallest possible p is 2 / 2^seeds, for any number of arms.
///
/// It is exact up to 14 seeds. Beyond, it uses 10,000 patterns drawn from `seed` and counts the observed one in, so
/// that p is never too small.
///
/// ```
/// use ablate_statistics::joint_sign_flip_p;
///
/// let clear: Vec<Option<f64>> = [2.0, 2.1, 1.9, 2.2, 2.0, 2.1, 1.8].map(Some).to_vec();
/// let noise: Vec<Option<f64>> = [0.1, -0.2, 0.3, -0.1, 0.2, -0.3, 0.1].map(Some).to_vec();
/// let p = joint_sign_flip_p(&[noise, clear, vec![]], 0);
/// assert_eq!(p[1], Some(2.0 / 128.0)); // as if it were alone
/// assert!(p[0].is_some_and(|p| p > 0.5) && p[2].is_none());
/// ```
pub fn joint_sign_flip_p(arms: &[Vec<Option<f64>>], seed: u64) -> Vec<Option<f64>> {
    let columns =
        arms.iter().enumerate().filter_map(|(arm, differences)| Column::of(arm, differences, Sides::Two));
    let mut corrected = vec![None; arms.len()];
    for (arm, p) in step_down(columns.collect(), seed, Sides::Two, Effort::VERDICT) {
        corrected[arm] = Some(p);
    }
    corrected
}

/// Whether large sums of either sign are evidence, or only positive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sides {
    One,
    Two,
}

/// By column, its arm and its p corrected over all columns, in the order of falling evidence.
pub(crate) fn step_down(
    mut columns: Vec<Column>,
    seed: u64,
    sides: Sides,
    effort: Effort,
) -> Vec<(usize, f64)> {
    columns.sort_by(|a, b| b.observed.total_cmp(&a.observed));
    let seeds = columns.iter().map(|column| column.units.len()).max().unwrap_or(0);
    let rows: Vec<Vec<f64>> = (0..seeds)
        .map(|seed| columns.iter().map(|column| column.units.get(seed).copied().unwrap_or(0.0)).collect())
        .collect();
    let mut counts = vec![0_usize; columns.len()];
    let mut count = |sums: &[f64], of: &dyn Fn(f64) -> f64| {
        let mut largest = f64::NEG_INFINITY;
        for (column, (sum, count)) in columns.iter().zip(sums.iter().zip(&mut counts)).rev() {
            largest = largest.max(of(*sum));
            *count += usize::from(largest >= column.observed - ROUNDING);
        }
    };
    let patterns = for_each_pattern(&rows, columns.len(), effort, seed, |sums| match sides {
        Sides::Two => count(sums, &f64::abs),
        // Of two patterns that are each other's opposite, one is given.
        Sides::One => {
            count(sums, &|sum| sum);
            count(sums, &|sum| -sum);
        }
    });
    let mut before = 0.0_f64;
    let with_p = columns.iter().zip(counts).map(|(column, count)| {
        before = before.max(patterns.share(count, sides));
        (column.arm, before)
    });
    with_p.collect()
}

/// Roots of differences, with their signs, in units of the root of their sum of squares. Their sum is T with its sign.
pub(crate) fn units(differences: &[f64]) -> Vec<f64> {
    let largest = differences.iter().map(|difference| difference.abs()).fold(0.0, f64::max);
    let root = |difference: &f64| {
        let share = difference / largest;
        // The root of a rounding error would be none.
        if share.abs() <= ROUNDING { 0.0 } else { share.abs().sqrt().copysign(share) }
    };
    if largest == 0.0 {
        return vec![0.0; differences.len()];
    }
    let roots: Vec<f64> = differences.iter().map(root).collect();
    let norm = roots.iter().map(|root| root * root).sum::<f64>().sqrt();
    roots.iter().map(|root| root / norm).collect()
}

/// An arm as it is tested.
pub(crate) struct Column {
    arm: usize,
    pub(crate) units: Vec<f64>,
    pub(crate) observed: f64,
}

impl Column {
    /// Absent where there is too little of it.
    pub(crate) fn of(arm: usize, differences: &[Option<f64>], sides: Sides) -> Option<Self> {
        let pairs = || differences.iter().flatten();
        if pairs().count() < 2 || pairs().any(|difference| !difference.is_finite()) {
            return None;
        }
        let differences: Vec<f64> = differences.iter().map(|difference| difference.unwrap_or(0.0)).collect();
        let units = units(&differences);
        let sum = units.iter().sum::<f64>();
        let observed = if sides == Sides::Two { sum.abs() } else { sum };
        Some(Self { arm, units, observed })
    }
}

/// The sign patterns that were tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patterns {
    tried: usize,
    are_drawn: bool,
}

impl Patterns {
    pub(crate) const NONE: Self = Self { tried: 0, are_drawn: false };

    /// Share of so many of the patterns. The observed one is counted in if patterns are drawn.
    pub(crate) fn share(self, count: usize, sides: Sides) -> f64 {
        let observed = usize::from(self.are_drawn);
        // Of one side, a pattern and its opposite are two.
        let tried = if sides == Sides::Two { self.tried } else { 2 * self.tried };
        (count + observed) as f64 / (tried + observed) as f64
    }
}

/// Calls `each` with the columns' sums over the rows under sign patterns: one of each pattern and its opposite, or
/// drawn ones.
pub(crate) fn for_each_pattern(
    rows: &[Vec<f64>],
    columns: usize,
    Effort { exact, drawn }: Effort,
    seed: u64,
    mut each: impl FnMut(&[f64]),
) -> Patterns {
    let mut sums = vec![0.0; columns];
    let add = |sums: &mut Vec<f64>, row: &[f64], factor: f64| {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += factor * value;
        }
    };
    if rows.len() > exact {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..drawn {
            sums.fill(0.0);
            for row in rows {
                add(&mut sums, row, if generator.random() { 1.0 } else { -1.0 });
            }
            each(&sums);
        }
        return Patterns { tried: drawn, are_drawn: true };
    }
    for row in rows {
        add(&mut sums, row, 1.0);
    }
    each(&sums);
    // In Gray's order the next pattern turns one sign round.
    let tried = 1_usize << rows.len().saturating_sub(1);
    let mut signs = vec![1.0; rows.len()];
    for pattern in 1..tried {
        let turned = pattern.trailing_zeros() as usize;
        signs[turned] = -signs[turned];
        add(&mut sums, &rows[turned], 2.0 * signs[turned]);
        each(&sums);
    }
    Patterns { tried, are_drawn: false }
}
