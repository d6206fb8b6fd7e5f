//! The optimizers that a chain is compared with from outside, each in its plainest form.

use anyhow::{Result, bail};
use factored_moment::DenseMoment;
use gradient_transform::{Optimizer, ParameterGroup, Settings};
use schedule_free::ScheduleFree;
use serde::{Deserialize, Serialize};

use super::{Chain, Groups, Schedule, Step, TrainableOptimizer};

/// A tuned optimizer from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// AdamW (Loshchilov and Hutter, 1711.05101) as in PyTorch, betas (0.9, 0.999), epsilon 1e-8, weight decay 0.01.
    AdamW,
    /// Stochastic gradient descent with momentum 0.9, as in PyTorch.
    Sgd,
    /// Schedule-Free AdamW (Defazio et al., 2405.15682), betas (0.9, 0.999).
    ScheduleFreeAdamW,
}

impl Baseline {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AdamW, Self::Sgd, Self::ScheduleFreeAdamW];

    /// That of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|baseline| baseline.name() == name) {
            Some(found) => Ok(found),
            None => {
                bail!("there is no baseline {name:?}; choose from {}", Self::ALL.map(Self::name).join(", "))
            }
        }
    }

    /// The name in study files.
    pub fn name(self) -> &'static str {
        match self {
            Self::AdamW => "adamw",
            Self::Sgd => "sgd",
            Self::ScheduleFreeAdamW => "schedule-free-adamw",
        }
    }

    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::AdamW => "AdamW",
            Self::Sgd => "SGD with momentum",
            Self::ScheduleFreeAdamW => "Schedule-Free AdamW",
        }
    }

    /// The update rule.
    pub fn rule(self) -> &'static str {
        match self {
            Self::AdamW => "AdamW: betas (0.9, 0.999), eps 1e-8, weight decay 0.01",
            Self::Sgd => "SGD: momentum 0.9, no weight decay",
            Self::ScheduleFreeAdamW => {
                "dense-moment | schedule-free: betas (0.9, 0.999), eps 1e-8, no weight decay"
            }
        }
    }

    /// The schedules that tuning tries: averaging takes the place of a decay, but not of a warm-up.
    pub fn schedules(self) -> &'static [Schedule] {
        match self {
            Self::AdamW | Self::Sgd => &[Schedule::Constant, Schedule::LinearDecay],
            Self::ScheduleFreeAdamW => &[Schedule::Constant, Schedule::WarmUp],
        }
    }

    pub(super) fn build(self, groups: &Groups) -> Result<Box<dyn TrainableOptimizer>> {
        let names = || groups.iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let sizes = groups.iter().flatten().map(|(_, shape)| shape.iter().product::<usize>());
        let zeros: Vec<Vec<f32>> = sizes.map(|size| vec![0.0; size]).collect();
        Ok(match self {
            Self::AdamW => Box::new(Plain {
                rule: adamw,
                names: names(),
                moments: zeros.iter().map(|zeros| [zeros.clone(), zeros.clone()]).collect(),
                learning_rate: 1e-3,
                steps: 0,
            }),
            Self::Sgd => Box::new(Plain {
                rule: sgd,
                names: names(),
                moments: zeros.into_iter().map(|zeros| [zeros, Vec::new()]).collect(),
                learning_rate: 1e-3,
                steps: 0,
            }),
            Self::ScheduleFreeAdamW => {
                let group = |parameters: &Vec<(String, Vec<usize>)>| {
                    let chain = (DenseMoment::new(0.999), ScheduleFree::new(0.9));
                    let parameters = parameters.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
                    ParameterGroup::new(chain, parameters)
                };
                let optimizer = Optimizer::with_groups(groups.iter().map(group), Settings::default())?;
                Box::new(Chain::new(optimizer, groups))
            }
        })
    }
}

/// Moves one parameter: its weights, gradient, two moments, the learning rate, and the step from 1.
type Rule = fn(&mut [f32], &[f32], &mut [Vec<f32>; 2], f64, i32);

/// An update rule applied to one parameter after the other.
struct Plain {
    rule: Rule,
    names: Vec<String>,
    moments: Vec<[Vec<f32>; 2]>,
    learning_rate: f64,
    steps: i32,
}

