"""The critical path of a push as the read model of `api`."""

from __future__ import annotations

from datetime import datetime

from ctd.api.times import GapView, StepView, TimesView
from ctd.core.errors import NotFound
from ctd.core.executions import Execution
from ctd.core.history import History
from ctd.planning.critical import CriticalPath, Step, critical_path, last_push
from ctd.planning.shorter import DOING, shorter
from ctd.specs.pipeline import PipelineSpec


def times_view(spec: PipelineSpec, history: History, number: int | None) -> TimesView:
    """Of the last push, or of one execution. Raises NotFound."""
    found = history.execution(number) if number is not None else last_push(history, spec.name)
    if found is None or found.pipeline != spec.name:
        about = f"pushed yet by {spec.name}" if number is None else f"known of an execution {number} of {spec.name}"
        hint = f"`ctd explain {spec.name}` shows its executions; name one with --execution."
        raise NotFound(f"nothing was {about}", hint=hint)
    if found.ended is None:
        raise NotFound(f"execution {found.id} has not ended", hint="Ask again when it has.")
    path = critical_path(history, spec, found)
    return TimesView(
        pipeline=spec.name,
        execution=found.id,
        result=found.result,
        set_off=path.root.because,
        began=path.begins.isoformat(),
        ended=path.ends.isoformat(),
        seconds=_seconds(path.ends, path),
        steps=[_step(step, path) for step in path.steps],
        shorter=list(shorter(path, spec)),
    )


def _step(step: Step, path: CriticalPath) -> StepView:
    e = step.execution
    return StepView(
        execution=e.id,
        node=e.node,
        piece=e.piece,
        key=e.key,
        state=e.state.value,
        ready=_seconds(step.ready, path),
        start=_seconds(e.started, path),
        end=_seconds(e.ended or e.started, path),
        phases=_phases(e),
        critical=step.critical,
        slack=round(step.slack.total_seconds(), 3),
        gain=round(step.gain.total_seconds(), 3),
        gaps=[
            GapView(
                kind=gap.kind.value,
                said=gap.said,
                start=_seconds(gap.start, path),
                end=_seconds(gap.end, path),
                seconds=round(gap.took.total_seconds(), 3),
            )
            for gap in step.gaps
        ],
    )


def _phases(e: Execution) -> dict[str, float]:
    """In the order in which they came, by the words for people."""
    return {said: e.timings[phase] for phase, said in DOING.items() if phase in e.timings}


def _seconds(at: datetime, path: CriticalPath) -> float:
    return round((at - path.begins).total_seconds(), 3)
