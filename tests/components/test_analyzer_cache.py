"""What analyzers accumulated of a span is used again, and makes no difference but to the time it takes."""

import shutil
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_metadata.proto.v0.schema_pb2 import Schema

from ctd.components.analyzer_cache import unpacked
from ctd.core.artifacts import Artifact, Artifacts
from ctd.core.errors import BadInput
from tests.components.conftest import Perform
from tests.components.transform_data import SCHEMA, examples, rides, schema, with_beam, written

pytestmark = pytest.mark.tf

MODULE = """
import tensorflow as tf
import tensorflow_transform as tft

def preprocessing_fn(inputs):
    return {
        "fare_xf": tft.scale_to_z_score(inputs["fare"]),
        "part_xf": tft.scale_to_0_1(inputs["fare"]),
        "bucket_xf": tft.bucketize(inputs["fare"], 4),
        "payment_xf": tft.compute_and_apply_vocabulary(inputs["payment"], vocab_filename="payment"),
        "company_xf": tft.compute_and_apply_vocabulary(inputs["company"], num_oov_buckets=1, top_k=2),
    }
"""
# The second analyzer sees the result of the first: nothing can be kept of it.
TWICE = 'tft.bucketize(tft.scale_to_z_score(inputs["fare"]), 4)'
TWO_PHASES = MODULE.replace('tft.bucketize(inputs["fare"], 4)', TWICE)

Transform = Callable[..., Artifacts]


@pytest.fixture(scope="module")
def transform(work: Perform, tmp_path_factory: pytest.TempPathFactory) -> Transform:
    """`transform(spans)` gives the outputs; `before` are those of the execution before it."""

    def run(
        spans: list[Artifact],
        before: Artifacts | None = None,
        module: str = MODULE,
        paths: Mapping[str, str] = {},
        **spec: Any,
    ) -> Artifacts:
        folder = tmp_path_factory.mktemp("transform")
        inputs: dict[str, Any] = {"examples": spans, "schema": schema(folder / "schema")}
        if before:
            inputs["analyzer_cache"] = before["updated_analyzer_cache"]
        path = folder / "my_module.py"
        path.write_text(textwrap.dedent(module))
        return work("transform", spec={"materialize": False, **spec}, inputs=inputs, module=str(path), paths=paths)

    return run


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """Three spans, whose vocabularies differ."""
    folder, payments = tmp_path_factory.mktemp("spans"), ("Cash Card", "Card Coin", "Coin Coal")
    return [
        examples(folder / f"{i}", span=i, train=rides(150, seed=i, payments=said), eval=rides(20, seed=9))
        for i, said in enumerate(payments, 1)
    ]


@pytest.fixture
def spans(kept: list[Artifact], tmp_path: Path) -> list[Artifact]:
    """The three spans, to be harmed."""
    return [replace(a, uri=str(shutil.copytree(a.uri, tmp_path / f"span-{a.span}"))) for a in kept]


@pytest.fixture(scope="module")
def before(transform: Transform, kept: list[Artifact]) -> Artifacts:
    """What was made of the first two spans."""
    return transform(kept[:2])


def content(outputs: Artifacts) -> tuple[str, dict[str, bytes]]:
    """What the graph computes, and what is kept for the next time."""
    cache = Path(outputs["updated_analyzer_cache"][0].uri)
    return outputs["transform_graph"][0].digest, {path.name: path.read_bytes() for path in cache.iterdir()}


def gone(span: Artifact) -> Artifact:
    """The span, its files taken away: whoever reads them fails."""
    for split in Path(span.uri).iterdir():
        shutil.rmtree(split)
    return span


def test_a_window_is_analysed_as_tft_does_it_by_spans(transform, spans, before, tmp_path) -> None:
    made = transform(spans[1:], before, materialize=True)
    (tmp_path / "oracle.py").write_text(MODULE)
    records = [record for split in ("train", "eval") for span in spans[1:] for record in written(span, split)]
    trains = [written(span, "train") for span in spans[1:]]
    said = text_format.Parse(SCHEMA, Schema())
    expected = with_beam(tmp_path / "beam", tmp_path / "oracle.py", said, trains, records)
    got = [r for split in ("train", "eval") for span in made["transformed_examples"] for r in written(span, split)]
    assert sorted(got) == expected


def test_with_the_cache_comes_the_same_and_only_the_new_span_is_read(transform, spans, before) -> None:
    scratch = transform(spans)
    again = transform([gone(spans[0]), gone(spans[1]), spans[2]], before)
    assert content(again) == content(scratch)
    vocabulary = tft.TFTransformOutput(again["transform_graph"][0].uri).vocabulary_by_name("payment")
    assert sorted(vocabulary) == [b"Card", b"Cash", b"Coal", b"Coin"]
    gone(spans[2])
    assert content(transform(spans, again)) == content(scratch), "nothing is new"


def test_a_window_that_slides_forgets_what_left_it(transform, spans, before) -> None:
    scratch = transform(spans[1:])
    slid = transform([gone(spans[1]), spans[2]], before)
    assert content(slid) == content(scratch)
    assert len(list(Path(slid["updated_analyzer_cache"][0].uri).iterdir())) == 2


