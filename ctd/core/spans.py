"""Spans: slices of data, and how they are read out of paths.

Pure text and arithmetic: who lists the storage brings names and facts (`ctd.storage.listing`). The grammar is TFX's
(`{SPAN}`, `{VERSION}`, `{YYYY}{MM}{DD}`, widths, `*`, `?`) except that tokens take digits only, padding needs no
width, every other character stands for itself, and what does not fit is a stray instead of the end of it all.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from ctd.core.work import SourceFile

_TOKEN = re.compile(r"\{([A-Za-z_]+)(?::([^{}]*))?\}|([*?])")
_DATE = {"YYYY": 4, "MM": 2, "DD": 2}
_TOKENS = ("SPAN", "VERSION", *_DATE)
_EPOCH = date(1970, 1, 1).toordinal()
_MOST = 2**63 - 1  # MLMD keeps spans and versions in 64 bits
_MOST_STARS = 4  # in one name: the worst case of matching grows with its length to this power
_UNFINISHED = (".tmp", "_tmp", "_temporary")
_UNFINISHED_ENDS = (".tmp", ".part", ".partial", ".filepart", ".crdownload")
_TEMPORARY = ("~", ".swp", *_UNFINISHED_ENDS)
_GRAMMAR = "The tokens are {SPAN}, {VERSION}, {YYYY}, {MM} and {DD}; {SPAN:3} takes exactly three digits."


class PatternError(ValueError):
    """An input pattern that says something that cannot be; `hint` says what to write instead."""

    def __init__(self, message: str, hint: str = _GRAMMAR) -> None:
        super().__init__(message)
        self.hint = hint


@functools.total_ordering
@dataclass(frozen=True)
class Span:
    """One slice of data. A later version of the same number replaces the earlier one."""

    number: int
    version: int | None = None

    @property
    def label(self) -> str:
        """`42`, or `42.v2`."""
        return f"{self.number}" + (f".v{self.version}" if self.version is not None else "")

    def __lt__(self, other: Span) -> bool:
        return self.order() < other.order()

    def order(self) -> tuple[int, int]:
        """What spans are sorted by: a span without a version comes before its versions."""
        return self.number, -1 if self.version is None else self.version


def number_of(day: date) -> int:
    """The span of a day: days since 1970-01-01, negative before."""
    return day.toordinal() - _EPOCH


def span_number(text: str) -> int:
    """The span that a person means by `42`, `span-42` or `2024-03-01`. Raises ValueError with a hint of the forms."""
    said = text.strip().removeprefix("span-")
    with contextlib.suppress(ValueError):
        return number_of(date.fromisoformat(said))
    if not re.fullmatch(r"-?[0-9]{1,18}", said):
        raise ValueError(f"{text!r} is no span: write its number or its date, such as 42 or 2024-03-01")
    return int(said)


def span_of(text: str) -> Span:
    """The span that a person means, perhaps in a certain version: `42` or `2024-03-01.v2`. Raises ValueError."""
    said, dot, version = text.strip().rpartition(".v")
    if not dot:
        return Span(span_number(text))
    if not re.fullmatch(r"[0-9]{1,18}", version):
        raise ValueError(f"{text!r} has no version: write its number, such as {said}.v2")
    return Span(span_number(said), int(version))


def day_of(number: int) -> date | None:
    """The day of a span, or None where the calendar ends."""
    try:
        return date.fromordinal(number + _EPOCH)
    except (ValueError, OverflowError):
        return None


def hidden(name: str) -> bool:
    """Whether a name says *not data*: hidden, temporary, or a file of bookkeeping as `_SUCCESS`."""
    return name.startswith((".", "_")) or temporary(name)


def temporary(name: str) -> bool:
    """Whether an editor or a copying program gives such names to what it is not done with, or keeps of before."""
    return name.endswith(_TEMPORARY)


def unfinished(name: str) -> bool:
    """Whether a name says that someone is still writing, and will rename it."""
    return name.startswith(_UNFINISHED) or name.endswith(_UNFINISHED_ENDS)


@dataclass(frozen=True)
class Component:
    """One level of a pattern: what the names of files or folders there may be."""

    text: str
    tokens: tuple[str, ...]
    exact: re.Pattern[str]
    loose: re.Pattern[str]  # tokens as `*`: what looks meant for us

    @property
    def literal(self) -> bool:
        """Whether there is only one name that matches."""
        return not self.tokens and not any(character in self.text for character in "*?")

    def match(self, name: str) -> Mapping[str, str] | None:
        """The digits of each token, or None where the name does not match."""
        found = self.exact.fullmatch(name)
        return found.groupdict() if found else None

    def stray(self, name: str) -> bool:
        """Whether a name looks like one of ours but is not."""
        return not self.exact.fullmatch(name) and bool(self.loose.fullmatch(name))

    def passes_over(self, name: str) -> bool:
        """Whether a name is hidden or temporary and the pattern does not ask for such names."""
        return hidden(name) and not hidden(self.text)

    def filled(self, found: Mapping[str, str]) -> str:
        """The text with its tokens replaced by the digits found."""
        return _TOKEN.sub(lambda token: found.get(token[1] or "", token[0]), self.text)


@dataclass(frozen=True)
class SpanPattern:
    """Where spans arrive: a fixed folder, and below it one component per level.

    `components[root]` is the span itself, a folder or a file: the last component with a token. Components after it
    choose files inside the span.
    """

    text: str
    base: str
    components: tuple[Component, ...]
    root: int

    @classmethod
    def parse(cls, text: str) -> SpanPattern:
        """Read a pattern. Raises PatternError."""
        names = [name for name in text.split("/") if name not in ("", ".")]
        if not names:
            raise PatternError("the input names no files", "Write for instance ../data/{SPAN}.")
        components = [component(name) for name in names]
        fixed = next((i for i, c in enumerate(components) if not c.literal), len(names))
        if ".." in names[fixed:]:
            raise PatternError("`..` cannot stand after a token or `*`", "Write the path without `..`.")
        _check_tokens([token for c in components for token in c.tokens])
        root = max((i for i, c in enumerate(components) if c.tokens), default=None)
        if root is None:
            # One span without a number: the last fixed name is its folder or file.
            fixed = root = fixed - 1
            if root < 0:
                raise PatternError("an input without a token must begin with a folder", "Write for instance data/*.csv")
        base = ("/" if text.startswith("/") else "") + "/".join(names[:fixed])
        return cls(text, base or ".", tuple(components[fixed:]), root - fixed)

    @functools.cached_property
    def tokens(self) -> tuple[str, ...]:
        return tuple(token for c in self.components for token in c.tokens)

    @functools.cached_property
    def dated(self) -> bool:
        return "YYYY" in self.tokens

    @functools.cached_property
    def versioned(self) -> bool:
        return "VERSION" in self.tokens

    def read(self, found: Mapping[str, str]) -> Span:
        """The span that the digits say. Raises PatternError for days and numbers that cannot be."""
        if self.dated:
            try:
                number = number_of(date(int(found["YYYY"]), int(found["MM"]), int(found["DD"])))
            except ValueError:
                day = f"{found['YYYY']}-{found['MM']}-{found['DD']}"
                raise PatternError(f"there is no day {day}", "Rename it to the day it holds.") from None
        else:
            number = _number(found.get("SPAN", "0"))
        return Span(number, _number(found["VERSION"]) if "VERSION" in found else None)

    def path_of(self, span: Span) -> str:
        """Where a span belongs; what the pattern leaves open (`*`, `?`) stays open. Raises PatternError."""
        said = {"SPAN": str(span.number), "VERSION": str(span.version)}
        if self.dated:
            day = day_of(span.number)
            if day is None:
                raise PatternError(f"span {span.number} is no day of the calendar")
            said |= {"YYYY": f"{day.year:04}", "MM": f"{day.month:02}", "DD": f"{day.day:02}"}
        if ("VERSION" in self.tokens) != (span.version is not None):
            raise PatternError(f"{self.text} and span {span.label} disagree on whether there are versions")
        names = [_TOKEN.sub(lambda t: _padded(t, said), c.text) for c in self.components[: self.root + 1]]
        if any(c.match(name) is None for c, name in zip(self.components, names, strict=False)):
            raise PatternError(f"span {span.label} has no place in {self.text}", "Its digits do not fit the pattern.")
        return "/".join([self.base.rstrip("/"), *names])

    def say(self, span: Span) -> str:
        """A span as people of this pipeline name it: `2026-01-03.v2` where spans are days, else `42.v2`."""
        day = day_of(span.number) if self.dated else None
        return span.label if day is None else span.label.replace(str(span.number), day.isoformat(), 1)


def component(name: str) -> Component:
    """Compile one level. A run of digits beside a `*` or `?` belongs to the token as a whole."""
    if "**" in name:
        raise PatternError(
            f"`**` in {name!r}: files of a span lie directly in its folder", "Write `*`, once per level."
        )
    if name.count("*") > _MOST_STARS:
        raise PatternError(f"{name!r} has more than {_MOST_STARS} `*`", "Name more of the file.")
    exact, loose = "", ""
    tokens: list[str] = []
    said = list(parts(name))
    for i, (literal, token, width) in enumerate(said):
        if literal is not None:
            piece = {"*": "[^/]*", "?": "[^/]"}.get(literal, re.escape(literal))
            exact, loose = exact + piece, loose + piece
            continue
        around = [said[j][0] for j in (i - 1, i + 1) if 0 <= j < len(said)]
        if not width and None in around and any(not said[j][2] for j in (i - 1, i + 1) if 0 <= j < len(said)):
            raise PatternError(
                f"{name!r}: nothing says where {{{token}}} ends", "Put a character between the tokens, or give widths."
            )
        digits = f"(?P<{token}>[0-9]{{{width}}})" if width else f"(?P<{token}>[0-9]+)"
        if any(glob in ("*", "?") for glob in around):
            digits = f"(?<![0-9]){digits}(?![0-9])"
        exact, loose, tokens = exact + digits, loose + "[^/]*", [*tokens, token]
    if len(set(tokens)) < len(tokens):
        _check_tokens(tokens)
    return Component(name, tuple(tokens), re.compile(exact, re.DOTALL), re.compile(loose, re.DOTALL))


def parts(name: str) -> Iterator[tuple[str | None, str, int]]:
    """Literal text, globs, and tokens with their widths (0: as many digits as there are)."""
    at = 0
    for found in _TOKEN.finditer(name):
        if found.start() > at:
            yield name[at : found.start()], "", 0
        at = found.end()
        token, width, glob = found.groups()
        yield (glob, "", 0) if glob else (None, token, _width(found[0], token, width))
    if at < len(name):
        yield name[at:], "", 0


def _width(text: str, token: str, width: str | None) -> int:
    if token not in _TOKENS:
        close = difflib.get_close_matches(token.upper(), _TOKENS, n=1)
        raise PatternError(f"{text} is no token", f"Did you mean {{{close[0]}}}? {_GRAMMAR}" if close else _GRAMMAR)
    if token in _DATE:
        if width is not None:
            raise PatternError(f"{text}: {{{token}}} has {_DATE[token]} digits anyway", f"Write {{{token}}}.")
        return _DATE[token]
    if width is None:
        return 0
    if not re.fullmatch(r"[1-9]|1[0-9]", width):
        raise PatternError(f"{text}: the width must be a number from 1 to 19", f"Write for instance {{{token}:3}}.")
    return int(width)


def _check_tokens(tokens: list[str]) -> None:
    for token in _TOKENS:
        if tokens.count(token) > 1:
            raise PatternError(f"{{{token}}} occurs {tokens.count(token)} times", "Each token may occur once.")
    days = [token for token in _DATE if token in tokens]
    if days and "SPAN" in tokens:
        raise PatternError("{SPAN} and a date exclude each other", "A date is the span: write only one of them.")
    if days and len(days) < len(_DATE):
        missing = " and ".join(f"{{{token}}}" for token in _DATE if token not in days)
        raise PatternError(f"the date lacks {missing}", "Write all of {YYYY}, {MM} and {DD}.")
    if "VERSION" in tokens and not days and "SPAN" not in tokens:
        raise PatternError("{VERSION} needs a span or a date", "Write {SPAN} too: versions are versions of a span.")


def _number(digits: str) -> int:
    number = int(digits)
    if number > _MOST:
        raise PatternError(f"{digits} is too large for a span or version", f"The largest is {_MOST}.")
    return number


def _padded(token: re.Match[str], said: Mapping[str, str]) -> str:
    return said[token[1]].zfill(int(token[2] or 0)) if token[1] else token[0]


@dataclass(frozen=True)
class ObservedSpan:
    """A span as a scan found it. `files` are its data files, by name; `ready_at` is set in a quiet period.

    One that is not complete may be `passing`: it is being written, it cannot be read, or not be told from another.
    """

    span: Span
    path: str
    files: tuple[SourceFile, ...]
    complete: bool
    because: str
    ready_at: datetime | None = None
    passing: bool = False
