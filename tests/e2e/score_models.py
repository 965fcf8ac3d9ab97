"""Writes a SavedModel that multiplies: `python score_models.py DIRECTORY=FACTOR ...`. TensorFlow is imported once."""

from __future__ import annotations

import sys

import tensorflow as tf


class Score(tf.Module):
    """`score` is a factor times the feature `fare` of serialized examples."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        fares = tf.io.parse_example(examples, {"fare": tf.io.FixedLenFeature([1], tf.float32)})["fare"]
        return {"score": self.factor * fares}


def main() -> None:
    for said in sys.argv[1:]:
        directory, _, factor = said.rpartition("=")
        model = Score(float(factor))
        tf.saved_model.save(model, directory, {"serving_default": model.serve})


if __name__ == "__main__":
    main()
