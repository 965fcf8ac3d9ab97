"""Each logical type of Avro's specification is converted or refused, as fastavro reads it where it can."""

import io
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pytest

from ctd.core.errors import BadInput
from tests.components.table_files import avro, refusal, rows_of, span

pytestmark = pytest.mark.tf

ID = UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")
MOMENT = datetime(2023, 11, 14, 22, 13, 20, 999_000, timezone.utc)
EARLY = datetime(1969, 12, 31, 23, 59, 59, 500_000, timezone.utc)


def logical(base: str, name: str, **more: Any) -> dict[str, Any]:
    named = {"name": "Fixed"} if base == "fixed" else {}
    return {"type": base, "logicalType": name, **named, **more}


def big_decimal(unscaled: int, scale: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "bytes", unscaled.to_bytes(9, "big", signed=True))
    fastavro.schemaless_writer(out, "int", scale)
    return out.getvalue()


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        (logical("int", "date"), date(2023, 12, 9), 19700),
        (logical("int", "date"), date(1, 1, 1), -719162),
        (logical("int", "date"), 2**31 - 1, 2**31 - 1),
        (logical("long", "timestamp-millis"), MOMENT, 1_700_000_000),
        (logical("long", "timestamp-micros"), EARLY, -1),
        (logical("long", "timestamp-nanos"), 1_700_000_000_000_000_000, 1_700_000_000),
        (logical("long", "timestamp-nanos"), -1, -1),
        (logical("long", "timestamp-millis"), 253402300800_000, 253402300800),  # the year 10000
        (logical("long", "timestamp-micros"), 2**63 - 1, (2**63 - 1) // 10**6),
        (logical("long", "local-timestamp-millis"), MOMENT.replace(tzinfo=None), 1_700_000_000),
        (logical("long", "local-timestamp-micros"), -(2**63), -(2**63) // 10**6),
        (logical("long", "local-timestamp-nanos"), 1_700_000_000_999_999_999, 1_700_000_000),
        (logical("bytes", "decimal", precision=9, scale=2), Decimal("-12.25"), -12.25),
        (logical("fixed", "decimal", size=8, precision=18, scale=2), Decimal("12.25"), 12.25),
        (logical("bytes", "decimal", precision=12), Decimal(12345678901), 12345678901),
        (logical("fixed", "decimal", size=8, precision=12, scale=0), Decimal(-12345678902), -12345678902),
        (logical("bytes", "big-decimal"), big_decimal(-1225, 2), -12.25),
        (logical("string", "uuid"), ID, str(ID).encode()),
        (logical("fixed", "uuid", size=16), ID.bytes, ID.bytes),
        # As Avro wants it, what is no valid logical type is what it is stored as.
        (logical("string", "markup"), "x", b"x"),
        (logical("long", "user-id"), 7, 7),
        (logical("fixed", "uuid", size=2), b"ab", b"ab"),
        (logical("fixed", "colour", size=2), b"ab", b"ab"),
        (logical("int", "uuid"), 7, 7),
    ],
)
def test_a_logical_type_becomes_what_the_guide_says_of_its_kind(tmp_path: Path, type_, value, expected) -> None:
    rows = [{"one": value, "some": value, "many": [value, value]}, {"one": value, "some": None, "many": []}]
    again = type_.get("name", type_)
    data = avro(rows, one=type_, some=["null", again], many={"type": "array", "items": again})
    assert rows_of(span(tmp_path, "avro", [data])) == [
        {"one": [expected], "some": [expected], "many": [expected, expected]},
        {"one": [expected], "some": None, "many": None},
    ]


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (logical("int", "time-millis"), 1),
        (logical("long", "time-micros"), 1),
        (logical("long", "time-nanos"), 1),
        (logical("fixed", "duration", size=12), bytes(12)),
        (logical("long", "timestamp-seconds"), 1),  # of no specification, and a time all the same
    ],
)
def test_what_no_feature_can_hold_is_refused_by_its_logical_type(tmp_path: Path, type_, value) -> None:
    said = refusal(span(tmp_path, "avro", [avro([{"t": value}], t=type_)]))
    assert said.startswith(f"1.avro: column t is of type {type_['logicalType']}, which no feature can hold")


@pytest.mark.parametrize(
    "attributes",
    [{}, {"precision": 0}, {"precision": 2, "scale": 3}, {"precision": 4, "scale": -1}, {"precision": "9"}],
)
def test_a_decimal_that_avro_takes_for_none_is_bytes(tmp_path: Path, attributes: dict[str, Any]) -> None:
    known = avro([{"x": b"\1\2"}], x={"type": "bytes", "logicalKind": "decimal", **attributes})
    data = known.replace(b"logicalKind", b"logicalType")
    assert rows_of(span(tmp_path, "avro", [data])) == [{"x": [b"\1\2"]}]


def test_a_union_of_a_time_and_a_number_is_refused(tmp_path: Path) -> None:
    data = avro([{"x": 1}], x=[logical("int", "date"), "long"])
    assert "column x is of type date or long, which no feature" in refusal(span(tmp_path, "avro", [data]))


def test_names_are_resolved_with_their_namespaces(tmp_path: Path) -> None:
    schema = {
        "type": "record",
        "name": "Row",
        "namespace": "of.us",
        "fields": [
            {"name": "a", "type": logical("fixed", "decimal", size=4, precision=9) | {"name": "Amount"}},
            {"name": "b", "type": "Amount"},
            {"name": "c", "type": ["null", "of.us.Amount"]},
        ],
    }  # fmt: skip
    out = io.BytesIO()
    fastavro.writer(out, schema, [{name: Decimal(7) for name in "abc"}], metadata={"made": "by hand"})
    assert rows_of(span(tmp_path, "avro", [out.getvalue()])) == [{"a": [7], "b": [7], "c": [7]}]


def test_a_decimal_that_loses_digits_is_told_of(tmp_path: Path) -> None:
    data = avro([{"x": Decimal("123456789.01")}] * 2, x=logical("bytes", "decimal", precision=12, scale=2))
    files = span(tmp_path, "avro", [data, data])
    rows_of(files)
    assert files.notes.text.startswith("column x (decimal(12, 2)) loses digits: 123456789.01 is 123456792 in ")


def test_a_big_decimal_that_is_none_is_named_with_its_row(tmp_path: Path) -> None:
    data = avro([{"x": big_decimal(1, 0)}, {"x": b""}], x=logical("bytes", "big-decimal"))
    files = span(tmp_path, "avro", [data])
    with pytest.raises(BadInput, match="row 2: column x"):
        rows_of(files)
