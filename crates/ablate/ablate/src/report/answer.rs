//! The answer in sentences, from the findings only.

use super::fork;
use super::view::View;
use crate::findings::{CONFIDENCE, FEWEST_PAIRS, Reason, Verdict};
use crate::results::{Role, TaskResults};

/// A sentence, of which the first part is its heading.
pub(super) struct Sentence {
    pub(super) heading: &'static str,
    pub(super) text: String,
}

/// Findings of the study, most important first. Empty without an arm to compare.
pub(super) fn answer(view: View<'_>) -> Vec<Sentence> {
    let changed = |starts: &str| -> Vec<usize> {
        let is = |arm: &usize| {
            view.arms()[*arm].role == Role::Changed && view.arms()[*arm].title.starts_with(starts)
        };
        view.compared().filter(is).collect()
    };
    let baselines: Vec<usize> =
        view.compared().filter(|arm| view.arms()[*arm].role == Role::Baseline).collect();
    // Arms of a study say in their titles what they change; those that were read from files have names of their own.
    let has_sign = |arm: &usize| view.arms()[*arm].title.starts_with(['−', '+']);
    let named = changed("").into_iter().filter(|arm| !has_sign(arm)).collect();
    let groups = [
        ("Left out", changed("−")),
        ("Added", changed("+")),
        ("Compared with the base", named),
        ("Baselines, tuned", baselines),
    ];
    let seeds = view.results.study.seeds;
    let can_decide = seeds >= FEWEST_PAIRS || !view.is_paired();
    let without = equivalent(view);
    let mut sentences: Vec<Sentence> = without
        .into_iter()
        .chain(groups.into_iter().filter_map(|(heading, arms)| {
            let parts: Vec<String> =
                sorted(view, arms).into_iter().filter_map(|arm| effect(view, arm)).collect();
            (!parts.is_empty()).then(|| Sentence { heading, text: format!("{}.", parts.join("; ")) })
        }))
        .collect();
    let only = |verdict| -> Vec<usize> {
        view.compared()
            .filter(|arm| (0..view.results.tasks.len()).all(|task| view.found(task, *arm).verdict == verdict))
            .collect()
    };
    let names = |arms: &[usize]| match arms.len() {
        all if all > 2 && all == view.compared().count() => "All arms".to_owned(),
        _ => arms.iter().map(|arm| unbroken(view, *arm)).collect::<Vec<_>>().join(", "),
    };
    let unclear = only(Verdict::Unclear);
    if !can_decide && view.compared().next().is_some() {
        let seeds = if seeds == 1 { "One seed is".to_owned() } else { format!("{seeds} seeds are") };
        let text = format!("{seeds} too few for any; it takes {FEWEST_PAIRS} at least.");
        sentences.push(Sentence { heading: "No verdict", text });
    } else if !unclear.is_empty() {
        let text = format!("{}: the data don't say in which direction, on any task.", names(&unclear));
        sentences.push(Sentence { heading: "Unclear", text });
    }
    let dead = only(Verdict::Dead);
    if !dead.is_empty() {
        let text = format!("{}: {}, on every task.", names(&dead), view.sameness());
        sentences.push(Sentence { heading: "Does nothing", text });
    }
    sentences.extend(later(view));
    sentences.extend(stopped(view));
    sentences.extend(over_tasks(view));
    sentences.extend(detectable(view));
    sentences.extend(repeats(view));
    sentences
}

