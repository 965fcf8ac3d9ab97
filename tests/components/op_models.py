"""SavedModels with ops that a model server does not know by itself. Run as a program: `python op_models.py DIRECTORY`.

A program of its own, so that the process of the tests does not come to know the ops.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import ydf
from tensorflow.lite.experimental.microfrontend.python.ops import audio_microfrontend_op

X = {"x": tf.io.FixedLenFeature([1], tf.float32)}
RECORDS = [tf.TensorSpec([None], tf.string, name="examples")]


class Heard(tf.Module):
    """Has an op of a library that the whole of TensorFlow loads, and the parts that serve do not."""

    @tf.function(input_signature=RECORDS)
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        sound = tf.cast(1000.0 * tf.sin(tf.range(1600, dtype=tf.float32)), tf.int16)
        loudness = tf.reduce_max(tf.cast(audio_microfrontend_op.audio_microfrontend(sound), tf.float32))
        return {"y": tf.io.parse_example(examples, X)["x"] * loudness}


class Forest(tf.Module):
    """A decision forest, with its ops for inference."""

    def __init__(self) -> None:
        super().__init__()
        x = np.linspace(-1, 1, 200, dtype=np.float32)
        self.learned = ydf.GradientBoostedTreesLearner(label="y", num_trees=3).train({"x": x, "y": x > 0})
        self.function = self.learned.to_tensorflow_function()

    @tf.function(input_signature=RECORDS)
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.function({"x": tf.io.parse_example(examples, X)["x"][:, 0]})}


class OneMore(tf.Module):
    """Has an op that somebody wrote."""

    def __init__(self, library: Path) -> None:
        super().__init__()
        self.ops = tf.load_op_library(str(library))

    @tf.function(input_signature=RECORDS)
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.ops.one_more(tf.io.parse_example(examples, X)["x"])}


def compile_op(library: Path) -> None:
    """Compile the op that somebody wrote."""
    flags = [*tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    source = Path(__file__).with_name("one_more_op.cc")
    subprocess.run(["g++", "-shared", "-fPIC", str(source), "-o", str(library), *flags], check=True)


def save(model: Any, directory: Path) -> None:
    """Export it as ctd's models lie."""
    tf.saved_model.save(model, str(directory / "Format-Serving"), {"serving_default": model.serve})


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    save(Heard(), folder / "heard")
    forest = Forest()
    save(forest, folder / "forest")
    np.save(folder / "forest.npy", forest.learned.predict({"x": np.array([-0.5, 0.5], np.float32)}))
    compile_op(folder / "one_more.so")
    save(OneMore(folder / "one_more.so"), folder / "one_more")
