//! Tasks that are commands: what they are told, what they say, and every way in which they end.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ablate::execute::{Execution, Interrupted, Job, Observer};
use ablate::findings::{Findings, Verdict};
use ablate::record::{Outcome, Point};
use ablate::registry::Registry;
use ablate::report::{self, Environment};
use ablate::results::Results;
use ablate::store::Store;
use ablate::study::{Overrides, Study};
use anyhow::Result;

/// A study's folder with a script in it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(script: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write("train.sh", script);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn study(&self, text: &str) -> Result<Study> {
        self.write("study.toml", text);
        Study::open(self.path("study.toml"), &Registry::shipped(), &Overrides::default())
    }

    fn run_with(&self, text: &str, stop: &AtomicBool, observer: &dyn Observer) -> Result<Results> {
        let study = self.study(text)?;
        let store = Store::open(&self.path("out")).unwrap();
        let registry = Registry::shipped();
        let execution = Execution::new(&study, &registry, &store).stop_when(stop);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| execution.results(observer))
    }

    fn run(&self, text: &str) -> Result<Results> {
        self.run_with(text, &AtomicBool::new(false), &())
    }

    fn error(&self, text: &str) -> String {
        format!("{:#}", self.run(text).unwrap_err())
    }

    /// Files of an extension beside the runs.
    fn stored(&self, extension: &str) -> usize {
        let entries =
            fs::read_dir(self.path("out/runs")).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|found| found == extension)).count()
    }
}

/// A study of a script with an arm.
fn study(task: &str) -> String {
    format!(
        "seeds = 2\n[[tasks]]\nname = \"script\"\nsteps = 3\nsources = [\"train.sh\"]\n{task}\n\
         [base]\nlr = 3\n[[factor]]\nname = \"slow\"\non = {{ lr = 1 }}\n"
    )
}

/// Writes its lines to the file that it is given; the loss is 100 + 7 seed - lr step.
const TRAIN: &str = r#"
seed=$1; out=$2; lr=$3
for step in 0 1 2 3; do
  echo "{\"step\": $step, \"loss\": $((200 - step)), \"lr\": $lr}" >> "$out"
  echo "{\"step\": $step, \"split\": \"validation\", \"loss\": $((100 + 7 * seed - lr * step))}" >> "$out"
done
echo "{\"split\": \"test\", \"loss\": $((100 + 7 * seed - lr * 3)).5}" >> "$out"
"#;

const COMMAND: &str = r#"command = ["sh", "train.sh", "{seed}", "{out}", "{lr}"]"#;

fn losses(results: &Results) -> Vec<Vec<f64>> {
    let of_arm = |arm: &ablate::results::ArmRuns| {
        arm.runs.iter().map(|run| run.record.evaluation().map_or(f64::NAN, |found| found.loss)).collect()
    };
    results.tasks[0].arms.iter().map(of_arm).collect()
}

fn page(results: &Results) -> String {
    let folder = tempfile::tempdir().unwrap();
    report::write(folder.path(), results, &Findings::of(results), &Environment::default()).unwrap();
    fs::read_to_string(folder.path().join(report::HTML_FILE)).unwrap()
}

fn markdown(results: &Results) -> String {
    let folder = tempfile::tempdir().unwrap();
    report::write(folder.path(), results, &Findings::of(results), &Environment::default()).unwrap();
    assert!(fs::read_to_string(folder.path().join(report::HTML_FILE)).unwrap().ends_with("</html>"));
    assert_eq!(ablate::diff::read(folder.path()).unwrap(), *results);
    fs::read_to_string(folder.path().join(report::MARKDOWN_FILE)).unwrap()
}

