"""What every metadata store promises, and what the one on disk promises besides: the same history after reopening."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctd.core.artifacts import Artifact, Artifacts, ArtifactType
from ctd.core.errors import IllegalTransition, PermanentError
from ctd.core.executions import Execution, Failure, LeftOut, Outcome, State
from ctd.core.history import History
from ctd.core.requests import OperatorRequest, Order, Verb
from ctd.core.timing import ManualClock
from ctd.metadata.mlmd import MlmdReader, MlmdStore
from ctd.metadata.store import MemoryStore, MetadataStore
from tests.contract.metadata_values import INGREDIENTS, OUTCOMES

CLOCK = ManualClock()


class Opened:
    """A store, and the means to look at it after a restart."""

    def __init__(self, opened: Callable[[], MetadataStore]) -> None:
        self._open = opened
        self.store = opened()

    def reopen(self) -> MetadataStore:
        self.store.close()
        self.store = self._open()
        return self.store

    def history(self) -> History:
        """As a daemon loads it at start."""
        store = self.reopen()
        history = History(store.executions(), store.requests())
        for artifact_id in store.deleted_artifacts():
            history.forget_artifact(artifact_id)
        return history


@pytest.fixture(params=["memory", "mlmd"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    memory = MemoryStore()
    kept = Opened((lambda: memory) if request.param == "memory" else lambda: MlmdStore(tmp_path / "m.sqlite", CLOCK))
    yield kept
    kept.store.close()


def execution(number: int = 1, **changes: object) -> Execution:
    return replace(
        Execution(
            pipeline="taxi",
            node="examples",
            kind="example_gen",
            key=f"span-{number}",
            fingerprint=f"{number:064x}",
            started=CLOCK.now() + timedelta(microseconds=number),
            because="new span, complete: marker _SUCCESS",
            ingredients={"component": "example_gen", "settings": {"splits": [2, 1]}, "inputs": {"files": "ab12"}},
            left_out=(LeftOut(4, "quarantined", "fare: out of range"),),
            told="4f1c",
            epoch=3,
        ),
        **changes,
    )


def examples(number: int = 1) -> Artifacts:
    made = Artifact(
        ArtifactType.EXAMPLES,
        f"/artifacts/taxi/examples/examples/{number}",
        digest=f"{number:x}" * 8,
        span=number,
        version=0,
        properties={"split_names": '["train","eval"]', "rows": 1000, "share": 0.123456789012345},
    )
    return {"examples": (made,)}


def done(begun: Execution, outputs: Artifacts, state: State = State.SUCCEEDED) -> Execution:
    outcome = Outcome(state, outputs, timings={"read": 0.25, "write": 1.0000001})
    return begun.with_outcome(outcome, begun.started + timedelta(seconds=2))


def failed(begun: Execution, state: State) -> Execution:
    failure = Failure("BadInput", 'row 7 has "9" fields', "mend the file", "2026-01-01/part-0.csv:7", retryable=False)
    outcome = Outcome(state, failure=None if state is State.CANCELLED else failure)
    return begun.with_outcome(outcome, begun.started + timedelta(seconds=2))


def test_what_is_begun_is_running_and_has_an_id(opened: Opened) -> None:
    begun = opened.store.begin(execution())
    assert begun == execution(id=begun.id)
    assert begun.id > 0
    assert opened.history().running() == (begun,)


def test_beginning_twice_is_beginning_once(opened: Opened) -> None:
    first = opened.store.begin(execution())
    again = opened.reopen().begin(execution(because="asked once more after a lost answer"))
    assert again == first
    assert len(opened.history()) == 1


def test_another_attempt_is_another_execution(opened: Opened) -> None:
    first = opened.store.begin(execution())
    second = opened.store.begin(execution(attempt=2))
    assert first.id != second.id
    assert [e.attempt for e in opened.history()] == [1, 2]


def test_finishing_gives_outputs_their_ids_and_changes_nothing_else(opened: Opened) -> None:
    begun = opened.store.begin(execution())
    finished = opened.store.finish(done(begun, examples()))
    (artifact,) = finished.output("examples")
    assert artifact.id > 0
    assert replace(artifact, id=0) == examples()["examples"][0]
    assert replace(finished, outputs=examples()) == done(begun, examples())
    assert list(opened.history()) == [finished]


def test_finishing_twice_is_finishing_once(opened: Opened) -> None:
    begun = opened.store.begin(execution())
    finished = opened.store.finish(done(begun, examples()))
    assert opened.store.finish(done(begun, examples())) == finished
    assert opened.reopen().finish(failed(begun, State.FAILED)) == finished
    assert opened.reopen().begin(execution()) == finished
    other = opened.store.finish(done(opened.store.begin(execution(2)), examples(2)))
    assert other.output("examples")[0].id == finished.output("examples")[0].id + 1, "no artifact was made in between"


@pytest.mark.parametrize("state", [State.FAILED, State.ABANDONED, State.CANCELLED])
def test_a_bad_end_is_remembered_with_its_reason(opened: Opened, state: State) -> None:
    finished = opened.store.finish(failed(opened.store.begin(execution()), state))
    (remembered,) = opened.history()
    assert remembered == finished
    assert remembered.state is state
    assert remembered.failure == failed(execution(), state).failure


def test_only_what_was_begun_can_finish(opened: Opened) -> None:
    with pytest.raises(PermanentError, match="never begun"):
        opened.store.finish(done(execution(), examples()))


def test_running_is_no_way_to_finish(opened: Opened) -> None:
    with pytest.raises(IllegalTransition, match="running"):
        opened.store.finish(opened.store.begin(execution()))


def test_the_process_of_an_execution_is_remembered_while_it_runs(opened: Opened) -> None:
    begun = opened.store.begin(execution())
    running = replace(begun, process={"pid": 4711, "started": 1234, "boot": "3f0c"})
    opened.store.note_process(running)
    assert list(opened.history()) == [running]
    finished = opened.store.finish(done(running, examples()))
    assert finished.process == running.process
    assert list(opened.history()) == [finished]


def test_inputs_keep_their_order_and_their_empty_keys(opened: Opened) -> None:
    made = [opened.store.finish(done(opened.store.begin(execution(n)), examples(n))) for n in (1, 2, 3)]
    a, b, c = (e.output("examples")[0].id for e in made)
    inputs = {"examples": (c, a, b), "baseline": (), "same_again": (a,)}
    trained = opened.store.begin(execution(4, node="trainer", kind="trainer", inputs=inputs))
    assert trained.inputs == inputs
    finished = opened.store.finish(done(trained, {"model": (Artifact(ArtifactType.MODEL, "/m"),), "run": ()}))
    assert finished.inputs == inputs
    assert finished.outputs["run"] == ()
    assert opened.history().execution(trained.id) == finished


def test_inputs_stay_as_they_were_recorded(opened: Opened) -> None:
    ingested = opened.store.finish(done(opened.store.begin(execution()), examples()))
    (artifact,) = ingested.output("examples")
    user = opened.store.begin(execution(2, node="trainer", kind="trainer", inputs={"examples": (artifact.id,)}))
    opened.store.finish(done(user, {"model": (Artifact(ArtifactType.MODEL, "/m", digest="cd34"),)}))
    assert opened.history().artifact(artifact.id) == artifact
    assert artifact.digest == examples()["examples"][0].digest


def test_an_output_that_is_recorded_already_is_not_recorded_again(opened: Opened) -> None:
    first = opened.store.finish(done(opened.store.begin(execution()), examples()))
    again = opened.store.finish(done(opened.store.begin(execution(attempt=2)), first.outputs))
    assert again.outputs == first.outputs
    assert opened.history().execution(again.id) == again


def test_a_deleted_artifact_stays_deleted_and_known(opened: Opened) -> None:
    first, second = (opened.store.finish(done(opened.store.begin(execution(n)), examples(n))) for n in (1, 2))
    (artifact,) = first.output("examples")
    opened.store.delete_artifact(artifact)
    opened.store.delete_artifact(artifact)
    user = opened.store.begin(execution(3, node="trainer", kind="trainer", inputs={"examples": (artifact.id,)}))
    opened.store.finish(done(user, {}))
    history = opened.history()
    assert list(opened.store.deleted_artifacts()) == [artifact.id]
    assert history.artifact(artifact.id) == artifact
    assert not history.live(artifact)
    assert history.live(second.output("examples")[0])


def test_executions_come_oldest_first_over_many_pages(opened: Opened) -> None:
    begun = [opened.store.begin(execution(n)) for n in range(1, 251)]
    recorded = {e.id: e for e in begun}
    for e in reversed(begun[::2]):
        recorded[e.id] = opened.store.finish(done(e, examples(e.id)))
    gone = [recorded[e.id].output("examples")[0] for e in begun[:200:50]]
    for artifact in gone:
        opened.store.delete_artifact(artifact)
    assert list(opened.reopen().executions()) == [recorded[i] for i in sorted(recorded)]
    assert sorted(opened.store.deleted_artifacts()) == sorted(a.id for a in gone)


def asked(verb: Verb = Verb.RETRY, **changes: object) -> OperatorRequest:
    request = OperatorRequest(verb, "taxi", "ana", CLOCK.now(), node="trainer", reason='disk was "full"\n\u00e9')
    return replace(request, **changes)


def test_requests_come_back_as_they_were_made_and_are_no_executions(opened: Opened) -> None:
    first = opened.store.begin(execution())
    wanted = [
        asked(execution=first.id),
        asked(Verb.ACCEPT, node="validator", key="span-0.v0", span=0, about="ab12"),
        asked(Verb.ACCEPT, node="validator", key="span--3", span=-3, about="ab12"),
        asked(Verb.RUN_NOW, again=True),
        asked(Verb.BACKFILL, node="", key="-3..0", span=-3, last=0, order=Order.OLDEST, again=True),
        asked(Verb.BACKFILL, node="", key="0..7", span=0, last=7, order=Order.NEWEST),
        asked(Verb.STOP_BACKFILL, node="", key="0..7", about="17"),
        asked(Verb.PAUSE, node="", reason=""),
        asked(Verb.PAUSE, pipeline="other", node="", reason=""),
    ]
    recorded = [opened.store.record_request(request) for request in wanted]
    second = opened.store.begin(execution(2))
    ids = [request.id for request in recorded]
    assert ids == sorted(set(ids))
    assert first.id < ids[0]
    assert ids[-1] < second.id
    assert [replace(request, id=0) for request in recorded] == wanted
    history = opened.history()
    assert list(opened.store.requests()) == recorded
    assert list(history) == [first, second]
    assert list(history.of_pipeline("taxi")) == [first, second]
    assert list(history.requests("taxi")) == recorded[:-1]
    assert list(history.asked("taxi", "validator", Verb.ACCEPT)) == [recorded[2], recorded[1]]


def test_requesting_twice_is_requesting_once(opened: Opened) -> None:
    first = opened.store.record_request(asked())
    assert opened.reopen().record_request(asked()) == first
    assert opened.store.record_request(asked(reason="another")).id != first.id
    ranges = [asked(Verb.BACKFILL, span=1, last=last, order=order) for last in (2, 3) for order in Order]
    assert len({opened.store.record_request(request).id for request in ranges}) == 4
    assert len(opened.history().requests("taxi")) == 6


def test_an_empty_store_is_an_empty_history(opened: Opened) -> None:
    assert list(opened.store.executions()) == []
    assert list(opened.store.deleted_artifacts()) == []


def test_the_history_fed_by_each_write_is_the_history_loaded_at_start(opened: Opened) -> None:
    fed = History()
    for n in range(1, 41):
        begun = opened.store.begin(execution(n, inputs={"files": ()}))
        fed.record(begun)
        if n % 5 == 0:
            continue
        end = done(begun, examples(n)) if n % 3 else failed(begun, (State.FAILED, State.ABANDONED)[n % 2])
        recorded = opened.store.finish(end)
        fed.record(recorded)
        if n % 7 == 0 and recorded.outputs:
            opened.store.delete_artifact(recorded.outputs["examples"][0])
            fed.forget_artifact(recorded.outputs["examples"][0].id)
    loaded = opened.history()
    assert vars(loaded) == vars(fed)


NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlmdStore]:
    store = MlmdStore(tmp_path_factory.mktemp("shared") / "m.sqlite", CLOCK)
    yield store
    store.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(outcome=OUTCOMES, ingredients=INGREDIENTS, because=st.text())
def test_every_value_comes_back_as_it_was(
    shared: MlmdStore, outcome: Outcome, ingredients: dict[str, object], because: str
) -> None:
    named = execution(next(NUMBERS), ingredients=ingredients, because=because)
    begun = shared.begin(named)
    assert replace(begun, id=0) == named
    ended = begun.with_outcome(outcome, begun.started + timedelta(seconds=1))
    finished = shared.finish(ended)
    without_ids = {key: tuple(replace(a, id=0) for a in made) for key, made in finished.outputs.items()}
    assert replace(finished, outputs=without_ids) == ended
    assert len({a.id for made in finished.outputs.values() for a in made}) == sum(map(len, outcome.outputs.values()))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The database of a state directory with one finished execution; nobody has it open."""
    path = tmp_path / "state" / "metadata.sqlite"
    store = MlmdStore(path, CLOCK)
    store.finish(done(store.begin(execution()), examples()))
    store.close()
    return path


