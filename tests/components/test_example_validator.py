"""Drift, skew, environments and custom validations are TFDV's own; what comes out says what was found, and where."""

import json
from pathlib import Path

import pandas as pd
import pytest
from tensorflow_data_validation import generate_statistics_from_dataframe
from tensorflow_metadata.proto.v0.anomalies_pb2 import Anomalies, AnomalyInfo

from ctd.components.metadata_files import write_message
from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import BadInput, ComponentFailed

pytestmark = pytest.mark.tf

SCHEMA = """
feature { name: "fare" type: FLOAT presence { min_fraction: 1.0 } }
feature { name: "payment" type: BYTES presence { min_fraction: 1.0 } }
feature { name: "hour" type: INT }
"""
LABEL = 'feature { name: "tips" type: FLOAT presence { min_fraction: 1.0 } %s }'
ENVIRONMENTS = 'default_environment: "TRAINING" default_environment: "SERVING" '


def rides(cards=50, factor=1.0, tips=True, rows=100, without=()):
    """A table of rides, of which so many in a hundred are paid by card and fares are so much dearer."""
    table = {
        "fare": [(1 + i % 10) * float(factor) for i in range(rows)],
        "payment": ["Card" if i % 100 < cards else ("Cash", "Free")[i % 2] for i in range(rows)],
        "hour": [i % 24 for i in range(rows)],
    } | ({"tips": [0.5 * (i % 7) for i in range(rows)]} if tips else {})
    return pd.DataFrame({name: column for name, column in table.items() if name not in without})


@pytest.fixture
def statistics(tmp_path):
    """`statistics(7, train=table)` gives the ExampleStatistics of span 7."""

    def make(span, **splits):
        folder = tmp_path / f"statistics-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for split, table in splits.items():
            write_message(folder, split, "FeatureStats.pb", generate_statistics_from_dataframe(table))
        properties = {"split_names": json.dumps(list(splits))}
        return Artifact(ArtifactType.STATISTICS, str(folder), str(folder), span, 1, properties)

    return make


@pytest.fixture
def validate(work, tmp_path):
    """`validate(statistics, skew={...})` gives the anomalies; `previous` and `serving` are statistics too."""

    def run(now, schema=SCHEMA + LABEL % "", previous=None, serving=None, **spec):
        folder = tmp_path / f"schema-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "schema.pbtxt").write_text(schema)
        beside = {"previous_statistics": previous, "serving_statistics": serving}
        inputs = {"statistics": now, "schema": Artifact(ArtifactType.SCHEMA, str(folder))}
        inputs |= {key: artifact for key, artifact in beside.items() if artifact}
        return work("example_validator", spec=spec, inputs=inputs, span=now.span)["anomalies"][0]

    return run


def written(made, split="train"):
    return Anomalies.FromString(Path(made.uri, f"Split-{split}", "SchemaDiff.pb").read_bytes())


def validation(expression, feature="fare", **more):
    return {"feature": feature, "expression": expression, **more}


def test_drift_and_skew_are_told_with_value_limit_and_what_was_compared(statistics, validate) -> None:
    now, other = rides(cards=50), rides(cards=81, factor=3)
    limits = {"payment": 0.05, "fare": 0.1}
    made = validate(
        statistics(7, train=now, eval=now),
        previous=statistics(6, train=other, eval=now),
        serving=statistics(5, train=now, eval=other),
        drift=limits,
        skew=limits,
    )
    assert not made.blessed
    assert json.loads(str(made.properties["blessed_splits"])) == {"train": 0, "eval": 0}
    told = str(made.properties["reason"]).split("; ")
    assert "split train: payment: drift 0.31 > 0.05 (L-infinity against span 6, most in Card)" in told
    assert "split eval: payment: skew 0.31 > 0.05 (L-infinity against serving span 5, most in Card)" in told
    assert [text.partition(" > ")[0].rpartition(" ")[0] for text in told if "fare" in text] == [
        "split train: fare: drift",
        "split eval: fare: skew",
    ]
    assert all("(Jensen-Shannon against " in text for text in told if "fare" in text)
    (reason,) = written(made).anomaly_info["payment"].reason
    assert reason.type == AnomalyInfo.COMPARATOR_L_INFTY_HIGH, "as TFX writes it"


def test_a_good_span_says_what_it_was_compared_with(statistics, validate) -> None:
    made = validate(
        statistics(7, train=rides()),
        previous=statistics(6, train=rides()),
        serving=statistics(5, all=rides(tips=False)),
        drift={"payment": 0.05},
        skew={"payment": 0.05},
    )
    assert made.blessed
    said = "no anomalies; drift measured against span 6; skew measured against serving span 5"
    assert made.properties["reason"] == said, "the only split of serving data serves for every split"
    (info,) = written(made).drift_skew_info
    assert [m.threshold for m in info.skew_measurements] == [0.05]


