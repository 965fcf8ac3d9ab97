"""`ctd explain`: why something ran, was reused or waits, and how it went."""

from __future__ import annotations

import click

from ctd.api.models import ExplainView, View
from ctd.api.times import TimesView
from ctd.cli import render, render_explain, render_times
from ctd.cli.answers import answers
from ctd.cli.options import as_json, folders
from ctd.core.timing import SystemClock
from ctd.specs.settings import Settings


@click.command()
@click.argument("pipeline")
@click.argument("node", required=False)
@folders
@click.option("--execution", type=click.IntRange(min=1), metavar="N", help="Only this execution, however old.")
@click.option("--time", "in_time", is_flag=True, help="Where the seconds of the last push went, or of --execution.")
@as_json
def explain(  # as click wants it
    settings: Settings, pipeline: str, node: str | None, execution: int | None, in_time: bool, in_json: bool
) -> int:
    """Why the nodes of PIPELINE (or one NODE) ran, were reused or wait, and how the latest executions went.

    The reasons are followed to what set the work off: a span, an edit, a person; with --execution for work of long
    ago, too. Of a NODE also why work does not run, and which spans its window goes without.

    \b
    JSON: {"pipeline", "node", "decisions": [...], "executions": [...], "ingredients", "causes", "why_not"}
    with executions oldest first, and what the node's latest was made of; causes and why_not are trees:
    {"kind", "said", "node", "execution", "before", "after", ..., "causes": [...]}.

    \b
    With --time: from the arrival of the span to the live version: which executions waited for one another, what
    each did with its time, what ran beside them, and what would have made it shorter.
    JSON: {"pipeline", "execution", "seconds", "steps": [{"node", "start", "end", "phases", "critical", "slack",
    "gain"}], "shorter"}, in seconds since the beginning.
    """
    if in_time and node is not None:
        raise click.UsageError("--time is about a whole pipeline: leave out the node, or name an --execution of it.")
    with answers(settings) as source:
        view: View = source.times(pipeline, execution) if in_time else source.explain(pipeline, node, execution)
    if in_json:
        click.echo(view.model_dump_json(indent=2))
    elif isinstance(view, TimesView):
        render.show(render_times.times(view))
    elif isinstance(view, ExplainView):
        render.show(render_explain.explain(view, SystemClock().now()))
    return 0
