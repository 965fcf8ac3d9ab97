"""Reading the database file past ML Metadata gives what ML Metadata gives."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.executions import Execution, LeftOut, Outcome, State
from ctd.core.requests import OperatorRequest, Verb
from ctd.core.timing import ManualClock
from ctd.metadata import sqlite_reading
from ctd.metadata.connection import READ_WRITE, Connection
from ctd.metadata.mlmd import MlmdStore
from ctd.metadata.recorded import JsonObject
from ctd.metadata.sqlite_reading import Unreadable
from tests.contract.metadata_values import INGREDIENTS, OUTCOMES

CLOCK = ManualClock()
NUMBERS = itertools.count(1)
BEGUN = st.builds(
    Execution,
    pipeline=st.sampled_from(["taxi", "bikes"]),
    node=st.sampled_from(["examples", "trainer"]),
    kind=st.sampled_from(["example_gen", "trainer"]),
    key=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),  # ML Metadata ends a name there
    fingerprint=st.text("0123456789abcdef"),
    started=st.just(CLOCK.now()),
    piece=st.sampled_from(["", "metrics"]),
    because=st.text() | st.just("long " * 50_000),
    ingredients=INGREDIENTS,
    left_out=st.lists(st.builds(LeftOut, st.integers(), st.just("late"), st.text()), max_size=2).map(tuple),
    told=st.sampled_from(["", "4f1c"]),
    process=st.just({}) | st.just({"pid": 4711, "started": 99, "boot": "3f0c"}),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "metadata.sqlite"


@pytest.fixture(scope="module")
def shared(path: Path) -> Iterator[MlmdStore]:
    store = MlmdStore(path, CLOCK)
    yield store
    store.close()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A database with one finished execution, one that runs, one request and one deleted artifact."""
    path = tmp_path / "metadata.sqlite"
    store = MlmdStore(path, CLOCK)
    made = Artifact(ArtifactType.EXAMPLES, "/a/1", "ab12", 1, 0, {"rows": 1000, "share": 0.5, "split_names": "[]"})
    first = record(store, execution(), Outcome(State.SUCCEEDED, {"examples": (made, replace(made, uri="/a/2"))}))
    store.begin(execution(inputs={"examples": (2, 1), "baseline": (), "again": (1,)}))
    store.record_request(OperatorRequest(Verb.PAUSE, "taxi", "ana", CLOCK.now()))
    store.delete_artifact(first.output("examples")[0])
    store.close()
    return path


def execution(**changes: object) -> Execution:
    made = Execution("taxi", "examples", "example_gen", "span-1", "ab" * 32, CLOCK.now(), attempt=next(NUMBERS))
    return replace(made, **changes)


def record(store: MlmdStore, begun: Execution, outcome: Outcome) -> Execution:
    return store.finish(store.begin(begun).with_outcome(outcome, CLOCK.now() + timedelta(seconds=1)))


def both_ways_agree(path: Path, store: MlmdStore) -> list[Execution]:
    """What is in a store, once it is certain that reading the file gives that too."""
    by_api = list(store.executions_by_api())
    assert list(store.executions()) == by_api
    deleted = list(store.deleted_artifacts_by_api())
    assert list(store.deleted_artifacts()) == deleted
    store.close()
    assert sqlite_reading.read(path, sqlite_reading.executions) == by_api
    assert sqlite_reading.read(path, sqlite_reading.deleted_artifacts) == deleted
    return by_api


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(begun=BEGUN, outcome=st.none() | OUTCOMES, taken=st.lists(st.integers(0, 3), max_size=4), gone=st.booleans())
def test_whatever_was_recorded_is_read_as_ml_metadata_reads_it(
    shared: MlmdStore, path: Path, begun: Execution, outcome: Outcome | None, taken: list[int], gone: bool
) -> None:
    before = list(shared.executions_by_api())
    known = [a.id for e in before for made in e.outputs.values() for a in made]
    inputs = {f"input-{n % 2}": tuple(dict.fromkeys(known[n::3]))[:4] for n in taken}
    named = replace(begun, attempt=next(NUMBERS), inputs=inputs)
    recorded = record(shared, named, outcome) if outcome else shared.begin(named)
    made = [a for artifacts in recorded.outputs.values() for a in artifacts]
    if made and gone:
        shared.delete_artifact(made[0])
    if begun.process:
        shared.record_request(OperatorRequest(Verb.RETRY, "taxi", "ana", CLOCK.now(), execution=recorded.id))
    reader = MlmdStore.open_read_only(path)
    found = list(reader.executions_by_api())
    reader.close()
    assert found == [*before, recorded]
    assert list(shared.executions()) == found
    assert list(shared.deleted_artifacts()) == list(shared.deleted_artifacts_by_api())


