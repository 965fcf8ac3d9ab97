#!/usr/bin/env python3
"""The product in a few minutes: `make demo`.

Starts `ctd run` and `ctd serve` on a fresh copy of examples/taxi and lets things happen to them: days of trips arrive,
whole, half, strange and corrected; a threshold is edited, a typo is saved. Every act checks what it shows, and
everything that was started is ended. Exit codes: 0 all was as claimed, 1 an act showed something else, 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from demonstration.acts import ACTS, Journey, Play
from demonstration.everywhere import the_same_model_everywhere
from demonstration.screen import Screen, screen
from demonstration.seen import Run, Unexpected
from demonstration.stage import Stage, tail

from ctd.core.errors import CtdError


def main(arguments: Sequence[str] | None = None) -> int:
    """Play all acts; whatever happens, nothing that was started stays."""
    parser = argparse.ArgumentParser(description="ctd in a few minutes, on generated taxi trips.")
    parser.add_argument("--dir", type=Path, default=Path("demo"), help="where to play; made anew  [default: demo]")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    shown = screen()
    stage = Stage(options.dir, shown)
    try:
        stage.make()
        return _play(Play(stage, shown))
    except CtdError as error:
        shown.wrong(f"{error.message}. {error.hint}")
        return 2
    except Unexpected as error:
        _show_failure(shown, error)
        return 1
    except KeyboardInterrupt:
        shown.wrong("Interrupted; ending what was started ...")
        return 130
    finally:
        stage.stop()


def _play(play: Play) -> int:
    began = time.monotonic()
    play.screen.say(
        "ctd keeps models fresh: data arrives, and a checked, trained, judged and proven model is served. What you see "
        f"is real: real processes, real TensorFlow, in {play.stage.folder.name}/. `ctd` is .venv/bin/ctd."
    )
    acts = (*ACTS, ("The same model, everywhere", the_same_model_everywhere))
    for number, (title, act) in enumerate(acts, 1):
        play.screen.act(number, title)
        since = time.monotonic()
        act(play)
        play.screen.say(f"({time.monotonic() - since:.1f} s)")
    play.screen.act(len(acts) + 1, "Where the time went, and what to do next")
    _show_times(play.screen, play.journeys)
    _show_next(play)
    play.stage.stop()
    play.screen.proved(f"All acts showed what they claim, in {time.monotonic() - began:.0f} s; all processes ended.")
    return 0


def _show_times(shown: Screen, journeys: Sequence[Journey]) -> None:
    """Node by node: when it began after the drop, and how long it took."""
    shown.say("Seconds after the drop at which each began, and seconds it took:")
    names = list(dict.fromkeys(_name(run) for journey in journeys for run in journey.runs))
    rows = [(name, *(_times(journey, name) for journey in journeys)) for name in names]
    rows.append(("from drop to served", *(f"{journey.seconds:.1f}" for journey in journeys)))
    shown.table(("", *(journey.name for journey in journeys)), rows)
    shown.say(
        "Cold: the first workers wait for TensorFlow's import, begun when the daemon started; later ones are forked."
    )


def _times(journey: Journey, name: str) -> str:
    runs = [run for run in journey.runs if _name(run) == name]
    if not runs:
        return "reused"
    return f"{runs[0].started - journey.dropped:+6.1f} {sum(run.seconds for run in runs):6.1f}"


def _name(run: Run) -> str:
    return f"{run.node}.{run.piece}" if run.node == "evaluator" else run.node


def _show_next(play: Play) -> None:
    stage = play.stage
    shown = play.screen
    shown.say(f"Everything stays in {stage.folder.name}/ and goes on where it stopped. Play with it:")
    for command in (
        "source .venv/bin/activate",
        f"cd {stage.folder.name}",
        stage.serve_command,
        "ctd run                                            # and in a second terminal:",
        "python generate.py data --day 2024-03-08           # the next day",
        "python generate.py data --day 2024-03-06 --version 2   # Wednesday, corrected",
        "python generate.py data --day 2024-03-09 --bad-day outliers   # quarantined",
        "ctd status --watch; ctd explain taxi trainer; ctd logs taxi trainer; ctd plan",
    ):
        shown.command(command)
    shown.say("Your own pipeline: docs/guide.md. How it works: docs/architecture.md.")


def _show_failure(shown: Screen, error: Unexpected) -> None:
    shown.wrong("This is not what the demo claims.")
    shown.lines([f"expected: {error.expected}", *f"seen: {error.seen}".splitlines()])
    if error.log:
        shown.lines([f"the end of {error.log}:", *(f"  {line}" for line in tail(error.log))])


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
