//! Commands that go on from a checkpoint: killed, preempted, overtaken, and what is left of them.
#![cfg(unix)]

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ablate::execute::Execution;
use ablate::registry::Registry;
use ablate::results::TaskResults;
use ablate::store::Store;
use ablate::study::{Overrides, Study};
use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use program::program;

/// Ten steps, of which each makes the loss depend on all before. It keeps its state after every third one. What `AT` is
/// at a moment is done once by every run.
const TRAIN: &str = r#"
seed=$1; lr=$2; folder=${3:-$CHECKPOINT}; steps=$4
at() { [ "$AT" = "$1" ] && mkdir "done $seed $lr" 2> /dev/null; }
say() { if [ -n "$OUT" ]; then echo "$1" >> "$OUT"; else echo "$1"; fi; }
save() { echo "$step $loss" > "$folder/state.new"; mv "$folder/state.new" "$folder/state" || exit 9; }
step=0; loss=$((1000 + seed))
[ -z "$IGNORE" ] && [ -e "$folder/state" ] && read step loss < "$folder/state"
echo "$step $folder" >> "starts $seed $lr"
trap 'save; [ -n "$DONE" ] || exit 75' TERM
[ -n "$OUT" ] || echo "begins"
while [ $step -lt $steps ]; do
  [ $((step % 2)) = 0 ] && say "{\"step\": $step, \"split\": \"validation\", \"loss\": $loss}"
  at "within $step" && eval "$DO"
  loss=$((loss * 3 % 1009 + lr))
  say "{\"step\": $step, \"loss\": $loss, \"lr\": $lr}"
  step=$((step + 1))
  [ $((step % 3)) = 0 ] && [ -z "$NEVER" ] && save
  at "after $step" && eval "$DO"
  [ -z "$SLOW" ] || sleep $SLOW
done
say "{\"step\": $step, \"split\": \"validation\", \"loss\": $loss}"
at "end" && { save; eval "$DO"; }
say "{\"split\": \"test\", \"loss\": $loss.5}"
at "over" && { save; eval "$DO"; }
exit 0
"#;

const COMMAND: &str = r#"command = ["sh", "train.sh", "{seed}", "{lr}", "{checkpoint}", "{steps}"]"#;

/// A study's folder with the script in it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// With variables that the script has beside those of the study.
    fn new(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let set = |(name, value): &(&str, &str)| format!("{name}='{value}'\n");
        let script = variables.iter().map(set).collect::<String>() + TRAIN;
        fs::write(folder.path().join("train.sh"), script).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, task: &str) -> Result<TaskResults> {
        self.run_study(&study(task))
    }

    fn run_study(&self, text: &str) -> Result<TaskResults> {
        fs::write(self.path("my.toml"), text).unwrap();
        let registry = Registry::shipped();
        let study = Study::open(self.path("my.toml"), &registry, &Overrides::default())?;
        let store = Store::open(&self.path("out"))?;
        store.tidy();
        let execution = Execution::new(&study, &registry, &store);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
        let mut results = pool.install(|| execution.results(&()))?;
        Ok(without_time(results.tasks.remove(0)))
    }

    fn error(&self, task: &str) -> String {
        format!("{:#}", self.run(task).unwrap_err())
    }

    /// Steps that a run's attempts went on from, and their folders.
    fn starts(&self, run: &str) -> Vec<(usize, String)> {
        let text = fs::read_to_string(self.path(&format!("starts {run}"))).unwrap_or_default();
        let start = |line: &str| {
            let (step, folder) = line.split_once(' ').unwrap();
            (step.parse().unwrap(), folder.to_owned())
        };
        text.lines().map(start).collect()
    }

    fn steps(&self, run: &str) -> Vec<usize> {
        self.starts(run).into_iter().map(|(step, _)| step).collect()
    }

    /// Folders of attempts that are there.
    fn attempts(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("out/runs")).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "attempts")).collect()
    }

    fn ablate(&self, arguments: &str) -> Command {
        let mut command = program();
        command.args(arguments.split(' ')).current_dir(self.folder.path());
        command
    }
}

/// Of two arms, with a seed each.
fn study(task: &str) -> String {
    format!(
        "seeds = 1\n[[tasks]]\nname = \"script\"\nsteps = 10\nsources = []\nrepeats = 0\n{task}\n\
         [base]\nlr = 3\n[[factor]]\nname = \"slow\"\non = {{ lr = 1 }}\n"
    )
}

