//! The verdicts of a report again, from nothing but the table of runs in its page.
//!
//! `cargo run --release -p ablate-statistics --example recheck -- book/src/choose/reports/switches.html` prints by task
//! and arm the mean difference to the base and its p, alone, corrected over the arms of the task (as Holm did, and by
//! the joint test), and over all tasks. The page's numbers are rounded: accuracies are exact all the same, losses are
//! not to the last digit.
#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::error::Error;
use std::{env, fs};

use ablate_statistics::{Bootstrap, PairedDifference, holm, joint_sign_flip_p, tested_differences};

/// The value of a run, absent where it diverged, and the digest of its weights.
type Run = (Option<f64>, String);

/// Texts between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    text.split(from).skip(1).filter_map(|rest| rest.split_once(to)).map(|(found, _)| found).collect()
}

/// The text of a cell without the marks in it.
fn plain(cell: &str) -> String {
    let mut is_mark = false;
    let text = cell.chars().filter(|c| {
        let shown = !is_mark && *c != '<';
        is_mark = *c == '<' || is_mark && *c != '>';
        shown
    });
    text.collect::<String>().replace('−', "-").trim().to_owned()
}

fn main() -> Result<(), Box<dyn Error>> {
    sigpipe::reset(); // A reader such as `head` may end first.
    let page = fs::read_to_string(env::args().nth(1).ok_or("name a report's page")?)?;
    let table = page.split("<table class=\"runs\">").nth(1).ok_or("there is no table of runs")?;
    let table = table.split("</table>").next().unwrap_or_default();
    let mut runs: HashMap<(String, String), Vec<Run>> = HashMap::new();
    let (mut tasks, mut arms) = (Vec::new(), Vec::new());
    for row in between(table, "<tr>", "</tr>").into_iter().skip(1) {
        let cells: Vec<String> = row.split("<td").skip(1).map(|cell| plain(&format!("<td{cell}"))).collect();
        let [task, arm, _, value, ..] = cells.as_slice() else { continue };
        for (name, names) in [(task, &mut tasks), (arm, &mut arms)] {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let digest = cells.last().cloned().unwrap_or_default();
        runs.entry((task.clone(), arm.clone())).or_default().push((value.parse().ok(), digest));
    }
    let is_accuracy = |task: &str| {
        let section = page.split(&format!("<h3>{task}</h3>")).nth(1).unwrap_or_default();
        section.split("mean ± sd").next().is_some_and(|head| head.contains("test accuracy"))
    };
    let base = arms.first().ok_or("there is no run")?.clone();
    let mut families = Vec::new();
    let mut differences = Vec::new();
    for task in &tasks {
        let of = |arm: &String| runs.get(&(task.clone(), arm.clone())).cloned().unwrap_or_default();
        let worst = if is_accuracy(task) { f64::NEG_INFINITY } else { f64::INFINITY };
        for arm in &arms[1..] {
            let both = of(arm).into_iter().zip(of(&base));
            let (changed, unchanged): (Vec<Run>, Vec<Run>) = both.unzip();
            let value = |run: &Run| run.0.unwrap_or(worst);
            let pairs: Vec<(f64, f64)> = changed.iter().map(value).zip(unchanged.iter().map(value)).collect();
            let is_dead = changed.iter().zip(&unchanged).all(|(arm, base)| arm.1 == base.1);
            let tested = tested_differences(&pairs);
            differences
                .push(PairedDifference::of(&pairs, &Bootstrap { resamples: 0, ..Bootstrap::default() }));
            families.push(if is_dead {
                Vec::new()
            } else {
                tested.into_iter().map(Some).collect::<Vec<_>>()
            });
        }
    }
    let compared = arms.len() - 1;
    let of_study = joint_sign_flip_p(&families, 0);
    println!("task | arm | difference | it is | p alone | Holm | joint | joint, all tasks");
    for (task, name) in tasks.iter().enumerate() {
        let family = &families[task * compared..(task + 1) * compared];
        let of_task = &differences[task * compared..(task + 1) * compared];
        let is_live = |place: usize| !family[place].is_empty();
        let alone: Vec<Option<f64>> =
            (0..compared).map(|arm| of_task[arm].filter(|_| is_live(arm))?.p).collect();
        let (by_holm, joint) = (holm(&alone), joint_sign_flip_p(family, 0));
        for arm in 0..compared {
            let place = task * compared + arm;
            let tested = of_task[arm].map_or(0.0, |difference| difference.tested);
            let shown = |p: Option<f64>| p.map_or("-".to_owned(), |p| format!("{p:.4}"));
            let word = |p: Option<f64>| match p {
                None => "no effect",
                Some(p) if p > 0.05 => "unclear",
                Some(_) if (tested > 0.0) == is_accuracy(name) => "better",
                Some(_) => "worse",
            };
            println!(
                "{name} | {} | {:+.4} | {} | {} | {} | {} | {}",
                arms[arm + 1],
                of_task[arm].and_then(|difference| difference.mean).unwrap_or(f64::NAN),
                word(joint[arm]),
                shown(alone[arm]),
                shown(by_holm[arm]),
                shown(joint[arm]),
                shown(of_study[place]),
            );
        }
    }
    Ok(())
}
