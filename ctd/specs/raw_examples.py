"""Trainers beside a transform that writes no examples: which spans they are given must be said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ctd.specs.base import Complaint, NodeSpec
from ctd.specs.nodes import TrainerSpec
from ctd.specs.transform import TransformSpec
from ctd.specs.wired import WiredPiece


def about_raw_examples(work: Sequence[WiredPiece], nodes: Mapping[str, NodeSpec]) -> Iterator[Complaint]:
    """Without a window a trainer takes all that its transform made: here that is nothing, and one span is not meant."""
    for wired in work:
        node, source = nodes[wired.node], wired.sources.get("transform_graph")
        maker = nodes[source.node] if source else None
        if not isinstance(node, TrainerSpec) or not isinstance(maker, TransformSpec) or not source:
            continue
        if node.window is None and not maker.materialize:
            yield Complaint(
                f"{wired.node} needs a window: {source.node} writes no examples for it (materialize: false)",
                f"Say how many spans it trains on: usually as many as {source.node} analyses.",
                ("nodes", wired.node),
            )
