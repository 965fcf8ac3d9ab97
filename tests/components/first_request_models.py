"""SavedModels that take their requests in all the ways that models do. `python first_request_models.py DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf

Tensors = dict[str, tf.Tensor]
EXAMPLES = [tf.TensorSpec([None], tf.string, name="examples")]

PARSED = {
    "price": tf.io.FixedLenFeature([1], tf.float32),
    "count": tf.io.FixedLenFeature([], tf.int64),
    "device": tf.io.FixedLenFeature([1], tf.string),
    "weight": tf.io.FixedLenFeature([1], tf.float32, default_value=[7.0]),
    "tags": tf.io.VarLenFeature(tf.string),
}


class Parser(tf.Module):
    """All columns of an inferred schema are required; the parser is in a function of its own."""

    @tf.function
    def _columns(self, examples: tf.Tensor) -> Tensors:
        return tf.io.parse_example(examples, PARSED)

    @tf.function(input_signature=EXAMPLES)
    def serve(self, examples: tf.Tensor) -> Tensors:
        columns = self._columns(examples)
        tags = tf.sparse.reduce_sum(tf.SparseTensor(
            columns["tags"].indices, tf.ones_like(columns["tags"].values, tf.float32), columns["tags"].dense_shape
        ), axis=1, keepdims=True)  # fmt: skip
        length = tf.cast(tf.strings.length(columns["device"]), tf.float32)
        count = tf.cast(columns["count"], tf.float32)[:, None]
        return {"y": columns["price"] + 10 * columns["weight"] + 100 * count + 1000 * length + 10000 * tags}


class OneByOne(tf.Module):
    """Examples are parsed one at a time, in the body of a loop."""

    @tf.function(input_signature=EXAMPLES)
    def serve(self, examples: tf.Tensor) -> Tensors:
        def one(record: tf.Tensor) -> tf.Tensor:
            return tf.io.parse_single_example(record, {"price": PARSED["price"]})["price"]

        return {"y": tf.map_fn(one, examples, fn_output_signature=tf.float32)}


class OldParser(tf.Module):
    """The op of TensorFlow 1."""

    @tf.function(input_signature=EXAMPLES)
    def serve(self, examples: tf.Tensor) -> Tensors:
        parsed = tf.raw_ops.ParseExample(
            serialized=examples, names=[], sparse_keys=[], dense_keys=["price", "device"],
            dense_defaults=[tf.constant([], tf.float32), tf.constant(["phone"])],
            sparse_types=[], dense_shapes=[[1], [1]],
        )  # fmt: skip
        return {"y": parsed.dense_values[0]}


class Opaque(tf.Module):
    """Nobody can see what it looks for in its examples."""

    @tf.function(input_signature=EXAMPLES)
    def serve(self, examples: tf.Tensor) -> Tensors:
        return {"y": tf.cast(tf.strings.length(examples), tf.float32)}


class Columns(tf.Module):
    """A tensor for each column."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 1], tf.float32, name="price"),
            tf.TensorSpec([None], tf.int64, name="count"),
            tf.TensorSpec([None, 1], tf.string, name="device"),
        ]
    )
    def serve(self, price: tf.Tensor, count: tf.Tensor, device: tf.Tensor) -> Tensors:
        length = tf.cast(tf.strings.length(device), tf.float32)
        return {"y": price + 100 * tf.cast(count, tf.float32)[:, None] + 1000 * length}


class Vector(tf.Module):
    """One tensor, which no column is called after."""

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> Tensors:
        return {"y": tf.reduce_sum(x, axis=1)}


class Scalar(tf.Module):
    """No batch at all."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="price")])
    def serve(self, price: tf.Tensor) -> Tensors:
        return {"y": 2 * price}


class Texts(tf.Module):
    """Texts that are data themselves, in a column of this name."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="device")])
    def serve(self, device: tf.Tensor) -> Tensors:
        return {"y": tf.strings.length(device)}


MODELS = {
    "parser": Parser, "one_by_one": OneByOne, "old_parser": OldParser, "opaque": Opaque, "columns": Columns,
    "vector": Vector, "scalar": Scalar, "texts": Texts,
}  # fmt: skip


def write_all(directory: Path) -> None:
    """Every model as version 1 in a folder of its name."""
    for name, kind in MODELS.items():
        module = kind()
        tf.saved_model.save(module, str(directory / name / "1"), {"serving_default": module.serve})


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
