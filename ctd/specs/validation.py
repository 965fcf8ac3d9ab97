"""How a spec says what a good span is: limits on drift and skew, an environment, conditions of its own."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ctd.core.artifacts import ArtifactType as T
from ctd.core.selectors import Alongside, EachSpan, Latest, PreviousSpan, Take
from ctd.specs.base import Complaint, NodeSpec, Piece, Spec

Fraction = Annotated[float, Field(ge=0, le=1)]

_ALONE = re.compile(r"\bfeature\b")
_PAIR = re.compile(r"\bfeature_(test|base)\b")


class CustomValidation(Spec):
    """A condition on the statistics of one feature, in the SQL that TFDV evaluates."""

    feature: str = Field(min_length=1)
    expression: str = Field(
        description="SQL that is true of good data. `feature` is the feature's statistics, as in "
        "feature.num_stats.min >= 0; to compare spans, `feature_test` is that and `feature_base` the previous span's"
    )
    severity: Literal["ERROR", "WARNING"] = Field(
        default="ERROR", description="whether the span is refused, or this is only said"
    )
    description: str = Field(default="", description="what is wrong if it is not true, in your words")

    @model_validator(mode="after")
    def _names_the_feature(self) -> CustomValidation:
        alone, pair = _ALONE.search(self.expression), _PAIR.search(self.expression)
        if not alone and not pair:
            hint = "Its statistics are fields of `feature`, as in feature.num_stats.min >= 0."
            raise Complaint("the expression does not name `feature`", hint, ("expression",))
        if alone and pair:
            hint = "Where spans are compared, write `feature_test` for `feature`."
            raise Complaint(f"the expression names both `feature` and `{pair[0]}`", hint, ("expression",))
        return self

    @property
    def compares(self) -> bool:
        """Whether it needs the span before."""
        return bool(_PAIR.search(self.expression))


class ExampleValidatorSpec(NodeSpec):
    """Looks for anomalies of each span against the schema, for drift from the span before and skew to serving data."""

    runtime_only: ClassVar[frozenset[str]] = NodeSpec.runtime_only | {"on_anomaly"}

    kind: Literal["example_validator"]
    drift: dict[str, Fraction] = Field(
        default={},
        description="feature to the largest accepted distance from the newest good span before (L-infinity for "
        "categories, Jensen-Shannon for numbers)",
    )
    skew: dict[str, Fraction] = Field(
        default={},
        description="feature to the largest accepted distance from serving data: the span of the same number that "
        "`inputs: {serving_statistics: NODE}` has, else the newest before it",
    )
    environment: str | None = Field(
        default=None, min_length=1, description="one of the schema's environments, such as SERVING, where labels lack"
    )
    validations: tuple[CustomValidation, ...] = Field(
        default=(), description="conditions beside the schema, as SQL on the statistics of a feature"
    )
    on_anomaly: Literal["block", "quarantine", "warn"] = Field(
        default="block",
        description="block: nothing trains until the span is corrected; quarantine: the span is left out; warn: go on",
    )

    def pieces(self) -> tuple[Piece, ...]:
        takes = {
            "statistics": Take(T.STATISTICS, EachSpan()),
            "schema": Take(T.SCHEMA, Latest()),
        }
        # The schema may have limits of its own: naming the input is enough to have them measured.
        if self.drift or "previous_statistics" in self.inputs or any(v.compares for v in self.validations):
            takes["previous_statistics"] = Take(T.STATISTICS, PreviousSpan(), optional=True)
        if self.skew or "serving_statistics" in self.inputs:
            takes["serving_statistics"] = Take(T.STATISTICS, Alongside("statistics"))
        makes = {"anomalies": T.ANOMALIES}
        settings = {"drift": {}, **self.settings()}
        return (Piece("ctd.components.example_validator", takes, makes, settings, gate=self.on_anomaly),)
