"""Outputs move from staging to their place whole or not at all, and only what is ctd's is ever removed."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import ComponentFailed, IllegalTransition, StorageUnavailable
from ctd.core.executions import Execution, Outcome, State
from ctd.core.failpoints import FailpointHit, arm
from ctd.engine.publish import Elsewhere, bring_near, collect, publish, sweep, sweep_staging
from ctd.storage.layout import StateDir

EXECUTION = Execution(
    "taxi", "transform", "transform", "span 1", "f" * 64, datetime(2026, 1, 1, tzinfo=timezone.utc), id=7
)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def place(state: StateDir) -> Callable[[str], Path]:
    return lambda output: state.artifact("taxi", "transform", output, 7)


def staged(state: StateDir) -> Outcome:
    """Two outputs in staging: a graph, and examples of two spans."""
    for path in ("graph/saved_model.pb", "examples/0/data", "examples/1/data", ".job.json", ".tmp/x"):
        file = state.staging(7) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    graph = Artifact(ArtifactType.TRANSFORM_GRAPH, "graph", "d1")
    examples = tuple(Artifact(ArtifactType.EXAMPLES, f"examples/{n}", f"e{n}", span=n) for n in range(2))
    return Outcome(State.SUCCEEDED, {"graph": (graph,), "examples": examples})


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_outputs_are_at_their_places_with_absolute_uris(state: StateDir) -> None:
    done = publish(state.staging(7), staged(state), place(state))
    assert [a.uri for a in done.outputs["graph"]] == [str(place(state)("graph"))]
    assert [a.uri for a in done.outputs["examples"]] == [str(place(state)("examples") / str(n)) for n in range(2)]
    assert Path(done.outputs["examples"][1].uri, "data").read_text() == "examples/1/data"
    assert done.outputs["examples"][1].digest == "e1"
    assert not state.staging(7).exists()


@pytest.mark.parametrize("point", ["art.before_rename", "art.after_rename", "art.after_dirsync"])
@pytest.mark.parametrize("hit", [1, 2])
def test_publishing_again_after_a_crash_finishes_the_rest(state: StateDir, point: str, hit: int) -> None:
    outcome = staged(state)
    arm(f"{point}=raise:{hit}")
    with pytest.raises(FailpointHit):
        publish(state.staging(7), outcome, place(state))
    arm("")
    done = publish(state.staging(7), outcome, place(state))
    assert files(place(state)("graph")) == {"saved_model.pb"}
    assert files(place(state)("examples")) == {"0/data", "1/data"}
    assert publish(state.staging(7), outcome, place(state)) == done


COPYING = ("art.before_copy", "art.after_copy", "art.near", "art.before_arrival", "art.after_arrival")


def copy_and_publish(state: StateDir, outcome: Outcome) -> Outcome:
    bring_near(state.staging(7), outcome, place(state))
    return publish(state.staging(7), outcome, place(state))


def across(state: StateDir, outcome: Outcome) -> Outcome:
    """Publish to another file system, as the engine does."""
    arm("art.before_rename=err(EXDEV)")
    with pytest.raises(Elsewhere):
        publish(state.staging(7), outcome, place(state))
    return copy_and_publish(state, outcome)


def test_outputs_are_copied_where_they_cannot_be_renamed(state: StateDir) -> None:
    done = across(state, staged(state))
    assert files(place(state)("graph")) == {"saved_model.pb"}
    assert files(place(state)("examples")) == {"0/data", "1/data"}
    assert done.outputs["examples"][1].digest == "e1"
    assert {p.name for p in state.artifacts.rglob("7")} == {"7"}
    assert not list(state.artifacts.rglob(".*"))
    assert not state.staging(7).exists()


@pytest.mark.parametrize("point", COPYING)
@pytest.mark.parametrize("hit", [1, 2])
def test_nobody_sees_half_a_copy_and_after_a_crash_the_rest_is_copied(state: StateDir, point: str, hit: int) -> None:
    outcome = staged(state)
    arm(f"{point}=raise:{hit}; art.before_rename=err(EXDEV)")
    with pytest.raises(FailpointHit):
        copy_and_publish(state, outcome)
    for output, whole in (("graph", {"saved_model.pb"}), ("examples", {"0/data", "1/data"})):
        assert not place(state)(output).exists() or files(place(state)(output)) == whole
    arm("art.before_rename=err(EXDEV)")
    copy_and_publish(state, outcome)
    assert files(place(state)("graph")) == {"saved_model.pb"}
    assert files(place(state)("examples")) == {"0/data", "1/data"}


@pytest.mark.parametrize("point", COPYING)
@pytest.mark.parametrize("hit", [1, 2])
def test_sweeping_after_a_crash_on_the_way_leaves_nothing(state: StateDir, point: str, hit: int) -> None:
    outcome = staged(state)
    arm(f"{point}=raise:{hit}; art.before_rename=err(EXDEV)")
    with pytest.raises(FailpointHit):
        copy_and_publish(state, outcome)
    arm("remove.rename=err(EXDEV):1")
    sweep(state, EXECUTION)
    assert files(state.artifacts) == set()
    assert not state.staging(7).exists()


def test_removing_that_was_cut_short_on_another_file_system_is_done_at_the_next_start(state: StateDir) -> None:
    (graph,) = publish(state.staging(7), staged(state), place(state)).outputs["graph"]
    arm("remove.rename=err(EXDEV):1; gc.mid_tree=raise:1")
    with pytest.raises(FailpointHit):
        collect(state, graph)
    arm("")
    assert not Path(graph.uri).exists()
    assert files(Path(graph.uri).parent) == {".7.gone/saved_model.pb"}
    collect(state, graph)
    assert not list(state.artifacts.rglob("*graph*/*"))


@pytest.mark.parametrize("hit", [1, 2])
def test_sweeping_after_a_crash_leaves_nothing(state: StateDir, hit: int) -> None:
    arm(f"art.after_rename=raise:{hit}")
    with pytest.raises(FailpointHit):
        publish(state.staging(7), staged(state), place(state))
    other = state.artifact("taxi", "transform", "graph", 77)
    other.mkdir(parents=True)
    sweep(state, EXECUTION)
    sweep(state, EXECUTION)
    assert not state.staging(7).exists()
    assert not place(state)("graph").exists()
    assert not place(state)("examples").exists()
    assert other.is_dir()


def test_a_full_disk_is_a_failure_that_may_heal(state: StateDir) -> None:
    arm("art.before_rename=err(ENOSPC):1")
    with pytest.raises(StorageUnavailable, match="No space left") as raised:
        publish(state.staging(7), staged(state), place(state))
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.ENOSPC


@pytest.mark.parametrize("uri", ["/etc", "../8/graph", "graph/../../8", "other", ""])
def test_outputs_outside_their_staging_are_refused(state: StateDir, uri: str) -> None:
    staged(state)
    outcome = Outcome(State.SUCCEEDED, {"graph": (Artifact(ArtifactType.MODEL, uri, "d"),)})
    with pytest.raises(ComponentFailed, match="outside"):
        publish(state.staging(7), outcome, place(state))
    assert (state.staging(7) / "graph").is_dir()


def test_a_linked_output_is_refused(state: StateDir, tmp_path: Path) -> None:
    outcome = staged(state)
    (state.staging(7) / "graph").rename(tmp_path / "elsewhere")
    (state.staging(7) / "graph").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ComponentFailed, match="outside"):
        publish(state.staging(7), outcome, place(state))
    assert (tmp_path / "elsewhere" / "saved_model.pb").is_file()


def test_an_output_never_replaces_another(state: StateDir) -> None:
    outcome = staged(state)
    place(state)("graph").mkdir(parents=True)
    (place(state)("graph") / "precious").write_text("")
    with pytest.raises(IllegalTransition):
        publish(state.staging(7), outcome, place(state))
    assert files(place(state)("graph")) == {"precious"}


def test_everything_staged_goes_at_start(state: StateDir, tmp_path: Path) -> None:
    staged(state)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    (state.staging(8)).symlink_to(outside)
    (state.staging(7) / "graph" / "link").symlink_to(outside)
    sweep_staging(state)
    assert files(outside) == {"precious"}
    assert not any(state.staging(7).parent.iterdir())
    sweep_staging(state)


def test_collecting_removes_the_artifact_and_nothing_else(state: StateDir) -> None:
    done = publish(state.staging(7), staged(state), place(state))
    first, second = done.outputs["examples"]
    collect(state, first)
    collect(state, first)
    assert not Path(first.uri).exists()
    assert Path(second.uri, "data").is_file()


@pytest.mark.parametrize("point", ["gc.before_unlink", "gc.mid_tree"])
def test_a_crash_while_collecting_leaves_the_artifact_whole_or_gone(state: StateDir, point: str) -> None:
    (graph,) = publish(state.staging(7), staged(state), place(state)).outputs["graph"]
    arm(f"{point}=raise:1")
    with pytest.raises(FailpointHit):
        collect(state, graph)
    arm("")
    assert not Path(graph.uri).exists() or files(Path(graph.uri)) == {"saved_model.pb"}
    collect(state, graph)
    sweep_staging(state)
    assert not Path(graph.uri).exists()
    assert not any(state.staging(7).parent.iterdir())


def test_nothing_outside_the_state_directory_is_removed(state: StateDir, tmp_path: Path) -> None:
    staged(state)
    outside = tmp_path / "outside"
    outside.mkdir()
    linked = state.artifact("taxi", "transform", "graph", 7)
    linked.parent.parent.mkdir(parents=True)
    linked.parent.symlink_to(outside)
    (outside / "7").mkdir()
    graph = Artifact(ArtifactType.TRANSFORM_GRAPH, str(linked))
    inside = state.staging(7).parent.parent
    for uri in (
        str(linked),
        str(outside),
        "/",
        str(inside),
        str(inside / "artifacts"),
        str(inside / "x" / ".." / ".."),
    ):
        with pytest.raises(IllegalTransition):
            collect(state, replace(graph, uri=uri))
    assert (outside / "7").is_dir()
