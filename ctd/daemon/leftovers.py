"""What there is to say of results that stay although nobody asks for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from ctd.core.history import History
from ctd.planning.decisions import Plan
from ctd.planning.retention import orphaned, unasked
from ctd.specs.pipeline import PipelineSpec


def staying(spec: PipelineSpec, made: Plan | None, history: History, pushed: Mapping[str, int]) -> Iterator[str]:
    """Of one pipeline: what `keep` cannot let go of, and what nodes made that are no longer there."""
    if made is None:
        return
    for found in unasked(spec, made, history):
        start = spec.inputs[found.root].calendar.say(found.start)
        said = f"{_results(found.results)} beyond `keep`, as the data of their spans is there"
        yield f"{found.node}: {said}: remove it, or write `start: {start}` at {found.root}"
    nodes = Counter(c.execution.node for c in orphaned(spec.name, spec, made, history, pushed))
    for node, results in sorted(nodes.items()):
        what = "target" if node in spec.nodes else "node"
        said = f"{node}: {_results(results)}, though the spec has no such {what} any more"
        yield f"{said}: `ctd gc {spec.name} --gone` removes them"


def _results(many: int) -> str:
    return f"{many} results stay" if many > 1 else "1 result stays"


def without_spec(wanted: Mapping[str, PipelineSpec], history: History) -> Iterator[str]:
    """The pipelines that nobody wants any more, and that have results on disk."""
    for pipeline in sorted(history.pipelines()):
        if pipeline not in wanted and any(True for _ in orphaned(pipeline, None, None, history, {})):
            said = f"{pipeline} has no spec any more; its results stay"
            yield f"{said}: `ctd gc {pipeline} --gone` removes them"
