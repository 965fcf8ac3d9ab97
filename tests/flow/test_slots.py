"""Who gets a slot when there are fewer than wanted: pools, priorities, turns; and what nobody has to wait for."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ctd.core.work import Request
from ctd.planning.decisions import Run, Wait
from tests.flow.bench import Bench

MANY = 50


def pipelines(bench: Bench, *names: str, trained: bool = False, **priorities: int) -> None:
    """Pipelines with one span each; `trained`: all of them is done but the training."""
    for name in names:
        bench.spec(name)
        bench.span(1, pipeline=name)
        say(bench, name, "nodes:", f"priority: {priorities.get(name, 0)}\nnodes:")
    bench.start()
    if trained:
        ends = [r for r in settling(bench) if r.node != "trainer"]
        assert ends


def say(bench: Bench, name: str, old: str, new: str) -> None:
    path = bench.root / f"specs/{name}.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def all_running(bench: Bench) -> list[Request]:
    return [bench.executor.requests[id_] for id_ in bench.executor.running()]


def at_work(bench: Bench) -> list[str]:
    return sorted(f"{r.pipeline} {r.node}" for r in all_running(bench))


def settling(bench: Bench, but: str = "trainer") -> Iterator[Request]:
    """Everything that runs succeeds, one at a time, except what runs of one node."""
    bench.tick()
    while requests := [r for r in all_running(bench) if r.node != but]:
        yield requests[0]
        bench._succeed(requests[0])
        follow(bench)


def follow(bench: Bench) -> None:
    """What the daemon does at once: without the rescan of everything."""
    bench.controller.step(timedelta(0))  # takes in what ended
    while bench.controller.step(timedelta(0)):
        pass


def end(bench: Bench, pipeline: str, node: str = "trainer") -> None:
    (request,) = bench.running(node, pipeline)
    bench._succeed(request)
    bench.tick()


def test_one_training_at_a_time_and_what_waits_for_it_says_so_while_the_rest_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallel=4, pools={"train": 1})
    pipelines(bench, "mail", "taxi", trained=True)
    (had_it,) = all_running(bench)
    waits = "taxi" if had_it.pipeline == "mail" else "mail"
    said = bench.of("trainer", waits)
    holder = f"{had_it.pipeline} trainer (execution {had_it.execution_id})"
    assert f"wait trainer span-1: waits for a slot: pool train has 1 of 1 in use by {holder}; then: " in said
    (node,) = (n for p in bench.views().status(waits).pipelines for n in p.nodes if n.node == "trainer")
    assert (node.state, holder in node.because) == ("queued", True)
    bench.span(2, pipeline=waits)
    bench.tick()
    assert f"{waits} examples" in at_work(bench), "other work has slots"
    for _ in settling(bench):
        pass
    end(bench, had_it.pipeline)
    assert at_work(bench) == [f"{waits} trainer"]
    bench.settle()
    bench.check()


def test_all_slots_in_use_is_a_reason_with_their_holders(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallel=2)
    pipelines(bench, "a", "b", "c", "d")
    bench.tick()
    waiting = [line for name in "abcd" for line in bench.said(name) if "waits for a slot" in line]
    assert any(re.search(r"2 of 2 in use by [a-d] \w+ \(execution 1\), .*; then: new span", said) for said in waiting)
    assert any("go before it" in line for line in waiting)
    assert not any(isinstance(d, Run) for name in "abcd" for d in bench.decisions(name))


def test_a_node_may_be_put_into_another_pool(tmp_path: Path) -> None:
    bench = Bench(tmp_path, pools={"train": 1, "wide": 2})
    for name in ("a", "b", "c", "d"):
        bench.spec(name)
        bench.span(1, pipeline=name)
        say(bench, name, "{kind: trainer, ", "{kind: trainer, pool: wide, ")
    say(bench, "d", "pool: wide", "pool: nobody-limits-it")
    bench.start()
    for _ in settling(bench):
        pass
    assert Counter(work.split()[1] for work in at_work(bench)) == {"trainer": 3}
    assert "d trainer" in at_work(bench)


def test_pool_and_priority_change_no_identity(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    pipelines(bench, "taxi")
    bench.settle()
    done = len(bench.executions())
    say(bench, "taxi", "priority: 0", "priority: 7")
    say(bench, "taxi", "{kind: trainer, ", "{kind: trainer, pool: other, priority: -3, supersede: running, ")
    bench.settle()
    assert len(bench.executions()) == done


def test_of_fifty_pipelines_the_one_with_the_highest_priority_is_served_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallel=2)
    names = [f"p{n:02}" for n in range(MANY)]
    pipelines(bench, *names, p37=10, p11=5)
    order: list[str] = []
    for request in settling(bench, but=""):
        order.append(request.pipeline)
        if request.pipeline == "p11" and request.node == "trainer":
            break
    assert list(dict.fromkeys(order))[:2] == ["p37", "p11"]
    assert len(set(order)) <= 6, "others have only the slots that these two cannot use"


def test_equal_pipelines_take_turns(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallel=1)
    names = [f"p{n:02}" for n in range(MANY)]
    pipelines(bench, *names)
    for number in range(2, 6):
        bench.span(number, pipeline="p00")
    order = [r.pipeline for r, _ in zip(settling(bench, but=""), range(MANY), strict=False)]
    assert set(order) == set(names), "everyone comes once before anyone comes twice"


def test_within_a_pipeline_a_node_may_come_first_or_last(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallel=1)
    pipelines(bench, "taxi")
    for number in range(2, 5):
        bench.span(number)
    say(bench, "taxi", "{kind: statistics_gen}", "{kind: statistics_gen, priority: -1}")
    order = [r.node for r in settling(bench, but="")]
    assert order.index("statistics") > max(i for i, node in enumerate(order) if node in ("examples", "schema"))
    bench.check()


def test_a_new_priority_counts_for_what_waits_already(tmp_path: Path) -> None:
    bench = Bench(tmp_path, pools={"train": 1})
    pipelines(bench, "a", "b", "c", trained=True)
    (had_it,) = all_running(bench)
    last = max({"a", "b", "c"} - {had_it.pipeline})
    say(bench, last, "priority: 0", "priority: 1")
    bench.tick()
    end(bench, had_it.pipeline)
    assert at_work(bench) == [f"{last} trainer"]


def pause(bench: Bench) -> None:
    bench.ask("pause", pipeline="first")


def remove_the_spec(bench: Bench) -> None:
    (bench.root / "specs/first.yaml").unlink()


def remove_the_data(bench: Bench) -> None:
    (bench.root / "data/first/1/_SUCCESS").unlink()


def break_the_look(bench: Bench) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault of ctd's own")

    observe = bench.observer.observe
    bench.observer.observe = lambda spec, *rest: broken() if spec.name == "first" else observe(spec, *rest)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("happens", "noticed"),
    [
        (pause, True),
        (pause, False),
        (remove_the_spec, True),
        (remove_the_data, True),
        (remove_the_data, False),
        (break_the_look, True),
        (break_the_look, False),
    ],
)
def test_what_waits_no_more_keeps_no_slot_from_others(
    tmp_path: Path, happens: Callable[[Bench], None], noticed: bool
) -> None:
    bench = Bench(tmp_path, pools={"train": 1})
    pipelines(bench, "first", "other", "runs", trained=True, runs=9, first=5)
    assert at_work(bench) == ["runs trainer"]
    happens(bench)
    if noticed:
        bench.tick()
    (request,) = all_running(bench)
    bench._succeed(request)
    follow(bench)
    assert at_work(bench) == ["other trainer"]


def test_a_start_that_fails_is_tried_again_and_others_start_meanwhile(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallel=1)
    pipelines(bench, "first", "other", first=5)
    begin = bench.store.begin
    bench.store.begin = lambda e: begin(e) if e.pipeline != "first" else begin(None)  # type: ignore[assignment, arg-type, method-assign]
    bench.tick()
    (work,) = at_work(bench)
    assert work.startswith("other ")
    assert "first" in bench.controller.faults
    bench.store.begin = begin  # type: ignore[method-assign]
    bench.clock.forward(seconds=5)
    bench.settle()
    assert bench.controller.faults == {}
    bench.check()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_limits_they_hold_and_everything_is_done_once(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    parallel, pools = draw.randint(1, 4), {"train": 1, "beam": draw.randint(1, 2)}
    bench = Bench(tmp_path, parallel=parallel, pools=pools)
    names = [f"p{n}" for n in range(5)]
    pipelines(bench, *names, **{name: draw.randint(-2, 2) for name in names})
    bench.tick()
    while requests := all_running(bench):
        kinds = Counter({"trainer": "train", "statistics": "beam"}.get(r.node, "") for r in requests)
        assert len(requests) <= parallel
        assert all(kinds[pool] <= most for pool, most in pools.items())
        waiting = [d for n in names for d in bench.decisions(n) if isinstance(d, Wait) and d.queued]
        free = {p for p, most in pools.items() if kinds[p] < most} | {""} if len(requests) < parallel else set()
        assert not any({"trainer": "train", "statistics": "beam"}.get(d.subject.node, "") in free for d in waiting)
        bench._succeed(draw.choice(requests))
        if draw.random() < 0.3:
            bench.span(draw.randint(2, 4), pipeline=draw.choice(names))
        bench.tick()
    assert all(bench.controller.plans[name].settled for name in names)
    bench.check()
