"""The real daemon among faults: killed, stopped, locked out, flooded. It goes on by itself, and nothing is doubled."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ctd.core.executions import State
from tests.e2e.site import CTD, PATIENCE, Daemon, Site, eventually

pytestmark = pytest.mark.e2e

NODES = ("a", "b", "c")
POINTS = ("store.after_intent", "store.before_commit", "store.after_commit")
POINTS += ("art.before_rename", "art.after_rename", "art.after_dirsync")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A pipeline that needs no TensorFlow: it imports three files."""
    made = Site(tmp_path, "light")
    for folder in ("specs", "deploy_targets"):
        (tmp_path / folder).mkdir()
    lines = [f"  {n}: {{kind: importer, artifact: Schema, path: ../{n}.pbtxt}}" for n in NODES]
    made.spec.write_text("\n".join(["pipeline: light", "nodes:", *lines, ""]))
    write(made, "start")
    return made


def write(site: Site, content: str, *nodes: str) -> None:
    """New content for some files: new work for their importers."""
    for node in nodes or NODES:
        new = site.root / f".{node}.new"
        new.write_text(f"feature {{ name: '{node} {content}' type: FLOAT }}\n")
        new.replace(site.root / f"{node}.pbtxt")


def finish(site: Site) -> list[Any]:
    """Let a daemon do the rest; what ML Metadata holds then."""
    with site.daemon("--no-warm", "--once") as daemon:
        assert daemon.process.wait(PATIENCE) == 0, (site.root / "daemon.log").read_text()[-3000:]
    return site.executions()


def check(site: Site, *, at_rest: bool) -> None:
    """What must hold at any moment: what is recorded is there and whole. At rest also: nothing else is."""
    executions = site.executions()
    succeeded = [e for e in executions if e.state is State.SUCCEEDED]
    for execution in succeeded:
        for artifact in (a for made in execution.outputs.values() for a in made):
            assert sum(p.stat().st_size for p in Path(artifact.uri).rglob("*")) >= artifact.properties["bytes"]
    times = Counter((e.node, e.fingerprint) for e in succeeded)
    assert max(times.values(), default=1) == 1, "work that was committed is not done again"
    if at_rest:
        assert not [e for e in executions if e.state is State.RUNNING]
        recorded = {a.uri for e in succeeded for made in e.outputs.values() for a in made}
        assert {str(p) for p in (site.state / "artifacts").glob("*/*/*/*")} == recorded
        assert not any((site.state / "staging").iterdir())


def final(site: Site) -> dict[str, str]:
    """What the newest result of each node says."""
    found = {}
    for execution in site.executions():
        if execution.state is State.SUCCEEDED:
            (artifact,) = execution.output("schema")
            found[execution.node] = next(Path(artifact.uri).iterdir()).read_text()
    return found


def test_killed_at_every_named_point_it_reaches_the_same_end(site: Site) -> None:
    for point in POINTS:
        for hit in (1, 2, 3):
            write(site, f"{point} {hit}")
            with site.daemon("--no-warm", CTD_TEST="1", CTD_FAILPOINTS=f"{point}=kill:{hit}") as daemon:
                assert daemon.process.wait(PATIENCE) == -signal.SIGKILL
            check(site, at_rest=False)
    executions = finish(site)
    check(site, at_rest=True)
    assert final(site) == {n: (site.root / f"{n}.pbtxt").read_text() for n in NODES}
    assert {e.state for e in executions} == {State.SUCCEEDED, State.ABANDONED}


@pytest.mark.parametrize("seed", [1])
def test_killed_at_random_while_work_keeps_arriving(site: Site, seed: int) -> None:
    dice = random.Random(seed)
    for number in range(12):
        with site.daemon("--no-warm") as daemon:
            daemon.wait_for("daemon started")
            write(site, f"{seed} {number}", dice.choice(NODES))
            time.sleep(dice.uniform(0, 1.5))
            daemon.kill()
        check(site, at_rest=False)
    finish(site)
    check(site, at_rest=True)
    assert final(site) == {n: (site.root / f"{n}.pbtxt").read_text() for n in NODES}


