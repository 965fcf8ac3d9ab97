"""`types` of Parquet and Avro: a column is of one kind, whatever the writer of each day made of it."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.components.table_files import avro, parquet, refusal, rows_of, span

pytestmark = pytest.mark.tf

ID = bytes(15) + b"\5"


def column(value: Any, type_: pa.DataType) -> bytes:
    return parquet({"x": pa.array([value, None], type_)})


@pytest.mark.parametrize(
    ("kind", "value", "type_", "expected"),
    [
        ("float", 7, pa.int64(), 7.0),
        ("float", 7.5, pa.float32(), 7.5),
        ("float", True, pa.bool_(), 1.0),
        ("float", "7.5", pa.string(), 7.5),
        ("float", Decimal("7.5"), pa.decimal128(9, 1), 7.5),
        ("float", Decimal(7), pa.decimal128(9, 0), 7.0),
        ("float", [1, 2], pa.list_(pa.int64()), [1.0, 2.0]),
        ("float", 2**64 - 1, pa.uint64(), float(np.float32(2**64 - 1))),
        ("int", 7.0, pa.float64(), 7),
        ("int", 2.0**53, pa.float64(), 2**53),
        ("int", True, pa.bool_(), 1),
        ("int", "-7", pa.string(), -7),
        ("int", Decimal("12345678901.00"), pa.decimal128(14, 2), 12345678901),
        ("int", [1.0], pa.list_(pa.float32()), [1]),
        ("int", date(2023, 12, 9), pa.date32(), 19700),
        ("int", 1_700_000_000_500, pa.timestamp("ms"), 1_700_000_000),
        ("string", 7, pa.int64(), b"7"),
        ("string", 7.0, pa.float64(), b"7"),
        ("string", -0.0, pa.float64(), b"0"),
        ("string", 0.1, pa.float32(), b"0.1"),
        ("string", 1e300, pa.float64(), b"1e+300"),
        ("string", float("nan"), pa.float64(), b"nan"),
        ("string", True, pa.bool_(), b"true"),
        ("string", Decimal("123456789.10"), pa.decimal128(12, 2), b"123456789.1"),
        ("string", Decimal("100"), pa.decimal128(12, 0), b"100"),
        ("string", date(2023, 12, 9), pa.date32(), b"2023-12-09"),
        ("string", b"\xff", pa.binary(), b"\xff"),
        ("string", "x", pa.dictionary(pa.int8(), pa.string()), b"x"),
        ("string", [1, 2], pa.list_(pa.int64()), [b"1", b"2"]),
        ("string", None, pa.null(), None),
    ],
)
def test_a_column_of_parquet_becomes_what_the_spec_says(tmp_path: Path, kind, value, type_, expected) -> None:
    files = span(tmp_path, "parquet", [column(value, type_)], types={"x": kind})
    wanted = expected if isinstance(expected, list) or expected is None else [expected]
    assert rows_of(files) == [{"x": wanted}, {"x": None}]


@pytest.mark.parametrize(
    ("kind", "value", "type_", "said"),
    [
        ("int", 7.5, pa.float64(), "row 1: column x (double) has 7.5: it is not a whole number"),
        ("int", float("inf"), pa.float64(), "row 1: column x (double) has inf: it is not a whole number"),
        ("int", Decimal("7.5"), pa.decimal128(9, 1), "row 1: column x (decimal128(9, 1)) has 7.5: it is not a whole"),
        ("int", "seven", pa.string(), "row 1: column x (string) has seven: invalid literal for int()"),
        ("int", 2.0**63, pa.float64(), "row 1: column x (double) has 9.223372036854776e+18"),
        ("float", "seven", pa.string(), "row 1: column x (string) has seven: could not convert"),
        ("int", b"7", pa.binary(), "column x is of type binary, which cannot become int"),
        ("string", 1, pa.timestamp("us"), "column x is of type timestamp[us], which cannot become string"),
    ],
)
def test_what_cannot_become_it_is_named(tmp_path: Path, kind, value, type_, said: str) -> None:
    message = refusal(span(tmp_path, "parquet", [column(value, type_)], types={"x": kind}))
    assert message.startswith("1.parquet")
    assert said in message
    assert "`types:` of the example_gen" in message


@pytest.mark.parametrize("kind", ["int", "float", "string"])
def test_a_column_that_is_of_integers_on_one_day_and_floating_on_another(tmp_path: Path, kind: str) -> None:
    expected = {"int": [7], "float": [7.0], "string": [b"7"]}[kind]
    days = [parquet({"x": pa.array([7], type_)}) for type_ in (pa.int64(), pa.float64(), pa.int8(), pa.float32())]
    assert rows_of(span(tmp_path, "parquet", days, types={"x": kind})) == [{"x": expected}] * 4
    days = [avro([{"x": 7}], x=type_) for type_ in ("long", "double", ["null", "int"], ["long", "double"])]
    assert rows_of(span(tmp_path, "avro", days, types={"x": kind})) == [{"x": expected}] * 4


def test_the_hint_for_files_that_disagree_is_such_a_type(tmp_path: Path) -> None:
    days = [parquet({"x": [7], "y": ["a"]}), parquet({"x": [7.5], "y": [1]})]
    hint = "Write `types: {x: float, y: string}` in the example_gen to read them as the same"
    assert hint in refusal(span(tmp_path, "parquet", days))
    found = rows_of(span(tmp_path, "parquet", days, types={"x": "float", "y": "string"}))
    assert found == [{"x": [7.0], "y": [b"a"]}, {"x": [7.5], "y": [b"1"]}]


def test_a_type_does_not_make_the_same_of_days_and_seconds(tmp_path: Path) -> None:
    days = [column(date(2023, 12, 9), pa.date32()), column(10**9, pa.timestamp("s"))]
    assert "2.parquet: column x is " in refusal(span(tmp_path, "parquet", days, types={"x": "int"}))


def test_unions_of_plain_types_need_a_type(tmp_path: Path) -> None:
    data = avro([{"x": 7}, {"x": "8"}, {"x": None}], x=["null", "int", "string"])
    assert "column x is of type null or int or string, which no feature" in refusal(span(tmp_path, "avro", [data]))
    for kind, found in {"int": [7, 8], "float": [7.0, 8.0], "string": [b"7", b"8"]}.items():
        assert rows_of(span(tmp_path, "avro", [data], types={"x": kind})) == [
            {"x": [found[0]]},
            {"x": [found[1]]},
            {"x": None},
        ]


def test_a_uuid_is_its_usual_text_if_the_spec_says_so(tmp_path: Path) -> None:
    written = (Path(__file__).parent / "parquet" / "duckdb_uuid.parquet").read_bytes()
    text = b"00000000-0000-0000-0000-000000000005"
    assert rows_of(span(tmp_path, "parquet", [written], types={"a": "string"})) == [{"a": [text]}]
    fixed = {"type": "fixed", "name": "F", "size": 16, "logicalType": "uuid"}
    days = [avro([{"x": ID}], x=fixed), avro([{"x": text.decode()}], x={"type": "string", "logicalType": "uuid"})]
    assert rows_of(span(tmp_path, "avro", days, types={"x": "string"})) == [{"x": [text]}] * 2


@pytest.mark.parametrize("format_", ["parquet", "avro"])
def test_a_type_for_a_column_that_is_not_there_is_refused(tmp_path: Path, format_: str) -> None:
    content = parquet({"x": [1]}) if format_ == "parquet" else avro([{"x": 1}], x="long")
    said = refusal(span(tmp_path, format_, [content], types={"y": "int"}))
    assert said == (
        f"1.{format_}: no column y, of which `types` gives the type | The columns are x: mend `types:` of the "
        "example_gen, or the file."
    )


def test_integers_that_lose_digits_as_floats_are_told_of(tmp_path: Path) -> None:
    files = span(tmp_path, "parquet", [parquet({"x": [2**24 + 1, 1]})], types={"x": "float"})
    assert rows_of(files) == [{"x": [float(2**24)]}, {"x": [1.0]}]
    assert files.notes.text.startswith("column x (int64) loses digits: 16777217 is 16777216 in the 32 bits")