#[test]
fn a_script_is_measured_and_what_it_said_is_stored() {
    let place = Place::new(TRAIN);
    let results = place.run(&study(COMMAND)).unwrap();
    assert_eq!(losses(&results), [[91.5, 98.5], [97.5, 104.5]]);
    let run = &results.tasks[0].arms[0].runs[1];
    let curve: Vec<_> = run.record.curve.iter().map(|p| (p.step, p.train.loss, p.validation.loss)).collect();
    assert_eq!(curve, [(0, 200.0, 107.0), (1, 199.0, 104.0), (2, 198.0, 101.0), (3, 197.0, 98.0)]);
    assert_eq!(run.further["lr"], [(0, 3.0), (1, 3.0), (2, 3.0), (3, 3.0)]);
    // Two arms, two seeds, and the base once more.
    assert_eq!((place.stored("json"), place.stored("lock")), (5, 0));
    let again = place.run(&study(COMMAND)).unwrap();
    assert_eq!(again, results);
    let text = markdown(&results);
    assert!(text.contains("Two runs of the base with the same seed had the same numbers"), "{text}");
    assert!(
        text.contains("every arm was given the same seeds") && !text.contains("no run reached"),
        "{text}"
    );
}

#[test]
fn a_report_has_no_column_and_no_sentence_of_what_a_script_did_not_say() {
    let place = Place::new("echo \"{\\\"split\\\": \\\"test\\\", \\\"loss\\\": $(($1 + 2 * $2))}\"");
    let results = place.run(&study(r#"command = ["sh", "train.sh", "{seed}", "{lr}"]"#)).unwrap();
    assert_eq!(losses(&results), [[6.0, 7.0], [2.0, 3.0]]);
    let both =
        [markdown(&results), page(&results), report::terminal::summary(&results, &Findings::of(&results))];
    for text in &both {
        for absent in [
            // The end is no start that arm and base could share.
            "initialisation",
            "steps to",
            "Steps to",
            "base’s</th>",
            "d at the end",
            "<th class=\"n\">steps</th>",
            "training loss",
            "test measure",
            "Milliseconds",
            "Curves:",
            "candle-core",
            "unknown",
            "small task",
            "arm in the middle",
            "NaN",
        ] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
    }
    // An arm without a description has no empty paragraph.
    assert!(both[0].contains("### + slow\n\n`lr = 1`\n\n"), "{}", both[0]);
    // What it does say is there.
    let place = Place::new(TRAIN);
    let results = place.run(&study(&format!("target = 95.0\n{COMMAND}"))).unwrap();
    let text = page(&results);
    for present in
        ["steps to 95, median (reached)", ">training loss</th>", ">steps</th>", "Milliseconds", "Curves:"]
    {
        assert!(text.contains(present), "{present}: {text}");
    }
}

#[test]
fn a_run_that_diverged_early_does_not_speak_for_the_script() {
    let script = format!(
        "[ $3 = 1 ] && [ $1 = 1 ] && {{ echo '{{\"step\": 1, \"loss\": NaN}}' >> $2; exit; }}\n{TRAIN}"
    );
    let results = Place::new(&script).run(&study(&format!("target = 95.0\n{COMMAND}"))).unwrap();
    let text = markdown(&results);
    assert!(text.contains("1 of 2 runs of + slow diverged") && !text.contains("no test split"), "{text}");
    let found = Findings::of(&results);
    let reached: Vec<usize> = found.tasks[0].arms.iter().map(|arm| arm.to_target.unwrap().reached).collect();
    assert_eq!(reached, [1, 0]);
    assert!(page(&results).contains("Validation loss"));
    // Runs that all diverged before they said anything else are the same, and show no effect of a switch.
    let results = Place::new("echo '{\"split\": \"test\", \"loss\": NaN}'")
        .run(&study(r#"command = ["sh", "train.sh", "{lr}"]"#))
        .unwrap();
    assert_eq!(Findings::of(&results).tasks[0].arms[1].verdict, Verdict::Unclear);
    let text = page(&results);
    assert!(text.contains("diverged: the test loss was NaN") && !text.contains("diverged at step"), "{text}");
}

#[test]
fn options_reach_a_script_as_arguments_as_variables_or_as_a_file() {
    let script = r#"
case "$2" in
  *.json) lr=$(sed -n 's/.*"lr": *\([0-9]*\).*/\1/p' "$2") ;;
  *.toml) lr=$(sed -n 's/^lr = //p' "$2") ;;
  --lr=*) lr=${2#--lr=} ;;
  *) lr=$LR ;;
esac
echo "{\"split\": \"test\", \"loss\": $((lr + $1))}"
"#;
    let place = Place::new(script);
    for told in [
        r#"command = ["sh", "train.sh", "{seed}", "--{option}={value}"]"#,
        r#"command = ["sh", "train.sh", "{seed}", "--lr={lr}"]"#,
        r#"command = ["sh", "train.sh", "{seed}", "{options.json}"]"#,
        r#"command = ["sh", "train.sh", "{seed}", "{options.toml}"]"#,
        "command = [\"sh\", \"train.sh\", \"{seed}\", \"\"]\nenvironment = { LR = \"{lr}\" }",
    ] {
        assert_eq!(losses(&place.run(&study(told)).unwrap()), [[3.0, 4.0], [1.0, 2.0]], "{told}");
    }
}

#[test]
fn what_a_script_says_beside_its_lines_is_kept_and_disturbs_nothing() {
    let script = "echo Epoch 1; echo '{\"split\": \"test\", \"loss\": 2}'; echo warning >&2";
    let place = Place::new(script);
    let text = study("command = [\"sh\", \"train.sh\"]\nenvironment = { LR = \"{lr}\" }\nrepeats = 0");
    let results = place.run(&text).unwrap();
    assert_eq!(losses(&results), [[2.0, 2.0], [2.0, 2.0]]);
    assert_eq!(place.stored("log"), 4);
    let logs = fs::read_dir(place.path("out/runs")).unwrap().flatten().map(|entry| entry.path());
    let log = logs.into_iter().find(|path| path.extension().is_some_and(|found| found == "log")).unwrap();
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("Epoch 1") && log.contains("warning"), "{log}");
    // The same losses to the last digit: an option that the script doesn't read.
    let findings = Findings::of(&results);
    assert_eq!(findings.tasks[0].arms[1].verdict, Verdict::Dead);
    let text = markdown(&results);
    assert!(text.contains("slow: the same numbers as the base to the last digit"), "{text}");
    assert!(text.contains("no run of the base was done a second time"), "{text}");
}