/// Whether a seed determines a command's run; if not, the size of the noise.
fn repeats(view: View<'_>) -> Option<Sentence> {
    let found = || {
        let of_task = |(task, results): (usize, &'_ TaskResults)| {
            let repeats = view.findings.tasks[task].repeats.filter(|repeats| repeats.pairs > 0)?;
            Some((task, results.name.clone(), repeats))
        };
        view.tasks().filter_map(of_task)
    };
    let apart: Vec<String> = found()
        .filter(|(_, _, repeats)| repeats.equal < repeats.pairs)
        .map(|(task, name, repeats)| {
            let shown = view.shown(task);
            let noise = repeats
                .noise
                .map_or("apart".to_owned(), |noise| format!("{} {} apart", shown.size(noise), shown.unit()));
            let share = repeats.share.map_or(String::new(), |share| {
                format!(", which is {:.0} % of the variance of an arm’s differences", 100.0 * share)
            });
            let pairs =
                if repeats.pairs == 1 { "1 seed".to_owned() } else { format!("{} seeds", repeats.pairs) };
            format!("on {name} {noise} ({} of {pairs}{share})", repeats.pairs - repeats.equal)
        })
        .collect();
    if apart.is_empty() {
        found().next()?;
        let text =
            "Two runs of the base with the same seed had the same numbers to the last digit.".to_owned();
        return Some(Sentence { heading: "Run twice", text });
    }
    let text = format!(
        "A seed does not determine a run: two runs of the base with the same seed were {}. This noise is in every difference, and so in what is \
         tested: verdicts keep their 5 %. A difference of single runs that is no larger says nothing.",
        apart.join(", ")
    );
    Some(Sentence { heading: "Run twice", text })
}

/// Arms that took over from the base in the course of a run.
fn later(view: View<'_>) -> Option<Sentence> {
    let of_task = |(task, results): (usize, &TaskResults)| {
        let arms = fork::when(view, task);
        if arms.is_empty() {
            None
        } else if view.has_tasks() {
            Some(format!("on {}: {}", results.name, arms.join("; ")))
        } else {
            Some(arms.join("; "))
        }
    };
    let tasks: Vec<String> = view.tasks().filter_map(of_task).collect();
    (!tasks.is_empty())
        .then(|| Sentence { heading: "When it matters", text: format!("{}.", tasks.join(". ")) })
}

