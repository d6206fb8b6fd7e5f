//! The place of a mistake in a study file.

use ablate_tasks::{AtFault, plain_words};
use anyhow::{Error, anyhow};

/// An error of TOML, with its line.
pub(super) fn of_toml(name: &str, text: &str, error: &toml::de::Error) -> Error {
    let mut words = plain_words(error.message());
    // The keys of a factor.
    if words.starts_with("there is no key") && words.contains(", on, off") {
        words.push_str("\noptions that a factor sets go into `on`: on = { use_adopt = true }");
    }
    let Some(span) = error.span() else { return anyhow!("in the study {name}: {words}") };
    let start = span.start.min(text.len());
    let before = text.get(..start).unwrap_or_default();
    let first = before.matches('\n').count();
    // TOML gives the head of a table of tasks for mistakes in it.
    let within = option_of(error.message()).and_then(|option| line_of(text, first, &option));
    let line = within.unwrap_or(first);
    let shown = text.lines().nth(line).unwrap_or_default();
    let column = if within.is_some() {
        shown.len() - shown.trim_start().len()
    } else {
        before.len() - before.rfind('\n').map_or(0, |end| end + 1)
    };
    let blanks: String =
        shown.get(..column).unwrap_or_default().chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
    anyhow!("in the study {name}, line {}:\n  {shown}\n  {blanks}^\n{words}", line + 1)
}

/// A mistake in the content of a valid TOML file, with its line if a name determines that.
pub(super) fn of_content(name: &str, text: &str, error: Error) -> Error {
    let at_fault = error.downcast_ref::<AtFault>().map(|at_fault| at_fault.name().to_owned());
    match at_fault.and_then(|at_fault| line_of(text, 0, &at_fault)) {
        Some(line) => error.context(format!("in the study {name}, line {}", line + 1)),
        None => error,
    }
}

/// The option that a message is about.
fn option_of(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("option ")?;
    Some(rest.split([' ', ':']).next()?.trim_matches('"').to_owned())
}

/// The only line that has a name, as a key or as a text, from one on.
fn line_of(text: &str, from: usize, name: &str) -> Option<usize> {
    let has_name = |line: &str| {
        let code = line.split('#').next().unwrap_or_default();
        code.match_indices(name).any(|(at, _)| {
            let (before, after) = (&code[..at], &code[at + name.len()..]);
            let is_text = before.ends_with(['"', '\'']) && after.starts_with(['"', '\'']);
            let is_key = before.trim_end().is_empty() || before.trim_end().ends_with(['{', ',', '.']);
            is_text || (is_key && after.trim_start().starts_with(['=', '.']))
        })
    };
    let mut lines = text.lines().enumerate().skip(from).filter(|(_, line)| has_name(line));
    let (first, _) = lines.next()?;
    // In a table, the first one is the table's.
    (from > 0 || lines.next().is_none()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_a_key_or_a_text_and_nowhere_else() {
        let text = "a = 1 # lr\nlrs = 3\non = { lr = 2 }\nb = \"beta\"\nbeta.c = 1\n";
        assert_eq!(line_of(text, 0, "lr"), Some(2));
        assert_eq!(line_of(text, 0, "lrs"), Some(1));
        // There are two.
        assert_eq!(line_of(text, 0, "beta"), None);
        assert_eq!(line_of(text, 4, "beta"), Some(4));
        assert_eq!(line_of(text, 0, "gamma"), None);
    }
}
