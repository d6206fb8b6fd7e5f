//! The CSV files that Weights & Biases exports of a chart: an axis, and three columns for every run and number.

use csv::StringRecord;

use super::table::{RUN, Row, STEP};

/// Between the name of a run and that of a number.
const BETWEEN: &str = " - ";

/// Endings of the two columns next to each number, which repeat it if nothing is averaged.
const ENDS: [&str; 2] = ["__MIN", "__MAX"];

/// Fault of an export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WandbError {
    /// Two runs have the same name.
    #[error(
        "the column {0:?} is there twice, as two runs have the same name: rename one of them in W&B, and export again"
    )]
    SameName(String),
    /// A column without a run.
    #[error("the column {0:?} does not say of which run it is; an export of W&B has \"NAME - METRIC\"")]
    NoName(String),
}

/// Columns of a number of a run.
pub(super) struct Series<'h> {
    place: usize,
    run: &'h str,
    metric: &'h str,
}

/// The numbers that an export has, by its heads; none where the table is no export.
pub(super) fn series(heads: &StringRecord) -> Result<Vec<Series<'_>>, WandbError> {
    let is_there = |head: &str| heads.iter().any(|other| other == head);
    let has_ends = |head: &str| ENDS.iter().all(|end| is_there(&format!("{head}{end}")));
    let mut found: Vec<Series<'_>> = Vec::new();
    for (place, head) in heads.iter().enumerate().filter(|(_, head)| has_ends(head)) {
        let (run, metric) = head.rsplit_once(BETWEEN).ok_or_else(|| WandbError::NoName(head.to_owned()))?;
        if found.iter().any(|other| (other.run, other.metric) == (run, metric)) {
            return Err(WandbError::SameName(head.to_owned()));
        }
        found.push(Series { place, run, metric });
    }
    Ok(found)
}

/// The numbers of a line, each with its run and the first column as its step.
pub(super) fn rows(series: &[Series<'_>], line: &StringRecord) -> Vec<Row> {
    let step = line.get(0).unwrap_or_default();
    let cell = |of: &Series<'_>| line.get(of.place).filter(|cell| !cell.is_empty()).map(str::to_owned);
    let row = |of: &Series<'_>| {
        let pairs = [(STEP, step.to_owned()), (RUN, of.run.to_owned()), (of.metric, cell(of)?)];
        Some(pairs.into_iter().map(|(column, value)| (column.to_owned(), value)).collect())
    };
    series.iter().filter_map(row).collect()
}
