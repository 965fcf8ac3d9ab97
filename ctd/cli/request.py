"""`ctd request`: a request that the live model of a pipeline answers, ready to be pasted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ctd.api.lineage import LineageQuery, LineageView
from ctd.api.models import LiveView
from ctd.cli import render_request
from ctd.cli.answers import Answers, answers
from ctd.cli.options import as_json, folders
from ctd.core.errors import ComponentFailed, CtdError, NotFound, NotPossible
from ctd.specs.hints import did_you_mean, listed
from ctd.specs.load import load_folder
from ctd.specs.settings import Settings
from ctd.specs.targets import Server, TfServingTarget

_MAKER = "ctd.components.first_request"
_PATIENCE = 120  # seconds; it takes a fraction of one, and a disk may be slow
_MODEL, _SCHEMA_FILE = "Format-Serving", "schema.pbtxt"  # within artifacts, as TFX lays them out
_REST, _GRPC = "127.0.0.1:8501", "127.0.0.1:8500"


@click.command()
@click.argument("pipeline")
@folders
@click.option("--row", metavar="JSON", help="Values by column; what is not said is taken from a real example.")
@click.option("--target", metavar="TARGET", default="", help="Of several that are served, this one.")
@click.option("--signature", metavar="NAME", default="", help="Another one of the model's.  [default: serving_default]")
@click.option("--rest", metavar="HOST:PORT", default=_REST, show_default=True, help="Where the server takes REST.")
@click.option("--grpc", metavar="HOST:PORT", default="", help="... and gRPC.  [default: as the target's file says]")
@as_json
def request(  # noqa: PLR0913, PLR0917 - one argument for each option
    settings: Settings,
    pipeline: str,
    row: str | None,
    target: str,
    signature: str,
    rest: str,
    grpc: str,
    in_json: bool,
) -> int:
    """Print a request that the live model of PIPELINE answers: for REST with curl, for gRPC in Python.

    The model's signature says what it takes: serialized tf.Examples, or tensors. Of a tf.Example the model's own graph
    says which columns it reads, of what type, and which it cannot do without. Values are those of --row; a column that
    it does not name is filled from a real example of the newest span that the model was made of, and null leaves one
    out. Nothing is sent. The daemon need not run.

    \b
    Examples:
      ctd request taxi                                       # a real example
      ctd request taxi --row '{"fare": 12.5, "company": "Blue Ribbon"}'
      ctd request taxi --json | jq -r .curl | sh             # ask right away
    JSON: {"pipeline", "target", "version", "model", "signature", "row", "filled", "notes", "curl", "python",
           "rest": {"url", "body"}}
    Exit codes: 1 nothing is served yet; 2 no such pipeline, target, signature or column, or --row is no JSON.
    """
    said = _row(row)
    with answers(settings) as source:
        live = _live(source, pipeline, target)
        lineage = source.lineage(pipeline, LineageQuery(version=f"#{live.model}"))
    assert isinstance(lineage, LineageView)  # noqa: S101 - what was asked for
    made = _made({**_question(live, lineage), "signature": signature, "row": said})
    server = _server(settings, live.target)
    view = render_request.request_view(
        pipeline, live, made, server, {"rest": rest, "grpc": grpc or (server.grpc if server else _GRPC)}
    )
    if in_json:
        click.echo(view.model_dump_json(indent=2))
    else:
        click.echo(render_request.text(view), nl=False)
    return 0


def _row(text: str | None) -> Mapping[str, Any] | None:
    if text is None:
        return None
    try:
        said = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise click.UsageError(
            f"""--row is no JSON ({error}): write for instance '{{"price": 20, "city": "Ulm"}}'"""
        ) from error
    if not isinstance(said, dict):
        raise click.UsageError("""--row is to be an object of columns: '{"price": 20, "city": "Ulm"}'""")
    return said


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _live(source: Answers, pipeline: str, target: str) -> LiveView:
    """The target that is asked. Raises NotFound, or NotPossible where nothing is served."""
    (view,) = source.status(pipeline).pipelines
    known = [live.target for live in view.live]
    if target and target not in known:
        hint = f"{did_you_mean(target, known)}Targets: {listed(known)}."
        raise NotFound(f"{pipeline} pushes to no target {target!r}", hint=hint)
    asked = [live for live in view.live if live.target == target] or view.live
    served = [live for live in asked if live.kind == "tf_serving"]
    if not served:
        names = ", ".join(f"{live.target} ({live.kind or 'not declared'})" for live in asked) or "none"
        hint = "docs/targets.md says how clients of the other kinds load a model."
        raise NotPossible(f"{pipeline} pushes to no target that a model server serves: {names}", hint=hint)
    found = next((live for live in served if live.version is not None and live.model is not None), None)
    if found is None:
        hint = f"`ctd status {pipeline}` says what it waits for."
        raise NotPossible(
            f"nothing of {pipeline} was pushed to {listed(live.target for live in served)} yet", hint=hint
        )
    return found


def _question(live: LiveView, lineage: LineageView) -> dict[str, Any]:
    """What the maker of requests is to look at: the version as it is served, and what it was made of."""
    executions = {span.execution: span.span for span in lineage.spans}
    read = [step for step in lineage.made if step.execution.execution in executions]
    read.sort(key=lambda step: executions[step.execution.execution], reverse=True)
    examples = [a.uri for step in read for made in step.outputs.values() for a in made if a.type == "Examples"]
    schemas = [a.uri for step in lineage.made for made in step.outputs.values() for a in made if a.type == "Schema"]
    return {
        "models": [str(Path(live.path, str(live.version))), str(Path(lineage.model.uri, _MODEL))],
        "examples": examples,
        "schema": str(Path(schemas[0], _SCHEMA_FILE)) if schemas else "",
        "labels": sorted(_labels(lineage)),
    }


def _labels(lineage: LineageView) -> Iterator[str]:
    """What its evaluators compare the model's answers with, also as it was called before TFT's usual suffix."""
    for step in lineage.judged:
        label = step.ingredients.get("settings", {}).get("label_key")
        if isinstance(label, str):
            yield from {label, label.removesuffix("_xf")}


def _made(question: Mapping[str, Any]) -> dict[str, Any]:
    """The request, made by a process that may import TensorFlow's protos. Raises CtdError."""
    command = [sys.executable, "-m", _MAKER]  # our own interpreter and module
    try:
        done = subprocess.run(  # noqa: S603
            command, input=json.dumps(question), capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        hint = "Look at the disk with the model and its examples, then ask again."
        raise ComponentFailed(f"the request was not made within {_PATIENCE} s", hint=hint) from error
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().rpartition("\n")[2]
        hint = "This is a fault of ctd: please report it."
        raise ComponentFailed(
            f"the request could not be made: {last or f'exit code {done.returncode}'}", hint=hint
        ) from None
    if "error" in said:
        raise _Refused(said)
    return said


class _Refused(CtdError):
    """What the maker said no to."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        super().__init__(said["error"], hint=said["hint"])
        self.exit_code = 2


def _server(settings: Settings, target: str) -> Server | None:
    """The server behind a target, as its file says."""
    found = load_folder(settings.specs, settings.targets, settings.state).targets.values()
    mine = (t for t in found if isinstance(t, TfServingTarget) and t.target == target)
    return next((t.server for t in mine), None)
