"""What a daemon costs that has nothing to do: CPU and wake-ups a minute, memory, descriptors, lines in its log.

`python -m bench.idle [--pipelines 1 50] [--seconds 60]`. Pipelines that only import a file, without a warm template.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from bench.daemon import CTD, Events, running, until

_SCHEMA = "feature {{ name: 'f{number}' type: FLOAT }}\n"
_SPEC = "pipeline: p{number}\nnodes:\n  schema: {{kind: importer, artifact: Schema, path: ../{number}.pbtxt}}\n"


def measured(pipelines: int, seconds: float) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory(prefix="ctd-bench-") as scratch:
        root = Path(scratch)
        for folder in ("specs", "deploy_targets"):
            (root / folder).mkdir()
        for number in range(pipelines):
            (root / f"{number}.pbtxt").write_text(_SCHEMA.format(number=number))
            (root / f"specs/p{number}.yaml").write_text(_SPEC.format(number=number))
        events = Events()
        command = [CTD, "run", "--no-warm", "--log-format", "json", "--specs", str(root / "specs")]
        with running(command, events) as process:
            until("every pipeline has run", lambda: _ended(events) == pipelines)
            time.sleep(3)
            daemon, said = psutil.Process(process.pid), len(events.lines)
            before, began = _spent(daemon), time.monotonic()
            time.sleep(seconds)
            after, minutes = _spent(daemon), (time.monotonic() - began) / 60
            cpu, woken = ((now - then) / minutes for now, then in zip(after, before, strict=True))
            memory, descriptors = daemon.memory_info().rss / 1e6, daemon.num_fds()
            lines = len(events.lines) - said
    return f"| {pipelines} | {cpu * 1000:.0f} ms | {woken:.0f} | {memory:.0f} MB | {descriptors} | {lines} |"


def _ended(events: Events) -> int:
    return sum(1 for _, said in list(events.lines) if said["event"] == "execution ended")


def _spent(daemon: psutil.Process) -> tuple[float, float]:
    """CPU seconds and wake-ups of its loop so far."""
    times = daemon.cpu_times()
    return times.user + times.system, daemon.num_ctx_switches().voluntary


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipelines", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--seconds", type=float, default=60)
    said = parser.parse_args(arguments)
    print("| pipelines | CPU a minute | wake-ups a minute | memory | descriptors | lines in the log |")
    print("|---|---|---|---|---|---|")
    for pipelines in said.pipelines:
        print(measured(pipelines, said.seconds), flush=True)


if __name__ == "__main__":
    main()
