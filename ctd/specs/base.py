"""What all specs share: frozen models, field types, and the description of a node as pieces of work."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from os.path import normpath
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PositiveInt,
    ValidationInfo,
    model_validator,
)

from ctd.core.artifacts import ArtifactType
from ctd.core.fingerprints import digest_of
from ctd.core.selectors import Take
from ctd.core.timing import format_duration, parse_duration

_LONGEST = timedelta(days=36_500)  # added to any time of today, once or a few times, it must still be a time


class Complaint(ValueError):
    """What a spec says that cannot be: the keys that lead to it (below the model that complains), and what to do."""

    def __init__(self, message: str, hint: str = "", at: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.at = at


class Complaints(ValueError):
    """Several complaints at once, so that a user need not find them one by one."""

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        super().__init__("; ".join(map(str, complaints)))
        self.complaints = tuple(complaints)


class Spec(BaseModel):
    """Frozen, and unknown keys are refused: a typo in YAML is an error, not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> dict[str, Any]:
        """What the file says, as JSON values: whoever reads them has the same spec, and knows what was said."""
        return self.model_dump(mode="json", exclude_unset=True)

    of_no_work: ClassVar[frozenset[str]] = frozenset()
    """Keys that are about when or whether something is done or told, so that an edit of them mends no work."""

    def identity(self) -> str:
        """A digest of all that it says, what changes no result included. A key at its default counts as not said."""
        return digest_of(self.model_dump(mode="json", exclude_defaults=True, exclude=set(self.of_no_work)))


def _duration(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, timedelta):
        return value
    raise Complaint(f"{value!r} is not a duration", "Write a number with its unit: 30s, 5m, 1h30m.")


