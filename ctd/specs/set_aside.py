"""All that is wrong with a file at once: what is at fault is set aside, and the rest is looked at as if it were right.

A wrong metric must not hide that a node is missing, nor that a wrong target. What is set aside is left out, or where it
must be there, replaced by a stand-in; no complaint is believed that is about either.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from ctd.specs.complain import Placed, problems_of
from ctd.specs.document import Document, Place
from ctd.specs.pipeline import UNWIRED
from ctd.specs.problems import Problem

S = TypeVar("S")

_ROUNDS = 12  # each sets something aside; a file that needs more is told of in two goes
_STAND_IN = "stand-in"
_A_NODE = 2  # steps of the place of a whole node
_WIRES = {("inputs",), ("kind",), ("module",), ("require",)}  # keys of a node by which it fits together with others

# What stands in for keys that must be there: nothing that is said of these values is told.
_REQUIRED: Mapping[str, Any] = {
    "artifact": "Schema",
    "input": "/stand-in/{SPAN}",
    "label_key": _STAND_IN,
    "metrics": {"AUC": {}},
    "module": "stand-in.py",
    "path": _STAND_IN,
    "pipeline": _STAND_IN,
    "target": _STAND_IN,
    "targets": [_STAND_IN],
    "window": "all",
}

_ESSENTIAL = {"inputs", "kind", "require", "warm_start", *_REQUIRED} - {"window"}

# Keys that no other has to fit: without them the rest of a node can be judged as before.
_ALONE = frozenset(
    {
        "approval", "attempts", "beam", "coalesce", "code", "code_deps", "custom_config", "deny", "eval_steps",
        "inputs", "keep",
        "max_lateness", "min_interval", "packages", "pool", "priority", "push_within", "stale_after", "start",
        "supersede", "timeout", "train_steps", "warm_start",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Checked(Generic[S]):
    """What a file says. Without problems, `spec` is what it says; with them, what is left of it, if anything is."""

    spec: S | None
    problems: tuple[Problem, ...]
    aside: frozenset[Place] = frozenset()

    def doubtful(self, document: Document) -> frozenset[tuple[int, int]]:
        """The lines and columns of what was set aside: what is said of these is said of stand-ins."""
        marks = {mark for place, mark in document.marks.items() if any(_within(place, of) for of in self.aside)}
        return frozenset(marks | {document.marks.get(document.place(of), (1, 1)) for of in self.aside})


def check(document: Document, adapter: TypeAdapter[S], model: Any, base: str) -> Checked[S]:
    """Validate a document, its paths against `base`, with everything that is wrong with it."""
    return _Check(document, adapter, model, base).checked()


@dataclass
class _Check(Generic[S]):
    document: Document
    adapter: TypeAdapter[S]
    model: Any
    base: str
    found: dict[Problem, None] = field(default_factory=dict)
    aside: set[Place] = field(default_factory=set)
    maimed: set[Place] = field(default_factory=set)  # mappings that lack a key now: their rest need not fit together
    lost: bool = False  # whether a whole node was set aside

    def checked(self) -> Checked[S]:
        value, untouched = self.document.value, True
        for _ in range(_ROUNDS):
            said = self._validated(value)
            if not isinstance(said, ValidationError):
                return Checked(said, tuple(self.found), frozenset(self.aside))
            value, untouched = copy.deepcopy(value) if untouched else value, False
            if not self._set_aside(value, problems_of(said, self.document, self.model)):
                break
        left = self._validated(value, fits=False)
        spec = None if isinstance(left, ValidationError) else left
        return Checked(spec, tuple(self.found), frozenset(self.aside))

    def _validated(self, value: Any, *, fits: bool = True) -> S | ValidationError:
        """Strict, as JSON is: the text "7" is no number. Without `fits` its parts need not fit together."""
        context = {"base": self.base, **({} if fits else {UNWIRED: True})}
        try:
            return self.adapter.validate_json(json.dumps(value), strict=True, context=context)
        except ValidationError as error:
            return error

    def _set_aside(self, value: Any, problems: list[Placed]) -> bool:
        """Take what is at fault out; whether there was anything to take out. Tells what is news."""
        before, maimed, changed = frozenset(self.aside), frozenset(self.maimed), False
        for placed in problems:
            at = (*placed.place, placed.missing) if placed.missing else placed.place
            if not self._told(placed, at, before, maimed):
                self.found[placed.problem] = None
            if placed.of_all and len(at) <= _A_NODE:
                continue  # how nodes fit together: to take one out would only make more of them lack something
            if placed.instead and _put(value, at, placed.instead):
                self.aside.add(at)
                changed = True
                continue
            if len(at) == _A_NODE and _reduced(value, at):
                self.maimed.add(at)
                changed = True
                continue
            while at and not _replaced(value, at, put=bool(placed.missing)):
                at = at[:-1]
            if at:
                self.aside.add(at)
                fits = placed.needless or at[-1] in _ALONE or at[-1] in _REQUIRED
                self.maimed |= set() if fits else {at[:-1]}
                self.lost = self.lost or (at[:1] == ("nodes",) and len(at) <= _A_NODE)
                changed = True
        return changed

    def _told(self, placed: Placed, at: Place, aside: frozenset[Place], maimed: frozenset[Place]) -> bool:
        """Whether it is no news, or comes of what was set aside in the rounds before."""
        if placed.of_all:  # without a node nobody knows what the others would find to take
            wires = (of for of in aside if _within(of, at) and of[_A_NODE : _A_NODE + 1] in _WIRES)
            return self.lost or any(_within(at, of) for of in aside) or any(True for _ in wires)
        return placed.among in maimed or any(_within(at, of) or _within(of, at) for of in aside)


def _within(place: Place, of: Place) -> bool:
    return place[: len(of)] == of


def _holder(value: Any, place: Place) -> Any:
    for step in place[:-1]:
        within = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if not within and not (isinstance(value, dict) and step in value):
            return None
        value = value[step]
    return value


def _put(value: Any, place: Place, said: Any) -> bool:
    """Have this value in a mapping; False if it is there already, or there is no such mapping."""
    holder, key = _holder(value, place), place[-1]
    if not isinstance(holder, dict) or holder.get(key) == said:
        return False
    holder[key] = copy.deepcopy(said)
    return True


def _reduced(value: Any, place: Place) -> bool:
    """Leave of a node only what others need of it; False if there is no more than that."""
    node = (_holder(value, place) or {}).get(place[-1])
    if not isinstance(node, dict):
        return False
    needless = [key for key in node if key not in _ESSENTIAL]
    for key in needless:
        del node[key]
    return bool(needless)


def _replaced(value: Any, place: Place, *, put: bool) -> bool:
    """Take the value in this place out of its mapping, or put a stand-in there. False if neither helps."""
    holder, key = _holder(value, place), place[-1]
    if isinstance(holder, list) and isinstance(key, int) and key < len(holder) and isinstance(holder[key], str):
        changed = bool(holder[key] != _STAND_IN)
        holder[key] = _STAND_IN
        return changed
    if key in _REQUIRED and _put(value, place, _REQUIRED[str(key)]):
        return True
    if put or not isinstance(holder, dict) or key not in holder:
        return False
    del holder[key]
    return True
