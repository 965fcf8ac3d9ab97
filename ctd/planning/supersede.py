"""Whether work that runs gives way to newer work of the same place: `supersede: running`."""

from __future__ import annotations

import itertools

from ctd.core.executions import Execution, State
from ctd.planning.decisions import Decision, Run, Subject, Wait
from ctd.planning.world import World

MOST = 3
"""So many executions may give way in a row, then one is let finish: a feed faster than training gets models, too."""


def still_running(subject: Subject, busy: Execution, *, giving_way: bool, world: World) -> Wait:
    """The wait of newer work for an execution on other inputs."""
    because = f"execution {busy.id} is still running on {busy.key or 'other inputs'}"
    if giving_way and not may_give_way(busy, world):
        because += f"; {MOST} before it were superseded, so it is let finish"
    return Wait(subject, because, execution=busy.id)


def may_give_way(busy: Execution, world: World) -> bool:
    """Whether fewer than the most have given way since this piece of work last came to a result."""
    of_place = world.history.back(busy.pipeline, busy.node, busy.piece)
    since = itertools.takewhile(lambda e: e.state is not State.SUCCEEDED, of_place)
    return sum(1 for e in since if e.superseded) < MOST


def unless_running(run: Run, decided: Decision, world: World) -> Decision:
    """What was decided about a run; if the execution that it would supersede still runs, a wait for its end.

    It gives way only to work that would begin at once: not to what waits for its time, an approval or a resume.
    """
    busy = world.history.execution(run.supersedes)
    if busy is None or busy.state is not State.RUNNING:
        return decided
    if not isinstance(decided, Run):
        return still_running(run.subject, busy, giving_way=False, world=world)
    because = f"execution {busy.id} on {busy.key or 'other inputs'} gives way; then: {decided.because}"
    return Wait(run.subject, because, execution=busy.id, supersedes=busy.id)
