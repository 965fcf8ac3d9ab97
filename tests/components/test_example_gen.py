"""A span's files become the examples and splits that TFX would make of them, or an error that says where."""

import gzip
import json
import os
import resource
import struct
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tfx_bsl.coders import csv_decoder

from ctd.components.api import split_files
from ctd.components.csv_columns import infer_kind
from ctd.components.csv_examples import parse_csv, to_examples
from ctd.components.example_bytes import Kind
from ctd.components.examples_io import read_split, write_split
from ctd.components.splitting import split_by_hash
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput, InputChanged, StorageUnavailable
from ctd.core.work import SourceFile

pytestmark = pytest.mark.tf

SPEC = {"input": "/data/{SPAN}"}
ROWS = "".join(f"{i},{i / 4},word{i % 7},\n" for i in range(60))
CSV = "number,fraction,word,nothing\n" + ROWS


def tfx_examples(header: list[str], records: list[str]) -> list[bytes]:
    """What TFX makes of CSV records: tfx_bsl reads and infers, and the protos are built as its executor does."""
    parse = csv_decoder.ParseCSVLine(",")
    parse.setup()
    rows = [cells for record in records for cells, _ in parse.process(record)]
    infer = csv_decoder.ColumnTypeInferrer(header, skip_blank_lines=True)
    state = infer.create_accumulator()
    for cells in rows:
        state = infer.add_input(state, cells)
    columns = infer.extract_output(state)
    return [tfx_example(columns, cells).SerializeToString(deterministic=True) for cells in rows if cells]


def tfx_example(columns: list[csv_decoder.ColumnInfo], cells: list[bytes]) -> tf.train.Example:
    example = tf.train.Example()
    for column, cell in zip(columns, cells, strict=True):
        feature = example.features.feature[column.name]
        value = [cell] if cell else []
        match column.type:
            case csv_decoder.ColumnType.INT:
                feature.int64_list.CopyFrom(tf.train.Int64List(value=map(int, value)))
            case csv_decoder.ColumnType.FLOAT:
                feature.float_list.CopyFrom(tf.train.FloatList(value=map(float, value)))
            case csv_decoder.ColumnType.STRING:
                feature.bytes_list.CopyFrom(tf.train.BytesList(value=value))
    return example


def examples(artifact: Artifact, split: str) -> list[bytes]:
    return read_split(split_files(artifact, split))


def values(record: bytes) -> dict[str, list[object] | None]:
    found = {}
    for name, feature in tf.train.Example.FromString(record).features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = list(getattr(feature, kind).value) if kind else None
    return found


def write(folder: Path, **files: str | bytes) -> list[Path]:
    paths = []
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        paths.append(path)
    return paths


CELL = st.one_of(
    st.sampled_from(["", "0", "-1", "1_000", " 7 ", "0x10", "+5", "1e3", ".5", "nan", "inf", "-0.0", "1e300"]),
    st.sampled_from(["9223372036854775807", "9223372036854775808", "-9223372036854775808", "٣", "a b", "ü", "\t"]),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(st.characters(codec="utf-8", exclude_characters='\0\r\n",'), max_size=8),
)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1)))
def test_cells_become_the_bytes_that_tfx_makes_of_them(rows: list[list[str]]) -> None:
    header = ["trip_id", "trip", "é", "a"][: len(rows[0])]
    records = [",".join(row) + "\n" for row in rows]
    expected = tfx_examples(header, records)
    if expected:
        assert to_examples([parse_csv((",".join(header) + "\n" + "".join(records)).encode(), "x")]) == expected


@given(CELL)
def test_a_cell_is_of_the_type_that_tfx_infers(cell: str) -> None:
    names = {csv_decoder.ColumnType.UNKNOWN: Kind.BLANK}
    inferred = csv_decoder._InferValueType(cell.encode())
    assert infer_kind(cell.encode()) is names.get(inferred) or infer_kind(cell.encode()).name == inferred.name


@pytest.mark.realdata
def test_the_real_data_becomes_what_tfx_makes_of_it(real_data: Path) -> None:
    path = real_data / "data.csv"
    header, *lines = path.read_text().splitlines(keepends=True)
    expected = tfx_examples(header.strip().split(","), lines)
    made = to_examples([parse_csv(path.read_bytes(), str(path))])
    assert made == expected
    splits = split_by_hash(made, {"train": 2, "eval": 1})
    assert {name: len(records) for name, records in splits.items()} == {"train": 10036, "eval": 4966}


