//! Records of a step.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::link::context::Estimate;
use crate::memory::element::DType;

/// Record of a step: the groups, every tensor that had a gradient, and each link's work on it.
///
/// serde writes a norm that is not finite as none, and reads it as NaN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Number of the step: the largest number of steps of a group, as long as this group has a gradient in
    /// every step.
    pub step: u64,
    /// Records of the groups that had a gradient, in order.
    pub groups: Vec<GroupRecord>,
    /// Records of the tensors that had a gradient, in order.
    pub tensors: Vec<TensorRecord>,
    /// The first value in the order of the links, and then of the tensors, that is not finite.
    pub not_finite: Option<NotFinite>,
}

impl Record {
    /// Norms over all tensors.
    pub fn norms(&self) -> Norms {
        Norms::over(self.groups.iter().map(|group| group.norms))
    }

    /// The tensors of a group.
    pub fn tensors_of(&self, group: usize) -> impl Iterator<Item = &TensorRecord> + Clone {
        self.tensors.iter().filter(move |tensor| tensor.group == group)
    }
}

/// Euclidean norms over the elements of a tensor, of a group, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Norms {
    /// Norm of the gradient.
    #[serde(with = "finite")]
    pub gradient: f64,
    /// Norm of the parameter before the step.
    #[serde(with = "finite")]
    pub parameter: f64,
    /// Norm of the parameter's displacement in memory, including rounding.
    #[serde(with = "finite")]
    pub displacement: f64,
}

impl Norms {
    /// Norms of several tensors together.
    pub fn over(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut sums = [0.0; 3];
        for Self { gradient, parameter, displacement } in parts {
            sums.iter_mut()
                .zip([gradient, parameter, displacement])
                .for_each(|(sum, norm)| *sum += norm * norm);
        }
        let [gradient, parameter, displacement] = sums.map(f64::sqrt);
        Self { gradient, parameter, displacement }
    }
}

/// A group in a recorded step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Its number.
    pub group: usize,
    /// The number of its own step, from 1.
    pub k: u64,
    /// Its learning rate.
    pub lr: f64,
    /// The step size: the learning rate times d, or times the common d of the groups
    /// ([`StepContext::step_size`](crate::StepContext::step_size)).
    pub step_size: f64,
    /// The estimate with which the step was done.
    pub before: Estimate,
    /// The estimate after it. Both are [`Estimate::FIXED`] in a chain without an estimator.
    pub after: Estimate,
    /// The sums that the step's gradients added to numerator and denominator; none in a chain without an estimator.
    pub contribution: Option<[f64; 2]>,
    /// Norms over its tensors.
    pub norms: Norms,
}

/// A tensor in a recorded step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorRecord {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: usize,
    /// The type of its elements.
    pub dtype: DType,
    /// Number of its elements.
    pub elements: usize,
    /// Number of elements in which the links and the displacement were measured. [`norms`](Self::norms) of
    /// gradient and parameter include all elements; the norm of the displacement and all numbers of links are
    /// estimates ([`Recorder::all_elements`](crate::Recorder::all_elements)).
    pub sampled: usize,
    /// Norms over its elements.
    pub norms: Norms,
    /// Cosine of the angle between gradient and displacement, which is above 0 if the step goes downhill;
    /// none if one of them is 0 or not finite.
    pub cosine: Option<f64>,
    /// Share of the elements whose value in memory has changed.
    pub moved: f64,
    /// Its parts of numerator and denominator of its group's estimate; 0 in a chain without an estimator.
    pub contribution: [f64; 2],
    /// The links that got its update, in order. Estimators are not included, and neither are links after one
    /// that holds the tensor.
    pub links: Vec<LinkRecord>,
}

/// Work of a link on the update of a tensor in a recorded step. For a writer, the update after it is its
/// displacement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// Its name.
    pub link: String,
    /// Norm of the update before it.
    #[serde(with = "finite")]
    pub before: f64,
    /// Norm of the update after it.
    #[serde(with = "finite")]
    pub after: f64,
    /// Cosine of the angle between the two; none if one of them is 0 or not finite.
    pub cosine: Option<f64>,
    /// Share of the elements that it changed.
    pub changed: f64,
}

/// A value that is not finite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotFinite {
    /// The step: [`Record::step`].
    pub step: u64,
    /// The tensor.
    pub tensor: String,
    /// Place of the value.
    pub place: Place,
    /// Index of the element, in logical (row-major) order.
    pub element: usize,
    /// The value: `inf`, `-inf` or `NaN`.
    pub value: String,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, tensor, place, element, value } = self;
        write!(f, "in step {step}, {place} is {value} at element {element} of `{tensor}`")
    }
}

/// Place of a value in a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the gradient.
    Gradient,
    /// In the update after the link of this name.
    Link(String),
    /// In the parameter after the step.
    Parameter,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gradient => f.write_str("the gradient"),
            Self::Link(link) => write!(f, "the update after `{link}`"),
            Self::Parameter => f.write_str("the parameter"),
        }
    }
}

/// Numbers that some text formats cannot represent.
mod finite {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}
