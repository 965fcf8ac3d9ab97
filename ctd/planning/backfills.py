"""What backfills ask for: old spans that are read after all, work that is done again, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from ctd.core.executions import Execution, State
from ctd.core.history import History
from ctd.core.requests import OperatorRequest, Order, Verb
from ctd.planning.decided import Decided, Status, status_of
from ctd.planning.decisions import AT_ONCE, Backfill, Reuse, Run, Turn
from ctd.specs.nodes import ExampleGenSpec
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.wired import WiredPiece


def stopped(history: History, request: OperatorRequest) -> OperatorRequest | None:
    """Who took a backfill back."""
    stops = history.asked(request.pipeline, request.node, Verb.STOP_BACKFILL)
    return next((stop for stop in stops if stop.about == str(request.id)), None)


def in_force(history: History, pipeline: str, node: str, span: int) -> Iterator[OperatorRequest]:
    """The backfills of a span of exactly this node, or of all, that nobody took back; newest first."""
    return (r for r in _covering(history, pipeline, node, span) if stopped(history, r) is None)


def invited(history: History, pipeline: str, node: str, span: int) -> bool:
    """Whether someone asked for a span of an input: then it counts, however old it is and however late it came.

    Of a backfill that was stopped, what had been read by then stays.
    """
    for request in _covering(history, pipeline, node, span):
        stop = stopped(history, request)
        if stop is None or _begun(history, request, node, span, stop.at):
            return True
    return False


def unread(node: ExampleGenSpec, name: str, pipeline: str, history: History, span: int) -> bool:
    """Whether a span lies before the `start` of its input, and nobody asked for it."""
    return node.start is not None and span < node.start and not invited(history, pipeline, name, span)


def reading_turn(history: History, pipeline: str, node: str, span: int) -> Turn:
    """When the content of a span is to be looked at, compared with that of others."""
    if span in history.arrived(pipeline, node, read=True):
        return AT_ONCE
    return next((_turn(r, span) for r in in_force(history, pipeline, node, span)), AT_ONCE)


@dataclass
class Backfills:
    """The backfills of one pipeline. `keys` are those of all versions of a span, by input and number."""

    pipeline: str
    history: History
    keys: dict[str, Mapping[int, Iterable[str]]] = field(default_factory=dict)

    def queued(self, wired: WiredPiece, run: Run, span: int) -> Run:
        """The run, with its place among others if it is made for a backfill."""
        for request in in_force(self.history, self.pipeline, wired.node, span):
            if not self._served(request, wired, span):
                because = run.because if request.again else f"{run.because}; backfill {request.said}"
                return replace(run, turn=_turn(request, span), because=because)
        return run

    def progress(self, spec: PipelineSpec, decided: Decided) -> tuple[Backfill, ...]:
        """How far all those are that nobody took back, oldest first."""
        asked = (r for r in self.history.requests(self.pipeline) if r.verb is Verb.BACKFILL)
        return tuple(self._progress(r, spec, decided) for r in asked if stopped(self.history, r) is None)

    def _progress(self, request: OperatorRequest, spec: PipelineSpec, decided: Decided) -> Backfill:
        """A span is done when all its pieces of work were, once; what happens to it later reopens nothing."""
        pieces = [w for w in spec.work if w.id in decided.by_span and request.node in ("", w.node)]
        spans: list[int] = []
        done = failed = 0
        for root in dict.fromkeys(_root(w) for w in pieces):
            mine = [w for w in pieces if _root(w) == root]
            for span, decision in decided.by_span[mine[0].id].items():
                if not request.covers(span) or status_of(decision) is Status.ABSENT:
                    continue
                spans.append(span)
                left = [w for w in mine if not self._reused(request, w, span, decided)]
                left = [w for w in left if not self._served(request, w, span)]
                done += not left
                failed += any(status_of(decided.by_span[w.id][span]) is Status.STUCK for w in left)
        return Backfill(request, tuple(sorted(spans)), done, failed)

    def _reused(self, request: OperatorRequest, wired: WiredPiece, span: int, decided: Decided) -> bool:
        """The quick answer for most."""
        decision = decided.by_span[wired.id][span]
        return isinstance(decision, Reuse) and (not request.again or decision.execution > request.id)

    def _served(self, request: OperatorRequest, wired: WiredPiece, span: int) -> bool:
        """Whether a piece of work has been done for a span as the backfill asks."""
        keys = self.keys.get(_root(wired), {}).get(span, ())
        done = (e for key in keys for e in self.history.of_key(self.pipeline, *wired.id, key))
        return any(e.state is State.SUCCEEDED and (not request.again or e.id > request.id) for e in done)


def _covering(history: History, pipeline: str, node: str, span: int) -> list[OperatorRequest]:
    asked = (r for of in ("", node) for r in history.asked(pipeline, of, Verb.BACKFILL) if r.covers(span))
    return sorted(asked, key=lambda r: r.id, reverse=True)


def _begun(history: History, request: OperatorRequest, node: str, span: int, by: datetime) -> bool:
    """Whether a span was read, or was being read, at that time."""
    read = history.arrived(request.pipeline, node, read=True).get(span)
    if read is not None and read <= by:
        return True
    running = (e for e in history.running() if (e.pipeline, e.node) == (request.pipeline, node) and e.started <= by)
    return any(_span(e) == span for e in running)


def _span(execution: Execution) -> int | None:
    return next(iter(execution.ingredients.get("span", ())), None)


def _turn(request: OperatorRequest, span: int) -> Turn:
    return request.id, span if request.order is Order.OLDEST else -span


def _root(wired: WiredPiece) -> str:
    return wired.root or wired.node
