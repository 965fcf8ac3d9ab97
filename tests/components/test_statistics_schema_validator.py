"""Statistics, schemas and anomalies are TFDV's own, and their digests change only with their meaning."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0.anomalies_pb2 import Anomalies
from tensorflow_metadata.proto.v0.schema_pb2 import Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from ctd.components.api import split_files
from ctd.components.csv_examples import parse_csv, to_examples
from ctd.components.examples_io import digest_of_splits, write_split
from ctd.components.metadata_files import digest_of_statistics, read_schema, schema_of, statistics_of
from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import BadInput

pytestmark = pytest.mark.tf


def rides(number: int, seed: int = 1, card: float = 0.5, factor: float = 1.0) -> str:
    """CSV of rides: the share that is paid by card and the size of the fares may drift."""
    chance = np.random.default_rng(seed)
    rows = ["fare,payment,hour,company"]
    for _ in range(number):
        payment = "Card" if chance.random() < card else "Cash"
        company = chance.choice(["Blue", "Red", ""])
        rows.append(f"{chance.gamma(2, 5) * factor:.2f},{payment},{chance.integers(24)},{company}")
    return "\n".join(rows) + "\n"


def examples(folder: Path, **csv: str) -> Artifact:
    """An Examples artifact with these splits."""
    return examples_of(folder, **{split: to_examples([parse_csv(text.encode(), split)]) for split, text in csv.items()})


def examples_of(folder: Path, **splits: list[bytes]) -> Artifact:
    folder.mkdir(parents=True)
    for split, records in splits.items():
        write_split(folder, split, records)
    properties = {"split_names": json.dumps(list(splits))}
    return Artifact(ArtifactType.EXAMPLES, str(folder), digest_of_splits(splits), 7, 1, properties)


def artifact_of(schema: Schema | str, folder: Path) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    text = schema if isinstance(schema, str) else text_format.MessageToString(schema)
    (folder / "schema.pbtxt").write_text(text)
    return Artifact(ArtifactType.SCHEMA, str(folder))


@pytest.fixture
def statistics(work, tmp_path):
    """`statistics(train=csv, eval=csv)` gives the artifact."""

    def make(**csv: str) -> Artifact:
        folder = tmp_path / f"examples-{len(list(tmp_path.iterdir()))}"
        return work("statistics_gen", inputs={"examples": examples(folder, **csv)})["statistics"][0]

    return make


@pytest.fixture
def validate(work, statistics, tmp_path):
    """Validate a span against the schema of good rides."""
    good = statistics(train=rides(300), eval=rides(150, seed=2))
    (schema,) = work("schema_gen", inputs={"statistics": good})["schema"]

    def check(now: Artifact, previous: Artifact | None = None, **drift: float) -> Artifact:
        inputs = {"statistics": now, "schema": schema} | ({"previous_statistics": previous} if previous else {})
        return work("example_validator", spec={"drift": drift}, inputs=inputs)["anomalies"][0]

    return check


def equal_but_for_rounding(one, other) -> None:
    """Beam adds the batches' moments up in another order; everything else must be the same."""
    assert len(one.datasets) == len(other.datasets) == 1
    assert digest_of_statistics({"": one}) == digest_of_statistics({"": other})


def numbers(mean: float, deviation: float) -> dict[str, DatasetFeatureStatisticsList]:
    made = DatasetFeatureStatisticsList()
    stats = made.datasets.add().features.add().num_stats
    stats.mean, stats.std_dev = mean, deviation
    return {"": made}


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        pytest.param((49.345125, 28.77), (49.34512499999999, 28.770000000000003), True, id="last digits"),
        pytest.param((1e-17, 1.0), (-3e-17, 1.0), True, id="a mean of nothing but rounding"),
        pytest.param((1e6, 0.0), (1e6, 1.2e-10), True, id="a deviation of nothing but rounding"),
        pytest.param((float("nan"), 0.0), (float("nan"), 0.0), True, id="no number"),
        pytest.param((49.345125, 28.77), (49.345126, 28.77), False, id="another mean"),
        pytest.param((1e-17, 1e-17), (3e-17, 1e-17), False, id="another small mean"),
        pytest.param((0.0, 0.0), (0.0, 1e-300), False, id="one that is not zero"),
        pytest.param((1.0, float("inf")), (2.0, float("inf")), False, id="another mean, beside no number"),
    ],
)
def test_digests_of_statistics_leave_out_what_the_order_of_sums_decides(one, other, equal) -> None:
    assert (digest_of_statistics(numbers(*one)) == digest_of_statistics(numbers(*other))) is equal


