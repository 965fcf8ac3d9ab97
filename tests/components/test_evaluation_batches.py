"""Models are asked about as many examples at once as fit into memory, and what comes out is the same for any number."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis import constants

from bench import evaluation_memory
from ctd.components.evaluation_batches import Batching, Extracts, cut, in_step, rows_of
from ctd.components.evaluation_data import Inference, Subject
from ctd.components.evaluation_examples import Examples
from ctd.components.evaluation_records import Records
from ctd.components.tfrecords import SplitWriter
from ctd.specs.evaluator import EvaluatorSpec
from tests.components import evaluation_models as small
from tests.components.conftest import Perform

pytestmark = pytest.mark.tf

MEGABYTE = 1 << 20


def batch_of(records: list[bytes]) -> Extracts:
    return {
        constants.INPUT_KEY: np.array(records, dtype=object),
        constants.FEATURES_KEY: {"n": np.arange(len(records))},
    }


def asked(batching: Batching, examples: list[Extracts], each: int) -> list[Extracts]:
    """The batches that a model is asked about which takes so many bytes for an example."""

    def ask(batch: Extracts) -> Extracts:
        np.ones(max(1, rows_of(batch) * each), dtype=np.uint8).sum()
        return batch

    return list(batching.each(ask, examples))


def test_small_examples_are_asked_about_by_the_thousand() -> None:
    batches = asked(Batching(), [batch_of([b"x"] * 4096)] * 4, 1)
    assert [rows_of(batch) for batch in batches] == [2, 128, 3966, 4096, 4096, 4096]


def test_large_ones_are_as_many_as_fit() -> None:
    batches = asked(Batching(room=64 * MEGABYTE), [batch_of([b"x"] * 300)] * 2, 4 * MEGABYTE)
    rows = [rows_of(batch) for batch in batches]
    assert sum(rows) == 600
    assert max(rows) <= 32
    assert 8 in rows or 16 in rows
    found = np.concatenate([batch[constants.FEATURES_KEY]["n"] for batch in batches])
    assert found.tolist() == [*range(300)] * 2


def test_examples_that_are_larger_than_the_first_ones_are_fewer() -> None:
    first, later = [b"x" * 10] * 200, [b"x" * 1000] * 200
    batches = asked(Batching(room=64 * MEGABYTE), [batch_of(first), batch_of(later)], 4 * MEGABYTE)
    small_ones = [batch for batch in batches if len(batch[constants.INPUT_KEY][0]) == 10]
    large_ones = [batch for batch in batches if len(batch[constants.INPUT_KEY][0]) == 1000]
    assert max(map(rows_of, large_ones)) <= 2
    assert max(map(rows_of, small_ones)) >= 8


def test_no_example_is_left_alone_where_models_would_drop_the_dimension_of_a_batch() -> None:
    batches = asked(Batching(), [batch_of([b"x"] * 131)], 1)
    assert [rows_of(batch) for batch in batches] == [2, 129]


def test_streams_in_step_have_the_same_rows() -> None:
    one = [batch_of([b"x"] * rows) for rows in (3, 5, 2)]
    other = [batch_of([b"x"] * rows) for rows in (4, 6)]
    pairs = list(in_step(one, other))
    assert [(rows_of(a), rows_of(b)) for a, b in pairs] == [(3, 3), (1, 1), (4, 4), (2, 2)]
    with pytest.raises(ValueError, match="fewer examples"):
        list(in_step(one, other[:1]))


def various(rows: int = 60) -> Iterator[bytes]:
    """Examples with features of every form: of one length, of several lengths, and missing here and there."""
    for row in range(rows):
        example = tf.train.Example()
        example.features.feature["x"].float_list.value.append(row)
        example.features.feature["many"].int64_list.value.extend(range(row % 4))
        if row % 3:
            example.features.feature["sometimes"].bytes_list.value.append(b"%d" % row)
        yield example.SerializeToString()


def test_a_part_of_a_batch_has_the_values_of_its_rows() -> None:
    (whole,) = Examples.of(Records.of(list(various())), None).decoded()
    (part,) = Examples.of(Records.of(list(various())[20:41]), None).decoded()
    found = cut(whole, 20, 41)
    for name, value in part[constants.FEATURES_KEY].items():
        of_whole = found[constants.FEATURES_KEY][name]
        assert type(of_whole) is type(value)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(of_whole, value)
        else:
            for own, other in zip(of_whole.dense_rows(), value.dense_rows(), strict=True):
                np.testing.assert_array_equal(own, other)


def test_a_ragged_feature_is_cut_too() -> None:
    ragged = tf.ragged.constant([[1], [2, 3], [], [4, 5, 6]])
    value = tfma.utils.util.to_ragged_tensor_value(ragged)
    assert tfma.utils.util.to_tensorflow_tensor(cut(value, 1, 4)).to_list() == [[2, 3], [], [4, 5, 6]]


@pytest.mark.parametrize("most", [1, 2, 7, 4096])
def test_predictions_are_the_same_for_any_number_of_examples_at_once(tmp_path: Path, most: int) -> None:
    columns = small.rides()
    model = small.write_model(tmp_path, small.probabilities(1.5), 1, transform_features=small.transform_features)
    spec = EvaluatorSpec(kind="evaluator", label_key="label_xf", metrics={"AUC": {}})
    examples = Examples.of(Records.of(list(small.records(columns))), None)
    subject = Subject.of("candidate", model, spec, examples.features)
    inference = Inference(subject)
    batches = list(Batching(most=most).each(lambda b: inference.predicted(inference.labelled(b)), examples.decoded()))
    assert max(map(rows_of, batches)) <= max(most, 2)
    predictions = np.concatenate([batch[constants.PREDICTIONS_KEY] for batch in batches])
    np.testing.assert_allclose(predictions[:, 0], small.sigmoid(1.5 * columns["x"]), rtol=1e-6)
    labels = np.concatenate([batch[constants.LABELS_KEY] for batch in batches])
    np.testing.assert_array_equal(labels[:, 0], small.label(columns))


def test_examples_that_are_not_held_in_memory_are_read_again(tmp_path: Path) -> None:
    records = [bytes([number]) * 1000 for number in range(200)]
    (tmp_path / "eval").mkdir()
    with SplitWriter(tmp_path / "eval", "eval") as writer:
        writer.add(records)
    files = [str(path) for path in (tmp_path / "eval").rglob("*.gz")]
    held, read = Records.of_files(files), Records.of_files(files, hold=50_000)
    assert held.held is not None
    assert read.held is None
    assert (len(read), read.digest, list(read)) == (len(held), held.digest, records)
    assert [len(batch) for batch in read.batches(64)] == [64, 64, 64, 8]
    assert [len(batch) for batch in read.batches(64, 10_500)] == [10] * 20
    assert len(Records.of_files(files, 30)) == 30


def test_more_examples_than_one_batch_are_measured_as_tfma_does(work: Perform, tmp_path: Path) -> None:
    columns = small.rides(6000)
    examples = small.write_examples(tmp_path / "examples", columns)
    transform = {"transform_features": small.transform_features}
    model = small.write_model(tmp_path / "model", small.probabilities(1.5), 1, **transform)
    baseline = small.write_model(tmp_path / "baseline", small.probabilities(-0.5), 2, **transform)
    spec = {
        "label_key": "label_xf",
        "slices": [[], ["hour"], ["kind", "late_xf"]],
        "metrics": {"AUC": {}, "BinaryAccuracy": {"not_worse_than_baseline_by": 0.1}, "SymmetricFlipRate": {}},
    }
    inputs = {"examples": examples, "model": model, "baseline_model": baseline}
    (evaluation,) = work("evaluator", spec=spec, inputs=inputs)["evaluation"]
    config = tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(name=name, label_key="label_xf", preprocessing_function_names=[*transform], is_baseline=old)
            for name, old in (("candidate", False), ("baseline", True))
        ],
        slicing_specs=[tfma.SlicingSpec(feature_keys=keys) for keys in spec["slices"]],
        metrics_specs=[tfma.MetricsSpec(metrics=[tfma.MetricConfig(class_name=name) for name in spec["metrics"]])],
        options=tfma.Options(include_default_metrics={"value": False}),
    )
    tfma.run_model_analysis(
        eval_shared_model=[
            tfma.default_eval_shared_model(f"{m.uri}/Format-Serving", model_name=name, eval_config=config)
            for name, m in (("candidate", model), ("baseline", baseline))
        ],
        eval_config=config,
        data_location=f"{examples.uri}/Split-eval/*",
        output_path=str(tmp_path / "tfma"),
    )
    for name in ("candidate", "baseline"):
        ours, theirs = (numbers(uri, name) for uri in (evaluation.uri, str(tmp_path / "tfma")))
        assert len(theirs) > 10
        for key, expected in theirs.items():
            found = {metric: value for metric, value in ours[key].items() if metric in expected}
            assert found == pytest.approx(expected, rel=1e-6)


def numbers(folder: str, model: str) -> dict[Any, dict[str, float]]:
    """Slices with their plain numbers, as TFMA reads them."""
    return {
        key: {name: value["doubleValue"] for name, value in found[""][""].items() if "doubleValue" in value}
        for key, found in tfma.load_eval_result(folder, model_name=model).slicing_metrics
    }


def test_an_evaluation_of_decoded_images_takes_no_more_memory_than_it_may(tmp_path: Path) -> None:
    evaluation_memory.write_images(tmp_path / "examples", 700, 64)
    evaluation_memory.write_model(tmp_path / "model", 64)
    assert evaluation_memory.in_a_process("ctd", tmp_path)["megabytes"] < 1500
