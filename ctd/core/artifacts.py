"""What nodes take and make. Type and property names are TFX's (TFX types/standard_artifacts.py), where it has them."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ctd.core.calendars import Calendar

Value = str | int | float

SPAN_NAME = "span_name"
"""The property of inputs that workers name spans by; it is not recorded."""

COUNTED = "statistics_digest"
"""The property of schemas that identifies the part that statistics depend on; empty if they depend on nothing of it."""


class ArtifactType(str, enum.Enum):
    """The artifact types that ctd's components take and make: TFX's, and one of our own."""

    EXAMPLES = "Examples"
    STATISTICS = "ExampleStatistics"
    ANOMALIES = "ExampleAnomalies"
    SCHEMA = "Schema"
    TRANSFORM_GRAPH = "TransformGraph"
    TRANSFORM_CACHE = "TransformCache"
    MODEL = "Model"
    MODEL_RUN = "ModelRun"
    EVALUATION = "ModelEvaluation"
    MODEL_BLESSING = "ModelBlessing"
    INFRA_BLESSING = "InfraBlessing"
    PUSHED_MODEL = "PushedModel"
    HYPERPARAMETERS = "HyperParameters"
    CANARY_BLESSING = "CanaryBlessing"  # ours, in the manner of InfraBlessing: what came of a model beside the live one

    @property
    def spanned(self) -> bool:
        """Whether the type carries TFX's typed property `span`."""
        return self in (ArtifactType.EXAMPLES, ArtifactType.STATISTICS, ArtifactType.ANOMALIES)


VERDICTS = frozenset({ArtifactType.MODEL_BLESSING, ArtifactType.INFRA_BLESSING, ArtifactType.CANARY_BLESSING})
"""What says of a model yes or no."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One output of an execution: files under `uri`, and what is known about them.

    `digest` is the identity of the content, equal for equal content whatever the bytes (a schema's text order,
    a protobuf's field order). `properties` are MLMD custom properties (`blessed`, `pushed_version`, ...).
    """

    type: ArtifactType
    uri: str
    digest: str = ""
    span: int | None = None
    version: int | None = None
    properties: Mapping[str, Value] = field(default_factory=dict)
    id: int = 0  # MLMD's; 0 until recorded

    @property
    def blessed(self) -> bool:
        """Whether this is a blessing that says yes."""
        return self.properties.get("blessed") == 1

    @property
    def refused(self) -> bool:
        """Whether this says that a model was not pushed, for a reason that lies in the model."""
        return self.properties.get("pushed") == 0

    def content(self, part: str = "") -> str:
        """The digest; that of a part where a property says so. What does not know its parts counts as a whole."""
        return str(self.properties.get(part, self.digest)) if part else self.digest

    @property
    def span_name(self) -> str:
        """The span as people write it, where whoever hands it to a worker said so; else its number."""
        return str(self.properties.get(SPAN_NAME, self.span))

    @property
    def label(self) -> str:
        """`span 42.v2` for spanned artifacts, `#17` for the others."""
        if self.span is None:
            return f"#{self.id}"
        return f"span {self.span_name}" + (f".v{self.version}" if self.version is not None else "")


Artifacts = Mapping[str, tuple[Artifact, ...]]


def named(artifacts: Iterable[Artifact], calendar: Calendar) -> tuple[Artifact, ...]:
    """Artifacts with the names of their spans, so that what a worker says of an hour is not said of its number."""
    return tuple(
        a
        if a.span is None or calendar.unit is None
        else replace(a, properties={**a.properties, SPAN_NAME: calendar.say(a.span)})
        for a in artifacts
    )
