"""Columns that are not the same in every span: blank in one, whole numbers in the next, fractions in the third."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0.schema_pb2 import Feature, FeatureType

from ctd.components.examples_io import read_split
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput
from tests.components.conftest import Perform

pytestmark = pytest.mark.tf

BLANK, WHOLE, FRACTIONS, WORDS = [""] * 40, [str(i % 7) for i in range(40)], ["0.5", "1.5"] * 20, ["a", "b"] * 20
Spans = Callable[..., list[Artifact]]


@pytest.fixture
def spans(work: Perform, tmp_path: Path) -> Spans:
    """`spans([cells of column x], ...)` gives the Examples of each; more keywords go into the example_gen's spec."""

    def perform(*columns: Sequence[str], **spec: object) -> list[Artifact]:
        made: list[Artifact] = []
        for number, cells in enumerate(columns, 1):
            path = tmp_path / f"{number}.csv"
            path.write_text("x,row\n" + "".join(f"{cell},{row}\n" for row, cell in enumerate(cells)))
            said = {"input": "data/{SPAN}", **spec}
            made += work("example_gen", spec=said, files=[path], span=number)["examples"]
        return made

    return perform


def inferred(work: Perform, examples: Sequence[Artifact]) -> tuple[Feature, int]:
    """What the schema of all spans says of x, and how many anomalies the spans have by it."""
    statistics = [work("statistics_gen", inputs={"examples": one})["statistics"][0] for one in examples]
    (schema,) = work("schema_gen", inputs={"statistics": statistics})["schema"]
    checked = [work("example_validator", inputs={"statistics": s, "schema": schema}) for s in statistics]
    said = tfdv.load_schema_text(f"{schema.uri}/schema.pbtxt")
    (feature,) = (f for f in said.feature if f.name == "x")
    return feature, sum(int(str(made["anomalies"][0].properties["anomalies"])) for made in checked)


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param([BLANK, FRACTIONS], id="blank at first"),
        pytest.param([FRACTIONS, BLANK], id="blank later"),
        pytest.param([FRACTIONS, BLANK, FRACTIONS, BLANK], id="blank at times"),
    ],
)
def test_a_blank_span_makes_a_column_optional_and_keeps_its_type(
    work: Perform, spans: Spans, columns: list[list[str]]
) -> None:
    feature, anomalies = inferred(work, spans(*columns))
    assert (feature.type, feature.lifecycle_stage, anomalies) == (FeatureType.FLOAT, 0, 0)
    assert (feature.presence.min_fraction, feature.value_count.max, feature.HasField("shape")) == (0, 1, False)


def test_a_column_that_is_always_full_stays_required(work: Perform, spans: Spans) -> None:
    feature, anomalies = inferred(work, spans(FRACTIONS, FRACTIONS))
    assert (feature.presence.min_fraction, feature.HasField("shape"), anomalies) == (1, True, 0)


@pytest.mark.parametrize(
    ("columns", "said", "declare"),
    [
        pytest.param([FRACTIONS, WHOLE], "'x' is INT, and FLOAT in what came before", "{x: float}", id="numbers"),
        pytest.param([WHOLE, WORDS], "'x' is BYTES, and INT in what came before", "{x: string}", id="words"),
    ],
)
def test_spans_that_disagree_on_a_type_are_named_and_not_dropped(
    work: Perform, spans: Spans, columns: list[list[str]], said: str, declare: str
) -> None:
    with pytest.raises(BadInput, match=f"span 2, split train: feature {said}") as caught:
        inferred(work, spans(*columns))
    assert declare in caught.value.hint


def test_a_declared_type_is_that_of_every_span(work: Perform, spans: Spans) -> None:
    examples = spans(WHOLE, FRACTIONS, BLANK, types={"x": "float"})
    feature, anomalies = inferred(work, examples)
    assert (feature.type, anomalies) == (FeatureType.FLOAT, 0)
    for artifact in examples:
        for record in read_split([f"{artifact.uri}/Split-train/data_tfrecord-00000-of-00001.gz"]):
            cell = tf.train.Example.FromString(record).features.feature["x"]
            assert cell.WhichOneof("kind") == "float_list"


@pytest.mark.parametrize(
    ("types", "said"),
    [
        pytest.param({"x": "int"}, "1.csv: column x is to be int, which '0.5' is not", id="another type"),
        pytest.param({"y": "int"}, "1.csv:1: no column y, of which `types` gives the type", id="no such column"),
    ],
)
def test_cells_must_be_of_the_declared_type(spans: Spans, types: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        spans(FRACTIONS, types=types)


MODULE = """
def preprocessing_fn(inputs):
    return {"x_xf": inputs["x"], "row_xf": inputs["row"]}
"""
GAPS = ["", *FRACTIONS[1:]]


def over(work: Perform, examples: Sequence[Artifact], schema: Artifact, tmp_path: Path) -> int:
    """How many spans Transform writes, with this schema over these examples."""
    (tmp_path / "my_module.py").write_text(MODULE)
    inputs = {"examples": examples, "schema": schema}
    return len(work("transform", inputs=inputs, module=str(tmp_path / "my_module.py"))["transformed_examples"])


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param([GAPS, FRACTIONS, FRACTIONS], id="a blank cell in the oldest"),
        pytest.param([BLANK, FRACTIONS, FRACTIONS], id="no cell in the oldest"),
        pytest.param([FRACTIONS, GAPS, FRACTIONS], id="a blank cell between"),
        pytest.param([FRACTIONS, FRACTIONS, GAPS], id="a blank cell in the newest"),
    ],
)
def test_a_schema_of_a_whole_window_fits_the_window(
    work: Perform, spans: Spans, tmp_path: Path, columns: list[list[str]]
) -> None:
    examples = spans(*columns)
    statistics = [work("statistics_gen", inputs={"examples": one})["statistics"][0] for one in examples]
    (schema,) = work("schema_gen", inputs={"statistics": statistics})["schema"]
    assert over(work, examples, schema, tmp_path) == 3


def test_a_schema_of_a_clean_span_does_not_fit_and_the_keys_that_help_are_named(
    work: Perform, spans: Spans, tmp_path: Path
) -> None:
    examples = spans(GAPS, FRACTIONS)
    (statistics,) = work("statistics_gen", inputs={"examples": examples[1]})["statistics"]
    (schema,) = work("schema_gen", inputs={"statistics": statistics})["schema"]
    with pytest.raises(BadInput, match=r"span 1\b.*is not as the schema says: .*\bx\b") as refused:
        over(work, examples, schema, tmp_path)
    assert "schema_gen without `window`" in refused.value.hint
    said = {"infer_feature_shape": False}
    (shapeless,) = work("schema_gen", spec=said, inputs={"statistics": statistics})["schema"]
    assert over(work, examples, shapeless, tmp_path) == 2
