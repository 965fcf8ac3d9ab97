"""Executions end as what happened, whatever their code does, and leave nothing running: fresh and forked alike."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ctd.core.executions import STOPPED, SUPERSEDED, Failure, State
from ctd.core.work import Made
from ctd.engine.processes import alive, facts, kill_orphan
from tests.contract.executor_bench import ROOT, Bench, gone, settings, until, worker_env

WAYS = {"fresh": {}, "forked": {"test": "light"}}


@pytest.fixture(params=WAYS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, settings(tmp_path, templates=WAYS[request.param]))
    yield made
    made.executor.stop(hurry=True)


@pytest.fixture
def forking(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, settings(tmp_path, templates=WAYS["forked"]))
    yield made
    made.executor.stop(hurry=True)


def failure(bench: Bench, do: str, **spec: object) -> Failure:
    outcome = bench.run(do, **spec)
    assert outcome.state is State.FAILED
    assert outcome.failure is not None
    assert outcome.failure.hint
    return outcome.failure


def pids(file: Path) -> list[int]:
    return [int(pid) for pid in until(lambda: file.exists() and file.read_text()).split()]


# How executions end.


def test_success_comes_with_counted_and_digested_outputs(bench: Bench) -> None:
    outcome = bench.run("nothing")
    assert outcome.state is State.SUCCEEDED
    (model,) = outcome.outputs["model"]
    assert model.uri == "model"
    sums = '{"assets/words":[5,"e2ec78bf"],"weights":[2,"2e7d3dcb"]}'
    assert dict(model.properties) == {"loss": 0.5, "files": 2, "bytes": 7, "checksums": sums}
    assert (bench.staging(1) / "model" / "weights").read_text() == "42"
    assert set(outcome.timings) == {"start", "verify", "import", "run", "digest"}
    assert outcome.timings["start"] > 0


def test_equal_output_has_an_equal_digest(bench: Bench) -> None:
    digests = [bench.run("nothing", content=c).outputs["model"][0].digest for c in ("a", "a", "b")]
    assert digests[0] == digests[1] != digests[2]


def test_the_log_begins_with_who_it_is_and_has_what_was_printed(bench: Bench) -> None:
    bench.run("nothing")
    first, *rest = bench.text(1).splitlines()
    assert "execution 1: pipeline taxi, node trainer, span 1" in first
    assert "said by the component" in rest
    assert "ended: succeeded" in rest[-1]


def test_an_error_of_ctds_keeps_its_message_and_hint(bench: Bench) -> None:
    said = failure(bench, "bad_input")
    assert (said.kind, said.message, said.hint) == ("BadInput", "no column `tips`", "Mend the CSV.")
    assert not said.retryable


def test_an_unexpected_error_names_place_and_log_has_the_traceback(bench: Bench) -> None:
    said = failure(bench, "raises")
    assert said.kind == "ComponentFailed"
    assert "ValueError: unexpected at " in said.message
    assert "components_for_tests.py:" in said.message
    assert "Traceback" in bench.text(1)
    assert not said.retryable


@pytest.mark.parametrize(
    ("do", "kind", "says", "retryable"),
    [
        pytest.param("exits", "ComponentFailed", "sys.exit('enough')", False, id="sys.exit"),
        pytest.param("exits_hard", "ComponentFailed", "code 3", False, id="os._exit(3)"),
        pytest.param("exits_hard_as_if_well", "ComponentFailed", "code 0", False, id="os._exit(0)"),
        pytest.param("kills_itself", "WorkerLost", "SIGKILL", True, id="kill -9"),
        pytest.param("crashes", "WorkerLost", "SIGSEGV", True, id="segmentation fault"),
        pytest.param("out_of_memory", "WorkerLost", "out of memory", True, id="MemoryError"),
        pytest.param("disk_full", "StorageUnavailable", "No space left", True, id="ENOSPC"),
        pytest.param("garbage_outcome", "WorkerLost", "outcome file", True, id="garbage outcome"),
        pytest.param("huge_outcome", "WorkerLost", "outcome file", True, id="outcome of 1 GB"),
        pytest.param("outcome_elsewhere", "StorageUnavailable", "outcome", True, id="outcome is a link"),
        pytest.param("link", "ComponentFailed", "neither a file nor a directory", False, id="link in an output"),
        pytest.param("cannot_be_said", "ComponentFailed", "Unspeakable: (its text", False, id="error without text"),
        pytest.param(
            "cannot_be_said_for_a_user", "ComponentFailed", "run_fn raised Unspeakable", False, id="of a user's"
        ),
        pytest.param("unheard_of", "ComponentFailed", "KeyError", False, id="no such deed"),
    ],
)
def test_every_end_is_told_for_what_it_is(bench: Bench, do: str, kind: str, says: str, retryable: bool) -> None:
    said = failure(bench, do)
    assert (said.kind, said.retryable) == (kind, retryable)
    assert says in said.message


def test_a_component_that_cannot_be_imported_fails(bench: Bench) -> None:
    bench.component = "tests.contract.no_such_component"
    assert "no_such_component" in failure(bench, "nothing").message


@pytest.mark.parametrize(
    ("made", "says"),
    [
        pytest.param(None, "NoneType", id="nothing"),
        pytest.param({"model": []}, "made no artifact", id="no artifact"),
        pytest.param({"model": [Made("model")], "more": []}, "model, more where model was due", id="too much"),
        pytest.param({"model": [Made("../model")]}, "../model", id="outside"),
        pytest.param({"model": [Made("other")]}, "at other", id="elsewhere"),
        pytest.param({"model": [Made("model/7")]}, "left no directory", id="not there"),
    ],
)
def test_outputs_that_do_not_fit_are_a_failure_of_the_component(bench: Bench, made: object, says: str) -> None:
    bench.component = "tests.contract.component_saying"
    text = None if made is None else {k: [m.path for m in v] for k, v in made.items()}  # type: ignore[attr-defined]
    said = failure(bench, "", made=text)
    assert said.kind == "ComponentFailed"
    assert says in said.message


# Stopping.


def test_a_hanging_execution_is_stopped_at_its_timeout(bench: Bench) -> None:
    outcome = bench.run("sleeps", timeout=1)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.retryable) == ("ComponentTimeout", True)
    assert "timeout of 1s" in outcome.failure.message
    assert gone(bench.begun(1))


def test_one_that_ignores_sigterm_is_killed_after_the_grace(bench: Bench) -> None:
    outcome = bench.run("ignores_sigterm", timeout=1)
    assert outcome.failure is not None
    assert outcome.failure.kind == "ComponentTimeout"


def test_cancelled_is_cancelled(bench: Bench) -> None:
    id_ = bench.start("sleeps")
    bench.progress(id_)
    bench.executor.cancel(id_)
    assert bench.ended(id_).state is State.CANCELLED


def test_cancelling_at_once_is_cancelling_too(bench: Bench) -> None:
    id_ = bench.start("sleeps")
    bench.executor.cancel(id_)
    assert bench.ended(id_).state is State.CANCELLED


def test_cancelling_what_has_ended_does_nothing(bench: Bench) -> None:
    assert bench.run("nothing").state is State.SUCCEEDED
    bench.executor.cancel(1)
    assert bench.run("nothing").state is State.SUCCEEDED


def test_what_succeeds_within_the_grace_has_succeeded(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settings(tmp_path, grace=timedelta(seconds=100)))
    id_ = bench.start("finishes_despite_sigterm")
    bench.progress(id_)
    bench.executor.cancel(id_)
    assert bench.ended(id_).state is State.SUCCEEDED
    bench.executor.stop()


def test_a_superseded_execution_says_by_what_whoever_asks_afterwards(bench: Bench) -> None:
    id_ = bench.start("sleeps")
    bench.progress(id_)
    bench.executor.cancel(id_, superseded="superseded by trainer span-2")
    bench.executor.cancel(id_)
    ended = bench.ended(id_)
    assert (ended.state, ended.failure) == (State.CANCELLED, Failure(SUPERSEDED, "superseded by trainer span-2"))
    assert gone(bench.begun(id_))
    bench.executor.stop()


@pytest.mark.parametrize("hurry", [False, True])
def test_stopping_abandons_everything_and_says_so(bench: Bench, hurry: bool) -> None:
    ids = [bench.start("sleeps"), bench.start("ignores_sigterm")]
    for id_ in ids:
        bench.progress(id_)
    bench.executor.stop(hurry=hurry)
    bench.collect()
    assert not bench.executor.running()
    for id_ in ids:
        assert bench.outcomes[id_].state is State.ABANDONED
        assert bench.outcomes[id_].failure.kind == STOPPED  # type: ignore[union-attr]
        assert gone(int(bench.processes[id_]["pid"]))


def test_a_sigterm_from_elsewhere_is_not_a_cancellation(bench: Bench) -> None:
    id_ = bench.start("sleeps")
    bench.progress(id_)
    os.kill(bench.begun(id_), signal.SIGTERM)
    said = bench.ended(id_).failure
    assert said is not None
    assert (said.kind, said.retryable) == ("WorkerLost", True)


# What is left behind.


@pytest.mark.parametrize("do", ["grandchild", "setsid_grandchild"])
def test_nothing_outlives_its_execution(bench: Bench, tmp_path: Path, do: str) -> None:
    assert bench.run(do, pid_file=str(tmp_path / "pids")).state is State.SUCCEEDED
    _, grandchild = pids(tmp_path / "pids")
    until(lambda: gone(grandchild))


def test_even_a_forked_daemon_does_not_outlive_a_cancelled_execution(bench: Bench, tmp_path: Path) -> None:
    assert bench.run("forked_grandchild", pid_file=str(tmp_path / "pids")).state is State.SUCCEEDED
    _, grandchild = pids(tmp_path / "pids")
    until(lambda: gone(grandchild))


def test_others_live_on_when_one_ends(bench: Bench, tmp_path: Path) -> None:
    other = bench.start("grandchild_and_sleeps", pid_file=str(tmp_path / "pids"))
    worker, grandchild = pids(tmp_path / "pids")
    assert bench.run("kills_itself").state is State.FAILED
    assert not gone(worker)
    assert not gone(grandchild)
    bench.executor.cancel(other)
    bench.ended(other)
    until(lambda: gone(grandchild))


@pytest.mark.parametrize("do", ["grandchild_and_sleeps", "grandchild_and_holds_the_lock"])
@pytest.mark.parametrize("way", WAYS)
def test_workers_and_what_they_started_die_with_the_daemon(tmp_path: Path, way: str, do: str) -> None:
    file = tmp_path / "pids"
    daemon = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.executor_daemon", str(tmp_path), way, do, str(file)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    left = pids(file)
    assert not any(gone(pid) for pid in left)
    daemon.kill()
    until(lambda: all(gone(pid) for pid in left))
    daemon.wait()


def test_a_killed_worker_is_lost_and_may_be_tried_again(bench: Bench) -> None:
    id_ = bench.start("sleeps")
    os.kill(bench.begun(id_), signal.SIGKILL)
    said = bench.ended(id_).failure
    assert said is not None
    assert said.retryable
    assert "out of memory" in said.hint


def test_an_orphan_is_killed_only_if_it_is_the_very_process(bench: Bench) -> None:
    id_ = bench.start("sleeps")
    pid = bench.begun(id_)
    process = bench.executor.running()[id_]
    assert process == facts(pid)
    for change in ({"start": int(process["start"]) + 1}, {"boot": "an earlier one"}, {"pid": 2**22 + 1}):
        assert not kill_orphan({**process, **change})
    assert not kill_orphan({})
    assert alive(process)
    assert kill_orphan(process)
    assert bench.ended(id_).state is State.FAILED
    assert not kill_orphan(process)


# Output, progress, environment.


def test_output_without_end_does_not_fill_the_disk(bench: Bench) -> None:
    assert bench.run("talks").state is State.SUCCEEDED
    text = bench.text(1)
    assert len(text) < 2 * 2**20
    assert text.splitlines()[0].endswith(f"pid {bench.begun(1)}")
    assert "were cut out here]" in text
    assert "the last words" in text


def test_progress_is_shown_without_control_characters(bench: Bench) -> None:
    id_ = bench.start("sleeps")
    assert bench.progress(id_) == "step 1 of 2 [31m"
    assert bench.executor.progress(99) == ""


def test_workers_see_only_the_environment_they_are_given(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    id_ = bench.start("environment")
    seen = set(bench.progress(id_).split())
    assert seen - set(worker_env()) == {"CTD_STAGING", "TMPDIR", "TF_USE_LEGACY_KERAS"} | (seen & {"LC_CTYPE"})


def test_temporary_files_lie_in_staging(bench: Bench) -> None:
    id_ = bench.start("temporary_file")
    file, folder, working_directory = bench.progress(id_).split()
    assert file.startswith(folder)
    assert folder.startswith(str(bench.staging(id_)))
    assert working_directory == str(bench.staging(id_))


def test_staging_is_made_anew(bench: Bench) -> None:
    bench.staging(1).mkdir(parents=True)
    (bench.staging(1) / "left-over").write_text("")
    assert bench.run("nothing").state is State.SUCCEEDED
    assert not (bench.staging(1) / "left-over").exists()


def test_staging_that_cannot_be_made_is_a_failure_that_may_heal(bench: Bench) -> None:
    (bench.root / "staging").write_text("a file")
    said = failure(bench, "nothing")
    assert (said.kind, said.retryable) == ("StorageUnavailable", True)


def test_a_failpoint_in_the_worker_is_armed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settings(tmp_path, failpoints="worker.before_result=kill:1"))
    assert "SIGKILL" in failure(bench, "nothing").message
    bench.executor.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_executor_that_broke_says_so_and_ends_its_workers(bench: Bench) -> None:
    bench.progress(bench.start("sleeps"))
    worker = bench.begun(1)
    bench.executor._tell(lambda: next(iter(())))
    until(lambda: gone(worker))
    with pytest.raises(RuntimeError, match="thread has ended"):
        until(lambda: bench.collect() and False)


def test_a_machine_without_free_descriptors_is_a_failure_that_may_heal(bench: Bench) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 1, before[1]))
    try:
        said = bench.run("nothing").failure
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert said is not None
    assert (said.kind, said.retryable) == ("MachineUnavailable", True)
    assert "Too many open files (EMFILE)" in said.message
    assert bench.run("nothing").state is State.SUCCEEDED


# Warm templates.


def template_pid(bench: Bench) -> int:
    status = Path(f"/proc/{bench.begun(1)}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])


def test_forks_have_the_template_for_parent_and_fresh_ones_the_daemon(forking: Bench) -> None:
    forking.progress(forking.start("sleeps"))
    assert template_pid(forking) not in (os.getpid(), 1)


def test_workers_of_a_template_that_dies_are_lost_and_the_next_start_fresh(forking: Bench) -> None:
    forking.progress(forking.start("sleeps"))
    worker = forking.begun(1)
    os.kill(template_pid(forking), signal.SIGKILL)
    said = forking.ended(1).failure
    assert said is not None
    assert (said.kind, said.retryable) == ("WorkerLost", True)
    assert "template" in said.message
    assert gone(worker)
    forking.start("sleeps")
    forking.progress(2)
    parent = Path(f"/proc/{forking.begun(2)}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) == os.getpid()


def test_a_template_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settings(tmp_path, templates=WAYS["forked"], fork_reply=timedelta(seconds=5)))
    bench.progress(bench.start("sleeps"))
    os.kill(template_pid(bench), signal.SIGSTOP)
    assert bench.run("nothing").state is State.SUCCEEDED
    assert bench.ended(1).state is State.FAILED
    bench.executor.stop(hurry=True)


def test_a_template_that_cannot_be_imported_leaves_fresh_processes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settings(tmp_path, templates={"test": "no-such-template"}))
    assert bench.run("nothing").state is State.SUCCEEDED
    assert bench.run("nothing").state is State.SUCCEEDED
    bench.executor.stop()


def test_an_idle_template_is_let_go_and_comes_back(tmp_path: Path) -> None:
    made = settings(tmp_path, templates=WAYS["forked"], template_idle=timedelta(seconds=1))
    bench = Bench(tmp_path, made)
    bench.progress(bench.start("sleeps"))
    template = template_pid(bench)
    time.sleep(1.5)
    assert not gone(template)  # it is not idle while a worker of its runs
    bench.executor.cancel(1)
    bench.ended(1)
    until(lambda: gone(template))
    assert bench.run("nothing").state is State.SUCCEEDED
    bench.executor.stop()
