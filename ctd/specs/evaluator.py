"""What an evaluator measures, and the limits that its verdict holds the figures to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from ctd.core.artifacts import ArtifactType as T
from ctd.core.selectors import LastMade, Latest, LatestBlessed, Newest, Take
from ctd.specs.base import Complaint, Complaints, Name, Piece, Spec
from ctd.specs.beam import BeamNode
from ctd.specs.metric_names import METRICS, no_metric
from ctd.specs.windows import WindowedNode


class Threshold(Spec):
    """What a metric must reach. Nothing said means: computed and shown, not judged."""

    at_least: float | None = None
    at_most: float | None = None
    not_worse_than_baseline_by: float | None = Field(
        default=None, description="how much worse than the latest blessed model it may be, in the metric's own unit"
    )
    slices: Literal["all", "overall"] | tuple[tuple[str, ...], ...] = Field(
        default="all",
        description="where the limits hold: all slices, the whole, or these of the node's slices",
    )
    min_examples: PositiveInt = Field(default=1, description="slices with fewer examples are not judged")
    config: dict[str, Any] = Field(default={}, description="arguments of the TFMA metric")

    @field_validator("slices", mode="before")
    @classmethod
    def _word_or_slices(cls, said: object) -> object:
        if said in ("all", "overall"):
            return said
        if isinstance(said, list | tuple) and all(isinstance(slice_, list | tuple) for slice_ in said):
            return tuple(tuple(slice_) for slice_ in said)
        raise Complaint(f"{said!r} is no slices", "Write `all`, `overall`, or slices of the node: `[[], [company]]`.")

    @property
    def judged(self) -> bool:
        return any(v is not None for v in (self.at_least, self.at_most, self.not_worse_than_baseline_by))

    def covers(self, features: Collection[str]) -> bool:
        """Whether the limits hold on slices by these features."""
        if isinstance(self.slices, str):
            return self.slices == "all" or not features
        return set(features) in [set(slice_) for slice_ in self.slices]


class EvaluatorSpec(WindowedNode, BeamNode):
    """TFMA metrics over slices, then a verdict on them against limits and the latest blessed model."""

    runtime_only: ClassVar[frozenset[str]] = WindowedNode.runtime_only | BeamNode.runtime_only
    usual_pool: ClassVar[str] = "beam"

    kind: Literal["evaluator"]
    label_key: str
    prediction_key: str = ""
    signature: str = Field(default="", description="signature to evaluate; default serving_default")
    preprocessing: tuple[str, ...] = Field(
        default=(), description="signatures that turn raw examples into features and label, e.g. transform_features"
    )
    example_weight_key: str = ""
    slices: tuple[tuple[str, ...], ...] = Field(default=((),), description="[] is all examples, [f] each value of f")
    metrics: dict[str, Threshold] = Field(
        min_length=1,
        description="TFMA metric class to its limits",
        json_schema_extra={"propertyNames": {"enum": [*sorted(METRICS)]}},
    )
    splits: tuple[Name, ...] = ("eval",)

    @model_validator(mode="after")
    def _known_metrics(self) -> EvaluatorSpec:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            raise Complaints(tuple(Complaint(*no_metric(name), ("metrics", name)) for name in unknown))
        return self

    @model_validator(mode="after")
    def _known_slices(self) -> EvaluatorSpec:
        for name, limit in self.metrics.items():
            wanted = () if isinstance(limit.slices, str) else limit.slices
            if not all(any(set(slice_) == set(own) for own in self.slices) for slice_ in wanted):
                raise Complaint(
                    f"metrics.{name}.slices has a slice that is not computed",
                    f"The node's `slices:` are {[list(own) for own in self.slices]}. Add it there, or take it out.",
                    ("metrics", name, "slices"),
                )
        return self

    def pieces(self) -> tuple[Piece, ...]:
        said = self.settings()
        limits = {
            name: {key: value for key, value in limit.items() if key != "config"}
            for name, limit in said.pop("metrics").items()
        }
        said["metrics"] = {name: limit.config for name, limit in self.metrics.items()}
        model = Take(T.MODEL, Latest())
        metrics = Piece(
            "ctd.components.evaluator",
            takes={
                "model": model,
                "baseline_model": Take(T.MODEL, LatestBlessed(), optional=True, triggers=False),
                "examples": Take(T.EXAMPLES, self.selector(Newest(1)), prefer="examples"),
                "schema": Take(T.SCHEMA, Latest(), optional=True),
                "measured_before": Take(T.EVALUATION, LastMade(), optional=True, triggers=False),
            },
            makes={"evaluation": T.EVALUATION},
            settings=said,
            name="metrics",
            profile="evaluate",
        )
        verdict = Piece(
            "ctd.components.verdict",
            takes={
                "model": model,
                "evaluation": Take(T.EVALUATION, Latest(), prefer="evaluation", of_model=True),
            },
            makes={"blessing": T.MODEL_BLESSING},
            settings={"limits": limits},
            name="verdict",
            profile="light",
        )
        return (metrics, verdict)
