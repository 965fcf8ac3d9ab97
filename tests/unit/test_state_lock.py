"""One daemon per state directory: the one that holds the lock of the file that lies there."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
from pathlib import Path

import pytest

from ctd.daemon.lock import Lock, StateLocked, held, locked, owner_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/lock"


def test_who_comes_second_is_told_who_is_there(path: Path) -> None:
    with locked(path), pytest.raises(StateLocked, match=f"pid {os.getpid()}") as caught:
        Lock(path).take()
    assert caught.value.exit_code == 75
    assert not held(path)
    with locked(path):
        assert held(path)


def test_a_lock_whose_file_is_removed_is_made_anew_and_nobody_gets_in(path: Path) -> None:
    with locked(path) as lock:
        assert not lock.keep()
        path.unlink()
        assert lock.keep(), "it had to be made anew"
        assert owner_of(path) == str(os.getpid())
        with pytest.raises(StateLocked):
            Lock(path).take()
        assert not lock.keep()
        assert not lock.lost


def test_who_has_the_file_on_disk_stays(path: Path) -> None:
    with locked(path) as old:
        path.unlink()
        with locked(path) as new:
            with pytest.raises(StateLocked, match="was removed, and another ctd") as caught:
                old.keep()
            assert caught.value.exit_code == 75
            assert (old.lost, new.lost) == (True, False)
            assert not new.keep()
        assert path.read_text() == "", "the new one has let go by itself"


def test_a_copy_of_the_file_that_nobody_locked_is_taken_over(path: Path) -> None:
    with locked(path) as lock:
        copy = path.with_name("copy")
        shutil.copy(path, copy)
        copy.replace(path)
        assert lock.keep()
        assert held(path)


def test_a_folder_that_is_gone_as_a_whole_is_not_made_anew_and_may_come_back(path: Path) -> None:
    with locked(path) as lock:
        away = path.parent.with_name("away")
        path.parent.rename(away)
        with pytest.raises(FileNotFoundError):
            lock.keep()
        assert not path.parent.exists()
        away.rename(path.parent)
        assert not lock.keep()


def test_a_full_disk_keeps_nobody_from_holding_it(path: Path) -> None:
    """Where its pid cannot be written, the lock holds all the same."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most[1]))
    try:
        with locked(path):
            assert owner_of(path) == ""
            with pytest.raises(StateLocked, match="pid unknown"):
                Lock(path).take()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)


def test_a_glance_at_the_lock_does_not_keep_a_daemon_from_starting(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with path.open("rb") as glance:
        fcntl.flock(glance, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.set_inheritable(glance.fileno(), False)
        fcntl.flock(glance, fcntl.LOCK_UN)
        with locked(path):
            assert held(path)
