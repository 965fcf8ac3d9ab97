"""What a pipeline must come to, worked out in the plainest way: by recursion over spec and contents.

Nothing of ctd.planning is used here, and no fingerprint: what decides a result is `Bench.truth`. Of the past only this
is asked: what was done for exactly this truth and still stands, and what was given up for good.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from itertools import takewhile
from typing import Any

from planning_world import HISTORY, Begun, Bench, Taken, Truth, content_digest, outputs, passes

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.executions import STOPPED, Execution, State
from ctd.core.history import History
from ctd.core.requests import Verb
from ctd.core.selectors import (
    AllSpans,
    AnyOf,
    Between,
    EachSpan,
    Latest,
    LatestBlessed,
    LooksBack,
    Newest,
    Pinned,
    PreviousSpan,
    Selector,
    Window,
)
from ctd.core.spans import Span
from ctd.metadata.store import MemoryStore
from ctd.specs.nodes import ExampleGenSpec
from ctd.specs.wired import WiredPiece

Id = tuple[str, str]
OK = {"yes"}
Made = dict[str, tuple[tuple[int | None, str], ...]]


class Oracle:
    """The expected results of every piece of work of a pipeline at rest: nothing runs, nobody is asked."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.work = {w.id: w for w in bench.spec.work if not w.piece.watches}  # nothing is pushed as a canary here
        self.known: dict[tuple[Id, int | None], tuple[Begun, Made] | None] = {}
        self.record = Record(bench)

    def results(self) -> dict[tuple[str, str, int | None], Made]:
        """By node, piece and span, all that there is to be."""
        keys = [(w, n) for w in self.work.values() for n in (self.spans(w.root or "") if w.per_span else (None,))]
        found = {(w.node, w.piece.name, n): self.expect(w, n) for w, n in keys}
        return {key: made[1] for key, made in found.items() if made}

    def expect(self, wired: WiredPiece, span: int | None) -> tuple[Begun, Made] | None:
        if (wired.id, span) not in self.known:
            self.known[wired.id, span] = self._expect(wired, span)
        return self.known[wired.id, span]

    def _expect(self, wired: WiredPiece, span: int | None) -> tuple[Begun, Made] | None:
        if self._broken(wired):
            return None
        taken: dict[str, tuple[tuple[int | None, str], ...]] = {}
        for key in wired.sources:
            got = self._take(wired, key, span)
            if got is None and (self.bench.spec.node(wired.node).kind, key) not in HISTORY:
                return None
            if got is None and wired.piece.takes[key].must_be_blessed:
                return None
            if got:
                taken[key] = got
        at = self.spans(wired.node)[span] if wired.node in self.bench.spec.inputs and span is not None else None
        begun = self.bench.work(wired, taken, at or (Span(span) if span is not None else None))
        fails = begun.content == "empty"
        return (begun, outputs(begun)) if self.record.stands(begun) and not fails else None

    def _broken(self, wired: WiredPiece) -> bool:
        bench = self.bench
        return bool(
            (wired.module and bench.code_problem)
            or (wired.piece.files and bench.schema_problem and "/specs/schema.pbtxt" in wired.piece.files.values())
            or (wired.piece.target and wired.piece.target not in bench.targets)
        )

    def spans(self, root: str) -> dict[int, Span]:
        """The newest complete version of each span."""
        if root == "examples":
            there = [] if self.bench.away else [s for s in self.bench.contents if s not in self.bench.incomplete]
        else:
            there = list(self.bench.beside.get(root, {}))
        return {s.number: s for s in sorted(there)}

    def _take(self, wired: WiredPiece, key: str, span: int | None) -> tuple[tuple[int | None, str], ...] | None:
        select, source = wired.piece.takes[key].select, wired.sources[key]
        above = self.work[source.node, source.piece]
        if isinstance(select, LooksBack):
            return ()
        if isinstance(select, PreviousSpan):
            node = self.bench.spec.inputs[above.root or ""]
            older = sorted((n for n in self.spans(above.root or "") if n < (span or 0)), reverse=True)
            mine = [wired] if wired.piece.gate else []
            older = [
                n for n in older if n not in node.deny and {self._says(g, n, self.bench.norms) for g in mine} <= OK
            ]
            before = next(filter(None, (self.expect(above, n) for n in older)), None)
            return before[1][source.output] if before else ()
        if above.per_span and not isinstance(select, EachSpan):
            return self._window(wired, above, source.output, Newest(1) if isinstance(select, Latest) else select)
        made = self.expect(above, span if above.per_span else None)
        if made is None:
            return None
        begun, got = made[0], made[1][source.output]
        if wired.piece.takes[key].must_be_blessed:
            return got if passes(wired.piece.takes[key].type, begun) else None
        return _chosen(select, got) if isinstance(select, Window) else got

    def _window(
        self, wired: WiredPiece, above: WiredPiece, output: str, select: Selector
    ) -> tuple[tuple[int | None, str], ...] | None:
        node = self.bench.spec.nodes[above.root or ""]
        assert isinstance(node, ExampleGenSpec)
        arrived, gates = self.spans(above.root or ""), self._gates(wired, above)
        taken: list[tuple[int | None, str]] = []
        for n in sorted((n for n in arrived if _in_range(select, n)), reverse=True):
            if not any(_still(each, n, len(taken)) for each in _parts(select)):
                continue
            shut_out = n in node.deny or self.record.is_late(node, above.root or "", n, list(arrived))
            if shut_out and not any(isinstance(each, Pinned) and n in each.spans for each in _parts(select)):
                continue
            made = self.expect(above, n)
            said = {self._says(gate, n) for gate in gates} if made else {"no"}
            if "block" in said:
                return None
            if made and said <= {"yes"}:
                taken += made[1][output]
        taken.sort(key=lambda t: t[0] or 0)
        numbers = [n or 0 for n, _ in taken]
        return tuple(taken) if _complete(select, numbers, [*arrived, *node.deny]) else None  # nobody waits for these

    def _gates(self, wired: WiredPiece, above: WiredPiece) -> list[WiredPiece]:
        """The validators of these spans, less those that need the piece themselves."""
        gates = [w for w in self.work.values() if w.piece.gate and w.root == above.root]
        return [g for g in gates if wired.id not in self._upstream(g)]

    def _upstream(self, wired: WiredPiece) -> set[Id]:
        above = {(s.node, s.piece) for s in wired.sources.values()}
        return above.union(*(self._upstream(self.work[a]) for a in above))

    def _says(self, gate: WiredPiece, span: int, accepted: Collection[Truth] | None = None) -> str:
        """What a validator means for a span, where these findings count as accepted: yes, no, or block."""
        let_pass = self.bench.accepted if accepted is None else accepted
        made = self.expect(gate, span)
        if made is None:
            return "no"
        begun, results = made
        finding = (gate.node, begun.taken["statistics"], results["anomalies"][0][1])
        if passes(ArtifactType.ANOMALIES, begun) or finding in let_pass or gate.piece.gate == "warn":
            return "yes"
        return "block" if gate.piece.gate == "block" else "no"


