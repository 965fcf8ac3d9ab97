"""`ctd gc`: remove results that need not stay, or say which they are."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ctd.api.lineage import RetentionView
from ctd.api.unixsocket import NoDaemon, listens
from ctd.cli import render_lineage
from ctd.cli.answers import Daemon, answers, pipelines
from ctd.cli.options import as_json, folders
from ctd.cli.render import show
from ctd.cli.text import clean
from ctd.daemon.offline import supposing
from ctd.specs.settings import Settings
from ctd.storage.layout import StateDir


@click.command()
@click.argument("pipeline", required=False)
@folders
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option(
    "--spec", "file", type=click.Path(path_type=Path), help="With --dry-run: suppose that this file were in force."
)
@click.option(
    "--gone", is_flag=True, help="Remove what nodes made that the spec has no longer; of a pipeline without one, all."
)
@as_json
def gc(settings: Settings, pipeline: str | None, dry_run: bool, file: Path | None, gone: bool, in_json: bool) -> int:
    """Remove results of PIPELINE (or of all) that `keep:` of their nodes does not ask for and that nothing needs.

    The daemon does the same by itself whenever a pipeline comes to rest. What stays in any case: what the current
    plan uses, what runs use, models on targets, the latest blessed model and all it was made of.

    What a node made that was renamed or taken out, and a pipeline whose spec was removed, stays until you say --gone
    and its PIPELINE: a spec may come back. Versions on targets are copies and stay in any case.

    \b
    JSON: {"pipelines": [{"pipeline", "keeps", "removed", "results": [...], "notes": [...]}], "notes": [...]}
    """
    if file and not dry_run:
        raise click.UsageError("--spec supposes: say --dry-run too; saving the file in its folder is what counts")
    if gone and (pipeline is None or file):
        raise click.UsageError("--gone is for one PIPELINE as it is: name it, without --spec")
    if file:
        view = supposing(settings, pipeline, file=file).removes
        return _say([view] if view else [], [], in_json=in_json)
    socket = StateDir(settings.state).socket
    if not dry_run and not listens(socket):
        raise NoDaemon("no daemon runs, and it alone removes results", hint="Start `ctd run`, or say --dry-run.")
    with answers(settings) as source:
        known = None if gone else pipelines(source, pipeline)
        names = [p.pipeline for p in known.pipelines] if known else [pipeline or ""]
        views = [source.removable(n, gone=gone) if dry_run else Daemon(socket).collect(n, gone=gone) for n in names]
    notes = known.notes if known else []
    if gone and not views[0].results:
        notes = [f"{pipeline}: nothing is left of what its spec has no longer."]
        views = views if in_json else []
    return _say(views, notes, in_json=in_json)


def _say(views: list[RetentionView], notes: list[str], *, in_json: bool) -> int:
    if in_json:
        said = ", ".join(view.model_dump_json() for view in views)
        click.echo(f'{{"pipelines": [{said}], "notes": {json.dumps(notes)}}}')
    else:
        for view in views:
            show(render_lineage.retention(view))
        for note in notes:
            click.echo(clean(note))
    return 0
