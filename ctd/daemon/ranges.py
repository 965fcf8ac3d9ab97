"""A backfill that someone asks for, checked against the spans there are and made into a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from ctd.api.models import OpenBackfillView
from ctd.api.requests import RequestForm
from ctd.core.calendars import NUMBERS, Calendar, span_in_key
from ctd.core.errors import NotFound, NotPossible
from ctd.core.history import History
from ctd.core.requests import OperatorRequest, Order, Verb
from ctd.daemon.span_names import span_range
from ctd.planning.decisions import Backfill, Plan, Wait
from ctd.specs.hints import listed
from ctd.specs.pipeline import PipelineSpec


@dataclass(frozen=True)
class Ranges:
    """What may be backfilled in a pipeline: its spec, the plan in force, and what was done so far."""

    spec: PipelineSpec
    made: Plan
    history: History
    now: datetime

    def request(self, form: RequestForm, who: str = "") -> OperatorRequest:
        """The request, not recorded. Raises NotFound or NotPossible for what has nothing to go by."""
        node = self._node(form)
        first, last = span_range(self._calendars(node), *form.range, self.spec.name)
        say = next(iter(self._calendars(node).values()), NUMBERS).say
        there = sorted(set(self._there(node)))
        mine = [number for number in there if first <= number <= last]
        if not mine:
            ends = f"{len(there)}, from {say(there[0])} to {say(there[-1])}" if there else "none"
            lies = f"no span of {self._place(node)} lies from {say(first)} to {say(last)}"
            raise NotFound(lies, hint=f"Spans there: {ends}.")
        request = OperatorRequest(
            Verb.BACKFILL,
            self.spec.name,
            who,
            self.now,
            node,
            key=f"{say(first)}..{say(last)}",
            span=first,
            last=last,
            order=Order(form.order or Order.NEWEST),
            again=form.again,
            reason=" ".join(form.reason.split()),
        )
        self._check_new(request)
        if not form.again and not self._left_out(node, mine):
            many = f"all {len(mine)} spans" if len(mine) > 1 else "the one span"
            hint = "`--again` does the work on them once more."
            raise NotPossible(f"{many} from {say(first)} to {say(last)} are read, or about to be", hint=hint)
        return request

    def stops(self, node: str) -> Iterator[OperatorRequest]:
        """The backfills that can be taken back: all that are not done, of the pipeline or asked for one node."""
        done = {b.request.id for b in self.made.backfills if not b.open}
        stopped = {r.about for r in self.history.requests(self.spec.name) if r.verb is Verb.STOP_BACKFILL}
        found = [
            r
            for r in self.history.requests(self.spec.name)
            if r.verb is Verb.BACKFILL and r.id not in done and str(r.id) not in stopped and node in ("", r.node)
        ]
        if not found:
            hint = f"`ctd status {self.spec.name}` shows those that are."
            raise NotPossible(f"no backfill of {self._place(node)} has anything to do", hint=hint)
        yield from found

    def _calendars(self, node: str) -> Mapping[str, Calendar]:
        """How the spans are numbered that a node works on; of all inputs where none is named."""
        return {node: self.spec.calendars[node]} if node else {n: i.calendar for n, i in self.spec.inputs.items()}

    def _node(self, form: RequestForm) -> str:
        """The node that the form names, if its work is of single spans."""
        name = self.spec.name
        each = list(dict.fromkeys(w.node for w in self.spec.work if w.node in self.spec.inputs or w.per_span))
        if not each:
            raise NotFound(f"{name} reads no spans", hint="Only what an example_gen reads has spans to backfill.")
        if form.node and form.node not in each:
            hint = f"Per span run {listed(each)}. `ctd run-now {name} {form.node} --again` does its work once more."
            raise NotFound(f"{name} {form.node} does not run per span", hint=hint)
        if form.node and form.node not in self.spec.inputs and not form.again:
            hint = "Without --node the spans are read and all is done; `--again` does the node's work once more."
            raise NotPossible(
                f"{name} {form.node} works on every span that is read: it has none to catch up", hint=hint
            )
        return form.node

    def _there(self, node: str) -> Iterator[int]:
        """The spans that a node works on, or could; of all inputs where no node is named."""
        nodes = {node} if node else set(self.spec.inputs)
        yield from (number for unread in self.made.unread if unread.node in nodes for number in unread.spans)
        for d in self.made.decisions:
            found = span_in_key(d.subject.key) if d.subject.node in nodes else None
            if found and not (isinstance(d, Wait) and d.absent):
                yield found.number

    def _check_new(self, request: OperatorRequest) -> None:
        asked = (request.node, request.span, request.last, request.again)
        for r in (known.request for known in self.made.backfills if known.open):
            if (r.node, r.span, r.last, r.again) == asked:
                name = self.spec.name
                hint = f"`ctd status {name}` shows how far it is; `ctd backfill {name} --stop` ends it."
                raise NotPossible(f"{r.key} is being backfilled already, {r.said}", hint=hint)

    def _left_out(self, node: str, spans: list[int]) -> bool:
        """Whether any of the spans is left unread, or left out of windows since it came too late."""
        for name in [node] if node else self.spec.inputs:
            if any(unread.node == name and not set(spans).isdisjoint(unread.spans) for unread in self.made.unread):
                return True
            if not set(spans).isdisjoint(self.made.late.get(name, ())):
                return True
        return False

    def _place(self, node: str) -> str:
        return f"{self.spec.name} {node}".strip()


def backfill_views(made: Plan | None) -> list[OpenBackfillView]:
    """The backfills of a plan that have spans to go."""
    return [_view(backfill) for backfill in made.backfills if backfill.open] if made else []


def notes(made: Plan | None) -> list[str]:
    """What there is to know about a plan beside its decisions."""
    return [*(f"{unread.node}: {unread.because}" for unread in made.unread), *made.notes] if made else []


def _view(backfill: Backfill) -> OpenBackfillView:
    r = backfill.request
    return OpenBackfillView(
        request=r.id,
        node=r.node,
        range=r.key,
        order=(r.order or Order.NEWEST).value,
        again=r.again,
        spans=len(backfill.spans),
        done=backfill.done,
        failed=backfill.failed,
        reason=r.reason,
        who=r.who,
        at=r.at.isoformat(),
    )
