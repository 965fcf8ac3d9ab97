"""Measurements of two sides that did the same work in turn: medians, spreads, ratios, and goals. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

CTD, PEER = "ctd", "tfx"


@dataclass(frozen=True)
class Sample:
    """One side's measurement of one case."""

    seconds: float
    steps: Mapping[str, float] = field(default_factory=dict)  # seconds by node or component
    cpu: float = 0.0  # seconds of all processes; 0 where it was not looked at
    megabytes: float = 0.0  # at the most; 0 where it was not sampled
    details: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # where a part's seconds went

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Sample:
        return cls(**said)


Round = Mapping[str, Mapping[str, Sample]]  # case to side to sample


def round_to_json(measured: Round) -> dict[str, Any]:
    return {case: {side: asdict(sample) for side, sample in sides.items()} for case, sides in measured.items()}


def round_from_json(said: Mapping[str, Any]) -> Round:
    return {case: {side: Sample.from_json(s) for side, s in sides.items()} for case, sides in said.items()}


@dataclass(frozen=True)
class Spread:
    """Of several values of the same thing."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError if there is none."""
        if not values:
            raise ValueError("no values to take a median of")
        return cls(statistics.median(values), min(values), max(values))


def seconds_of(rounds: Sequence[Round], case: str, side: str) -> Spread | None:
    """The seconds of a case over the rounds that have it."""
    values = [r[case][side].seconds for r in rounds if side in r.get(case, {})]
    return Spread.of(values) if values else None


def cpu_of(rounds: Sequence[Round], case: str, side: str) -> Spread | None:
    """The CPU seconds of a case over the rounds that have it."""
    values = [r[case][side].cpu for r in rounds if side in r.get(case, {}) and r[case][side].cpu]
    return Spread.of(values) if values else None


def ratio_of(rounds: Sequence[Round], case: str) -> Spread | None:
    """How many times ctd's seconds the peer took: a ratio for each round, since both met the same machine in it."""
    both = [r[case] for r in rounds if {CTD, PEER} <= r.get(case, {}).keys()]
    ratios = [sides[PEER].seconds / sides[CTD].seconds for sides in both]
    return Spread.of(ratios) if ratios else None


def peak_of(rounds: Sequence[Round], side: str) -> float:
    """The most megabytes of a side in any case; 0 if none was sampled."""
    return max((sides[side].megabytes for r in rounds for sides in r.values() if side in sides), default=0.0)


def cases_of(rounds: Sequence[Round]) -> list[str]:
    """Every case that was measured, in the order of its first round."""
    return list(dict.fromkeys(case for r in rounds for case in r))


