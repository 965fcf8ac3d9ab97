"""Judging a canary by how it answers the requests that the live version answers, too: pure arithmetic.

A request that the live version does not answer says nothing about the canary. Latency is a ratio of both on the same
machine in the same minutes, since a busy machine slows both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctd.specs.targets import Watch

Answer = Mapping[str, NDArray[Any]]

ENOUGH = 100
"""Pairs of answers before shares and latencies end a trial early; a single one of few says little."""
_FEWEST = 20  # for a word on latency at all
_NOTICEABLE = 0.005  # seconds: what both answer in next to no time is not judged by the ratio


@dataclass
class Tally:
    """What was asked and answered so far. `distinct` is how many different requests there are."""

    limits: Watch
    distinct: int
    asked: int = 0  # requests that the live version answered
    failed: int = 0  # of these, those that only the canary did not
    why: str = ""  # the first of them
    refused: str = ""  # what the live version says to a request that it does not take
    alone: int = 0  # requests that only the canary takes
    neither: int = 0
    seconds: list[tuple[float, float]] = field(default_factory=list)  # the live version's, the canary's
    differences: dict[str, dict[int, float]] = field(default_factory=dict)  # by output and request

    def answered(self, number: int, live: Answer, canary: Answer, seconds: tuple[float, float]) -> None:
        """Both have answered request `number`; answers of another form are failures of the canary."""
        wrong = _of_another_form(live, canary)
        if wrong:
            self.not_answered(f"request {number + 1}: {wrong}")
            return
        self.asked += 1
        self.seconds.append(seconds)
        for output, value in live.items():
            self.differences.setdefault(output, {})[number] = difference(value, canary[output])

    def not_answered(self, why: str) -> None:
        """The live version has answered, and the canary has not."""
        self.asked += 1
        self.failed += 1
        self.why = self.why or why

    def not_compared(self, refused: str, *, canary: bool) -> None:
        """The live version does not take the request; `canary` says whether the canary does."""
        self.refused = self.refused or refused
        self.alone += canary
        self.neither += not canary

    @property
    def drifts(self) -> Mapping[str, float]:
        """The mean difference of each output, each request counted once."""
        return {output: float(np.mean(list(of.values()))) for output, of in sorted(self.differences.items())}

    @property
    def slower(self) -> float | None:
        """How many times as long the canary's slowest 5 % of answers take; nothing if there are too few to tell."""
        if len(self.seconds) < _FEWEST:
            return None
        live, canary = (float(p) for p in np.quantile(np.array(self.seconds), 0.95, axis=0))
        return canary / live if canary - live > _NOTICEABLE else min(canary / live, 1.0)

    def complaint(self, *, over: bool = False) -> str:
        """What takes the canary back, or nothing; `over` at the end, when few answers are all there are."""
        return self._errors(over=over) or self._drift(over=over) or self._latency(over=over) or self._nothing(over=over)

    def _errors(self, *, over: bool) -> str:
        limit = self.limits.errors
        of = self.asked if over else max(self.asked, ENOUGH)
        if limit is None or not self.failed or self.failed / of <= limit:
            return ""
        return f"errors: {self.failed} of {self.asked} requests failed ({self.why}), allowed is {limit:g}"

    def _drift(self, *, over: bool) -> str:
        """The answers to the same requests are the same each time: they are judged when all were asked once."""
        limit, drifts = self.limits.drift, self.drifts
        complete = over or any(len(of) >= self.distinct for of in self.differences.values())
        if limit is None or not drifts or not complete:
            return ""
        output = max(drifts, key=lambda name: drifts[name])
        if drifts[output] <= limit:
            return ""
        of = len(self.differences[output])
        return f"drift: output {output!r} differs by {drifts[output]:.4g} in the mean of {of} requests, limit {limit:g}"

    def _latency(self, *, over: bool) -> str:
        limit, slower = self.limits.latency, self.slower
        if limit is None or slower is None or slower <= limit or (not over and len(self.seconds) < ENOUGH):
            return ""
        live, canary = 1000 * np.quantile(np.array(self.seconds), 0.95, axis=0)
        return f"latency: p95 {canary:.1f} ms after {live:.1f} ms of the live version: {slower:.1f}x, limit {limit:g}x"

    def _nothing(self, *, over: bool) -> str:
        """A trial in which nothing could be compared has shown nothing, unless only the canary takes the requests.

        A signature that is new has nothing to be compared with. That its requests are answered is all there is to see.
        """
        if not over or self.seconds:
            return ""
        if self.alone and not self.failed:
            of, limit = self.alone + self.neither, self.limits.errors
            if limit is None or self.neither / of <= limit:
                return ""
            return f"errors: {self.neither} of {of} requests are answered by neither version, allowed is {limit:g}"
        why = self.why or f"the live version answers none of the requests ({self.refused or 'none was sent'})"
        return f"nothing could be compared: {why}"

    @property
    def said(self) -> str:
        """`240 requests, 0 errors, p95 1.1x, drift 0.012`."""
        if self.alone and not self.asked:
            return f"not compared, the live version takes none of the {self.alone} requests ({self.refused})"
        drift = max(self.drifts.values(), default=None)
        parts = [f"{self.asked} requests, {self.failed} errors"]
        parts += [f"p95 {self.slower:.1f}x"] if self.slower is not None else []
        parts += [f"drift {drift:.3g}"] if drift is not None else []
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """All figures, with those of the limits."""
        slowest = np.quantile(np.array(self.seconds), 0.95, axis=0) if self.seconds else ()
        p95 = [round(1000 * float(p), 2) for p in slowest]
        return {
            "requests": self.asked,
            "distinct_requests": self.distinct,
            "failed": self.failed,
            "not_compared": self.alone + self.neither,
            "first_failure": self.why,
            "p95_milliseconds": dict(zip(("live", "canary"), p95, strict=False)),
            "p95_ratio": self.slower,
            "drift": {output: value if np.isfinite(value) else str(value) for output, value in self.drifts.items()},
            "limits": self.limits.model_dump(exclude_none=True),
        }


def difference(live: NDArray[Any], canary: NDArray[Any]) -> float:
    """How far two answers of one form are apart: floats in the mean, of all else the share that is not equal."""
    if not live.size:
        return 0.0
    if live.dtype.kind not in "fc":
        return float(np.mean(live != canary))
    one, other = live.astype(np.float64), canary.astype(np.float64)
    if (np.isfinite(one) & ~np.isfinite(other)).any():
        return float("inf")
    return float(np.mean(np.abs(np.nan_to_num(one) - np.nan_to_num(other))))


def _of_another_form(live: Answer, canary: Answer) -> str:
    """What a client would stumble over. An output more is none."""
    if not live.keys() <= canary.keys():
        return f"the outputs are {', '.join(sorted(canary))} instead of {', '.join(sorted(live))}"
    for name, value in live.items():
        if value.shape != canary[name].shape:
            return f"output {name!r} has shape {canary[name].shape} instead of {value.shape}"
        if value.dtype.kind != canary[name].dtype.kind:
            return f"output {name!r} is of {canary[name].dtype} instead of {value.dtype}"
    return ""
