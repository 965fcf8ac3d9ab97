"""What the benchmark beside TFX makes of its measurements."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.comparison import (
    CTD,
    PEER,
    Goal,
    Round,
    Sample,
    Spread,
    at_most,
    cases_table,
    details_table,
    goals_table,
    memory_table,
    peak_of,
    ratio_of,
    round_from_json,
    round_to_json,
    seconds_of,
    shown,
    shown_seconds,
    step_seconds,
    steps_table,
    times_faster,
)
from bench.process_tree import cpu_of_tree, megabytes_of_tree
from bench.results import NEW, goals, page
from bench.sides import LIMIT, phases_of
from bench.taxi_spans import Trips, drop
from ctd.specs.load import load_folder

BENCH = Path(__file__).parents[2] / "bench"


def rounds(*seconds: tuple[float, float], case: str = NEW) -> list[Round]:
    """Rounds of one case with ctd's and the peer's seconds."""
    return [{case: {CTD: Sample(ours), PEER: Sample(theirs)}} for ours, theirs in seconds]


def found(**said: Any) -> dict[str, Any]:
    """What stands in the page beside the rounds."""
    quiet = {"before": [0.1, 0.1, 0.1], "after": [1.0, 1.0, 1.0]}
    about = {"date": "2026-01-01", "commit": "abc", "command": "bench", "machine": {"cores": "2"}}
    return {**about, "load": quiet, "size": {"rows": 1}, "looks": [[0.01] * 100], "metrics": [{}], **said}


def test_the_ratio_is_the_median_of_the_ratios_of_rounds() -> None:
    measured = rounds((10, 50), (20, 60), (10, 80))
    assert ratio_of(measured, NEW) == Spread(5, 3, 8)
    assert seconds_of(measured, NEW, PEER) == Spread(60, 50, 80)


def test_a_round_without_the_peer_has_no_ratio() -> None:
    alone: list[Round] = [{NEW: {CTD: Sample(10)}}]
    assert ratio_of(alone, NEW) is None
    assert ratio_of([*alone, *rounds((10, 20))], NEW) == Spread(2, 2, 2)
    assert cases_table(alone).splitlines()[-1] == f"| {NEW} | 10.0 s |  |  |  |  |"


def test_no_values_have_no_spread() -> None:
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


@pytest.mark.parametrize(("seconds", "text"), [(0.0042, "4.2 ms"), (0.5, "0.50 s"), (9.99, "9.99 s"), (52.7, "52.7 s")])
def test_seconds_are_shown_as_exactly_as_they_are_worth(seconds: float, text: str) -> None:
    assert shown_seconds(seconds) == text


def test_a_spread_is_shown_only_where_there_is_one() -> None:
    assert shown(Spread.of([1, 2, 4]), shown_seconds) == "2.00 s (1.00 s to 4.00 s)"
    assert shown(Spread.of([2]), shown_seconds) == "2.00 s"
    assert shown(None, shown_seconds) == ""


def test_a_step_is_the_sum_of_its_parts() -> None:
    steps = {"evaluator.metrics": 3.0, "evaluator.verdict": 0.5, "examples": 0.2}
    measured: list[Round] = [{NEW: {CTD: Sample(4, steps), PEER: Sample(20, {"Evaluator": 14.0})}}]
    assert step_seconds(measured, NEW, CTD, ("evaluator.metrics", "evaluator.verdict")) == Spread(3.5, 3.5, 3.5)
    assert step_seconds(measured, NEW, CTD, ("infra",)) is None
    lines = steps_table(measured, NEW).splitlines()
    assert "| evaluate and judge | 3.50 s | 14.0 s | 4.0 |" in lines
    assert "| all steps, added up | 3.70 s | 14.0 s |  |" in lines
    assert "| **the whole** | 4.00 s | 20.0 s | 5.0 |" in lines


def test_details_are_medians_and_blank_where_there_is_none() -> None:
    said = [{"trainer": {"took": 1.0, "run": 0.5}, "pusher": {"took": 2.0}}, {"trainer": {"took": 3.0, "run": 0.7}}]
    measured: list[Round] = [{NEW: {CTD: Sample(4, details=details)}} for details in said]
    assert details_table(measured, NEW, CTD, "execution").splitlines()[2:] == [
        "| trainer | 2.00 | 0.60 |",
        "| pusher | 2.00 |  |",
    ]


def test_phases_are_in_their_order_as_recorded_without_those_before_the_start() -> None:
    timings = {"publish": 0.6, "digest": 0.1, "import": 0.2, "run": 3.0, "start": 0.1, "wait": 2.0}
    phases = phases_of(1.5, timedelta(seconds=4), timings)
    assert list(phases) == ["began at", "took", "start", "import", "run", "digest", "publish"]
    assert sum(phases.values()) == pytest.approx(1.5 + 4 + 4), "the phases are all of the time that it took"


def test_measurements_survive_being_kept() -> None:
    measured: Round = {NEW: {CTD: Sample(4, {"trainer": 1.0}, 6.5, 800, {"trainer": {"run": 1.0}}), PEER: Sample(20)}}
    assert round_from_json(round_to_json(measured)) == measured


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        pytest.param(at_most("g", 10, Spread(9.9, 9, 12)), True, id="the median counts"),
        pytest.param(at_most("g", 10, Spread(10.1, 9, 12)), False, id="too slow"),
        pytest.param(at_most("g", 10, None), None, id="not measured"),
        pytest.param(times_faster("g", 5, Spread(5, 4, 6)), True, id="five times is enough"),
        pytest.param(times_faster("g", 5, Spread(4.9, 4, 6)), False, id="not enough"),
        pytest.param(times_faster("g", 5, None), None, id="no peer"),
    ],
)
def test_a_goal_is_met_or_missed(goal: Goal, met: bool | None) -> None:
    assert goal.met is met
    verdict = "not measured" if met is None else "met" if met else "**missed**"
    assert goals_table([goal]).splitlines()[-1].endswith(f"| {verdict} |")


def test_memory_is_the_most_of_any_case() -> None:
    sampled: list[Round] = [
        {"a": {CTD: Sample(1, megabytes=900), PEER: Sample(1, megabytes=1500)}, "b": {CTD: Sample(1, megabytes=1100)}}
    ]
    assert (peak_of(sampled, CTD), peak_of(sampled, PEER)) == (1100, 1500)
    assert memory_table(sampled).splitlines()[2:] == ["| a | 900 MB | 1,500 MB |", "| b | 1,100 MB |  |"]
    assert memory_table(rounds((1, 2))).splitlines()[2:] == []


@pytest.mark.parametrize(("last", "met"), [(0.0105, True), (0.02, False)])
def test_looks_must_stay_as_cheap_as_the_first(last: float, met: bool) -> None:
    spent = [0.01] * 90 + [last] * 10
    judged = {g.what: g.met for g in goals(found(looks=[spent]), rounds((8, 50)), [])}
    assert judged["100 looks where nothing changed"] is met


def test_the_page_says_what_is_missed_and_what_is_not_to_be_relied_on() -> None:
    text = page(found(), rounds((8, 50)), [])
    assert f"| {NEW} | at most 10.0 s | 8.00 s | met |" in text
    assert "| peak memory of all cases | under TFX's |  | not measured |" in text
    assert "**missed**" not in text
    assert "**missed**" in page(found(), rounds((11, 50)), [])
    assert "not figures to rely on" not in text
    assert "machine was busy" in page(found(load={"before": [3.0], "after": [3.0]}), rounds((8, 50)), [])
    assert "trial of the harness" in page(found(size={"rows": 0.1}), rounds((8, 50)), [])


def test_the_page_says_what_models_are_worth_on_both_sides() -> None:
    metrics = {NEW: {CTD: {"auc": 0.942987, "example_count": 4940.0}, PEER: {"auc": 0.942986}}}
    lines = page(found(metrics=[metrics]), rounds((8, 50)), []).splitlines()
    assert f"| {NEW} | ctd | 0.942987 | 4940 |" in lines
    assert f"| {NEW} | TFX | 0.942986 |  |" in lines


def test_the_page_says_how_long_it_takes_until_a_server_answers() -> None:
    served = [{"cold": {"served": each, "pusher.serving": 1.5}, "edit": {"served": 0.2}} for each in (9, 8, 10)]
    lines = page(found(served=served), rounds((8, 50)), []).splitlines()
    assert "| cold | 9.00 s | 8.00 s | 10.0 s | 1.50 s |" in lines
    assert "| edit | 0.20 s | 0.20 s | 0.20 s |  |" in lines


def test_spans_are_drawn_anew_and_always_alike(tmp_path: Path) -> None:
    trips = Trips("a,b", tuple(f"{n},{n}" for n in range(100)), tmp_path)
    assert trips.drawn(1) == trips.drawn(1) != trips.drawn(2)
    assert len(trips.drawn(1, 10).splitlines()) == 1001
    marker = drop(tmp_path / "span-1", trips.drawn(1))
    assert marker.exists()
    assert (tmp_path / "span-1/trips.csv").read_text().startswith("a,b\n")


def test_the_spec_of_the_benchmark_is_valid_and_has_the_limit_that_is_edited() -> None:
    loaded = load_folder(BENCH / "taxi/specs", BENCH / "taxi/deploy_targets")
    assert [spec.name for spec in loaded.pipelines.values()] == ["taxi"]
    assert f"at_least: {LIMIT}" in (BENCH / "taxi/specs/taxi.yaml").read_text()


def test_the_memory_and_cpu_of_a_tree_count_this_process() -> None:
    assert megabytes_of_tree(os.getpid()) > 10
    assert cpu_of_tree(os.getpid()) > 0
    assert megabytes_of_tree(2**22 + 1) == cpu_of_tree(2**22 + 1) == 0
