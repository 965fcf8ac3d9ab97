"""Every format of files becomes the same examples; splits are TFX's or the data's own; bad files are named."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0.anomalies_pb2 import Anomalies

from ctd.components.api import split_files
from ctd.components.avro_examples import read_avro
from ctd.components.csv_examples import Dialect, parse_csv
from ctd.components.example_gen import input_fingerprint
from ctd.components.examples_io import read_split
from ctd.components.metadata_files import schema_of
from ctd.components.parquet_examples import read_parquet
from ctd.components.splitting import Batch, keys_by, split_by_hash
from ctd.components.table_examples import examples_of_rows
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput
from ctd.core.work import SourceFile

pytestmark = pytest.mark.tf

CSV = "number,fraction,word\n" + "".join(f"{i},{i / 4},word{i % 7}\n" for i in range(60))
ROWS = [{"number": i, "fraction": i / 4, "word": f"word{i % 7}"} for i in range(60)]
AVRO = {"number": "long", "fraction": "double", "word": "string"}


def source(path: Path) -> SourceFile:
    """A file of a span as a listing sees it now."""
    stat = path.stat()
    return SourceFile(str(path), stat.st_size, stat.st_mtime_ns)


def parquet(rows: Sequence[Mapping[str, Any]] | pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows)), out, **options)
    return out.getvalue()


def avro(rows: Iterable[Mapping[str, Any]], codec: str = "null", **types: Any) -> bytes:
    out = io.BytesIO()
    fields = [{"name": name, "type": type_} for name, type_ in (types or AVRO).items()]
    fastavro.writer(out, {"type": "record", "name": "Row", "fields": fields}, rows, codec=codec)
    return out.getvalue()


def tfrecord(messages: Iterable[bytes], folder: Path) -> bytes:
    path = folder / "records"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for message in messages:
            writer.write(message)
    return path.read_bytes()


def sequence(number: int, words: Sequence[str] = ("a", "b")) -> tf.train.SequenceExample:
    example = tf.train.SequenceExample()
    example.context.feature["user"].int64_list.value.append(number)
    for word in words:
        example.feature_lists.feature_list["words"].feature.add().bytes_list.value.append(word.encode())
    return example


@pytest.fixture
def read(work, tmp_path):
    """`read("parquet", data, ...)` gives the artifact of a span with these files; keywords are of the spec."""

    def make(format_: str, *contents: bytes, **spec: Any) -> Artifact:
        files = []
        for number, content in enumerate(contents, 1):
            files.append(tmp_path / f"{number}.{format_}")
            files[-1].write_bytes(content)
        said = {"input": "/data/{SPAN}", "format": format_, **spec}
        return work("example_gen", spec=said, files=files)["examples"][0]

    return make


@pytest.fixture
def refused(read):
    """What is said of files that cannot be read."""

    def make(format_: str, *contents: bytes, **spec: Any) -> str:
        with pytest.raises(BadInput) as error:
            read(format_, *contents, **spec)
        assert error.value.hint
        assert not error.value.retryable
        return f"{error.value.message} {error.value.hint}"

    return make


def records(artifact: Artifact) -> dict[str, list[bytes]]:
    return {
        split: read_split(split_files(artifact, split)) for split in json.loads(str(artifact.properties["split_names"]))
    }


def features(artifact: Artifact) -> list[dict[str, list[Any] | None]]:
    """Every example's values by feature; None for a feature without a kind."""
    return [values(record) for split in records(artifact).values() for record in split]


def values(record: bytes) -> dict[str, list[Any] | None]:
    found = {}
    for name, feature in tf.train.Example.FromString(record).features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = list(getattr(feature, kind).value) if kind else None
    return found


ONE = {"splits": {"all": 1}}


# Parquet and Avro


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "bzip2", "xz"])
def test_avro_gives_the_same_examples_and_splits_as_csv(read, codec) -> None:
    assert read("avro", avro(ROWS, codec)).digest == read("csv", CSV.encode()).digest


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "zstd"])
def test_parquet_gives_the_same_examples_and_splits_as_csv(read, codec) -> None:
    made = read("parquet", parquet(ROWS, compression=codec))
    assert made.digest == read("csv", CSV.encode()).digest
    assert made.properties["payload_format"] == "FORMAT_TF_EXAMPLE"
    assert made.properties["file_format"] == "tfrecords_gzip"