def test_stopped_while_a_node_runs_it_leaves_at_once_and_goes_on_later(site: Site) -> None:
    with site.daemon("--no-warm", **site.held()) as daemon:
        daemon.wait_for("execution started")
        eventually("its process runs", lambda: workers(daemon))
        assert daemon.stop() == 0, "the work would never have ended"
    executions = finish(site)
    assert {e.state for e in executions} == {State.ABANDONED, State.SUCCEEDED}
    assert all(e.failure.kind == "Stopped" for e in executions if e.state is State.ABANDONED)
    check(site, at_rest=True)


def workers(daemon: Daemon) -> list[str]:
    found: list[str] = []
    for task in Path(f"/proc/{daemon.process.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            found += (task / "children").read_text().split()
    return found


def test_a_second_daemon_is_told_who_works_there(site: Site) -> None:
    with site.daemon("--no-warm") as daemon:
        daemon.wait_for("daemon started")
        second = subprocess.run(
            [CTD, "run", *site.places()], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        assert second.returncode == 75
        assert f"pid {daemon.process.pid}" in second.stderr + second.stdout
        site.until("a", "up to date")


def test_the_metadata_store_is_locked_by_another_process_for_a_while(site: Site) -> None:
    with site.daemon("--no-warm") as daemon:
        site.until("a", "up to date")
        with closing(sqlite3.connect(site.state / "metadata.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            write(site, "while locked")
            daemon.wait_for("metadata store")
            assert site.status(), "it answers while the store is locked"
            time.sleep(3)
            other.execute("ROLLBACK")
        eventually("it goes on by itself", lambda: all("while locked" in text for text in final_now(site)))
        lines = [e for e in daemon.events if "metadata store" in e["event"]]
        assert len(lines) < 6, "said when it changes, not for as long as it lasts"
    check(site, at_rest=True)


def final_now(site: Site) -> list[str]:
    """The newest files that the importers made, beside a running daemon."""
    newest = (max(place.iterdir(), key=lambda p: int(p.name)) for place in (site.state / "artifacts/light").glob("*/*"))
    found = [next(folder.iterdir()).read_text() for folder in newest if folder.is_dir()]
    return found or [""]


def test_rapid_edits_and_broken_ones_between_them_end_with_the_last(site: Site) -> None:
    good = site.spec.read_text()
    with site.daemon("--no-warm") as daemon:
        site.until("a", "up to date")
        for number in range(100):
            site.spec.write_text(good.replace("a.pbtxt", f"a{number}.pbtxt") if number % 3 else good[: number * 2])
            time.sleep(dice_pause(number))
        (site.root / "last.pbtxt").write_text("feature { name: 'last' type: INT }\n")
        site.spec.write_text(good.replace("a.pbtxt", "last.pbtxt"))
        eventually("the last edit counts", lambda: any("last" in text for text in final_now(site)))
        assert not site.status()["problems"]
        twin = site.root / "specs/twin.yaml"
        twin.write_text(good)
        refused = daemon.wait_for("spec refused", because="pipeline 'light' is also declared in twin.yaml")
        assert refused["hint"]
        write(site, "after the twin", "b")
        eventually("the last good one goes on", lambda: any("after the twin" in text for text in final_now(site)))
        twin.unlink()
        eventually("the problem is gone", lambda: not site.status()["problems"])
        daemon.process.send_signal(signal.SIGHUP)
        site.until("a", "up to date")
    check(site, at_rest=True)


def dice_pause(number: int) -> float:
    return 0.3 if number % 25 == 0 else 0.005


def test_the_disk_is_full_for_a_while(site: Site) -> None:
    """A limit on the size of files: whatever the daemon or its workers want to write fails, until it is lifted."""
    with site.daemon("--no-warm") as daemon:
        site.until("a", "up to date")
        limits = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
        for most in (0, 4096, 200_000):
            resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (most, limits[1]))
            write(site, f"while files end at {most}")
            time.sleep(2)
            assert site.status(), "it answers all the time"
            resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, limits)
            eventually("it goes on by itself", lambda most=most: all(f"at {most}" in text for text in final_now(site)))
            site.until("a", "up to date")
    check(site, at_rest=True)


def test_descriptors_run_out_for_a_while(site: Site) -> None:
    with site.daemon("--no-warm", CTD_RESCAN="1s", **site.held()) as daemon:
        eventually("its processes run", lambda: len(workers(daemon)) == 2)
        limits = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (5, limits[1]))
        site.let_go()
        time.sleep(2)
        assert daemon.process.poll() is None
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, limits)
        for node in NODES:
            site.until(node, "up to date")
    finish(site)
    check(site, at_rest=True)