def test_a_span_becomes_one_artifact_with_tfx_names_and_properties(work, tmp_path) -> None:
    files = write(tmp_path, **{"a.csv": CSV})
    os.utime(files[0], ns=(0, 1_700_000_000_999_999_999))
    (made,) = work("example_gen", spec=SPEC, files=files, span=42, version=2)["examples"]
    assert (made.span, made.version) == (42, 2)
    assert made.properties["split_names"] == '["train", "eval"]'
    assert made.properties["payload_format"] == "FORMAT_TF_EXAMPLE"
    assert made.properties["file_format"] == "tfrecords_gzip"
    assert made.properties["input_fingerprint"] == (
        f"split:single_split,num_files:1,total_bytes:{len(CSV)},xor_checksum:1700000000,sum_checksum:1700000000"
    )
    counts = json.loads(str(made.properties["num_examples"]))
    assert counts == {split: len(examples(made, split)) for split in ("train", "eval")}
    assert sum(counts.values()) == 60
    assert sorted(p.name for p in Path(made.uri).rglob("*.gz")) == ["data_tfrecord-00000-of-00001.gz"] * 2
    read = list(tf.data.TFRecordDataset(list(split_files(made, "eval")), "GZIP").as_numpy_iterator())
    assert read == examples(made, "eval")


def test_blank_cells_are_missing_and_zeros_are_values(work, tmp_path) -> None:
    rows = "0,0.0,,\n,1.5,x,\n" + ROWS
    (made,) = work("example_gen", spec=SPEC, files=write(tmp_path, a="number,fraction,word,nothing\n" + rows))[
        "examples"
    ]
    found = [values(record) for split in ("train", "eval") for record in examples(made, split)]
    assert {"number": [0], "fraction": [0.0], "word": [], "nothing": None} in found
    assert {"number": [], "fraction": [1.5], "word": [b"x"], "nothing": None} in found


def test_one_fraction_makes_the_column_one_of_fractions_in_all_files(work, tmp_path) -> None:
    files = write(tmp_path, a=CSV, b="number,fraction,word,nothing\n0.5,1,x,\n")
    (made,) = work("example_gen", spec=SPEC, files=files)["examples"]
    kinds = {
        tf.train.Example.FromString(record).features.feature["number"].WhichOneof("kind")
        for split in ("train", "eval")
        for record in examples(made, split)
    }
    assert kinds == {"float_list"}


def test_quoted_cells_may_hold_commas_quotes_and_line_breaks() -> None:
    file = parse_csv(b'a,b\r\n"x, ""y""\r\nz",2\r\n\r\n3,4', "f")
    assert file.rows == [['x, "y"\r\nz', "2"], ["3", "4"]]


def test_a_byte_order_mark_is_not_part_of_a_name() -> None:
    assert parse_csv("\ufeffa,b\n1,2\n".encode(), "f").header == ("a", "b")


def test_splits_take_buckets_in_the_order_of_the_spec(work, tmp_path) -> None:
    files = write(tmp_path, a=CSV)
    one = work("example_gen", spec={**SPEC, "splits": {"train": 2, "eval": 1}}, files=files)["examples"][0]
    other = work("example_gen", spec={**SPEC, "splits": {"eval": 1, "train": 2}}, files=files)["examples"][0]
    assert other.properties["split_names"] == '["eval", "train"]'
    assert examples(one, "train") != examples(other, "train")
    assert one.digest != other.digest


def test_equal_data_gives_equal_bytes_and_digest_and_other_data_another_digest(work, tmp_path) -> None:
    files = write(tmp_path, a=CSV)
    one, again = (work("example_gen", spec=SPEC, files=files)["examples"][0] for _ in range(2))
    assert one.digest == again.digest
    for split in ("train", "eval"):
        (first,), (second,) = split_files(one, split), split_files(again, split)
        assert Path(first).read_bytes() == Path(second).read_bytes()
    files = write(tmp_path, a=CSV.replace("word3", "word8", 1))
    assert work("example_gen", spec=SPEC, files=files)["examples"][0].digest != one.digest


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param({}, "no files", id="no files"),
        pytest.param({"a": ""}, "a: the file is empty", id="empty file"),
        pytest.param({"a": "x,y\n"}, "no examples in", id="header only"),
        pytest.param({"a": "\n1,2\n"}, "a:1: no header", id="blank header"),
        pytest.param({"a": "x,x\n1,2\n"}, "a:1: column 'x' is there twice", id="a name twice"),
        pytest.param({"a": "x;y\n1;2\n"}, "a:1: one column, called 'x;y'", id="another separator"),
        pytest.param({"a": CSV, "b": "number,fraction,words,nothing\n1,1,x,\n"},
                     "b:1: no column word and a new column words", id="another header"),
        pytest.param({"a": CSV, "b": "fraction,number,word,nothing\n1,1,x,\n"}, "b:1: columns in another order",
                     id="another order"),
        pytest.param({"a": 'x,y\n1,2\n"a\nb",2\n1,2,3\n'}, "a:5: 3 cells in 2 columns", id="too many cells"),
        pytest.param({"a": "x,y\n1,2\n1\n"}, "a:3: 1 cells in 2 columns", id="too few cells"),
        pytest.param({"a": b"x,y\n1,2\n\xff\xfe,3\n"}, "a:3: not UTF-8 text", id="undecodable"),
        pytest.param({"a": b"x,y\n1,\x00\n"}, "a:2: a zero byte", id="binary"),
        pytest.param({"a": gzip.compress(CSV.encode())[:-9]}, "a: damaged gzip: Truncated", id="half a gzip"),
        pytest.param({"a": 'x,y\n1,2\n1,"2\n3,4\n'}, "a:3: unbalanced quotes", id="unbalanced quote"),
        pytest.param({"a": 'x,y\n1,2\n1"2,"3\n3,4\n'}, "a:3: unbalanced quotes", id="quote that never closes"),
        pytest.param({"a": "x,y\n1,2\r3,4\n"}, "a:2: new-line character", id="old line ends"),
    ],
)  # fmt: skip
def test_bad_csv_is_refused_with_place_and_hint(work, tmp_path, files, said) -> None:
    with pytest.raises(BadInput) as error:
        work("example_gen", spec=SPEC, files=write(tmp_path, **files))
    assert said in error.value.message
    assert error.value.hint
    assert not error.value.retryable


