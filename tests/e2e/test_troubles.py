"""The daemon and its own means: what it waits for at start, what it says of a sick disk, who stays when two meet."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctd.core.executions import State
from tests.e2e.site import CTD, Daemon, Site, eventually

pytestmark = pytest.mark.e2e

HOLD = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute(f"PRAGMA locking_mode = {sys.argv[2]}")
database.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A pipeline that needs no TensorFlow: it imports a file."""
    made = Site(tmp_path, "light")
    for folder in ("specs", "deploy_targets"):
        (tmp_path / folder).mkdir()
    made.spec.write_text("pipeline: light\nnodes:\n  a: {kind: importer, artifact: Schema, path: ../a.pbtxt}\n")
    write(made, "start")
    return made


def write(site: Site, content: str) -> None:
    new = site.root / ".new"
    new.write_text(f"feature {{ name: '{content}' type: FLOAT }}\n")
    new.replace(site.root / "a.pbtxt")


@contextlib.contextmanager
def locked(site: Site, mode: str = "NORMAL") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(site.state / "metadata.sqlite"), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.kill()


def made_before(site: Site) -> None:
    with site.daemon("--no-warm", "--once") as daemon:
        assert daemon.process.wait(100) == 0


def status(site: Site, *codes: int) -> Any:
    return json.loads(site.ctd("status", "--json", ok=codes))


def kinds(site: Site) -> list[str]:
    """What the daemon says is wrong, if it is there."""
    return [t["kind"] for t in (site.ask("/status") or {"troubles": []})["troubles"]]


def refused(site: Site, *arguments: str) -> str:
    command = [CTD, arguments[0], *site.places(), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1, done.stdout
    return done.stderr


def test_a_start_waits_for_a_store_that_is_locked_says_so_and_goes_on(site: Site) -> None:
    made_before(site)
    write(site, "meanwhile")
    with locked(site) as holder, site.daemon("--no-warm") as daemon:
        eventually("it says what it waits for", lambda: kinds(site) == ["store locked"])
        assert status(site, 1)["daemon"]["starting"]
        assert site.ctd("status", ok=(1,)).startswith("TROUBLE for ")
        assert "the daemon is starting" in refused(site, "plan")
        answer = refused(site, "pause", "light")
        assert "another process holds a lock" in answer
        assert "Then ask again." in answer
        holder.kill()
        assert daemon.wait_for("daemon started")["start"] == 2
        daemon.wait_for("trouble over", kind="store locked")
        site.until("a", "up to date", because="execution 2")
        assert status(site, 0)["troubles"] == []
        assert daemon.stop() == 0
    assert len(site.executions()) == 2, "nothing was lost or doubled"


def test_a_start_that_waits_can_be_stopped_and_did_not_start(site: Site) -> None:
    made_before(site)
    with locked(site), site.daemon("--no-warm") as daemon:
        daemon.wait_for("trouble")
        assert daemon.stop() == 0
    for start in (2, 3):
        with site.daemon("--no-warm") as daemon:
            assert daemon.wait_for("daemon started")["start"] == start, "although nothing was executed"


def test_a_start_goes_on_whichever_of_its_steps_has_failed(site: Site) -> None:
    points = {"lock": "EROFS", "store": "ENOSPC", "remember": "EIO", "recover": "EMFILE", "epoch": "EDQUOT"}
    armed = "; ".join(f"start.{point}=err({error}):1" for point, error in points.items())
    with site.daemon("--no-warm", CTD_TEST="1", CTD_FAILPOINTS=armed) as daemon:
        site.until("a", "up to date")
        said = [e["because"] for e in daemon.events if e["event"] == "trouble"]
        assert daemon.stop() == 0
    assert [because.rpartition(": ")[2] for because in said] == [
        os.strerror(getattr(errno, error)) for error in points.values()
    ]


def test_a_disk_that_takes_nothing_is_told_although_nothing_is_to_be_written(site: Site) -> None:
    with site.daemon("--no-warm", CTD_RESCAN="1s") as daemon:
        site.until("a", "up to date")
        limits = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        eventually("it says so", lambda: kinds(site) == ["not writable"])
        assert "not writable: File too large" in " ".join(site.ctd("status", ok=(1,)).split())
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, limits)
        eventually("it is well again", lambda: kinds(site) == [])
        status(site, 0)


def test_a_store_that_is_locked_or_gone_is_told_although_nothing_is_asked_of_it(site: Site) -> None:
    with site.daemon("--no-warm") as daemon:
        site.until("a", "up to date")
        with locked(site) as holder:
            eventually("it says so", lambda: kinds(site) == ["store locked"])
            assert f"process {holder.pid}" in " ".join(site.ctd("status", ok=(1,)).split())
            answer = refused(site, "pause", "light", "--reason", "while locked")
            assert "pause was not recorded" in answer
            assert "another process holds a lock" in answer
            assert "ree space" not in answer
        eventually("it is well again", lambda: kinds(site) == [])
        site.ctd("pause", "light", "--reason", "once")
        path = site.state / "metadata.sqlite"
        path.rename(path.with_name("away"))
        eventually("it says so", lambda: kinds(site) == ["store gone"])
        path.with_name("away").rename(path)
        eventually("it is well again", lambda: kinds(site) == [])
        assert len(site.ask("/status")["pipelines"][0]["pauses"]) == 1
        assert daemon.stop() == 0


