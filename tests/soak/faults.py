"""Faults of the machine and its processes: each is a context, entered when it strikes and left when it heals."""

from __future__ import annotations

import contextlib
import random
import re
import resource
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

import ctd
from tests.soak import disk
from tests.soak.daemon import frozen
from tests.soak.ground import Fault, Ground, Strike
from tests.soak.project import SIDE, Project

_CTD = Path(ctd.__file__).parent
_CROWD = 400  # connections that say nothing
_ERRORS = ("EIO", "EMFILE", "ENOSPC", "EROFS", "EACCES", "ENOMEM")
_POINTS = ("art.before_rename", "art.after_rename", "artifact.look", "artifact.read", "aside.before_note")
_POINTS += ("push.copy_mid", "push.before_rename", "worker.before_result")
_MACHINE = re.compile(r'\bmachine\("([a-z_.]+)"')  # where ctd's own calls of the operating system are


@contextlib.contextmanager
def daemon_killed(ground: Ground, dice: random.Random) -> Iterator[None]:
    time.sleep(dice.uniform(0, 2))
    ground.kill()
    time.sleep(dice.choice((0, 0, 0.5, 2)))
    ground.daemon.start()
    yield


@contextlib.contextmanager
def daemon_killed_twice(ground: Ground, dice: random.Random) -> Iterator[None]:
    """The second time while it recovers from the first."""
    for _ in range(2):
        ground.kill()
        ground.daemon.start()
        time.sleep(dice.uniform(0.2, 1.5))
    ground.kill()
    ground.daemon.start()
    yield


@contextlib.contextmanager
def daemon_stopped(ground: Ground, dice: random.Random) -> Iterator[None]:
    ground.daemon.stop()
    time.sleep(dice.uniform(0, 1))
    ground.daemon.start()
    yield


@contextlib.contextmanager
def daemon_frozen(ground: Ground, _dice: random.Random) -> Iterator[None]:
    with frozen([psutil.Process(ground.daemon.pid)]):
        yield


@contextlib.contextmanager
def workers_frozen(ground: Ground, _dice: random.Random) -> Iterator[None]:
    with frozen(ground.daemon.tree()):
        yield


@contextlib.contextmanager
def template_killed(ground: Ground, _dice: random.Random) -> Iterator[None]:
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(ground.daemon.pid).children():
            child.send_signal(signal.SIGKILL)
    yield


@contextlib.contextmanager
def worker_killed(ground: Ground, dice: random.Random) -> Iterator[None]:
    """One of the processes that have an execution, or a process that it started."""
    tree = ground.daemon.tree()
    with contextlib.suppress(psutil.Error, IndexError):
        dice.choice(tree[1:]).send_signal(signal.SIGKILL)
    yield


@contextlib.contextmanager
def disk_full(ground: Ground, _dice: random.Random) -> Iterator[None]:
    with disk.full(ground.project.disk):
        yield


@contextlib.contextmanager
def disk_full_at_start(ground: Ground, _dice: random.Random) -> Iterator[None]:
    with disk.full(ground.project.disk):
        ground.kill()
        ground.daemon.start()
        yield


@contextlib.contextmanager
def inodes_out(ground: Ground, _dice: random.Random) -> Iterator[None]:
    with disk.without_inodes(ground.project.disk):
        yield