def test_zeros_and_empty_texts_are_values_and_only_null_is_missing(read) -> None:
    rows = [{"i": 0, "f": 0.0, "s": "", "b": False, "n": None}, {"i": None, "f": None, "s": None, "b": None, "n": None}]
    types = {"i": ["null", "long"], "f": ["null", "double"], "s": ["null", "string"], "b": ["null", "boolean"]}
    for made in (read("parquet", parquet(rows), **ONE), read("avro", avro(rows, **types, n="null"), **ONE)):
        assert features(made) == [
            {"i": [0], "f": [0.0], "s": [b""], "b": [0], "n": None},
            dict.fromkeys("ifsbn"),
        ]


def test_every_type_of_parquet_becomes_what_is_documented(read) -> None:
    noon = -43_200_000_000 + 500_000
    table = pa.table(
        {
            "small": pa.array([-7], pa.int8()),
            "unsigned": pa.array([2**63 - 1], pa.uint64()),
            "half": pa.array([1.5], pa.float32()),
            "decimal": pa.array([Decimal("12.25")], pa.decimal128(9, 2)),
            "bytes": pa.array([b"\xff\x00"]),
            "category": pa.array(["x"]).dictionary_encode(),
            "list": pa.array([[1, 2, 3]]),
            "texts": pa.array([["a", ""]]),
            "empty": pa.array([[]], pa.list_(pa.float32())),
            "fixed": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
            "day": pa.array([date(2023, 12, 9)]),
            "seconds": pa.array([noon], pa.timestamp("us")),
            "zoned": pa.array([1_700_000_000_999], pa.timestamp("ms", "Europe/Berlin")),
            "far": pa.array([2**40], pa.timestamp("s")),
            "moments": pa.array([[noon, noon]], pa.list_(pa.timestamp("us"))),
            "span": pa.array([[noon, -noon]], pa.list_(pa.timestamp("us"), 2)),
            "categories": pa.array([["x", "y", "x"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        }
    )
    (found,) = features(read("parquet", parquet(table, version="2.6"), **ONE))
    assert found == {
        "small": [-7],
        "unsigned": [2**63 - 1],
        "half": [1.5],
        "decimal": [12.25],
        "bytes": [b"\xff\x00"],
        "category": [b"x"],
        "list": [1, 2, 3],
        "texts": [b"a", b""],
        "empty": None,
        "fixed": [1.0, 2.0],
        "day": [19700],
        "seconds": [-43200],
        "zoned": [1_700_000_000],
        "far": [2**40],
        "moments": [-43200, -43200],
        "span": [-43200, 43199],
        "categories": [b"x", b"y", b"x"],
    }


def test_every_type_of_avro_becomes_what_is_documented(read) -> None:
    color = {"type": "enum", "name": "Color", "symbols": ["red", "blue"]}
    types = {
        "whole": "int",
        "fraction": "float",
        "bytes": "bytes",
        "color": color,
        "other": "Color",
        "fixed": {"type": "fixed", "name": "Two", "size": 2},
        "list": {"type": "array", "items": "long"},
        "none": ["null", {"type": "array", "items": "string"}],
        "wide": ["int", "long"],
        "day": {"type": "int", "logicalType": "date"},
        "moment": {"type": "long", "logicalType": "timestamp-micros"},
        "local": ["null", {"type": "long", "logicalType": "local-timestamp-millis"}],
        "decimal": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        "uuid": {"type": "string", "logicalType": "uuid"},
    }
    uuid = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
    moment = datetime(2023, 11, 14, 22, 13, 20, 999_000, timezone.utc)
    row = {
        "whole": -7,
        "fraction": 1.5,
        "bytes": b"\xff\x00",
        "color": "red",
        "other": "blue",
        "fixed": b"ab",
        "list": [1, 2],
        "none": None,
        "wide": 2**40,
        "day": date(2023, 12, 9),
        "moment": moment,
        "local": moment.replace(tzinfo=None),
        "decimal": Decimal("12.25"),
        "uuid": uuid,
    }
    (found,) = features(read("avro", avro([row], **types), **ONE))
    assert found == {
        "whole": [-7],
        "fraction": [1.5],
        "bytes": [b"\xff\x00"],
        "color": [b"red"],
        "other": [b"blue"],
        "fixed": [b"ab"],
        "list": [1, 2],
        "none": None,
        "wide": [2**40],
        "day": [19700],
        "moment": [1_700_000_000],
        "local": [1_700_000_000],
        "decimal": [12.25],
        "uuid": [uuid.encode()],
    }


VALUES = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            VALUES,
            st.none() | st.floats(width=32),
            st.none() | st.text(max_size=5),
            st.none() | st.lists(st.integers(-9, 9), max_size=3),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_examples_are_the_deterministic_serializations_of_what_they_hold(rows) -> None:
    whole, fraction, text, many = zip(*rows, strict=True)
    table = pa.table(
        {
            "trip_id": pa.array(whole, pa.int64()),
            "trip": pa.array(fraction, pa.float32()),
            "é": pa.array(text, pa.string()),
            "many": pa.array(many, pa.list_(pa.int64())),
        }
    )
    columns, batches = read_parquet(io.BytesIO(parquet(table)), "x")
    (examples,) = examples_of_rows(columns, batches, "x")
    for made, (i, f, s, m) in zip(examples, rows, strict=True):
        expected = tf.train.Example()
        feature = expected.features.feature
        for name in table.column_names:
            feature[name].SetInParent()
        if i is not None:
            feature["trip_id"].int64_list.value.append(i)
        if f is not None:
            feature["trip"].float_list.value.append(f)
        if s is not None:
            feature["é"].bytes_list.value.append(s.encode())
        if m:
            feature["many"].int64_list.value.extend(m)
        assert made == expected.SerializeToString(deterministic=True)


WIDE, NARROW = st.integers(-(2**63), 2**63 - 1), st.integers(0, 200)
HELD = {
    "bool": (pa.bool_(), st.booleans()),
    "uint8": (pa.uint8(), NARROW),
    "uint64": (pa.uint64(), st.integers(0, 2**63 - 1)),
    "double": (pa.float64(), st.floats()),
    "float": (pa.float32(), st.floats(width=32)),
    "text": (pa.string(), st.text(max_size=200)),
    "bytes": (pa.large_binary(), st.binary(max_size=4)),
    "category": (pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["", "a", "b"])),
    "decimal": (pa.decimal128(9, 2), st.integers(-999, 999).map(Decimal)),
    "milliseconds": (pa.timestamp("ms"), WIDE),
    "nanoseconds": (pa.timestamp("ns", "UTC"), WIDE),
    "ints": (pa.list_(pa.int64()), st.lists(WIDE, max_size=3)),
    "floats": (pa.large_list(pa.float32()), st.lists(st.floats(width=32), max_size=3)),
    "texts": (pa.list_(pa.string()), st.lists(st.text(max_size=3), max_size=3)),
    "moments": (pa.list_(pa.timestamp("us")), st.lists(WIDE, max_size=2)),
    "categories": (pa.list_(pa.dictionary(pa.int32(), pa.string())), st.lists(st.sampled_from("xyz"), max_size=3)),
}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8).flatmap(lambda rows: st.fixed_dictionaries(
    {name: st.lists(st.none() | held, min_size=rows, max_size=rows) for name, (_, held) in HELD.items()}
)))  # fmt: skip
def test_columns_of_arrow_become_what_their_values_become_one_by_one(held: dict[str, list[Any]]) -> None:
    def arrow(type_: Any, raw: list[Any]) -> pa.Array:
        if pa.types.is_dictionary(type_):
            return pa.array(raw, pa.string()).dictionary_encode()
        return pa.array(raw, pa.int64()).cast(type_) if pa.types.is_timestamp(type_) else pa.array(raw, type_)

    table = pa.table({name: arrow(type_, held[name]) for name, (type_, _) in HELD.items()})
    columns, batches = read_parquet(io.BytesIO(parquet(table, version="2.6")), "x")
    (made,) = examples_of_rows(columns, batches, "x")
    # Decimals are looked at one by one anyhow.
    (expected,) = examples_of_rows(columns, [held], "x")
    assert made == expected
    assert [values(record)["nanoseconds"] for record in made] == [
        None if raw is None else [raw // 10**9] for raw in held["nanoseconds"]
    ]


def test_a_column_that_is_null_in_one_file_takes_its_type_from_the_others(read) -> None:
    one, other = parquet([{"x": None}]), parquet([{"x": 1.5}])
    assert features(read("parquet", one, other, **ONE)) == [{"x": None}, {"x": [1.5]}]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        pytest.param({"a": [{"b": 1}]}, "column a is of type struct<b: int64>, which no feature", id="a struct"),
        pytest.param({"a": [[[1]]]}, "column a is of type list<item: list<item: int64>>", id="a list of lists"),
        pytest.param({"a": pa.array([1], pa.duration("s"))}, "column a is of type duration[s]", id="a duration"),
        pytest.param({"a": pa.array([1], pa.time32("s"))}, "column a is of type time32[", id="a time of day"),
        pytest.param({"a": [[1, None]]}, "row 1: column a (list<item: int64>) has [1, None]", id="a gap in a list"),
        pytest.param(
            {"a": pa.array([1, 2**63], pa.uint64())},
            "row 2: column a (uint64) has 9223372036854775808",
            id="a number that is too large",
        ),
    ],
)
def test_what_no_feature_can_hold_is_refused_with_column_and_type(refused, table, said) -> None:
    assert said in refused("parquet", parquet(pa.table(table)))


