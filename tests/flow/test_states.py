"""One word for a pipeline, in `ctd status`, its exit code and `--json`: of a whole daemon, case by case."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ctd.cli.render import LOOKS
from ctd.cli.status import exit_code
from ctd.core.errors import ComponentFailed
from tests.flow.bench import Bench


def read(bench: Bench, *numbers: int) -> None:
    for number in numbers:
        bench.span(number)
        bench.settle()
        bench.clock.forward(hours=1)


def keys(bench: Bench, **said: str) -> None:
    """Further keys of nodes, by kind."""
    path = bench.root / "specs/taxi.yaml"
    text = path.read_text()
    for kind, more in said.items():
        text = text.replace(f"kind: {kind},", f"kind: {kind}, {more},")
    path.write_text(text)


def refuse(bench: Bench, number: int) -> None:
    bench.span(number)
    bench.tick()
    for node in ("examples", "statistics"):
        bench.finish(node)
        bench.tick()
    bench.finish("validator", blessed=0, reason="fare: out of range")
    bench.tick()


def quarantined(bench: Bench) -> None:
    read(bench, 1)
    refuse(bench, 2)


def quarantined_while_another_comes(bench: Bench) -> None:
    quarantined(bench)
    bench.span(3)
    bench.tick()
    assert bench.running("examples")


def blocked(bench: Bench) -> None:
    bench.spec(on_anomaly="block")
    quarantined(bench)


def wrong_number(bench: Bench) -> None:
    keys(bench, example_gen="max_lateness: 30m")
    read(bench, 1, 2, 9999, 3)


def wrong_number_removed(bench: Bench) -> None:
    wrong_number(bench)
    bench.remove(9999)
    bench.settle()
    assert bench.trained_on()[-1] == "spans 1..3 (3)"


def wrong_number_denied(bench: Bench) -> None:
    wrong_number(bench)
    keys(bench, example_gen="deny: [9999]")
    bench.settle()
    assert bench.trained_on()[-1] == "spans 1..3 (3)"


def failed(bench: Bench) -> None:
    bench.span(1)
    bench.tick()
    bench.fail("examples", ComponentFailed("no rows", hint="mend"))
    bench.tick()


def refused_edit(bench: Bench) -> None:
    read(bench, 1)
    keys(bench, trainer="windw: 3")
    bench.settle()


def refused_edit_beside_a_failure(bench: Bench) -> None:
    failed(bench)
    keys(bench, trainer="windw: 3")
    bench.tick()


def silent(bench: Bench) -> None:
    keys(bench, example_gen="stale_after: 2h")
    read(bench, 1)
    bench.clock.forward(hours=3)
    bench.tick()


def unapproved(bench: Bench) -> None:
    keys(bench, trainer="approval: true")
    read(bench, 1)


def gap(bench: Bench) -> None:
    keys(bench, trainer="on_gap: wait")
    read(bench, 1, 3)


def start_far_ahead(bench: Bench) -> None:
    read(bench, 1, 2)
    keys(bench, example_gen="start: 2062")
    bench.settle()


def half(bench: Bench) -> None:
    read(bench, 1)
    bench.span(2, marker=False)
    bench.tick()


def at_work(bench: Bench) -> None:
    bench.span(1)
    bench.tick()


CASES: list[tuple[Callable[[Bench], None], str, int]] = [
    (lambda bench: read(bench, 1), "as wanted", 0),
    (at_work, "working", 0),
    (half, "waiting", 3),
    (gap, "waiting", 3),
    (start_far_ahead, "waiting", 3),
    (quarantined, "waiting", 3),
    (quarantined_while_another_comes, "waiting", 3),
    (silent, "waiting", 3),
    (wrong_number, "waiting", 3),
    (wrong_number_removed, "as wanted", 0),
    (wrong_number_denied, "as wanted", 0),
    (blocked, "blocked", 3),
    (unapproved, "blocked", 3),
    (failed, "failed", 1),
    (refused_edit, "invalid", 2),
    (refused_edit_beside_a_failure, "invalid", 2),
]


@pytest.mark.parametrize(("happens", "state", "code"), CASES, ids=[c[0].__name__.strip("<>") for c in CASES])
def test_headline_exit_code_and_json_are_the_worst(
    tmp_path: Path, happens: Callable[[Bench], None], state: str, code: int
) -> None:
    bench = Bench(tmp_path)
    bench.spec()
    happens(bench.start())
    view = bench.views().status()
    assert (view.pipelines[0].state, view.state, exit_code(view)) == (state, state, code)
    assert json.loads(view.model_dump_json())["state"] == state
    assert state in LOOKS


def test_of_several_pipelines_the_worst_counts_and_the_others_keep_their_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.spec()
    bench.spec("other")
    bench.start()
    read(bench, 1)
    bench.span(1, pipeline="other")
    bench.settle()
    quarantined(bench)
    view = bench.views().status()
    assert {p.pipeline: p.state for p in view.pipelines} == {"taxi": "waiting", "other": "as wanted"}
    assert exit_code(view) == 3
    assert exit_code(bench.views().status("other")) == 0


def test_a_fault_of_ctd_itself_is_a_failure_and_no_refused_edit(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.spec()
    bench.start()
    read(bench, 1)
    (old,) = bench.executions("trainer")
    bench.history.record(replace(old, ingredients={"inputs": {"examples": 7}}))  # planning trips over this
    bench.spec(steps=200)
    bench.tick()
    view = bench.views().status()
    assert (view.pipelines[0].state, view.pipelines[0].fault, exit_code(view)) == ("failed", True, 1)