fn without_time(mut results: TaskResults) -> TaskResults {
    for run in results.arms.iter_mut().flat_map(|arm| &mut arm.runs) {
        let times: Vec<f64> = run.record.curve.iter().map(|point| point.seconds).collect();
        assert!(times.is_sorted(), "{times:?}");
        run.record.curve.iter_mut().for_each(|point| point.seconds = 0.0);
    }
    results
}

fn undisturbed(task: &str) -> TaskResults {
    let place = Place::new(&[]);
    let results = place.run(task).unwrap();
    assert_eq!(place.steps("0 3"), [0]);
    assert!(place.attempts().is_empty());
    results
}

fn wait_for(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "{}", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_command_that_is_killed_goes_on_from_its_checkpoint_to_the_curve_of_an_undisturbed_run() {
    let variables = r#"
        command = ["sh", "train.sh", "{seed}", "{lr}", "", "{steps}"]
        environment = { OUT = "{out}", CHECKPOINT = "{checkpoint}" }
    "#;
    for told in [COMMAND, variables] {
        let whole = undisturbed(told);
        let run = &whole.arms[0].runs[0];
        assert_eq!(run.record.curve.iter().map(|p| p.step).collect::<Vec<_>>(), [0, 2, 4, 6, 8, 10]);
        assert_eq!(run.further["lr"].len(), 10);
        // Before anything is saved, between two lines of a step, right after a save, later, and when all has been said
        // but the end, and all.
        for (at, from) in [
            ("after 2", 0),
            ("within 3", 3),
            ("within 4", 3),
            ("after 6", 6),
            ("after 8", 6),
            ("end", 10),
            ("over", 10),
        ] {
            let place = Place::new(&[("AT", at), ("DO", "kill -9 $$")]);
            let results = place.run(&format!("{told}\nretries = 1")).unwrap();
            assert_eq!(results, whole, "killed {at}");
            assert_eq!([place.steps("0 3"), place.steps("0 1")], [[0, from], [0, from]], "killed {at}");
            let starts = place.starts("0 3");
            assert_eq!(starts[0].1, starts[1].1);
            assert!(place.attempts().is_empty());
        }
    }
}

#[test]
fn a_command_that_fails_keeps_its_checkpoint_and_the_error_names_it() {
    let place = Place::new(&[("AT", "after 7"), ("DO", "exit 3")]);
    let error = place.error(COMMAND);
    assert!(error.contains("exit status: 3") && !error.contains("went on from"), "{error}");
    assert_eq!(place.attempts().len(), 2);
    assert_eq!(place.run(COMMAND).unwrap(), undisturbed(COMMAND));
    assert_eq!(place.steps("0 3"), [0, 6]);
    assert!(place.attempts().is_empty());
    let place = Place::new(&[("AT", "after 7"), ("DO", "exit 3")]);
    place.error(COMMAND);
    fs::write(place.path("train.sh"), "echo the file is damaged; exit 4").unwrap();
    let error = place.error(COMMAND);
    let folder = place.starts("0 3")[0].1.clone();
    assert!(
        error.contains("the file is damaged") && error.contains(&format!("went on from {folder}")),
        "{error}"
    );
}

#[test]
fn a_log_has_what_all_attempts_said_and_an_error_what_the_last_one_said() {
    let place = Place::new(&[("NEVER", "yes")]);
    let script =
        "echo one of $(ls tries 2> /dev/null | wc -l); mkdir -p tries/$$; printf unfinished >&2; exit 3";
    fs::write(place.path("train.sh"), script).unwrap();
    let one = study(&format!("{COMMAND}\nretries = 2")).split("[[factor]]").next().unwrap().to_owned();
    let error = format!("{:#}", place.run_study(&one).unwrap_err());
    assert!(error.contains("the last of 3 tries") && !error.contains("one of 1\n"), "{error}");
    place.run_study(&one).unwrap_err();
    let logs = fs::read_dir(place.path("out/runs")).unwrap().flatten().map(|entry| entry.path());
    let log = logs.into_iter().find(|path| path.extension().is_some_and(|found| found == "log")).unwrap();
    assert!(error.contains(&format!("all that it said is in {}", log.display())), "{error}");
    let log = fs::read_to_string(log).unwrap();
    for (index, attempt) in log.split("--- attempt ").enumerate() {
        let (number, said) = if index == 0 { ("1 ---", attempt) } else { attempt.split_once('\n').unwrap() };
        assert_eq!(number, format!("{} ---", index + 1));
        assert!(said.contains(&format!("one of {index}")) && said.contains("unfinished"), "{log}");
    }
    assert_eq!(log.matches("unfinished").count(), 6);
}

#[test]
fn a_command_that_leaves_its_folder_empty_or_ignores_it_starts_anew() {
    let whole = undisturbed(COMMAND);
    for how in ["NEVER", "IGNORE"] {
        let place = Place::new(&[("AT", "after 8"), ("DO", "exit 1"), (how, "yes")]);
        assert_eq!(place.run(&format!("{COMMAND}\nretries = 1")).unwrap(), whole, "{how}");
        assert_eq!(place.steps("0 3"), [0, 0], "{how}");
    }
}

#[test]
fn a_command_without_a_place_for_a_checkpoint_has_no_folder() {
    let place = Place::new(&[("NEVER", "yes"), ("AT", "after 8"), ("DO", "exit 1")]);
    let command = COMMAND.replace("{checkpoint}", "none");
    place.error(&command);
    assert!(place.attempts().is_empty());
    // And its exit status 75 is a failure like another one.
    let place = Place::new(&[("NEVER", "yes"), ("AT", "after 8"), ("DO", "exit 75")]);
    assert!(place.error(&command).contains("exit status: 75"));
    assert_eq!(place.steps("0 3"), [0]);
}

#[test]
fn a_command_that_asks_for_it_is_started_again_as_long_as_it_comes_further() {
    let whole = undisturbed(COMMAND);
    // At most four steps a time, as within a limit of a scheduler.
    let place = Place::new(&[]);
    let script = fs::read_to_string(place.path("train.sh")).unwrap();
    let limited =
        script.replace("  at \"after", "  [ $step = $((first + 4)) ] && { save; exit 75; }\n  at \"after");
    let limited = limited.replace("trap", "first=$step; trap");
    assert_ne!(limited, script);
    fs::write(place.path("train.sh"), &limited).unwrap();
    assert_eq!(place.run(COMMAND).unwrap(), whole);
    assert_eq!(place.steps("0 3"), [0, 4, 8]);
    // One that saves nothing would go round in circles.
    let place = Place::new(&[]);
    let stuck = format!("NEVER=yes\n{}", limited.replace("{ save; exit 75; }", "exit 75"));
    fs::write(place.path("train.sh"), stuck).unwrap();
    let error = place.error(COMMAND);
    assert!(
        error.contains("asked to be started again (exit status 75)") && error.contains(".log"),
        "{error}"
    );
    assert_eq!(place.steps("0 3"), [0, 0]);
}

#[test]
fn a_first_line_that_does_not_say_its_step_is_an_error_that_says_so() {
    let place = Place::new(&[("AT", "after 6"), ("DO", "exit 1")]);
    place.error(COMMAND);
    fs::write(place.path("train.sh"), "echo '{\"loss\": 3}'").unwrap();
    let error = place.error(COMMAND);
    assert!(error.contains("goes on from a checkpoint needs its `step`: {\"loss\": 3}"), "{error}");
    let command = study(COMMAND).replace("lr = 3", "lr = 3\ncheckpoint = 4");
    let error = format!(
        "{:#}",
        Study::parse("a", &command, &Registry::shipped(), &Overrides::default()).err().unwrap()
    );
    assert!(error.contains("option checkpoint: the name is taken"), "{error}");
}

/// Sends a signal to a study whose first run has come to its seventh step, and gives its status.
fn stopped(place: &Place, signal: Signal) -> Option<i32> {
    fs::write(place.path("my.toml"), study(COMMAND)).unwrap();
    let mut ablate = place.ablate("run my.toml --threads 1 --out out");
    let mut child = ablate.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&place.path("done 0 3"));
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn a_preempted_study_lets_its_commands_save_and_goes_on_from_there() {
    let whole = undisturbed(COMMAND);
    for signal in [Signal::SIGTERM, Signal::SIGUSR1] {
        let place = Place::new(&[("AT", "after 7"), ("DO", "sleep 0.5"), ("SLOW", "0.05")]);
        assert_eq!(stopped(&place, signal), Some(75), "{signal}");
        assert_eq!(place.attempts().len(), 1);
        assert_eq!(place.run(COMMAND).unwrap(), whole, "{signal}");
        let starts = place.starts("0 3");
        // Of step 6 it would have a checkpoint anyway.
        assert!(starts.len() == 2 && starts[1].0 >= 7 && starts[0].1 == starts[1].1, "{starts:?}");
    }
}

#[test]
fn what_a_shell_has_started_has_time_to_save_as_well() {
    let whole = undisturbed(COMMAND);
    // The shell in front ends at the signal, and the program behind it saves for a while.
    let place = Place::new(&[("AT", "after 7"), ("DO", "sleep 0.5"), ("SLOW", "0.05")]);
    let slowly =
        fs::read_to_string(place.path("train.sh")).unwrap().replace("trap 'save;", "trap 'sleep 1; save;");
    fs::write(place.path("inner.sh"), slowly).unwrap();
    fs::write(place.path("train.sh"), "sh inner.sh \"$@\"\n:").unwrap();
    assert_eq!(stopped(&place, Signal::SIGTERM), Some(75));
    assert_eq!(place.run(COMMAND).unwrap(), whole);
    assert!(place.steps("0 3")[1] >= 7, "{:?}", place.steps("0 3"));
}

#[test]
fn a_command_that_outlives_its_listener_and_the_attempt_after_it_do_not_disturb_each_other() {
    let whole = undisturbed(COMMAND);
    // Killed alone: the command trains on, and saves for nobody.
    let place = Place::new(&[("AT", "after 4"), ("DO", ":"), ("SLOW", "0.2")]);
    assert_eq!(stopped(&place, Signal::SIGKILL), None);
    assert_eq!(place.run(COMMAND).unwrap(), whole);
    let starts = place.starts("0 3");
    assert_eq!(starts.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 3]);
    assert_ne!(starts[0].1, starts[1].1);
    assert!(place.attempts().is_empty());
}

