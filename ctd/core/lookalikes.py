"""Numbers that look like times: read as numbers, 2026112923 and 2026113000 are 77 apart, and hours are one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctd.core.calendars import Unit, looks_like
from ctd.core.spans import SpanPattern

_NUMBER = re.compile(r"\{SPAN(:\d+)?\}")
_TOKENS = {Unit.DAY: "{YYYY}{MM}{DD}", Unit.HOUR: "{YYYY}{MM}{DD}{HH}", Unit.MINUTE: "{YYYY}{MM}{DD}{HH}{mm}"}


def times_in_numbers(pattern: SpanPattern, numbers: Sequence[int]) -> tuple[str, str] | None:
    """What to say, and what to do, where the numbers of spans (in their order) look like times of one kind."""
    if "SPAN" not in pattern.tokens or not numbers:
        return None
    first, last = looks_like(numbers[0]), looks_like(numbers[-1])
    if first is None or last is None or first[0] is not last[0]:
        return None
    unit, name = last
    meant = _NUMBER.sub(_TOKENS[unit], pattern.text)
    ends = "month" if unit is Unit.DAY else "day"
    said = f"span {numbers[-1]} looks like {unit.a}, {name}, but is counted as a number: a gap wherever a {ends} ends"
    return said, f"Write `input: {meant}`."
