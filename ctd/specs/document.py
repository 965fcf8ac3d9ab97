"""From a file to plain values with the place of every key: YAML 1.2 without what makes YAML dangerous or surprising.

No anchors, tags or second documents; no repeated or non-text keys; bounded in size, depth and number of values.
`no` is text, `012` is text, `12:30` and dates are text.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ctd.specs.problems import Problem, SpecProblems

MOST_BYTES = 256 * 1024
MOST_DEPTH = 50
MOST_VALUES = 10_000
_READS = 3

Place = tuple[str | int, ...]
Event = yaml.Event

# libyaml's parser is some twenty times as fast; wheels of PyYAML have it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)?\.[0-9]+|(0|[1-9][0-9]*)(\.|(?=[eE])))([eE][-+]?[0-9]+)?")
_ENDLESS = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_UNPRINTABLE = re.compile("[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_QUOTED = re.compile(r"""#.*|"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'""")
_BRACED = re.compile(
    r"(?:(?<=: )|(?<=[\[{,])|(?<=, )|(?<=- ))(?P<path>[^\s,{}\[\]\"']*(?P<name>\{[A-Za-z]+(?::[0-9]+)?\})[^\s,\"']*)"
)
_MOST_UNQUOTED = 50

# What the parser says, and what it means to someone who did not write a parser.
_SYNTAX = (
    (r"mapping values are not allowed", "`: ` inside a value", "Put the value in quotes, or check the indentation."),
    (r"cannot start any token", "a character that cannot begin a value", "Indent with spaces; quote the value."),
    (r"end of stream", "the file ends inside a quote or bracket", "Close the quote or the bracket."),
    (r"could not find expected ':'", "a line that is no `key: value`", "Write `key: value`, with a space."),
    (r"expected ',' or", "a bracket that is not closed", "Close it, or put a comma between the values."),
    (r"did not find expected key|block end", "the indentation does not fit", "Indent equally what belongs together."),
    (r"expected '-' indicator", "a list whose lines do not fit", "Begin every line of the list with `- `."),
)


@dataclass(frozen=True)
class Document:
    """The values of a file, and where each key and each item of a list is written."""

    file: str
    value: Any
    marks: dict[Place, tuple[int, int]]

    def place(self, location: Place) -> Place:
        """The longest written place on the way to a location; steps that are not written are left out."""
        found: Place = ()
        for step in location:
            if (*found, step) in self.marks:
                found = (*found, step)
        return found

    def problem(self, location: Place, message: str, hint: str = "", *, warning: bool = False) -> Problem:
        """A problem at the line of the key that a location leads to."""
        return Problem(self.file, *self.marks.get(self.place(location), (1, 1)), message, hint, warning)


class Flawed(SpecProblems):
    """What is wrong with a file that could be parsed to its end all the same, so that more may be found."""

    def __init__(self, problems: Iterable[Problem], document: Document) -> None:
        super().__init__(problems)
        self.document = document


def read_document(file: str) -> Document:
    """Read and parse a file. Raises SpecProblems."""
    return parse_document(_decoded(file, read_once(file)), file)


def read_once(file: str) -> bytes:
    """The whole file as it was at one moment: read again if it changes meanwhile. Raises SpecProblems."""
    try:
        for _ in range(_READS):
            data = _read(file)
            if data is not None:
                return data
    except OSError as error:
        raise _unreadable(
            file, f"cannot be read: {error.strerror or error}", "Check the path and its rights."
        ) from error
    raise _unreadable(file, "changes while it is read", "Wait for the writer; saving it once more is enough.")


