//! Lines of a run that several attempts have said, one after the other.
//!
//! An attempt that continues from a checkpoint says again what its predecessor said after it. Nobody tells where the
//! checkpoint was: the first line of the later attempt does, as whatever was said from there on is said again.

use serde::{Deserialize, Serialize};

use super::transcript::Mark;

/// A line, and the time of training at which it was heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) seconds: f64,
    pub(super) line: String,
}

/// Lines that stay when an attempt says `first` as its first line. Nothing where that cannot be told: the line has no
/// step.
pub(super) fn before<'s>(said: &'s [Said], first: &str) -> Option<&'s [Said]> {
    let mut step = 0;
    let marks = said.iter().map(|said| {
        let mark = Mark::of(&said.line);
        step = mark.step.unwrap_or(step);
        Mark { step: Some(step), ..mark }
    });
    let marks: Vec<Mark> = marks.collect();
    let Some(last) = marks.last() else { return Some(said) };
    let first_mark = Mark::of(first);
    // The end's value needs no step.
    let from = first_mark.step.or(if first_mark.is_final { last.step } else { None })?;
    let end = marks.iter().position(|mark| mark.step > Some(from)).unwrap_or(marks.len());
    let same_step = || (0..end).filter(|&index| marks[index].step == Some(from));
    // The checkpoint may have been made between two lines of a step.
    let again = same_step().find(|&index| said[index].line == first);
    let again = again.or_else(|| same_step().find(|&index| marks[index].kind == first_mark.kind));
    Some(&said[..again.unwrap_or(end)])
}

/// Lines of one attempt and of the next one, which may have said nothing yet.
pub(super) fn joined(earlier: Vec<Said>, later: Vec<Said>) -> Vec<Said> {
    let Some(first) = later.first() else { return earlier };
    match before(&earlier, &first.line) {
        Some(kept) => kept.iter().cloned().chain(later).collect(),
        // The attempt would have failed, had anybody heard it.
        None => earlier,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of an undisturbed run: two of training a step, a validation every second step before the step's own,
    /// further numbers, and the end.
    fn undisturbed() -> Vec<String> {
        let mut lines = Vec::new();
        for step in 0..=6 {
            if step % 2 == 0 {
                lines.push(format!("{{\"step\": {step}, \"split\": \"validation\", \"loss\": {step}.5}}"));
            }
            if step < 6 {
                lines.push(format!("{{\"step\": {step}, \"loss\": {step}.25}}"));
                lines.push(format!("{{\"step\": {step}, \"loss\": {step}.125}}"));
                lines.push(format!("{{\"norm\": {step}}}"));
            }
        }
        lines.push("{\"split\": \"test\", \"loss\": 9}".to_owned());
        lines
    }

    fn said(lines: &[String]) -> Vec<Said> {
        lines.iter().map(|line| Said { seconds: 0.0, line: line.clone() }).collect()
    }

    #[test]
    fn wherever_a_run_is_saved_and_killed_its_lines_are_those_of_an_undisturbed_one() {
        let whole = undisturbed();
        // Not between two lines of one kind and step, nor before one that needs the step of another line.
        let may_be_first =
            |line: &String| (line.contains("step") && !line.contains(".125")) || line.contains("test");
        for killed in 0..=whole.len() {
            for saved in (0..=killed).filter(|&saved| whole.get(saved).is_none_or(may_be_first)) {
                let (first, second) = (said(&whole[..killed]), said(&whole[saved..]));
                let joined_once = joined(first, second.clone());
                assert_eq!(joined_once, said(&whole), "saved before {saved}, killed before {killed}");
                // A process that ends between joining and forgetting the later lines joins them again.
                assert_eq!(joined(joined_once.clone(), second), joined_once);
            }
        }
    }

    #[test]
    fn an_attempt_that_starts_at_the_start_has_no_predecessor() {
        let whole = said(&undisturbed());
        assert_eq!(before(&whole, &whole[0].line), Some(&[][..]));
        assert_eq!(joined(whole[..7].to_vec(), whole.clone()), whole);
        assert_eq!(joined(whole.clone(), Vec::new()), whole);
        assert_eq!(before(&[], "{\"norm\": 3}"), Some(&[][..]));
    }

    #[test]
    fn losses_that_differ_are_those_of_the_later_attempt() {
        let whole = said(&undisturbed());
        let at = whole.iter().position(|said| said.line.starts_with("{\"step\": 4, \"split\"")).unwrap();
        let other = "{\"step\": 4, \"split\": \"validation\", \"loss\": 77}";
        assert_eq!(before(&whole, other), Some(&whole[..at]));
        // Between two steps that were said.
        let next = "{\"step\": 4, \"split\": \"test\", \"loss\": 77}";
        let five = whole.iter().position(|said| said.line.starts_with("{\"step\": 5")).unwrap();
        assert_eq!(before(&whole, next), Some(&whole[..five]));
    }

    #[test]
    fn a_first_line_without_a_step_does_not_tell_where_it_belongs() {
        let whole = said(&undisturbed());
        assert_eq!(before(&whole, "{\"norm\": 3}"), None);
        assert_eq!(before(&whole, "{\"loss\": 3}"), None);
        let later = vec![Said { seconds: 1.0, line: "{\"norm\": 3}".to_owned() }];
        assert_eq!(joined(whole.clone(), later), whole);
    }
}
