"""A backfill over the real command line, with a daemon that is killed half-way."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from ctd.core.executions import State
from tests.e2e.site import Site, eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Five spans, of which only the last is to be read."""
    made = Site(tmp_path, "past")
    for folder in ("specs", "deploy_targets"):
        (tmp_path / folder).mkdir()
    made.spec.write_text("pipeline: past\nnodes:\n  examples: {kind: example_gen, input: '../data/{SPAN}', start: 5}\n")
    for number in range(1, 6):
        folder = tmp_path / f"data/{number}"
        folder.mkdir(parents=True)
        (folder / "trips.csv").write_text("fare\n" + "".join(f"{number}.{cent}\n" for cent in range(20)))
        (folder / "_SUCCESS").touch()
    return made


def ask(site: Site, *arguments: str) -> Any:
    return json.loads(site.ctd(*arguments, "--json"))


def read(site: Site) -> list[str]:
    return [e.key for e in site.executions() if e.state is State.SUCCEEDED]


def test_a_range_is_rehearsed_asked_for_and_read_in_its_order_although_the_daemon_is_killed(site: Site) -> None:
    still = site.held()
    still["CTD_FAILPOINTS"] += "; worker.before_result=sleep(4)"  # each takes long enough to be killed before the next
    site.let_go()
    with site.daemon("--parallel", "1", **still) as daemon, contextlib.ExitStack() as later:
        daemon.wait_for("execution ended", node="examples", key="span-5", state="succeeded")
        site.until("examples", "up to date")
        assert site.status()["state"] == "as wanted"
        assert site.status()["notes"] == [
            "examples: 4 spans before 5 are not read (start); `ctd backfill past 1 4` reads them"
        ]
        rehearsed = ask(site, "backfill", "past", "2", "4", "--order", "oldest", "--dry-run")
        assert [e["key"] for e in rehearsed["forecast"]] == ["span-2", "span-3", "span-4"]
        assert rehearsed["seconds"] > 0, "it took some time for span 5"
        assert site.ctd("backfill", "past", "7", "9", ok=(2,)) == "", "there are none"
        later.enter_context(site.standing_still())
        (recorded,) = ask(site, "backfill", "past", "2", "4", "--order", "oldest", "--reason", "winter")["requests"]
        assert (recorded["verb"], recorded["key"], recorded["reason"]) == ("backfill", "2..4", "winter")
        (said,) = eventually("it is open", lambda: site.status()["backfills"])
        assert (said["range"], said["order"], said["spans"], said["failed"]) == ("2..4", "oldest", 3, 0)
        assert "of 3 spans done" in site.ctd("status")
        later.close()
        daemon.wait_for("execution ended", node="examples", key="span-2", state="succeeded")
        daemon.kill()
    with site.daemon("--parallel", "1") as daemon:
        eventually(
            "all are done", lambda: site.status().get("backfills") == [] and site.until("examples", "up to date")
        )
        assert "backfill 2..4" in site.ctd("explain", "past")
        assert daemon.stop() == 0
    assert read(site) == ["span-5", "span-2", "span-3", "span-4"]