def test_statistics_are_those_that_tfdv_computes_with_beam(work, tmp_path) -> None:
    made = examples(tmp_path / "examples", train=rides(300), eval=rides(150, seed=2))
    (statistics,) = work("statistics_gen", inputs={"examples": made})["statistics"]
    assert statistics.properties["split_names"] == '["train", "eval"]'
    assert (statistics.span, statistics.version) == (7, 1)
    for split in ("train", "eval"):
        path = Path(statistics.uri, f"Split-{split}", "FeatureStats.pb")
        (file,) = split_files(made, split)
        equal_but_for_rounding(tfdv.load_stats_binary(str(path)), tfdv.generate_statistics_from_tfrecord(file))


@pytest.mark.realdata
def test_statistics_of_the_real_data_are_those_that_tfdv_computes_with_beam(work, tmp_path, real_data) -> None:
    made = examples(tmp_path / "examples", all=(real_data / "data.csv").read_text())
    (statistics,) = work("statistics_gen", inputs={"examples": made})["statistics"]
    (file,) = split_files(made, "all")
    equal_but_for_rounding(statistics_of(statistics, "all"), tfdv.generate_statistics_from_tfrecord(file))


def test_a_column_may_be_blank_for_long_and_be_there_later(statistics) -> None:
    late = "a,b\n" + "1,\n" * 2500 + "2,x\n"
    (dataset,) = statistics_of(statistics(train=late), "train").datasets
    (b,) = [feature for feature in dataset.features if list(feature.path.step) == ["b"]]
    assert (b.string_stats.common_stats.num_non_missing, b.string_stats.common_stats.num_missing) == (2501, 0)
    assert b.string_stats.common_stats.tot_num_values == 1


def test_equal_examples_have_equal_statistics_digests_and_others_other_ones(statistics) -> None:
    one, again = statistics(train=rides(300)), statistics(train=rides(300))
    assert one.digest == again.digest
    assert statistics(train=rides(300).replace("Cash", "Card", 1)).digest != one.digest
    assert statistics(eval=rides(300)).digest != one.digest


@pytest.mark.parametrize("lines", [300, 3000])
def test_examples_that_disagree_on_a_type_are_refused(work, tmp_path, lines) -> None:
    records = to_examples([parse_csv(rides(lines).encode(), "")]) + to_examples([parse_csv(b"fare\nten\n", "")])
    mixed = examples_of(tmp_path / "mixed", train=records)
    with pytest.raises(BadInput, match="split train: examples do not agree on the types") as error:
        work("statistics_gen", inputs={"examples": mixed})
    assert error.value.hint


# SchemaGen


def test_a_schema_covers_all_splits_of_all_spans(work, statistics) -> None:
    spans = [
        statistics(train="a,b\n1,x\n2,y\n", eval="a,b\n3,z\n"),
        statistics(train="a,b,c\n1,w,5\n", eval="a,b,c\n1,x,5\n"),
    ]
    (made,) = work("schema_gen", spec={"window": 2}, inputs={"statistics": spans})["schema"]
    schema = schema_of(made)
    assert {feature.name for feature in schema.feature} == {"a", "b", "c"}
    assert set(tfdv.get_domain(schema, "b").value) == {"w", "x", "y", "z"}


def test_shapes_are_inferred_unless_the_spec_says_no(work, statistics) -> None:
    inputs = {"statistics": statistics(train=rides(50))}
    (with_shapes,) = work("schema_gen", inputs=inputs)["schema"]
    (without,) = work("schema_gen", spec={"infer_feature_shape": False}, inputs=inputs)["schema"]
    assert tfdv.get_feature(schema_of(with_shapes), "fare").HasField("shape")
    assert not tfdv.get_feature(schema_of(without), "fare").HasField("shape")
    assert with_shapes.digest != without.digest


# Importer


SCHEMA = """
# Curated.
feature { name: "fare" type: FLOAT }
feature { name: "payment" type: BYTES }
"""


