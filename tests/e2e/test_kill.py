"""kill -9 of the daemon in every node: started again it reaches the same end, and nothing is pushed twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from ctd.core.executions import State
from examples.taxi.generate import write_day
from tests.e2e.site import DAY, Site, place_of

pytestmark = pytest.mark.e2e

PIECES = {
    "schema": "worker.made.schema",
    "examples": "worker.progress.examples",
    "statistics": "worker.progress.statistics",
    "validator": "worker.made.validator",
    "transform": "worker.made.transform",  # graph, cache and examples are staged, and nobody knows of them yet
    "trainer": "worker.made.trainer",
    "evaluator.metrics": "worker.progress.evaluator.metrics",
    "evaluator.verdict": "worker.made.evaluator.verdict",
    "infra": "worker.progress.infra:2",  # a model server of its own has the candidate
    "pusher.serving": "worker.made.pusher.serving",  # the version is there, and nobody knows of it yet
}
"""Where each piece of work stands still until the daemon is killed."""


def test_the_daemon_is_killed_in_every_node_and_reaches_the_same_end(tmp_path: Path) -> None:
    """One slot, and every piece whose turn to be killed in is still to come stands still: none can slip through."""
    site = Site.of_taxi(tmp_path)
    write_day(site.root / "data", DAY, trips=1500)
    left, killed = dict(PIECES), dict[int, str]()
    while left:
        with site.daemon("--parallel=1", **site.held(*left.values())) as daemon:
            held = site.until_held(daemon, left)
            daemon.kill()
        killed[held.execution] = held.place
        del left[held.place]
    with site.daemon("--once") as daemon:
        assert daemon.process.wait(400) == 0, (tmp_path / "daemon.log").read_text()[-3000:]

    executions = site.executions()
    by_state = {state: [e for e in executions if e.state is state] for state in State}
    assert {e.id: place_of(e.node, e.piece) for e in by_state[State.ABANDONED]} == killed
    succeeded = Counter(place_of(e.node, e.piece) for e in by_state[State.SUCCEEDED])
    assert succeeded == Counter(PIECES.keys()), "all was done, and what was committed is not done again"
    assert len(executions) == 2 * len(PIECES)

    assert len(site.versions()) == 1, "one push of the one model"
    ledger = (site.serving / ".ctd/pushes.jsonl").read_text().splitlines()
    pushed = [said for said in map(json.loads, ledger) if said["fate"] == "pushed"]
    assert [p["version"] for p in pushed] == site.versions()
    assert not list(site.serving.glob(".ctd-tmp-*"))
    assert not any((site.state / "staging").iterdir())
    recorded = {a.uri for e in executions for made in e.outputs.values() for a in made}
    on_disk = {str(p) for p in (site.state / "artifacts").glob("*/*/*/*")}
    assert {u for u in on_disk if not any(r.startswith(u) for r in recorded)} == set(), "no files without a record"
