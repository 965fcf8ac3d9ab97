"""How a spec says which spans a node takes: `window: 7`, `all`, `{first: .., last: ..}` or `{pinned: [..]}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, PositiveInt, model_validator

from ctd.core.artifacts import ArtifactType
from ctd.core.calendars import Calendar, NotASpan, SpanRef, Unit, span_ref
from ctd.core.selectors import AllSpans, Between, Newest, Pinned, Selector, Take, Window
from ctd.specs.base import Complaint, Complaints, Piece, Spec, SpecPath
from ctd.specs.timing import TimedNode


def written(value: object) -> SpanRef:
    """A span as a spec writes it. Raises Complaint."""
    if isinstance(value, SpanRef):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return SpanRef(str(value), value)
    try:
        # Text in quotes is no number, as everywhere in a spec.
        ref = span_ref(value) if isinstance(value, str) else None
    except NotASpan as error:
        raise Complaint(str(error), error.hint) from error
    if ref is None or ref.unit is None or ref.version is not None:
        hint = "Write a number or a time, such as 42, 2026-11-29 or 2026-11-29T23; a window takes the newest version."
        raise Complaint(f"{value!r} names no span", hint)
    return ref


def _as_written(ref: SpanRef) -> int | str:
    return ref.number if ref.unit is None else ref.text


WrittenSpan = Annotated[
    SpanRef,
    PlainValidator(written, json_schema_input_type=int | str),
    PlainSerializer(_as_written, return_type=int | str),
]
"""A span by its number, or by its time where the pattern has one: `42`, `2024-03-01`, `2026-11-29T23`."""


class SpanWindow(Spec):
    """The newest n spans, all, those from `first` to `last`, or exactly the pinned ones."""

    newest: PositiveInt | None = Field(default=None, description="the newest n; `window: 7` is short for it")
    all: Literal[True] | None = Field(default=None, description="every span; `window: all` is short for it")
    first: WrittenSpan | None = Field(default=None, description="from this span on; of a day, from its first hour")
    last: WrittenSpan | None = Field(default=None, description="up to this span; of a day, up to its last hour")
    pinned: tuple[WrittenSpan, ...] = Field(default=(), description="exactly these spans; of a day, all its hours")

    @model_validator(mode="after")
    def _one_way(self) -> SpanWindow:
        ways = (self.newest is not None, bool(self.all), (self.first, self.last) != (None, None), bool(self.pinned))
        if sum(ways) != 1:
            raise Complaint(
                "a window is said in exactly one way",
                "Write `7`, `all`, `{first: 2024-03-01, last: 2024-03-31}` or `{pinned: [2024-03-01]}`.",
            )
        return self


def _short_form(said: object) -> object:
    if isinstance(said, int) and not isinstance(said, bool):
        return {"newest": said}
    if isinstance(said, dict) and isinstance(said.get("pinned"), list):
        return {**said, "pinned": tuple(said["pinned"])}  # past a validator JSON's list counts as Python's
    return {"all": True} if said == "all" else said


WindowField = Annotated[
    SpanWindow, BeforeValidator(_short_form, json_schema_input_type=PositiveInt | Literal["all"] | SpanWindow)
]


class WindowedNode(TimedNode):
    """A node that works on a window of spans."""

    window: WindowField | None = Field(default=None, description="`7`, `all`, {first, last} or {pinned: [..]}")
    min_spans: PositiveInt = Field(default=1, description="with `window`: wait until it has this many")
    on_gap: Literal["skip", "wait"] = Field(
        default="skip",
        description="with `window`; wait: not before every span between its oldest and its newest has arrived",
    )

    @model_validator(mode="after")
    def _of_a_window(self) -> WindowedNode:
        hint = "Say which spans, such as `window: 7` or `window: all`, or take it out."
        said = {"min_spans": self.min_spans > 1, "on_gap": self.on_gap == "wait"} if self.window is None else {}
        if any(said.values()):
            raise Complaints(
                [Complaint(f"`{key}` says nothing without a `window`", hint, (key,)) for key in said if said[key]]
            )
        return self

    @model_validator(mode="after")
    def _can_fill(self) -> WindowedNode:
        chosen = self.window
        # How many spans a stretch of time has is known once it is known whose they are.
        most = chosen and (chosen.newest or (len(chosen.pinned) if _numbers(chosen.pinned) else 0) or _length(chosen))
        if most and self.min_spans > most:
            raise Complaint(
                f"min_spans is {self.min_spans}, but the window holds {most} at most: it can never fill",
                "Lower `min_spans`, or make the window longer.",
                ("min_spans",),
            )
        return self

    def selector(self, default: Window) -> Window:
        """What the window says, or the default where it says nothing."""
        said, consecutive = self.window, self.on_gap == "wait"
        if said is None:
            return default
        if said.pinned:
            return Pinned(tuple(sorted(ref.number for ref in said.pinned)), said.pinned)
        if said.newest is not None:
            return Newest(said.newest, self.min_spans, consecutive)
        if said.all:
            return AllSpans(self.min_spans, consecutive)
        first, last = (ref.number if ref else None for ref in (said.first, said.last))
        return Between(first, last, self.min_spans, consecutive, (said.first, said.last))


class ModuleNode(WindowedNode):
    """A node that runs code of the user's module on a window of spans."""

    module: SpecPath | None = Field(default=None, description="another module than the pipeline's")
    code: Literal["strict", "module", "pinned"] = Field(
        default="strict",
        description="edits that make it run again: strict: of the module and all it imports from its own tree; "
        "module: of the module's file; pinned: none",
    )
    code_deps: tuple[SpecPath, ...] = Field(
        default=(),
        description="files, folders or globs whose content counts as code too, such as templates/*.sql",
    )
    packages: tuple[str, ...] = Field(default=(), description="installed packages whose versions count, e.g. keras")

    def code_piece(self, entrypoint: str, takes: Mapping[str, Take], makes: Mapping[str, ArtifactType]) -> Piece:
        """The piece of work that runs the user's code."""
        return Piece(
            entrypoint,
            takes,
            makes,
            self.settings(),
            files={f"code_deps {path}": path for path in self.code_deps},
            uses_module=True,
            code=self.code,
            packages=self.packages,
            profile="train",
        )