def test_a_corrected_span_is_read_anew(transform, spans, before, tmp_path) -> None:
    corrected = examples(tmp_path / "corrected", span=1, train=rides(150, payments="Chip"), eval=rides(20))
    made = transform([corrected, gone(spans[1])], before)
    vocabulary = tft.TFTransformOutput(made["transform_graph"][0].uri).vocabulary_by_name("payment")
    assert sorted(vocabulary) == [b"Card", b"Chip", b"Coin"]


@pytest.mark.parametrize(
    ("module", "spec"),
    [
        pytest.param(MODULE.replace(", 4)", ", 5)"), {}, id="another number of buckets"),
        pytest.param(MODULE.replace('inputs["fare"], 4', 'inputs["fare"] * 2, 4'), {}, id="of another column"),
        pytest.param(MODULE, {"analyze_splits": ["train", "eval"]}, id="other splits"),
    ],
)
def test_what_another_function_or_other_data_left_is_not_used(transform, spans, before, module, spec) -> None:
    expected = content(transform(spans[:2], module=module, **spec))
    assert content(transform(spans[:2], before, module, **spec)) == expected
    assert expected[0] != content(before)[0]
    assert not expected[1].keys() & content(before)[1].keys()


@pytest.mark.parametrize("named", ["queries/*.sql", "queries/**", "queries"])
def test_an_edit_of_what_code_deps_names_leaves_the_cache_unused(transform, spans, tmp_path, named) -> None:
    (tmp_path / "queries/a").mkdir(parents=True)
    for name in ("1.sql", "2.sql", "a/3.sql"):
        (tmp_path / "queries" / name).write_text("select 1")
    paths = {f"code_deps {named}": str(tmp_path / named)}
    made = transform(spans[:1], paths=paths)
    assert content(transform([gone(spans[0])], made, paths=paths)) == content(made)
    (tmp_path / "queries/2.sql").write_text("select 2")
    with pytest.raises(BadInput, match="span 1"):
        transform(spans[:1], made, paths=paths)


def test_what_another_version_of_a_named_package_left_is_not_used(transform, spans, before) -> None:
    named = transform(spans[:2], before, packages=["numpy"])
    assert not content(named)[1].keys() & content(before)[1].keys()


def test_a_damaged_cache_is_left_alone_and_said(transform, spans, before, tmp_path, caplog) -> None:
    damaged = replace(before["updated_analyzer_cache"][0], uri=str(tmp_path / "damaged"))
    shutil.copytree(before["updated_analyzer_cache"][0].uri, damaged.uri)
    flipped, cut = sorted(Path(damaged.uri).iterdir())
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 255
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:90])
    assert content(transform(spans[:2], {"updated_analyzer_cache": (damaged,)})) == content(before)
    for span in ("span 1.v1", "span 2.v1"):
        assert f"{span} is analysed anew: the cache of it is damaged" in caplog.text


@pytest.mark.parametrize(
    "records",
    [[], [b"{"], [b'[["00", 2]]', b"one"], [b'[["00", 1]]', b"one", b"two"], [b'[["00"]]', b"one"], [b"3"]],
)
def test_records_that_are_not_what_was_written_are_refused(records: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        unpacked(records)


def test_analyzers_of_which_nothing_can_be_kept_read_the_whole_window(transform, spans) -> None:
    scratch = transform(spans, module=TWO_PHASES)
    assert content(transform(spans, scratch, TWO_PHASES)) == content(scratch)
    gone(spans[0])
    with pytest.raises(BadInput, match="span 1"):
        transform(spans, scratch, TWO_PHASES)


def test_a_function_without_analyzers_reads_nothing(transform, spans) -> None:
    plain = "def preprocessing_fn(inputs):\n    return {'fare_xf': inputs['fare'] * 2}\n"
    made = transform([gone(span) for span in spans], module=plain)
    assert set(tft.TFTransformOutput(made["transform_graph"][0].uri).transformed_feature_spec()) == {"fare_xf"}


def test_an_analyzer_may_read_what_a_table_of_the_function_gives(transform, kept) -> None:
    table = """
    import tensorflow as tf
    import tensorflow_transform as tft

    def preprocessing_fn(inputs):
        pairs = tf.lookup.KeyValueTensorInitializer(["Cash", "Card"], [1.0, 3.0])
        table = tf.lookup.StaticHashTable(pairs, -1.0)
        weight = table.lookup(tf.reshape(tf.sparse.to_dense(inputs["payment"]), [-1, 1]))
        return {"weight": weight, "mean": tft.mean(weight) + 0 * weight}
    """
    (made,) = transform(kept[:1], module=table, materialize=True)["transformed_examples"]
    rows = [tf.train.Example.FromString(record).features.feature for record in written(made, "train")]
    weights = [row["weight"].float_list.value[0] for row in rows]
    assert set(weights) == {1.0, 3.0}
    assert rows[0]["mean"].float_list.value[0] == pytest.approx(sum(weights) / len(weights))
