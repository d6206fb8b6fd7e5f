//! Causes of a wrong d, from the findings of the runs.

use std::mem::discriminant;

use super::caveats::{arms, list, titles};
use crate::results::{Results, Run, TaskResults};

/// Causes of a wrong d that most runs of an arm show. Tasks that have one in the same arms share a sentence.
pub(super) fn of_wrong_d(results: &Results) -> Vec<String> {
    let mut sentences = Vec::new();
    let all = || {
        results
            .tasks
            .iter()
            .flat_map(|task| &task.arms)
            .flat_map(|arm| &arm.runs)
            .flat_map(|run| &run.record.findings)
    };
    let mut kinds = Vec::new();
    for kind in all().map(discriminant) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    for kind in kinds {
        let of_run =
            |run: &Run| run.record.findings.iter().find(|found| discriminant(*found) == kind).cloned();
        let mut groups: Vec<(Vec<usize>, Vec<&TaskResults>)> = Vec::new();
        for task in &results.tasks {
            let most = |arm: &usize| {
                let runs = &task.arms[*arm].runs;
                runs.iter().filter(|run| of_run(run).is_some()).count() * 2 > runs.len()
            };
            let with: Vec<usize> = (0..task.arms.len()).filter(most).collect();
            match groups.iter_mut().find(|(arms, _)| *arms == with) {
                Some((_, tasks)) => tasks.push(task),
                None => groups.push((with, vec![task])),
            }
        }
        for (with, tasks) in groups {
            let Some(&first) = with.first() else { continue };
            let example = tasks[0].arms[first].runs.iter().find_map(|run| Some((run.seed, of_run(run)?)));
            let Some((seed, found)) = example else { continue };
            let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
            sentences.push(format!(
                "{}: d is not as it should be in most runs of {}. {}, {}, seed {seed}: {found}",
                list(&names),
                arms(results, &titles(results, |arm| with.contains(&arm))),
                names[0],
                results.arms[first].title
            ));
        }
    }
    sentences
}
