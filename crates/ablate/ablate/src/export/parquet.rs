//! Parquet: a file of one row group. Its text columns have dictionaries, so that nothing else compresses them.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context, Result};
use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

use super::tables::{Column, Table};

/// Level of a value that is there.
const DEFINED: i16 = 1;

fn field(name: &str, column: &Column<'_>) -> Result<TypePtr> {
    let (physical, logical) = match column {
        // Polars reads the logical type JSON as bytes, and a text as a text.
        Column::Text(_) | Column::Json(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Column::Integer(_) => (Physical::INT64, None),
        Column::Number(_) => (Physical::DOUBLE, None),
    };
    let field = Type::primitive_type_builder(name, physical);
    Ok(Arc::new(field.with_logical_type(logical).with_repetition(Repetition::OPTIONAL).build()?))
}

pub(super) fn bytes(table: &Table<'_>) -> Result<Vec<u8>> {
    let fields = table.columns.iter().map(|(name, column)| field(name, column)).collect::<Result<_>>()?;
    let schema = Arc::new(Type::group_type_builder(table.name).with_fields(fields).build()?);
    let properties = Arc::new(WriterProperties::builder().build());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties)?;
    let mut group = writer.next_row_group()?;
    for (_, column) in &table.columns {
        let into = group.next_column()?.context("a column has no place")?;
        match column {
            Column::Text(values) | Column::Json(values) => {
                let value = |text: &Cow<'_, str>| text.as_bytes().to_vec().into();
                fill::<ByteArrayType, _>(into, values, value)?;
            }
            Column::Integer(values) => fill::<Int64Type, _>(into, values, |value| *value)?,
            Column::Number(values) => fill::<DoubleType, _>(into, values, |value| *value)?,
        }
    }
    group.close()?;
    writer.close()?;
    Ok(bytes)
}

/// Writes the values that are there, and for every row whether it has one.
fn fill<D: DataType, V>(
    mut into: SerializedColumnWriter<'_>,
    values: &[Option<V>],
    value: impl Fn(&V) -> D::T,
) -> Result<()> {
    let levels: Vec<i16> = values.iter().map(|value| if value.is_some() { DEFINED } else { 0 }).collect();
    let there: Vec<D::T> = values.iter().flatten().map(value).collect();
    into.typed::<D>().write_batch(&there, Some(&levels), None)?;
    Ok(into.close()?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, Row};

    use super::*;

    fn read(bytes: Vec<u8>) -> Vec<Row> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_table_is_read_back_as_it_was_with_what_is_absent() {
        let text = |text: &'static str| Some(Cow::Borrowed(text));
        let table = Table {
            name: "runs",
            rows: 3,
            columns: vec![
                ("text", Column::Text(vec![text("ä"), None, text("")])),
                ("json", Column::Json(vec![text("{\"a\":1}"), None, None])),
                ("integer", Column::Integer(vec![None, Some(i64::MAX), Some(-1)])),
                ("number", Column::Number(vec![Some(0.1), None, Some(f64::MIN_POSITIVE)])),
            ],
        };
        let rows: Vec<Vec<Field>> = read(bytes(&table).unwrap())
            .iter()
            .map(|row| row.get_column_iter().map(|(_, field)| field.clone()).collect())
            .collect();
        let text = |text: &str| Field::Str(text.to_owned());
        assert_eq!(
            rows,
            [
                [text("ä"), text("{\"a\":1}"), Field::Null, Field::Double(0.1)],
                [Field::Null, Field::Null, Field::Long(i64::MAX), Field::Null],
                [text(""), Field::Null, Field::Long(-1), Field::Double(f64::MIN_POSITIVE)],
            ]
        );
    }

    #[test]
    fn a_table_without_rows_is_one_all_the_same() {
        let columns = vec![("step", Column::Integer(Vec::new()))];
        let empty = bytes(&Table { name: "curves", rows: 0, columns }).unwrap();
        assert!(empty.starts_with(b"PAR1") && read(empty).is_empty());
    }
}
