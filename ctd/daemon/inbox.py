"""What people ask for, checked against what there is and made into requests. Called by the loop, as all that writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ctd.api.models import RequestsView
from ctd.api.requests import RequestForm
from ctd.core.errors import NotFound, NotPossible, StoreUnavailable
from ctd.core.executions import Execution, State
from ctd.core.requests import OperatorRequest, Verb
from ctd.core.spans import span_number
from ctd.core.timing import Clock
from ctd.daemon.about import About
from ctd.daemon.ranges import Ranges
from ctd.daemon.rollbacks import Rollbacks
from ctd.daemon.views import Views, request_view
from ctd.planning.asked import accepted, finding, own_pause
from ctd.planning.decided import outputs_of
from ctd.planning.decisions import Blocked, Decision, Plan, Reuse, Wait
from ctd.specs.hints import listed

_LABEL = re.compile(r"(?:span-)?(-?\d{1,18})(?:\.v(\d{1,18}))?")
_KEY = re.compile(r"span-(-?\d+)(?:\.v(\d+))?")


@dataclass(frozen=True)
class Inbox:
    """Takes requests. Raises NotFound for names that are not there, NotPossible for what makes no sense now."""

    views: Views
    obey: Callable[[OperatorRequest], OperatorRequest]
    look: Callable[[str], None]
    clock: Clock

    def take(self, form: RequestForm, who: str) -> RequestsView:
        """Record what the form asks for, and have the pipeline looked at."""
        verb = Verb(form.verb)
        if form.execution is not None:
            execution = self._execution(form, form.execution)
            form = form.model_copy(update={"pipeline": execution.pipeline, "node": execution.node})
        if not (verb is Verb.CANCEL and form.execution is not None):  # what nobody wants any more may still run
            self.views.known(form.pipeline, form.node)
        made: list[OperatorRequest] = []
        concerned = list(self._concerned(verb, form))
        try:
            made.extend(self.obey(self._request(form, who, about)) for about in concerned)
        except StoreUnavailable as error:
            raise _not_recorded(form, made, len(concerned), error) from error
        finally:
            self.look(form.pipeline)
        return RequestsView(requests=[request_view(request) for request in made])

    def _request(self, form: RequestForm, who: str, about: About) -> OperatorRequest:
        return OperatorRequest(
            verb=Verb(form.verb),
            pipeline=form.pipeline,
            who=who,
            at=self.clock.now(),
            node=about.node,
            key=about.key,
            span=about.span,
            last=about.last,
            order=about.order,
            about=about.identity,
            execution=about.execution,
            again=form.again,
            reason=" ".join(form.reason.split()),
        )

    # What each verb is about, or why it makes no sense.

    def _concerned(self, verb: Verb, form: RequestForm) -> Iterator[About]:
        rollbacks = Rollbacks(self.views)
        asked: Mapping[Verb, Callable[[RequestForm], Iterator[About]]] = {
            Verb.ACCEPT: self._accept,
            Verb.PAUSE: self._pause,
            Verb.RESUME: self._resume,
            Verb.RUN_NOW: self._run_now,
            Verb.RETRY: self._retry,
            Verb.CANCEL: self._cancel,
            Verb.APPROVE: self._judge,
            Verb.REJECT: self._judge,
            Verb.BACKFILL: self._backfill,
            Verb.STOP_BACKFILL: self._stop_backfill,
            Verb.ROLLBACK: rollbacks.asked,
            Verb.RELEASE: rollbacks.released,
        }
        return asked[verb](form)

    def _accept(self, form: RequestForm) -> Iterator[About]:
        spec = self.views.known(form.pipeline)
        gates = {w.node: w for w in spec.work if w.piece.gate}
        number, version = _span(form.span)
        judged = [d for d in self._decisions(form.pipeline) if d.subject.node in gates]
        mine = [d for d in judged if _is_span(d.subject.key, number, version)]
        refused = [d for d in mine if _refuses(d)]
        if not refused:
            there = sorted({d.subject.key for d in judged if _refuses(d)})
            hint = f"Refused: {listed(there)}. `ctd status {form.pipeline}` says why."
            if not mine:
                raise NotFound(f"no validator of {form.pipeline} has looked at a span {form.span}", hint=hint)
            because = "; ".join(d.because for d in mine if not isinstance(d, Reuse)) or "it is good"
            raise NotPossible(f"{mine[0].subject.key} is not refused: {because}", hint=hint)
        for d in refused:
            node = d.subject.node
            execution = self.views.history.execution(d.execution) if isinstance(d, Reuse | Wait) else None
            if execution is None:
                continue
            if number in accepted(self.views.history, form.pipeline, gates[node], {number: d}):
                raise NotPossible(f"{d.subject.key} was accepted before", hint="Windows take it already.")
            yield About(node, d.subject.key, number, finding(execution, gates[node]))

    def _pause(self, form: RequestForm) -> Iterator[About]:
        known = own_pause(self.views.history, form.pipeline, form.node)
        if known:
            hint = f"`ctd resume {_place(form)}` lifts that."
            raise NotPossible(f"{_place(form)} is paused already, {known.said}", hint=hint)
        yield About(form.node)

    def _resume(self, form: RequestForm) -> Iterator[About]:
        history = self.views.history
        if not own_pause(history, form.pipeline, form.node):
            places = ["", *self.views.known(form.pipeline).nodes]
            there = [f"{form.pipeline} {n}".strip() for n in places if own_pause(history, form.pipeline, n)]
            raise NotPossible(f"{_place(form)} is not paused itself", hint=f"Paused: {listed(there)}.")
        yield About(form.node)

    def _run_now(self, form: RequestForm) -> Iterator[About]:
        if form.again:
            yield About(form.node)
            return
        waiting = (d for d in self._of(form) if isinstance(d, Wait) and not d.absent and (d.until or d.later))
        nodes = list(dict.fromkeys(d.subject.node for d in waiting))
        if not nodes:
            hint = f"`ctd plan {form.pipeline}` says what it does wait for."
            if form.node:
                hint += " `--again` does again what is done."
            raise NotPossible(f"nothing of {_place(form)} waits for a time, or to be asked", hint=hint)
        yield from map(About, nodes)

    def _retry(self, form: RequestForm) -> Iterator[About]:
        if form.execution is not None:
            yield About(form.node, execution=form.execution)
            return
        if not any(_failed(d) for d in self._of(form)):
            hint = f"`ctd explain {form.pipeline} {form.node}` says how its executions went."
            raise NotPossible(f"nothing of {_place(form)} failed or was cancelled", hint=hint)
        yield About(form.node)

    def _cancel(self, form: RequestForm) -> Iterator[About]:
        running = [e for e in self.views.history.running() if (e.pipeline, e.node) == (form.pipeline, form.node)]
        mine = [e for e in running if form.execution in (None, e.id)]
        if not mine:
            raise NotPossible(f"nothing of {_place(form)} runs", hint="`ctd pause` keeps it from starting.")
        for execution in mine:
            yield About(form.node, execution.key, execution=execution.id)

    def _judge(self, form: RequestForm) -> Iterator[About]:
        waiting = [d for d in self._of(form) if isinstance(d, Blocked) and d.fingerprint]
        if not waiting:
            needs = self.views.known(form.pipeline).node(form.node).approval
            hint = "Work asks when all its inputs are there." if needs else "Only nodes with `approval: true` ask."
            raise NotPossible(f"nothing of {_place(form)} waits for approval", hint=hint)
        for d in waiting:
            yield About(form.node, d.subject.key, identity=d.fingerprint)

    def _backfill(self, form: RequestForm) -> Iterator[About]:
        checked = self._ranges(form).request(form)
        yield About(checked.node, checked.key, checked.span, last=checked.last, order=checked.order)

    def _stop_backfill(self, form: RequestForm) -> Iterator[About]:
        for request in self._ranges(form).stops(form.node):
            yield About(request.node, request.key, identity=str(request.id))

    # What there is.

    def _ranges(self, form: RequestForm) -> Ranges:
        spec = self.views.known(form.pipeline, form.node)
        return Ranges(spec, self._plan(form.pipeline), self.views.history, self.clock.now())

    def _plan(self, pipeline: str) -> Plan:
        made = self.views.plans().get(pipeline)
        if made is None:
            raise NotPossible(f"{pipeline} was not looked at yet", hint="Ask again in a moment.")
        return made

    def _decisions(self, pipeline: str) -> Iterable[Decision]:
        return self._plan(pipeline).decisions

    def _of(self, form: RequestForm) -> list[Decision]:
        return [d for d in self._decisions(form.pipeline) if form.node in ("", d.subject.node)]

    def _execution(self, form: RequestForm, number: int) -> Execution:
        execution = self.views.history.execution(number)
        if execution is None:
            raise NotFound(f"there is no execution {number}", hint="`ctd status` and `ctd explain` show their numbers.")
        place = f"{execution.pipeline} {execution.node}"
        running = execution.state is State.RUNNING
        if form.verb == "cancel" and not running:
            hint = f"`ctd pause {place}` keeps further ones from starting."
            raise NotPossible(f"execution {number} has ended: {execution.state.value}", hint=hint)
        if form.verb == "retry" and running:
            raise NotPossible(f"execution {number} is still running", hint=f"`ctd cancel {number}` stops it.")
        if form.verb == "retry" and execution.state is State.SUCCEEDED:
            hint = f"`ctd run-now {place} --again` does it again."
            raise NotPossible(f"execution {number} succeeded", hint=hint)
        return execution


def _span(text: str) -> tuple[int, int | None]:
    """Number and version of `42`, `42.v2`, `span-42.v2` or `2026-11-20`."""
    label = _LABEL.fullmatch(text)
    if label:
        return int(label[1]), int(label[2]) if label[2] else None
    try:
        return span_number(text), None
    except ValueError as error:
        raise NotFound(
            f"{text!r} is no span", hint="Write its number, label or date: 42, 42.v2 or 2026-11-20."
        ) from error


def _is_span(key: str, number: int, version: int | None) -> bool:
    found = _KEY.fullmatch(key)
    return bool(found and int(found[1]) == number and version in (None, int(found[2] or 0)))


def _refuses(decision: Decision) -> bool:
    return any(not a.blessed for made in outputs_of(decision).values() for a in made)


def _failed(decision: Decision) -> bool:
    """Whether it rests on an execution that did not succeed, and on nothing else."""
    if isinstance(decision, Blocked):
        return decision.execution != 0 and not decision.outputs
    return isinstance(decision, Wait) and decision.until is not None and not decision.later and not decision.absent


def _not_recorded(
    form: RequestForm, made: Sequence[OperatorRequest], wanted: int, error: StoreUnavailable
) -> StoreUnavailable:
    """The truth about what was asked for while the store is away, and what to do."""
    said = f"of {form.verb} of {_place(form)} only {len(made)} of {wanted} were" if made else f"{form.verb} was not"
    message = f"{said} recorded: {error.message}"
    return StoreUnavailable(message, hint=f"{error.hint} Then ask again.".lstrip(), fault=error.fault)


def _place(form: RequestForm) -> str:
    return f"{form.pipeline} {form.node}".strip()
