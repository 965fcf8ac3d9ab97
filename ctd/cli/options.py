"""Options that several commands share, resolved to settings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from ctd.specs.settings import Settings


def folders(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command --specs, --targets and --state; it is called with the settings that they make."""

    @click.option("--specs", metavar="DIR", help="Pipelines, one YAML each.  [default: specs/]")
    @click.option("--targets", metavar="DIR", help="Destinations of models.  [default: deploy_targets/ beside specs]")
    @click.option("--state", metavar="DIR", help="What ctd remembers.  [default: state/ beside specs]")
    @functools.wraps(command)
    def resolved(specs: str | None, targets: str | None, state: str | None, **said: Any) -> int:
        return command(Settings.resolve({"specs": specs, "targets": targets, "state": state}), **said)

    return resolved


def given_flags() -> dict[str, object]:
    """Which of --specs, --targets and --state were given to the command that runs; None where one was not."""
    said = click.get_current_context().params
    return {name: said.get(name) for name in ("specs", "targets", "state")}


as_json = click.option("--json", "in_json", is_flag=True, help="The answer as JSON; an error too, on stderr.")
