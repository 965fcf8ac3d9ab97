"""What only shows when files are looked at together: metrics that nobody measures, pools that nobody declares, folders
that two would push into.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from os.path import normpath
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

_EACH = "Give each target a folder of its own."

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


def twin_paths(
    targets: Mapping[str, AnyTarget], documents: Mapping[str, Document], in_force: Mapping[str, AnyTarget]
) -> Iterator[Problem]:
    """Errors at the path of each target that is another's already. What is in force was there first, then by file."""
    owners: dict[str, AnyTarget] = {}
    for file, target in sorted(targets.items(), key=lambda item: (in_force.get(item[0]) != item[1], item[0])):
        owner = owners.setdefault(normpath(target.path), target)
        if owner is not target and file in documents:
            yield documents[file].problem(("path",), f"it is the path of target {owner.target!r} as well", _EACH)


@dataclass(frozen=True)
class _Push:
    """What one pusher hands to one target, and which of the two files say what they said before."""

    pipeline: str
    file: str
    place: tuple[str | int, ...]
    target: AnyTarget
    target_file: str
    kept: tuple[bool, bool]

    @property
    def base(self) -> str:
        return normpath(self.target.base_path(self.pipeline))


def shared_paths(
    pipelines: Mapping[str, PipelineSpec],
    targets: Mapping[str, AnyTarget],
    documents: Mapping[str, Document],
    in_force: tuple[Mapping[str, PipelineSpec], Mapping[str, AnyTarget]],
) -> Iterator[Problem]:
    """Errors where versions of two pipelines would go to one folder: each would push again over the other for ever.

    Whoever was there first goes on: what is in force, then by file. The file at fault is the one that changed, of a
    pipeline before a target's, so that the other pipelines that push there go on too.
    """
    owners: dict[str, _Push] = {}
    pushes = list(_pushes(pipelines, targets, in_force))
    for push in sorted(pushes, key=lambda p: (p.kept != (True, True), p.file, p.place)):
        owner = owners.setdefault(push.base, push)
        file, place = (push.target_file, ("path",)) if push.kept == (True, False) else (push.file, push.place)
        if owner is not push and file in documents:
            yield documents[file].problem(place, *_collision(owner, push))


def _pushes(
    pipelines: Mapping[str, PipelineSpec],
    targets: Mapping[str, AnyTarget],
    in_force: tuple[Mapping[str, PipelineSpec], Mapping[str, AnyTarget]],
) -> Iterator[_Push]:
    by_name = {target.target: (file, target) for file, target in targets.items()}
    for file, pipeline in pipelines.items():
        for node, spec in pipeline.nodes.items():
            for i, name in enumerate(spec.targets if isinstance(spec, PusherSpec) else ()):
                if name in by_name:
                    target_file, target = by_name[name]
                    kept = (in_force[0].get(file) == pipeline, in_force[1].get(target_file) == target)
                    yield _Push(pipeline.name, file, ("nodes", node, "targets", i), target, target_file, kept)


def _collision(owner: _Push, push: _Push) -> tuple[str, str]:
    """What is wrong with a push to where another one goes, and what to do about it."""
    where = f"{push.base}, where {owner.pipeline} pushes"
    if owner.target is push.target:
        hint = f"Write {{pipeline}} into `path:` of {Path(push.target_file).name}: each then has a folder of its own."
        return f"{push.pipeline} would push to {where}: each would take the other's place again and again", hint
    return f"{push.pipeline} would push to {where} as target {owner.target.target!r}", _EACH
