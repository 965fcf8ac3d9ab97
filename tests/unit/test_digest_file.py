"""What was read need not be read again after a restart, and nothing in the file of digests can make a digest wrong."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctd.core.timing import ManualClock
from ctd.core.work import SourceFile
from ctd.storage.digest_file import DigestFile
from ctd.storage.digests import FileDigests, span_digest

LATER = ManualClock(datetime.now(timezone.utc) + timedelta(hours=1))
SAME = (7, 1, 2, 3)


def listed(file: Path) -> tuple[SourceFile, ...]:
    return (SourceFile(str(file), file.stat().st_size, file.stat().st_mtime_ns),)


def restarted(path: Path) -> FileDigests:
    return FileDigests(LATER, DigestFile(path, LATER))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "trips.csv"
    file.write_text("fare\n1\n")
    return file


def test_what_was_read_is_known_after_a_restart(tmp_path: Path, data: Path) -> None:
    before = restarted(tmp_path / "digests")
    digest = span_digest(listed(data), before)
    before.close()
    after = restarted(tmp_path / "digests")
    assert after.known(listed(data)) == digest
    assert FileDigests(LATER, DigestFile(tmp_path / "digests", LATER, writable=False)).known(listed(data)) == digest


@pytest.mark.parametrize("change", ["rewritten", "replaced", "set back", "gone"])
def test_a_file_that_changed_while_nobody_looked_is_not_known(tmp_path: Path, data: Path, change: str) -> None:
    before = restarted(tmp_path / "digests")
    digest = span_digest(listed(data), before)
    before.close()
    facts = data.stat()
    match change:
        case "rewritten":
            data.write_text("fare\n2\n")
        case "replaced":
            (tmp_path / "new").write_text("fare\n2\n")
            (tmp_path / "new").rename(data)
        case "set back":  # same size, same time of modification
            data.write_text("fare\n2\n")
            os.utime(data, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        case "gone":
            data.unlink()
    after = restarted(tmp_path / "digests")
    seen = (SourceFile(str(data), facts.st_size, facts.st_mtime_ns),) if change == "gone" else listed(data)
    assert after.known(seen) == ""
    if change != "gone":
        assert span_digest(seen, after) not in ("", digest)


def test_what_was_written_within_the_last_minute_is_written_down_a_minute_later(tmp_path: Path, data: Path) -> None:
    clock = ManualClock(datetime.fromtimestamp(data.stat().st_ctime, timezone.utc) + timedelta(seconds=3))
    digests = FileDigests(clock, DigestFile(tmp_path / "digests", clock))
    digest = span_digest(listed(data), digests)
    digests.save()
    assert restarted(tmp_path / "digests").known(listed(data)) == ""
    clock.forward(minutes=1)
    digests.save()
    assert restarted(tmp_path / "digests").known(listed(data)) == digest


@given(garbage=st.binary(min_size=1, max_size=5000), at=st.floats(0, 1), cut=st.booleans())
def test_a_damaged_file_costs_reading_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, at: float, *, cut: bool
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "digests"
    written = DigestFile(path, LATER)
    for number in range(50):
        written.keep(f"/data/{number}", (number, 1, 2, 3), f"{number:064}")
    written.close()
    whole = path.read_bytes()
    where = int(at * len(whole))
    path.write_bytes(whole[:where] + garbage + (b"" if cut else whole[where + len(garbage) :]))
    after = DigestFile(path, LATER)
    for number in range(50):
        assert after.find(f"/data/{number}", (number, 1, 2, 3)) in ("", f"{number:064}")
    after.keep("/data/new", SAME, "f" * 64)
    after.close()
    again = DigestFile(path, LATER)
    assert again.find("/data/new", SAME) in ("", "f" * 64)


@pytest.mark.parametrize("garbage", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 4096])
def test_what_is_no_database_is_replaced(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "digests"
    path.write_bytes(garbage)
    first = DigestFile(path, LATER)
    first.keep("/data/1", SAME, "d" * 64)
    first.close()
    assert DigestFile(path, LATER).find("/data/1", SAME) == "d" * 64


def test_a_table_of_another_version_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "digests"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE digests (path, digest)")
        other.execute("INSERT INTO digests VALUES ('/data/1', 'wrong')")
    other.close()
    first = DigestFile(path, LATER)
    assert first.find("/data/1", SAME) == ""
    first.keep("/data/1", SAME, "d" * 64)
    first.close()
    assert DigestFile(path, LATER).find("/data/1", SAME) == "d" * 64


@pytest.mark.parametrize("column", ["inode", "size", "mtime_ns", "ctime_ns", "digest", "seal"])
def test_a_row_that_was_tampered_with_does_not_count(tmp_path: Path, column: str) -> None:
    path = tmp_path / "digests"
    first = DigestFile(path, LATER)
    first.keep("/data/1", SAME, "d" * 64)
    first.close()
    with sqlite3.connect(path) as other:
        other.execute(f"UPDATE digests SET {column} = '9'")  # noqa: S608
    other.close()
    after = DigestFile(path, LATER)
    assert [after.find("/data/1", found) for found in (SAME, (9, 1, 2, 3), (7, 9, 2, 3))] == ["", "", ""]


def test_files_from_far_off_years_are_remembered_too(tmp_path: Path) -> None:
    path, far = tmp_path / "digests", (2**64 - 1, 0, 2**64, -(2**64))
    first = DigestFile(path, LATER)
    first.keep("/data/1", far, "d" * 64)
    first.close()
    assert DigestFile(path, LATER).find("/data/1", far) == "d" * 64


def test_a_place_that_cannot_be_written_to_is_done_without(tmp_path: Path, data: Path) -> None:
    (tmp_path / "digests").mkdir()
    digests = restarted(tmp_path / "digests")
    digest = span_digest(listed(data), digests)
    digests.close()
    assert digests.known(listed(data)) == digest
    assert (tmp_path / "digests").is_dir()


def test_a_file_that_is_locked_for_a_while_is_used_again_later(tmp_path: Path, data: Path) -> None:
    path, clock = tmp_path / "digests", ManualClock(LATER.now())
    restarted(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        digests = FileDigests(clock, DigestFile(path, clock))
        digest = span_digest(listed(data), digests)
        digests.save()
        other.execute("ROLLBACK")
    assert not restarted(path).known(listed(data)), "it could not be written"
    clock.forward(minutes=1)
    digests.save()
    assert restarted(path).known(listed(data)) == digest, "and was not forgotten"


WRITER = """
import itertools, pathlib, sys
from ctd.core.timing import SystemClock
from ctd.storage.digest_file import DigestFile
file = DigestFile(pathlib.Path(sys.argv[1]), SystemClock())
for number in itertools.count():
    for one in range(200):
        file.keep(f"/data/{number}/{one}", (number, one, 2, 3), f"{number:032}{one:032}")
    file.save()
    print(number, flush=True)
"""


def test_killed_in_the_middle_of_writing_it_the_file_holds_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "digests"
    for after in (1, 3, 8):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            saved = [int(writer.stdout.readline()) for _ in range(after)]
            writer.send_signal(signal.SIGKILL)
        found = DigestFile(path, LATER)
        for number in saved:
            for one in (0, 199):
                assert found.find(f"/data/{number}/{one}", (number, one, 2, 3)) == f"{number:032}{one:032}"
        found.close()
