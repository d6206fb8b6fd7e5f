//! Arms of a study, from its factors.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::file::{Design, Factor, StudyFile};
use crate::command::check_change;
use crate::optimizer::{ChainSpec, Change, Named, OptimizerSpec, Schedule};
use crate::registry::Registry;
use crate::results::{Arm, Refused, Role};

/// The name of the arm that every other one is compared with.
pub const BASE: &str = "base";

/// A factorial of more factors has more arms than anyone would wait for.
const MOST_FACTORS: usize = 8;

/// An arm, and what its optimizer is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedArm {
    /// The arm in reports.
    pub arm: Arm,
    /// Its recipe.
    pub recipe: Recipe,
    /// The schedules that tuning tries; empty for an arm that is run as it is.
    pub schedules: Vec<Schedule>,
}

/// Recipe of an arm.
#[derive(Debug, Clone, PartialEq)]
pub enum Recipe {
    /// An optimizer, for included and custom tasks.
    Optimizer(OptimizerSpec),
    /// Options of a command, those of the base included.
    Options(Map<String, Value>),
}

/// The arms of a study, the base first and baselines last, and what cannot be combined.
///
/// # Errors
/// A base, a factor by itself or a baseline that cannot be; factors that aren't there, twice, or without a change.
pub fn arms(study: &StudyFile, registry: &Registry) -> Result<(Vec<PlannedArm>, Vec<Refused>)> {
    check(study)?;
    let base = ChainSpec { options: study.base.clone(), ..ChainSpec::default() };
    let mut arms = vec![changed(study, registry, &base, &[]).context("the base cannot be")?];
    let mut refused = Vec::new();
    for combination in combinations(study)? {
        match changed(study, registry, &base, &combination) {
            Ok(arm) => arms.push(arm),
            // What is wrong about one factor is a mistake; about a combination, it is to be expected.
            Err(error) if combination.len() == 1 => {
                return Err(error.context(format!("factor {} cannot be", combination[0].name)));
            }
            Err(error) => refused.push(Refused { name: name(&combination), reason: format!("{error:#}") }),
        }
    }
    if let Some(baseline) = study.baselines.first()
        && runs_commands(study)
    {
        bail!(
            "baseline {baseline}: the arms of a command are its own; give it a factor whose options mean that"
        );
    }
    for baseline in &study.baselines {
        arms.push(from_outside(Named::of(baseline)?, registry)?);
    }
    for (index, planned) in arms.iter().enumerate() {
        let name = &planned.arm.name;
        ensure!(
            arms[..index].iter().all(|other| other.arm.name != *name),
            "there are two arms called {name}"
        );
    }
    Ok((arms, refused))
}

/// Whether what a study trains are commands.
pub(super) fn runs_commands(study: &StudyFile) -> bool {
    study.tasks.iter().any(|task| task.command.is_some())
}

fn check(study: &StudyFile) -> Result<()> {
    ensure!(
        !runs_commands(study) || study.tasks.iter().all(|task| task.command.is_some()),
        "a study's tasks are commands, or none of them is: an option of an arm means something to a command, or to the chain"
    );
    let schedules = if study.tuning.every.is_empty() { 2 } else { study.tuning.every.len() };
    for (index, factor) in study.factors.iter().enumerate() {
        let name = &factor.name;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ensure!(
            !name.is_empty() && name.chars().all(is_plain) && name != BASE,
            "factor {name:?}: a name is made of letters, digits, '-', '_' and '.', and is not {BASE:?}"
        );
        ensure!(
            study.factors[..index].iter().all(|other| other.name != *name),
            "there are two factors called {name}"
        );
        match (&factor.on, &factor.off) {
            (None, None) => bail!("factor {name} needs `on` (what adds it) or `off` (what leaves it out)"),
            (Some(_), Some(_)) => bail!(
                "factor {name} has `on` and `off`; the base is the one state, so give only the change to the other"
            ),
            _ => {}
        }
        ensure!(
            factor.change() != Some(&Change::default()),
            "factor {name} changes nothing: name options or transforms in its `on` or `off`"
        );
        ensure!(
            [0, schedules].contains(&factor.tune.len()),
            "factor {name}: `tune` lists {schedules} of the schedules, so that every tuned arm has the same number of settings"
        );
    }
    ensure!(
        study.tuning.every.len() <= 2 && (study.baselines.is_empty() || schedules == 2),
        "tuning.every lists two schedules, or one in a study without baselines, which have two, so that every tuned arm has the same number of settings"
    );
    ensure!(
        study.design == Design::Explicit || study.arms.is_empty(),
        "`arms` are listed, but the design is not \"explicit\""
    );
    Ok(())
}

