//! Chains on a device beside the engine: the same steps, compared to the bit.

use std::fmt;

use elementary::{
    Adam, AdaptiveClip, Centralise, CentredRms, ClipByNorm, DecayToStart, GradientNoise, Graft, Momentum,
    RAdam, UnitNorm, WeightAverage, WeightDecay,
};
use gradient_transform::device::{DeviceParameter, Executor, OnDevice};
use gradient_transform::{
    Buffer, Descent, Error, Estimate, Link, Optimizer, Parameter, ParameterGroup, Rounding, Scalar, Settings,
    Slice, Snapshot, SumsOver, TensorSnapshot, map, rescale,
};
use half::bf16;
use muon_pp::{Coefficients, Muon, Normalisation, Scale};
use prodigy_plus::Options;

use crate::random_chain;

/// A chain that is compared.
pub struct Row {
    /// Its name.
    pub name: &'static str,
    chain: Box<dyn Fn() -> Box<dyn Link<f32>>>,
}

impl Row {
    /// The chain.
    pub fn chain(&self) -> Box<dyn Link<f32>> {
        (self.chain)()
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Options of prodigy-plus: a name, and JSON.
const OPTIONS: [(&str, &str); 25] = [
    ("default", "{}"),
    ("dense", r#"{"factored": false}"#),
    ("weight decay", r#"{"weight_decay": 0.1}"#),
    ("weight decay, not by lr", r#"{"weight_decay": 1e-5, "weight_decay_by_lr": false}"#),
    ("adopt", r#"{"use_adopt": true}"#),
    ("adopt, dense", r#"{"use_adopt": true, "factored": false}"#),
    ("cautious", r#"{"use_cautious": true}"#),
    ("grams", r#"{"use_grams": true}"#),
    ("focus", r#"{"use_focus": true}"#),
    ("atan2", r#"{"eps": null}"#),
    ("radam", r#"{"use_bias_correction": true}"#),
    ("speed", r#"{"use_speed": true}"#),
    ("stopped", r#"{"prodigy_steps": 3}"#),
    ("without clipping", r#"{"use_stableadamw": false}"#),
    ("narrow factors", r#"{"factored_fp32": false}"#),
    ("adopt, cautious, decay", r#"{"use_adopt": true, "use_cautious": true, "weight_decay": 0.01}"#),
    ("2.0.1", r#"{"line": "2.0.1"}"#),
    ("2.0.1, dense", r#"{"line": "2.0.1", "factored": false}"#),
    ("2.0.1, adopt", r#"{"line": "2.0.1", "use_adopt": true}"#),
    ("2.0.1, without schedule-free", r#"{"line": "2.0.1", "use_schedulefree": false}"#),
    (
        "2.0.1, without schedule-free, cautious",
        r#"{"line": "2.0.1", "use_schedulefree": false, "use_cautious": true}"#,
    ),
    (
        "2.0.1, without schedule-free, adopt",
        r#"{"line": "2.0.1", "use_schedulefree": false, "use_adopt": true}"#,
    ),
    ("2.0.1, schedulefree_c", r#"{"line": "2.0.1", "schedulefree_c": 50}"#),
    ("2.0.1, focus", r#"{"line": "2.0.1", "use_focus": true}"#),
    ("2.0.1, radam", r#"{"line": "2.0.1", "use_bias_correction": true}"#),
];

/// A chain of random expressions among transforms of the project.
pub fn random_row(seed: u64) -> Row {
    Row { name: "random", chain: Box::new(move || random_chain::chain(seed)) }
}

/// Options with sums in float64.
const OPTIONS_IN_FLOAT64: [(&str, &str); 3] = [
    ("orthograd", r#"{"use_orthograd": true}"#),
    ("orthograd, adopt, cautious", r#"{"use_orthograd": true, "use_adopt": true, "use_cautious": true}"#),
    ("2.0.1, orthograd", r#"{"line": "2.0.1", "use_orthograd": true}"#),
];

/// Chains with sums in float64, for devices that have it.
pub fn rows_in_float64() -> Vec<Row> {
    let random = (0..12).map(|seed| Row {
        name: "random sums in float64",
        chain: Box::new(move || random_chain::exact_chain(seed)),
    });
    of_options(&OPTIONS_IN_FLOAT64).into_iter().chain(random).collect()
}

fn row<G: Link<f32> + 'static>(name: &'static str, chain: impl Fn() -> G + 'static) -> Row {
    Row { name, chain: Box::new(move || Box::new(chain())) }
}

fn of_options(options: &[(&'static str, &str)]) -> Vec<Row> {
    let of = |(name, options): &(&'static str, &str)| {
        let options: Result<Options, _> = serde_json::from_str(options);
        row(name, move || match &options {
            Ok(options) => options.transforms::<f32>().unwrap_or_else(|error| panic!("{error}")),
            Err(error) => panic!("{error}"),
        })
    };
    options.iter().map(of).collect()
}

/// All chains whose sums are in the type computed in.
pub fn rows() -> Vec<Row> {
    let mut rows = of_options(&OPTIONS);
    let with = |name, rows: &mut Vec<Row>, chain: fn() -> Box<dyn Link<f32>>| rows.push(row(name, chain));
    use named_optimizers as named;
    let rows_of = &mut rows;
    with("adam", rows_of, || Box::new(named::adam()));
    with("adamw", rows_of, || Box::new(named::adamw()));
    with("amsgrad", rows_of, || Box::new(named::amsgrad()));
    with("nadam", rows_of, || Box::new(named::nadam()));
    with("radam, elementary", rows_of, || Box::new(named::radam()));
    with("adamax", rows_of, || Box::new(named::adamax()));
    with("adabelief", rows_of, || Box::new(named::adabelief()));
    with("adan", rows_of, || Box::new(named::adan()));
    with("ademamix", rows_of, || Box::new(named::ademamix()));
    with("mars", rows_of, || Box::new(named::mars()));
    with("c-adamw", rows_of, || Box::new(named::c_adamw()));
    with("grams, elementary", rows_of, || Box::new(named::grams()));
    with("stableadamw", rows_of, || Box::new(named::stableadamw()));
    with("yogi", rows_of, || Box::new(named::yogi()));
    with("prodigy", rows_of, || Box::new(named::prodigy()));
    with("schedule-free sgd", rows_of, || Box::new(named::schedule_free_sgd()));
    with("schedule-free adamw", rows_of, || Box::new(named::schedule_free_adamw()));
    with("lars", rows_of, || Box::new(named::lars()));
    with("lamb", rows_of, || Box::new(named::lamb()));
    with("sgd", rows_of, || Box::new(named::sgd()));
    with("lion", rows_of, || Box::new(named::lion()));
    with("rprop", rows_of, || Box::new(named::rprop()));
    with("adagrad", rows_of, || Box::new(named::adagrad()));
    with("adadelta", rows_of, || Box::new(named::adadelta()));
    with("rmsprop", rows_of, || Box::new(named::rmsprop()));
    with("adopt, elementary", rows_of, || Box::new(named::adopt()));
    with("adafactor", rows_of, || Box::new(named::adafactor()));
    with("novograd", rows_of, || Box::new(named::novograd()));
    with("dog", rows_of, || Box::new(named::dog()));
    with("l-dog", rows_of, || Box::new(named::l_dog()));
    with("gradient noise", rows_of, || {
        Box::new((GradientNoise::default(), Momentum::default(), Descent::default()))
    });
    with("an average of the weights", rows_of, || Box::new((Adam::default(), WeightAverage::default())));
    with("grafted", rows_of, || {
        let graft = Graft { size: RAdam::default(), direction: Adam { beta1: 0.0, ..Adam::default() } };
        Box::new((graft, Descent::default()))
    });
    with("clipped over all tensors", rows_of, || {
        let clip = ClipByNorm { limit: 0.5, over: SumsOver::All, ..ClipByNorm::default() };
        Box::new((clip, Adam::default(), Descent::default()))
    });
    with("centralised, clipped by units", rows_of, || {
        Box::new((Centralise, AdaptiveClip::default(), Momentum::default(), Descent::default()))
    });
    with("expressions", rows_of, || {
        let soften = map!("soften", |u| u / (1.0 + u * u).sqrt());
        let unit = rescale!("unit", |u| u * u, |sum, n| (n / sum.max(1e-30)).sqrt());
        let pull = map!("pull", |cx| { rate: 0.1 / cx.step.k as f64 }, |u, g, y| u + rate * g.abs() * y);
        Box::new((soften, unit, pull, Descent::default()))
    });
    with("centred rms, unit norm, decay to the start", rows_of, || {
        Box::new((CentredRms::default(), UnitNorm::default(), DecayToStart::default(), Descent::default()))
    });
    rows
}

/// Chains that multiply whole matrices, which sums in another order and products of another size keep from the processor's bits.
pub fn matrix_rows() -> Vec<Row> {
    fn muon(name: &'static str, muon: Muon) -> Row {
        let decay = || WeightDecay { rate: 0.1, ..WeightDecay::default() };
        let chain = move || (muon, muon.auxiliary(Adam::default()), decay(), Descent::default());
        Row { name, chain: Box::new(move || Box::new(chain())) }
    }
    let default = Muon::default();
    let polar = Muon { coefficients: Coefficients::PolarExpress, iterations: 8, ..default };
    vec![
        muon("muon", default),
        muon("muon, without momentum", Muon { momentum: 0.0, scale: Scale::MatchAdam, ..default }),
        muon("muon, heavy ball, Polar Express", Muon { nesterov: false, scale: Scale::Spectral, ..polar }),
        muon("normuon", Muon { normalisation: Normalisation::Neurons, ..default }),
        muon("muon of the reference", Muon::new(0.9)),
        muon(
            "muon of the reference, with SPEED",
            Muon { normalisation: Normalisation::FirstUpdate, ..Muon::new(0.9) },
        ),
        Row {
            name: "prodigy-plus with muon",
            chain: Box::new(|| {
                let options = Options::default().use_muon_pp(true);
                options
                    .transforms::<f32>()
                    .map_or_else(|error| panic!("{error}"), |chain| Box::new(chain) as _)
            }),
        },
    ]
}

/// Types and rounding that chains are compared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    /// float32.
    F32,
    /// bfloat16, rounded stochastically.
    Bf16,
    /// bfloat16, rounded to the nearest.
    Bf16Nearest,
}

/// Steps a chain on both sides, from the same weights and with the same gradients, of which some are missing; the first difference.
///
/// # Errors
/// A message that names step and tensor.
pub fn compare<E: Executor>(
    row: &Row,
    types: Types,
    shapes: &[&[usize]],
    steps: u64,
    executor: E,
) -> Result<E, String> {
    run(row, types, shapes, steps, executor, &mut Judge::Bits)
}

/// The same on a device whose arithmetic is not the processor's: the largest difference between two elements of parameters or state, where an array's
/// largest element counts as 1, and between the estimates of d, where d does.
///
/// # Errors
/// A message, where something fails, or facts of the state differ that are not calculated.
pub fn distance<E: Executor>(
    row: &Row,
    types: Types,
    shapes: &[&[usize]],
    steps: u64,
    executor: E,
) -> Result<(E, f64), String> {
    let mut judge = Judge::Distance(0.0);
    let executor = run(row, types, shapes, steps, executor, &mut judge)?;
    let Judge::Distance(largest) = judge else { return Err("no distance was measured".to_owned()) };
    Ok((executor, largest))
}

/// Treatment of a difference.
pub(crate) enum Judge {
    /// None may be there.
    Bits,
    /// The largest is kept.
    Distance(f64),
}

impl Judge {
    /// Two arrays. The error says at which elements they differ.
    pub(crate) fn arrays(&mut self, ours: Slice<'_>, theirs: Slice<'_>) -> Result<(), String> {
        if ours.len() != theirs.len() {
            return Err(format!("{} elements and {}", ours.len(), theirs.len()));
        }
        let element = |array: Slice<'_>, k| array.get::<f64>(k);
        match self {
            Self::Bits => {
                let differs = |&k: &usize| bits(ours, k) != bits(theirs, k);
                let Some(at) = (0..ours.len()).find(differs) else { return Ok(()) };
                let (count, n) = ((0..ours.len()).filter(differs).count(), ours.len());
                let (ours, theirs) = (element(ours, at), element(theirs, at));
                Err(format!("{count} of {n} elements differ, the first at {at}: {ours:e} and {theirs:e}"))
            }
            Self::Distance(largest) => {
                let most = (0..ours.len()).map(|k| element(ours, k).abs()).fold(f64::MIN_POSITIVE, f64::max);
                for k in 0..ours.len() {
                    let apart = (element(ours, k) - element(theirs, k)).abs() / most;
                    if bits(ours, k) != bits(theirs, k) {
                        *largest = largest.max(or_infinite(apart));
                    }
                }
                Ok(())
            }
        }
    }

    fn estimates(&mut self, ours: Estimate, theirs: Estimate) -> Result<(), String> {
        match self {
            Self::Distance(largest) => {
                let apart = ((ours.d - theirs.d) / ours.d).abs();
                *largest = largest.max(or_infinite(apart));
                Ok(())
            }
            Self::Bits if ours == theirs => Ok(()),
            Self::Bits => Err(format!("{ours:?} and {theirs:?}")),
        }
    }

    pub(crate) fn states(&mut self, ours: &Snapshot, theirs: &Snapshot) -> Result<(), String> {
        if matches!(self, Self::Bits) {
            return if ours == theirs { Ok(()) } else { Err("the states differ".to_owned()) };
        }
        for ((name, ours), theirs) in ours.tensors.iter().zip(theirs.tensors.values()) {
            let facts = |tensor: &TensorSnapshot| {
                let arrays: Vec<String> = tensor.arrays.keys().cloned().collect();
                (tensor.shape.clone(), tensor.dtype, tensor.updates, tensor.fresh.clone(), arrays)
            };
            if facts(ours) != facts(theirs) {
                return Err(format!("facts of {name} differ"));
            }
            for (ours, theirs) in ours.arrays.values().zip(theirs.arrays.values()) {
                self.arrays(ours.as_slice(), theirs.as_slice())?;
            }
        }
        let steps = |snapshot: &Snapshot| snapshot.groups.iter().map(|group| group.k).collect::<Vec<_>>();
        if ours.tensors.len() == theirs.tensors.len() && steps(ours) == steps(theirs) {
            return Ok(());
        }
        Err("facts of the groups differ".to_owned())
    }
}

fn run<E: Executor>(
    row: &Row,
    types: Types,
    shapes: &[&[usize]],
    steps: u64,
    executor: E,
    judge: &mut Judge,
) -> Result<E, String> {
    match types {
        Types::F32 => run_as::<f32, E>(row, Rounding::Nearest, shapes, steps, executor, |x| x, judge),
        Types::Bf16 => {
            run_as::<bf16, E>(row, Rounding::Stochastic, shapes, steps, executor, bf16::from_f32, judge)
        }
        Types::Bf16Nearest => {
            run_as::<bf16, E>(row, Rounding::Nearest, shapes, steps, executor, bf16::from_f32, judge)
        }
    }
}

fn run_as<S: Scalar, E: Executor>(
    row: &Row,
    rounding: Rounding,
    shapes: &[&[usize]],
    steps: u64,
    executor: E,
    narrow: fn(f32) -> S,
    judge: &mut Judge,
) -> Result<E, String> {
    let failed = |error: Error| format!("{}: {error}", row.name);
    let optimizer = || {
        let names = shapes.iter().enumerate().map(|(i, shape)| (format!("w{i}"), *shape));
        let group = ParameterGroup::new((row.chain)(), names).rounding(rounding);
        Optimizer::<f32>::with_groups([group], Settings::default())
    };
    let numbers = |seed: u64, shape: &[usize]| -> Vec<S> {
        values(seed, shape.iter().product()).into_iter().map(narrow).collect()
    };
    // Weights of 0, as of biases and LoRA's second factors, keep no start.
    let weights = (1..)
        .zip(shapes)
        .map(|(i, shape)| if i == 2 { vec![narrow(0.0); numbers(i, shape).len()] } else { numbers(i, shape) })
        .collect();
    let there = OnDevice::new(optimizer().map_err(failed)?, executor).map_err(failed)?;
    let mut both = Both::new(optimizer().map_err(failed)?, there, weights)?;
    for step in 0..steps {
        let gradients = |seed: u64| -> Gradients<S> {
            let present =
                |i: u64, shape| ((seed + i) % 7 != 3).then(|| numbers(1000 * (seed + 1) + i, shape));
            (0..).zip(shapes).map(|(i, shape)| present(i, shape)).collect()
        };
        let at = |difference| format!("{}: step {}: {difference}", row.name, step + 1);
        if step % 4 == 2 {
            both.accumulate(&gradients(step + 100)).map_err(at)?;
        }
        both.step(&gradients(step), judge).map_err(at)?;
        if step % 4 == 1 {
            both.evaluate(judge).map_err(at)?;
        }
    }
    let (moved, executor) = both.there.into_parts().map_err(failed)?;
    judge
        .states(&both.here.snapshot(), &moved.snapshot())
        .map_err(|difference| format!("{} after {steps} steps: {difference}", row.name))?;
    Ok(executor)
}

/// Gradients of a step.
pub(crate) type Gradients<S> = Vec<Option<Vec<S>>>;

/// A run on the processor, and the same one on a device.
pub(crate) struct Both<S, E: Executor> {
    pub(crate) here: Optimizer<f32>,
    pub(crate) there: OnDevice<E>,
    pub(crate) weights: Vec<Vec<S>>,
    pub(crate) device: Vec<E::Array>,
}

impl<S: Scalar, E: Executor> Both<S, E> {
    pub(crate) fn new(
        here: Optimizer<f32>,
        mut there: OnDevice<E>,
        weights: Vec<Vec<S>>,
    ) -> Result<Self, String> {
        let device = weights.iter().map(|w| upload(&mut there, w)).collect::<Result<_, _>>()?;
        Ok(Self { here, there, weights, device })
    }

    fn here(
        &mut self,
        gradients: &Gradients<S>,
        work: impl Fn(&mut Optimizer<f32>, &mut [Parameter<'_>]) -> Result<(), Error>,
    ) -> Result<(), String> {
        let parameters = self.weights.iter_mut().zip(gradients);
        let mut parameters: Vec<Parameter<'_>> =
            parameters.map(|(w, g)| Parameter::slice(w, g.as_deref())).collect();
        work(&mut self.here, &mut parameters).map_err(|error| error.to_string())
    }

    fn there(
        &mut self,
        gradients: &Gradients<S>,
        work: impl Fn(&mut OnDevice<E>, &mut [DeviceParameter<'_, E::Array>]) -> Result<(), Error>,
    ) -> Result<(), String> {
        let gradients = gradients
            .iter()
            .map(|gradient| gradient.as_ref().map(|g| upload(&mut self.there, g)).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let parameters = self.device.iter_mut().zip(&gradients);
        let mut parameters: Vec<DeviceParameter<'_, E::Array>> = parameters
            .map(|(value, gradient)| DeviceParameter { value, gradient: gradient.as_ref() })
            .collect();
        work(&mut self.there, &mut parameters).map_err(|error| error.to_string())
    }

    pub(crate) fn no_gradients(&self) -> Gradients<S> {
        self.weights.iter().map(|_| None).collect()
    }

    pub(crate) fn accumulate(&mut self, gradients: &Gradients<S>) -> Result<(), String> {
        self.here(gradients, |here, parameters| here.accumulate(parameters).map(drop))?;
        self.there(gradients, |there, parameters| there.accumulate(parameters).map(drop))
    }

    pub(crate) fn step(&mut self, gradients: &Gradients<S>, judge: &mut Judge) -> Result<(), String> {
        self.here(gradients, |here, parameters| here.step(parameters).map(drop))?;
        self.there(gradients, |there, parameters| there.step(parameters).map(drop))?;
        self.judge(judge)?;
        for group in 0..self.here.groups() {
            let text = |error: Error| error.to_string();
            judge.estimates(
                self.here.estimate(group).map_err(text)?,
                self.there.estimate(group).map_err(text)?,
            )?;
        }
        Ok(())
    }

    pub(crate) fn eval(&mut self) -> Result<(), String> {
        let none = self.no_gradients();
        self.here(&none, Optimizer::eval)?;
        self.there(&none, OnDevice::eval)
    }

    pub(crate) fn train(&mut self) -> Result<(), String> {
        let none = self.no_gradients();
        self.here(&none, Optimizer::train)?;
        self.there(&none, OnDevice::train)
    }

    /// Moves both to x and back to y, which are the very same on each side.
    fn evaluate(&mut self, judge: &mut Judge) -> Result<(), String> {
        let y = self.values()?;
        self.eval()?;
        self.judge(judge).map_err(|difference| format!("at x: {difference}"))?;
        self.train()?;
        if self.values()? == y { Ok(()) } else { Err("another y than before the evaluation".to_owned()) }
    }

    /// The parameters on the device.
    pub(crate) fn values(&mut self) -> Result<Vec<Buffer>, String> {
        let executor = self.there.executor();
        self.device.iter().map(|array| executor.download(array).map_err(|error| error.to_string())).collect()
    }

    /// Compares the parameters.
    pub(crate) fn judge(&mut self, judge: &mut Judge) -> Result<(), String> {
        for (i, device) in self.values()?.iter().enumerate() {
            let compared = judge.arrays(S::slice(&self.weights[i]), device.as_slice());
            compared.map_err(|difference| format!("tensor {i}: {difference}"))?;
        }
        Ok(())
    }
}

fn upload<S: Scalar, E: Executor>(there: &mut OnDevice<E>, values: &[S]) -> Result<E::Array, String> {
    there.executor().upload(S::buffer(values.to_vec())).map_err(|error| error.to_string())
}

/// No difference that is not a number gets lost in a maximum.
fn or_infinite(apart: f64) -> f64 {
    if apart.is_nan() { f64::INFINITY } else { apart }
}

/// Numbers of either sign, below one half.
pub(crate) fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next()).collect()
}

fn bits(values: Slice<'_>, i: usize) -> u64 {
    match values {
        Slice::F32(values) => u64::from(values[i].to_bits()),
        Slice::Bf16(values) => u64::from(values[i].to_bits()),
        Slice::F64(values) => values[i].to_bits(),
    }
}