#[test]
fn a_run_that_fails_is_told_and_costs_no_other_one() {
    let place =
        Place::new(&format!("[ $1 = 1 ] && [ $3 = 1 ] && {{ echo out of memory >&2; exit 3; }}\n{TRAIN}"));
    let error = place.error(&study(COMMAND));
    for expected in [
        "1 run failed",
        "what has ended is stored",
        "task script, arm slow: seed 1",
        "exit status: 3",
        "out of memory",
        ".log",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert_eq!(place.stored("json"), 4);
    // Where everything fails, not everything is tried.
    let place = Place::new("exit 7");
    let error = place.error(&study(COMMAND).replace("seeds = 2", "seeds = 50"));
    assert!(error.contains("every run failed so far") && error.contains("exit status: 7"), "{error}");
    assert!(place.stored("log") < 10);
    let place = Place::new("kill -9 $$");
    assert!(place.error(&study(COMMAND)).contains("signal: 9"));
    let error = place.error(&study("command = [\"no-such-program\", \"{lr}\"]"));
    assert!(error.contains("no-such-program cannot be started"), "{error}");
}

#[test]
fn a_run_that_fails_is_tried_again_as_often_as_the_study_says() {
    let script = format!("[ -e \"tried $1 $3\" ] || {{ touch \"tried $1 $3\"; exit 1; }}\n{TRAIN}");
    let task = format!("{COMMAND}\nrepeats = 0");
    let place = Place::new(&script);
    assert!(place.error(&study(&task)).contains("failed"));
    let place = Place::new(&script);
    let results = place.run(&study(&format!("{task}\nretries = 1"))).unwrap();
    assert_eq!(losses(&results), [[91.5, 98.5], [97.5, 104.5]]);
    let place = Place::new("exit 1");
    assert!(place.error(&study(&format!("{task}\nretries = 2"))).contains("the last of 3 tries"));
}

#[test]
fn a_script_that_does_not_end_in_its_time_or_when_asked_is_ended() {
    // It ignores the request, and so does what it starts.
    let script = "trap '' TERM\necho $$ >> started\n(trap '' TERM; while :; do sleep 1; done) &\nwhile :; do sleep 1; done";
    let place = Place::new(script);
    let error = place.error(&study(&format!("{COMMAND}\ntime_limit = 0.2\ngrace = 0.2")));
    assert!(error.contains("stopped after 0.2 seconds, its `time_limit`"), "{error}");
    let started = fs::read_to_string(place.path("started")).unwrap();
    assert!(!started.is_empty());
    for id in started.lines() {
        assert_eq!(alive(id), 0, "of {id}");
    }
}

/// How many processes of a group there are, where the system tells; those that have ended and nobody has asked about
/// don't count.
fn alive(group: &str) -> usize {
    let stats = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let is_of_group = |stat: &String| {
        // After the name, which is in brackets: state, parent, group.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        fields.len() > 2 && fields[0] != "Z" && fields[2] == group
    };
    stats.filter(is_of_group).count()
}

/// Asks for a stop at the first point that it hears of.
struct Impatient<'a>(&'a AtomicBool);