/// The combinations of factors that a design asks for, without the base.
fn combinations(study: &StudyFile) -> Result<Vec<Vec<&Factor>>> {
    let factors = &study.factors;
    let alone = |keep: fn(&Factor) -> bool| -> Vec<Vec<&Factor>> {
        factors.iter().filter(|factor| keep(factor)).map(|factor| vec![factor]).collect()
    };
    Ok(match study.design {
        Design::OneAtATime => alone(|_| true),
        Design::LeaveOneOut => alone(|factor| factor.off.is_some()),
        Design::AddOneIn => alone(|factor| factor.on.is_some()),
        Design::Pairs => {
            let pairs = factors.iter().enumerate().flat_map(|(index, first)| {
                factors[index + 1..].iter().map(move |second| vec![first, second])
            });
            alone(|_| true).into_iter().chain(pairs).collect()
        }
        Design::Factorial => {
            ensure!(
                factors.len() <= MOST_FACTORS,
                "a full factorial of {} factors has {:.0} arms; at most {MOST_FACTORS} factors, or another design",
                factors.len(),
                2.0_f64.powi(factors.len() as i32)
            );
            let of_mask = |mask: usize| {
                factors
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| mask >> i & 1 == 1)
                    .map(|(_, factor)| factor)
                    .collect()
            };
            (1..1_usize << factors.len()).map(of_mask).collect()
        }
        Design::Explicit => {
            let named = |name: &String| {
                factors.iter().find(|factor| factor.name == *name).with_context(|| {
                    let known: Vec<&str> = factors.iter().map(|factor| factor.name.as_str()).collect();
                    format!("`arms` names {name:?}, which is no factor; there are {}", known.join(", "))
                })
            };
            let arm = |names: &Vec<String>| names.iter().map(named).collect::<Result<Vec<_>>>();
            let arms = study.arms.iter().map(arm).collect::<Result<Vec<_>>>()?;
            ensure!(
                arms.iter().all(|arm| !arm.is_empty()),
                "an empty list under `arms` would be the base again"
            );
            arms
        }
    })
}

fn name(factors: &[&Factor]) -> String {
    let names: Vec<String> = factors
        .iter()
        .map(|factor| if factor.off.is_some() { format!("no-{}", factor.name) } else { factor.name.clone() })
        .collect();
    if names.is_empty() { BASE.to_owned() } else { names.join("+") }
}

fn title(factors: &[&Factor]) -> String {
    let titles: Vec<String> = factors
        .iter()
        .map(|factor| {
            let title = if factor.title.is_empty() { &factor.name } else { &factor.title };
            format!("{} {title}", if factor.off.is_some() { "−" } else { "+" })
        })
        .collect();
    if titles.is_empty() { BASE.to_owned() } else { titles.join(" ") }
}

fn changed(
    study: &StudyFile,
    registry: &Registry,
    base: &ChainSpec,
    factors: &[&Factor],
) -> Result<PlannedArm> {
    let changes = || factors.iter().filter_map(|factor| factor.change());
    let mut spec = base.clone();
    if !runs_commands(study) {
        spec = changes().fold(spec, |spec, change| spec.anew_for(change, &study.base));
    }
    for change in changes() {
        spec = spec.with(change, &study.base)?;
    }
    // Of several factors that need a rate, the first one's schedules: a grid has two.
    let of_factor = factors.iter().find(|factor| !factor.tune.is_empty());
    let schedules = of_factor.map_or(study.tuning.every.clone(), |factor| factor.tune.clone());
    let recipe = if runs_commands(study) {
        changes().try_for_each(check_change)?;
        Recipe::Options(spec.options.clone())
    } else {
        Recipe::Optimizer(OptimizerSpec::Chain(spec.clone()))
    };
    let shown: Vec<(&String, &Value)> = match &recipe {
        Recipe::Optimizer(_) => spec.shown_options().collect(),
        Recipe::Options(options) => options.iter().collect(),
    };
    let chain = match &recipe {
        Recipe::Optimizer(optimizer) => optimizer.describe(registry)?,
        Recipe::Options(options) => {
            options.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ")
        }
    };
    // Afterwards: a chain whose names are misspelt has no rate either.
    ensure!(
        runs_commands(study) || !schedules.is_empty() || spec.lr()?.is_some(),
        "it has no learning rate: give `lr`, or tune it (`tune` of a factor, `every` of [tuning])"
    );
    let descriptions: Vec<&str> = factors
        .iter()
        .map(|factor| factor.description.as_str())
        .filter(|description| !description.is_empty())
        .collect();
    let description = if factors.is_empty() {
        "What every other arm is compared with.".to_owned()
    } else {
        descriptions.join(" ")
    };
    let options = shown
        .into_iter()
        .filter(|(name, value)| factors.is_empty() || base.options.get(*name) != Some(value))
        .map(|(name, value)| (name.clone(), value.to_string()))
        .collect();
    Ok(PlannedArm {
        arm: Arm {
            name: name(factors),
            title: title(factors),
            description,
            role: if factors.is_empty() { Role::Base } else { Role::Changed },
            factors: factors.iter().map(|factor| factor.name.clone()).collect(),
            chain,
            options,
        },
        recipe,
        schedules,
    })
}

