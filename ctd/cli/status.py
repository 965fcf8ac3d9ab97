"""`ctd status`: all there is to know at a glance, and an exit code for scripts."""

from __future__ import annotations

import sys
import time

import click
from rich.live import Live

from ctd.api.models import StatusView
from ctd.cli import render
from ctd.cli.answers import Answers, answers
from ctd.cli.options import as_json, folders
from ctd.core.errors import StoreUnavailable
from ctd.core.timing import SystemClock
from ctd.core.troubles import Trouble
from ctd.daemon.lock import held, owner_of
from ctd.daemon.troubles import trouble_views
from ctd.specs.settings import Settings
from ctd.storage.layout import StateDir

_EVERY = 1.0  # seconds between looks with --watch


@click.command()
@click.argument("pipeline", required=False)
@folders
@click.option("--watch", is_flag=True, help="Show it until Ctrl-C, as it changes.")
@as_json
def status(settings: Settings, pipeline: str | None, watch: bool, in_json: bool) -> int:
    """What is up to date, what runs, what waits and why, what is live on every target.

    Asks the daemon; without one, says what the state directory knows and what a daemon would do.

    \b
    Exit codes: 1 the daemon is in trouble (its store, disk or log), or something
    failed; 2 a spec or an edit of one is invalid; 3 something is blocked or waits
    for someone; 0 all is as wanted, or ctd is at work on it. Of several: trouble,
    then 2, 1 and 3.
    """
    if not watch:
        view = _once(settings, pipeline)
        if in_json:
            click.echo(view.model_dump_json(indent=2))
        else:
            render.show(render.status(view, SystemClock().now(), offline(settings)))
        return exit_code(view)
    if in_json or not sys.stdout.isatty():
        raise click.UsageError("--watch is for terminals; scripts ask again, or read `ctd run --log-format json`")
    _watch(settings, pipeline)
    return 0


def exit_code(view: StatusView) -> int:
    """1 the daemon is in trouble, 2 invalid, 1 failed, 3 waiting, 0 as wanted; the first that applies."""
    if view.troubles:
        return 1
    found = [*view.problems, *(p for pipeline in view.pipelines for p in pipeline.problems)]
    if any(not p.warning for p in found):
        return 2
    states = {pipeline.state for pipeline in view.pipelines}
    return 1 if "failed" in states else 3 if "waiting" in states else 0


def offline(settings: Settings) -> str:
    """What to say when no daemon answers."""
    lock = StateDir(settings.state).lock
    if held(lock):
        pid = owner_of(lock)
        who = f"daemon (pid {pid})" if pid else "daemon"
        return f"A {who} works on {settings.state}, but cannot be asked. This is what the directory knows."
    there = "this is what it knows" if settings.state.exists() else "it does not exist yet"
    return f"No daemon works on {settings.state}; {there}. `ctd run` starts one."


def _watch(settings: Settings, pipeline: str | None) -> None:
    clock = SystemClock()
    with Live(console=render.console(), auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        while True:
            view = _once(settings, pipeline)
            live.update(render.status(view, clock.now(), offline(settings)), refresh=True)
            time.sleep(_EVERY)


def _once(settings: Settings, pipeline: str | None) -> StatusView:
    source: Answers
    try:
        with answers(settings) as source:
            return source.status(pipeline)
    except StoreUnavailable as error:  # without a daemon: of pipelines nothing can be said
        return StatusView(daemon=None, troubles=trouble_views([Trouble(error.fault)]), pipelines=[])
