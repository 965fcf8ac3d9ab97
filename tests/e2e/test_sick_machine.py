"""The real daemon on a machine that refuses: it heals by itself, with no `ctd retry`, whatever was refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ctd.core.executions import State
from ctd.engine.readiness import FAULTS
from tests.e2e.site import Daemon, Site, eventually

pytestmark = pytest.mark.e2e

# Each with an error that it has in life; the file of each says whether it has it now.
REFUSED = {
    "start.log": "EACCES",
    "start.process": "EAGAIN",
    "worker.settle": "EMFILE",
    "worker.outcome": "ENOSPC",
    "end.outcome": "EMFILE",
    "art.before_rename": "EIO",
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A pipeline that needs no TensorFlow: it imports a file."""
    made = Site(tmp_path, "light")
    for folder in ("specs", "deploy_targets", "faults"):
        (tmp_path / folder).mkdir()
    made.spec.write_text("pipeline: light\nnodes:\n  a: {kind: importer, artifact: Schema, path: ../a.pbtxt}\n")
    write(made, "start")
    return made


def write(site: Site, content: str) -> None:
    new = site.root / ".a.new"
    new.write_text(f"feature {{ name: 'a {content}' type: FLOAT }}\n")
    new.replace(site.root / "a.pbtxt")


def ended(daemon: Daemon, state: str) -> list[dict[str, Any]]:
    return [e for e in daemon.events if e["event"] == "execution ended" and e["state"] == state]


def test_whatever_is_refused_is_tried_again_until_it_is_not(site: Site) -> None:
    points = "; ".join(f"{point}=err({name},{site.root}/faults/{point})" for point, name in REFUSED.items())
    with site.daemon("--no-warm", CTD_TEST="1", CTD_FAILPOINTS=points) as daemon:
        site.until("a", "up to date")
        for point, name in REFUSED.items():
            failed, succeeded = len(ended(daemon, "failed")), len(ended(daemon, "succeeded"))
            attempts = 4 if point == "worker.settle" else 1  # more than a node has
            fault = site.root / "faults" / point
            fault.touch()
            write(site, point)
            eventually(f"{point} is refused", lambda f=failed, n=attempts: len(ended(daemon, "failed")) >= f + n)
            assert f"({name})" in ended(daemon, "failed")[-1]["error"]
            fault.unlink()
            eventually(f"{point} is healed", lambda s=succeeded: len(ended(daemon, "succeeded")) > s)
        site.until("a", "up to date")
    kinds = {e.failure.kind for e in site.executions() if e.state is not State.SUCCEEDED}
    assert kinds == FAULTS
    assert not any((site.state / "staging").iterdir())


def test_while_logs_cannot_be_written_nothing_is_started_and_everybody_is_told(site: Site) -> None:
    logs, away = site.state / "logs", site.state / "logs.away"
    with site.daemon("--no-warm") as daemon:
        site.until("a", "up to date")
        logs.rename(away)
        logs.write_text("no folder")
        write(site, "without logs")
        because = site.until("a", "queued", "failed", because="nothing is started")["because"]
        assert str(logs) in because
        failed = ended(daemon, "failed")
        site.until("a", "failed", because="nothing is started")  # it lasts
        assert len(ended(daemon, "failed")) == len(failed) == 1, "what can only fail is not tried"
        assert daemon.wait_for("machine")["hint"]
        logs.unlink()
        away.rename(logs)
        site.until("a", "up to date")
    assert len(site.executions()) == 3
