"""How a metric of two classes is made one of many: of one class or rank, or an average over classes. As in TFMA."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ctd.specs.base import Complaint, Spec


class Binarize(Spec):
    """What of several classes counts as yes: one class, or the classes of the highest predictions."""

    class_id: NonNegativeInt | None = Field(default=None, description="this class against all others")
    top_k: PositiveInt | None = Field(default=None, description="the k classes with the highest predictions")

    @model_validator(mode="after")
    def _one_of_them(self) -> Binarize:
        if (self.class_id is None) == (self.top_k is None):
            raise Complaint(
                "binarize takes one of class_id and top_k",
                "Write `binarize: {class_id: 1}` or `binarize: {top_k: 3}`; ask for several by names of your own.",
            )
        return self


class Aggregate(Spec):
    """One number of all classes: `micro` adds up their examples, `macro` and `weighted` their metrics."""

    average: Literal["micro", "macro", "weighted"] = Field(
        description="weighted: each class by its share of the labels, times its weight"
    )
    classes: tuple[NonNegativeInt, ...] = Field(default=(), description="by number; what macro and weighted are of")
    weights: tuple[float, ...] = Field(default=(), description="one for each of `classes`; 1 for each if left out")

    @model_validator(mode="after")
    def _classes_are_known(self) -> Aggregate:
        if self.average != "micro" and not self.classes:
            raise Complaint(
                f"aggregate: {self.average} needs classes",
                f"Name them, as `{{average: {self.average}, classes: [0, 1, 2]}}`.",
            )
        if len(set(self.classes)) < len(self.classes) or len(self.weights) not in (0, len(self.classes)):
            raise Complaint(
                f"aggregate has {len(set(self.classes))} different classes of {len(self.classes)} and "
                f"{len(self.weights)} weights",
                "Name each class once, with a weight for each or none at all.",
            )
        return self

    @property
    def class_weights(self) -> dict[int, float]:
        """The weight of each class, as TFMA takes it."""
        return dict(zip(self.classes, self.weights or [1.0] * len(self.classes), strict=True))