def _length(chosen: SpanWindow) -> int | None:
    if chosen.first is None or chosen.last is None or not _numbers((chosen.first, chosen.last)):
        return None
    return max(0, chosen.last.number - chosen.first.number + 1)


def _numbers(refs: tuple[SpanRef, ...]) -> bool:
    return all(ref.unit is None for ref in refs)


def resolved(select: Selector, calendar: Calendar) -> Selector:
    """What a node takes, with the numbers that its spans have in this calendar. Raises Complaint."""
    match select:
        case Between():
            early, late = select.written
            first = _within(calendar, early)[0] if early else select.first
            last = _within(calendar, late)[1] if late else select.last
            if first is not None and last is not None and first > last:
                ends = f"ends at {calendar.say(last)}, before it begins at {calendar.say(first)}"
                raise Complaint(f"the window {ends}", "Swap them.")
            return replace(select, first=first, last=last, written=(None, None))
        case Pinned(written=refs) if refs:
            ranges = [_within(calendar, ref) for ref in refs]
            if calendar.unit is Unit.MINUTE and calendar.step is None and any(first < last for first, last in ranges):
                hint = "Write for instance `every: 15m` at the example_gen, or `{first: .., last: ..}`."
                raise Complaint("nothing says which minutes have spans, so that all of them would be waited for", hint)
            spans = {n for first, last in ranges for n in range(first, last + 1, calendar.every) if calendar.exists(n)}
            if not spans:
                raise Complaint(f"there is no {refs[0].text} in {calendar.zone}: the clocks skip it", "Take it out.")
            return Pinned(tuple(sorted(spans)))
        case _:
            return select


def _within(calendar: Calendar, ref: SpanRef) -> tuple[int, int]:
    try:
        return calendar.range(ref)
    except NotASpan as error:
        raise Complaint(str(error), error.hint) from error
