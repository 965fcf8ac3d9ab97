"""Answers about why: the causes of what ran, and why the rest did not, as the read models of `api`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ctd.api.models import CauseView, DecisionView, LeftOutView
from ctd.core.calendars import NUMBERS, Calendar
from ctd.core.executions import Execution, LeftOut
from ctd.core.history import History
from ctd.planning.causes import Cause, Causes
from ctd.planning.decisions import Blocked, Decision, Plan, decision_to_json
from ctd.planning.why_not import WhyNot, needs_approval
from ctd.specs.pipeline import PipelineSpec

_MOST = 20  # pieces of work that are to run; of a backlog all have the same kind of cause
_REFUSED = ("quarantined", "refused")


@dataclass(frozen=True)
class Explanation:
    """One pipeline, the plan that was made for it last, and its history."""

    spec: PipelineSpec
    plan: Plan
    history: History

    def decisions(self) -> list[DecisionView]:
        """The plan's, each with what its windows leave out and what was cut off before it."""
        why_not = WhyNot(self.spec, self.plan, self.history)
        return [
            decision_view(d).model_copy(
                update={
                    "left_out": left_out_views(
                        self.plan.left_out.get(d.subject, ()), self.spec.calendars.get(d.subject.node, NUMBERS)
                    ),
                    "cut_off": [c.said for c in why_not.cut_offs(d)],
                }
            )
            for d in self.plan.decisions
        ]

    def causes(self, node: str | None) -> list[CauseView]:
        """Why the latest execution of each piece of a node ran, or the latest of all, and why the next is to run."""
        pieces = [w.piece.name for w in self.spec.work if w.node == node]
        latest = [self.history.latest(self.spec.name, node, piece) for piece in pieces] if node else [self._last()]
        runs = [r for r in self.plan.runs if r.subject.node == node][:_MOST]
        found = [Causes(self.history, self.spec).ran(e) for e in latest if e]
        found += [Causes(self.history, self.spec).to_run(run) for run in runs]
        return [cause_view(cause) for cause in found]

    def _last(self) -> Execution | None:
        return max(self.history.of_pipeline(self.spec.name), key=lambda e: e.id, default=None)

    def why_not(self, node: str) -> list[CauseView]:
        """Why the work of a node does not run."""
        return [cause_view(c) for c in WhyNot(self.spec, self.plan, self.history).of_node(node)]

    def suggestions(self) -> Iterator[str]:
        """What a person might say to what waits for one."""
        name = self.spec.name
        refused = {
            (left.span, self.spec.calendars.get(subject.node, NUMBERS).say(left.span)): left
            for subject, some in self.plan.left_out.items()
            for left in some
            if left.kind in _REFUSED
        }
        for (_, span), left in sorted(refused.items()):
            yield (
                f"span {span} is {left.kind} ({left.why}): correct it, or if it is right as it is: "
                f"ctd accept {name} {span} --reason ..."
            )
        waiting = (d.subject.node for d in self.plan.decisions if isinstance(d, Blocked) and needs_approval(d))
        for node in dict.fromkeys(waiting):
            yield f"{node} waits for approval: ctd approve {name} {node}, or ctd reject {name} {node}"


def of_execution(execution: Execution, spec: PipelineSpec, history: History) -> CauseView:
    """Why an execution ran, however long ago."""
    return cause_view(Causes(history, spec).ran(execution))


def decision_view(decision: Decision) -> DecisionView:
    """A decision as the outside sees it."""
    return DecisionView.model_validate(decision_to_json(decision))


def left_out_views(left_out: tuple[LeftOut, ...], calendar: Calendar) -> list[LeftOutView]:
    return [
        LeftOutView(span=left.span, label=calendar.say(left.span), kind=left.kind, why=left.why) for left in left_out
    ]


def cause_view(cause: Cause) -> CauseView:
    """A cause as the outside sees it, with the causes behind it."""
    c = cause
    return CauseView(
        kind=c.kind,
        said=c.said,
        node=c.node,
        piece=c.piece,
        key=c.key,
        execution=c.execution or None,
        against=c.against or None,
        name=c.name,
        spans=list(c.spans),
        before=c.before,
        after=c.after,
        at=c.at.isoformat() if c.at else None,
        until=c.until.isoformat() if c.until else None,
        hint=c.hint,
        causes=[cause_view(behind) for behind in c.causes],
    )
