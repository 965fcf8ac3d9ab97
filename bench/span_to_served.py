"""Seconds from a dropped span of taxi trips to the model being served, node by node: cold, warm, and a threshold edit.

`python -m bench.span_to_served [--rounds 3] [--trips 15000]`. Cold: a new daemon finds the span. Warm: the daemon
has run before and the span is dropped beside the others. A real model server is asked which version it serves.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from datetime import date, timedelta
from pathlib import Path

from bench.daemon import CTD, Events, running, until
from examples.taxi.generate import write_day

TAXI = Path(__file__).parents[1] / "examples/taxi"
TARGETS = ("serving", "mobile", "web", "hub")
DAY = date(2024, 3, 4)
DEMO_TRIPS = 3000  # as examples/taxi/generate.py makes them if nothing is said


def serves(rest: int, version: int) -> bool:
    """Whether the model server has the version."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{rest}/v1/models/taxi/versions/{version}") as answer:
            return bool(json.load(answer)["model_version_status"][0]["state"] == "AVAILABLE")
    except OSError:
        return False


def one_round(root: Path, trips: int) -> dict[str, dict[str, float]]:
    """One daemon on one fresh folder; for each case the seconds in all (`served`) and of every node."""
    shutil.copytree(TAXI, root, ignore=shutil.ignore_patterns("data", "state", "__pycache__", *TARGETS))
    spec = root / "specs/taxi.yaml"
    # To the server alone, as others do it: conversions come after a model is served.
    spec.write_text(spec.read_text().replace(f"[{', '.join(TARGETS)}]", "[serving]"))
    (root / "serving/taxi").mkdir(parents=True)
    found: dict[str, dict[str, float]] = {}
    events = Events()
    serve = [CTD, "serve", "--port=0", "--rest_api_port=0", "--model_name=taxi"]
    with running([*serve, f"--model_base_path={root / 'serving/taxi'}"]) as server:
        assert server.stdout  # noqa: S101 - it is a pipe
        ports = json.loads(server.stdout.readline())
        target = root / "deploy_targets/serving.yaml"
        target.write_text(target.read_text() + f"\nserver: {{grpc: '127.0.0.1:{ports['grpc_port']}'}}\n")
        write_day(root / "data", DAY, trips=trips)
        begin = time.monotonic()
        command = [CTD, "run", "--specs", str(root / "specs"), "--log-format", "json"]
        with running(command, events):
            for case, version in (("cold", 1), ("warm", 2), ("warm again", 3)):
                if version > 1:
                    begin = time.monotonic()
                    write_day(root / "data", DAY + timedelta(days=version - 1), trips=trips)
                end = until(f"version {version}", lambda wanted=version: serves(ports["rest_api_port"], wanted))
                time.sleep(1)  # for the pusher to have asked the server too
                found[case] = {"served": end - begin, **{n: e - s for n, s, e in events.spans(begin)}}
            begin = time.monotonic()
            spec.write_text(spec.read_text().replace("at_least: 0.75", "at_least: 0.7"))
            end = until("the verdict", lambda: any(n == "evaluator.verdict" for n, _, _ in events.spans(begin)))
            found["threshold edit"] = {"served": end - begin, **{n: e - s for n, s, e in events.spans(begin)}}
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table of medians, with the spread of the whole."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trips", type=int, default=15000, help="rows of a span")
    options = parser.parse_args(arguments)
    rounds = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(one_round(Path(folder, "taxi"), options.trips))
        print(f"round {number + 1} of {options.rounds}: {rounds[-1]['warm']['served']:.1f} s warm", file=sys.stderr)
    cases = list(rounds[0])
    nodes = list(dict.fromkeys(n for r in rounds for case in cases for n in r[case]))
    print(f"\nseconds, median of {options.rounds}; spans of {options.trips} trips\n")
    print("| node | " + " | ".join(cases) + " |")
    print("|---|" + "---|" * len(cases))
    for node in nodes:
        cells = [[r[case][node] for r in rounds if node in r[case]] for case in cases]
        print(f"| {node} | " + " | ".join(_cell(c, spread=node == "served") for c in cells) + " |")


def _cell(seconds: list[float], *, spread: bool) -> str:
    if not seconds:
        return ""
    shown = f"{statistics.median(seconds):.2f}"
    return shown + (f" ({min(seconds):.2f} to {max(seconds):.2f})" if spread else "")


if __name__ == "__main__":
    main()
