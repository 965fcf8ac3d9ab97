"""Hive's folders below a span, `country=US/day=3/part-0.parquet`: a column whose values stand in the folders' names.

Names are as Hive, Spark, pyarrow and DuckDB write them: special characters escaped as in URLs, and
`__HIVE_DEFAULT_PARTITION__` where there is no value.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from ctd.core.spans import Component, temporary

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def is_partition(folder: str) -> bool:
    """Whether the name of a folder says a column and its value. As for Spark, a column's name may begin with `_`."""
    return "=" in folder[1:] and not folder.startswith(".") and not temporary(folder)


def partition_of(path: str, span: str, inside: Sequence[Component]) -> tuple[str, ...]:
    """The partitions among the folders between a span's folder and one of its files, from the top.

    A folder that the pattern names outright chooses data: it is the same for all files, and no column of theirs.
    """
    folders = path[len(span) + 1 :].split("/")[:-1]
    chosen = {depth for depth, component in enumerate(inside) if component.literal}
    return tuple(folder for depth, folder in enumerate(folders) if depth not in chosen and is_partition(folder))


def parse_partition(folder: str) -> tuple[str, str | None]:
    """The column and its value; None where there is none. Raises UnicodeError for what is no UTF-8."""
    name, _, value = folder.partition("=")
    return _unescaped(name), None if value == _NO_VALUE else _unescaped(value)


def _unescaped(text: str) -> str:
    return unquote_to_bytes(text.encode()).decode()
