"""Judges an evaluation against the limits of the spec: the blessing. Reads numbers, computes none; no TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ctd.components.api import Outputs, Work, is_about
from ctd.components.judgement import Row, judge
from ctd.core.artifacts import Artifact, Value
from ctd.core.errors import BadInput
from ctd.core.fingerprints import digest_of
from ctd.specs.evaluator import EvaluatorSpec
from ctd.storage.evaluations import METRICS_FILE


def run(work: Work) -> Outputs:
    """Write BLESSED or NOT_BLESSED as TFX does, and `verdict.json` with every check that led there."""
    spec = work.spec(EvaluatorSpec)
    model, evaluation = work.input("model"), work.input("evaluation")
    _check_evaluated(work, model, evaluation)
    rows = _rows(evaluation)
    candidate = [row for name, row in rows if name != "baseline"]
    baseline = [row for name, row in rows if name == "baseline"] or None
    verdict = judge(spec.metrics, candidate, baseline, str(evaluation.properties.get("baseline_skipped", "")))

    output = work.output("blessing")
    (output / ("BLESSED" if verdict.blessed else "NOT_BLESSED")).touch()
    said = {
        **asdict(verdict),
        "model_id": model.id,
        "baseline_model_id": evaluation.properties.get("baseline_model_id"),
    }
    (output / "verdict.json").write_text(json.dumps(said, indent=1) + "\n")
    properties: dict[str, Value] = {
        "blessed": int(verdict.blessed),
        "current_model": model.uri,
        "current_model_id": model.id,
        "component_id": work.request.node,
        "reason": verdict.reason,
    }
    if baseline:
        for key in ("baseline_model", "baseline_model_id"):
            properties[key] = evaluation.properties[key]
    # Judged again with other limits and the same answer, nothing downstream has to run.
    digest = digest_of({"blessed": verdict.blessed, "model": model.digest})
    return {"blessing": [work.made(output, digest=digest, like=None, **properties)]}


def _check_evaluated(work: Work, model: Artifact, evaluation: Artifact) -> None:
    """The plan gives a model its own evaluation; this is the second lock on the same door."""
    if not is_about(evaluation, model):
        named = evaluation.properties.get("current_model_id", "unknown")
        raise BadInput(
            f"{work.where}: evaluation #{evaluation.id} is of model #{named}, not of model #{model.id}",
            hint=f"`ctd run-now {work.request.pipeline} {work.request.node} --again` evaluates the model.",
        )


def _rows(evaluation: Artifact) -> Sequence[tuple[str, Row]]:
    path = Path(evaluation.uri, METRICS_FILE)
    try:
        said: list[dict[str, Any]] = json.loads(path.read_text())
        return [
            (
                str(row["model"]),
                Row(
                    slice=tuple((str(feature), str(value)) for feature, value in row["slice"]),
                    metrics={str(name): value for name, value in row["metrics"].items()},
                    examples=int(row["examples"]),
                ),
            )
            for row in said
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} cannot be read: {type(error).__name__}: {error}",
            hint="The evaluation's files are gone or damaged: ctd makes them anew when the evaluator runs again.",
        ) from error
