"""The kinds of node: what each is told, takes and makes. Adding a component is one class here and one file there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from ctd.core.artifacts import COUNTED
from ctd.core.artifacts import ArtifactType as T
from ctd.core.calendars import Calendar
from ctd.core.completeness import CompleteRule, Manifest, Marker, Quiet, Renamed
from ctd.core.selectors import Downstream, EachSpan, Latest, LatestBlessed, Newest, Selector, Take
from ctd.core.spans import SpanPattern
from ctd.specs.base import Complaint, Complaints, Duration, Name, NodeSpec, Piece, Spec, SpecPath
from ctd.specs.beam import BeamNode
from ctd.specs.calendars import EachOf, FirstSpan, Often, Zone, calendar_of
from ctd.specs.evaluator import EvaluatorSpec
from ctd.specs.formats import FormatSpec
from ctd.specs.hints import did_you_mean, listed
from ctd.specs.infra import InfraValidatorSpec
from ctd.specs.inputs import Input, about_patterns, patterns_of
from ctd.specs.targets import canary_piece
from ctd.specs.transform import TransformSpec
from ctd.specs.validation import ExampleValidatorSpec
from ctd.specs.windows import ModuleNode, WindowedNode

_FILE_NAME = re.compile(r"(?!\.{1,2}$)[^/\x00-\x1f]{1,200}")

_BUCKETS: Mapping[str, int] = {"train": 2, "eval": 1}


class Complete(Spec):
    """When a span counts as complete. Exactly one rule; files named *-NNNNN-of-MMMMM must all be there besides."""

    marker: str | None = Field(default=None, description="file whose arrival completes the span, e.g. _SUCCESS")
    quiet: Duration | None = Field(default=None, description="nothing in the span changed for this long")
    manifest: str | None = Field(
        default=None,
        description="file that lists the span's files with sizes or checksums, as JSON or from sha256sum; "
        "complete when all are there",
    )
    rename: Literal[True] | None = Field(
        default=None, description="complete as soon as it has its name: whoever writes it renames it into place"
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Complete:
        if (self.marker, self.quiet, self.manifest, self.rename).count(None) != 3:
            hint = "Write `{marker: _SUCCESS}`, `{quiet: 30s}`, `{manifest: MANIFEST.json}` or `{rename: true}`."
            raise Complaint("`complete` needs exactly one rule", hint)
        for key, name in (("marker", self.marker), ("manifest", self.manifest)):
            if name is not None and not _FILE_NAME.fullmatch(name):
                example = {"marker": "_SUCCESS", "manifest": "MANIFEST.json"}[key]
                raise Complaint(f"{name!r} is no file name", f"Name one file, such as {example}.", (key,))
        return self

    @property
    def rule(self) -> CompleteRule:
        """The rule as `ctd.core.completeness` judges by it."""
        if self.quiet is not None:
            return Quiet(self.quiet)
        if self.manifest is not None:
            return Manifest(self.manifest)
        return Renamed() if self.rename else Marker(self.marker or "")


class ExampleGenSpec(FormatSpec):
    """Reads a span of data and writes it as tf.Examples, split by hash as TFX does, or as the data is split already."""

    runtime_only: ClassVar[frozenset[str]] = FormatSpec.runtime_only | {
        "input", "complete", "timezone", "every", "start", "deny", "on_change", "max_lateness", "stale_after",
    }  # fmt: skip

    kind: Literal["example_gen"]
    input: Input = Field(
        description="where spans arrive: a path with {SPAN} or {YYYY}-{MM}-{DD}, and optionally {VERSION}; {HH} and "
        "{mm} for hours and minutes, {YYYY}-{MM} for months, {GGGG}-W{WW} for weeks; or such a path for each split, "
        "{train: path, eval: path}"
    )
    timezone: Zone | None = Field(
        default=None,
        description="whose clocks the times in `input` are read from, e.g. Europe/Berlin; what those clocks skip is no "
        "gap. UTC if nothing is said",
    )
    every: Often | None = Field(
        default=None,
        description="how far apart spans are, e.g. 15m or 6h (of plain numbers, 3600), so that a window with "
        "`on_gap: wait` knows a gap",
    )
    complete: Complete = Field(default=Complete(marker="_SUCCESS"), description="when a span is complete")
    start: FirstSpan = Field(
        default=None, description="spans before this one are not read until someone asks (`ctd backfill`)"
    )
    deny: EachOf = Field(default=(), description="spans that are read, but enter no window; of a day, all its hours")
    on_change: Literal["new_version", "ignore", "fail"] = Field(
        default="new_version",
        description="when a span's content changes after it was read: read it anew, keep what was read, or stop",
    )
    max_lateness: Duration | None = Field(
        default=None, description="a span that comes longer than this after a newer one was read enters no window"
    )
    stale_after: Duration | None = Field(default=None, description="raise an alert when no new span came for this long")
    splits: dict[Name, PositiveInt] | None = Field(
        default=None,
        min_length=1,
        description="hash buckets per split, in this order (TFX SplitConfig); {train: 2, eval: 1} if absent",
    )

    @model_validator(mode="after")
    def _split_once(self) -> ExampleGenSpec:
        complaints = tuple(about_patterns(self.patterns))
        if not isinstance(self.input, str):
            hint = "Take it out: the paths of `input` say which file is in which split."
            said = [name for name in ("splits", "split_by") if getattr(self, name) is not None]
            complaints += tuple(Complaint(f"`{name}` beside an `input` by splits", hint, (name,)) for name in said)
        try:
            _ = self.calendar
        except Complaint as complaint:
            complaints += (complaint,)
        if complaints:
            raise Complaints(complaints)
        return self

    @cached_property
    def patterns(self) -> Mapping[str, SpanPattern]:
        """Where the files of each split arrive; of the only split "" where ctd is to split."""
        return patterns_of(self.input)

    @property
    def pattern(self) -> SpanPattern:
        """How spans are named: all patterns have the same tokens."""
        return next(iter(self.patterns.values()))

    @cached_property
    def calendar(self) -> Calendar:
        """How spans are numbered, and which of them are to come."""
        return calendar_of(self.pattern, self.timezone, self.every)

    @property
    def buckets(self) -> Mapping[str, int]:
        """Hash buckets of each split; nothing where the data is split already."""
        return (self.splits or _BUCKETS) if isinstance(self.input, str) else {}

    def settings(self) -> dict[str, Any]:
        # The order of splits decides which buckets they get; canonical JSON would sort it away.
        splits = [[name, self.buckets.get(name)] for name in self.buckets or self.patterns]
        return {**super().settings(), "splits": splits}

    def pieces(self) -> tuple[Piece, ...]:
        return (
            Piece(
                "ctd.components.example_gen",
                takes={},
                makes={"examples": T.EXAMPLES},
                settings=self.settings(),
                profile="read",
                version=2 if self.format in ("parquet", "avro") else 1,
            ),
        )


class StatisticsGenSpec(BeamNode):
    """TFDV statistics of every split of every span, counted as a curated schema says."""

    usual_pool: ClassVar[str] = "beam"

    kind: Literal["statistics_gen"]

    def pieces(self) -> tuple[Piece, ...]:
        takes = {
            "examples": Take(T.EXAMPLES, EachSpan(), prefer="examples"),
            # An inferred schema is made of statistics, and says nothing of how to make them.
            "schema": Take(T.SCHEMA, Latest(), optional=True, if_clear=True, from_outside=True, part=COUNTED),
        }
        makes = {"statistics": T.STATISTICS}
        return (Piece("ctd.components.statistics_gen", takes, makes, self.settings(), version=2),)


class SchemaGenSpec(WindowedNode):
    """A schema inferred from statistics: where no window is said, of all spans that are taken downstream.

    Curate it and use an importer once the data is understood.
    """

    kind: Literal["schema_gen"]
    infer_feature_shape: bool = True

    def pieces(self) -> tuple[Piece, ...]:
        spans: Selector = self.selector(Newest(1)) if self.window else Downstream()
        takes = {"statistics": Take(T.STATISTICS, spans, holds_for=self.window is None)}
        return (Piece("ctd.components.schema_gen", takes, {"schema": T.SCHEMA}, self.settings()),)


class ImporterSpec(NodeSpec):
    """A file or folder from outside, taken in as an artifact whenever its content changes."""

    runtime_only: ClassVar[frozenset[str]] = NodeSpec.runtime_only | {"path"}

    kind: Literal["importer"]
    artifact: Literal["Schema", "Model", "HyperParameters"]
    path: SpecPath

    def pieces(self) -> tuple[Piece, ...]:
        output = {"Schema": "schema", "Model": "model", "HyperParameters": "hyperparameters"}[self.artifact]
        makes = {output: T(self.artifact)}
        return (
            Piece(
                "ctd.components.importer",
                {},
                makes,
                {**self.settings(), "output": output},
                files={"path": self.path},
                version=2 if self.artifact == "Schema" else 1,
                profile="read",
            ),
        )


class TrainerSpec(ModuleNode):
    """The user's run_fn(fn_args), with the fn_args of TFX."""

    usual_pool: ClassVar[str] = "train"

    kind: Literal["trainer"]
    train_steps: PositiveInt | None = None
    eval_steps: PositiveInt | None = None
    train_splits: tuple[Name, ...] = ("train",)
    eval_splits: tuple[Name, ...] = ("eval",)
    warm_start: Literal["latest_blessed"] | None = None
    custom_config: dict[str, Any] = Field(default={})

    def pieces(self) -> tuple[Piece, ...]:
        # Without a window: all that Transform made, or the newest span where there is no Transform.
        examples: Selector = self.selector(Newest(1)) if self.window else Latest()
        takes = {
            "examples": Take(T.EXAMPLES, examples, prefer="transformed_examples"),
            "transform_graph": Take(T.TRANSFORM_GRAPH, Latest(), optional=True),
            "schema": Take(T.SCHEMA, Latest(), optional=True),
            "hyperparameters": Take(T.HYPERPARAMETERS, Latest(), optional=True),
        }
        if self.warm_start:
            takes["base_model"] = Take(T.MODEL, LatestBlessed(), optional=True, triggers=False)
        makes = {"model": T.MODEL, "model_run": T.MODEL_RUN}
        return (self.code_piece("ctd.components.trainer", takes, makes),)


