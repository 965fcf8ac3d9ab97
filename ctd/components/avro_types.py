"""What the types of an Avro schema mean, and the kinds of features that they become.

Logical types are converted here, since fastavro makes datetimes of times, which end with the year 9999, and leaves
those that it does not know as they are. So its readers get the schema with logical types under another name.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from typing import Any

import fastavro

from ctd.components.example_bytes import Kind
from ctd.components.given_types import Given, as_value
from ctd.components.table_columns import Column, Meaning, unsupported

_LOGICAL = "ctd.logicalType"  # instead of `logicalType`: fastavro keeps attributes that it does not know
_NESTED = ("type", "items", "values", "fields")
_UUID_BYTES = 16
_PER_SECOND = {"millis": 10**3, "micros": 10**6, "nanos": 10**9}
_NO_FEATURE = {("int", "time-millis"), ("long", "time-micros"), ("fixed", "duration")}
_BIG_DECIMAL = {
    "type": "record",
    "name": "BigDecimal",
    "fields": [{"name": "unscaled", "type": "bytes"}, {"name": "scale", "type": "int"}],
}
_EXACTLY = Context(prec=10_000)  # digits; Avro sets no limit

Named = dict[str, Any]
"""The types that a schema has named so far, and may refer to."""


def with_raw_values(schema: Any) -> Any:
    """A schema by which values are read as they are stored, and in which logical types can still be found."""
    if isinstance(schema, list):
        return [with_raw_values(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    raw = {key: with_raw_values(value) if key in _NESTED else value for key, value in schema.items()}
    if "logicalType" in raw:
        raw[_LOGICAL] = raw.pop("logicalType")
    return raw


def column_of(field: Mapping[str, Any], named: Named, given: Given, path: str) -> Column:
    """The column that a field of the records is. Raises BadInput if no feature can hold it."""
    name, said = field["name"], said_of(field["type"])
    found = _found(field["type"], named) or _mixed(field["type"], given.types.get(name))
    if found is None:
        unsupported(path, name, said)
    exact = found.exact if found.kind is Kind.FLOAT else None
    return Column(
        name, said, found.kind, found.convert, found.meaning, found.many,
        single=found.single, exact=exact, given=found.given,
    )  # fmt: skip


def said_of(type_: Any) -> str:
    """A type in Avro's words, shortened."""
    if isinstance(type_, list):
        return " or ".join(map(said_of, type_))
    if isinstance(type_, str):
        return type_
    if _LOGICAL in type_:
        logical = str(type_[_LOGICAL])
        return f"decimal({type_.get('precision')}, {type_.get('scale', 0)})" if logical == "decimal" else logical
    return f"array of {said_of(type_['items'])}" if type_["type"] == "array" else said_of(type_["type"])


@dataclass(frozen=True)
class _Found:
    """What a type means and becomes."""

    meaning: Meaning
    kind: Kind
    convert: Callable[[Any], Any]
    many: bool = False
    single: bool = False
    exact: Callable[[Any], Any] | None = None
    given: bool = False


def _found(type_: Any, named: Named) -> _Found | None:
    if isinstance(type_, list):
        return _of_union([_found(branch, named) for branch in type_])
    if isinstance(type_, str):
        return _PLAIN.get(type_) or (_found(named[type_], named) if type_ in named else None)
    if "name" in type_:
        named[type_["name"]] = type_
    base = type_["type"]
    if not isinstance(base, str):
        return _found(base, named)
    if _LOGICAL in type_:
        return _of_logical(base, str(type_[_LOGICAL]), type_)
    if base == "array":
        inside = _found(type_["items"], named)
        return replace(inside, many=True) if inside and not inside.many else None
    if base in ("enum", "fixed"):
        return _PLAIN["string" if base == "enum" else "bytes"]
    return _found(base, named) if base not in ("record", "error", "map") else None


