"""The planner's bench runs on little data too, so that no change of the planner leaves it behind unnoticed."""

from __future__ import annotations

from pathlib import Path

from bench.planner import measure


def test_pipelines_that_were_played_to_their_end_are_at_rest_and_read_back(tmp_path: Path) -> None:
    said = {line.what for line in measure(tmp_path, pipelines=1, spans=6)}
    assert "nothing changed: 10 nodes, 6 spans, 61 executions" in said
    assert "start: reading 61 executions" in said
