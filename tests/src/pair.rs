//! The engine and the oracle made from one description, for tests that compare the two or one with itself.
//!
//! Initial values and gradients are a function of a seed, the parameter, the step and the element, so a description says
//! all there is to a run.

use std::fmt;

use gradient_transform::{Error, Optimizer, Parameter, Real, StepOutcome};
use half::bf16;
use ndarray::{ArrayD, IxDyn};
use prodigy_plus::{Line, Options};
use serde_json::{Map, Value};
use transform_laws::Number;

use crate::oracle::{Compat, Group, Oracle, OracleError, Storage};

/// A run: options, groups, shapes, and what the gradients are like.
#[derive(Clone)]
pub struct Run {
    /// The constructor's options, by their documented names.
    pub options: Map<String, Value>,
    /// The groups: how many parameters, in the order of `shapes`, and the options in which it differs.
    pub groups: Vec<(usize, Map<String, Value>)>,
    /// The parameters' shapes.
    pub shapes: Vec<Vec<usize>>,
    /// How large the gradients are.
    pub gradient_size: f64,
    /// (step, parameter) without a gradient. Steps count from 1.
    pub missing: Vec<(usize, usize)>,
    /// The schedule's factor in each step, taken in turn; empty for none.
    pub schedule: Vec<f64>,
    /// What initial values and gradients are made from.
    pub seed: u64,
}

impl Run {
    /// One group with every gradient, and no schedule.
    pub fn new(options: Value, shapes: &[&[usize]]) -> Run {
        Run {
            options: object(options),
            groups: vec![(shapes.len(), Map::new())],
            shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
            gradient_size: 1.0,
            missing: Vec::new(),
            schedule: Vec::new(),
            seed: 1,
        }
    }

    /// The same run in groups.
    #[must_use]
    pub fn groups(mut self, groups: &[(usize, Value)]) -> Run {
        self.groups = groups.iter().map(|(count, own)| (*count, object(own.clone()))).collect();
        self
    }

    /// The same run without gradients at these (step, parameter).
    #[must_use]
    pub fn missing(mut self, missing: &[(usize, usize)]) -> Run {
        self.missing = missing.to_vec();
        self
    }

    /// The name of parameter `i`.
    pub fn name(i: usize) -> String {
        format!("parameter {i}")
    }

    /// Where parameter `i` starts.
    pub fn init(&self, i: usize) -> ArrayD<f64> {
        self.fill(i, |e| 0.5 * symmetric(self.seed, [i as u64, 0, e]))
    }

    /// The gradient of parameter `i` at step `t`: a direction that stays, so that d grows, and noise that is as large;
    /// one element in sixteen is zero.
    pub fn gradient(&self, t: usize, i: usize) -> Option<ArrayD<f64>> {
        if self.missing.contains(&(t, i)) {
            return None;
        }
        let (i64, t64) = (i as u64, t as u64);
        Some(self.fill(i, |e| {
            let noise = symmetric(self.seed, [i64, t64, 2 * e + 1]);
            let drift = symmetric(self.seed, [i64, u64::MAX, e]);
            if mix(t64 ^ mix(e)).is_multiple_of(16) { 0.0 } else { self.gradient_size * (drift + noise) }
        }))
    }

    /// The schedule's factor at step `t`.
    pub fn factor(&self, t: usize) -> Option<f64> {
        self.schedule.get((t - 1) % self.schedule.len().max(1)).copied()
    }

    fn fill(&self, i: usize, value: impl Fn(u64) -> f64) -> ArrayD<f64> {
        let mut e = 0;
        ArrayD::from_shape_simple_fn(IxDyn(&self.shapes[i]), || {
            e += 1;
            value(e)
        })
    }

    /// The options of the engine's constructor and of its groups. As in the oracle, the default of beta3 follows the
    /// constructor's betas in 1.9.2, and each group's own in 2.0.1.
    pub fn engine_options(&self) -> Result<(Options, Vec<Options>), serde_json::Error> {
        let read = |map: &Map<String, Value>| serde_json::from_value::<Options>(Value::Object(map.clone()));
        let base = read(&self.options)?;
        let beta3 = (base.line == Line::V1).then(|| base.beta3_or_default());
        let groups = self
            .groups
            .iter()
            .map(|(_, own)| {
                let mut merged = self.options.clone();
                merged.extend(own.clone());
                let mut options = read(&merged)?;
                options.beta3 = options.beta3.or(beta3);
                Ok(options)
            })
            .collect::<Result<_, serde_json::Error>>()?;
        Ok((base, groups))
    }

