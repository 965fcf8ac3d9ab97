"""Whatever a curated schema says is checked as TFDV checks it, or the verdict says that it was not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0.anomalies_pb2 import Anomalies
from tensorflow_metadata.proto.v0.schema_pb2 import Schema

from ctd.components.counted_schema import counted_part
from ctd.components.metadata_files import write_message
from ctd.components.plain_statistics import as_without_schema
from ctd.components.schema_gen import widened
from ctd.components.statistics_gen import Accumulated
from ctd.core.artifacts import Artifact, ArtifactType

pytestmark = pytest.mark.tf

TYPES = {int: pa.int64(), float: pa.float32(), bytes: pa.large_binary()}
CODE = 'feature { name: "code" type: INT int_domain { is_categorical: true } %s }'
NUMBER = 'feature { name: "code" type: INT %s }'
L_INFINITY = "drift_comparator { infinity_norm { threshold: 0.1 } }"
DIVERGENCE = "drift_comparator { jensen_shannon_divergence { threshold: 0.1 } }"
DIFFERENCE = "drift_comparator { normalized_abs_difference { threshold: 0.1 } }"
MIXED, ONES = [1, 2] * 50, [1] * 100


def batch(columns: Mapping[str, list[Any]]) -> pa.RecordBatch:
    """A value is a feature's only one; a list is all of its values, and None is nothing."""
    arrays = []
    for cells in columns.values():
        lists = [cell if cell is None or isinstance(cell, list) else [cell] for cell in cells]
        kind = next((type(value) for cell in lists for value in cell or ()), bytes)
        arrays.append(pa.array(lists, pa.large_list(TYPES[kind])))
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


@pytest.fixture
def validate(work, tmp_path):
    """`validate(now, schema, before)` gives the artifact; tables are counted by the schema unless `counted` says."""

    def statistics(span: int, table: Mapping[str, list[Any]], schema: str) -> Artifact:
        folder = tmp_path / f"statistics-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        accumulated = Accumulated("here", counted_part(text_format.Parse(schema, Schema())))
        accumulated.add(batch(table))
        write_message(folder, "all", "FeatureStats.pb", accumulated.statistics())
        return Artifact(ArtifactType.STATISTICS, str(folder), str(folder), span, 1, {"split_names": '["all"]'})

    def run(now, schema, before=None, serving=None, counted=(None, None), **spec) -> Artifact:
        here, there = (schema if said is None else said for said in counted)
        folder = tmp_path / f"schema-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "schema.pbtxt").write_text(schema)
        inputs = {"statistics": statistics(2, now, here), "schema": Artifact(ArtifactType.SCHEMA, str(folder))}
        if before:
            inputs["previous_statistics"] = statistics(1, before, there)
        if serving:
            inputs["serving_statistics"] = statistics(1, serving, there)
        return work("example_validator", spec=spec, inputs=inputs, span=2)["anomalies"][0]

    return run


def reason(made: Artifact) -> str:
    return str(made.properties["reason"])


def test_drift_of_numbers_that_are_categories_is_measured_and_refused(validate) -> None:
    made = validate({"code": ONES}, CODE % "", {"code": MIXED}, drift={"code": 0.1})
    assert not made.blessed
    assert reason(made) == "split all: code: drift 0.5 > 0.1 (L-infinity against span 1, most in 2)"
    same = validate({"code": MIXED}, CODE % "", {"code": MIXED}, drift={"code": 0.1})
    assert reason(same) == "no anomalies; drift measured against span 1"


@pytest.mark.parametrize(
    ("domain", "now", "before"),
    [
        pytest.param("type: INT bool_domain {}", [1] * 10, [0, 1] * 5, id="truth values"),
        pytest.param("type: FLOAT float_domain { is_categorical: true }", [0.5] * 10, [0.5, 1.5] * 5, id="fractions"),
        pytest.param(
            "type: INT natural_language_domain { coverage { excluded_int_tokens: 9 } }",
            [1] * 10,
            [1, 2] * 5,
            id="tokens",
        ),
    ],
)
def test_a_limit_of_the_spec_on_other_categories_is_one_on_their_frequencies(validate, domain, now, before) -> None:
    made = validate({"code": now}, f'feature {{ name: "code" {domain} }}', {"code": before}, drift={"code": 0.1})
    assert "code: drift 0.5 > 0.1 (L-infinity against span 1" in reason(made)


