"""A model on its way into a model repository: with all that is known about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tensorflow as tf

from ctd.components import declared_ops
from ctd.components.api import SERVING_DIR, Work, is_about
from ctd.components.serving_requests import load_signatures
from ctd.deploy.hub import write_version
from ctd.specs.targets import HubTarget
from ctd.storage.evaluations import METRICS_FILE


def write(work: Work, target: HubTarget, to: Path) -> None:
    """Fill an empty folder with the files of a version."""
    write_version(Path(work.input("model").uri, SERVING_DIR), to, _card(work, target))


def _card(work: Work, target: HubTarget) -> dict[str, Any]:
    model, evaluation = work.input("model"), work.optional("evaluation")
    # An evaluator that waits for its time still offers what it made of the model before.
    own = evaluation if evaluation and is_about(evaluation, model) else None
    metrics = json.loads(Path(own.uri, METRICS_FILE).read_text()) if own else []
    declared_ops.register_blessed(work)
    signatures = load_signatures(str(Path(model.uri, SERVING_DIR)))
    return {
        "handle": f"{target.publisher}/{work.request.pipeline}",
        "digest": model.digest,
        **work.request.story,
        "metrics": metrics,
        "signatures": {
            name: {"inputs": _described(s.inputs), "outputs": _described(s.function.structured_outputs)}
            for name, s in signatures.items()
        },
        "tensorflow": tf.__version__,
    }


def _described(specs: Any) -> dict[str, Any]:
    return {
        name: {
            "dtype": spec.dtype.name,
            "shape": [-1 if size is None else size for size in spec.shape] if spec.shape.rank is not None else None,
        }
        for name, spec in specs.items()
    }