def test_idle_it_does_nothing_and_does_not_grow(site: Site) -> None:
    """What it costs to do nothing, `bench/idle.py` measures."""
    with site.daemon("--no-warm") as daemon:
        for node in NODES:
            site.until(node, "up to date")
        eventually("it is at rest", lambda: says_nothing(daemon, 1))
        said, began, woken = len(daemon.events), time.monotonic(), wake_ups(daemon)
        eventually("it has slept ten times", lambda: wake_ups(daemon) - woken >= 10)
        assert wake_ups(daemon) - woken <= 10 + 3 * (time.monotonic() - began), "it sleeps about a second at a time"
        assert daemon.events[said:] == []
        maps = Path(f"/proc/{daemon.process.pid}/maps").read_text()
        assert "ml_metadata" in maps
        assert "tensorflow" not in maps
    assert len(site.executions()) == len(NODES)
    with site.daemon("--no-warm", CTD_RESCAN="10ms") as daemon:
        site.until("a", "up to date")
        looked_again(daemon, 100)  # what it takes once, it has taken
        before, said = (memory_mb(daemon), descriptors(daemon)), len(daemon.events)
        looked_again(daemon, 400)
        after = memory_mb(daemon), descriptors(daemon)
        assert after[0] < 150
        assert after[0] - before[0] < 1
        assert after[1] == before[1]
        assert daemon.events[said:] == []
    assert len(site.executions()) == len(NODES)


def says_nothing(daemon: Daemon, seconds: float) -> bool:
    said = len(daemon.events)
    time.sleep(seconds)
    return len(daemon.events) == said


def looked_again(daemon: Daemon, times: int) -> None:
    woken = wake_ups(daemon)
    eventually(f"it looks again {times} times", lambda: wake_ups(daemon) - woken > times)


def wake_ups(daemon: Daemon) -> int:
    """How often the loop's own thread has gone to sleep: at rest once a second."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def memory_mb(daemon: Daemon) -> float:
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors(daemon: Daemon) -> int:
    return sum(1 for _ in Path(f"/proc/{daemon.process.pid}/fd").iterdir())


def span(site: Site, number: int, files: int = 1) -> None:
    folder = site.root / f"data/{number}"
    folder.mkdir(parents=True)
    for file in range(files):
        rows = "".join(f"{number}.{file}{row}\n" for row in range(20 // files + 1))
        (folder / f"trips-{file}.csv").write_text(f"fare\n{rows}")
    (folder / "_SUCCESS").touch()


def test_a_flood_of_spans_and_files_is_read_whatever_happens_meanwhile(site: Site) -> None:
    site.spec.write_text("pipeline: light\nnodes:\n  examples: {kind: example_gen, input: '../data/{SPAN}'}\n")
    span(site, 0, files=3000)
    with site.daemon() as daemon:
        daemon.wait_for("execution ended", key="span-0", state="succeeded")
        for number in range(1, 101):
            span(site, number)
        for _ in range(20):
            assert site.status(), "it answers meanwhile"
            time.sleep(0.1)
        daemon.wait_for("execution ended", key="span-50", state="succeeded")
        daemon.kill()
    check(site, at_rest=False)
    with site.daemon() as daemon:
        daemon.wait_for("execution started")
        daemon.process.send_signal(signal.SIGSTOP)
        for number in range(101, 121):
            span(site, number)
        time.sleep(0.5)
        daemon.process.send_signal(signal.SIGCONT)
        site.until("examples", "up to date", because="all 121 results")
        (site.root / "data").rename(site.root / "gone")
        site.until("examples", "waiting", because="does not exist")
        span(site, 200)
        daemon.wait_for("execution ended", key="span-200", state="succeeded")
    check(site, at_rest=True)
    assert len({e.key for e in site.executions() if e.state is State.SUCCEEDED}) == 122
