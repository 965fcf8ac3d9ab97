"""The metadata store under a full disk, sudden death, and another process that holds the lock."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb

from ctd.core.errors import PermanentError, StoreUnavailable
from ctd.core.executions import State
from ctd.core.timing import ManualClock
from ctd.core.troubles import Fault, TroubleKind
from ctd.metadata.mlmd import MlmdStore
from tests.contract.metadata_writer import execution, outcome, write

CLOCK = ManualClock()
ROOT = Path(__file__).parents[2]
HOLD = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
print(time.monotonic(), flush=True)
database.execute("ROLLBACK")
"""


BACKUP = """
import sqlite3, sys
source, target = (sqlite3.connect(name) for name in sys.argv[1:])
source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
source.backup(target)
"""


def can_mount() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def run(*arguments: object, private_mounts: bool = False) -> dict[str, object]:
    command = [sys.executable, "-m", "tests.contract.metadata_writer", *map(str, arguments)]
    prefix = ["unshare", "-m"] if private_mounts else []
    done = subprocess.run([*prefix, *command], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def intact(path: Path) -> bool:
    database = sqlite3.connect(path)
    try:
        return database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        database.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MlmdStore]:
    opened = MlmdStore(tmp_path / "metadata.sqlite", CLOCK)
    yield opened
    opened.close()


@pytest.mark.parametrize("way", ["limit", "tmpfs"] if can_mount() else ["limit"])
def test_a_full_disk_refuses_writes_and_nothing_else_and_heals(tmp_path: Path, way: str) -> None:
    told = run("fill", tmp_path / "metadata.sqlite", way, private_mounts=way == "tmpfs")
    acknowledged = told["acknowledged"]
    assert isinstance(acknowledged, int)
    assert "does not answer" in str(told["message"])
    assert "Free space" in str(told["hint"])
    assert told["still refused"]
    assert told["readable"] in (acknowledged, acknowledged + 1)  # the refused one may have begun
    assert told["written"] == [f"span-{n}" for n in range(1, acknowledged + 4)]
    assert intact(tmp_path / "kept" / "metadata.sqlite")


def test_writers_killed_at_any_moment_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metadata.sqlite"
    acknowledged = run("kills", path, 40, 7)["acknowledged"]
    assert isinstance(acknowledged, int)
    assert acknowledged > 40
    store = MlmdStore(path, CLOCK)
    found = list(store.executions())
    store.close()
    finished = [e for e in found if e.state is State.SUCCEEDED]
    numbers = [int(e.key.removeprefix("span-")) for e in found]
    assert numbers == list(range(1, len(found) + 1)), "each once, in order, without gaps"
    assert len(found) - acknowledged in (0, 1), "the last may have been committed and not acknowledged"
    assert [e.key for e in finished][:acknowledged] == [e.key for e in found][:acknowledged]
    made = [a for e in finished for a in e.output("examples")]
    assert [a.uri for a in made] == [f"/a/{n}/{i}" for n in numbers[: len(finished)] for i in range(2)]
    assert [a.id for a in made] == list(range(1, len(made) + 1)), "no artifact without its execution"
    assert intact(path)


def test_a_store_whose_maker_was_killed_is_made_after_all(tmp_path: Path) -> None:
    half_made = run("births", tmp_path, 30, 7)["half made"]
    assert isinstance(half_made, int)
    assert half_made > 0, "kills must land while a store is made"


def test_a_lock_of_three_seconds_only_costs_time(store: MlmdStore, tmp_path: Path) -> None:
    write(store, 1)
    with locked(tmp_path / "metadata.sqlite", seconds=3) as holder:
        write(store, 2)
        written = time.monotonic()
        assert holder.stdout
        assert float(holder.stdout.readline()) < written, "it waited for the lock"
    assert [e.key for e in store.executions()] == ["span-1", "span-2"]


def test_a_lock_that_stays_is_reported_and_later_forgotten(store: MlmdStore, tmp_path: Path) -> None:
    begun = store.begin(execution(1))
    with locked(tmp_path / "metadata.sqlite", seconds=60) as holder:
        with pytest.raises(StoreUnavailable, match="another process holds a lock") as caught:
            store.finish(begun.with_outcome(outcome(1), CLOCK.now()))
        assert "end the process" in caught.value.hint
        assert [e.state for e in store.executions()] == [State.RUNNING], "reading goes on"
        holder.kill()
        holder.wait()
        assert store.finish(begun.with_outcome(outcome(1), CLOCK.now())).state is State.SUCCEEDED


def test_a_database_moved_away_is_missed_and_works_again_when_it_is_back(store: MlmdStore, tmp_path: Path) -> None:
    write(store, 1)
    path, away = tmp_path / "metadata.sqlite", tmp_path / "away"
    path.rename(away)
    with pytest.raises(StoreUnavailable):
        write(store, 2)
    assert not path.exists(), "no empty store may take its place"
    away.rename(path)
    write(store, 2)
    assert [e.key for e in store.executions()] == ["span-1", "span-2"]


