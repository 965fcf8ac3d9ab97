"""Tensors between their three forms: numpy arrays, TensorProto and the element types of a signature.

Protos are only read and filled here, never made, so this module does not import TensorFlow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ctd.serving.errors import Code, ServingError, invalid

Array = NDArray[Any]

# A few bytes of request can claim any shape, because a single value may stand for all of them.
_LARGEST_TENSOR = 2**31 - 1


@dataclass(frozen=True)
class ElementType:
    """One DataType: its number on the wire, TensorFlow's name for it, numpy's type, and its field in a TensorProto."""

    number: int
    name: str
    dtype: np.dtype[Any]
    field: str


def _element_types() -> tuple[ElementType, ...]:
    table: tuple[tuple[int, str, Any, str], ...] = (
        (1, "float", np.float32, "float_val"),
        (2, "double", np.float64, "double_val"),
        (3, "int32", np.int32, "int_val"),
        (4, "uint8", np.uint8, "int_val"),
        (5, "int16", np.int16, "int_val"),
        (6, "int8", np.int8, "int_val"),
        (7, "string", np.object_, "string_val"),
        (8, "complex64", np.complex64, "scomplex_val"),
        (9, "int64", np.int64, "int64_val"),
        (10, "bool", np.bool_, "bool_val"),
        (14, "bfloat16", ml_dtypes.bfloat16, "half_val"),
        (17, "uint16", np.uint16, "int_val"),
        (18, "complex128", np.complex128, "dcomplex_val"),
        (19, "half", np.float16, "half_val"),
        (22, "uint32", np.uint32, "uint32_val"),
        (23, "uint64", np.uint64, "uint64_val"),
    )
    return tuple(ElementType(number, name, np.dtype(dtype), field) for number, name, dtype, field in table)


_BY_NUMBER = {kind.number: kind for kind in _element_types()}
_BY_DTYPE = {kind.dtype: kind for kind in _element_types()}


def element_type(number: int) -> ElementType:
    """The element type with this DataType number."""
    kind = _BY_NUMBER.get(number)
    if kind is None:
        raise ServingError(Code.UNIMPLEMENTED, f"Tensors of DataType {number} cannot be served")
    return kind


def element_type_of(array: Array) -> ElementType:
    """The element type of a numpy array; byte strings may come as objects or as fixed-width bytes."""
    if array.dtype.kind == "S":
        return _BY_NUMBER[7]
    kind = _BY_DTYPE.get(array.dtype)
    if kind is None:
        raise ServingError(Code.UNIMPLEMENTED, f"Tensors of type {array.dtype} cannot be served")
    return kind


def strings(values: list[bytes]) -> Array:
    """A vector of byte strings as TensorFlow takes them: objects, so that trailing zero bytes survive."""
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return array


def from_proto(proto: Any) -> Array:
    """The array a TensorProto stands for; a short list of values is filled up with its last one."""
    kind = element_type(proto.dtype)
    shape, size = _shape(proto.tensor_shape)
    if proto.tensor_content:
        return _from_content(proto.tensor_content, kind, shape, size)
    try:
        flat = _values(getattr(proto, kind.field), kind)
    except (OverflowError, ValueError) as error:
        raise invalid(f"Tensor parsing error: {kind.field} does not hold values of type {kind.name}") from error
    return _filled(flat, kind, size).reshape(shape)


def _values(values: Any, kind: ElementType) -> Array:
    if kind.name.startswith("complex"):
        return np.array(values, dtype=np.float64).view(np.complex128).astype(kind.dtype)
    if kind.field == "half_val":
        return np.array(values, dtype=np.uint16).view(kind.dtype)
    if kind.field == "string_val":
        return strings(list(values))
    return np.fromiter(values, dtype=kind.dtype, count=len(values))


def _shape(proto: Any) -> tuple[tuple[int, ...], int]:
    shape = tuple(dim.size for dim in proto.dim)
    if proto.unknown_rank or any(size < 0 for size in shape):
        raise invalid("Tensor parsing error: the shape of an input must be fully known")
    size = math.prod(shape)
    if size > _LARGEST_TENSOR:
        raise invalid(f"Tensor parsing error: shape {list(shape)} is too large")
    return shape, size


def _from_content(content: bytes, kind: ElementType, shape: tuple[int, ...], size: int) -> Array:
    if kind.field == "string_val":
        raise invalid("Tensor parsing error: strings are expected in string_val, not in tensor_content")
    if len(content) != size * kind.dtype.itemsize:
        raise invalid(
            f"Tensor parsing error: {len(content)} bytes of tensor_content do not make a {kind.name} tensor "
            f"of shape {list(shape)}"
        )
    return np.frombuffer(content, dtype=kind.dtype).reshape(shape)


def _filled(flat: Array, kind: ElementType, size: int) -> Array:
    if flat.size == size:
        return flat
    if flat.size > size:
        raise invalid(f"Tensor parsing error: {flat.size} values for a tensor of {size}")
    filler = flat[-1] if flat.size else (b"" if kind.field == "string_val" else kind.dtype.type(0))
    full = np.empty(size, dtype=kind.dtype)
    full[: flat.size] = flat
    full[flat.size :] = filler
    return full


def fill_proto(proto: Any, array: Array) -> None:
    """Write an array into an empty TensorProto, in the typed fields that clients of TensorFlow Serving read."""
    kind = element_type_of(array)
    proto.dtype = kind.number
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    flat = array.ravel()
    if kind.name.startswith("complex"):
        flat = flat.view(np.float32 if kind.name == "complex64" else np.float64)
    elif kind.field == "half_val":
        flat = flat.view(np.uint16)
    getattr(proto, kind.field).extend(flat.tolist())
