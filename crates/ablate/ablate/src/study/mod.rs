//! A study: its file, arms and tasks.
//!
//! ```
//! use ablate::optimizer::{Change, Insertion};
//! use ablate::registry::Registry;
//! use ablate::study::{
//!     At, BASE, Design, FIRST_TUNING_SEED, Factor, ForkEntry, ForkError, Overrides, PlannedArm, PlannedTask, Recipe,
//!     SHIPPED, Study, StudyFile, TaskEntry, Training, TuningBudget, arms,
//! };
//!
//! let text = r#"
//!     question = "Does it help to project the gradient, and need the updates be clipped then?"
//!     tasks = [{ task = "digits", name = "wide", hidden = [256], steps = 100 }]
//!     design = "factorial"
//!     seeds = 5
//!     tuning = { rates = [0.01, 0.1], seeds = 2 }
//!     baselines = ["adamw"]
//!
//!     [[factor]]
//!     name = "orthograd"
//!     on = { insert = [{ transform = "orthograd", before = "factored-moment" }] }
//!
//!     [[factor]]
//!     name = "clipping"
//!     off = { use_stableadamw = false }
//! "#;
//! let registry = Registry::shipped();
//! let study = Study::parse("projection", text, &registry, &Overrides { seeds: Some(3), ..Overrides::default() })?;
//!
//! let StudyFile { design, factors, tuning, tasks, .. } = &study.file;
//! let TaskEntry { task, name, .. } = &tasks[0];
//! assert_eq!((*design, task.as_str(), name.as_str()), (Design::Factorial, "digits", "wide"));
//! assert_eq!(*tuning, TuningBudget { rates: vec![0.01, 0.1], seeds: 2, every: vec![] });
//! let projection: &Factor = &factors[0];
//! let Change { insert, .. } = projection.change().unwrap();
//! let before = Some("factored-moment".into());
//! assert_eq!(*insert, [Insertion { transform: "orthograd".into(), before, after: None }]);
//!
//! let PlannedTask { steps, target, .. } = &study.tasks[0];
//! assert_eq!((*steps, *target), (100, Some(0.975)));
//! assert!(matches!(study.tasks[0].training, Training::Task(_)) && study.tasks[0].about().steps > 100);
//! assert!(matches!(study.arms[1].recipe, Recipe::Optimizer(_)));
//! let names: Vec<&str> = study.arms.iter().map(|PlannedArm { arm, .. }| arm.name.as_str()).collect();
//! assert_eq!(names, [BASE, "orthograd", "no-clipping", "orthograd+no-clipping", "adamw"]);
//! assert_eq!(arms(&study.file, &registry)?.0, study.arms);
//! assert!(study.refused.is_empty());
//! let info = study.info();
//! assert_eq!((info.seeds, info.design.as_str()), (3, "factorial"));
//! assert!((info.seeds as u64) < FIRST_TUNING_SEED); // tuning has seeds of its own
//!
//! // Arms that take over from the base in the course of a run.
//! let fork: ForkEntry = toml::from_str("at = [0, 200, '50%']\narms = ['clipping']")?;
//! assert_eq!((fork.at[1], fork.at[2].of(1000), &fork.arms[..]), (At::Step(200), 500, &["clipping".to_owned()][..]));
//! let text = format!("fork = {{ at = [100], arms = ['clipping'] }}\n{text}");
//! let error = Study::parse("late", &text, &registry, &Overrides::default()).err().unwrap();
//! assert!(matches!(error.downcast_ref(), Some(ForkError::BeyondTheEnd { step: 100, steps: 100, .. })));
//!
//! let shipped = Study::open(SHIPPED[0].0, &registry, &Overrides::default())?; // or a file
//! assert_eq!(shipped.name, "quick");
//! # Ok::<(), anyhow::Error>(())
//! ```

mod design;
mod file;
mod fork;
mod mistake;

use std::fs;
use std::path::Path;

use ablate_tasks::{About, Task, nearest};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

