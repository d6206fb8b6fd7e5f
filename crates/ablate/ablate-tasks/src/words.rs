//! Errors of serde in the words of a study file.

use crate::names::unknown;

/// An error of serde about a value of a file, in the file's words: keys and values that are not known have the nearest
/// known one, and types are those of TOML. Other sentences than serde's stay as they are.
///
/// ```
/// use ablate_tasks::plain_words;
///
/// let words = plain_words("unknown field `step`, expected one of `steps`, `seeds`");
/// assert_eq!(words, "there is no key \"step\" (perhaps \"steps\"); choose from steps, seeds");
/// assert_eq!(plain_words("invalid type: string \"3\", expected usize"), "expected a whole number from 0 on, and not the text \"3\"");
/// assert_eq!(plain_words("missing field `name`"), "the key `name` is missing");
/// assert_eq!(plain_words("a difference above 0"), "a difference above 0");
/// ```
pub fn plain_words(message: &str) -> String {
    for (start, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        if let Some((name, known)) = message.strip_prefix(start).and_then(|rest| rest.split_once("`, ")) {
            let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
            return unknown(what, name, &known).to_string();
        }
    }
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = wrong.and_then(|rest| rest.rsplit_once(", expected ")) {
        return format!("expected {}, and not {}", type_of(expected), found_one(found));
    }
    match message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        Some(name) => format!("the key `{name}` is missing"),
        None => message.to_owned(),
    }
}

fn type_of(expected: &str) -> &str {
    match expected {
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number from 0 on",
        "isize" | "i64" | "i32" => "a whole number",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

fn found_one(found: &str) -> String {
    let number = ["integer `", "floating point `", "boolean `"];
    let number = number.into_iter().find_map(|kind| found.strip_prefix(kind)?.strip_suffix('`'));
    match (number, found.strip_prefix("string ")) {
        (Some(number), _) => number.to_owned(),
        (None, Some(text)) => format!("the text {text}"),
        (None, None) => match found {
            "sequence" => "a list".to_owned(),
            "map" => "a table".to_owned(),
            other => other.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        #[allow(dead_code, reason = "only its errors are of interest")]
        count: usize,
        #[serde(default)]
        #[allow(dead_code, reason = "only its errors are of interest")]
        list: Vec<f64>,
        #[serde(default)]
        #[allow(dead_code, reason = "only its errors are of interest")]
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        LogLoss,
        Loss,
    }

    #[test]
    fn every_sentence_of_serde_about_a_value_is_said_in_words_of_a_file() {
        for (json, expected) in [
            (
                r#"{"cuont": 1}"#,
                "there is no key \"cuont\" (perhaps \"count\"); choose from count, list, kind",
            ),
            (r#"{}"#, "the key `count` is missing"),
            (r#"{"count": "1"}"#, "expected a whole number from 0 on, and not the text \"1\""),
            (r#"{"count": -1}"#, "expected a whole number from 0 on, and not -1"),
            (r#"{"count": 1.5}"#, "expected a whole number from 0 on, and not 1.5"),
            (r#"{"count": 1, "list": 0.5}"#, "expected a list, and not 0.5"),
            (r#"{"count": 1, "list": {}}"#, "expected a list, and not a table"),
            (r#"{"count": 1, "list": [true]}"#, "expected a number, and not true"),
            (
                r#"{"count": 1, "kind": "logloss"}"#,
                "there is no value \"logloss\" (perhaps \"log-loss\"); choose from log-loss, loss",
            ),
        ] {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            let error = serde_json::from_value::<Entry>(value).unwrap_err().to_string();
            assert_eq!(plain_words(&error), expected, "{json}: {error}");
        }
    }
}
