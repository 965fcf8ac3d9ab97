"""The page that `make bench-peer` writes: goals, cases, steps, memory, and on what it was measured. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.comparison import (
    CTD,
    PEER,
    Goal,
    Round,
    Spread,
    at_most,
    cases_table,
    details_table,
    goals_table,
    memory_table,
    peak_of,
    ratio_of,
    seconds_of,
    shown_seconds,
    steps_table,
    table,
    times_faster,
)

FIRST = "first run, cold process"
STARTED = "new span, daemon just started"
NEW = "new span, daemon warm"
THRESHOLD = "only a threshold changed"
NOTHING = "nothing changed, a look of the daemon's"
ONCE = "nothing changed, a cold `ctd run --once`"
BIG = "ten times the rows, cold process"

_FLAT = 1.2  # how much dearer the last looks may be than the first

_PHASES = """\
Seconds since the span was complete, and of the phases of each execution: `start` is the wait for its process, `publish`
all from the end of its process until its results are recorded."""

_SERVED = """
The example of `examples/taxi` as `make demo` runs it: 3,000 trips a day, its two metrics with 25 slices, and a model
server (`ctd serve`) that looks for new versions every second. Seconds from the day's files to the server's first answer
with the new version; the push waits for that and for golden requests. *Cold*: the daemon starts with the day there.
*Warm* is the second day, which is what the demo's second span takes; a *threshold edit* ends with the verdict."""

_HOW = """\
Each round runs ctd and then TFX on the same spans, case by case, never both at a time. Spans are rows of the Chicago
taxi data drawn with replacement, so that every span is new. Both sides use the same module (`examples/taxi/taxi.py`),
schema, split (2:1), steps, metrics, slices and limits; ctd runs InfraValidator in addition, which TFX cannot do without
Docker.

- *First run*, *ten times the rows*: a new folder and a new process, `ctd run --once` against TFX's LocalDagRunner; the
  seconds are those of the process from its start to its end.
- *New span*: the daemon has pushed a model before; from the span's marker to the event that the push has succeeded.
  TFX has no daemon: a new process each time, as one would run it. *Daemon just started* is the same for the first span
  after a start; TFX has no such case.
- *Only a threshold changed*: from the edit of the spec to the verdict recorded.
- *Nothing changed*: the median of many looks (observe and plan) of a daemon that is told to look at everything anew
  every few milliseconds; and `ctd run --once` as a process, for comparison with TFX's.
- Seconds are medians of the rounds with the least and the most; ratios are taken within each round.
- Steps are executions as ML Metadata has them on both sides, from being recorded to being published. ctd's run side by
  side where they can, so they add up to more than the whole.
- CPU is user and system time of the process and all its descendants. TFX's seconds are about its CPU seconds, since its
  local runner does one thing at a time.
- Memory is that of the process and all its descendants: the sum of their proportional set sizes (a page shared by n
  processes counts 1/n for each), sampled four times a second in a round of its own, whose seconds do not count.
"""


def page(found: Mapping[str, Any], rounds: Sequence[Round], memory: Sequence[Round]) -> str:
    """The whole of RESULTS.md."""
    parts = [
        "# ctd beside TFX",
        f"Written by `make bench-peer` ({found['date']}); do not edit. [NOTES.md](NOTES.md) has what was tried.",
        *_warnings(found),
        "## Goals",
        goals_table(goals(found, rounds, memory)),
        "## Cases",
        cases_table(rounds),
        f"## Steps: {NEW}",
        steps_table(rounds, NEW),
        f"## Steps: {FIRST}",
        steps_table(rounds, FIRST),
        f"## Steps: {BIG}",
        steps_table(rounds, BIG),
        f"## Where ctd's seconds go: {NEW}",
        _PHASES,
        details_table(rounds, NEW, CTD, "execution"),
        f"## Where ctd's seconds go: {FIRST}",
        details_table(rounds, FIRST, CTD, "execution"),
    ]
    if any(PEER in r.get(NEW, {}) for r in rounds):
        parts += [f"## Where TFX's seconds go: {NEW}", details_table(rounds, NEW, PEER, "TFX")]
    if memory:
        parts += ["## Peak memory", memory_table(memory)]
    parts += [
        *_served(found.get("served", [])),
        "## The same work",
        "What each side's Evaluator found over all examples, in the last round.",
        _metrics_table(found["metrics"][-1]),
        f"## {len(found['looks'][0]):,} looks where nothing changed",
        _looks_table(found["looks"]),
        "## How",
        _HOW.strip(),
        "## On what",
        _machine(found, len(rounds)),
    ]
    return "\n\n".join(parts) + "\n"


