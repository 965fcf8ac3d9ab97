"""Why work was done, followed from execution to execution up to what set it off: a span, an edit, a person.

All of it is recorded, so that it can be told of executions of any age. An execution is compared with the one that the
planner compared it with, and the maker of a changed input with the maker of the input as it was before: so the
digests of one cause lead to those of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from ctd.core.artifacts import Artifact
from ctd.core.calendars import NUMBERS, Calendar
from ctd.core.executions import Execution, State
from ctd.core.history import History
from ctd.core.requests import OperatorRequest, Verb
from ctd.core.spans import plain_key
from ctd.planning.decisions import Run
from ctd.planning.lineage import root_span
from ctd.planning.reasons import Change, differences, said, short
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.wired import WiredPiece

_SHOWN = 3  # spans in one sentence


@dataclass(frozen=True)
class Cause:
    """A reason, and the reasons behind it.

    `execution` is what made the new input, or what this is about; `against` is what it is compared with.
    """

    kind: str
    said: str
    node: str = ""
    piece: str = ""
    key: str = ""
    execution: int = 0
    against: int = 0
    name: str = ""  # of the setting, file or input
    spans: tuple[int, ...] = ()
    before: str | None = None
    after: str | None = None
    at: datetime | None = None
    until: datetime | None = None
    hint: str = ""
    causes: tuple[Cause, ...] = ()


@dataclass
class Causes:
    """Follows the causes of executions of one pipeline. What was told once is not told again below."""

    history: History
    spec: PipelineSpec
    told: set[tuple[int, int]] = field(default_factory=set)

    @cached_property
    def _per_span(self) -> frozenset[tuple[str, str]]:
        return frozenset(w.id for w in self.spec.work if w.per_span)

    @cached_property
    def _wired(self) -> Mapping[tuple[str, str], WiredPiece]:
        return {w.id: w for w in self.spec.work}

    def _say(self, e: Execution, span: int, key: str = "") -> str:
        """A span of an input of an execution, or that it was made for, as people of the pipeline name it."""
        wired = self._wired.get((e.node, e.piece))
        calendar: Calendar = wired.calendar_of(key) if wired else NUMBERS
        return calendar.say(span)

    @cached_property
    def _files(self) -> Mapping[tuple[str, str, str], str]:
        return {(*w.id, name): path for w in self.spec.work for name, path in w.piece.files.items()}

    def ran(self, e: Execution) -> Cause:
        """An execution with all that led to it."""
        kind = "ran" if e.state.final else "running"
        said = f"{_name(e)} {'ran' if e.state.final else 'runs'} as execution {e.id}"
        return Cause(kind, said, *_place(e), execution=e.id, against=self._against(e), at=e.started, causes=self.of(e))

    def to_run(self, run: Run) -> Cause:
        """What is to be done next with all that led to it."""
        e = run.execution(self.spec.name, self.spec.node(run.subject.node).kind, _NEVER)
        return Cause("to run", f"{_name(e)} is to run", *_place(e), against=self._against(e), causes=self.of(e))

    def _against(self, e: Execution) -> int:
        before = self.before(e)
        return before.id if before else 0

    def of(self, e: Execution, against: Execution | None = None) -> tuple[Cause, ...]:
        """Why an execution was begun: compared with `against`, or with what the planner compared it with."""
        found = [*self._asked(e)]
        if against is not None:
            changed = tuple(self._changed(e, against))
            if changed:
                return (*found, *changed)
        tried = [t for t in self.history.tried(e.pipeline, e.node, e.piece, e.fingerprint) if t.id < (e.id or _NEXT)]
        if tried and tried[-1].state is not State.SUCCEEDED:
            found += _edited(e, tried[-1])
            found.append(_attempt(e, tried[-1]))
        done = next((t for t in reversed(tried) if t.state is State.SUCCEEDED), None)
        if done is not None:
            return tuple(found) if found else (_again(e, done),)
        before = self.before(e)
        if before is not None:
            return (*found, *self._changed(e, before))
        return (*found, *self._first(e, tried))

    def before(self, e: Execution) -> Execution | None:
        """The execution on other ingredients that the planner compared this one with."""
        history, number = self.history, e.id or _NEXT
        same_key = [o for o in history.of_key(e.pipeline, e.node, e.piece, e.key) if _other(o, e, number)]
        if same_key:
            return same_key[-1]
        others = [o for o in history.of_place(e.pipeline, e.node, e.piece) if _other(o, e, number)]
        if self._of_one_span(e):
            others = [o for o in others if _unversioned(o) == _unversioned(e)]
        return others[-1] if others else None

    def _of_one_span(self, e: Execution) -> bool:
        """Whether it is work that is done once per span."""
        return root_span(e) is not None or (e.node, e.piece) in self._per_span

    def _first(self, e: Execution, tried: Sequence[Execution]) -> Iterator[Cause]:
        span = root_span(e)
        if span is not None:
            because = (tried[0] if tried else e).because.removeprefix("new span, ")
            detail = because if because.startswith("complete") else ""
            text = f"span {self._say(e, span)} arrived" + (f", {detail}" if detail else "")
            yield _leaf(e, "span", text, spans=(span,))
            return
        inputs = {
            key: [taken for taken in some if taken[0] is not None]
            for key, some in e.ingredients.get("inputs", {}).items()
        }
        if self._of_one_span(e) and any(inputs.values()):
            only = {**e.ingredients, "inputs": inputs}
            yield from self._inputs(e, None, differences(only, {**only, "inputs": {}}))
        else:
            yield _leaf(e, "first", f"{e.node} had never run")

    def _changed(self, e: Execution, before: Execution) -> Iterator[Cause]:
        found = list(differences(e.ingredients, before.ingredients))
        for change in found:
            match change.kind:
                case "input":
                    pass
                case "content":
                    yield self._arrival(e, before, change)
                case "file":
                    path = self._files.get((e.node, e.piece, change.name), change.name)
                    text = said(replace(change, name=path))
                    yield self._edit(e, change, text)
                case _:
                    yield self._edit(e, change, said(change))
        if root_span(e) is not None and not any(c.kind == "content" for c in found):
            yield from self._same_content(e, before)
        yield from self._inputs(e, before, [c for c in found if c.kind == "input"])

    def _edit(self, e: Execution, change: Change, text: str) -> Cause:
        return _leaf(e, change.kind, text, name=change.name, before=change.before, after=change.after)

    def _arrival(self, e: Execution, before: Execution, change: Change) -> Cause:
        (number, version), (_, other) = e.ingredients["span"], before.ingredients["span"]
        digests, name = f"(content {short(change.before)} -> {short(change.after)})", self._say(e, number)
        if version != other:
            text, kind = f"span {name} version {version} arrived {digests}", "version"
        else:
            text, kind = f"span {name} was changed in its place {digests}", "content"
        return _leaf(e, kind, text, spans=(number,), before=change.before, after=change.after)

    def _same_content(self, e: Execution, before: Execution) -> Iterator[Cause]:
        (number, version), (_, other) = e.ingredients["span"], before.ingredients["span"]
        if version != other:
            text = f"span {self._say(e, number)} version {version} arrived, with the content of version {other}"
            yield _leaf(e, "version", text, spans=(number,))

    def _inputs(self, e: Execution, before: Execution | None, found: Iterable[Change]) -> Iterator[Cause]:
        """Changed inputs, those together that were made by the same execution instead of the same other one."""
        groups: dict[tuple[str, int, int], list[tuple[Change, Artifact | None, Artifact | None]]] = {}
        for change in found:
            new, old = self._artifact(e, change), self._artifact(before, change) if before else None
            kind = "new" if change.before is None else "left" if change.after is None else "changed"
            groups.setdefault((kind, self._maker(new), self._maker(old)), []).append((change, new, old))
        for (kind, maker, other), some in groups.items():
            yield self._input(e, before, kind, (maker, other), some)

    def _input(
        self,
        e: Execution,
        before: Execution | None,
        kind: str,
        makers: tuple[int, int],
        some: Sequence[tuple[Change, Artifact | None, Artifact | None]],
    ) -> Cause:
        maker, other = map(self.history.execution, makers)
        first = some[0][0]
        spans = tuple(dict.fromkeys(c.span for c, _, _ in some if c.span is not None))
        digests = f" ({short(first.before)} -> {short(first.after)})" if kind == "changed" and len(some) == 1 else ""
        what = _output_names(maker or other, some, lambda span: self._say(e, span, first.name))
        left = "left the window" if spans else "no longer taken"
        text = f"{what} {left if kind == 'left' else kind}{digests}"
        if kind == "new" and spans and before and maker and maker.id < before.id:
            text = f"{what} entered the window"
        cause = Cause(
            f"input {kind}",
            text,
            *(_place(maker) if maker else ("", "", "")),
            execution=makers[0],
            against=makers[1],
            name=first.name,
            spans=spans,
            before=first.before if len(some) == 1 else None,
            after=first.after if len(some) == 1 else None,
        )
        if kind == "left":
            return replace(cause, causes=tuple(self._left(e, spans)))
        accepted = tuple(self._accepted(e, before, spans)) if kind == "new" else ()
        return replace(cause, causes=(*accepted, *self._made(maker, other)))

    def _maker(self, artifact: Artifact | None) -> int:
        maker = self.history.maker(artifact.id) if artifact else None
        return maker.id if maker else 0

    def _made(self, maker: Execution | None, other: Execution | None) -> tuple[Cause, ...]:
        """Why the maker of an input ran, if that was not told before."""
        if maker is None:
            return ()
        pair = (maker.id, other.id if other else 0)
        if pair in self.told:
            return (_leaf(maker, "told", f"execution {maker.id} ran: told above"),)
        self.told.add(pair)
        return self.of(maker, other)

    def _left(self, e: Execution, spans: Sequence[int]) -> Iterator[Cause]:
        for left in e.left_out:
            if left.span in spans:
                text = f"span {self._say(e, left.span)} {left.kind}: {left.why}"
                yield _leaf(e, "left out", text, spans=(left.span,))

    def _accepted(self, e: Execution, before: Execution | None, spans: Sequence[int]) -> Iterator[Cause]:
        for r in self.history.requests(e.pipeline):
            if (
                r.verb is Verb.ACCEPT
                and r.span is not None
                and r.span in spans
                and (before.id if before else 0) < r.id < (e.id or _NEXT)
            ):
                yield self._request(e, r)

    def _asked(self, e: Execution) -> Iterator[Cause]:
        """Who asked for this execution, by the words that the planner recorded, and who approved it."""
        asked = [r for r in self.history.requests(e.pipeline) if r.id < (e.id or _NEXT) and r.node in ("", e.node)]
        named = [r for r in asked if any(f"{word} {r.said}" in e.because for word in ("asked", r.verb.value))]
        approved = [r for r in asked if r.verb is Verb.APPROVE and r.about == e.fingerprint]
        for some in (named, approved):
            if some:
                yield self._request(e, some[-1])

    def _request(self, e: Execution, r: OperatorRequest) -> Cause:
        about = f"{r.verb.value} {r.key}".strip()
        return replace(_leaf(e, "asked", f"{about}, asked {r.said}"), at=r.at, name=r.verb.value)

    def _artifact(self, e: Execution, change: Change) -> Artifact | None:
        taken = (self.history.artifact(i) for i in e.inputs.get(change.name, ()))
        return next((a for a in taken if a is not None and change.span in (None, a.span)), None)


_NEXT = 2**63  # the id of an execution that is yet to be
_NEVER = datetime.max.replace(tzinfo=timezone.utc)  # and when it began


def _other(o: Execution, e: Execution, number: int) -> bool:
    return o.id < number and o.fingerprint != e.fingerprint


def _place(e: Execution) -> tuple[str, str, str]:
    return e.node, e.piece, e.key


def _leaf(e: Execution, kind: str, text: str, **more: Any) -> Cause:
    """A cause in the execution's place."""
    return Cause(kind, text, *_place(e), execution=e.id, **more)