@pytest.mark.parametrize(
    ("type_", "value", "said"),
    [
        pytest.param({"type": "map", "values": "int"}, {}, "column a is of type map", id="a map"),
        pytest.param(
            {"type": "record", "name": "In", "fields": [{"name": "b", "type": "int"}]},
            {"b": 1},
            "column a is of type record",
            id="a record",
        ),
        pytest.param(["int", "string"], 1, "column a is of type int or string", id="a union"),
        pytest.param({"type": "int", "logicalType": "time-millis"}, 1, "is of type time-millis", id="a time of day"),
    ],
)
def test_what_no_feature_can_hold_is_refused_in_avro_too(refused, type_, value, said) -> None:
    assert said in refused("avro", avro([{"a": value}], a=type_))


@pytest.mark.parametrize(
    ("format_", "first", "second", "said"),
    [
        pytest.param("avro", avro(ROWS), avro([{"number": 1}], number="long"), "no column fraction, word", id="fewer"),
        pytest.param(
            "avro",
            avro([{"a": 1}], a="long"),
            avro([{"a": "x"}], a="string"),
            "column a is string, not long",
            id="another type in Avro",
        ),
        pytest.param(
            "parquet",
            parquet([{"a": 1}]),
            parquet([{"a": 1.5, "b": 1}]),
            "a new column b and column a is double, not int64",
            id="another type in Parquet",
        ),
    ],
)
def test_a_second_file_with_another_schema_is_refused(refused, format_, first, second, said) -> None:
    message = refused(format_, first, second)
    assert said in message
    assert f"2.{format_}: " in message
    assert f"unlike the first file ({message.partition('2.')[0]}1.{format_})" in message


