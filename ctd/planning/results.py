"""Which results of a piece of work can be used while a newer one is on its way (decision 023)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

from ctd.core.artifacts import ArtifactType
from ctd.core.executions import Execution, State
from ctd.core.selectors import Latest, Take
from ctd.core.spans import Span
from ctd.planning.decide import whole
from ctd.planning.decided import Held, Status, Taken, outputs_of, status_of
from ctd.planning.decisions import Decision, Reuse, Subject
from ctd.planning.reasons import span_key
from ctd.planning.resolve import Resolver
from ctd.planning.windows import ON_ITS_WAY, Admission, judge
from ctd.specs.wired import Source, WiredPiece

Identity = Mapping[str, Any]
"""What identifies a piece of work beside its inputs: component, settings, code, files."""

_INPUTS = "inputs"
_TAKEN = frozenset({_INPUTS, "content", "span"})  # what an execution worked on, and not what it did

ABOUT_MODELS = frozenset(
    {
        ArtifactType.MODEL,
        ArtifactType.MODEL_RUN,
        ArtifactType.EVALUATION,
        ArtifactType.MODEL_BLESSING,
        ArtifactType.INFRA_BLESSING,
    }
)
"""A model, and what is said of one. Whoever takes these judges; whoever takes anything else works on data."""


class Results:
    """Results of one pipeline that are whole, and what each was made of."""

    def __init__(self, resolver: Resolver, identity: Callable[[WiredPiece], Identity]) -> None:
        self.resolver = resolver
        self._identity = identity
        self._settled: dict[tuple[str, str], Mapping[int, Decision]] = {}
        self._disowns: dict[int, bool] = {}  # by execution
        self._complete: dict[str, dict[int, list[Span]]] = {}  # by the node that reads them
        self.at_once = replace(resolver, settled=self.settled)
        """Resolves inputs to what is ready, where more is on its way."""

    def of(self, source: Source, *, of_earlier_specs: bool = False) -> Iterator[Execution]:
        """What the spec in force made, newest first.

        `of_earlier_specs`: where it has made nothing yet, what specs before it made. Results that are made of spans
        which the spec denies, or a validator refuses, by now are left out.
        """
        wired = self.wired(source)
        earlier: list[Execution] = []
        found = False
        for e in self.resolver.world.history.back(self.resolver.pipeline, *wired.id):
            if not (e.state is State.SUCCEEDED and e.output(source.output) and self.usable(e)):
                continue
            if self.current(wired, e):
                found = True
                if not self._disowned(wired, e):
                    yield e
            elif of_earlier_specs and not found:
                earlier.append(e)
        if not found:
            yield from (e for e in earlier if not self._disowned(wired, e))

    def ready(self, wired: WiredPiece, key: str, span: int, only: Mapping[str, Set[int]] | None = None) -> Taken | Held:
        """An input as it is ready; held while spans lack that the piece has had, and it would have fewer or older ones.

        So it is after an edit by which all spans are looked at again: the first of them make no window. `only`: all
        spans that a window may take, by the node that reads them.
        """
        taken = (replace(self.at_once, only=only) if only else self.at_once).take(wired, key, span)
        lacking = {out.span for out in taken.left_out if out.kind == ON_ITS_WAY}
        if isinstance(taken, Held) or not lacking:
            return taken
        done = self.resolver.world.history.latest_success(self.resolver.pipeline, *wired.id)
        had = {n for n, _ in done.ingredients.get(_INPUTS, {}).get(key, ())} if done else set()
        again = sorted(had & lacking)
        now = {a.span for a in taken.artifacts if a.span is not None}
        if again and not _as_new(now, had):
            said = wired.calendar_of(key).say(again[-1])
            return Held(f"{wired.sources[key].node}: span {said} is on its way again", left_out=taken.left_out)
        return taken

    def settled(self, place: tuple[str, str]) -> Mapping[int, Decision]:
        """What was decided of the spans of a piece; of those that are on their way their earlier result, if any.

        A span is corrected, or looked at again with another schema: until that is done, it is what it was. All results
        of a span are of the same content: what was read anew needs a new verdict.
        """
        if place not in self._settled:
            self._settled[place] = _Settled(self, self.resolver.work[place], self.resolver.decided.by_span[place])
        return self._settled[place]

    def earlier(self, wired: WiredPiece, span: int) -> Execution | None:
        """The newest result of a piece for a span, of the content that counts."""
        root = wired.root or wired.node
        history = self.resolver.world.history
        content = None if wired.node == root else self._content(root, span)
        for version in self._versions(root).get(span, ()):
            key = span_key(wired.calendar, span, version.version)
            for e in reversed(history.of_key(self.resolver.pipeline, *wired.id, key)):
                done = e.state is State.SUCCEEDED and self.usable(e) and self.same_identity(wired, e)
                if done and (wired.node == root or (content and content in self._made_of(e))):
                    return e
        return None

    def _versions(self, root: str) -> Mapping[int, list[Span]]:
        """The versions of each span that are complete, newest first."""
        if root not in self._complete:
            fact, found = self.resolver.world.spans.get(root), self._complete.setdefault(root, {})
            for version in sorted((s.span for s in (fact.spans if fact else ()) if s.complete), reverse=True):
                found.setdefault(version.number, []).append(version)
        return self._complete[root]

    def _content(self, root: str, span: int) -> int | None:
        """The artifact with what was read of a span."""
        place = next(place for place in self.resolver.decided.by_span if place[0] == root)
        decision = self.settled(place).get(span)
        made = outputs_of(decision).values() if decision else ()
        return next((a.id for artifacts in made for a in artifacts), None)

    def _made_of(self, e: Execution) -> set[int]:
        """All artifacts of single spans that a result is made of, as far as they trigger."""
        history = self.resolver.world.history
        seen: set[int] = set()
        left = [i for key in e.ingredients.get(_INPUTS, {}) for i in e.inputs.get(key, ())]
        while left:
            artifact = history.artifact(left.pop())
            if artifact is None or artifact.id in seen or not artifact.type.spanned:
                continue
            seen.add(artifact.id)
            maker = history.maker(artifact.id)
            if maker is not None:
                left += [i for key in maker.ingredients.get(_INPUTS, {}) for i in maker.inputs.get(key, ())]
        return seen

    def wired(self, source: Source) -> WiredPiece:
        return self.resolver.work[source.node, source.piece]

    def usable(self, e: Execution) -> bool:
        """Whether all that an execution made is there, and can be looked at."""
        world = self.resolver.world
        return whole(e, world) and not any(a.uri in world.unreadable for made in e.outputs.values() for a in made)

    def current(self, wired: WiredPiece, e: Execution) -> bool:
        """Whether the spec in force would do the same with these inputs: so is all that is not data, as a schema."""
        if not self.same_identity(wired, e):
            return False
        for key, take in wired.piece.takes.items():
            if key in wired.sources and take.triggers and not take.part and _is_no_data(take):
                above = self.wired(wired.sources[key])
                makers = (self.resolver.world.history.maker(i) for i in e.inputs.get(key, ()))
                if not all(maker and self.current(above, maker) for maker in makers):
                    return False
        return True

    def same_identity(self, wired: WiredPiece, e: Execution) -> bool:
        """Whether nothing but inputs tells the work of an execution from what the spec in force asks for."""
        return {key: said for key, said in e.ingredients.items() if key not in _TAKEN} == self._identity(wired)

    def _disowned(self, wired: WiredPiece, e: Execution) -> bool:
        """Whether it is made of a span that the spec denies or a validator refuses."""
        if e.id not in self._disowns:
            keys = (key for key, take in wired.piece.takes.items() if take.triggers)
            self._disowns[e.id] = any(self._disowned_input(wired, key, e) for key in keys)
        return self._disowns[e.id]

    def _disowned_input(self, wired: WiredPiece, key: str, e: Execution) -> bool:
        source, history = wired.sources.get(key), self.resolver.world.history
        if source is None:
            return False
        if (source.node, source.piece) in self.resolver.decided.by_span:
            taken = (history.artifact(i) for i in e.inputs.get(key, ()))
            spans = {a.span for a in taken if a is not None and a.span is not None}
            denied = self.resolver.denied.get(self.resolver.root_of(source), frozenset())
            if spans & denied:
                return True
            out = (Admission.STOP, Admission.QUARANTINED)
            gates, calendar = self.resolver.gates(wired, key), wired.calendar_of(key)
            return any(judge(gate, n, calendar)[0] in out for gate in gates for n in spans)
        # Of many spans there are many artifacts, mostly of one maker.
        makers = {m.id: m for i in e.inputs.get(key, ()) if (m := history.maker(i)) is not None}.values()
        above = self.wired(source)
        return any((m.node, m.piece) == above.id and self._disowned(above, m) for m in makers)


def _as_new(spans: Set[int], had: Set[int]) -> bool:
    """Whether there are as many spans as there were, each in its place as new as the one before it was."""
    pairs = zip(sorted(spans, reverse=True), sorted(had, reverse=True), strict=False)
    return len(spans) >= len(had) and all(now >= before for now, before in pairs)


def _is_no_data(take: Take) -> bool:
    """Whether an input is the latest of what is made for a whole pipeline: not of spans, and no model."""
    return isinstance(take.select, Latest) and not take.type.spanned and take.type is not ArtifactType.MODEL


class _Settled(Mapping[int, Decision]):
    """Decisions of a piece by span; where one is on its way, that on its earlier result. Looked up when asked for."""

    def __init__(self, results: Results, wired: WiredPiece, decisions: Mapping[int, Decision]) -> None:
        self._results = results
        self._wired = wired
        self._decisions = decisions  # still growing while its own spans are decided
        self._known: dict[int, Decision] = {}

    def __getitem__(self, span: int) -> Decision:
        decision = self._decisions[span]
        if status_of(decision) is not Status.PENDING:
            return decision
        if span not in self._known:
            e = self._results.earlier(self._wired, span)
            subject = Subject(*self._wired.id, e.key) if e else decision.subject
            self._known[span] = Reuse(subject, e.because, e.id, e.outputs) if e else decision
        return self._known[span]

    def __iter__(self) -> Iterator[int]:
        return iter(self._decisions)

    def __len__(self) -> int:
        return len(self._decisions)