def _name(e: Execution) -> str:
    """`trainer`, `examples span-42`, `evaluator.verdict model #6`."""
    rest = e.key.removeprefix(e.piece).strip()
    return f"{e.node}{f'.{e.piece}' if e.piece else ''} {rest}".strip()


def _unversioned(e: Execution) -> str:
    return plain_key(e.key).partition(".v")[0]


def _edited(e: Execution, last: Execution) -> Iterator[Cause]:
    """What the attempt before was told otherwise, though it is no part of the work."""
    if "" not in (e.told, last.told) and e.told != last.told:
        text = f"the spec of {e.node}, its target or pinned code was edited since execution {last.id}"
        yield _leaf(e, "setting", text)


def _attempt(e: Execution, last: Execution) -> Cause:
    """A further attempt: how the one before it ended."""
    failure = last.failure
    where = f" at {failure.where}" if failure and failure.where else ""
    ended = f"{last.state.value}{where}: {failure.message}" if failure else last.state.value
    text = f"attempt {e.attempt} after execution {last.id} ({ended})"
    return Cause("attempt", text, *_place(last), execution=last.id, hint=failure.hint if failure else "")


def _again(e: Execution, done: Execution) -> Cause:
    """The same work once more: its result was lost, or something else took its place."""
    kind = "again" if "came after it" in e.because else "lost"
    return Cause(kind, e.because.partition("; ")[0], *_place(done), execution=e.id, against=done.id)


def _output_names(
    maker: Execution | None,
    some: Sequence[tuple[Change, Artifact | None, Artifact | None]],
    say: Callable[[int], str],
) -> str:
    """What the inputs are called where they were made: `transformed_examples of spans 1, 2 and transform_graph`."""
    names: dict[str, list[int]] = {}
    for change, new, old in some:
        artifact = new or old
        outputs = maker.outputs if maker and artifact else {}
        found = (output for output, made in outputs.items() if artifact and any(a.id == artifact.id for a in made))
        names.setdefault(next(found, change.name), []).extend([] if change.span is None else [change.span])
    return " and ".join(f"{name} of {_spans(of, say)}" if of else name for name, of in names.items())


def _spans(numbers: Sequence[int], say: Callable[[int], str]) -> str:
    if len(numbers) == 1:
        return f"span {say(numbers[0])}"
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"spans {', '.join(map(say, numbers[:_SHOWN]))}{more}"