def _of_union(branches: Sequence[_Found | None]) -> _Found | None:
    """Null and one type, or types that become the same."""
    if None in branches:
        return None
    found = {branch for branch in branches if branch and branch.kind is not Kind.BLANK}
    if len({replace(branch, single=False) for branch in found}) > 1:
        return None
    return next((branch for branch in found if not branch.single), None) or (found.pop() if found else _PLAIN["null"])


def _mixed(type_: Any, kind: Kind | None) -> _Found | None:
    """A union of several plain types, which are of one kind if the spec says of which."""
    if kind is None or not isinstance(type_, list):
        return None
    if not all(isinstance(branch, str) and branch in _PLAIN for branch in type_):
        return None
    meaning = {Kind.INT: Meaning.INTEGER, Kind.FLOAT: Meaning.NUMBER, Kind.STRING: Meaning.TEXT}[kind]
    return _Found(meaning, kind, as_value(kind), given=True)


def _of_logical(base: str, logical: str, type_: Mapping[str, Any]) -> _Found | None:
    """What a logical type becomes; one that Avro does not know, or not of this type, is what it is stored as."""
    family, _, unit = logical.rpartition("-")
    if base == "long" and family in ("timestamp", "local-timestamp") and unit in _PER_SECOND:
        meaning = Meaning.TIMESTAMP if family == "timestamp" else Meaning.LOCAL_TIMESTAMP
        return _Found(meaning, Kind.INT, _divided(_PER_SECOND[unit]))
    if (base, logical) == ("int", "date"):
        return _Found(Meaning.DATE, Kind.INT, int)
    if logical == "decimal" and base in ("bytes", "fixed") and _is_decimal(type_):
        return _decimal(type_.get("scale", 0))
    if (base, logical) == ("bytes", "big-decimal"):
        return _Found(Meaning.NUMBER, Kind.FLOAT, lambda value: float(_big_decimal(value)), exact=_big_decimal)
    if (base, logical) == ("fixed", "uuid") and type_.get("size") == _UUID_BYTES:
        return _Found(Meaning.UUID, Kind.STRING, bytes)
    if (base, logical) in _NO_FEATURE or logical.startswith(("time", "local-time")):
        return None
    return _PLAIN["bytes"] if base == "fixed" else _PLAIN.get("string" if base == "enum" else base)


def _is_decimal(type_: Mapping[str, Any]) -> bool:
    """Whether precision and scale are such that Avro takes it for a decimal."""
    precision, scale = type_.get("precision"), type_.get("scale", 0)
    return isinstance(precision, int) and isinstance(scale, int) and 0 <= scale <= precision and precision > 0


def _decimal(scale: int) -> _Found:
    if not scale:
        return _Found(Meaning.INTEGER, Kind.INT, _whole)

    def exact(value: bytes) -> Decimal:
        return Decimal(_whole(value)).scaleb(-scale, _EXACTLY)

    return _Found(Meaning.NUMBER, Kind.FLOAT, lambda value: float(exact(value)), exact=exact)


def _whole(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def _big_decimal(value: bytes) -> Decimal:
    try:
        said: Any = fastavro.schemaless_reader(io.BytesIO(value), _BIG_DECIMAL, None)
    except EOFError as error:
        raise ValueError("it is cut off") from error
    return Decimal(_whole(said["unscaled"])).scaleb(-said["scale"], _EXACTLY)


@functools.cache
def _divided(by: int) -> Callable[[int], int]:
    """The same function each time, so that what is found of equal types is equal."""
    return lambda value: value // by


_PLAIN: Mapping[str, _Found] = {
    "null": _Found(Meaning.NOTHING, Kind.BLANK, bytes),
    "boolean": _Found(Meaning.BOOLEAN, Kind.INT, int),
    "int": _Found(Meaning.INTEGER, Kind.INT, int),
    "long": _Found(Meaning.INTEGER, Kind.INT, int),
    "float": _Found(Meaning.NUMBER, Kind.FLOAT, float, single=True),
    "double": _Found(Meaning.NUMBER, Kind.FLOAT, float),
    "bytes": _Found(Meaning.BYTES, Kind.STRING, bytes),
    "string": _Found(Meaning.TEXT, Kind.STRING, str.encode),
}
