use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Interval};
use crate::joint::joint_sign_flip_p;
use crate::sign_flip::sign_flip_p;
use crate::summary::mean;

/// A full factorial has 2^k arms; more factors than this are a mistake.
const MOST: usize = 16;

/// An effect over the seeds.
///
/// ```
/// use ablate_statistics::{Bootstrap, Effect, FactorialEffects};
///
/// let responses = [vec![0.0, 1.0], vec![5.0, 7.0], vec![3.0, 6.0]]; // by seed: unchanged, changed
/// let effects = FactorialEffects::of(&responses, 1, &Bootstrap::default()).unwrap();
/// let Effect { mean, interval, p, adjusted_p } = effects.main[0];
/// assert_eq!(mean, 2.0);
/// assert!(interval.is_none_or(|interval| interval.contains(2.0)) && p == Some(0.25));
/// assert_eq!(adjusted_p, p); // there is no other main effect
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Its mean over the seeds.
    pub mean: f64,
    /// The interval of the mean, [`Bootstrap::of_mean`].
    pub interval: Option<Interval>,
    /// Two-sided p of the mean, [`sign_flip_p`].
    pub p: Option<f64>,
    /// The same, corrected over the effects of its kind (main effects, interactions, or Shapley values),
    /// [`joint_sign_flip_p`].
    pub adjusted_p: Option<f64>,
}

/// Effects of a full factorial over k factors, each computed within a seed and then taken over the seeds.
///
/// ```
/// use ablate_statistics::{Bootstrap, FactorialEffects};
/// // Changing the first factor adds 3, the second 1, and both together 2 more; three seeds.
/// let responses: Vec<Vec<f64>> = [0.0, 10.0, 20.0].map(|seed| vec![seed, seed + 3.0, seed + 1.0, seed + 6.0]).to_vec();
/// let effects = FactorialEffects::of(&responses, 2, &Bootstrap::default()).unwrap();
/// assert_eq!((effects.main[0].mean, effects.main[1].mean), (4.0, 2.0));
/// assert_eq!(effects.interactions[0].2.mean, 1.0);
/// assert_eq!((effects.shapley[0].mean, effects.shapley[1].mean), (4.0, 2.0));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactorialEffects {
    /// By factor: the mean over all states of the others of (changed - unchanged) (Box, Hunter and Hunter, chapter 5).
    pub main: Vec<Effect>,
    /// By pair (i, j), i < j: half the difference between factor i's effects where j is changed and where it isn't,
    /// over all states of the others. 0 where effects add up.
    pub interactions: Vec<(usize, usize, Effect)>,
    /// By factor: its Shapley value (1953), the mean over all orders of changing the factors one by one of what
    /// changing this one adds. They sum to the difference between all changed and none.
    pub shapley: Vec<Effect>,
}

impl FactorialEffects {
    /// From `responses[seed][mask]`, where bit i of the mask says that factor i is changed. Absent without seeds or
    /// factors, or where a seed has not 2^factors finite values.
    pub fn of(responses: &[Vec<f64>], factors: usize, method: &Bootstrap) -> Option<Self> {
        let is_complete =
            |seed: &Vec<f64>| seed.len() == 1 << factors && seed.iter().all(|value| value.is_finite());
        if !(1..=MOST).contains(&factors) || responses.is_empty() || !responses.iter().all(is_complete) {
            return None;
        }
        let pairs: Vec<(usize, usize)> =
            (0..factors).flat_map(|i| (i + 1..factors).map(move |j| (i, j))).collect();
        let by_factor = |of: &dyn Fn(&[f64], usize) -> f64| {
            let effects = (0..factors).map(|i| responses.iter().map(|seed| of(seed, i)).collect());
            over_seeds(effects.collect(), method)
        };
        let by_pair =
            pairs.iter().map(|&(i, j)| responses.iter().map(|seed| interaction(seed, i, j)).collect());
        let interactions = over_seeds(by_pair.collect(), method);
        Some(Self {
            main: by_factor(&main_effect),
            interactions: pairs.iter().zip(interactions).map(|(&(i, j), effect)| (i, j, effect)).collect(),
            shapley: by_factor(&|seed, i| shapley(seed, factors, i)),
        })
    }
}

/// Effects of a kind, from their values by seed.
fn over_seeds(kind: Vec<Vec<f64>>, method: &Bootstrap) -> Vec<Effect> {
    let by_seed: Vec<Vec<Option<f64>>> =
        kind.iter().map(|values| values.iter().copied().map(Some).collect()).collect();
    let adjusted = joint_sign_flip_p(&by_seed, method.seed);
    let effect = |(values, adjusted_p): (&Vec<f64>, Option<f64>)| Effect {
        mean: mean(values),
        interval: method.of_mean(values),
        p: sign_flip_p(values, method.seed),
        adjusted_p,
    };
    kind.iter().zip(adjusted).map(effect).collect()
}

fn main_effect(values: &[f64], factor: usize) -> f64 {
    let signed = |(mask, value): (usize, &f64)| if mask >> factor & 1 == 1 { *value } else { -value };
    values.iter().enumerate().map(signed).sum::<f64>() / (values.len() / 2) as f64
}

fn interaction(values: &[f64], first: usize, second: usize) -> f64 {
    let signed = |(mask, value): (usize, &f64)| {
        if (mask >> first & 1) == (mask >> second & 1) { *value } else { -value }
    };
    values.iter().enumerate().map(signed).sum::<f64>() / (values.len() / 2) as f64
}

fn shapley(values: &[f64], factors: usize, factor: usize) -> f64 {
    let bit = 1 << factor;
    // Of all orders, those in which exactly these others come before: |S|! (k - 1 - |S|)! / k!.
    let weights: Vec<f64> =
        (0..factors).map(|before| 1.0 / (factors as f64 * choose(factors - 1, before))).collect();
    (0..values.len())
        .filter(|mask| mask & bit == 0)
        .map(|mask: usize| weights[mask.count_ones() as usize] * (values[mask | bit] - values[mask]))
        .sum()
}

fn choose(n: usize, k: usize) -> f64 {
    (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product()
}