def refusal(path: Path) -> str:
    """Why both ways of opening the store refuse, and that refusing changed nothing."""
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    said = []
    for opening in (lambda: MlmdStore(path, CLOCK), lambda: MlmdStore.open_read_only(path)):
        with pytest.raises(PermanentError) as caught:
            opening()
        assert caught.value.hint
        said.append(caught.value.message)
    assert before.items() <= {file.name: file.read_bytes() for file in path.parent.iterdir()}.items()
    assert said[0] == said[1] or "not an ML Metadata database" in said[0]
    return said[0]


def test_an_emptied_database_is_refused(state: Path) -> None:
    state.write_bytes(b"")
    assert "is empty (0 bytes)" in refusal(state)


def test_a_database_without_its_identity_file_is_refused(state: Path) -> None:
    (state.parent / "IDENTITY").unlink()
    assert "IDENTITY is missing" in refusal(state)


def test_an_identity_file_without_its_database_is_refused(state: Path) -> None:
    state.unlink()
    assert "metadata.sqlite is missing" in refusal(state)


def test_another_directorys_database_is_refused(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "metadata.sqlite"
    MlmdStore(other, CLOCK).close()
    state.write_bytes(other.read_bytes())
    assert "does not belong here" in refusal(state)


def test_a_start_killed_just_before_the_database_got_its_name_is_completed(state: Path) -> None:
    state.rename(state.with_name("metadata.sqlite.new"))
    store = MlmdStore(state, CLOCK)
    assert len(list(store.executions())) == 1
    store.close()


def test_reading_only_sees_everything_and_changes_nothing(state: Path) -> None:
    before = state.read_bytes()
    reader = MlmdStore.open_read_only(state)
    assert isinstance(reader, MlmdReader)
    assert [e.state for e in reader.executions()] == [State.SUCCEEDED]
    reader.close()
    assert state.read_bytes() == before


def test_reading_only_makes_no_store_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="no metadata store"):
        MlmdStore.open_read_only(tmp_path / "metadata.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_refused(state: Path) -> None:
    state.write_bytes(b"not a database\n" * 1000)
    with pytest.raises(PermanentError, match="not an ML Metadata database"):
        MlmdStore(state, CLOCK)