def test_what_could_not_be_measured_is_said(statistics, validate) -> None:
    now = statistics(7, train=rides())
    made = validate(now, drift={"fare": 0.1}, skew={"fare": 0.1})
    assert made.blessed
    assert made.properties["reason"] == (
        "no anomalies; drift not measured: no span before 7; skew not measured: no serving span up to 7 yet"
    )
    skewed = {"skew": {"fare": 0.1, "payment": 0.1}}
    for serving, told in (
        (
            {"a": rides(), "b": rides()},
            "split train: skew not measured: serving span 5 has no such split, only a and b",
        ),
        ({"train": rides(rows=0)}, "split train: skew not measured: serving span 5 has no examples"),
        ({"train": rides().assign(fare=float("nan"))}, "split train: fare: skew not measured: no values to compare"),
    ):
        made = validate(now, serving=statistics(5, **serving), **skewed)
        assert told in str(made.properties["reason"])
        assert made.blessed
    lacking = validate(now, serving=statistics(5, train=rides(without=["fare"])), **skewed)
    assert lacking.properties["reason"] == (
        "split train: fare: no skew can be measured, as serving span 5 does not have it"
    )


def test_limits_may_be_the_schemas_own(statistics, validate) -> None:
    schema = SCHEMA.replace('"payment"', '"payment" skew_comparator { infinity_norm { threshold: 0.1 } }')
    inputs = {"serving_statistics": "served"}
    made = validate(
        statistics(7, train=rides(tips=False)), schema, serving=statistics(7, train=rides(80)), inputs=inputs
    )
    assert "payment: skew 0.3 > 0.1 (L-infinity against serving span 7" in str(made.properties["reason"])
    refused = validate(
        statistics(7, train=rides(tips=False)), schema, serving=statistics(7, train=rides(80)), skew={"payment": 0.5}
    )
    assert refused.blessed, "but the spec's come first"
    alone = validate(statistics(7, train=rides(tips=False)), schema)
    assert alone.properties["reason"] == "no anomalies; skew not measured: `inputs` names no serving_statistics"


def test_a_distance_within_its_limit_is_no_other_finding(statistics, validate) -> None:
    now, limits = statistics(7, train=rides(without=["payment"])), {"skew": {"fare": 0.5}}
    alone, compared = validate(now, **limits), validate(now, serving=statistics(7, train=rides(factor=1.1)), **limits)
    assert not alone.blessed
    assert alone.digest == compared.digest, "an acceptance of the one is one of the other"
    assert written(compared).drift_skew_info
    assert validate(now, serving=statistics(7, train=rides(factor=9)), **limits).digest != alone.digest


def test_a_label_that_serving_data_lacks_is_no_anomaly_in_its_environment(statistics, validate) -> None:
    schema = SCHEMA + LABEL % 'not_in_environment: "SERVING"' + ENVIRONMENTS
    served = statistics(7, train=rides(tips=False))
    assert validate(served, schema, environment="SERVING").blessed
    for said in ({"environment": "TRAINING"}, {}):
        refused = validate(served, schema, **said)
        assert refused.properties["reason"] == "split train: tips: Column dropped: Column is completely missing"
    assert validate(statistics(7, train=rides()), schema, environment="TRAINING").blessed


def test_an_environment_that_the_schema_does_not_have_is_refused_with_the_known_ones(statistics, validate) -> None:
    now = statistics(7, train=rides())
    with pytest.raises(BadInput, match="environment SERVNG, which the schema does not have") as error:
        validate(now, SCHEMA + ENVIRONMENTS, environment="SERVNG")
    assert "says TRAINING and SERVING" in error.value.hint
    with pytest.raises(BadInput) as error:
        validate(now, SCHEMA, environment="SERVING")
    assert 'It has none at all. An environment is a line `default_environment: "SERVING"`' in error.value.hint


