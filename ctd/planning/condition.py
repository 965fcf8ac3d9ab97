"""How a pipeline is, in one word: the worst that its plan has for anybody to act on. A pure function."""

from __future__ import annotations

import enum
from typing import Literal

from ctd.planning.decisions import Blocked, Plan, Wait

_REFUSED = frozenset({"quarantined", "refused"})

Word = Literal["failed", "blocked", "waiting", "working", "as wanted"]


class Condition(enum.Enum):
    """Worst first."""

    value: Word

    FAILED = "failed"  # an error that somebody should mend
    BLOCKED = "blocked"  # a verdict or a person said no, or has to say yes
    WAITING = "waiting"  # for a person, or for data
    WORKING = "working"  # something runs, or will by itself
    AS_WANTED = "as wanted"


def condition(made: Plan) -> Condition:
    """The worst of all decisions and alerts.

    What somebody has to act on counts although ctd is at work: a feed that never stops must not hide it. What only
    waits for data, or for what runs, counts at rest.
    """
    if made.failed:
        return Condition.FAILED
    if any(isinstance(d, Blocked) for d in made.decisions):
        return Condition.BLOCKED
    if _for_somebody(made):
        return Condition.WAITING
    if not made.settled:
        return Condition.WORKING
    return Condition.WAITING if made.stuck or made.alerts else Condition.AS_WANTED


def _for_somebody(made: Plan) -> bool:
    """Whether a person has to look: at a refused span, a folder that cannot be read, a source that is silent."""
    refused = any(left.kind in _REFUSED for some in made.left_out.values() for left in some)
    stuck = any(isinstance(d, Wait) and d.stuck for d in made.decisions)
    return refused or stuck or any(not alert.passes for alert in made.alerts)
