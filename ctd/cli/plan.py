"""`ctd plan`: what would be done now, and why."""

from __future__ import annotations

from pathlib import Path

import click

from ctd.cli import render
from ctd.cli.answers import answers, pipelines
from ctd.cli.options import as_json, folders, given_flags
from ctd.cli.status import offline
from ctd.core.calendars import NotASpan, SpanRef, span_ref
from ctd.daemon.offline import supposing
from ctd.specs.drafts import project_of
from ctd.specs.settings import Settings


@click.command()
@click.argument("pipeline", required=False)
@folders
@click.option("--all", "everything", is_flag=True, help="Every decision, also the many that reuse a result.")
@click.option("--forecast", "forecast", is_flag=True, help="All that would follow, with what it usually takes.")
@click.option("--spec", "file", type=click.Path(path_type=Path), help="Suppose that this file were in force.")
@click.option(
    "--with-span",
    "spans",
    multiple=True,
    metavar="SPAN",
    help="Suppose that this span had arrived: 42, 2024-03-01, 2024-03-01T23 or 42.v2; of one that is there, the next "
    "version, or new content where there are no versions.",
)
@click.option("--input", "node", metavar="NODE", help="The input that it arrived in, where there are several.")
@as_json
def plan(  # noqa: PLR0913, PLR0917 - one argument for each option
    settings: Settings,
    pipeline: str | None,
    everything: bool,
    forecast: bool,
    file: Path | None,
    spans: tuple[str, ...],
    node: str | None,
    in_json: bool,
) -> int:
    """What would be done now, and why: run, reuse, wait or blocked, for every piece of work.

    Asks the daemon; without one, looks at data, specs and the state directory itself. Changes nothing either way.
    A state directory that does not exist is an empty one.

    \b
    JSON of one pipeline (named, or the only one there is):
      {"pipeline": ..., "decisions": [{"node", "key", "action", "because", ...}]}
    of several: {"pipelines": [...]} with one such object each.
    With --forecast, --spec or --with-span also "forecast": [{"node", "key", "because", "seconds"}], "seconds", and
    "held": decisions that would wait or be blocked even then.
    Exit codes: 0 whatever the plan says, `ctd status` judges; 2 what is supposed cannot be, or would change nothing.
    """
    if node and not spans:
        raise click.UsageError("--input says where --with-span arrived: name that too")
    if forecast or file or spans:
        settings = project_of(file, settings, given_flags()) if file else settings
        supposed = supposing(settings, pipeline, file=file, spans=[_span(text) for text in spans], node=node or "")
        if in_json:
            click.echo(supposed.model_dump_json(indent=2))
        else:
            render.show(render.forecast(supposed))
        return 0
    with answers(settings) as source:
        known = pipelines(source, pipeline)
        plans = [source.plan(p.pipeline) for p in known.pipelines]
    if in_json:
        one = len(plans) == 1
        click.echo(plans[0].model_dump_json(indent=2) if one else _several([p.model_dump_json() for p in plans]))
        return 0
    if known.daemon is None:
        click.echo(offline(settings), err=True)
    if known.problems:
        click.echo(f"{len(known.problems)} problems in other files: see `ctd validate`.", err=True)
    if not plans:
        click.echo(f"No pipelines in {settings.specs}.", err=True)
    for view in plans:
        render.show(render.plan(view, everything=everything))
    return 0


def _span(text: str) -> SpanRef:
    try:
        return span_ref(text)
    except NotASpan as error:
        raise click.BadParameter(f"{error}. {error.hint}".strip(), param_hint="--with-span") from error


def _several(plans: list[str]) -> str:
    return f'{{"pipelines": [{", ".join(plans)}]}}'
