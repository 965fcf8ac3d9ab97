"""Predict requests out of JSON: TensorFlow Serving's row and column formats, and its complaints.

Conversion takes a fast way over whole lists; only when that finds something wrong does a slow walk look for the
exact place, to name it the way TensorFlow Serving does.
"""

from __future__ import annotations

import base64
import binascii
import enum
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson

from ctd.serving.codec import Array, ElementType, strings
from ctd.serving.errors import Code, ServingError, invalid

_SHOWN = 200  # characters of an offending JSON value that an error message repeats
_EXACT_INTEGERS = {"float": 2**24 - 1, "double": 2**53 - 1}  # up to here a float type holds every integer
_LONGEST_INTEGER = len(str(-(2**63)))  # characters; Python refuses to read thousands of digits
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")


class Format(enum.Enum):
    """How a predict request spells its tensors; the answer uses the same way."""

    ROW = "instances"  # a list of examples
    COLUMN = "inputs"  # a tensor per input


@dataclass(frozen=True)
class PredictBody:
    """A predict request as it was written, before it is known which signature it must fit."""

    signature: str
    format: Format
    value: Any


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body; NaN and Infinity are allowed, as in TensorFlow Serving."""
    if not body.strip():
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_leniently(body)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    return document


def _parse_leniently(body: bytes) -> Any:
    try:
        document = json.loads(body, parse_int=_integer, parse_float=_double)
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except UnicodeEncodeError as error:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {type(error).__name__}") from error
    return document


def _integer(digits: str) -> int | float:
    """An integer of 64 bits; a larger one is a double, as in orjson and in TensorFlow Serving."""
    number = int(digits) if len(digits) <= _LONGEST_INTEGER else None
    return number if number is not None and -(2**63) <= number < 2**64 else _double(digits)


def _double(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise invalid("JSON Parse error: Number too big to be stored in double.")
    return number


def signature_of(document: Mapping[str, Any]) -> str:
    """The signature a request names; empty means the default."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def parse_predict(body: bytes) -> PredictBody:
    """Take a predict request apart."""
    document = parse_object(body)
    signature = signature_of(document)
    if "instances" in document and "inputs" in document:
        raise invalid(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist"
        )
    if "inputs" in document:
        return PredictBody(signature, Format.COLUMN, document["inputs"])
    if "instances" not in document:
        raise invalid("Missing 'inputs' or 'instances' key")
    instances = document["instances"]
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {_shown(document)} Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid(f"JSON Value: {_shown(document)} No values in 'instances' array")
    return PredictBody(signature, Format.ROW, instances)


def tensors(body: PredictBody, inputs: Mapping[str, ElementType]) -> dict[str, Array]:
    """The input tensors of a request, by the names and types that the signature asks for."""
    if not inputs:
        raise invalid(f"Failed to get input map for signature: {body.signature or 'DEFAULT'}")
    return _from_rows(body.value, inputs) if body.format is Format.ROW else _from_columns(body.value, inputs)


def _from_columns(value: Any, inputs: Mapping[str, ElementType]) -> dict[str, Array]:
    if not _is_named(value):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required "
                "as per tensorinfo_map"
            )
        return {name: _tensor(value, kind) for name, kind in inputs.items()}
    for name in inputs:
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _tensor(value[name], kind) for name, kind in inputs.items()}


def _from_rows(rows: Sequence[Any], inputs: Mapping[str, ElementType]) -> dict[str, Array]:
    if len(inputs) > 1 and not isinstance(rows[0], dict):
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map"
        )
    if not _is_named(rows[0]):
        (name, kind), *_ = inputs.items()
        for position, row in enumerate(rows):
            if _is_named(row):
                raise invalid(f"Expecting value/list but got object at item {position} of input list")
        return {name: _batch(rows, kind, "")}
    for position, row in enumerate(rows):
        if not _is_named(row):
            raise invalid(f"Expecting object but got list at item {position} of input list")
        _check_names(row, position, inputs)
    return {name: _batch([row[name] for row in rows], kind, f" key: {name}") for name, kind in inputs.items()}


def _check_names(row: Mapping[str, Any], position: int, inputs: Mapping[str, ElementType]) -> None:
    if row.keys() == inputs.keys():
        return
    for name in row:
        if name not in inputs:
            raise invalid(
                f"Failed to process element: {position} key: {name} of 'instances' list. Error: "
                f"INVALID_ARGUMENT: JSON object: does not have named input: {name}"
            )
    raise invalid(
        f"Failed to process element: {position} of 'instances' list. JSON object: {_shown(row)} keys must be "
        f"equal to: {','.join(sorted(inputs))}"
    )


def _batch(items: Sequence[Any], kind: ElementType, where: str) -> Array:
    """One tensor out of one value per example."""
    try:
        return _tensor(items, kind)
    except ServingError as whole:
        _explain_batch(items, kind, where)
        raise whole from None  # every example is fine alone: the complaint about the whole is the right one


