"""What the operating system refuses around a worker, and in it, is the machine's fault: told so, tried again, healed.

The matrix: every call around a worker, with every error that a machine has, for as long as a file is there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctd.core.executions import Failure, State
from ctd.core.failpoints import arm
from ctd.engine.pressure import Pressure
from ctd.engine.readiness import FAULTS
from tests.contract.executor_bench import Bench, settings, until

ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EXDEV")
BEFORE = ("start.staging", "start.logs", "start.job", "end.outcome")
FRESH = ("start.log", "start.process", "start.watch", "start.select")
WORKER = ("worker.settle", "worker.verify", "worker.import", "worker.begin", "worker.seal", "worker.outcome")
FORKED = ("template.fork", "template.watch", "template.log")


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def of_the_machine(bench: Bench, do: str = "nothing", **spec: object) -> Failure:
    """Run it; its failure, which must be the machine's fault and nobody else's."""
    outcome = bench.run(do, **spec)
    failure = outcome.failure
    assert failure is not None, "it succeeded"
    assert failure.kind in FAULTS, failure
    assert failure.retryable
    assert "ctd goes on by itself" in failure.hint or "ctd tries again" in failure.hint
    assert failure.where == "", "no line of the user's is to blame"
    return failure


def heals(bench: Bench, fault: Path, names: tuple[str, ...] = ERRORS) -> None:
    """Each error for as long as its file is there, and never longer."""
    for name in names:
        held = fault.with_name(name)
        held.touch()
        failure = of_the_machine(bench)
        assert f"{os.strerror(getattr(errno, name))} ({name})" in failure.message, failure
        held.unlink()
    assert bench.run("nothing").state is State.SUCCEEDED


def faults(point: str, fault: Path, names: tuple[str, ...] = ERRORS) -> str:
    return "; ".join(f"{point}=err({name},{fault.with_name(name)})" for name in names)


@pytest.fixture
def fault(tmp_path: Path) -> Path:
    (tmp_path / "faults").mkdir()
    return tmp_path / "faults" / "none"


@pytest.mark.parametrize("point", [*BEFORE, *FRESH])
def test_whatever_is_refused_to_the_daemon_around_a_worker_is_the_machines_fault(
    tmp_path: Path, fault: Path, point: str
) -> None:
    bench = Bench(tmp_path, settings(tmp_path))
    arm(faults(point, fault))
    heals(bench, fault)
    bench.executor.stop(hurry=True)


@pytest.mark.parametrize("point", WORKER)
def test_whatever_is_refused_to_a_worker_beside_its_component_is_the_machines_fault(
    tmp_path: Path, fault: Path, point: str
) -> None:
    said = faults(point, fault)
    bench = Bench(tmp_path, settings(tmp_path, templates={"test": "light"}, failpoints=said))
    examples = bench.published()
    for name in ERRORS:
        fault.with_name(name).touch()
        failure = of_the_machine(bench, examples=examples)
        assert f"({name})" in failure.message
        fault.with_name(name).unlink()
    assert bench.run("nothing", examples=examples).state is State.SUCCEEDED
    bench.executor.stop(hurry=True)


@pytest.mark.parametrize("point", ["worker.settle", "worker.outcome"])
def test_a_fresh_worker_tells_by_its_exit_code_what_no_disk_takes(tmp_path: Path, fault: Path, point: str) -> None:
    bench = Bench(tmp_path, settings(tmp_path, failpoints=faults(point, fault)))
    heals(bench, fault, ("ENOSPC", "EMFILE"))
    bench.executor.stop(hurry=True)


@pytest.mark.parametrize("point", FORKED)
def test_a_template_that_is_refused_a_worker_lives_on_and_so_do_its_others(
    tmp_path: Path, fault: Path, point: str
) -> None:
    made = settings(tmp_path, templates={"test": "light"}, failpoints=faults(point, fault))
    bench = Bench(tmp_path, made)
    go = tmp_path / "go"
    other = bench.start("waits_for", file=str(go))
    bench.progress(other)
    if point == "template.log":  # the spare worker was forked before there was a fault, and meets it all the same
        heals(bench, fault)
    else:
        for name in ERRORS:  # the spare that stands ready is used up first
            fault.with_name(name).touch()
        until(lambda: bench.run("nothing").failure)
        for name in ERRORS[1:]:
            fault.with_name(name).unlink()
        for name in ERRORS:
            fault.with_name(name).touch()
            of_the_machine(bench)
            if name != ERRORS[-1]:
                fault.with_name(name).unlink()
                fault.with_name(ERRORS[-1]).touch()
        fault.with_name(ERRORS[-1]).unlink()
        assert bench.run("nothing").state is State.SUCCEEDED
    go.touch()
    assert bench.ended(other).state is State.SUCCEEDED
    bench.executor.stop(hurry=True)


def test_a_template_that_cannot_be_started_leaves_fresh_processes(tmp_path: Path, fault: Path) -> None:
    bench = Bench(tmp_path, settings(tmp_path, templates={"test": "light"}))
    arm("template.start=err(EMFILE)")
    assert bench.run("nothing").state is State.SUCCEEDED
    bench.executor.stop(hurry=True)


# What comes up in code that is not ctd's.


@pytest.fixture
def forking(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, settings(tmp_path, templates={"test": "light"}))
    yield made
    made.executor.stop(hurry=True)


def test_what_a_users_function_is_refused_for_want_of_the_machine_is_the_machines_fault(forking: Bench) -> None:
    for name in ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EMFILE", "ENFILE", "ENOMEM"):
        said = of_the_machine(forking, "writes_for_a_user", errno=name, about="staging").message
        assert f"({name})" in said
        assert "staging" in said, "which path"
    for name in ("ENOSPC", "EDQUOT", "EIO", "EMFILE", "ENFILE", "ENOMEM"):  # a write says no name
        assert f"({name})" in of_the_machine(forking, "writes_for_a_user", errno=name, about="").message


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "EROFS", "ENOSPC", "EISDIR", "EXDEV"])
def test_what_a_users_function_does_wrong_with_its_own_files_stays_its_failure(forking: Bench, name: str) -> None:
    failure = forking.run("writes_for_a_user", errno=name, about="own").failure
    assert failure is not None
    assert (failure.kind, failure.retryable) == ("ComponentFailed", False)
    assert "/data/vocabulary" in failure.message


@pytest.mark.parametrize("name", ["EAGAIN", "EEXIST", "EPIPE", "ECONNREFUSED"])
def test_an_answer_that_is_no_want_of_the_machine_stays_the_users_failure(forking: Bench, name: str) -> None:
    failure = forking.run("writes_for_a_user", errno=name, about="").failure
    assert failure is not None
    assert failure.kind == "ComponentFailed"


def test_an_error_of_a_library_on_a_sick_disk_is_the_disks(tmp_path: Path, fault: Path) -> None:
    """Many libraries have an error of their own for a full disk: the disk is asked."""
    said = faults("probe.folder", fault, ("ENOSPC",))
    bench = Bench(tmp_path, settings(tmp_path, templates={"test": "light"}, failpoints=said))
    well = bench.run("another_error_for_a_user").failure
    assert well is not None
    assert (well.kind, well.retryable) == ("ComponentFailed", False)
    fault.with_name("ENOSPC").touch()
    assert "ValueError" in of_the_machine(bench, "another_error_for_a_user").message
    data = bench.run("bad_input").failure
    assert data is not None
    assert data.kind == "BadInput", "no disk makes a judgement of data"
    bench.executor.stop(hurry=True)


def test_a_judgement_of_data_that_came_from_a_missing_file_stays_one(forking: Bench) -> None:
    failure = forking.run("judges_data").failure
    assert failure is not None
    assert (failure.kind, failure.message) == ("BadInput", "no vocabulary")


def test_code_that_uses_up_its_descriptors_by_itself_is_told_so(forking: Bench) -> None:
    failure = forking.run("uses_up_descriptors").failure
    assert failure is not None
    assert (failure.kind, failure.retryable) == ("ComponentFailed", False)
    assert "Too many open files" in failure.message
    of_the_machine(forking, "has_few_descriptors")


@pytest.mark.parametrize("do", ["exits_hard", "exits_hard_as_if_well", "crashes"])
def test_a_process_without_outcome_on_a_sick_disk_was_ended_by_the_disk(tmp_path: Path, do: str) -> None:
    bench = Bench(tmp_path, settings(tmp_path))
    arm("probe.folder=err(ENOSPC)")
    assert "(ENOSPC)" in of_the_machine(bench, do).message
    arm("")
    failure = bench.run(do).failure
    assert failure is not None
    assert failure.kind == ("WorkerLost" if do == "crashes" else "ComponentFailed")
    bench.executor.stop(hurry=True)


def test_python_that_cannot_even_be_loaded_is_not_the_modules_fault(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settings(tmp_path))
    bench.settings.env["PYTHONHOME"] = "/nowhere"  # type: ignore[index]
    failure = bench.run("nothing").failure
    assert failure is not None
    assert (failure.kind, failure.retryable) == ("MachineUnavailable", True)
    assert "before its component began" in failure.message
    assert "os._exit" not in failure.hint
    bench.executor.stop(hurry=True)


# True faults: files where folders should be, and folders where files should be.


def test_logs_that_cannot_be_written_for_a_while(forking: Bench) -> None:
    logs = forking.root / "logs"
    forking.run("nothing")
    logs.rename(forking.root / "away")
    logs.write_text("no folder")
    for _ in range(4):
        assert str(logs) in of_the_machine(forking).message
    logs.unlink()
    assert forking.run("nothing").state is State.SUCCEEDED


@pytest.mark.parametrize("way", [{}, {"test": "light"}], ids=["fresh", "forked"])
def test_one_log_that_cannot_be_opened(tmp_path: Path, way: dict[str, str]) -> None:
    bench = Bench(tmp_path, settings(tmp_path, templates=way))
    bench.log(1).mkdir(parents=True)
    outcome = bench.run("nothing")
    assert outcome.failure is not None
    assert outcome.failure.kind in FAULTS
    assert bench.run("nothing").state is State.SUCCEEDED
    bench.executor.stop(hurry=True)


# Texts.


def test_a_text_of_megabytes_is_cut_where_it_is_recorded_and_whole_in_the_log(forking: Bench) -> None:
    failure = forking.run("says_much").failure
    assert failure is not None
    assert len(failure.message) < 5_000
    assert "characters ...]" in failure.message
    assert forking.log(1).stat().st_size > 500_000
    assert len(forking.executor.progress(1)) <= 500


# Memory.


def watched(root: Path, **way: str) -> tuple[Bench, Path]:
    counter = root / "memory.oom_control"
    counter.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    return Bench(root, settings(root, templates=way, pressure=Pressure(counter))), counter


def test_a_success_that_lost_a_process_for_want_of_memory_is_none(tmp_path: Path) -> None:
    bench, counter = watched(tmp_path)
    assert bench.run("nothing").state is State.SUCCEEDED
    failure = bench.run("counts_a_kill", counter=str(counter), kills=5).failure
    assert failure is not None
    assert (failure.kind, failure.retryable) == ("WorkerLost", True), "it counts: else it would be tried for ever"
    assert "killed 2 processes of ctd's cgroup for want of memory" in failure.message
    assert bench.run("nothing").state is State.SUCCEEDED, "what was before is not its"
    bench.executor.stop(hurry=True)


def test_a_kill_of_one_worker_is_not_held_against_the_other(tmp_path: Path) -> None:
    bench, counter = watched(tmp_path)
    go = tmp_path / "go"
    other = bench.start("waits_for", file=str(go))
    bench.progress(other)
    failure = bench.run("counts_a_kill_and_dies", counter=str(counter), kills=4).failure
    assert failure is not None
    assert "for want of memory" in failure.message
    go.touch()
    assert bench.ended(other).state is State.SUCCEEDED
    bench.executor.stop(hurry=True)


def test_where_two_ran_and_one_of_them_lost_a_process_neither_is_used_and_neither_is_counted(tmp_path: Path) -> None:
    bench, counter = watched(tmp_path)
    go = tmp_path / "go"
    other = bench.start("waits_for", file=str(go))
    bench.progress(other)
    first = bench.run("counts_a_kill", counter=str(counter), kills=4).failure
    go.touch()
    second = bench.ended(other).failure
    assert first is not None
    assert second is not None
    assert (first.kind, second.kind) == ("MachineUnavailable", "MachineUnavailable")
    bench.executor.stop(hurry=True)


def test_what_was_stopped_on_purpose_is_what_it_is_whatever_the_kernel_counts(tmp_path: Path) -> None:
    bench, counter = watched(tmp_path)
    id_ = bench.start("sleeps")
    bench.progress(id_)
    counter.write_text("oom_kill 9\n")
    bench.executor.cancel(id_)
    assert bench.ended(id_).state is State.CANCELLED
    bench.executor.stop(hurry=True)
