"""Examples become the columns that tfx_bsl makes of them, and batches the statistics that TFDV makes of the whole."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensorflow_data_validation.statistics.stats_impl import generate_statistics_in_memory
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from ctd.components.csv_examples import parse_csv, to_examples
from ctd.components.example_decoder import decode
from ctd.components.examples_io import sequences_to_arrow, to_arrow, to_arrow_by_tfx_bsl, write_split
from ctd.components.metadata_files import digest_of_statistics
from ctd.components.statistics_gen import Accumulated
from ctd.components.tfrecords import SPLIT_FILE
from ctd.core.errors import BadInput

pytestmark = pytest.mark.tf

NAMES = ("a", "trip", "trip_id", "é", "a name of more than eight bytes")
INTS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)
FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=3)
TEXTS = st.lists(st.binary(max_size=300), max_size=2)
FEATURE = {"int64_list": INTS, "float_list": FLOATS, "bytes_list": TEXTS}


def message(row: dict[str, tuple[str, Sequence[object]] | None]) -> bytes:
    made = tf.train.Example()
    for name, held in row.items():
        feature = made.features.feature[name]
        if held is not None:
            kind, values = held
            getattr(feature, kind).SetInParent()
            getattr(feature, kind).value.extend(values)
    return made.SerializeToString(deterministic=True)


@st.composite
def tables(draw: st.DrawFn, ragged: bool) -> list[bytes]:
    """Examples that agree on types; ragged ones may have several texts in a feature, and features that others lack."""
    kinds = {name: draw(st.sampled_from(list(FEATURE))) for name in draw(st.sets(st.sampled_from(NAMES), min_size=1))}
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        names = draw(st.sets(st.sampled_from(list(kinds)))) if ragged else kinds
        row = {}
        for name in names:
            values = draw(FEATURE[kinds[name]])
            if not ragged and kinds[name] == "bytes_list":
                values = values[:1]
            row[name] = draw(st.sampled_from([None, (kinds[name], values)]))
        rows.append(message(row))
    return rows


@settings(max_examples=150, deadline=None)
@given(tables(ragged=False))
@example([message({"a": ("int64_list", [])}), message({"a": None})])
def test_examples_of_one_form_are_decoded_as_tfx_bsl_decodes_them(records: list[bytes]) -> None:
    made = decode(records)
    assert made is not None
    made.validate(full=True)
    assert made.equals(to_arrow_by_tfx_bsl(records, ""))


@settings(max_examples=150, deadline=None)
@given(tables(ragged=True))
@example([b""])
@example([message({"a": ("int64_list", [1])}), message({"trip": ("int64_list", [1])})])
def test_examples_of_several_forms_are_decoded_as_tfx_bsl_decodes_them(records: list[bytes]) -> None:
    expected = to_arrow_by_tfx_bsl(records, "")
    assert to_arrow(records, "").equals(expected)
    made = decode(records)
    assert made is None or made.equals(expected)


@settings(max_examples=300, deadline=None)
@given(tables(ragged=False), st.data())
def test_damaged_examples_are_never_decoded_to_something_else(records: list[bytes], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(records) - 1))
    if not records[row]:
        return
    at, byte = data.draw(st.integers(0, len(records[row]) - 1)), data.draw(st.integers(0, 255))
    records[row] = records[row][:at] + bytes([byte]) + records[row][at + 1 :]
    made = decode(records)
    if made is not None:
        assert same(made, to_arrow_by_tfx_bsl(records, ""))


def same(one: pa.RecordBatch, other: pa.RecordBatch) -> bool:
    """Whether two batches are equal, a value that is no number to itself included: damage may make one."""
    return bool(one.schema.equals(other.schema) and repr(one.to_pydict()) == repr(other.to_pydict()))


def test_a_number_that_damage_made_no_number_is_the_same() -> None:
    record = b"\n-\n+\n\x1fa name of more than eight bytes\x12\x08\x12\x06\n\x04\x01\x00\x80\x7f"
    made = decode([record])
    assert made is not None
    assert same(made, to_arrow_by_tfx_bsl([record], ""))


def test_integers_that_are_not_packed_are_left_to_tfx_bsl() -> None:
    record = b"\x1a\x02\x08\x05"  # of a Feature: an int64 list, and in it one varint that is 5
    for tag in (b"\n\x01a\x12", b"\n", b"\n"):
        record = tag + bytes([len(record)]) + record
    assert decode([record]) is None
    assert to_arrow([record], "").to_pylist() == [{"a": [5]}]


@pytest.mark.realdata
def test_the_real_examples_are_decoded_as_tfx_bsl_decodes_them(real_data: Path) -> None:
    records = to_examples([parse_csv((real_data / "data.csv").read_bytes(), "")])
    made = decode(records)
    assert made is not None
    assert made.equals(to_arrow_by_tfx_bsl(records, ""))


# Statistics


def rows(number: int, seed: int = 3) -> list[bytes]:
    """Examples with whatever may be in them: texts, numbers, several values, nothing, and what only some have."""
    chance = np.random.default_rng(seed)
    made = []
    for i in range(number):
        row: dict[str, tuple[str, Sequence[object]] | None] = {
            "text": ("bytes_list", [str(chance.choice(["a", "bb", "ccc", "üx"])).encode()]),
            "name": ("bytes_list", [f"name {chance.integers(500)}".encode()]),
            "float": ("float_list", [chance.gamma(2, 5)]),
            "int": ("int64_list", [int(chance.integers(-1000, 1000))]),
            "many": ("int64_list", chance.integers(0, 9, chance.integers(0, 5)).tolist()),
            "texts": ("bytes_list", [b"x"] * int(chance.integers(0, 3))),
            "blank": ("float_list", [1.5] if chance.random() < 0.3 else []),
            "never": None,
        }
        if chance.random() < 0.2:
            row["rare"] = ("float_list", [float(i), float("nan")])
        made.append(message(row))
    return made


def sequences(number: int) -> list[bytes]:
    made = []
    for i in range(number):
        one = tf.train.SequenceExample()
        one.context.feature["user"].int64_list.value.append(i)
        for word in range(i % 4):
            one.feature_lists.feature_list["words"].feature.add().bytes_list.value.append(f"w{word}".encode())
        made.append(one.SerializeToString(deterministic=True))
    return made


def in_batches(records: list[bytes], size: int, to_batch: Callable[..., object] = to_arrow) -> Accumulated:
    found = Accumulated("here")
    for begin in range(0, len(records), size):
        found.add(to_batch(records[begin : begin + size], "here"))
    return found


def rounded(statistics: DatasetFeatureStatisticsList) -> str:
    """What the statistics say, but for the last digits of sums: they depend on the order of adding up."""
    return digest_of_statistics({"": statistics})


def test_statistics_in_batches_are_those_that_tfdv_computes_with_beam(tmp_path: Path) -> None:
    records = rows(3000)
    write_split(tmp_path, "all", records)
    by_beam = tfdv.generate_statistics_from_tfrecord(str(tmp_path / "Split-all" / SPLIT_FILE))
    for size in (3000, 700, 64):
        assert rounded(in_batches(records, size).statistics()) == rounded(by_beam)


def long_texts(number: int) -> list[bytes]:
    """Examples with texts that TFDV's sketches do not tell apart: long ones, and what is no UTF-8."""
    free = [f"review {i} ".encode() * (200 if i % 40 else 3) for i in range(number)]
    return [
        message(
            {
                "free": ("bytes_list", [free[i]]),
                "page": ("bytes_list", [b"x" * 1500 + str(i % 3).encode()]),
                "edge": ("bytes_list", [b"x" * (1000 + i % 50)]),
                "code": ("bytes_list", [b"\xff\xfe" + bytes([65 + i % 26])]),
                "some": ("bytes_list", [(b"\xff", b"plain", b"")[i % 3]]),
                "few": ("bytes_list", [b"y" * 2000] if i == number - 1 else []),
            }
        )
        for i in range(number)
    ]