impl Observer for Impatient<'_> {
    fn point(&self, _job: &Job, _point: &Point) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_study_that_stops_stops_its_commands_and_goes_on_later() {
    let script = format!(
        "if [ ! -e go ]; then echo '{{\"step\": 1, \"split\": \"validation\", \"loss\": 1}}' >> $2; while :; do sleep 1; done; fi\n{TRAIN}"
    );
    let place = Place::new(&script);
    let stop = AtomicBool::new(false);
    let task = format!("{COMMAND}\ngrace = 0.1");
    let stopped = place.run_with(&study(&task), &stop, &Impatient(&stop)).unwrap_err();
    assert!(stopped.is::<Interrupted>());
    assert_eq!((place.stored("json"), place.stored("lock")), (0, 0));
    place.write("go", "");
    assert_eq!(losses(&place.run(&study(&task)).unwrap()), [[91.5, 98.5], [97.5, 104.5]]);
}

#[test]
fn lines_that_cannot_be_understood_and_ends_without_a_result_are_errors_that_show_them() {
    for (script, expected) in [
        ("echo 'loss: 3' > $2", "not a JSON object: loss: 3"),
        ("echo '{\"split\": \"test\", \"loss\": ' > $2", "not a JSON object"),
        ("echo '{\"split\": \"tset\", \"loss\": 3}' > $2", "`split` is"),
        ("echo '{\"step\": 1, \"loss\": 3}' > $2", "ended without a final value"),
        ("true", "ended without a final value"),
    ] {
        let place = Place::new(script);
        let error = place.error(&study(COMMAND));
        assert!(error.contains(expected) && error.contains(".log"), "{script}: {error}");
        assert_eq!(place.stored("json"), 0);
    }
}

#[test]
fn a_loss_that_is_not_finite_is_divergence_and_the_script_need_not_go_on() {
    let script = format!(
        "[ $3 = 1 ] && {{ echo '{{\"step\": 2, \"loss\": NaN}}' > $2; while :; do sleep 1; done; }}\n{TRAIN}"
    );
    let place = Place::new(&script);
    let results = place.run(&study(&format!("{COMMAND}\ngrace = 0"))).unwrap();
    for run in &results.tasks[0].arms[1].runs {
        let Outcome::Diverged { step, reason } = &run.record.outcome else { panic!("it did not diverge") };
        assert!(*step == 2 && reason == "the training loss was NaN", "{reason}");
    }
    assert!(markdown(&results).contains("2 of 2 runs of + slow diverged"));
    // However it ends afterwards.
    let place = Place::new("echo '{\"step\": 2, \"loss\": NaN}' > $2; exit 1");
    assert!(losses(&place.run(&study(COMMAND)).unwrap())[0][0].is_nan());
}

