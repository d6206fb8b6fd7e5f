//! `ablate list`: all that a study can name.

use anyhow::Result;
use serde_json::Value;

use super::Listed;
use crate::columns::Columns;
use crate::optimizer::{Named, OptimizerSpec};
use crate::registry::{Registry, written_options};
use crate::study::{Overrides, SHIPPED, Study};

pub(super) fn list(what: Listed, registry: &Registry) -> Result<String> {
    Ok(match what {
        Listed::Tasks => tasks(registry),
        Listed::Transforms => transforms(registry),
        Listed::Options => options()?,
        Listed::Optimizers => optimizers(registry)?,
        Listed::Studies => studies(registry)?,
    })
}

fn tasks(registry: &Registry) -> String {
    let mut table = Columns::new(["task", "what it is", "options and defaults"]);
    for kind in registry.tasks() {
        table.add_row([kind.name.clone(), kind.summary.clone(), written_options(&kind.defaults).join(", ")]);
    }
    format!(
        "{}\n\nIn a study: tasks = [\"NAME\", {{ task = \"NAME\", OPTION = VALUE, name = …, steps = …, target = … }}]\n",
        table.shown()
    )
}

fn transforms(registry: &Registry) -> String {
    let mut list = Columns::new(["transform", "what it is", "options and defaults"]);
    for kind in registry.transforms() {
        list.add_row([kind.name.clone(), kind.summary.clone(), written_options(&kind.defaults).join(", ")]);
    }
    let (mut exclusions, mut positions) = (
        Columns::new(["option", "excludes", "because"]),
        Columns::new(["transform", "belongs", "otherwise"]),
    );
    for rule in prodigy_plus::EXCLUSIONS {
        exclusions.add_row([rule.first, rule.second, rule.reason]);
    }
    for rule in prodigy_plus::POSITIONS {
        positions.add_row([rule.transform, rule.place, rule.otherwise]);
    }
    format!(
        "{}\n\nIn a study: chain = [\"NAME\", {{ transform = \"NAME\", OPTION = VALUE }}, …] under [base], or a factor's replace, remove and insert \
         (with before = \"NAME\" or after = \"NAME\").\n\nRules of combination of the default optimizer\n{}\n{}\n",
        list.shown(),
        exclusions.shown(),
        positions.shown()
    )
}

fn options() -> Result<String> {
    let Value::Object(options) = serde_json::to_value(prodigy_plus::Options::default())? else {
        return Ok(String::new());
    };
    let mut table = Columns::new(["option", "default"]);
    // Every run has a seed of its own.
    for (name, value) in options.iter().filter(|(name, _)| *name != "seed") {
        match value {
            Value::Object(inner) => {
                for (inner, value) in inner {
                    match value {
                        Value::Object(innermost) => {
                            for (last, value) in innermost {
                                table.add_row([format!("\"{name}.{inner}.{last}\""), value.to_string()]);
                            }
                        }
                        value => {
                            table.add_row([format!("\"{name}.{inner}\""), value.to_string()]);
                        }
                    }
                }
            }
            Value::Null => {
                table.add_row([name.as_str(), "\"none\""]);
            }
            value => {
                table.add_row([name.clone(), value.to_string()]);
            }
        }
    }
    Ok(format!(
        "{}\n\nTheir meaning: the book's chapter on options. In a study: [base], or a factor's `on` and `off`.\n",
        table.shown()
    ))
}

fn optimizers(registry: &Registry) -> Result<String> {
    let mut table = Columns::new(["optimizer", "what it is", "learning rate", "its chain"]);
    for named in Named::all() {
        table.add_row([
            named.name().to_owned(),
            named.title().to_owned(),
            named.lr().map_or("tuned".to_owned(), |lr| lr.to_string()),
            OptimizerSpec::Baseline(named).describe(registry)?,
        ]);
    }
    Ok(format!(
        "{}\n\nIn a study: [base] optimizer = \"NAME\", with `lr` and options of its parts (\"adam.beta2\" = 0.95), which factors remove, replace \
         and add to; or baselines = [\"NAME\"], tuned.\n",
        table.shown()
    ))
}

fn studies(registry: &Registry) -> Result<String> {
    let mut table = Columns::new(["study", "tasks", "arms", "seeds", "what it asks"]);
    for (name, _) in SHIPPED {
        let study = Study::open(name, registry, &Overrides::default())?;
        table.add_row([
            name.to_owned(),
            study.tasks.len().to_string(),
            study.arms.len().to_string(),
            study.file.seeds.to_string(),
            study.file.question.clone(),
        ]);
    }
    Ok(table.shown() + "\n")
}
