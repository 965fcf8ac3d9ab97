"""A sick machine in a whole ctd: nothing is lost, counted or left running, and all is well seconds after its end."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import MachineUnavailable, StorageUnavailable
from ctd.core.executions import Execution, Outcome, State
from ctd.core.failpoints import arm
from ctd.engine.readiness import FAULTS
from ctd.observability import Event
from ctd.planning.decisions import Blocked
from tests.flow.bench import Bench, Store

ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN")
POINTS = ("art.publish", "art.before_rename", "art.after_rename", "art.after_dirsync")
SWEEPING = ("sweep.look", "remove", "remove.rename", "gc.mid_tree")


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.spec()
    made.span(1)
    return made.start()


def a_while(bench: Bench, seconds: int) -> None:
    """Time passes; what runs succeeds, as far as its worker can tell."""
    for _ in range(seconds):
        bench.tick()
        for request in bench.running():
            bench._succeed(request)
        bench.tick()
        left = {e.id for e in bench.executions(state=State.RUNNING)} - set(bench.executor.running())
        assert not left, "an end is recorded, whatever happens"
        bench.clock.forward(seconds=1)


def as_wanted(bench: Bench) -> None:
    assert all(said.startswith("reuse") for said in bench.said()), bench.said()
    bench.check()


@pytest.mark.parametrize("point", POINTS)
def test_a_minute_without_publishing_heals_within_ten_seconds(bench: Bench, point: str) -> None:
    fault = bench.root / "fault"
    fault.touch()
    arm(f"{point}=err(ENOSPC,{fault})")
    a_while(bench, 60)
    assert len(bench.executions("examples", State.FAILED)) > 3, "more than the attempts that a node has"
    fault.unlink()
    a_while(bench, 10)
    as_wanted(bench)


@pytest.mark.parametrize("point", POINTS)
def test_whatever_keeps_outputs_from_their_places_is_the_machines_fault(bench: Bench, point: str) -> None:
    fault = bench.root / "fault"
    for name in ERRORS:
        bench.span(1, f"fare\n{ERRORS.index(name)}\n")
        fault.touch()
        arm(f"{point}=err({name},{fault})")
        a_while(bench, 5)
        last = bench.executions("examples")[-1]
        assert last.failure is not None
        assert last.failure.kind in FAULTS
        assert f"({name})" in last.failure.message
        assert not [d for d in bench.decisions() if isinstance(d, Blocked)]
        fault.unlink()
        a_while(bench, 10)
        as_wanted(bench)


@pytest.mark.parametrize("point", SWEEPING)
def test_what_cannot_be_removed_now_is_removed_later_and_fails_nothing(bench: Bench, point: str) -> None:
    fault = bench.root / "fault"
    fault.touch()
    arm(f"{point}=err(EIO,{fault})")
    bench.tick()
    bench.fail("examples", StorageUnavailable("no space left"))
    bench.tick()
    assert (bench.root / "state/staging/1").is_dir()
    bench.settle()
    fault.unlink()
    a_while(bench, 10)
    as_wanted(bench)


def test_outputs_that_could_be_hidden_but_not_removed_are_removed_later(bench: Bench) -> None:
    fault = bench.root / "fault"
    fault.touch()
    arm(f"art.after_dirsync=err(EIO):1; gc.mid_tree=err(EIO,{fault})")
    bench.tick()
    bench.finish("schema")
    bench.tick()
    staged = {p.name for p in (bench.root / "state/staging").iterdir()}
    assert [name for name in staged if name.startswith("gone-")]
    fault.unlink()
    a_while(bench, 10)
    as_wanted(bench)


def test_an_execution_whose_staging_vanished_has_failed_and_is_done_again(bench: Bench) -> None:
    bench.tick()
    for request in bench.running():
        bench._succeed(request)
        shutil.rmtree(request.staging)
    bench.tick()
    assert bench.executions(state=State.RUNNING) == []
    assert {e.failure.kind for e in bench.executions(state=State.FAILED) if e.failure} == {"StorageUnavailable"}
    a_while(bench, 10)
    as_wanted(bench)


def test_an_end_that_ctd_itself_trips_over_is_an_end_all_the_same(bench: Bench) -> None:
    bench.tick()
    (request,) = bench.running("examples")
    nonsense: Any = 5
    bench.executor.end(
        request.execution_id, Outcome(State.SUCCEEDED, {"examples": (Artifact(ArtifactType.EXAMPLES, nonsense),)})
    )
    bench.tick()
    (failed,) = bench.executions("examples", State.FAILED)
    assert failed.failure is not None
    assert "fault of ctd's" in failed.failure.hint
    a_while(bench, 10)
    as_wanted(bench)


class Broken(Store):
    """A store that answers, and does not take the end of anything."""

    broken = False

    def finish(self, execution: Execution) -> Execution:
        if self.broken:
            raise RuntimeError("no such column")
        return super().finish(execution)


def test_an_end_that_the_store_does_not_take_is_recorded_as_soon_as_it_does(bench: Bench) -> None:
    bench.store = Broken()
    bench.start().tick()
    bench.store.broken = True
    bench.finish("examples")
    bench.finish("schema")
    for _ in range(20):
        bench.tick()
        bench.clock.forward(seconds=1)
    assert len(bench.executions(state=State.RUNNING)) == 2
    bench.store.broken = False
    for _ in range(6):
        bench.tick()
        bench.clock.forward(seconds=1)
    assert bench.executions(state=State.RUNNING) == bench.executions("statistics", State.RUNNING)
    a_while(bench, 10)
    as_wanted(bench)


def test_what_cannot_be_handed_to_the_executor_has_ended(bench: Bench) -> None:
    """The staging of this executor is made when it is told to start: a file is in its place."""
    (bench.root / "state").mkdir()
    (bench.root / "state/staging").write_text("no folder")
    a_while(bench, 5)
    assert {e.failure.kind for e in bench.executions() if e.failure} == {"StorageUnavailable"}
    (bench.root / "state/staging").unlink()
    a_while(bench, 10)
    as_wanted(bench)


# While a probe fails too, nothing is even tried.


def test_while_the_machine_refuses_a_probe_too_nothing_is_started(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    logs = bench.root / "state/logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.parent.mkdir(exist_ok=True)
    logs.write_text("no folder")
    bench.tick()
    bench.fail("examples", StorageUnavailable("its log cannot be opened", hint="mend it"))
    bench.fail("schema", StorageUnavailable("its log cannot be opened", hint="mend it"))
    caplog.clear()
    caplog.set_level(logging.INFO)
    for _ in range(60):
        bench.tick()
        bench.clock.forward(seconds=1)
    assert len(bench.executions()) == 2, "one attempt of each, and no more"
    assert "nothing is started: nothing can be written: " in bench.of("examples")
    assert str(logs) in bench.of("examples")
    assert "since 2026-01-01 00:00:0" in bench.of("examples"), "when that began, not when it was tried last"
    assert bench.views().status("taxi").pipelines[0].state == "failed", "a minute is long: somebody must look"
    assert caplog.messages.count(Event.MACHINE.value) == 1
    logs.unlink()
    a_while(bench, 10)
    assert caplog.messages.count(Event.MACHINE.value) == 2
    as_wanted(bench)


def test_a_moment_is_no_reason_to_call_anybody(bench: Bench) -> None:
    logs = bench.root / "state/logs"
    bench.tick()
    logs.write_text("no folder")
    bench.fail("examples", StorageUnavailable("its log cannot be opened"))
    bench.tick()
    bench.clock.forward(seconds=3)
    bench.tick()
    assert "nothing is started" in bench.of("examples")
    assert bench.views().status("taxi").pipelines[0].state == "working"


def test_other_faults_of_a_disk_close_nothing(bench: Bench) -> None:
    """The disk of the data, for instance: what does not read from there goes on."""
    bench.tick()
    bench.fail("examples", StorageUnavailable("the share does not answer"))
    bench.finish("schema")
    bench.tick()
    assert "up to date" in bench.of("schema") or "reuse schema" in bench.of("schema")
    a_while(bench, 10)
    as_wanted(bench)


def test_no_attempt_is_counted_and_the_count_of_the_others_goes_on(bench: Bench) -> None:
    for _ in range(20):
        bench.tick()
        bench.fail("examples", MachineUnavailable("its process cannot be forked"))
        bench.tick()
        bench.clock.forward(minutes=2)
    bench.tick()
    bench.finish("examples")
    a_while(bench, 5)
    as_wanted(bench)


# Artifacts on another file system.


def test_a_bind_mount_between_staging_and_artifacts_is_copied_over(bench: Bench) -> None:
    arm("art.before_rename=err(EXDEV); remove.rename=err(EXDEV):1")
    a_while(bench, 8)
    as_wanted(bench)
    assert not list((bench.root / "state/artifacts").rglob(".*"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    assert folder.stat().st_dev != tmp_path.stat().st_dev
    yield folder
    shutil.rmtree(folder)


def test_artifacts_may_be_on_another_disk(bench: Bench, elsewhere: Path) -> None:
    (bench.root / "state").mkdir(exist_ok=True)
    (bench.root / "state/artifacts").symlink_to(elsewhere)
    a_while(bench, 8)
    as_wanted(bench)
    made = [Path(a.uri) for e in bench.executions() for some in e.outputs.values() for a in some]
    assert made
    assert all(place.stat().st_dev == elsewhere.stat().st_dev for place in made)
    bench.span(1, "fare\n7\n")
    bench.tick()
    bench.fail("examples", StorageUnavailable("no space left"))
    a_while(bench, 10)
    as_wanted(bench)
    assert not list(elsewhere.rglob(".*"))


@pytest.mark.parametrize(
    "point", ["art.before_copy", "art.after_copy", "art.near", "art.before_arrival", "art.after_arrival"]
)
def test_a_fault_on_the_way_to_another_disk_leaves_nothing_behind(bench: Bench, elsewhere: Path, point: str) -> None:
    (bench.root / "state").mkdir(exist_ok=True)
    (bench.root / "state/artifacts").symlink_to(elsewhere)
    fault = bench.root / "fault"
    fault.touch()
    arm(f"{point}=err(ENOSPC,{fault})")
    a_while(bench, 10)
    assert {e.failure.kind for e in bench.executions(state=State.FAILED) if e.failure} == {"StorageUnavailable"}
    fault.unlink()
    a_while(bench, 10)
    as_wanted(bench)
    assert not list(elsewhere.rglob(".*"))


def test_texts_of_any_length_are_recorded_cut(bench: Bench) -> None:
    bench.tick()
    bench.fail("examples", StorageUnavailable("m" * 5_000_000, hint="h" * 5_000_000))
    bench.tick()
    (failed,) = bench.executions("examples", State.FAILED)
    assert failed.failure is not None
    assert len(failed.failure.message) + len(failed.failure.hint) < 10_000
    bench.clock.forward(seconds=5)
    bench.tick()
    (again,) = bench.executions("examples", State.RUNNING)
    assert len(again.because) < 10_000
