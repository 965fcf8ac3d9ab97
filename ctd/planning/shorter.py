"""What would have made a push come sooner: facts computed from its critical path, dearest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from ctd.core.completeness import Quiet
from ctd.core.executions import BEFORE, Execution
from ctd.core.timing import format_duration
from ctd.planning.critical import CriticalPath, Step
from ctd.planning.gaps import GapKind
from ctd.specs.nodes import ExampleGenSpec
from ctd.specs.pipeline import PipelineSpec

_SLOWEST = 3  # steps that are named for what they took
_NOTABLE = 0.5  # seconds: less is not worth a sentence
_LONG_START = 1.0  # seconds until a process is ready; a fork of a template that stands ready takes hundredths

DOING: Mapping[str, str] = {
    "down": "down",
    "notice": "noticing",
    "settle": "settling",
    "held": "held up",
    "wait": "waiting",
    "start": "starting",
    "verify": "verifying",
    "import": "importing",
    "read": "reading",
    "run": "computing",
    "write": "writing",
    "digest": "digesting",
    "publish": "publishing",
}
"""What an execution does in a phase, in the order of phases."""


def shorter(path: CriticalPath, spec: PipelineSpec) -> tuple[str, ...]:
    """Sentences, each with its seconds."""
    found = [
        fact for step in path.critical for of in (_settling, _waiting, _held, _starting) for fact in of(step, spec)
    ]
    found += [fact for step in _slowest(path) for fact in _working(step)]
    found.sort(key=lambda fact: fact[0], reverse=True)
    return (*(said for _, said in found), *_beside(path))


Fact = tuple[float, str]


def _settling(step: Step, spec: PipelineSpec) -> Iterator[Fact]:
    e = step.execution
    seconds = e.timings.get("settle", 0.0)
    node = spec.nodes.get(e.node)
    if seconds < _NOTABLE or not isinstance(node, ExampleGenSpec):
        return
    rule = node.complete.rule
    if isinstance(rule, Quiet):
        hint = f"`complete: {{quiet: {format_duration(rule.period)}}}` waits that long; a marker would begin at once"
    else:
        hint = "from its first file to what makes it complete: this is the time of who delivers it"
    yield seconds, f"{e.node} waited {_said(seconds)} for {e.key} to be complete: {hint}"


def _waiting(step: Step, spec: PipelineSpec) -> Iterator[Fact]:
    e = step.execution
    seconds = e.timings.get("wait", 0.0)
    if seconds < _NOTABLE or e.node not in spec.nodes:
        return
    piece = next((w.piece for w in spec.work if w.id == (e.node, e.piece)), None)
    pool = spec.node(e.node).pool_of(piece) if piece else ""
    more = f"`ctd run --parallel`, or `--pool {pool}=...`" if pool else "`ctd run --parallel`"
    yield seconds, f"{_name(e)} waited {_said(seconds)} for a slot: more of them ({more}), or a higher `priority`"


def _held(step: Step, spec: PipelineSpec) -> Iterator[Fact]:
    """What held it up that is told nowhere else."""
    del spec
    for gap in step.gaps:
        seconds = gap.took.total_seconds()
        if gap.kind not in (GapKind.SLOT, GapKind.SETTLE) and seconds >= _NOTABLE:
            yield seconds, f"{_name(step.execution)} waited {_said(seconds)}: {gap.said}"


def _starting(step: Step, spec: PipelineSpec) -> Iterator[Fact]:
    e = step.execution
    seconds = e.timings.get("start", 0.0) + e.timings.get("import", 0.0)
    if seconds >= _LONG_START:
        cold = "no warm template stood ready: the daemon had just started, has `--no-warm`, or was idle for long"
        yield seconds, f"{_name(e)} took {_said(seconds)} to get its process and libraries: {cold}"


def _slowest(path: CriticalPath) -> list[Step]:
    steps = [step for step in path.critical if step.gain.total_seconds() >= _NOTABLE]
    return sorted(steps, key=lambda step: step.gain, reverse=True)[:_SLOWEST]


def _working(step: Step) -> Iterator[Fact]:
    e = step.execution
    inside = {phase: e.timings[phase] for phase in DOING if phase in e.timings and phase not in BEFORE}
    most = max(inside, key=inside.__getitem__, default="")
    if most == "start" and inside[most] >= _LONG_START:
        return  # which is told already
    of_it = f", {_said(inside[most])} of it {DOING[most]}" if most else ""
    spans = max((len(ids) for key, ids in e.inputs.items() if key.endswith("examples")), default=0)
    over = f", over the {spans} spans of its window" if spans > 1 else ""
    gain = step.gain.total_seconds()
    took = _said(step.took.total_seconds())
    yield gain, f"{_name(e)} took {took}{of_it}{over}: without it the end would have come {_said(gain)} sooner"


def _beside(path: CriticalPath) -> Iterator[str]:
    free = [step for step in path.steps if not step.critical]
    if free:
        names = ", ".join(dict.fromkeys(_name(step.execution) for step in free))
        least = min(step.slack for step in free).total_seconds()
        yield f"making these quicker changes nothing: {names} ({_said(least)} or more to spare)"


def _name(e: Execution) -> str:
    return f"{e.node}.{e.piece}" if e.piece else e.node


def _said(seconds: float) -> str:
    return format_duration(timedelta(seconds=round(seconds, 1 if seconds >= 1 else 3)))
