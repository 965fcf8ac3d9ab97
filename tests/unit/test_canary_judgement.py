"""What takes a canary back: figures in, a reason out. And what a target's file may say of canaries."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctd.components.canary_judgement import ENOUGH, Tally, difference
from ctd.specs.load import load_folder
from ctd.specs.targets import Canary, TfServingTarget, Watch

ALL = Watch(errors=0.0, latency=2.0, drift=0.1)
TARGET: dict[str, Any] = {"target": "serving", "kind": "tf_serving", "path": "/serving"}
SERVER = {"grpc": "127.0.0.1:8500", "config": "/etc/models.config"}


def answer(*scores: float, name: str = "score") -> dict[str, Any]:
    return {name: np.array(scores, np.float32)}


def tally(
    *, limits: Watch = ALL, requests: int = 10, off: float = 0.0, seconds: tuple[float, float] = (0.01, 0.01)
) -> Tally:
    """A canary that was asked each of ten requests as often, and is off by so much, and takes so long."""
    made = Tally(limits, distinct=10)
    for number in range(requests):
        made.answered(number % 10, answer(0.5), answer(0.5 + off), seconds)
    return made


def test_the_same_answers_as_fast_are_no_complaint() -> None:
    made = tally(requests=300)
    assert (made.complaint(), made.complaint(over=True)) == ("", "")
    assert made.said == "300 requests, 0 errors, p95 1.0x, drift 0"


def test_the_first_error_ends_a_trial_where_none_is_allowed() -> None:
    made = tally(requests=3)
    made.not_answered("request 4: INVALID_ARGUMENT: no such feature")
    assert made.complaint() == (
        "errors: 1 of 4 requests failed (request 4: INVALID_ARGUMENT: no such feature), allowed is 0"
    )


def test_a_share_of_errors_is_judged_when_there_are_enough_or_at_the_end() -> None:
    made = tally(limits=Watch(errors=0.05), requests=18)
    for _ in range(2):
        made.not_answered("request 1: late")
    assert made.complaint() == "", "2 of 20 may become 2 of 1000"
    assert "2 of 20 requests failed" in made.complaint(over=True)
    for _ in range(4):
        made.not_answered("request 1: late")
    assert "6 of 24 requests failed" in made.complaint(), "more than 5 % of a hundred"


def test_drift_is_judged_when_every_request_was_sent_once() -> None:
    assert tally(requests=9, off=0.2).complaint() == ""
    assert tally(requests=10, off=0.2).complaint() == (
        "drift: output 'score' differs by 0.2 in the mean of 10 requests, limit 0.1"
    )
    assert "in the mean of 9 requests" in tally(requests=9, off=0.2).complaint(over=True)
    assert tally(requests=200, off=0.09).complaint(over=True) == ""


def test_a_request_counts_once_in_the_mean_however_often_it_was_sent() -> None:
    made = Tally(ALL, distinct=2)
    made.answered(0, answer(0.5), answer(1.0), (0.01, 0.01))
    for _ in range(50):
        made.answered(1, answer(0.5), answer(0.5), (0.01, 0.01))
    assert made.drifts == {"score": 0.25}


def test_latency_is_a_ratio_of_both_and_needs_enough_answers() -> None:
    slow = (0.010, 0.030)
    assert tally(requests=ENOUGH - 10, seconds=slow).complaint() == ""
    expected = "latency: p95 30.0 ms after 10.0 ms of the live version: 3.0x, limit 2x"
    assert tally(requests=ENOUGH, seconds=slow).complaint() == expected
    assert tally(requests=20, seconds=slow).complaint(over=True) == expected
    assert tally(requests=19, seconds=slow).complaint(over=True) == "", "too few to tell"
    assert tally(requests=ENOUGH, seconds=(0.001, 0.004)).complaint(over=True) == "", "nobody notices 3 ms"
    assert tally(requests=ENOUGH, seconds=(0.3, 0.31)).complaint(over=True) == "", "a slow machine is slow for both"


@pytest.mark.parametrize(
    ("canary", "words"),
    [
        (answer(0.5, name="other"), "the outputs are other instead of score"),
        (answer(0.5, 0.5), "output 'score' has shape (2,) instead of (1,)"),
        ({"score": np.array([1])}, "output 'score' is of int64 instead of float32"),
    ],
)
def test_answers_in_another_form_are_errors(canary: dict[str, Any], words: str) -> None:
    made = Tally(ALL, distinct=10)
    made.answered(0, answer(0.5), canary, (0.01, 0.01))
    assert words in made.complaint()
    unwatched = Tally(Watch(drift=0.1), distinct=10)
    unwatched.answered(0, answer(0.5), canary, (0.01, 0.01))
    assert words in unwatched.complaint(over=True), "nothing was compared, which shows nothing"


def test_a_trial_in_which_nothing_could_be_compared_shows_nothing() -> None:
    made = Tally(ALL, distinct=10)
    assert made.complaint() == ""
    made.refused = "INVALID_ARGUMENT: input size does not match signature"
    assert "the live version answers none of the requests (INVALID_ARGUMENT" in made.complaint(over=True)


def test_an_output_more_is_no_error() -> None:
    made = Tally(ALL, distinct=1)
    made.answered(0, answer(0.5), {**answer(0.5), **answer(0.7, name="new")}, (0.01, 0.01))
    assert made.complaint(over=True) == ""
    assert made.drifts == {"score": 0}


def test_a_signature_that_only_the_canary_takes_is_judged_by_its_errors() -> None:
    made = Tally(ALL, distinct=10)
    for _ in range(10):
        made.not_compared("INVALID_ARGUMENT: input size does not match", canary=True)
    assert (made.complaint(), made.complaint(over=True)) == ("", "")
    assert made.said == (
        "not compared, the live version takes none of the 10 requests (INVALID_ARGUMENT: input size does not match)"
    )
    made.not_compared("INVALID_ARGUMENT: input size does not match", canary=False)
    assert "1 of 11 requests are answered by neither version" in made.complaint(over=True)


def test_numbers_that_are_none_are_infinitely_far_and_words_differ_by_their_share() -> None:
    assert math.isinf(difference(*(answer(x)["score"] for x in (0.5, math.nan))))
    assert difference(*(answer(x)["score"] for x in (math.nan, math.nan))) == 0
    assert difference(np.array([b"a", b"b"], object), np.array([b"a", b"c"], object)) == 0.5
    made = tally(off=math.inf)
    assert "drift" in made.complaint()
    assert made.to_json()["drift"] == {"score": "inf"}


@settings(max_examples=100)
@given(st.floats(0, 1), st.integers(0, 150), st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_what_ends_a_trial_early_takes_it_back_at_the_end(
    off: float, requests: int, live: float, canary: float
) -> None:
    made = tally(requests=requests, off=off, seconds=(live, canary))
    if made.complaint():
        assert made.complaint(over=True) == made.complaint()


def test_usual_limits_by_name_and_limits_of_ones_own() -> None:
    assert Canary().watch == ALL
    assert Canary.model_validate({"watch": ["drift"]}).watch == Watch(drift=0.1)
    assert Canary.model_validate({"watch": {"errors": 0.01}}).watch == Watch(errors=0.01)


def test_an_edit_of_a_canary_pushes_nothing_again() -> None:
    plain = TfServingTarget.model_validate(TARGET)
    tried = TfServingTarget.model_validate({**TARGET, "server": SERVER, "canary": {"bake": "1h"}})
    assert tried.settings("taxi") == plain.settings("taxi")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("canary: {}", "a canary needs `server`"),
        ("server: {grpc: 'a:1'}\ncanary: {}", "a canary needs `config`"),
        ("server: {grpc: 'a:1', config: c}\ncanary: {label: stable}", "the label 'stable' is the live version's"),
        ("server: {grpc: 'a:1', config: c}\ncanary: {watch: []}", "nothing is watched"),
        ("server: {grpc: 'a:1', config: c}\ncanary: {watch: [error]}", "'error' is nothing that can be watched"),
        ("server: {grpc: 'a:1', config: c}\ncanary: {watch: {errors: 1}}", "errors"),
        ("server: {grpc: 'a:1', config: c}\ncanary: {bake: 0s}", "longer than nothing"),
    ],
)
def test_what_cannot_be_is_said_at_its_line(tmp_path: Path, said: str, words: str) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "targets").mkdir()
    file = tmp_path / "targets/serving.yaml"
    file.write_text(f"target: serving\nkind: tf_serving\npath: p\n{said}\n")
    loaded = load_folder(tmp_path / "specs", tmp_path / "targets")
    (problems,) = loaded.problems.values()
    assert [p for p in problems if words in p.message and p.line == len(file.read_text().splitlines())], problems
