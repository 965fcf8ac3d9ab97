"""The metrics of two models side by side: on the same examples where they were ever measured together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ctd.api.lineage import MetricDifferenceView
from ctd.core.artifacts import Artifact
from ctd.core.history import History
from ctd.planning.lineage import evaluations
from ctd.storage.evaluations import BASELINE, CANDIDATE, Measured, read_metrics

_Slices = Mapping[str, Measured]  # by label


@dataclass(frozen=True)
class _Pair:
    before: _Slices
    after: _Slices
    same_examples: bool


def compared_metrics(
    history: History, before: Artifact, after: Artifact
) -> tuple[list[MetricDifferenceView], list[str]]:
    """What each evaluator measured of both models; and of evaluators without such numbers, why there are none."""
    old, new = evaluations(history, before), evaluations(history, after)
    found: list[MetricDifferenceView] = []
    missing: list[str] = []
    for node in dict.fromkeys((*new, *old)):
        then, now = old.get(node), new.get(node)
        pair = _pair(before, then[1] if then else None, after, now[1] if now else None)
        gone = [m for m, rows in ((before, pair.before), (after, pair.after)) if not rows]
        if len(gone) < 2:
            found += _differences(node, pair)
        missing += [_why(node, m, (then if m is before else now) is not None) for m in gone]
    if not old and not new:
        missing.append("neither model was evaluated")
    return sorted(found, key=lambda d: d.slice != "overall"), missing


def _pair(before: Artifact, then: Artifact | None, after: Artifact, now: Artifact | None) -> _Pair:
    """The numbers of both, from the evaluation of one of them if the other was its baseline."""
    mine = _rows(now)
    if now is not None and now.properties.get("baseline_model_id") == before.id and mine.get(BASELINE):
        return _Pair(mine[BASELINE], mine.get(CANDIDATE, {}), same_examples=True)
    its = _rows(then)
    if then is not None and then.properties.get("baseline_model_id") == after.id and its.get(BASELINE):
        return _Pair(its.get(CANDIDATE, {}), its[BASELINE], same_examples=True)
    return _Pair(its.get(CANDIDATE, {}), mine.get(CANDIDATE, {}), same_examples=False)


def _rows(evaluation: Artifact | None) -> Mapping[str, _Slices]:
    found: dict[str, dict[str, Measured]] = {}
    for row in read_metrics(evaluation.uri) if evaluation else ():
        found.setdefault(row.model, {})[row.label] = row
    return found


def _differences(node: str, pair: _Pair) -> Iterator[MetricDifferenceView]:
    for label in dict.fromkeys((*pair.after, *pair.before)):
        then, now = pair.before.get(label), pair.after.get(label)
        for metric in dict.fromkeys((*(now.metrics if now else ()), *(then.metrics if then else ()))):
            yield MetricDifferenceView(
                node=node,
                slice=label,
                metric=metric,
                before=then.metrics.get(metric) if then else None,
                after=now.metrics.get(metric) if now else None,
                examples_before=then.examples if then else None,
                examples_after=now.examples if now else None,
                same_examples=pair.same_examples,
            )


def _why(node: str, model: Artifact, evaluated: bool) -> str:
    how = "the files of its evaluation are gone" if evaluated else "it was not evaluated there"
    return f"{node}: no metrics of model #{model.id}: {how}"
