//! Transforms that have another one inside.

use ::adopt::Adopt;
use anyhow::{Context, ensure};
use elementary::AdamMoment;
use factored_moment::{DenseMoment, FactoredMoment};
use glob::Pattern;
use gradient_transform::Link;
use serde::{Deserialize, Serialize};

use crate::kind::TransformKind;

/// A second moment that is read and updated in two events.
#[derive(Serialize, Deserialize)]
#[serde(tag = "transform")]
enum Moment {
    #[serde(rename = "dense-moment")]
    Dense(DenseMoment),
    #[serde(rename = "factored-moment")]
    Factored(FactoredMoment),
    #[serde(rename = "adam-moment")]
    Adam(AdamMoment),
}

impl Default for Moment {
    fn default() -> Self {
        Self::Dense(DenseMoment::default())
    }
}

pub(crate) fn adopt() -> TransformKind {
    let summary =
        "a second moment (dense-moment, factored-moment or adam-moment) that is updated after its use";
    TransformKind::new("adopt", summary, |options: Adopt<Moment>| -> Box<dyn Link<f32>> {
        let first_step_of_group = options.first_step_of_group;
        match options.moment {
            Moment::Dense(moment) => Box::new(Adopt { moment, first_step_of_group }),
            Moment::Factored(moment) => Box::new(Adopt { moment, first_step_of_group }),
            Moment::Adam(moment) => Box::new(Adopt { moment, first_step_of_group }),
        }
    })
}

/// Tensors by name and rank.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tensors {
    names: Vec<String>,
    least_rank: usize,
}

pub(crate) fn only_for() -> TransformKind {
    let summary = "another transform, for tensors with one of the names (patterns: \"*bias\"; none: all) and a least rank";
    TransformKind::wrapping("only-for", summary, |tensors: Tensors, wrapped| {
        let pattern =
            |name: &String| Pattern::new(name).with_context(|| format!("names: {name:?} is no pattern"));
        let names = tensors.names.iter().map(pattern).collect::<Result<Vec<_>, _>>()?;
        let least_rank = tensors.least_rank;
        ensure!(
            !names.is_empty() || least_rank > 0,
            "it is for all tensors; give `names` or `least_rank`, or leave the wrapper out"
        );
        let is_named = move |name: &str| names.is_empty() || names.iter().any(|p| p.matches(name));
        Ok(gradient_transform::only_for(
            move |tensor| is_named(&tensor.name) && tensor.shape.len() >= least_rank,
            wrapped,
        ))
    })
}