/// Ends of a sequential study's arms, and the runs that these saved.
fn stopped(view: View<'_>) -> Option<Sentence> {
    let most = view.results.study.seeds;
    let stops = || {
        let pairs = view.tasks().flat_map(|(task, _)| view.compared().map(move |arm| (task, arm)));
        pairs.filter_map(|(task, arm)| view.found(task, arm).stop)
    };
    if !view.results.study.sequential || stops().next().is_none() {
        return None;
    }
    let all = stops().count();
    let part = |reason: Reason, what: &str| {
        let seeds: Vec<usize> = stops().filter(|stop| stop.reason == reason).map(|stop| stop.seeds).collect();
        let (low, high) = (seeds.iter().min()?, seeds.iter().max()?);
        let range = if low == high { format!("{low}") } else { format!("{low} to {high}") };
        Some(format!("{} {what} after {range} seeds", seeds.len()))
    };
    let parts: Vec<String> = [
        part(Reason::Found, "decided"),
        part(Reason::Equivalent, "found to make no difference that matters"),
        part(Reason::Dead, "found to do nothing"),
        part(Reason::GivenUp, "given up, because they would hardly have reached a verdict,"),
        part(Reason::End, "open at the end"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let runs: usize = view.results.tasks.iter().flat_map(|task| &task.arms).map(|arm| arm.runs.len()).sum();
    let whole = view.results.tasks.len() * view.arms().len() * most;
    let text = format!(
        "Of {all} comparisons {}. That took {runs} runs of {whole}. Verdicts keep their 5 % over all looks together; an effect that was found early is overestimated.",
        parts.join(", ")
    );
    Some(Sentence { heading: "Stopped early", text })
}

/// Arms that make no difference that matters.
fn equivalent(view: View<'_>) -> Option<Sentence> {
    let all = view.results.tasks.len();
    let of_arm = |arm: usize| {
        let is_equivalent =
            |(task, _): &(usize, &TaskResults)| view.found(*task, arm).verdict == Verdict::Equivalent;
        let tasks: Vec<&str> =
            view.tasks().filter(is_equivalent).map(|(_, task)| task.name.as_str()).collect();
        let title = unbroken(view, arm);
        match tasks.len() {
            0 => None,
            _ if all == 1 => Some(title),
            some if some == all => Some(format!("{title} on all {all} tasks")),
            some => Some(format!("{title} on {some} of {all} tasks ({})", tasks.join(", "))),
        }
    };
    let arms: Vec<String> = view.compared().filter_map(of_arm).collect();
    let margins: Vec<String> = view
        .tasks()
        .filter_map(|(task, results)| {
            let (shown, margin) = (view.shown(task), view.findings.tasks[task].matters?);
            let size = format!("{} {}", shown.size(margin), shown.unit());
            Some(if all == 1 { size } else { format!("{size} on {}", results.name) })
        })
        .collect();
    let text = format!("{}. What matters is {} or more.", arms.join("; "), margins.join(", "));
    (!arms.is_empty()).then_some(Sentence { heading: "Makes no difference that matters", text })
}

/// Number of verdicts that survive a correction over all tasks, and the names of these or of the others, whichever are
/// fewer.
fn over_tasks(view: View<'_>) -> Option<Sentence> {
    let decided: Vec<(usize, usize)> = view
        .tasks()
        .flat_map(|(task, _)| view.compared().map(move |arm| (task, arm)))
        .filter(|(task, arm)| {
            matches!(view.found(*task, *arm).verdict, Verdict::Better | Verdict::Worse | Verdict::Equivalent)
        })
        .collect();
    if !view.has_tasks() || decided.is_empty() {
        return None;
    }
    let stands = |(task, arm): &&(usize, usize)| {
        let found = view.found(*task, *arm);
        let p = if found.verdict == Verdict::Equivalent { found.study_equivalence_p } else { found.study_p };
        p.is_some_and(|p| p <= 1.0 - CONFIDENCE)
    };
    let (standing, falling): (Vec<_>, Vec<_>) = decided.iter().partition(stands);
    let named = |of: &[&(usize, usize)]| {
        let name = |(task, arm): &&(usize, usize)| {
            format!("{} on {}", unbroken(view, *arm), view.results.tasks[*task].name)
        };
        of.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    let all = decided.len();
    let which = match (standing.len(), falling.len()) {
        (_, 0) => format!("all {all} verdicts"),
        (0, _) => format!("none of the {all} verdicts"),
        (some, rest) if some <= rest => format!("{some} of {all} verdicts ({})", named(&standing)),
        (some, _) => format!("{some} of {all} verdicts, and not {}", named(&falling)),
    };
    let text = format!(
        "A correction over all tasks leaves {which}. With it the whole study has a false verdict at most once in twenty studies; without it, \
         each of its tasks may have one as often."
    );
    Some(Sentence { heading: "Over all tasks", text })
}

/// The smallest differences that would probably have been found.
fn detectable(view: View<'_>) -> Option<Sentence> {
    if view.results.study.sequential {
        return None; // It is of a number of seeds that was fixed.
    }
    let found = || view.tasks().filter_map(|(task, _)| Some((task, view.findings.tasks[task].detectable?)));
    let deviations = || found().map(|(_, found)| format!("{:.1}", found.deviations));
    let first = deviations().next()?;
    // Tasks differ by the number of arms that do something.
    let is_one = deviations().all(|other| other == first);
    let tasks: Vec<String> = found()
        .filter_map(|(task, found)| {
            let (shown, name) = (view.shown(task), &view.results.tasks[task].name);
            let difference = format!("{name} {} {}", shown.size(found.difference?), shown.unit());
            Some(if is_one { difference } else { format!("{difference} ({:.1})", found.deviations) })
        })
        .collect();
    let size = if is_one {
        format!("{first} standard deviations")
    } else {
        "so many standard deviations".to_owned()
    };
    let of_tasks = if tasks.is_empty() {
        String::new()
    } else {
        let which = if view.compared().count() > 1 { "For the arm in the middle" } else { "Here" };
        format!(" {which} these are: {}.", tasks.join(", "))
    };
    let text = format!(
        "Four of five studies like this find a difference of {size} of an arm's differences over the seeds.{of_tasks} A smaller one may be \
         there and unclear."
    );
    Some(Sentence { heading: "Large enough to be found", text })
}

/// The arms with the clearest answer first.
fn sorted(view: View<'_>, mut arms: Vec<usize>) -> Vec<usize> {
    let clear = |arm: &usize| {
        let overall = &view.findings.overall[*arm];
        overall.better + overall.worse
    };
    arms.sort_by_key(|arm| std::cmp::Reverse(clear(arm)));
    arms
}

/// `− Schedule-Free: worse on 5 of 6 tasks, better on 1 (modular)`; nothing where no task has a clear answer.
fn effect(view: View<'_>, arm: usize) -> Option<String> {
    let of = |verdict| -> Vec<&str> {
        view.tasks()
            .filter(|(task, _)| view.found(*task, arm).verdict == verdict)
            .map(|(_, task)| task.name.as_str())
            .collect()
    };
    let (better, worse) = (of(Verdict::Better), of(Verdict::Worse));
    let tasks = view.results.tasks.len();
    let title = unbroken(view, arm);
    if better.is_empty() && worse.is_empty() {
        return None;
    }
    if tasks == 1 {
        return Some(format!("{title}: {}", if worse.is_empty() { "better" } else { "worse" }));
    }
    let counted = |names: &[&str], word: &str| match names.len() {
        0 => None,
        all if all == tasks => Some(format!("{word} on all {tasks} tasks")),
        some => Some(format!("{word} on {some} of {tasks} tasks ({})", names.join(", "))),
    };
    let parts: Vec<String> =
        [counted(&worse, "worse"), counted(&better, "better")].into_iter().flatten().collect();
    Some(format!("{title}: {}", parts.join(", ")))
}

/// Size of the study, in a line.
pub(super) fn counted(view: View<'_>) -> String {
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let runs: usize = view.results.tasks.iter().flat_map(|task| &task.arms).map(|arm| arm.runs.len()).sum();
    let tuning: usize = view
        .results
        .tasks
        .iter()
        .flat_map(|task| &task.arms)
        .filter_map(|arm| arm.tuning.as_ref())
        .map(|tuning| tuning.candidates.len() * tuning.seeds.len())
        .sum();
    let tuning = if tuning > 0 { format!(", and {tuning} for tuning") } else { String::new() };
    format!(
        "{}, {}, {}: {}{tuning}",
        plural(view.results.tasks.len(), "task"),
        plural(view.results.arms.len(), "arm"),
        if view.results.study.sequential { "at most " } else { "" }.to_owned()
            + &plural(view.results.study.seeds, "seed"),
        plural(runs, "run"),
    )
}

/// Explanation of the verdicts.
pub(super) fn reading(view: View<'_>) -> String {
    let mut arms = view.findings.tasks.iter().flat_map(|task| &task.arms);
    let has_arrow = arms.any(|arm| matches!(arm.verdict, Verdict::Better | Verdict::Worse));
    let arrows = if has_arrow { ARROWS } else { "" };
    if !view.is_paired() {
        return format!(
            "Differences are an arm minus the base, of runs that no seed makes pairs of.{arrows} Better and worse are verdicts of a permutation \
             test of Welch's t, corrected over the arms of a task after Holm, at 5 %. A run that diverged is worse than every one that didn’t."
        );
    }
    let pairs = if view.was_read() {
        "runs with the same seed; what a seed determines is up to the program that trained"
    } else if view.runs_commands() {
        "every arm was given the same seeds; what a seed determines is up to the command"
    } else {
        "every seed has the same initial weights, batches and rounding for all arms"
    };
    format!(
        "Differences are an arm minus the base, paired by seed: {pairs}.{arrows} Better and worse are verdicts of a joint sign-flip test, corrected over the \
         arms of a task, at 5 %: of tasks where no arm differs from the base, one in twenty has a false one. A run that diverged is worse than \
         every one that didn’t, and two that did are equal. An arm that leaves something out and is worse says that the part helps.{}",
        if view.findings.tasks.iter().any(|task| task.matters.is_some()) { EQUIVALENCE } else { "" }
    )
}

const ARROWS: &str = " In the first table a difference after ▲ or ▼ has no sign, because the arrow gives its direction. It keeps its sign if \
    its mean points the other way, as diverged runs can cause.";

const EQUIVALENCE: &str = " No difference that matters is the verdict of two one-sided tests of the same kind, corrected over the arms likewise: an arm that makes a \
    difference that matters has it in at most one of twenty tasks. It replaces better and worse, and can be trusted where differences are symmetric; where an \
    arm’s runs are skewed and spread otherwise than the base’s, it is said too often. Unclear says neither.";

/// An arm's title, whose sign stays on the line of its name.
fn unbroken(view: View<'_>, arm: usize) -> String {
    view.arms()[arm].title.replace("− ", "−\u{a0}").replace("+ ", "+\u{a0}")
}