pub use design::{BASE, PlannedArm, Recipe, arms};
pub use file::{Design, Factor, StudyFile, TaskEntry, TuningBudget};
pub use fork::{At, ForkEntry, ForkError};

use crate::command::CommandTask;
use crate::findings::FEWEST_PAIRS;
use crate::optimizer::Setting;
use crate::registry::Registry;
use crate::results::{Matters, Refused, StudyInfo};

/// First seed of tuning, far from the reported seeds, which count from 0.
pub const FIRST_TUNING_SEED: u64 = 1_000_000;

/// The included studies, by name.
pub const SHIPPED: [(&str, &str); 5] = [
    ("quick", include_str!("../../studies/quick.toml")),
    ("switches", include_str!("../../studies/switches.toml")),
    ("factorial", include_str!("../../studies/factorial.toml")),
    ("cautious", include_str!("../../studies/cautious.toml")),
    ("example", include_str!("../../studies/example.toml")),
];

/// A task of a study.
pub struct PlannedTask {
    /// The name in reports.
    pub name: String,
    /// The kind of task.
    pub kind: String,
    /// The options that the study sets.
    pub options: Value,
    /// The task.
    pub training: Training,
    /// The length of a run.
    pub steps: usize,
    /// The target, an accuracy or a loss; absent where a command has none.
    pub target: Option<f64>,
    /// The smallest difference that matters.
    pub matters: Option<Matters>,
    /// Steps after which arms continue from the base's state, in rising order.
    pub forks: Vec<usize>,
}

/// Training of a run.
pub enum Training {
    /// It trains a task here.
    Task(Box<dyn Task>),
    /// It starts a command that trains.
    Command(Box<CommandTask>),
}

impl PlannedTask {
    /// Description, measure and length.
    pub fn about(&self) -> About {
        match &self.training {
            Training::Task(task) => task.about(),
            Training::Command(command) => command.about(self.steps),
        }
    }
}

/// A study that can be run.
pub struct Study {
    /// The file's name without extension, or the name of an included study.
    pub name: String,
    /// The file.
    pub text: String,
    /// Its content.
    pub file: StudyFile,
    /// The task.
    pub tasks: Vec<PlannedTask>,
    /// The arms, the base first.
    pub arms: Vec<PlannedArm>,
    /// Places of the arms that continue from the base's state.
    pub forked: Vec<usize>,
    /// Combinations that cannot be.
    pub refused: Vec<Refused>,
    /// Names of arms that the command line left out.
    pub arms_left_out: Vec<String>,
    /// Names of tasks that the command line left out.
    pub tasks_left_out: Vec<String>,
}

/// No run of more steps ends.
const MOST_STEPS: f64 = 1e12;

/// Changes of a study by the command line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// Seeds per arm and task.
    pub seeds: Option<usize>,
    /// A multiple of the length of every run.
    pub length: Option<f64>,
    /// These tasks only: names, or lists of them with commas between.
    pub tasks: Vec<String>,
    /// These arms only, and the base; as `tasks`.
    pub arms: Vec<String>,
}

