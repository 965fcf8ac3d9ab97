"""Approvals and rejections of work that waits for somebody, checked against what does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ctd.api.models import ObstacleView
from ctd.api.requests import RequestForm
from ctd.core.errors import CtdError, NotPossible
from ctd.core.requests import Verb
from ctd.daemon.about import About
from ctd.daemon.views import Views
from ctd.planning.asked import paused
from ctd.planning.decisions import Blocked, Decision, Reuse, Run, Wait


@dataclass(frozen=True)
class Approvals:
    """Raises NotPossible where nothing waits for approval, with what there is instead."""

    views: Views

    def asked(self, form: RequestForm) -> Iterator[About]:
        """A yes or no to each piece of work of the node that waits for one."""
        decisions = [d for d in self._decisions(form) if d.subject.node == form.node]
        waiting = [d for d in decisions if isinstance(d, Blocked) and d.fingerprint]
        if not waiting:
            raise self._nothing(form, decisions)
        held = tuple(self._held(form)) if form.verb == Verb.APPROVE.value else ()
        for d in waiting:
            yield About(form.node, d.subject.key, identity=d.fingerprint, obstacles=held)

    def _decisions(self, form: RequestForm) -> tuple[Decision, ...]:
        made = self.views.plans().get(form.pipeline)
        if made is None:
            raise NotPossible(f"{form.pipeline} was not looked at yet", hint="Ask again in a moment.")
        return made.decisions

    def _held(self, form: RequestForm) -> Iterator[ObstacleView]:
        """What keeps approved work from beginning."""
        pause = paused(self.views.history, form.pipeline, form.node)
        if pause:
            place = f"{form.pipeline} {pause.node}".strip()
            yield ObstacleView(
                kind="paused", why=f"{place} is paused {pause.said}", hint=f"`ctd resume {place}` lifts it."
            )

    def _nothing(self, form: RequestForm, decisions: list[Decision]) -> CtdError:
        place = f"{form.pipeline} {form.node}"
        said = f"nothing of {place} waits for approval"
        if not self.views.known(form.pipeline).node(form.node).approval:
            return NotPossible(said, hint="Only nodes with `approval: true` ask.")
        begun = [d for d in decisions if isinstance(d, Run) or (isinstance(d, Wait) and (d.running or d.queued))]
        if begun:
            running = [d for d in begun if isinstance(d, Wait) and d.running and d.execution]
            state = "runs" if running else "is about to run"
            cancel = f"`ctd cancel {place}` stops it." if running else f"`ctd pause {place}` keeps it from starting."
            return NotPossible(f"{said}: {begun[0].subject.key or form.node} {state}", hint=cancel)
        open_ = next((d for d in decisions if not isinstance(d, Reuse)), None)
        if open_ is None and decisions:
            return NotPossible(f"{said}: all its work is done", hint=f"`ctd explain {place}` shows how it went.")
        because = f": {open_.because}" if open_ else ""
        return NotPossible(f"{said}{because}", hint="Work asks when all its inputs are there.")
