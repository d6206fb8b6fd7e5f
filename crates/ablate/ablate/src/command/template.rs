//! Places in a command that a run fills in: `{seed}`.

use anyhow::{Result, bail};

/// A piece of a template.
#[derive(Debug, PartialEq)]
enum Piece<'t> {
    Text(&'t str),
    Place(&'t str),
}

/// `{name}` is a place, `{{name}}` the text `{name}`, and every other brace itself.
fn pieces(template: &str) -> Vec<Piece<'_>> {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let mut found = Vec::new();
    let mut text = 0;
    let mut at = 0;
    while let Some(open) = template[at..].find('{').map(|offset| at + offset) {
        at = open + 1;
        let inner = template[at..].strip_prefix('{').unwrap_or(&template[at..]);
        let is_escaped = inner.len() < template.len() - at;
        let Some(name) = inner.find('}').map(|end| &inner[..end]).filter(|name| is_name(name)) else {
            continue;
        };
        let rest = &inner[name.len() + 1..];
        if is_escaped && !rest.starts_with('}') {
            continue;
        }
        let end = template.len() - rest.len();
        found.push(Piece::Text(&template[text..open]));
        // An escaped name keeps its inner braces.
        found.push(if is_escaped { Piece::Text(&template[at..end]) } else { Piece::Place(name) });
        text = if is_escaped { end + 1 } else { end };
        at = text;
    }
    found.push(Piece::Text(&template[text..]));
    found
}

/// The names of a template's places.
pub(super) fn places(template: &str) -> impl Iterator<Item = &str> {
    pieces(template).into_iter().filter_map(|piece| match piece {
        Piece::Place(name) => Some(name),
        Piece::Text(_) => None,
    })
}

/// The template with every place filled in.
///
/// # Errors
/// A place for which there is nothing.
pub(super) fn fill(template: &str, value_of: impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut filled = String::new();
    for piece in pieces(template) {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Place(name) => match value_of(name) {
                Some(value) => filled.push_str(&value),
                None => bail!(
                    "nothing is known by the name {{{name}}}: give option {name} a value in [base], or write {{{{{name}}}}} where the braces \
                     are meant"
                ),
            },
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> String {
        fill(template, |name| (name != "none").then(|| format!("<{name}>"))).unwrap()
    }

    #[test]
    fn places_are_filled_and_other_braces_are_text() {
        for (template, expected) in [
            ("train.py", "train.py"),
            ("--seed={seed}", "--seed=<seed>"),
            ("{a}{b.c}-{d_e}", "<a><b.c>-<d_e>"),
            ("{\"a\": {\"b\": 1}}", "{\"a\": {\"b\": 1}}"),
            ("{{seed}} {seed}", "{seed} <seed>"),
            ("{ {seed", "{ {seed"),
            ("{{{seed}", "{{<seed>"),
            ("é{x}é", "é<x>é"),
            ("{}", "{}"),
        ] {
            assert_eq!(filled(template), expected, "{template}");
        }
        assert_eq!(places("{a} {{b}} {c}").collect::<Vec<_>>(), ["a", "c"]);
        let error = fill("{none}", |_| None).unwrap_err().to_string();
        assert!(error.contains("{none}") && error.contains("{{none}}"), "{error}");
    }
}