def test_a_database_without_our_context_is_refused(store: MlmdStore, tmp_path: Path) -> None:
    store.close()
    path = tmp_path / "metadata.sqlite"
    path.unlink()
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    metadata_store.MetadataStore(config)
    with pytest.raises(PermanentError, match="carries no identity of ctd"):
        MlmdStore(path, CLOCK)


def test_a_lock_that_stays_is_found_although_nothing_is_asked(store: MlmdStore, tmp_path: Path) -> None:
    assert store.health() is None
    with locked(tmp_path / "metadata.sqlite", seconds=60) as holder:
        fault = until_found(store)
        assert fault.kind is TroubleKind.STORE_LOCKED
        assert f"process {holder.pid} (" in fault.because
        assert "end the process" in fault.hint
    assert store.health() is None
    write(store, 1)
    assert store.health() is None, "its own transactions are no lock of anybody else's"


def test_a_database_that_is_gone_or_not_ours_is_found_although_nothing_is_asked(
    store: MlmdStore, tmp_path: Path
) -> None:
    write(store, 1)
    path, away = tmp_path / "metadata.sqlite", tmp_path / "away"
    path.rename(away)
    assert until_found(store).kind is TroubleKind.STORE_GONE
    for content in (b"", b"no database at all", bytes(100_000)):
        path.write_bytes(content)
        assert until_found(store).kind is TroubleKind.STORE_REPLACED, content
    MlmdStore(tmp_path / "other/metadata.sqlite", CLOCK).close()
    (tmp_path / "other/metadata.sqlite").replace(path)
    assert until_found(store).kind is TroubleKind.STORE_REPLACED
    with pytest.raises(StoreUnavailable, match="does not belong here"):
        write(store, 2)
    away.replace(path)
    assert store.health() is None
    write(store, 2)
    assert [e.key for e in store.executions()] == ["span-1", "span-2"]


def test_an_older_copy_is_not_taken_for_the_store(store: MlmdStore, tmp_path: Path) -> None:
    """It would give numbers away that are taken, and with them their folders."""
    path, copy, newer = (tmp_path / name for name in ("metadata.sqlite", "copy", "newer"))
    write(store, 1)
    # Another process: a second SQLite in this one would take the locks of ML Metadata's away.
    subprocess.run([sys.executable, "-c", BACKUP, path, copy], check=True, timeout=60)
    write(store, 2)
    subprocess.run([sys.executable, "-c", BACKUP, path, tmp_path / "another"], check=True, timeout=60)
    store.close()
    store = MlmdStore(path, CLOCK)  # which has recorded nothing itself
    path.rename(newer)
    shutil.copy(copy, path)
    fault = until_found(store)
    assert fault.kind is TroubleKind.STORE_REPLACED
    assert "older copy" in fault.because
    with pytest.raises(StoreUnavailable, match="older copy"):
        write(store, 3)
    newer.replace(path)
    assert store.health() is None
    write(store, 3)
    assert [e.key for e in store.executions()] == ["span-1", "span-2", "span-3"]
    store.close()


def test_a_trouble_that_lasts_costs_patience_only_once(store: MlmdStore, tmp_path: Path) -> None:
    """Or the loop would answer nobody while the store is away."""
    begun = [store.begin(execution(n)) for n in (1, 2)]
    with locked(tmp_path / "metadata.sqlite", seconds=60) as holder:
        with pytest.raises(StoreUnavailable):
            store.finish(begun[0].with_outcome(outcome(1), CLOCK.now()))
        for _ in range(100):  # each as patient as the first would be ten minutes
            with pytest.raises(StoreUnavailable):
                store.finish(begun[1].with_outcome(outcome(2), CLOCK.now()))
        assert holder.poll() is None, "all that took less than the lock"
    assert store.finish(begun[1].with_outcome(outcome(2), CLOCK.now())).state is State.SUCCEEDED


def test_starts_are_counted_over_restarts_and_never_fall_behind(store: MlmdStore, tmp_path: Path) -> None:
    assert [store.count_start(), store.count_start()] == [1, 2]
    store.close()
    store = MlmdStore(tmp_path / "metadata.sqlite", CLOCK)
    assert [store.count_start(), store.count_start(at_least=40), store.count_start(at_least=7)] == [3, 40, 41]
    store.close()


def until_found(store: MlmdStore) -> Fault:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = store.health()
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError("nothing is found")


class locked:  # noqa: N801  (reads as the statement it is)
    """Another process holds the write lock of the database."""

    def __init__(self, path: Path, *, seconds: float) -> None:
        command = [sys.executable, "-c", HOLD, str(path), str(seconds)]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "held\n"

    def __enter__(self) -> subprocess.Popen[str]:
        return self._holder

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.communicate()
