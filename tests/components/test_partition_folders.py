"""Hive's folders below a span are columns, as pyarrow has them, in every format and however they are found."""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from ctd.core.artifacts import Artifact
from ctd.core.completeness import Marker
from ctd.core.errors import BadInput
from ctd.core.spans import ObservedSpan, SpanPattern
from ctd.core.timing import ManualClock
from ctd.core.work import SourceFile
from ctd.storage.listing import SpanLister
from tests.components.test_example_formats import avro, features

pytestmark = pytest.mark.tf

Rows = Sequence[Mapping[str, Any]]
X: Rows = [{"x": 1}, {"x": 2}]


def parquet(rows: Rows) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def csv(rows: Rows) -> bytes:
    lines = [list(rows[0]), *(["" if cell is None else str(cell) for cell in row.values()] for row in rows)]
    return "".join(",".join(line) + "\n" for line in lines).encode()


def of_avro(rows: Rows) -> bytes:
    return avro(rows, **{name: "long" if isinstance(cell, int) else "string" for name, cell in rows[0].items()})


def of_tfrecord(rows: Rows, path: Path, payload: str = "example") -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            message = tf.train.SequenceExample() if payload == "sequence_example" else tf.train.Example()
            held = message.context if payload == "sequence_example" else message.features
            for name, cell in row.items():
                if isinstance(cell, int):
                    held.feature[name].int64_list.value.append(cell)
                else:
                    held.feature[name].bytes_list.value.append(cell.encode())
            if payload == "sequence_example":
                message.feature_lists.feature_list["words"].feature.add().bytes_list.value.append(b"a")
            writer.write(message.SerializeToString())


def put(folder: Path, format_: str, parts: Mapping[str, Rows], payload: str = "example") -> None:
    """Parts of a span by their paths, and its marker."""
    for name, rows in parts.items():
        path = folder / f"{name}.{format_}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if format_ == "tfrecord":
            of_tfrecord(rows, path, payload)
        else:
            path.write_bytes({"parquet": parquet, "csv": csv, "avro": of_avro}[format_](rows))
    (folder / "_SUCCESS").touch()


def listed(folder: Path, pattern: str = "{SPAN}") -> ObservedSpan:
    [span] = SpanLister(SpanPattern.parse(f"{folder}/{pattern}"), Marker("_SUCCESS"), ManualClock()).scan().spans
    assert span.complete, span.because
    return span


@pytest.fixture
def read(work, tmp_path):
    """The features of span 1 as it is listed and read; `put` must have written it."""

    def read(format_: str, pattern: str = "{SPAN}", **said: Any) -> list[dict[str, Any]]:
        return in_order(features(read.artifact(format_, pattern, **said)))

    def artifact(format_: str, pattern: str = "{SPAN}", **said: Any) -> Artifact:
        files: Iterable[SourceFile] = listed(tmp_path, pattern).files
        spec = {"input": "/data/{SPAN}", "format": format_, "splits": {"all": 1}, **said}
        return work("example_gen", spec=spec, files=files)["examples"][0]

    read.artifact = artifact
    return read


