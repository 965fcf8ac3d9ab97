"""The real daemon and damaged results: noticed without an event, set aside, made again; kill -9 at any point of it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctd.core.executions import State
from ctd.storage.checksums import content_faults
from tests.e2e.site import PATIENCE, Site, eventually

pytestmark = pytest.mark.e2e

NODES = ("a", "b")
HARM: dict[str, Callable[[Path], Any]] = {
    "truncated": lambda folder: os.truncate(only(folder), 5),
    "a file gone": lambda folder: only(folder).unlink(),
    "the folder gone": shutil.rmtree,
}


def only(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A pipeline that needs no TensorFlow: it imports two files."""
    made = Site(tmp_path, "light")
    for folder in ("specs", "deploy_targets"):
        (tmp_path / folder).mkdir()
    for node in NODES:
        (tmp_path / f"{node}.pbtxt").write_text(f"feature {{ name: '{node}' type: FLOAT }}\n")
    lines = [f"  {n}: {{kind: importer, artifact: Schema, path: ../{n}.pbtxt}}" for n in NODES]
    made.spec.write_text("\n".join(["pipeline: light", "nodes:", *lines, ""]))
    return made


def place(site: Site, node: str, output: str = "schema") -> Path:
    """Where the newest result of a node is."""
    return max((site.state / f"artifacts/light/{node}/{output}").iterdir(), key=lambda p: int(p.name))


def remains(site: Site) -> list[str]:
    root = site.state / "damaged/light"
    return sorted(str(p.relative_to(root)) for p in root.glob("*/*/*") if p.is_dir())


def check(site: Site) -> None:
    """The newest result of each node is whole, and nothing was made without need."""
    done = [e for e in site.executions() if e.state is State.SUCCEEDED]
    for node in NODES:
        newest = [e for e in done if e.node == node][-1]
        assert not [a.uri for made in newest.outputs.values() for a in made if content_faults(a)]


@pytest.mark.parametrize("harm", HARM)
def test_harm_without_an_event_is_noticed_by_the_rescan_and_mended(site: Site, harm: str) -> None:
    with site.daemon("--no-warm", CTD_RESCAN="1s") as daemon:
        site.until("a", "up to date")
        site.until("b", "up to date")
        before = place(site, "a")
        HARM[harm](before)
        said = daemon.wait_for("artifact damaged", pipeline="light")
        assert str(before) in said["because"]
        daemon.wait_for("execution ended", node="a", attempt=2, state="succeeded")
        site.until("a", "up to date")
        again = daemon.wait_for("execution started", node="a", attempt=2)
        assert f"but {before} " in again["because"]
        assert "made again" in again["because"]
        assert len([e for e in daemon.events if e["event"] == "artifact damaged"]) == 1
    assert remains(site) == ([] if harm == "the folder gone" else [f"a/schema/{before.name}-1"])
    assert len([e for e in site.executions() if e.node == "b"]) == 1
    check(site)


def test_killed_at_every_point_of_setting_aside_it_reaches_the_same_end(site: Site) -> None:
    with site.daemon("--no-warm", "--once") as daemon:
        assert daemon.process.wait(PATIENCE) == 0
    for point in ("aside.before_note", "aside.before_move", "aside.after_move", "aside.before_mark"):
        before = place(site, "a")
        os.truncate(only(before), 5)
        with site.daemon("--no-warm", "--once", CTD_TEST="1", CTD_FAILPOINTS=f"{point}=kill:1") as daemon:
            assert daemon.process.wait(PATIENCE) == -signal.SIGKILL
        with site.daemon("--no-warm") as daemon:
            daemon.wait_for("execution ended", node="a", state="succeeded")
            site.until("a", "up to date")
            started = daemon.wait_for("execution started", node="a")
            assert f"{before} was damaged ({only(place(site, 'a')).name}: 5 of " in started["because"]
        assert f"a/schema/{before.name}-1" in remains(site)
        assert only(site.state / f"damaged/light/a/schema/{before.name}-1").stat().st_size == 5
        check(site)
    assert len(remains(site)) == 4


def test_a_disk_that_cannot_be_read_holds_up_and_harms_nothing(site: Site) -> None:
    with site.daemon("--no-warm", "--once") as daemon:
        assert daemon.process.wait(PATIENCE) == 0
    with site.daemon("--no-warm", CTD_RESCAN="1s", CTD_TEST="1", CTD_FAILPOINTS="artifact.look=err(EIO)") as daemon:
        daemon.wait_for("artifacts unreadable", pipeline="light")
        site.until("a", "waiting", because="Input/output error")
        (site.root / "b.pbtxt").write_text("feature { name: 'new' type: INT }\n")
        daemon.wait_for("execution ended", node="b", state="succeeded")
        assert not [e for e in daemon.events if e["event"] == "execution started" and e["node"] == "a"]
    with site.daemon("--no-warm") as daemon:
        site.until("a", "up to date")
    assert remains(site) == []
    assert len([e for e in site.executions() if e.node == "a"]) == 1
    check(site)


def test_a_flipped_bit_is_found_before_it_is_used_and_the_work_is_done_on_whole_data(site: Site) -> None:
    site.spec.write_text(
        "pipeline: light\nnodes:\n  examples: {kind: example_gen, input: '../data/{SPAN}'}\n"
        "  statistics: {kind: statistics_gen}\n"
    )
    (site.root / "data/1").mkdir(parents=True)
    (site.root / "data/1/trips.csv").write_text("fare\n" + "".join(f"{n}.5\n" for n in range(50)))
    (site.root / "data/1/_SUCCESS").touch()
    with site.daemon() as daemon:
        site.until("statistics", "up to date")
        before = place(site, "examples", "examples")
        file = next(before.rglob("*.gz"))
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        site.ctd("run-now", "light", "statistics", "--again", "--reason", "to use it")
        said = daemon.wait_for("artifact damaged", node="examples")
        assert f"{file.relative_to(before)}: checksum" in said["because"]
        failed = daemon.wait_for("execution ended", node="statistics", state="failed")
        assert str(before) in failed["error"]
        eventually("all is well", lambda: len(ended(daemon.events, "statistics")) == 2)
        site.until("statistics", "up to date")
    kinds = [e.failure.kind for e in site.executions() if e.failure]
    assert kinds == ["DamagedArtifact"]
    assert remains(site) == [f"examples/examples/{before.name}-1"]


def ended(events: list[dict[str, Any]], node: str) -> list[dict[str, Any]]:
    wanted = {"event": "execution ended", "node": node, "state": "succeeded"}
    return [e for e in events if wanted.items() <= e.items()]