def test_the_file_is_what_is_read(own: Path) -> None:
    store = MlmdStore(own, CLOCK)
    finished, running = both_ways_agree(own, store)
    assert [e.state for e in (finished, running)] == [State.SUCCEEDED, State.RUNNING]
    assert running.inputs == {"examples": (2, 1), "baseline": (), "again": (1,)}
    assert sqlite_reading.read(own, sqlite_reading.deleted_artifacts) == [1]


def of_another_tool(store: MetadataStore) -> None:
    """An execution of a type that is not ours, with paths, properties and an artifact as ctd never writes them."""
    made = store.put_artifact_type(pb.ArtifactType(name="Report"))
    ran = store.put_execution_type(pb.ExecutionType(name="their.step", properties={"x": pb.DOUBLE}))
    (artifact,) = store.put_artifacts([pb.Artifact(type_id=made, uri="/theirs")])
    (number,) = store.put_executions([pb.Execution(type_id=ran, last_known_state=pb.Execution.CACHED)])
    event = pb.Event(type=pb.Event.OUTPUT, execution_id=number, artifact_id=artifact)
    event.path.steps.add(key="only a key")
    store.put_events([event])


def test_what_other_tools_recorded_in_the_same_store_is_left_out(own: Path) -> None:
    connection = Connection(own, READ_WRITE)
    connection.run("write", of_another_tool)
    connection.close()
    store = MlmdStore(own, CLOCK)
    record(store, execution(), Outcome(State.CANCELLED))
    assert [e.id for e in both_ways_agree(own, store)] == [1, 2, 5]


def noted(store: MetadataStore, value: pb.Value) -> None:
    (artifact,) = store.get_artifacts_by_id([1])
    artifact.custom_properties["noted"].CopyFrom(value)
    store.put_artifacts([artifact])


@pytest.mark.parametrize("number", [0.1234567891234567, 1e300, 12345678901.123456, 1 / 3, -2.5])
def test_numbers_that_others_noted_are_as_long_as_ml_metadata_says(own: Path, number: float) -> None:
    connection = Connection(own, READ_WRITE)
    connection.run("write", lambda store: noted(store, pb.Value(double_value=number)))
    connection.close()
    (first, _) = both_ways_agree(own, MlmdStore(own, CLOCK))
    assert first.output("examples")[0].properties["noted"] == pytest.approx(number, rel=1e-11, abs=1e-6)


def test_a_kind_of_value_that_ctd_does_not_know_is_left_to_ml_metadata(own: Path) -> None:
    connection = Connection(own, READ_WRITE)
    connection.run("write", lambda store: noted(store, pb.Value(bool_value=True)))
    connection.close()
    store = MlmdStore(own, CLOCK)
    assert [e.output("examples")[0].properties["noted"] for e in store.executions() if e.outputs] == [True]
    store.close()
    with pytest.raises(Unreadable, match="neither text nor a number"):
        sqlite_reading.read(own, sqlite_reading.executions)


def test_a_schema_that_ctd_does_not_know_is_left_to_ml_metadata(own: Path) -> None:
    with closing(sqlite3.connect(own)) as database:
        database.execute("UPDATE MLMDEnv SET schema_version = 11")
        database.commit()
    with pytest.raises(Unreadable, match="another schema than 10"):
        sqlite_reading.read(own, sqlite_reading.executions)


def test_a_file_that_sqlite_cannot_read_is_left_to_ml_metadata(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"not a database" * 1000)
    for path in (tmp_path / "none", tmp_path / "missing"):
        with pytest.raises(Unreadable):
            sqlite_reading.read(path, sqlite_reading.executions)
    assert not (tmp_path / "missing").exists()


def open_files(path: Path) -> int:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
    return sum(link.resolve() == path.resolve() for link in links)


def test_ml_metadata_and_the_reading_never_have_the_file_open_at_the_same_time(own: Path) -> None:
    connection = Connection(own, READ_WRITE)
    assert open_files(own) == 1
    assert connection.read_file(lambda _: open_files(own)) == 1
    assert open_files(own) == 0, "or the locks that are dropped when a file is closed would be another one's"
    connection.run("open", lambda _: None)
    assert open_files(own) == 1
    connection.close()


def test_reading_goes_on_while_another_process_writes(own: Path) -> None:
    with closing(sqlite3.connect(own, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM Execution")
        assert len(sqlite_reading.read(own, sqlite_reading.executions)) == 2
        writer.execute("ROLLBACK")


@given(st.dictionaries(st.text(), st.integers() | st.lists(st.text())))
def test_an_object_that_stays_text_reads_like_the_object(value: dict[str, object]) -> None:
    kept = JsonObject(json.dumps(value))
    assert kept == value
    assert value == kept
    assert (list(kept), len(kept), bool(kept), dict(kept)) == (list(value), len(value), bool(value), value)
    assert kept.get("not there") == value.get("not there")
