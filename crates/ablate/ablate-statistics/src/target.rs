use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

/// When a run reached its target.
///
/// ```
/// use ablate_statistics::{PairedSteps, ToTarget};
///
/// // An arm beside its base: faster with the first seed, and with the second one it got there at all.
/// let pairs = [(ToTarget::Reached(100.0), ToTarget::Reached(200.0)), (ToTarget::Reached(300.0), ToTarget::Missed(500.0))];
/// let found = PairedSteps::of(&pairs);
/// assert_eq!((found.faster, found.slower, found.ratio), (2, 0, Some(0.5)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToTarget {
    /// After so many steps.
    Reached(f64),
    /// Not within so many steps.
    Missed(f64),
}

/// Steps to a target over the seeds, misses censored.
///
/// ```
/// use ablate_statistics::{StepsToTarget, ToTarget::{Missed, Reached}};
/// let steps = StepsToTarget::of(&[Reached(300.0), Missed(1000.0), Reached(200.0)]).unwrap();
/// assert_eq!((steps.reached, steps.median), (2, Some(300.0)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepsToTarget {
    /// Runs.
    pub n: usize,
    /// Runs that reached it.
    pub reached: usize,
    /// Kaplan and Meier's (1958) median: the first number of steps at which at most half of the runs have not reached
    /// it yet. Absent where that never happens.
    pub median: Option<f64>,
}

impl StepsToTarget {
    /// Of the runs of an arm; absent without any.
    pub fn of(runs: &[ToTarget]) -> Option<Self> {
        let mut events: Vec<(f64, bool)> = runs
            .iter()
            .map(|run| match *run {
                ToTarget::Reached(steps) => (steps, true),
                ToTarget::Missed(steps) => (steps, false),
            })
            .collect();
        // At the same step, whoever reached it was still at risk with whoever was censored.
        events.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        let n = events.len();
        let mut surviving = 1.0;
        let mut median = None;
        for (index, (steps, reached)) in events.iter().enumerate() {
            if *reached {
                let at_risk = (n - index) as f64;
                surviving *= 1.0 - 1.0 / at_risk;
            }
            if median.is_none() && surviving <= 0.5 + 1e-12 {
                median = Some(*steps);
            }
        }
        let reached = events.iter().filter(|(_, reached)| *reached).count();
        (n > 0).then_some(Self { n, reached, median })
    }
}

/// An arm's steps to the target against the base's, paired by seed.
///
/// ```
/// use ablate_statistics::{PairedSteps, ToTarget::{Missed, Reached}};
/// let pairs = [(Reached(100.0), Reached(200.0)), (Reached(300.0), Missed(500.0)), (Missed(500.0), Missed(500.0))];
/// let steps = PairedSteps::of(&pairs);
/// assert_eq!((steps.faster, steps.slower, steps.unknown), (2, 0, 1));
/// assert_eq!((steps.both, steps.ratio), (1, Some(0.5)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedSteps {
    /// Seeds for which the arm is known to have taken fewer steps.
    pub faster: usize,
    /// Seeds for which it is known to have taken more.
    pub slower: usize,
    /// Seeds for which both took the same, or both missed.
    pub unknown: usize,
    /// Pairs in which both reached the target.
    pub both: usize,
    /// The geometric mean of arm / base over these pairs. It leaves misses out, and with them what is slowest.
    pub ratio: Option<f64>,
    /// Two-sided p of the sign test over the pairs whose order is known, ties left out; absent without any.
    pub p: Option<f64>,
}

impl PairedSteps {
    /// From (arm, base) by seed.
    pub fn of(pairs: &[(ToTarget, ToTarget)]) -> Self {
        use ToTarget::{Missed, Reached};
        let (mut faster, mut slower, mut unknown) = (0_u64, 0_u64, 0);
        let mut logarithms = Vec::new();
        for pair in pairs {
            match *pair {
                (Reached(arm), Reached(base)) => {
                    if arm > 0.0 && base > 0.0 {
                        logarithms.push((arm / base).ln());
                    }
                    match arm.total_cmp(&base) {
                        std::cmp::Ordering::Less => faster += 1,
                        std::cmp::Ordering::Greater => slower += 1,
                        std::cmp::Ordering::Equal => unknown += 1,
                    }
                }
                (Reached(arm), Missed(budget)) if arm <= budget => faster += 1,
                (Missed(budget), Reached(base)) if base <= budget => slower += 1,
                _ => unknown += 1,
            }
        }
        let ratio = (!logarithms.is_empty())
            .then(|| (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp());
        Self {
            both: logarithms.len(),
            faster: faster as usize,
            slower: slower as usize,
            unknown,
            ratio,
            p: sign_test(faster, slower),
        }
    }
}

fn sign_test(first: u64, second: u64) -> Option<f64> {
    let n = first + second;
    if n == 0 {
        return None;
    }
    let tail = Binomial::new(0.5, n).ok()?.cdf(first.min(second));
    Some((2.0 * tail).min(1.0))
}