impl Study {
    /// Reads a study: an included one by its name, or a file.
    ///
    /// # Errors
    /// Fails if there is no such study, or if something in it is wrong.
    pub fn open(name_or_path: impl AsRef<Path>, registry: &Registry, overrides: &Overrides) -> Result<Self> {
        let path = name_or_path.as_ref();
        if let Some((name, text)) = SHIPPED.iter().find(|(name, _)| path.as_os_str() == *name) {
            return Self::parse(name, text, registry, overrides);
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let text = fs::read_to_string(path).with_context(|| {
            let shipped: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
            let near = path.to_str().and_then(|name| nearest(name, &shipped));
            let near = near.map_or(String::new(), |near| format!(" (perhaps {near})"));
            format!(
                "cannot read the study {}{near}; name a file (`ablate init` writes one) or a study that ships: {}",
                path.display(),
                shipped.join(", ")
            )
        })?;
        let name = path.file_stem().map_or_else(|| "study".into(), |stem| stem.to_string_lossy());
        Self::parse_in(folder, &name, &text, registry, overrides)
    }

    /// Reads the text of a study, whose commands run in the current folder.
    ///
    /// # Errors
    /// Something in it is wrong.
    pub fn parse(name: &str, text: &str, registry: &Registry, overrides: &Overrides) -> Result<Self> {
        Self::parse_in(Path::new(""), name, text, registry, overrides)
    }

    fn parse_in(
        folder: &Path,
        name: &str,
        text: &str,
        registry: &Registry,
        overrides: &Overrides,
    ) -> Result<Self> {
        let file: StudyFile = toml::from_str(text).map_err(|error| mistake::of_toml(name, text, &error))?;
        let read = Self::of_file(folder, name, text, file, registry, overrides);
        read.map_err(|error| mistake::of_content(name, text, error))
    }

    fn of_file(
        folder: &Path,
        name: &str,
        text: &str,
        mut file: StudyFile,
        registry: &Registry,
        overrides: &Overrides,
    ) -> Result<Self> {
        if let Some(seeds) = overrides.seeds {
            file.seeds = seeds;
        }
        if let Some(length) = overrides.length {
            file.length *= length;
        }
        check(&file)?;
        let (all, refused) = arms(&file, registry)?;
        let mut arms = all.clone();
        let is_base = |planned: &PlannedArm| planned.arm.name == BASE;
        let arms_left_out = keep(&mut arms, &overrides.arms, "arm", |planned| &planned.arm.name, is_base)?;
        let mut entries = file.tasks.clone();
        let tasks_left_out = keep(&mut entries, &overrides.tasks, "task", |entry| &entry.name, |_| false)?;
        let tasks =
            entries.iter().map(|entry| plan(entry, &file, registry, folder)).collect::<Result<Vec<_>>>()?;
        for (index, task) in tasks.iter().enumerate() {
            check_command(task, &arms)?;
            ensure!(
                tasks[..index].iter().all(|other| other.name != task.name),
                "there are two tasks called {}; give one a `name` of its own",
                task.name
            );
        }
        let mut study = Self {
            name: name.to_owned(),
            text: text.to_owned(),
            file,
            tasks,
            arms,
            forked: Vec::new(),
            refused,
            arms_left_out,
            tasks_left_out,
        };
        if let Some(entry) = study.file.fork.clone() {
            fork::plan(&entry, &mut study, &all, registry)?;
        }
        Ok(study)
    }

    /// The question, for reports.
    pub fn info(&self) -> StudyInfo {
        let design = match serde_json::to_value(self.file.design) {
            Ok(Value::String(design)) => design,
            _ => String::new(),
        };
        let title = |factor: &Factor| {
            if factor.title.is_empty() { factor.name.clone() } else { factor.title.clone() }
        };
        StudyInfo {
            name: self.name.clone(),
            title: if self.file.title.is_empty() { self.name.clone() } else { self.file.title.clone() },
            question: self.file.question.clone(),
            design,
            factors: self.file.factors.iter().map(|factor| (factor.name.clone(), title(factor))).collect(),
            seeds: self.file.seeds,
            sequential: self.file.sequential,
            tuning_seeds: self.file.tuning.seeds,
            evaluations: self.file.evaluations,
            text: self.text.clone(),
            arms_left_out: self.arms_left_out.clone(),
            tasks_left_out: self.tasks_left_out.clone(),
            earlier_seeds: Vec::new(),
        }
    }
}

fn check(file: &StudyFile) -> Result<()> {
    ensure!(!file.tasks.is_empty(), "`tasks` is empty; `ablate list tasks` shows what there is");
    ensure!(file.seeds > 0, "seeds = 0: a study needs at least one seed, and {FEWEST_PAIRS} for a verdict");
    ensure!(
        (file.seeds as u64) < FIRST_TUNING_SEED,
        "seeds = {}: at most {}, as the next ones belong to tuning",
        file.seeds,
        FIRST_TUNING_SEED - 1
    );
    ensure!(
        file.length.is_finite() && file.length > 0.0,
        "length = {}: a multiple of the tasks' own length, above 0",
        file.length
    );
    ensure!(
        !(file.sequential && file.design == Design::Factorial),
        "sequential = true stops arms one by one, and the effects of a factorial need all of them; choose another design, or leave it out"
    );
    ensure!(
        !file.sequential || file.seeds >= FEWEST_PAIRS,
        "sequential = true with seeds = {}: the first look is after {FEWEST_PAIRS} at least; give the most that there may be",
        file.seeds
    );
    ensure!(
        file.checkpoint_minutes >= 0.0,
        "checkpoint_minutes = {}: minutes of training, or 0 for a checkpoint after every step",
        file.checkpoint_minutes
    );
    ensure!(file.evaluations > 0, "evaluations = 0: a run needs at least the one at its end");
    ensure!(file.tuning.seeds > 0, "tuning.seeds = 0: a setting needs at least one run");
    ensure!(
        (file.tuning.seeds as u64) < FIRST_TUNING_SEED,
        "tuning.seeds = {}: at most {}",
        file.tuning.seeds,
        FIRST_TUNING_SEED - 1
    );
    ensure!(
        !file.tuning.rates.is_empty() && file.tuning.rates.iter().all(|rate| rate.is_finite() && *rate > 0.0),
        "tuning.rates = {:?}: learning rates above 0",
        file.tuning.rates
    );
    Ok(())
}

fn plan(entry: &TaskEntry, file: &StudyFile, registry: &Registry, folder: &Path) -> Result<PlannedTask> {
    let (training, steps, target) = match &entry.command {
        Some(command) => {
            let task = CommandTask::new(command, folder).with_context(|| format!("task {}", entry.name))?;
            let steps = entry.steps.with_context(|| {
                format!("task {}: a command needs `steps`, how far its `step` goes in a run", entry.name)
            })?;
            (Training::Command(Box::new(task)), steps, entry.target)
        }
        None => {
            let (kind, options) = (registry.task(&entry.task)?, Value::Object(entry.options.clone()));
            file::known_keys(&options, kind.defaults.clone())
                .with_context(|| format!("in the options of task {}", entry.task))?;
            let task = kind.build(&options)?;
            let about = task.about();
            let target = entry.target.unwrap_or(about.target);
            (Training::Task(task), entry.steps.unwrap_or(about.steps), Some(target))
        }
    };
    let steps = (steps as f64 * file.length).round().max(1.0);
    ensure!(steps <= MOST_STEPS, "task {}: {steps:e} steps; at most {MOST_STEPS:e}", entry.name);
    let options = Value::Object(entry.options.clone());
    let (name, kind) = (entry.name.clone(), entry.task.clone());
    let matters = entry.matters.or(file.matters);
    if let Some(Matters::Difference(size) | Matters::OfSpread { sd: size }) = matters {
        ensure!(size.is_finite() && size > 0.0, "task {name}: matters = {size}: a difference above 0");
    }
    Ok(PlannedTask {
        name,
        kind,
        options,
        training,
        steps: steps as usize,
        target,
        matters,
        forks: Vec::new(),
    })
}

/// Checks that the options of every arm can be passed to a command.
fn check_command(task: &PlannedTask, arms: &[PlannedArm]) -> Result<()> {
    let Training::Command(command) = &task.training else { return Ok(()) };
    for PlannedArm { arm, recipe, schedules } in arms {
        let Recipe::Options(options) = recipe else { continue };
        let setting = schedules.first().map(|schedule| Setting { learning_rate: 1.0, schedule: *schedule });
        command.check(options, setting).with_context(|| format!("task {}, arm {}", task.name, arm.name))?;
    }
    Ok(())
}

/// Keeps the items of the given names, if any are given; the names of the others.
fn keep<I>(
    items: &mut Vec<I>,
    given: &[String],
    what: &str,
    name_of: fn(&I) -> &String,
    always: fn(&I) -> bool,
) -> Result<Vec<String>> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let known: Vec<&str> = items.iter().map(|item| name_of(item).as_str()).collect();
    let mut chosen = Vec::new();
    for list in given {
        chosen.extend(names(list, &known).map_err(|unknown| {
            anyhow!(
                "the study has no {what} {unknown:?}; it has {}",
                known.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
            )
        })?);
    }
    let left_out = |item: &&I| !always(item) && !chosen.contains(name_of(item));
    let names = items.iter().filter(left_out).map(|item| name_of(item).clone()).collect();
    items.retain(|item| !left_out(&item));
    Ok(names)
}

