"""One blessed model goes to four kinds of target and says the same at each, asked as its users ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ctd.deploy import tfjs
from examples.taxi.generate import write_day
from tests.e2e.site import DAY, TARGETS, Daemon, Site, eventually, serving

pytestmark = pytest.mark.e2e

CONVERSIONS = 300.0  # seconds that a model with two conversions may take on a busy machine


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site.of_taxi(tmp_path_factory.mktemp("targets"), *TARGETS)
    write_day(site.root / "data", DAY, trips=1500)
    return site


def live(site: Site) -> dict[str, dict[str, Any]]:
    return {said["target"]: said for said in site.status().get("live", ())}


def pushed(daemon: Daemon) -> set[str]:
    """The targets that a push to succeeded."""
    ended = [e for e in daemon.events if e["event"] == "execution ended" and e["node"] == "pusher"]
    return {e["piece"] for e in ended if e["state"] == "succeeded"}


def test_without_node_its_target_alone_waits_and_says_what_it_needs(site: Site) -> None:
    with site.daemon(PATH=str(Path(sys.executable).parent)) as daemon:
        eventually("the others have it", lambda: {"serving", "mobile", "hub"} <= pushed(daemon), CONVERSIONS)
        failed = daemon.wait_for("execution ended", node="pusher", state="failed")
        assert failed["piece"] == "web"
        assert "Node is needed" in failed["error"]
        # It is tried again and again, and while it is, says that it runs.
        eventually("it says what to do", lambda: "Install Node" in json.dumps(site.node("pusher")))
        assert {target: said["version"] for target, said in live(site).items() if said["version"]} == {
            "serving": 1, "mobile": 1, "hub": 1,
        }  # fmt: skip


def test_with_node_the_push_that_waited_is_made_and_no_other(site: Site) -> None:
    with site.daemon() as daemon:
        eventually("all have it", lambda: site.node("pusher").get("state") == "up to date", CONVERSIONS)
        assert pushed(daemon) == {"web"}
        models = {said["model"] for said in live(site).values()}
    assert len(models) == 1, "one model is at all of them"
    assert {target: [p.name for p in (site.root / target / "taxi").glob("[0-9]*")] for target in TARGETS} == {
        target: ["1"] for target in TARGETS
    }


def test_all_targets_give_the_same_answers_in_their_own_runtimes(site: Site, tmp_path: Path) -> None:
    def ask(*command: str, body: bytes = b"") -> Any:
        environ = {**os.environ, "TFHUB_CACHE_DIR": str(tmp_path), "no_proxy": "127.0.0.1"}
        done = subprocess.run(
            command, input=body, capture_output=True, check=False, cwd=site.root, env=environ, timeout=200
        )
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        return json.loads(done.stdout)

    day = f"data/{DAY}/v1/trips.csv"
    node, modules = tfjs.runtime()
    with serving(site.serving, "taxi", f"--hub_path={site.root / 'hub'}") as server:
        said = ask(sys.executable, "ask.py", server.grpc, "taxi", "schema.pbtxt", day, "20")
        body = json.dumps(said).encode()
        handle = f"{server.rest}/ctd/taxi/1"
        answers = {
            "mobile": ask(sys.executable, "ask_mobile.py", "mobile/taxi/1", body=body),
            "web": ask(node, "ask_web.mjs", "web/taxi/1", modules, body=body),
            "hub": ask(sys.executable, "ask_hub.py", handle, body=body),
        }
    assert len(said["probabilities"]) == 20
    assert len({round(p, 3) for p in said["probabilities"]}) > 5, "rides differ"
    for target, probabilities in answers.items():
        assert probabilities == pytest.approx(said["probabilities"], abs=1e-5), target
