"""Which artifacts a piece of work takes: selectors applied to what its sources have decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace

from ctd.core.artifacts import Artifact, Artifacts, ArtifactType
from ctd.core.calendars import Calendar
from ctd.core.executions import LeftOut
from ctd.core.selectors import (
    Alongside,
    Downstream,
    EachSpan,
    LastMade,
    Latest,
    LatestBlessed,
    Newest,
    PreviousSpan,
    Window,
)
from ctd.planning.asked import accepted
from ctd.planning.blessed import blessed_models
from ctd.planning.decided import Decided, Held, Status, Taken, held, outputs_of, status_of
from ctd.planning.decisions import Decision, Wait
from ctd.planning.windows import Admission, Gate, admit, choose, complete, window
from ctd.planning.world import World
from ctd.specs.judges import Judges
from ctd.specs.wired import Source, WiredPiece


@dataclass(frozen=True)
class Inputs:
    """All inputs of one piece of work, and what was left out of them."""

    artifacts: Artifacts
    note: str
    stuck: bool
    left_out: tuple[LeftOut, ...]
    parts: tuple[Taken, ...] = ()  # those that trigger, each with its own note


def gather(wired: WiredPiece, take: Callable[[str], Taken | Held]) -> Inputs | Held:
    """Take every wired input; Held for the first that is not there and is needed."""
    artifacts: dict[str, tuple[Artifact, ...]] = {}
    parts: list[Taken] = []
    for key in wired.sources:
        taken, wanted = take(key), wired.piece.takes[key]
        if isinstance(taken, Held):
            if wanted.optional and not wanted.triggers:
                continue
            return _with_other_refusals(wired, key, taken, take)
        if taken.artifacts:
            artifacts[key] = taken.artifacts
        if wanted.triggers:
            parts.append(taken)
    left_out = tuple(dict.fromkeys(left for part in parts for left in part.left_out))
    note, stuck = joined(part.note for part in parts), any(part.stuck for part in parts)
    return Inputs(artifacts, note, stuck, left_out, tuple(parts))


def _with_other_refusals(wired: WiredPiece, key: str, first: Held, take: Callable[[str], Taken | Held]) -> Held:
    """What holds an input; of blessings of one kind, what all say that refuse the model, once one of them does."""
    wanted = wired.piece.takes[key]
    if not wanted.must_be_blessed:
        return first
    others = [k for k, t in wired.piece.takes.items() if k != key and t.type is wanted.type and t.must_be_blessed]
    held = [first, *(h for k in others if k in wired.sources and isinstance(h := take(k), Held))]
    refused = [h for h in held if h.refused]
    return replace(refused[0], because=joined(h.because for h in refused)) if refused else first


@dataclass(frozen=True)
class Resolver:
    """Resolves inputs of one pipeline against what is decided and the world.

    With `settled`, windows take what that says of the spans of a piece and leave out what is on its way.
    """

    pipeline: str
    decided: Decided
    world: World
    work: Mapping[tuple[str, str], WiredPiece]
    denied: Mapping[str, frozenset[int]]  # spans that the spec keeps out of windows, by the node that reads them
    judges: Mapping[tuple[str, str], Judges] = field(default_factory=dict)  # of models, by the piece that makes them
    settled: Callable[[tuple[str, str]], Mapping[int, Decision]] | None = None
    only: Mapping[str, Set[int]] = field(default_factory=dict)  # all that windows may take, by the node that reads it

    def take(self, wired: WiredPiece, key: str, span: int) -> Taken | Held:
        """The artifacts for one wired input; `span` is the one that the piece runs for, if it runs per span."""
        take, source = wired.piece.takes[key], wired.sources[key]
        match take.select:
            case EachSpan():
                return self._single(source, self.decided.by_span[source.node, source.piece][span])
            case PreviousSpan():
                return self._previous(wired, key, span)
            case Alongside():
                return self._alongside(wired, key, span)
            case LatestBlessed():
                return self.blessed(self._candidate(wired))
            case LastMade():
                return self._last_made(source)
            case Latest():
                return self._latest(wired, key)
            case Downstream():
                raise TypeError(f"{wired.node} is not wired: nobody says which spans `{key}` has")
            case _:
                return self._window(wired, key, take.select)

    def _single(self, source: Source, decision: Decision) -> Taken | Held:
        status = status_of(decision)
        if status is Status.READY:
            note = decision.note if isinstance(decision, Wait) else ""
            return Taken(outputs_of(decision).get(source.output, ()), note, bool(note))
        return Held(held(decision), status is Status.STUCK)

    def _previous(self, wired: WiredPiece, key: str, span: int) -> Taken | Held:
        """What the source made for the newest span before it that is good: bad days are no measure of good ones.

        A validator is its own judge of that, so it goes from the oldest span to the newest. An accepted exception
        stays one, unless whoever accepted it said that it is a baseline.
        """
        source, calendar = wired.sources[key], wired.calendar_of(key)
        place = (source.node, source.piece)
        decisions = self._spans(place)
        gates = [self._gate(wired, baseline=True)] if wired.piece.gate else []
        denied = self.denied.get(self.root_of(source), frozenset())
        for number in self.decided.before(place, span):
            admission, why = admit(decisions[number], number, gates, calendar)
            if admission is Admission.LATER:
                return Held(why)
            if admission is Admission.YES and number not in denied:
                return Taken(outputs_of(decisions[number]).get(source.output, ()))
        return Taken(())

    def _alongside(self, wired: WiredPiece, key: str, span: int) -> Taken | Held:
        """What the source made for the span, or for the newest before it that is accepted; it waits for either."""
        source = wired.sources[key]
        root = self.root_of(source)
        fact = self.world.spans.get(root)
        # Out of sight is not gone; but where nothing ever came from there is nothing to lose sight of.
        if fact and fact.problem and self.world.history.latest_success(self.pipeline, root, ""):
            return Held(f"{root}: {fact.problem}", stuck=True)
        decisions = self._spans((source.node, source.piece))
        gates = tuple(self.gates(wired, key))
        before = tuple(self.gates(wired, key, baseline=True))  # of other days an exception is no measure
        denied = self.denied.get(root, frozenset())
        notes: list[str] = []
        calendar = wired.calendar_of(key)
        for number in sorted((n for n in decisions if n <= span and n not in denied), reverse=True):
            admission, why = admit(decisions[number], number, gates if number == span else before, calendar)
            if admission is Admission.LATER:
                return Held(why)
            if admission is Admission.YES:
                return Taken(outputs_of(decisions[number]).get(source.output, ()), joined(notes))
            notes.append(f"{source.node}: {why}" if why else "")
        return Taken((), joined(notes))

    def root_of(self, source: Source) -> str:
        """The node that reads the spans of which a source makes something; empty if it makes nothing of spans."""
        return self.work[source.node, source.piece].root or ""

    def blessed(self, candidate: int | None) -> Taken:
        """The newest blessed model; of those older than the candidate, where there is one."""
        for model in blessed_models(self.world.history, self.pipeline, self.judges):
            if (candidate is None or model.id < candidate) and model.uri not in self.world.missing:
                return Taken((model,))
        return Taken(())

    def _last_made(self, source: Source) -> Taken:
        done = self.world.history.latest_success(self.pipeline, source.node, source.piece)
        made = done.output(source.output) if done else ()
        return Taken(tuple(a for a in made if self._there(a)))

    def _there(self, artifact: Artifact) -> bool:
        gone = artifact.uri in self.world.missing or artifact.uri in self.world.unreadable
        return self.world.history.live(artifact) and not gone

    def _candidate(self, wired: WiredPiece) -> int | None:
        """The model that is to be compared with the blessed one, if the piece has such an input."""
        for key, take in wired.piece.takes.items():
            if take.type is ArtifactType.MODEL and isinstance(take.select, Latest) and key in wired.sources:
                source = wired.sources[key]
                decision = self.decided.single.get((source.node, source.piece))
                artifacts = outputs_of(decision).get(source.output, ()) if decision else ()
                return artifacts[0].id if artifacts else None
        return None

    def _latest(self, wired: WiredPiece, key: str) -> Taken | Held:
        take, source = wired.piece.takes[key], wired.sources[key]
        if (source.node, source.piece) in self.decided.by_span:
            return self._window(wired, key, Newest(1))
        taken = self._single(source, self.decided.single[source.node, source.piece])
        if take.must_be_blessed and isinstance(taken, Taken):
            refused = [a for a in taken.artifacts if not a.blessed]
            if refused:
                reason = str(refused[0].properties.get("reason") or "not blessed")
                several = sum(t.type is take.type and t.must_be_blessed for t in wired.piece.takes.values()) > 1
                named = several or "reason" not in refused[0].properties
                return Held(f"{source.node}: {reason}" if named else reason, True, True)
        if (take.must_be_blessed or take.of_model) and isinstance(taken, Taken):
            model = self._candidate(wired)
            if model is not None and not all(self._about(model, a) for a in taken.artifacts):
                done = "judged" if take.must_be_blessed else "evaluated"
                return Held(f"{source.node} has not {done} model #{model} yet")
        return taken

    def _about(self, model: int, said: Artifact) -> bool:
        """Whether a blessing or an evaluation is of this model, or of one that was the same and is made again."""
        named = said.properties.get("current_model_id", model)
        mine, judged = (self.world.history.artifact(i) if isinstance(i, int) else None for i in (model, named))
        return mine is not None and judged is not None and mine.digest == judged.digest

    def _window(self, wired: WiredPiece, key: str, select: Window) -> Taken | Held:
        source, patient = wired.sources[key], wired.piece.takes[key].triggers and self.settled is None
        place, calendar = (source.node, source.piece), wired.calendar_of(key)
        if place not in self.decided.by_span:
            taken = self._single(source, self.decided.single[place])
            if isinstance(taken, Held):
                return taken
            return of_made(select, taken, calendar)
        decisions = self._spans(place)
        root = self.root_of(source)
        if not decisions and root in self.decided.problems:
            return Held(f"{root}: {self.decided.problems[root]}")
        if root in self.only:
            decisions = {number: d for number, d in decisions.items() if number in self.only[root]}
        denied = dict.fromkeys(self.denied.get(root, ()), "")  # the spec says so: no news
        shut_out = {**self.decided.late.get(root, {}), **denied}
        gates = self.gates(wired, key)
        return window(select, decisions, source.output, gates, shut_out, calendar, patient=patient)

    def gates(self, wired: WiredPiece, key: str, *, baseline: bool = False) -> Iterator[Gate]:
        """The validators of the spans that an input chooses from."""
        for gate in (self.work[place] for place in wired.gates[key]):
            yield self._gate(gate, baseline=baseline)

    def _spans(self, place: tuple[str, str]) -> Mapping[int, Decision]:
        return self.decided.by_span[place] if self.settled is None else self.settled(place)

    def _gate(self, gate: WiredPiece, *, baseline: bool = False) -> Gate:
        """A validator, with the spans that people let pass: into windows, or as a `baseline` for other spans."""
        decisions = self._spans(gate.id)
        requests = accepted(self.world.history, self.pipeline, gate, decisions)
        let_pass = frozenset(span for span, request in requests.items() if request.baseline or not baseline)
        return Gate(gate.node, gate.piece.gate, decisions, let_pass)


def of_made(select: Window, taken: Taken, calendar: Calendar) -> Taken | Held:
    """A window over what one execution made, such as the transformed examples of many spans."""
    chosen = choose(select, taken.artifacts)
    numbers = {a.span or 0 for a in taken.artifacts}
    kept = Taken(chosen, taken.note, taken.stuck)
    return complete(select, kept, [a.span or 0 for a in chosen], lambda n: n in numbers, calendar)


def joined(parts: Iterable[str]) -> str:
    """Distinct texts in their order."""
    return "; ".join(dict.fromkeys(part for part in parts if part))


def spans_of(artifacts: Iterable[Artifact]) -> Iterator[int]:
    return (a.span for a in artifacts if a.span is not None)
