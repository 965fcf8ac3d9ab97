"""With a curated schema, statistics are those that TFDV computes with StatsOptions(schema=...), and no others."""

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensorflow_data_validation.statistics.stats_impl import generate_statistics_in_memory
from tensorflow_metadata.proto.v0.schema_pb2 import Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from ctd.components.api import split_files
from ctd.components.counted_schema import counted_digest, counted_part
from ctd.components.csv_examples import parse_csv, to_examples
from ctd.components.examples_io import digest_of_splits, sequences_to_arrow, to_arrow, write_split
from ctd.components.metadata_files import digest_of_statistics, statistics_of
from ctd.components.statistics_gen import Accumulated
from ctd.core.artifacts import COUNTED, Artifact, ArtifactType
from ctd.core.errors import BadInput

pytestmark = pytest.mark.tf

DIRECT = {"runner": "DirectRunner"}
CATEGORIES = """
feature { name: "code" type: INT int_domain { is_categorical: true min: 0 max: 9 } }
feature { name: "flag" type: INT bool_domain {} }
feature { name: "plain" type: INT int_domain { min: 0 max: 9 } }
feature { name: "fare" type: FLOAT }
feature { name: "photo" type: BYTES image_domain {} }
feature { name: "city" type: BYTES string_domain { value: "x" } }
sparse_feature { name: "sparse" value_feature { name: "fare" } index_feature { name: "plain" } }
weighted_feature { name: "weighted" feature { step: "fare" } weight_feature { step: "weight" } }
"""
LANGUAGE = """
feature { name: "words" type: BYTES natural_language_domain {
  coverage { min_coverage: 0.5 oov_string_tokens: "?" excluded_string_tokens: "the" }
  token_constraints { string_value: "cat" min_per_sequence: 1 }
  sequence_length_constraints { excluded_string_value: "the" } } }
feature { name: "tokens" type: INT natural_language_domain { coverage { excluded_int_tokens: 0 } } }
"""
FRACTIONS = 'feature { name: "price" type: FLOAT float_domain { is_categorical: true } }'


def parsed(text: str) -> Schema:
    return text_format.Parse(text, Schema())


def message(**values: Any) -> bytes:
    made = tf.train.Example()
    for name, value in values.items():
        some = value if isinstance(value, list) else [value]
        kind = {int: "int64_list", float: "float_list", bytes: "bytes_list"}[type(some[0])] if some else "float_list"
        getattr(made.features.feature[name], kind).value.extend(some)
    return made.SerializeToString(deterministic=True)


def rows(number: int) -> list[bytes]:
    return [
        message(
            code=[i % 4, i % 3],
            flag=i % 2,
            plain=[i % 7] * (1 + i % 2),
            fare=[i / 4] * (i % 3),
            weight=[0.5] * (i % 4),
            photo=b"\xff\xd8" + bytes([i % 5]) * (i % 9),
            city=b"xyz"[i % 3 : i % 3 + 1],
            price=[0.1, 1e6, 1.23456789, 2.0][i % 4],
            words=[[b"the", b"cat"], [b"a", b"cat", b"?", b"cat"], [b"the"]][i % 3],
            tokens=[0, i % 5, 7],
        )
        for i in range(number)
    ]


def examples(folder: Path, records: list[bytes]) -> Artifact:
    folder.mkdir(parents=True)
    write_split(folder, "train", records)
    properties = {"split_names": json.dumps(["train"])}
    return Artifact(ArtifactType.EXAMPLES, str(folder), digest_of_splits({"train": records}), 7, 1, properties)


def curated(work: Any, folder: Path, text: str) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "curated.pbtxt"
    path.write_text(text)
    spec = {"artifact": "Schema", "path": str(path)}
    ((made,),) = work("importer", spec=spec, paths={"path": str(path)}).values()
    return made


def by_tfdv(made: Artifact, schema: Schema, **options: Any) -> DatasetFeatureStatisticsList:
    (file,) = split_files(made, "train")
    return tfdv.generate_statistics_from_tfrecord(file, stats_options=tfdv.StatsOptions(schema=schema, **options))


def digest(statistics: DatasetFeatureStatisticsList) -> str:
    return digest_of_statistics({"": statistics})


@pytest.mark.parametrize("beam", [None, DIRECT], ids=["here", "on Beam"])
@pytest.mark.parametrize("text", [CATEGORIES, LANGUAGE], ids=["categories", "language"])
def test_statistics_are_those_that_tfdv_computes_with_the_schema(work, tmp_path, text, beam) -> None:
    made = examples(tmp_path / "examples", rows(500))
    inputs = {"examples": made, "schema": curated(work, tmp_path, text)}
    (statistics,) = work("statistics_gen", spec={"beam": beam}, inputs=inputs)["statistics"]
    found = statistics_of(statistics, "train")
    assert digest(found) == digest(by_tfdv(made, parsed(text)))
    (without,) = work("statistics_gen", inputs={"examples": made})["statistics"]
    assert without.digest != statistics.digest


