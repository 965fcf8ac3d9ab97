"""Loops and conditionals on their way to TensorFlow.js: its runtime answers as the SavedModel does."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctd.core.errors import ComponentFailed
from ctd.deploy.tfjs import Tfjs

pytestmark = pytest.mark.tf

Answers = dict[str, tf.Tensor]
Part = Callable[[tf.Module, tf.Tensor], tf.Tensor]
ROWS = [3]
STEPS = [6, 3]


def mapped(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    return tf.map_fn(lambda row: tf.linalg.matvec(of.weights, row), x)


def mapped_twice(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    return tf.map_fn(lambda row: tf.map_fn(lambda value: value * 2.0, row) * of.bias, x)


def while_loop(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    return tf.while_loop(lambda i, _: i < 5, lambda i, a: (i + 1, a @ of.weights * 0.5 + of.bias), [0, x])[1]


def for_range(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    for i in tf.range(tf.shape(x)[0]):
        x = x @ of.weights * 0.5 + tf.cast(i, tf.float32) * of.bias
    return x


def nested(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    for _ in tf.range(3):
        for j in tf.range(2):
            x = tf.nn.relu(x @ of.weights * 0.5) + of.bias * tf.cast(j, tf.float32)
    return x


def scanned(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    return tf.scan(lambda a, row: tf.linalg.matvec(of.weights, a) * 0.3 + row, x)


def embedded(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    """Rows of a variable in a loop, as a decoder looks up the token before."""
    for _ in tf.range(4):
        token = tf.argmax(x @ of.weights, axis=-1)
        x = tf.nn.relu(x * 0.5 + tf.nn.embedding_lookup(of.weights, token))
    return x


def collected(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    found = tf.TensorArray(tf.float32, size=3)
    for i in tf.range(3):
        found = found.write(i, x[:, i])
    return tf.transpose(found.stack()) @ of.weights


def either(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: x @ of.weights, lambda: x + of.bias)


def constants(_: tf.Module, x: tf.Tensor) -> tf.Tensor:
    return x * tf.cond(tf.reduce_sum(x) > 0, lambda: tf.constant(1.0), lambda: tf.constant(3.0))


def early(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    found = tf.zeros_like(x)
    for i in tf.range(10):
        if i > tf.cast(tf.reduce_sum(x), tf.int32) + 3:
            break
        if i % 2 == 0:
            continue
        found += x * of.bias
    return found


def loop_in_either(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    if tf.reduce_max(x) > 1.0:
        while tf.reduce_max(x) > 1.0:
            x = x * 0.5
    else:
        x = x + of.bias
    return x


def mapped_in_either(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.map_fn(lambda row: row * of.bias, x), lambda: x)


def either_for_each(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
    return tf.map_fn(lambda row: tf.cond(row[0] > 0, lambda: row * of.bias, lambda: -row), x)


GROUPS: dict[str, tuple[list[int], list[Part]]] = {
    "loops": (ROWS, [mapped, while_loop, for_range, nested, scanned, collected]),
    "lists in lists and embeddings": (ROWS, [mapped_twice, embedded]),
    "conditionals": (ROWS, [either, constants, early, loop_in_either, mapped_in_either, either_for_each]),
}  # fmt: skip


class Loops(tf.Module):
    def __init__(self, shape: list[int], parts: list[Part]) -> None:
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32))
        self.bias = tf.Variable(np.array([1.0, 0.5, -0.5], dtype=np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, *shape], tf.float32, name="x")])
        def serve(x: tf.Tensor) -> Answers:
            return {part.__name__: part(self, x) for part in parts}

        self.serve = serve


def recurrent() -> tf.Module:
    """GRU, LSTM, bidirectional ones, sequences of sequences, with a mask."""
    layers = keras.layers
    keras.utils.set_random_seed(1)
    stacks = {
        "gru": [layers.GRU(4)],
        "lstm": [layers.LSTM(4, return_sequences=True), layers.LSTM(3)],
        "both": [layers.Bidirectional(layers.LSTM(4))],
        "both_gru": [layers.Bidirectional(layers.GRU(4, return_sequences=True)), layers.GlobalMaxPooling1D()],
        "masked": [layers.Masking(), layers.LSTM(4)],
        "cells": [layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)])],
    }
    models = {name: keras.Sequential([keras.Input(STEPS), *of]) for name, of in stacks.items()}
    module = tf.Module()
    module.held = [weight.value for model in models.values() for weight in model.weights]

    @tf.function(input_signature=[tf.TensorSpec([None, *STEPS], tf.float32, name="x")])
    def serve(x: tf.Tensor) -> Answers:
        return {name: model(x, training=False) for name, model in models.items()}

    module.serve = serve
    return module


def held_to_its_answers(module: tf.Module, shape: list[int], folder: Path) -> None:
    tf.saved_model.save(module, str(folder / "model"), {"serving_default": module.serve})
    rng = np.random.default_rng(3)
    feeds = [
        {"x": (rng.normal(size=[rows, *shape]) + more).astype(np.float32)}
        for rows, more in ((1, 0.3), (4, -0.5), (5, 0.5))
    ]
    made, form = folder / "made", Tfjs("none")
    made.mkdir()
    form.convert(folder / "model", "serving_default", made, feeds)
    for batch, said in zip(feeds, form.answers(made, feeds), strict=True):
        expected = module.serve(tf.constant(batch["x"]))
        assert said.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(said[name], value.numpy(), atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("shape", "parts"), GROUPS.values(), ids=GROUPS)
def test_loops_and_conditionals_answer_in_the_browser_as_in_the_model(
    tmp_path: Path, shape: list[int], parts: list[Part]
) -> None:
    held_to_its_answers(Loops(shape, parts), shape, tmp_path)


def test_recurrent_layers_answer_in_the_browser_as_in_the_model(tmp_path: Path) -> None:
    held_to_its_answers(recurrent(), STEPS, tmp_path)


def test_a_choice_of_several_is_refused_as_the_converter_refuses_it(tmp_path: Path) -> None:
    def choice(of: tf.Module, x: tf.Tensor) -> tf.Tensor:
        return tf.switch_case(tf.cast(tf.reduce_sum(x), tf.int32), [lambda: x @ of.weights, lambda: x + of.bias])

    module = Loops(ROWS, [choice])
    tf.saved_model.save(module, str(tmp_path / "model"), {"serving_default": module.serve})
    with pytest.raises(ComponentFailed, match="Unsupported Ops"):
        Tfjs("none").convert(tmp_path / "model", "serving_default", tmp_path / "made", [])