@pytest.mark.parametrize(
    ("format_", "content", "said"),
    [
        pytest.param("parquet", parquet(ROWS)[:-20], "1.parquet: damaged Parquet: ", id="truncated Parquet"),
        pytest.param("parquet", parquet(ROWS)[:9], "1.parquet: damaged Parquet: ", id="Parquet's first bytes"),
        pytest.param("parquet", b"", "1.parquet: the file is empty", id="an empty Parquet file"),
        pytest.param("avro", b"", "1.avro: the file is empty", id="an empty Avro file"),
        pytest.param("avro", avro(ROWS)[:-20], "1.avro: damaged Avro", id="truncated Avro"),
        pytest.param("avro", avro(ROWS)[:30], "1.avro: damaged Avro", id="Avro cut off in its header"),
        pytest.param("avro", avro([], number="long"), "no examples in", id="Avro without rows"),
        pytest.param("parquet", parquet(pa.table({"a": pa.array([], "int64")})), "no examples in", id="no rows"),
        pytest.param("parquet", CSV.encode(), "this is text, such as CSV, but the spec says", id="CSV"),
        pytest.param("avro", CSV.encode(), "Write `format: csv` in the example_gen", id="CSV for Avro"),
        pytest.param("avro", parquet(ROWS), "this is Parquet, but the spec says `format: avro`", id="Parquet for Avro"),
        pytest.param("csv", parquet(ROWS), "Write `format: parquet` in the example_gen", id="Parquet for CSV"),
        pytest.param("tfrecord", avro(ROWS), "this is Avro, but the spec says", id="Avro for records"),
        pytest.param("parquet", b"\x7fELF\0\0", "this is something else, but the spec says", id="anything"),
    ],
)  # fmt: skip
def test_a_file_that_is_damaged_or_of_another_format_is_named(refused, format_, content, said) -> None:
    message = refused(format_, content)
    assert said in message
    assert f"1.{format_}" in message


