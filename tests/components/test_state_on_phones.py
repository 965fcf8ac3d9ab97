"""TFLite models that remember: each question is one of its own, and the card says what an app must do."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from ctd.core.errors import ComponentFailed
from ctd.deploy.tflite import METADATA_FILE, Tflite

pytestmark = pytest.mark.tf

SHAPE = [1, 6, 3]
layers = tf_keras.layers
RECURRENT = {
    "lstm": [layers.LSTM(4)],
    "gru": [layers.GRU(4)],
    "both ways": [layers.Bidirectional(layers.LSTM(4))],
    "stacked": [layers.LSTM(4, return_sequences=True), layers.LSTM(3)],
    "stateful": [layers.LSTM(4, stateful=True)],
}
FUSED = {"lstm", "both ways", "stacked"}


def recurrent(folder: Path, of: list[tf_keras.layers.Layer], batch: int | None = 1) -> Path:
    tf_keras.utils.set_random_seed(1)
    model = tf_keras.Sequential([tf_keras.Input(batch_shape=[batch, *SHAPE[1:]]), *of])
    module = tf.Module()
    # The whole model would be traced layer by layer, which takes minutes.
    module.held = [*model.variables, *(state for layer in of for state in getattr(layer, "states", []))]

    @tf.function(input_signature=[tf.TensorSpec([batch, *SHAPE[1:]], tf.float32, name="x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": model(x, training=False)}

    tf.saved_model.save(module, str(folder), {"serving_default": serve})
    return folder


class Counter(tf.Module):
    """Adds up what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.total = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec(SHAPE, tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.total.assign_add(tf.reduce_sum(x))}


def furthest(model: Path, made: Path) -> float:
    """How far the interpreter's answers to several questions are from those of the SavedModel."""
    rng, form = np.random.default_rng(1), Tflite("none")
    feeds = [{"x": rng.normal(size=SHAPE).astype(np.float32)} for _ in range(4)]
    made.mkdir()
    form.convert(model, "serving_default", made, feeds)
    own = tf.saved_model.load(str(model)).signatures["serving_default"]
    expected = [own(x=tf.constant(of["x"]))["y"].numpy() for of in feeds]
    return max(float(np.abs(a["y"] - b).max()) for a, b in zip(form.answers(made, feeds), expected, strict=True))


def state(made: Path) -> dict[str, object]:
    said: dict[str, object] = json.loads((made / METADATA_FILE).read_text())["state"]
    return said


@pytest.mark.parametrize("name", RECURRENT)
def test_no_answer_depends_on_the_question_before(tmp_path: Path, name: str) -> None:
    assert furthest(recurrent(tmp_path / "model", RECURRENT[name]), tmp_path / "made") < 1e-6
    said = state(tmp_path / "made")
    assert ("variable tensors" in said["kept"]) == (name in FUSED)
    assert ("resetVariableTensors()" in said["app"]) == (name in FUSED)


def test_what_a_model_remembers_by_its_own_will_stays(tmp_path: Path) -> None:
    module = Counter()
    tf.saved_model.save(module, str(tmp_path / "model"), {"serving_default": module.serve})
    assert furthest(tmp_path / "model", tmp_path / "made") < 1e-5
    assert state(tmp_path / "made")["kept"] == ["resource variables"]


def test_a_recurrent_layer_over_a_batch_of_any_size_is_told_what_helps(tmp_path: Path) -> None:
    model = recurrent(tmp_path / "model", [layers.GRU(4)], None)
    (tmp_path / "made").mkdir()
    with pytest.raises(ComponentFailed) as refused:
        Tflite("none").convert(model, "serving_default", tmp_path / "made", [])
    assert "batch fixed at 1" in refused.value.hint