@pytest.mark.parametrize("beam", [None, DIRECT], ids=["here", "on Beam"])
def test_fractions_that_are_categories_are_counted_where_tfdvs_own_pipeline_cannot(work, tmp_path, beam) -> None:
    made = examples(tmp_path / "examples", rows(500))
    inputs = {"examples": made, "schema": curated(work, tmp_path, FRACTIONS + CATEGORIES)}
    (statistics,) = work("statistics_gen", spec={"beam": beam}, inputs=inputs)["statistics"]
    sketched = by_tfdv(made, parsed(FRACTIONS + CATEGORIES), experimental_use_sketch_based_topk_uniques=True)
    assert digest(statistics_of(statistics, "train")) == digest(sketched)


def of_batches(records: list[bytes], schema: Schema, size: int = 100) -> Accumulated:
    found = Accumulated("here", counted_part(schema))
    for begin in range(0, len(records), size):
        found.add(to_arrow(records[begin : begin + size], "here"))
    return found


def test_spans_merged_are_the_statistics_of_their_window(tmp_path) -> None:
    records, schema = [message(fare=0.5)] * 150 + rows(300), parsed(CATEGORIES)
    window = of_batches(records[:150], schema)
    for begin in (150, 300):
        window.merge(of_batches(records[begin : begin + 150], schema))
    assert digest(window.statistics()) == digest(by_tfdv(examples(tmp_path / "window", records), schema))


def test_statistics_of_a_csv_file_are_those_that_tfdv_computes_of_it(work, tmp_path) -> None:
    text = "code,city\n" + "".join(f"{i % 3},{'xyz'[i % 2]}\n" for i in range(60))
    (tmp_path / "data.csv").write_text(text)
    made = examples(tmp_path / "examples", to_examples([parse_csv(text.encode(), "")]))
    inputs = {"examples": made, "schema": curated(work, tmp_path, CATEGORIES)}
    (statistics,) = work("statistics_gen", inputs=inputs)["statistics"]
    options = tfdv.StatsOptions(schema=parsed('feature { name: "code" type: INT int_domain { is_categorical: true } }'))
    theirs = tfdv.generate_statistics_from_csv(str(tmp_path / "data.csv"), stats_options=options)
    (mine,) = (f for f in statistics_of(statistics, "train").datasets[0].features if list(f.path.step) == ["code"])
    (other,) = (f for f in theirs.datasets[0].features if list(f.path.step) == ["code"])
    assert mine == other
    assert [(b.label, b.sample_count) for b in mine.string_stats.rank_histogram.buckets] == [
        ("2", 20), ("1", 20), ("0", 20),
    ]  # fmt: skip


def test_categories_of_nested_features_are_counted() -> None:
    text = 'feature { name: "##SEQUENCE##" type: STRUCT struct_domain { feature { %s } } }'
    schema = parsed(text % 'name: "step" type: INT int_domain { is_categorical: true }')
    records = []
    for i in range(40):
        one = tf.train.SequenceExample()
        for step in range(i % 5):
            one.feature_lists.feature_list["step"].feature.add().int64_list.value.append(step)
        records.append(one.SerializeToString(deterministic=True))
    found = Accumulated("here", counted_part(schema))
    for begin in range(0, 40, 7):
        found.add(sequences_to_arrow(records[begin : begin + 7], "here"))
    whole = generate_statistics_in_memory(sequences_to_arrow(records, ""), tfdv.StatsOptions(schema=schema))
    assert digest(found.statistics()) == digest(whole)
    assert any(f.string_stats.unique == 4 for f in whole.datasets[0].features)


CATEGORICAL = "int_domain { is_categorical: true }"
TOKENS = 'natural_language_domain { coverage { oov_string_tokens: "?" } }'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "int_domain { min: 0 }", id="a range"),
        pytest.param(CATEGORICAL, "int_domain { is_categorical: true max: 5 }", id="a range of categories"),
        pytest.param("", "drift_comparator { infinity_norm { threshold: 0.1 } }", id="a limit on drift"),
        pytest.param(CATEGORICAL, CATEGORICAL + " unique_constraints { max: 5 }", id="how many there may be"),
        pytest.param("", 'not_in_environment: "SERVING"', id="an environment"),
        pytest.param("", "presence { min_fraction: 1 } value_count { min: 1 }", id="presence and shape"),
        pytest.param("", "lifecycle_stage: DEPRECATED", id="a stage"),
        pytest.param("", "int_domain { is_categorical: false }", id="no categories, said so"),
    ],
)
def test_edits_of_a_schema_that_cannot_change_counts_keep_its_part_for_statistics(before, after) -> None:
    feature = 'feature { name: "code" type: INT %s }'
    assert counted_digest(parsed(feature % before)) == counted_digest(parsed(feature % after))
    assert bool(counted_digest(parsed(feature % after))) is (before == CATEGORICAL)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("type: INT", f"type: INT {CATEGORICAL}", id="categories"),
        pytest.param(f"type: INT {CATEGORICAL}", "type: FLOAT float_domain { is_categorical: true }", id="of a type"),
        pytest.param("type: INT", "type: INT bool_domain {}", id="truth values"),
        pytest.param("type: BYTES", "type: BYTES image_domain {}", id="images"),
        pytest.param("type: BYTES", f"type: BYTES {TOKENS}", id="language"),
        pytest.param(f"type: BYTES {TOKENS}", f"type: BYTES {TOKENS.replace('?', '!')}", id="other tokens"),
    ],
)
def test_edits_that_change_counts_change_it(before, after) -> None:
    feature = 'feature { name: "code" %s }'
    assert counted_digest(parsed(feature % before)) != counted_digest(parsed(feature % after))
    assert counted_digest(parsed(feature % before)) == "" or "BYTES" not in before or TOKENS in before


