//! Transforms that have another one inside.

use adopt::Adopt;
use anyhow::{Context, ensure};
use elementary::AdamMoment;
use glob::Pattern;
use gradient_transform::{Link, only_for};
use serde::{Deserialize, Serialize};

use super::family::{DenseOptions, FactoredOptions};
use super::options;
use crate::registry::TransformKind;

/// A second moment in two events.
#[derive(Serialize, Deserialize)]
#[serde(tag = "transform")]
pub(super) enum Moment {
    #[serde(rename = "dense-moment")]
    Dense(DenseOptions),
    #[serde(rename = "factored-moment")]
    Factored(FactoredOptions),
    #[serde(rename = "adam-moment")]
    Adam(AdamMoment),
}

options! {
    AdoptOptions {
        moment: Moment = Moment::Dense(DenseOptions::default()),
        first_step_of_group: bool = false,
    }
    Tensors { names: Vec<String> = Vec::new(), least_rank: usize = 0 }
}

impl AdoptOptions {
    fn adopt(self) -> Box<dyn Link<f32>> {
        let first_step_of_group = self.first_step_of_group;
        match self.moment {
            Moment::Dense(o) => Box::new(Adopt { moment: o.moment(), first_step_of_group }),
            Moment::Factored(o) => Box::new(Adopt { moment: o.moment(), first_step_of_group }),
            Moment::Adam(moment) => Box::new(Adopt { moment, first_step_of_group }),
        }
    }
}

pub(super) fn kinds() -> Vec<TransformKind> {
    vec![
        TransformKind::new(
            "adopt",
            "a second moment (dense-moment, factored-moment or adam-moment) that is updated after its use",
            AdoptOptions::adopt,
        ),
        TransformKind::wrapping(
            "only-for",
            "another transform, for tensors with one of the names (patterns: \"*bias\"; none: all) and a least rank",
            |tensors: Tensors, wrapped| {
                let pattern = |name: &String| {
                    Pattern::new(name).with_context(|| format!("names: {name:?} is no pattern"))
                };
                let names = tensors.names.iter().map(pattern).collect::<Result<Vec<_>, _>>()?;
                let least_rank = tensors.least_rank;
                ensure!(
                    !names.is_empty() || least_rank > 0,
                    "it is for all tensors; give `names` or `least_rank`, or leave the wrapper out"
                );
                let is_named = move |name: &str| names.is_empty() || names.iter().any(|p| p.matches(name));
                Ok(only_for(
                    move |tensor| is_named(&tensor.name) && tensor.shape.len() >= least_rank,
                    wrapped,
                ))
            },
        ),
    ]
}
