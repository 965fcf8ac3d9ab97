"""How long a failed attempt waits for the next: longer each time, apart from others, and always the same."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from ctd.core.errors import (
    OF_THE_MACHINE,
    ComponentTimeout,
    Pace,
    StorageUnavailable,
    TargetUnavailable,
    TemporaryError,
    pace_of,
)
from ctd.core.executions import Failure
from ctd.core.fingerprints import digest_of
from ctd.core.timing import backoff
from ctd.planning.decisions import Blocked, Wait
from tests.unit.planning_world import Bench

PACES = st.sampled_from([c.pace for c in (TemporaryError, StorageUnavailable, TargetUnavailable, ComponentTimeout)])
SEEDS = st.text(min_size=1)


@given(PACES, SEEDS, st.integers(1, 10_000))
def test_a_back_off_stays_within_its_bounds_and_is_always_the_same(pace: Pace, seed: str, attempt: int) -> None:
    full = backoff(attempt, first=pace.first, most=pace.most, growth=pace.growth)
    once = backoff(attempt, first=pace.first, most=pace.most, growth=pace.growth, seed=seed)
    assert full / 2 <= once <= full <= pace.most
    assert once == backoff(attempt, first=pace.first, most=pace.most, growth=pace.growth, seed=seed)


@given(PACES.filter(lambda pace: pace.growth >= 2), SEEDS, st.integers(1, 50))
def test_a_back_off_never_shrinks_before_it_reaches_its_ceiling(pace: Pace, seed: str, attempt: int) -> None:
    pauses = [
        backoff(n, first=pace.first, most=pace.most, growth=pace.growth, seed=seed) for n in (attempt, attempt + 1)
    ]
    if backoff(attempt + 1, first=pace.first, most=timedelta.max, growth=pace.growth) <= pace.most:
        assert pauses == sorted(pauses)


@given(st.integers(1, 12), st.integers())
def test_what_failed_together_comes_back_apart(attempt: int, salt: int) -> None:
    pace = TemporaryError.pace
    works = [digest_of([salt, n]) for n in range(1000)]
    pauses = [backoff(attempt, first=pace.first, most=pace.most, seed=work) for work in works]
    full = backoff(attempt, first=pace.first, most=pace.most)
    quarters = [sum(1 for p in pauses if (full / 8) * n <= p - full / 2 < (full / 8) * (n + 1)) for n in range(4)]
    assert all(150 < count < 350 for count in quarters), quarters


def test_the_errors_class_says_how_fast() -> None:
    assert pace_of("TargetUnavailable") == TargetUnavailable.pace != TemporaryError.pace
    assert pace_of("ComponentTimeout").first > pace_of("WorkerLost").first
    assert pace_of("InputChanged") == pace_of("of a component's own") == pace_of("") == TemporaryError.pace
    assert pace_of("StorageUnavailable") == pace_of("MachineUnavailable") == OF_THE_MACHINE


def test_a_model_that_never_comes_to_a_result_in_its_server_is_not_tried_for_ever() -> None:
    bench = Bench(failures={"examples": Failure("ServerDeadline", "did not load", retryable=True)})
    bench.arrive(1)
    for _ in range(3):
        run = next(r for r in bench.plan().runs if r.subject.node == "examples")
        bench.finish(bench.start(run), run)
        bench.now += timedelta(hours=1)
    (decision,) = (d for d in bench.plan().decisions if d.subject.node == "examples")
    assert isinstance(decision, Blocked)
    assert decision.because.startswith("3 times in a row: did not load")


def test_a_plan_waits_as_long_as_the_class_says_and_says_the_same_twice() -> None:
    bench = Bench(failures={"examples": Failure("ComponentTimeout", "too long", retryable=True)})
    bench.arrive(1)
    run = next(r for r in bench.plan().runs if r.subject.node == "examples")
    failed = bench.finish(bench.start(run), run)
    waits = [next(d for d in bench.plan().decisions if d.subject.node == "examples") for _ in range(2)]
    assert isinstance(waits[0], Wait)
    assert waits[0] == waits[1]
    assert failed.ended
    assert waits[0].until
    pace = ComponentTimeout.pace
    assert pace.first / 2 <= waits[0].until - failed.ended <= pace.first


@given(SEEDS, st.integers(1, 600))
def test_what_the_machine_refused_is_tried_again_within_a_tenth_of_the_time_that_it_lasted(
    seed: str, lasted: int
) -> None:
    """A fault of a minute has healed ten seconds after its end, and one of an hour has cost few attempts."""
    pace = OF_THE_MACHINE
    passed, attempt = 0.0, 0
    while passed < lasted:
        attempt += 1
        pause = backoff(attempt, first=pace.first, most=pace.most, growth=pace.growth, seed=seed).total_seconds()
        passed += pause
    assert pause <= 2 + lasted / 5
    if lasted <= 60:
        assert passed - lasted <= 9
    assert attempt <= 70
