"""Whether patterns claim the same files, proven by a path that each of them would read. Pure text, as `spans`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ctd.core.spans import Component, PatternError, SpanPattern, component, parts

_FILES = component("*")
_PARTITION = component("?*=*")
_MOST_PARTITIONS = 8  # levels of Hive's folders below a span that are tried
_ANY, _DIGIT = "any", "digit"


@dataclass(frozen=True)
class _Step:
    """What one character of a name may be: a certain one, a digit, or any; `repeated` any number of times."""

    of: str
    repeated: bool = False


def shared_path(one: SpanPattern, other: SpanPattern) -> str | None:
    """A file that both patterns would read, as an example; None where none was found."""
    for mine in _files(one):
        for theirs in _files(other):
            names = _shared_names(mine, theirs)
            if names is not None and _reads(one, mine, names) and _reads(other, theirs, names):
                return "/" + "/".join(names)
    return None


def reaches_into(pattern: SpanPattern, folder: str) -> bool:
    """Whether the pattern would read files somewhere below the folder."""
    names = [name for name in folder.split("/") if name]
    return any(
        len(levels) > len(names)
        and all(level.match(name) is not None for level, name in zip(levels, names, strict=False))
        for levels in _files(pattern)
    )


def _files(pattern: SpanPattern) -> Iterator[tuple[Component, ...]]:
    """The levels of the paths of its files. A span without further levels is a file, or a folder and Hive's in it."""
    levels = (*(component(name) for name in pattern.base.split("/") if name), *pattern.components)
    yield levels
    if pattern.root == len(pattern.components) - 1:
        for deep in range(_MOST_PARTITIONS + 1):
            yield (*levels, *[_PARTITION] * deep, _FILES)


def _shared_names(mine: Sequence[Component], theirs: Sequence[Component]) -> list[str] | None:
    if len(mine) != len(theirs):
        return None
    names = []
    for a, b in zip(mine, theirs, strict=True):
        name = _shared_name(a, b)
        if name is None:
            return None
        names.append(name)
    return names


def _shared_name(a: Component, b: Component) -> str | None:
    """A short name that fits both: stars are no empty text if that is possible, since hidden names are no data."""
    for least in itertools.product((1, 0), repeat=2):
        name = _name(list(_steps(a.text, least[0])), list(_steps(b.text, least[1])))
        if name and all(c.match(name) is not None and not c.passes_over(name) for c in (a, b)):
            return name
    return None


def _name(left: Sequence[_Step], right: Sequence[_Step]) -> str:
    """The shortest text that both ways of steps spell, of ones where choice is free: 1111-11-11 is a day."""
    ways: dict[tuple[int, int], str] = {(0, 0): ""}
    reached = [(0, 0)]
    for i, j in reached:  # grows while it is walked
        for way, character in _next(left, right, i, j):
            if way not in ways:
                ways[way] = ways[i, j] + character
                reached.append(way)
    return ways.get((len(left), len(right)), "")


def _next(left: Sequence[_Step], right: Sequence[_Step], i: int, j: int) -> Iterator[tuple[tuple[int, int], str]]:
    """Where to get from a place in both: past what may be repeated no more, or on by a character of both."""
    if i < len(left) and left[i].repeated:
        yield (i + 1, j), ""
    if j < len(right) and right[j].repeated:
        yield (i, j + 1), ""
    if i < len(left) and j < len(right):
        character = _common(left[i].of, right[j].of)
        if character:
            yield (i + (not left[i].repeated), j + (not right[j].repeated)), character


def _common(a: str, b: str) -> str:
    if a == b:
        return {_ANY: "x", _DIGIT: "1"}.get(a, a)
    for one, other in ((a, b), (b, a)):
        if one == _ANY:
            return "1" if other == _DIGIT else other
        if one == _DIGIT and other.isascii() and other.isdigit():
            return other
    return ""


def _steps(text: str, least: int) -> Iterator[_Step]:
    """The steps of one level of a pattern; a star is at least so many characters."""
    for literal, token, width in parts(text):
        if token:
            yield from [_Step(_DIGIT)] * (width or 1)
            if not width:
                yield _Step(_DIGIT, repeated=True)
        elif literal == "*":
            yield from [*[_Step(_ANY)] * least, _Step(_ANY, repeated=True)]
        elif literal == "?":
            yield _Step(_ANY)
        else:
            yield from map(_Step, literal or "")


def _reads(pattern: SpanPattern, levels: Sequence[Component], names: Sequence[str]) -> bool:
    """Whether the digits in the names are a span: there is such a day."""
    found: dict[str, str] = {}
    for level, name in zip(levels, names, strict=True):
        found |= level.match(name) or {}
    try:
        pattern.read(found)
    except PatternError:
        return False
    return True
