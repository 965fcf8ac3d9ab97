"""Parquet as pyarrow, pandas, polars, DuckDB and Spark write it is read; what cannot be is named, not called damaged.

The folder `parquet` has files of writers newer than the installed Arrow; `parquet/make.py` says what is in them.
"""

import io
import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctd.components.parquet_examples import read_parquet
from ctd.components.table_examples import examples_of_rows
from ctd.core.errors import BadInput
from tests.components.table_files import parquet, refusal, rows_of, span

pytestmark = pytest.mark.tf

WRITTEN = Path(__file__).parent / "parquet"
LOW = float(np.float16(-0.1))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fixed_size_list", [[1, 2], None, [3, 4]]),
        ("string_view", [[b"x"], None, [b"yy"]]),
        ("binary_view", [[b"x"], None, [b"yy"]]),
        ("list_view", [[1], None, [2, 3]]),
        ("list_of_string_views", [[b"x"], None, [b"yy", b"z"]]),
        ("half_floats", [[1.5], None, [LOW]]),
        ("lists_of_half_floats", [[1.5], None, [1.5, LOW]]),
        ("pairs_of_half_floats", [[1.5, LOW], None]),
        ("uuid", [[bytes(15) + b"\5"], None, [b"\x80" + bytes(15)]]),
        ("decimal32", [[1.25], None]),
        ("decimal64", [[1.25], None]),
        ("duckdb_uuid", [[bytes(15) + b"\5"]]),
        ("polars_text", [[b"x"], None, [b"yy"]]),
        ("polars_category", [[b"x"], None, [b"yy"]]),
        ("polars_array", [[1, 2], None, [3, 4]]),
        ("polars_half_floats", [[1.5], None, [LOW]]),
    ],
)
def test_what_newer_writers_write_is_read(tmp_path: Path, name: str, expected: list[Any]) -> None:
    content = (WRITTEN / f"{name}.parquet").read_bytes()
    assert rows_of(span(tmp_path, "parquet", [content])) == [{"a": value} for value in expected]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("byte_stream_split", "column a is encoded as BYTE_STREAM_SPLIT, which Arrow"),
        ("delta_length", "column a is encoded as DELTA_LENGTH_BYTE_ARRAY, which Arrow"),
        ("delta_of_fixed", "column a is encoded as DELTA_BYTE_ARRAY, which Arrow"),
        ("duckdb_v2", "column a is encoded as DELTA_LENGTH_BYTE_ARRAY, which Arrow"),
        ("encrypted", "columns of this Parquet file are encrypted | Write the file without encryption"),
        ("duckdb_interval", "column a is of type interval, which no feature can hold"),
        ("duckdb_time", "column a is of type time64[us], which no feature can hold"),
        ("duckdb_variant", "column a is of type struct<"),
        ("polars_int128", "column a is of type int128, which no feature can hold"),
        ("struct_of_string_views", "column a is of type struct<x: string>, which no feature can hold"),
        ("duration_beside_string_view", "column d is of type duration, which no feature can hold"),
    ],
)
def test_what_cannot_be_read_is_said_to_be_what_it_is(tmp_path: Path, name: str, said: str) -> None:
    message = refusal(span(tmp_path, "parquet", [(WRITTEN / f"{name}.parquet").read_bytes()]))
    assert message.startswith(f"1.parquet: {said}")
    assert "damaged" not in message
    if "encoded" in said:
        assert "Write it as PLAIN or with a dictionary" in message


@pytest.mark.parametrize(
    "name", ["fixed_size_list", "half_floats", "string_view", "byte_stream_split", "polars_int128"]
)
def test_damage_stays_damage(name: str) -> None:
    data = (WRITTEN / f"{name}.parquet").read_bytes()

    def outcome(changed: bytes) -> str:
        try:
            columns, rows = read_parquet(io.BytesIO(changed), "file")
            list(examples_of_rows(columns, rows, "file"))
        except BadInput as error:
            return error.message
        return "read"

    assert all(outcome(data[:at]).startswith("file: damaged Parquet: ") for at in range(0, len(data), 5))
    turned = {outcome(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]) for at in range(0, len(data), 3)}
    assert any(said.startswith("file: damaged Parquet: ") for said in turned)


# Timestamps


def utc(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=timezone.utc)  # type: ignore[arg-type, misc]


