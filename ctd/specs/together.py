"""What only shows when files are looked at together: metrics that nobody measures, pools that nobody declares."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_args

from ctd.specs.document import Document
from ctd.specs.evaluator import EvaluatorSpec
from ctd.specs.hints import did_you_mean, listed
from ctd.specs.metric_names import ALWAYS_MEASURED
from ctd.specs.nodes import AnyNode, PusherSpec
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.problems import Problem
from ctd.specs.targets import AnyTarget, ConvertedTarget

_USUAL = {kind.usual_pool for kind in get_args(get_args(AnyNode)[0])} - {""}


def unknown_pools(pipeline: PipelineSpec, document: Document, declared: Collection[str]) -> Iterator[Problem]:
    """Warnings: a pool that nobody declared limits nothing, which is most often a slip of the pen."""
    known = sorted({*declared, *_USUAL})
    for node, spec in pipeline.nodes.items():
        if spec.pool is not None and spec.pool not in known:
            message = f"nobody declared the pool {spec.pool!r}: it limits nothing"
            hint = (
                f"{did_you_mean(spec.pool, known)}Pools are {listed(known)}; "
                f"`ctd run --pool {spec.pool}=1` or CTD_POOLS={spec.pool}=1 declares it."
            )
            yield document.problem(("nodes", node, "pool"), message, hint, warning=True)


def unmeasured_metrics(
    target: AnyTarget, document: Document, pipelines: Iterable[tuple[str, PipelineSpec]]
) -> Iterator[Problem]:
    """Warnings at the target's line, for each pipeline (and its file) that pushes there: its pushes would fail.

    Pipelines that measure them may push there as well, so it is no error of the target.
    """
    metrics = target.parity.metrics if isinstance(target, ConvertedTarget) else {}
    for file, pipeline in pipelines if metrics else ():
        for spec in pipeline.nodes.values():
            if not isinstance(spec, PusherSpec) or target.target not in spec.targets:
                continue
            evaluators = _evaluators(pipeline, spec)
            measured = {node: {*own.numbers_of_one_model, *ALWAYS_MEASURED} for node, own in evaluators.items()}
            for name in metrics:
                if name not in {m for those in measured.values() for m in those}:
                    asked = any(name in own.metrics for own in evaluators.values())
                    what = f"{name} as one number of one model" if asked else name
                    message = f"{pipeline.name} pushes here, and {_nobody(measured)} {what}: its pushes would fail"
                    hint = "Take it out." if asked else _way_out(name, measured, Path(file).name)
                    yield document.problem(("parity", "metrics", name), message, hint, warning=True)


def _evaluators(pipeline: PipelineSpec, pusher: PusherSpec) -> Mapping[str, EvaluatorSpec]:
    """The evaluators that the pusher may be given an evaluation of."""
    said = pusher.inputs.get("evaluation", "").partition(".")[0]
    found = {name: spec for name, spec in pipeline.nodes.items() if isinstance(spec, EvaluatorSpec)}
    return {name: spec for name, spec in found.items() if said in ("", name)}


def _nobody(measured: Mapping[str, Collection[str]]) -> str:
    if not measured:
        return "has no evaluator that could measure"
    return f"{next(iter(measured))} does not measure" if len(measured) == 1 else "none of its evaluators measures"


def _way_out(name: str, measured: Mapping[str, Collection[str]], file: str) -> str:
    if not measured:
        return f"Add an evaluator to {file}, or take the metric out."
    known = sorted({m for those in measured.values() for m in those})
    add = f"Add {name} to `metrics:` of {listed(measured, 'or')} in {file}, without limits if need be."
    return f"Measured {'is' if len(known) == 1 else 'are'} {listed(known)}. {add}"
