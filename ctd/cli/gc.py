"""`ctd gc`: remove results that need not stay, or say which they are."""

from __future__ import annotations

import click

from ctd.api.unixsocket import NoDaemon, listens
from ctd.cli import render_lineage
from ctd.cli.answers import Daemon, answers, pipelines
from ctd.cli.options import as_json, folders
from ctd.cli.render import show
from ctd.specs.settings import Settings
from ctd.storage.layout import StateDir


@click.command()
@click.argument("pipeline", required=False)
@folders
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@as_json
def gc(settings: Settings, pipeline: str | None, dry_run: bool, in_json: bool) -> int:
    """Remove results of PIPELINE (or of all) that `keep:` of their nodes does not ask for and that nothing needs.

    The daemon does the same by itself whenever a pipeline comes to rest. What stays in any case: what the current
    plan uses, what runs use, models on targets, the latest blessed model and all it was made of.

    \b
    JSON: {"pipelines": [{"pipeline", "keeps", "removed", "results": [...]}]}
    """
    socket = StateDir(settings.state).socket
    if not dry_run and not listens(socket):
        raise NoDaemon("no daemon runs, and it alone removes results", hint="Start `ctd run`, or say --dry-run.")
    with answers(settings) as source:
        names = [p.pipeline for p in pipelines(source, pipeline).pipelines]
        views = [source.removable(n) if dry_run else Daemon(socket).collect(n) for n in names]
    if in_json:
        click.echo(f'{{"pipelines": [{", ".join(view.model_dump_json() for view in views)}]}}')
    else:
        for view in views:
            show(render_lineage.retention(view))
    return 0