def test_a_custom_validation_refuses_or_warns_as_it_says(statistics, validate) -> None:
    now = statistics(7, train=rides(), eval=rides(factor=100))
    positive = validation("feature.num_stats.min > 0", description="fares are positive")
    cheap = validation("feature.num_stats.max < 500", description="fares are below 500")
    assert validate(now, validations=[positive]).properties["reason"] == "no anomalies"
    refused = validate(now, validations=[positive, cheap])
    told = "split eval: fare: fares are below 500 (`feature.num_stats.max < 500` is false)"
    assert refused.properties["reason"] == told
    assert (refused.properties["anomalies"], refused.properties["warnings"]) == (1, 0)
    (reason,) = written(refused, "eval").anomaly_info["fare"].reason
    assert (reason.type, reason.short_description) == (AnomalyInfo.CUSTOM_VALIDATION, "fares are below 500")
    warned = validate(now, validations=[positive, cheap | {"severity": "WARNING"}])
    assert warned.blessed
    assert warned.properties["reason"] == f"no anomalies; warning: {told}"
    assert (warned.properties["anomalies"], warned.properties["warnings"]) == (0, 1)
    assert written(warned, "eval").anomaly_info["fare"].severity == AnomalyInfo.WARNING


def test_a_warning_beside_an_anomaly_of_the_same_feature_stays_a_warning(statistics, validate) -> None:
    schema = SCHEMA.replace('"fare" type: FLOAT', '"fare" type: FLOAT float_domain { max: 5 }') + LABEL % ""
    cheap = validation("feature.num_stats.mean < 5", severity="WARNING")
    made = validate(statistics(7, train=rides()), schema, validations=[cheap])
    assert (made.properties["anomalies"], made.properties["warnings"]) == (1, 1)
    assert "; warning: split train: fare: `feature.num_stats.mean < 5` is false" in str(made.properties["reason"])


def test_a_validation_may_compare_with_the_span_before(statistics, validate) -> None:
    doubled = validation("feature_test.num_stats.mean < 2 * feature_base.num_stats.mean", description="no jump")
    now, before = statistics(7, train=rides(factor=3)), statistics(6, train=rides())
    assert "fare: no jump" in str(validate(now, previous=before, validations=[doubled]).properties["reason"])
    assert validate(now, previous=now, validations=[doubled]).blessed
    first = validate(now, validations=[doubled])
    assert first.blessed
    assert "not evaluated: no span before to compare with" in str(first.properties["reason"])


def test_a_column_that_a_span_lacks_is_not_evaluated_and_that_is_said(statistics, validate) -> None:
    optional = SCHEMA.replace('"payment" type: BYTES presence { min_fraction: 1.0 }', '"payment" type: BYTES')
    rare = validation("feature.string_stats.unique < 10", "payment")
    made = validate(statistics(7, train=rides(tips=False, without=["payment"])), optional, validations=[rare])
    assert made.properties["reason"] == (
        "no anomalies; "
        "split train: payment: `feature.string_stats.unique < 10` not evaluated: the span has no such column"
    )
    nothing = validate(statistics(7, train=rides(rows=0)), validations=[validation("1 / feature.num_stats.mean > 1")])
    assert nothing.properties["reason"] == "split train: no examples", "SQL on statistics of nothing says nothing"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        pytest.param("feature.num_stats.min >>> 1", 'Syntax error: Unexpected ">"', id="syntax"),
        pytest.param("feature.num_stats.minn > 1", "Did you mean min?", id="field"),
        pytest.param("feature.num_stats.min", "Validation predicate returned non-bool", id="no condition"),
        pytest.param("feature.string_stats.unique > 1", "Validation predicate returned null", id="null"),
        pytest.param("1 / feature.num_stats.num_zeros > 1", "division by zero", id="division"),
    ],
)
def test_a_broken_expression_is_named_with_what_tfdv_says(statistics, validate, expression, said) -> None:
    good = validation("feature.num_stats.min > 0")
    with pytest.raises(ComponentFailed) as error:
        validate(statistics(7, train=rides()), validations=[good, validation(expression)])
    message = error.value.message
    assert message.startswith("pipeline test, node example_validator, all, split train: validation of fare: ")
    assert f"`{expression}`: " in message
    assert said in message
    assert "feature.num_stats.min" in error.value.hint


def test_what_the_hint_proposes_works(statistics, validate) -> None:
    now = statistics(7, train=rides())
    for expression in (
        "IFNULL(feature.string_stats.unique, 0) < 1",
        "IFNULL(SAFE_DIVIDE(1, feature.num_stats.num_zeros), 0) < 1",
    ):
        assert validate(now, validations=[validation(expression)]).blessed


def test_unknown_features_are_refused_with_the_known_ones(statistics, validate) -> None:
    now = statistics(7, train=rides())
    for key, spec in (
        ("skew of tip", {"skew": {"tip": 0.1}}),
        ("validations of tip", {"validations": [validation("feature.num_stats.min > 0", "tip")]}),
    ):
        with pytest.raises(BadInput, match=f"{key}, which the schema does not have") as error:
            validate(now, serving=now, **spec)
        assert "may name fare, hour, payment, tips" in error.value.hint
