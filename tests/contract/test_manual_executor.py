"""The executor of tests and simulations tells of executions as the real one does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ctd.core.artifacts import ArtifactType
from ctd.core.errors import BadInput, WorkerLost
from ctd.core.executions import STOPPED, SUPERSEDED, Failure, Outcome, State
from ctd.core.work import Request
from ctd.engine.executor import Ended, ManualExecutor, Started
from ctd.engine.publish import publish


def begin(executor: ManualExecutor, root: Path, execution_id: int = 1) -> Request:
    request = Request(
        execution_id=execution_id,
        pipeline="taxi",
        node="trainer",
        kind="trainer",
        key="span 1",
        entrypoint="nowhere",
        staging=str(root / "staging" / str(execution_id)),
        spec={},
        outputs={"model": ArtifactType.MODEL, "model_run": ArtifactType.MODEL_RUN},
        span=1,
    )
    executor.start(request, timedelta(minutes=1), profile="train", log=root / "log")
    (started,) = executor.poll()
    assert isinstance(started, Started)
    assert started.execution_id in executor.running()
    return request


def outcome(executor: ManualExecutor) -> Outcome:
    (ended,) = executor.poll()
    assert isinstance(ended, Ended)
    assert ended.execution_id not in executor.running()
    assert executor.poll() == []
    return ended.outcome


def test_success_leaves_files_that_can_be_published(tmp_path: Path) -> None:
    executor = ManualExecutor()
    request = begin(executor, tmp_path)
    executor.succeed(1, "good", blessed=1)
    published = publish(Path(request.staging), outcome(executor), lambda output: tmp_path / output / "1")
    model = published.outputs["model"][0]
    assert (model.type, model.span, model.properties["blessed"]) == (ArtifactType.MODEL, 1, 1)
    assert Path(model.uri, "data").read_text() == "trainer span 1 good"


def test_equal_content_has_an_equal_digest(tmp_path: Path) -> None:
    digests = []
    for execution_id, content in ((1, "a"), (2, "a"), (3, "b")):
        executor = ManualExecutor()
        begin(executor, tmp_path, execution_id)
        executor.succeed(execution_id, content)
        digests.append(outcome(executor).outputs["model"][0].digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("error", [WorkerLost("killed", hint="look"), BadInput("no tips", hint="mend")])
def test_failures_are_what_their_class_says(tmp_path: Path, error: WorkerLost | BadInput) -> None:
    executor = ManualExecutor()
    begin(executor, tmp_path)
    executor.fail(1, error)
    said = outcome(executor).failure
    assert said is not None
    assert (said.kind, said.retryable) == (type(error).__name__, error.retryable)


def test_cancelling_and_stopping_end_as_they_really_do(tmp_path: Path) -> None:
    executor = ManualExecutor()
    begin(executor, tmp_path)
    executor.cancel(1)
    executor.cancel(1)
    assert outcome(executor).state is State.CANCELLED
    begin(executor, tmp_path, 3)
    executor.cancel(3, superseded="superseded by trainer span-2")
    executor.cancel(3)
    superseded = outcome(executor)
    assert superseded.state is State.CANCELLED
    assert superseded.failure == Failure(SUPERSEDED, "superseded by trainer span-2")
    begin(executor, tmp_path, 2)
    executor.stop()
    stopped = outcome(executor)
    assert stopped.state is State.ABANDONED
    assert stopped.failure is not None
    assert stopped.failure.kind == STOPPED
