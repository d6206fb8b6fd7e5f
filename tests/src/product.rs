//! The product's engine as a subject.

use gradient_transform::{Error, NonFinite, Optimizer, Parameter};
use half::bf16;
use ndarray::ArrayD;
use prodigy_plus::{Compat, Line, Options};
use serde_json::{Map, Value};

use crate::case::{Case, Precision, Rounding};
use crate::replay::{Subject, SubjectError};

/// The product's optimizer for a case, and how its parameters and groups correspond to the case's.
pub struct Product {
    /// The optimizer.
    pub optimizer: Optimizer<f32>,
    /// The case's number of each of the optimizer's parameters.
    pub order: Vec<usize>,
    /// Every group's learning rate before the schedule.
    pub lrs: Vec<f64>,
}

/// The optimizer in the mode that follows the reference's trajectories; `name` is what it calls the case's parameters.
///
/// # Errors
/// An option that the product doesn't have.
pub fn product(case: &Case, name: impl Fn(usize) -> String) -> Result<Product, SubjectError> {
    let description = &case.description;
    let mut base = options(&description.options)?;
    (base.line, base.compat) = match description.reference.as_deref() {
        Some("2.0.1") => (Line::V2, Compat::V2_0_1),
        None | Some("1.9.2") => (Line::V1, Compat::V1_9_2),
        Some(other) => return Err(SubjectError::Unsupported(format!("reference {other}"))),
    };
    // A group's own options are not resolved once more by the reference.
    base = base.resolve_exclusions_like_the_reference().explicit();
    base.non_finite = NonFinite::Unchecked;
    base.muon_bf16_iterations = description.muon_dtype == Precision::Bfloat16;
    if base.line == Line::V1 {
        // The default of beta3 follows the constructor's betas, not a group's.
        base.beta3 = Some(base.beta3_or_default());
    }
    // A case recorded with rounding to the nearest had the copies of the stochastic mode replaced, and nothing else.
    let nearest = description.rounding == Rounding::Nearest;
    let defaults = match serde_json::to_value(&base) {
        Ok(Value::Object(map)) => map,
        _ => return Err(SubjectError::Failed("the options are not a JSON object".to_owned())),
    };
    let mut order = Vec::new();
    let mut groups = Vec::new();
    let mut lrs = Vec::new();
    for group in &description.groups {
        let mut merged = defaults.clone();
        merged.extend(group.overrides.clone());
        let options = options(&merged)?;
        lrs.push(group.overrides.get("lr").and_then(Value::as_f64).unwrap_or(1.0));
        let parameters: Vec<(String, &[usize])> =
            group.params.iter().map(|&i| (name(i), description.shapes[i].as_slice())).collect();
        order.extend(&group.params);
        let group = base.group(options, parameters)?;
        groups.push(if nearest { group.rounding(gradient_transform::Rounding::Nearest) } else { group });
    }
    Ok(Product { optimizer: base.build_from(groups)?, order, lrs })
}

/// The same as a subject, its parameters as arrays.
pub fn subject(case: &Case) -> Result<Box<dyn Subject>, SubjectError> {
    let Product { optimizer, order, lrs } = product(case, |i| i.to_string())?;
    let init = order.iter().map(|&i: &usize| &case.init[i]);
    Ok(match case.description.dtype {
        Precision::Float32 => {
            let values = init.map(|a| a.mapv(|v| v as f32)).collect();
            Box::new(Engine { optimizer, order, lrs, values, to: |v| v as f32, from: f64::from })
        }
        Precision::Bfloat16 => {
            let values = init.map(|a| a.mapv(bf16::from_f64)).collect();
            Box::new(Engine { optimizer, order, lrs, values, to: bf16::from_f64, from: f64::from })
        }
    })
}

fn options(map: &Map<String, Value>) -> Result<Options, SubjectError> {
    let known = serde_json::to_value(Options::default()).unwrap_or_default();
    if let Some(option) = map.keys().find(|option| known.get(option).is_none()) {
        return Err(SubjectError::Unsupported(option.clone()));
    }
    serde_json::from_value(Value::Object(map.clone())).map_err(|e| SubjectError::Failed(e.to_string()))
}

impl From<Error> for SubjectError {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The engine, with the parameters that it moves.
struct Engine<E> {
    optimizer: Optimizer<f32>,
    /// The case's number of each of the optimizer's parameters.
    order: Vec<usize>,
    /// Every group's learning rate before the schedule.
    lrs: Vec<f64>,
    values: Vec<ArrayD<E>>,
    to: fn(f64) -> E,
    from: fn(E) -> f64,
}

impl<E: gradient_transform::Scalar> Engine<E> {
    fn position(&self, i: usize) -> Result<usize, SubjectError> {
        let found = self.order.iter().position(|&p| p == i);
        found.ok_or_else(|| SubjectError::Failed(format!("parameter {i} is in no group")))
    }
}

impl<E: gradient_transform::Scalar> Subject for Engine<E> {
    fn step(&mut self, gradients: &[Option<ArrayD<f64>>], lr: Option<f64>) -> Result<(), SubjectError> {
        if let Some(factor) = lr {
            for (group, base) in self.lrs.iter().enumerate() {
                self.optimizer.set_lr(group, factor * base)?;
            }
        }
        let gradients: Vec<Option<ArrayD<E>>> =
            self.order.iter().map(|&i| gradients[i].as_ref().map(|g| g.mapv(self.to))).collect();
        let mut parameters: Vec<Parameter<'_>> = self
            .values
            .iter_mut()
            .zip(&gradients)
            .map(|(value, gradient)| Parameter::array(value.view_mut(), gradient.as_ref().map(|g| g.view())))
            .collect();
        let _ = self.optimizer.step(&mut parameters)?;
        Ok(())
    }

    fn y(&self, i: usize) -> Result<ArrayD<f64>, SubjectError> {
        Ok(self.values[self.position(i)?].mapv(self.from))
    }

    fn x(&self, i: usize) -> Result<ArrayD<f64>, SubjectError> {
        let position = self.position(i)?;
        let mut x = self.values[position].clone();
        let value = self.values[position].as_slice();
        if let (Some(value), Some(x)) = (value, x.as_slice_mut()) {
            self.optimizer.evaluation_point(position, value, x)?;
        }
        Ok(x.mapv(self.from))
    }

    fn eval_then_train(&mut self) -> Result<(), SubjectError> {
        let parameters =
            |values: &mut Vec<ArrayD<E>>, f: &mut dyn FnMut(&mut [Parameter<'_>]) -> Result<(), Error>| {
                let mut parameters: Vec<Parameter<'_>> =
                    values.iter_mut().map(|value| Parameter::array(value.view_mut(), None)).collect();
                f(&mut parameters)
            };
        parameters(&mut self.values, &mut |p| self.optimizer.eval(p))?;
        parameters(&mut self.values, &mut |p| self.optimizer.train(p))?;
        Ok(())
    }

    fn d(&self) -> Result<Vec<f64>, SubjectError> {
        (0..self.lrs.len()).map(|group| Ok(self.optimizer.estimate(group)?.d)).collect()
    }
}
