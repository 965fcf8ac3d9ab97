"""Answers as JSON: floats in the fewest digits, bytes in base64, NaN and Infinity as TensorFlow Serving writes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from ctd.serving.codec import Array
from ctd.serving.errors import invalid
from ctd.serving.json_codec import Format


def encode_predict(outputs: Mapping[str, Array], form: Format) -> bytes:
    """The answer to a predict request, in the format of the question."""
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    if form is Format.COLUMN:
        columns = {name: _jsonable(name, array) for name, array in outputs.items()}
        return encode({"outputs": columns if len(columns) > 1 else next(iter(columns.values()))})
    _check_batch(outputs)
    if len(outputs) == 1:
        (name, array), *_ = outputs.items()
        return encode({"predictions": _jsonable(name, array)})
    columns = {name: _jsonable(name, array) for name, array in outputs.items()}
    rows = zip(*columns.values(), strict=True)
    return encode({"predictions": [dict(zip(columns, row, strict=True)) for row in rows]})


def _check_batch(outputs: Mapping[str, Array]) -> None:
    expected: int | None = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information")
        if expected is not None and array.shape[0] != expected:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {expected}")
        expected = array.shape[0]


def encode(document: Any) -> bytes:
    """A JSON document; orjson writes float32 in the fewest digits, but cannot write NaN."""
    if _has_nonfinite(document):
        return json.dumps(document, default=_plain, ensure_ascii=False).encode()
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain)


def shortest(value: Any) -> Any:
    """Numbers that were float32 once, without the digits that only their widening added."""
    if isinstance(value, list):
        return [shortest(item) for item in value]
    return np.float32(value) if isinstance(value, float) else value


def _has_nonfinite(value: Any) -> bool:
    if isinstance(value, np.ndarray | np.floating):
        return bool(value.dtype.kind == "f" and not np.isfinite(value).all())
    if isinstance(value, dict):
        return any(map(_has_nonfinite, value.values()))
    if isinstance(value, list):
        return any(map(_has_nonfinite, value))
    return isinstance(value, float) and not np.isfinite(value)


def _plain(value: Any) -> Any:
    """What a JSON writer cannot take from numpy, as lists and numbers with no more digits than float32 has."""
    array = np.asarray(value)
    if array.dtype.kind == "f" and array.dtype != np.float64:
        return array.astype("U32").astype(np.float64).tolist()
    return array.tolist()


def _jsonable(name: str, array: Array) -> Any:
    if array.dtype.kind in "OS":
        return _texts(array.tolist(), as_bytes=name.endswith("_bytes"))
    if array.dtype.kind == "c":
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype}")
    if array.dtype.kind == "V":  # bfloat16 is a stranger to numpy and to orjson
        array = array.astype(np.float32)
    return np.ascontiguousarray(array) if array.ndim else array[()]


def _texts(value: Any, *, as_bytes: bool) -> Any:
    if isinstance(value, list):
        return [_texts(item, as_bytes=as_bytes) for item in value]
    return {"b64": base64.b64encode(value).decode()} if as_bytes else value.decode(errors="replace")
