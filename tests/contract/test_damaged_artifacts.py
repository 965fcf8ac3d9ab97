"""Every kind of harm to a published artifact is told from every other, by sizes, by contents and by workers."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import DamagedArtifact, IllegalTransition, StorageUnavailable
from ctd.core.executions import State
from ctd.core.facts import Damage
from ctd.core.failpoints import arm
from ctd.core.work import Made, Request
from ctd.engine.intact import Intact
from ctd.engine.publish import set_aside
from ctd.engine.sealing import seal
from ctd.engine.verifying import verify
from ctd.storage.checksums import CHECKSUMS, content_faults, size_faults
from ctd.storage.layout import StateDir
from ctd.storage.remains import read_notes
from tests.contract.executor_bench import Bench, settings

FILES = {"Split-train/data.gz": b"t" * 1024, "Split-eval/data.gz": b"e" * 100, "note": b""}


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm("")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def request(state: StateDir, **changes: Any) -> Request:
    return Request(**{
        "execution_id": 12, "pipeline": "taxi", "node": "trainer", "kind": "trainer", "key": "span 3",
        "entrypoint": "none", "staging": str(state.artifacts / "taxi/examples"), "spec": {},
        "outputs": {"examples": ArtifactType.EXAMPLES}, **changes,
    })  # fmt: skip


def published(state: StateDir, files: dict[str, bytes] | None = None) -> Artifact:
    """An artifact as a worker seals it, at its place."""
    folder = state.artifacts / "taxi/examples/examples/12"
    for name, data in (FILES if files is None else files).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    folder.mkdir(parents=True, exist_ok=True)
    (made,) = seal(request(state), {"examples": [Made("examples/12", span=3)]})["examples"]
    return replace(made, uri=str(folder), id=40)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


HARM: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (lambda p: os.truncate(p / "Split-train/data.gz", 812), "Split-train/data.gz: 812 of 1,024 bytes"),
    "grown": (lambda p: os.truncate(p / "Split-eval/data.gz", 101), "Split-eval/data.gz: 101 of 100 bytes"),
    "file gone": (lambda p: (p / "Split-eval/data.gz").unlink(), "Split-eval/data.gz is gone"),
    "folder gone": (lambda p: shutil.rmtree(p / "Split-train"), "Split-train/data.gz is gone"),
    "empty file gone": (lambda p: (p / "note").unlink(), "note is gone"),
    "a file for a folder": (lambda p: (shutil.rmtree(p), p.write_text("x")), "is gone"),
}
HIDDEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "one bit": (lambda p: flip(p / "Split-train/data.gz"), "Split-train/data.gz: checksum"),
    "exchanged": (lambda p: (p / "Split-eval/data.gz").write_bytes(b"x" * 100), "Split-eval/data.gz: checksum"),
    "one more": (lambda p: (p / "Split-train/more.gz").touch(), "Split-train/more.gz was not there when it was made"),
    "a pipe": (lambda p: os.mkfifo(p / "Split-train/more.gz"), "Split-train/more.gz was not there when it was made"),
}


def test_what_is_as_it_was_published_has_no_faults(state: StateDir) -> None:
    made = published(state)
    assert (size_faults(made), content_faults(made)) == ("", "")
    assert (made.properties["files"], made.properties["bytes"]) == (3, 1124)
    verify(request(state, inputs={"examples": (made,)}))
    assert not Intact().losses({made.uri: made})


@pytest.mark.parametrize("harm", HARM)
def test_a_wrong_size_is_seen_by_looks_and_by_workers(state: StateDir, harm: str) -> None:
    made = published(state)
    do, said = HARM[harm]
    do(Path(made.uri))
    lost = Intact().losses({made.uri: made})
    assert lost.missing == {made.uri}
    assert said in lost.damaged[made.uri].found
    with pytest.raises(DamagedArtifact) as raised:
        verify(request(state, inputs={"examples": (made,)}))
    assert raised.value.found.keys() == {40}
    assert made.uri in raised.value.message
    assert said in raised.value.message


@pytest.mark.parametrize("harm", HIDDEN)
def test_what_sizes_do_not_show_is_seen_by_workers(state: StateDir, harm: str) -> None:
    made = published(state)
    do, said = HIDDEN[harm]
    do(Path(made.uri))
    assert not Intact().losses({made.uri: made})
    with pytest.raises(DamagedArtifact) as raised:
        verify(request(state, inputs={"examples": (made,), "again": (made,)}))
    assert said in raised.value.found[40]
    assert "pipeline taxi, node trainer, span 3" in raised.value.message
    assert raised.value.retryable
    assert raised.value.hint


def test_all_damaged_inputs_are_named_at_once(state: StateDir, tmp_path: Path) -> None:
    first = published(state)
    second = replace(published(StateDir(tmp_path / "other")), id=41)
    flip(Path(first.uri, "Split-train/data.gz"))
    shutil.rmtree(second.uri)
    with pytest.raises(DamagedArtifact) as raised:
        verify(request(state, inputs={"examples": (first,), "schema": (second,)}))
    assert raised.value.found[41] == "it is gone"
    assert raised.value.found.keys() == {40, 41}


@pytest.mark.parametrize("point", ["artifact.look", "artifact.read"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_disk_that_cannot_be_read_is_no_damage(state: StateDir, point: str, number: int) -> None:
    made = published(state)
    arm(f"{point}=err({errno.errorcode[number]})")
    if point == "artifact.read":
        with pytest.raises(StorageUnavailable, match=os.strerror(number)):
            verify(request(state, inputs={"examples": (made,)}))
        return
    lost = Intact().losses({made.uri: made})
    assert not lost.missing
    assert os.strerror(number) in lost.unreadable[made.uri]
    arm("")
    assert not Intact().losses({made.uri: made})


def test_a_path_that_leads_nowhere_for_real_is_no_damage_either(state: StateDir) -> None:
    """Links in a circle give an error of the kind that disks give, for root too."""
    made = published(state)
    shutil.rmtree(made.uri)
    Path(made.uri).symlink_to(made.uri)
    assert Intact().losses({made.uri: made}).unreadable
    with pytest.raises(StorageUnavailable):
        verify(request(state, inputs={"examples": (made,)}))


def test_sizes_are_compared_again_after_a_rescan_or_a_change_of_the_folder(state: StateDir) -> None:
    made = published(state)
    intact = Intact()
    assert not intact.losses({made.uri: made})
    os.truncate(Path(made.uri, "Split-train/data.gz"), 1)
    assert not intact.losses({made.uri: made}), "nothing shows it in the folder itself"
    intact.rescan()
    assert intact.losses({made.uri: made}).damaged
    assert intact.losses({made.uri: made}).damaged, "and it stays damaged"
    Path(made.uri, "Split-train/data.gz").write_bytes(FILES["Split-train/data.gz"])
    assert not intact.losses({made.uri: made})
    Path(made.uri, "note").unlink()
    assert intact.losses({made.uri: made}).damaged, "its folder has changed"


def test_artifacts_of_earlier_versions_are_judged_by_what_is_known_of_them(state: StateDir) -> None:
    made = published(state)
    older = replace(made, properties={"files": 3, "bytes": 1124})
    unknown = replace(made, properties={})
    flip(Path(made.uri, "Split-eval/data.gz"))
    assert content_faults(older) == content_faults(unknown) == ""
    Path(made.uri, "note").unlink()
    assert size_faults(older) == "1,124 of 1,124 bytes in 2 of 3 files"
    assert size_faults(unknown) == ""


def test_artifacts_of_very_many_files_keep_one_checksum_for_all(state: StateDir) -> None:
    made = published(state, {f"{n:04}/data": b"%d" % n for n in range(1000)})
    assert len(str(made.properties[CHECKSUMS])) < 100
    assert (size_faults(made), content_faults(made)) == ("", "")
    flip(Path(made.uri, "0500/data"))
    assert content_faults(made).startswith("its files: checksum")
    Path(made.uri, "0500/data").unlink()
    assert size_faults(made) == content_faults(made) == "2,887 of 2,890 bytes in 999 of 1,000 files"


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=300), place=st.integers(0, 2400), cut=st.integers(0, 299))
def test_any_flipped_bit_and_any_cut_is_found(tmp_path: Path, data: bytes, place: int, cut: int) -> None:
    made = published(StateDir(tmp_path / "state"), {"data": data})
    file = Path(made.uri, "data")
    bit = place % (8 * len(data))
    file.write_bytes(bytes(b ^ (1 << bit % 8) if i == bit // 8 else b for i, b in enumerate(data)))
    assert "data: checksum" in content_faults(made)
    file.write_bytes(data[: cut % len(data)])
    assert f"of {len(data)} bytes" in size_faults(made)


# Setting aside.


def test_remains_are_kept_under_their_own_names_with_a_note(state: StateDir) -> None:
    for number in (1, 2):
        made = published(state)
        kept = set_aside(state, Damage(made.id, made.uri, "bits"))
        assert kept.aside == str(state.root / f"damaged/taxi/examples/examples/12-{number}")
        assert Path(kept.aside, "Split-train/data.gz").read_bytes() == FILES["Split-train/data.gz"]
        assert not Path(made.uri).exists()
        assert read_notes(state.damaged)[made.uri].found == "bits"
    assert set_aside(state, Damage(made.id, made.uri, "bits")).aside == "", "there is nothing left to move"


@pytest.mark.parametrize("uri", ["/etc/passwd", "{state}/artifacts/taxi", "{state}/artifacts/taxi/a/b/../../../.."])
def test_nothing_but_artifacts_is_moved(state: StateDir, uri: str) -> None:
    published(state)
    with pytest.raises(IllegalTransition):
        set_aside(state, Damage(1, uri.format(state=state.root), "?"))


def test_a_note_that_is_no_note_says_nothing(state: StateDir) -> None:
    made = published(state)
    kept = set_aside(state, Damage(made.id, made.uri, "bits"))
    Path(f"{kept.aside}.json").write_text("{")
    assert not read_notes(state.damaged)


# In a worker.


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, settings(tmp_path))
    yield made
    made.executor.stop(hurry=True)


def test_the_component_is_not_run_on_damaged_input(bench: Bench, state: StateDir) -> None:
    made = published(state)
    assert bench.run("nothing", examples=made).state is State.SUCCEEDED
    flip(Path(made.uri, "Split-train/data.gz"))
    outcome = bench.run("nothing", examples=made)
    assert outcome.failure is not None
    assert outcome.failure.kind == "DamagedArtifact"
    assert outcome.failure.retryable
    assert outcome.damaged.keys() == {40}
    assert "Split-train/data.gz: checksum" in outcome.damaged[40]
    assert "said by the component" not in bench.text(2)
    assert "run" not in outcome.timings


def test_a_failure_after_the_input_was_taken_away_is_told_as_that(bench: Bench, state: StateDir) -> None:
    made = published(state)
    outcome = bench.run("loses_its_input", examples=made)
    assert outcome.failure is not None
    assert outcome.failure.kind == "DamagedArtifact"
    assert outcome.damaged == {40: "it is gone"}
    assert "FileNotFoundError" in bench.text(1), "the log has what the component met"


def test_a_failure_with_whole_inputs_stays_what_it_is(bench: Bench, state: StateDir) -> None:
    outcome = bench.run("raises", examples=published(state))
    assert outcome.failure is not None
    assert outcome.failure.kind == "ComponentFailed"
    assert not outcome.damaged
