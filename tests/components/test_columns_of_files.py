"""Files of a span are read together where their columns mean the same, and refused where they do not.

Each type of Arrow and of Avro is paired with each other one. What `pyarrow.unify_schemas` takes must be read.
"""

from collections.abc import Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ctd.specs.nodes import ExampleGenSpec
from tests.components.table_files import avro, parquet, refusal, rows_of, span

pytestmark = pytest.mark.tf

NOON = datetime(2023, 12, 9, 12, tzinfo=timezone.utc)
# By what they mean: the types of Arrow with a value of each.
ARROW: Mapping[str, list[tuple[pa.DataType, Any]]] = {
    "nothing": [(pa.null(), None)],
    "boolean": [(pa.bool_(), True)],
    "integer": [
        *((type_(), 1) for type_ in (pa.int8, pa.int16, pa.int32, pa.int64)),
        *((type_(), 1) for type_ in (pa.uint8, pa.uint16, pa.uint32, pa.uint64)),
        (pa.decimal128(12, 0), Decimal(1)),
        (pa.decimal256(50, 0), Decimal(1)),
    ],
    "number": [(pa.float32(), 1.0), (pa.float64(), 1.0), (pa.decimal128(9, 2), Decimal("1.00"))],
    "text": [(pa.string(), "x"), (pa.large_string(), "x"), (pa.dictionary(pa.int32(), pa.string()), "x")],
    "bytes": [(pa.binary(), b"x"), (pa.large_binary(), b"x"), (pa.binary(1), b"x")],
    "date": [(pa.date32(), NOON.date()), (pa.date64(), NOON.date())],
    "timestamp": [
        *((pa.timestamp(unit, "UTC"), NOON) for unit in ("ms", "us", "ns")),
        (pa.timestamp("us", "Europe/Berlin"), NOON),
    ],
    "local timestamp": [(pa.timestamp(unit), NOON.replace(tzinfo=None)) for unit in ("s", "ms", "us", "ns")],
    "integers": [(pa.list_(pa.int64()), [1]), (pa.large_list(pa.int32()), [1]), (pa.list_(pa.int64(), 1), [1])],
    "pairs of integers": [(pa.list_(pa.int64(), 2), [1, 2])],
    "numbers": [(pa.list_(pa.float32()), [1.0])],
    "texts": [(pa.list_(pa.string()), ["x"])],
    "dates": [(pa.list_(pa.date32()), [NOON.date()])],
    "timestamps": [(pa.list_(pa.timestamp("us", "UTC")), [NOON])],
}
AVRO: Mapping[str, list[tuple[Any, Any]]] = {
    "nothing": [("null", None)],
    "boolean": [("boolean", True)],
    "integer": [("int", 1), ("long", 1), (["null", "long"], 1), (["int", "long"], 1)],
    "number": [
        ("float", 1.0),
        ("double", 1.0),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, Decimal("1.00")),
    ],
    "text": [
        ("string", "x"),
        ({"type": "enum", "name": "E", "symbols": ["x"]}, "x"),
        ({"type": "string", "logicalType": "uuid"}, "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
    ],
    "bytes": [("bytes", b"x"), ({"type": "fixed", "name": "F", "size": 1}, b"x")],
    "date": [({"type": "int", "logicalType": "date"}, NOON.date())],
    "timestamp": [
        ({"type": "long", "logicalType": "timestamp-millis"}, NOON),
        ({"type": "long", "logicalType": "timestamp-micros"}, NOON),
        ({"type": "long", "logicalType": "timestamp-nanos"}, 10**18),
    ],
    "local timestamp": [
        ({"type": "long", "logicalType": "local-timestamp-millis"}, NOON),
        ({"type": "long", "logicalType": "local-timestamp-nanos"}, 10**18),
    ],
    "integers": [({"type": "array", "items": "long"}, [1])],
    "numbers": [({"type": "array", "items": "double"}, [1.0])],
    "texts": [({"type": "array", "items": "string"}, ["x"])],
    "dates": [({"type": "array", "items": {"type": "int", "logicalType": "date"}}, [NOON.date()])],
}
# Different words for the same: text and bytes (some writers call all text bytes), lists of any or of one size.
SAME = ({"text", "bytes"}, {"integers", "pairs of integers"})