def parse_document(text: str, file: str) -> Document:
    """Parse YAML. Raises SpecProblems with all that is wrong, or with the first that ends the parsing."""
    bad = _UNPRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        column = bad.start() - text.rfind("\n", 0, bad.start())
        message = f"the character U+{ord(bad[0]):04X} cannot be part of YAML"
        raise SpecProblems([Problem(file, line, column, message, "Delete it; saving as plain UTF-8 text helps.")])
    found: list[Problem] = []
    for _ in range(_MOST_UNQUOTED):
        builder, ended = _built(text, file)
        unquoted = _unquoted(text, ended) if isinstance(ended, yaml.MarkedYAMLError) else None
        if unquoted is None:
            break
        # As if it had been quoted, there may be more to tell of the rest.
        found.append(unquoted.problem(file))
        text = unquoted.quoted(text)
    found += [*builder.problems, *([_syntax(file, ended)] if ended else [])]
    document = Document(file, builder.root, builder.marks)
    if found:
        raise SpecProblems(found) if ended or builder.stopped else Flawed(found, document)
    return document


def _built(text: str, file: str) -> tuple[_Builder, Exception | None]:
    """What could be built of a text, and what ended it before its end."""
    builder = _Builder(file)
    try:
        builder.build(yaml.parse(text, Loader=_LOADER))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return builder, error
    return builder, None


@dataclass(frozen=True)
class _Unquoted:
    """A path with braces that YAML takes for mappings, since it is not in quotes."""

    path: str
    line: int  # from 0
    column: int

    def problem(self, file: str) -> Problem:
        message = f"is no YAML: the path {self.path} has braces, so it must be in quotes here"
        return Problem(file, self.line + 1, self.column + 1, message, f'Write "{self.path}".')

    def quoted(self, text: str) -> str:
        lines = text.split("\n")
        line, end = lines[self.line], self.column + len(self.path)
        lines[self.line] = f'{line[: self.column]}"{self.path}"{line[end:]}'
        return "\n".join(lines)


def _unquoted(text: str, error: yaml.MarkedYAMLError) -> _Unquoted | None:
    """The path that a syntax error comes of, if it comes of one."""
    marks = [mark.line for mark in (error.context_mark, error.problem_mark) if mark]
    lines = text.split("\n")
    open_ = 0  # brackets; outside of all of them a path needs quotes only if it begins with one
    for number in range(min(marks, default=0), min(max(marks, default=-1) + 1, len(lines))):
        bare = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), lines[number])
        for token in _BRACED.finditer(bare):
            path, before = _balanced(token["path"]), bare[: token.start("path")]
            within = open_ + _opened(before) > 0 or path.startswith("{")
            if within and path != token["name"]:  # {x} alone is a mapping
                return _Unquoted(path, number, token.start("path"))
        open_ += _opened(bare)
    return None


def _opened(text: str) -> int:
    return sum((character in "{[") - (character in "}]") for character in text)


def _balanced(token: str) -> str:
    """Without the brackets that close what was opened before."""
    depth = 0
    for at, character in enumerate(token):
        depth += (character in "{[") - (character in "}]")
        if depth < 0:
            return token[:at]
    return token


def _read(file: str) -> bytes | None:
    """The bytes, or None if the file changed or was replaced meanwhile."""
    # Not blocking: opening a FIFO must not wait for someone to write to it.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise _unreadable(file, "is not a regular file", "Put a YAML file there.")
        if before.st_size > MOST_BYTES:
            size = f"{before.st_size / 1024:.0f} KB"
            raise _unreadable(
                file, f"is too large: {size}; the most is {MOST_BYTES // 1024} KB", "Is it a spec at all?"
            )
        with os.fdopen(os.dup(descriptor), "rb") as opened:
            data = opened.read(MOST_BYTES + 1)
        after, there = os.fstat(descriptor), Path(file).stat()
    finally:
        os.close(descriptor)
    same = _identity(before) == _identity(after) == _identity(there) and len(data) == before.st_size
    return data if same else None