def _parts(select: Selector) -> tuple[Selector, ...]:
    return select.windows if isinstance(select, AnyOf) else (select,)


def _still(select: Selector, n: int, taken: int) -> bool:
    """Whether a window wants a span, where it has so many newer ones."""
    return _in_range(select, n) and not (isinstance(select, Newest) and taken >= select.count)


def _in_range(select: Selector, n: int) -> bool:
    if isinstance(select, AnyOf):
        return any(_in_range(each, n) for each in select.windows)
    if isinstance(select, Between):
        return (select.first is None or select.first <= n) and (select.last is None or n <= select.last)
    return n in select.spans if isinstance(select, Pinned) else True


def _chosen(select: Window, got: Taken | Any) -> tuple[tuple[int | None, str], ...] | None:
    """The part of results that are there already."""
    chosen = [each for each in sorted(got, key=lambda t: t[0] or 0) if _in_range(select, each[0] or 0)]
    chosen = chosen[-select.count :] if isinstance(select, Newest) else chosen
    whole = _complete(select, [n or 0 for n, _ in chosen], [n or 0 for n, _ in got])
    return tuple(chosen) if whole else None


def _complete(select: Selector, numbers: list[int], arrived: list[int]) -> bool:
    if isinstance(select, Pinned):
        return set(select.spans) <= set(numbers)
    if isinstance(select, AnyOf):
        return bool(numbers)
    assert isinstance(select, Newest | AllSpans | Between)
    gap = select.consecutive and numbers and set(range(numbers[0], numbers[-1])) - set(arrived)
    return len(numbers) >= select.least and not gap