EVERY_TARGET = "*"


def _for_every_target(said: object) -> object:
    return said if isinstance(said, Mapping) else {EVERY_TARGET: said}


PushWithin = Annotated[
    Mapping[str, Duration], BeforeValidator(_for_every_target, json_schema_input_type=Duration | Mapping[str, Duration])
]


class PusherSpec(NodeSpec):
    """Hands blessed models over to targets, one piece of work per target."""

    runtime_only: ClassVar[frozenset[str]] = NodeSpec.runtime_only | {"targets", "require", "push_within"}

    of_no_work: ClassVar[frozenset[str]] = frozenset({"push_within"})

    kind: Literal["pusher"]
    targets: tuple[Name, ...] = Field(min_length=1, description="names of target files' targets, each pushed to")
    require: tuple[Literal["model", "infra"], ...] = Field(
        default=("model", "infra"),
        description="which blessings a model needs: those of all its Evaluators, InfraValidators",
    )
    push_within: PushWithin = Field(
        default={},
        description="raise an alert when data came and no push followed for this long; for all targets, or by target",
    )

    @model_validator(mode="after")
    def _within_of_targets(self) -> PusherSpec:
        complaints = [
            Complaint(
                f"there is no target {target!r} here to push to within a time",
                f"{did_you_mean(target, self.targets)}Its targets are {listed(self.targets)}.",
                ("push_within", target),
            )
            for target in self.push_within
            if target not in (*self.targets, EVERY_TARGET)
        ]
        if complaints:
            raise Complaints(complaints)
        return self

    def within(self, target: str) -> timedelta | None:
        """How long a target may go without a push although data came."""
        return self.push_within.get(target, self.push_within.get(EVERY_TARGET))

    @model_validator(mode="after")
    def _each_once(self) -> PusherSpec:
        twice = next((t for i, t in enumerate(self.targets) if t in self.targets[:i]), None)
        if twice:
            raise Complaint(f"the target {twice!r} is there twice", "Keep one of them.", ("targets",))
        return self

    def pieces(self) -> tuple[Piece, ...]:
        takes: dict[str, Take] = {"model": Take(T.MODEL, Latest())}
        blessings: Mapping[str, T] = {"model": T.MODEL_BLESSING, "infra": T.INFRA_BLESSING}
        for what in self.require:
            said = Take(blessings[what], Latest(), triggers=False, must_be_blessed=True, every=True)
            takes[f"{what}_blessing"] = said
        # What a target may want to know of a model besides: examples to compare answers on, how it did.
        more = {
            "examples": Take(T.EXAMPLES, Newest(1), prefer="examples"),
            "transformed_examples": Take(T.EXAMPLES, Newest(1), prefer="transformed_examples"),
            "evaluation": Take(T.EVALUATION, Latest(), prefer="evaluation"),
        }
        takes |= {key: replace(take, optional=True, triggers=False, if_clear=True) for key, take in more.items()}
        return tuple(piece for target in self.targets for piece in (self._push(target, takes), self._watch(target)))

    def _push(self, target: str, takes: Mapping[str, Take]) -> Piece:
        return Piece(
            "ctd.components.pusher",
            takes,
            {"pushed_model": T.PUSHED_MODEL},
            self.settings(),
            name=target,
            effect=True,
            target=target,
            profile="evaluate",
        )

    def _watch(self, target: str) -> Piece:
        """The watch over a canary; there is nothing to decide about it where a target has none."""
        return Piece(
            "ctd.components.canary",
            {},
            {"canary_blessing": T.CANARY_BLESSING},
            {},
            name=canary_piece(target),
            target=target,
            watches=target,
            profile="light",
        )


AnyNode = Annotated[
    ExampleGenSpec
    | StatisticsGenSpec
    | SchemaGenSpec
    | ImporterSpec
    | ExampleValidatorSpec
    | TransformSpec
    | TrainerSpec
    | EvaluatorSpec
    | InfraValidatorSpec
    | PusherSpec,
    Field(discriminator="kind"),
]
