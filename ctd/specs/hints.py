"""How hints are worded: the word that was probably meant, and the words there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean 'window'? `, ready to be followed by another sentence; empty if nothing known comes close."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f"Did you mean {close[0]!r}? " if close else ""


def listed(words: Iterable[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, final = list(words) or ["nothing"]
    return f"{', '.join(most)} {last} {final}" if most else final