MOMENTS = [
    *(utc(9999, 12, 31, 23, 59, 59), utc(1, 1, 1), utc(1677, 9, 21), utc(2262, 4, 12), utc(2500, 1, 1, 12)),
    *(utc(1969, 7, 20, 20, 17, 40), utc(1969, 12, 31, 23, 59, 59, 500_000), utc(1500, 3, 1, 5)),
    *(utc(1970, 1, 1), utc(2023, 11, 14, 22, 13, 20, 999_999)),
]
SECONDS = [(moment - utc(1970, 1, 1)) // timedelta(seconds=1) for moment in MOMENTS]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"use_deprecated_int96_timestamps": True}, id="INT96"),
        pytest.param({"use_deprecated_int96_timestamps": True, "use_dictionary": False}, id="plain INT96"),
        pytest.param({"flavor": "spark", "row_group_size": 3}, id="Spark"),
        pytest.param({"version": "2.6"}, id="microseconds"),
        pytest.param({"version": "1.0", "coerce_timestamps": "ms", "allow_truncated_timestamps": True}, id="ms"),
    ],
)
@pytest.mark.parametrize("keep", [True, False])
def test_timestamps_of_every_year_and_way_of_storing_them_are_whole_seconds(tmp_path: Path, options, keep) -> None:
    moments = [*MOMENTS, None]
    columns = {
        "t": pa.array(moments, pa.timestamp("us", "UTC")),
        "i": pa.array(range(len(moments))),
        "l": pa.array([[m, m] if m else None for m in moments], pa.list_(pa.timestamp("us", "UTC"))),
    }
    content = parquet(columns, **options)
    if not keep:
        content = content.replace(b"ARROW:schema", b"arrow:schema")
    found = rows_of(span(tmp_path, "parquet", [content]))
    assert [row["t"] for row in found] == [*([second] for second in SECONDS), None]
    assert [row["l"] for row in found] == [*([second] * 2 for second in SECONDS), None]
    assert [row["i"] for row in found] == [[i] for i in range(len(moments))]


def test_9999_12_31_in_int96_is_what_it_is_in_seconds(tmp_path: Path) -> None:
    table = {"t": pa.array([utc(9999, 12, 31)], pa.timestamp("us"))}
    files = span(tmp_path, "parquet", [parquet(table, use_deprecated_int96_timestamps=True)])
    assert rows_of(files) == [{"t": [253402214400]}]


# Decimals


@pytest.mark.parametrize("type_", [pa.decimal128(12, 0), pa.decimal128(38, 0), pa.decimal256(60, 0)])
def test_decimals_without_a_scale_are_integers(tmp_path: Path, type_: pa.DataType) -> None:
    ids = [12345678901, 12345678902, None, -1, 2**53 + 1 if type_.precision > 16 else 0]
    content = parquet({"id": pa.array([None if i is None else Decimal(i) for i in ids], type_)})
    assert [row["id"] for row in rows_of(span(tmp_path, "parquet", [content]))] == [
        i if i is None else [i] for i in ids
    ]


def test_lists_of_decimals_without_a_scale_are_integers_too(tmp_path: Path) -> None:
    content = parquet({"id": pa.array([[Decimal(12345678901), Decimal(2)], None], pa.list_(pa.decimal128(12, 0)))})
    assert rows_of(span(tmp_path, "parquet", [content])) == [{"id": [12345678901, 2]}, {"id": None}]


def test_a_decimal_beyond_64_bits_is_refused_with_a_way_out(tmp_path: Path) -> None:
    content = parquet({"id": pa.array([Decimal(1), Decimal(2**63)], pa.decimal128(38, 0))})
    said = refusal(span(tmp_path, "parquet", [content]))
    assert said.startswith("1.parquet, row 2: column id (decimal128(38, 0)) has 9223372036854775808")
    assert "`types: {id: string}` in the example_gen" in said
    files = span(tmp_path, "parquet", [content], types={"id": "string"})
    assert rows_of(files) == [{"id": [b"1"]}, {"id": [b"9223372036854775808"]}]


