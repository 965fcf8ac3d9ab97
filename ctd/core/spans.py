"""Spans: slices of data, and how they are read out of paths.

Pure text and arithmetic: who lists the storage brings names and facts (`ctd.storage.listing`). The grammar is TFX's
(`{SPAN}`, `{VERSION}`, `{YYYY}{MM}{DD}`, widths, `*`, `?`) except that tokens take digits only, padding needs no
width, every other character stands for itself, and what does not fit is a stray instead of the end of it all. Besides
days there are hours, minutes, weeks and months (`ctd.core.calendars`).
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time

from ctd.core.calendars import NUMBERS, Calendar, Unit, begin, number_at
from ctd.core.work import SourceFile

_TOKEN = re.compile(r"\{([A-Za-z_]+)(?::([^{}]*))?\}|([*?])")
_DATE = {"YYYY": 4, "MM": 2, "DD": 2, "HH": 2, "mm": 2, "GGGG": 4, "WW": 2}
_TOKENS = ("SPAN", "VERSION", *_DATE)
_UNITS: Mapping[tuple[str, ...], Unit] = {
    ("YYYY", "MM"): Unit.MONTH,
    ("YYYY", "MM", "DD"): Unit.DAY,
    ("YYYY", "MM", "DD", "HH"): Unit.HOUR,
    ("YYYY", "MM", "DD", "HH", "mm"): Unit.MINUTE,
    ("GGGG", "WW"): Unit.WEEK,
}
_DAY_IN_KEY = re.compile(r"(?<![0-9])[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9T-])")
_MOST = 2**63 - 1  # MLMD keeps spans and versions in 64 bits
_MOST_STARS = 4  # in one name: the worst case of matching grows with its length to this power
_UNFINISHED = (".tmp", "_tmp", "_temporary")
_UNFINISHED_ENDS = (".tmp", ".part", ".partial", ".filepart", ".crdownload")
_TEMPORARY = ("~", ".swp", *_UNFINISHED_ENDS)
_GRAMMAR = (
    "The tokens are {SPAN}, {VERSION}, {YYYY}, {MM}, {DD}, {HH} and {mm}, and for weeks {GGGG} and {WW}; {SPAN:3} "
    "takes exactly three digits."
)
_TIMES = (
    "Write {YYYY}, {MM} and {DD} for days, {HH} besides for hours, {mm} as well for minutes; {YYYY} and {MM} for "
    "months, {GGGG} and {WW} for weeks."
)


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
    def unit(self) -> Unit | None:
        """What a span lasts, if the pattern says it by its time."""
        return _UNITS.get(tuple(token for token in _DATE if token in self.tokens))

    @functools.cached_property
    def calendar(self) -> Calendar:
        """How spans are numbered."""
        return Calendar(self.unit) if self.unit else NUMBERS

    @functools.cached_property
    def versioned(self) -> bool:
        return "VERSION" in self.tokens

    def read(self, found: Mapping[str, str]) -> Span:
        """The span that the digits say. Raises PatternError for days and numbers that cannot be."""
        number = _number(found.get("SPAN", "0")) if self.unit is None else _time(self.unit, found)
        return Span(number, _number(found["VERSION"]) if "VERSION" in found else None)

    def path_of(self, span: Span) -> str:
        """Where a span belongs; what the pattern leaves open (`*`, `?`) stays open. Raises PatternError."""
        said = {"SPAN": str(span.number), "VERSION": str(span.version)}
        if self.unit is not None:
            said |= _digits(self.unit, span.number)
        if ("VERSION" in self.tokens) != (span.version is not None):
            raise PatternError(f"{self.text} and span {self.say(span)} disagree on whether there are versions")
        names = [_TOKEN.sub(lambda t: _padded(t, said), c.text) for c in self.components[: self.root + 1]]
        if any(c.match(name) is None for c, name in zip(self.components, names, strict=False)):
            raise PatternError(
                f"span {self.say(span)} has no place in {self.text}", "Its digits do not fit the pattern."
            )
        return "/".join([self.base.rstrip("/"), *names])

    def say(self, span: Span) -> str:
        """A span as people of this pipeline name it: `2026-01-03.v2` where spans are days, else `42.v2`."""
        return span_name(self.calendar, span.number, span.version)


def span_name(calendar: Calendar, number: int, version: int | None = None) -> str:
    """A span, perhaps in a certain version, as people name it: `2026-11-29T23.v2`."""
    return calendar.say(number) + (f".v{version}" if version is not None else "")


def plain_key(key: str) -> str:
    """The key of an execution with days as numbers: so they were recorded until days were named in keys."""
    return _DAY_IN_KEY.sub(lambda day: _day_number(day[0]), key)


def _day_number(text: str) -> str:
    try:
        return str(number_at(Unit.DAY, datetime.fromisoformat(text)))
    except ValueError:
        return text


def _time(unit: Unit, found: Mapping[str, str]) -> int:
    """The span of the time that the digits say. Raises PatternError for times that cannot be."""
    digits = {token: int(found.get(token, "1")) for token in _DATE}
    try:
        if unit is Unit.WEEK:
            day = date.fromisocalendar(digits["GGGG"], digits["WW"], 1)
        else:
            day = date(digits["YYYY"], digits["MM"], digits["DD"])
        at = datetime.combine(day, time(int(found.get("HH", 0)), int(found.get("mm", 0))))
    except ValueError:
        parts = [found.get(token, "") for token in ("YYYY", "MM", "DD")]
        text = f"{found['GGGG']}-W{found['WW']}" if unit is Unit.WEEK else "-".join(part for part in parts if part)
        text += "".join(f"{mark}{found[token]}" for mark, token in (("T", "HH"), (":", "mm")) if token in found)
        raise PatternError(f"there is no {unit.value} {text}", f"Rename it to the {unit.value} it holds.") from None
    return number_at(unit, at)


def _digits(unit: Unit, number: int) -> dict[str, str]:
    """What the tokens of a time stand for. Raises PatternError where the calendar ends."""
    at = begin(unit, number)
    if at is None:
        raise PatternError(f"span {number} is no {unit.value} of the calendar")
    year, week, _ = at.isocalendar()
    day = {"YYYY": f"{at.year:04}", "MM": f"{at.month:02}", "DD": f"{at.day:02}"}
    return {**day, "HH": f"{at.hour:02}", "mm": f"{at.minute:02}", "GGGG": f"{year:04}", "WW": f"{week:02}"}


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
        many = f"{{{width}}}" if width else "{1,2}" if token in _DATE else "+"
        digits = f"(?P<{token}>[0-9]{many})"
        if any(glob in ("*", "?") for glob in around):
            digits = f"(?<![0-9]){digits}(?![0-9])"
        exact, loose, tokens = exact + digits, loose + "[^/]*", [*tokens, token]
    if len(set(tokens)) < len(tokens):
        _check_tokens(tokens)
    return Component(name, tuple(tokens), re.compile(exact, re.DOTALL), re.compile(loose, re.DOTALL))


def parts(name: str) -> Iterator[tuple[str | None, str, int]]:
    """Literal text, globs, and tokens with their widths; 0: as many digits as there are, 1 or 2 of a part of a date."""
    at = 0
    for found in _TOKEN.finditer(name):
        if found.start() > at:
            yield name[at : found.start()], "", 0
        at = found.end()
        token, width, glob = found.groups()
        digits = 0 if glob else _width(found[0], token, width)
        # Hive and Spark write the numbers that columns hold, `month=3`.
        bare = digits == 2 and token in _DATE and name[: found.start()].endswith("=") and at == len(name)
        yield (glob, "", 0) if glob else (None, token, 0 if bare else digits)
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
    days = tuple(token for token in _DATE if token in tokens)
    if days and "SPAN" in tokens:
        raise PatternError("{SPAN} and a date exclude each other", f"A date is the span: write only one. {_TIMES}")
    if days and days not in _UNITS:
        raise PatternError(_lacking(days), _TIMES)
    if "VERSION" in tokens and not days and "SPAN" not in tokens:
        raise PatternError("{VERSION} needs a span or a date", "Write {SPAN} too: versions are versions of a span.")


def _lacking(tokens: tuple[str, ...]) -> str:
    """What is wrong with the tokens of a time that are no unit together."""
    week = ("GGGG", "WW")
    if {*tokens} & {*week} and {*tokens} - {*week}:
        return "{GGGG} and {WW} are a week, which has no other date beside it"
    order = week if tokens[0] in week else ("YYYY", "MM", "DD", "HH", "mm")
    last = max(order.index(token) for token in tokens)
    missing = [token for token in order[: max(last, 1) + 1] if token not in tokens]
    return f"the date lacks {' and '.join(f'{{{token}}}' for token in missing)}"


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
