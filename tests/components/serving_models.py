"""Small SavedModels for the tests of the model server. Run as a program: `python serving_models.py DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf


class HalfPlus(tf.Module):
    """y = 0.5 x + b, the model every TensorFlow Serving test starts from."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.half = tf.Variable(0.5)
        self.offset = tf.Variable(offset)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.half * x + self.offset}


class Many(tf.Module):
    """Several inputs and outputs, of every kind that JSON treats differently."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="pair"),
            tf.TensorSpec([None], tf.int64, name="count"),
            tf.TensorSpec([None], tf.string, name="word"),
            tf.TensorSpec([None], tf.bool, name="flag"),
        ]
    )
    def serve(self, pair: tf.Tensor, count: tf.Tensor, word: tf.Tensor, flag: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "total": tf.reduce_sum(pair, axis=1) + tf.cast(count, tf.float32),
            "pair": pair,
            "count": count,
            "word": word,
            "word_bytes": word,
            "flag": flag,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def whole(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": tf.reduce_sum(x)}


class Scorer(tf.Module):
    """Takes serialized Examples with a float `x`; answers predict, classify and regress."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(2.0)

    def _score(self, records: tf.Tensor) -> tf.Tensor:
        spec = {"x": tf.io.FixedLenFeature([1], tf.float32)}
        return self.weight * tf.io.parse_example(records, spec)["x"]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"score": self._score(examples)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        score = self._score(inputs)
        scores = tf.concat([1.0 - score, score], axis=1)
        classes = tf.tile([["no", "yes"]], [tf.shape(score)[0], 1])
        return {"classes": classes, "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": self._score(inputs)}


class Lookup(tf.Module):
    """A vocabulary file that travels with the model as an asset, as TFT's vocabularies do."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        vocabulary.write_text("cash\ncredit\n")
        words = tf.lookup.TextFileInitializer(
            str(vocabulary),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self.table = tf.lookup.StaticHashTable(words, default_value=-1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
    def serve(self, word: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"index": self.table.lookup(word)}


class NotFinite(tf.Module):
    """NaN, Infinity and -Infinity for 0, positive and negative numbers."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x / tf.zeros_like(x)}


class Quantized(tf.Module):
    """A signature like any other, and one of a type that no request has."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + 1.0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.quint8, name="x")])
    def eight(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.quantization.dequantize(x, 0.0, 1.0)}


def build(directory: Path) -> None:
    """Write every model below a directory."""
    for name, offset in (("plus_two", 2.0), ("plus_three", 3.0)):
        module = HalfPlus(offset)
        tf.saved_model.save(module, str(directory / name), signatures={"serving_default": module.serve})
    many = Many()
    signatures = {"serving_default": many.serve, "whole": many.whole}
    tf.saved_model.save(many, str(directory / "many"), signatures=signatures)
    scorer = Scorer()
    signatures = {"serving_default": scorer.serve, "classify": scorer.classify, "regress": scorer.regress}
    tf.saved_model.save(scorer, str(directory / "scorer"), signatures=signatures)
    quantized = Quantized()
    signatures = {"serving_default": quantized.serve, "eight": quantized.eight}
    tf.saved_model.save(quantized, str(directory / "quantized"), signatures=signatures)
    lookup = Lookup(directory / "vocabulary.txt")
    tf.saved_model.save(lookup, str(directory / "lookup"), signatures={"serving_default": lookup.serve})
    (directory / "vocabulary.txt").unlink()
    not_finite = NotFinite()
    tf.saved_model.save(not_finite, str(directory / "not_finite"), signatures={"serving_default": not_finite.serve})


if __name__ == "__main__":
    build(Path(sys.argv[1]))
