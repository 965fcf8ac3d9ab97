"""Transform gives what TFT through Beam gives, in files that TFTransformOutput reads, and a digest of its meaning."""

import json
import shutil
import textwrap
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_metadata.proto.v0.schema_pb2 import Schema

from ctd.components.graph_digest import digest_of_transform_graph
from ctd.components.metadata_files import schema_of
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput, ComponentFailed
from tests.components.transform_data import SCHEMA, examples, rides, schema, with_beam, written

pytestmark = pytest.mark.tf

MODULE = """
import tensorflow as tf
import tensorflow_transform as tft

def preprocessing_fn(inputs):
    return {
        "fare_xf": tft.scale_to_z_score(inputs["fare"]),
        "bucket_xf": tft.bucketize(inputs["fare"], 4),
        "payment_xf": tft.compute_and_apply_vocabulary(inputs["payment"], vocab_filename="payment"),
        "company_xf": tft.compute_and_apply_vocabulary(inputs["company"], num_oov_buckets=1),
    }
"""


@pytest.fixture
def transform(work, tmp_path):
    """`transform(module text, [artifacts])` gives the outputs."""

    def run(module: str, artifacts: list[Artifact], text: str = SCHEMA, **spec):
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        inputs = {"examples": artifacts, "schema": schema(folder, text)}
        (folder / "my_module.py").write_text(textwrap.dedent(module))
        return work("transform", spec=spec, inputs=inputs, module=str(folder / "my_module.py"))

    return run


@pytest.fixture
def span(tmp_path) -> Artifact:
    return examples(tmp_path / "span", train=rides(200), eval=rides(100, seed=2))


def test_transformed_examples_are_those_of_tft_through_beam(transform, span, tmp_path) -> None:
    (made,) = transform(MODULE, [span])["transformed_examples"]
    (tmp_path / "oracle.py").write_text(MODULE)
    train, evaluation = written(span, "train"), written(span, "eval")
    said = text_format.Parse(SCHEMA, Schema())
    expected = with_beam(tmp_path / "beam", tmp_path / "oracle.py", said, [train], train + evaluation)
    assert sorted(written(made, "train") + written(made, "eval")) == expected
    assert len(written(made, "eval")) == len(evaluation)


@pytest.mark.realdata
def test_transformed_real_data_is_that_of_tft_through_beam(work, real_data, tmp_path) -> None:
    text = (real_data / "data.csv").read_text()
    module = Path(__file__).parents[2] / "examples" / "taxi" / "taxi.py"
    given = {
        "examples": examples(tmp_path / "span", train=text),
        "schema": schema(tmp_path / "schema", (module.parent / "schema.pbtxt").read_text()),
    }
    (made,) = work("transform", inputs=given, module=str(module))["transformed_examples"]
    train = written(given["examples"], "train")
    expected = with_beam(tmp_path / "beam", module, schema_of(given["schema"]), [train], train)
    assert len(expected) == 15_002
    for ours, theirs in zip(sorted(map(rounded, written(made, "train"))), sorted(map(rounded, expected)), strict=True):
        assert ours == theirs


def rounded(record: bytes) -> str:
    """An example as text; sums of floats may differ in the last digits, as batches differ."""
    found = {}
    for name, feature in tf.train.Example.FromString(record).features.feature.items():
        numbers = [f"{value + 0.0:.3f}" for value in feature.float_list.value]
        found[name] = numbers or [*feature.int64_list.value]
    return json.dumps(found, sort_keys=True)


def test_outputs_are_laid_out_as_tft_and_tfx_read_them(transform, span) -> None:
    outputs = transform(MODULE, [span])
    (graph,) = outputs["transform_graph"]
    output = tft.TFTransformOutput(graph.uri)
    assert set(output.transformed_feature_spec()) == {"fare_xf", "bucket_xf", "payment_xf", "company_xf"}
    assert set(output.raw_feature_spec()) == {"fare", "payment", "company"}
    assert sorted(output.vocabulary_by_name("payment")) == [b"Card", b"Cash", b"Coin"]
    assert sorted(path.name for path in Path(graph.uri).iterdir()) == [
        "metadata",
        "transform_fn",
        "transformed_metadata",
    ]
    (made,) = outputs["transformed_examples"]
    assert (made.span, made.version) == (7, 1)
    assert made.properties["split_names"] == '["train", "eval"]'
    assert made.properties["payload_format"] == "FORMAT_TF_EXAMPLE"
    assert json.loads(str(made.properties["num_examples"])) == {"train": 200, "eval": 100}
    tf.io.parse_example(written(made, "train"), output.transformed_feature_spec())
    left = {path.name for path in Path(graph.uri).parent.iterdir()}
    assert left == {".progress", "transform_graph", "transformed_examples", "updated_analyzer_cache"}


def test_the_window_is_analysed_as_one_and_every_span_transformed(transform, tmp_path) -> None:
    spans = [
        examples(tmp_path / "one", span=1, train=rides(50, payments="Cash"), eval=rides(30, payments="Card")),
        examples(tmp_path / "two", span=2, train=rides(50, payments="Coin"), eval=rides(20)),
    ]
    outputs = transform(MODULE, spans, window=2)
    graph = tft.TFTransformOutput(outputs["transform_graph"][0].uri)
    assert sorted(graph.vocabulary_by_name("payment")) == [b"Cash", b"Coin"]
    assert [artifact.span for artifact in outputs["transformed_examples"]] == [1, 2]
    counts = [json.loads(str(a.properties["num_examples"])) for a in outputs["transformed_examples"]]
    assert counts == [{"train": 50, "eval": 30}, {"train": 50, "eval": 20}]
    both = transform(MODULE, spans, window=2, analyze_splits=["train", "eval"])["transform_graph"][0]
    assert sorted(tft.TFTransformOutput(both.uri).vocabulary_by_name("payment")) == [b"Card", b"Cash", b"Coin"]