/// The names in a list with commas between them, where a name may have commas itself: the longest name that leaves a
/// list of names after it. Or the first piece that is in no name.
fn names(list: &str, known: &[&str]) -> Result<Vec<String>, String> {
    let pieces: Vec<&str> = list.split(',').collect();
    // By the piece that a list begins with: where its first name ends, and the rest is one of names.
    let mut ends: Vec<Option<usize>> = vec![None; pieces.len() + 1];
    ends[pieces.len()] = Some(pieces.len());
    let name = |from: usize, to: usize| pieces[from..to].join(",").trim().to_owned();
    let longest = known.iter().map(|name| name.split(',').count()).max().unwrap_or(0);
    for from in (0..pieces.len()).rev() {
        let to = (from + 1..=pieces.len().min(from + longest)).rev();
        ends[from] =
            to.into_iter().find(|&to| ends[to].is_some() && known.contains(&name(from, to).as_str()));
    }
    let mut names = Vec::new();
    let mut from = 0;
    while from < pieces.len() {
        let Some(to) = ends[from] else {
            let unknown = pieces.iter().map(|piece| piece.trim()).find(|piece| !known.contains(piece));
            return Err(unknown.unwrap_or(list).to_owned());
        };
        names.push(name(from, to));
        from = to;
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, overrides: &Overrides) -> Result<Study> {
        Study::parse("test", text, &Registry::shipped(), overrides)
    }

    #[test]
    fn every_study_that_ships_can_be_run() {
        for (name, _) in SHIPPED {
            let study = Study::open(name, &Registry::shipped(), &Overrides::default());
            let study = study.unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert!(study.arms.len() > 2 && !study.file.question.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_task_can_have_options_a_name_a_length_and_a_target() {
        let text = r#"tasks = [
            "digits",
            { task = "digits", name = "wide", hidden = [256], steps = 100, target = 0.9 },
        ]"#;
        let study = parse(text, &Overrides { length: Some(0.5), ..Overrides::default() }).unwrap();
        let [plain, wide] = study.tasks.as_slice() else { panic!("two tasks") };
        assert_eq!((plain.name.as_str(), plain.steps), ("digits", plain.about().steps / 2));
        assert_eq!((wide.name.as_str(), wide.steps, wide.target), ("wide", 50, Some(0.9)));
        let Training::Task(task) = &wide.training else { panic!("it ships") };
        assert_eq!(task.initial_parameters(0)[0].shape, [256, 64]);
    }

    #[test]
    fn the_command_line_can_choose() {
        let text = "tasks = [\"digits\"]\nbaselines = [\"adamw\", \"sgd\"]";
        let overrides = Overrides { arms: vec!["sgd".into()], seeds: Some(3), ..Overrides::default() };
        let study = parse(text, &overrides).unwrap();
        let names: Vec<&str> = study.arms.iter().map(|planned| planned.arm.name.as_str()).collect();
        assert_eq!((names, study.file.seeds), (vec!["base", "sgd"], 3));
        let error =
            parse(text, &Overrides { arms: vec!["lion".into()], ..Overrides::default() }).err().unwrap();
        assert!(error.to_string().contains("adamw"), "{error}");
    }

    #[test]
    fn a_task_whose_name_has_a_comma_can_be_chosen() {
        let chosen = |tasks: &[&str]| -> Result<Vec<String>> {
            let tasks = tasks.iter().map(|name| (*name).to_owned()).collect();
            let overrides = Overrides { tasks, ..Overrides::default() };
            let study = Study::open("example", &Registry::shipped(), &overrides)?;
            Ok(study.tasks.into_iter().map(|task| task.name).collect())
        };
        assert_eq!(chosen(&["digits, wide"]).unwrap(), ["digits, wide"]);
        assert_eq!(chosen(&["digits"]).unwrap(), ["digits"]);
        for both in [&["digits,digits, wide"][..], &["digits, wide, digits"], &["digits", "digits, wide"]] {
            assert_eq!(chosen(both).unwrap(), ["digits", "digits, wide"]);
        }
        let error = chosen(&["digits,iris"]).unwrap_err().to_string();
        assert!(error.contains("no task \"iris\"") && error.contains("\"digits, wide\""), "{error}");
        // The longest name is not the right one where it leaves no name after it.
        assert_eq!(names("a,b,c", &["a", "a,b", "b,c"]).unwrap(), ["a", "b,c"]);
        assert_eq!(names("", &["a"]), Err(String::new()));
    }

    /// The second one has a mistake.
    const COMMANDS: &str =
        "[[tasks]]\ncommand = ['a']\nsteps = 3\n[[tasks]]\nname = 'b'\nstep = 3\ncommand = ['b']\n";

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("tasks = []", "empty"),
            ("tasks = [\"iris\"]", "digits"),
            ("tasks = [\"digits\", \"digits\"]", "two tasks"),
            ("tasks = [3]", "a name or a table"),
            (
                "tasks = \"digits\"",
                "line 1:\n  tasks = \"digits\"\n          ^\nexpected a list, and not the text \"digits\"",
            ),
            (
                "tasks = [\"digits\"]\nmatters = \"x\"",
                "line 2:\n  matters = \"x\"\n            ^\na difference in the unit",
            ),
            (
                "tasks = [\"digits\"]\nseed = 3",
                "there is no key \"seed\" (perhaps \"seeds\"); choose from title",
            ),
            ("tasks = [\"digits\"]\nseeds = 2.5", "expected a whole number from 0 on, and not 2.5"),
            (
                "tasks = [\"digits\"]\ndesign = \"factorail\"",
                "no value \"factorail\" (perhaps \"factorial\")",
            ),
            ("[task]\ncommand = [\"a\"]", "perhaps \"tasks\""),
            (
                "tasks = [\"digits\"]\n[[factor]]\nname = \"adopt\"\nuse_adopt = true",
                "on, off, tune\noptions that a factor sets go into `on`: on = { use_adopt = true }",
            ),
            (
                "tasks = [\"digits\",\n\"digts\"]",
                "in the study test, line 2: there is no task \"digts\" (perhaps \"digits\")",
            ),
            ("tasks = [\"digits\"]\n[base]\nuse_cautios = true", "line 3: the base cannot be"),
            ("tasks = [\"digits\"]\n[base]\nuse_cautious = \"yes\"", "line 3: the base cannot be"),
            (
                COMMANDS,
                "line 6:\n  step = 3\n  ^\nthe command b: there is no option \"step\" (perhaps \"steps\")",
            ),
            ("tasks = [\"digits\"]\nseeds = 0", "seeds"),
            ("tasks = [\"digits\"]\nlength = -1", "length"),
            ("tasks = [\"digits\"]\nmatters = 0", "matters = 0: a difference above 0"),
            (
                "tasks = [{ task = \"digits\", matters = \"much\" }]",
                "option matters = \"much\": it is a difference",
            ),
            ("tasks = [\"digits\"]\nsedes = 3", "sedes"),
            ("tasks = [\"digits\"]\ncheckpoint_minutes = -1", "checkpoint_minutes = -1"),
            ("tasks = [\"digits\"]\ncheckpoint_minutes = nan", "checkpoint_minutes = NaN"),
            (
                "tasks = [{ task = \"digits\", hiden = [3] }]",
                "line 1: in the options of task digits: there is no option \"hiden\" (perhaps",
            ),
            ("tasks = [{ task = \"digits\", step = 3 }]", "no option \"step\" (perhaps \"steps\")"),
            ("tasks = [\"digits\"", "line 1"),
        ];
        for (text, expected) in cases {
            let error = format!("{:#}", parse(text, &Overrides::default()).err().unwrap());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