def test_a_codec_that_is_not_there_is_not_called_damage(refused) -> None:
    said = refused("avro", avro(ROWS).replace(b"avro.codec\x08null", b"avro.codec\x12zstandard"))
    assert "1.avro: cannot be read: zstandard codec" in said
    assert "Write it with one of the codecs null, deflate, snappy" in said


def test_avro_of_something_else_than_records_is_refused(refused) -> None:
    out = io.BytesIO()
    fastavro.writer(out, "long", [1, 2])
    assert "holds values of type long, not records" in refused("avro", out.getvalue())


def outcome(reader: Any, data: bytes) -> str:
    try:
        columns, rows = reader(io.BytesIO(data), "file")
        list(examples_of_rows(columns, rows, "file"))
    except BadInput as error:
        return error.message.partition(":")[0].partition(",")[0]
    return "read"


@pytest.mark.parametrize(("reader", "data"), [(read_avro, avro(ROWS, "deflate")), (read_parquet, parquet(ROWS))])
def test_whatever_a_disk_does_to_a_file_is_a_message_about_that_file(reader, data) -> None:
    places = range(0, len(data), 7)
    assert {outcome(reader, data[:at]) for at in places} == {"file"}
    turned = {outcome(reader, data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]) for at in places}
    assert turned <= {"file", "read"}
    assert "file" in turned


def test_a_folder_with_nothing_but_its_marker_is_refused(work) -> None:
    for format_ in ("csv", "tfrecord", "parquet", "avro"):
        with pytest.raises(BadInput, match="no files"):
            work("example_gen", spec={"input": "/data/{SPAN}", "format": format_})


# SequenceExamples

SEQUENCES = {"payload": "sequence_example"}


def test_sequence_examples_are_split_by_their_bytes_as_in_tfx(read, tmp_path) -> None:
    messages = [sequence(number) for number in range(40)]
    made = read("tfrecord", tfrecord((m.SerializeToString() for m in messages), tmp_path), **SEQUENCES)
    assert made.properties["payload_format"] == "FORMAT_TF_SEQUENCE_EXAMPLE"
    expected: dict[str, list[bytes]] = {"train": [], "eval": []}
    for message in messages:
        record = message.SerializeToString(deterministic=True)
        bucket = int(hashlib.sha256(record).hexdigest(), 16) % 3
        expected["train" if bucket < 2 else "eval"].append(record)
    assert records(made) == expected


def test_sequence_examples_are_split_by_a_feature_of_their_context(read, refused, tmp_path) -> None:
    data = tfrecord((sequence(n % 8, [str(n)]).SerializeToString() for n in range(40)), tmp_path)
    splits = records(read("tfrecord", data, **SEQUENCES, split_by="user"))
    users = {
        split: {tf.train.SequenceExample.FromString(r).context.feature["user"].int64_list.value[0] for r in found}
        for split, found in splits.items()
    }
    assert users["train"] | users["eval"] == set(range(8))
    assert not users["train"] & users["eval"]
    assert "row 1: the feature words, by which to split, is not there, only user" in refused(
        "tfrecord", data, **SEQUENCES, split_by="words"
    )