#[test]
fn of_two_processes_that_do_a_run_at_once_both_end_with_its_result() {
    let whole = undisturbed(COMMAND);
    let place = Place::new(&[("AT", "after 4"), ("DO", "while [ ! -e go ]; do sleep 0.05; done")]);
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| place.run(COMMAND));
        wait_for(&place.path("done 0 3"));
        wait_for(&place.path("done 0 1"));
        // As if both claims had expired, because the machine was suspended.
        for entry in fs::read_dir(place.path("out/runs")).unwrap().flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "claim") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        let second = place.run(COMMAND);
        let was_removed = place.attempts().is_empty();
        fs::write(place.path("go"), "").unwrap();
        assert!(was_removed);
        (first.join().unwrap(), second)
    });
    assert_eq!((first.unwrap(), second.unwrap()), (whole.clone(), whole));
    for run in ["0 3", "0 1"] {
        let starts = place.starts(run);
        assert!(starts.len() == 2 && starts[1].0 == 3 && starts[0].1 != starts[1].1, "{starts:?}");
    }
    assert!(place.attempts().is_empty());
}

#[test]
fn checkpoints_of_runs_that_a_study_no_longer_has_stay_and_a_plan_names_them() {
    let place = Place::new(&[("AT", "after 7"), ("DO", "exit 3")]);
    place.error(COMMAND);
    let plan = |text: &str| {
        fs::write(place.path("my.toml"), text).unwrap();
        String::from_utf8(place.ablate("plan my.toml --out out").output().unwrap().stdout).unwrap()
    };
    // It has them, and says of which runs they are.
    let text = plan(&study(COMMAND));
    assert!(
        text.contains("resume from a checkpoint; without that file or folder they start from the beginning"),
        "{text}"
    );
    for arm in ["base", "slow"] {
        let line =
            text.lines().find(|line| line.starts_with(&format!("  script, {arm}, seed 0: from out/runs/")));
        assert!(line.is_some_and(|line| line.ends_with(".attempts/0/checkpoint")), "{text}");
    }
    assert!(!text.contains("nothing removes them"), "{text}");
    let other = study(COMMAND).replace("lr = 3", "lr = 2");
    // The arm is the same, and the base another one.
    let text = plan(&other);
    let named: Vec<&str> = text.lines().filter(|line| line.ends_with(".attempts")).collect();
    assert!(named.len() == 1 && text.contains("nothing removes them"), "{text}");
    let folder = place.path(named[0].trim());
    assert!(place.run_study(&other).is_err() && place.run_study(&other).is_ok());
    assert_eq!(place.attempts(), [folder]);
    // It may have them again.
    assert_eq!(place.run(COMMAND).unwrap(), undisturbed(COMMAND));
    assert!(place.steps("0 3") == [0, 6] && place.attempts().is_empty());
}