def test_long_texts_and_bytes_are_counted_as_tfdv_counts_them_with_beam(tmp_path: Path) -> None:
    records = long_texts(600)
    write_split(tmp_path, "all", records)
    by_beam = tfdv.generate_statistics_from_tfrecord(str(tmp_path / "Split-all" / SPLIT_FILE))
    for size in (600, 64):
        found = in_batches(records, size).statistics()
        assert rounded(found) == rounded(by_beam)
    merged = in_batches(records[:250], 100)
    merged.merge(in_batches(records[250:], 100))
    assert rounded(merged.statistics()) == rounded(by_beam)
    # What it is for: the next span of a column of free text is no anomaly.
    later = in_batches(long_texts(700), 700).statistics()
    assert not tfdv.validate_statistics(later, tfdv.infer_schema(found)).anomaly_info


@pytest.mark.parametrize("length", [20, 1100], ids=["of many texts", "of many long texts"])
def test_beyond_what_is_counted_exactly_texts_are_estimated_and_still_told_apart(length: int) -> None:
    often = b"often " * length
    texts = [often if i % 10 == 0 else str(i).encode().rjust(length) for i in range(24_000)]
    records = [message({"text": ("bytes_list", [text])}) for text in texts]
    halves = in_batches(records[:12_000], 5000), in_batches(records[12_000:], 5000)
    halves[0].merge(halves[1])
    for found in (in_batches(records, 5000).statistics(), halves[0].statistics()):
        (feature,) = found.datasets[0].features
        assert feature.string_stats.unique == pytest.approx(21_601, rel=0.03)
        first, *others = feature.string_stats.top_values
        assert first.value.encode()[:100] == often[:100]
        assert first.frequency == pytest.approx(2400, rel=0.02)
        assert len({one.value for one in others}) == 19
        assert len(feature.string_stats.rank_histogram.buckets) == 1000


def test_statistics_of_sequences_in_batches_are_those_of_the_whole() -> None:
    records = sequences(200)
    whole = generate_statistics_in_memory(sequences_to_arrow(records, ""), tfdv.StatsOptions())
    for size in (200, 37, 2):
        assert rounded(in_batches(records, size, sequences_to_arrow).statistics()) == rounded(whole)


def test_accumulated_spans_merged_are_the_statistics_of_their_window() -> None:
    spans = [rows(400, seed) for seed in (1, 2, 3)]
    window = in_batches(spans[0], 100)
    for span in spans[1:]:
        window.merge(in_batches(span, 100))
    assert rounded(window.statistics()) == rounded(
        in_batches([record for span in spans for record in span], 100).statistics()
    )


def test_a_type_that_changes_between_batches_is_refused_by_name() -> None:
    found = Accumulated("here")
    found.add(to_arrow([message({"a": None})], "here"))
    found.add(to_arrow([message({"a": ("int64_list", [1])})], "here"))
    with pytest.raises(BadInput, match="here: examples do not agree on the types of their features: a is") as error:
        found.add(to_arrow([message({"a": ("float_list", [1.0])})], "here"))
    assert error.value.hint
