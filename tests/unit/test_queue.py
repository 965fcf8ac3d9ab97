"""The queue of pipelines: each once, the earliest time, never two takers, and `again` is not forgotten."""

import threading
import time
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from ctd.core.timing import ManualClock, SystemClock
from ctd.engine.queue import DelayQueue

NOW = timedelta(0)


def drained(queue: DelayQueue) -> list[str]:
    taken = []
    while (name := queue.take(NOW)) is not None:
        taken.append(name)
    return taken


def test_an_empty_queue_gives_nothing_after_the_timeout() -> None:
    began = time.monotonic()
    assert DelayQueue(SystemClock()).take(timedelta(milliseconds=30)) is None
    assert time.monotonic() - began >= 0.03


def test_many_events_are_one_look() -> None:
    queue = DelayQueue(ManualClock())
    for _ in range(40):
        queue.add("taxi")
    assert drained(queue) == ["taxi"]


def test_names_come_in_the_order_in_which_they_became_due() -> None:
    clock = ManualClock()
    queue = DelayQueue(clock)
    queue.add("late", clock.now() + timedelta(seconds=2))
    queue.add("early", clock.now() + timedelta(seconds=1))
    assert drained(queue) == []
    clock.forward(seconds=3)
    queue.add("now")
    assert drained(queue) == ["early", "late", "now"]


def test_the_earliest_time_wins_whatever_the_order() -> None:
    for delays in ((5, 1), (1, 5)):
        clock = ManualClock()
        queue = DelayQueue(clock)
        for seconds in delays:
            queue.add("taxi", clock.now() + timedelta(seconds=seconds))
        assert queue.next_in() == timedelta(seconds=1)
        clock.forward(seconds=1)
        assert drained(queue) == ["taxi"]
        clock.forward(seconds=10)
        queue.done("taxi")
        assert drained(queue) == []


def test_a_busy_name_is_not_given_twice_and_again_is_remembered() -> None:
    queue = DelayQueue(ManualClock())
    queue.add("taxi")
    assert queue.take(NOW) == "taxi"
    queue.add("taxi")
    queue.add("taxi")
    queue.add("bikes")
    assert drained(queue) == ["bikes"]
    queue.done("taxi")
    assert drained(queue) == ["taxi"]
    queue.done("taxi")
    assert drained(queue) == []


def test_a_forgotten_name_does_not_come() -> None:
    queue = DelayQueue(ManualClock())
    queue.add("taxi")
    queue.forget("taxi")
    assert queue.next_in() is None
    assert drained(queue) == []


def test_a_time_in_the_past_is_now() -> None:
    clock = ManualClock()
    queue = DelayQueue(clock)
    queue.add("taxi", clock.now() - timedelta(days=1))
    assert queue.next_in() == NOW
    assert drained(queue) == ["taxi"]


def test_a_wall_clock_set_back_holds_nothing_up() -> None:
    clock = ManualClock()
    queue = DelayQueue(clock)
    queue.add("taxi", clock.now() + timedelta(seconds=1))
    clock.forward(seconds=1)
    clock._now -= timedelta(hours=1)
    assert drained(queue) == ["taxi"]


def test_adding_and_finishing_wake_a_waiting_taker() -> None:
    queue = DelayQueue(SystemClock())
    taken: list[str | None] = []
    waiting = threading.Thread(target=lambda: taken.extend(queue.take(timedelta(seconds=100)) for _ in range(2)))
    waiting.start()
    queue.add("taxi")
    while not taken:
        time.sleep(0.001)
    queue.add("taxi")
    queue.done("taxi")
    waiting.join(100)
    assert taken == ["taxi", "taxi"]


def test_a_taker_waits_for_the_earlier_of_two_times() -> None:
    queue = DelayQueue(SystemClock())
    now = SystemClock().now()
    queue.add("taxi", now + timedelta(hours=1))
    threading.Timer(0.02, lambda: queue.add("taxi", now + timedelta(milliseconds=50))).start()
    assert queue.take(timedelta(seconds=100)) == "taxi"


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "done", "pass"]), st.sampled_from("abc"), st.integers(0, 9))))
def test_nothing_added_is_ever_lost_or_worked_on_twice_at_once(steps: list[tuple[str, str, int]]) -> None:
    clock = ManualClock()
    queue = DelayQueue(clock)
    wanted: set[str] = set()
    busy: set[str] = set()
    for step, name, seconds in steps:
        match step:
            case "add":
                queue.add(name, clock.now() + timedelta(seconds=seconds))
                wanted.add(name)
            case "take":
                if (taken := queue.take(NOW)) is not None:
                    assert taken not in busy
                    assert taken in wanted
                    wanted.discard(taken)
                    busy.add(taken)
            case "done":
                queue.done(name)
                busy.discard(name)
            case "pass":
                clock.forward(seconds=seconds)
    for name in busy:
        queue.done(name)
    clock.forward(seconds=10)
    assert set(drained(queue)) == wanted


def test_what_could_be_taken_now_is_told_without_taking_it() -> None:
    clock = ManualClock()
    queue = DelayQueue(clock)
    queue.add_all(["now", "busy"])
    queue.add("later", clock.now() + timedelta(seconds=1))
    assert queue.take(NOW) == "now"
    queue.add("now")
    assert queue.due() == {"busy"}
    queue.done("now")
    clock.forward(seconds=1)
    assert queue.due() == {"now", "busy", "later"}
    assert set(drained(queue)) == {"now", "busy", "later"}