#[test]
fn what_determines_a_run_is_in_its_address_and_nothing_else_is() {
    let place = Place::new(TRAIN);
    let stored = |text: &str| {
        place.run(text).unwrap();
        place.stored("json")
    };
    let first = study(COMMAND);
    assert_eq!(stored(&first), 5);
    for same in ["time_limit = 1000", "grace = 3", "retries = 4", "description = \"other\"", "repeats = 0"] {
        assert_eq!(stored(&study(&format!("{COMMAND}\n{same}"))), 5, "{same}");
    }
    place.write("notes.txt", "not a source");
    assert_eq!(stored(&first), 5);
    assert_eq!(stored(&study(&format!("{COMMAND}\nenvironment = {{ DATA = \"b\" }}"))), 10);
    assert_eq!(stored(&study(&format!("{COMMAND}\ninherited = [\"ABLATE_TEST_NO_SUCH_VARIABLE\"]"))), 15);
    assert_eq!(stored(&study(&format!("{COMMAND}\ncores = 2"))), 20);
    assert_eq!(stored(&first.replace("steps = 3", "steps = 4")), 25);
    // Another base; the arm's own run is the old one.
    assert_eq!(stored(&first.replace("lr = 3", "lr = 2")), 28);
    place.write("train.sh", &format!("{TRAIN}\n# changed"));
    assert_eq!(stored(&first), 33);
}

#[test]
fn a_source_that_changes_while_the_study_runs_makes_its_runs_nobodys() {
    let place = Place::new(&format!("echo '# later' >> train.sh\n{TRAIN}"));
    let error = place.error(&study(COMMAND));
    assert!(error.contains("one of the `sources` has changed"), "{error}");
    assert_eq!(place.stored("json"), 0);
}

#[test]
fn runs_that_a_seed_does_not_determine_are_noticed_and_their_noise_is_told() {
    let script = "echo x >> count; n=$(wc -l < count)\necho \"{\\\"split\\\": \\\"test\\\", \\\"loss\\\": $(($3 * 10 + n * n)).25}\" > $2";
    let place = Place::new(script);
    let results =
        place.run(&study(&format!("{COMMAND}\nrepeats = 2")).replace("seeds = 2", "seeds = 6")).unwrap();
    let repeats = Findings::of(&results).tasks[0].repeats.unwrap();
    assert_eq!((repeats.pairs, repeats.equal), (2, 0));
    assert!(repeats.noise.is_some_and(|noise| noise >= 1.0) && repeats.share.is_some());
    let text = markdown(&results);
    assert!(
        text.contains("**Run twice.** A seed does not determine a run")
            && text.contains("in loss apart (2 of 2 seeds"),
        "{text}"
    );
}

#[test]
fn runs_have_a_device_each_and_no_two_at_a_time_the_same() {
    let script = format!(
        "mkdir \"device $CUDA_VISIBLE_DEVICES\" || exit 1\necho $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS >> devices\n{TRAIN}\nrmdir \"device $CUDA_VISIBLE_DEVICES\""
    );
    let place = Place::new(&script);
    place.run(&study(&format!("{COMMAND}\ngpus = [\"4\", \"7\"]"))).unwrap();
    let devices = fs::read_to_string(place.path("devices")).unwrap();
    assert_eq!(devices.lines().count(), 5);
    assert!(devices.lines().all(|line| ["4 1", "7 1"].contains(&line)), "{devices}");
}

