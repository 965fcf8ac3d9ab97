"""A pipeline as one file says it: its nodes, and what follows from how they are wired."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from pydantic import Field, ValidationInfo, model_validator

from ctd.core.calendars import Calendar
from ctd.specs.base import Complaints, Name, NodeSpec, Spec, SpecPath
from ctd.specs.inputs import about_overlaps
from ctd.specs.judges import Judges, judges_of
from ctd.specs.nodes import AnyNode, ExampleGenSpec
from ctd.specs.raw_examples import about_raw_examples
from ctd.specs.wired import WiredPiece
from ctd.specs.wiring import Wiring

UNWIRED = "unwired"
"""In a validation's context: nodes need not fit together, since it is known already that they do not."""


class PipelineSpec(Spec):
    """One pipeline, as one YAML file says it."""

    pipeline: Name
    module: SpecPath | None = Field(default=None, description="file with preprocessing_fn, run_fn, ...")
    priority: int = Field(default=0, description="when slots are scarce, work with a higher one starts first")
    nodes: dict[Name, AnyNode] = Field(min_length=1)

    @model_validator(mode="after")
    def _wires_up(self, info: ValidationInfo) -> PipelineSpec:
        if (info.context or {}).get(UNWIRED):
            return self
        _ = self.work
        overlaps = about_overlaps({name: node.patterns for name, node in self.inputs.items()})
        complaints = (*overlaps, *about_raw_examples(self.work, self.nodes))
        if complaints:
            raise Complaints(complaints)
        return self

    @cached_property
    def work(self) -> tuple[WiredPiece, ...]:
        """Every piece of work in an order in which sources come first. Raises Complaints, each at its node."""
        return Wiring(self).order()

    @cached_property
    def first(self) -> Mapping[str, str]:
        """By node, the piece that its work begins with."""
        return {w.node: w.piece.name for w in reversed(self.work)}

    @cached_property
    def judges(self) -> Mapping[tuple[str, str], Judges]:
        """By the piece that makes models, whose yes these need."""
        return judges_of(self.work)

    @cached_property
    def identities(self) -> Mapping[str, str]:
        """By node, a digest of all that it says."""
        return {name: node.identity() for name, node in self.nodes.items()}

    def node(self, name: str) -> NodeSpec:
        return self.nodes[name]

    def priority_of(self, node: str) -> int:
        own = self.nodes[node].priority
        return self.priority if own is None else own

    @property
    def name(self) -> str:
        return self.pipeline

    @cached_property
    def inputs(self) -> Mapping[str, ExampleGenSpec]:
        """The nodes that read spans from storage."""
        return {name: node for name, node in self.nodes.items() if isinstance(node, ExampleGenSpec)}

    @cached_property
    def calendars(self) -> Mapping[str, Calendar]:
        """By node, how the spans are numbered that it works on."""
        return {w.node: w.calendar for w in reversed(self.work)}

    @property
    def modules(self) -> tuple[str, ...]:
        """The user's module files."""
        return tuple(sorted({w.module for w in self.work if w.module}))

    @property
    def files(self) -> tuple[str, ...]:
        """Files from outside whose content matters."""
        return tuple(sorted({path for w in self.work for path in w.piece.files.values()}))

    @property
    def code_deps(self) -> frozenset[str]:
        """Those of `files` that count as code only, and not as what is taken in as well."""
        taken = {path for w in self.work if not w.piece.uses_module for path in w.piece.files.values()}
        return frozenset(self.files) - taken

    @property
    def packages(self) -> tuple[str, ...]:
        """Installed packages whose versions matter."""
        return tuple(sorted({name for w in self.work for name in w.piece.packages}))

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(sorted({w.piece.target for w in self.work if w.piece.target}))
