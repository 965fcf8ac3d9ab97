"""What people tell the daemon to do. Each command is a request: it is recorded, and every later plan heeds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ctd.api.models import RequestView
from ctd.api.requests import RequestForm
from ctd.api.unixsocket import NoDaemon, listens
from ctd.cli.answers import Daemon
from ctd.cli.options import as_json, folders
from ctd.cli.render import show
from ctd.cli.render_backfill import backfill as rendered
from ctd.cli.text import clean
from ctd.daemon.lock import held, owner_of
from ctd.daemon.offline import rehearse
from ctd.specs.settings import Settings
from ctd.storage.layout import StateDir

why = click.option("--reason", metavar="TEXT", default="", help="Why; it is recorded, and shown where it matters.")

_SAID: dict[str, str] = {
    "accept": "{key} is accepted although {place} refused it: windows take it.",
    "pause": "{place} is paused: what runs ends, nothing more starts. `ctd resume {place}` lifts it.",
    "resume": "{place} goes on.",
    "run-now": "{place} waits no longer.",
    "retry": "{place} is tried again.",
    "cancel": "execution {execution} of {place} is told to stop. `ctd retry {place}` does it after all.",
    "approve": "{place} {key} may run.",
    "reject": "{place} {key} stays undone. `ctd approve {place}` changes that.",
    "backfill": "{place} {key} is backfilled. `ctd status {pipeline}` shows how far; `ctd backfill {pipeline} --stop` "
    "takes it back.",
    "rollback": "{key} of {pipeline} goes back to a model from before; it is pushed as a new version. "
    "`ctd status {pipeline}` shows it, `ctd rollback {pipeline} {key} --release` takes it back.",
    "release": "{key} of {pipeline} gets the newest blessed model again.",
    "stop-backfill": "the backfill of {place} {key} is stopped: what has not begun does not begin.",
}


def command_of(command: Callable[..., int]) -> click.Command:
    """A command with the options that all requests have."""
    return click.command()(folders(why(as_json(command))))


@command_of
@click.argument("pipeline")
@click.argument("span")
def accept(settings: Settings, pipeline: str, span: str, reason: str, in_json: bool) -> int:
    """Let a SPAN (42, 42.v2 or 2026-11-20) into windows although the validator of PIPELINE refused it.

    Accepted is what was found in this version of the span, and nothing else: a corrected version, or other
    anomalies, are judged anew. The reason must be given. To keep a span out, use `deny` of its node in the spec.

    \b
    Example: ctd accept taxi 2026-11-20 --reason "fares rose on that day"
    Exit codes: 0 recorded; 1 it is not refused, or no daemon runs; 2 wrong usage.
    """
    if not reason.strip():
        raise click.UsageError("an acceptance needs a reason: --reason TEXT")
    return ask(settings, in_json, verb="accept", pipeline=pipeline, span=span, reason=reason)


@command_of
@click.argument("pipeline")
@click.argument("node", default="")
def pause(settings: Settings, pipeline: str, node: str, reason: str, in_json: bool) -> int:
    """Start nothing more of PIPELINE, or of one NODE. What runs ends as usual, and what follows a paused node waits.

    It lasts until `ctd resume`, over restarts of the daemon too. Spans may arrive meanwhile: they are not missed.

    \b
    Example: ctd pause taxi pusher --reason "no new models before the holidays"
    Exit codes: 0 recorded; 1 it is paused already, or no daemon runs; 2 wrong usage.
    """
    return ask(settings, in_json, verb="pause", pipeline=pipeline, node=node, reason=reason)


@command_of
@click.argument("pipeline")
@click.argument("node", default="")
def resume(settings: Settings, pipeline: str, node: str, reason: str, in_json: bool) -> int:
    """Take back a `ctd pause` of PIPELINE, or of one NODE. Nodes that were paused by name stay so.

    \b
    Exit codes: 0 recorded; 1 it is not paused, or no daemon runs; 2 wrong usage.
    """
    return ask(settings, in_json, verb="resume", pipeline=pipeline, node=node, reason=reason)


@command_of
@click.argument("pipeline")
@click.argument("node", default="")
@click.option("--again", is_flag=True, help="Do what NODE has done once more: what it made before is not reused.")
def run_now(settings: Settings, pipeline: str, node: str, again: bool, **said: Any) -> int:
    """Do now what waits for a time: a schedule, `min_interval`, `when: manual`, a back-off after an error.

    Of PIPELINE all nodes that wait so, or one NODE. What is done already is not done again, unless you say --again;
    then what follows is done only where the result comes out differently.

    \b
    Exit codes: 0 recorded; 1 nothing waits for a time, or no daemon runs; 2 wrong usage.
    """
    if again and not node:
        raise click.UsageError("--again is for one NODE: name it")
    return ask(settings, verb="run-now", pipeline=pipeline, node=node, again=again, **said)


@command_of
@click.argument("what", nargs=-1, required=True, metavar="PIPELINE NODE | EXECUTION")
def retry(settings: Settings, what: tuple[str, ...], reason: str, in_json: bool) -> int:
    """Try again what failed for good or was cancelled: all of a NODE, or the work of one EXECUTION (its number).

    The attempts until now count no longer. Saving mended data, code or specs needs no retry: that is noticed.

    \b
    Exit codes: 0 recorded; 1 nothing failed, or no daemon runs; 2 wrong usage.
    """
    return ask(settings, in_json, verb="retry", reason=reason, **_what(what))


@command_of
@click.argument("what", nargs=-1, required=True, metavar="PIPELINE NODE | EXECUTION")
def cancel(settings: Settings, what: tuple[str, ...], reason: str, in_json: bool) -> int:
    """Stop an EXECUTION (its number), or whatever runs of a NODE, with all processes it started.

    The work then stays undone until its inputs change, or until `ctd retry`. What had succeeded by then counts.

    \b
    Exit codes: 0 recorded; 1 nothing runs, or no daemon runs; 2 wrong usage.
    """
    return ask(settings, in_json, verb="cancel", reason=reason, **_what(what))


@command_of
@click.argument("pipeline")
@click.argument("node")
def approve(settings: Settings, pipeline: str, node: str, reason: str, in_json: bool) -> int:
    """Let the work run that waits for approval at a NODE with `approval: true`.

    Approved is exactly this work, attempts after errors included; with other inputs, code or settings the node asks
    anew. `ctd explain PIPELINE NODE` shows what it is. No process waits meanwhile.

    \b
    Exit codes: 0 recorded; 1 nothing waits for approval, or no daemon runs; 2 wrong usage.
    """
    return ask(settings, in_json, verb="approve", pipeline=pipeline, node=node, reason=reason)


@command_of
@click.argument("pipeline")
@click.argument("node")
def reject(settings: Settings, pipeline: str, node: str, reason: str, in_json: bool) -> int:
    """Say no to the work that waits for approval at a NODE. It asks anew when its inputs, code or settings change.

    \b
    Exit codes: 0 recorded; 1 nothing waits for approval, or no daemon runs; 2 wrong usage.
    """
    return ask(settings, in_json, verb="reject", pipeline=pipeline, node=node, reason=reason)


@command_of
@click.argument("pipeline")
@click.argument("first", default="", metavar="FROM")
@click.argument("last", default="", metavar="TO")
@click.option("--node", default="", help="An input; or, with --again, any node that runs per span.")
@click.option("--order", type=click.Choice(["newest", "oldest"]), help="What comes first.  [default: newest]")
@click.option("--again", is_flag=True, help="Do what is done once more, and try again what failed or was cancelled.")
@click.option("--dry-run", is_flag=True, help="Say what would run, in which order, and its usual cost; record nothing.")
@click.option("--stop", is_flag=True, help="Take back the backfills of PIPELINE (or of NODE) that are not done.")
def backfill(settings: Settings, stop: bool, dry_run: bool, in_json: bool, **said: Any) -> int:
    """Read the spans of PIPELINE from FROM to TO (42, or 2026-09-30), however old they are.

    They count from then on: spans before the `start` of their input are read, and none of them is too late for
    windows. New data goes first. With --again the work on single spans in the range is done once more; what follows
    from it only where results come out differently. Denied spans stay out of windows, refused ones until accepted.

    \b
    Example: ctd backfill taxi 2026-07-01 2026-09-30 --dry-run
    Exit codes: 0 recorded; 1 there is nothing to do, or no daemon runs; 2 wrong usage, or no such span or node.
    """
    ranged = {key: said[key] for key in ("first", "last", "again") if said[key]}
    ranged |= {"order": said["order"]} if said["order"] else {}
    place = {key: said[key] for key in ("pipeline", "node", "reason")}
    if stop:
        if ranged or dry_run:
            raise click.UsageError("--stop takes only --node and --reason: it ends what is open")
        return ask(settings, in_json, verb="stop-backfill", **place)
    if not (said["first"] and said["last"]):
        raise click.UsageError("name the first and the last span: ctd backfill PIPELINE FROM TO")
    if not dry_run:
        return ask(settings, in_json, verb="backfill", **place, **ranged)
    view = rehearse(settings, _form(verb="backfill", **place, **ranged))
    if in_json:
        click.echo(view.model_dump_json(indent=2))
    else:
        show(rendered(view))
    return 0


def _what(said: tuple[str, ...]) -> dict[str, Any]:
    match said:
        case (number,) if number.isdecimal() and int(number) > 0:
            return {"execution": int(number)}
        case (pipeline, node):
            return {"pipeline": pipeline, "node": node}
    raise click.UsageError("name a pipeline and a node, or the number of an execution")


def ask(settings: Settings, in_json: bool, **said: Any) -> int:
    """Have the daemon record it, and say what that means."""
    form = _form(**said)
    socket = StateDir(settings.state).socket
    lock = StateDir(settings.state).lock
    if not listens(socket):
        if held(lock):
            hint = "It is just starting, or its socket is gone, and it makes it anew: ask again in a moment."
            raise NoDaemon(f"the daemon (pid {owner_of(lock) or 'unknown'}) does not listen on {socket}", hint=hint)
        hint = "Only a daemon takes requests: start one with `ctd run`, then ask again."
        raise NoDaemon(f"no daemon works on {settings.state}", hint=hint)
    taken = Daemon(socket).take(form)
    if in_json:
        click.echo(taken.model_dump_json(indent=2))
    else:
        for request in taken.requests:
            click.echo(clean(_line(request)))
    return 0


def _form(**said: Any) -> RequestForm:
    try:
        return RequestForm(**said)
    except ValueError as error:
        raise click.UsageError(_brief(error)) from error


def _line(request: RequestView) -> str:
    place = f"{request.pipeline} {request.node}".strip()
    return _SAID[request.verb].format(
        place=place, pipeline=request.pipeline, key=request.key, execution=request.execution
    )


def _brief(error: ValueError) -> str:
    """Pydantic's complaint in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.startswith("  ")]
    return lines[0].removeprefix("Value error, ").partition(" [type=")[0] if lines else str(error)
