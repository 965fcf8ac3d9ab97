"""How the pieces of a pipeline fit together: the source of every input, and an order in which sources come first."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ctd.core.artifacts import ArtifactType as T
from ctd.core.calendars import NUMBERS, Calendar
from ctd.core.selectors import (
    Alongside,
    Between,
    Downstream,
    EachSpan,
    Latest,
    LooksBack,
    Pinned,
    PreviousSpan,
    Take,
    Window,
)
from ctd.specs.base import Complaint, Complaints, Piece
from ctd.specs.downstream import Wires, joined
from ctd.specs.hints import did_you_mean, listed
from ctd.specs.judges import model_of
from ctd.specs.nodes import ExampleGenSpec
from ctd.specs.numbering import about_calendars, in_numbers, root_of
from ctd.specs.wired import Gates, Source, WiredPiece

if TYPE_CHECKING:
    from ctd.specs.pipeline import PipelineSpec

_MAKERS: Mapping[T, tuple[str, ...]] = {
    T.EXAMPLES: ("example_gen",),
    T.STATISTICS: ("statistics_gen",),
    T.ANOMALIES: ("example_validator",),
    T.SCHEMA: ("importer", "schema_gen"),
    T.TRANSFORM_GRAPH: ("transform",),
    T.MODEL: ("trainer", "importer"),
    T.EVALUATION: ("evaluator",),
    T.MODEL_BLESSING: ("evaluator",),
    T.INFRA_BLESSING: ("infra_validator",),
    T.HYPERPARAMETERS: ("importer",),
}

_Before = Mapping[tuple[str, str], set[tuple[str, str]]]  # the pieces whose current results a piece needs


def _above(start: tuple[str, str], before: _Before) -> set[tuple[str, str]]:
    """All that a piece needs, and what that needs."""
    found: set[tuple[str, str]] = set()
    left = [start]
    while left:
        new = before[left.pop()] - found
        found |= new
        left += new
    return found


def _compared(piece: Piece, key: str, found: Mapping[str, Source | None]) -> tuple[Source, ...]:
    """What an input must not be, as it is compared with it or is what is compared."""
    pairs = [(k, take.select.beside) for k, take in piece.takes.items() if isinstance(take.select, Alongside)]
    others = [b if a == key else a for a, b in pairs if key in (a, b)]
    return tuple(source for other in others if (source := found.get(other)))


class Wiring:
    """Finds the source of every input by type, or by what the node's `inputs` say."""

    def __init__(self, spec: PipelineSpec) -> None:
        self.spec = spec
        self.pieces = {(name, p.name): p for name, node in spec.nodes.items() for p in node.pieces()}
        self.complaints: dict[str, Complaint] = {}  # by text: pieces of one node complain of the same
        self.unsourced = False  # an input has no source, so that who depends on it cannot be judged by it

    def order(self) -> tuple[WiredPiece, ...]:
        sources = {id_: self._sources(id_) for id_ in self.pieces}
        sources |= {id_: self._with_every(id_, sources) for id_ in self.pieces}
        self.unsourced = bool(self.complaints)
        if not self.unsourced:
            for id_ in sources:
                self._say_in_numbers(id_, self._calendars(id_, sources))
        before = {id_: {(s.node, s.piece) for s in self._before(id_, sources[id_])} for id_ in self.pieces}
        gates = {id_: self._gates(id_, sources, before) for id_ in self.pieces}
        for id_ in self._say_downstream(sources, gates):
            gates[id_] = self._gates(id_, sources, before)
        watched = {(n, name): {(n, p.watches)} if p.watches else set() for (n, name), p in self.pieces.items()}
        needed = {id_: before[id_].union(watched[id_], *gates[id_].values()) for id_ in self.pieces}
        done: dict[tuple[str, str], WiredPiece] = {}
        left = list(self.pieces)
        while left:
            ready = [i for i in left if all(b in done for b in needed[i])]
            if not ready:
                self._circle(left, {id_: needed[id_] for id_ in left})
                break
            for id_ in ready:
                done[id_] = self._wired(id_, sources[id_], done, gates[id_])
                left.remove(id_)
        self._check()
        return tuple(done.values())

    def _complain(self, message: str, hint: str, *at: str) -> None:
        self.complaints.setdefault(message, Complaint(message, hint, ("nodes", *at)))

    def _check(self) -> None:
        if self.complaints:
            raise Complaints(tuple(self.complaints.values()))

    def _circle(self, left: Sequence[tuple[str, str]], before: Mapping[tuple[str, str], set[tuple[str, str]]]) -> None:
        """Name one circle among the pieces that cannot be ordered: follow what waits until it repeats."""
        way = [left[0]]
        while way.count(way[-1]) < 2:
            way.append(next(b for b in sorted(before[way[-1]]) if b in before))
        names = [node for node, _ in way[way.index(way[-1]) :]]
        names = [name for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
        text = " needs ".join(names if len(names) > 1 else names * 2)
        self._complain(f"nodes need each other in a circle: {text}", "Change one of their `inputs`.", names[0])

    def _before(self, id_: tuple[str, str], sources: Mapping[str, Source]) -> Iterator[Source]:
        """Sources whose current result the piece needs; history is no such need."""
        takes = self.pieces[id_].takes
        return (s for key, s in sources.items() if not isinstance(takes[key].select, LooksBack))

    def _gates(
        self, id_: tuple[str, str], sources: Mapping[tuple[str, str], Mapping[str, Source]], before: _Before
    ) -> Gates:
        """The validators of the spans that the piece chooses from, less those that need the piece themselves.

        Of two validators that look at each other's spans neither waits for the other's verdict: both would wait.
        """
        takes, found = self.pieces[id_].takes, {}
        for key, source in sources[id_].items():
            if isinstance(takes[key].select, Window | Latest | Alongside):
                root = self._fan_root((source.node, source.piece), sources)
                found[key] = tuple(
                    gate
                    for gate, piece in self.pieces.items()
                    if piece.gate
                    and root
                    and self._fan_root(gate, sources) == root
                    and id_ not in {gate, *_above(gate, before)}
                    and not self._each_other(id_, gate, sources)
                )
        return found

    def _each_other(
        self, id_: tuple[str, str], gate: tuple[str, str], sources: Mapping[tuple[str, str], Mapping[str, Source]]
    ) -> bool:
        """Whether a piece is a validator, of spans that the other one compares its own with."""
        root, takes = self._fan_root(id_, sources), self.pieces[gate].takes
        beside = (s for key, s in sources[gate].items() if isinstance(takes[key].select, Alongside))
        return bool(self.pieces[id_].gate) and any(self._fan_root((s.node, s.piece), sources) == root for s in beside)

    def _fan_root(
        self, id_: tuple[str, str], sources: Mapping[tuple[str, str], Mapping[str, Source]]
    ) -> tuple[str, str] | None:
        """The piece whose spans a piece runs for; itself, if it reads them."""
        seen: set[tuple[str, str]] = set()
        while id_ not in seen and not isinstance(self.spec.nodes[id_[0]], ExampleGenSpec):
            seen.add(id_)
            takes = self.pieces[id_].takes
            fan = next((s for key, s in sources[id_].items() if isinstance(takes[key].select, EachSpan)), None)
            if fan is None:
                return None
            id_ = fan.node, fan.piece
        return None if id_ in seen else id_

    def _wired(
        self,
        id_: tuple[str, str],
        sources: Mapping[str, Source],
        done: Mapping[tuple[str, str], WiredPiece],
        gates: Gates,
    ) -> WiredPiece:
        node, piece = self.spec.nodes[id_[0]], self.pieces[id_]
        above = {key: done[(s.node, s.piece)] for key, s in sources.items() if (s.node, s.piece) in done}
        roots = [w.root for w in above.values() if w.root]
        fans = [key for key, take in piece.takes.items() if key in sources and isinstance(take.select, EachSpan)]
        for key, take in piece.takes.items():
            fanned = key in sources and isinstance(take.select, EachSpan | PreviousSpan | Alongside)
            if fanned and not above[key].per_span and not self.unsourced:
                self._complain(
                    f"{id_[0]} takes `{key}` of each span, but {sources[key].node} does not run once per span",
                    f"Wire `{key}` to a node that runs for each span, as example_gen and statistics_gen do.",
                    id_[0],
                )
        if isinstance(node, ExampleGenSpec):
            return WiredPiece(id_[0], piece, sources, True, id_[0], None, {}, node.calendar)
        module = self._module(id_[0], piece)
        root = above[fans[0]].root if fans else (roots[0] if roots else None)
        calendars = {key: source.calendar for key, source in above.items() if source.root}
        own = self.spec.inputs[root].calendar if root else NUMBERS
        for key, source in above.items():
            self._check_denied(id_[0], piece.takes[key], source.root)
        return WiredPiece(id_[0], piece, sources, bool(fans), root, module, gates, own, calendars)

    def _calendars(
        self, id_: tuple[str, str], sources: Mapping[tuple[str, str], Mapping[str, Source]]
    ) -> Mapping[str, Calendar]:
        """How the spans are numbered that reach each input of a piece."""
        above = {place: {key: (s.node, s.piece) for key, s in mine.items()} for place, mine in sources.items()}
        inputs = self.spec.inputs
        roots = {
            key: next((node for node, _ in root_of((s.node, s.piece), above, self.pieces) if node in inputs), "")
            for key, s in sources[id_].items()
        }
        return {key: inputs[root].calendar for key, root in roots.items() if root}

    def _say_in_numbers(self, id_: tuple[str, str], calendars: Mapping[str, Calendar]) -> None:
        """Let windows have the numbers of the spans that they choose from, whatever they are written as."""
        name, piece = id_[0], self.pieces[id_]
        for complaint in about_calendars(name, piece, calendars):
            self._complain(str(complaint), complaint.hint, *map(str, complaint.at))
        try:
            self.pieces[id_] = in_numbers(piece, calendars)
        except Complaint as complaint:
            self._complain(f"nodes.{name}.window: {complaint}", complaint.hint, name, "window")

    def _say_downstream(
        self, sources: Mapping[tuple[str, str], Mapping[str, Source]], gates: Mapping[tuple[str, str], Gates]
    ) -> set[tuple[str, str]]:
        """Let what is to hold for windows downstream have the spans that these take; which pieces that are."""
        wires = Wires(dict(self.pieces), sources, gates, lambda place: self._fan_root(place, sources))
        told = set()
        for id_, piece in wires.pieces.items():
            for key, take in piece.takes.items():
                if isinstance(take.select, Downstream):
                    window = joined(window for _, _, window in wires.windows_below(id_, key))
                    takes = {**self.pieces[id_].takes, key: replace(take, select=window)}
                    self.pieces[id_] = replace(self.pieces[id_], takes=takes)
                    told.add(id_)
        return told

    def _check_denied(self, node: str, take: Take, root: str | None) -> None:
        """Windows that can never fill, since the spec itself denies what they ask for."""
        denied = set(self.spec.inputs[root].deny) if root else set()
        calendar = self.spec.inputs[root].calendar if root else NUMBERS
        match take.select:
            case Pinned(spans) if denied.intersection(spans):
                said = calendar.said(sorted(denied.intersection(spans)))
                message = f"nodes.{node} pins span {said}, which nodes.{root} denies: it would wait for ever"
                hint = f"Take {said} out of `deny` of {root}, or out of `pinned`."
                self._complain(message, hint, node, "window")
            case Between(int(first), int(last), least) if first <= last:
                left = last - first + 1 - sum(first <= span <= last for span in denied)
                if left < least:
                    among = f"{calendar.say(first)}..{calendar.say(last)}, of which nodes.{root} leaves {left} undenied"
                    message = f"nodes.{node} needs {least} of the spans {among}: it would wait for ever"
                    hint = f"Take spans out of `deny` of {root}, lower `min_spans`, or make the window longer."
                    self._complain(message, hint, node, "window")
            case _:
                pass

    def _module(self, name: str, piece: Piece) -> str | None:
        if not piece.uses_module:
            return None
        return getattr(self.spec.nodes[name], "module", None) or self.spec.module

    def _sources(self, id_: tuple[str, str]) -> Mapping[str, Source]:
        name, piece = id_[0], self.pieces[id_]
        if piece.uses_module and not self._module(name, piece):
            self._complain(f"{name} needs a module", "Write `module: my_module.py` here or at the top.", name)
        said = self.spec.nodes[name].inputs
        known = sorted({key for (n, _), p in self.pieces.items() if n == name for key in p.takes})
        for key in said:
            if key not in known:
                hint = f"{did_you_mean(key, known)}{name} takes {listed(known)}."
                self._complain(f"{name} has no input {key!r}", hint, name, "inputs", key)
        found = {key: self._explicit(name, key, piece.takes[key], said[key]) for key in piece.takes if key in said}
        for key in piece.takes:
            if key not in said:
                found[key] = self._by_type(id_, key, _compared(piece, key, found))
            elif isinstance(piece.takes[key].select, Alongside) and found[key] in _compared(piece, key, found):
                hint = "Name a node that looks at other data."
                self._complain(
                    f"`{key}` of {name}: {said[key]} would be compared with itself", hint, name, "inputs", key
                )
        return {key: source for key in piece.takes if (source := found[key])}

    def _explicit(self, name: str, key: str, take: Take, text: str) -> Source | None:
        node, _, output = text.partition(".")
        at = (name, "inputs", key)
        if node not in self.spec.nodes:
            hint = f"{did_you_mean(node, self.spec.nodes)}There are {listed(self.spec.nodes)}."
            self._complain(f"`{key}` of {name}: there is no node {node!r}", hint, *at)
            return None
        fits = [s for s in self._makers(take) if s.node == node and output in ("", s.output)]
        if len(fits) == 1:
            return fits[0]
        made = sorted(o for (n, _), p in self.pieces.items() if n == node for o in p.makes)
        hint = f"{node} makes {listed(made)}."
        if fits:
            hint = f"Write {' or '.join(f'`{s.node}.{s.output}`' for s in fits)}."
        self._complain(f"`{key}` of {name}: {text!r} does not name one {take.type.value}", hint, *at)
        return None

    def _by_type(self, id_: tuple[str, str], key: str, compared: Collection[Source]) -> Source | None:
        take = self.pieces[id_].takes[key]
        history = isinstance(take.select, LooksBack)  # a piece may look back at what it made itself
        makers = [s for s in self._makers(take) if (history or (s.node, s.piece) != id_) and s not in compared]
        if take.from_outside:
            makers = [s for s in makers if not self.pieces[s.node, s.piece].takes]
        own = [s for s in makers if s.node == id_[0]]
        preferred = own or [s for s in makers if s.output == take.prefer]
        candidates = preferred or makers
        if len(candidates) == 1:
            return candidates[0]
        if candidates and not take.if_clear and not take.every:
            names = " or ".join(f"{s.node}.{s.output}" for s in candidates)
            self._complain(
                f"`{key}` of {id_[0]} could be {names}",
                f"Say which, for instance `inputs: {{{key}: {candidates[0].node}}}`.",
                id_[0],
            )
        if not candidates and not take.optional:
            way_out = f"Add a node of kind {listed(_MAKERS.get(take.type, ('importer',)), 'or')}"
            if isinstance(take.select, Alongside):
                way_out += " of the data to compare with, or leave the comparison out"
            elif take.must_be_blessed:
                way_out += ", or leave it out of `require`"
            none = "no other node" if compared else "no node"
            self._complain(f"{id_[0]} needs {take.type.value} as `{key}`, and {none} makes one", f"{way_out}.", id_[0])
        return None

    def _with_every(
        self, id_: tuple[str, str], sources: Mapping[tuple[str, str], Mapping[str, Source]]
    ) -> Mapping[str, Source]:
        """The sources of a piece; where several say something of the model that it takes, an input for each of them.

        The first keeps the name of the input, so that what was made while it was alone fits the others.
        """
        takes: dict[str, Take] = {}
        found = dict(sources[id_])
        for key, take in self.pieces[id_].takes.items():
            takes[key] = take
            if take.every and key not in found and key not in self.spec.nodes[id_[0]].inputs:
                for source in self._about_the_same(id_, take, sources):
                    name = f"{key}.{source.node}" if key in found else key
                    takes[name], found[name] = take, source
        self.pieces[id_] = replace(self.pieces[id_], takes=takes)
        return found

    def _about_the_same(
        self, id_: tuple[str, str], take: Take, sources: Mapping[tuple[str, str], Mapping[str, Source]]
    ) -> list[Source]:
        """Those of several makers of a type that look at the very model which a piece takes."""
        candidates = self._makers(take)
        model = model_of(self.pieces[id_], sources[id_])
        mine = [s for s in candidates if model_of(self.pieces[s.node, s.piece], sources[s.node, s.piece]) == model]
        if len(candidates) > 1 and model and not mine:
            said = f"none of {listed(s.node for s in candidates)} judges the models of {model.node}"
            hint = f"Wire one to it, for instance `inputs: {{model: {model.node}}}` of {candidates[0].node}."
            self._complain(f"{id_[0]} needs {take.type.value}, and {said}", hint, id_[0])
        return mine if len(candidates) > 1 and model else []

    def _makers(self, take: Take) -> list[Source]:
        return [
            Source(node, piece, output)
            for (node, piece), p in self.pieces.items()
            for output, type_ in p.makes.items()
            if type_ is take.type
        ]
