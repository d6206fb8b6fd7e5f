//! JSON lines: an object for every row, with all columns; `null` where there is no value.

use anyhow::Result;
use serde_json::Value;

use super::tables::{Column, Table};

impl Column<'_> {
    fn json(&self, row: usize) -> String {
        match self {
            Self::Text(values) => Value::from(values[row].as_deref()).to_string(),
            Self::Json(values) => values[row].as_deref().unwrap_or("null").to_owned(),
            Self::Integer(values) => Value::from(values[row]).to_string(),
            Self::Number(values) => Value::from(values[row]).to_string(),
        }
    }
}

pub(super) fn bytes(table: &Table<'_>) -> Result<Vec<u8>> {
    let mut text = String::new();
    for row in 0..table.rows {
        let fields = table.columns.iter().map(|(name, column)| format!("\"{name}\": {}", column.json(row)));
        text += &format!("{{{}}}\n", fields.collect::<Vec<_>>().join(", "));
    }
    Ok(text.into_bytes())
}
