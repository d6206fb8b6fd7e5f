//! Tables for a terminal, and their form for a narrow one.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, ContentArrangement, Table};

/// Width where no terminal says how wide it is.
const WIDTH_IN_FILES: u16 = 120;

/// Below this, columns are of a few letters, and rows are easier to read as lists.
const NARROWEST: u16 = 60;

/// A table as wide as the terminal.
pub(crate) struct Columns {
    header: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Columns {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self::of(header.map(str::to_owned).to_vec())
    }

    pub(crate) fn of(header: Vec<String>) -> Self {
        Self { header, rows: Vec::new() }
    }

    pub(crate) fn add_row<C: Into<Cell>>(&mut self, row: impl IntoIterator<Item = C>) {
        self.rows.push(row.into_iter().map(Into::into).collect());
    }

    /// As it is shown here.
    pub(crate) fn shown(self) -> String {
        let width = Table::new().width();
        self.in_width(width)
    }

    /// As it is shown where lines have so many letters. Some terminals say 0, and don't mean it.
    fn in_width(self, width: Option<u16>) -> String {
        match width.filter(|width| *width > 0) {
            Some(width) if width < NARROWEST => self.listed(),
            width => {
                let mut table = Table::new();
                table
                    .load_preset(UTF8_HORIZONTAL_ONLY)
                    .set_content_arrangement(ContentArrangement::Dynamic)
                    .set_width(width.unwrap_or(WIDTH_IN_FILES))
                    .set_header(&self.header);
                for row in self.rows {
                    table.add_row(row);
                }
                table.to_string()
            }
        }
    }

    /// A paragraph for every row, whose lines the terminal breaks.
    fn listed(self) -> String {
        let paragraph = |row: Vec<Cell>| -> String {
            let with_names = row.iter().zip(&self.header).enumerate();
            let lines = with_names.filter_map(|(index, (cell, name))| {
                let text = cell.content().replace('\n', ", ");
                match (index, text.is_empty(), name.is_empty()) {
                    (0, ..) => Some(text),
                    (_, true, _) => None,
                    (_, _, true) => Some(format!("  {text}")),
                    _ => Some(format!("  {name}: {text}")),
                }
            });
            lines.collect::<Vec<_>>().join("\n")
        };
        self.rows.into_iter().map(paragraph).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> Columns {
        let mut columns = Columns::new(["task", "steps", "what it is", ""]);
        columns.add_row([
            "digits",
            "500",
            "handwritten digits (8x8 pixels) with a multilayer perceptron",
            "a",
        ]);
        columns.add_row(["autoencoder", "800", "", ""]);
        columns
    }

    #[test]
    fn no_width_breaks_words_into_letters() {
        for width in [1, 20, 39, 59] {
            let shown = tasks().in_width(Some(width));
            assert_eq!(
                shown,
                "digits\n  steps: 500\n  what it is: handwritten digits (8x8 pixels) with a multilayer perceptron\n  a\n\
                 autoencoder\n  steps: 800"
            );
        }
        for width in [None, Some(0), Some(60), Some(120)] {
            let shown = tasks().in_width(width);
            assert!(shown.contains("autoencoder") && shown.contains("perceptron"), "{shown}");
            assert!(
                shown.lines().all(|line| line.chars().count() <= usize::from(width.unwrap_or(0).max(60)) * 2)
            );
        }
    }
}
