"""A span that changes while the real ExampleGen has it, and after: thrown away and read again, then counted."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ctd.core.executions import State
from tests.e2e.site import Site, eventually

pytestmark = pytest.mark.e2e

SPEC = """\
pipeline: taxi
nodes:
  examples: {kind: example_gen, input: "../data/{SPAN}", complete: {manifest: MANIFEST.json}}
"""


def deliver(folder: Path, rows: int) -> None:
    """A producer's way: the manifest first, then the file, each under its name at once."""
    data = ("fare,tips\n" + "".join(f"{n},{n / 10}\n" for n in range(rows))).encode()
    listed = {"name": "trips.csv", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("MANIFEST.json", json.dumps({"files": [listed]}).encode()), ("trips.csv", data)):
        (folder / f".{name}.tmp").write_bytes(content)
        (folder / f".{name}.tmp").rename(folder / name)


def test_a_span_that_changes_under_a_running_execution_is_read_again(tmp_path: Path) -> None:
    for folder in ("specs", "deploy_targets", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "specs/taxi.yaml").write_text(SPEC)
    site, span = Site(tmp_path), tmp_path / "data/1"

    def read() -> list[int]:
        ended = [e for e in daemon.events if e["event"] == "execution ended" and e["state"] == "succeeded"]
        return [e["execution"] for e in ended]

    with site.daemon(**site.held()) as daemon:
        deliver(span, 50)
        daemon.wait_for("execution started", node="examples")
        deliver(span, 60)
        site.let_go()
        daemon.wait_for("execution ended", node="examples", state="failed")
        eventually("the second content was read", lambda: len(read()) == 1)
        deliver(span, 70)
        eventually("the correction was read", lambda: len(read()) == 2)
    first, second, third = site.executions()
    assert [e.state for e in (first, second, third)] == [State.FAILED, State.SUCCEEDED, State.SUCCEEDED]
    assert first.failure.kind == "InputChanged"
    assert not first.outputs
    for execution, rows, revision in ((second, 60, 1), (third, 70, 2)):
        (examples,) = execution.output("examples")
        assert sum(json.loads(examples.properties["num_examples"]).values()) == rows
        assert examples.properties["revision"] == revision