    /// The engine, in the mode that is the default.
    ///
    /// # Panics
    /// If an option's name or type is wrong.
    pub fn engine<T: Real>(&self) -> Result<Optimizer<T>, Error> {
        let (base, groups) = self.engine_options().expect("documented options");
        let mut from = 0;
        let groups = groups.into_iter().zip(&self.groups).map(|(options, (count, _))| {
            let range = from..from + count;
            from = range.end;
            (options, range.map(|i| (Run::name(i), self.shapes[i].as_slice())).collect::<Vec<_>>())
        });
        base.build_groups(groups)
    }

    /// The oracle, in the mode that is the default.
    pub fn oracle(&self, storage: Storage) -> Result<Oracle, OracleError> {
        self.oracle_with(storage, Compat::default())
    }

    /// The oracle, with some of the reference's defects.
    pub fn oracle_with(&self, storage: Storage, compat: Compat) -> Result<Oracle, OracleError> {
        let mut from = 0;
        let groups: Vec<Group> = self
            .groups
            .iter()
            .map(|(count, own)| {
                let params = (from..from + count).collect();
                from += count;
                Group { params, overrides: own.clone() }
            })
            .collect();
        let init = (0..self.shapes.len()).map(|i| self.init(i)).collect();
        Oracle::new(&self.options, &groups, init, storage, compat, false)
    }
}

/// Short enough to read beside a failure.
impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { options, groups, shapes, gradient_size, missing, schedule, seed } = self;
        let options = Value::Object(options.clone());
        writeln!(f, "options {options}")?;
        for (count, own) in groups {
            writeln!(f, "group of {count} {}", Value::Object(own.clone()))?;
        }
        writeln!(f, "shapes {shapes:?}")?;
        writeln!(f, "missing {missing:?} schedule {schedule:?} gradients {gradient_size} seed {seed}")
    }
}

/// A type that parameters are stored in.
pub trait Stored: Number {
    /// The oracle's name of it.
    const STORAGE: Storage;
}

impl Stored for f64 {
    const STORAGE: Storage = Storage::F64;
}

impl Stored for f32 {
    const STORAGE: Storage = Storage::F32;
}

impl Stored for bf16 {
    const STORAGE: Storage = Storage::Bf16;
}

/// The engine at work on a run, with the parameters that it moves.
pub struct Training<T: Real, E> {
    /// The engine.
    pub optimizer: Optimizer<T>,
    /// The parameters.
    pub values: Vec<ArrayD<E>>,
    /// The run.
    pub run: Run,
    /// Steps done.
    pub t: usize,
}

impl<T: Real, E: Stored> Training<T, E> {
    /// At the beginning.
    pub fn new(run: &Run) -> Result<Self, Error> {
        let values = (0..run.shapes.len()).map(|i| run.init(i).mapv(E::of)).collect();
        Ok(Self { optimizer: run.engine()?, values, run: run.clone(), t: 0 })
    }

    /// The run's gradients at step `t`.
    pub fn gradients(&self, t: usize) -> Vec<Option<ArrayD<E>>> {
        (0..self.values.len()).map(|i| self.run.gradient(t, i).map(|g| g.mapv(E::of))).collect()
    }

    /// The run's next step.
    pub fn step(&mut self) -> Result<StepOutcome, Error> {
        let gradients = self.gradients(self.t + 1);
        self.step_with(&gradients)
    }

    /// The next step, with other gradients than the run's.
    pub fn step_with(&mut self, gradients: &[Option<ArrayD<E>>]) -> Result<StepOutcome, Error> {
        self.t += 1;
        self.schedule()?;
        let mut parameters: Vec<Parameter<'_>> = self
            .values
            .iter_mut()
            .zip(gradients)
            .map(|(value, g)| Parameter::array(value.view_mut(), g.as_ref().map(|g| g.view())))
            .collect();
        self.optimizer.step(&mut parameters)
    }

    /// `count` steps of the run.
    ///
    /// # Panics
    /// If one fails.
    pub fn steps(&mut self, count: usize) {
        for _ in 0..count {
            assert_eq!(self.step(), Ok(StepOutcome::Done));
        }
    }

    /// Sets the learning rates that the schedule wants at step `t`.
    pub fn schedule(&mut self) -> Result<(), Error> {
        if let Some(factor) = self.run.factor(self.t) {
            for (group, (_, own)) in self.run.groups.iter().enumerate() {
                let own = own.get("lr").and_then(Value::as_f64).unwrap_or(1.0);
                self.optimizer.set_lr(group, factor * own)?;
            }
        }
        Ok(())
    }