def test_examples_are_not_taken_for_sequence_examples_and_the_other_way_round(read, refused, tmp_path) -> None:
    plain = [record for split in records(read("csv", CSV.encode())).values() for record in split]
    said = refused("tfrecord", tfrecord(plain, tmp_path), **SEQUENCES)
    assert "none of 60 records has a feature list" in said
    sequences = tfrecord((sequence(n).SerializeToString() for n in range(9)), tmp_path)
    assert "record 1 is not a tf.Example" in refused("tfrecord", sequences)
    assert "record 1 is not a tf.SequenceExample" in refused("tfrecord", tfrecord([b"\xff"], tmp_path), **SEQUENCES)


def test_sequence_examples_have_statistics_a_schema_and_anomalies(work, read, tmp_path) -> None:
    def statistics(*words: str) -> Artifact:
        data = tfrecord((sequence(n, words).SerializeToString() for n in range(1500)), tmp_path)
        return work("statistics_gen", inputs={"examples": read("tfrecord", data, **SEQUENCES)})["statistics"][0]

    usual = statistics("a", "b")
    (schema,) = work("schema_gen", inputs={"statistics": usual})["schema"]
    struct = {f.name: f for f in schema_of(schema).feature}["##SEQUENCE##"].struct_domain
    assert [feature.name for feature in struct.feature] == ["words"]

    def anomalies(statistics: Artifact) -> Mapping[str, Any]:
        given = {"statistics": statistics, "schema": schema}
        (made,) = work("example_validator", inputs=given)["anomalies"]
        found = Anomalies.FromString((Path(made.uri) / "Split-train/SchemaDiff.pb").read_bytes())
        return found.anomaly_info

    assert not anomalies(usual)
    assert anomalies(statistics("a", "strange"))


def test_one_sequence_example_has_statistics_a_schema_and_no_anomalies(work, read, tmp_path) -> None:
    examples = read("tfrecord", tfrecord([sequence(1).SerializeToString()], tmp_path), **SEQUENCES)
    assert sorted(map(len, records(examples).values())) == [0, 1]
    (statistics,) = work("statistics_gen", inputs={"examples": examples})["statistics"]
    (schema,) = work("schema_gen", inputs={"statistics": statistics})["schema"]
    (made,) = work("example_validator", inputs={"statistics": statistics, "schema": schema})["anomalies"]
    assert made.blessed


@pytest.mark.parametrize("kind", ["transform", "evaluator"])
def test_what_cannot_read_sequence_examples_says_so(work, read, tmp_path, kind) -> None:
    examples = read("tfrecord", tfrecord((sequence(n).SerializeToString() for n in range(9)), tmp_path), **SEQUENCES)
    statistics = work("statistics_gen", inputs={"examples": examples})["statistics"]
    (schema,) = work("schema_gen", inputs={"statistics": statistics})["schema"]
    module = tmp_path / "module.py"
    module.write_text("def preprocessing_fn(inputs):\n    return inputs\n")
    spec = {"label_key": "user", "metrics": {"AUC": {}}} if kind == "evaluator" else {}
    inputs = {"examples": examples, "schema": schema, "model": replace(schema, id=7)}
    with pytest.raises(BadInput, match=f"are tf.SequenceExamples, and a {kind} reads tf.Examples"):
        work(kind, spec=spec, inputs=inputs, module=str(module))


# Splits


def test_a_feature_decides_about_the_split_as_in_tfx(read) -> None:
    made = read("csv", CSV.encode(), split_by="word", splits={"train": 3, "eval": 2})
    for split, found in records(made).items():
        for record in found:
            word = values(record)["word"][0]
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[word]))
            bucket = int(hashlib.sha256(feature.SerializeToString(deterministic=True)).hexdigest(), 16) % 5
            assert (split == "train") == (bucket < 3)