def same(one: str, other: str, first: object, second: object) -> bool:
    if {one, other} == {"integers", "pairs of integers"}:
        return 1 not in (getattr(first, "list_size", 0), getattr(second, "list_size", 0))
    return "nothing" in (one, other) or one == other or {one, other} in SAME


@pytest.mark.parametrize(("one", "other"), list(product(ARROW, ARROW)))
def test_files_of_parquet_are_read_together_if_their_columns_mean_the_same(tmp_path: Path, one, other) -> None:
    for (first, held), (second, also_held) in product(ARROW[one], ARROW[other]):
        tables = [pa.table({"t": pa.array([x], type_)}) for type_, x in ((first, held), (second, also_held))]
        contents = [parquet(table, version="2.6") for table in tables]
        files = span(tmp_path, "parquet", contents)
        if same(one, other, first, second):
            each = [rows_of(span(tmp_path, "parquet", [content]))[0] for content in contents]
            assert rows_of(span(tmp_path, "parquet", contents)) == each
            continue
        said = refusal(files)
        assert said.startswith("2.parquet: column t is "), (first, second)
        assert ", unlike the first file (1.parquet) | " in said
        with pytest.raises(pa.ArrowInvalid):
            pa.unify_schemas([table.schema for table in tables])


@pytest.mark.parametrize(("one", "other"), list(product(AVRO, AVRO)))
def test_files_of_avro_are_read_together_if_their_columns_mean_the_same(tmp_path: Path, one, other) -> None:
    for (first, held), (second, also_held) in product(AVRO[one], AVRO[other]):
        contents = [avro([{"t": x}], t=type_) for type_, x in ((first, held), (second, also_held))]
        if same(one, other, first, second):
            each = [rows_of(span(tmp_path, "avro", [content]))[0] for content in contents]
            assert rows_of(span(tmp_path, "avro", contents)) == each
            continue
        said = refusal(span(tmp_path, "avro", contents))
        assert said.startswith("2.avro: column t is "), (first, second)
        assert ", unlike the first file (1.avro) | " in said


def test_both_types_and_both_files_are_named(tmp_path: Path) -> None:
    days, moments = pa.array([date(2023, 12, 9)]), pa.array([NOON.replace(tzinfo=None)])
    assert refusal(span(tmp_path, "parquet", [parquet({"t": days}), parquet({"t": moments})])) == (
        "2.parquet: column t is timestamp[us], not date32[day], unlike the first file (1.parquet) | "
        "All files of a span must have the same columns of the same types."
    )


def test_a_file_that_says_nothing_does_not_hide_that_two_others_disagree(tmp_path: Path) -> None:
    contents = [parquet({"t": pa.array([x], type_)}) for x, type_ in ((None, pa.null()), (1, pa.int64()), (1.5, None))]
    assert refusal(span(tmp_path, "parquet", contents)).startswith(
        "3.parquet: column t is double, not int64, unlike 2.parquet | Write `types: {t: float}` in the example_gen"
    )


def test_timestamps_that_do_not_say_whether_they_are_in_utc_go_with_either_but_not_with_both(tmp_path: Path) -> None:
    naive = NOON.replace(tzinfo=None)
    table = pa.table({"t": [naive]})
    spark = parquet(table, use_deprecated_int96_timestamps=True)
    utc, local = parquet({"t": pa.array([NOON], pa.timestamp("us", "UTC"))}), parquet(table)
    expected = {"t": [int(NOON.timestamp())]}
    for others in ([spark], [utc], [local]):
        assert rows_of(span(tmp_path, "parquet", [spark, *others])) == [expected] * 2
    assert refusal(span(tmp_path, "parquet", [spark, utc, local])) == (
        "3.parquet: column t is timestamp[us], not timestamp[us, tz=UTC], unlike 2.parquet | Write `types: {t: int}` "
        "in the example_gen to read them as the same, or write the files with one type."
    )
    assert rows_of(span(tmp_path, "parquet", [spark, utc, local], types={"t": "int"})) == [expected] * 3


@pytest.mark.parametrize("format_", ["csv", "tfrecord", "parquet", "avro"])
def test_only_work_on_what_is_read_otherwise_now_is_done_again(format_: str) -> None:
    spec = ExampleGenSpec.model_validate({"kind": "example_gen", "input": "/data/{SPAN}", "format": format_})
    (piece,) = spec.pieces()
    assert piece.version == (2 if format_ in ("parquet", "avro") else 1)
