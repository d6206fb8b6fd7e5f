//! Rows of files that others wrote: tables with commas, JSON lines, and event files.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{events, wandb};

/// The column that every row has: the name of its file, without its ending.
pub(super) const FILE: &str = "file";

/// Columns of files that know runs by their names.
pub(super) const RUN: &str = "run";
pub(super) const STEP: &str = "step";

/// A row, by column. Empty cells are absent.
pub(super) type Row = BTreeMap<String, String>;

/// Rows of a file, or of a folder of event files.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) rows: Vec<Row>,
    /// Whether each has a run with a name, and a step.
    pub(super) has_names: bool,
}

/// Rows of a file. Adds to `notes` what was left out.
///
/// # Errors
/// It cannot be read, or is none of those.
pub(super) fn rows(path: &Path, notes: &mut Vec<String>) -> Result<Rows> {
    if events::is_for(path) {
        return Ok(Rows { rows: events::rows(path, notes)?, has_names: true });
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let read = if text.trim_start().starts_with('{') { json_lines(&text) } else { table(&text) };
    let mut found = read.with_context(|| format!("in {}", path.display()))?;
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    for row in &mut found.rows {
        row.entry(FILE.to_owned()).or_insert_with(|| stem.clone());
    }
    Ok(found)
}

fn table(text: &str) -> Result<Rows> {
    // Some write tabs.
    let first = text.lines().next().unwrap_or_default();
    let delimiter = if first.contains('\t') && !first.contains(',') { b'\t' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(text.as_bytes());
    let heads = reader.headers()?.clone();
    let series = wandb::series(&heads)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        if !series.is_empty() {
            rows.extend(wandb::rows(&series, &record));
            continue;
        }
        let cells = heads.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
        rows.push(cells.map(|(head, cell)| (head.to_owned(), cell.to_owned())).collect());
    }
    Ok(Rows { rows, has_names: !series.is_empty() })
}

fn json_lines(text: &str) -> Result<Rows> {
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let read = serde_json::from_str::<Value>(&numbers_that_json_lacks(line));
        let value = read.with_context(|| format!("line {} is no JSON", index + 1))?;
        let Value::Object(_) = value else { bail!("line {} is no object", index + 1) };
        let mut row = Row::new();
        flatten(&value, "", &mut row);
        rows.push(row);
    }
    Ok(Rows { rows, has_names: false })
}

/// As Python writes them: bare, where a number is expected.
fn numbers_that_json_lacks(line: &str) -> String {
    let mut found = line.to_owned();
    for (bare, quoted) in [("NaN", "\"NaN\""), ("-Infinity", "\"-inf\""), ("Infinity", "\"inf\"")] {
        for before in [": ", ":"] {
            found = found.replace(&format!("{before}{bare}"), &format!("{before}{quoted}"));
        }
    }
    found
}

/// Tables within tables have names with dots.
fn flatten(value: &Value, name: &str, into: &mut Row) {
    let within = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| flatten(value, &within(key), into)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(i, value)| flatten(value, &within(&i.to_string()), into));
        }
        Value::Null => {}
        Value::String(text) => drop(into.insert(name.to_owned(), text.clone())),
        other => drop(into.insert(name.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_json_lines_are_the_same_rows() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            rows(&path, &mut Vec::new()).unwrap().rows
        };
        let by_commas = read("a.csv", "arm,seed,config.lr,loss\nbase,0,0.1,2.5\nbase,1,,nan\n");
        let by_lines = read(
            "a.jsonl",
            "{\"arm\": \"base\", \"seed\": 0, \"config\": {\"lr\": 0.1}, \"loss\": 2.5}\n\n{\"arm\":\"base\",\"seed\":1,\"loss\":NaN}\n",
        );
        assert_eq!(by_commas[0], by_lines[0]);
        assert_eq!(by_commas[1]["loss"].to_lowercase(), by_lines[1]["loss"].to_lowercase());
        assert!(!by_commas[1].contains_key("config.lr"));
        assert_eq!(by_commas[0][FILE], "a");
        assert_eq!(read("b.tsv", "arm\tloss\nx\t1\n")[0]["arm"], "x");
    }

    #[test]
    fn what_is_neither_is_an_error_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "{\"a\": 1}\n{\"a\": \n").unwrap();
        assert!(format!("{:#}", rows(&path, &mut Vec::new()).unwrap_err()).contains("line 2"));
        std::fs::write(&path, "a,b\n1,2,3\n").unwrap();
        assert!(rows(&path, &mut Vec::new()).is_err());
    }
}
