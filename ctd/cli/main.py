"""The command `ctd`: its commands by name, and what becomes of errors. Imports little, so that help is instant."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from ctd.cli.text import clean
from ctd.core.errors import CtdError

FAILED = 1
WRONG = 2  # usage or spec
INTERRUPTED = 130

# Help is made of this table alone; `ctd.cli.<module>` is imported when the command is called.
COMMANDS = {
    "Run": {
        "run": ("run", "Run the daemon: watch specs and data, and do what is missing."),
    },
    "Look": {
        "status": ("status", "What is up to date, what runs, what waits and why, what is live."),
        "plan": ("plan", "What would be done now, and why, before anything is spent."),
        "explain": ("explain", "Why a node ran, was reused or waits, and how it went."),
        "lineage": ("lineage", "Where a model came from; what a span went into; why two models differ."),
        "request": ("request", "A request that the live model answers, for REST and gRPC."),
        "logs": ("logs", "The log of an execution, or of a node's latest."),
    },
    "Act": {
        "accept": ("act", "Let a span into windows although a validator refused it."),
        "approve": ("act", "Let work run that waits for approval."),
        "reject": ("act", "Say no to work that waits for approval."),
        "pause": ("act", "Start nothing more of a pipeline, or of a node."),
        "resume": ("act", "Go on after a pause."),
        "run-now": ("act", "Do now what waits for a schedule, a time, or to be asked."),
        "backfill": ("act", "Read spans of a range however old, or do their work again."),
        "retry": ("act", "Try again what failed for good or was cancelled."),
        "cancel": ("act", "Stop what runs, and leave it undone."),
        "rollback": ("rollback", "Give a target back a model from before, and keep it there."),
        "gc": ("gc", "Remove results that need not stay, or say which (--dry-run)."),
    },
    "Check": {
        "validate": ("validate", "Find all that is wrong with specs and targets, each at its line."),
        "schema": ("schema", "The JSON Schema of specs and targets, for editors."),
    },
    "Serve": {
        "serve": ("serve", "Serve models to clients of TensorFlow Serving (REST and gRPC)."),
    },
}

EPILOG = """
\b
A first session:
  ctd validate                 # are specs/ and deploy_targets/ in order?
  ctd run                      # leave it running, and drop a span of data
  ctd status                   # in a second terminal

\b
Exit codes: 0 as wanted, 1 something failed or the daemon is in trouble,
2 wrong usage or invalid spec, 3 blocked or waiting for someone,
75 another daemon has the state directory.

\b
Docs: docs/ and examples/taxi/README.md in the source; `ctd COMMAND --help`.
Completion in bash: eval "$(_CTD_COMPLETE=bash_source ctd)" (also zsh, fish).
"""


class LazyGroup(click.Group):
    """Commands that are imported when they are called; their help texts are known before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = _find(cmd_name)
        if found is None:
            return None
        command = getattr(importlib.import_module(f"ctd.cli.{found[0]}"), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)  # noqa: S101 - for the type checker: the table says so
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if _find(args[0]) is None and not args[0].startswith("-") and not ctx.resilient_parsing:
            names = self.list_commands(ctx)
            close = difflib.get_close_matches(args[0], names, n=1)
            meant = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(names)}."
            raise click.UsageError(f"there is no command {args[0]!r}. {meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(10), text) for name, (_, text) in section.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        texts = {name: text for section in COMMANDS.values() for name, (_, text) in section.items()}
        return [CompletionItem(name, help=text) for name, text in texts.items() if name.startswith(incomplete)]


def _find(name: str) -> tuple[str, str] | None:
    return next((section[name] for section in COMMANDS.values() if name in section), None)


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ctd", prog_name="ctd", message="%(prog)s %(version)s")
def ctd() -> None:
    """ctd keeps models fresh: it watches data and specs, runs only what is affected by a change, and serves a
    new model when it is blessed.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and leave with its exit code. What a user can cause ends as one message, never a traceback."""
    said = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # a terminal that is not UTF-8
    sys.exit(_code(said))


def _code(arguments: list[str]) -> int:
    in_json = "--json" in arguments
    try:
        code = ctd.main(args=arguments, prog_name="ctd", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return WRONG
    except click.ClickException as error:
        where = f"See `{error.ctx.command_path} --help`." if isinstance(error, click.UsageError) and error.ctx else ""
        return _complain(error.format_message(), where, WRONG, in_json)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # whoever read has seen enough; nothing is left to flush into
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except CtdError as error:
        return _complain(error.message, error.hint, error.exit_code, in_json)
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        return _complain(f"{about}{error.strerror or error}", "Check the path and who may use it.", FAILED, in_json)
    return code if isinstance(code, int) else 0


def _complain(message: str, hint: str, code: int, in_json: bool) -> int:
    """One message on stderr; as JSON where the answer would have been JSON."""
    if in_json:
        text = json.dumps({"error": message, "hint": hint, "exit": code})
    else:
        text = clean(f"ctd: {message}", lines=True) + (f"\n     {clean(hint)}" if hint else "")
    click.echo(text, err=True)
    return code
