"""Reads a study's two tables as Parquet, with pandas and with polars, and says whether they are those of the JSON lines: `pip install pandas pyarrow polars`,
then `python read_tables.py DIR`."""

import json
import sys

import pandas as pd
import polars as pl

folder = sys.argv[1]
for table in ("runs", "curves"):
    with open(f"{folder}/{table}.jsonl") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        if "options" in row:
            row["options"] = json.dumps(row["options"], separators=(",", ":"))
    by_pandas = pd.read_parquet(f"{folder}/{table}.parquet")
    by_polars = pl.read_parquet(f"{folder}/{table}.parquet")
    assert list(by_pandas.columns) == by_polars.columns == list(rows[0]), table
    for column in by_polars.columns:
        expected = [row[column] for row in rows]
        found = [None if pd.isna(value) else value for value in by_pandas[column]]
        assert found == expected, f"{table}, {column} by pandas: {found[:3]} and {expected[:3]}"
        assert by_polars[column].to_list() == expected, f"{table}, {column} by polars"
    print(table, len(rows))
