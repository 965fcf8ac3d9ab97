"""How a pipeline, or all of them, are in one word, worst first; and the exit code that scripts get for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

PipelineState = Literal["invalid", "failed", "blocked", "waiting", "working", "as wanted"]
"""`invalid`: an edit was refused; `failed`: an error; `blocked`: a verdict or a person said no, or must say yes;
`waiting`: for somebody, or for data; `working`: it goes on by itself; `as wanted`: nothing is to be done."""

EXIT_CODES: Mapping[PipelineState, int] = {
    "invalid": 2,
    "failed": 1,
    "blocked": 3,
    "waiting": 3,
    "working": 0,
    "as wanted": 0,
}
"""Of a command that ends in a state. The worst comes first."""


def worst(states: Iterable[PipelineState]) -> PipelineState:
    """The state that somebody has to know of before all others."""
    there = set(states)
    return next((state for state in EXIT_CODES if state in there), "as wanted")