def test_equal_work_gives_equal_digests_although_the_bytes_differ(transform, span) -> None:
    one, again = (transform(MODULE, [span]) for _ in range(2))
    files = [Path(run["transform_graph"][0].uri, "transform_fn", "saved_model.pb").read_bytes() for run in (one, again)]
    assert files[0] != files[1]
    assert one["transform_graph"][0].digest == again["transform_graph"][0].digest
    assert one["transformed_examples"][0].digest == again["transformed_examples"][0].digest


SWAPPED = MODULE.replace('inputs["payment"]', "0").replace('inputs["company"]', 'inputs["payment"]').replace(
    "vocabulary(0", 'vocabulary(inputs["company"]'
)  # fmt: skip


@pytest.mark.parametrize(
    ("module", "csv"),
    [
        pytest.param(MODULE, rides(200, payments="Cash Card Chip"), id="another word"),
        pytest.param(MODULE, rides(200, seed=3), id="other constants"),
        pytest.param(MODULE.replace(", 4)", ", 4) + 1"), rides(200), id="another operation"),
        pytest.param(MODULE.replace("bucket_xf", "bucket"), rides(200), id="another name of a feature"),
        pytest.param(SWAPPED, rides(200), id="vocabularies changed places"),
    ],
)
def test_another_meaning_gives_another_digest(transform, span, tmp_path, module, csv) -> None:
    other = examples(tmp_path / "other", train=csv, eval=rides(100, seed=2))
    digests = [transform(m, [s])["transform_graph"][0].digest for m, s in ((MODULE, span), (module, other))]
    assert digests[0] != digests[1]


def test_the_content_of_a_vocabulary_is_part_of_the_digest(transform, span, tmp_path) -> None:
    (graph,) = transform(MODULE, [span])["transform_graph"]
    copy = tmp_path / "copy"
    shutil.copytree(graph.uri, copy)
    assert digest_of_transform_graph(copy) == graph.digest
    (vocabulary,) = copy.glob("transform_fn/assets/payment")
    vocabulary.write_bytes(vocabulary.read_bytes().replace(b"Coin", b"Coal"))
    assert digest_of_transform_graph(copy) != graph.digest


def test_custom_config_is_given_to_those_that_ask_for_it(transform, span) -> None:
    asking = """
    def preprocessing_fn(inputs, custom_config):
        return {"fare_xf": inputs["fare"] * custom_config["factor"]}
    """
    (made,) = transform(asking, [span], custom_config={"factor": 2})["transformed_examples"]
    before, after = (
        tf.train.Example.FromString(written(a, "train")[0]).features.feature[name].float_list.value[0]
        for a, name in ((span, "fare"), (made, "fare_xf"))
    )
    assert after == pytest.approx(2 * before)
    assert transform(MODULE, [span], custom_config={"factor": 2})["transformed_examples"]


# Errors


@pytest.mark.parametrize(
    ("module", "said"),
    [
        pytest.param(
            "def preprocessing_fn(inputs):\n    return {'x': inputs['fair']}",
            r"preprocessing_fn raised KeyError: 'fair' at .*/my_module\.py:2",
            id="raises",
        ),
        pytest.param("def preprocessing_fn(inputs):\n    return {}", "returned an empty dict", id="empty"),
        pytest.param("def preprocess(inputs):\n    return inputs", "no function preprocessing_fn", id="another name"),
        pytest.param("def preprocessing_fn(inputs:\n", r"importing my_module\.py raised SyntaxError", id="syntax"),
        pytest.param(
            "import tensorflow as tf\ndef preprocessing_fn(inputs):\n"
            "    with tf.control_dependencies([tf.debugging.assert_less(inputs['fare'], 0.0)]):\n"
            "        return {'x': tf.identity(inputs['fare'])}",
            "the graph of preprocessing_fn on span 7.v1, split train, raised",
            id="when applied",
        ),
    ],
)
def test_what_the_users_code_does_wrong_is_said_with_its_line(transform, span, module, said) -> None:
    with pytest.raises(ComponentFailed, match=said) as error:
        transform(module, [span])
    assert error.value.hint


@pytest.mark.parametrize(
    ("csv", "text"),
    [
        pytest.param(rides(50).replace("fare", "fair"), SCHEMA, id="a column with a shape is missing"),
        pytest.param("fare,payment,company\n,Cash,Blue\n", SCHEMA, id="a cell with a shape is blank"),
        pytest.param("fare,payment,company\nten,Cash,Blue\n", SCHEMA, id="another type"),
    ],
)
def test_data_unlike_the_schema_is_refused_with_split_and_hint(transform, tmp_path, csv, text) -> None:
    bad = examples(tmp_path / "bad", train=csv)
    with pytest.raises(BadInput, match=r"span 7\.v1, split train, is not as the schema says") as error:
        transform(MODULE, [bad], text)
    assert "fare" in error.value.message
    assert error.value.hint


def test_a_column_that_the_schema_lacks_a_shape_for_may_be_missing(transform, tmp_path) -> None:
    narrow = examples(tmp_path / "narrow", train="fare,payment\n1.5,Cash\n2.5,Card\n")
    (made,) = transform(MODULE, [narrow])["transformed_examples"]
    example = tf.train.Example.FromString(written(made, "train")[0])
    assert not example.features.feature["company_xf"].int64_list.value


def test_a_split_to_analyse_that_is_not_there_is_refused(transform, span) -> None:
    with pytest.raises(BadInput, match="no split 'test', only train, eval"):
        transform(MODULE, [span], analyze_splits=["test"])