@contextlib.contextmanager
def descriptors_out(ground: Ground, dice: random.Random) -> Iterator[None]:
    pid = ground.daemon.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (dice.choice((5, 20)), limits[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def closed(folder: Callable[[Project], Path]) -> Strike:
    """A folder that nobody may enter."""

    @contextlib.contextmanager
    def strike(ground: Ground, _dice: random.Random) -> Iterator[None]:
        place = folder(ground.project)
        mode = place.stat().st_mode & 0o7777
        place.chmod(0)
        try:
            yield
        finally:
            place.chmod(mode)

    return strike


@contextlib.contextmanager
def _store_held(ground: Ground) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(ground.project.store, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def store_locked(ground: Ground, _dice: random.Random) -> Iterator[None]:
    with _store_held(ground):
        yield


@contextlib.contextmanager
def store_locked_at_start(ground: Ground, _dice: random.Random) -> Iterator[None]:
    ground.kill()
    with _store_held(ground):
        ground.daemon.start()
        yield


@contextlib.contextmanager
def store_read_only_at_start(ground: Ground, _dice: random.Random) -> Iterator[None]:
    ground.kill()
    files = [p for p in ground.project.state.glob("metadata.sqlite*") if p.is_file()]
    for file in files:
        file.chmod(0o444)
    try:
        ground.daemon.start()
        yield
    finally:
        for file in (p for p in ground.project.state.glob("metadata.sqlite*") if p.is_file()):
            file.chmod(0o644)


@contextlib.contextmanager
def system_calls_fail(ground: Ground, dice: random.Random) -> Iterator[None]:
    """At some places of the daemon and its workers, every time, with one error, until it heals by itself."""
    sick, error = ground.project.root / "sick", dice.choice(_ERRORS)
    ground.kill()
    said = "; ".join(f"{point}=err({error},{sick})" for point in dice.sample(sorted(_places()), 3))
    ground.daemon.environ = {"CTD_TEST": "1", "CTD_FAILPOINTS": said}
    sick.touch()
    ground.daemon.start()
    ground.daemon.environ = {}
    try:
        yield
    finally:
        sick.unlink()


def _places() -> set[str]:
    return {*_POINTS, *(name for path in _CTD.rglob("*.py") for name in _MACHINE.findall(path.read_text()))}


@contextlib.contextmanager
def idle_connections(ground: Ground, _dice: random.Random) -> Iterator[None]:
    """As many as a broken script leaves open."""
    before = ground.project.log.stat().st_size
    with contextlib.ExitStack() as stack:
        for _ in range(_CROWD):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.settimeout(0.2)
            with contextlib.suppress(OSError):
                client.connect(str(ground.project.state / "ctd.sock"))
        yield
    grown = (ground.project.log.stat().st_size - before) / 1e6
    if grown > 5:
        ground.history.violated("I12", f"{_CROWD} idle connections made the log grow by {grown:.0f} MB")


@contextlib.contextmanager
def lock_removed(ground: Ground, dice: random.Random) -> Iterator[None]:
    """Somebody tidies up, and somebody starts another daemon: one of the two has to leave."""
    (ground.project.state / "lock").unlink(missing_ok=True)
    time.sleep(dice.choice((0, 2)))
    ground.daemon.another()
    ground.daemon.settle_on(30)
    yield


@contextlib.contextmanager
def digests_removed(ground: Ground, _dice: random.Random) -> Iterator[None]:
    for file in ground.project.state.glob("digests.sqlite*"):
        file.unlink(missing_ok=True)
    yield


def _state(name: str) -> Callable[[Project], Path]:
    return lambda project: project.state / name


_SPACE, _LOCK, _RIGHTS = ("space", "inode"), ("lock",), ("permission", "denied", "read-only", "readonly", "read only")

MACHINE: dict[str, Fault] = {
    "daemon killed": Fault(daemon_killed),
    "daemon killed again": Fault(daemon_killed),  # the commonest of all days
    "daemon killed in a row": Fault(daemon_killed_twice),
    "daemon stopped": Fault(daemon_stopped),
    "daemon frozen": Fault(daemon_frozen, lasting=True),
    "workers frozen": Fault(workers_frozen, lasting=True),
    "template killed": Fault(template_killed),
    "worker killed": Fault(worker_killed),
    "disk full": Fault(disk_full, lasting=True, told=_SPACE, mounts=True),
    "disk full at start": Fault(disk_full_at_start, lasting=True, told=_SPACE, mounts=True),
    "inodes out": Fault(inodes_out, lasting=True, told=_SPACE, mounts=True),
    "descriptors out": Fault(descriptors_out, lasting=True),
    "staging closed": Fault(closed(_state("staging")), lasting=True, told=_RIGHTS, bound=True),
    "logs closed": Fault(closed(_state("logs")), lasting=True, told=_RIGHTS, bound=True),
    "artifacts closed": Fault(closed(_state("artifacts")), lasting=True, told=_RIGHTS, bound=True),
    "target closed": Fault(closed(lambda p: p.versions), lasting=True, told=_RIGHTS, bound=True),
    "store locked": Fault(store_locked, lasting=True, told=_LOCK),
    "store locked at start": Fault(store_locked_at_start, lasting=True, told=_LOCK),
    "store read-only at start": Fault(store_read_only_at_start, lasting=True, told=_RIGHTS, bound=True),
    "system calls fail": Fault(system_calls_fail, lasting=True),
    "idle connections": Fault(idle_connections, lasting=True),
    "lock removed": Fault(lock_removed),
    "input closed": Fault(closed(lambda p: p.data), lasting=True, told=_RIGHTS, bound=True, spares=SIDE),
    "specs closed": Fault(closed(lambda p: p.specs), lasting=True, told=_RIGHTS, bound=True, spares=SIDE),
    "digests removed": Fault(digests_removed),
}