def test_a_file_that_is_not_what_the_listing_saw_is_tried_again_later(work, tmp_path) -> None:
    (path,) = write(tmp_path, a=CSV)
    stat = path.stat()
    for seen in (
        SourceFile(str(path), stat.st_size - 1, stat.st_mtime_ns),
        SourceFile(str(path), stat.st_size, stat.st_mtime_ns - 1),
        SourceFile(str(tmp_path / "gone"), 1, 1),
    ):
        with pytest.raises(InputChanged) as error:
            work("example_gen", spec=SPEC, files=[seen])
        assert error.value.retryable


# TFRecords


def records() -> list[bytes]:
    return to_examples([parse_csv(CSV.encode(), "x")])


def write_records(path: Path, content: list[bytes], compression: str = "") -> Path:
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in content:
            writer.write(record)
    return path


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_tfrecords_give_the_same_examples_as_csv_whatever_their_compression(work, tmp_path, compression) -> None:
    file = write_records(tmp_path / "data.tfrecord", records(), compression)
    (made,) = work("example_gen", spec={**SPEC, "format": "tfrecord"}, files=[file])["examples"]
    (as_csv,) = work("example_gen", spec=SPEC, files=write(tmp_path, a=CSV))["examples"]
    assert made.digest == as_csv.digest


def test_the_order_of_features_within_a_record_does_not_matter(work, tmp_path) -> None:
    def turned(record: bytes) -> bytes:
        features = tf.train.Example.FromString(record).features.feature
        single = [tf.train.Features(feature={name: features[name]}) for name in sorted(features, reverse=True)]
        joint = b"".join(message.SerializeToString() for message in single)
        return b"\n" + bytes([len(joint)]) + joint

    spec = {**SPEC, "format": "tfrecord"}
    straight = write_records(tmp_path / "a", records())
    reverse = write_records(tmp_path / "b", [turned(record) for record in records()])
    assert straight.read_bytes() != reverse.read_bytes()
    digests = {work("example_gen", spec=spec, files=[file])["examples"][0].digest for file in (straight, reverse)}
    assert len(digests) == 1


def test_a_disk_that_is_full_is_named_and_tried_again(tmp_path) -> None:
    (before, most) = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most))
    try:
        with pytest.raises(
            StorageUnavailable, match=r"cannot write .*Split-train/data_tfrecord.*File too large"
        ) as error:
            write_split(tmp_path, "train", [os.urandom(1000) for _ in range(10_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert error.value.retryable


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(lambda b: b"", "no examples in", id="empty"),
        pytest.param(lambda b: b"garbage" * 9, "record 1 is damaged: no TFRecord begins here", id="garbage"),
        pytest.param(lambda b: b[:-1], "record 60 is damaged: the file ends within it", id="cut off"),
        pytest.param(lambda b: b + b"x", "record 61 is damaged: no TFRecord begins here", id="something after it"),
        pytest.param(lambda b: b[:20] + bytes([b[20] ^ 1]) + b[21:], "record 1 is damaged: its checksum", id="a bit"),
        pytest.param(lambda b: gzip.compress(b)[:-9], "damaged gzip", id="gzip cut off"),
    ],
)
def test_damaged_tfrecords_are_refused_with_file_and_record(work, tmp_path, damage, said) -> None:
    file = write_records(tmp_path / "data", records())
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(BadInput) as error:
        work("example_gen", spec={**SPEC, "format": "tfrecord"}, files=[file])
    assert said in error.value.message
    assert str(file) in error.value.message
    assert error.value.hint


def test_records_that_are_not_examples_are_refused_with_their_number(work, tmp_path) -> None:
    sequence = tf.train.SequenceExample()
    sequence.feature_lists.feature_list["words"].feature.add().bytes_list.value.append(b"x")
    for other in (b"\xff\xff", sequence.SerializeToString(), struct.pack("<q", 7)):
        file = write_records(tmp_path / "data", [*records(), other])
        with pytest.raises(BadInput, match=r"record 61 is not a tf.Example"):
            work("example_gen", spec={**SPEC, "format": "tfrecord"}, files=[file])