def _sensible(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise Complaint("a duration must be longer than nothing", "Write for instance 30s, 5m, 1h30m.")
    if value > _LONGEST:
        raise Complaint(
            f"a duration of {value.days // 365:,} years is more than the {_LONGEST.days // 365} that there may be",
            "Write for instance 30s, 5m, 1h30m, 365d; or take the key out if it is never to come.",
        )
    return value


def say_duration(value: timedelta) -> str:
    """The short form where it is exact, else the seconds."""
    short = format_duration(value)
    return short if parse_duration(short) == value else f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


def against_file(path: str, info: ValidationInfo) -> str:
    """The path as written, made absolute by the folder of its file. Raises Complaint for what no path can be."""
    if not path.strip():
        raise Complaint("the path is empty", "Write a path relative to this file.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in path):
        raise Complaint("the path contains control characters", "Write it without.")
    base = (info.context or {}).get("base", "")
    try:
        return normpath(Path(base) / Path(path).expanduser())
    except RuntimeError:
        raise Complaint(f"{path}: there is no such user", "Write the path without `~`.") from None


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""Lower-case letters, digits, - and _; what directories and MLMD contexts are named after."""

_DurationText = Annotated[str, Field(pattern=r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", examples=["30s", "5m", "1h30m"])]

Duration = Annotated[
    timedelta,
    BeforeValidator(_duration, json_schema_input_type=_DurationText),
    AfterValidator(_sensible),
    PlainSerializer(say_duration, return_type=str),
]
"""`30s`, `5m`, `1h30m`."""

SpecPath = Annotated[str, AfterValidator(against_file)]
"""A path, relative to the file it is written in (validation context `base`)."""


class Keep(Spec):
    """How many results stay on disk: those of the newest n executions, or some of each of the newest n spans."""

    newest: PositiveInt | None = Field(default=None, description="what the newest n executions made")
    spans: PositiveInt | None = Field(default=None, description="what was made of the newest n spans")
    versions: PositiveInt = Field(default=1, description="with `spans`: how many results of each span")

    @model_validator(mode="after")
    def _one_way(self) -> Keep:
        if (self.newest is None) == (self.spans is None):
            raise Complaint("`keep` needs `newest` or `spans`", "Write `{newest: 5}` or `{spans: 30, versions: 1}`.")
        if self.newest is not None and self.versions > 1:
            raise Complaint("`versions` goes with `spans`", "Write `{newest: 5}` or `{spans: 30, versions: 1}`.")
        return self


EVERY_OUTPUT = "*"


def _for_every_output(said: object) -> object:
    return {EVERY_OUTPUT: said} if isinstance(said, dict) and said.keys() & Keep.model_fields.keys() else said


KeepField = Annotated[
    Mapping[str, Keep], BeforeValidator(_for_every_output, json_schema_input_type=Keep | Mapping[str, Keep])
]


@dataclass(frozen=True)
class Piece:
    """One piece of a node's work, with its own fingerprint. Most nodes are one piece without a name.

    `takes` are keyed by input, `makes` by output. `settings` are all and only what changes the result.
    `effect` marks a piece whose result is a state outside the artifact store, such as a push, which must be
    the latest to count.
    """

    entrypoint: str
    takes: Mapping[str, Take]
    makes: Mapping[str, ArtifactType]
    settings: Mapping[str, Any]
    name: str = ""
    version: int = 1  # of the component: raised when the same inputs begin to give other results
    files: Mapping[str, str] = field(default_factory=dict)  # files whose content matters: name to path
    uses_module: bool = False
    code: str = "strict"  # how much of the user's code is part of the identity: strict, module or pinned
    packages: tuple[str, ...] = ()  # installed packages whose versions are part of the identity
    gate: str = ""  # its `anomalies` decide about spans in windows: block, quarantine or warn
    effect: bool = False
    target: str = ""
    watches: str = ""  # the piece of the same node whose push it watches while it serves as a canary, and judges
    profile: str = "data"  # which warm template has its libraries

    @property
    def light(self) -> bool:
        """Whether it is over in a moment and needs no library of weight: a verdict on figures that are there."""
        return self.profile == "light"


class NodeSpec(Spec):
    """A component's place in a pipeline. Subclasses declare the pieces of work it consists of."""

    runtime_only: ClassVar[frozenset[str]] = frozenset(
        {
            "inputs",
            "timeout",
            "attempts",
            "approval",
            "keep",
            "window",
            "min_spans",
            "on_gap",
            "module",
            "code",
            "code_deps",
            "packages",
            "when",
            "schedule",
            "min_interval",
            "pool",
            "priority",
            "supersede",
            "coalesce",
        }
    )
    """Fields that do not change the result (or do so through the inputs): left out of the fingerprint."""

    usual_pool: ClassVar[str] = ""
    """The pool of executions where the spec names none: `beam` for passes over the data, `train` for training."""

    kind: str
    inputs: Mapping[str, str] = Field(
        default={}, description="explicit wiring, `input: node` or `input: node.output`, where types are ambiguous"
    )
    timeout: Duration = Field(default=timedelta(hours=6), description="an attempt is stopped after this long")
    attempts: PositiveInt = Field(default=3, description="how often a lost or timed-out attempt is made again")
    keep: KeepField = Field(
        default={}, description="what stays on disk, for all outputs or by output; nothing said keeps everything"
    )
    approval: bool = Field(default=False, description="nothing runs before someone approved it: `ctd approve`")
    pool: Name | None = Field(
        default=None,
        description="its executions share this pool's limit (`ctd run --pool`); by default that of its kind",
    )
    priority: int | None = Field(default=None, description="as the pipeline's, for this node alone")

    @model_validator(mode="after")
    def _keeps_what_it_makes(self) -> NodeSpec:
        made = {output: type_ for p in self.pieces() for output, type_ in p.makes.items()} if self.keep else {}
        for output, keep in self.keep.items():
            if output not in (*made, EVERY_OUTPUT):
                raise Complaint(f"there is no output {output!r} to keep", f"It makes {', '.join(made)}.", ("keep",))
            types = made.values() if output == EVERY_OUTPUT else [made[output]]
            if keep.spans and not all(type_.spanned for type_ in types):
                hint = "Write `{newest: 5}` for what is not made of single spans."
                raise Complaint("`keep: {spans: ..}` where results have no span", hint, ("keep",))
        return self

    def keep_of(self, output: str) -> Keep | None:
        """What stays of an output; None: everything."""
        return self.keep.get(output, self.keep.get(EVERY_OUTPUT))

    def pool_of(self, piece: Piece) -> str:
        """The pool that an execution of this piece takes a slot of; none: only the total limit counts."""
        return "" if piece.light else self.pool or self.usual_pool

    def settings(self) -> dict[str, Any]:
        """The fields that change the result, as JSON values. What is left at its default is left out.

        So a new field changes no fingerprint, and an upgrade of ctd makes nothing run again; a default that changes
        its meaning needs a new version of the piece.
        """
        return self.model_dump(mode="json", exclude=set(self.runtime_only) | {"kind"}, exclude_defaults=True)

    def pieces(self) -> tuple[Piece, ...]:
        raise NotImplementedError
