"""ctd and TFX do the same work on the same data, in turn, several times: `make bench-peer`.

`python -m bench.side_by_side --peer .venv-tfx/bin/python [--rounds 3] [--quick] [--only-ctd] [--results FILE]`, with
CTD_REAL_DATA set. Writes its tables to bench/RESULTS.md, unless `--quick` is a trial of the harness.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import span_to_served
from bench.comparison import CTD, PEER, Round, round_from_json, round_to_json
from bench.machine import described, said_now
from bench.results import BIG, FIRST, NEW, NOTHING, ONCE, STARTED, THRESHOLD, page
from bench.sides import LOWER_LIMIT, STEPS, CtdSide, TfxSide, Work, metrics_of
from bench.taxi_spans import Trips

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
LOOKS = 1000


@dataclass(frozen=True)
class Found:
    """What a round brought: the measurements, the seconds of each look where nothing changed, and what models do."""

    measured: Round
    looks: list[float]
    metrics: dict[str, dict[str, dict[str, float]]]  # by case and side


@dataclass(frozen=True)
class Size:
    """How much there is to do."""

    rows: float = 1  # spans' rows, as a multiple of the data's
    many: float = 10
    steps: int = STEPS
    looks: int = LOOKS


def one_round(root: Path, work: Work, size: Size, peer: Path | None) -> Found:
    """Every case, ctd first and then the peer, one at a time."""
    ours, theirs = CtdSide(root / "ctd", work), TfxSide(root / "peer", work, peer or Path())
    ours.arrive(1, size.rows)
    theirs.arrive(1, size.rows)
    ours.run_once(FIRST, pushes=True)
    _then(peer, lambda: theirs.run(FIRST, pushes=True))
    ours.daemon(
        {
            STARTED: ours.span(2, size.rows),
            NEW: ours.span(3, size.rows),
            THRESHOLD: ours.lower_threshold,
        }
    )
    theirs.arrive(3, size.rows)
    _then(peer, lambda: theirs.run(NEW, pushes=True))
    _then(peer, lambda: theirs.run(THRESHOLD, at_least=LOWER_LIMIT, pushes=True))
    spent = ours.unchanged(NOTHING, size.looks)
    ours.run_once(ONCE, pushes=False)
    _then(peer, lambda: theirs.run(NOTHING, at_least=LOWER_LIMIT, pushes=False))

    large, their_large = CtdSide(root / "large", work), TfxSide(root / "peer-large", work, peer or Path())
    large.arrive(4, size.rows * size.many)
    their_large.arrive(4, size.rows * size.many)
    large.run_once(BIG, pushes=True)
    _then(peer, lambda: their_large.run(BIG, pushes=True))
    metrics = {}
    for case, mine, other in ((NEW, ours, theirs), (BIG, large, their_large)):
        both = {CTD: mine.evaluation, PEER: other.evaluation} if peer else {CTD: mine.evaluation}
        metrics[case] = metrics_of(both)
    measured = _joined({**ours.finished(), **large.finished()}, {**theirs.samples, **their_large.samples})
    return Found(measured, spent, metrics)


def _then(peer: Path | None, run: Callable[[], None]) -> None:
    if peer is not None:
        run()


def _joined(ours: dict[str, Any], theirs: dict[str, Any]) -> Round:
    if NOTHING in theirs:  # the same run of the peer's stands beside both of ctd's ways
        theirs[ONCE] = theirs[NOTHING]
    sides = {CTD: ours, PEER: theirs}
    return {case: {side: found[case] for side, found in sides.items() if case in found} for case in ours}


def measure(rounds: int, size: Size, peer: Path | None, *, memory: bool) -> dict[str, Any]:
    """All rounds, as JSON: the timed ones, and one more that samples memory."""
    trips, before = Trips.at_real_data(), list(os.getloadavg())
    done: list[Found] = []
    for number in range(rounds + memory):
        work = Work(trips, size.steps, sample_memory=number == rounds)
        what = f"round {number + 1} of {rounds + memory}{' (memory)' if work.sample_memory else ''}"
        print(what, file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="ctd-bench-") as scratch:
            done.append(one_round(Path(scratch), work, size, peer))
    print("the example, to a model server", file=sys.stderr, flush=True)
    return {
        "served": [_served() for _ in range(rounds)],
        "rounds": [round_to_json(each.measured) for each in done[:rounds]],
        "memory": [round_to_json(each.measured) for each in done[rounds:]],
        "looks": [each.looks for each in done[:rounds]],
        "metrics": [each.metrics for each in done[:rounds]],
        "size": vars(size),
        "machine": described(peer),
        "load": {"before": before, "after": list(os.getloadavg())},
        **said_now(HERE.parent),
    }


def _served() -> dict[str, dict[str, float]]:
    """The example with a model server, on days as `make demo` has them."""
    with tempfile.TemporaryDirectory(prefix="ctd-bench-") as scratch:
        return span_to_served.one_round(Path(scratch, "taxi"), span_to_served.DEMO_TRIPS)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, default=Path(".venv-tfx/bin/python"), help="Python that has TFX")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one small round, to try the harness; writes no results")
    parser.add_argument("--only-ctd", action="store_true", help="without the peer; writes no results")
    parser.add_argument("--no-memory", action="store_true", help="without the round that samples memory")
    parser.add_argument("--raw", type=Path, default=HERE / "results.json", help="where the measurements are kept")
    parser.add_argument("--render", action="store_true", help="only write the page of the measurements kept")
    said = parser.parse_args(arguments)
    if not said.render:
        if not said.only_ctd and shutil.which(said.peer) is None:
            raise SystemExit(f"{said.peer} is no program: `make bench-peer` sets it up, or use --only-ctd.")
        size = Size(rows=0.1, many=2, steps=50, looks=50) if said.quick else Size()
        # Not resolved: what makes it the Python of an environment is where the link lies.
        peer = None if said.only_ctd else said.peer.absolute()
        found = measure(1 if said.quick else said.rounds, size, peer, memory=not said.no_memory)
        found["command"] = " ".join(["python -m bench.side_by_side", *(arguments or sys.argv[1:])])
        if said.quick or said.only_ctd:
            print(page(found, _rounds(found, "rounds"), _rounds(found, "memory")))
            return
        said.raw.write_text(json.dumps(found, indent=1) + "\n")
    found = json.loads(said.raw.read_text())
    text = page(found, _rounds(found, "rounds"), _rounds(found, "memory"))
    RESULTS.write_text(text)
    print(text)


def _rounds(found: dict[str, Any], which: str) -> list[Round]:
    return [round_from_json(each) for each in found[which]]


if __name__ == "__main__":
    main()
