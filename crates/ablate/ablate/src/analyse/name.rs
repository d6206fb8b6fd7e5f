//! Parts of a run's name: arm, seed and whatever else is in it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

use super::table::Row;

/// Seeds are whole numbers, so that `{arm}-{seed}` leaves the last one of `adam-w-3` to the seed.
const SEED: &str = "seed";

/// A pattern of names, `{arm}/seed{seed}`: text, and places that become columns.
///
/// ```
/// use ablate::analyse::Pattern;
///
/// let pattern: Pattern = "{arm}/seed{seed}".parse()?;
/// assert_eq!(pattern.columns("adam/lr=0.1/seed3").unwrap(), [("arm", "adam/lr=0.1"), ("seed", "3")]);
/// assert!(pattern.columns("adam/3").is_none());
/// assert_eq!((pattern.has("seed"), pattern.to_string().as_str()), (true, "{arm}/seed{seed}"));
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(String),
}

impl FromStr for Pattern {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once('{') {
            let (place, behind) =
                behind.split_once('}').with_context(|| format!("{text:?} has a {{ without }}"))?;
            let is_new = |part: &Part| *part != Part::Place(place.to_owned());
            ensure!(
                !place.is_empty(),
                "{text:?} has a place without a name; write {{arm}}, {{seed}}, {{task}}, or a name of your own for what does not matter"
            );
            ensure!(parts.iter().all(is_new), "{text:?} has the place {place} twice");
            let is_between = !before.is_empty() || !matches!(parts.last(), Some(Part::Place(_)));
            ensure!(
                is_between,
                "{text:?} has nothing between two places, so that nobody knows where one ends"
            );
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Place(place.to_owned()));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        ensure!(
            parts.iter().any(|part| matches!(part, Part::Place(_))),
            "{text:?} has no place; write what is the arm of a name as {{arm}}, and its seed as {{seed}}"
        );
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// Whether it has a place of this name.
    pub fn has(&self, place: &str) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Place(name) if name == place))
    }

    /// Parts of a name that stand in the places; nothing where it doesn't fit. A place takes as much as the places
    /// after it leave.
    pub fn columns<'a>(&'a self, name: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        let mut found = fit(&self.parts, name)?;
        found.reverse();
        Some(found)
    }

    /// Adds what the name in a column says to a row.
    pub(super) fn add(&self, column: &str, row: &mut Row) -> Result<()> {
        let Some(name) = row.get(column).cloned() else { return Ok(()) };
        let columns = self.columns(&name).with_context(|| {
            format!(
                "the run {name:?} is not called as --name says, {:?}; change the pattern, or leave the run out of what is read",
                self.text
            )
        })?;
        row.extend(columns.into_iter().map(|(place, value)| (place.to_owned(), value.to_owned())));
        Ok(())
    }
}

/// The places of a name, the last one first.
fn fit<'a>(parts: &'a [Part], name: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    match parts {
        [] => name.is_empty().then(Vec::new),
        [Part::Text(text), rest @ ..] => fit(rest, name.strip_prefix(text.as_str())?),
        [Part::Place(place), rest @ ..] => {
            let ends = name.char_indices().map(|(start, character)| start + character.len_utf8());
            let ends: Vec<usize> = ends.collect();
            ends.into_iter().rev().find_map(|end| {
                let (value, behind) = name.split_at(end);
                if place == SEED && !value.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                let mut found = fit(rest, behind)?;
                found.push((place, value));
                Some(found)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_number_and_the_arm_is_the_rest() {
        let cases = [
            ("{arm}-{seed}", "adam-w-3", Some(vec![("arm", "adam-w"), ("seed", "3")])),
            ("{arm}_s{seed}", "muon_small_s12", Some(vec![("arm", "muon_small"), ("seed", "12")])),
            (
                "{task}/{arm}/{seed}/{what}",
                "a/b/1/x/2",
                Some(vec![("task", "a"), ("arm", "b"), ("seed", "1"), ("what", "x/2")]),
            ),
            ("run {seed} of {arm}", "run 7 of ä ö", Some(vec![("seed", "7"), ("arm", "ä ö")])),
            ("{arm}-{seed}", "adam-w", None),
            ("{arm}-{seed}", "-3", None),
            ("{arm}", "", None),
        ];
        for (pattern, name, expected) in cases {
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(pattern.columns(name), expected, "{pattern} of {name}");
        }
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        let cases = [
            ("adam", "no place"),
            ("{arm", "without }"),
            ("{}", "without a name"),
            ("{arm}{seed}", "nothing between"),
            ("{arm}-{arm}", "twice"),
        ];
        for (pattern, expected) in cases {
            let error = pattern.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains(expected), "{pattern}: {error}");
        }
    }
}