fn adamw(weights: &mut [f32], gradient: &[f32], moments: &mut [Vec<f32>; 2], lr: f64, step: i32) {
    let (beta1, beta2) = (0.9_f64, 0.999_f64);
    let [first, second] = moments;
    let step_size = (lr / (1.0 - beta1.powi(step))) as f32;
    let root_correction = (1.0 - beta2.powi(step)).sqrt() as f32;
    let keep = (1.0 - lr * 0.01) as f32;
    for (((w, &g), m), v) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
        *m = 0.9 * *m + 0.1 * g;
        *v = 0.999 * *v + 0.001 * g * g;
        *w = keep * *w - step_size * *m / (v.sqrt() / root_correction + 1e-8);
    }
}

fn sgd(weights: &mut [f32], gradient: &[f32], moments: &mut [Vec<f32>; 2], lr: f64, _step: i32) {
    for ((w, &g), m) in weights.iter_mut().zip(gradient).zip(&mut moments[0]) {
        *m = 0.9 * *m + g;
        *w -= lr as f32 * *m;
    }
}

impl TrainableOptimizer for Plain {
    fn step(&mut self, weights: &mut [Vec<f32>], gradients: &[Option<Vec<f32>>]) -> Result<Step> {
        for (name, gradient) in self.names.iter().zip(gradients) {
            if gradient.iter().flatten().any(|value| !value.is_finite()) {
                return Ok(Step::UnusableGradient(name.clone()));
            }
        }
        self.steps += 1;
        for ((weights, gradient), moments) in weights.iter_mut().zip(gradients).zip(&mut self.moments) {
            if let Some(gradient) = gradient {
                (self.rule)(weights, gradient, moments, self.learning_rate, self.steps);
            }
        }
        Ok(Step::Taken)
    }

    fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        self.learning_rate = learning_rate;
        Ok(())
    }

    fn evaluation_weights(&self, weights: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        Ok(weights.to_vec())
    }

    fn step_size(&self, _group: usize) -> Result<(Option<f64>, f64)> {
        Ok((None, self.learning_rate))
    }

    fn state_bytes(&self) -> usize {
        self.moments.iter().flatten().map(|moment| size_of_val(moment.as_slice())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three steps from (1, -2) along gradients (0.5, 1), (-0.25, 2), (1, 0.1) with lr 0.1.
    fn after_three_steps(baseline: Baseline) -> Vec<f32> {
        let groups = vec![vec![("w".to_owned(), vec![2])]];
        let mut optimizer = baseline.build(&groups).unwrap();
        optimizer.set_learning_rate(0.1).unwrap();
        let mut weights = vec![vec![1.0, -2.0]];
        for gradient in [[0.5, 1.0], [-0.25, 2.0], [1.0, 0.1]] {
            assert_eq!(optimizer.step(&mut weights, &[Some(gradient.to_vec())]).unwrap(), Step::Taken);
        }
        weights.remove(0)
    }

    fn assert_close(actual: &[f32], expected: [f32; 2]) {
        for (actual, expected) in actual.iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-6, "{actual} instead of {expected}");
        }
    }

    /// Expected: `torch.optim.AdamW([p], lr=0.1)` and `torch.optim.SGD([p], lr=0.1, momentum=0.9)` of torch 2.15.0.
    #[test]
    fn adamw_and_sgd_agree_with_pytorch() {
        assert_close(&after_three_steps(Baseline::AdamW), [0.804_784_7, -2.267_617_7]);
        assert_close(&after_three_steps(Baseline::Sgd), [0.812_000_04, -2.660_999_8]);
    }

    #[test]
    fn every_baseline_takes_several_groups() {
        for baseline in Baseline::ALL {
            let group = |name: &str| vec![(name.to_owned(), vec![1])];
            let mut optimizer = baseline.build(&vec![group("a"), group("b")]).unwrap();
            optimizer.set_learning_rate(0.1).unwrap();
            let mut weights = vec![vec![1.0], vec![2.0]];
            optimizer.step(&mut weights, &[Some(vec![1.0]), Some(vec![1.0])]).unwrap();
            assert!(weights[0][0] < 1.0 && weights[1][0] < 2.0, "{baseline:?}");
            assert_eq!(optimizer.step_size(1).unwrap(), (None, 0.1));
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_moves_nothing() {
        for baseline in Baseline::ALL {
            let groups = vec![vec![("w".to_owned(), vec![2])]];
            let mut optimizer = baseline.build(&groups).unwrap();
            let mut weights = vec![vec![1.0, -2.0]];
            let step = optimizer.step(&mut weights, &[Some(vec![f32::NAN, 0.0])]).unwrap();
            assert_eq!(step, Step::UnusableGradient("w".into()));
            assert_eq!(weights, [[1.0, -2.0]]);
        }
    }
}