# Tables


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown_seconds(seconds: float) -> str:
    """`12.3 s`, `0.45 s`, `3.2 ms`."""
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def shown_ratio(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"


def shown(spread: Spread | None, form: Any) -> str:
    """The median, and from what to what where there is more than one value."""
    if spread is None:
        return ""
    if spread.least == spread.most:
        return str(form(spread.median))
    return f"{form(spread.median)} ({form(spread.least)} to {form(spread.most)})"


def cases_table(rounds: Sequence[Round]) -> str:
    """A line for each case: both sides' seconds, how many times faster ctd is, and what the CPU had to do for it."""
    rows = [
        [
            case,
            shown(seconds_of(rounds, case, CTD), shown_seconds),
            shown(seconds_of(rounds, case, PEER), shown_seconds),
            shown(ratio_of(rounds, case), shown_ratio),
            *(shown_seconds(cpu.median) if cpu else "" for cpu in (cpu_of(rounds, case, s) for s in (CTD, PEER))),
        ]
        for case in cases_of(rounds)
    ]
    return table(["case", "ctd", "TFX", "TFX / ctd", "ctd's CPU", "TFX's CPU"], rows)


def memory_table(rounds: Sequence[Round]) -> str:
    """A line for each case that was sampled."""
    rows = []
    for case in cases_of(rounds):
        peaks = [max(r[case][s].megabytes for r in rounds if s in r.get(case, {})) if _has(rounds, case, s) else 0.0
                 for s in (CTD, PEER)]  # fmt: skip
        if any(peaks):
            rows.append([case, *(f"{peak:,.0f} MB" if peak else "" for peak in peaks)])
    return table(["case", "ctd", "TFX"], rows)


def _has(rounds: Sequence[Round], case: str, side: str) -> bool:
    return any(side in r.get(case, {}) for r in rounds)


@dataclass(frozen=True)
class Step:
    """A step that both sides have, by what each calls the parts of it."""

    name: str
    ctd: tuple[str, ...]
    peer: tuple[str, ...]


STEPS = (
    Step("ingest and split", ("examples",), ("CsvExampleGen",)),
    Step("statistics", ("statistics",), ("StatisticsGen",)),
    Step("schema", ("schema",), ("ImportSchemaGen",)),
    Step("validation", ("validator",), ("ExampleValidator",)),
    Step("transform", ("transform",), ("Transform",)),
    Step("train and export", ("trainer",), ("Trainer",)),
    Step("find the baseline", (), ("Resolver",)),
    Step("evaluate and judge", ("evaluator.metrics", "evaluator.verdict"), ("Evaluator",)),
    Step("try to serve", ("infra",), ()),
    Step("push", ("pusher.serving",), ("Pusher",)),
)


def step_seconds(rounds: Sequence[Round], case: str, side: str, parts: Sequence[str]) -> Spread | None:
    """The sum of the parts, over the rounds in which one of them ran."""
    values = []
    for r in rounds:
        steps = r[case][side].steps if side in r.get(case, {}) else {}
        if any(part in steps for part in parts):
            values.append(sum(steps.get(part, 0.0) for part in parts))
    return Spread.of(values) if values else None


def steps_table(rounds: Sequence[Round], case: str) -> str:
    """A line for each step, then the whole: what is not in a step is starting, importing, waiting; less is overlap."""
    rows = []
    for step in STEPS:
        ours = step_seconds(rounds, case, CTD, step.ctd)
        theirs = step_seconds(rounds, case, PEER, step.peer)
        ratio = shown_ratio(theirs.median / ours.median) if ours and theirs and ours.median else ""
        rows.append([step.name, shown(ours, shown_seconds), shown(theirs, shown_seconds), ratio])
    sums = [_sum_of_steps(rounds, case, side) for side in (CTD, PEER)]
    rows.append(["all steps, added up", *(shown(s, shown_seconds) for s in sums), ""])
    whole = [seconds_of(rounds, case, side) for side in (CTD, PEER)]
    rows.append(
        ["**the whole**", *(shown(s, shown_seconds) for s in whole), shown(ratio_of(rounds, case), shown_ratio)]
    )
    return table(["step", "ctd", "TFX", "TFX / ctd"], rows)


def _sum_of_steps(rounds: Sequence[Round], case: str, side: str) -> Spread | None:
    values = [sum(r[case][side].steps.values()) for r in rounds if side in r.get(case, {})]
    return Spread.of(values) if values else None


def details_table(rounds: Sequence[Round], case: str, side: str, what: str) -> str:
    """A line for each part of a side's work, with the median of each of its details; blank where there is none."""
    found = [r[case][side].details for r in rounds if side in r.get(case, {})]
    parts = list(dict.fromkeys(part for details in found for part in details))
    names = list(dict.fromkeys(name for details in found for said in details.values() for name in said))
    rows = []
    for part in parts:
        values = {name: [d[part][name] for d in found if name in d.get(part, {})] for name in names}
        rows.append([part, *(f"{statistics.median(values[name]):.2f}" if values[name] else "" for name in names)])
    return table([what, *names], rows)


@dataclass(frozen=True)
class Goal:
    """What was to be reached, what was measured, and whether that is enough: None if it was not measured."""

    what: str
    wanted: str
    measured: str
    met: bool | None


def at_most(what: str, limit: float, measured: Spread | None) -> Goal:
    """A goal for the median of seconds."""
    met = measured.median <= limit if measured else None
    return Goal(what, f"at most {shown_seconds(limit)}", shown(measured, shown_seconds), met)


def times_faster(what: str, wanted: float, measured: Spread | None) -> Goal:
    """A goal for the median of ratios."""
    met = measured.median >= wanted if measured else None
    return Goal(what, f"TFX takes at least {wanted:g} times as long", shown(measured, shown_ratio), met)


def goals_table(goals: Sequence[Goal]) -> str:
    verdicts = {True: "met", False: "**missed**", None: "not measured"}
    rows = [[g.what, g.wanted, g.measured, verdicts[g.met]] for g in goals]
    return table(["goal", "wanted", "measured", ""], rows)