    /// Calls `f` with the parameters, without gradients: for `eval` and `train`.
    pub fn with_parameters<R>(&mut self, f: impl FnOnce(&mut Optimizer<T>, &mut [Parameter<'_>]) -> R) -> R {
        let mut parameters: Vec<Parameter<'_>> =
            self.values.iter_mut().map(|value| Parameter::array(value.view_mut(), None)).collect();
        f(&mut self.optimizer, &mut parameters)
    }

    /// Parameter `i` at its evaluation point.
    pub fn x(&self, i: usize) -> Result<ArrayD<E>, Error> {
        let value: Vec<E> = self.values[i].iter().copied().collect();
        let mut x = value.clone();
        self.optimizer.evaluation_point(i, &value, &mut x)?;
        Ok(ArrayD::from_shape_vec(self.values[i].raw_dim(), x).unwrap_or_default())
    }

    /// The parameters, to the bit.
    pub fn bits(&self) -> Vec<Vec<u64>> {
        self.values.iter().map(|value| value.iter().map(|v| v.bits()).collect()).collect()
    }

    /// Every group's d.
    pub fn d(&self) -> Vec<f64> {
        (0..self.run.groups.len())
            .filter_map(|group| self.optimizer.estimate(group).ok())
            .map(|estimate| estimate.d)
            .collect()
    }
}

/// How far the engine was from the oracle, at worst.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Deviation {
    /// Of y: the distance beyond four units of rounding, relative to the displacement.
    pub y: f64,
    /// The same of x.
    pub x: f64,
    /// Of d, relative.
    pub d: f64,
}

impl Deviation {
    /// The worst of all; not a number if anything was not.
    pub fn worst(&self) -> f64 {
        worse(worse(self.y, self.x), self.d)
    }
}

/// Takes `steps` steps of `run` with the engine and with the oracle, and compares them after each.
///
/// # Errors
/// If the engine refuses the options.
///
/// # Panics
/// If the oracle refuses them although the engine does not, or either refuses a step.
pub fn compare<T: Real, E: Stored>(run: &Run, steps: usize) -> Result<Deviation, Error> {
    let mut engine = Training::<T, E>::new(run)?;
    let mut oracle = run.oracle(E::STORAGE).expect("the oracle takes what the engine takes");
    let mut worst = Deviation::default();
    for t in 1..=steps {
        assert_eq!(engine.step()?, StepOutcome::Done);
        let gradients: Vec<Option<ArrayD<f64>>> =
            engine.gradients(t).into_iter().map(|g| g.map(|g| g.mapv(E::f64))).collect();
        oracle.step(&gradients, run.factor(t)).expect("the gradients fit");
        let Deviation { y, x, d } = deviation(&engine, &oracle)?;
        worst = Deviation { y: worse(worst.y, y), x: worse(worst.x, x), d: worse(worst.d, d) };
    }
    Ok(worst)
}

/// How far the engine is from the oracle at present.
///
/// # Errors
/// Of asking the engine.
pub fn deviation<T: Real, E: Stored>(engine: &Training<T, E>, oracle: &Oracle) -> Result<Deviation, Error> {
    let mut deviation = Deviation::default();
    for i in 0..engine.run.shapes.len() {
        let init = engine.run.init(i).mapv(|v| E::of(v).f64());
        let ours = engine.values[i].mapv(E::f64);
        deviation.y = worse(deviation.y, distance(&ours, oracle.y(i), &init, E::UNIT));
        deviation.x = worse(deviation.x, distance(&engine.x(i)?.mapv(E::f64), &oracle.x(i), &init, E::UNIT));
    }
    for (ours, theirs) in engine.d().iter().zip(oracle.d()) {
        deviation.d = worse(deviation.d, (ours - theirs).abs() / theirs);
    }
    Ok(deviation)
}

/// The larger of two errors; a NaN, which `f64::max` would drop, is the worst of all.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn distance(ours: &ArrayD<f64>, theirs: &ArrayD<f64>, init: &ArrayD<f64>, unit: f64) -> f64 {
    let norm = |values: ArrayD<f64>| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let distance = norm(ours - theirs) - 4.0 * unit * norm(theirs.clone());
    if distance <= 0.0 { 0.0 } else { distance / norm(theirs - init) }
}

/// The entries of a JSON object.
///
/// # Panics
/// If it is something else.
pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is not an object"),
    }
}

/// In (-1, 1), from a seed and a place.
fn symmetric(seed: u64, place: [u64; 3]) -> f64 {
    let bits = place.iter().fold(mix(seed), |bits, &part| mix(bits ^ part));
    (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// The finaliser of SplitMix64, with its increment.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