class Record:
    """What was done for exactly one truth, by looking at every execution."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @cached_property
    def attempts(self) -> dict[tuple[str, str, Truth], list[Execution]]:
        found = defaultdict(list)
        for e in self.bench.store.executions():
            found[e.node, e.piece, self.bench.begun[e.id].truth].append(e)
        return found

    def of(self, begun: Begun) -> list[Execution]:
        return self.attempts.get((begun.wired.node, begun.wired.piece.name, begun.truth), [])

    def asked(self, verb: Verb, node: str) -> Iterator[Any]:
        return (r for r in self.bench.store.requests() if r.verb is verb and r.node == node)

    def usable(self, begun: Begun) -> list[Execution]:
        """What was done and stands: not lost, not asked for again, and of pushes the last."""
        again = max((r.id for r in self.asked(Verb.RUN_NOW, begun.wired.node) if r.again), default=0)
        done = [e for e in self.of(begun) if e.state is State.SUCCEEDED and e.id > again and not self.lost(e)]
        if begun.wired.piece.effect:
            place = (begun.wired.node, begun.wired.piece.name)
            pushes = [e for e in self.bench.store.executions() if (e.node, e.piece) == place]
            last = [e.id for e in pushes if e.state is State.SUCCEEDED][-1:]
            return [e for e in done if [e.id] == last]
        return done

    def lost(self, e: Execution) -> bool:
        deleted = set(self.bench.store.deleted_artifacts())
        made = [a for artifacts in e.outputs.values() for a in artifacts]
        places = {a.uri for a in made} | {a.properties.get("pushed_destination") for a in made}
        return bool(places & self.bench.missing or {a.id for a in made} & deleted)

    def stands(self, begun: Begun) -> bool:
        return bool(self.usable(begun)) or not self.given_up(begun)

    def given_up(self, begun: Begun) -> bool:
        """Whether only a person, or other inputs, can make it be tried again."""
        tried = self.of(begun)
        ids = {e.id for e in tried}
        retry = max((r.id for r in self.asked(Verb.RETRY, begun.wired.node) if r.execution in {0, *ids}), default=0)
        tried = self._as_told(begun, [e for e in tried if e.id > retry])
        if not tried or tried[-1].state is State.SUCCEEDED:
            return False
        last = tried[-1]
        if last.state is State.CANCELLED or any(r.execution == last.id for r in self.asked(Verb.CANCEL, last.node)):
            return True
        if last.failure is None:
            return _in_a_row(tried, "") >= 10
        if last.failure.kind == STOPPED:
            return False
        attempts = self.bench.spec.node(last.node).attempts
        counted = last.failure.kind == "WorkerLost" and _in_a_row(tried, last.failure.kind) >= attempts
        return not last.failure.retryable or counted

    def _as_told(self, begun: Begun, tried: list[Execution]) -> list[Execution]:
        """The attempts since the last that came to nothing under another spec, or with other code."""
        other = (i for i, e in enumerate(tried, 1) if self._fell(e) and self.bench.begun[e.id].told != begun.told)
        return tried[max(other, default=0) :]

    def _fell(self, e: Execution) -> bool:
        return e.state in (State.FAILED, State.ABANDONED)

    def blessed(self, begun: Begun, inputs: Mapping[str, tuple[Artifact, ...]]) -> list[int]:
        """The newest model that is blessed and there; of those older than the candidate, if there is one."""
        if not any(isinstance(take.select, LatestBlessed) for take in begun.wired.piece.takes.values()):
            return []
        there, deleted = list(self.bench.store.executions()), set(self.bench.store.deleted_artifacts())
        places = {a.id: a.uri for e in there for a in e.output("model")}
        newest = [m for m in blessed_by_looking(there, deleted) if places[m] not in self.bench.missing]
        return [m for m in newest if "model" not in inputs or m < inputs["model"][0].id][:1]

    def is_late(self, node: ExampleGenSpec, name: str, span: int, numbers: list[int]) -> bool:
        """Whether it came too long after a newer one had been read, of those that are there or that a window names."""
        if node.max_lateness is None:
            return False
        spans = self.bench.contents if name == "examples" else self.bench.beside[name]
        now = {(s.number, content_digest(content)) for s, content in spans.items() if s not in self.bench.incomplete}
        came: dict[int, datetime] = {}
        read: dict[int, datetime] = {}
        pinned = {n for w in self.bench.spec.work for n in _named(w, name)}
        for e in self.bench.store.executions():
            if e.node == name:
                n, content = e.ingredients["span"][0], e.ingredients["content"]
                came[n] = min(e.started, came.get(n, e.started))
                counts = n in pinned or (n in numbers and (n, content) in now)
                if e.state is State.SUCCEEDED and counts:
                    read[n] = min(e.started, read.get(n, e.started))
        newer = [at for n, at in read.items() if n > span and n not in node.deny]
        return any(came.get(span, self.bench.now) - at > node.max_lateness for at in newer)


def _named(wired: WiredPiece, name: str) -> Iterator[int]:
    """The spans of an input that the windows of a piece name."""
    for take in wired.piece.takes.values():
        if wired.root == name and isinstance(take.select, Pinned):
            yield from take.select.spans


def _in_a_row(tried: list[Execution], kind: str) -> int:
    kinds = [e.failure.kind if e.failure else "" if e.state is State.ABANDONED else "-" for e in reversed(tried)]
    return len(list(takewhile(lambda k: k == kind, kinds)))


def differences(history: History, store: MemoryStore) -> list[str]:
    """Questions to which memory has another answer than a look at everything in the store."""
    return [what for what, (indexed, looked_up) in _answers(history, store).items() if indexed != looked_up]


def _answers(history: History, store: MemoryStore) -> dict[str, tuple[Any, Any]]:
    there, deleted = list(store.executions()), set(store.deleted_artifacts())
    done = [e for e in there if e.state is State.SUCCEEDED]
    running = [e for e in there if e.state is State.RUNNING]
    requests = list(store.requests())
    found: dict[str, tuple[Any, Any]] = {
        "executions": (list(history), there),
        "running": (sorted(e.id for e in history.running()), [e.id for e in running]),
        "successes": (list(history.successes("taxi")), done),
        "requests": (list(history.requests("taxi")), requests),
        "deleted": ({a.id for a in history.deleted()}, deleted),
        "blessed": ([m.id for m in history.blessed_models("taxi")], blessed_by_looking(there, deleted)),
        "count": (history.count("taxi"), len(there)),
    }
    for piece in {e.piece for e in done if e.output("pushed_model")}:
        pushed = [e for e in reversed(done) if e.output("pushed_model") and e.piece == piece]
        found[f"pushes to {piece}"] = (list(history.pushes("taxi", piece)), pushed)
    for verb, node in {(r.verb, r.node) for r in requests}:
        asked = [r for r in reversed(requests) if (r.verb, r.node) == (verb, node)]
        found[f"{verb} {node}"] = (list(history.asked("taxi", node, verb)), asked)
    for place, mine in _grouped(there, lambda e: (e.node, e.piece)).items():
        well = [e for e in mine if e.state is State.SUCCEEDED]
        found[f"latest of {place}"] = (history.latest("taxi", *place), mine[-1])
        found[f"latest success of {place}"] = (history.latest_success("taxi", *place), well[-1] if well else None)
        found[f"of {place}"] = (list(history.of_place("taxi", *place)), mine)
        found[f"back from the end of {place}"] = (list(history.back("taxi", *place)), mine[::-1])
        for read, some in ((False, mine), (True, well)):
            came = _grouped((e for e in some if "span" in e.ingredients), lambda e: e.ingredients["span"][0])
            first = {n: min(e.started for e in those) for n, those in came.items()}
            found[f"arrived {read} {place}"] = (history.arrived("taxi", place[0], read=read), first)
        spans = (e for e in well if "span" in e.ingredients)
        for what, those in _grouped(spans, lambda e: (e.ingredients["span"][0], e.ingredients["content"])).items():
            first_read = history.first_read("taxi", place[0], *what)
            found[f"first read {place} {what}"] = (first_read, min(e.started for e in those))
    for work, mine in _grouped(there, lambda e: (e.node, e.piece, e.fingerprint)).items():
        found[f"tried {work}"] = (history.tried("taxi", *work), tuple(mine))
    for key, mine in _grouped(there, lambda e: (e.node, e.piece, e.key)).items():
        found[f"of key {key}"] = (history.of_key("taxi", *key), tuple(mine))
    return found


def _grouped(executions: Iterable[Execution], by: Callable[[Execution], Any]) -> dict[Any, list[Execution]]:
    found = defaultdict(list)
    for e in executions:
        found[by(e)].append(e)
    return found


def blessed_by_looking(there: Iterable[Execution], deleted: Collection[int]) -> list[int]:
    """Models whose latest verdict is yes, newest first: the last one that was given counts."""
    said: dict[tuple[int, ArtifactType], bool] = {}
    made: set[int] = set()
    for e in there:
        for a in (a for artifacts in e.outputs.values() for a in artifacts if a.id not in deleted):
            model = a.properties.get("current_model_id")
            made |= {a.id} if a.type is ArtifactType.MODEL else set()
            if isinstance(model, int):
                said[model, a.type] = a.blessed
    yes = {m for (m, type_), ok in said.items() if ok and type_ is ArtifactType.MODEL_BLESSING}
    return sorted((m for m in yes & made if said.get((m, ArtifactType.INFRA_BLESSING), True)), reverse=True)