def test_a_limit_of_the_spec_on_what_is_counted_as_numbers_is_one_on_their_distribution(validate) -> None:
    inferred = 'feature { name: "code" type: INT bool_domain {} }'
    made = validate({"code": [1] * 10}, inferred, {"code": [0, 1] * 5}, counted=("", ""), drift={"code": 0.1})
    assert "code: drift 1 > 0.1 (Jensen-Shannon against span 1)" in reason(made)


@pytest.mark.parametrize(
    ("limit", "counted", "said"),
    [
        pytest.param(L_INFINITY, ("", ""), "L-infinity is of categories, and this is counted as numbers", id="numbers"),
        pytest.param(
            DIFFERENCE, ("", ""), "normalized difference is of categories, and this is", id="their difference"
        ),
        pytest.param(
            L_INFINITY, (None, ""), "counted as categories here, and as numbers in span 1", id="another before"
        ),
        pytest.param(DIFFERENCE, (None, ""), "counted as categories here, and as numbers in span 1", id="difference"),
        pytest.param(DIVERGENCE, (None, ""), "counted as categories here, and as numbers in span 1", id="divergence"),
        pytest.param(L_INFINITY, ("", None), "counted as numbers here, and as categories in span 1", id="another now"),
    ],
)
def test_what_is_not_counted_is_not_called_measured(validate, limit, counted, said) -> None:
    made = validate({"code": ONES}, CODE % limit, {"code": MIXED}, counted=counted)
    assert made.blessed
    assert reason(made).startswith("no anomalies; split all: code: drift not measured: " + said)
    assert "measured against" not in reason(made)


def test_one_limit_of_two_may_be_measured(validate) -> None:
    limits = L_INFINITY.replace("} }", "} jensen_shannon_divergence { threshold: 0.1 } }")
    made = validate({"code": ONES}, NUMBER % limits, {"code": MIXED})
    assert "code: drift 1 > 0.1 (Jensen-Shannon against span 1)" in reason(made)
    assert "code: drift not measured: L-infinity is of categories, and this is counted as numbers" in reason(made)


def test_skew_is_told_like_drift(validate) -> None:
    skew = L_INFINITY.replace("drift", "skew")
    wired = {"inputs": {"serving_statistics": "served"}}
    made = validate({"code": ONES}, CODE % skew, serving={"code": MIXED}, counted=(None, ""), **wired)
    assert "code: skew not measured: counted as categories here, and as numbers in serving span 1" in reason(made)
    made = validate({"code": ONES}, CODE % skew, serving={"code": MIXED}, **wired)
    assert "code: skew 0.5 > 0.1 (L-infinity against serving span 1, most in 2)" in reason(made)


def test_a_limit_on_images_or_on_what_is_out_of_use_is_not_measured(validate) -> None:
    image = 'feature { name: "photo" type: BYTES image_domain {} }'
    made = validate({"photo": [b"x"] * 9}, image, {"photo": [b"y"] * 9}, drift={"photo": 0.1})
    assert "photo: drift not measured: L-infinity is of categories, and this is counted as bytes" in reason(made)
    made = validate({"code": ONES}, CODE % f"{L_INFINITY} lifecycle_stage: DEPRECATED", {"code": MIXED})
    assert "code: drift not measured: its lifecycle_stage is DEPRECATED" in reason(made)
    assert "measured against" not in reason(made)


def test_a_feature_without_values_before_has_no_drift(validate) -> None:
    text = f'feature {{ name: "city" type: BYTES {L_INFINITY} }}' + NUMBER % ""
    made = validate({"city": [b"x", b"y"], "code": [1, 2]}, text, {"code": [1, 2]})
    assert "city: no drift can be measured, as span 1 does not have it" in reason(made)
    blank = validate({"city": [b"x", b"y"], "code": [1, 2]}, text, {"city": [[], []], "code": [1, 2]})
    assert reason(blank) == "no anomalies; split all: city: drift not measured: no values to compare"


EXAMPLES = "dataset_constraints { %s { min_fraction_threshold: 0.9 } } " + NUMBER % ""