def test_integers_may_decide_about_the_split(read) -> None:
    splits = records(read("parquet", parquet([{"user": n % 10, "x": n} for n in range(50)]), split_by="user"))
    users = {split: {values(record)["user"][0] for record in found} for split, found in splits.items()}
    assert users["train"] | users["eval"] == set(range(10))
    assert not users["train"] & users["eval"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("f", "2.csv, row 1: the feature f, by which to split, is a float", id="a float"),
        pytest.param("s", "2.csv, row 1: the feature s, by which to split, has no value", id="a blank"),
        pytest.param("n", "1.csv, row 1: the feature n, by which to split, has no value", id="blank everywhere"),
        pytest.param("t", "1.csv, row 1: the feature t, by which to split, is not there, only f, n, s", id="absent"),
    ],
)
def test_a_feature_that_cannot_decide_about_a_split_is_named_with_its_row(refused, name, said) -> None:
    assert said.replace("2.csv, row 1: the feature f", "1.csv, row 1: the feature f") in refused(
        "csv", b"f,s,n\n1.5,a,\n2.5,b,\n", b"f,s,n\n0.5,,\n", split_by=name
    )


def test_rows_are_named_by_their_place_in_their_file() -> None:
    batch = Batch(SourceFile("a", 1, 1), [b"", b""], before=40)
    assert [batch.place(index) for index in range(2)] == ["a, row 41", "a, row 42"]


def test_all_examples_of_one_value_fall_to_one_split_and_another_may_stay_empty(read) -> None:
    made = read("csv", b"a,b\n1,x\n2,x\n3,x\n", split_by="b")
    assert sorted(map(len, records(made).values())) == [0, 3]


@pytest.fixture
def arrive(work, tmp_path):
    """Files of splits, as a listing found them: `arrive(train={"a.csv": ...}, eval={...})`."""

    def make(format_: str = "csv", **splits: Mapping[str, bytes]) -> Artifact:
        files = []
        for split, contents in splits.items():
            (tmp_path / split).mkdir(exist_ok=True)
            for name, content in contents.items():
                (tmp_path / split / name).write_bytes(content)
                files.append(replace(source(tmp_path / split / name), split=split))
        said = {"input": {"train": f"{tmp_path}/train/{{SPAN}}", "test": f"{tmp_path}/test/{{SPAN}}"}}
        return work("example_gen", spec={**said, "format": format_}, files=files)["examples"][0]

    return make


def test_data_that_is_split_already_stays_as_it_is(arrive, tmp_path) -> None:
    made = arrive(test={"c.csv": b"a,b\n5,x\n"}, train={"b.csv": b"a,b\n3,x\n", "a.csv": b"a,b\n1,x\n2,x\n"})
    assert made.properties["split_names"] == '["train", "test"]'
    found = {split: [values(record)["a"] for record in found] for split, found in records(made).items()}
    assert found == {"train": [[1], [2], [3]], "test": [[5]]}
    files = {name: source(tmp_path / name) for name in ("train/a.csv", "train/b.csv", "test/c.csv")}
    assert made.properties["input_fingerprint"] == "\n".join(
        [
            input_fingerprint([files["train/a.csv"], files["train/b.csv"]], "train"),
            input_fingerprint([files["test/c.csv"]], "test"),
        ]
    )


def test_the_types_of_columns_are_inferred_over_all_splits(arrive) -> None:
    made = arrive(train={"a.csv": b"a,b\n1,x\n"}, test={"b.csv": b"a,b\n1.5,x\n"})
    kinds = {
        tf.train.Example.FromString(record).features.feature["a"].WhichOneof("kind")
        for found in records(made).values()
        for record in found
    }
    assert kinds == {"float_list"}


def test_a_split_without_files_is_named_and_one_without_rows_is_empty(arrive) -> None:
    with pytest.raises(BadInput, match="no files of split test"):
        arrive(train={"a.csv": b"a,b\n1,x\n"})
    made = arrive(train={"a.csv": b"a,b\n1,x\n"}, test={"b.csv": b"a,b\n"})
    assert {split: len(found) for split, found in records(made).items()} == {"train": 1, "test": 0}
    with pytest.raises(BadInput, match="no examples in"):
        arrive(train={"a.csv": b"a,b\n"}, test={"b.csv": b"a,b\n"})


