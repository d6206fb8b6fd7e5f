//! Recorded trajectories of the reference: a safetensors file whose head carries the case as JSON.
//!
//! The tensors are `init/<i>`, `grad/<t>/<i>` (absent where parameter `i` had no gradient at step `t`, counted from one),
//! `y/<t>/<i>` and `x/<t>/<i>` at the saved steps, `back/<t>/<i>` where the case switches to evaluation and back, and
//! `d/<t>`, one number per group.

use std::collections::BTreeMap;
use std::path::Path;

use half::bf16;
use ndarray::{ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Why a file is no case.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file is not in the safetensors format, or cut short.
    #[error("not a safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    /// The head has no entry `case`.
    #[error("no case in the metadata")]
    NoCase,
    /// The entry `case` is not what it should be.
    #[error("the case in the metadata: {0}")]
    Json(#[from] serde_json::Error),
    /// The entry `case` contradicts itself.
    #[error("the case in the metadata: {0}")]
    Inconsistent(String),
    /// A tensor is not there.
    #[error("tensor {0} is missing")]
    MissingTensor(String),
    /// A tensor is there that the case says is not.
    #[error("tensor {0} is there, although the case says that this gradient is missing")]
    UnexpectedTensor(String),
    /// A tensor is not of the parameter's shape.
    #[error("tensor {name} has shape {found:?} instead of {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A tensor is not of a type that a case has.
    #[error("tensor {name} is of type {found:?}, but must be BF16, F32 or F64")]
    Type {
        /// The tensor.
        name: String,
        /// Its type.
        found: Dtype,
    },
}

/// The type of a case's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE single precision.
    Float32,
    /// bfloat16.
    Bfloat16,
}

/// How bfloat16 parameters were rounded when the case was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    /// At random, in proportion to the distance.
    Stochastic,
}

/// A parameter group as recorded.
#[derive(Debug, Clone, Deserialize)]
pub struct CaseGroup {
    /// Positions of its parameters.
    pub params: Vec<usize>,
    /// The options in which it differs, by their documented names.
    #[serde(flatten)]
    pub overrides: Map<String, Value>,
}

/// The JSON in the file's head.
#[derive(Debug, Clone, Deserialize)]
pub struct Description {
    /// What the case is called.
    pub name: String,
    /// The version of the reference. None for 1.9.2.
    #[serde(default)]
    pub reference: Option<String>,
    /// How far the reference itself moves when every gradient is off by 1e-7: displacement and d, relative.
    pub wobble: (f64, f64),
    /// The constructor's options that differ from their defaults, by their documented names.
    pub options: Map<String, Value>,
    /// The parameter groups.
    pub groups: Vec<CaseGroup>,
    /// The parameters' shapes.
    pub shapes: Vec<Vec<usize>>,
    /// How many steps were taken.
    pub steps: usize,
    /// The steps after which y and x were saved.
    pub saved: Vec<usize>,
    /// The parameters' type.
    pub dtype: Precision,
    /// Per step, what the learning rate is multiplied by: a group's rate is the factor times its own `lr`, or times one.
    #[serde(default)]
    pub lr: Option<Vec<f64>>,
    /// Per step, which parameters had no gradient.
    #[serde(default)]
    pub missing: Option<BTreeMap<usize, Vec<usize>>>,
    /// The steps after which the reference was switched to evaluation and back.
    #[serde(default)]
    pub eval_at: Option<Vec<usize>>,
    /// How bfloat16 parameters were rounded.
    pub rounding: Rounding,
    /// The type of Muon's iterations.
    pub muon_dtype: Precision,
}

/// What was saved after a step, per parameter.
#[derive(Debug, Clone)]
pub struct Saved {
    /// In training mode.
    pub y: Vec<ArrayD<f64>>,
    /// In evaluation mode.
    pub x: Vec<ArrayD<f64>>,
    /// After the switch to evaluation and back, if the case has one here.
    pub back: Option<Vec<ArrayD<f64>>>,
}

/// One step of the trajectory.
#[derive(Debug, Clone)]
pub struct RecordedStep {
    /// Per parameter, its gradient.
    pub gradients: Vec<Option<ArrayD<f64>>>,
    /// The schedule's factor.
    pub lr: Option<f64>,
    /// Every group's d after the step.
    pub d: Vec<f64>,
    /// What was saved after the step.
    pub saved: Option<Saved>,
}

/// A recorded trajectory.
#[derive(Debug, Clone)]
pub struct Case {
    /// The JSON in the file's head.
    pub description: Description,
    /// Per parameter, where it starts.
    pub init: Vec<ArrayD<f64>>,
    /// The trajectory.
    pub steps: Vec<RecordedStep>,
}

impl Case {
    /// Reads a case from a file.
    pub fn read(path: &Path) -> Result<Case, CaseError> {
        Case::parse(&std::fs::read(path)?)
    }

