//! Distance of a step from the limit of the machine's memory.
//!
//! Bandwidth is measured through the engine, with chains that move memory like real ones and compute almost
//! nothing. The bytes of a step divided by the bandwidth of the pattern of its last sweep are the lower limit
//! of its time.

use anyhow::{Result, ensure};
use gradient_transform::{
    Context, Descent, Link, NonFinite, Optimizer, ParameterGroup, Reads, Real, Role, Settings, StateSpec,
    Storage, Sums, TensorInfo, Tile, WriterLink, kernel,
};
use prodigy_plus::Options;
use serde::Serialize;

use crate::bench::{Measurement, Precision, measure};

/// The first steps create the state, and wait for the operating system to allocate its memory.
const WARM_UP: usize = 2;

/// The arrays that a sweep moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Gradient and parameter are read, and nothing is written.
    Read,
    /// The gradient is read, the parameter read and written: plain descent.
    Descent,
    /// As descent, and one column read and written: the last sweep of the default step, which moves y and z.
    ScheduleFree,
    /// As descent, and two columns read and written: what AdamW moves.
    #[serde(rename = "adamw")]
    AdamW,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Descent, Self::ScheduleFree, Self::AdamW];

    /// Bytes that are moved, for a table.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Read => "read: g, y",
            Self::Descent => "descent: g, y rw",
            Self::ScheduleFree => "Schedule-Free: g, y rw, z rw",
            Self::AdamW => "AdamW: g, y rw, m rw, v rw",
        }
    }

    /// Float32 arrays in all, each as long as the parameter.
    fn arrays(self) -> usize {
        match self {
            Self::Read | Self::Descent => 2,
            Self::ScheduleFree => 3,
            Self::AdamW => 4,
        }
    }

    fn chain(self) -> Box<dyn Link<f32>> {
        match self {
            Self::Read => Box::new((ReadOnly, Descent::default())),
            Self::Descent => Box::new(Descent::default()),
            Self::ScheduleFree | Self::AdamW => Box::new(Columns(self.arrays() - 2)),
        }
    }

    fn measure(self, shapes: &[Vec<usize>], warm_up: usize, repetitions: usize) -> Result<Measurement> {
        // The check of gradients reads them again, which is not part of the plan.
        let settings = Settings { non_finite: NonFinite::Unchecked, ..Settings::default() };
        let make = |parameters: &[(String, &[usize])]| {
            let group = ParameterGroup::new(self.chain(), parameters.iter().cloned());
            Ok(Optimizer::with_groups([group], settings)?)
        };
        let mut measured = measure(make, shapes, Precision::F32, warm_up, repetitions)?;
        if self == Self::Read {
            // The plan includes the writer's sweep, which a held tensor does not run.
            measured.planned_bytes -= Self::Descent.measure(&[vec![1]], 0, 1)?.planned_bytes;
        }
        Ok(measured)
    }
}

/// Observes, and then holds the tensor, so that no later sweep writes.
#[derive(Debug)]
struct ReadOnly;

impl<T: Real> Link<T> for ReadOnly {
    fn name(&self) -> &str {
        "read-only"
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Reduce
    }

    fn reads(&self) -> Reads {
        Reads::GRADIENT_AND_PARAMETER
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        StateSpec::new().sums(1, 0)
    }

    fn holds(&self, _cx: &Context<'_>) -> bool {
        true
    }

    fn observe(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        sums.scalars[0] += kernel::sum2(tile.gradient, tile.parameter, |g, y| g + y);
    }
}

/// Descends, and moves this number of columns like the parameter.
#[derive(Debug)]
struct Columns(usize);

impl<T: Real> Link<T> for Columns {
    fn name(&self) -> &str {
        "columns"
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Writer
    }

    fn reads(&self) -> Reads {
        Reads::PARAMETER
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        let names = ["first", "second"];
        names[..self.0].iter().fold(StateSpec::new(), |spec, name| spec.column(name, Storage::Parameter))
    }

    fn writer(&self) -> Option<&dyn WriterLink<T>> {
        Some(self)
    }
}

impl<T: Real> WriterLink<T> for Columns {
    fn direct(&self, _cx: &Context<'_>, _tile: &mut Tile<'_, '_, T>) {}

    fn displace(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, displacement: &mut [T]) {
        displacement.copy_from_slice(tile.update.values());
    }

    fn apply(
        &self,
        _cx: &Context<'_>,
        tile: &mut Tile<'_, '_, T>,
        _displacement: Option<&[T]>,
        parameter: &mut [T],
    ) {
        let Some((first, others)) = tile.columns.split_first_mut() else { return };
        let update = tile.update.values();
        kernel::update2(parameter, first, update, update, |y, z, u, _| (y - u, z - u));
        for column in others {
            kernel::map2(column, update, |v, u| v - u);
        }
    }
}

/// The bandwidth of one pattern, in GB/s (a byte per nanosecond).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bandwidth {
    /// The pattern of the moved arrays.
    pub pattern: Pattern,
    /// Bytes per element, by the engine's plan.
    pub bytes: f64,
    /// The least, in the slowest repetition of all rounds.
    pub min: f64,
    /// The median of the rounds' medians.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Bandwidth {
    fn new(pattern: Pattern, rounds: &[Measurement]) -> Self {
        let [_, median, _] = spread(rounds.iter().map(rate));
        let [min, _, _] = spread(rounds.iter().map(|m| m.planned_bytes / m.max_ns));
        let [_, _, max] = spread(rounds.iter().map(|m| m.planned_bytes / m.min_ns));
        Self { pattern, bytes: rounds[0].planned_bytes, min, median, max }
    }
}