def _explain_batch(items: Sequence[Any], kind: ElementType, where: str) -> None:
    first: Array | None = None
    position = 0
    try:
        for position, item in enumerate(items):  # noqa: B007  # the handler below names the position
            array = _tensor(item, kind)
            first = array if first is None else first
            if array.size != first.size:
                raise invalid(f"Expecting tensor size: {first.size} but got: {array.size}")
            if array.shape != first.shape:
                raise invalid(f"Expecting shape {_shape(first)} but got: {_shape(array)}")
    except ServingError as error:
        raise ServingError(
            error.code,
            f"Failed to process element: {position}{where} of 'instances' list. "
            f"Error: {error.code.name}: {error.message}",
        ) from error


def _shape(array: Array) -> str:
    return "[" + ",".join(str(size) for size in array.shape) + "]"


def _tensor(value: Any, kind: ElementType) -> Array:
    """One JSON value, a scalar or lists of lists, as a tensor."""
    shape: list[int] = []
    flat: Sequence[Any] = [value]
    while flat and isinstance(flat[0], list):
        size = len(flat[0])
        if not all(isinstance(item, list) and len(item) == size for item in flat):
            raise _misplaced(value, shape)
        shape.append(size)
        flat = list(chain.from_iterable(flat))
    if any(isinstance(item, list) for item in flat):
        raise _misplaced(value, shape)
    return _flat_array(flat, kind).reshape(shape)


def _misplaced(value: Any, known: Sequence[int]) -> ServingError:
    """Say where lists of different length or depth meet."""
    level = len(known)
    items: list[Any] = [value]
    for _ in range(level):
        items = list(chain.from_iterable(items))
    if not isinstance(items[0], list):
        return invalid(f"Encountered list at unexpected level: {level} expected < {level}")
    for item in items:
        if not isinstance(item, list):
            return invalid(
                f"JSON Value: {_shown(item)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {level + 1 + _depth(items[0]) - 1}"
            )
    odd = next(item for item in items if len(item) != len(items[0]))
    return invalid(f"Encountered list at unexpected size: {len(odd)} at level: {level} expected size: {len(items[0])}")


def _depth(value: Any) -> int:
    return 1 + _depth(value[0]) if isinstance(value, list) and value else int(isinstance(value, list))


def _flat_array(flat: Sequence[Any], kind: ElementType) -> Array:
    if kind.name in _EXACT_INTEGERS:
        return _float_array(flat, kind)
    if kind.name in _INTEGERS:
        return _integer_array(flat, kind)
    if kind.name == "bool":
        _check_types(flat, kind, (bool,))
        return np.array(flat, dtype=np.bool_)
    if kind.name == "string":
        _check_types(flat, kind, (str, dict))
        return strings([_bytes(item) for item in flat])
    shown = _shown(flat[0]) if flat else "[]"
    raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {shown} to type: {kind.name}")


def _check_types(flat: Sequence[Any], kind: ElementType, allowed: tuple[type, ...]) -> None:
    if set(map(type, flat)) <= set(allowed):
        return
    odd = next(item for item in flat if type(item) not in allowed)
    raise _type_error(odd, kind)


def _type_error(value: Any, kind: ElementType) -> ServingError:
    return invalid(f"JSON Value: {_shown(value)} Type: {json_type(value)} is not of expected type: {kind.name}")


def _float_array(flat: Sequence[Any], kind: ElementType) -> Array:
    _check_types(flat, kind, (int, float))
    exact = _EXACT_INTEGERS[kind.name]
    for value in flat:
        if isinstance(value, int) and abs(value) > exact:
            raise _lossy(value, kind)
    wide = np.array(flat, dtype=np.float64)
    with np.errstate(over="ignore"):
        array = wide.astype(kind.dtype)
    overflown = np.flatnonzero(np.isfinite(wide) & ~np.isfinite(array))
    if overflown.size:
        raise _lossy(flat[overflown[0]], kind)
    return array


def _lossy(value: Any, kind: ElementType) -> ServingError:
    return invalid(f"Cannot convert JSON value: {_shown(value)} to {kind.name} without loss of precision.")


def _integer_array(flat: Sequence[Any], kind: ElementType) -> Array:
    _check_types(flat, kind, (int,))
    limits = np.iinfo(kind.dtype)
    for value in flat:
        if not limits.min <= value <= limits.max:
            raise _type_error(value, kind)
    return np.array(flat, dtype=kind.dtype)


def is_base64(value: Any) -> bool:
    """JSON has no bytes: an object with the single key `b64` stands for them."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def decode_base64(value: Any) -> bytes:
    """The bytes of a `b64` object; padding is optional."""
    if not is_base64(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else decode_base64(value)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def json_type(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    names: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