def imported(work, path: Path, kind: str = "Schema") -> Artifact:
    spec = {"artifact": kind, "path": str(path)}
    ((made,),) = work("importer", spec=spec, paths={"path": str(path)}).values()
    return made


def test_a_schema_keeps_its_comments_and_its_digest_does_not_count_them(work, tmp_path) -> None:
    path = tmp_path / "schema.pbtxt"
    path.write_text(SCHEMA)
    one = imported(work, path)
    assert one.type is ArtifactType.SCHEMA
    assert one.properties["is_external"] == 1
    assert "# Curated." in Path(one.uri, "schema.pbtxt").read_text()
    path.write_text('feature: <type: BYTES, name: "payment">\nfeature: <name: "fare", type: FLOAT>')
    assert imported(work, path).digest == one.digest
    path.write_text(SCHEMA.replace("FLOAT", "INT"))
    assert imported(work, path).digest != one.digest


@pytest.mark.realdata
def test_the_real_schema_is_taken_in_as_it_is(work, real_data) -> None:
    made = imported(work, real_data / "schema.pbtxt")
    assert schema_of(made) == read_schema(real_data / "schema.pbtxt")


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        pytest.param("Schema", SCHEMA.replace("FLOAT", "FLOOT"), "thing:3: not a schema", id="schema"),
        pytest.param("Schema", "\xff", "thing:1: not a schema", id="not a text"),
        pytest.param("HyperParameters", '{"a": 1,\n"b": }', "thing:2: not JSON", id="JSON"),
        pytest.param("HyperParameters", "[1]", "thing:1: a JSON list", id="not an object"),
        pytest.param("Model", "", "thing holds no saved_model.pb", id="model"),
        pytest.param("Schema", None, "thing does not exist", id="nothing there"),
    ],
)
def test_what_cannot_be_taken_in_is_refused_with_its_line(work, tmp_path, kind, content, said) -> None:
    path = tmp_path / "thing"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(BadInput) as error:
        imported(work, path, kind)
    assert said in error.value.message
    assert error.value.hint


def test_models_and_hyperparameters_lie_where_the_trainer_looks_for_them(work, tmp_path) -> None:
    model, settings = tmp_path / "model", tmp_path / "best.json"
    (model / "variables").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"graph")
    settings.write_text('{"values": {"units": 64}}')
    assert Path(imported(work, model, "Model").uri, "Format-Serving", "saved_model.pb").read_bytes() == b"graph"
    made = imported(work, settings, "HyperParameters")
    assert json.loads(Path(made.uri, "best_hyperparameters.txt").read_text()) == {"values": {"units": 64}}


# ExampleValidator


def test_a_span_like_the_schema_is_blessed(statistics, validate) -> None:
    made = validate(statistics(train=rides(300, seed=3), eval=rides(150, seed=4)))
    assert made.blessed
    assert made.properties["anomalies"] == 0
    assert made.properties["reason"] == "no anomalies"
    assert json.loads(str(made.properties["blessed_splits"])) == {"train": 1, "eval": 1}
    assert (made.span, made.version) == (7, 1)


def test_blank_cells_are_missing_values_for_which_the_schema_sets_limits(work, statistics, tmp_path) -> None:
    feature = 'feature {{ name: "company" type: BYTES value_count {{ min: 1 max: 1 }} presence {{ {} }} }}'
    types = {"fare": "FLOAT", "payment": "BYTES", "hour": "INT"}
    rest = "".join(f'feature {{ name: "{name}" type: {type_} }}' for name, type_ in types.items())
    now = statistics(train=rides(300))  # a third of the companies is blank
    for limit, blessed in (("min_fraction: 0.5", 1), ("min_fraction: 0.9", 0)):
        (made,) = work(
            "example_validator",
            inputs={"statistics": now, "schema": artifact_of(rest + feature.format(limit), tmp_path / "schema")},
        )["anomalies"]
        assert made.properties["blessed"] == blessed
        assert ("minimum fraction = 0.9" in str(made.properties["reason"])) is not bool(blessed)