def test_limits_on_the_number_of_examples_say_when_there_is_nothing_to_compare_with(validate) -> None:
    drift, versions = EXAMPLES % "num_examples_drift_comparator", EXAMPLES % "num_examples_version_comparator"
    wired = {"inputs": {"previous_statistics": "statistics"}}
    alone = validate({"code": ONES}, drift, **wired)
    assert reason(alone) == "no anomalies; num_examples_drift_comparator not measured: no span before 2"
    not_wired = validate({"code": ONES}, drift)
    assert reason(not_wired).endswith(
        "num_examples_drift_comparator not measured: `inputs` names no previous_statistics"
    )
    fewer = validate({"code": ONES}, drift, {"code": ONES * 3}, **wired)
    assert not fewer.blessed
    assert "below the threshold 0.9" in reason(fewer)
    assert reason(validate({"code": ONES}, drift, {"code": ONES})) == "no anomalies; drift measured against span 1"
    said = "no anomalies; num_examples_version_comparator not measured: versions of a span are not compared"
    assert (
        reason(validate({"code": ONES}, versions)) == reason(validate({"code": ONES}, versions, {"code": ONES})) == said
    )


COMPOSED = """
feature { name: "value" type: FLOAT } feature { name: "index" type: INT } feature { name: "weight" type: FLOAT }
sparse_feature { name: "sparse" value_feature { name: "value" } index_feature { name: "index" } }
weighted_feature { name: "weighted" feature { step: "value" } weight_feature { step: "weight" } }
"""
PARTS = {"value": [1.0, [2.0, 3.0], None], "index": [1, 2, 3], "weight": [1.0, 1.0, 1.0]}


def test_sparse_and_weighted_features_are_checked_or_named(validate) -> None:
    refused = reason(validate(PARTS, COMPOSED))
    assert "sparse: Missing value feature: Found 1 examples missing value feature" in refused
    assert "weighted: Missing value feature: Found 1 examples" in refused
    plain = reason(validate(PARTS, COMPOSED, counted=("", None)))
    assert "sparse: sparse feature not checked: not counted; the statistics_gen has to take this schema" in plain
    assert "weighted: weighted feature not checked: not counted" in plain


@pytest.mark.parametrize(
    ("domain", "values", "said"),
    [
        pytest.param("type: INT bool_domain {}", [0, 1, 5], "Integers (such as 5) not in {0, 1}", id="truth values"),
        pytest.param(
            "type: FLOAT float_domain { is_categorical: true max: 5 }", [1.0, 20.0], "Unexpectedly high", id="too large"
        ),
        pytest.param(
            "type: FLOAT float_domain { is_categorical: true disallow_nan: true }", [1.0, float("nan")],
            "Float feature has NaN values", id="no number",
        ),
        pytest.param(
            "type: INT int_domain { is_categorical: true max: 5 }", [1, 9], "Unexpectedly large value: 9", id="whole"
        ),
        pytest.param(
            "type: INT unique_constraints { min: 1 max: 2 } bool_domain {}", [0, 1, 7], "no more than 2", id="many"
        ),
    ],
)  # fmt: skip
def test_domains_of_categories_are_checked_all_the_same(validate, domain, values, said) -> None:
    made = validate({"code": values}, f'feature {{ name: "code" {domain} }}')
    assert not made.blessed
    assert said in reason(made)
    written = Anomalies.FromString(Path(made.uri, "Split-all", "SchemaDiff.pb").read_bytes())
    assert list(written.anomaly_info) == ["code"]
    good = validate({"code": values[:1]}, f'feature {{ name: "code" {domain} }}')
    assert reason(good) == "no anomalies"


@pytest.mark.parametrize(
    ("feature", "cells", "said"),
    [
        pytest.param(
            'feature { name: "x" type: BYTES image_domain { minimum_supported_image_fraction: 0.9 } }', [b"no image"],
            "x: minimum_supported_image_fraction not checked: formats of images are not counted", id="formats",
        ),
        pytest.param(
            'feature { name: "x" type: BYTES url_domain {} }', [b"no url"],
            "x: url_domain not checked: TFDV has no statistics for it", id="URLs",
        ),
        pytest.param(
            'feature { name: "x" type: BYTES time_domain { string_format: "%Y" } }', [b"no year"],
            "x: time_domain not checked: TFDV has no statistics for it", id="times",
        ),
        pytest.param(
            'feature { name: "x" type: BYTES natural_language_domain { coverage { oov_string_tokens: "?" } '
            "sequence_length_constraints { min_sequence_length: 9 } } }", [b"word"],
            "x: sequence_length_constraints not checked: TFDV only counts lengths", id="lengths of sentences",
        ),
        pytest.param(
            'feature { name: "x" type: INT int_domain { is_categorical: true min: 0 } }', list(range(1500)),
            "x: its domain was checked for the 1000 most frequent of 1500 values only", id="rare categories",
        ),
    ],
)  # fmt: skip
def test_what_tfdv_passes_over_is_named(validate, feature, cells, said) -> None:
    made = validate({"x": cells}, feature)
    assert made.blessed
    assert said in reason(made)


