"""Spans that change while they are read or after, late files, manifests, and sources that fall silent."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import pytest

from ctd.core.errors import InputChanged
from ctd.core.executions import State
from ctd.observability import Event
from tests.flow.bench import Bench


def start(tmp_path: Path, examples: str) -> Bench:
    """A daemon whose ExampleGen has these keys besides."""
    bench = Bench(tmp_path)
    bench.spec(complete=examples)
    return bench.start()


def test_a_span_that_changes_while_it_is_read_is_read_again_as_it_is_then(tmp_path: Path) -> None:
    bench = start(tmp_path, "{marker: _SUCCESS}")
    bench.span(1, "fare\n1\n")
    bench.tick()
    (first,) = bench.running("examples")
    folder = bench.span(1, "fare\n22\n")
    (folder / "more.csv").write_text("fare\n3\n")
    bench.tick()
    assert "is still running on span-1" in bench.of("examples")
    bench.fail("examples", InputChanged("trips.csv changed while it was read"))
    bench.tick()
    (again,) = bench.running("examples")
    assert [(Path(f.path).name, f.size) for f in first.files] == [("trips.csv", 7)]
    assert [(Path(f.path).name, f.size) for f in again.files] == [("more.csv", 7), ("trips.csv", 8)]
    assert again.files[1].mtime_ns == (folder / "trips.csv").stat().st_mtime_ns
    bench.settle()
    thrown_away, kept = bench.executions("examples")
    assert (thrown_away.state, thrown_away.outputs) == (State.FAILED, {})
    assert kept.ingredients["content"] != thrown_away.ingredients["content"]
    assert again.revision == 1, "nothing else was ever read of it"
    assert bench.trained_on() == ["span-1"]
    bench.check()


def test_a_span_that_is_touched_while_it_is_read_is_tried_again_with_its_new_times(tmp_path: Path) -> None:
    bench = start(tmp_path, "{marker: _SUCCESS}")
    folder = bench.span(1)
    bench.tick()
    (first,) = bench.running("examples")
    while (folder / "trips.csv").stat().st_mtime_ns == first.files[0].mtime_ns:
        (folder / "trips.csv").touch()
    bench.fail("examples", InputChanged("trips.csv changed while it was read"))
    bench.tick()
    assert "again in" in bench.of("examples")
    bench.clock.forward(seconds=10)
    bench.tick()
    (again,) = bench.running("examples")
    assert again.files[0].mtime_ns == (folder / "trips.csv").stat().st_mtime_ns
    first_try, second_try = bench.executions("examples")
    assert (second_try.attempt, second_try.fingerprint) == (2, first_try.fingerprint)


@pytest.mark.parametrize(
    ("policy", "trainings", "said"),
    [
        pytest.param("new_version", 2, "reuse examples span-1: same work", id="a new version"),
        pytest.param("ignore", 1, "reuse examples span-1: what execution 2 read stays: changed since", id="ignored"),
        pytest.param("fail", 1, "blocked examples span-1: changed since execution 2 read it", id="an error"),
    ],
)
def test_a_file_that_comes_after_the_marker_is_a_change_after_reading(
    tmp_path: Path, policy: str, trainings: int, said: str
) -> None:
    bench = start(tmp_path, f"{{marker: _SUCCESS}}, on_change: {policy}")
    folder = bench.span(1)
    bench.settle()
    (folder / "late.csv").write_text("fare\n9\n")
    for _ in range(2):
        bench.settle()
        assert bench.of("examples").startswith(said)
        assert len(bench.trained_on()) == trainings
    requests = [bench.executor.requests[e.id] for e in bench.executions("examples")]
    assert [request.revision for request in requests] == [1, 2][:trainings]
    bench.kill()
    bench.start().settle()
    assert bench.of("examples").startswith(said)
    (folder / "late.csv").unlink()
    bench.settle()
    assert bench.of("examples").startswith("reuse examples span-1: same work as execution 2")
    assert len(bench.executions("examples")) == trainings
    bench.check()


def test_a_manifest_holds_a_span_until_every_file_is_what_it_says(tmp_path: Path) -> None:
    bench = start(tmp_path, "{manifest: MANIFEST.json}")
    folder = bench.root / "data/taxi/1"
    folder.mkdir(parents=True)
    good, bad = "fare\n1\n", "fare\n7\n"
    sha = {text: hashlib.sha256(text.encode()).hexdigest() for text in (good, bad)}
    entry = {"name": "trips.csv", "size": len(good), "sha256": sha[good]}
    (folder / "MANIFEST.json").write_text(json.dumps({"files": [entry]}))
    for _ in range(3):
        bench.settle()
        bench.clock.forward(minutes=5)
        assert bench.of("examples") == "wait examples span-1: not as MANIFEST.json says; trips.csv is missing"
        assert bench.controller.plans["taxi"].wake_at is None
    (folder / "trips.csv").write_text(bad)
    for _ in range(3):
        bench.settle()
        assert f"is {sha[bad]}, but its manifest says {sha[good]}" in bench.of("examples")
    assert not bench.executions("examples")
    (folder / "trips.csv").write_text(good)
    (folder / "notes.csv").write_text("nobody listed this")
    bench.settle()
    assert [Path(f.path).name for f in bench.executor.requests[bench.executions("examples")[0].id].files] == [
        "trips.csv"
    ]
    assert "ignored, as it is not listed: notes.csv" in bench.executions("examples")[0].because
    assert bench.trained_on() == ["span-1"]
    (folder / "trips.csv").write_text(bad)
    bench.settle()
    assert "read before, so windows wait" in bench.of("examples")
    assert bench.trained_on() == ["span-1"]


def test_a_missing_shard_holds_a_span_however_complete_it_says_it_is(tmp_path: Path) -> None:
    bench = start(tmp_path, "{marker: _SUCCESS}")
    folder = bench.span(1)
    (folder / "trips.csv").rename(folder / "trips-00001-of-00002.csv")
    bench.settle()
    assert bench.of("examples").startswith("wait examples span-1: 1 of 2 shards; missing 00000")
    (folder / "trips-00000-of-00002.csv").write_text("fare\n0\n")
    bench.settle()
    assert bench.trained_on() == ["span-1"]


def test_a_silent_source_is_noticed_without_an_event_logged_once_and_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ctd")
    bench = start(tmp_path, "{marker: _SUCCESS}, stale_after: 26h")
    bench.span(1)
    bench.settle()
    assert bench.views().status().pipelines[0].alerts == []
    bench.clock.forward(hours=25)
    bench.kill()
    bench.start().settle()
    bench.clock.forward(hours=2)
    while bench.controller.step(bench.clock.now() - bench.clock.now()):
        pass
    (view,) = bench.views().status().pipelines
    assert view.alerts[0].startswith("examples: no new span since 2026-01-01 00:00 UTC")
    assert view.state == "waiting"
    bench.settle()
    said = [r for r in caplog.records if r.getMessage() == Event.STALE.value]
    assert [vars(r)["node"] for r in said] == ["examples"]
    bench.span(2)
    bench.settle()
    assert bench.views().status().pipelines[0].alerts == []