def test_a_column_that_is_blank_in_one_split_only_is_missing_there(work, statistics, tmp_path) -> None:
    rare = 'feature { name: "a" type: INT } feature { name: "b" type: INT value_count { min: 1 max: 1 } }'
    every = rare.replace("max: 1 }", "max: 1 } presence { min_count: 1 }")
    columns = to_examples([parse_csv(b"a,b\n1,5\n2,\n3,\n", "")])
    made = examples_of(tmp_path / "split", train=columns[1:], eval=columns[:1])
    inputs = {"statistics": work("statistics_gen", inputs={"examples": made})["statistics"][0]}
    for text, splits in ((rare, {"train": 1, "eval": 1}), (every, {"train": 0, "eval": 1})):
        inputs["schema"] = artifact_of(text, tmp_path / "schema")
        (anomalies,) = work("example_validator", inputs=inputs)["anomalies"]
        assert json.loads(str(anomalies.properties["blessed_splits"])) == splits
    (schema,) = work("schema_gen", inputs={"statistics": inputs["statistics"]})["schema"]
    (anomalies,) = work("example_validator", inputs=inputs | {"schema": schema})["anomalies"]
    assert anomalies.blessed


def test_anomalies_are_told_with_split_feature_and_numbers_and_are_no_failure(statistics, validate) -> None:
    bad = rides(150).replace("Cash", "Barter", 30)
    made = validate(statistics(train=rides(300, seed=3), eval=bad))
    assert made.properties["blessed"] == 0
    assert json.loads(str(made.properties["blessed_splits"])) == {"train": 1, "eval": 0}
    assert made.properties["anomalies"] == 1
    reason = str(made.properties["reason"])
    assert reason.startswith("split eval: payment: Unexpected string values")
    assert "Barter (~20%)" in reason
    written = Anomalies.FromString(Path(made.uri, "Split-eval", "SchemaDiff.pb").read_bytes())
    assert list(written.anomaly_info) == ["payment"]


def test_many_anomalies_are_counted_beyond_the_first_few(statistics, validate) -> None:
    wide = ",".join(f"new{i}" for i in range(8)) + "\n" + ",".join("1" * 8) + "\n"
    made = validate(statistics(train=wide))
    reason = str(made.properties["reason"])
    count = int(made.properties["anomalies"])
    assert count > 8
    assert reason.endswith(f"; and {count - 5} more")


def test_drift_is_measured_against_the_span_before_with_the_limits_of_the_spec(statistics, validate) -> None:
    before = statistics(train=rides(600, card=0.5))
    paid_otherwise = statistics(train=rides(600, seed=3, card=0.8))
    dearer = statistics(train=rides(600, seed=3, factor=3))
    assert validate(paid_otherwise, before).blessed
    assert validate(paid_otherwise, None, payment=0.1).blessed
    assert validate(paid_otherwise, before, payment=0.5).blessed
    refused = validate(paid_otherwise, before, payment=0.1)
    assert not refused.blessed
    assert "payment: drift 0.29" in str(refused.properties["reason"])
    assert " > 0.1 (L-infinity against span 7, " in str(refused.properties["reason"])
    assert validate(statistics(train=rides(600, seed=3)), before, fare=0.1).blessed
    refused = validate(dearer, before, fare=0.1)
    assert " > 0.1 (Jensen-Shannon against span 7)" in str(refused.properties["reason"])


def test_drift_of_an_unknown_feature_is_refused_with_the_known_ones(statistics, validate) -> None:
    with pytest.raises(BadInput, match="drift of tips, which the schema does not have") as error:
        validate(statistics(train=rides(50)), None, tips=0.1)
    assert "company, fare, hour, payment" in error.value.hint


def test_anomalies_have_equal_digests_when_they_say_the_same(statistics, validate) -> None:
    good, bad = statistics(train=rides(300)), statistics(train=rides(300).replace("Cash", "Barter", 30))
    assert validate(good).digest == validate(good).digest != validate(bad).digest


def test_an_unreadable_schema_or_missing_statistics_are_refused(work, statistics, tmp_path) -> None:
    made = statistics(train=rides(50))
    broken = artifact_of("feature {\n nome: 1 }", tmp_path / "broken")
    with pytest.raises(BadInput, match=r"schema\.pbtxt:2: not a schema"):
        work("example_validator", inputs={"statistics": made, "schema": broken})
    Path(made.uri, "Split-train", "FeatureStats.pb").unlink()
    with pytest.raises(BadInput, match="no statistics"):
        work("schema_gen", inputs={"statistics": made})
