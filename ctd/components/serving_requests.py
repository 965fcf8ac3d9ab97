"""Requests to a model made of real examples, and the comparison of what came back with what the model itself says."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ctd.components.api import Work, split_files, split_names, user_code
from ctd.components.distance import apart
from ctd.components.examples_io import first_records
from ctd.components.input_types import as_input
from ctd.components.saved_model_inputs import parsed_features
from ctd.components.signature_inputs import Input, feature_of, takes_examples
from ctd.core.artifacts import Artifact
from ctd.serving import custom_ops

Feeds = Mapping[str, NDArray[Any]]
DEFAULT_SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
# The same graph in another batch or process differs in the last bits of a float32.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Request:
    """What is sent to one signature for the example of this number, counted from 1."""

    number: int
    feeds: Feeds


@dataclass(frozen=True)
class Takes:
    """What a signature of the SavedModel in a folder takes."""

    inputs: Mapping[str, tf.TensorSpec]
    directory: str
    signature: str

    def examples_with(self, features: Collection[str]) -> bool:
        """Whether it is asked with serialized tf.Examples that have these features, and not with their values."""
        inputs = {name: _input(spec) for name, spec in self.inputs.items()}
        return takes_examples(inputs, features, lambda: self._parsed)

    @cached_property
    def _parsed(self) -> Collection[str]:
        """The features that the graph parses; kept, since every batch of an evaluation asks."""
        return parsed_features(self.directory, self.signature)


def _input(spec: tf.TensorSpec) -> Input:
    shape = None if spec.shape.rank is None else [-1 if size is None else size for size in spec.shape]
    return spec.dtype.as_datatype_enum, shape


@dataclass(frozen=True)
class Signature:
    """One signature of a SavedModel loaded in this process from a folder."""

    name: str
    function: Any
    directory: str

    @property
    def takes(self) -> Takes:
        """What it takes."""
        return Takes(self.inputs, self.directory, self.name)

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
        loaded = tf.saved_model.load(directory).signatures
    return {name: Signature(name, function, directory) for name, function in loaded.items()}


def requests(takes: Takes, records: Sequence[bytes], most: int, others: Collection[str] = ()) -> Iterator[Request]:
    """Requests of one example each, for the first examples that have a value for every input.

    `others` are features that other examples of the same data have.
    """
    serialized = _holds_text(takes) and takes.examples_with({*features_of(records), *others})
    made = (
        (number, _serialized(takes.inputs, record) if serialized else _features(takes.inputs, record))
        for number, record in enumerate(records, start=1)
    )
    found = (Request(number, feeds) for number, feeds in made if feeds is not None)
    return itertools.islice(found, most)


def features_of(records: Iterable[bytes]) -> frozenset[str]:
    """The features that any of these examples has, though it be without a value."""
    try:
        return frozenset(name for record in records for name in tf.train.Example.FromString(record).features.feature)
    except DecodeError:
        return frozenset()  # records of another kind, which have none


def _holds_text(takes: Takes) -> bool:
    """Whether there is a single input of strings: of nothing else the examples need be looked through."""
    return [spec.dtype for spec in takes.inputs.values()] == [tf.string]


def missing_inputs(inputs: Mapping[str, tf.TensorSpec], records: Sequence[bytes]) -> tuple[str, ...]:
    """Inputs that no example has a fitting value for."""
    examples = [tf.train.Example.FromString(record) for record in records]
    return tuple(
        name for name, spec in inputs.items() if all(_value(name, spec, example) is None for example in examples)
    )


def _serialized(inputs: Mapping[str, tf.TensorSpec], record: bytes) -> Feeds | None:
    """The example as it is, for a signature whose one input takes strings."""
    ((name, spec),) = inputs.items()
    value = _shaped(np.array([record], dtype=object), spec)
    return None if value is None else {name: value}


def _features(inputs: Mapping[str, tf.TensorSpec], record: bytes) -> Feeds | None:
    example = tf.train.Example.FromString(record)
    values = {name: _value(name, spec, example) for name, spec in inputs.items()}
    found = {name: value for name, value in values.items() if value is not None}
    return found if len(found) == len(values) else None


def _value(name: str, spec: tf.TensorSpec, example: tf.train.Example) -> NDArray[Any] | None:
    """The feature of this name in the type and shape of an input; nothing if it does not fit."""
    features = example.features.feature
    key = feature_of(name, features)
    kind = features[key].WhichOneof("kind") if key else None
    if kind is None or (kind == "bytes_list") != (spec.dtype == tf.string):
        return None
    values = getattr(features[key], kind).value
    return _shaped(np.array(values, dtype=object if spec.dtype == tf.string else None), spec)


def _shaped(values: NDArray[Any], spec: tf.TensorSpec) -> NDArray[Any] | None:
    """The values of one example in the type and shape of an input; nothing if they do not fit."""
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