def goals(found: Mapping[str, Any], rounds: Sequence[Round], memory: Sequence[Round]) -> list[Goal]:
    """Those that the project set itself, with what was measured."""
    return [
        at_most(NEW, 10, seconds_of(rounds, NEW, CTD)),
        times_faster(NEW, 5, ratio_of(rounds, NEW)),
        at_most(FIRST, 15, seconds_of(rounds, FIRST, CTD)),
        at_most(THRESHOLD, 0.5, seconds_of(rounds, THRESHOLD, CTD)),
        at_most(NOTHING, 0.020, seconds_of(rounds, NOTHING, CTD)),
        at_most(BIG, 20, seconds_of(rounds, BIG, CTD)),
        times_faster(BIG, 4, ratio_of(rounds, BIG)),
        _memory_goal(memory),
        _flat_goal(found["looks"]),
    ]


def _memory_goal(memory: Sequence[Round]) -> Goal:
    ours, theirs = peak_of(memory, CTD), peak_of(memory, PEER)
    measured = f"{ours:,.0f} MB and {theirs:,.0f} MB" if ours and theirs else ""
    return Goal("peak memory of all cases", "under TFX's", measured, ours < theirs if ours and theirs else None)


def _flat_goal(looks: Sequence[Sequence[float]]) -> Goal:
    growth = statistics.median(_tenth(spent, -1) / _tenth(spent, 0) for spent in looks)
    what = f"{len(looks[0]):,} looks where nothing changed"
    wanted = f"flat: the last tenth takes at most {_FLAT:g} times as long as the first"
    return Goal(what, wanted, f"{growth:.2f} times", growth <= _FLAT)


def _served(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> list[str]:
    """From the drop to the answer of a model server, which both sides leave out above."""
    if not rounds:
        return []
    rows = []
    for case in rounds[0]:
        spread = Spread.of([said[case]["served"] for said in rounds])
        push = [said[case]["pusher.serving"] for said in rounds if "pusher.serving" in said[case]]
        rows.append([case, *map(shown_seconds, (spread.median, spread.least, spread.most)), _median(push)])
    return ["## From the drop to served", _SERVED.strip(), table(["case", "median", "least", "most", "its push"], rows)]


def _median(seconds: Sequence[float]) -> str:
    return shown_seconds(statistics.median(seconds)) if seconds else ""


def _tenth(spent: Sequence[float], which: int) -> float:
    """The median of the first (0) or the last (-1) tenth."""
    size = max(1, len(spent) // 10)
    return statistics.median(spent[:size] if which == 0 else spent[-size:])


def _looks_table(looks: Sequence[Sequence[float]]) -> str:
    rows = []
    for number, spent in enumerate(looks, 1):
        of_all = Spread.of(spent)
        said = (_tenth(spent, 0), of_all.median, _tenth(spent, -1), of_all.most)
        rows.append([str(number), *map(shown_seconds, said)])
    return table(["round", "first tenth", "all", "last tenth", "the slowest"], rows)


def _metrics_table(metrics: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    names = sorted({name for sides in metrics.values() for said in sides.values() for name in said})
    rows = [
        [case, {CTD: "ctd", PEER: "TFX"}[side], *(f"{said[name]:.6g}" if name in said else "" for name in names)]
        for case, sides in metrics.items()
        for side, said in sides.items()
    ]
    return table(["case", "", *names], rows)


def _warnings(found: Mapping[str, Any]) -> list[str]:
    busy = found["load"]["before"][0] > 0.5
    small = found["size"]["rows"] != 1
    said = []
    if busy:
        load = found["load"]["before"][0]
        said.append(f"**The machine was busy** (load {load:.1f} before the first round): not figures to rely on.")
    if small:
        said.append("**A trial of the harness** with little data and few steps: not figures to rely on.")
    return said


def _machine(found: Mapping[str, Any], rounds: int) -> str:
    load = [" ".join(f"{each:.2f}" for each in found["load"][when]) for when in ("before", "after")]
    lines = {
        **found["machine"],
        "commit": found["commit"],
        "command": f"`{found['command']}`",
        "rounds": str(rounds),
        "load": f"{load[0]} before, {load[1]} after",
    }
    return "\n".join(f"- {name}: {said}" for name, said in lines.items())
