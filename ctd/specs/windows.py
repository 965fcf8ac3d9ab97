"""How a spec says which spans a node takes: `window: 7`, `all`, `{first: .., last: ..}` or `{pinned: [..]}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from ctd.core.artifacts import ArtifactType
from ctd.core.selectors import AllSpans, Between, Newest, Pinned, Take, Window
from ctd.core.spans import number_of
from ctd.specs.base import Complaint, Complaints, Piece, Spec, SpecPath
from ctd.specs.timing import TimedNode

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def _number(said: object) -> object:
    if isinstance(said, str) and _DATE.fullmatch(said):
        return number_of(date.fromisoformat(said))
    return said


SpanNumber = Annotated[int, BeforeValidator(_number, json_schema_input_type=int | str)]
"""A span by its number, or by its date where the pattern has dates: `42`, `2024-03-01`."""


class SpanWindow(Spec):
    """The newest n spans, all, those from `first` to `last`, or exactly the pinned ones."""

    newest: PositiveInt | None = Field(default=None, description="the newest n; `window: 7` is short for it")
    all: Literal[True] | None = Field(default=None, description="every span; `window: all` is short for it")
    first: SpanNumber | None = Field(default=None, description="from this span on")
    last: SpanNumber | None = Field(default=None, description="up to this span")
    pinned: tuple[SpanNumber, ...] = Field(default=(), description="exactly these spans")

    @model_validator(mode="after")
    def _one_way(self) -> SpanWindow:
        ways = (self.newest is not None, bool(self.all), (self.first, self.last) != (None, None), bool(self.pinned))
        if sum(ways) != 1:
            raise Complaint(
                "a window is said in exactly one way",
                "Write `7`, `all`, `{first: 2024-03-01, last: 2024-03-31}` or `{pinned: [2024-03-01]}`.",
            )
        if self.first is not None and self.last is not None and self.first > self.last:
            raise Complaint(f"the window ends at {self.last}, before it begins at {self.first}", "Swap them.")
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
        most = chosen and (chosen.newest or len(chosen.pinned) or _length(chosen))
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
            return Pinned(tuple(sorted(said.pinned)))
        if said.newest is not None:
            return Newest(said.newest, self.min_spans, consecutive)
        if said.all:
            return AllSpans(self.min_spans, consecutive)
        return Between(said.first, said.last, self.min_spans, consecutive)


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
    if chosen.first is None or chosen.last is None:
        return None
    return chosen.last - chosen.first + 1
