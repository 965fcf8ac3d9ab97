"""A template forks workers for a profile as soon as its libraries are in, whatever becomes of the others."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ctd.core.artifacts import ArtifactType
from ctd.core.executions import State
from ctd.core.timing import SystemClock
from ctd.core.work import Request
from ctd.engine.attempts import Attempt, prepare
from ctd.engine.warm import WarmTemplate
from ctd.engine.worker import Job
from tests.contract.executor_bench import COMPONENT, Bench, gone, settings, until, worker_env

PROGRAM = "tests.contract.staged_template"


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def template(tmp_path: Path) -> Iterator[WarmTemplate]:
    held, lifeline = os.pipe()[::-1]
    env = {**worker_env(), "HOME": str(tmp_path)}
    made = WarmTemplate((PROGRAM, "staged"), tmp_path / "template.log", env, lifeline, SystemClock())
    made.start()
    yield made
    made.end()
    os.close(held)
    os.close(lifeline)


def message(template: WarmTemplate) -> Mapping[str, Any]:
    said = template.receive()
    assert said is not None, template.log.read_text()
    return said


def test_who_needs_the_first_stage_only_runs_while_the_others_are_imported(
    template: WarmTemplate, tmp_path: Path
) -> None:
    request = Request(
        execution_id=1,
        pipeline="taxi",
        node="examples",
        kind="example_gen",
        key="span 1",
        entrypoint=COMPONENT,
        staging=str(tmp_path / "staging"),
        spec={"do": "nothing"},
        outputs={"model": ArtifactType.MODEL},
        inputs={},
    )
    attempt = Attempt(request, timedelta(minutes=1), "early", tmp_path / "1.log")
    prepare(attempt, Job(request, 0.0))
    assert message(template)["ready"] == "early"
    assert (template.ready_for("early"), template.ready_for("late"), template.whole) == (True, False, False)
    template.ask(1, attempt.job, attempt.log)
    (tmp_path / "middle").touch()  # between two imports it sees to who asks
    assert message(template)["id"] == 1
    (tmp_path / "late").touch()
    said = [message(template) for _ in range(3)]
    assert [m["ready"] for m in said if "ready" in m] == ["middle", "late"]
    assert [m["status"] for m in said if "status" in m] == [0], attempt.log.read_text()
    assert template.whole


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    profiles = {"early": "half", "late": "half", "other": "staged"}
    made = settings(tmp_path, template=PROGRAM, templates=profiles, impatient=frozenset({"other"}))
    bench = Bench(tmp_path, replace(made, env={**made.env, "HOME": str(tmp_path)}))
    yield bench
    bench.executor.stop(hurry=True)


def test_a_library_that_cannot_be_imported_stands_in_the_way_of_its_own_profile_only(bench: Bench) -> None:
    bench.profile = "late"
    late = bench.start("sleeps")
    assert parent(bench.begun(late)) == os.getpid()  # fresh
    bench.profile = "early"
    early = bench.start("sleeps")
    bench.progress(early)
    assert parent(bench.begun(early)) not in (os.getpid(), 1)
    assert late not in bench.outcomes  # nothing was lost with the import


def test_work_that_needs_no_library_does_not_wait_for_them(bench: Bench) -> None:
    bench.profile = "other"
    bench.executor.warm_up()
    assert bench.run("nothing").state is State.SUCCEEDED


def test_warming_up_starts_a_template_before_there_is_work(bench: Bench, tmp_path: Path) -> None:
    bench.executor.warm_up()
    until(lambda: (tmp_path / "logs/template-half.log").exists() and "no such library" in log_of(tmp_path))
    bench.profile = "early"
    id_ = bench.start("sleeps")
    bench.progress(id_)
    assert parent(bench.begun(id_)) not in (os.getpid(), 1)


def log_of(root: Path) -> str:
    return (root / "logs/template-half.log").read_text()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_next_worker_is_forked_before_it_is_asked_for_and_one_that_is_lost_is_not_missed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settings(tmp_path, templates={"test": "light"}))
    first = bench.start("sleeps")
    bench.progress(first)
    template = parent(bench.begun(first))
    (spare,) = until(lambda: set(children(template)) - {bench.begun(first)})
    second = bench.start("sleeps")
    bench.progress(second)
    assert bench.begun(second) == spare
    (spare,) = until(lambda: set(children(template)) - {bench.begun(first), bench.begun(second)})
    os.kill(spare, signal.SIGKILL)
    until(lambda: spare not in children(template))
    assert bench.run("nothing").state is State.SUCCEEDED
    assert parent(bench.begun(second)) == template, "nobody else was harmed"
    bench.executor.stop(hurry=True)
    until(lambda: gone(template))