def test_images_that_are_too_large_are_refused(validate) -> None:
    image = 'feature { name: "x" type: BYTES image_domain { max_image_byte_size: 3 } }'
    assert "The largest image has bytes: 8" in reason(validate({"x": [b"no image"]}, image))
    plain = validate({"x": [b"no image"]}, image, counted=("", None))
    assert "x: max_image_byte_size not checked: not counted; the statistics_gen" in reason(plain)


def test_a_validation_of_numbers_that_are_categories_does_not_pass_for_zeros(validate) -> None:
    condition = {"feature": "code", "expression": "feature.num_stats.min >= 0"}
    made = validate({"code": [-5, 5]}, CODE % "", validations=[condition])
    assert not made.blessed
    assert "code: `feature.num_stats.min >= 0` cannot be evaluated" in reason(made)
    condition["expression"] = "feature.string_stats.unique = 2"
    assert reason(validate({"code": [-5, 5]}, CODE % "", validations=[condition])) == "no anomalies"


NAMES = ["a.b", "a/b", "fare.usd", "it's", "über (km)", "'q'", ".", "a..b", "x serving"]


@pytest.mark.parametrize("name", NAMES)
def test_names_with_any_sign_are_told_as_they_are(validate, name) -> None:
    schema = json.dumps(name, ensure_ascii=False)
    text = f'feature {{ name: {schema} type: BYTES }} feature {{ name: "n{name.replace(chr(34), "")}" type: FLOAT }}'
    now, before = {name: [b"serving"] * 2, f"n{name}": [1.0, 1.0]}, {name: [b"x", b"y"], f"n{name}": [1.0, 9.0]}
    made = validate(now, text, before, drift={name: 0.1, f"n{name}": 0.1})
    said = reason(made).split("; ")
    assert f"split all: {name}: drift 1 > 0.1 (L-infinity against span 1, most in serving)" in said
    assert any(
        text.startswith(f"split all: n{name}: drift ") and "Jensen-Shannon against span 1" in text for text in said
    )
    assert len(said) == 2
    condition = {"feature": name, "expression": "feature.string_stats.unique > 5"}
    assert f"{name}: `feature.string_stats.unique > 5` is false" in reason(validate(now, text, validations=[condition]))


EVERYTHING = f"""
{CODE % ""} {COMPOSED}
feature {{ name: "flag" type: INT bool_domain {{}} }}
feature {{ name: "price" type: FLOAT float_domain {{ is_categorical: true }} }}
"""


def table(rows: int) -> dict[str, list[Any]]:
    code = [i % 3 for i in range(rows)]
    return {"code": code, "flag": [i % 2 for i in code], "price": [0.5] * rows, "value": [1.0] * rows, "index": code}


def counted(schema: str, rows: int) -> Any:
    accumulated = Accumulated("here", counted_part(text_format.Parse(schema, Schema())))
    accumulated.add(batch(table(rows)))
    return accumulated.statistics()


def test_a_schema_is_inferred_of_the_same_data_however_it_was_counted() -> None:
    inferred = []
    for schema in (EVERYTHING, ""):
        first, then = (as_without_schema(counted(schema, rows)) for rows in (2, 9))
        inferred.append(widened(tfdv.infer_schema(first), then, "here"))
    assert inferred[0] == inferred[1]
    assert "bool_domain" in str(inferred[0]), "of a column that is 0 or 1"


def test_statistics_of_features_that_another_schema_does_not_have_do_not_end_the_process(validate) -> None:
    types = {"code": "INT", "flag": "INT", "price": "FLOAT", "value": "FLOAT", "index": "INT"}
    plain = "".join(f'feature {{ name: "{name}" type: {type_} }}' for name, type_ in types.items())
    made = validate(table(9), plain, table(9), counted=(EVERYTHING, EVERYTHING), drift={"value": 0.1})
    assert reason(made) == "no anomalies; drift measured against span 1"
