"""Hands a blessed model over to one target and has the server behind it confirm that it answers.

The artifact it makes is a note of what was pushed where (`pushed.json`); the model itself is at the target.
"""

from __future__ import annotations

import json
from pathlib import Path

from ctd.components.api import SERVING_DIR, STAMPED_MODEL_DIR, Outputs, Work
from ctd.components.parity import Refused
from ctd.components.pushes import push_converted, push_to_hub
from ctd.components.served_target import labels_of, patience_with
from ctd.core.artifacts import Value
from ctd.core.errors import BadInput
from ctd.core.fingerprints import digest_of
from ctd.core.timing import SystemClock
from ctd.core.work import Made
from ctd.deploy.target import Candidate, ModelServer, Pushed
from ctd.deploy.tf_serving import TfServing
from ctd.deploy.tfjs import Tfjs
from ctd.deploy.tflite import Tflite
from ctd.specs.nodes import PusherSpec
from ctd.specs.targets import AnyTarget, HubTarget, Server, TfjsTarget, TfliteTarget, TfServingTarget, read_target


def run(work: Work) -> Outputs:
    """Push the model, or find it already there; say which version it is and whether the server serves it."""
    for what in work.spec(PusherSpec).require:
        for key in _every(work, f"{what}_blessing"):
            _check_blessed(work, key)
    target: AnyTarget = read_target(work.request.target)
    model, output = work.input("model"), work.output("pushed_model")
    work.progress(f"pushing model #{model.id} to {target.base_path(work.request.pipeline)}")
    try:
        pushed = _push(work, target, output)
    except Refused as refused:
        return {"pushed_model": [_not_pushed(work, target, output, refused.report.reason)]}
    note = {
        "target": target.target,
        "destination": str(pushed.path),
        "version": pushed.version,
        "model": model.uri,
        "model_id": model.id,
        "verified": pushed.verified,
        "note": pushed.note,
        **({"label": pushed.label} if pushed.label else {}),
        **({"uploaded": pushed.uploaded} if pushed.uploaded else {}),
    }
    (output / "pushed.json").write_text(json.dumps(note, indent=2) + "\n")
    said = f"version {pushed.version} {'pushed' if pushed.fresh else 'was already there'}"
    properties: dict[str, Value] = {
        "pushed": 1,
        "pushed_destination": str(pushed.path),
        "pushed_version": pushed.version,
        "verified": int(pushed.verified),
        "model_id": model.id,
        "target": target.target,
        "reason": f"{said}: {pushed.note}" if pushed.note else said,
    }
    if pushed.label:
        properties |= {"label": pushed.label, "trial": int(pushed.trial)}
    properties |= {name: value for name in ("uploaded", "not_uploaded") if (value := getattr(pushed, name))}
    digest = digest_of({"destination": str(pushed.path), "model": model.digest})
    return {"pushed_model": [work.made(output, digest=digest, like=None, **properties)]}


def _push(work: Work, target: AnyTarget, notes: Path) -> Pushed:
    match target:
        case TfServingTarget():
            return _push_to_server(work, target, notes)
        case TfliteTarget():
            return push_converted(work, target, Tflite(target.quantization), notes)
        case TfjsTarget():
            return push_converted(work, target, Tfjs(target.quantization), notes)
        case HubTarget():
            return push_to_hub(work, target)


def _push_to_server(work: Work, target: TfServingTarget, notes: Path) -> Pushed:
    candidate = _candidate(work)
    base = Path(target.base_path(work.request.pipeline))
    labels = labels_of(target, work.request.pipeline, target.canary.label if target.canary else "")
    if target.canary and not candidate.untried:
        from ctd.components.canary_requests import write_requests  # noqa: PLC0415  TensorFlow

        stable = labels.stable() if labels else None
        live = base / str(stable) if stable else None
        # Before anything is pushed: without them nothing can be watched.
        write_requests(work, candidate.path, live, notes)
    return TfServing(
        base,
        keep=target.keep,
        server=_asked(target.server, work, candidate.path) if target.server else None,
        labels=labels,
        patience=patience_with(target.server),
        clock=SystemClock(),
    ).push(candidate)


def _asked(server: Server, work: Work, model: Path) -> ModelServer:
    from ctd.components.asked_server import AskedServer  # noqa: PLC0415  TensorFlow, only where there is a server

    return AskedServer(server, work, model)


def _candidate(work: Work) -> Candidate:
    """The model; as the InfraValidator has stamped it, if it did: what was validated is what ships.

    Stamped again it has other requests and is no other model, so it is known by its recipe, not by its bytes. The
    recipe has the model's content: ids begin anew when the metadata store is lost.
    """
    model = work.input("model")
    blessings = (work.optional(key) for key in _every(work, "infra_blessing"))
    blessing = next((b for b in blessings if b and b.properties.get("has_model")), None)
    if blessing:
        stamped = Path(blessing.uri, STAMPED_MODEL_DIR)
        return Candidate(model.id, stamped, f"stamped:{model.digest}", work.request.untried)
    return Candidate(model.id, Path(model.uri, SERVING_DIR), untried=work.request.untried)


def _not_pushed(work: Work, target: AnyTarget, output: Path, reason: str) -> Made:
    """A verdict with its numbers; the target is as it was."""
    model = work.input("model")
    return work.made(
        output,
        digest=digest_of({"refused": reason, "model": model.digest}),
        pushed=0,
        model_id=model.id,
        target=target.target,
        reason=f"not pushed: {reason}",
    )


def _every(work: Work, key: str) -> list[str]:
    """The inputs that several nodes make of this kind: the first has its plain name."""
    return [key, *(other for other in work.request.inputs if other.startswith(f"{key}."))]


def _check_blessed(work: Work, key: str) -> None:
    """The plan asks for blessings; this is the second lock on the same door."""
    blessing = work.optional(key)
    if blessing is None or not blessing.blessed:
        said = "is missing" if blessing is None else f"says no: {blessing.properties.get('reason', 'no reason given')}"
        raise BadInput(
            f"{work.where}: the {key.replace('_', ' ')} of model #{work.input('model').id} {said}",
            hint="Only blessed models are pushed. `require:` of the pusher says which blessings it needs.",
        )