#[test]
fn the_learning_rate_of_a_command_is_tuned_as_that_of_a_task_that_ships() {
    // Best at 20, and worse with a schedule.
    let script = r#"
seed=$1; lr=$2; [ "$3" = constant ] && penalty=0 || penalty=5
loss=$(( (lr - 20) * (lr - 20) + penalty + seed % 10 ))
echo "{\"step\": 1, \"split\": \"validation\", \"loss\": $loss}"
echo "{\"step\": 1, \"split\": \"test\", \"loss\": $((loss + 1000))}"
"#;
    let text = r#"
        seeds = 2
        tuning = { rates = [10.0, 20.0, 30.0], seeds = 2, every = ["constant", "linear-decay"] }
        [[tasks]]
        command = ["sh", "train.sh", "{seed}", "{learning_rate}", "{schedule}"]
        sources = ["train.sh"]
        environment = { CLIP = "{clip}" }
        steps = 1
        [base]
        clip = 0
        [[factor]]
        name = "clip"
        on = { clip = 1 }
    "#;
    let place = Place::new(&script.replace("lr=$2", "lr=${2%.*}"));
    let results = place.run(text).unwrap();
    for arm in &results.tasks[0].arms {
        let tuning = arm.tuning.as_ref().unwrap();
        assert_eq!((tuning.candidates.len(), tuning.chosen.learning_rate), (6, 20.0));
        assert_eq!(tuning.chosen.to_string(), "lr 20");
        assert_eq!(arm.runs[1].record.evaluation().unwrap().loss, 1001.0);
    }
    assert_eq!(place.stored("json"), 2 * (6 * 2 + 2) + 1);
}

#[test]
fn mistakes_in_a_command_are_named_before_anything_runs() {
    let place = Place::new(TRAIN);
    for (text, expected) in [
        (study("command = []"), "`command` is empty"),
        (study("command = [\"sh\", \"{lr}\"]\ntime_limit = 0"), "time_limit"),
        (study("command = [\"sh\", \"{lr}\"]\ncores = 0"), "cores = 0"),
        (study("command = [\"sh\", \"{lr}\"]\ngpus = [\"0\", \"0\"]"), "twice"),
        (study("command = [\"sh\", \"{lr}\"]\ngrcae = 3"), "grcae"),
        (study("command = [\"sh\", \"{lr}\"]\ngrace = \"soon\""), "option grace = \"soon\""),
        (study("command = [\"sh\", \"{lr}\"]\nmeasure = \"speed\""), "speed"),
        (study("command = [\"sh\", \"train.sh\"]"), "option lr does not reach the command"),
        (study("command = [\"sh\", \"{lr}\", \"{beta}\"]"), "nothing is known by the name {beta}"),
        (study(COMMAND).replace("steps = 3", ""), "a command needs `steps`"),
        (study(COMMAND).replace("train.sh\"]", "trian.sh\"]"), "no file \"trian.sh\""),
        (study(COMMAND).replace("sources = [\"train.sh\"]", ""), "`sources` is missing"),
        (
            study(COMMAND).replace("on = { lr = 1 }", "on = { remove = [\"prodigy\"] }"),
            "a command has options only",
        ),
        (study(COMMAND).replace("lr = 3", "lr = 3\nseed = 4"), "option seed: the name is taken"),
        (format!("baselines = [\"sgd\"]\n{}", study(COMMAND)), "arms of a command are its own"),
        (format!("{}\n[[tasks]]\ntask = \"digits\"", study(COMMAND)), "commands, or none of them"),
        (
            study(&format!("{COMMAND}\n[[tasks]]\nname = \"script\"\nsteps = 1\nsources = []\n{COMMAND}")),
            "two tasks",
        ),
    ] {
        let error = format!("{:#}", place.study(&text).err().unwrap_or_else(|| panic!("{text}")));
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(!Path::new(&place.path("out")).exists());
}
