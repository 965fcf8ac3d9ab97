"""Requests to a model made of real examples, and the comparison of what came back with what the model itself says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ctd.components.api import Work, split_files, split_names, user_code
from ctd.components.distance import apart
from ctd.components.examples_io import first_records
from ctd.components.input_types import as_input
from ctd.core.artifacts import Artifact
from ctd.serving import custom_ops

Feeds = Mapping[str, NDArray[Any]]
DEFAULT_SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
# The same graph in another batch or process differs in the last bits of a float32.
_TOLERANCE = 1e-5
_KERAS_SUFFIX = "_input"


@dataclass(frozen=True)
class Request:
    """What is sent to one signature for the example of this number, counted from 1."""

    number: int
    feeds: Feeds


@dataclass(frozen=True)
class Signature:
    """One signature of a SavedModel loaded in this process."""

    name: str
    function: Any

    @property
    def inputs(self) -> Mapping[str, tf.TensorSpec]:
        _, inputs = self.function.structured_input_signature
        return dict(inputs)

    @property
    def numeric(self) -> bool:
        """Whether nothing but numbers goes in and comes out."""
        specs = [*self.inputs.values(), *self.function.structured_outputs.values()]
        return all(spec.dtype != tf.string for spec in specs)

    def answer(self, feeds: Feeds) -> Feeds:
        """What the model itself says."""
        tensors = {name: tf.constant(value, self.inputs[name].dtype) for name, value in feeds.items()}
        return {name: np.asarray(value) for name, value in self.function(**tensors).items()}


def load_signatures(directory: str) -> Mapping[str, Signature]:
    """The signatures of a SavedModel. Raises ComponentFailed if it does not load."""
    with user_code("loading the SavedModel in process"):
        custom_ops.prepare(Path(directory))  # it knows the ops that a model server knows
        return {name: Signature(name, function) for name, function in tf.saved_model.load(directory).signatures.items()}


def requests(inputs: Mapping[str, tf.TensorSpec], records: Sequence[bytes], most: int) -> Iterator[Request]:
    """Requests of one example each, for the first examples that have a value for every input."""
    made = 0
    for number, record in enumerate(records, start=1):
        feeds = _serialized(inputs, record) or _features(inputs, tf.train.Example.FromString(record))
        if feeds is not None and made < most:
            made += 1
            yield Request(number, feeds)


def missing_inputs(inputs: Mapping[str, tf.TensorSpec], records: Sequence[bytes]) -> tuple[str, ...]:
    """Inputs that no example has a fitting value for."""
    examples = [tf.train.Example.FromString(record) for record in records]
    return tuple(
        name for name, spec in inputs.items() if all(_value(name, spec, example) is None for example in examples)
    )


def _serialized(inputs: Mapping[str, tf.TensorSpec], record: bytes) -> Feeds | None:
    """The example as it is, for a signature whose one input is a list of strings."""
    if len(inputs) != 1:
        return None
    ((name, spec),) = inputs.items()
    if spec.dtype != tf.string or (spec.shape.rank or 1) != 1:
        return None
    return {name: np.array([record], dtype=object)}


def _features(inputs: Mapping[str, tf.TensorSpec], example: tf.train.Example) -> Feeds | None:
    values = {name: _value(name, spec, example) for name, spec in inputs.items()}
    found = {name: value for name, value in values.items() if value is not None}
    return found if len(found) == len(values) else None


def _value(name: str, spec: tf.TensorSpec, example: tf.train.Example) -> NDArray[Any] | None:
    """The feature of this name in the type and shape of an input; nothing if it does not fit."""
    features = example.features.feature
    # Keras 2 names the input of a single layer after the layer.
    key = name if name in features else name.removesuffix(_KERAS_SUFFIX)
    kind = features[key].WhichOneof("kind") if key in features else None
    if kind is None or (kind == "bytes_list") != (spec.dtype == tf.string):
        return None
    values = np.array(getattr(features[key], kind).value, dtype=object if spec.dtype == tf.string else None)
    rank = spec.shape.rank
    typed = as_input(values, spec.dtype)
    if typed is None:
        return None
    if rank == 0:  # one example at a time
        return typed.reshape(()) if values.size == 1 else None
    if rank and spec.shape[0] not in (None, 1):
        return None  # so many examples at once, and no other number
    shape = [1, len(values)] if rank is None else [1, *(-1 if size is None else size for size in spec.shape[1:])]
    if not values.size or shape.count(-1) > 1 or (-1 not in shape and int(np.prod(shape)) != values.size):
        return None
    return typed.reshape(shape)


def complaint(served: Feeds, expected: Feeds, tolerance: float = _TOLERANCE) -> str:
    """What is wrong with an answer, naming the output; nothing if it is as it should be.

    Answers are finite, but for -inf beside other values where the model itself says so: that is how logits are masked.
    """
    if served.keys() != expected.keys():
        return f"the outputs are {', '.join(sorted(served))} instead of {', '.join(sorted(expected))}"
    for name, value in served.items():
        if value.shape != expected[name].shape:
            return f"output {name!r} has shape {value.shape} instead of {expected[name].shape}"
        odd = _not_finite(value, expected[name])
        if odd.any():
            return f"output {name!r} is {value[odd].flat[0]}"
        if differs(value, expected[name], tolerance):
            one, other = _furthest(value, expected[name])
            return f"output {name!r} is {one} where the SavedModel itself says {other}"
    return ""


def differs(one: NDArray[Any], other: NDArray[Any], tolerance: float = _TOLERANCE) -> bool:
    """Whether two answers are not the same number, but for rounding; other values must be equal."""
    if one.dtype.kind not in "fc":
        return not np.array_equal(one, other)
    return not np.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def _not_finite(value: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.bool_]:
    if value.dtype.kind not in "fc":
        return np.zeros(value.shape, dtype=bool)
    odd = ~np.isfinite(value)
    masked = (value == -np.inf) & (expected == -np.inf)
    return odd & ~masked if not odd.all() else odd


def _furthest(one: NDArray[Any], other: NDArray[Any]) -> tuple[Any, Any]:
    if one.dtype.kind not in "fciu":
        place = int(np.flatnonzero(one.ravel() != other.ravel())[0])
    else:
        place = int(np.argmax(apart(one, other)))
    return one.ravel()[place], other.ravel()[place]


def last_split_records(work: Work, key: str, most: int) -> list[bytes]:
    """At most so many examples of an input's last split, where evaluation data is; of one before it, if it is empty."""
    found: list[bytes] = []
    for artifact in work.inputs(key):
        found += _of_one_split(artifact, split_names(artifact)[::-1], most - len(found))
    return found


def first_split_records(examples: Artifact, most: int) -> list[bytes]:
    """At most so many examples of the first split that has any."""
    return _of_one_split(examples, split_names(examples), most)


def _of_one_split(examples: Artifact, splits: Iterable[str], most: int) -> list[bytes]:
    return next(filter(None, (first_records(split_files(examples, split), most) for split in splits)), [])
