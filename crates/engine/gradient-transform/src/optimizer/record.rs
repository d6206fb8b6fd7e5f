//! Records of a step.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::link::context::Estimate;
use crate::memory::element::DType;

/// Work of a step: on the groups, on every tensor that had a gradient, and link by link.
///
/// A norm that is not finite is written as none by serde, and read as NaN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Number of the step: that of the group that has done most, as long as every step has a gradient for it.
    pub step: u64,
    /// The groups that had a gradient, in order.
    pub groups: Vec<GroupRecord>,
    /// The tensors that had one, in order.
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
    /// Of the gradient.
    #[serde(with = "finite")]
    pub gradient: f64,
    /// Of the parameter before the step.
    #[serde(with = "finite")]
    pub parameter: f64,
    /// Of the parameter's displacement, as it is in memory: with all rounding.
    #[serde(with = "finite")]
    pub displacement: f64,
}

impl Norms {
    /// Those of several tensors together.
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
    /// The step size: the learning rate times d, or times what the groups have agreed on ([`StepContext::step_size`](crate::StepContext::step_size)).
    pub step_size: f64,
    /// The estimate with which the step was done.
    pub before: Estimate,
    /// The estimate after it. Both are [`Estimate::FIXED`] in a chain without an estimator.
    pub after: Estimate,
    /// The sums that the step's gradients added to numerator and denominator; none in a chain without an estimator.
    pub contribution: Option<[f64; 2]>,
    /// Over its tensors.
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
    /// How many elements it has.
    pub elements: usize,
    /// How many of them the links and the displacement were looked at. Of the others, [`norms`](Self::norms) has gradient and parameter; the norm of
    /// the displacement and all that is about links are estimates ([`Recorder::all_elements`](crate::Recorder::all_elements)).
    pub sampled: usize,
    /// Over its elements.
    pub norms: Norms,
    /// Cosine of the angle between gradient and displacement, which is above 0 where the step goes down; none where one of them is 0 or not
    /// finite.
    pub cosine: Option<f64>,
    /// Share of the elements whose value in memory has changed.
    pub moved: f64,
    /// Its parts of numerator and denominator of its group's estimate; 0 in a chain without an estimator.
    pub contribution: [f64; 2],
    /// The links that had its update to change, in order. An estimator has none; after a link that holds the tensor there are none.
    pub links: Vec<LinkRecord>,
}

/// Work of a link on the update of a tensor in a recorded step. Of a writer, the update after it is the displacement that it makes.
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
    /// Cosine of the angle between the two; none where one of them is 0 or not finite.
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

/// Where in a step a value is.
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

/// Numbers that a text format may have no form for.
mod finite {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}
