"""tf.Example inputs of classify and regress: out of JSON, and as the serialized records a model takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ctd.serving.codec import Array, strings
from ctd.serving.errors import invalid
from ctd.serving.json_codec import decode_base64, is_base64, json_type

_BEYOND_FLOAT = 2.0**128 - 2.0**103  # the least number that float32 rounds to infinity
_INT64 = np.iinfo(np.int64)


def fill_input(document: Mapping[str, Any], into: Any) -> None:
    """Fill the Input message of a classify or regress request from its JSON body."""
    examples = document.get("examples")
    if examples is None:
        raise invalid("When method is classify, key 'examples' is expected and was not found")
    if not isinstance(examples, list):
        raise invalid("Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid("'examples' value is an empty array")
    target = into.example_list
    if "context" in document:
        target = into.example_list_with_context
        _fill_example(document["context"], target.context)
    for example in examples:
        _fill_example(example, target.examples.add())


def _fill_example(document: Any, example: Any) -> None:
    if not isinstance(document, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(document)}")
    example.features.SetInParent()
    for name, content in document.items():
        feature = example.features.feature[name]
        for value in content if isinstance(content, list) else [content]:
            _add_value(name, value, feature)


def _add_value(name: str, value: Any, feature: Any) -> None:
    """Add one value to a feature; all values of a feature must be of one kind."""
    kind, converted = _feature_value(name, value)
    if feature.WhichOneof("kind") not in (None, kind):
        raise invalid(
            f"Unexpected element type in feature: {name} expecting type: {feature.WhichOneof('kind').split('_')[0]}"
        )
    getattr(feature, kind).value.append(converted)


def _feature_value(name: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, str):
        return "bytes_list", value.encode()
    if isinstance(value, int):  # true and false too: they are 1 and 0
        if not _INT64.min <= value <= _INT64.max:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        return "int64_list", int(value)
    if isinstance(value, float):
        if math.isfinite(value) and abs(value) >= _BEYOND_FLOAT:
            raise invalid(f"Cannot convert JSON value: {value} to float without loss of precision.")
        return "float_list", value
    if is_base64(value):
        return "bytes_list", decode_base64(value)
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")


def serialized(message: Any) -> Array:
    """The records of an Input message, one string per example; the context goes in front of each."""
    if message.WhichOneof("kind") == "example_list_with_context":
        # Concatenated protos parse as their merger, which is what context means.
        context = message.example_list_with_context.context.SerializeToString()
        records = [context + e.SerializeToString() for e in message.example_list_with_context.examples]
    else:
        records = [example.SerializeToString() for example in message.example_list.examples]
    if not records:
        raise invalid("Input is empty.")
    return strings(records)
