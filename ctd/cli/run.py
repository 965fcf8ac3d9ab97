"""`ctd run`: the daemon in this process, and its events on standard output."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ctd.cli import render
from ctd.cli.events import handler
from ctd.cli.main import INTERRUPTED
from ctd.cli.status import exit_code
from ctd.core.errors import SpecError
from ctd.core.timing import SystemClock
from ctd.daemon import app
from ctd.observability import Event, log_to
from ctd.specs.settings import Settings

log = logging.getLogger("ctd.cli")


@click.command()
@click.option("--specs", metavar="DIR", help="Pipelines, one YAML each; watched.  [default: specs/]")
@click.option("--targets", metavar="DIR", help="Destinations; watched.  [default: deploy_targets/ beside specs]")
@click.option("--state", metavar="DIR", help="What ctd remembers.  [default: state/ beside specs]")
@click.option("--once", is_flag=True, help="Do all there is to do, say how it ended, and leave.")
@click.option("--parallel", metavar="N", help="Executions at the same time.  [default: 2]")
@click.option(
    "--pool", "pools", metavar="POOL=N", multiple=True, help="Of these, executions of one pool.  [default: train=1]"
)
@click.option("--warm/--no-warm", default=None, help="Keep TensorFlow imported for quick starts.  [default: warm]")
@click.option("--log-format", type=click.Choice(["auto", "plain", "json"]), help="Form of the events.  [default: auto]")
def run(once: bool, **flags: object) -> int:
    """Run the daemon: watch specs and data, do what is missing, say what happens.

    Events go to standard output: a stream with progress on a terminal, single lines elsewhere, JSON lines with
    --log-format json. Files with errors are reported, each problem at its line, and the good ones go on. Ctrl-C or
    SIGTERM stops it, SIGHUP reads the specs again, SIGUSR1 writes to stderr where it is. It waits for a store or a disk
    that is not ready, and `ctd status` says so. Options but --once may be variables: CTD_STATE for --state.

    \b
    Exit codes: 0 as wanted, or stopped; 2 wrong usage; 75 another daemon has
    the state directory. With --once also: 2 some spec is invalid; else 1
    something failed; else 3 something is blocked or waits for someone.
    """
    settings = Settings.resolve(flags)
    if not settings.specs.is_dir():
        raise SpecError(f"there is no folder {settings.specs}", hint="Make it, or name another with --specs.")
    in_json = settings.log_format == "json"
    with _events(settings.log_format):
        ended = app.run(settings, once=once)
        if once and in_json:
            log.info(Event.SUMMARY.value, extra=ended.status.model_dump(mode="json", exclude={"daemon"}))
    if not once:
        return 0
    if not in_json:
        render.show(render.summary(ended.status, SystemClock().now()))
    return INTERRUPTED if ended.stopped else exit_code(ended.status)


@contextmanager
def _events(form: str) -> Iterator[None]:
    shown = handler(form, render.console())
    log_to(shown)
    try:
        yield
    finally:
        shown.close()