# CSV as others write it


@pytest.mark.parametrize(
    ("said", "text"),
    [
        pytest.param({"delimiter": ";"}, 'a;b\n1;x,y\n2;"u;v"\n', id="semicolons"),
        pytest.param({"delimiter": "\t", "quote": ""}, "a\tb\n1\tx,y\n2\tu;v\n", id="tabs"),
        pytest.param({"quote": "'"}, "a,b\n1,'x,y'\n2,u;v\n", id="single quotes"),
        pytest.param({"escape": "\\"}, "a,b\n1,x\\,y\n2,u;v\n", id="an escape character"),
        pytest.param({"columns": ["a", "b"]}, '1,"x,y"\n2,u;v\n', id="no header"),
        pytest.param({"nulls": ["NA"]}, 'a,b\n1,"x,y"\n2,u;v\n', id="a word for nothing"),
    ],
)
def test_csv_in_another_dialect_gives_the_same_examples(read, said, text) -> None:
    assert read("csv", text.encode(), **said, **ONE).digest == read("csv", b'a,b\n1,"x,y"\n2,u;v\n', **ONE).digest


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "utf-16"])
def test_features_are_utf8_whatever_the_encoding_of_the_file(read, encoding) -> None:
    assert features(read("csv", "é\nÄß\n".encode(encoding), encoding=encoding, **ONE)) == [{"é": ["Äß".encode()]}]


def test_words_for_nothing_are_no_values_and_do_not_count_for_the_type(read) -> None:
    made = read("csv", b"a,b\n1,x\nNA,-\n,y\n", nulls=["NA", "-"], **ONE)
    assert features(made) == [{"a": [1], "b": [b"x"]}, {"a": [], "b": []}, {"a": [], "b": [b"y"]}]


def test_escaped_characters_are_taken_as_they_are() -> None:
    text = b'a,b\nx\\,y,\\"z\n"p\\"q",line\\\nend\n1,2\n'
    rows = parse_csv(text, "f", Dialect(escape="\\")).rows
    assert rows == [["x,y", '"z'], ['p"q', "line\nend"], ["1", "2"]]


def test_nothing_is_quoted_if_the_spec_says_so() -> None:
    rows = parse_csv(b'a,b\n5" pipe,"\n', "f", Dialect(quote="")).rows
    assert rows == [['5" pipe', '"']]


@pytest.mark.parametrize(
    ("said", "text", "expected"),
    [
        pytest.param({}, b"a;b\n1;2\n", 'write `delimiter: ";"` in the example_gen', id="semicolons unsaid"),
        pytest.param({"delimiter": ";"}, b"a,b\n1,2\n", "1.csv:1: one column, called 'a,b'", id="commas"),
        pytest.param({"columns": ["a", "b"]}, b"a,b\n1,2\n", "1.csv:1: the file has a header", id="a header after all"),
        pytest.param({"columns": ["a", "b"]}, b"1,2\n3\n", "1.csv:2: 1 cells in 2 columns", id="too few cells"),
        pytest.param({"columns": ["a", "b"], "types": {"a": "int"}}, b"x,2\n", "column a is to be int", id="a type"),
        pytest.param({"encoding": "utf-16"}, b"a,b\n1,2\n3", "not UTF-16 text", id="another encoding"),
        pytest.param({"delimiter": ";"}, b'a;b\n"x;1\n', "1.csv:2: unbalanced quotes", id="an open quote"),
    ],
)  # fmt: skip
def test_csv_that_is_not_as_the_spec_says_is_refused(refused, said, text, expected) -> None:
    assert expected in refused("csv", text, **said)


def test_splitting_by_keys_needs_one_for_each_example() -> None:
    example = tf.train.Example()
    example.features.feature["k"].int64_list.value.append(1)
    examples = Batch(SourceFile("a", 1, 1), [example.SerializeToString()] * 2)
    assert list(keys_by(examples, "k")) == [example.features.feature["k"].SerializeToString()] * 2
    splits = split_by_hash(examples.records, {"a": 1, "b": 1}, keys_by(examples, "k"))
    assert sorted(map(len, splits.values())) == [0, 2]