def _identity(facts: os.stat_result) -> tuple[int, int, int, int]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _decoded(file: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{data[error.start]:02X} is not UTF-8"
        raise SpecProblems([Problem(file, line, 1, message, "Save the file as UTF-8.")]) from error


def _unreadable(file: str, message: str, hint: str) -> SpecProblems:
    return SpecProblems([Problem(file, 1, 1, message, hint)])


def _syntax(file: str, error: Exception) -> Problem:
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem(file, 1, 1, f"is no YAML: {error}")
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    said = error.problem or str(error)
    for pattern, message, hint in _SYNTAX:
        if re.search(pattern, said):
            return Problem(file, line, column, f"is no YAML: {message}", hint)
    return Problem(file, line, column, f"is no YAML: {said}", "Check the quotes and the indentation around this line.")


class _TooMuch(ValueError):
    """The document is larger than any spec: parsing stops here."""


@dataclass
class _Builder:
    """Builds values from the parser's events; collects what is wrong as long as it can go on."""

    file: str
    problems: list[Problem] = field(default_factory=list)
    marks: dict[Place, tuple[int, int]] = field(default_factory=dict)
    root: Any = None
    values: int = 0
    stopped: bool = False  # before the end

    def build(self, events: Iterator[Event]) -> None:
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._complain(event, "a second document begins here", "Put it into a file of its own.")
                    return
            elif isinstance(event, yaml.NodeEvent):
                self.marks[()] = _mark(event)
                try:
                    self.root = self._value(event, events, ())
                except _TooMuch:
                    self.stopped = True
                    return

    def _value(self, event: Event, events: Iterator[Event], place: Place) -> Any:
        self._admit(event, place)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, place)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, place)
        return self._scalar(event)

    def _admit(self, event: Event, place: Place) -> None:
        """Refuse what specs have no use for. Raises _TooMuch."""
        self.values += 1
        if self.values > MOST_VALUES:
            self._complain(event, f"there are more than {MOST_VALUES} values", "Is it a spec at all?")
            raise _TooMuch
        if len(place) > MOST_DEPTH:
            self._complain(event, f"this is more than {MOST_DEPTH} levels deep", "Is it a spec at all?")
            raise _TooMuch
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            self._complain(event, f"aliases are not allowed: *{anchor}", "Write the value out.")
        elif anchor:
            self._complain(event, f"anchors are not allowed: &{anchor}", "Write the value out where it is needed.")
        elif tag:
            self._complain(event, f"tags are not allowed: {tag}", "Write the plain value.")

    def _mapping(self, events: Iterator[Event], place: Place) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._value(event, events, (*place, ""))
            if not isinstance(key, str):
                self._complain(event, f"the key {_shown(key)} is not text", "Put it in quotes.")
                key = f"{_shown(key)} in line {_mark(event)[0]}"
            elif key == "<<":
                self._complain(event, "the merge key << is not allowed", "Write the keys out.")
            elif key in built:
                first = self.marks[(*place, key)][0]
                self._complain(event, f"the key {key!r} is there twice, first in line {first}", "Keep one of them.")
            self.marks.setdefault((*place, key), _mark(event))
            built[key] = self._value(next(events), events, (*place, key))
        return built

    def _sequence(self, events: Iterator[Event], place: Place) -> list[Any]:
        built: list[Any] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            self.marks[(*place, len(built))] = _mark(event)
            built.append(self._value(event, events, (*place, len(built))))
        return built

    def _scalar(self, event: Event) -> Any:
        text = str(getattr(event, "value", ""))
        if getattr(event, "style", None) or isinstance(event, yaml.AliasEvent):
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            return int(text)
        number = float(text) if _FLOAT.fullmatch(text) else 0.0
        if _ENDLESS.fullmatch(text) or number in (float("inf"), float("-inf")):
            self._complain(event, f"{text} is not a finite number", "Write a number, or put the text in quotes.")
        return number if _FLOAT.fullmatch(text) else text

    def _complain(self, event: Event, message: str, hint: str) -> None:
        self.problems.append(Problem(self.file, *_mark(event), message, hint))


def _mark(event: Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _shown(key: object) -> str:
    if isinstance(key, dict | list):
        return "of several values"
    return {None: "null", True: "true", False: "false"}[key] if key is None or isinstance(key, bool) else str(key)
