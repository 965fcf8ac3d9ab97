"""What an evaluator measures, and the limits that its verdict holds the figures to."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from ctd.core.artifacts import ArtifactType as T
from ctd.core.selectors import LastMade, Latest, LatestBlessed, Newest, Take
from ctd.specs.base import Complaint, Complaints, Name, Piece, Spec
from ctd.specs.beam import BeamNode
from ctd.specs.metric_classes import Aggregate, Binarize
from ctd.specs.metric_names import ALWAYS_MEASURED, METRICS, OWN_NAME, no_metric
from ctd.specs.metric_values import COMPARISONS, no_direction, no_number
from ctd.specs.op_library import OpLibrary
from ctd.specs.windows import WindowedNode

# How a metric is computed, which its limits do not depend on.
_OF_CLASSES = ("binarize", "aggregate")
_HOW = ("config", *_OF_CLASSES)


class Threshold(Spec):
    """What a metric must reach. Nothing said means: computed and shown, not judged."""

    metric: str = Field(
        default="",
        description="its class in TFMA or Keras, where the key is a name of your own",
        json_schema_extra={"enum": [*sorted(METRICS)]},
    )
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
    binarize: Binarize | None = Field(default=None, description="of several classes, one or the highest")
    aggregate: Aggregate | None = Field(default=None, description="one number of all classes")

    @model_validator(mode="after")
    def _of_classes_in_one_way(self) -> Threshold:
        if self.binarize and self.aggregate:
            hint = "TFMA averages over all classes. Ask for the other by a name of your own."
            raise Complaint("a metric has binarize or aggregate, not both", hint)
        return self

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

    def class_of(self, name: str) -> str:
        """The metric's class, of which its key may be the name."""
        return self.metric or name

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
        description="TFMA metric class to its limits; or a name of your own, with the class as `metric`",
        json_schema_extra={"propertyNames": {"anyOf": [{"enum": [*sorted(METRICS)]}, {"pattern": OWN_NAME}]}},
    )
    splits: tuple[Name, ...] = ("eval",)
    op_libraries: tuple[OpLibrary, ...] = Field(
        default=(),
        description="packages, modules or shared objects (.so) with ops that the model needs besides TensorFlow's own",
    )

    @model_validator(mode="after")
    def _can_be_measured(self) -> EvaluatorSpec:
        complaints = [c for name, limit in self.metrics.items() for c in _complaints(name, limit)]
        complaints += _same_names(self.metrics)
        if complaints:
            raise Complaints(complaints)
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

    @property
    def numbers_of_one_model(self) -> Collection[str]:
        """The metrics that can be measured of any model by itself, and held to a limit."""
        return [
            name
            for name, limit in self.metrics.items()
            if limit.class_of(name) not in COMPARISONS
            and not no_number(limit.class_of(name), limit.config)
            and not (limit.binarize or limit.aggregate)
        ]

    def pieces(self) -> tuple[Piece, ...]:
        said = self.settings()
        limits = {
            name: {key: value for key, value in limit.items() if key not in _HOW}
            for name, limit in said["metrics"].items()
        }
        of_classes = {
            name: found
            for name, limit in said.pop("metrics").items()
            if (found := {key: limit[key] for key in _OF_CLASSES if limit.get(key)})
        }
        said["metrics"] = {name: limit.config for name, limit in self.metrics.items()}
        classes = {name: limit.metric for name, limit in self.metrics.items() if limit.metric}
        if classes:
            said["classes"] = classes
        if of_classes:
            said["of_classes"] = of_classes
        # Version 1 showed no comparisons, and refused for want of them.
        version = 2 if any(limit.class_of(name) in COMPARISONS for name, limit in self.metrics.items()) else 1
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
            version=version,
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
            version=version,
            profile="light",
        )
        return (metrics, verdict)


def _complaints(name: str, limit: Threshold) -> Iterator[Complaint]:
    """What is wrong with one metric, which would otherwise show only after training."""
    place, metric = ("metrics", name), limit.class_of(name)
    if metric not in METRICS:
        message, hint = no_metric(metric)
        own = " A name of your own needs `metric:` with the class." if re.search(OWN_NAME, metric) else ""
        yield Complaint(message, hint + own, (*place, "metric") if limit.metric else place)
        return
    if limit.metric and not re.search(OWN_NAME, name):
        hint = f"Write {name.lower()!r}, or only the class." if name in METRICS else f"Such as {_own_name(name)!r}."
        said = f"{name!r} cannot be a metric's own name: it has lower-case letters, digits, - and _"
        yield Complaint(said, hint, place)
    if "name" in limit.config:
        own = _own_name(str(limit.config["name"]))
        hint = f"Write `{own}: {{metric: {metric}, ..}}`." if not limit.metric else "Take it out."
        yield Complaint(f"metrics.{name}.config.name: a metric is named by its key", hint, (*place, "config"))
    many = no_number(metric, limit.config) if limit.judged else None
    if many:
        yield Complaint(f"metrics.{name} can have no limit: {metric} {many[0]}", many[1], place)
    aimless = no_direction(metric) if limit.not_worse_than_baseline_by is not None and not many else None
    if aimless:
        at = "not_worse_than_baseline_by"
        yield Complaint(f"metrics.{name}.{at}: {aimless[0]}", aimless[1], (*place, at))


def _own_name(name: str) -> str:
    """A name like this one that a metric can have."""
    return re.sub(r"[^a-z0-9_-]", "_", name.lower()).lstrip("_-")[:63] or "mine"


def _same_names(names: Collection[str]) -> list[Complaint]:
    """TFMA has classes in snake case: names that differ in that only would be one there."""
    known: dict[str, str] = {_plain(name): name for name in ALWAYS_MEASURED}
    complaints = []
    for name in names:
        other = known.setdefault(_plain(name), name)
        if other != name:
            message = f"the metrics {other} and {name} would have the same name"
            complaints.append(Complaint(message, "Give one of them another.", ("metrics", name)))
    return complaints


def _plain(name: str) -> str:
    return re.sub("[_-]", "", name.lower())