/// A step of the default options compared with its floor, in nanoseconds per parameter.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Distance {
    /// Element type of parameters and gradients.
    pub precision: Precision,
    /// Bytes per parameter, by the engine's plan.
    pub bytes: f64,
    /// The time that these bytes take at the bandwidth of [`Pattern::ScheduleFree`]; the median of the rounds.
    pub floor_ns: f64,
    /// The time of a step; the median of the rounds.
    pub step_ns: f64,
    /// Time over floor in the same round: the least, the median and the largest. 1 means that only memory limits the step.
    pub ratio: [f64; 3],
}

impl Distance {
    fn new(precision: Precision, steps: &[Measurement], mixed: &[Measurement]) -> Self {
        let floors: Vec<f64> = steps.iter().zip(mixed).map(|(s, m)| s.planned_bytes / rate(m)).collect();
        Self {
            precision,
            bytes: steps[0].planned_bytes,
            floor_ns: spread(floors.iter().copied())[1],
            step_ns: spread(steps.iter().map(|s| s.median_ns))[1],
            ratio: spread(steps.iter().zip(&floors).map(|(s, floor)| s.median_ns / floor)),
        }
    }
}

/// Bandwidths, and the default step compared with them.
#[derive(Clone, Debug, Serialize)]
pub struct Roofline {
    /// One for each of [`Pattern::ALL`].
    pub bandwidths: Vec<Bandwidth>,
    /// In float32 and bfloat16.
    pub steps: Vec<Distance>,
}

impl Roofline {
    /// Measures with arrays of `mebibytes` in all, as many tensors as rayon's pool has threads; and the step on `shapes`.
    ///
    /// A round takes the median of some repetitions of everything, one after the other, so that a floor and the step compared with
    /// it are measured at about the same time.
    ///
    /// # Errors
    /// Fails without rounds or repetitions.
    pub fn measure(
        mebibytes: usize,
        shapes: &[Vec<usize>],
        rounds: usize,
        repetitions: usize,
    ) -> Result<Self> {
        ensure!(rounds > 0, "at least one round must be measured");
        let threads = rayon::current_num_threads();
        let precisions = [Precision::F32, Precision::Bf16];
        let mut patterns_measured = Pattern::ALL.map(|_| Vec::new());
        let mut steps_measured = precisions.map(|_| Vec::new());
        for _ in 0..rounds {
            for (pattern, measured) in Pattern::ALL.into_iter().zip(&mut patterns_measured) {
                let elements = (mebibytes << 20) / (size_of::<f32>() * pattern.arrays() * threads);
                measured.push(pattern.measure(&vec![vec![elements]; threads], WARM_UP, repetitions)?);
            }
            for (precision, measured) in precisions.into_iter().zip(&mut steps_measured) {
                let make = |parameters: &[(String, &[usize])]| {
                    Ok(Options::default().build(parameters.iter().cloned())?)
                };
                measured.push(measure(make, shapes, precision, WARM_UP, repetitions)?);
            }
        }
        let [.., mixed, _] = &patterns_measured;
        let steps = precisions.into_iter().zip(&steps_measured);
        Ok(Self {
            steps: steps.map(|(precision, step)| Distance::new(precision, step, mixed)).collect(),
            bandwidths: Pattern::ALL
                .iter()
                .zip(&patterns_measured)
                .map(|(&p, rounds)| Bandwidth::new(p, rounds))
                .collect(),
        })
    }
}

/// Bytes per nanosecond at the median time.
fn rate(measured: &Measurement) -> f64 {
    measured.planned_bytes / measured.median_ns
}

/// The least, the median (the upper one of two) and the largest of at least one number.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(planned_bytes: f64, [min_ns, median_ns, max_ns]: [f64; 3]) -> Measurement {
        Measurement {
            parameters: 1,
            min_ns,
            median_ns,
            max_ns,
            planned_bytes,
            sweeps: 1,
            gigabytes_per_second: 0.0,
            state_bytes: 0.0,
        }
    }

    #[test]
    fn patterns_move_the_arrays_that_they_are_named_after() {
        let bytes = Pattern::ALL.map(|pattern| pattern.measure(&[vec![3000]], 0, 1).unwrap().planned_bytes);
        assert_eq!(bytes, [8.0, 12.0, 20.0, 28.0]);
    }

    #[test]
    fn twice_the_time_that_the_bytes_take_is_a_ratio_of_two() {
        // In the second round the machine has half of its speed, for both.
        let mixed = [measurement(20.0, [0.5, 1.0, 4.0]), measurement(20.0, [2.0, 2.0, 2.0])];
        let bandwidth = Bandwidth::new(Pattern::ScheduleFree, &mixed);
        assert_eq!([bandwidth.min, bandwidth.median, bandwidth.max], [5.0, 20.0, 40.0]);
        let steps = [measurement(30.0, [1.5, 3.0, 9.0]), measurement(30.0, [6.0, 6.0, 6.0])];
        let distance = Distance::new(Precision::F32, &steps, &mixed);
        assert_eq!((distance.floor_ns, distance.step_ns, distance.ratio), (3.0, 6.0, [2.0; 3]));
    }

    #[test]
    fn floors_are_taken_at_the_pattern_with_one_column() {
        assert_eq!(Pattern::ALL[2], Pattern::ScheduleFree);
        let roofline = Roofline::measure(1, &[vec![64, 64]], 1, 1).unwrap();
        let mixed = roofline.bandwidths[2];
        for step in &roofline.steps {
            assert!((step.floor_ns * mixed.median / step.bytes - 1.0).abs() < 1e-12);
        }
        assert!(Roofline::measure(1, &[vec![64, 64]], 0, 1).is_err());
    }
}