fn from_outside(baseline: Named, registry: &Registry) -> Result<PlannedArm> {
    let recipe = OptimizerSpec::Baseline(baseline);
    Ok(PlannedArm {
        arm: Arm {
            name: baseline.name().to_owned(),
            title: baseline.title().to_owned(),
            description: "A baseline, with its learning rate and schedule tuned.".to_owned(),
            role: Role::Baseline,
            factors: Vec::new(),
            chain: recipe.describe(registry)?,
            options: Vec::new(),
        },
        recipe: Recipe::Optimizer(recipe),
        schedules: baseline.schedules().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTORS: &str = r#"
        tasks = ["digits"]
        [[factor]]
        name = "stableadamw"
        off = { use_stableadamw = false }
        [[factor]]
        name = "cautious"
        title = "Cautious"
        on = { use_cautious = true }
        [[factor]]
        name = "grams"
        on = { use_grams = true }
    "#;

    fn study(design: &str) -> StudyFile {
        let study = FACTORS.replace("tasks = [\"digits\"]", &format!("tasks = [\"digits\"]\n{design}"));
        toml::from_str(&study).unwrap()
    }

    fn names(design: &str) -> (Vec<String>, Vec<Refused>) {
        let (arms, refused) = arms(&study(design), &Registry::shipped()).unwrap();
        (arms.into_iter().map(|planned| planned.arm.name).collect(), refused)
    }

    #[test]
    fn a_design_makes_its_arms_and_refuses_what_cannot_be_combined() {
        assert_eq!(names("").0, ["base", "no-stableadamw", "cautious", "grams"]);
        assert_eq!(names("design = \"leave-one-out\"").0, ["base", "no-stableadamw"]);
        assert_eq!(names("design = \"add-one-in\"").0, ["base", "cautious", "grams"]);
        let (pairs, refused) = names("design = \"pairs\"");
        assert_eq!(pairs[4..], ["no-stableadamw+cautious", "no-stableadamw+grams"]);
        assert_eq!(refused.len(), 1);
        assert!(
            refused[0].name == "cautious+grams" && refused[0].reason.contains("displacement"),
            "{refused:?}"
        );
        let (factorial, refused) = names("design = \"factorial\"");
        assert_eq!((factorial.len(), refused.len()), (6, 2));
        let (explicit, _) = names("design = \"explicit\"\narms = [[\"cautious\", \"stableadamw\"]]");
        assert_eq!(explicit, ["base", "cautious+no-stableadamw"]);
        let (with_baselines, _) = names("baselines = [\"adamw\", \"sgd\"]");
        assert_eq!(with_baselines[4..], ["adamw", "sgd"]);
    }

    #[test]
    fn an_arm_says_what_differs() {
        let (arms, _) = arms(&study(""), &Registry::shipped()).unwrap();
        assert_eq!(arms[1].arm.title, "− stableadamw");
        assert_eq!(arms[2].arm.title, "+ Cautious");
        assert_eq!(arms[1].arm.options, [("use_stableadamw".to_owned(), "false".to_owned())]);
        assert_eq!(arms[2].arm.chain, "factored-moment | stableadamw | prodigy | schedule-free | cautious");
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| {
            let study: StudyFile = toml::from_str(&format!("tasks = []\n{text}")).unwrap();
            format!("{:#}", arms(&study, &Registry::shipped()).unwrap_err())
        };
        let cases = [
            ("[[factor]]\nname = \"a\"", "needs `on`"),
            ("[[factor]]\nname = \"a\"\non = {}", "changes nothing"),
            ("[[factor]]\nname = \"a b\"\non = { lr = 1 }", "letters"),
            ("[[factor]]\nname = \"a\"\non = { use_focus = true, factored = true }", "factored"),
            ("design = \"explicit\"\narms = [[\"b\"]]", "no factor"),
            ("baselines = [\"adamww\"]", "perhaps \"adamw\""),
            ("[base]\nuse_lion = true", "use_lion"),
            ("[base]\nchain = [\"adm\", \"descent\"]", "no transform \"adm\" (perhaps \"adam\")"),
            ("[base]\nchain = [\"adam\", \"descent\"]", "it has no learning rate"),
        ];
        for (text, expected) in cases {
            assert!(error(text).contains(expected), "{text}: {}", error(text));
        }
    }
}
