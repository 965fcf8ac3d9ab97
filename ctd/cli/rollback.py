"""`ctd rollback`: a target gets a model back that it had before."""

from __future__ import annotations

import click

from ctd.cli.act import ask, command_of
from ctd.specs.settings import Settings


@command_of
@click.argument("pipeline")
@click.argument("target")
@click.option("--to", "version", type=click.IntRange(min=1), metavar="VERSION", help="A version pushed there before.")
@click.option("--release", is_flag=True, help="Take the rollbacks of TARGET back: the newest blessed model is pushed.")
def rollback(settings: Settings, version: int | None, release: bool, in_json: bool, **said: str) -> int:
    """Give TARGET the model back that PIPELINE had pushed there before the live one, or that of VERSION.

    It is pushed as a new version, since servers and clients take the highest, and verified like any push. The model
    that was live does not come back by itself, nor does an older one; a model that is trained later may follow, if it
    is blessed. To keep that away too, write `pin: VERSION` into the target's file. The reason must be given.

    \b
    Example: ctd rollback taxi serving --reason "tips far too high since noon"
    Exit codes: 0 recorded; 1 there is nothing to go back to, or no daemon runs; 2 wrong usage, or no such target.
    """
    if release:
        if version is not None:
            raise click.UsageError("--release takes no --to")
        return ask(settings, in_json, verb="release", **said)
    if not said["reason"].strip():
        raise click.UsageError("a rollback needs a reason: --reason TEXT")
    to = {} if version is None else {"version": version}
    return ask(settings, in_json, verb="rollback", **said, **to)