    /// Reads a case from a file's contents.
    pub fn parse(bytes: &[u8]) -> Result<Case, CaseError> {
        let (_, head) = SafeTensors::read_metadata(bytes)?;
        let json =
            head.metadata().as_ref().and_then(|entries| entries.get("case")).ok_or(CaseError::NoCase)?;
        let description: Description = serde_json::from_str(json)?;
        description.check()?;

        let tensors = Tensors { file: SafeTensors::deserialize(bytes)?, shapes: &description.shapes };
        let init = tensors.per_parameter("init")?;
        let steps =
            (1..=description.steps).map(|t| tensors.step(t, &description)).collect::<Result<_, _>>()?;
        Ok(Case { description, init, steps })
    }
}

impl Description {
    fn check(&self) -> Result<(), CaseError> {
        let wrong = |what: String| Err(CaseError::Inconsistent(what));
        if self.steps == 0 {
            return wrong("there are no steps".to_owned());
        }
        if self.saved.is_empty() {
            return wrong("nothing was saved".to_owned());
        }
        let mut groups_of = vec![0; self.shapes.len()];
        for &i in self.groups.iter().flat_map(|group| &group.params) {
            match groups_of.get_mut(i) {
                Some(count) => *count += 1,
                None => return wrong(format!("a group holds parameter {i}, which has no shape")),
            }
        }
        if let Some(i) = groups_of.iter().position(|&count| count != 1) {
            return wrong(format!("parameter {i} is in {} groups instead of one", groups_of[i]));
        }
        if let Some(t) = self.saved.iter().find(|t| !(1..=self.steps).contains(t)) {
            return wrong(format!("step {t} was saved, but there are {} steps", self.steps));
        }
        if let Some(t) = self.eval_at.iter().flatten().find(|t| !self.saved.contains(t)) {
            return wrong(format!("there is a switch to evaluation at step {t}, which was not saved"));
        }
        if let Some(lr) = &self.lr
            && lr.len() < self.steps
        {
            return wrong(format!("lr has {} factors for {} steps", lr.len(), self.steps));
        }
        Ok(())
    }

    fn is_missing(&self, t: usize, i: usize) -> bool {
        self.missing.as_ref().and_then(|missing| missing.get(&t)).is_some_and(|missing| missing.contains(&i))
    }
}

/// The file's tensors, and the shapes that they should have.
struct Tensors<'a> {
    file: SafeTensors<'a>,
    shapes: &'a [Vec<usize>],
}

impl Tensors<'_> {
    fn step(&self, t: usize, description: &Description) -> Result<RecordedStep, CaseError> {
        let mut gradients = Vec::with_capacity(self.shapes.len());
        for (i, shape) in self.shapes.iter().enumerate() {
            let name = format!("grad/{t}/{i}");
            gradients.push(match description.is_missing(t, i) {
                false => Some(self.tensor(&name, shape)?),
                true if self.file.tensor(&name).is_ok() => return Err(CaseError::UnexpectedTensor(name)),
                true => None,
            });
        }
        let d = self.tensor(&format!("d/{t}"), &[description.groups.len()])?;
        let switches = description.eval_at.iter().flatten().any(|&at| at == t);
        let saved = if description.saved.contains(&t) {
            Some(Saved {
                y: self.per_parameter(&format!("y/{t}"))?,
                x: self.per_parameter(&format!("x/{t}"))?,
                back: switches.then(|| self.per_parameter(&format!("back/{t}"))).transpose()?,
            })
        } else {
            None
        };
        let lr = description.lr.as_ref().map(|lr| lr[t - 1]);
        Ok(RecordedStep { gradients, lr, d: d.into_iter().collect(), saved })
    }

    fn per_parameter(&self, prefix: &str) -> Result<Vec<ArrayD<f64>>, CaseError> {
        let one = |(i, shape): (usize, &Vec<usize>)| self.tensor(&format!("{prefix}/{i}"), shape);
        self.shapes.iter().enumerate().map(one).collect()
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<ArrayD<f64>, CaseError> {
        let view = self.file.tensor(name).map_err(|_| CaseError::MissingTensor(name.to_owned()))?;
        let wrong_shape = || CaseError::Shape {
            name: name.to_owned(),
            found: view.shape().to_vec(),
            expected: shape.to_vec(),
        };
        if view.shape() != shape {
            return Err(wrong_shape());
        }
        let bytes = view.data();
        let values: Vec<f64> = match view.dtype() {
            Dtype::BF16 => {
                bytes.as_chunks().0.iter().map(|&b| f64::from(bf16::from_le_bytes(b).to_f32())).collect()
            }
            Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
            found => return Err(CaseError::Type { name: name.to_owned(), found }),
        };
        ArrayD::from_shape_vec(IxDyn(shape), values).map_err(|_| wrong_shape())
    }
}