def test_a_decimal_that_loses_digits_is_told_of_once(work, tmp_path: Path) -> None:
    prices = pa.array([Decimal("19.99"), Decimal("123456789.01"), Decimal("123456789.02")], pa.decimal128(12, 2))
    for number in (1, 2):
        (tmp_path / f"{number}.parquet").write_bytes(parquet({"price": prices, "tax": [0.19] * 3}))
    spec = {"input": "/data/{SPAN}", "format": "parquet"}
    (made,) = work("example_gen", spec=spec, files=sorted(tmp_path.glob("*.parquet")))["examples"]
    assert made.properties["reason"] == (
        "column price (decimal128(12, 2)) loses digits: 123456789.01 is 123456792 in the 32 bits of a feature's float; "
        "`types: {price: string}` keeps it as text"
    )


@pytest.mark.parametrize(
    ("type_", "value", "lost"),
    [
        pytest.param(pa.decimal128(9, 2), "19.99", False, id="what a float is nearest to"),
        pytest.param(pa.decimal128(18, 9), "0.123456789", True, id="a long fraction"),
        pytest.param(pa.decimal128(38, 10), "16777217.5", True, id="more digits than 64 bits hold"),
        pytest.param(pa.decimal256(60, 2), "16777217.00", True, id="of 256 bits"),
        pytest.param(pa.decimal256(60, 2), "0.25", False, id="of 256 bits, exact"),
        pytest.param(pa.list_(pa.decimal128(12, 2)), "123456789.01", True, id="in a list"),
    ],
)
def test_only_decimals_that_lose_digits_are_told_of(tmp_path: Path, type_, value: str, lost: bool) -> None:
    held = [Decimal(value)] if pa.types.is_list(type_) else Decimal(value)
    files = span(tmp_path, "parquet", [parquet({"x": pa.array([held, None], type_)})])
    assert rows_of(files) == [{"x": [float(np.float32(value))]}, {"x": None}]
    assert ("loses digits" in files.notes.text) == lost


# pandas


def pandas(frame: pd.DataFrame, **options: Any) -> bytes:
    return bytes(frame.to_parquet(None, **options))


X = pd.DataFrame({"x": [1, 2, 3], "id": [7, 8, 9], "k": list("abc")})


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        pytest.param(pandas(X), {"x", "id", "k"}, id="a range is metadata only"),
        pytest.param(pandas(X.iloc[[0, 2]]), {"x", "id", "k"}, id="rows that were picked"),
        pytest.param(pandas(X.set_index("id")), {"x", "k"}, id="a named one"),
        pytest.param(pandas(X.set_index(["id", "k"])), {"x"}, id="of two levels"),
        pytest.param(pandas(X.set_index(["id", "k"]).rename_axis([None, None])), {"x"}, id="of two without names"),
        pytest.param(pandas(X.set_index(pd.date_range("2020", periods=3))), {"x", "id", "k"}, id="of days"),
        pytest.param(pandas(X.iloc[[0, 2]], index=False), {"x", "id", "k"}, id="none written"),
        pytest.param(parquet({"x": [1], "__index_level_0__": [5]}), {"x"}, id="copied by another writer"),
    ],
)  # fmt: skip
def test_an_index_of_pandas_is_no_feature(tmp_path: Path, content: bytes, columns: set[str]) -> None:
    files = span(tmp_path, "parquet", [content])
    assert {name for row in rows_of(files) for name in row} == columns
    left = set(pq.read_schema(io.BytesIO(content)).names) - columns
    assert all(f"column {name} is the index of a pandas DataFrame and no feature" in files.notes.text for name in left)


def test_an_index_that_the_spec_names_is_a_feature(tmp_path: Path) -> None:
    content = pandas(X.set_index("id"))
    for spec in ({"types": {"id": "int"}}, {"split_by": "id"}):
        files = span(tmp_path, "parquet", [content], **spec)
        assert [row["id"] for row in rows_of(files)] == [[7], [8], [9]]
        assert not files.notes.text


def test_a_file_of_nothing_but_an_index_is_refused(tmp_path: Path) -> None:
    said = refusal(span(tmp_path, "parquet", [pandas(X[["id"]].set_index("id"))]))
    assert said.startswith("1.parquet: the only columns are the index of a pandas DataFrame: id | Write columns")


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b"{}", json.dumps({"index_columns": 7}).encode(), b"\xff"])
def test_a_note_of_pandas_that_cannot_be_read_says_nothing(tmp_path: Path, said: bytes) -> None:
    table = pa.table({"day": [date(2023, 12, 9)]}).replace_schema_metadata({b"pandas": said})
    assert rows_of(span(tmp_path, "parquet", [parquet(table)])) == [{"day": [19700]}]
