"""Answers about where models come from, what spans reached, and what may be removed. Names that scripts depend on."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ctd.api.models import ExecutionView, View


class ArtifactView(View):
    """A result, and whether it is still there."""

    artifact: int
    type: str
    label: str
    span: int | None = None
    version: int | None = None
    digest: str = ""
    uri: str
    deleted: bool = False  # retention removed its files


class StepView(View):
    """Work in a lineage: the execution, what it was made of, what it took and made; `back` it only looked at."""

    execution: ExecutionView
    ingredients: dict[str, Any]
    inputs: dict[str, list[ArtifactView]]
    back: dict[str, list[ArtifactView]] = Field(default={})
    outputs: dict[str, list[ArtifactView]] = Field(default={})


class ReadSpanView(View):
    """A span that went into a model, as it was read."""

    node: str
    span: int
    version: int | None = None
    content: str  # digest of its files
    execution: int
    label: str = ""  # the span as people write it, with its version


class VerdictView(View):
    """What was said about a model."""

    node: str
    piece: str
    blessed: bool
    reason: str
    execution: int


class PushView(View):
    """A version on a target."""

    target: str
    version: int
    model: int
    execution: int
    pushed: str | None


class LineageView(View):
    """Where a model came from: all work nearest first, spans oldest first, pushes newest first."""

    pipeline: str
    model: ArtifactView
    pushes: list[PushView]
    verdicts: list[VerdictView]
    spans: list[ReadSpanView]
    made: list[StepView]
    judged: list[StepView]


class ReachView(View):
    """What a span went into, oldest first."""

    pipeline: str
    span: int
    label: str = ""  # as people write it
    executions: list[ExecutionView]
    models: list[ArtifactView]
    versions: list[PushView]


class DifferenceView(View):
    """How one piece of work differs between two models; `before` or `after` is none where there was no such work."""

    node: str
    piece: str
    key: str
    before: int | None
    after: int | None
    changes: list[str]


class MetricDifferenceView(View):
    """One metric of two models on one slice (`overall`: all examples); none where it was not measured.

    `same_examples`: both were measured together. Otherwise each on the examples that its own evaluation had.
    """

    node: str
    slice: str
    metric: str
    before: float | None
    after: float | None
    examples_before: int | None
    examples_after: int | None
    same_examples: bool


class SpansDifferenceView(View):
    """The spans of an input that went into each of two models."""

    node: str
    before: list[int]
    after: list[int]
    new: list[int]
    left: list[int]
    corrected: list[int]  # in both, with other contents
    label: str = ""  # the same by the names of spans: `1..3 -> 2..4: 4 new, 1 left`


class ComparedModelView(View):
    """One of two models: where it was pushed to, newest first, and what was said about it, oldest first."""

    pushes: list[PushView]
    verdicts: list[VerdictView]


class ModelDiffView(View):
    """How a model differs from the model before, and why."""

    pipeline: str
    before: ArtifactView
    after: ArtifactView
    differences: list[DifferenceView]
    metrics: list[MetricDifferenceView] = Field(default=[])  # all examples first, then slices
    metrics_missing: list[str] = Field(default=[])  # why there are none to compare
    spans: list[SpansDifferenceView] = Field(default=[])
    about_before: ComparedModelView | None = None
    about_after: ComparedModelView | None = None


class LineageQuery(View):
    """What `ctd lineage` asks: back from a version, forward from a span, or the difference of two models.

    A model is named by its version on the target (`3`) or as an artifact (`#17`).
    """

    target: str = ""
    version: str = ""
    span: int | str | None = None  # as people write it: 42, 2026-11-29T23
    before: str = ""
    after: str = ""
    deep: bool = False


class CollectedView(View):
    """A result that need not stay."""

    node: str
    key: str
    artifact: ArtifactView
    because: str


class RetentionView(View):
    """What `ctd gc` removed, or would remove."""

    pipeline: str
    keeps: bool  # whether its spec says `keep` anywhere
    removed: bool
    results: list[CollectedView]
    notes: list[str] = Field(default=[])  # what stays although `keep` does not ask for it, or nobody makes it any more
