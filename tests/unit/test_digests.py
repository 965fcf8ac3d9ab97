"""Identity of bytes, and when a file is read again."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ctd.core.errors import BadInput, InputChanged, StorageUnavailable
from ctd.core.timing import ManualClock
from ctd.core.work import SourceFile
from ctd.storage.digests import FileDigests, file_fact, span_digest, tree_digest
from ctd.storage.layout import StateDir

LONG_AFTER = datetime(2100, 1, 1, tzinfo=timezone.utc)
BEFORE = datetime(2000, 1, 1, tzinfo=timezone.utc)


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def listed(path: Path) -> SourceFile:
    facts = path.stat()
    return SourceFile(str(path), facts.st_size, facts.st_mtime_ns)


def test_a_file_that_stays_the_same_is_not_read_again(tmp_path: Path) -> None:
    file = put(tmp_path / "a")
    digests = FileDigests(ManualClock(LONG_AFTER))
    assert digests.known((listed(file),)) == ""
    digest = span_digest((listed(file),), digests)
    assert digests.known((listed(file),)) == digest


def test_what_was_written_just_now_is_not_remembered(tmp_path: Path) -> None:
    file = put(tmp_path / "a")
    digests = FileDigests(ManualClock(BEFORE))  # the file is from the future: nothing can be said of its age
    span_digest((listed(file),), digests)
    assert digests.known((listed(file),)) == ""


def test_a_file_that_is_not_what_its_manifest_says_is_refused_however_often_it_is_asked_for(tmp_path: Path) -> None:
    file = put(tmp_path / "a.csv", "one")
    digests = FileDigests(ManualClock(LONG_AFTER))
    good, bad = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"two").hexdigest()
    right, wrong = replace(listed(file), sha256=good), replace(listed(file), sha256=bad)
    digest = span_digest((right,), digests)
    assert digest == span_digest((listed(file),), digests) == digests.known((right,))
    for _ in range(2):
        assert digests.known((wrong,)) == ""
        with pytest.raises(BadInput) as error:
            span_digest((wrong,), digests)
        assert error.value.message == f"the sha256 of {file} is {good}, but its manifest says {bad}"


def test_a_rewrite_that_keeps_size_and_time_is_noticed(tmp_path: Path) -> None:
    file = put(tmp_path / "a", "one")
    digests = FileDigests(ManualClock(LONG_AFTER))
    facts, before = file.stat(), digests.of(str(file))
    while file.stat().st_ctime_ns == facts.st_ctime_ns:  # until the file system's clock ticks
        put(file, "two")
        os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert digests.of(str(file)) != before
    copy = put(tmp_path / "b", "six")
    os.utime(copy, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    before = digests.of(str(file))
    copy.rename(file)
    assert digests.of(str(file)) != before


def test_a_span_that_is_not_as_it_was_listed_is_refused(tmp_path: Path) -> None:
    file = put(tmp_path / "a")
    seen = listed(file)
    put(file, "longer")
    digests = FileDigests(ManualClock(LONG_AFTER))
    with pytest.raises(InputChanged, match="changed after it was listed"):
        span_digest((seen,), digests)
    assert digests.known((seen,)) == ""


def test_a_span_is_names_and_contents_wherever_it_lies(tmp_path: Path) -> None:
    digests = FileDigests(ManualClock(LONG_AFTER))

    def digest(*files: Path) -> str:
        return span_digest([listed(f) for f in files], digests)

    one = [put(tmp_path / "1/a.csv", "A"), put(tmp_path / "1/b.csv", "B")]
    same = [put(tmp_path / "2/b.csv", "B"), put(tmp_path / "2/a.csv", "A")]
    swapped = [put(tmp_path / "3/a.csv", "B"), put(tmp_path / "3/b.csv", "A")]
    deeper = [put(tmp_path / "4/x/a.csv", "A"), put(tmp_path / "4/y/b.csv", "B")]
    assert digest(*one) == digest(*same)
    assert len({digest(*one), digest(*swapped), digest(*deeper), digest(one[0]), digest()}) == 5
    assert digests.known([listed(f) for f in same]) == digest(*same)


def test_what_moves_to_another_partition_is_another_span_and_others_keep_their_digests(tmp_path: Path) -> None:
    digests = FileDigests(ManualClock(LONG_AFTER))
    plain = listed(put(tmp_path / "1/a.csv", "A"))
    folders = [("country=US",), ("country=DE",), ("country=US", "day=3"), ()]
    found = [span_digest([replace(plain, partition=folder)], digests) for folder in folders]
    assert len(set(found)) == 4
    # As it was before there were partitions: examples of then are not made again.
    assert found[3] == "44697e15e9892ab2e051665e9cba9e80372e564d4a8fa076e94604e088c8f3a3"
    assert digests.known([replace(plain, partition=("country=US",))]) == found[0]


def test_a_folder_is_the_names_and_contents_below_it(tmp_path: Path) -> None:
    put(tmp_path / "m/saved_model.pb", "pb")
    put(tmp_path / "m/variables/v-1", "1234")
    digest, files, size = tree_digest(tmp_path / "m")
    assert (files, size) == (2, 6)
    (tmp_path / "m").rename(tmp_path / "n")
    assert tree_digest(tmp_path / "n") == (digest, 2, 6)
    (tmp_path / "n/variables/v-1").rename(tmp_path / "n/variables/v-2")
    assert tree_digest(tmp_path / "n")[0] != digest


def test_a_folder_with_what_is_no_file_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "m/a")
    os.mkfifo(tmp_path / "m/pipe")
    with pytest.raises(BadInput, match="pipe is a FIFO, not a file"):
        tree_digest(tmp_path / "m")
    (tmp_path / "m/pipe").unlink()
    (tmp_path / "m/again").symlink_to(tmp_path / "m")
    with pytest.raises(BadInput, match="leads back"):
        tree_digest(tmp_path / "m")


def test_what_is_gone_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="gone does not exist"):
        tree_digest(tmp_path / "gone")
    with pytest.raises(StorageUnavailable, match="gone does not exist"):
        FileDigests(ManualClock()).of(str(tmp_path / "gone"))


def test_a_named_file_or_folder_is_a_fact_with_its_problem(tmp_path: Path) -> None:
    digests = FileDigests(ManualClock(LONG_AFTER))
    schema, model = put(tmp_path / "schema.pbtxt", "s"), put(tmp_path / "model/saved_model.pb", "m").parent
    first = file_fact(str(schema), digests.of)
    assert (first.path, first.problem) == (str(schema), "")
    put(schema, "t")
    assert file_fact(str(schema), digests.of).digest not in ("", first.digest)
    assert file_fact(str(model), digests.of).digest == tree_digest(model)[0]
    assert file_fact(str(tmp_path / "gone"), digests.of).problem == f"{tmp_path}/gone does not exist"
    (tmp_path / "empty").mkdir()
    assert file_fact(str(tmp_path / "empty"), digests.of).problem == f"{tmp_path}/empty is empty"


def test_the_state_directory_is_laid_out_as_others_rely_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = StateDir(Path("state"))
    paths = [state.metadata, state.lock, state.socket, state.staging(7), state.log(7), state.logs]
    assert [str(p.relative_to(tmp_path / "state")) for p in paths] == [
        "metadata.sqlite",
        "lock",
        "ctd.sock",
        "staging/7",
        "logs/7.log",
        "logs",
    ]
    assert state.artifact("taxi", "trainer", "model", 12) == tmp_path / "state/artifacts/taxi/trainer/model/12"