def in_order(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return sorted((dict(sorted(row.items())) for row in rows), key=repr)


def with_values(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without features that have no value: CSV cells keep their kind, tables' do not, records go without."""
    return in_order({name: cell for name, cell in row.items() if cell} for row in rows)


def as_pyarrow_reads(folder: Path) -> list[dict[str, Any]]:
    """The same of pyarrow: each value as a feature has it."""
    table = pa.dataset.dataset(str(folder), format="parquet", partitioning="hive").to_table()

    def feature(cell: Any) -> Any:
        return None if cell in (None, "") else [cell.encode() if isinstance(cell, str) else cell]

    return in_order({name: feature(cell) for name, cell in row.items()} for row in table.to_pylist())


LAYOUTS: Mapping[str, Sequence[str]] = {
    "text": ["country=US/0", "country=DE/0", "country=DE/1"],
    "whole numbers": ["store=01/0", "store=20/0", "store=-5/0"],
    "numbers and text": ["store=1/0", "store=x/0"],
    "a date": ["day=2024-03-05/0"],
    "several levels": ["country=US/day=3/0", "country=US/day=4/0", "country=DE/day=3/0"],
    "no value": ["store=__HIVE_DEFAULT_PARTITION__/0", "store=3/0"],
    "an empty value": ["city=/0", "city=Rome/0"],
    "escaped": ["city=New%20York%2FUSA/0", "city=K%C3%B6ln/0", "city=a=b/0", "city=100%/0", "city=a+b/0"],
    "not escaped": ["city=New York/0", "city=Köln/0"],
    "folders of different depth": ["country=US/day=3/0", "country=US/0", "0"],
}


@pytest.mark.parametrize("pattern", ["{SPAN}", "{SPAN}/*"])
@pytest.mark.parametrize("layout", [pytest.param(layout, id=name) for name, layout in LAYOUTS.items()])
def test_folders_are_the_columns_that_pyarrow_reads(read, tmp_path, layout, pattern) -> None:
    put(tmp_path / "1", "parquet", {name: [{"x": number}] for number, name in enumerate(layout)})
    assert read("parquet", pattern) == as_pyarrow_reads(tmp_path / "1")


@pytest.mark.parametrize("format_", ["csv", "avro", "tfrecord"])
@pytest.mark.parametrize("layout", [pytest.param(layout, id=name) for name, layout in LAYOUTS.items()])
def test_every_format_has_the_columns_of_folders(read, tmp_path, layout, format_) -> None:
    put(tmp_path / "1", "parquet", {name: [{"x": number}] for number, name in enumerate(layout)})
    expected = as_pyarrow_reads(tmp_path / "1")
    for path in (tmp_path / "1").rglob("*.parquet"):
        path.unlink()
    put(tmp_path / "1", format_, {name: [{"x": number}] for number, name in enumerate(layout)})
    assert with_values(read(format_)) == with_values(expected)


def test_fractions_are_numbers_and_large_numbers_stay_whole(read, tmp_path) -> None:
    """As Spark has them; for pyarrow both are text."""
    put(tmp_path / "1", "parquet", {"share=0.5/0": X[:1], "share=1/0": X[1:]})
    assert [row["share"] for row in read("parquet")] == [[0.5], [1.0]]
    put(tmp_path / "1", "parquet", {"share=0.5/id=12345678901/0": X[:1]})
    assert [12345678901] in [row["id"] for row in read("parquet")]


@pytest.mark.parametrize("pattern", ["{SPAN}/*/*", "{SPAN}/*/*.parquet", "{SPAN}/country=*/*.parquet"])
def test_a_pattern_that_names_folders_openly_finds_columns_too(read, tmp_path, pattern) -> None:
    put(tmp_path / "1", "parquet", {"country=US/0": X, "country=DE/0": X})
    assert read("parquet", pattern) == as_pyarrow_reads(tmp_path / "1")


def test_a_folder_that_the_pattern_names_outright_chooses_data_and_is_no_column(read, tmp_path) -> None:
    put(tmp_path / "1", "parquet", {"country=US/day=3/0": X, "country=DE/day=4/0": X})
    assert read("parquet", "{SPAN}/country=US") == as_pyarrow_reads(tmp_path / "1" / "country=US")


def test_levels_below_those_that_the_pattern_names_are_columns_too(read, tmp_path) -> None:
    put(tmp_path / "1", "parquet", {"a=1/b=2/c=3/0": X})
    for pattern in ("{SPAN}/*", "{SPAN}/*/*", "{SPAN}/a=*/*/*", "{SPAN}/*/*/*/*"):
        assert read("parquet", pattern) == as_pyarrow_reads(tmp_path / "1")


@pytest.mark.parametrize("format_", ["parquet", "csv", "avro", "tfrecord"])
def test_a_folder_stands_instead_of_a_column_of_the_file(read, tmp_path, format_) -> None:
    put(
        tmp_path / "1",
        format_,
        {"country=US/0": [{"country": "ZZ", "x": 1}], "country=DE/0": [{"country": "DE", "x": 2}]},
    )
    assert read(format_) == [{"country": [b"DE"], "x": [2]}, {"country": [b"US"], "x": [1]}]
    if format_ == "parquet":
        assert read(format_) == as_pyarrow_reads(tmp_path / "1")


@pytest.mark.parametrize("format_", ["parquet", "csv", "avro", "tfrecord"])
def test_a_file_without_the_folder_keeps_its_own_column(read, tmp_path, format_) -> None:
    put(tmp_path / "1", format_, {"country=US/0": [{"x": 1}], "0": [{"country": "ZZ", "x": 2}]})
    assert read(format_) == [{"country": [b"US"], "x": [1]}, {"country": [b"ZZ"], "x": [2]}]
    if format_ == "parquet":
        assert read(format_) == as_pyarrow_reads(tmp_path / "1")


@pytest.mark.parametrize("format_", ["parquet", "avro"])
def test_a_column_of_another_type_than_the_folders_is_refused(read, tmp_path, format_) -> None:
    put(tmp_path / "1", format_, {"country=US/0": [{"x": 1}], "0": [{"country": 3, "x": 2}]})
    with pytest.raises(BadInput, match=f"0.{format_}: column country is int, and string in the folders country=..."):
        read(format_)
    if format_ == "parquet":
        with pytest.raises(pa.ArrowInvalid, match="incompatible types"):
            as_pyarrow_reads(tmp_path / "1")


def test_a_folder_without_any_value_is_a_feature_without_a_kind(read, tmp_path) -> None:
    put(tmp_path / "1", "parquet", {"country=__HIVE_DEFAULT_PARTITION__/0": X[:1]})
    assert read("parquet") == [{"country": None, "x": [1]}]


def test_what_one_path_says_twice_is_refused(read, tmp_path) -> None:
    put(tmp_path / "1", "parquet", {"c=1/c=2/0": X})
    with pytest.raises(BadInput, match="two of its folders say what c is"):
        read("parquet")


def test_a_folder_whose_name_is_no_text_is_refused(read, tmp_path) -> None:
    put(tmp_path / "1", "parquet", {"c=%FF/0": X})
    with pytest.raises(BadInput, match=r"the name of its folder 'c=%FF' is not UTF-8"):
        read("parquet")


def test_sequence_examples_have_the_columns_in_their_context(read, tmp_path) -> None:
    put(tmp_path / "1", "tfrecord", {"country=US/0": [{"x": 1}]}, payload="sequence_example")
    artifact = read.artifact("tfrecord", payload="sequence_example")
    [record] = tf.data.TFRecordDataset(
        [str(path) for path in Path(artifact.uri).rglob("*.gz")], "GZIP"
    ).as_numpy_iterator()
    context = tf.train.SequenceExample.FromString(record).context.feature
    assert {name: (f.int64_list.value or f.bytes_list.value)[0] for name, f in context.items()} == {
        "x": 1,
        "country": b"US",
    }


@pytest.mark.parametrize("format_", ["csv", "parquet", "avro"])
def test_given_types_hold_for_folders_and_files_together(read, tmp_path, format_) -> None:
    put(tmp_path / "1", format_, {"zip=01234/0": X[:1], "zip=10115/0": X[1:]})
    rows = read(format_, types={"zip": "string", "x": "float"})
    assert [(row["zip"], row["x"]) for row in rows] == [([b"01234"], [1.0]), ([b"10115"], [2.0])]
    put(tmp_path / "1", format_, {"zip=W1A/0": X[:1]})
    with pytest.raises(BadInput, match="column zip is to be int, which 'W1A' of its folder is not"):
        read(format_, types={"zip": "int"})


def test_words_for_nothing_are_no_values_of_folders(read, tmp_path) -> None:
    put(tmp_path / "1", "csv", {"store=NA/0": X[:1], "store=3/0": X[1:]})
    assert [row["store"] for row in read("csv", nulls=["NA"])] == [[3], []]


def test_examples_may_be_split_by_a_folder(read, tmp_path) -> None:
    put(tmp_path / "1", "parquet", {f"user={user}/0": X for user in range(20)})
    artifact = read.artifact("parquet", splits={"train": 1, "eval": 1}, split_by="user")
    users = [{row["user"][0] for row in features(artifact)[begin:end]} for begin, end in ((0, 10), (10, 20))]
    assert all(users)


def test_csv_files_without_a_header_and_blank_parts_have_their_folders(read, tmp_path) -> None:
    for name, text in (("country=US/0.csv", "1,2\n"), ("country=DE/0.csv", ""), ("country=DE/1.csv", "3,4\n")):
        (tmp_path / "1" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "1" / name).write_text(text)
    (tmp_path / "1" / "_SUCCESS").touch()
    found = read("csv", columns=["a", "b"])
    assert found == [{"a": [1], "b": [2], "country": [b"US"]}, {"a": [3], "b": [4], "country": [b"DE"]}]


@pytest.mark.parametrize("keys", [["city"], ["n"], ["n", "city"], ["a b", "flag"]])
def test_what_pyarrow_writes_in_folders_is_read_as_it_reads_it(read, tmp_path, keys) -> None:
    table = pa.table(
        {
            "city": ["Rome", None, "b=c", "100% é", "12"],
            "n": [1, 2, None, 4, -5],
            "a b": ["x", "y", "z", "x:y", "x?"],
            "flag": [True, False, None, True, True],
            "x": [1, 2, 3, 4, 5],
        }
    )
    pq.write_to_dataset(table, tmp_path / "1", partition_cols=keys)
    (tmp_path / "1" / "_SUCCESS").touch()
    found = [{name: (value or [None])[0] for name, value in row.items()} for row in read("parquet")]
    assert [len(row) for row in found] == [5] * 5
    written = {row["x"]: row for row in table.to_pylist()}
    for row in found:
        for name, cell in written[row["x"]].items():
            text = {True: "true", False: "false"}.get(cell, cell) if name in keys and isinstance(cell, bool) else cell
            assert row[name] == (text.encode() if isinstance(text, str) else text), (name, row)


@pytest.mark.parametrize("format_", ["csv", "parquet", "tfrecord"])
def test_on_beam_folders_are_the_same_columns(read, tmp_path, format_) -> None:
    put(tmp_path / "1", format_, {f"store={store}/0": [{"x": store}] for store in range(3)})
    if format_ == "csv":
        (tmp_path / "1/store=1/1.csv").touch()
    own, on_beam = (read.artifact(format_, beam=beam) for beam in (None, {"runner": "DirectRunner"}))
    assert on_beam.digest == own.digest
    assert [row["store"] for row in features(on_beam)] == [[0], [1], [2]]
