"""Which nodes may hand their pass over the data to a runner of Apache Beam, and how a spec says so."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeInt, model_validator

from ctd.specs.base import Complaint, NodeSpec, Spec


class BeamRunner(Spec):
    """A runner of Apache Beam for a pass over data that one machine is too small for."""

    runner: Annotated[str, Field(pattern="^[A-Z][A-Za-z]*Runner$")] = Field(
        default="DirectRunner", description="Beam's name of it, such as FlinkRunner, SparkRunner or DataflowRunner"
    )
    args: tuple[str, ...] = Field(default=(), description="pipeline options for it, such as --flink_master=host:8081")
    above_mb: NonNegativeInt = Field(
        default=0, description="only for input files of more megabytes in all; ctd itself reads what is smaller"
    )

    @model_validator(mode="after")
    def _options(self) -> BeamRunner:
        for index, option in enumerate(self.args):
            if not option.startswith("--"):
                raise Complaint(f"{option!r} is no option", "Write `--name=value`.", ("args", index))
            if option.partition("=")[0] == "--runner":
                raise Complaint("the runner is named twice", "Name it in `runner`.", ("args", index))
        return self

    def takes(self, size: int) -> bool:
        """Whether input files of so many bytes in all are for it."""
        return size > self.above_mb * 10**6


class BeamNode(NodeSpec):
    """A node whose pass over the data may run on Beam. Where it runs is no part of what it makes."""

    runtime_only: ClassVar[frozenset[str]] = NodeSpec.runtime_only | {"beam"}

    beam: BeamRunner | None = Field(
        default=None, description="hand the pass over the data to Apache Beam; ctd's own is quicker on one machine"
    )
