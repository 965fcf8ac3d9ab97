"""Spans that are complete by being quiet, or that cannot be read for a while: windows neither shrink nor retrain."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flow.bench import Bench

QUIET = "{quiet: 30s}"


@pytest.fixture
def quiet(tmp_path: Path) -> Bench:
    """Two spans that have been quiet for long enough, and a model of them."""
    bench = Bench(tmp_path)
    bench.clock.jump(days=365 * 20)  # later than the times of the files
    bench.spec(complete=QUIET)
    for number in (1, 2):
        bench.span(number, marker=False)
    bench.start()
    pass_quietly(bench)
    assert bench.trained_on() == ["spans 1..2 (2)"]
    return bench


def pass_quietly(bench: Bench) -> None:
    bench.settle()
    bench.clock.forward(seconds=30)
    bench.settle()


def test_a_span_waits_for_its_quiet_period(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.spec(complete=QUIET)
    bench.span(1, marker=False)
    bench.start().tick()
    assert "unchanged for 0s of 30s" in bench.of("examples")
    bench.clock.forward(seconds=29)
    bench.span(1, "fare\n1\n2\n", marker=False)
    bench.tick()
    bench.clock.forward(seconds=29)
    bench.settle()
    assert not bench.executions("examples")
    bench.clock.forward(seconds=1)
    bench.settle()
    assert bench.trained_on() == ["span-1"]


@pytest.mark.parametrize("seconds", [0, 10, 40])
def test_after_a_restart_what_was_read_before_is_complete_at_once(quiet: Bench, seconds: int) -> None:
    before = quiet.executions()
    quiet.kill()
    quiet.start().settle()
    assert quiet.of("trainer").startswith("reuse trainer spans 1..2 (2)")
    quiet.clock.forward(seconds=seconds)
    quiet.settle()
    assert quiet.executions() == before
    assert quiet.of("trainer").startswith("reuse trainer spans 1..2 (2)")


def test_a_new_span_beside_old_ones_after_a_restart(quiet: Bench) -> None:
    quiet.kill()
    quiet.span(3, marker=False)
    quiet.start().settle()
    assert quiet.trained_on() == ["spans 1..2 (2)"]
    pass_quietly(quiet)
    assert quiet.trained_on() == ["spans 1..2 (2)", "spans 1..3 (3)"]
    quiet.check()


def test_a_touched_span_is_what_it_was(quiet: Bench) -> None:
    folder = quiet.span(2, marker=False)
    (folder / "trips.csv").touch()
    quiet.settle()
    assert quiet.of("trainer").startswith("reuse trainer spans 1..2 (2)")
    pass_quietly(quiet)
    assert quiet.trained_on() == ["spans 1..2 (2)"]


def test_a_span_corrected_in_place_holds_its_windows_until_it_is_quiet_again(quiet: Bench) -> None:
    quiet.span(2, "fare\n22\n", marker=False)
    quiet.settle()
    assert "read before" in quiet.of("trainer")
    pass_quietly(quiet)
    assert quiet.trained_on() == ["spans 1..2 (2)"] * 2, "never on span 1 alone"
    quiet.check()


def test_a_correction_during_a_restart_is_noticed(quiet: Bench) -> None:
    quiet.kill()
    quiet.span(1, "fare\n11\n", marker=False)
    quiet.start().settle()
    assert quiet.trained_on() == ["spans 1..2 (2)"]
    pass_quietly(quiet)
    assert quiet.trained_on() == ["spans 1..2 (2)"] * 2
    quiet.check()


def test_a_span_that_is_removed_leaves_at_once(quiet: Bench) -> None:
    quiet.remove(2)
    quiet.settle()
    assert quiet.trained_on() == ["spans 1..2 (2)", "span-1"]


@pytest.mark.parametrize("what", ["trips.csv", ""])
def test_what_cannot_be_read_for_a_while_is_not_gone(quiet: Bench, what: str) -> None:
    before = quiet.executions()
    path = quiet.root / "data/taxi/2" / what
    moved = quiet.root / "moved"
    path.rename(moved)
    path.symlink_to(path)  # as an error of the disk, for root too
    quiet.settle()
    assert "Too many levels" in quiet.of("examples")
    assert "read before" in quiet.of("trainer")
    path.unlink()
    moved.rename(path)
    pass_quietly(quiet)
    assert quiet.executions() == before
    assert quiet.of("trainer").startswith("reuse trainer spans 1..2 (2)")


@pytest.mark.parametrize(
    ("pattern", "places", "away"),
    [
        pytest.param("{SPAN}/v{VERSION}", ("1/v1", "2/v1", "2/v2"), "2", id="the versions of a span"),
        pytest.param("{YYYY}/{MM}/{DD}", ("2025/12/31", "2026/01/01", "2026/01/02"), "2026", id="a year"),
        pytest.param("{YYYY}/{MM}/{DD}", ("2025/12/31", "2026/01/01", "2026/01/02"), "2026/01", id="a month"),
    ],
)
def test_a_folder_of_spans_that_cannot_be_read_is_not_gone(
    tmp_path: Path, pattern: str, places: tuple[str, ...], away: str
) -> None:
    bench = Bench(tmp_path)
    path = bench.spec()
    path.write_text(path.read_text().replace("{SPAN}", pattern))
    for place in places:
        folder = bench.root / "data/taxi" / place
        folder.mkdir(parents=True)
        (folder / "trips.csv").write_text(f"fare\n{place}\n")
        (folder / "_SUCCESS").touch()
    bench.start().settle()
    before = bench.executions()
    span, moved = bench.root / "data/taxi" / away, bench.root / "moved"
    span.rename(moved)
    span.symlink_to(span)
    bench.settle()
    assert "Too many levels" in bench.of("trainer")
    span.unlink()
    moved.rename(span)
    bench.settle()
    assert bench.executions() == before
    assert bench.of("trainer").startswith("reuse trainer")


def test_a_span_without_its_marker_is_taken_back(tmp_path: Path) -> None:
    """Taking the marker away says so on purpose, as removing the folder does."""
    bench = Bench(tmp_path)
    bench.spec()
    for number in (1, 2):
        bench.span(number)
    bench.start().settle()
    (bench.root / "data/taxi/2/_SUCCESS").unlink()
    bench.settle()
    assert bench.trained_on() == ["spans 1..2 (2)", "span-1"]


def test_a_span_on_its_way_warms_up_what_will_read_it_and_the_same_one_only_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.spec(complete="{marker: _SUCCESS}")
    bench.start().settle()
    before = bench.executor.warmed_up
    bench.span(1, marker=False)
    bench.tick()
    assert bench.executor.warmed_up == before + 1
    bench.span(1, "fare\n1\n2\n", marker=False)
    bench.clock.forward(minutes=40)
    bench.tick()
    assert bench.executor.warmed_up == before + 1
    bench.span(2, marker=False)
    bench.tick()
    assert bench.executor.warmed_up == before + 2
