"""What people ask of the daemon: the form of `POST /requests`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ctd.core.calendars import NotASpan, SpanRef, span_ref

VerbName = Literal[
    "accept",
    "pause",
    "resume",
    "run-now",
    "retry",
    "cancel",
    "approve",
    "reject",
    "backfill",
    "stop-backfill",
    "rollback",
    "release",
]


class RequestForm(BaseModel):
    """What someone asks for: `POST /requests`. Which fields a verb takes: `ctd VERB --help`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    verb: VerbName
    pipeline: str = Field(default="", max_length=100)
    node: str = Field(default="", max_length=100)
    span: str = Field(default="", max_length=100)
    first: str = Field(default="", max_length=100)  # of a backfill
    last: str = Field(default="", max_length=100)
    order: Literal["", "newest", "oldest"] = ""
    target: str = Field(default="", max_length=100)  # of a rollback or release
    version: int | None = Field(default=None, ge=1)  # to roll back to
    execution: int | None = Field(default=None, ge=1)
    again: bool = False
    as_baseline: bool = False  # of an accepted span: others are compared with it too
    reason: str = Field(default="", max_length=2000)

    @model_validator(mode="after")
    def _says_what_it_is_about(self) -> RequestForm:
        if any(not (character.isprintable() or character == "\n") for character in self.reason):
            raise ValueError("`reason` has characters that cannot be shown")
        if self.execution is None and not self.pipeline:
            raise ValueError("it needs a `pipeline`")
        if self.execution is not None and self.verb not in ("retry", "cancel"):
            raise ValueError(f"{self.verb} takes no `execution`")
        if self.verb in ("approve", "reject") and not self.node:
            raise ValueError(f"{self.verb} needs a `node`")
        if self.verb in ("retry", "cancel") and not self.node and self.execution is None:
            raise ValueError(f"{self.verb} needs a `node` or an `execution`")
        if (self.verb == "accept") != bool(self.span) or (self.verb == "accept" and not self.reason.strip()):
            raise ValueError("`span` goes with accept, which needs it and a `reason`")
        if self.as_baseline and self.verb != "accept":
            raise ValueError("`as_baseline` goes with accept")
        if self.again and self.verb != "backfill" and (self.verb != "run-now" or not self.node):
            raise ValueError("`again` goes with backfill, and with run-now of a `node`")
        return self

    @model_validator(mode="after")
    def _says_which_target(self) -> RequestForm:
        about_target = self.verb in ("rollback", "release")
        if about_target != bool(self.target) or (self.version is not None and self.verb != "rollback"):
            raise ValueError("`target` goes with rollback and release, which need it, and `version` with rollback")
        if self.verb == "rollback" and not self.reason.strip():
            raise ValueError("rollback needs a `reason`")
        return self

    @model_validator(mode="after")
    def _says_which_range(self) -> RequestForm:
        if self.verb == "backfill":
            first, last = self.range
            if first.unit is last.unit and first.number > last.number:
                raise ValueError(f"the range ends at {self.last}, before it begins at {self.first}: swap them")
        elif self.first or self.last or self.order:
            raise ValueError("`first`, `last` and `order` go with backfill")
        return self

    @property
    def range(self) -> tuple[SpanRef, SpanRef]:
        """The first and the last span of a backfill. Raises ValueError for what is none."""
        return _span(self.first), _span(self.last)


def _span(text: str) -> SpanRef:
    try:
        ref = span_ref(text)
    except NotASpan as error:
        raise ValueError(f"{error}. {error.hint}".strip()) from error
    if ref.version is not None:
        raise ValueError(f"{text!r} is no span but a version of one: a range takes the newest version of each")
    return ref