def test_without_a_daemon_a_sick_store_is_told_too(site: Site) -> None:
    made_before(site)
    with locked(site, "EXCLUSIVE"):
        assert [t["kind"] for t in status(site, 1)["troubles"]] == ["store locked"]
        assert "another process holds a lock" in refused(site, "plan")
    path = site.state / "metadata.sqlite"
    path.rename(path.with_name("away"))
    assert [t["kind"] for t in status(site, 1)["troubles"]] == ["store gone"]
    path.with_name("away").rename(path)
    assert status(site, 0)["troubles"] == []


def test_a_lock_that_somebody_removes_is_made_anew_before_another_daemon_gets_in(site: Site) -> None:
    with site.daemon("--no-warm") as daemon:
        site.until("a", "up to date")
        (site.state / "lock").unlink()
        daemon.wait_for("lock made anew")
        second = subprocess.run([CTD, "run", *site.places()], capture_output=True, text=True, check=False, timeout=100)
        assert second.returncode == 75
        (site.state / "ctd.sock").unlink()
        eventually("it listens again", lambda: site.ask("/status"))


def test_of_two_daemons_the_one_that_has_the_lock_file_stays_and_its_workers_too(site: Site) -> None:
    """The first one stood still while somebody removed its lock and a second one got in."""
    with site.daemon("--no-warm", **site.held()) as old:
        old.wait_for("execution started")
        old.process.send_signal(signal.SIGSTOP)
        (site.state / "lock").unlink()
        with site.daemon("--no-warm", **site.held()) as new:
            eventually("its process runs", lambda: process_of(site, new))
            pid = process_of(site, new)
            before = site.executions()
            old.process.send_signal(signal.SIGCONT)
            assert old.process.wait(100) == 75
            said = old.wait_for("daemon stopping")["because"]
            assert f"another ctd (pid {new.process.pid})" in said
            assert site.executions() == before, "it has written nothing after"
            assert Path(f"/proc/{pid}").exists(), "and let the other's worker be"
            assert status(site, 0)["daemon"]["pid"] == new.process.pid
            site.let_go()
            site.until("a", "up to date")
    assert [e.state for e in site.executions()] == [State.ABANDONED, State.SUCCEEDED]


def process_of(site: Site, daemon: Daemon) -> int:
    """The worker that a daemon has told the store of."""
    running = [e for e in site.executions() if e.state is State.RUNNING and e.process]
    mine = [int(e.process["pid"]) for e in running if parent_of(int(e.process["pid"])) == daemon.process.pid]
    return mine[0] if mine else 0


def parent_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def test_no_signal_but_those_that_mean_it_ends_the_daemon(site: Site) -> None:
    meant = {"SIGTERM", "SIGINT", "SIGQUIT", "SIGKILL", "SIGSTOP", "SIGTSTP"}
    crashes = {"SIGABRT", "SIGIOT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}
    with site.daemon("--no-warm") as daemon:
        site.until("a", "up to date")
        for number in sorted(signal.valid_signals()):
            name = signal.Signals(number).name if number in list(signal.Signals) else str(number)
            if name not in meant | crashes:
                daemon.process.send_signal(number)
                assert site.ask("/status"), f"it answers after {name}"
        for _ in range(50):  # while threads that answer requests come and go
            daemon.process.send_signal(signal.SIGUSR1)
            assert site.ask("/status"), "it answers while it says where its threads are"
        log = site.root / "daemon.log"
        eventually("it says where its threads are", lambda: "most recent call first" in log.read_text())
        write(site, "after all of them")
        eventually("it works", lambda: len(site.executions()) == 2)
        daemon.process.send_signal(signal.SIGQUIT)
        assert daemon.process.wait(100) == 0


def test_systemd_hears_what_is_wrong_and_when_it_is_over(site: Site) -> None:
    made_before(site)
    with listener(site) as (address, heard), locked(site), site.daemon("--no-warm", NOTIFY_SOCKET=address):
        eventually("it is there, and says why it waits", lambda: "STATUS=TROUBLE since" in heard())
        assert "READY=1" in heard()
        assert "store locked" in heard()
    with listener(site) as (address, heard), site.daemon("--no-warm", NOTIFY_SOCKET=address):
        eventually("it is well", lambda: "STATUS=1 pipelines" in heard())


@contextlib.contextmanager
def listener(site: Site) -> Iterator[Any]:
    """Hears what a service tells systemd."""
    address = str(site.root / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address)
        server.setblocking(False)
        said: list[str] = []

        def heard() -> str:
            with contextlib.suppress(BlockingIOError):
                while True:
                    said.append(server.recv(10_000).decode())
            return "\n".join(said)

        yield address, heard
    Path(address).unlink()