DOMAINS = [
    "", "int_domain { is_categorical: true min: 3 }", "int_domain { max: 3 }", "float_domain { is_categorical: true }",
    "bool_domain {}", "image_domain { max_image_byte_size: 2 }", "string_domain { value: 'x' }", "url_domain {}",
    "natural_language_domain { coverage { oov_string_tokens: 'x' excluded_int_tokens: 1 min_coverage: 1 } }",
    "natural_language_domain { token_constraints { string_value: 'cat' } }", "time_domain { string_format: '%Y' }",
]  # fmt: skip
MORE = [
    "unique_constraints { max: 3 }",
    "drift_comparator { infinity_norm { threshold: 1 } }",
    "presence { min_count: 1 }",
]
FEATURES = st.lists(
    st.tuples(
        st.sampled_from(["code", "fare", "city", "words", "tokens", "nothing"]),
        st.sampled_from(["INT", "FLOAT", "BYTES"]),
        st.sampled_from(DOMAINS),
        st.sampled_from(MORE),
    ),
    unique_by=lambda feature: feature[0],
)
PAIRS = st.lists(st.sampled_from(["code", "fare", "nothing"]), min_size=2, max_size=2, unique=True)


@settings(max_examples=60, deadline=None)
@example([("city", "INT", "int_domain { is_categorical: true }", "")], ["code", "fare"], False)
@given(FEATURES, PAIRS, st.booleans())
def test_whatever_a_schema_says_its_part_counts_like_the_whole(features, pair, composed) -> None:
    text = "".join(f'feature {{ name: "{name}" type: {rest[0]} {rest[1]} {rest[2]} }}' for name, *rest in features)
    if composed:
        value, other = pair
        text += (
            f'sparse_feature {{ name: "s" value_feature {{ name: "{value}" }} index_feature {{ name: "{other}" }} }}'
        )
        text += f'weighted_feature {{ name: "w" feature {{ step: "{value}" }} weight_feature {{ step: "{other}" }} }}'
    schema, batch = parsed(text), to_arrow(rows(12), "here")
    whole, part = Accumulated("here", schema), Accumulated("here", counted_part(schema))
    for accumulated in (whole, part):
        accumulated.add(batch)
    assert digest(part.statistics()) == digest(whole.statistics())


def test_the_importer_says_what_statistics_depend_on(work, tmp_path) -> None:
    one = curated(work, tmp_path / "one", 'feature { name: "fare" type: FLOAT presence { min_count: 1 } }')
    assert one.properties[COUNTED] == ""
    assert one.content(COUNTED) == "" != one.content()
    other = curated(work, tmp_path / "other", CATEGORIES)
    assert other.properties[COUNTED] == counted_digest(parsed(CATEGORIES)) == other.content(COUNTED)


def test_a_schema_without_such_a_part_changes_no_statistics(work, tmp_path) -> None:
    made = examples(tmp_path / "examples", rows(50))
    schema = curated(work, tmp_path, 'feature { name: "code" type: INT int_domain { min: 0 max: 9 } }')
    digests = {
        work("statistics_gen", inputs=inputs)["statistics"][0].digest
        for inputs in ({"examples": made}, {"examples": made, "schema": schema})
    }
    assert len(digests) == 1


def test_tokens_of_a_vocabulary_that_is_not_there_are_not_counted(work, tmp_path) -> None:
    made = examples(tmp_path / "examples", rows(50))
    text = 'feature { name: "words" type: BYTES natural_language_domain { vocabulary: "v" } }'
    (statistics,) = work("statistics_gen", inputs={"examples": made, "schema": curated(work, tmp_path, text)})[
        "statistics"
    ]
    assert not any(f.custom_stats for f in statistics_of(statistics, "train").datasets[0].features)


def test_bytes_that_are_called_language_are_refused_with_what_helps() -> None:
    with pytest.raises(BadInput, match=r"here: words: .* not UTF-8") as error:
        of_batches([message(words=b"\xff\xfe", tokens=1)], parsed(LANGUAGE))
    assert "natural_language_domain" in error.value.hint
