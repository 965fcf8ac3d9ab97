"""`ctd lineage`: where a model came from, what a span went into, why two models differ."""

from __future__ import annotations

from typing import Any

import click

from ctd.api.lineage import LineageQuery
from ctd.cli import render_lineage
from ctd.cli.answers import answers
from ctd.cli.options import as_json, folders
from ctd.cli.render import show
from ctd.core.timing import SystemClock
from ctd.specs.settings import Settings


@click.command()
@click.argument("pipeline")
@click.argument("target", required=False, default="")
@folders
@click.option("--version", metavar="N", default="", help="This version, or a model as #17.  [default: the newest push]")
@click.option("--span", metavar="SPAN", help="Forward: everything that this span went into: 42, 2026-11-29T23.")
@click.option("--diff", nargs=2, metavar="A B", default=("", ""), help="Why model B differs from A: versions, or #17.")
@click.option("--deep", is_flag=True, help="Also through the models that it started from or was compared with.")
@as_json
def lineage(settings: Settings, pipeline: str, in_json: bool, diff: tuple[str, str], **said: Any) -> int:
    """Back from a version of PIPELINE on TARGET: the model, its verdicts, the training with settings and code, and
    the spans with their contents. Forward from a span with --span; between two models with --diff.

    \b
    Examples:
      ctd lineage taxi                       # what is served, and why it is as it is
      ctd lineage taxi serving --version 3
      ctd lineage taxi --span 42             # every model and version that span 42 reached
      ctd lineage taxi --diff 3 4            # why version 4 differs from version 3
    """
    if sum([bool(said["version"]), said["span"] is not None, any(diff)]) > 1:
        raise click.UsageError("say only one of --version, --span and --diff")
    asked = LineageQuery(before=diff[0], after=diff[1], **said)
    with answers(settings) as source:
        view = source.lineage(pipeline, asked)
    if in_json:
        click.echo(view.model_dump_json(indent=2))
    else:
        show(render_lineage.rendered(view, SystemClock().now()))
    return 0
