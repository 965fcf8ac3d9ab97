"""Which model a node works on while a newer one is on its way: models are judged and pushed as they end (decision 023).

*Judges* are the pieces that take the latest model, or what was said of it; *gates* those whose blessing a pusher asks
for. A judge takes the newest model that is ready and that it has not had, and never goes back to an older one. Where
judges are slower than training they could miss each other for ever, each on other models: so a judge that becomes free
takes the one that a busy gate is at, or has blessed, rather than one that is newer still. A pusher takes the newest
model of which all its gates have said yes, unless a newer one was refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.executions import State
from ctd.core.selectors import Latest, LatestBlessed, Take
from ctd.planning.decided import Held, Status, Taken, outputs_of, status_of
from ctd.planning.resolve import Inputs, Resolver, gather
from ctd.planning.results import ABOUT_MODELS, Results
from ctd.specs.wired import Source, WiredPiece

_ANY = 0  # no judge runs per span


class Judging:
    """Candidates for the judges of one pipeline."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._resolver: Resolver = results.resolver
        self._history = results.resolver.world.history

    def inputs(self, wired: WiredPiece) -> Inputs | None:
        """What a judge takes with a model that is ready; None where there is none that it has not had."""
        key = model_key(wired)
        model = self._candidate(wired, key) if key else None
        if key is None or model is None:
            return None
        found = gather(wired, lambda k: self._take(wired, k, key, model))
        return found if isinstance(found, Inputs) else None

    def _take(self, wired: WiredPiece, key: str, model_key: str, model: Artifact) -> Taken | Held:
        take, source = wired.piece.takes[key], wired.sources[key]
        if key == model_key:
            return Taken((model,))
        if isinstance(take.select, LatestBlessed):
            return self._resolver.blessed(model.id)
        if take.type in ABOUT_MODELS and isinstance(take.select, Latest):
            said = self._said(source, model)
            return Taken((said,)) if said else Taken(()) if take.optional else Held(f"{source.node}: not yet")
        taken = self._results.ready(wired, key, _ANY)
        if isinstance(taken, Held) and isinstance(take.select, Latest):
            stays = next(self._results.of(source), None)
            return Taken(stays.output(source.output)) if stays else taken
        return taken

    def _candidate(self, wired: WiredPiece, key: str) -> Artifact | None:
        """The newest model that the judge can work on; of those that are ready, and newer than any that it has had."""
        choices = list(self._choices(wired, key))
        if any(_needs_word(take) for take in wired.piece.takes.values()):
            return next(self._judged(wired, choices), None)
        gates = [gate for gate in self._gates(wired.sources[key]) if wired.id not in self._chain(gate)]
        refused = (m for m in choices if any(self._refused(gate, m) for gate in gates))
        shunned = {m.id for m in refused}
        choices = [m for m in choices if m.id not in shunned] or choices[:1]
        newest = max((m.id for m in choices), default=0)
        return max(choices, key=lambda m: (self._under_way(m, gates, newest), m.id), default=None)

    def _choices(self, wired: WiredPiece, key: str) -> Iterator[Artifact]:
        """The models that are ready, newest first, down to the last one that the judge has had."""
        source = wired.sources[key]
        decision = self._resolver.decided.single.get((source.node, source.piece))
        if decision is None:
            return
        wanted = outputs_of(decision).get(source.output, ()) if status_of(decision) is Status.READY else ()
        ready = (a for e in self._results.of(source, of_earlier_specs=True) for a in e.output(source.output))
        newest = next(iter(wanted), None)
        last: int | None = None
        for model in ready:
            if newest is None:
                newest = model
            if model.id > newest.id:
                continue  # the spec has gone back to an older one
            last = self._last(wired, key, newest) if last is None else last
            if model.id <= last:
                return
            yield model

    def _last(self, wired: WiredPiece, key: str, newest: Artifact) -> int:
        """The newest model that the judge has had, as far as this concerns models up to `newest`."""
        maker, had = self._history.maker(newest.id), 0
        for e in self._history.back(self._resolver.pipeline, *wired.id):
            taken = max(e.inputs.get(key, ()), default=0)
            # What it made may have been collected since. After an edit the newest is judged again, and none before it.
            if e.state is State.SUCCEEDED and (taken < newest.id or self._results.current(wired, e)):
                had = max(had, taken)
            if had and maker is not None and e.id < maker.id:
                break
        return had

    def _judged(self, wired: WiredPiece, choices: list[Artifact]) -> Iterator[Artifact]:
        """The models of which all is said that the piece asks for; none that is older than one that was refused."""
        asks = [(take, wired.sources[k]) for k, take in wired.piece.takes.items() if _needs_word(take)]
        for model in choices:
            words = [(take, self._said(source, model)) for take, source in asks]
            if any(take.must_be_blessed and said and not said.blessed for take, said in words):
                return
            if all(said for _, said in words):
                yield model

    def _said(self, source: Source, model: Artifact) -> Artifact | None:
        """What a piece of the spec in force said last of exactly this model: a blessing or an evaluation."""
        wired, maker = self._results.wired(source), self._history.maker(model.id)
        if maker is not None and (maker.node, maker.piece) == wired.id:
            return next(iter(maker.output(source.output)), None)
        key = model_key(wired)
        if key is None:
            return None
        for e in self._history.back(self._resolver.pipeline, *wired.id):
            if maker is not None and e.id < maker.id:
                return None
            if model.id in e.inputs.get(key, ()) and e.state is State.SUCCEEDED:
                there = self._results.usable(e) and self._results.current(wired, e)
                return next(iter(e.output(source.output)), None) if there else None
        return None

    def _gates(self, source: Source) -> list[Source]:
        """Those whose blessing somebody asks for who takes the models of this source."""
        found: dict[Source, None] = {}
        for wired in self._resolver.work.values():
            key = model_key(wired)
            if key and wired.sources[key] == source:
                takes = wired.piece.takes.items()
                found |= {wired.sources[k]: None for k, take in takes if take.must_be_blessed and k in wired.sources}
        return list(found)

    def _chain(self, gate: Source) -> set[tuple[str, str]]:
        """The pieces that lead to a blessing: the gate itself, and whoever says something of the model before it."""
        wired = self._results.wired(gate)
        found = {wired.id}
        for key, take in wired.piece.takes.items():
            said = take.type in ABOUT_MODELS and take.type is not ArtifactType.MODEL and isinstance(take.select, Latest)
            if said and key in wired.sources:
                found |= self._chain(wired.sources[key])
        return found

    def _refused(self, gate: Source, model: Artifact) -> bool:
        said = self._said(gate, model)
        return said is not None and not said.blessed

    def _under_way(self, model: Artifact, gates: list[Source], newest: int) -> int:
        """How many gates are at the model, or have blessed it. A gate that is idle will take the newest."""
        return sum(1 for gate in gates if self._begun(gate, model) or (model.id == newest and not self._busy(gate)))

    def _begun(self, gate: Source, model: Artifact) -> bool:
        maker = self._history.maker(model.id)
        for node, piece in self._chain(gate):
            key = model_key(self._resolver.work[node, piece])
            for e in self._history.back(self._resolver.pipeline, node, piece):
                if maker is not None and e.id < maker.id:
                    break
                if key and model.id in e.inputs.get(key, ()) and e.state in (State.RUNNING, State.SUCCEEDED):
                    return True
        return False

    def _busy(self, gate: Source) -> bool:
        chain = self._chain(gate)
        mine = (e for e in self._history.running() if e.pipeline == self._resolver.pipeline)
        return any((e.node, e.piece) in chain for e in mine)


def model_key(wired: WiredPiece) -> str | None:
    """The input by which a piece takes the latest model, if it does."""
    for key, take in wired.piece.takes.items():
        if take.type is ArtifactType.MODEL and isinstance(take.select, Latest) and key in wired.sources:
            return key
    return None


def _needs_word(take: Take) -> bool:
    """Whether an input holds its piece back until something was said of the model."""
    return take.must_be_blessed or take.of_model
