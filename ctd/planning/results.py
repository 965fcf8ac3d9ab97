"""Which results of a piece of work can be used while a newer one is on its way (decision 023)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ctd.core.artifacts import ArtifactType
from ctd.core.executions import Execution, State
from ctd.core.selectors import Latest
from ctd.planning.decide import whole
from ctd.planning.resolve import Resolver
from ctd.planning.windows import Admission, judge
from ctd.specs.pipeline import Source, WiredPiece

Identity = Mapping[str, Any]
"""What identifies a piece of work beside its inputs: component, settings, code, files."""

_INPUTS = "inputs"

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
        self._known: dict[tuple[str, str], Identity] = {}

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

    def wired(self, source: Source) -> WiredPiece:
        return self.resolver.work[source.node, source.piece]

    def usable(self, e: Execution) -> bool:
        """Whether all that an execution made is there, and can be looked at."""
        world = self.resolver.world
        return whole(e, world) and not any(a.uri in world.unreadable for made in e.outputs.values() for a in made)

    def current(self, wired: WiredPiece, e: Execution) -> bool:
        """Whether the spec in force would do the same with these inputs, and with what was said of a model."""
        if not self.same_identity(wired, e):
            return False
        for key, take in wired.piece.takes.items():
            if key in wired.sources and take.type is not ArtifactType.MODEL and self._says(wired, key):
                above = self.wired(wired.sources[key])
                makers = (self.resolver.world.history.maker(i) for i in e.inputs.get(key, ()))
                if not all(maker and self.current(above, maker) for maker in makers):
                    return False
        return True

    def same_identity(self, wired: WiredPiece, e: Execution) -> bool:
        """Whether nothing but inputs tells the work of an execution from what the spec in force asks for."""
        if wired.id not in self._known:
            self._known[wired.id] = self._identity(wired)
        return {key: said for key, said in e.ingredients.items() if key != _INPUTS} == self._known[wired.id]

    def _says(self, wired: WiredPiece, key: str) -> bool:
        take = wired.piece.takes[key]
        return take.triggers and take.type in ABOUT_MODELS and isinstance(take.select, Latest)

    def _disowned(self, wired: WiredPiece, e: Execution) -> bool:
        """Whether it is made of a span that the spec denies or a validator refuses."""
        return any(self._disowned_input(wired, key, e) for key, take in wired.piece.takes.items() if take.triggers)

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
            return any(judge(gate, n)[0] in out for gate in self.resolver.gates(wired, key) for n in spans)
        makers = (history.maker(i) for i in e.inputs.get(key, ()))
        above = self.wired(source)
        return any(m is not None and (m.node, m.piece) == above.id and self._disowned(above, m) for m in makers)
