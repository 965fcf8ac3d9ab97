"""How many executions run at once: in all, and in each pool. A pool that nobody limits has only the total limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ctd.core.executions import Execution

BESIDE = "-"
"""What takes no slot at all: the watch over a canary waits more than it works, and a target that has lost its live
version is not to wait for a training. No pool can have this name."""

_NAMED = 3  # executions in a reason; of more there is the number


@dataclass(frozen=True)
class Limits:
    """The most that may run at the same time."""

    parallel: int = 2
    pools: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Taken:
    pool: str
    by: str


class Slots:
    """Who has the slots. One is free again when the end of its execution is taken in, and plans know of it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken: dict[int, _Taken] = {}

    def take(self, execution: Execution, pool: str) -> None:
        """The execution was started."""
        if pool == BESIDE:
            return
        work = " ".join(part for part in (execution.pipeline, execution.node, execution.piece) if part)
        self._taken[execution.id] = _Taken(pool, f"{work} (execution {execution.id})")

    def give_back(self, execution_id: int) -> None:
        """The execution has ended."""
        self._taken.pop(execution_id, None)

    def lacking(self, pool: str) -> str:
        """Why nothing of this pool can start now; empty if it can."""
        if pool == BESIDE:
            return ""
        if len(self._taken) >= self._limits.parallel:
            return _in_use(list(self._taken.values()), self._limits.parallel)
        limit = self._limits.pools.get(pool)
        mine = [taken for taken in self._taken.values() if taken.pool == pool]
        return f"pool {pool} has {_in_use(mine, limit)}" if limit is not None and len(mine) >= limit else ""


def _in_use(taken: list[_Taken], limit: int) -> str:
    more = f" and {len(taken) - _NAMED} more" if len(taken) > _NAMED else ""
    return f"{len(taken)} of {limit} in use by {', '.join(t.by for t in taken[:_NAMED])}{more}"
