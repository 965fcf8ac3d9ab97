"""Results that are damaged, gone or out of reach: each is noticed before it is used, and only what is damaged moves."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctd.core.artifacts import Artifact
from ctd.core.errors import DamagedArtifact, StorageUnavailable
from ctd.core.executions import Failure, Outcome, State
from ctd.core.failpoints import FailpointHit, arm
from ctd.core.work import Request
from ctd.engine.verifying import verify
from ctd.storage.checksums import content_faults
from tests.flow.bench import Bench


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm("")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Three spans, read and trained on."""
    made = Bench(tmp_path)
    made.spec()
    for number in (1, 2, 3):
        made.span(number)
    made.start().settle()
    return made


def result(bench: Bench, node: str = "examples") -> Artifact:
    """The newest result of a node."""
    newest = bench.executions(node, State.SUCCEEDED)[-1]
    return next(iter(newest.outputs.values()))[0]


def flip(file: Path) -> None:
    """One bit, with the size and the time of modification as they were."""
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(file: Path) -> None:
    os.truncate(file, 7)


def remains(bench: Bench) -> list[str]:
    root = bench.root / "state/damaged"
    return sorted(str(p.relative_to(root)) for p in root.glob("*/*/*/*") if p.is_dir())


def end_with(bench: Bench, request: Request) -> str:
    """A worker's verdict on its inputs, handed to the daemon as the executor does it."""
    with pytest.raises(DamagedArtifact) as raised:
        verify(request)
    error = raised.value
    failure = Failure(type(error).__name__, error.message, error.hint, retryable=error.retryable)
    bench.executor.end(request.execution_id, Outcome(State.FAILED, failure=failure, damaged=error.found))
    return error.message


def check(bench: Bench) -> None:
    """At rest: what counts as live is whole, whatever lies in the store counts, and memory is as the store."""
    deleted = set(bench.store.deleted_artifacts())
    made = [a for e in bench.executions() for some in e.outputs.values() for a in some]
    live = [a for a in made if a.id not in deleted]
    assert [a.uri for a in live if content_faults(a)] == []
    assert {a.uri for a in live} == {str(p) for p in (bench.root / "state/artifacts").glob("*/*/*/*")}
    assert {e.id: e for e in bench.history} == {e.id: e for e in bench.store.executions()}
    assert not any((bench.root / "state/staging").iterdir())


