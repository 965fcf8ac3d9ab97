"""`ctd serve`: the embedded model server takes over this process."""

from __future__ import annotations

import os
import sys

import click


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def serve(flags: tuple[str, ...]) -> int:
    """Serve models to clients of TensorFlow Serving; flags are those of tensorflow_model_server."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "ctd.serving", *flags])  # noqa: S606 - our own interpreter and module
