use serde::{Deserialize, Serialize};

/// A solver's performance profile: points (tau, share) in rising order, a step function from (1, share).
///
/// ```
/// use ablate_statistics::{Profile, performance_profiles};
///
/// let alone: Profile = performance_profiles(&[vec![Some(3.0), None]]).remove(0);
/// assert_eq!((alone.solver, alone.points), (0, vec![(1.0, 0.5)])); // it solves one of two problems
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Its place among the solvers.
    pub solver: usize,
    /// On this share of the problems, its cost is at most tau times the least.
    pub points: Vec<(f64, f64)>,
}

/// Performance profiles (Dolan and Moré, 2002): for every solver the share of problems that it solves at a cost of at
/// most tau times that of the best solver of the problem. `costs[solver][problem]`, absent where it failed.
///
/// A problem that no solver solves counts as one on which all fail.
///
/// ```
/// use ablate_statistics::performance_profiles;
/// let profiles = performance_profiles(&[vec![Some(1.0), Some(4.0)], vec![Some(3.0), Some(2.0)]]);
/// assert_eq!(profiles[0].points, [(1.0, 0.5), (2.0, 1.0)]);
/// assert_eq!(profiles[1].points, [(1.0, 0.5), (3.0, 1.0)]);
/// ```
pub fn performance_profiles(costs: &[Vec<Option<f64>>]) -> Vec<Profile> {
    let problems = costs.iter().map(Vec::len).max().unwrap_or(0);
    let cost = |solver: &[Option<f64>], problem: usize| solver.get(problem).copied().flatten();
    let best: Vec<Option<f64>> = (0..problems)
        .map(|problem| costs.iter().filter_map(|solver| cost(solver, problem)).min_by(f64::total_cmp))
        .collect();
    let profile = |(solver, costs): (usize, &Vec<Option<f64>>)| {
        let ratio = |problem: usize| {
            let (cost, best) = (cost(costs, problem)?, best[problem]?);
            // Both may be zero.
            Some(if cost == best { 1.0 } else { cost / best })
        };
        let mut ratios: Vec<f64> = (0..problems).filter_map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let mut points = vec![(1.0, 0.0)];
        for (rank, ratio) in ratios.into_iter().enumerate() {
            let share = (rank + 1) as f64 / problems as f64;
            match points.last_mut() {
                Some(last) if last.0 == ratio => last.1 = share,
                _ => points.push((ratio, share)),
            }
        }
        Profile { solver, points }
    };
    costs.iter().enumerate().map(profile).collect()
}