@pytest.mark.parametrize(
    ("harm", "said"),
    [(truncate, "(data: 7 of 90 bytes)"), (Path.unlink, "(data is gone)")],
    ids=["truncated", "deleted"],
)
@pytest.mark.parametrize("node", ["examples", "validator", "trainer"])
def test_a_result_of_the_wrong_size_is_set_aside_and_made_again(
    bench: Bench, node: str, harm: Callable[[Path], None], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, models = result(bench, node), len(bench.trained_on())
    said = said.replace("90", str(before.properties["bytes"]))
    harm(Path(before.uri, "data"))
    bench.tick()
    (again,) = bench.running(node)
    because = bench.executions(node)[-1].because
    assert "made by execution" in because
    assert f"but {before.uri} was damaged {said}: made again" in because
    (kept,) = remains(bench)
    assert kept.startswith(f"taxi/{node}/")
    (loud,) = [r for r in caplog.records if r.getMessage() == "artifact damaged"]
    assert vars(loud)["node"] == node
    assert said.strip("()") in vars(loud)["because"]
    assert kept in vars(loud)["hint"]
    assert before.id in bench.store.deleted_artifacts()
    bench.settle()
    assert Path(result(bench, node).uri).name == str(again.execution_id)
    assert len(bench.trained_on()) == models + (node == "trainer"), "equal content retrains nothing"
    assert remains(bench) == [kept]
    check(bench)


def test_a_deleted_folder_is_made_again_and_there_is_nothing_to_set_aside(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    before = result(bench)
    shutil.rmtree(before.uri)
    bench.tick()
    assert f"but {before.uri} is gone: made again" in bench.executions("examples")[-1].because
    (loud,) = [r for r in caplog.records if r.getMessage() == "artifact damaged"]
    assert vars(loud)["because"] == f"{before.uri} is gone"
    bench.settle()
    assert remains(bench) == []
    bench.tick()
    assert len([r for r in caplog.records if r.getMessage() == "artifact damaged"]) == 1


def test_damage_is_noticed_at_the_next_rescan_and_not_looked_for_at_every_look(bench: Bench) -> None:
    damaged = Path(result(bench).uri, "data")
    truncate(damaged)
    spec = bench.wanted.pipelines["taxi"]
    assert not bench.reconciler.plan(spec).runs, "no event tells of what happens below a result's folder"
    bench.reconciler.rescan()
    (run,) = bench.reconciler.plan(spec).runs
    assert run.subject.node == "examples"
    assert damaged.exists(), "to look is not to touch"


def test_a_flipped_bit_is_found_by_whoever_uses_it_and_costs_no_attempt(bench: Bench) -> None:
    flip(Path(result(bench).uri, "data"))
    damaged = result(bench)
    bench.tick()
    assert not bench.running(), "the size is right"
    for round_ in range(1, 8):  # more often than a node may fail
        bench.clock.forward(minutes=5)
        bench.spec(steps=100 + round_)
        bench.tick()
        (request,) = bench.running("trainer")
        said = end_with(bench, request)
        assert f"{damaged.uri}: data: checksum" in said
        assert "pipeline taxi, node trainer" in said
        assert damaged.label in said
        bench.tick()
        (again,) = bench.running("examples")
        assert "was damaged (data: checksum" in bench.executions("examples")[-1].because
        assert not bench.running("trainer"), "it waits for what is made again"
        bench.finish("examples", again.key)
        bench.tick()
        bench.finish("trainer")
        bench.settle()
        damaged = result(bench)
        flip(Path(damaged.uri, "data"))
    assert len(remains(bench)) == 7


def test_what_is_damaged_while_it_is_used_is_set_aside_once_and_everybody_goes_on(bench: Bench) -> None:
    damaged = result(bench)
    flip(Path(damaged.uri, "data"))
    bench.spec(steps=200)
    bench.tick()
    bench.ask("run-now", "statistics", again=True)
    bench.tick()
    users = [r for r in bench.running() if any(damaged in taken for taken in r.inputs.values())]
    assert {r.node for r in users} >= {"trainer", "statistics"}
    for request in users:
        end_with(bench, request)
        bench.tick()
    assert len(remains(bench)) == 1
    bench.settle()
    assert bench.executions("trainer")[-1].state is State.SUCCEEDED
    assert len([e for e in bench.executions("examples") if e.key == "span-3"]) == 2
    check(bench)


@pytest.mark.parametrize("point", ["aside.before_note", "aside.before_move", "aside.after_move", "aside.before_mark"])
@pytest.mark.parametrize("found_by", ["look", "worker"])
def test_a_crash_between_finding_and_setting_aside_loses_nothing(bench: Bench, point: str, found_by: str) -> None:
    damaged = result(bench)
    (truncate if found_by == "look" else flip)(Path(damaged.uri, "data"))
    content = Path(damaged.uri, "data").read_bytes()
    if found_by == "worker":
        bench.spec(steps=200)
        bench.tick()
        end_with(bench, bench.running("trainer")[0])
    arm(f"{point}=raise:1")
    with pytest.raises(FailpointHit):
        bench.tick()
    arm("")
    bench.kill()
    bench.start().tick()
    if found_by == "worker" and bench.running("trainer"):
        end_with(bench, bench.running("trainer")[0])  # what was not taken in is found again
        bench.tick()
    assert f"{damaged.uri} was damaged (data: " in bench.executions("examples")[-1].because
    bench.settle()
    (kept,) = remains(bench)
    assert (bench.root / "state/damaged" / kept / "data").read_bytes() == content
    assert damaged.id in bench.store.deleted_artifacts()
    check(bench)


def test_the_store_is_away_when_damage_is_found(bench: Bench) -> None:
    damaged = result(bench)
    truncate(Path(damaged.uri, "data"))
    bench.store.away = {"delete_artifact"}
    bench.tick()
    assert len(remains(bench)) == 1
    bench.store.away = set()
    bench.clock.forward(seconds=10)
    bench.settle()
    assert "was damaged (data: 7 of" in bench.executions("examples")[-1].because
    assert damaged.id in bench.store.deleted_artifacts()
    check(bench)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_what_cannot_be_read_is_waited_for_and_stays_where_it_is(
    bench: Bench, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    before = len(bench.executions())
    bench.span(4)
    arm(f"artifact.look=err({errno.errorcode[number]})")
    bench.tick()
    bench.tick()
    assert os.strerror(number) in bench.of("examples")
    assert {e.key for e in bench.executions()[before:]} == {"span-4"}, "what is new is read; nothing is made again"
    bench.settle()
    assert bench.trained_on() == ["spans 1..3 (3)"], "nothing is trained on less, or on what may be damaged"
    assert "waits until it can be read" in bench.of("trainer")
    assert remains(bench) == []
    assert [r.getMessage() for r in caplog.records if "artifact" in r.getMessage()] == ["artifacts unreadable"]
    arm("")
    bench.settle()
    assert bench.trained_on()[-1] == "spans 2..4 (3)"
    assert not list(bench.store.deleted_artifacts())
    bench.check()


def test_a_worker_that_cannot_read_its_input_tries_again_later(bench: Bench) -> None:
    bench.spec(steps=200)
    bench.tick()
    (request,) = bench.running("trainer")
    arm("artifact.read=err(EIO)")
    with pytest.raises(StorageUnavailable) as raised:
        verify(request)
    arm("")
    bench.executor.fail(request.execution_id, raised.value)
    bench.tick()
    assert "Input/output error" in bench.of("trainer")
    assert "again in" in bench.of("trainer")
    assert remains(bench) == []
    bench.clock.forward(seconds=10)
    bench.settle()
    bench.check()


def test_what_is_damaged_each_time_it_was_made_is_made_ever_more_slowly(bench: Bench) -> None:
    key = bench.executions("trainer")[-1].key
    for _ in range(100):
        bench.clock.forward(seconds=1)
        with contextlib.suppress(FileNotFoundError):  # set aside, and not made again yet
            truncate(Path(result(bench, "trainer").uri, "data"))
        bench.settle()
    made = [e for e in bench.executions("trainer") if e.key == key]
    assert 3 < len(made) < 15, "a hundred seconds, each with damage"
    with contextlib.suppress(FileNotFoundError):
        truncate(Path(result(bench, "trainer").uri, "data"))
    bench.settle()
    assert "times in a row" in bench.of("trainer")
    bench.clock.forward(minutes=2)
    bench.settle()
    bench.clock.forward(minutes=2)
    assert "same work" in "".join(s for s in bench.settle() if "trainer" in s)


def test_a_chain_whose_links_retention_has_removed_is_made_again_from_its_start(bench: Bench) -> None:
    for artifact in [result(bench, "statistics"), result(bench, "examples")]:
        bench.store.delete_artifact(artifact)
        bench.history.forget_artifact(artifact.id)
        shutil.rmtree(artifact.uri)
    model = result(bench, "trainer")
    truncate(Path(model.uri, "data"))
    bench.settle()
    assert "is gone: made again" in bench.executions("examples")[-1].because
    assert "was damaged (data: 7 of" in bench.executions("trainer")[-1].because
    assert bench.trained_on()[-1] == "spans 1..3 (3)"
    check(bench)


def test_what_cannot_be_made_again_since_its_source_is_gone_says_which_source(bench: Bench) -> None:
    truncate(Path(result(bench, "schema").uri, "data"))
    (bench.root / "schema.pbtxt").unlink()
    bench.settle()
    assert "schema.pbtxt does not exist" in bench.of("schema")
    assert bench.of("schema").startswith("blocked")
    (bench.root / "schema.pbtxt").write_text("feature { name: 'fare' type: FLOAT }\n")
    bench.settle()
    assert bench.of("schema").startswith("reuse")


def test_results_outside_the_artifact_store_are_never_moved(bench: Bench, tmp_path: Path) -> None:
    before = result(bench)
    elsewhere = tmp_path / "other disk"
    shutil.move(before.uri, elsewhere)
    Path(before.uri).symlink_to(elsewhere)
    bench.settle()
    assert len(bench.executions("examples")) == 3, "a link to the same files is as good"
    truncate(elsewhere / "data")
    bench.settle()
    assert (elsewhere / "data").exists()
    assert len(bench.executions("examples")) == 4
    check(bench)
