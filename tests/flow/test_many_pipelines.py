"""Fifty pipelines on one daemon with fewer slots than there is work, while data keeps arriving: all make progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from ctd.core.executions import State
from ctd.core.work import Request
from tests.flow.bench import Bench

MANY = 50
NAMES = [f"p{n:02}" for n in range(MANY)]
NOISE = 40  # spans that the noisy one gets where the others get one


class Town:
    """Pipelines whose work takes turns in few slots. A round ends one execution and lets the daemon go on."""

    def __init__(self, root: Path, *, parallel: int, names: list[str] = NAMES, **priorities: int) -> None:
        self.bench = Bench(root, parallel=parallel)
        self.spans: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        for name in names:
            path = self.bench.spec(name, window=1)
            path.write_text(path.read_text().replace("nodes:", f"priority: {priorities.get(name, 0)}\nnodes:", 1))
        self.names = names
        self.bench.start()

    def arrive(self, name: str, count: int = 1) -> None:
        """New spans, and the look that their file events ask for."""
        for _ in range(count):
            self.spans[name] += 1
            self.bench.span(self.spans[name], pipeline=name)
        self.bench.controller.look(name)

    def rounds(self, count: int) -> Iterator[Request]:
        """The oldest execution ends, in each of so many rounds."""
        for _ in range(count):
            self.go_on()
            running = sorted(self.bench.executor.running())
            if not running:
                return
            request = self.bench.executor.requests[running[0]]
            self.bench._succeed(request)
            self.ended[request.pipeline] += 1
            self.bench.clock.forward(seconds=1)
            yield request

    def go_on(self) -> None:
        self.bench.controller.step(timedelta(0))  # takes in what ended
        while self.bench.controller.step(timedelta(0)):
            pass


def test_fifty_pipelines_with_constant_arrivals_advance_together(tmp_path: Path) -> None:
    town = Town(tmp_path, parallel=4)
    town.bench.tick()
    for name in NAMES:
        town.arrive(name)
    behind = []
    for number, _ in enumerate(town.rounds(5 * MANY), start=1):
        if number % 5 == 0:  # more arrives than can be done, so that slots are always short
            town.arrive(NAMES[number // 5 % MANY])
        behind.append(max(town.ended[name] for name in NAMES) - min(town.ended[name] for name in NAMES))
    assert sum(town.ended.values()) == 5 * MANY, "slots were in use all the time"
    assert max(behind) <= 2, "nobody is ever further ahead"
    assert min(town.ended[name] for name in NAMES) >= 4
    town.go_on()
    town.bench.check()


def test_what_waits_for_a_slot_is_not_looked_at_each_time_another_gets_one(tmp_path: Path) -> None:
    town = Town(tmp_path, parallel=4)
    town.bench.tick()
    for name in NAMES:
        town.arrive(name, 2)
    for _ in town.rounds(10):
        pass
    observe, looks = town.bench.observer.observe, []
    town.bench.observer.observe = lambda spec, *rest: (looks.append(spec.name), observe(spec, *rest))[1]  # type: ignore[method-assign]
    ended = len(list(town.rounds(2 * MANY)))
    assert ended == 2 * MANY
    assert len(looks) <= 3 * ended, "at who ended, and at who goes next"


def test_a_noisy_pipeline_takes_no_more_than_its_turn(tmp_path: Path) -> None:
    town = Town(tmp_path, parallel=2)
    town.bench.tick()
    town.arrive("p00", NOISE)
    for _ in town.rounds(5):
        pass
    for name in NAMES[1:]:
        town.arrive(name)
    before = town.ended["p00"]
    for number, _ in enumerate(town.rounds(3 * MANY)):
        if number % 10 == 0:
            town.arrive("p00", 2)  # and it goes on making noise
    others = [town.ended[name] for name in NAMES[1:]]
    assert town.ended["p00"] - before <= min(others) + 2
    assert max(others) - min(others) <= 2


def test_a_backlog_of_one_does_not_make_the_newest_span_of_another_wait_for_it(tmp_path: Path) -> None:
    town = Town(tmp_path, parallel=1, names=["noisy", "quiet"])
    town.bench.tick()
    for _ in town.rounds(2):  # their schemas
        pass
    town.arrive("noisy", NOISE)
    for _ in town.rounds(6):
        pass
    town.arrive("quiet")
    work = [request for request in town.rounds(9) if request.pipeline == "quiet"]
    assert [request.node for request in work] == ["examples", "statistics", "validator", "trainer"]


def test_a_higher_priority_goes_first_and_the_rest_share_what_it_leaves(tmp_path: Path) -> None:
    town = Town(tmp_path, parallel=2, p07=5)
    town.bench.tick()
    for name in NAMES:
        town.arrive(name)
    for number, request in enumerate(town.rounds(2 * MANY)):
        if request.pipeline == "p07" and request.node == "trainer":
            assert number < 12, "one piece of work at a time of each span is all that it can use"
            break
    others = [town.ended[name] for name in NAMES if name != "p07"]
    assert max(others) - min(others) <= 1
    for _ in town.rounds(4 * MANY):
        pass
    assert min(town.ended.values()) >= 3
    assert len(town.ended) == MANY


def test_what_is_higher_in_priority_all_the_time_leaves_the_slots_that_it_cannot_use(tmp_path: Path) -> None:
    town = Town(tmp_path, parallel=2, names=["first", *NAMES[:5]], first=1)
    town.bench.tick()
    for name in town.names:
        town.arrive(name)
    for request in town.rounds(60):
        if request.pipeline == "first" and request.node == "trainer":
            town.arrive("first")  # its next span is there as soon as the last one is done
    assert town.ended["first"] >= 20, "it is never held up"
    assert min(town.ended[name] for name in NAMES[:5]) == 5, "and nobody waits for ever"
    done = {e.pipeline for e in town.bench.executions("trainer", State.SUCCEEDED)}
    assert done == set(town.names)
